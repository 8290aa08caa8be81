//! APNs: takes a push over HTTP/2, refuses it as Apple would, or hands it to the phone.
//!
//! Stands where Apple stands on a notification's way. What an HTTP/2 library's server can't do (a stream limit that
//! changes, GOAWAY with a reason) is not here.

mod connection;
mod keys;
mod payload;
mod reason;
mod request;
mod rules;
mod throttle;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use connection::Authority;
pub(crate) use connection::Connection;
pub use keys::{KeyChange, KeyError, KeySpec, KeyView};
pub(crate) use keys::{Keyring, NewKey};
use payload::Payload;
pub(crate) use reason::status_of;
use reason::{PushType, Reason};
pub(crate) use request::is_device_token;
pub use rules::{ApnsRules, DeviceRate, EnvironmentReason, Mismatch, OtherTeamReason, Storm};
pub(crate) use throttle::Buckets;

use crate::contract::Contract;
use crate::counters::Provider;
use crate::device::{Form, Life, Push};
use crate::exchange::{Answer, Broken, Ending, Response};
use crate::faults::{Script, Subject};
use crate::journal::{BODY_KEPT, Recorded};
use crate::listener::{BodyError, read_body};
use crate::phones::{Environment, Handset, Owner};
use crate::world::World;

/// How long APNs keeps a push at most, and one without `apns-expiration`, in milliseconds.
const LONGEST_LIFE_MS: u64 = 30 * 24 * 3600 * 1000;

/// Why a push is refused.
struct Refusal {
    reason: Reason,
    /// Since when the token has not been valid, in milliseconds since 1970.
    since_ms: Option<u64>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, since_ms: None }
    }
}

/// A push that Apple takes.
struct Accepted {
    kind: usize,
    /// `None`: nobody's, in a bench.
    push: Option<(Arc<Handset>, Push)>,
    fate: Fate,
}

/// What becomes of a push that Apple takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// Of no phone, though the answer is 200.
    Dropped,
    /// Delivered so many milliseconds later.
    Delayed(u64),
}

/// Answers one request.
///
/// # Errors
/// [`Broken`] if a script wants no answer.
pub(crate) async fn answer(
    world: Arc<World>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response, Broken> {
    let rules = world.apns_rules();
    let _busy = rules.as_ref().filter(|rules| rules.idle_close_ms > 0).map(|_| connection.line.busy());
    let (parts, body) = request.into_parts();
    let body = read_body(body).await;
    let token = request::device_token(parts.uri.path());
    let owner = world.phones.owner(&token);
    let phone = match &owner {
        Owner::Phone(handset) => Some(handset.name.as_str()),
        Owner::Former(_) | Owner::Nobody => None,
    };
    let topic = parts.headers.get(&request::APNS_TOPIC).and_then(|topic| topic.to_str().ok()).unwrap_or_default();
    let script = world.faults.next(Subject { provider: Provider::Apns, token: &token, phone, topic });
    let asked = Asked { parts: &parts, body: &body, token: &token, owner: &owner };
    let mut notes = Vec::new();
    let ending = decide(&world, &connection, rules.as_deref(), &asked, script.as_ref(), &mut notes);
    if let Some(rules) = rules.as_deref().filter(|rules| rules.errors_until_disconnect > 0) {
        count_error(&world, &connection, rules, &ending);
    }
    world.hold(script.as_ref().map_or(0, |script| script.delay_ms)).await;

    let kept = world.journal.is_kept() && !(world.accepts_unknown_tokens() && matches!(owner, Owner::Nobody));
    if kept {
        let (token, phone) = (token.into_owned(), phone.map(str::to_owned));
        let request = Kept { parts, body: body.unwrap_or_default(), token, phone, scripted: script.is_some(), notes };
        record(&world, request, &ending);
    }
    ending.finish(&connection.line, &world.stop).await
}

/// A request, and whose token it has.
struct Asked<'a> {
    parts: &'a Parts,
    body: &'a Result<Bytes, BodyError>,
    token: &'a str,
    owner: &'a Owner,
}

/// Ends the connection after this answer, if there were too many errors.
fn count_error(world: &World, connection: &Connection, rules: &ApnsRules, ending: &Ending) {
    let Ending::Answer(answer) = ending else { return };
    let weight = rules.weight(answer.status.as_u16(), &answer.reason);
    if weight > 0 && connection.errs(weight, rules.errors_until_disconnect) {
        world.counters.ended(Provider::Apns, "errors");
        connection.line.leave();
    }
}

/// The answer, with all that follows from it but the journal's entry.
fn decide(
    world: &Arc<World>,
    connection: &Connection,
    rules: Option<&ApnsRules>,
    asked: &Asked<'_>,
    script: Option<&Script>,
    notes: &mut Vec<&'static str>,
) -> Ending {
    let parts = asked.parts;
    let scripted = script.filter(|script| script.answers());
    let mut ending = None;
    if scripted.is_none_or(|script| script.process) {
        ending = Some(match judge(world, connection, rules, asked) {
            Ok(accepted) => accept(world, connection, parts, accepted, notes),
            Err(refusal) => {
                world.counters.refused(Provider::Apns, refusal.reason.word());
                refuse(parts, &refusal)
            }
        });
    }
    match scripted {
        // A push that was refused on its merits has no answer to lose.
        Some(script) if !matches!(&ending, Some(Ending::Answer(answer)) if !answer.status.is_success()) => {
            follow(world, parts, script)
        }
        _ => ending.expect("without a script that answers there was a verdict").dressed(script),
    }
}

