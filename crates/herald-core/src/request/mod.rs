//! The request: bytes on a queue become a [`Request`], or a [`RequestError`] that names the field, the problem and the fix.
//!
//! The first step of the way of a notification; worker and gateway both parse with [`parse`], so a body means the same on
//! either. Whether the app exists, may send, and knows the target is for the caller and the store.
//!
//! The body is the Graph notification resource plus a `target` (docs/requests.md). What clients of Graph really send is read too:
//! `displayTimeToLive` and the delay as a number or a numeric string, platform names and priority in any case,
//! `platformTypes` as a list or one string, dates with any offset, the body wrapped as `{"notification": {…}}`, `null` for
//! absent, and any field that isn't known is ignored.
//!
//! Limits that Graph left open, chosen here: `appNotificationId`, `groupName` and `userId` 256 characters without control
//! characters (so that they fit a push), `message_id` 128, the body 64 KiB.
//!
//! An error never quotes a value: content and tokens must not reach a log or an event.

mod body;
mod envelope;
mod fields;
mod target;

use std::time::Duration;

use sha2::{Digest as _, Sha256};

pub use self::body::body_of;
use self::fields::Fields;
use crate::ids::{AppId, Unsid, UserId};
use crate::lane::Lane;
use crate::notification::{Content, FallbackPolicy, Payload, Priority, Visual};
use crate::subscription::{Platform, PlatformSet};
use crate::time::Timestamp;

/// The largest body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// `type` of a request message; absent means the same.
pub const KIND: &str = "herald.notification.v1";
/// The longest `message_id`, in characters.
pub const MAX_KEY_CHARS: usize = 128;
/// The longest `appNotificationId`, `groupName` and `userId`, in characters.
pub const MAX_NAME_CHARS: usize = 256;
/// How long a notification lives that doesn't say.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a notification may live: Graph's 30 days.
pub const MAX_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A producer that asks for exactly 30 days by a clock ahead of ours gets 30 days, not an error.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

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

impl Default for Limits {
    fn default() -> Self {
        Self { fallback_delay_secs: (60, 600) }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}; {fix}")]
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

impl RequestError {
    fn new(field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), fix: fix.into(), expired: false }
    }
}

/// Reads a request: its target is in the body or in the header `x-uns-id`.
///
/// # Errors
/// The first breach of the contract, in the order envelope, JSON, target, fields.
pub fn parse(
    body: &[u8],
    envelope: &Envelope<'_>,
    lane: Lane,
    limits: &Limits,
    now: Timestamp,
) -> Result<Request, RequestError> {
    let (mut fields, mut target_at) = open(body, envelope)?;
    let target = target::read(&mut fields, &mut target_at, envelope.unsid)?;
    finish(fields, target, body, envelope, lane, limits, now)
}

/// Reads a request whose target is known already: at the gateway, a user's own token or the path names the user. A target in
/// the body must not contradict it, and there can be no subscription's id beside it.
///
/// # Errors
/// As [`parse`].
pub fn parse_for(
    user: UserId,
    body: &[u8],
    envelope: &Envelope<'_>,
    lane: Lane,
    limits: &Limits,
    now: Timestamp,
) -> Result<Request, RequestError> {
    let (mut fields, mut target_at) = open(body, envelope)?;
    target::read_for(&user, &mut fields, &mut target_at, envelope.unsid)?;
    finish(fields, Target::User(user), body, envelope, lane, limits, now)
}

/// Whom a body addresses, if that much of it can be read: for a request that was parked.
pub fn target_of(body: &[u8]) -> Option<Target> {
    let (mut fields, mut target_at) = match envelope::object(body).ok()?.unwrapped() {
        Ok(parts) => parts,
        Err(flat) => (flat, Fields::default()),
    };
    target::read(&mut fields, &mut target_at, None).ok()
}

/// The notification's fields, and those around it if it is wrapped: the target may stand in either.
fn open(body: &[u8], envelope: &Envelope<'_>) -> Result<(Fields, Fields), RequestError> {
    envelope::check(body, envelope)?;
    let outer = envelope::object(body)?;
    Ok(match outer.unwrapped() {
        Ok((inner, outer)) => (inner, outer),
        Err(flat) => (flat, Fields::default()),
    })
}

