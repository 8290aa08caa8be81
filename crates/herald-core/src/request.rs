//! The request: bytes on a queue become a [`Request`], or a [`RequestError`] that names the field, the problem and the fix.

use crate::ids::{AppId, Unsid, UserId};
use crate::lane::Lane;
use crate::notification::Content;
use crate::time::Timestamp;

/// What came with the body: AMQP properties, or HTTP headers.
#[derive(Debug, Clone, Default)]
pub struct Envelope<'a> {
    /// `message_id` (HTTP: `Idempotency-Key`).
    pub message_id: Option<&'a str>,
    /// `type`: absent or `herald.notification.v1`.
    pub kind: Option<&'a str>,
    /// `content_type`.
    pub content_type: Option<&'a str>,
    /// `content_encoding`.
    pub content_encoding: Option<&'a str>,
    /// `user_id`, which RabbitMQ validated against the login.
    pub user_id: Option<&'a str>,
    /// Header `x-uns-id`: the same as `target.userNotificationSubscriptionId`.
    pub unsid: Option<&'a str>,
    /// Header `traceparent`.
    pub traceparent: Option<&'a str>,
    /// Header `tracestate`.
    pub tracestate: Option<&'a str>,
    /// Does this look like another system's task message (Celery's headers `task` and `lang`)?
    pub foreign: Option<&'a str>,
}

/// Whom a request addresses: all active subscriptions of that user in that app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The user of this subscription, ended or not.
    Unsid(Unsid),
    /// The user by name.
    User(UserId),
}

/// A request that keeps the contract. Whether its app and its target exist is the caller's and the store's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The tenant.
    pub app: AppId,
    /// Whom to tell.
    pub target: Target,
    /// The idempotency key, unique within (app, user).
    pub key: String,
    /// What to tell.
    pub content: Content,
    /// When it is removed.
    pub expires_at: Timestamp,
    /// When to push it first, if later than now.
    pub deliver_at: Option<Timestamp>,
    /// Where it came in.
    pub lane: Lane,
}

/// Limits that the operator may widen.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Seconds allowed for `fallbackDelayInSeconds`; Graph: 60 to 600.
    pub fallback_delay_secs: (u32, u32),
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// Path of the field (`fallbackPolicy.endpointFallback.fallbackDelayInSeconds`), property or header.
    pub field: String,
    /// What is wrong with it. Never quotes content or tokens.
    pub problem: String,
    /// What to do.
    pub fix: String,
    /// The notification's life is over already: counted as expired, not parked.
    pub expired: bool,
}