fn accept(
    world: &Arc<World>,
    connection: &Connection,
    parts: &Parts,
    accepted: Accepted,
    notes: &mut Vec<&'static str>,
) -> Ending {
    world.counters.accepted(accepted.kind);
    if accepted.kind == reason::MISSING_KIND {
        notes.push("withoutPushType");
    }
    match (accepted.fate, accepted.push) {
        (Fate::Delivered, Some((handset, push))) => world.deliver(&handset, push),
        (Fate::Delayed(ms), Some((handset, push))) => {
            notes.push("delayed");
            deliver_later(world.clone(), ms, handset, push);
        }
        (Fate::Dropped, _) => notes.push("dropped"),
        (Fate::Delivered | Fate::Delayed(_), None) => {}
    }
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(request::APNS_ID.clone(), message_id(parts));
    if connection.environment == Environment::Sandbox {
        // Only the development environment answers with it.
        headers.insert("apns-unique-id", fresh_id());
    }
    Ending::Answer(Answer { status: StatusCode::OK, reason: "".into(), headers, body: Bytes::new(), shape: None })
}

fn deliver_later(world: Arc<World>, ms: u64, handset: Arc<Handset>, push: Push) {
    let tasks = world.tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            // The simulator ends; nobody looks at the phone any more.
            () = world.stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(ms)) => world.deliver(&handset, push),
        }
    });
}

fn refuse(parts: &Parts, refusal: &Refusal) -> Ending {
    let word = refusal.reason.word();
    let body = match refusal.since_ms {
        Some(since_ms) => json!({ "reason": word, "timestamp": since_ms }),
        None => json!({ "reason": word }),
    };
    let mut answer = Answer::json(refusal.reason.status(), word, &body);
    answer.headers.insert(request::APNS_ID.clone(), message_id(parts));
    Ending::Answer(answer)
}

/// What the script says.
fn follow(world: &World, parts: &Parts, script: &Script) -> Ending {
    if let Some(fault) = script.fault {
        world.counters.unanswered(Provider::Apns, fault.word());
        return Ending::Fault(fault);
    }
    let made = script.reason.as_ref().map(|reason| match script.timestamp {
        Some(timestamp) => json!({ "reason": reason, "timestamp": timestamp }),
        None => json!({ "reason": reason }),
    });
    let mut answer = Answer::scripted(script, made.as_ref());
    if !answer.status.is_success() {
        world.counters.refused(Provider::Apns, &answer.reason);
    }
    answer.headers.entry(request::APNS_ID.clone()).or_insert_with(|| message_id(parts));
    answer.dress(script);
    Ending::Answer(answer)
}

/// The request's `apns-id`, or a new one.
fn message_id(parts: &Parts) -> HeaderValue {
    parts.headers.get(&request::APNS_ID).cloned().unwrap_or_else(fresh_id)
}

fn fresh_id() -> HeaderValue {
    HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()).expect("a UUID is a valid header value")
}

/// All checks, in the order of pushy's mock server.
fn judge(
    world: &World,
    connection: &Connection,
    rules: Option<&ApnsRules>,
    asked: &Asked<'_>,
) -> Result<Accepted, Refusal> {
    if connection.is_wedged() {
        return Err(Reason::ExpiredProviderToken.into());
    }
    let (parts, strict) = (asked.parts, world.strict());
    let checked = request::check(parts, strict)?;
    let bundle_id = reason::bundle_id(checked.topic);
    let topic = world.keys.topic(&world.apps, bundle_id).ok_or(Reason::BadTopic)?;
    let suffix = &checked.topic[bundle_id.len()..];
    if strict && checked.push_type.is_some_and(|push_type| push_type.suffix() != suffix) {
        return Err(Reason::BadTopic.into());
    }
    let handset = whose(world, connection, asked.owner)?;
    if handset.is_some_and(|handset| handset.app != topic.app) {
        return Err(Reason::DeviceTokenNotForTopic.into());
    }
    let now = world.clock.secs();
    let authority = Authority { apps: &world.apps, keys: &world.keys, rules, strict, now };
    let authorization = parts.headers.get(header::AUTHORIZATION);
    connection.authorize(authorization, &authority, (bundle_id, topic.app, topic.since))?;
    let (payload, push_type, fate) = check_payload(&checked, parts, asked.body, rules, strict)?;
    if let Some(rate) = rules.and_then(|rules| rules.device_rate)
        && !world.buckets.take(asked.token, rate, now)
    {
        return Err(Reason::TooManyRequests.into());
    }
    Ok(Accepted {
        kind: checked.push_type.map_or(reason::MISSING_KIND, PushType::kind),
        push: handset.map(|handset| (handset.clone(), arriving(world, &checked, &payload, push_type))),
        fate,
    })
}

