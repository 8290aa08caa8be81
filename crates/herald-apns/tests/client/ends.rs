//! Connections that end without a GOAWAY: at each point of a push's way, in each way that TCP and TLS know.
//!
//! What was surely not sent is said to be so; what may have been processed is unknown, and the client sends it once.

use std::io;

use herald_core::outcome::Undelivered;
use herald_harness::frames::{End, Head, Peer, Server, flag};
use tokio::task::JoinSet;

use crate::wire::{client, push, send_when_rested, until_left};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    BeforeTls,
    BeforeSettings,
    AfterRequestHead,
    AfterRequest,
    AfterAnswerHead,
    WithinAnswerBody,
}

/// The first connection ends at the point; the others are well.
async fn server(point: Point, how: End) -> Server {
    Server::start_before_tls(move |number, arrival| async move {
        if number == 0 && point == Point::BeforeTls {
            return arrival.end(how).await;
        }
        let mut peer = arrival.secure().await?;
        if number == 0 {
            return end_at(point, how, peer).await;
        }
        peer.greet(10).await?;
        peer.accept_all().await
    })
    .await
    .unwrap()
}

async fn end_at(point: Point, how: End, mut peer: Peer) -> io::Result<()> {
    if point == Point::BeforeSettings {
        peer.preface().await?;
        return peer.end(how).await;
    }
    peer.greet(10).await?;
    if point == Point::AfterRequestHead {
        peer.head().await?;
        return peer.end(how).await;
    }
    let stream = peer.request().await?;
    if point != Point::AfterRequest {
        peer.headers(stream, &Head::status(410).with("apns-id", "an-id"), 0).await?;
    }
    if point == Point::WithinAnswerBody {
        peer.data(stream, b"{\"reason\":", 0).await?;
    }
    if point != Point::AfterRequest {
        // So that the end does not overtake what was written: a RST throws away what the client has not read.
        peer.requests_before_pong().await?;
    }
    peer.end(how).await
}

#[tokio::test]
async fn nothing_is_written_to_a_connection_that_ends_before_http2_has_begun() {
    let mut ends = JoinSet::new();
    for point in [Point::BeforeTls, Point::BeforeSettings] {
        for how in End::ALL {
            ends.spawn(async move {
                let server = server(point, how).await;
                // Not sent until the rest after the failure is over, which has any length from 0 to 1 s; never unknown.
                assert_eq!(send_when_rested(&client(&server, |_| {})).await, 200, "{point:?} {how:?}");
                assert_eq!((server.requests(), server.connections()), (1, 2), "{point:?} {how:?}");
            });
        }
    }
    ends.join_all().await;
}

#[tokio::test]
async fn a_push_whose_connection_ends_without_an_answer_is_unknown_and_sent_once() {
    for point in [Point::AfterRequestHead, Point::AfterRequest] {
        for how in End::ALL {
            let server = server(point, how).await;
            let client = client(&server, |_| {});
            assert_eq!(client.send(&push()).await, Err(Undelivered::Unknown), "{point:?} {how:?}");
            assert_eq!(server.connections(), 1, "{point:?} {how:?}");
            assert_eq!(client.send(&push()).await.unwrap().status, 200, "{point:?} {how:?}");
            let read = server.seen().requests.iter().filter(|request| request.connection == 1).count();
            assert_eq!((read, server.connections()), (1, 2), "{point:?} {how:?}");
        }
    }
}

#[tokio::test]
async fn a_status_is_an_answer_though_its_connection_ends_before_the_body_does() {
    for (point, body) in [(Point::AfterAnswerHead, ""), (Point::WithinAnswerBody, "{\"reason\":")] {
        for how in End::ALL {
            let server = server(point, how).await;
            let client = client(&server, |_| {});
            let answer = client.send(&push()).await.unwrap();
            assert_eq!((answer.status, answer.provider_id.as_deref()), (410, Some("an-id")), "{point:?} {how:?}");
            assert_eq!(answer.body, body.as_bytes(), "{point:?} {how:?}");
            assert_eq!(client.send(&push()).await.unwrap().status, 200, "{point:?} {how:?}");
            assert_eq!((server.requests(), server.connections()), (2, 2), "{point:?} {how:?}");
        }
    }
}

#[tokio::test]
async fn an_idle_connection_that_ends_costs_no_push() {
    for how in End::ALL {
        let server = Server::start(move |number, mut peer| async move {
            peer.greet(10).await?;
            if number > 0 {
                return peer.accept_all().await;
            }
            let stream = peer.request().await?;
            peer.accept(stream).await?;
            peer.requests_before_pong().await?;
            peer.end(how).await
        })
        .await
        .unwrap();
        let client = client(&server, |_| {});
        assert_eq!(client.send(&push()).await.unwrap().status, 200);
        until_left(&client).await;
        assert_eq!(client.send(&push()).await.unwrap().status, 200, "{how:?}");
        assert_eq!((server.requests(), server.connections()), (2, 2), "{how:?}");
    }
}

#[tokio::test]
async fn a_whole_answer_counts_though_its_connection_ends_with_it() {
    for how in [End::CloseNotify, End::Fin] {
        let server = Server::start(move |_, mut peer| async move {
            peer.greet(10).await?;
            let stream = peer.request().await?;
            peer.headers(stream, &Head::status(200), flag::END_STREAM).await?;
            peer.end(how).await
        })
        .await
        .unwrap();
        assert_eq!(client(&server, |_| {}).send(&push()).await.unwrap().status, 200, "{how:?}");
    }
}
