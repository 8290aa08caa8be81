//! Requests: what is refused names the field and the fix and repeats nothing; what is taken keeps every limit that a push
//! and the store rely on, and becomes a push that fits, on each platform and in each form.

use std::sync::Arc;

use herald_core::ids::{DeliveryId, NotificationId, PushToken, Unsid, UserId};
use herald_core::lane::Lane;
use herald_core::notification::Notification;
use herald_core::push::{self, Context, Form, MAX_PAYLOAD_BYTES};
use herald_core::request::{self, Envelope, Limits, MAX_LIFE, MAX_NAME_CHARS, Request, Target};
use herald_core::subscription::{Environment, Platform, Subscription, TokenKind};
use herald_core::time::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::SECRET;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// `apns-collapse-id`, in bytes.
const COLLAPSE_ID_LIMIT: usize = 64;
/// An `appNotificationId`, a colon and a hash in hexadecimal, where there is no `message_id`.
const KEY_LIMIT: usize = MAX_NAME_CHARS + 1 + 64;

/// Reads it, and holds what comes out to its limits.
///
/// # Panics
/// If something doesn't hold.
pub(crate) fn check(data: &[u8]) {
    let (head, body) = head_and_body(data);
    let property = |wanted: &str| {
        head.lines().filter_map(|line| line.split_once(": ")).find(|(name, _)| *name == wanted).map(|(_, value)| value)
    };
    let envelope = Envelope {
        message_id: property("message-id"),
        kind: property("type"),
        content_type: property("content-type"),
        content_encoding: property("content-encoding"),
        user_id: property("user-id"),
        unsid: property("x-uns-id"),
        traceparent: property("traceparent"),
        tracestate: property("tracestate"),
        foreign: property("task"),
    };
    match request::parse(body, &envelope, Lane::High, &Limits::default(), NOW) {
        Ok(request) => {
            limits(&request);
            pushes(&request);
        }
        Err(error) => {
            assert!(!error.field.is_empty() && !error.problem.is_empty(), "{error:?} says nothing");
            assert!(error.expired || !error.fix.is_empty(), "{error:?} has no fix");
            assert!(!error.to_string().contains(SECRET), "{error} repeats what it was given");
            assert!(error.to_string().len() < 1_024, "{} bytes of error", error.to_string().len());
        }
    }
}

/// What stands before the first empty line, if that is text; else all is body.
fn head_and_body(data: &[u8]) -> (&str, &[u8]) {
    let Some(at) = data.windows(2).position(|two| two == b"\n\n") else { return ("", data) };
    std::str::from_utf8(&data[..at]).map_or(("", data), |head| (head, &data[at + 2..]))
}

fn limits(request: &Request) {
    assert!(!request.app.as_str().is_empty());
    assert!(!request.key.is_empty() && request.key.chars().count() <= KEY_LIMIT, "{} characters", request.key.len());
    assert!(request.expires_at > NOW && request.expires_at <= NOW.plus(MAX_LIFE), "{:?}", request.expires_at);
    assert!(request.deliver_at.is_none_or(|at| at < request.expires_at), "{:?}", request.deliver_at);
    let payload = &request.content.payload;
    assert!(payload.raw.is_some() || payload.visual.is_some(), "nothing to tell");
    assert!(!request.content.target_policy.is_empty(), "it addresses nobody");
    // The store keeps it as JSON, and must read the same again.
    let stored = serde_json::to_string(&request.content).expect("it is made of text and numbers");
    assert_eq!(
        serde_json::from_str::<herald_core::notification::Content>(&stored).ok().as_ref(),
        Some(&request.content)
    );
}

fn pushes(request: &Request) {
    let user = match &request.target {
        Target::User(user) => user.clone(),
        Target::Unsid(_) => UserId::new("anna"),
    };
    let notification = Notification {
        id: NotificationId(Uuid::from_u128(7)),
        app: request.app.clone(),
        user,
        content: request.content.clone(),
        expires_at: request.expires_at,
    };
    for (platform, form) in [Platform::Ios, Platform::Android].into_iter().flat_map(|p| Form::ALL.map(|f| (p, f))) {
        let subscription = subscription(&notification, platform);
        let context = Context {
            notification: &notification,
            subscription: &subscription,
            delivery: DeliveryId(Uuid::from_u128(9)),
            form,
            not_after: None,
            receipt: "receipt",
            now: NOW,
        };
        match platform {
            Platform::Ios => {
                let push = push::apns::build(&context, &Arc::from("com.contoso.mail"));
                assert!(push.body.len() <= MAX_PAYLOAD_BYTES, "{} bytes", push.body.len());
                assert!(push.collapse_id.len() <= COLLAPSE_ID_LIMIT && header_text(&push.collapse_id));
                assert!(serde_json::from_slice::<Value>(&push.body).is_ok_and(|body| body["aps"].is_object()));
            }
            _ => {
                let body: Value = serde_json::from_slice(&push::fcm::build(&context).body).expect("JSON");
                let data = body["message"]["data"].as_object().expect("data");
                let text = |value: &Value| value.as_str().expect("data values are text").len();
                let size: usize = data.iter().map(|(key, value)| key.len() + text(value)).sum();
                assert!(size <= MAX_PAYLOAD_BYTES, "{size} bytes");
            }
        }
    }
}

fn header_text(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

fn subscription(notification: &Notification, platform: Platform) -> Subscription {
    Subscription {
        id: Unsid(Uuid::from_u128(8)),
        app: notification.app.clone(),
        user: notification.user.clone(),
        platform,
        token_kind: TokenKind::Token,
        token: PushToken::new("00ff00ff"),
        environment: Environment::Production,
        confirmed_at: NOW,
        expires_at: NOW.plus(MAX_LIFE),
    }
}
