//! Whom a request addresses, and in which app.
//!
//! A target is given once: in the body's `target`, or by the header `x-uns-id`, or in both if they agree. Whether the
//! subscription was ever issued, and whether the app may send, is the store's and the caller's to say.

use uuid::Uuid;

use super::fields::Fields;
use super::{RequestError, Target};
use crate::ids::{AppId, Unsid, UserId};

const HEADER: &str = "x-uns-id";
const UNSID: &str = "userNotificationSubscriptionId";
const FIX: &str = "set target to {\"userNotificationSubscriptionId\": …} or {\"userId\": …}, or the header x-uns-id";
const UNSID_FIX: &str = "send the userNotificationSubscriptionId that Herald returned when the app subscribed";
const KNOWN_FIX: &str = "leave it out: the token or the path names the user already";
/// RFC 1035 §2.3.4.
const MAX_HOST_NAME_CHARS: usize = 253;
const MAX_LABEL_CHARS: usize = 63;

/// Reads the target from the notification or from what is around it, and from the header.
pub(super) fn read(inner: &mut Fields, outer: &mut Fields, header: Option<&str>) -> Result<Target, RequestError> {
    let header = header.map(|text| unsid(text).ok_or_else(|| not_issued(HEADER))).transpose()?;
    match (of_body(inner, outer)?, header) {
        (Some(Target::Unsid(body)), Some(header)) if body != header => {
            let problem = "is not the subscription that the header x-uns-id names";
            Err(RequestError::new(format!("target.{UNSID}"), problem, "send one of them, or the same in both"))
        }
        (Some(Target::User(_)), Some(_)) => {
            let problem = "names a user, and the header x-uns-id a subscription";
            Err(RequestError::new("target", problem, "send one of them"))
        }
        (Some(target), _) => Ok(target),
        (None, Some(header)) => Ok(Target::Unsid(header)),
        (None, None) => Err(RequestError::new("target", "is missing", FIX)),
    }
}

/// Checks that nothing contradicts the user that is known already.
pub(super) fn read_for(
    user: &UserId,
    inner: &mut Fields,
    outer: &mut Fields,
    header: Option<&str>,
) -> Result<(), RequestError> {
    if header.is_some() {
        return Err(RequestError::new(HEADER, "is given, though the user is known already", KNOWN_FIX));
    }
    match of_body(inner, outer)? {
        None => Ok(()),
        Some(Target::User(named)) if named == *user => Ok(()),
        Some(_) => Err(RequestError::new("target", "is not the user that the token or the path names", KNOWN_FIX)),
    }
}

fn of_body(inner: &mut Fields, outer: &mut Fields) -> Result<Option<Target>, RequestError> {
    let mut target = match inner.object("target", "target", FIX)? {
        Some(target) => target,
        None => match outer.object("target", "target", FIX)? {
            Some(target) => target,
            None => return Ok(None),
        },
    };
    let id = target.text(UNSID, UNSID_FIX)?;
    let user = target.name("userId")?;
    match (id, user) {
        (Some(_), Some(_)) => {
            let problem = "has both userNotificationSubscriptionId and userId";
            Err(RequestError::new("target", problem, "send one of them"))
        }
        (Some(id), None) => {
            unsid(&id).map(|id| Some(Target::Unsid(id))).ok_or_else(|| not_issued(&format!("target.{UNSID}")))
        }
        (None, Some(user)) => Ok(Some(Target::User(UserId::new(user)))),
        (None, None) => {
            let problem = "has neither userNotificationSubscriptionId nor userId";
            Err(RequestError::new("target", problem, FIX))
        }
    }
}

fn unsid(text: &str) -> Option<Unsid> {
    Uuid::try_parse(text.trim()).ok().map(Unsid)
}

fn not_issued(field: &str) -> RequestError {
    RequestError::new(field, "was not issued by Herald: it is not a UUID", UNSID_FIX)
}

/// The app: `targetHostName` in lower case.
pub(super) fn app(fields: &mut Fields) -> Result<AppId, RequestError> {
    const NAME: &str = "targetHostName";
    const FIX: &str = "set the host name the app is configured under, such as mail.contoso.com";
    let Some(text) = fields.text(NAME, FIX)? else {
        return Err(fields.error(NAME, "is missing", FIX));
    };
    let problem = if text.is_empty() {
        "is empty"
    } else if text.len() > MAX_HOST_NAME_CHARS {
        "is longer than 253 characters"
    } else if !text.split('.').all(is_label) {
        "is not a host name"
    } else {
        return Ok(AppId::new(text.to_ascii_lowercase()));
    };
    Err(fields.error(NAME, problem, FIX))
}

/// Letters, digits and inner hyphens (RFC 1123 §2.1); an international name is given in its `xn--` form.
fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL_CHARS).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
