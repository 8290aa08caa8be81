//! Requests for APNs.
//!
//! | form | push type | priority | `aps` |
//! | --- | --- | --- | --- |
//! | raw, state | background | 5 (10 is an error) | `content-available: 1` and nothing else |
//! | toast, alert | alert | 10 | alert, `mutable-content: 1`, sound, `thread-id`; never `content-available`, which would wake the app *and* show |
//!
//! Beside `aps` stands the object [`crate::payload`]. What does not fit [`MAX_PAYLOAD_BYTES`] goes without content and with
//! `fetch`; if the visible text alone is too long, it is cut. Source: Apple, "Sending notification requests to APNs" and
//! "Pushing background updates to your App".

use std::sync::Arc;

use serde::Serialize;

use super::{ApnsPush, Context, Form, MAX_PAYLOAD_BYTES, PushType, push_id};
use crate::notification::Visual;
use crate::payload::{self, Herald, Shown, json_bytes};
use crate::time::Timestamp;

/// Builds the request. A visible form of a notification without visible content (which no path makes) becomes a silent
/// push: there is nothing to show.
pub fn build(context: &Context<'_>, topic: &Arc<str>) -> ApnsPush {
    let visual = payload::visual(context);
    let (push_type, priority) = if visual.is_some() { (PushType::Alert, 10) } else { (PushType::Background, 5) };
    ApnsPush {
        token: context.subscription.token.clone(),
        environment: context.subscription.environment,
        topic: Arc::clone(topic),
        push_type,
        priority,
        expiration: expiration(context),
        collapse_id: payload::collapse_id(context.notification),
        id: push_id(context.delivery, context.form),
        body: body(Herald::whole(context), visual),
    }
}

/// Until when the provider may store this push: the notification's expiry; a raw push no later than its deadline
/// (rule 6 of the fallback); what is displayed no longer than it should be.
pub(super) fn stored_until(context: &Context<'_>) -> Timestamp {
    let displayed = context
        .notification
        .content
        .display_ttl
        .map(|secs| context.now.plus(std::time::Duration::from_secs(u64::from(secs))));
    let limit = match context.form {
        Form::Raw => context.not_after.into_iter().chain(displayed).min(),
        Form::Toast | Form::Alert => displayed,
        // What was read stays read, however short the notification was to be displayed.
        Form::State => None,
    };
    limit.map_or(context.notification.expires_at, |limit| limit.min(context.notification.expires_at))
}

/// `apns-expiration`. A limit within the second that runs becomes 0 (one attempt, never stored): the same second, rounded
/// down, would be a moment in the past, and APNs discards such a push without a word. One that passed stays in the past. A state
/// push is never stored.
fn expiration(context: &Context<'_>) -> i64 {
    // APNs stores one push for a device and app: what the person is to be told must not give way there to news of what they did.
    if context.form == Form::State {
        return 0;
    }
    let until = stored_until(context);
    if until >= context.now && until.secs() <= context.now.secs() { 0 } else { until.secs().max(1) }
}

fn body(whole: Herald<'_>, visual: Option<&Visual>) -> Vec<u8> {
    for herald in whole.by_size() {
        let body = encode(&herald, visual.map(Shown::whole));
        if body.len() <= MAX_PAYLOAD_BYTES {
            return body;
        }
        if let Some(visual) = visual.filter(|_| herald.fetch) {
            let frame = encode(&herald, Some(Shown::empty(visual))).len();
            let room = MAX_PAYLOAD_BYTES.checked_sub(frame);
            if let Some(shown) = room.and_then(|room| Shown::within(visual, room, json_bytes)) {
                return encode(&herald, Some(shown));
            }
        }
    }
    unreachable!("a bare push is some hundred bytes, and the start of a title fits beside it")
}

fn encode(herald: &Herald<'_>, shown: Option<Shown<'_>>) -> Vec<u8> {
    let aps = match shown {
        Some(alert) => Aps::Visible { alert, sound: "default", mutable_content: 1, thread_id: herald.group_name },
        None => Aps::Silent { content_available: 1 },
    };
    serde_json::to_vec(&Body { aps, herald }).expect("strings and numbers are always written")
}

#[derive(Serialize)]
struct Body<'a> {
    aps: Aps<'a>,
    herald: &'a Herald<'a>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "kebab-case")]
enum Aps<'a> {
    Visible {
        alert: Shown<'a>,
        sound: &'static str,
        mutable_content: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_id: Option<&'a str>,
    },
    Silent {
        content_available: u8,
    },
}

#[cfg(test)]
mod tests;
