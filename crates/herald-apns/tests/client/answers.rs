//! Answers in every form that HTTP/2 allows, and in some that it does not.

use std::io;
use std::time::Duration;

use herald_core::outcome::{Answer, Undelivered};
use herald_harness::frames::code::{
    CANCEL, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM,
};
use herald_harness::frames::{Head, Peer, Server, flag, kind};

use crate::wire::{client, push};

const BODY: &str = r#"{"reason":"BadDeviceToken"}"#;

#[derive(Debug, Clone, Copy)]
enum Shape {
    InPieces,
    ByteByByte,
    WithTrailers,
    AfterInformational,
    InContinuations,
    WithContentType,
}

async fn answer(peer: &mut Peer, stream: u32, shape: Shape) -> io::Result<()> {
    let head = Head::status(400).with("apns-id", "an-id");
    match shape {
        Shape::InPieces => {
            peer.headers(stream, &head, 0).await?;
            peer.data(stream, &BODY.as_bytes()[..10], 0).await?;
            peer.data(stream, b"", 0).await?;
            peer.data(stream, &BODY.as_bytes()[10..], 0).await?;
            peer.data(stream, b"", flag::END_STREAM).await
        }
        Shape::ByteByByte => {
            peer.headers(stream, &head, 0).await?;
            for byte in BODY.bytes() {
                peer.data(stream, &[byte], 0).await?;
                // The client has read it.
                peer.requests_before_pong().await?;
            }
            peer.data(stream, b"", flag::END_STREAM).await
        }
        Shape::WithTrailers => {
            peer.headers(stream, &head, 0).await?;
            peer.data(stream, BODY.as_bytes(), 0).await?;
            peer.headers(stream, &Head::trailers().with("x-took", "1"), flag::END_STREAM).await
        }
        Shape::AfterInformational => {
            peer.headers(stream, &Head::status(100), 0).await?;
            peer.headers(stream, &Head::status(103).with("link", "x"), 0).await?;
            peer.requests_before_pong().await?;
            peer.answer(stream, &head, BODY).await
        }
        Shape::InContinuations => {
            peer.headers_in_pieces(stream, &head, 0, 8).await?;
            peer.data(stream, BODY.as_bytes(), flag::END_STREAM).await
        }
        Shape::WithContentType => peer.answer(stream, &head.with("content-type", "application/json"), BODY).await,
    }
}

#[tokio::test]
async fn an_answer_is_the_same_however_it_is_framed() {
    let shapes = [
        Shape::InPieces,
        Shape::ByteByByte,
        Shape::WithTrailers,
        Shape::AfterInformational,
        Shape::InContinuations,
        Shape::WithContentType,
    ];
    let expected = Answer {
        status: 400,
        provider_id: Some("an-id".to_owned()),
        body: BODY.as_bytes().to_vec(),
        ..Answer::default()
    };
    for shape in shapes {
        let server = Server::start(move |_, mut peer| async move {
            peer.greet(10).await?;
            let stream = peer.request().await?;
            answer(&mut peer, stream, shape).await?;
            peer.accept_all().await
        })
        .await
        .unwrap();
        let client = client(&server, |_| {});
        assert_eq!(client.send(&push()).await.unwrap(), expected, "{shape:?}");
        assert_eq!(client.send(&push()).await.unwrap().status, 200, "{shape:?}");
        assert_eq!((server.requests(), server.connections()), (2, 1), "{shape:?}");
    }
}

#[tokio::test]
async fn an_answer_whose_body_never_comes_is_its_status_and_its_connection_is_replaced() {
    let server = Server::start(|number, mut peer| async move {
        peer.greet(10).await?;
        if number > 0 {
            return peer.accept_all().await;
        }
        let first = peer.request().await?;
        peer.accept(first).await?;
        let stream = peer.request().await?;
        peer.headers(stream, &Head::status(410).with("apns-id", "an-id"), 0).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    let client = client(&server, |config| config.request_timeout = Duration::from_secs(3));
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    let answer = client.send(&push()).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (410, b"".as_slice()));
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (3, 2));
}

#[tokio::test]
async fn a_whole_push_that_is_reset_is_unknown_whatever_the_code_and_only_refused_stream_is_sent_again() {
    for code in
        [NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, CANCEL, ENHANCE_YOUR_CALM, REFUSED_STREAM]
    {
        let server = Server::start(move |_, mut peer| async move {
            peer.greet(10).await?;
            let stream = peer.request().await?;
            peer.reset(stream, code).await?;
            peer.accept_all().await
        })
        .await
        .unwrap();
        let client = client(&server, |_| {});
        let outcome = client.send(&push()).await.map(|answer| answer.status);
        let (expected, requests) = if code == REFUSED_STREAM { (Ok(200), 2) } else { (Err(Undelivered::Unknown), 1) };
        assert_eq!((outcome, server.requests()), (expected, requests), "{code}");
        assert_eq!(client.send(&push()).await.unwrap().status, 200, "{code}");
        assert_eq!(server.connections(), 1, "{code}: one reset says nothing about the connection");
    }
}

#[tokio::test]
async fn an_answer_reset_within_its_body_is_its_status() {
    let server = Server::start(|_, mut peer| async move {
        peer.greet(10).await?;
        let stream = peer.request().await?;
        peer.headers(stream, &Head::status(410), 0).await?;
        peer.data(stream, b"{\"rea", 0).await?;
        peer.requests_before_pong().await?;
        peer.reset(stream, INTERNAL_ERROR).await?;
        peer.accept_all().await
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    let answer = client.send(&push()).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (410, b"{\"rea".as_slice()));
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!(server.connections(), 1);
}

/// Nonsense instead of an answer.
async fn nonsense(peer: &mut Peer, stream: u32, which: usize) -> io::Result<()> {
    match which {
        0 => peer.bytes(&[0xff; 64]).await,
        1 => peer.bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await,
        2 => peer.frame(kind::DATA, 0, 0, b"data of no stream").await,
        3 => peer.frame(kind::DATA, 0, stream, &[b' '; 20_000]).await,
        4 => peer.frame(kind::HEADERS, flag::END_HEADERS, stream, &[0x80]).await,
        5 => peer.frame(kind::HEADERS, flag::END_HEADERS, stream + 10, Head::status(200).block()).await,
        6 => peer.frame(kind::SETTINGS, 0, 0, b"seven b").await,
        7 => peer.frame(kind::CONTINUATION, flag::END_HEADERS, stream, b"").await,
        8 => peer.frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]).await,
        9 => peer.data(stream, b"a body before its head", flag::END_STREAM).await,
        10 => peer.headers(stream, &Head::trailers().with("apns-id", "no status"), flag::END_STREAM).await,
        _ => peer.headers(stream, &Head::trailers().with(":status", "many"), flag::END_STREAM).await,
    }
}

#[tokio::test]
async fn nonsense_instead_of_an_answer_is_unknown_and_the_next_push_is_answered() {
    for which in 0..12 {
        let server = Server::start(move |number, mut peer| async move {
            peer.greet(10).await?;
            if number == 0 {
                let stream = peer.request().await?;
                nonsense(&mut peer, stream, which).await?;
            }
            peer.accept_all().await
        })
        .await
        .unwrap();
        let client = client(&server, |_| {});
        assert_eq!(client.send(&push()).await, Err(Undelivered::Unknown), "{which}");
        assert_eq!(server.requests(), 1, "{which}");
        assert_eq!(client.send(&push()).await.unwrap().status, 200, "{which}");
        assert_eq!(server.requests(), 2, "{which}");
        assert!(server.connections() <= 2, "{which}");
    }
}
