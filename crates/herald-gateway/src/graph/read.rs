//! `GET` of a user's notifications: list, count, item, delta.
//!
//! Stands beside the way. What a user's own device fetches (a user's token and that device's `X-UNS-ID`) has arrived there: that is
//! a receipt for each notification handed out, committed before the answer (G3); if it can't be, the fetch is refused, or the
//! person would be sent a toast for what they have. Otherwise reading changes nothing.

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use herald_core::ids::NotificationId;
use herald_store::{By, Delta, Entries, Entry, Receipt};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::api::{STORE_LIMIT, asked};
use crate::commit::NotCommitted;
use crate::refusal::Refusal;

use super::item::{Item, etag};
use super::query::{self, DeltaQuery, ListQuery, unknown_mark};
use super::resource::{self, Version};
use super::whose::Asking;
use super::{Graph, Named};

/// A page of notifications.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NotificationPage<'a> {
    #[serde(rename = "@odata.context")]
    context: String,
    /// How many there are on all pages, if it was asked for.
    #[serde(rename = "@odata.count", skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// Where the next page is, if this is not the last.
    #[serde(rename = "@odata.nextLink", skip_serializing_if = "Option::is_none")]
    next_link: Option<String>,
    /// Newest first.
    value: Vec<Item<'a>>,
}

/// A page of what has changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NotificationDelta<'a> {
    #[serde(rename = "@odata.context")]
    context: String,
    /// Where the next page is, if this is not the last.
    #[serde(rename = "@odata.nextLink", skip_serializing_if = "Option::is_none")]
    next_link: Option<String>,
    /// On the last page: what to ask next time.
    #[serde(rename = "@odata.deltaLink", skip_serializing_if = "Option::is_none")]
    delta_link: Option<String>,
    value: Vec<ItemOrRemoved<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum ItemOrRemoved<'a> {
    Item(Box<Item<'a>>),
    Removed(Removed),
}

/// A notification that was deleted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RemovedNotification)]
struct Removed {
    #[schema(value_type = String, format = "uuid")]
    id: NotificationId,
    #[serde(rename = "@removed")]
    removed: Reason,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RemovedReason)]
struct Reason {
    /// `deleted`.
    reason: &'static str,
}

/// # Errors
/// See docs/http.md.
pub(super) async fn list(graph: &Graph, named: &Named, parts: &Parts) -> Result<Response, Refusal> {
    let asking = Asking::of(&graph.api, &parts.headers, named.user()).await?;
    let query = ListQuery::of(parts.uri.query())?;
    let store = &graph.api.store;
    let page = store.entries(&asking.app, &asking.user, &query.filter, query.after, query.top);
    let page = asked("a list", page).await?;
    let count = if query.count {
        Some(asked("a count", store.count_entries(&asking.app, &asking.user, &query.filter)).await?)
    } else {
        None
    };
    acknowledge(graph, &asking, parts, &page.entries).await?;
    let now = store.clock().now();
    let next = page.last().filter(|_| page.more).map(|last| query.next(last));
    Ok(resource::json(&NotificationPage {
        context: context(graph, &asking, parts, ""),
        count,
        next_link: next.map(|query| link(graph, parts, &query)),
        value: page.entries.iter().map(|entry| Item::of(entry, now)).collect(),
    }))
}

/// # Errors
/// See docs/http.md.
pub(super) async fn count(graph: &Graph, named: &Named, parts: &Parts) -> Result<Response, Refusal> {
    let asking = Asking::of(&graph.api, &parts.headers, named.user()).await?;
    let filter = query::count(parts.uri.query())?;
    let count = asked("a count", graph.api.store.count_entries(&asking.app, &asking.user, &filter)).await?;
    // axum's own content type for text.
    Ok(count.to_string().into_response())
}

/// # Errors
/// See docs/http.md.
pub(super) async fn item(graph: &Graph, named: &Named, parts: &Parts) -> Result<Response, Refusal> {
    let asking = Asking::of(&graph.api, &parts.headers, named.user()).await?;
    let id = named.notification().ok_or_else(nothing_there)?;
    let entry = asked("a notification", graph.api.store.entry(&asking.app, &asking.user, id)).await?;
    let entry = entry.filter(|entry| !entry.standing.deleted).ok_or_else(nothing_there)?;
    acknowledge(graph, &asking, parts, std::slice::from_ref(&entry)).await?;
    Ok(item_response(graph, &entry, parts.uri.path()))
}

