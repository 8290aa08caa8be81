//! FCM's words: an answer of FCM HTTP v1 becomes an [`Outcome`].
//!
//! Stands between the FCM client, which hands over bytes, and [`crate::delivery`].
//!
//! The word that counts is the `errorCode` of the first `details` entry of type `google.firebase.fcm.v1.FcmError`. Only
//! with it can an answer be about the device: a 404, 403 or 401 **without** it is about us (wrong project, API disabled,
//! access token), and never costs a token. `error.status` and the HTTP status say the rest:
//!
//! | HTTP | with | outcome |
//! | --- | --- | --- |
//! | 200 | a message name | accepted |
//! | 400 | `INVALID_ARGUMENT` and nothing but the token to blame | gone, guarded |
//! | 400 | anything else | invalid |
//! | 401 | `THIRD_PARTY_AUTH_ERROR`, `APNS_AUTH_ERROR` | misconfigured |
//! | 403 | `SENDER_ID_MISMATCH` | gone, guarded |
//! | 404 | `UNREGISTERED` | gone, guarded: there is no timestamp |
//! | 404 | anything else, HTML too | misconfigured |
//! | 401, 403 | anything else, HTML too | unauthorized |
//! | 429 | | throttled: the device if the answer names it, else the provider; `Retry-After`, else 60 s |
//! | 408, 5xx | | unavailable: `Retry-After`, else 10 s |
//! | other 4xx | JSON | invalid |
//! | 400 and other 4xx | not JSON | unavailable, as long: a proxy or a front end, not FCM |
//! | anything else | a 200 without a name too | unknown |
//!
//! Source: Firebase, `ErrorCode` and "FCM error codes"; bodies as captured by bloomberg/pushiko; the order of parsing is
//! that of the Admin SDKs.

use std::time::Duration;

use serde_json::Value;

use super::words::{bounded, printable, retry_after};
use super::{Answer, Classified, Outcome, Scope};
use crate::time::Timestamp;

/// What Google asks for when a 429 has no `Retry-After`.
const DEFAULT_THROTTLE: Duration = Duration::from_secs(60);
/// What Google asks for between two tries of a push when an answer of a server in trouble has no `Retry-After` ("Scale
/// your FCM usage": its own calls take up to 10 s).
const PATIENCE: Duration = Duration::from_secs(10);
const FCM_ERROR: &str = "google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "google.rpc.BadRequest";
const QUOTA_FAILURE: &str = "google.rpc.QuotaFailure";

/// FCM's error codes, then Google's statuses (`google.rpc.Code`): what may become a label.
const DOCUMENTED: &[&str] = &[
    "UNSPECIFIED_ERROR",
    "INVALID_ARGUMENT",
    "UNREGISTERED",
    "SENDER_ID_MISMATCH",
    "QUOTA_EXCEEDED",
    "UNAVAILABLE",
    "INTERNAL",
    "THIRD_PARTY_AUTH_ERROR",
    "APNS_AUTH_ERROR",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "ABORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    "DATA_LOSS",
    "DEADLINE_EXCEEDED",
    "UNKNOWN",
];

/// What this answer means. `now` is the store's time, for a `Retry-After` that is a date.
pub fn classify(answer: &Answer, now: Timestamp) -> Classified {
    let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or(Value::Null);
    let of = |outcome| Classified {
        outcome,
        status: Some(answer.status),
        reason: Some("other"),
        detail: None,
        provider_id: answer.provider_id.clone(),
    };
    if answer.status == 200 {
        // A 200 of anything but FCM is no acceptance: without a message name nobody knows what became of the push.
        return match body.get("name").and_then(Value::as_str) {
            Some(name) => Classified { reason: None, provider_id: Some(bounded(name, 256)), ..of(Outcome::Accepted) },
            None => of(Outcome::Unknown),
        };
    }
    let error = ErrorBody::read(&body);
    let outcome = error.as_ref().and_then(|error| by_code(answer.status, error));
    let outcome = outcome.unwrap_or_else(|| by_status(answer, error.as_ref(), now));
    let word = error.as_ref().and_then(|error| error.code.or(error.status));
    let reason = word.and_then(|word| DOCUMENTED.iter().find(|known| **known == word)).copied();
    let detail = word.filter(|_| reason.is_none()).map(printable);
    Classified { reason: Some(reason.unwrap_or("other")), detail, ..of(outcome) }
}

