//! What APNs does of its own accord, and doesn't unless a test asks for it: limits, ends of connections, choices of
//! words.
//!
//! Values only. Apple documents the behaviours and none of the numbers.

use serde::{Deserialize, Serialize};

/// The rules in force. All are off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ApnsRules {
    /// What becomes of a push whose type doesn't reflect its payload; absent: `error` if strict, else `accept`.
    pub mismatch: Option<Mismatch>,
    /// `TooManyRequests` for a device that gets more than this.
    pub device_rate: Option<DeviceRate>,
    /// After errors of this weight a connection is ended (GOAWAY without a reason in it); 0: never. An answer of 4xx
    /// weighs 1, `BadDeviceToken` as below, 410 nothing.
    pub errors_until_disconnect: u64,
    /// What `BadDeviceToken` weighs; 0: as any other.
    pub bad_device_token_weight: u64,
    /// A connection without requests for so long is ended, in milliseconds; 0: never. Meets new connections.
    pub idle_close_ms: u64,
    /// A connection this old is ended, in milliseconds; 0: never. Meets new connections.
    pub max_age_ms: u64,
    /// Too many new connections at one port: all are refused for a while.
    pub storm: Option<Storm>,
    /// How the refusal of a key of the other environment is spelled.
    pub environment_reason: EnvironmentReason,
    /// How another team's provider token on a connection is refused.
    pub other_team_reason: OtherTeamReason,
}

impl ApnsRules {
    /// What is wrong with them.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.device_rate.is_some_and(|rate| rate.burst == 0 || rate.refill_secs == 0) {
            return Some("apns.deviceRate: burst and refillSecs must be 1 at least");
        }
        None
    }

    /// What an answer weighs.
    pub(crate) fn weight(&self, status: u16, reason: &str) -> u64 {
        match (status, reason) {
            (410, _) => 0,
            (_, "BadDeviceToken") => self.bad_device_token_weight.max(1),
            (400..500, _) => 1,
            _ => 0,
        }
    }
}

/// What APNs "may" do about a push type that doesn't reflect the payload: "return an error, delay the delivery of the
/// notification, or drop it altogether".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mismatch {
    /// `InvalidPushType`.
    Error,
    /// As if it did.
    Accept,
    /// 200, and no phone gets it.
    Drop,
    /// 200, and the phone gets it so many milliseconds later.
    DelayMs(u64),
}

/// So many pushes at once, and one more after each pause; by the simulator's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceRate {
    /// How many pushes a device gets at once.
    pub burst: u32,
    /// After how many seconds it gets one more.
    pub refill_secs: u64,
}

/// When APNs takes reconnecting for an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Storm {
    /// How many new connections a port takes in a minute.
    pub per_minute: usize,
    /// How long it then closes all new ones at once, in milliseconds.
    pub refuse_ms: u64,
}

/// Both spellings exist: Apple's page, and what was seen on the wire (APNSwift, pull request 229).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvironmentReason {
    /// As seen.
    #[default]
    BadEnvironmentKeyInToken,
    /// As documented.
    BadEnvironmentKeyIdInToken,
}

/// Apple says only that it is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtherTeamReason {
    /// The default.
    #[default]
    InvalidProviderToken,
    /// The other that fits.
    Forbidden,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_of_4xx_but_410_weigh_and_bad_tokens_more() {
        let rules = ApnsRules { bad_device_token_weight: 5, ..ApnsRules::default() };
        for (status, reason, weight) in [
            (200, "", 0),
            (400, "BadTopic", 1),
            (400, "BadDeviceToken", 5),
            (403, "InvalidProviderToken", 1),
            (410, "Unregistered", 0),
            (429, "TooManyRequests", 1),
            (503, "Shutdown", 0),
        ] {
            assert_eq!(rules.weight(status, reason), weight, "{status} {reason}");
        }
        assert_eq!(ApnsRules::default().weight(400, "BadDeviceToken"), 1);
    }
}
