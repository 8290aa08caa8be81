//! What belongs to the provider token on the wire: shared, replaced in time, and healed once when it is refused.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use herald_apns::Client;
use herald_core::time::Timestamp;
use herald_harness::frames::Server;
use http::Response;

use crate::wire::{burst, config, push};

/// What a request showed: its connection's number and its token.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    connection: usize,
    bearer: String,
}

/// Status and reason for the nth request, from 0.
type Script = fn(usize) -> (u16, &'static str);

struct Apple {
    server: Server,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Apple {
    async fn start(script: Script) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let recording = Arc::clone(&seen);
        let server = Server::start_before_tls(move |number, arrival| {
            let recording = Arc::clone(&recording);
            async move { serve(arrival.stream().await?, number, script, recording).await }
        })
        .await
        .unwrap();
        Self { server, seen }
    }

    fn client(&self, seconds: &Arc<AtomicI64>) -> Client {
        let mut config = config(self.server.address, &self.server.ca_pem);
        let seconds = Arc::clone(seconds);
        config.now = Arc::new(move || Timestamp::from_secs(seconds.load(Ordering::SeqCst)));
        Client::new(config).unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    io: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    connection: usize,
    script: Script,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> io::Result<()> {
    let mut h2 = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = h2.accept().await {
        let bearer = request.headers()["authorization"].to_str().unwrap().to_owned();
        let (status, reason) = {
            let mut seen = seen.lock().unwrap();
            seen.push(Seen { connection, bearer });
            script(seen.len() - 1)
        };
        let head = Response::builder().status(status).body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        let body = if reason.is_empty() { String::new() } else { format!("{{\"reason\":\"{reason}\"}}") };
        stream.send_data(Bytes::from(body), true).unwrap();
    }
    Ok(())
}

fn clock() -> Arc<AtomicI64> {
    Arc::new(AtomicI64::new(1_800_000_000))
}

const ACCEPT: Script = |_| (200, "");

#[tokio::test]
async fn a_hundred_pushes_at_once_share_one_token() {
    let apple = Apple::start(ACCEPT).await;
    let client = apple.client(&clock());
    assert_eq!(burst(&client, 100).await, 100);
    let seen = apple.seen();
    assert_eq!(seen.len(), 100);
    let tokens: HashSet<&str> = seen.iter().map(|seen| seen.bearer.as_str()).collect();
    assert_eq!(tokens.len(), 1);
}

#[tokio::test]
async fn the_token_is_kept_for_45_minutes_and_replaced_within_50_on_the_same_connection() {
    let apple = Apple::start(ACCEPT).await;
    let seconds = clock();
    let client = apple.client(&seconds);
    for step in [0, 44 * 60, 6 * 60, 44 * 60] {
        seconds.fetch_add(step, Ordering::SeqCst);
        assert_eq!(client.send(&push()).await.unwrap().status, 200);
    }
    let seen = apple.seen();
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[1].bearer, seen[2].bearer);
    assert_eq!(seen[2], seen[3]);
    assert!(seen.iter().all(|seen| seen.connection == 0));
}

#[tokio::test]
async fn an_expired_token_is_healed_by_a_new_one_on_a_new_connection() {
    let apple = Apple::start(|nth| if nth == 1 { (403, "ExpiredProviderToken") } else { (200, "") }).await;
    let seconds = clock();
    let client = apple.client(&seconds);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    seconds.fetch_add(20 * 60, Ordering::SeqCst);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    let seen = apple.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!((seen[1].connection, seen[2].connection), (0, 1));
    assert_eq!(seen[0].bearer, seen[1].bearer);
    assert_ne!(seen[1].bearer, seen[2].bearer);
}

#[tokio::test]
async fn a_young_token_said_to_be_expired_is_not_replaced_and_the_answer_goes_up() {
    let apple = Apple::start(|nth| if nth == 0 { (403, "ExpiredProviderToken") } else { (200, "") }).await;
    let client = apple.client(&clock());
    let answer = client.send(&push()).await.unwrap();
    assert_eq!(answer.status, 403);
    assert_eq!(answer.body, br#"{"reason":"ExpiredProviderToken"}"#);
    assert_eq!(apple.seen().len(), 1);
    // The wedged connection was left all the same.
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    let seen = apple.seen();
    assert_eq!(seen[1], Seen { connection: 1, bearer: seen[0].bearer.clone() });
}

#[tokio::test]
async fn a_connection_that_saw_too_many_tokens_or_another_key_is_left_and_the_token_kept() {
    let scripts: [Script; 2] = [
        |nth| if nth == 0 { (429, "TooManyProviderTokenUpdates") } else { (200, "") },
        |nth| if nth == 0 { (403, "UnrelatedKeyIdInToken") } else { (200, "") },
    ];
    for script in scripts {
        let apple = Apple::start(script).await;
        assert_eq!(apple.client(&clock()).send(&push()).await.unwrap().status, 200);
        let seen = apple.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1], Seen { connection: 1, bearer: seen[0].bearer.clone() });
    }
}

#[tokio::test]
async fn healing_is_tried_once() {
    let apple = Apple::start(|_| (403, "UnrelatedKeyIdInToken")).await;
    assert_eq!(apple.client(&clock()).send(&push()).await.unwrap().status, 403);
    assert_eq!(apple.seen().len(), 2);
}

#[tokio::test]
async fn any_other_refusal_goes_up_as_it_is() {
    let apple = Apple::start(|_| (403, "InvalidProviderToken")).await;
    assert_eq!(apple.client(&clock()).send(&push()).await.unwrap().status, 403);
    assert_eq!(apple.seen().len(), 1);
}
