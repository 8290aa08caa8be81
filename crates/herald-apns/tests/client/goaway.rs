//! GOAWAY: what it covers is awaited, what it does not cover is sent elsewhere, and nothing is sent twice.

use std::io;

use herald_apns::Client;
use herald_core::outcome::Undelivered;
use herald_harness::frames::code::{ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR};
use herald_harness::frames::{EVERY_STREAM, End, Peer, Server};

use crate::wire::{client, numbered, push, times_read, until_left};

/// Answers one push, allows ten streams, and returns those of the next three pushes.
async fn three_in_flight(peer: &mut Peer) -> io::Result<[u32; 3]> {
    peer.greet(10).await?;
    let first = peer.request().await?;
    peer.accept(first).await?;
    Ok([peer.request().await?, peer.request().await?, peer.request().await?])
}

#[tokio::test]
async fn a_graceful_goaway_refuses_nothing_until_its_second_frame_says_what() {
    let server = Server::start(|number, mut peer| async move {
        if number > 0 {
            peer.greet(10).await?;
            return peer.accept_all().await;
        }
        let [covered, _, _] = three_in_flight(&mut peer).await?;
        peer.go_away(EVERY_STREAM, "").await?;
        peer.requests_before_pong().await?;
        peer.go_away(covered, "").await?;
        peer.requests_before_pong().await?;
        peer.accept(covered).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!(numbered(&client, 3).await, [Ok(200); 3]);
    assert_eq!(times_read(&server), [1, 1, 2, 2], "the two that were not covered, once more");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn an_abrupt_goaway_with_any_code_sends_elsewhere_what_it_does_not_cover() {
    let reason = r#"{"reason":"InternalServerError"}"#;
    for (code, debug) in [(NO_ERROR, reason), (PROTOCOL_ERROR, ""), (INTERNAL_ERROR, reason), (ENHANCE_YOUR_CALM, "")] {
        let server = Server::start(move |number, mut peer| async move {
            if number > 0 {
                peer.greet(10).await?;
                return peer.accept_all().await;
            }
            let [covered, _, _] = three_in_flight(&mut peer).await?;
            peer.go_away_for(covered, code, debug).await?;
            peer.requests_before_pong().await?;
            peer.end(End::Fin).await
        })
        .await
        .unwrap();
        let client = client(&server, |_| {});
        assert_eq!(client.send(&push()).await.unwrap().status, 200);
        let outcomes = numbered(&client, 3).await;
        let unknown = outcomes.iter().filter(|outcome| **outcome == Err(Undelivered::Unknown)).count();
        assert_eq!(unknown, 1, "{code}: what it covers may have been processed: {outcomes:?}");
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Ok(200) | Err(Undelivered::Unknown | Undelivered::NotSent))),
            "{code}: {outcomes:?}"
        );
        let resent = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        // Asked for calm, the client rests a random time before it connects again; what can't wait was not sent.
        assert!(resent == 2 || code == ENHANCE_YOUR_CALM, "{code}: {outcomes:?}");
        assert_eq!(times_read(&server).iter().sum::<usize>(), 4 + resent, "{code}");
    }
}

#[tokio::test]
async fn a_push_that_a_goaway_covers_and_nobody_answers_is_unknown_and_sent_once() {
    for how in End::ALL {
        let server = Server::start(move |_, mut peer| async move {
            peer.greet(10).await?;
            let stream = peer.request().await?;
            peer.go_away(stream, r#"{"reason":"Shutdown"}"#).await?;
            peer.requests_before_pong().await?;
            peer.end(how).await
        })
        .await
        .unwrap();
        assert_eq!(client(&server, |_| {}).send(&push()).await, Err(Undelivered::Unknown), "{how:?}");
        assert_eq!((server.requests(), server.connections()), (1, 1), "{how:?}");
    }
}

#[tokio::test]
async fn a_server_that_says_goaway_to_every_connection_is_not_stormed() {
    let server = Server::start(|_, mut peer| async move {
        peer.greet(10).await?;
        peer.request().await?;
        peer.go_away(0, r#"{"reason":"ServiceUnavailable"}"#).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    let outcomes = numbered(&client, 100).await;
    assert_eq!(outcomes, vec![Err(Undelivered::NotSent); 100]);
    assert!(server.connections() <= 16, "{}", server.connections());
}

#[tokio::test]
async fn a_goaway_on_an_idle_connection_costs_no_push() {
    let server = Server::start(|number, mut peer| async move {
        peer.greet(10).await?;
        if number > 0 {
            return peer.accept_all().await;
        }
        let stream = peer.request().await?;
        peer.accept(stream).await?;
        peer.requests_before_pong().await?;
        peer.go_away(stream, r#"{"reason":"IdleTimeout"}"#).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    until_left(&client).await;
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (2, 2));
}

#[tokio::test]
async fn a_client_that_is_asked_for_calm_rests_before_it_connects_again() {
    let server = Server::start(|_, mut peer| async move {
        peer.greet(10).await?;
        let stream = peer.request().await?;
        peer.accept(stream).await?;
        peer.requests_before_pong().await?;
        peer.go_away_for(stream, ENHANCE_YOUR_CALM, "too_many_pings").await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    // The rest is any time from 0 to 1 s: of twenty clients, some notice it.
    let clients: Vec<Client> = (0..20).map(|_| client(&server, |_| {})).collect();
    let mut rested = 0;
    for client in &clients {
        assert_eq!(client.send(&push()).await.unwrap().status, 200);
        until_left(client).await;
        rested += usize::from(client.send(&push()).await == Err(Undelivered::NotSent));
    }
    assert!(rested > 0);
}