/// The phone that the token belongs to; `None` if any token will do.
fn whose<'a>(world: &World, connection: &Connection, owner: &'a Owner) -> Result<Option<&'a Arc<Handset>>, Refusal> {
    let unregistered = |since_ms| Refusal { reason: Reason::Unregistered, since_ms: Some(since_ms) };
    match owner {
        Owner::Phone(handset) if handset.environment != connection.environment => Err(Reason::BadDeviceToken.into()),
        Owner::Phone(handset) => match handset.unregistered_at_ms(world.clock.millis()) {
            Some(since_ms) => Err(unregistered(since_ms)),
            None => Ok(Some(handset)),
        },
        Owner::Former(since_ms) => Err(unregistered(*since_ms)),
        Owner::Nobody if world.accepts_unknown_tokens() => Ok(None),
        Owner::Nobody => Err(Reason::BadDeviceToken.into()),
    }
}

/// The payload, the push type it is treated as, and what becomes of it.
fn check_payload<'a>(
    checked: &request::Checked<'_>,
    parts: &Parts,
    body: &'a Result<Bytes, BodyError>,
    rules: Option<&ApnsRules>,
    strict: bool,
) -> Result<(Payload<'a>, PushType, Fate), Reason> {
    let limit = checked.push_type.unwrap_or(PushType::Alert).payload_limit();
    let body = match body {
        Ok(body) if body.len() > limit => return Err(Reason::PayloadTooLarge),
        Err(BodyError::TooLong) => return Err(Reason::PayloadTooLarge),
        Ok(body) if body.is_empty() => return Err(Reason::PayloadEmpty),
        Err(BodyError::Broken) => return Err(Reason::PayloadEmpty),
        Ok(body) => body,
    };
    // Payloads must not be compressed; the reason is not documented.
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Reason::PayloadEmpty);
    }
    let push_type = checked.push_type;
    let payload = match Payload::parse(body) {
        Ok(payload) => payload,
        // No phone could read it.
        Err(_) if !strict => return Ok((Payload::default(), push_type.unwrap_or(PushType::Background), Fate::Dropped)),
        Err(reason) => return Err(reason),
    };
    let effect = payload.effect();
    let guessed = if effect.interacts { PushType::Alert } else { PushType::Background };
    let mut fate = Fate::Delivered;
    if push_type.is_some_and(|push_type| !payload::reflects(push_type, effect)) {
        let usual = if strict { Mismatch::Error } else { Mismatch::Accept };
        fate = match rules.and_then(|rules| rules.mismatch).unwrap_or(usual) {
            Mismatch::Error => return Err(Reason::InvalidPushType),
            Mismatch::Accept => Fate::Delivered,
            Mismatch::Drop => Fate::Dropped,
            Mismatch::DelayMs(ms) => Fate::Delayed(ms),
        };
    }
    // Strictly, the request was refused already.
    if push_type == Some(PushType::Background) && checked.priority == 10 {
        fate = Fate::Dropped;
    }
    Ok((payload, push_type.unwrap_or(guessed), fate))
}

/// The push as the phone gets it.
fn arriving(world: &World, checked: &request::Checked<'_>, payload: &Payload<'_>, push_type: PushType) -> Push {
    let effect = payload.effect();
    let visible = push_type == PushType::Alert && effect.alerts;
    let contract = payload.contract();
    let longest = world.clock.millis() + LONGEST_LIFE_MS;
    Push {
        form: contract.as_ref().map_or(if visible { Form::Alert } else { Form::Raw }, |contract| contract.form),
        visible,
        urgent: checked.priority == 10,
        notification_id: contract.as_ref().map(|contract| contract.notification_id.as_ref().to_owned()),
        app_notification_id: contract.as_ref().and_then(Contract::app_notification_id),
        receipt: contract.and_then(|contract| contract.receipt).map(std::borrow::Cow::into_owned),
        collapse_id: checked.collapse_id.map(|id| payload::text(id).into_owned()),
        collapse_key: None,
        life: match checked.expiration {
            None => Life::Until(longest),
            Some(0) => Life::Now,
            Some(secs) => Life::Until(secs.saturating_mul(1000).min(longest)),
        },
        mutable: effect.mutable,
    }
}

/// A request for the journal.
struct Kept {
    parts: Parts,
    body: Bytes,
    token: String,
    phone: Option<String>,
    scripted: bool,
    notes: Vec<&'static str>,
}

fn record(world: &World, request: Kept, ending: &Ending) {
    let (status, reason) = ending.outcome();
    let Kept { parts, body, token, phone, scripted, notes } = request;
    world.journal.record(Recorded {
        micros: world.clock.micros(),
        provider: Provider::Apns,
        method: parts.method,
        // As the token, so that the token in it is found and cut.
        path: parts.uri.path().to_ascii_lowercase(),
        uri: parts.uri,
        token,
        phone,
        headers: parts.headers,
        body: if body.len() <= BODY_KEPT { body } else { Bytes::new() },
        status,
        reason,
        scripted,
        notes,
    });
}
