//! Requests for FCM HTTP v1.
//!
//! | form | `android.priority` | shown by the OS |
//! | --- | --- | --- |
//! | raw, state | HIGH for priority High, else NORMAL; state always NORMAL | no |
//! | alert, toast | HIGH | `android.notification` with title, body and a `tag` that makes a newer one replace it |
//!
//! There is one data key, `herald`, whose value is the object [`crate::payload`] as JSON text: data values are strings only,
//! and no key of ours is one of FCM's reserved ones (`from`, `message_type`, `google…`, `gcm…`).
//!
//! No `collapse_key`: a device keeps four distinct ones at most, and a fifth evicts one unpredictably, so a key per
//! notification would lose pushes; collapsible pushes are held back after a burst of 20; and a message with a notification
//! ignores it. The `tag` replaces what is on the screen, which is what collapsing is for here.
//!
//! Source: Firebase, REST reference `projects.messages` and "Set the lifespan of a message".

use std::time::Duration;

use serde::Serialize;

use super::apns::stored_until;
use super::{Context, FcmPush, Form, MAX_PAYLOAD_BYTES};
use crate::notification::{Priority, Visual};
use crate::payload::{self, Herald, Shown, plain_bytes};
use crate::subscription::TokenKind;

/// The longest life that FCM gives a message: 28 days.
const MAX_TTL: Duration = Duration::from_secs(28 * 24 * 60 * 60);

/// Builds the request.
pub fn build(context: &Context<'_>) -> FcmPush {
    let visual = payload::visual(context);
    let tag = visual.map(|_| payload::collapse_id(context.notification)).unwrap_or_default();
    let (text, shown) = fit(Herald::whole(context), visual, &tag);
    let (token, fid) = match context.subscription.token_kind {
        TokenKind::Token => (Some(context.subscription.token.expose()), None),
        TokenKind::Fid => (None, Some(context.subscription.token.expose())),
    };
    let body = Body {
        message: Message {
            token,
            fid,
            data: Data { herald: &text },
            android: Android {
                priority: priority(context),
                ttl: ttl(context),
                notification: shown.map(|shown| Notification { shown, tag: &tag }),
            },
        },
    };
    FcmPush { body: serde_json::to_vec(&body).expect("strings are always written") }
}

/// HIGH wakes the phone from Doze. Google lowers an app instance whose HIGH messages show nothing, so it is kept for what
/// is visible or was asked for.
fn priority(context: &Context<'_>) -> &'static str {
    match (context.form, context.notification.content.priority) {
        (Form::Toast | Form::Alert, _) | (Form::Raw, Priority::High) => "HIGH",
        (Form::Raw, Priority::None | Priority::Low) | (Form::State, _) => "NORMAL",
    }
}

/// A duration in whole seconds, rounded down. `0s` is now or never.
fn ttl(context: &Context<'_>) -> String {
    format!("{}s", stored_until(context).since(context.now).min(MAX_TTL).as_secs())
}

/// The object as text, and what is shown beside it, so that both together are no larger than FCM takes.
fn fit<'a>(whole: Herald<'a>, visual: Option<&'a Visual>, tag: &str) -> (String, Option<Shown<'a>>) {
    for herald in whole.by_size() {
        let text = serde_json::to_string(&herald).expect("strings and numbers are always written");
        let shown = visual.map(Shown::whole);
        if payload_bytes(&text, shown.as_ref(), tag) <= MAX_PAYLOAD_BYTES {
            return (text, shown);
        }
        if let Some(visual) = visual.filter(|_| herald.fetch) {
            let frame = payload_bytes(&text, Some(&Shown::empty(visual)), tag);
            let room = MAX_PAYLOAD_BYTES.checked_sub(frame);
            if let Some(shown) = room.and_then(|room| Shown::within(visual, room, plain_bytes)) {
                return (text, Some(shown));
            }
        }
    }
    unreachable!("a bare push is some hundred bytes, and the start of a title fits beside it")
}

/// What counts towards the limit: keys and values of `data`. How FCM counts a notification's fields is not documented;
/// counting their keys and values too is never too little.
fn payload_bytes(text: &str, shown: Option<&Shown<'_>>, tag: &str) -> usize {
    let notification = shown.map_or(0, |shown| {
        let body = shown.body.as_ref().map_or(0, |body| "body".len() + body.len());
        "title".len() + shown.title.len() + body + "tag".len() + tag.len()
    });
    payload::KEY.len() + text.len() + notification
}

#[derive(Serialize)]
struct Body<'a> {
    message: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fid: Option<&'a str>,
    data: Data<'a>,
    android: Android<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    herald: &'a str,
}

#[derive(Serialize)]
struct Android<'a> {
    priority: &'static str,
    ttl: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<Notification<'a>>,
}

#[derive(Serialize)]
struct Notification<'a> {
    #[serde(flatten)]
    shown: Shown<'a>,
    tag: &'a str,
}

#[cfg(test)]
mod tests;
