//! `POST /v1/receipts`: an app says that it has a notification.
//!
//! Stands beside the way: a receipt closes its delivery and cancels its fallback. Four ways to send one, all answered with
//! `{"results":[{"status":…}]}` in the order of the receipts, and with 2xx only after the commit (G3):
//!
//! - `{"receipts":[{"capability":"…","receivedAt":"…"}]}`, up to 1,000; `receivedAt` is optional, RFC 3339;
//! - `{"receipts":[{"notificationId":"…","userNotificationSubscriptionId":"…"}]}` with a token: a user's, for their own devices, or
//!   an app's, for its users'. What is another's is answered as unknown (G8). Both kinds may stand in one body;
//! - one such receipt as the body;
//! - no body, and `Authorization: Bearer <capability>`: for a handler that can't do more. A capability that is refused is
//!   then a 401, since whoever sends no body may well read none.
//!
//! With a body that holds capabilities alone the header is not looked at: an app's HTTP client may attach the user's token to
//! everything. So here the body is read before it is known who calls: it is what says whether that matters.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::receipt::CapabilityError;
use herald_core::time::Timestamp;
use herald_metrics::{BatchStep, CancelledBy, Metrics, ReceiptKind};
use herald_store::{By, Receipt, ReceiptResult, Store, StoreError};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::commit::Work;
use crate::identity::Caller;
use crate::refusal::Refusal;
use crate::{Shared, auth, body};

/// Receipts in one request.
pub(crate) const MAX_RECEIPTS: usize = 1_000;
/// How long a commit may take before the sender is told to repeat: an app in the background has about 30 s in all.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
const REPEAT: &str = "send the same request again after Retry-After; repeating is harmless";
/// What a good body looks like.
const SHAPE: &str = r#"send {"receipts":[{"capability":"…"}]}"#;
/// What an id looks like.
const ID: &str = "give the id as it was given out, as text";

#[derive(Serialize)]
struct Answer {
    results: Vec<Item>,
}

/// What became of one receipt.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Item {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A receipt as sent.
#[derive(PartialEq, Eq)]
struct Sent {
    of: Of,
    received_at: Option<Timestamp>,
}

/// Of which delivery.
#[derive(PartialEq, Eq)]
enum Of {
    /// That which signed it.
    Capability(String),
    /// That of a notification to a subscription, as far as the token speaks for it.
    Pair(NotificationId, Unsid),
}

/// For whom a token speaks.
struct Speaker {
    app: Arc<[AppId]>,
    /// A user, for their own devices.
    user: Option<UserId>,
}

/// Receipts, as they are committed.
pub(crate) struct Receipts {
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
}

impl Work for Receipts {
    type Item = Receipt;
    type Done = ReceiptResult;
    const ENOUGH: usize = 1_000;
    const NAME: &'static str = "receipts";

    async fn apply(&self, receipts: Vec<Receipt>) -> Result<Vec<ReceiptResult>, StoreError> {
        let results = self.store.receipts(&receipts).await?;
        self.metrics.batch(BatchStep::Receipt, receipts.len());
        for result in &results {
            count(&self.metrics, result);
        }
        Ok(results)
    }
}

fn count(metrics: &Metrics, result: &ReceiptResult) {
    match result {
        ReceiptResult::Closed(closed) => {
            metrics.receipt(ReceiptKind::OnTime, closed.took());
            metrics.closed(closed.state);
            if closed.fallback_pending {
                metrics.fallback_cancelled(CancelledBy::Receipt);
            }
        }
        ReceiptResult::Late(closed) => metrics.receipt(ReceiptKind::Late, closed.took()),
        ReceiptResult::Duplicate => metrics.receipt(ReceiptKind::Duplicate, None),
        ReceiptResult::Unknown => metrics.receipt(ReceiptKind::Unknown, None),
    }
}

/// Takes receipts in.
#[utoipa::path(
    post,
    path = "/v1/receipts",
    operation_id = "sendReceipts",
    tag = "receipts",
    security((), ("bearer" = [])),
    request_body(content = Option<Object>, description = "one receipt, or up to 1,000 as receipts: each a capability, or a notificationId and a userNotificationSubscriptionId, and perhaps receivedAt. None: the capability is the bearer", content_type = "application/json"),
    responses(
        (status = 200, description = "what became of each, in their order: results of status received, late, duplicate, unknown or refused", body = Object),
        (status = 400, description = "a body that is none"),
        (status = 401, description = "no good token, where a receipt is no capability; a capability without a body that is refused"),
        (status = 403, description = "a token without the scope, or of no app here"),
        (status = 408, description = "the body took longer than 10 s"),
        (status = 413, description = "more than 256 KiB"),
        (status = 500, description = "a fault of the service"),
        (status = 503, description = "the store or the issuer is away; come back after Retry-After"),
    )
)]
pub(crate) async fn post(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let body = body::read(Request::new(body), crate::MAX_BODY_BYTES).await?;
    if !body.is_empty() {
        let sent = read(&body)?;
        let asks = sent.iter().any(|sent| matches!(sent.of, Of::Pair(..)));
        let speaker = if asks { Some(speaker(&shared, &parts.headers).await?) } else { None };
        return answer(&shared, sent, speaker).await;
    }
    let capability = bearer(&parts.headers).ok_or_else(|| Refusal::invalid("body", "is empty", SHAPE))?;
    // Refused ones are told apart here, where the status is all that may be read.
    if let Err(error) = shared.receipt_keys.verify(&capability, shared.store.clock().now()) {
        shared.metrics.receipt(ReceiptKind::Refused, None);
        return Err(unauthorized(error));
    }
    answer(&shared, vec![Sent { of: Of::Capability(capability), received_at: None }], None).await
}

