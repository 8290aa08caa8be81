//! `PATCH` and `DELETE` of a notification: a user read it, acted on it, deleted it; or the app's service says so.
//!
//! Stands beside the way: a change withdraws what is still to be pushed of the notification, fallbacks included, and makes state
//! pushes for the user's other devices, in the store's one transaction. Hints follow, as after a post.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use herald_core::lane::Lane;
use herald_core::reading::{Change, UserAction};
use herald_core::request::MAX_BODY_BYTES;
use herald_metrics::CancelledBy;
use herald_store::{Changed, Changing, Entry};
use serde_json::Value;

use crate::api::asked;
use crate::body::{self, Encoding};
use crate::refusal::Refusal;

use super::headers::condition;
use super::read::{item_response, nothing_there};
use super::whose::Asking;
use super::{Graph, Named};

/// Members of the resource that clients know and can't change; a `PATCH` that carries one meant something that won't happen.
const FIXED: [&str; 13] = [
    "id",
    "targetHostName",
    "appNotificationId",
    "groupName",
    "creationDateTime",
    "lastModifiedDateTime",
    "expirationDateTime",
    "status",
    "priority",
    "displayTimeToLive",
    "targetPolicy",
    "payload",
    "fallbackPolicy",
];

/// # Errors
/// See docs/http.md.
pub(super) async fn patch(graph: &Graph, named: &Named, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let asking = Asking::of(&graph.api, &parts.headers, named.user()).await?;
    let encoding = Encoding::of(&parts.headers)?;
    let body = encoding.decode(body::read(Request::new(body), MAX_BODY_BYTES).await?, MAX_BODY_BYTES)?;
    let change = read(&body)?;
    let entry = apply(graph, &asking, named, &parts.headers, change).await?;
    Ok(item_response(graph, &entry, parts.uri.path()))
}

/// # Errors
/// See docs/http.md.
pub(super) async fn delete(graph: &Graph, named: &Named, headers: &HeaderMap) -> Result<Response, Refusal> {
    let asking = Asking::of(&graph.api, headers, named.user()).await?;
    apply(graph, &asking, named, headers, Change::Delete).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn apply(
    graph: &Graph,
    asking: &Asking,
    named: &Named,
    headers: &HeaderMap,
    change: Change,
) -> Result<Entry, Refusal> {
    let changing = Changing {
        app: asking.app.clone(),
        user: asking.user.clone(),
        notification: named.notification().ok_or_else(nothing_there)?,
        change,
        condition: condition(headers),
        by: asking.own_device(),
    };
    match asked("the change", graph.api.store.change(changing)).await? {
        Changed::Done { entry, withdrawn, due } => {
            for closed in &withdrawn {
                graph.api.metrics.closed(closed.state);
                if closed.fallback_pending {
                    graph.api.metrics.fallback_cancelled(CancelledBy::Read);
                }
            }
            graph.hints.give(Lane::Normal.into(), &due);
            Ok(*entry)
        }
        Changed::Mismatch => {
            let fix = "read the notification again, and send the ETag that it has now";
            let problem = "names another state than the notification is in";
            Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "preconditionFailed", "If-Match", problem, fix))
        }
        Changed::Unknown => Err(nothing_there()),
    }
}

fn read(body: &[u8]) -> Result<Change, Refusal> {
    let shape = r#"send {"readState":true} or {"userActionState":"Dismissed"}, or both"#;
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        // serde's own message may quote the body.
        Refusal::invalid("body", format!("is not JSON (line {}, column {})", error.line(), error.column()), shape)
    })?;
    let Value::Object(members) = body else { return Err(Refusal::invalid("body", "is not an object", shape)) };
    let given = |name: &str| members.get(name).filter(|value| !value.is_null());
    if let Some(fixed) = FIXED.into_iter().find(|name| given(name).is_some()) {
        return Err(Refusal::invalid(fixed, "can't be changed", "leave it out"));
    }
    let read = given("readState").map(|value| {
        let state = match value {
            Value::Bool(read) => Some(*read),
            Value::String(text) => read_state(text),
            _ => None,
        };
        state.ok_or_else(|| {
            Refusal::invalid("readState", "is no read state", "give true, false, \"Read\" or \"Unread\"")
        })
    });
    let action = given("userActionState").map(|value| {
        let fix = "give NoInteraction, Activated, Dismissed or Snoozed";
        let action = value.as_str().and_then(UserAction::parse);
        action.ok_or_else(|| Refusal::invalid("userActionState", "is no user action state", fix))
    });
    Ok(Change::Set { read: read.transpose()?, action: action.transpose()? })
}

/// By name, as the Rome libraries had it.
pub(super) fn read_state(text: &str) -> Option<bool> {
    [("Read", true), ("Unread", false)]
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, read)| read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read() {
        let set = |read, action| Change::Set { read, action };
        for (body, expected) in [
            (r#"{"readState":true}"#, set(Some(true), None)),
            (r#"{"readState":"unread"}"#, set(Some(false), None)),
            (r#"{"userActionState":"Dismissed"}"#, set(None, Some(UserAction::Dismissed))),
            (
                r#"{"@odata.id":"x","readState":"Read","userActionState":"activated","id":null}"#,
                set(Some(true), Some(UserAction::Activated)),
            ),
            (r#"{"readState":null,"more":[1]}"#, set(None, None)),
            ("{}", set(None, None)),
        ] {
            assert_eq!(read(body.as_bytes()).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_no_change_is_refused_by_its_place_and_not_quoted() {
        for (body, field) in [
            ("", "body"),
            ("{\"s3cret\"", "body"),
            ("[]", "body"),
            (r#""s3cret""#, "body"),
            (r#"{"readState":"s3cret"}"#, "readState"),
            (r#"{"readState":1}"#, "readState"),
            (r#"{"userActionState":"s3cret"}"#, "userActionState"),
            (r#"{"userActionState":true}"#, "userActionState"),
            (r#"{"readState":true,"payload":{"rawContent":"s3cret"}}"#, "payload"),
            (r#"{"expirationDateTime":"s3cret"}"#, "expirationDateTime"),
            (r#"{"status":"Deleted"}"#, "status"),
        ] {
            let refused = format!("{:?}", read(body.as_bytes()).unwrap_err());
            assert!(refused.contains(&format!("field: {field:?}")), "{body}: {refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }
}
