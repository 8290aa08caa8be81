//! FCM HTTP v1: takes a message, refuses it as Google would, or hands it to the Android phone. Also the token endpoint.
//!
//! Stands where Google stands on a notification's way.

mod accounts;
mod error;
mod fields;
mod message;
mod oauth;
mod quota;
mod rules;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

pub(crate) use accounts::Accounts;
pub use accounts::{ServiceAccountChange, ServiceAccountView};
use error::Refusal;
pub(crate) use error::status_of;
use message::{Addressee, Message};
pub(crate) use oauth::AccessTokens;
pub(crate) use quota::Quotas;
pub use rules::{FcmDeviceRate, FcmRules, InvalidTokenWording, ProjectQuota, RetryAfter};

use crate::contract::Contract;
use crate::counters::{FIRST_FCM_KIND, Provider};
use crate::device::{Form, Push};
use crate::exchange::{Answer, Broken, Ending, Response};
use crate::faults::{Script, Subject};
use crate::journal::{BODY_KEPT, Recorded, tail};
use crate::line::Line;
use crate::listener::{BodyError, read_body};
use crate::phones::{Owner, TokenKind};
use crate::world::World;

/// Whether FCM could have made this registration token or FID.
pub(crate) fn is_registration_token(token: &str) -> bool {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_');
    (8..=512).contains(&token.len()) && token.bytes().all(usable)
}

/// Where a request goes.
enum Route<'a> {
    Token,
    Send { project: &'a str },
    Nowhere,
}

fn route(parts: &Parts) -> Route<'_> {
    let path = parts.uri.path();
    if parts.method != Method::POST {
        return Route::Nowhere;
    }
    if path == "/token" {
        return Route::Token;
    }
    let project = path.strip_prefix("/v1/projects/").and_then(|rest| rest.strip_suffix("/messages:send"));
    match project {
        Some(project) if !project.is_empty() && !project.contains('/') => Route::Send { project },
        _ => Route::Nowhere,
    }
}

/// Answers one request.
///
/// # Errors
/// [`Broken`] if a script wants no answer.
pub(crate) async fn answer(world: Arc<World>, line: Arc<Line>, request: Request<Incoming>) -> Result<Response, Broken> {
    let _busy = world.fcm_rules().filter(|rules| rules.idle_close_ms > 0).map(|_| line.busy());
    let (parts, body) = request.into_parts();
    let body = read_body(body).await;
    let done = match route(&parts) {
        Route::Token => oauth_done(&world, &parts, &body),
        Route::Send { project } => send_done(&world, &parts, project, &body),
        Route::Nowhere => Done::new(Provider::Fcm, refused(&world, &Refusal::no_such_page())),
    };
    world.hold(done.delay_ms).await;
    let Done { provider, ending, token, phone, kept, scripted, .. } = done;
    if kept && world.journal.is_kept() {
        let (status, reason) = ending.outcome();
        // An assertion is a credential: what came to the token endpoint is not kept.
        let body = body.ok().filter(|body| body.len() <= BODY_KEPT && provider != Provider::Oauth);
        world.journal.record(Recorded {
            micros: world.clock.micros(),
            provider,
            method: parts.method,
            path: parts.uri.path().to_owned(),
            uri: parts.uri,
            token,
            phone,
            headers: parts.headers,
            body: body.unwrap_or_default(),
            status,
            reason,
            scripted,
            notes: Vec::new(),
        });
    }
    ending.finish(&line, &world.stop).await
}

/// A decided request, before its answer is sent.
struct Done {
    provider: Provider,
    ending: Ending,
    delay_ms: u64,
    token: String,
    phone: Option<String>,
    kept: bool,
    scripted: bool,
}

impl Done {
    fn new(provider: Provider, ending: Ending) -> Self {
        Self { provider, ending, delay_ms: 0, token: String::new(), phone: None, kept: true, scripted: false }
    }
}