/// Who says that a delivery arrived which no capability speaks for.
async fn speaker(shared: &Shared, headers: &HeaderMap) -> Result<Speaker, Refusal> {
    let Some(api) = &shared.api else {
        let (problem, fix) =
            ("can't be checked: no issuer of tokens is configured here", "send the capability of the push");
        let status = StatusCode::UNAUTHORIZED;
        return Err(Refusal::new(status, "InvalidAuthenticationToken", "Authorization", problem, fix));
    };
    let caller = auth::caller(api, headers, shared.store.clock().now()).await?;
    let app = Arc::from([caller.app().clone()]);
    let user = match caller {
        Caller::App(_) => None,
        Caller::User { user, .. } => Some(user),
    };
    Ok(Speaker { app, user })
}

/// Verifies, commits, and says what became of each.
async fn answer(shared: &Shared, sent: Vec<Sent>, speaker: Option<Speaker>) -> Result<Response, Refusal> {
    let now = shared.store.clock().now();
    let mut genuine = Vec::with_capacity(sent.len());
    let mut verified = Vec::with_capacity(sent.len());
    for Sent { of, received_at } in sent {
        let by = match (of, &speaker) {
            (Of::Capability(capability), _) => shared.receipt_keys.verify(&capability, now).map(By::Delivery),
            (Of::Pair(notification, unsid), Some(Speaker { app, user })) => {
                Ok(By::Pair { notification, unsid, apps: Some(Arc::clone(app)), user: user.clone() })
            }
            // A token was asked for as soon as there was one of these; without it nothing may be stored.
            (Of::Pair(..), None) => return Err(Refusal::defect("a receipt without a token was taken for one with it")),
        };
        match by {
            Ok(by) => {
                genuine.push(Receipt { by, received_at });
                verified.push(None);
            }
            Err(error) => {
                shared.metrics.receipt(ReceiptKind::Refused, None);
                verified.push(Some(error));
            }
        }
    }
    let Ok(Ok(results)) = timeout(COMMIT_LIMIT, shared.commits.commit(genuine)).await else {
        return Err(Refusal::unavailable("the receipts could not be stored now", REPEAT));
    };
    let mut results = results.iter();
    let items = verified.into_iter().map(|refused| match refused {
        Some(error) => Ok(Item { status: "refused", error: Some(error.to_string()) }),
        // One result for each genuine receipt; without one, nothing may be claimed of it.
        None => results.next().map(item).ok_or_else(|| Refusal::unavailable("a receipt was not stored", REPEAT)),
    });
    Ok(Json(Answer { results: items.collect::<Result<_, _>>()? }).into_response())
}

fn item(result: &ReceiptResult) -> Item {
    let status = match result {
        ReceiptResult::Closed(_) => "received",
        ReceiptResult::Late(_) => "late",
        ReceiptResult::Duplicate => "duplicate",
        ReceiptResult::Unknown => "unknown",
    };
    Item { status, error: None }
}

fn unauthorized(error: CapabilityError) -> Refusal {
    let fix = "send the receipt capability that the push carried";
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "Authorization", error.to_string(), fix)
}

/// What stands behind `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, capability) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| capability.trim().to_owned())
}

fn read(body: &[u8]) -> Result<Vec<Sent>, Refusal> {
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        // serde's own message may quote the body.
        Refusal::invalid("body", format!("is not JSON (line {}, column {})", error.line(), error.column()), SHAPE)
    })?;
    let Some(object) = body.as_object() else {
        return Err(Refusal::invalid("body", "is not an object", SHAPE));
    };
    let Some(receipts) = object.get("receipts") else {
        return if ["capability", "notificationId"].iter().any(|name| object.contains_key(*name)) {
            Ok(vec![one(&body, "")?])
        } else {
            Err(Refusal::invalid("receipts", "is missing", SHAPE))
        };
    };
    let receipts = receipts.as_array().ok_or_else(|| Refusal::invalid("receipts", "is not an array", SHAPE))?;
    if receipts.len() > MAX_RECEIPTS {
        let problem = format!("holds {} receipts", receipts.len());
        return Err(Refusal::invalid("receipts", problem, "send at most 1,000 at once"));
    }
    receipts.iter().enumerate().map(|(at, item)| one(item, &format!("receipts[{at}]."))).collect()
}

