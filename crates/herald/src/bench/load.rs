//! The work of a bench: users with one device each, and requests to tell them something silently.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use herald_core::ids::{AppId, PushToken, UserId};
use herald_core::subscription::{Environment, Platform, Provider, Subscription, TokenKind};
use herald_core::time::Timestamp;
use herald_queue::topology::lane_key;
use herald_queue::{Exchange, Outgoing, Queue, Source};
use herald_store::{NewSubscription, Store};
use serde_json::json;
use uuid::Uuid;

use super::servers::FILLED;
use super::simulator::APP;

/// When subscriptions and notifications end by themselves, if the bench can't end them.
pub(super) const LIFE: Duration = Duration::from_secs(60 * 60);
/// What each notification carries to the app.
pub(super) const RAW_CONTENT: &str = r#"{"order":1042,"state":"shipped","carrier":"Contoso","arrives":"2026-12-01"}"#;

/// `type` of a request.
const KIND: &str = "herald.notification.v1";
/// Requests whose confirms are awaited together.
const BATCH: u64 = 500;
/// Subscriptions that are ended side by side.
const ENDS: usize = 8;

/// Registers `count` users with one device each, dealt out to `providers` in turn. Users and tokens are the same in every
/// run, so that a run that could not clean up leaves nothing to the next.
///
/// # Errors
/// As any call of the store.
pub(super) async fn subscribe(store: &Store, count: u64, providers: &[Provider]) -> anyhow::Result<Vec<Subscription>> {
    let expires_at = store.clock().now().plus(LIFE);
    let new: Vec<NewSubscription> =
        (0..count).zip(providers.iter().cycle()).map(|(n, p)| device(n, *p, expires_at)).collect();
    store.subscribe_many(&new).await.context("subscriptions for the bench")
}

/// Ends them: their open deliveries are withdrawn. What can't be ended ends within [`LIFE`].
pub(super) async fn unsubscribe(store: &Store, subscriptions: &[Subscription]) {
    let ends = stream::iter(subscriptions).map(|subscription| store.end(subscription.id)).buffer_unordered(ENDS);
    let failed = ends.filter_map(async |ended| ended.err()).collect::<Vec<_>>().await;
    if let Some(error) = failed.first() {
        tracing::warn!(count = failed.len(), %error, "subscriptions of the bench could not be ended; they end within the hour");
    }
}

/// Publishes `count` requests, each with its confirm, to the users in turn. Their keys are new ones.
///
/// # Errors
/// When one is not confirmed.
pub(super) async fn publish(queue: &Queue, order: &Order, count: u64) -> anyhow::Result<()> {
    let publisher = queue.publisher();
    for begin in (0..count).step_by(usize::try_from(BATCH).expect("some hundreds")) {
        let batch = (begin..count.min(begin + BATCH)).map(|n| order.request(n)).collect();
        for confirmed in publisher.publish_all(batch).await {
            confirmed.context("a request of the bench")?;
        }
    }
    Ok(())
}

/// What all requests of a run have in common.
pub(super) struct Order {
    /// The producer, as the broker knows it.
    pub(super) login: Option<String>,
    pub(super) users: u64,
    pub(super) expires_at: Timestamp,
}

impl Order {
    fn request(&self, n: u64) -> Outgoing {
        let body = json!({
            "target": { "userId": user(n % self.users).as_str() },
            "targetHostName": APP,
            "appNotificationId": format!("order-{n}"),
            "expirationDateTime": self.expires_at.to_rfc3339(),
            "payload": { "rawContent": RAW_CONTENT },
            "targetPolicy": { "platformTypes": ["ios", "android"] },
        });
        let Source::Requests(lane) = FILLED else { unreachable!("requests are what is filled in") };
        Outgoing {
            message_id: Some(Uuid::now_v7().to_string()),
            kind: Some(KIND.to_owned()),
            user_id: self.login.clone(),
            ..Outgoing::json(Exchange::Requests, lane_key(lane), body.to_string())
        }
    }
}

/// The n-th of the bench's users.
pub(super) fn user(n: u64) -> UserId {
    UserId::new(format!("bench-{n:07}"))
}

fn device(n: u64, provider: Provider, expires_at: Timestamp) -> NewSubscription {
    let (platform, token) = match provider {
        Provider::Apns => (Platform::Ios, format!("{n:064x}")),
        Provider::Fcm => (Platform::Android, format!("bench{n:017}:APA91b{n:0134}")),
    };
    NewSubscription {
        app: AppId::new(APP),
        user: user(n),
        platform,
        token_kind: TokenKind::Token,
        token: PushToken::new(token),
        environment: Environment::Production,
        expires_at,
        unsid: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use herald_core::lane::Lane;
    use herald_core::request::{Envelope, Limits, parse};

    use super::*;

    #[test]
    fn a_request_of_the_bench_keeps_the_contract() {
        let now = Timestamp::from_secs(1_800_000_000);
        let order = Order { login: Some("herald".to_owned()), users: 5, expires_at: now.plus(LIFE) };
        let outgoing = order.request(7);
        let envelope = Envelope {
            message_id: outgoing.message_id.as_deref(),
            kind: outgoing.kind.as_deref(),
            content_type: Some(outgoing.content_type),
            ..Default::default()
        };
        let parsed = parse(&outgoing.body, &envelope, Lane::Normal, &Limits::default(), now);
        assert!(parsed.is_ok(), "{:?}", parsed.err());
    }

    #[test]
    fn each_device_has_a_token_of_its_own_that_looks_like_its_providers() {
        let now = Timestamp::from_secs(0);
        let tokens: HashSet<String> =
            (0..100).map(|n| device(n, Provider::ALL[n as usize % 2], now).token.expose().to_owned()).collect();
        assert_eq!(tokens.len(), 100);
        assert_eq!(device(1, Provider::Apns, now).token.expose().len(), 64);
        assert_eq!(device(1, Provider::Fcm, now).token.expose().len(), 163);
    }
}
