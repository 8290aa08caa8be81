//! How a provider's request ends: an answer, or a fault that leaves the client without one.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::content::{Content, Shape};
use crate::faults::{Fault, Script};
use crate::line::Line;

/// An HTTP answer ready to be sent.
pub(crate) type Response = http::Response<Content>;

/// How long a hanging request is kept, which no client waits for.
const HANG_LIMIT: Duration = Duration::from_secs(600);

/// The stream ends without an answer; hyper resets it with the reason inside.
#[derive(Debug, thiserror::Error)]
#[error("a scripted fault ended the stream")]
pub(crate) struct Broken(#[source] h2::Error);

/// What a provider answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// For journal and counters; empty if accepted.
    pub(crate) reason: Cow<'static, str>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How a script wants the body sent.
    pub(crate) shape: Option<Box<Shape>>,
}

impl Answer {
    /// An answer with a JSON body.
    pub(crate) fn json(status: StatusCode, reason: impl Into<Cow<'static, str>>, body: &Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status, reason: reason.into(), headers, body: Bytes::from(body.to_string()), shape: None }
    }

    /// What a script says. `made` is the body for its reason or code, used if it brings none of its own.
    pub(crate) fn scripted(script: &Script, made: Option<&Value>) -> Self {
        let status = script.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
        let reason = script.error_code.clone().or_else(|| script.reason.clone());
        let reason = reason.unwrap_or_else(|| if status.is_success() { String::new() } else { "scripted".to_owned() });
        let plain =
            |body: Bytes| Self { status, reason: reason.clone().into(), headers: HeaderMap::new(), body, shape: None };
        let mut answer = match (&script.body, made) {
            (Some(Value::String(text)), _) => plain(Bytes::copy_from_slice(text.as_bytes())),
            (Some(body), _) => Self::json(status, reason, body),
            (None, Some(made)) => Self::json(status, reason, made),
            (None, None) => plain(Bytes::new()),
        };
        answer.dress(script);
        answer
    }

    /// Headers, pieces and delays of the script, for an answer that may be anybody's.
    pub(crate) fn dress(&mut self, script: &Script) {
        for (name, value) in &script.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                self.headers.insert(name, value);
            }
        }
        for name in &script.omit_headers {
            self.headers.remove(name.as_str());
        }
        self.shape = Shape::of(script).map(Box::new);
    }

    fn into_response(self) -> Response {
        let mut response = http::Response::new(Content::new(self.body, self.shape.as_deref()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// How the request ends.
#[derive(Debug)]
pub(crate) enum Ending {
    Answer(Answer),
    Fault(Fault),
}

impl Ending {
    /// The status and the reason, for the journal; no status: no answer is given.
    pub(crate) fn outcome(&self) -> (Option<u16>, String) {
        match self {
            Self::Answer(answer) => (Some(answer.status.as_u16()), answer.reason.clone().into_owned()),
            Self::Fault(fault) => (None, fault.word().to_owned()),
        }
    }

    /// The answer, sent as the script wants it.
    pub(crate) fn dressed(mut self, script: Option<&Script>) -> Self {
        if let (Some(script), Self::Answer(answer)) = (script, &mut self) {
            answer.dress(script);
        }
        self
    }

    /// Carries it out on its connection. `stop` ends the simulator.
    ///
    /// # Errors
    /// [`Broken`] for every fault: the server library then resets the stream.
    pub(crate) async fn finish(self, line: &Line, stop: &CancellationToken) -> Result<Response, Broken> {
        let fault = match self {
            Self::Answer(answer) => {
                if answer.shape.as_ref().is_some_and(|shape| shape.goaway) {
                    line.leave();
                }
                return Ok(answer.into_response());
            }
            Self::Fault(fault) => fault,
        };
        let reason = match fault {
            Fault::Hang | Fault::Stall => {
                if fault == Fault::Stall {
                    line.stall();
                }
                tokio::select! {
                    // Nobody waits any longer.
                    () = tokio::time::sleep(HANG_LIMIT) => {}
                    // The simulator ends; so do its connections.
                    () = stop.cancelled() => {}
                }
                h2::Reason::CANCEL
            }
            Fault::Refuse => h2::Reason::REFUSED_STREAM,
            Fault::Reset => h2::Reason::INTERNAL_ERROR,
            Fault::Close => {
                // The connection's task looks at this before anything else, so the reset below is never written.
                line.close();
                h2::Reason::INTERNAL_ERROR
            }
            Fault::Rst => {
                line.abort();
                h2::Reason::INTERNAL_ERROR
            }
        };
        Err(Broken(h2::Error::from(reason)))
    }
}