/// # Errors
/// See docs/http.md.
pub(super) async fn delta(graph: &Graph, named: &Named, parts: &Parts) -> Result<Response, Refusal> {
    let asking = Asking::of(&graph.api, &parts.headers, named.user()).await?;
    let query = DeltaQuery::of(parts.uri.query())?;
    let store = &graph.api.store;
    let (page, mark) = if query.latest {
        (Entries { entries: Vec::new(), more: false }, asked("a mark", store.mark()).await?)
    } else {
        match asked("a delta", store.delta(&asking.app, &asking.user, query.from, query.top)).await? {
            Delta::Page(page, mark) => (page, mark),
            Delta::UnknownMark => return Err(unknown_mark()),
        }
    };
    acknowledge(graph, &asking, parts, &page.entries).await?;
    let now = store.clock().now();
    let next = page.last().filter(|_| page.more).map(|last| query.next(mark, last));
    let later = if page.more { None } else { Some(query.later(mark)) };
    let value = page.entries.iter().map(|entry| {
        if entry.standing.deleted {
            ItemOrRemoved::Removed(Removed { id: entry.notification.id, removed: Reason { reason: "deleted" } })
        } else {
            ItemOrRemoved::Item(Box::new(Item::of(entry, now)))
        }
    });
    Ok(resource::json(&NotificationDelta {
        context: context(graph, &asking, parts, "/$delta"),
        next_link: next.map(|query| link(graph, parts, &query)),
        delta_link: later.map(|query| link(graph, parts, &query)),
        value: value.collect(),
    }))
}

/// What a device fetched is received there, before it is handed out. To a HEAD nothing is.
async fn acknowledge(graph: &Graph, asking: &Asking, parts: &Parts, entries: &[Entry]) -> Result<(), Refusal> {
    let Some(unsid) = asking.own_device().filter(|_| parts.method == Method::GET) else { return Ok(()) };
    let fetched: Vec<_> =
        entries.iter().filter(|entry| !entry.standing.deleted).map(|entry| entry.notification.id).collect();
    // Most were acknowledged before: those cost a read, and no write.
    let open = asked("what a fetch acknowledges", graph.api.store.unacknowledged(unsid, &fetched)).await?;
    let app = std::sync::Arc::from([asking.app.clone()]);
    let receipt = |notification| Receipt {
        by: By::Pair { notification, unsid, apps: Some(std::sync::Arc::clone(&app)), user: Some(asking.user.clone()) },
        received_at: None,
    };
    match timeout(STORE_LIMIT, graph.api.receipts.commit(open.into_iter().map(receipt).collect())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(NotCommitted::Refused)) => Err(Refusal::defect("the store refuses the receipts of this fetch")),
        Ok(Err(NotCommitted::Away)) | Err(_) => {
            let problem = "that this device has them could not be stored now";
            Err(Refusal::unavailable(problem, "send it again after Retry-After; repeating is harmless"))
        }
    }
}

/// A notification that stands alone.
pub(super) fn item_response(graph: &Graph, entry: &Entry, path: &str) -> Response {
    let base = format!("{}{}", graph.api.public_url, Version::of(path).path());
    let context = resource::context(&base, &entry.notification.user, "/$entity");
    let mut response = resource::json(&Item::of(entry, graph.api.store.clock().now()).within(context));
    let etag = HeaderValue::try_from(etag(entry.standing.revision)).expect("a number in quotes");
    response.headers_mut().insert(header::ETAG, etag);
    response
}

/// A 404, the same for what never was, what is gone, and what is another's (G8).
pub(super) fn nothing_there() -> Refusal {
    let fix = "it never was, has expired, was deleted, or is another's; list what there is";
    Refusal::new(StatusCode::NOT_FOUND, "notFound", "path", "names no notification of this user", fix)
}

fn context(graph: &Graph, asking: &Asking, parts: &Parts, part: &str) -> String {
    let base = format!("{}{}", graph.api.public_url, Version::of(parts.uri.path()).path());
    resource::context(&base, &asking.user, part)
}

/// The same path with another query.
fn link(graph: &Graph, parts: &Parts, query: &str) -> String {
    format!("{}{}?{query}", graph.api.public_url, parts.uri.path())
}
