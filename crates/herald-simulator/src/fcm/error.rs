//! FCM's error answers, in the bodies that were captured from the real one.
//!
//! Sources: Firebase, "FCM error codes"; captured bodies in bloomberg/pushiko. Two things matter to a client: an error
//! without an `FcmError` detail is about us, never about the device; and `error.status` is not the error code.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::exchange::Answer;
use crate::faults::Script;

/// Why FCM refuses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    /// `error.status`.
    name: &'static str,
    message: Box<str>,
    /// `errorCode` of the FcmError detail, if there is one.
    error_code: Option<&'static str>,
    /// Field and description of the BadRequest detail, if there is one.
    violation: Option<Box<(String, String)>>,
    /// `reason` of the ErrorInfo detail, if there is one.
    info: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, name: &'static str, message: impl Into<Box<str>>) -> Self {
        Self { status, name, message: message.into(), error_code: None, violation: None, info: None }
    }

    /// Another path, method or project: a page of HTML.
    pub(super) fn no_such_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "", "")
    }

    /// No `authorization`, or none that is a bearer token.
    pub(super) fn no_credential() -> Self {
        let message = "Request is missing required authentication credential. Expected OAuth 2 access token, login \
                       cookie or other valid authentication credential.";
        let info = Some("CREDENTIALS_MISSING");
        Self { info, ..Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message) }
    }

    /// An access token that never was, or is no more.
    pub(super) fn bad_credential(expired: bool) -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                       other valid authentication credential.";
        let info = Some(if expired { "ACCESS_TOKEN_EXPIRED" } else { "ACCESS_TOKEN_TYPE_UNSUPPORTED" });
        Self { info, ..Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message) }
    }

    /// The access token is another project's.
    pub(super) fn permission_denied(project: &str) -> Self {
        let message = format!(
            "Permission 'cloudmessaging.messages.create' denied on resource \
             '//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
        );
        let info = Some("IAM_PERMISSION_DENIED");
        Self { info, ..Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message) }
    }

    /// The app is gone from the device, or the token is unknown.
    pub(super) fn unregistered() -> Self {
        let plain = Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Requested entity was not found.");
        Self { error_code: Some("UNREGISTERED"), ..plain }
    }

    /// The token is another project's.
    pub(super) fn sender_id_mismatch() -> Self {
        let plain = Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", "SenderId mismatch");
        Self { error_code: Some("SENDER_ID_MISMATCH"), ..plain }
    }

    /// FCM can't have made this token.
    pub(super) fn invalid_token() -> Self {
        let message = "The registration token is not a valid FCM registration token";
        Self {
            violation: Some(Box::new(("message.token".to_owned(), "Invalid registration token".to_owned()))),
            ..Self::invalid(message)
        }
    }

    /// The message is wrong, with an FcmError detail.
    pub(super) fn invalid(message: &str) -> Self {
        let plain = Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message);
        Self { error_code: Some("INVALID_ARGUMENT"), ..plain }
    }

    /// The message is too large: no details at all.
    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "Android message is too big")
    }

    /// The JSON doesn't fit the message's schema, at this field.
    pub(super) fn schema(field: &str, problem: &str) -> Self {
        let violation = Some(Box::new((field.to_owned(), problem.to_owned())));
        Self { violation, ..Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", problem) }
    }

    /// A field that doesn't exist, in the object at `place`.
    pub(super) fn unknown_field(place: &str, name: &str) -> Self {
        let at = if place.is_empty() { String::new() } else { format!(" at '{place}'") };
        let problem = format!("Invalid JSON payload received. Unknown name \"{name}\"{at}: Cannot find field.");
        Self::schema(place, &problem)
    }

    /// A value of the wrong type.
    pub(super) fn wrong_type(field: &str, wanted: &str, value: &str) -> Self {
        Self::schema(field, &format!("Invalid value at '{field}' ({wanted}), {value}"))
    }

    /// Its word in journal and counters.
    pub(super) fn word(&self) -> &'static str {
        if self.name.is_empty() { "NO_SUCH_PAGE" } else { self.error_code.unwrap_or(self.name) }
    }

    pub(super) fn answer(&self) -> Answer {
        if self.name.is_empty() {
            let page = "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n";
            return Answer {
                status: self.status,
                reason: self.word().into(),
                headers: HeaderMap::from_iter([(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("text/html; charset=UTF-8"),
                )]),
                body: Bytes::from_static(page.as_bytes()),
                shape: None,
            };
        }
        let mut details = Vec::new();
        details.extend(self.error_code.map(fcm_error));
        if let Some((field, description)) = self.violation.as_deref() {
            let violations = json!([{ "field": field, "description": description }]);
            details
                .push(json!({ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations }));
        }
        if let Some(reason) = self.info {
            let info = "type.googleapis.com/google.rpc.ErrorInfo";
            details.push(json!({ "@type": info, "reason": reason, "domain": "googleapis.com" }));
        }
        let mut answer = Answer::json(self.status, self.word(), &body(self.status, self.name, &self.message, details));
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"";
            answer.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        answer
    }
}

fn fcm_error(error_code: &str) -> Value {
    json!({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": error_code })
}

fn body(status: StatusCode, name: &str, message: &str, details: Vec<Value>) -> Value {
    let mut error = json!({ "code": status.as_u16(), "message": message, "status": name });
    if !details.is_empty() {
        error["details"] = Value::Array(details);
    }
    json!({ "error": error })
}

/// The body for a scripted status and error code; none for a success.
pub(super) fn scripted_body(script: &Script) -> Option<Value> {
    let status = StatusCode::from_u16(script.status?).ok().filter(|status| !status.is_success())?;
    let name = match status.as_u16() {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        _ => "UNKNOWN",
    };
    let details = script.error_code.as_deref().map(fcm_error).into_iter().collect();
    Some(body(status, name, script.reason.as_deref().unwrap_or("scripted"), details))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unregistered_token_has_the_captured_body() {
        let answer = Refusal::unregistered().answer();
        let expected = json!({"error": {
            "code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND",
            "details": [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED"}],
        }});
        assert_eq!(answer.status, 404);
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), expected);
    }

    #[test]
    fn a_message_too_large_has_no_details() {
        let body: Value = serde_json::from_slice(&Refusal::too_large().answer().body).unwrap();
        assert_eq!(body["error"]["details"], Value::Null);
    }
}
