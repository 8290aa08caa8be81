//! What belongs to the provider token on the wire: shared, replaced in time, and healed once when it is refused.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use herald_apns::{Client, Config};
use herald_core::time::Timestamp;
use herald_harness::frames::Server;
use herald_harness::wait::until;
use http::Response;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::wire::{LIMIT, burst, client, push};

/// What a request showed: its connection's number and its token.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    connection: usize,
    bearer: String,
}

/// Status and reason for the nth request, from 0, with its `iat`.
type Script = fn(usize, i64) -> (u16, &'static str);

/// The time by Apple's clock.
const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

struct Apple {
    server: Server,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// While true, nothing is answered.
    hold: watch::Sender<bool>,
}

impl Apple {
    async fn start(script: Script) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let hold = watch::Sender::new(false);
        let (recording, held) = (Arc::clone(&seen), hold.subscribe());
        let server = Server::start_before_tls(move |number, arrival| {
            let (recording, held) = (Arc::clone(&recording), held.clone());
            async move { serve(arrival.stream().await?, number, script, recording, held).await }
        })
        .await
        .unwrap();
        Self { server, seen, hold }
    }

    fn client(&self, clocks: &Arc<Clocks>) -> Client {
        self.client_with(clocks, |_| {})
    }

    fn client_with(&self, clocks: &Arc<Clocks>, change: impl FnOnce(&mut Config)) -> Client {
        client(&self.server, |config| {
            change(config);
            let (store, other) = (Arc::clone(clocks), Arc::clone(clocks));
            config.now = Arc::new(move || Timestamp::from_secs(store.store.load(Ordering::SeqCst)));
            config.monotonic =
                Arc::new(move || Duration::from_secs(other.monotonic.load(Ordering::SeqCst).cast_unsigned()));
        })
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
    mut held: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut h2 = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = h2.accept().await {
        let bearer = request.headers()["authorization"].to_str().unwrap().to_owned();
        let iat = iat(&bearer);
        let (status, reason) = {
            let mut seen = seen.lock().unwrap();
            seen.push(Seen { connection, bearer });
            script(seen.len() - 1, iat)
        };
        drop(held.wait_for(|held| !*held).await);
        let head = Response::builder().status(status).body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        let body = if reason.is_empty() { String::new() } else { format!("{{\"reason\":\"{reason}\"}}") };
        stream.send_data(Bytes::from(body), true).unwrap();
    }
    Ok(())
}

fn iat(bearer: &str) -> i64 {
    let claims = URL_SAFE_NO_PAD.decode(bearer.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["iat"].as_i64().unwrap()
}

/// A store's clock that can be set, and one that can't.
#[derive(Default)]
struct Clocks {
    store: AtomicI64,
    monotonic: AtomicI64,
}

impl Clocks {
    fn new() -> Arc<Self> {
        let clocks = Self::default();
        clocks.set(NOW);
        Arc::new(clocks)
    }

    fn pass(&self, seconds: i64) {
        self.monotonic.fetch_add(seconds, Ordering::SeqCst);
        self.set(seconds);
    }

    fn set(&self, by: i64) {
        self.store.fetch_add(by, Ordering::SeqCst);
    }
}

const ACCEPT: Script = |_, _| (200, "");

#[tokio::test]
async fn a_hundred_pushes_at_once_share_one_token() {
    let apple = Apple::start(ACCEPT).await;
    let client = apple.client(&Clocks::new());
    assert_eq!(burst(&client, 100).await, 100);
    let seen = apple.seen();
    assert_eq!(seen.len(), 100);
    let tokens: HashSet<&str> = seen.iter().map(|seen| seen.bearer.as_str()).collect();
    assert_eq!(tokens.len(), 1);
}

#[tokio::test]
async fn the_token_is_kept_for_45_minutes_and_replaced_within_50_on_the_same_connection() {
    let apple = Apple::start(ACCEPT).await;
    let clocks = Clocks::new();
    let client = apple.client(&clocks);
    for step in [0, 44 * 60, 6 * 60, 44 * 60] {
        clocks.pass(step);
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
    let apple = Apple::start(|nth, _| if nth == 1 { (403, "ExpiredProviderToken") } else { (200, "") }).await;
    let clocks = Clocks::new();
    let client = apple.client(&clocks);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    clocks.pass(20 * 60);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    let seen = apple.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!((seen[1].connection, seen[2].connection), (0, 1));
    assert_eq!(seen[0].bearer, seen[1].bearer);
    assert_ne!(seen[1].bearer, seen[2].bearer);
}

#[tokio::test]
async fn a_young_token_said_to_be_expired_is_not_replaced_and_the_answer_goes_up() {
    let apple = Apple::start(|nth, _| if nth == 0 { (403, "ExpiredProviderToken") } else { (200, "") }).await;
    let client = apple.client(&Clocks::new());
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
        |nth, _| if nth == 0 { (429, "TooManyProviderTokenUpdates") } else { (200, "") },
        |nth, _| if nth == 0 { (403, "UnrelatedKeyIdInToken") } else { (200, "") },
    ];
    for script in scripts {
        let apple = Apple::start(script).await;
        assert_eq!(apple.client(&Clocks::new()).send(&push()).await.unwrap().status, 200);
        let seen = apple.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1], Seen { connection: 1, bearer: seen[0].bearer.clone() });
    }
}

