//! GOAWAY and refusals: what the server surely did not process is sent again or said to be not sent; nothing else is.
//!
//! reqwest sends again by itself, twice at most, what a GOAWAY without error or a REFUSED_STREAM says was not processed.

use herald_fcm::SendError;
use herald_harness::frames::code::{
    CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM,
};
use herald_harness::frames::{EVERY_STREAM, End};
use tokio::sync::watch;

use crate::google::burst;
use crate::wire::{Fcm, status};

const TIMED_OUT: &str = "session_timed_out";

#[tokio::test]
async fn a_session_that_timed_out_while_idle_costs_no_push() {
    let (ended, mut has_ended) = watch::channel(false);
    let fcm = Fcm::start(move |number, mut peer| {
        let ended = ended.clone();
        async move {
            peer.greet(100).await?;
            if number > 0 {
                return peer.accept_all().await;
            }
            let stream = peer.request().await?;
            peer.accept(stream).await?;
            peer.go_away(stream, TIMED_OUT).await?;
            drop(peer.until_closed().await);
            ended.send_replace(true);
            Ok(())
        }
    })
    .await;
    let client = fcm.client(|_| {});
    assert_eq!(status(&client).await, Ok(200));
    has_ended.wait_for(|ended| *ended).await.unwrap();
    assert_eq!(status(&client).await, Ok(200));
    assert_eq!(fcm.counts(), (2, 2));
}

#[tokio::test]
async fn what_a_goaway_without_error_does_not_cover_is_sent_again_on_a_new_connection() {
    for graceful in [false, true] {
        let fcm = Fcm::start(move |number, mut peer| async move {
            peer.greet(100).await?;
            if number > 0 {
                return peer.accept_all().await;
            }
            let first = peer.request().await?;
            peer.accept(first).await?;
            peer.request().await?;
            if graceful {
                peer.go_away(EVERY_STREAM, TIMED_OUT).await?;
                peer.requests_before_pong().await?;
            }
            peer.go_away(first, TIMED_OUT).await?;
            peer.until_closed().await
        })
        .await;
        let client = fcm.client(|_| {});
        assert_eq!(status(&client).await, Ok(200));
        assert_eq!(status(&client).await, Ok(200), "{graceful}");
        assert_eq!(fcm.counts(), (3, 2), "{graceful}");
    }
}

#[tokio::test]
async fn what_a_goaway_covers_is_awaited_and_the_next_push_takes_a_new_connection() {
    let fcm = Fcm::start(|number, mut peer| async move {
        peer.greet(100).await?;
        if number > 0 {
            return peer.accept_all().await;
        }
        let stream = peer.request().await?;
        peer.go_away(stream, TIMED_OUT).await?;
        peer.requests_before_pong().await?;
        peer.accept(stream).await?;
        peer.until_closed().await
    })
    .await;
    let client = fcm.client(|_| {});
    assert_eq!(status(&client).await, Ok(200));
    assert_eq!(status(&client).await, Ok(200));
    assert_eq!(fcm.counts(), (2, 2));
}

#[tokio::test]
async fn what_a_goaway_covers_and_nobody_answers_is_unknown_and_sent_once() {
    for code in [NO_ERROR, PROTOCOL_ERROR, ENHANCE_YOUR_CALM] {
        for how in End::ALL {
            let fcm = Fcm::start(move |_, mut peer| async move {
                peer.greet(100).await?;
                let stream = peer.request().await?;
                peer.go_away_for(stream, code, "").await?;
                peer.requests_before_pong().await?;
                peer.end(how).await
            })
            .await;
            assert_eq!(status(&fcm.client(|_| {})).await, Err(SendError::Unknown), "{code} {how:?}");
            assert_eq!(fcm.counts(), (1, 1), "{code} {how:?}: sent twice");
        }
    }
}