fn finish(
    mut fields: Fields,
    target: Target,
    body: &[u8],
    envelope: &Envelope<'_>,
    lane: Lane,
    limits: &Limits,
    now: Timestamp,
) -> Result<Request, RequestError> {
    let app = target::app(&mut fields)?;
    let app_notification_id = fields.name("appNotificationId")?;
    let group_name = fields.optional_name("groupName")?;
    let priority = priority(&mut fields)?;
    let payload = payload(&mut fields)?;
    let display_ttl = display_ttl(&mut fields)?;
    let target_policy = target_policy(&mut fields)?;
    let fallback = fallback(&mut fields, target_policy, limits)?;
    let (expires_at, deliver_at) = times(&mut fields, now)?;
    let key = key(envelope, app_notification_id.as_deref(), body)?;
    let (traceparent, tracestate) = envelope::trace_context(envelope);
    let content = Content {
        app_notification_id,
        group_name,
        priority,
        payload,
        display_ttl,
        target_policy,
        fallback,
        traceparent,
        tracestate,
    };
    Ok(Request { app, target, key, content, expires_at, deliver_at, lane })
}

fn priority(fields: &mut Fields) -> Result<Priority, RequestError> {
    const FIX: &str = "set None, High or Low, or leave it out";
    let Some(text) = fields.text("priority", FIX)? else {
        return Ok(Priority::None);
    };
    [("none", Priority::None), ("high", Priority::High), ("low", Priority::Low)]
        .into_iter()
        .find(|(name, _)| text.eq_ignore_ascii_case(name))
        .map(|(_, priority)| priority)
        .ok_or_else(|| fields.error("priority", "is not a priority", FIX))
}

fn payload(fields: &mut Fields) -> Result<Payload, RequestError> {
    const FIX: &str = "set payload.rawContent, payload.visualContent.title, or both";
    let Some(mut payload) = fields.object("payload", "payload", FIX)? else {
        return Err(fields.error("payload", "is missing", FIX));
    };
    let raw = payload.text("rawContent", "send it as a string: JSON for the app goes in as text")?;
    let visual = visual(&mut payload, "payload.visualContent")?;
    if raw.is_none() && visual.is_none() {
        return Err(fields.error("payload", "has neither rawContent nor visualContent", FIX));
    }
    Ok(Payload { raw, visual })
}

fn visual(fields: &mut Fields, path: &'static str) -> Result<Option<Visual>, RequestError> {
    let Some(mut visual) = fields.object("visualContent", path, "set an object with title and body")? else {
        return Ok(None);
    };
    let title = visual.text("title", "set a text")?.filter(|title| !title.trim().is_empty());
    let Some(title) = title else {
        return Err(visual.error("title", "is missing or empty", "set the title that the person is to see"));
    };
    let body = visual.text("body", "set a text, or leave it out")?;
    Ok(Some(Visual { title, body }))
}

/// Graph's Int32 of seconds. Zero is what some clients send for "not set", and means that.
fn display_ttl(fields: &mut Fields) -> Result<Option<u32>, RequestError> {
    const FIX: &str = "set whole seconds, 1 to 2147483647, or leave it out";
    let Some(secs) = fields.integer("displayTimeToLive", FIX)? else {
        return Ok(None);
    };
    let secs = u32::try_from(secs).ok().filter(|secs| i32::try_from(*secs).is_ok());
    let secs = secs.ok_or_else(|| fields.error("displayTimeToLive", "is out of range", FIX))?;
    Ok(Some(secs).filter(|secs| *secs > 0))
}

fn target_policy(fields: &mut Fields) -> Result<PlatformSet, RequestError> {
    const FIX: &str = "set {\"platformTypes\": […]}, or leave it out for all platforms";
    let Some(mut policy) = fields.object("targetPolicy", "targetPolicy", FIX)? else {
        return Ok(PlatformSet::ALL);
    };
    Ok(policy.platforms("platformTypes")?.unwrap_or(PlatformSet::ALL))
}

