//! What an app reads, to the letter.

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::ids::{AppId, DeliveryId, PushToken, Unsid, UserId};
use crate::notification::{Content, FallbackPolicy, Payload, Priority};
use crate::subscription::{Environment, Platform, PlatformSet, Subscription, TokenKind};
use crate::time::Timestamp;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
pub(crate) const RECEIPT: &str = "AQJrMQGSqqq7u3zMjd3u7v__AAFrSdIAGUHV2jN2Dkr3X_j1FF8iag";

/// A notification with a device and a delivery, to be changed by a test where it matters.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) notification: Notification,
    pub(crate) subscription: Subscription,
    pub(crate) form: Form,
    pub(crate) not_after: Option<Timestamp>,
}

pub(crate) fn visual(title: &str, body: Option<&str>) -> Visual {
    Visual { title: title.to_owned(), body: body.map(str::to_owned) }
}

impl Sample {
    pub(crate) fn new(form: Form) -> Self {
        let content = Content {
            app_notification_id: Some("order-1042".to_owned()),
            group_name: Some("orders".to_owned()),
            priority: Priority::High,
            payload: Payload { raw: Some("raw".to_owned()), visual: Some(visual("Title", Some("Body"))) },
            display_ttl: None,
            target_policy: PlatformSet::ALL,
            fallback: Some(FallbackPolicy {
                platforms: PlatformSet::EMPTY.with(Platform::Ios),
                delay: std::time::Duration::from_secs(60),
                visual: visual("Order shipped", Some("Arrives Tuesday")),
            }),
            traceparent: None,
            tracestate: None,
        };
        let notification = Notification {
            id: NotificationId(Uuid::from_u128(7)),
            app: AppId::new("mail.contoso.com"),
            user: UserId::new("user-1"),
            content,
            expires_at: NOW.plus(std::time::Duration::from_secs(7 * 86_400)),
        };
        let subscription = Subscription {
            id: Unsid(Uuid::from_u128(8)),
            app: AppId::new("mail.contoso.com"),
            user: UserId::new("user-1"),
            platform: Platform::Ios,
            token_kind: TokenKind::Token,
            token: PushToken::new("00ff00ff"),
            environment: Environment::Sandbox,
            confirmed_at: NOW,
            expires_at: NOW.plus(std::time::Duration::from_secs(86_400)),
        };
        Self { notification, subscription, form, not_after: None }
    }

    pub(crate) fn raw(mut self, raw: impl Into<String>) -> Self {
        self.notification.content.payload.raw = Some(raw.into());
        self
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            notification: &self.notification,
            subscription: &self.subscription,
            delivery: DeliveryId(Uuid::from_u128(9)),
            form: self.form,
            not_after: self.not_after,
            receipt: RECEIPT,
            now: NOW,
        }
    }
}

/// Anything that a store might hand over, far beyond what a request may say.
pub(crate) fn any_sample() -> impl Strategy<Value = Sample> {
    let text = prop_oneof![".{0,40}", "[\"\\\\\\x00-\\x1f]{0,900}", "\\PC{0,2000}", "[a-z]{3000,9000}"];
    let optional = || proptest::option::of(text.clone());
    let names = (optional(), optional());
    (proptest::sample::select(&Form::ALL), names, optional(), (text.clone(), optional()), proptest::option::of(0_u32..))
        .prop_map(|(form, (id, group), raw, (title, body), display_ttl)| {
            let mut sample = Sample::new(form);
            let content = &mut sample.notification.content;
            content.app_notification_id = id;
            content.group_name = group;
            content.payload = Payload { raw, visual: Some(Visual { title, body }) };
            content.display_ttl = display_ttl;
            content.fallback = None;
            sample
        })
}

#[test]
fn the_object_of_version_1_has_these_keys() {
    let check = |sample: &Sample, expected| {
        assert_eq!(serde_json::to_value(Herald::whole(&sample.context())).unwrap(), expected);
    };
    let mut sample = Sample::new(Form::Raw);
    sample.notification.content.display_ttl = Some(600);
    let id = "00000000-0000-0000-0000-000000000007";
    let whole = json!({"version": 1, "form": "raw", "notificationId": id, "appNotificationId": "order-1042",
        "groupName": "orders", "displayTimeToLive": 600, "receipt": RECEIPT, "content": "raw"});
    check(&sample, whole);

    let mut least = Sample::new(Form::Alert);
    least.notification.content.app_notification_id = None;
    least.notification.content.group_name = None;
    least.notification.content.payload.raw = None;
    check(&least, json!({"version": 1, "form": "alert", "notificationId": id, "receipt": RECEIPT}));

    let state = json!({"version": 1, "form": "state", "notificationId": id, "appNotificationId": "order-1042",
        "groupName": "orders", "receipt": RECEIPT, "fetch": true});
    check(&Sample::new(Form::State), state);
}

#[test]
fn a_toast_shows_the_fallback_and_an_alert_the_payload() {
    let title = |form| visual_title(&Sample::new(form));
    assert_eq!(title(Form::Toast).as_deref(), Some("Order shipped"));
    assert_eq!(title(Form::Alert).as_deref(), Some("Title"));
    assert_eq!(title(Form::Raw), None);
    assert_eq!(title(Form::State), None);
}

fn visual_title(sample: &Sample) -> Option<String> {
    super::visual(&sample.context()).map(|visual| visual.title.clone())
}

#[test]
fn a_collapse_id_is_stable_and_of_app_user_and_app_notification_id() {
    let id = |change: fn(&mut Notification)| {
        let mut notification = Sample::new(Form::Raw).notification;
        change(&mut notification);
        collapse_id(&notification)
    };
    let base = id(|_| {});
    // Pinned: a change would leave the toasts that are on screens when Herald is upgraded unreplaced.
    assert_eq!(base, "hs2Vyq7eIOusvtlHuJYAPuuOaUn37ssiQBbCK1OKRcs");
    assert_eq!(base.len(), 43);
    assert_eq!(base, id(|n| n.id = NotificationId(Uuid::from_u128(99))), "a newer notification replaces the older one");
    assert_eq!(base, id(|n| n.content.payload.raw = None));
    let others = [
        id(|n| n.app = AppId::new("other.example")),
        id(|n| n.user = UserId::new("user-2")),
        id(|n| n.content.app_notification_id = Some("order-1".to_owned())),
        id(|n| n.content.app_notification_id = Some("7".to_owned())),
        id(|n| n.content.app_notification_id = None),
        id(|n| {
            n.content.app_notification_id = None;
            n.id = NotificationId(Uuid::from_u128(99));
        }),
        id(|n| {
            n.app = AppId::new("mail.contoso.comuser");
            n.user = UserId::new("-1");
        }),
    ];
    let distinct: std::collections::BTreeSet<_> = others.iter().chain([&base]).collect();
    assert_eq!(distinct.len(), others.len() + 1);
}