#[tokio::test]
async fn what_a_goaway_with_an_error_does_not_cover_was_not_sent_and_the_next_push_is_answered() {
    for (code, debug) in [
        (PROTOCOL_ERROR, "exceeded_max_concurrent_streams"),
        (ENHANCE_YOUR_CALM, "too_many_pings"),
        (INTERNAL_ERROR, ""),
    ] {
        let fcm = Fcm::start(move |number, mut peer| async move {
            peer.greet(100).await?;
            if number > 0 {
                return peer.accept_all().await;
            }
            peer.request().await?;
            peer.go_away_for(0, code, debug).await?;
            peer.until_closed().await
        })
        .await;
        let client = fcm.client(|_| {});
        assert_eq!(status(&client).await, Err(SendError::NotSent), "{code}");
        assert_eq!(fcm.counts(), (1, 1), "{code}");
        assert_eq!(status(&client).await, Ok(200), "{code}");
        assert_eq!(fcm.counts(), (2, 2), "{code}");
    }
}

#[tokio::test]
async fn a_server_that_says_goaway_to_every_connection_gets_a_push_three_times() {
    let fcm = Fcm::start(|_, mut peer| async move {
        peer.greet(100).await?;
        peer.request().await?;
        peer.go_away(0, TIMED_OUT).await?;
        peer.until_closed().await
    })
    .await;
    assert_eq!(status(&fcm.client(|_| {})).await, Err(SendError::NotSent));
    assert_eq!(fcm.counts(), (3, 3));
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_and_any_other_reset_is_unknown_and_sent_once() {
    for code in [REFUSED_STREAM, NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM] {
        let fcm = Fcm::start(move |_, mut peer| async move {
            peer.greet(100).await?;
            let stream = peer.request().await?;
            peer.reset(stream, code).await?;
            peer.accept_all().await
        })
        .await;
        let client = fcm.client(|_| {});
        let expected = if code == REFUSED_STREAM { (Ok(200), 2) } else { (Err(SendError::Unknown), 1) };
        assert_eq!((status(&client).await, fcm.server.requests()), expected, "{code}");
        assert_eq!(status(&client).await, Ok(200), "{code}");
        assert_eq!(fcm.server.connections(), 1, "{code}: one reset says nothing about the connection");
    }
}

#[tokio::test]
async fn a_connection_that_only_refuses_is_replaced_after_two_pushes_and_no_storm_follows() {
    let fcm = Fcm::start(|number, mut peer| async move {
        peer.greet(100).await?;
        if number == 1 {
            let stream = peer.request().await?;
            peer.accept(stream).await?;
        }
        loop {
            let stream = peer.request().await?;
            peer.reset(stream, REFUSED_STREAM).await?;
        }
    })
    .await;
    let client = fcm.client(|_| {});
    for _ in 0..2 {
        assert_eq!(status(&client).await, Err(SendError::NotSent));
    }
    assert_eq!(fcm.counts(), (6, 1));
    assert_eq!(status(&client).await, Ok(200));
    assert_eq!(fcm.counts(), (7, 2));
    for _ in 0..10 {
        assert_eq!(status(&client).await, Err(SendError::NotSent));
    }
    assert_eq!(fcm.counts(), (37, 2), "replaced once in ten seconds at most");
}

#[tokio::test]
async fn a_connection_has_100_streams_at_most_and_as_few_as_the_server_says() {
    for (limit, at_most) in [(1000, 100), (100, 100), (7, 7)] {
        let fcm = Fcm::start(move |_, mut peer| async move {
            peer.greet(limit).await?;
            let first = peer.request().await?;
            peer.accept(first).await?;
            for _ in 0..3 {
                let mut open = Vec::new();
                for _ in 0..at_most {
                    open.push(peer.request().await?);
                }
                assert_eq!(peer.requests_before_pong().await?, 0);
                for stream in open {
                    peer.accept(stream).await?;
                }
            }
            peer.accept_all().await
        })
        .await;
        let client = fcm.client(|_| {});
        assert_eq!(status(&client).await, Ok(200));
        assert_eq!(burst(&client, 3 * at_most).await, 3 * at_most, "{limit}");
        assert_eq!(fcm.counts(), (1 + 3 * at_most, 1), "{limit}");
    }
}
