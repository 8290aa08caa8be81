//! The demo's script: makes the phones, registers them, publishes one request for each person as a producer does, or posts it
//! as an app's service does.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use herald_core::ids::{AppId, PushToken, Unsid, UserId};
use herald_core::lane::Lane;
use herald_core::subscription::{self, Environment, TokenKind};
use herald_queue::topology::lane_key;
use herald_queue::{Exchange, Outgoing, Publisher};
use herald_simulator::{Condition, PhoneChange, PhoneSpec, Platform, Simulator};
use herald_store::{NewSubscription, Store};
use serde_json::{Value, json};

use super::cast::{APP, BODY, CAST, Person, TITLE};
use super::post::Service;
use crate::connect;
use crate::failure::Failure;

/// `type` of a request.
const KIND: &str = "herald.notification.v1";
/// How long an app takes to handle a push before it sends its receipt.
const ACK_DELAY_MS: u64 = 250;
/// How long the subscriptions hold: longer than any demo.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Makes each person's phone and registers it. Says which phone each subscription is of.
///
/// # Errors
/// As any call of the store.
pub(super) async fn set_up(simulator: &Simulator, store: &Store) -> anyhow::Result<HashMap<Unsid, String>> {
    let mut phones = HashMap::new();
    for person in &CAST {
        let unsid = register(person, simulator, store).await.with_context(|| person.name.to_owned())?;
        phones.insert(unsid, person.name.to_owned());
    }
    Ok(phones)
}

async fn register(person: &Person, simulator: &Simulator, store: &Store) -> anyhow::Result<Unsid> {
    let uninstalled = person.condition == Condition::Uninstalled;
    let phone = PhoneSpec {
        // An app that is not there can't register: it is uninstalled afterwards.
        condition: if uninstalled { Condition::Awake } else { person.condition },
        ack_delay_ms: ACK_DELAY_MS,
        ..PhoneSpec::new(APP, person.platform)
    };
    let token = simulator.add_phone(person.name, &phone)?.token;
    let new = NewSubscription {
        app: AppId::new(APP),
        user: UserId::new(person.name),
        platform: match person.platform {
            Platform::Ios => subscription::Platform::Ios,
            Platform::Android => subscription::Platform::Android,
        },
        token_kind: TokenKind::Token,
        token: PushToken::new(token),
        environment: Environment::Production,
        expires_at: store.clock().now().plus(LIFE),
        unsid: None,
    };
    let made = store.subscribe(new).await.map_err(connect::store_failure)?;
    if uninstalled {
        // A 410 whose time is not after the registration would prove nothing (herald-core/src/prune.rs).
        let since = u64::try_from(made.confirmed_at.micros() / 1_000)? + 1;
        let change = PhoneChange {
            condition: Some(Condition::Uninstalled),
            unregistered_at_ms: Some(since),
            ..PhoneChange::default()
        };
        simulator.change_phone(person.name, &change)?;
    }
    Ok(made.id)
}

/// The idempotency key of a person's notification.
pub(super) fn key(person: &Person) -> String {
    format!("demo-{}", person.name)
}

/// Sends a request for each person; `after`: when the toast is due.
///
/// # Errors
/// [`Failure::Unavailable`] if the queue does not take them; if the gateway does not.
pub(super) async fn send(publisher: &Publisher, service: &Service, after: Duration) -> anyhow::Result<()> {
    let (posted, published): (Vec<&Person>, Vec<&Person>) = CAST.iter().partition(|person| person.over_http);
    for person in posted {
        service.post(person.name, key(person), &body(person, after)).await?;
    }
    let requests = published.into_iter().map(|person| Outgoing {
        message_id: Some(key(person)),
        kind: Some(KIND.to_owned()),
        ..Outgoing::json(Exchange::Requests, lane_key(Lane::High), body(person, after).to_string())
    });
    for published in publisher.publish_all(requests.collect()).await {
        published.map_err(|error| Failure::Unavailable(error.into()))?;
    }
    Ok(())
}

fn body(person: &Person, after: Duration) -> Value {
    let mut body = json!({
        "targetHostName": APP,
        "appNotificationId": "order-1042",
        "priority": "High",
        "payload": { "rawContent": "{\"order\":1042}" },
        "fallbackPolicy": { "endpointFallback": {
            "platformTypes": ["ios"],
            "fallbackDelayInSeconds": after.as_secs(),
            "visualContent": { "title": TITLE, "body": BODY },
        }},
    });
    // Over HTTP the path says it.
    if !person.over_http {
        body["target"] = json!({ "userId": person.name });
    }
    body
}
