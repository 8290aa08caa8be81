//! FCM's error answers, in the bodies that were captured from the real one.
//!
//! Sources: Firebase, "FCM error codes"; captured bodies in bloomberg/pushiko; `google.api.ErrorReason` for the reasons of
//! ErrorInfo. Two things matter to a client: an error without an `FcmError` detail is about us, never about the device;
//! and `error.status` is not the error code.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::rules::{FcmRules, InvalidTokenWording};
use crate::exchange::Answer;
use crate::faults::Script;

/// FCM's error codes, with the status and the message they come with.
const CODES: [(&str, u16, &str); 8] = [
    ("INVALID_ARGUMENT", 400, "Request contains an invalid argument."),
    ("THIRD_PARTY_AUTH_ERROR", 401, "Auth error from APNS or Web Push Service"),
    ("APNS_AUTH_ERROR", 401, "Auth error from APNS or Web Push Service"),
    ("SENDER_ID_MISMATCH", 403, "SenderId mismatch"),
    ("UNREGISTERED", 404, "Requested entity was not found."),
    ("QUOTA_EXCEEDED", 429, "Resource has been exhausted (e.g. check quota)."),
    ("INTERNAL", 500, "Internal error encountered."),
    ("UNAVAILABLE", 503, "The service is currently unavailable."),
];
/// The page that Google's front end answers for paths nobody serves.
const NO_SUCH_PAGE: &str = "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n";
const SCOPE_INSUFFICIENT: &str = "ACCESS_TOKEN_SCOPE_INSUFFICIENT";

/// The status and the message that an error code comes with.
fn usual(error_code: &str) -> Option<(u16, &'static str)> {
    CODES.iter().find(|(code, ..)| *code == error_code).map(|(_, status, message)| (*status, *message))
}

/// The status that an error code comes with.
pub(crate) fn status_of(error_code: &str) -> Option<u16> {
    usual(error_code).map(|(status, _)| status)
}

/// A detail of an error.
#[derive(Debug, PartialEq, Eq)]
enum Detail {
    FcmError(&'static str),
    BadRequest { field: String, description: String },
    QuotaFailure { subject: String, description: String },
    ErrorInfo(&'static str),
}

impl Detail {
    fn json(&self) -> Value {
        let kind = |name: &str| format!("type.googleapis.com/google.rpc.{name}");
        match self {
            Self::FcmError(error_code) => fcm_error(error_code),
            Self::BadRequest { field, description } => {
                let violations = json!([{ "field": field, "description": description }]);
                json!({ "@type": kind("BadRequest"), "fieldViolations": violations })
            }
            Self::QuotaFailure { subject, description } => {
                let violations = json!([{ "subject": subject, "description": description }]);
                json!({ "@type": kind("QuotaFailure"), "violations": violations })
            }
            Self::ErrorInfo(reason) => {
                json!({ "@type": kind("ErrorInfo"), "reason": reason, "domain": "googleapis.com" })
            }
        }
    }
}

/// Why an access token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadToken {
    /// Never handed out.
    Unknown,
    Expired,
    Revoked,
}

/// Why FCM refuses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    /// `error.status`; empty for a page of HTML.
    name: &'static str,
    message: Box<str>,
    /// In the order that was captured.
    details: Vec<Detail>,
    retry_after: Option<Box<str>>,
}

impl Refusal {
    fn new(status: StatusCode, name: &'static str, message: impl Into<Box<str>>) -> Self {
        Self { status, name, message: message.into(), details: Vec::new(), retry_after: None }
    }

    fn with(mut self, detail: Detail) -> Self {
        self.details.push(detail);
        self
    }

    fn violation(self, field: &str, description: &str) -> Self {
        self.with(Detail::BadRequest { field: field.to_owned(), description: description.to_owned() })
    }

