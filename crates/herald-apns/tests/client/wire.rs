//! Clients for the server of frames, and what they send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herald_apns::{Client, Config};
use herald_core::ids::PushToken;
use herald_core::push::{ApnsPush, PushType};
use herald_core::subscription::Environment;
use herald_core::time::Timestamp;
use herald_harness::frames::Server;
use tokio::task::JoinSet;

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
