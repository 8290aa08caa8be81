//! When connections are made: what waits for the server's word, what is replaced, and how often at most.

use std::time::Duration;

use herald_core::outcome::Undelivered;
use herald_harness::frames::Server;
use herald_harness::frames::code::{INTERNAL_ERROR, REFUSED_STREAM};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::wire::{burst, client, numbered, push, times_read};

#[tokio::test]
async fn a_server_that_never_completes_tls_means_not_sent() {
    let server = Server::start_before_tls(|_, arrival| arrival.hold()).await.unwrap();
    let client = client(&server, |config| config.connect_timeout = Duration::from_millis(200));
    assert_eq!(numbered(&client, 10).await, [Err(Undelivered::NotSent); 10]);
    assert_eq!(server.requests(), 0);
    // One connect for all; one more if the rest after it was all but nothing, as jitter allows.
    assert!(server.connections() <= 3, "{}", server.connections());
}

#[tokio::test]
async fn a_server_that_never_speaks_http2_means_not_sent() {
    let server = Server::start(|_, mut peer| async move {
        peer.preface().await?;
        peer.ignore_pings();
        peer.until_closed().await
    })
    .await
    .unwrap();
    let client = client(&server, |config| config.connect_timeout = Duration::from_millis(200));
    assert_eq!(numbered(&client, 10).await, [Err(Undelivered::NotSent); 10]);
    assert_eq!(server.requests(), 0);
    assert!(server.connections() <= 3, "{}", server.connections());
}

#[tokio::test]
async fn a_server_that_speaks_something_else_means_not_sent() {
    for words in [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), b"220 mail.contoso.com ESMTP\r\n", &[0; 64]] {
        let server = Server::start(move |_, mut peer| async move {
            peer.bytes(words).await?;
            peer.until_closed().await
        })
        .await
        .unwrap();
        assert_eq!(client(&server, |_| {}).send(&push()).await, Err(Undelivered::NotSent));
        assert_eq!(server.requests(), 0);
    }
}

#[tokio::test]
async fn settings_that_come_after_the_first_pushes_find_one_of_them_in_flight() {
    let server = Server::start(|_, mut peer| async move {
        peer.preface().await?;
        // The client gets its PING answered, and no limit.
        let first = peer.request().await?;
        assert_eq!(peer.requests_before_pong().await?, 0);
        peer.settings(1).await?;
        assert_eq!(peer.requests_before_pong().await?, 0);
        peer.settings(100).await?;
        peer.accept(first).await?;
        peer.accept_all().await
    })
    .await
    .unwrap();
    assert_eq!(burst(&client(&server, |_| {}), 50).await, 50);
    assert_eq!((server.requests(), server.connections()), (50, 1), "nothing was refused, so nothing was sent twice");
}

#[tokio::test]
async fn what_a_shrinking_limit_refuses_is_sent_again_on_the_same_connection() {
    let server = Server::start(|_, mut peer| async move {
        peer.greet(20).await?;
        let first = peer.request().await?;
        peer.accept(first).await?;
        let mut open = Vec::new();
        for _ in 0..20 {
            open.push(peer.request().await?);
        }
        // The limit was 1 before they came, says the server, and the news crossed them.
        for stream in &open[1..] {
            peer.reset(*stream, REFUSED_STREAM).await?;
        }
        peer.settings(1).await?;
        peer.accept(open[0]).await?;
        peer.accept_all().await
    })
    .await
    .unwrap();
    let client = client(&server, |config| config.max_connections = 1);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!(numbered(&client, 20).await, [Ok(200); 20]);
    let times = times_read(&server);
    assert_eq!((times.len(), times.iter().sum::<usize>()), (21, 1 + 20 + 19));
    assert_eq!(server.connections(), 1, "refused together is refused once");
}

#[tokio::test]
async fn a_connection_that_only_refuses_is_left_and_the_push_sent_on_another() {
    let server = Server::start(|number, mut peer| async move {
        peer.greet(10).await?;
        if number > 0 {
            return peer.accept_all().await;
        }
        let first = peer.request().await?;
        peer.accept(first).await?;
        loop {
            let stream = peer.request().await?;
            peer.reset(stream, REFUSED_STREAM).await?;
        }
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (1 + 2 + 1, 2), "refused twice, then elsewhere");
}

#[tokio::test]
async fn a_connection_that_only_resets_is_left_after_two_pushes_and_neither_is_sent_again() {
    let server = Server::start(|number, mut peer| async move {
        peer.greet(10).await?;
        if number > 0 {
            return peer.accept_all().await;
        }
        loop {
            let stream = peer.request().await?;
            peer.reset(stream, INTERNAL_ERROR).await?;
        }
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    assert_eq!(client.send(&push()).await, Err(Undelivered::Unknown));
    assert_eq!(client.send(&push()).await, Err(Undelivered::Unknown));
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!((server.requests(), server.connections()), (3, 2));
}

#[tokio::test]
async fn a_minute_has_no_more_connects_than_allowed_and_what_finds_none_was_not_sent() {
    // Answers, so that no back-off applies, and ends.
    let server = Server::start(|_, mut peer| async move {
        peer.greet(1).await?;
        let stream = peer.request().await?;
        peer.go_away(stream, "").await?;
        peer.accept(stream).await?;
        peer.until_closed().await
    })
    .await
    .unwrap();
    let client = client(&server, |config| config.connects_per_minute = 5);
    let mut accepted = 0;
    for _ in 0..100 {
        match client.send(&push()).await {
            Ok(answer) => accepted += usize::from(answer.status == 200),
            Err(undelivered) => assert_eq!(undelivered, Undelivered::NotSent),
        }
    }
    assert_eq!((accepted, server.requests(), server.connections()), (5, 5, 5));
    assert_eq!(client.stats().connects, 5);
}

#[tokio::test]
async fn all_connections_may_be_opened_and_all_replaced_within_a_minute() {
    let (release, released) = watch::channel(false);
    let server = Server::start(move |number, mut peer| {
        let mut released = released.clone();
        async move {
            peer.greet(1).await?;
            if number >= 8 {
                return peer.accept_all().await;
            }
            let first = peer.request().await?;
            peer.accept(first).await?;
            let held = peer.request().await?;
            drop(released.wait_for(|released| *released).await);
            peer.go_away(held, r#"{"reason":"Shutdown"}"#).await?;
            peer.accept(held).await?;
            peer.until_closed().await
        }
    })
    .await
    .unwrap();
    let client = client(&server, |_| {});
    let mut sends = JoinSet::new();
    for _ in 0..16 {
        let client = client.clone();
        sends.spawn(async move { client.send(&push()).await.unwrap().status });
    }
    server.wait_for(|seen| seen.requests.len() == 16).await;
    assert_eq!(server.connections(), 8);
    release.send_replace(true);
    assert_eq!(sends.join_all().await, [200; 16]);
    assert_eq!(burst(&client, 100).await, 100);
    assert!((9..=16).contains(&server.connections()), "{}", server.connections());
}
