//! The ids by which a request is talked about: its own, made here, and the one that its client gave it.
//!
//! Stands where a request comes in and where its answer goes out ([`crate::passing`]); refusals on Graph's routes have them in
//! their body too. The request's own id travels in its headers, where a client's header of that name is replaced.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use herald_core::time::Timestamp;
use uuid::Uuid;

use crate::refusal::Inner;

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
/// A client's own id of a request that is longer is not handed back.
const MAX_CLIENT_ID_LEN: usize = 128;

/// By what a request is named in its answer, and in talk with the operator.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    own: String,
    client: Option<String>,
}

impl Ids {
    /// Names a request that has come in.
    pub(crate) fn given_to(headers: &mut HeaderMap) -> Self {
        let own = Uuid::now_v7().to_string();
        headers.insert(REQUEST_ID, HeaderValue::try_from(&own).expect("a UUID is visible ASCII"));
        Self::of(headers)
    }

    /// Of a request that has passed [`crate::passing::through`].
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let sane = |text: &&str| {
            (1..=MAX_CLIENT_ID_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        Self { own: text(REQUEST_ID).to_owned(), client: Some(text(CLIENT_REQUEST_ID)).filter(sane).map(str::to_owned) }
    }

    /// The request's own.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    /// The client's, if it gave a sane one.
    pub(crate) fn clients(&self) -> Option<&str> {
        self.client.as_deref()
    }

    pub(crate) fn inner(&self, date: Timestamp) -> Inner {
        let client = self.clients().unwrap_or(&self.own).to_owned();
        Inner { date, request_id: self.own.clone(), client_request_id: client }
    }

    /// Graph names both on every answer.
    pub(crate) fn put_on(&self, response: &mut Response) {
        for (name, id) in [(REQUEST_ID, self.own()), (CLIENT_REQUEST_ID, self.clients().unwrap_or(&self.own))] {
            let value = HeaderValue::from_str(id).expect("a UUID, or visible ASCII characters");
            response.headers_mut().insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_own_id_is_handed_back_if_it_is_sane_and_never_becomes_the_requests_own() {
        let check = |given: &str| {
            let mut headers = HeaderMap::new();
            for name in [REQUEST_ID, CLIENT_REQUEST_ID] {
                headers.insert(name, HeaderValue::from_bytes(given.as_bytes()).unwrap());
            }
            let ids = Ids::given_to(&mut headers);
            assert!(Uuid::parse_str(ids.own()).is_ok(), "{given:?}");
            assert_eq!(Ids::of(&headers), ids, "who asks later sees the same");
            let mut response = Response::default();
            ids.put_on(&mut response);
            assert_eq!(response.headers()[REQUEST_ID], ids.own());
            let handed_back = response.headers()[CLIENT_REQUEST_ID].to_str().unwrap().to_owned();
            (handed_back != ids.own()).then_some(handed_back)
        };
        assert_eq!(check("df78f3cc-9a26").as_deref(), Some("df78f3cc-9a26"));
        for odd in ["", "a b", "é", &"x".repeat(129)] {
            assert_eq!(check(odd), None, "{odd:?}");
        }
    }
}
