//! What comes with the body, and the body as a JSON object: is this a notification for Herald at all?
//!
//! The first thing that [`super::parse`] looks at, so that a message of another system is named as what it is instead of
//! "targetHostName is missing".

use serde_json::Value;

use super::fields::Fields;
use super::{Envelope, KIND, MAX_BODY_BYTES, RequestError};

/// W3C Trace Context: vendors need not hand on more than 512 characters of `tracestate`.
const MAX_TRACESTATE_CHARS: usize = 512;

const CELERY_FIX: &str =
    "publish JSON of the Herald contract to herald.requests, and keep task messages in queues of their own";

/// Checks size and properties.
pub(super) fn check(body: &[u8], envelope: &Envelope<'_>) -> Result<(), RequestError> {
    if envelope.foreign.is_some() {
        let problem = "are those of another system's task message, such as Celery's task and lang";
        return Err(RequestError::new("headers", problem, CELERY_FIX));
    }
    if body.len() > MAX_BODY_BYTES {
        let problem = format!("has {} bytes; the limit is {MAX_BODY_BYTES}", body.len());
        return Err(RequestError::new(
            "body",
            problem,
            "send a reference in rawContent and let the app fetch the rest",
        ));
    }
    if envelope.kind.is_some_and(|kind| !kind.is_empty() && kind != KIND) {
        return Err(RequestError::new(
            "type",
            "is not a kind of message known here",
            format!("set {KIND}, or leave it out"),
        ));
    }
    if !envelope.content_type.is_none_or(is_json) {
        return Err(RequestError::new("content_type", "is not application/json", "set application/json and send JSON"));
    }
    if !envelope.content_encoding.is_none_or(is_identity) {
        let fix = "send the body uncompressed and leave content_encoding out";
        return Err(RequestError::new("content_encoding", "is not read from a queue", fix));
    }
    Ok(())
}

/// Parameters such as `charset` are allowed; JSON is UTF-8 whatever they say (RFC 8259 §8.1).
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.is_empty() || media_type.eq_ignore_ascii_case("application/json")
}

/// Some AMQP clients put the charset here; it says nothing about compression.
fn is_identity(encoding: &str) -> bool {
    ["", "identity", "utf-8", "utf8"].iter().any(|plain| encoding.trim().eq_ignore_ascii_case(plain))
}

/// The body as an object. A byte order mark is skipped: some .NET producers send one.
pub(super) fn object(body: &[u8]) -> Result<Fields, RequestError> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let fix = "send one JSON object in UTF-8";
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(Fields::of_body(map)),
        Ok(Value::Array(items)) if is_celery(&items) => {
            Err(RequestError::new("body", "is a Celery task message: [args, kwargs, embed]", CELERY_FIX))
        }
        Ok(Value::Array(_)) => Err(RequestError::new("body", "is a list", "send one notification per message")),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            Err(RequestError::new("body", "is not a JSON object", fix))
        }
        // The place only: the message of the error might hold a piece of the body.
        Err(error) => {
            let problem = format!("is not JSON (line {}, column {})", error.line(), error.column());
            Err(RequestError::new("body", problem, fix))
        }
    }
}

/// Celery's protocol 2: positional arguments, named arguments, callbacks.
fn is_celery(items: &[Value]) -> bool {
    matches!(items, [Value::Array(_), Value::Object(_), Value::Object(_)])
}

/// The producer's trace context, if it is one. As W3C asks, an invalid `traceparent` is dropped, and `tracestate` with it.
pub(super) fn trace_context(envelope: &Envelope<'_>) -> (Option<String>, Option<String>) {
    let Some(parent) = envelope.traceparent.filter(|text| is_traceparent(text)) else {
        return (None, None);
    };
    let state = envelope.tracestate.filter(|text| {
        (1..=MAX_TRACESTATE_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    });
    (Some(parent.to_owned()), state.map(str::to_owned))
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, in lower case; neither id all zeros.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = |part: &str, len| hex(part, len) && part.bytes().any(|b| b != b'0');
    let mut parts = text.split('-');
    parts.next() == Some("00")
        && parts.next().is_some_and(|trace| id(trace, 32))
        && parts.next().is_some_and(|span| id(span, 16))
        && parts.next().is_some_and(|flags| hex(flags, 2))
        && parts.next().is_none()
}