    /// Another path, method or project: a page of HTML.
    pub(super) fn no_such_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "", "")
    }

    /// No `authorization`, or none that is a bearer token.
    pub(super) fn no_credential() -> Self {
        let message = "Request is missing required authentication credential. Expected OAuth 2 access token, login \
                       cookie or other valid authentication credential.";
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message).with(Detail::ErrorInfo("CREDENTIALS_MISSING"))
    }

    /// An access token that never was, or is no more. Google has no reason for one that was revoked; ours is that of an
    /// account in a bad state, since that is what mostly ends tokens before their time.
    pub(super) fn bad_credential(token: BadToken) -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                       other valid authentication credential.";
        let reason = match token {
            BadToken::Unknown => "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            BadToken::Expired => "ACCESS_TOKEN_EXPIRED",
            BadToken::Revoked => "ACCOUNT_STATE_INVALID",
        };
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message).with(Detail::ErrorInfo(reason))
    }

    /// The access token is for other services than FCM.
    pub(super) fn scope_insufficient() -> Self {
        let message = "Request had insufficient authentication scopes.";
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message).with(Detail::ErrorInfo(SCOPE_INSUFFICIENT))
    }

    /// The access token is another project's.
    pub(super) fn permission_denied(project: &str) -> Self {
        let message = format!(
            "Permission 'cloudmessaging.messages.create' denied on resource \
             '//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
        );
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message).with(Detail::ErrorInfo("IAM_PERMISSION_DENIED"))
    }

    /// An error code with its usual status and message.
    fn usual(name: &'static str, error_code: &'static str) -> Self {
        let (status, message) = usual(error_code).unwrap_or((400, ""));
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(status, name, message).with(Detail::FcmError(error_code))
    }

    /// The app is gone from the device, or the token is unknown.
    pub(super) fn unregistered() -> Self {
        Self::usual("NOT_FOUND", "UNREGISTERED")
    }

    /// The token is another project's.
    pub(super) fn sender_id_mismatch() -> Self {
        Self::usual("PERMISSION_DENIED", "SENDER_ID_MISMATCH")
    }

    /// FCM can't have made this token.
    pub(super) fn invalid_token() -> Self {
        Self::usual("INVALID_ARGUMENT", "INVALID_ARGUMENT").violation("message.token", "Invalid registration token")
    }

    /// The same in the other words that were seen.
    fn invalid_token_in_a_sentence() -> Self {
        Self::invalid("The registration token is not a valid FCM registration token")
    }

    /// Nobody to send to.
    pub(super) fn no_recipient() -> Self {
        let message = "Recipient of the message is not set.";
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
            .violation("message", message)
            .with(Detail::FcmError("INVALID_ARGUMENT"))
    }

    /// The message is wrong, with an FcmError detail.
    pub(super) fn invalid(message: &str) -> Self {
        let plain = Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message);
        plain.with(Detail::FcmError("INVALID_ARGUMENT"))
    }

    /// The message is too large: no details at all.
    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "Request contains an invalid argument.")
    }

    /// Too many messages. No capture of a real one is known: the QuotaFailure is documented, its words are ours.
    pub(super) fn quota_exceeded(subject: String, description: &str, retry_after: Option<Box<str>>) -> Self {
        let detail = Detail::QuotaFailure { subject, description: description.to_owned() };
        Self { retry_after, ..Self::usual("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED").with(detail) }
    }

    /// The JSON doesn't fit the message's schema, at this field.
    pub(super) fn schema(field: &str, problem: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", problem).violation(field, problem)
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
        let code = self.details.iter().find_map(|detail| match detail {
            Detail::FcmError(error_code) => Some(*error_code),
            Detail::BadRequest { .. } | Detail::QuotaFailure { .. } | Detail::ErrorInfo(_) => None,
        });
        if self.name.is_empty() { "NO_SUCH_PAGE" } else { code.unwrap_or(self.name) }
    }

    /// The answer, in the words and the order that the rules want.
    pub(super) fn answer(&self, rules: &FcmRules) -> Answer {
        if rules.invalid_token_wording == InvalidTokenWording::Sentence && *self == Self::invalid_token() {
            return Self::invalid_token_in_a_sentence().answer(rules);
        }
        if self.name.is_empty() {
            let html = HeaderValue::from_static("text/html; charset=UTF-8");
            return Answer {
                status: self.status,
                reason: self.word().into(),
                headers: HeaderMap::from_iter([(header::CONTENT_TYPE, html)]),
                body: Bytes::from_static(NO_SUCH_PAGE.as_bytes()),
                shape: None,
            };
        }
        let mut details: Vec<_> = self.details.iter().map(Detail::json).collect();
        if rules.details_reversed {
            details.reverse();
        }
        let mut answer = Answer::json(self.status, self.word(), &body(self.status, self.name, &self.message, details));
        if let Some(challenge) = self.challenge() {
            answer.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(after) = self.retry_after.as_deref().and_then(|after| HeaderValue::from_str(after).ok()) {
            answer.headers.insert(header::RETRY_AFTER, after);
        }
        answer
    }

    /// The `WWW-Authenticate`, if credentials are to blame.
    fn challenge(&self) -> Option<&'static str> {
        if self.details.contains(&Detail::ErrorInfo(SCOPE_INSUFFICIENT)) {
            return Some(
                "Bearer realm=\"https://accounts.google.com/\", error=\"insufficient_scope\", \
                 scope=\"https://www.googleapis.com/auth/firebase.messaging \
                 https://www.googleapis.com/auth/cloud-platform\"",
            );
        }
        let invalid = "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"";
        (self.status == StatusCode::UNAUTHORIZED).then_some(invalid)
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

/// The body for a scripted status and error code; none for a success. The message is the script's `reason`, or the one that
/// the code comes with.
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
    let message = script.error_code.as_deref().and_then(usual).map(|(_, message)| message);
    let message = script.reason.as_deref().or(message).unwrap_or("scripted");
    Some(body(status, name, message, details))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_s_status_has_a_name() {
        for (code, status, _) in CODES {
            let script = Script { status: Some(status), error_code: Some(code.to_owned()), ..Script::default() };
            let body = scripted_body(&script).unwrap();
            assert_ne!(body["error"]["status"], "UNKNOWN", "{code}");
            assert_ne!(body["error"]["message"], "scripted", "{code}");
        }
        assert_eq!(status_of("NEW_CODE"), None);
    }

    #[test]
    fn a_message_too_large_has_no_details() {
        let body: Value = serde_json::from_slice(&Refusal::too_large().answer(&FcmRules::default()).body).unwrap();
        assert_eq!(body["error"]["details"], Value::Null);
    }
}
