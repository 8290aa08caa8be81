//! What a provider's answer means.
//!
//! Stands between push and record. An [`Outcome`] is made in one place per provider ([`apns::classify`],
//! [`fcm::classify`]) and never becomes a string, a bool or an HTTP status again: [`crate::delivery`], [`crate::retry`],
//! [`crate::prune`], [`crate::breaker`] and the metrics all `match` on it without `_`.
//!
//! An answer nobody documented is classified by its status. It is never lost sight of (the attempt keeps its words), and
//! prunes a token only with the mass-failure guard's leave.

pub mod apns;
pub mod fcm;
mod words;

use std::time::Duration;

use crate::time::Timestamp;

/// What a provider sent back, as bytes. An answer belongs to its stream, never to an `apns-id`: some servers send none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `apns-id`; for FCM it is in the body.
    pub provider_id: Option<String>,
    /// The `Retry-After` header as sent: seconds or an HTTP date.
    pub retry_after: Option<String>,
    /// The body, at most 64 KiB of it.
    pub body: Vec<u8>,
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelivered {
    /// It surely was not processed: never written, or refused by REFUSED_STREAM or a GOAWAY with a lower last id.
    NotSent,
    /// It may have been processed: the connection or the time was lost after it had been written.
    Unknown,
}

/// How far a refusal for now reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This device only.
    Device,
    /// Everything this app sends through this provider.
    Provider,
}

/// What an attempt came to. The unit that every decision after the push reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took it. That is not delivery.
    Accepted,
    /// The token is dead.
    Gone {
        /// Since when the provider knows (APNs 410 only).
        since: Option<Timestamp>,
        /// It is the classic symptom of our own misconfiguration too, so a prune needs the mass-failure guard's leave.
        guarded: bool,
    },
    /// This push is wrong and will never be right; the token is not to blame.
    Invalid,
    /// The app's topic, project or environment is wrong: ours to mend, keep the work.
    Misconfigured,
    /// The app's credentials are refused: ours to mend, keep the work.
    Unauthorized,
    /// Refused for now because there were too many.
    Throttled {
        /// Who is to slow down.
        scope: Scope,
        /// The provider's `Retry-After`, or what its page asks for without one.
        after: Option<Duration>,
    },
    /// The provider is in trouble.
    Unavailable {
        /// The provider's `Retry-After`: for all pushes.
        after: Option<Duration>,
        /// What its page asks for without one: for this push.
        least: Duration,
    },
    /// Surely not processed; may be sent again at once.
    NotSent,
    /// May have been processed; sent again only with the same ids.
    Unknown,
}

impl Outcome {
    /// The label in metrics and in a delivery's attempts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Gone { .. } => "gone",
            Self::Invalid => "invalid",
            Self::Misconfigured => "misconfigured",
            Self::Unauthorized => "unauthorized",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
        }
    }
}

/// An outcome with the words it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// What it means.
    pub outcome: Outcome,
    /// The HTTP status; none when no answer came.
    pub status: Option<u16>,
    /// The provider's documented reason, or `other`: a bounded label.
    pub reason: Option<&'static str>,
    /// An undocumented reason as sent, cut to 64 printable characters. For the trace and the log, never a label.
    pub detail: Option<String>,
    /// The provider's id of the push: `apns-id`, or FCM's message name.
    pub provider_id: Option<String>,
}

impl From<Undelivered> for Classified {
    fn from(undelivered: Undelivered) -> Self {
        let outcome = match undelivered {
            Undelivered::NotSent => Outcome::NotSent,
            Undelivered::Unknown => Outcome::Unknown,
        };
        Self { outcome, status: None, reason: None, detail: None, provider_id: None }
    }
}
