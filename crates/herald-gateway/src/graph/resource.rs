//! The answer to a post that is stored: Graph's 201, as its service was recorded to send it; and what it shares with the answers
//! to reads.
//!
//! Pure. `displayTimeToLive` is what remains of it, times are ISO 8601, and raw content is not sent back.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use herald_core::ids::{NotificationId, UserId};
use herald_core::notification::{Notification, Visual};
use herald_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::item::{priority, remaining, to_millis};

/// Which of Graph's two roots a client uses. They are the same here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// What the API was documented under.
    Beta,
    /// Where a client's default version leads.
    V1,
}

impl Version {
    pub(super) const ALL: [Self; 2] = [Self::Beta, Self::V1];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Beta => "/beta",
            Self::V1 => "/v1.0",
        }
    }

    /// Of a path that is served.
    pub(super) fn of(path: &str) -> Self {
        if path.starts_with("/v1.0/") { Self::V1 } else { Self::Beta }
    }
}

/// A notification that is stored.
#[derive(Debug)]
pub(super) struct Created {
    location: String,
    body: String,
}

/// A notification that was taken in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewNotification)]
pub(super) struct Resource<'a> {
    #[serde(rename = "@odata.context")]
    context: String,
    /// Seconds that remain of it.
    display_time_to_live: Option<u64>,
    #[schema(value_type = String, format = "date-time")]
    expiration_date_time: Timestamp,
    group_name: Option<&'a str>,
    #[schema(value_type = String, format = "uuid")]
    id: NotificationId,
    /// `None`, `High` or `Low`.
    priority: &'static str,
    payload: Payload<'a>,
}

/// What of it is sent back: raw content is not.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewPayload)]
pub(super) struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    visual_content: Option<&'a Visual>,
}

impl Created {
    /// `by_name`: the request's path named the user, so that of the notification does too.
    pub(super) fn new(
        notification: &Notification,
        (received_at, now): (Timestamp, Timestamp),
        public_url: &str,
        version: Version,
        by_name: bool,
    ) -> Self {
        let Notification { id, user, content, expires_at, .. } = notification;
        let base = format!("{public_url}{}", version.path());
        let resource = Resource {
            context: context(&base, user, "/$entity"),
            display_time_to_live: remaining(content.display_ttl, received_at, now),
            expiration_date_time: to_millis(*expires_at),
            group_name: content.group_name.as_deref(),
            id: *id,
            priority: priority(content.priority),
            payload: Payload { visual_content: content.payload.visual.as_ref() },
        };
        let whose = if by_name { format!("users/{}", encoded(user.as_str())) } else { "me".to_owned() };
        Self {
            location: format!("{base}/{whose}/notifications/{id}"),
            body: serde_json::to_string(&resource).expect("texts and numbers become JSON"),
        }
    }
}

/// Where a user's notifications are described; a `'` within an OData key is doubled.
pub(super) fn context(base: &str, user: &UserId, part: &str) -> String {
    format!("{base}/$metadata#users('{}')/notifications{part}", encoded(&user.as_str().replace('\'', "''")))
}

/// Percent-encoded, but for what is unreserved in a URL.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    encoded
}

/// A 200 in Graph's form.
pub(super) fn json(body: &impl Serialize) -> Response {
    in_form(Body::from(serde_json::to_string(body).expect("texts and numbers become JSON")))
}

fn in_form(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(HeaderName::from_static("odata-version"), HeaderValue::from_static("4.0"));
    response
}

impl IntoResponse for Created {
    fn into_response(self) -> Response {
        let mut response = in_form(Body::from(self.body));
        *response.status_mut() = StatusCode::CREATED;
        let location = HeaderValue::try_from(self.location).expect("the URL is checked at start, the rest is a UUID");
        response.headers_mut().insert(header::LOCATION, location);
        response
    }
}

const CONTENT_TYPE: &str =
    "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";

#[cfg(test)]
mod tests {
    use herald_core::ids::AppId;
    use herald_core::notification::{Content, Payload, Priority};
    use herald_core::subscription::PlatformSet;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    const RECEIVED: Timestamp = Timestamp::from_secs(1_000);

    fn notification(raw: Option<&str>, visual: Option<Visual>) -> Notification {
        Notification {
            id: NotificationId(Uuid::from_u128(7)),
            app: AppId::new("mail.contoso.com"),
            user: UserId::new("o'neil@contoso.com"),
            content: Content {
                app_notification_id: Some("testRaw".to_owned()),
                group_name: None,
                priority: Priority::High,
                payload: Payload { raw: raw.map(str::to_owned), visual },
                display_ttl: Some(60),
                target_policy: PlatformSet::ALL,
                fallback: None,
                traceparent: None,
                tracestate: None,
            },
            expires_at: Timestamp::parse_rfc3339("2019-08-30T00:25:55.329123Z").unwrap(),
        }
    }

    fn body(notification: &Notification, after_ms: u64) -> (Value, String) {
        let now = RECEIVED.plus(std::time::Duration::from_millis(after_ms));
        let created = Created::new(notification, (RECEIVED, now), "https://push.example", Version::Beta, false);
        (serde_json::from_str(&created.body).unwrap(), created.location)
    }

    #[test]
    fn the_answer_is_graphs_own() {
        let (body, location) = body(&notification(Some("secret"), None), 20);
        let id = "00000000-0000-0000-0000-000000000007";
        assert_eq!(location, format!("https://push.example/beta/me/notifications/{id}"));
        let user = "o%27%27neil%40contoso.com";
        assert_eq!(
            body,
            json!({
                "@odata.context": format!("https://push.example/beta/$metadata#users('{user}')/notifications/$entity"),
                "displayTimeToLive": 59, "expirationDateTime": "2019-08-30T00:25:55.329Z", "groupName": null, "id": id,
                "priority": "High", "payload": {},
            })
        );
    }

    #[test]
    fn visible_content_is_sent_back_and_no_time_to_live_is_below_zero() {
        let visual = Visual { title: "T".to_owned(), body: Some("B".to_owned()) };
        let (body, _) = body(&notification(None, Some(visual)), 90_000);
        assert_eq!(body["payload"], json!({ "visualContent": { "title": "T", "body": "B" } }));
        assert_eq!(body["displayTimeToLive"], 0);
    }
}