/// What is asked for must make sense; whether a fallback is **owed** is [`crate::fallback`]'s to say. A policy on a
/// notification of another priority or without raw content is no error: it is counted as not owed.
fn fallback(
    fields: &mut Fields,
    target_policy: PlatformSet,
    limits: &Limits,
) -> Result<Option<FallbackPolicy>, RequestError> {
    const FIX: &str = "set {\"endpointFallback\": {\"platformTypes\": [\"iOS\"], \"fallbackDelayInSeconds\": …, \"visualContent\": …}}";
    let Some(mut policy) = fields.object("fallbackPolicy", "fallbackPolicy", FIX)? else {
        return Ok(None);
    };
    let Some(mut endpoint) = policy.object("endpointFallback", "fallbackPolicy.endpointFallback", FIX)? else {
        return Err(policy.error("endpointFallback", "is missing", FIX));
    };
    let only_ios = PlatformSet::EMPTY.with(Platform::Ios);
    match endpoint.platforms("platformTypes")? {
        None => return Err(endpoint.error("platformTypes", "is missing", "set [\"iOS\"]")),
        Some(platforms) if !platforms.contains(Platform::Ios) => {
            return Err(endpoint.error("platformTypes", "does not include iOS", "set [\"iOS\"]"));
        }
        Some(platforms) if platforms != only_ios => {
            return Err(endpoint.error(
                "platformTypes",
                "has more than iOS: a fallback exists on iOS only",
                "set [\"iOS\"]",
            ));
        }
        Some(_) => {}
    }
    if !target_policy.contains(Platform::Ios) {
        let problem = "does not include iOS, but there is a fallbackPolicy";
        return Err(fields.error("targetPolicy.platformTypes", problem, "add iOS, or leave out the fallbackPolicy"));
    }
    let delay = delay(&mut endpoint, limits)?;
    let Some(visual) = visual(&mut endpoint, "fallbackPolicy.endpointFallback.visualContent")? else {
        return Err(endpoint.error("visualContent", "is missing", "set the title and body of the toast"));
    };
    Ok(Some(FallbackPolicy { platforms: only_ios, delay, visual }))
}

fn delay(endpoint: &mut Fields, limits: &Limits) -> Result<Duration, RequestError> {
    const NAME: &str = "fallbackDelayInSeconds";
    let (least, most) = limits.fallback_delay_secs;
    let fix = format!("set whole seconds, {least} to {most}");
    match endpoint.integer(NAME, &fix)? {
        None => Err(endpoint.error(NAME, "is missing", fix)),
        Some(secs) if (i64::from(least)..=i64::from(most)).contains(&secs) => {
            Ok(Duration::from_secs(secs.unsigned_abs()))
        }
        Some(_) => Err(endpoint.error(NAME, "is out of range", fix)),
    }
}

/// When the notification is removed, and when it is pushed first.
fn times(fields: &mut Fields, now: Timestamp) -> Result<(Timestamp, Option<Timestamp>), RequestError> {
    const EXPIRES: &str = "expirationDateTime";
    const DELIVER: &str = "deliverAt";
    let latest = now.plus(MAX_LIFE);
    let expires_at = match fields.date(EXPIRES)? {
        None => now.plus(DEFAULT_LIFE),
        Some(at) if at <= now => {
            let fix = "set a moment ahead, at most 30 days, or leave it out for 7 days";
            return Err(RequestError { expired: true, ..fields.error(EXPIRES, "is in the past", fix) });
        }
        Some(at) if at > latest.plus(CLOCK_TOLERANCE) => {
            return Err(fields.error(EXPIRES, "is more than 30 days ahead", "set a moment at most 30 days ahead"));
        }
        Some(at) => at.min(latest),
    };
    let deliver_at = fields.date(DELIVER)?.filter(|at| *at > now);
    if deliver_at.is_some_and(|at| at >= expires_at) {
        let problem = "is not before the notification expires (without expirationDateTime: 7 days from now)";
        return Err(fields.error(DELIVER, problem, "set an earlier deliverAt, or a later expirationDateTime"));
    }
    Ok((expires_at, deliver_at))
}

/// The idempotency key: `message_id`, else `appNotificationId` and a hash of the body, so that a resend of the same bytes is
/// recognized while another body with the same id is a new notification.
fn key(envelope: &Envelope<'_>, app_notification_id: Option<&str>, body: &[u8]) -> Result<String, RequestError> {
    const FIX: &str =
        "set message_id (HTTP: Idempotency-Key) to a value that is the same when you send the notification again";
    if let Some(id) = envelope.message_id.filter(|id| !id.is_empty()) {
        if id.chars().count() > MAX_KEY_CHARS || id.chars().any(char::is_control) {
            let problem = format!("is longer than {MAX_KEY_CHARS} characters or has control characters");
            return Err(RequestError::new("message_id", problem, "set a shorter one, such as a UUID"));
        }
        return Ok(id.to_owned());
    }
    let Some(id) = app_notification_id else {
        let problem = "is missing, and there is no appNotificationId to recognize a repetition by";
        return Err(RequestError::new("message_id", problem, format!("{FIX}, or set appNotificationId")));
    };
    let hash = Sha256::digest(body);
    let prefix = u128::from_be_bytes(hash[..16].try_into().expect("SHA-256 has 32 bytes"));
    Ok(format!("{id}#{prefix:032x}"))
}

#[cfg(test)]
mod tests;