/// What a documented `errorCode` at its documented status means, where that is more than the status says.
fn by_code(status: u16, error: &ErrorBody<'_>) -> Option<Outcome> {
    match (status, error.code?) {
        (400, "INVALID_ARGUMENT") if error.blames_the_token() => Some(Outcome::Gone { since: None, guarded: true }),
        // No timestamp exists, so the guard and the compare-and-clear are all that protect a token presented since.
        (404, "UNREGISTERED") | (403, "SENDER_ID_MISMATCH") => Some(Outcome::Gone { since: None, guarded: true }),
        (401, "THIRD_PARTY_AUTH_ERROR" | "APNS_AUTH_ERROR") => Some(Outcome::Misconfigured),
        _ => None,
    }
}

fn by_status(answer: &Answer, error: Option<&ErrorBody<'_>>, now: Timestamp) -> Outcome {
    let after = retry_after(answer, now);
    let least = if after.is_some() { Duration::ZERO } else { PATIENCE };
    let unavailable = Outcome::Unavailable { after, least };
    match answer.status {
        401 | 403 => Outcome::Unauthorized,
        404 => Outcome::Misconfigured,
        429 => Outcome::Throttled {
            scope: if error.is_some_and(ErrorBody::names_the_device) { Scope::Device } else { Scope::Provider },
            after: Some(after.unwrap_or(DEFAULT_THROTTLE)),
        },
        408 | 500..=599 => unavailable,
        400..=499 if error.is_some() => Outcome::Invalid,
        400..=499 => unavailable,
        _ => Outcome::Unknown,
    }
}

/// The `error` object, as far as it is read. Every part may be missing, of another type, or in another order.
struct ErrorBody<'a> {
    /// `errorCode` of the first FcmError.
    code: Option<&'a str>,
    /// `google.rpc.Code`.
    status: Option<&'a str>,
    message: &'a str,
    details: &'a [Value],
}

impl<'a> ErrorBody<'a> {
    fn read(body: &'a Value) -> Option<Self> {
        let error = body.get("error")?.as_object()?;
        let details = error.get("details").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let fcm_error = details.iter().find(|detail| is_a(detail, FCM_ERROR));
        Some(Self {
            code: fcm_error.and_then(|detail| detail.get("errorCode")).and_then(Value::as_str),
            status: error.get("status").and_then(Value::as_str),
            message: error.get("message").and_then(Value::as_str).unwrap_or_default(),
            details,
        })
    }

    fn texts(&self, kind: &'static str, list: &'static str, key: &'static str) -> impl Iterator<Item = &'a str> {
        let details = self.details.iter().filter(move |detail| is_a(detail, kind));
        let entries = details.filter_map(move |detail| detail.get(list)?.as_array()).flatten();
        entries.filter_map(move |entry| entry.get(key)?.as_str())
    }

    /// Is the token at fault, and nothing else? If a field of the payload is named too, the fault may be ours.
    fn blames_the_token(&self) -> bool {
        let mut fields = self.texts(BAD_REQUEST, "fieldViolations", "field").peekable();
        if fields.peek().is_some() {
            return fields.all(|field| matches!(field, "message.token" | "message.fid"));
        }
        self.message.contains("not a valid FCM registration token")
    }

    /// Was it this device that got too many?
    fn names_the_device(&self) -> bool {
        let subjects = self.texts(QUOTA_FAILURE, "violations", "subject");
        let descriptions = self.texts(QUOTA_FAILURE, "violations", "description");
        subjects.chain(descriptions).chain([self.message]).any(|text| text.to_ascii_lowercase().contains("device"))
    }
}

fn is_a(detail: &Value, kind: &str) -> bool {
    let name = detail.get("@type").and_then(Value::as_str).unwrap_or_default();
    name.rsplit('/').next() == Some(kind)
}

#[cfg(test)]
mod tests;
