//! Answers about our connection or credential that this client heals by itself, once, before anybody sees them.
//!
//! Stands between an answer and the caller. All other answers go up as they are: what they mean is decided in
//! `herald_core::outcome`. Facts: Apple, "Handling notification responses from APNs"; the wedged connection after
//! `ExpiredProviderToken` is pushy's experience.
//!
//! | answer | cause | remedy |
//! | --- | --- | --- |
//! | 403 `ExpiredProviderToken` | the token is too old, or our clock is wrong | leave the connection; a newer token if the rules allow one |
//! | 403 `InvalidProviderToken` | a wrong key; or our clock was wrong when the token was minted, and has been set since | nothing; or a token of the mended clock, on new connections |
//! | 429 `TooManyProviderTokenUpdates` | the connection saw two tokens within 20 minutes | another connection, the same token |
//! | 403 `UnrelatedKeyIdInToken` | the connection is bound to another key family | another connection, the same token |
//! | 400 `IdleTimeout` | the connection had idled too long; the push was not processed | another connection, the same token |

use herald_core::outcome::Answer;
use serde::Deserialize;

/// What to do before the push is sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Leave this connection and take a newer token. If there may be none yet, the answer stands.
    NewerToken,
    /// If the clock was set since the token was minted, take a new one. Else the answer stands.
    TokenOfMendedClock,
    /// Leave this connection and use another.
    OtherConnection,
}

impl Remedy {
    /// Whether this connection is left even if there is no other token.
    pub(crate) const fn leaves_connection(self) -> bool {
        match self {
            Self::NewerToken | Self::OtherConnection => true,
            Self::TokenOfMendedClock => false,
        }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    reason: std::borrow::Cow<'a, str>,
}

/// The remedy for an answer; none for all but five.
pub(crate) fn remedy(answer: &Answer) -> Option<Remedy> {
    if !matches!(answer.status, 400 | 403 | 429) {
        return None;
    }
    let body: Body<'_> = serde_json::from_slice(&answer.body).ok()?;
    match (answer.status, body.reason.as_ref()) {
        (403, "ExpiredProviderToken") => Some(Remedy::NewerToken),
        (403, "InvalidProviderToken") => Some(Remedy::TokenOfMendedClock),
        (429, "TooManyProviderTokenUpdates") | (403, "UnrelatedKeyIdInToken") | (400, "IdleTimeout") => {
            Some(Remedy::OtherConnection)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_answers_have_a_remedy_and_no_other() {
        for (status, body, expected) in [
            (403, r#"{"reason":"ExpiredProviderToken"}"#, Some(Remedy::NewerToken)),
            (429, r#"{"reason":"TooManyProviderTokenUpdates"}"#, Some(Remedy::OtherConnection)),
            (403, r#"{"reason":"UnrelatedKeyIdInToken"}"#, Some(Remedy::OtherConnection)),
            (403, r#"{"reason":"InvalidProviderToken"}"#, Some(Remedy::TokenOfMendedClock)),
            (400, r#"{"reason":"IdleTimeout"}"#, Some(Remedy::OtherConnection)),
            (400, r#"{"reason":"BadDeviceToken"}"#, None),
            (403, r#"{"reason":"Forbidden"}"#, None),
            (429, r#"{"reason":"TooManyRequests"}"#, None),
            (400, r#"{"reason":"ExpiredProviderToken"}"#, None),
            (403, "<html>", None),
            (200, "", None),
        ] {
            let answer = Answer { status, body: body.as_bytes().to_vec(), ..Answer::default() };
            assert_eq!(remedy(&answer), expected, "{status} {body}");
        }
    }
}
