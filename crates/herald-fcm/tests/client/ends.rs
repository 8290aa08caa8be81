//! Connections that end without a GOAWAY: at each point of a push's way, in each way that TCP and TLS know.
//!
//! What may have been processed is unknown, and neither this client nor reqwest sends it twice.

use std::io;
use std::time::Duration;

use herald_fcm::SendError;
use herald_harness::frames::{End, Head, Peer, Server, flag};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::google::push;
use crate::wire::{Fcm, status};

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
async fn fcm(point: Point, how: End) -> Fcm {
    let server = Server::start_before_tls(move |number, arrival| async move {
        if number == 0 && point == Point::BeforeTls {
            return arrival.end(how).await;
        }
        let mut peer = arrival.secure().await?;
        if number == 0 {
            return end_at(point, how, peer).await;
        }
        peer.greet(100).await?;
        peer.accept_all().await
    });
    Fcm::on(server.await.unwrap()).await
}

async fn end_at(point: Point, how: End, mut peer: Peer) -> io::Result<()> {
    if point == Point::BeforeSettings {
        peer.preface().await?;
        return peer.end(how).await;
    }
    peer.greet(100).await?;
    if point == Point::AfterRequestHead {
        peer.head().await?;
        return peer.end(how).await;
    }
    let stream = peer.request().await?;
    if point != Point::AfterRequest {
        peer.headers(stream, &Head::status(404), 0).await?;
    }
    if point == Point::WithinAnswerBody {
        peer.data(stream, b"{\"error\":", 0).await?;
    }
    if point != Point::AfterRequest {
        // So that the end does not overtake what was written: a RST throws away what the client has not read.
        peer.requests_before_pong().await?;
    }
    peer.end(how).await
}

#[tokio::test]
async fn a_connection_that_ends_before_tls_means_not_sent() {
    for how in End::ALL {
        let fcm = fcm(Point::BeforeTls, how).await;
        let client = fcm.client(|_| {});
        assert_eq!(status(&client).await, Err(SendError::NotSent), "{how:?}");
        assert_eq!(fcm.counts(), (0, 1), "{how:?}");
        assert_eq!(status(&client).await, Ok(200), "{how:?}");
    }
}

#[tokio::test]
async fn a_push_whose_connection_ends_without_an_answer_is_unknown_and_sent_once() {
    for point in [Point::BeforeSettings, Point::AfterRequestHead, Point::AfterRequest] {
        for how in End::ALL {
            let fcm = fcm(point, how).await;
            let client = fcm.client(|_| {});
            let sent = status(&client).await;
            // Whether the push was written before the end was seen is chance where the server says nothing first.
            let crossed = point == Point::BeforeSettings && sent == Ok(200);
            assert!(crossed || sent == Err(SendError::Unknown), "{point:?} {how:?}: {sent:?}");
            if !crossed {
                assert_eq!(fcm.server.connections(), 1, "{point:?} {how:?}: sent twice");
            }
            assert_eq!(status(&client).await, Ok(200), "{point:?} {how:?}");
            assert_eq!(fcm.server.connections(), 2, "{point:?} {how:?}");
        }
    }
}

#[tokio::test]
async fn a_status_is_an_answer_though_its_connection_ends_before_the_body_does() {
    for (point, body) in [(Point::AfterAnswerHead, ""), (Point::WithinAnswerBody, "{\"error\":")] {
        for how in End::ALL {
            let fcm = fcm(point, how).await;
            let client = fcm.client(|_| {});
            let answer = client.send(&push()).await.unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (404, body.as_bytes()), "{point:?} {how:?}");
            assert_eq!(status(&client).await, Ok(200), "{point:?} {how:?}");
            assert_eq!(fcm.counts(), (2, 2), "{point:?} {how:?}");
        }
    }
}

#[tokio::test]
async fn an_idle_connection_that_ends_costs_no_push() {
    for how in [End::CloseNotify, End::Fin] {
        let (ended, mut has_ended) = watch::channel(false);
        let fcm = Fcm::start(move |number, mut peer| {
            let ended = ended.clone();
            async move {
                peer.greet(100).await?;
                if number > 0 {
                    return peer.accept_all().await;
                }
                let stream = peer.request().await?;
                peer.headers(stream, &Head::status(200), flag::END_STREAM).await?;
                drop(peer.end(how).await);
                ended.send_replace(true);
                Ok(())
            }
        })
        .await;
        let client = fcm.client(|_| {});
        assert_eq!(status(&client).await, Ok(200));
        has_ended.wait_for(|ended| *ended).await.unwrap();
        assert_eq!(status(&client).await, Ok(200), "{how:?}");
        assert_eq!(fcm.counts(), (2, 2), "{how:?}");
    }
}

#[tokio::test]
async fn pushes_that_wait_for_one_connect_fail_with_it_and_were_not_sent() {
    let holds = Server::start_before_tls(|_, arrival| arrival.hold()).await.unwrap();
    let ends = Server::start_before_tls(|_, arrival| arrival.end(End::Fin)).await.unwrap();
    for server in [holds, ends] {
        let fcm = Fcm::on(server).await;
        let client = fcm.client(|config| config.connect_timeout = Duration::from_secs(2));
        let mut sends = JoinSet::new();
        for _ in 0..20 {
            let client = client.clone();
            sends.spawn(async move { status(&client).await });
        }
        assert_eq!(sends.join_all().await, vec![Err(SendError::NotSent); 20]);
        assert_eq!(fcm.counts(), (0, 1));
    }
}
