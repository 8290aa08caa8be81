//! How a provider's request ends: an answer, or a fault that leaves the client without one.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::faults::{Fault, Script};

/// An HTTP answer ready to be sent.
pub(crate) type Response = http::Response<Full<Bytes>>;

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
}

impl Answer {
    /// An answer with a JSON body.
    pub(crate) fn json(status: StatusCode, reason: impl Into<Cow<'static, str>>, body: &Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status, reason: reason.into(), headers, body: Bytes::from(body.to_string()) }
    }

    /// What a script says. `made` is the body for its reason or code, used if it brings none of its own.
    pub(crate) fn scripted(script: &Script, made: Option<&Value>) -> Self {
        let status = script.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
        let reason = script.error_code.clone().or_else(|| script.reason.clone());
        let reason = reason.unwrap_or_else(|| if status.is_success() { String::new() } else { "scripted".to_owned() });
        let mut answer = match (&script.body, made) {
            (Some(Value::String(text)), _) => Self {
                status,
                reason: reason.into(),
                headers: HeaderMap::new(),
                body: Bytes::copy_from_slice(text.as_bytes()),
            },
            (Some(body), _) => Self::json(status, reason, body),
            (None, Some(made)) => Self::json(status, reason, made),
            (None, None) => Self { status, reason: reason.into(), headers: HeaderMap::new(), body: Bytes::new() },
        };
        for (name, value) in &script.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                answer.headers.insert(name, value);
            }
        }
        answer
    }

    fn into_response(self) -> Response {
        // A body of no bytes is none: hyper then ends the stream with the HEADERS frame, as APNs does.
        let mut response = http::Response::new(Full::new(self.body));
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
    /// Carries it out. `close` ends the connection, `stop` the simulator.
    ///
    /// # Errors
    /// [`Broken`] for every fault: the server library then resets the stream.
    pub(crate) async fn finish(self, close: &CancellationToken, stop: &CancellationToken) -> Result<Response, Broken> {
        let fault = match self {
            Self::Answer(answer) => return Ok(answer.into_response()),
            Self::Fault(fault) => fault,
        };
        let reason = match fault {
            Fault::Hang => {
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
                close.cancel();
                h2::Reason::INTERNAL_ERROR
            }
        };
        Err(Broken(h2::Error::from(reason)))
    }
}
