//! What belongs to connections: stream limits, refusals, GOAWAY, silence, and which pushes may be sent again.

use std::time::Duration;

use herald_core::outcome::Undelivered;
use herald_harness::frames::code::{CANCEL, REFUSED_STREAM};
use herald_harness::frames::{Head, Server};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::wire::{burst, client, push, until_left};

#[tokio::test]
async fn an_answer_comes_back_with_status_id_and_body() {
    let server = Server::start(|_, mut peer| async move {
        peer.greet(1).await?;
        let stream = peer.request().await?;
        peer.answer(stream, &Head::status(410).with("apns-id", "an-id"), r#"{"reason":"Unregistered","timestamp":1}"#)
            .await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    let answer = client(&server, |_| {}).send(&push()).await.unwrap();
    assert_eq!(answer.status, 410);
    assert_eq!(answer.provider_id.as_deref(), Some("an-id"));
    assert_eq!(answer.body, br#"{"reason":"Unregistered","timestamp":1}"#);
}

#[tokio::test]
async fn one_stream_until_the_first_answer_then_as_many_as_settings_allow() {
    let (report, mut reported) = mpsc::unbounded_channel();
    let server = Server::start(move |_, mut peer| {
        let report = report.clone();
        async move {
            peer.greet(1).await?;
            let first = peer.request().await?;
            report.send(1 + peer.requests_before_pong().await?).unwrap();
            peer.settings(10).await?;
            peer.accept(first).await?;
            let mut open = Vec::new();
            for _ in 0..10 {
                open.push(peer.request().await?);
            }
            report.send(open.len() + peer.requests_before_pong().await?).unwrap();
            // The limit shrinks, as it does after errors: the ten are answered, and then there is one at a time again.
            peer.settings(1).await?;
            for stream in open {
                peer.accept(stream).await?;
            }
            let next = peer.request().await?;
            report.send(1 + peer.requests_before_pong().await?).unwrap();
            peer.settings(100).await?;
            peer.accept(next).await?;
            peer.accept_all().await
        }
    })
    .await
    .unwrap();
    let client = client(&server, |config| config.max_connections = 1);
    assert_eq!(burst(&client, 40).await, 40);
    let mut at_once = Vec::new();
    while let Ok(count) = reported.try_recv() {
        at_once.push(count);
    }
    assert_eq!(at_once, [1, 10, 1], "streams open at once");
    assert_eq!((server.requests(), server.connections()), (40, 1), "nothing was refused, so nothing was sent twice");
}

#[tokio::test]
async fn the_configured_limit_holds_even_if_the_server_allows_more() {
    let (report, mut reported) = mpsc::unbounded_channel();
    let server = Server::start(move |_, mut peer| {
        let report = report.clone();
        async move {
            peer.greet(1000).await?;
            let first = peer.request().await?;
            peer.accept(first).await?;
            let mut open = Vec::new();
            for _ in 0..3 {
                open.push(peer.request().await?);
            }
            report.send(open.len() + peer.requests_before_pong().await?).unwrap();
            for stream in open {
                peer.accept(stream).await?;
            }
            peer.accept_all().await
        }
    })
    .await
    .unwrap();
    let client = client(&server, |config| (config.max_connections, config.streams_per_connection) = (1, 3));
    assert_eq!(burst(&client, 1).await, 1);
    assert_eq!(burst(&client, 20).await, 20);
    assert_eq!(reported.recv().await, Some(3));
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_at_once() {
    let server = Server::start(|_, mut peer| async move {
        peer.greet(1).await?;
        let refused = peer.request().await?;
        peer.reset(refused, REFUSED_STREAM).await?;
        let stream = peer.request().await?;
        peer.accept(stream).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    assert_eq!(client(&server, |_| {}).send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (2, 1));
}

#[tokio::test]
async fn a_stream_refused_three_times_was_not_sent() {
    let server = Server::start(|_, mut peer| async move {
        peer.greet(10).await?;
        loop {
            let stream = peer.request().await?;
            peer.reset(stream, REFUSED_STREAM).await?;
        }
    })
    .await
    .unwrap();
    assert_eq!(client(&server, |_| {}).send(&push()).await, Err(Undelivered::NotSent));
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_push_that_a_goaway_overtook_is_sent_on_a_new_connection() {
    let server = Server::start(|number, mut peer| async move {
        peer.greet(1).await?;
        let stream = peer.request().await?;
        if number == 0 {
            peer.go_away(0, r#"{"reason":"Shutdown"}"#).await?;
        } else {
            peer.accept(stream).await?;
        }
        peer.until_closed().await
    })
    .await
    .unwrap();
    assert_eq!(client(&server, |_| {}).send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (2, 2));
}

#[tokio::test]
async fn a_push_that_a_goaway_covers_is_awaited_and_the_next_takes_a_new_connection() {
    let server = Server::start(|number, mut peer| async move {
        peer.greet(10).await?;
        let stream = peer.request().await?;
        if number == 0 {
            peer.go_away(stream, "").await?;
            peer.requests_before_pong().await?;
        }
        peer.accept(stream).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (2, 2));
}

#[tokio::test]
async fn a_push_whose_connection_breaks_is_unknown_and_never_sent_again_by_the_client() {
    let server = Server::start(|number, mut peer| async move {
        peer.greet(10).await?;
        let stream = peer.request().await?;
        if number == 0 {
            return Ok(());
        }
        peer.accept(stream).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    assert_eq!(client.send(&push()).await, Err(Undelivered::Unknown));
    assert_eq!(server.requests(), 1);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_push_reset_for_another_reason_is_unknown() {
    let server = Server::start(|_, mut peer| async move {
        peer.greet(10).await?;
        let stream = peer.request().await?;
        peer.reset(stream, CANCEL).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    assert_eq!(client(&server, |_| {}).send(&push()).await, Err(Undelivered::Unknown));
    assert_eq!(server.requests(), 1);
}

/// Answers the first request, and on the first connection no other.
async fn server_that_goes_silent() -> Server {
    Server::start(|number, mut peer| async move {
        peer.greet(10).await?;
        let first = peer.request().await?;
        peer.accept(first).await?;
        let second = peer.request().await?;
        if number > 0 {
            peer.accept(second).await?;
        }
        peer.until_closed().await
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_push_without_an_answer_is_unknown_and_its_connection_is_replaced() {
    let server = server_that_goes_silent().await;
    let client = client(&server, |config| config.request_timeout = Duration::from_secs(3));
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!(client.send(&push()).await, Err(Undelivered::Unknown));
    assert_eq!(client.stats().connections, 0);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (3, 2));
}

#[tokio::test]
async fn a_push_given_up_by_its_caller_replaces_a_silent_connection_too() {
    let server = server_that_goes_silent().await;
    let client = client(&server, |config| config.request_timeout = Duration::from_secs(3));
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    let given_up = tokio::time::timeout(Duration::from_secs(2), client.send(&push())).await;
    assert!(given_up.is_err());
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (3, 2));
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_given_up_long_before_the_request_times_out() {
    let (asleep, sleeps) = watch::channel(false);
    let server = Server::start(move |_, mut peer| {
        let mut sleeps = sleeps.clone();
        async move {
            peer.greet(10).await?;
            peer.request().await?;
            // Reads nothing more, so it acknowledges no PING, and keeps the connection open.
            drop(sleeps.wait_for(|over| *over).await);
            drop(peer);
            Ok(())
        }
    })
    .await
    .unwrap();
    let client = client(&server, |config| {
        config.request_timeout = Duration::from_secs(600);
        config.keep_alive_interval = Duration::from_millis(50);
        config.keep_alive_timeout = Duration::from_millis(50);
    });
    assert_eq!(client.send(&push()).await, Err(Undelivered::Unknown));
    asleep.send_replace(true);
}

#[tokio::test]
async fn what_waits_behind_a_full_connection_gets_another_one() {
    let (release, released) = watch::channel(false);
    let server = Server::start(move |number, mut peer| {
        let mut released = released.clone();
        async move {
            peer.greet(1).await?;
            let first = peer.request().await?;
            peer.accept(first).await?;
            let second = peer.request().await?;
            if number == 0 {
                drop(released.wait_for(|released| *released).await);
            }
            peer.accept(second).await?;
            peer.until_closed().await
        }
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    let mut held = JoinSet::new();
    let holder = client.clone();
    held.spawn(async move { holder.send(&push()).await });
    server.wait_for(|seen| seen.requests.len() == 2).await;
    assert_eq!(client.send(&push()).await.unwrap().status, 200, "while the other is held");
    assert_eq!(server.connections(), 2);
    release.send_replace(true);
    assert_eq!(held.join_next().await.unwrap().unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_host_that_refuses_connections_costs_no_wait_and_nothing_is_sent() {
    let server = Server::start(|_, _| async { Ok(()) }).await.unwrap();
    let client = client(&server, |config| config.request_timeout = Duration::from_secs(600));
    drop(server);
    assert_eq!(client.send(&push()).await, Err(Undelivered::NotSent));
    assert_eq!(burst(&client, 300).await, 0);
    let connects = client.stats().connects;
    assert!(connects <= 10, "{connects} connects for 301 pushes are a storm");
}

#[tokio::test]
async fn an_untrusted_certificate_means_not_sent() {
    let server = Server::start(|_, mut peer| async move { peer.until_closed().await }).await.unwrap();
    let other = Server::start(|_, _| async { Ok(()) }).await.unwrap();
    let client = client(&server, |config| config.ca_pem = Some(other.ca_pem.clone()));
    assert_eq!(client.send(&push()).await, Err(Undelivered::NotSent));
}

#[tokio::test]
async fn close_lets_what_is_in_flight_finish_and_takes_nothing_new() {
    let (written, was_written) = oneshot::channel();
    let written = std::sync::Mutex::new(Some(written));
    let (release, released) = watch::channel(false);
    let (ended, mut has_ended) = watch::channel(false);
    let server = Server::start(move |_, mut peer| {
        let (written, mut released, ended) = (written.lock().unwrap().take(), released.clone(), ended.clone());
        async move {
            peer.greet(10).await?;
            let stream = peer.request().await?;
            written.unwrap().send(()).unwrap();
            drop(released.wait_for(|released| *released).await);
            peer.accept(stream).await?;
            drop(peer.until_closed().await);
            ended.send_replace(true);
            Ok(())
        }
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    let mut tasks = JoinSet::new();
    let sender = client.clone();
    tasks.spawn(async move { assert_eq!(sender.send(&push()).await.unwrap().status, 200) });
    was_written.await.unwrap();
    let closer = client.clone();
    tasks.spawn(async move { closer.close().await });
    until_left(&client).await;
    assert_eq!(client.send(&push()).await, Err(Undelivered::NotSent));
    release.send_replace(true);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    has_ended.wait_for(|ended| *ended).await.unwrap();
}

#[tokio::test]
async fn dropping_the_client_closes_its_connections() {
    let (ended, mut has_ended) = watch::channel(false);
    let server = Server::start(move |_, mut peer| {
        let ended = ended.clone();
        async move {
            peer.greet(10).await?;
            let stream = peer.request().await?;
            peer.accept(stream).await?;
            drop(peer.until_closed().await);
            ended.send_replace(true);
            Ok(())
        }
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    drop(client);
    has_ended.wait_for(|ended| *ended).await.unwrap();
}