fn refused(world: &World, refusal: &Refusal) -> Ending {
    world.counters.refused(Provider::Fcm, refusal.word());
    Ending::Answer(refusal.answer(&world.fcm_rules().unwrap_or_default()))
}

/// What a script says; `made` is the body for its reason or code.
fn follow(world: &World, provider: Provider, script: &Script, made: Option<&serde_json::Value>) -> Ending {
    if let Some(fault) = script.fault {
        world.counters.unanswered(provider, fault.word());
        return Ending::Fault(fault);
    }
    let answer = Answer::scripted(script, made);
    if !answer.status.is_success() {
        world.counters.refused(provider, &answer.reason);
    }
    Ending::Answer(answer)
}

fn oauth_done(world: &World, parts: &Parts, body: &Result<Bytes, BodyError>) -> Done {
    let script = world.faults.next(Subject { provider: Provider::Oauth, token: "", phone: None, topic: "" });
    let ending = match script.as_ref().filter(|script| script.answers()) {
        Some(script) => {
            let made = script.reason.as_ref().map(|reason| json!({ "error": reason }));
            follow(world, Provider::Oauth, script, made.as_ref())
        }
        None => Ending::Answer(oauth::mint(world, parts, body.as_deref().unwrap_or_default())).dressed(script.as_ref()),
    };
    let delay_ms = script.as_ref().map_or(0, |script| script.delay_ms);
    Done { delay_ms, scripted: script.is_some(), ..Done::new(Provider::Oauth, ending) }
}

fn send_done(world: &World, parts: &Parts, project: &str, body: &Result<Bytes, BodyError>) -> Done {
    let empty = Bytes::new();
    let body = body.as_ref().unwrap_or(&empty);
    let message = Message::parse(body);
    let token = message.as_ref().map_or_else(|_| String::new(), |message| message.addressee.token().to_owned());
    let owner = if token.is_empty() { Owner::Nobody } else { world.phones.owner(&token) };
    let phone = match &owner {
        Owner::Phone(handset) => Some(handset.name.clone()),
        Owner::Former(_) | Owner::Nobody => None,
    };
    let subject = Subject { provider: Provider::Fcm, token: &token, phone: phone.as_deref(), topic: project };
    let script = world.faults.next(subject);
    let scripted = script.as_ref().filter(|script| script.answers());
    let mut ending = None;
    if scripted.is_none_or(|script| script.process) {
        ending = Some(match judge(world, parts, project, message, &owner) {
            Ok(name) => accepted(&name),
            Err(refusal) => refused(world, &refusal),
        });
    }
    let ending = match scripted {
        // A message that was refused on its merits has no answer to lose.
        Some(script) if !matches!(&ending, Some(Ending::Answer(answer)) if !answer.status.is_success()) => {
            follow(world, Provider::Fcm, script, error::scripted_body(script).as_ref())
        }
        _ => ending.expect("without a script that answers there was a verdict").dressed(script.as_ref()),
    };
    let kept = !(world.accepts_unknown_tokens() && phone.is_none());
    let delay_ms = script.as_ref().map_or(0, |script| script.delay_ms);
    Done { provider: Provider::Fcm, ending, delay_ms, token, phone, kept, scripted: script.is_some() }
}

fn accepted(name: &str) -> Ending {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json; charset=UTF-8"));
    let body = Bytes::from(format!("{{\n  \"name\": \"{name}\"\n}}\n"));
    Ending::Answer(Answer { status: StatusCode::OK, reason: "".into(), headers, body, shape: None })
}

