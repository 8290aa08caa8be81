//! The checks of a request that need nothing but the request, in the order of pushy's mock server.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, header};

use super::reason::{PushType, Reason};

pub(super) static APNS_ID: HeaderName = HeaderName::from_static("apns-id");
pub(super) static APNS_TOPIC: HeaderName = HeaderName::from_static("apns-topic");
static APNS_COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");
static APNS_PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
static APNS_EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
static APNS_PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");

/// The longest collapse id, in bytes.
const COLLAPSE_ID_LIMIT: usize = 64;
/// The longest device token, in characters: "don't make assumptions about device token size", but some limit.
const DEVICE_TOKEN_LIMIT: usize = 200;
/// Before the device token in the path.
const DEVICE_PATH: &str = "/3/device/";

/// A request whose form is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked<'a> {
    pub(super) topic: &'a str,
    pub(super) push_type: Option<PushType>,
    pub(super) priority: u8,
    /// Seconds since 1970; 0: now or never; `None`: as long as APNs likes.
    pub(super) expiration: Option<u64>,
    pub(super) collapse_id: Option<&'a [u8]>,
}

/// The device token in a path, in lower case; empty if there is none.
pub(super) fn device_token(path: &str) -> Cow<'_, str> {
    let token = path.strip_prefix(DEVICE_PATH).unwrap_or_default();
    if token.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(token.to_ascii_lowercase())
    } else {
        Cow::Borrowed(token)
    }
}

/// Whether APNs could have made this device token.
pub(crate) fn is_device_token(token: &str) -> bool {
    let length = token.len();
    length > 0
        && length <= DEVICE_TOKEN_LIMIT
        && length.is_multiple_of(2)
        && token.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Checks headers, method and path.
///
/// # Errors
/// The first thing that APNs would object to.
pub(super) fn check(parts: &Parts, strict: bool) -> Result<Checked<'_>, Reason> {
    let headers = &parts.headers;
    if headers.keys_len() != headers.len() {
        return Err(Reason::DuplicateHeaders);
    }
    if headers.get(&APNS_ID).is_some_and(|id| !is_message_id(id.as_bytes(), strict)) {
        return Err(Reason::BadMessageId);
    }
    if parts.method != Method::POST {
        return Err(Reason::MethodNotAllowed);
    }
    let topic = headers.get(&APNS_TOPIC).ok_or(Reason::MissingTopic)?.to_str().map_err(|_| Reason::BadTopic)?;
    if topic.is_empty() {
        return Err(Reason::MissingTopic);
    }
    let collapse_id = headers.get(&APNS_COLLAPSE_ID).map(header::HeaderValue::as_bytes);
    if collapse_id.is_some_and(|id| id.len() > COLLAPSE_ID_LIMIT) {
        return Err(Reason::BadCollapseId);
    }
    let expiration = expiration(headers)?;
    let (priority, push_type) = check_priority_and_type(headers, strict)?;
    let path = parts.uri.path();
    match path.strip_prefix(DEVICE_PATH) {
        None => return Err(Reason::BadPath),
        Some("") => return Err(Reason::MissingDeviceToken),
        Some(token) if token.contains('/') => return Err(Reason::BadPath),
        Some(token) if !is_device_token(token) => return Err(Reason::BadDeviceToken),
        Some(_) => {}
    }
    Ok(Checked { topic, push_type, priority, expiration, collapse_id })
}

fn check_priority_and_type(headers: &HeaderMap, strict: bool) -> Result<(u8, Option<PushType>), Reason> {
    let priority = match headers.get(&APNS_PRIORITY).map(header::HeaderValue::as_bytes) {
        None | Some(b"10") => 10,
        Some(b"5") => 5,
        Some(b"1") => 1,
        Some(_) => return Err(Reason::BadPriority),
    };
    let push_type = match headers.get(&APNS_PUSH_TYPE) {
        None => None,
        Some(word) => Some(PushType::parse(word.as_bytes()).ok_or(Reason::InvalidPushType)?),
    };
    // "Specifying priority 10 is an error" for background; the reason is not documented. Absent means 10.
    if strict && push_type == Some(PushType::Background) && priority == 10 {
        return Err(Reason::BadPriority);
    }
    Ok((priority, push_type))
}

fn expiration(headers: &HeaderMap) -> Result<Option<u64>, Reason> {
    let Some(value) = headers.get(&APNS_EXPIRATION) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or(Reason::BadExpirationDate)
}

/// A canonical UUID: 8-4-4-4-12 hexadecimal digits, in lower case if `strict`.
fn is_message_id(id: &[u8], strict: bool) -> bool {
    id.len() == 36
        && id.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit() && !(strict && byte.is_ascii_uppercase()),
        })
}
