//! Clients for the server of frames, and what they send.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herald_apns::{Client, Config};
use herald_core::ids::PushToken;
use herald_core::outcome::Undelivered;
use herald_core::push::{ApnsPush, PushType};
use herald_core::subscription::Environment;
use herald_core::time::Timestamp;
use herald_harness::frames::Server;
use herald_harness::wait::until;
use tokio::task::JoinSet;

/// How long what a test waits for may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A client for the server, after `change`.
pub(crate) fn client(server: &Server, change: impl FnOnce(&mut Config)) -> Client {
    let mut config = config(server.address, &server.ca_pem);
    change(&mut config);
    Client::new(config).unwrap()
}

pub(crate) fn config(address: SocketAddr, ca_pem: &str) -> Config {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let url = format!("https://localhost:{}", address.port());
    let mut config = Config::new(url, "TEAM123456", "KEY1234567", key, Arc::new(wall_clock));
    config.connect_to = Some(address);
    config.ca_pem = Some(ca_pem.to_owned());
    config.request_timeout = Duration::from_secs(30);
    config
}

pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
}

pub(crate) fn push() -> ApnsPush {
    ApnsPush {
        token: PushToken::new("00ff00ff"),
        environment: Environment::Production,
        topic: Arc::from("com.contoso.mail"),
        push_type: PushType::Alert,
        priority: 10,
        expiration: 0,
        collapse_id: "order-1042".to_owned(),
        id: uuid::Uuid::from_u128(1042),
        body: br#"{"aps":{"alert":"hello"}}"#.to_vec(),
    }
}

/// `count` pushes at once; how many were answered with 200.
pub(crate) async fn burst(client: &Client, count: usize) -> usize {
    let mut sends = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        sends.spawn(async move { client.send(&push()).await });
    }
    let mut accepted = 0;
    while let Some(sent) = sends.join_next().await {
        accepted += usize::from(sent.unwrap().is_ok_and(|answer| answer.status == 200));
    }
    accepted
}

/// A push whose body says which it is.
pub(crate) fn push_number(number: usize) -> ApnsPush {
    ApnsPush { body: format!("{{\"number\":{number}}}").into_bytes(), ..push() }
}

/// `count` pushes at once, by number; what each came to.
pub(crate) async fn numbered(client: &Client, count: usize) -> Vec<Result<u16, Undelivered>> {
    let mut sends = JoinSet::new();
    for number in 0..count {
        let client = client.clone();
        sends.spawn(async move { (number, client.send(&push_number(number)).await.map(|answer| answer.status)) });
    }
    let mut outcomes = sends.join_all().await;
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// How often the server read each body.
pub(crate) fn times_read(server: &Server) -> Vec<usize> {
    let mut times = HashMap::new();
    for request in server.seen().requests {
        *times.entry(request.body).or_insert(0) += 1;
    }
    let mut times: Vec<usize> = times.into_values().collect();
    times.sort_unstable();
    times
}

/// Sends until the rest after a failed connect is over.
pub(crate) async fn send_when_rested(client: &Client) -> u16 {
    let sent = tokio::time::timeout(LIMIT, async {
        loop {
            match client.send(&push()).await {
                Ok(answer) => return answer.status,
                Err(Undelivered::NotSent) => tokio::task::yield_now().await,
                Err(Undelivered::Unknown) => {
                    panic!("a push came to nothing that should have been answered or not sent")
                }
            }
        }
    });
    sent.await.expect("a push is sent within a minute")
}

/// Waits until the client uses none of its connections any more.
pub(crate) async fn until_left(client: &Client) {
    until(LIMIT, "all connections to be left", async || client.stats().connections == 0).await.unwrap();
}