/// All checks; the name of the accepted message.
fn judge(
    world: &World,
    parts: &Parts,
    project: &str,
    message: Result<Message<'_>, Refusal>,
    owner: &Owner,
) -> Result<String, Refusal> {
    static MESSAGES: AtomicU64 = AtomicU64::new(0);
    let app = world.apps.of_project(project).ok_or_else(Refusal::no_such_page)?;
    let bearer = oauth::bearer(&parts.headers).ok_or_else(Refusal::no_credential)?;
    let granted = world.access_tokens.app(bearer, world.clock.millis())?;
    if granted != app {
        return Err(Refusal::permission_denied(project));
    }
    take_project_quota(world, app, project)?;
    let message = message?;
    message.check()?;
    if let Addressee::Token(token) | Addressee::Fid(token) = &message.addressee {
        deliver(world, app, token, &message, owner)?;
    }
    if message.validate_only {
        world.counters.accepted(FIRST_FCM_KIND + 2);
        return Ok(format!("projects/{project}/messages/fake_message_id"));
    }
    world.counters.accepted(FIRST_FCM_KIND + usize::from(message.is_visible()));
    let serial = MESSAGES.fetch_add(1, Ordering::Relaxed);
    Ok(format!("projects/{project}/messages/0:{}%{serial:016x}", world.clock.micros()))
}

/// Counts a message of a project, if the rules set a limit.
fn take_project_quota(world: &World, app: usize, project: &str) -> Result<(), Refusal> {
    let (now, Some(rules)) = (world.clock.secs(), world.fcm_rules()) else { return Ok(()) };
    let Some(quota) = rules.project_quota else { return Ok(()) };
    world.quotas.of_project(app, quota, now).map_err(|secs| {
        let (subject, description) = (format!("project:{project}"), "Message rate exceeded");
        Refusal::quota_exceeded(subject, description, rules.retry_after.header(now, secs))
    })
}

/// Counts a message to a device, if the rules set a limit.
fn take_device_rate(world: &World, token: &str) -> Result<(), Refusal> {
    let (now, Some(rules)) = (world.clock.secs(), world.fcm_rules()) else { return Ok(()) };
    let Some(rate) = rules.device_rate else { return Ok(()) };
    world.quotas.of_device(token, rate, now).map_err(|secs| {
        let (subject, description) = (format!("device:{}", tail(token)), "Device message rate exceeded");
        Refusal::quota_exceeded(subject, description, rules.retry_after.header(now, secs))
    })
}

fn deliver(world: &World, app: usize, token: &str, message: &Message<'_>, owner: &Owner) -> Result<(), Refusal> {
    if !is_registration_token(token) {
        return Err(Refusal::invalid_token());
    }
    let handset = match owner {
        Owner::Phone(handset) => handset,
        Owner::Nobody if world.accepts_unknown_tokens() => return Ok(()),
        Owner::Former(_) | Owner::Nobody => return Err(Refusal::unregistered()),
    };
    // "token is said to accept a FID too" during the transition; the other way round is refused.
    let wrong_kind = handset.token_kind() == TokenKind::Token && matches!(message.addressee, Addressee::Fid(_));
    if handset.unregistered_at_ms(world.clock.millis()).is_some() || wrong_kind {
        return Err(Refusal::unregistered());
    }
    if handset.app != app {
        return Err(Refusal::sender_id_mismatch());
    }
    if message.validate_only {
        return Ok(());
    }
    take_device_rate(world, token)?;
    world.deliver(handset, arriving(message, world.clock.millis()));
    Ok(())
}

/// The message as the phone gets it.
fn arriving(message: &Message<'_>, now_ms: u64) -> Push {
    let visible = message.is_visible();
    let object = message.herald();
    let contract = object.as_deref().and_then(Contract::parse);
    Push {
        form: contract.as_ref().map_or(if visible { Form::Alert } else { Form::Raw }, |contract| contract.form),
        visible,
        urgent: message.urgent,
        notification_id: contract.as_ref().map(|contract| contract.notification_id.as_ref().to_owned()),
        app_notification_id: contract.as_ref().and_then(Contract::app_notification_id),
        receipt: contract.and_then(|contract| contract.receipt).map(std::borrow::Cow::into_owned),
        collapse_id: message.tag().map(std::borrow::Cow::into_owned),
        // "Notification messages are always collapsible and will ignore the collapse_key parameter": as with the app's
        // name, which is the default key.
        collapse_key: if visible { Some(String::new()) } else { message.collapse_key() },
        life: message.life(now_ms),
        mutable: false,
    }
}
