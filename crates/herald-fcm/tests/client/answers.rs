//! Answers in every form that HTTP/2 allows, bodies that are not what they should be, and some nonsense.

use std::io;
use std::time::Duration;

use herald_fcm::SendError;
use herald_harness::frames::setting::INITIAL_WINDOW_SIZE;
use herald_harness::frames::{Head, Peer, flag, kind};

use crate::google::push;
use crate::wire::{Fcm, status};

const BODY: &str = r#"{"error":{"code":404,"status":"NOT_FOUND"}}"#;

#[derive(Debug, Clone, Copy)]
enum Shape {
    InPieces,
    WithTrailers,
    AfterInformational,
    InContinuations,
    WithContentType,
}

async fn answer(peer: &mut Peer, stream: u32, shape: Shape) -> io::Result<()> {
    let head = Head::status(404).with("retry-after", "7");
    match shape {
        Shape::InPieces => {
            peer.headers(stream, &head, 0).await?;
            for byte in BODY.bytes() {
                peer.data(stream, &[byte], 0).await?;
            }
            // The client has read them.
            peer.requests_before_pong().await?;
            peer.data(stream, b"", flag::END_STREAM).await
        }
        Shape::WithTrailers => {
            peer.headers(stream, &head, 0).await?;
            peer.data(stream, BODY.as_bytes(), 0).await?;
            peer.headers(stream, &Head::trailers().with("x-took", "1"), flag::END_STREAM).await
        }
        Shape::AfterInformational => {
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
        Shape::WithTrailers,
        Shape::AfterInformational,
        Shape::InContinuations,
        Shape::WithContentType,
    ];
    for shape in shapes {
        let fcm = Fcm::start(move |_, mut peer| async move {
            peer.greet(100).await?;
            let stream = peer.request().await?;
            answer(&mut peer, stream, shape).await?;
            peer.accept_all().await
        })
        .await;
        let client = fcm.client(|_| {});
        let answer = client.send(&push()).await.unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        assert_eq!((answer.status, answer.retry_after.as_deref()), (404, Some("7")), "{shape:?}");
        assert_eq!(answer.body, BODY.as_bytes(), "{shape:?}");
        assert_eq!(status(&client).await, Ok(200), "{shape:?}");
        assert_eq!(fcm.counts(), (2, 1), "{shape:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_it_should_be_goes_up_as_it_is_and_nothing_is_sent_again() {
    let html = "<html><title>502</title>Please try again in 30 seconds.</html>";
    for (code, body) in [(502, html), (200, r#"{"name":"projects/con"#), (500, ""), (200, ""), (401, "\u{feff}{")] {
        let fcm = Fcm::start(move |_, mut peer| async move {
            peer.greet(100).await?;
            loop {
                let stream = peer.request().await?;
                peer.answer(stream, &Head::status(code).with("content-type", "text/html"), body).await?;
            }
        })
        .await;
        let answer = fcm.client(|_| {}).send(&push()).await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (code, body.as_bytes()));
        // A 401 that no FcmError explains is about our token, and tried once more with another.
        assert_eq!(fcm.counts(), (if code == 401 { 2 } else { 1 }, 1), "{code}");
    }
}

#[tokio::test]
async fn an_answer_whose_body_never_comes_is_its_status_and_three_in_a_row_replace_the_connection() {
    let fcm = Fcm::start(|number, mut peer| async move {
        peer.greet(100).await?;
        if number > 0 {
            return peer.accept_all().await;
        }
        let first = peer.request().await?;
        peer.accept(first).await?;
        loop {
            let stream = peer.request().await?;
            peer.headers(stream, &Head::status(404), 0).await?;
        }
    })
    .await;
    let client = fcm.client(|config| config.request_timeout = Duration::from_secs(2));
    assert_eq!(status(&client).await, Ok(200));
    for _ in 0..3 {
        let answer = client.send(&push()).await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (404, b"".as_slice()));
    }
    assert_eq!(status(&client).await, Ok(200));
    assert_eq!(fcm.counts(), (5, 2));
}

#[tokio::test]
async fn a_body_is_sent_in_pieces_as_small_as_the_window_and_without_room_it_is_unknown() {
    let fcm = Fcm::start(|_, mut peer| async move {
        peer.greet(100).await?;
        let first = peer.request().await?;
        peer.settings_of(&[(INITIAL_WINDOW_SIZE, 10)]).await?;
        peer.requests_before_pong().await?;
        peer.accept(first).await?;
        let stream = peer.head().await?;
        for _ in 0..2 {
            assert_eq!(peer.data_length().await?, 10);
            peer.window(stream, 10).await?;
        }
        peer.window(stream, 1000).await?;
        let stream = peer.request().await?;
        peer.settings_of(&[(INITIAL_WINDOW_SIZE, 0)]).await?;
        peer.requests_before_pong().await?;
        peer.accept(stream).await?;
        peer.until_closed().await
    })
    .await;
    let client = fcm.client(|config| config.request_timeout = Duration::from_secs(2));
    assert_eq!(status(&client).await, Ok(200));
    assert_eq!(status(&client).await, Ok(200));
    assert_eq!(fcm.server.seen().requests[1].body, push().body);
    // reqwest doesn't say how much of a body it has sent.
    assert_eq!(status(&client).await, Err(SendError::Unknown));
    assert_eq!(fcm.counts(), (2, 1));
}

/// Nonsense instead of an answer.
async fn nonsense(peer: &mut Peer, stream: u32, which: usize) -> io::Result<()> {
    match which {
        0 => peer.bytes(&[0xff; 64]).await,
        1 => peer.bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await,
        2 => peer.frame(kind::DATA, 0, 0, b"data of no stream").await,
        3 => peer.frame(kind::HEADERS, flag::END_HEADERS, stream, &[0x80]).await,
        4 => peer.frame(kind::SETTINGS, 0, 0, b"seven b").await,
        5 => peer.data(stream, b"a body before its head", flag::END_STREAM).await,
        _ => peer.headers(stream, &Head::trailers().with("x", "no status"), flag::END_STREAM).await,
    }
}

#[tokio::test]
async fn nonsense_instead_of_an_answer_is_unknown_and_the_next_push_is_answered() {
    for which in 0..7 {
        let fcm = Fcm::start(move |number, mut peer| async move {
            peer.greet(100).await?;
            if number == 0 {
                let stream = peer.request().await?;
                nonsense(&mut peer, stream, which).await?;
            }
            peer.accept_all().await
        })
        .await;
        let client = fcm.client(|_| {});
        assert_eq!(status(&client).await, Err(SendError::Unknown), "{which}");
        assert_eq!(fcm.server.requests(), 1, "{which}");
        assert_eq!(status(&client).await, Ok(200), "{which}");
        assert_eq!(fcm.server.requests(), 2, "{which}");
    }
}
