//! APNs' words: an answer becomes an [`Outcome`].
//!
//! Stands between the APNs client, which hands over bytes, and [`crate::delivery`]. It never looks at the token: whether a
//! prune is allowed is [`crate::prune`]'s to say.
//!
//! An error answer of APNs is a JSON object with a `reason`. Anything else with an error status comes from a proxy or from a
//! server in trouble, whatever the status: [`Outcome::Unavailable`]. A reason nobody documented goes by its status:
//!
//! | status | outcome |
//! | --- | --- |
//! | 403 | unauthorized |
//! | 410 | gone, guarded |
//! | 429 | throttled, this device |
//! | 408, 5xx | unavailable |
//! | other 4xx | invalid |
//! | anything else | unknown |
//!
//! Source of [`DOCUMENTED`]: Apple, "Handling notification responses from APNs", and, for the broadcast reasons, "Handling
//! error responses from APNs" (never sent to Herald, known by name).

use std::time::Duration;

use serde_json::Value;

use super::words::{printable, retry_after};
use super::{Answer, Classified, Outcome, Scope};
use crate::time::Timestamp;

/// What a documented reason means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The token is bad or of another environment or app: as well the classic symptom of our own misconfiguration.
    BadToken,
    /// The token was unregistered, since the answer's `timestamp`.
    Unregistered,
    Invalid,
    Misconfigured,
    Unauthorized,
    DeviceThrottled,
    /// Our provider token changed too often. Mending itself: the client keeps the former one.
    ProviderThrottled,
    Unavailable,
    /// The connection had idled too long; the request was not processed.
    NotSent,
}

const DOCUMENTED: &[(u16, &str, Meaning)] = &[
    (400, "BadCollapseId", Meaning::Invalid),
    (400, "BadDeviceToken", Meaning::BadToken),
    (400, "BadExpirationDate", Meaning::Invalid),
    (400, "BadMessageId", Meaning::Invalid),
    (400, "BadPriority", Meaning::Invalid),
    (400, "BadTopic", Meaning::Misconfigured),
    (400, "DeviceTokenNotForTopic", Meaning::BadToken),
    (400, "DuplicateHeaders", Meaning::Invalid),
    (400, "IdleTimeout", Meaning::NotSent),
    (400, "InvalidPushType", Meaning::Invalid),
    (400, "MissingDeviceToken", Meaning::Invalid),
    (400, "MissingTopic", Meaning::Misconfigured),
    (400, "PayloadEmpty", Meaning::Invalid),
    (400, "TopicDisallowed", Meaning::Misconfigured),
    (403, "BadCertificate", Meaning::Unauthorized),
    (403, "BadCertificateEnvironment", Meaning::Unauthorized),
    // Documented with `Id`; the spelling without it is what the service was seen to send.
    (403, "BadEnvironmentKeyIdInToken", Meaning::Unauthorized),
    (403, "BadEnvironmentKeyInToken", Meaning::Unauthorized),
    (403, "ExpiredProviderToken", Meaning::Unauthorized),
    (403, "Forbidden", Meaning::Unauthorized),
    (403, "InvalidProviderToken", Meaning::Unauthorized),
    (403, "MissingProviderToken", Meaning::Unauthorized),
    (403, "UnrelatedKeyIdInToken", Meaning::Unauthorized),
    (404, "BadPath", Meaning::Invalid),
    (405, "MethodNotAllowed", Meaning::Invalid),
    (410, "ExpiredToken", Meaning::Unregistered),
    (410, "Unregistered", Meaning::Unregistered),
    (413, "PayloadTooLarge", Meaning::Invalid),
    (429, "TooManyProviderTokenUpdates", Meaning::ProviderThrottled),
    (429, "TooManyRequests", Meaning::DeviceThrottled),
    (500, "InternalServerError", Meaning::Unavailable),
    (503, "ServiceUnavailable", Meaning::Unavailable),
    (503, "Shutdown", Meaning::Unavailable),
    // Of the broadcast API.
    (400, "BadChannelId", Meaning::Invalid),
    (400, "BadRequestParams", Meaning::Invalid),
    (400, "BadRequestPayload", Meaning::Invalid),
    (400, "CannotCreateChannelConfig", Meaning::Invalid),
    (400, "ChannelNotRegistered", Meaning::Invalid),
    (400, "FeatureNotEnabled", Meaning::Invalid),
    (400, "MissingChannelId", Meaning::Invalid),
    (400, "MissingPushType", Meaning::Invalid),
    (403, "TopicMismatch", Meaning::Unauthorized),
    (503, "Service Unavailable", Meaning::Unavailable),
];

/// What this answer means. `now` is the store's time, for a `Retry-After` that is a date.
pub fn classify(answer: &Answer, now: Timestamp) -> Classified {
    let of = |outcome, reason, detail| Classified {
        outcome,
        status: Some(answer.status),
        reason,
        detail,
        provider_id: answer.provider_id.clone(),
    };
    if answer.status == 200 {
        return of(Outcome::Accepted, None, None);
    }
    let after = retry_after(answer, now);
    if !(400..600).contains(&answer.status) {
        return of(Outcome::Unknown, Some("other"), None);
    }
    let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or(Value::Null);
    let Some(reason) = body.get("reason").and_then(Value::as_str) else {
        return of(Outcome::Unavailable { after, least: Duration::ZERO }, Some("other"), None);
    };
    let since = body.get("timestamp").and_then(Value::as_i64).filter(|ms| *ms > 0).map(Timestamp::from_millis);
    match DOCUMENTED.iter().find(|(status, word, _)| *status == answer.status && *word == reason) {
        Some((_, word, meaning)) => of(outcome(*meaning, since, after), Some(word), None),
        None => {
            // A known word with another status is still a bounded label, but what it meant there need not hold here.
            let label = DOCUMENTED.iter().find(|(_, word, _)| *word == reason).map_or("other", |(_, word, _)| word);
            let detail = (label == "other").then(|| printable(reason));
            of(by_status(answer.status, since, after), Some(label), detail)
        }
    }
}

fn outcome(meaning: Meaning, since: Option<Timestamp>, after: Option<Duration>) -> Outcome {
    match meaning {
        Meaning::BadToken => Outcome::Gone { since: None, guarded: true },
        Meaning::Unregistered => Outcome::Gone { since, guarded: since.is_none() },
        Meaning::Invalid => Outcome::Invalid,
        Meaning::Misconfigured => Outcome::Misconfigured,
        Meaning::Unauthorized => Outcome::Unauthorized,
        Meaning::DeviceThrottled => Outcome::Throttled { scope: Scope::Device, after },
        Meaning::ProviderThrottled => Outcome::Throttled { scope: Scope::Provider, after },
        Meaning::Unavailable => Outcome::Unavailable { after, least: Duration::ZERO },
        Meaning::NotSent => Outcome::NotSent,
    }
}

fn by_status(status: u16, since: Option<Timestamp>, after: Option<Duration>) -> Outcome {
    match status {
        403 => Outcome::Unauthorized,
        410 => Outcome::Gone { since, guarded: true },
        429 => Outcome::Throttled { scope: Scope::Device, after },
        // 408: the request was not read in time, and may be repeated (RFC 9110 §15.5.9).
        408 | 500..=599 => Outcome::Unavailable { after, least: Duration::ZERO },
        400..=499 => Outcome::Invalid,
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests;
