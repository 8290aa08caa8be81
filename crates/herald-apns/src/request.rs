//! One push as an HTTP/2 request.
//!
//! Stands first on the way through this crate. Adds nothing of its own but the provider token: type, priority, expiry
//! and ids were decided in `herald_core::push`.

use bytes::Bytes;
use herald_core::outcome::Undelivered;
use herald_core::push::ApnsPush;
use http::{HeaderValue, Method, Request, Uri, Version};

/// Head and body of one push, built once and cloned for each try.
#[derive(Clone)]
pub(crate) struct PushRequest {
    head: Request<()>,
    pub(crate) body: Bytes,
}

impl PushRequest {
    /// # Errors
    /// `NotSent` if a value can't stand in a request at all (core validates tokens and topics, so this does not happen);
    /// it is logged without the value.
    pub(crate) fn new(authority: &str, push: &ApnsPush) -> Result<Self, Undelivered> {
        let head = build(authority, push).map_err(|error| {
            tracing::error!(%error, "an APNs request could not be built; this is a defect of herald");
            Undelivered::NotSent
        })?;
        Ok(Self { head, body: Bytes::copy_from_slice(&push.body) })
    }

    /// The head with the token that is current now.
    pub(crate) fn head(&self, bearer: &HeaderValue) -> Request<()> {
        let mut head = self.head.clone();
        head.headers_mut().insert(http::header::AUTHORIZATION, bearer.clone());
        head
    }
}

fn build(authority: &str, push: &ApnsPush) -> Result<Request<()>, http::Error> {
    let uri = Uri::builder()
        .scheme("https")
        .authority(authority)
        .path_and_query(format!("/3/device/{}", push.token.expose()))
        .build()?;
    Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(uri)
        .header("apns-topic", &*push.topic)
        .header("apns-push-type", push.push_type.as_str())
        .header("apns-priority", HeaderValue::from(u16::from(push.priority)))
        .header("apns-expiration", once(HeaderValue::from(push.expiration)))
        .header("apns-id", once(HeaderValue::try_from(push.id.hyphenated().to_string())?))
        .header("apns-collapse-id", once(HeaderValue::try_from(&push.collapse_id)?))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(())
}

/// A value that differs from push to push: marked sensitive, so that HPACK does not fill its table with it. (`:path` and
/// `authorization` are never indexed by h2 anyway.)
fn once(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use herald_core::ids::PushToken;
    use herald_core::push::PushType;
    use herald_core::subscription::Environment;

    use super::*;

    #[test]
    fn a_push_becomes_the_request_apple_documents() {
        let push = ApnsPush {
            token: PushToken::new("00ff"),
            environment: Environment::Production,
            topic: Arc::from("com.contoso.mail"),
            push_type: PushType::Background,
            priority: 5,
            expiration: 1_800_000_060,
            collapse_id: "order-1042".to_owned(),
            id: uuid::Uuid::from_u128(0x1234_5678_90ab_cdef_1234_5678_90ab_cdef),
            body: b"{}".to_vec(),
        };
        let request = PushRequest::new("api.push.apple.com", &push).unwrap();
        let head = request.head(&HeaderValue::from_static("bearer x"));
        assert_eq!(head.method(), Method::POST);
        assert_eq!(head.uri(), "https://api.push.apple.com/3/device/00ff");
        let mut headers: Vec<String> =
            head.headers().iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        headers.sort();
        assert_eq!(
            headers,
            [
                "apns-collapse-id: order-1042",
                "apns-expiration: 1800000060",
                "apns-id: 12345678-90ab-cdef-1234-567890abcdef",
                "apns-priority: 5",
                "apns-push-type: background",
                "apns-topic: com.contoso.mail",
                "authorization: bearer x",
                "content-type: application/json",
            ]
        );
        for name in ["apns-id", "apns-expiration", "apns-collapse-id"] {
            assert!(head.headers()[name].is_sensitive(), "{name}");
        }
        assert!(!head.headers()["apns-topic"].is_sensitive());
    }
}
