//! Sends one push to one device through APNs, and prints the answer: to try a key, a topic and a token.
//!
//! The key's text is read from `HERALD_APNS_KEY`. `--url` and `--ca` point it at a simulator.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use herald_apns::{Client, Config};
use herald_core::ids::PushToken;
use herald_core::push::{ApnsPush, PushType};
use herald_core::subscription::Environment;
use herald_core::time::Timestamp;

const USAGE: &str = "HERALD_APNS_KEY=<text of the .p8> send_apns --team-id T --key-id K --topic BUNDLE --token HEX \
                     [--url https://api.sandbox.push.apple.com] [--ca ca.pem] [--raw]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1).cloned());
    let required = |name: &str| value(name).with_context(|| format!("{name} is missing; usage: {USAGE}"));
    let key =
        std::env::var("HERALD_APNS_KEY").with_context(|| format!("HERALD_APNS_KEY is not set; usage: {USAGE}"))?;
    let url = value("--url").unwrap_or_else(|| Config::production().to_owned());
    let mut config = Config::new(url, required("--team-id")?, required("--key-id")?, key, Arc::new(now));
    if let Some(path) = value("--ca") {
        config.ca_pem = Some(std::fs::read_to_string(&path).with_context(|| path)?);
    }
    let raw = arguments.iter().any(|a| a == "--raw");
    let body = if raw {
        serde_json::json!({"aps": {"content-available": 1}, "example": "herald"})
    } else {
        serde_json::json!({"aps": {"alert": {"title": "Herald", "body": "One push, sent by hand"}}})
    };
    let push = ApnsPush {
        token: PushToken::new(required("--token")?),
        environment: Environment::Production,
        topic: Arc::from(required("--topic")?),
        push_type: if raw { PushType::Background } else { PushType::Alert },
        priority: if raw { 5 } else { 10 },
        expiration: 0,
        collapse_id: "herald-example".to_owned(),
        id: uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, now().to_rfc3339().as_bytes()),
        body: body.to_string().into_bytes(),
    };
    let client = Client::new(config)?;
    let answer = client.send(&push).await;
    client.close().await;
    match answer {
        Ok(answer) => println!(
            "{} {} apns-id {}",
            answer.status,
            String::from_utf8_lossy(&answer.body),
            answer.provider_id.as_deref().unwrap_or("none")
        ),
        Err(undelivered) => bail!("no answer: {undelivered:?}"),
    }
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
