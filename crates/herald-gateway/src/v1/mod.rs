//! Herald's own routes for those who bring a token, under `/v1`.
//!
//! Stands beside Graph's routes: what Graph's clients never asked for over HTTP, since its own libraries did it, and what
//! people who run it need. Another app's or user's thing is answered exactly as one that isn't there (G8).
//!
//! Reading order: this file → [`members`] (a body's members) → [`subscriptions`], [`registration`] → [`traces`] → [`erasure`].

pub(crate) mod erasure;
mod members;
mod registration;
pub(crate) mod subscriptions;
pub(crate) mod traces;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::routing::{delete, get, post};
use herald_core::ids::{AppId, UserId};
use herald_core::request::MAX_NAME_CHARS;
use herald_store::StoreError;
use serde_json::{Map, Value};
use tokio::time::timeout;
use tracing::{error, warn};

use crate::api::{Api, AppRules};
use crate::auth::{self, Who};
use crate::body::{self, Encoding};
use crate::identity::Caller;
use crate::refusal::Refusal;

/// How long the store may take before the client is told to come back.
const STORE_LIMIT: Duration = Duration::from_secs(10);
/// The largest body: a push token has 4 KiB at most.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The routes.
pub(crate) fn routes(api: &Arc<Api>) -> Router {
    let one = get(subscriptions::show).patch(subscriptions::change).delete(subscriptions::end);
    Router::new()
        .route("/v1/subscriptions", post(subscriptions::register).get(subscriptions::list))
        .route("/v1/subscriptions/{unsid}", one)
        .route("/v1/apps/{app}/users/{user}", delete(erasure::erase))
        .route("/v1/notifications/trace", get(traces::find))
        .route("/v1/notifications/{id}/trace", get(traces::show))
        .method_not_allowed_fallback(async || {
            let (code, fix) = ("methodNotAllowed", "see docs/http.md for the methods of this path");
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, code, "method", "is not served at this path", fix)
        })
        .with_state(Arc::clone(api))
}

/// An app, and its user if it is a user who calls.
struct Reach<'a> {
    app: AppId,
    user: Option<UserId>,
    rules: &'a AppRules,
}

/// Whose devices the caller may reach.
///
/// # Errors
/// As [`auth::who`]; 403 for the operator, and for an app that isn't configured here.
async fn reach<'a>(api: &'a Api, parts: &Parts) -> Result<Reach<'a>, Refusal> {
    let (app, user) = match auth::who(api, &parts.headers, api.store.clock().now()).await? {
        Who::Operator => {
            let fix = "use a token of the app, or of its user";
            return Err(Refusal::forbidden("Authorization", "the operator's token reaches no devices", fix));
        }
        Who::Caller(Caller::App(app)) => (app, None),
        Who::Caller(Caller::User { app, user, .. }) => (app, Some(user)),
    };
    let Some(rules) = api.apps.get(&app) else {
        let fix = "ask the operator to configure the app here";
        return Err(Refusal::forbidden("Authorization", "the token is of an app that is not configured here", fix));
    };
    Ok(Reach { app, user, rules })
}

impl Reach<'_> {
    /// Of whom is asked: the user who calls, or the one that the app names.
    fn whose(&self, named: Option<&str>) -> Result<UserId, Refusal> {
        match (&self.user, named) {
            (Some(user), None) => Ok(user.clone()),
            (Some(user), Some(named)) if user.as_str() == named => Ok(user.clone()),
            (Some(_), Some(_)) => {
                let fix = "leave it out, or use an app token";
                Err(Refusal::forbidden("userId", "names another user than the token", fix))
            }
            (None, None) => Err(Refusal::invalid("userId", "is missing", "name the user, or use the user's token")),
            (None, Some(named)) => user(named),
        }
    }
}

/// A user's name as it came.
fn user(named: &str) -> Result<UserId, Refusal> {
    let length = named.chars().count();
    if !(1..=MAX_NAME_CHARS).contains(&length) || named.chars().any(char::is_control) {
        let fix = format!("give 1 to {MAX_NAME_CHARS} characters without control characters");
        return Err(Refusal::invalid("userId", "names no user", fix));
    }
    Ok(UserId::new(named))
}

/// As everything is answered that isn't there, or isn't the caller's.
fn not_found(what: &'static str) -> Refusal {
    let (problem, fix) = (format!("names no {what} that can be reached here"), "send the id that it was answered with");
    Refusal::new(StatusCode::NOT_FOUND, "notFound", "path", problem, fix)
}

/// What a query says by this name; the last counts.
fn query<'u>(uri: &'u Uri, name: &str) -> Option<Cow<'u, str>> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.filter(|(given, _)| given == name).last().map(|(_, value)| value)
}

/// The body, which must be a JSON object.
async fn object(parts: &Parts, body: axum::body::Body) -> Result<Map<String, Value>, Refusal> {
    const SHAPE: &str = "send a JSON object; see docs/http.md";
    let encoding = Encoding::of(&parts.headers)?;
    let body = encoding.decode(body::read(Request::new(body), MAX_BODY_BYTES).await?, MAX_BODY_BYTES)?;
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Refusal::invalid("body", "is not an object", SHAPE)),
        // serde's own message may quote the body.
        Err(error) => {
            let problem = format!("is not JSON (line {}, column {})", error.line(), error.column());
            Err(Refusal::invalid("body", problem, SHAPE))
        }
    }
}

/// What the store says, in time.
async fn stored<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, Refusal> {
    const AGAIN: &str = "send it again after Retry-After; repeating is harmless";
    match timeout(STORE_LIMIT, call).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) if error.is_transient() => warn!(%error, "the store is away; the client is told to come back"),
        Ok(Err(error)) => {
            error!(%error, "the store refuses a request");
            let (status, code) = (StatusCode::INTERNAL_SERVER_ERROR, "internalServerError");
            let problem = "the store refuses this, which is a fault of the service";
            return Err(Refusal::new(status, code, "", problem, "tell the operator when it was"));
        }
        Err(_) => warn!("the store did not answer in time; the client is told to come back"),
    }
    Err(Refusal::unavailable("the store does not answer now", AGAIN))
}
