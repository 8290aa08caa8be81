//! Flow control: a push's body goes as the server makes room for it, and one that found no room was surely not sent.

use std::time::Duration;

use herald_core::outcome::Undelivered;
use herald_core::push::ApnsPush;
use herald_harness::frames::code::{FLOW_CONTROL_ERROR, INTERNAL_ERROR};
use herald_harness::frames::setting::INITIAL_WINDOW_SIZE;
use herald_harness::frames::{End, Head, Server};
use tokio::task::JoinSet;

use crate::wire::{client, push};

/// What HTTP/2 allows of all bodies together before a WINDOW_UPDATE.
const CONNECTION_WINDOW: usize = 65_535;

#[tokio::test]
async fn a_body_is_sent_in_pieces_as_small_as_the_window() {
    let server = Server::start(|_, mut peer| async move {
        peer.preface().await?;
        peer.settings_of(&[(INITIAL_WINDOW_SIZE, 10)]).await?;
        let stream = peer.head().await?;
        for _ in 0..2 {
            assert_eq!(peer.data_length().await?, 10);
            peer.window(stream, 10).await?;
        }
        peer.accept_all().await
    })
    .await
    .unwrap();
    assert_eq!(client(&server, |_| {}).send(&push()).await.unwrap().status, 200);
    let requests = server.seen().requests;
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body, push().body);
}

/// The first connection has room for one body.
async fn server_without_room() -> Server {
    Server::start(|number, mut peer| async move {
        peer.preface().await?;
        if number > 0 {
            peer.settings(10).await?;
            return peer.accept_all().await;
        }
        peer.settings(10).await?;
        let first = peer.request().await?;
        peer.settings_of(&[(INITIAL_WINDOW_SIZE, 0)]).await?;
        peer.requests_before_pong().await?;
        peer.accept(first).await?;
        peer.until_closed().await
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_body_that_never_finds_room_was_not_sent_and_its_connection_is_replaced() {
    let server = server_without_room().await;
    let client = client(&server, |config| config.request_timeout = Duration::from_secs(3));
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!(client.send(&push()).await, Err(Undelivered::NotSent));
    assert_eq!((server.requests(), client.stats().connections), (1, 0));
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (2, 2));
}

#[tokio::test]
async fn a_stream_or_connection_that_ends_before_the_body_has_gone_is_sent_again_elsewhere() {
    for code in [INTERNAL_ERROR, FLOW_CONTROL_ERROR] {
        let server = Server::start(move |_, mut peer| async move {
            peer.preface().await?;
            peer.settings_of(&[(INITIAL_WINDOW_SIZE, 0)]).await?;
            let stream = peer.head().await?;
            peer.reset(stream, code).await?;
            peer.settings_of(&[(INITIAL_WINDOW_SIZE, 10_000)]).await?;
            peer.accept_all().await
        })
        .await
        .unwrap();
        assert_eq!(client(&server, |_| {}).send(&push()).await.unwrap().status, 200);
        assert_eq!((server.requests(), server.connections()), (1, 1));
    }
    for how in End::ALL {
        let server = Server::start(move |number, mut peer| async move {
            peer.preface().await?;
            if number > 0 {
                peer.settings(10).await?;
                return peer.accept_all().await;
            }
            peer.settings_of(&[(INITIAL_WINDOW_SIZE, 0)]).await?;
            peer.head().await?;
            peer.end(how).await
        })
        .await
        .unwrap();
        assert_eq!(client(&server, |_| {}).send(&push()).await.unwrap().status, 200, "{how:?}");
        assert_eq!((server.requests(), server.connections()), (1, 2), "{how:?}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_found_room_is_an_answer() {
    let server = Server::start(|_, mut peer| async move {
        peer.preface().await?;
        peer.settings_of(&[(INITIAL_WINDOW_SIZE, 0)]).await?;
        let stream = peer.head().await?;
        peer.answer(stream, &Head::status(403), r#"{"reason":"Forbidden"}"#).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    let answer = client(&server, |_| {}).send(&push()).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (403, br#"{"reason":"Forbidden"}"#.as_slice()));
}

#[tokio::test]
async fn what_exceeds_the_window_of_the_connection_waits_for_room_and_goes_when_there_is() {
    let size = CONNECTION_WINDOW / 10;
    let server = Server::start(move |_, mut peer| async move {
        peer.greet(100).await?;
        let first = peer.request().await?;
        peer.accept(first).await?;
        // The first body's bytes were never given back either.
        let mut whole = Vec::new();
        for _ in 0..9 {
            whole.push(peer.request().await?);
        }
        assert_eq!(peer.requests_before_pong().await?, 0, "the tenth has no room");
        peer.window(0, 60_000).await?;
        whole.push(peer.request().await?);
        for stream in whole {
            peer.accept(stream).await?;
        }
        peer.until_closed().await
    })
    .await
    .unwrap();
    let client = client(&server, |config| config.max_connections = 1);
    let large = ApnsPush { body: vec![b' '; size], ..push() };
    assert_eq!(client.send(&large).await.unwrap().status, 200);
    let mut sends = JoinSet::new();
    for _ in 0..10 {
        let (client, large) = (client.clone(), large.clone());
        sends.spawn(async move { client.send(&large).await.unwrap().status });
    }
    assert_eq!(sends.join_all().await, [200; 10]);
    assert_eq!((server.requests(), server.connections()), (11, 1));
}
