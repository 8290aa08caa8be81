//! What FCM does of its own accord, and doesn't unless a test asks for it: quotas, ends of connections, choices of words.
//!
//! Values only. Numbers: Firebase, "Throttling and quotas" and "Scale your FCM usage".

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The rules in force. All are off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FcmRules {
    /// In which of the words that were seen a token is refused that FCM can't have made.
    pub invalid_token_wording: InvalidTokenWording,
    /// The details of an error come in the other order: both were seen.
    pub details_reversed: bool,
    /// `QUOTA_EXCEEDED` for a project that sends more than this.
    pub project_quota: Option<ProjectQuota>,
    /// `QUOTA_EXCEEDED` for a device that gets more than this.
    pub device_rate: Option<FcmDeviceRate>,
    /// How a `QUOTA_EXCEEDED` of these two says when to come again.
    pub retry_after: RetryAfter,
    /// A connection without requests for so long is ended with GOAWAY (`NO_ERROR`), in milliseconds; 0: never. Meets new
    /// connections.
    pub idle_close_ms: u64,
}

impl FcmRules {
    /// What is wrong with them.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.project_quota.is_some_and(|quota| quota.per_minute == 0) {
            return Some("fcm.projectQuota: perMinute must be 1 at least");
        }
        if self.device_rate.is_some_and(|rate| rate.per_minute == 0 || rate.per_hour == 0) {
            return Some("fcm.deviceRate: perMinute and perHour must be 1 at least");
        }
        None
    }
}

/// Two bodies of the same refusal, each seen from the real service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InvalidTokenWording {
    /// The message is general, and a BadRequest detail names the field (captured by bloomberg/pushiko).
    #[default]
    Violation,
    /// The message says it, and there is no BadRequest detail.
    Sentence,
}

/// So many messages of a project in a minute. The minute is the project's own: it begins with its first message, not with
/// that of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProjectQuota {
    /// How many; messages that are refused with 4xx count, those refused with 429 don't.
    pub per_minute: u64,
}

impl Default for ProjectQuota {
    fn default() -> Self {
        Self { per_minute: 600_000 }
    }
}

/// So many messages to one device, counted as a project's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FcmDeviceRate {
    /// In a minute.
    pub per_minute: u64,
    /// In an hour.
    pub per_hour: u64,
}

impl Default for FcmDeviceRate {
    fn default() -> Self {
        Self { per_minute: 240, per_hour: 5_000 }
    }
}

/// The header `Retry-After` (RFC 9110 §10.2.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryAfter {
    /// The seconds until there is room.
    #[default]
    Seconds,
    /// The date, by the simulator's clock.
    Date,
    /// None; a client is to wait a minute then.
    Absent,
}

impl RetryAfter {
    /// Its value, if there is one, for somebody who may come again `secs` seconds after `now` (seconds since 1970).
    pub(super) fn header(self, now: i64, secs: u64) -> Option<Box<str>> {
        match self {
            Self::Seconds => Some(secs.to_string().into()),
            Self::Date => {
                let then = now.saturating_add(i64::try_from(secs).unwrap_or(i64::MAX));
                let date = OffsetDateTime::from_unix_timestamp(then).ok()?.format(&Rfc2822).ok()?;
                // RFC 9110 §5.6.7: the same form, but for the zone's name.
                Some(date.replace("+0000", "GMT").into())
            }
            Self::Absent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_seconds_or_a_date_of_http_or_absent() {
        let now = 784_111_777 - 37;
        assert_eq!(RetryAfter::Seconds.header(now, 37).as_deref(), Some("37"));
        assert_eq!(RetryAfter::Date.header(now, 37).as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(RetryAfter::Absent.header(now, 37), None);
    }
}
