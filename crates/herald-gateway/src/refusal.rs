//! The one shape in which the gateway says no: `{"error":{"code","message","field","problem","fix"}}`.
//!
//! Never carries anything of the request but the place of a mistake in it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An answer that is not the one hoped for.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    field: String,
    problem: String,
    fix: &'static str,
    retry_after_secs: Option<u32>,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        field: impl Into<String>,
        problem: impl Into<String>,
        fix: &'static str,
    ) -> Self {
        Self { status, code, field: field.into(), problem: problem.into(), fix, retry_after_secs: None }
    }

    /// A 400: the request breaks the contract.
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>, fix: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalidRequest", field, problem, fix)
    }

    /// A 503: nothing of it is stored for sure, and the same request may be sent again.
    pub(crate) fn unavailable(problem: &'static str) -> Self {
        let fix = "send the same request again after Retry-After; repeating is harmless";
        Self {
            retry_after_secs: Some(RETRY_AFTER_SECS),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "", problem, fix)
        }
    }
}

/// Long enough for a fail-over of the store, short enough for an app that runs in the background for 30 s.
const RETRY_AFTER_SECS: u32 = 5;

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    field: &'a str,
    problem: &'a str,
    fix: &'a str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, code, field, problem, fix, retry_after_secs } = &self;
        let place = if field.is_empty() { String::new() } else { format!("{field}: ") };
        let message = format!("{place}{problem}; {fix}");
        let error = Body { code, message, field, problem, fix };
        let mut response = (*status, Json(Envelope { error })).into_response();
        let headers = response.headers_mut();
        if let Some(secs) = retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(*secs));
        }
        if *status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
