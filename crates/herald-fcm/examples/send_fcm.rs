//! Sends one push to one device through FCM, and prints the answer: to try a service account and a token.
//!
//! `--url` and `--ca` point it at a simulator; the service account's own `token_uri` says where its access token comes from.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use herald_core::push::FcmPush;
use herald_core::time::Timestamp;
use herald_fcm::{Client, Config};

const USAGE: &str =
    "send_fcm --service-account account.json --token T [--url https://fcm.googleapis.com] [--ca ca.pem]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1).cloned());
    let required = |name: &str| value(name).with_context(|| format!("{name} is missing; usage: {USAGE}"));
    let read = |path: String| std::fs::read_to_string(&path).with_context(|| path);
    let url = value("--url").unwrap_or_else(|| Config::google().to_owned());
    let mut config = Config::new(url, read(required("--service-account")?)?, Arc::new(now));
    config.ca_pem = value("--ca").map(read).transpose()?;
    let body = serde_json::json!({"message": {
        "token": required("--token")?,
        "data": {"example": "herald"},
        "android": {"priority": "HIGH", "ttl": "0s"},
    }});
    let client = Client::new(config)?;
    let answer = client.send(&FcmPush { body: body.to_string().into_bytes() }).await;
    client.close().await;
    let answer = answer?;
    println!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
