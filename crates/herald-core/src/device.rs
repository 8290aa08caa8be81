//! A device as its app describes it: where it is reached, and what it says of itself.
//!
//! Before the way of a notification: whoever registers a device (an app over HTTP, an operator, an import) goes through
//! [`Address::checked`], so that what is no address is refused where a person can mend it, and not by a provider hours later.
//! No error quotes a push token.

use serde::{Deserialize, Serialize};

use crate::ids::PushToken;
use crate::subscription::{Environment, Platform, TokenKind};

/// The longest push token, in bytes: FCM's have some 200, and neither provider promises a length.
pub const MAX_TOKEN_LEN: usize = 4096;
/// Apple's tokens have 32 bytes today, and are said to grow; written in hex.
pub const MIN_APNS_TOKEN_LEN: usize = 64;

/// Where a device is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What kind of device.
    pub platform: Platform,
    /// What kind of address `token` is.
    pub token_kind: TokenKind,
    /// Where the token is valid.
    pub environment: Environment,
    /// The token; APNs' in lower case, so that one device is not two.
    pub token: PushToken,
}

/// What of an address can't be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {problem}; {fix}")]
pub struct AddressError {
    /// Which part.
    pub part: Part,
    /// What is wrong with it; never a token.
    pub problem: &'static str,
    /// What to do.
    pub fix: &'static str,
}

/// A part of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `platform`
    Platform,
    /// `tokenKind`
    TokenKind,
    /// `environment`
    Environment,
    /// `pushToken`
    PushToken,
}

impl Part {
    /// Its name over HTTP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::TokenKind => "tokenKind",
            Self::Environment => "environment",
            Self::PushToken => "pushToken",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Address {
    /// An address that its provider could have given out.
    ///
    /// # Errors
    /// The part that can't be right.
    pub fn checked(
        platform: Platform,
        token_kind: TokenKind,
        environment: Environment,
        token: &str,
    ) -> Result<Self, AddressError> {
        let wrong = |part, problem, fix| Err(AddressError { part, problem, fix });
        if platform.provider().is_none() {
            return wrong(Part::Platform, "is not pushed to yet", "give ios or android");
        }
        let token = token.trim();
        if token.is_empty()
            || token.len() > MAX_TOKEN_LEN
            || token.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            let fix = "give the text that the device got from Apple or Google, without spaces";
            return wrong(Part::PushToken, "is no push token", fix);
        }
        if platform != Platform::Ios {
            if environment != Environment::Production {
                return wrong(Part::Environment, "is Apple's alone", "leave it out");
            }
            return Ok(Self { platform, token_kind, environment, token: PushToken::new(token) });
        }
        if token_kind == TokenKind::Fid {
            let fix = "leave it out, and give the APNs token";
            return wrong(Part::TokenKind, "iOS devices have no Firebase Installation ID here", fix);
        }
        if token.len() < MIN_APNS_TOKEN_LEN || token.len() % 2 == 1 || !token.chars().all(|c| c.is_ascii_hexdigit()) {
            let fix = "give its bytes in hex, 64 characters or more";
            return wrong(Part::PushToken, "is no APNs device token", fix);
        }
        Ok(Self { platform, token_kind, environment, token: PushToken::new(token.to_ascii_lowercase()) })
    }
}

/// What a device said of itself: why a push may come late or unseen. Kept for the trace; decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceState {
    /// The user lets the app show alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts_allowed: Option<bool>,
    /// The device saves power: background pushes wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_power_mode: Option<bool>,
    /// The user lets the app work in the background: without it no raw push wakes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background_refresh: Option<bool>,
}

impl DeviceState {
    /// Nothing was said.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What is known after this was said: what it leaves out stays as it was.
    #[must_use]
    pub fn then(self, said: Self) -> Self {
        Self {
            alerts_allowed: said.alerts_allowed.or(self.alerts_allowed),
            low_power_mode: said.low_power_mode.or(self.low_power_mode),
            background_refresh: said.background_refresh.or(self.background_refresh),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_can_not_be_right_is_refused_by_its_part_without_the_token() {
        use Environment::{Production, Sandbox};
        use Platform::{Android, Ios, WebPush, Windows};
        use TokenKind::{Fid, Token};
        let check = |platform, kind, environment, text: &str, wrong: Option<Part>| {
            let checked = Address::checked(platform, kind, environment, text);
            assert_eq!(checked.as_ref().err().map(|error| error.part), wrong, "{text}");
            if let Err(error) = checked {
                assert!(text.trim().len() < 3 || !error.to_string().contains(text), "{error}");
            }
        };
        let hex = "AB".repeat(32);
        check(Ios, Token, Production, &hex, None);
        check(Ios, Token, Sandbox, &format!(" {hex}\n"), None);
        check(Ios, Token, Production, "abcdef", Some(Part::PushToken));
        check(Ios, Token, Production, &hex[1..], Some(Part::PushToken));
        check(Ios, Token, Production, &"xy".repeat(32), Some(Part::PushToken));
        check(Ios, Fid, Production, &hex, Some(Part::TokenKind));
        check(Android, Token, Production, "fcm:token-of_any_kind", None);
        check(Android, Fid, Production, "cFid", None);
        check(Android, Token, Sandbox, "fcm:token", Some(Part::Environment));
        check(Android, Token, Production, "two words", Some(Part::PushToken));
        check(Android, Token, Production, "nul\0", Some(Part::PushToken));
        check(Android, Token, Production, " ", Some(Part::PushToken));
        check(Android, Token, Production, &"a".repeat(MAX_TOKEN_LEN), None);
        check(Android, Token, Production, &"a".repeat(MAX_TOKEN_LEN + 1), Some(Part::PushToken));
        check(Windows, Token, Production, "a", Some(Part::Platform));
        check(WebPush, Token, Production, "a", Some(Part::Platform));
        let address = Address::checked(Ios, Token, Production, &hex).unwrap();
        assert_eq!(address.token.expose(), "ab".repeat(32));
    }

    #[test]
    fn what_a_report_leaves_out_stays_as_it_was() {
        let before = DeviceState { alerts_allowed: Some(true), low_power_mode: Some(false), background_refresh: None };
        let said = DeviceState { low_power_mode: Some(true), ..DeviceState::default() };
        let after = before.then(said);
        assert_eq!(
            (after.alerts_allowed, after.low_power_mode, after.background_refresh),
            (Some(true), Some(true), None)
        );
        assert!(DeviceState::default().is_empty() && !said.is_empty());
    }
}