#[tokio::test]
async fn healing_is_tried_once() {
    let apple = Apple::start(|_, _| (403, "UnrelatedKeyIdInToken")).await;
    assert_eq!(apple.client(&Clocks::new()).send(&push()).await.unwrap().status, 403);
    assert_eq!(apple.seen().len(), 2);
}

#[tokio::test]
async fn any_other_refusal_goes_up_as_it_is() {
    let apple = Apple::start(|_, _| (403, "InvalidProviderToken")).await;
    assert_eq!(apple.client(&Clocks::new()).send(&push()).await.unwrap().status, 403);
    assert_eq!(apple.seen().len(), 1);
}

/// As Apple may judge a token, whose own clock is right.
const JUDGE: Script = |_, iat| {
    if iat < NOW - HOUR {
        (403, "ExpiredProviderToken")
    } else if iat > NOW + 60 {
        (403, "InvalidProviderToken")
    } else {
        (200, "")
    }
};

#[tokio::test]
async fn a_token_of_a_wrong_clock_is_healed_once_the_clock_is_mended_and_no_connection_sees_two_tokens() {
    for wrong_by in [2 * HOUR, -2 * HOUR] {
        let apple = Apple::start(JUDGE).await;
        let clocks = Clocks::new();
        let client = apple.client(&clocks);
        clocks.set(wrong_by);
        for _ in 0..3 {
            assert_eq!(client.send(&push()).await.unwrap().status, 403, "{wrong_by}: nothing to heal it with");
        }
        clocks.pass(60);
        clocks.set(-wrong_by - 60);
        assert_eq!(burst(&client, 50).await, 50, "{wrong_by}");
        let seen = apple.seen();
        let tokens: HashSet<&str> = seen.iter().map(|seen| seen.bearer.as_str()).collect();
        let pairs: HashSet<(usize, &str)> = seen.iter().map(|seen| (seen.connection, seen.bearer.as_str())).collect();
        let connections: HashSet<usize> = seen.iter().map(|seen| seen.connection).collect();
        assert_eq!(tokens.len(), 2, "{wrong_by}: one mint for fifty");
        assert_eq!(pairs.len(), connections.len(), "{wrong_by}: TooManyProviderTokenUpdates is about connections");
        assert!(seen.len() <= 3 + 50 + 50, "{wrong_by}: each was refused once at most");
    }
}

#[tokio::test]
async fn the_connections_that_saw_a_token_of_a_wrong_clock_are_all_left() {
    let apple = Apple::start(|nth, iat| if nth < 3 { (200, "") } else { JUDGE(nth, iat) }).await;
    let clocks = Clocks::new();
    clocks.set(2 * HOUR);
    let client = apple.client_with(&clocks, |config| config.streams_per_connection = 1);
    assert_eq!(client.send(&push()).await.unwrap().status, 200);
    // Two at once, so that there are two connections.
    apple.hold.send_replace(true);
    let mut sends = JoinSet::new();
    for _ in 0..2 {
        let client = client.clone();
        sends.spawn(async move { client.send(&push()).await.unwrap().status });
    }
    until(LIMIT, "three pushes to arrive", async || apple.seen().len() >= 3).await.unwrap();
    apple.hold.send_replace(false);
    assert_eq!(sends.join_all().await, [200, 200]);
    assert_eq!(client.stats().connections, 2);
    clocks.set(-2 * HOUR);
    for _ in 0..10 {
        assert_eq!(client.send(&push()).await.unwrap().status, 200);
    }
    let seen: HashSet<(usize, String)> = apple.seen().into_iter().map(|seen| (seen.connection, seen.bearer)).collect();
    assert_eq!(seen.len(), apple.server.connections(), "one token on each connection: {seen:?}");
    assert_eq!(client.stats().connections, 1);
}

#[tokio::test]
async fn a_clock_that_is_set_changes_nothing_while_apple_takes_the_token() {
    for by in [HOUR, -HOUR] {
        let apple = Apple::start(ACCEPT).await;
        let clocks = Clocks::new();
        let client = apple.client(&clocks);
        assert_eq!(client.send(&push()).await.unwrap().status, 200);
        clocks.set(by);
        assert_eq!(burst(&client, 50).await, 50);
        clocks.pass(20 * 60);
        assert_eq!(burst(&client, 50).await, 50);
        let seen = apple.seen();
        let tokens: HashSet<&str> = seen[1..51].iter().map(|seen| seen.bearer.as_str()).collect();
        assert_eq!(tokens, HashSet::from([seen[0].bearer.as_str()]), "{by}");
        // From 20 minutes on it may be replaced, and its `iat` is in doubt.
        let tokens: HashSet<&str> = seen.iter().map(|seen| seen.bearer.as_str()).collect();
        assert_eq!(tokens.len(), 2, "{by}");
        assert!(seen.iter().all(|seen| seen.connection == 0), "{by}");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_to_and_fro_mints_no_token_that_apple_did_not_ask_for() {
    let apple = Apple::start(ACCEPT).await;
    let clocks = Clocks::new();
    let client = apple.client(&clocks);
    for step in [-HOUR, 2 * HOUR, -2 * HOUR, 24 * HOUR, -24 * HOUR, HOUR] {
        assert_eq!(client.send(&push()).await.unwrap().status, 200);
        clocks.set(step);
        clocks.pass(60);
    }
    let tokens: HashSet<String> = apple.seen().into_iter().map(|seen| seen.bearer).collect();
    assert_eq!(tokens.len(), 1);
}
