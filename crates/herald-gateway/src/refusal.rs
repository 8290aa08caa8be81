//! The one shape in which the gateway says no, which is Graph's with three members more:
//! `{"error":{"code","message","field","problem","fix","innerError":{"date","request-id","client-request-id"}}}`.
//! `innerError` is there on Graph's routes.
//!
//! Never carries anything of the request but the place of a mistake in it, and the client's own id of it.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use herald_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// An answer that is not the one hoped for.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Said>);

#[derive(Debug)]
struct Said {
    status: StatusCode,
    code: &'static str,
    field: String,
    problem: String,
    fix: Cow<'static, str>,
    retry_after_secs: Option<u32>,
    challenge: &'static str,
    inner: Option<Inner>,
}

/// Which request was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Inner {
    #[schema(value_type = String, format = DateTime)]
    pub(crate) date: Timestamp,
    #[serde(rename = "request-id")]
    pub(crate) request_id: String,
    #[serde(rename = "client-request-id")]
    pub(crate) client_request_id: String,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        field: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Said {
            status,
            code,
            field: field.into(),
            problem: problem.into(),
            fix: fix.into(),
            retry_after_secs: None,
            challenge: "Bearer",
            inner: None,
        }))
    }

    /// A 400: the request breaks the contract.
    pub(crate) fn invalid(
        field: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalidRequest", field, problem, fix)
    }

    /// A 403: the caller is known, and may not do this.
    pub(crate) fn forbidden(
        field: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(StatusCode::FORBIDDEN, "accessDenied", field, problem, fix)
    }

    /// A 401 for a token that was looked at and is no good (RFC 6750 §3.1).
    pub(crate) fn invalid_token(problem: impl Into<String>, fix: &'static str) -> Self {
        let code = "InvalidAuthenticationToken";
        let mut refusal = Self::new(StatusCode::UNAUTHORIZED, code, "Authorization", problem, fix);
        refusal.0.challenge = "Bearer error=\"invalid_token\"";
        refusal
    }

    /// A 500: the store refuses it for good, a fault of ours.
    pub(crate) fn defect(problem: impl Into<String>) -> Self {
        let (status, code) = (StatusCode::INTERNAL_SERVER_ERROR, "internalServerError");
        Self::new(status, code, "", problem, "tell the operator the request-id")
    }

    /// A 503: nothing of it is stored for sure, and the same request may be sent again.
    pub(crate) fn unavailable(problem: impl Into<String>, fix: &'static str) -> Self {
        let mut refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "", problem, fix);
        refusal.0.retry_after_secs = Some(RETRY_AFTER_SECS);
        refusal
    }

    /// A 429, or what is said in its place: nothing of it was looked at, and the same request may be sent after `secs`.
    pub(crate) fn throttled(status: StatusCode, secs: u32) -> Self {
        let (problem, fix) = ("the app sends more than it may", "send it again after Retry-After");
        let mut refusal = Self::new(status, "tooManyRequests", "", problem, fix);
        refusal.0.retry_after_secs = Some(secs);
        refusal
    }

    /// The same, with the ids of the request that it answers.
    pub(crate) fn of(mut self, inner: Inner) -> Self {
        self.0.inner = Some(inner);
        self
    }
}

/// Long enough for a fail-over of the store, short enough for an app that runs in the background for 30 s.
const RETRY_AFTER_SECS: u32 = 5;

/// Every answer that says no.
#[derive(Serialize, ToSchema)]
pub(crate) struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body<'a> {
    /// For programs; the list is in docs/http.md.
    code: &'a str,
    /// For people: field, problem and fix in one.
    message: String,
    /// The place of the mistake, if there is one.
    #[serde(skip_serializing_if = "str::is_empty")]
    field: &'a str,
    /// What is wrong.
    problem: &'a str,
    /// What to do about it.
    fix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    inner_error: Option<&'a Inner>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Said { status, code, field, problem, fix, retry_after_secs, challenge, inner } = self.0.as_ref();
        let place = if field.is_empty() { String::new() } else { format!("{field}: ") };
        let message = format!("{place}{problem}; {fix}");
        let error = Body { code, message, field, problem, fix, inner_error: inner.as_ref() };
        let mut response = (*status, Json(Envelope { error })).into_response();
        let headers = response.headers_mut();
        if let Some(secs) = retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(*secs));
        }
        if *status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
