//! What belongs to connections: what was surely not sent, what may have been, and how many at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use herald_fcm::SendError;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::google::{Act, Asked, Google, accepted, burst, granted, push, pushing, ready};

#[tokio::test]
async fn an_answer_comes_back_with_status_retry_after_and_body() {
    let google = Google::start(pushing(|_| Act::Answer(429, "{\"error\":{}}".to_owned()))).await;
    let answer = google.client(|_| {}).send(&push()).await.unwrap();
    assert_eq!((answer.status, answer.retry_after.as_deref()), (429, Some("7")));
    assert_eq!(answer.body, b"{\"error\":{}}");
    let paths = google.paths.lock().unwrap().clone();
    assert_eq!(paths, ["/token", "/v1/projects/contoso-mail/messages:send"]);
}

#[tokio::test]
async fn a_burst_on_a_cold_client_opens_one_connection_per_lane_and_100_streams_on_each() {
    let (opened, mut all_open) = watch::channel(0);
    let (release, released) = watch::channel(false);
    let opened = Arc::new(opened);
    let google = Google::start(move |asked| {
        let (opened, mut released) = (Arc::clone(&opened), released.clone());
        Box::pin(async move {
            if asked.is_token {
                return granted(asked.nth);
            }
            opened.send_modify(|count| *count += 1);
            drop(released.wait_for(|released| *released).await);
            accepted()
        })
    })
    .await;
    let client = google.client(|config| config.clients = 2);
    let sending = client.clone();
    let mut sends = JoinSet::new();
    sends.spawn(async move { burst(&sending, 250).await });
    all_open.wait_for(|count| *count == 200).await.unwrap();
    assert_eq!(client.stats().in_flight, 200);
    release.send_replace(true);
    assert_eq!(sends.join_next().await.unwrap().unwrap(), 250);
    assert_eq!(google.counts.most_open.load(Ordering::SeqCst), 200);
    // One for the token, one for each lane.
    assert_eq!(google.counts.connections.load(Ordering::SeqCst), 3);
    assert_eq!(client.stats().in_flight, 0);
}

#[tokio::test]
async fn a_stream_that_is_always_refused_was_not_sent() {
    let google = Google::start(pushing(|_| Act::Refuse)).await;
    assert_eq!(google.client(|_| {}).send(&push()).await, Err(SendError::NotSent));
}

#[tokio::test]
async fn a_connection_that_breaks_or_a_stream_that_is_reset_is_unknown_and_never_sent_again() {
    for act in [|| Act::HangUp, || Act::Reset] {
        let google = Google::start(pushing(move |_| act())).await;
        assert_eq!(google.client(|_| {}).send(&push()).await, Err(SendError::Unknown));
        assert_eq!(google.pushes(), 1);
    }
}

#[tokio::test]
async fn a_push_without_an_answer_is_unknown_and_three_in_a_row_replace_the_connection() {
    let silent = |asked: &Asked| asked.connection < 2 && asked.nth > 0;
    let google = Google::start(pushing(move |asked| if silent(asked) { Act::Hold } else { accepted() })).await;
    let client = google.client(|config| config.request_timeout = Duration::from_secs(2));
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    for _ in 0..3 {
        assert_eq!(client.send(&push()).await, Err(SendError::Unknown));
    }
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    assert_eq!((google.pushes(), google.counts.connections.load(Ordering::SeqCst)), (5, 3));
}

#[tokio::test]
async fn a_host_that_refuses_connections_means_not_sent() {
    let google = Google::start(pushing(|_| accepted())).await;
    let gone = Google::start(|_| ready(accepted())).await;
    let url = format!("https://{}", gone.address);
    drop(gone);
    let client = google.client(|config| config.url = url);
    assert_eq!(client.send(&push()).await, Err(SendError::NotSent));
    assert_eq!(google.grants(), 1);
}

#[tokio::test]
async fn close_lets_what_is_in_flight_finish_and_takes_nothing_new() {
    let (written, mut was_written) = watch::channel(false);
    let (release, released) = watch::channel(false);
    let written = Arc::new(written);
    let google = Google::start(move |asked| {
        let (written, mut released) = (Arc::clone(&written), released.clone());
        Box::pin(async move {
            if asked.is_token {
                return granted(asked.nth);
            }
            written.send_replace(true);
            drop(released.wait_for(|released| *released).await);
            accepted()
        })
    })
    .await;
    let client = google.client(|_| {});
    let mut sends = JoinSet::new();
    let sender = client.clone();
    sends.spawn(async move { sender.send(&push()).await.map(|answer| answer.status) });
    was_written.wait_for(|written| *written).await.unwrap();
    let mut closes = JoinSet::new();
    let closer = client.clone();
    closes.spawn(async move { closer.close().await });
    release.send_replace(true);
    assert_eq!(sends.join_next().await.unwrap().unwrap(), Ok(200));
    closes.join_next().await.unwrap().unwrap();
    assert_eq!(client.send(&push()).await, Err(SendError::NotSent));
}