/// `place` ends in a dot, or is empty.
fn one(item: &Value, place: &str) -> Result<Sent, Refusal> {
    let field = |name: &str| format!("{place}{name}");
    let given = |name: &str| item.get(name).filter(|value| !value.is_null());
    let of = match given("capability") {
        Some(Value::String(capability)) => Of::Capability(capability.clone()),
        None if given("notificationId").is_some() => {
            let id = |name: &str| {
                let id = given(name).and_then(Value::as_str).and_then(|text| text.parse().ok());
                id.ok_or_else(|| Refusal::invalid(field(name), "is missing or no id", ID))
            };
            Of::Pair(NotificationId(id("notificationId")?), Unsid(id("userNotificationSubscriptionId")?))
        }
        Some(_) | None => {
            let fix = "give the receipt capability that the push carried, as text";
            return Err(Refusal::invalid(field("capability"), "is missing or not text", fix));
        }
    };
    let received_at = match item.get("receivedAt") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_str().and_then(Timestamp::parse_rfc3339).ok_or_else(|| {
            Refusal::invalid(
                field("receivedAt"),
                "is not a time",
                "give RFC 3339, like 2026-12-01T00:00:00Z, or leave it out",
            )
        })?),
    };
    Ok(Sent { of, received_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        let refusal = read(body.as_bytes()).err().unwrap_or_else(|| panic!("{body} was taken"));
        format!("{refusal:?}")
    }

    #[test]
    fn a_body_is_one_receipt_or_a_list_of_them() {
        let taken = |body: &str| read(body.as_bytes()).ok().unwrap().len();
        assert_eq!(taken(r#"{"capability":"a"}"#), 1);
        assert_eq!(taken(r#"{"receipts":[]}"#), 0);
        let pair = r#"{"notificationId":"0192f0a0-0000-7000-8000-000000000001","userNotificationSubscriptionId":"0192F0A0-0000-7000-8000-000000000002"}"#;
        assert_eq!(taken(pair), 1);
        let both = read(format!(r#"{{"receipts":[{{"capability":"a"}},{pair}]}}"#).as_bytes()).ok().unwrap();
        assert!(matches!((&both[0].of, &both[1].of), (Of::Capability(_), Of::Pair(..))));
        assert_eq!(taken(r#"{"receipts":[{"capability":"a"},{"capability":"b","receivedAt":null,"more":1}]}"#), 2);
        let timed = read(br#"{"capability":"a","receivedAt":"2026-12-01T00:00:00Z"}"#).ok().unwrap();
        assert_eq!(timed[0].received_at, Timestamp::parse_rfc3339("2026-12-01T00:00:00Z"));
    }

    #[test]
    fn a_broken_body_is_refused_with_the_place_of_the_mistake() {
        let many = format!(r#"{{"receipts":[{}]}}"#, vec![r#"{"capability":"a"}"#; MAX_RECEIPTS + 1].join(","));
        for (body, field) in [
            ("", "body"),
            ("[]", "body"),
            ("{", "body"),
            ("{}", "receipts"),
            (r#"{"receipts":{}}"#, "receipts"),
            (many.as_str(), "receipts"),
            (r#"{"receipts":[{"capability":"a"},{}]}"#, "receipts[1].capability"),
            (r#"{"receipts":[1]}"#, "receipts[0].capability"),
            (r#"{"capability":7}"#, "capability"),
            (r#"{"capability":7,"notificationId":"0192f0a0-0000-7000-8000-000000000001"}"#, "capability"),
            (r#"{"notificationId":null}"#, "capability"),
            (r#"{"notificationId":"x"}"#, "notificationId"),
            (
                r#"{"receipts":[{"notificationId":"0192f0a0-0000-7000-8000-000000000001"}]}"#,
                "receipts[0].userNotificationSubscriptionId",
            ),
            (r#"{"capability":"a","receivedAt":"yesterday"}"#, "receivedAt"),
            (r#"{"receipts":[{"capability":"a","receivedAt":5}]}"#, "receipts[0].receivedAt"),
        ] {
            let text = refused(body);
            assert!(text.contains(&format!("field: {field:?}")), "{field}: {text}");
        }
    }

    #[test]
    fn a_refusal_never_quotes_the_body() {
        for body in [r#"{"capability":"s3cret""#, r#"{"capability":["s3cret"]}"#, r#"{"s3cret":1}"#] {
            assert!(!refused(body).contains("s3cret"), "{body}");
        }
    }

    #[test]
    fn a_bearer_is_read_in_any_case_and_nothing_else_is() {
        let check = |value: &'static str, want: Option<&str>| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            assert_eq!(bearer(&headers).as_deref(), want, "{value}");
        };
        check("Bearer abc", Some("abc"));
        check("bearer  abc ", Some("abc"));
        check("Basic abc", None);
        check("abc", None);
    }
}
