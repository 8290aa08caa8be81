//! The handlers, with what they say of themselves in the OpenAPI document.
//!
//! Each is described once, at `/beta/me/notifications`; [`crate::openapi`] says the same of the other roots.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};

use crate::request_ids::Ids;

use super::{Graph, Named, change, post as posting, read};

/// Takes a notification in.
#[utoipa::path(
    post,
    path = "/beta/me/notifications",
    operation_id = "postNotification",
    tag = "notifications",
    security(("bearer" = [])),
    params(
        ("X-UNS-ID" = Option<String>, Header, description = "with an app's token: the subscription of the user to be told"),
        ("Idempotency-Key" = Option<String>, Header, description = "the same key again is answered as the first time; 128 characters at most"),
        ("client-request-id" = Option<String>, Header, description = "handed back"),
    ),
    request_body(content = Object, description = "the notification: docs/requests.md has each member", content_type = "application/json"),
    responses(
        (status = 201, description = "it is stored, and nothing loses it any more", body = super::resource::Resource<'static>),
        (status = 400, description = "the contract is broken; the member is named"),
        (status = 401, description = "no token, or one that is no good"),
        (status = 403, description = "another app's host or subscription, another user"),
        (status = 408, description = "the body took longer than 10 s"),
        (status = 413, description = "more than 64 KiB"),
        (status = 415, description = "another Content-Encoding than gzip or deflate"),
        (status = 500, description = "a fault of the service"),
        (status = 503, description = "the store or the issuer is away; come back after Retry-After"),
    )
)]
pub(crate) async fn post(State(graph): State<Arc<Graph>>, named: Named, request: Request) -> Response {
    let ids = Ids::of(request.headers());
    let work = async { Ok(posting::take_in(&graph, named.user(), request).await?.into_response()) };
    graph.answer(&ids, work).await
}

/// A user's notifications, newest first. With a user's token and `X-UNS-ID` it is a receipt for each of them.
#[utoipa::path(
    get,
    path = "/beta/me/notifications",
    operation_id = "listNotifications",
    tag = "notifications",
    security(("bearer" = [])),
    params(
        ("X-UNS-ID" = Option<String>, Header, description = "the device's subscription; with an app's token at /me it names the user"),
        ("$top" = Option<u64>, Query, description = "notifications of a page, 1 to 100; 20 if not given"),
        ("$skiptoken" = Option<String>, Query, description = "from @odata.nextLink"),
        ("$count" = Option<bool>, Query, description = "count them all besides"),
        ("$filter" = Option<String>, Query, description = "comparisons of readState, userActionState, status, groupName by eq, joined by and"),
    ),
    responses(
        (status = 200, description = "a page", body = super::read::NotificationPage<'static>),
        (status = 400, description = "an option or header that is not understood"),
        (status = 401, description = "no token, or one that is no good"),
        (status = 403, description = "another user, or another's subscription"),
        (status = 500, description = "a fault of the service"),
        (status = 503, description = "the store or the issuer is away; come back after Retry-After"),
    )
)]
pub(crate) async fn list(State(graph): State<Arc<Graph>>, named: Named, parts: Parts) -> Response {
    graph.answer(&Ids::of(&parts.headers), read::list(&graph, &named, &parts)).await
}

/// How many notifications a user has.
#[utoipa::path(
    get,
    path = "/beta/me/notifications/$count",
    operation_id = "countNotifications",
    tag = "notifications",
    security(("bearer" = [])),
    params(
        ("X-UNS-ID" = Option<String>, Header, description = "with an app's token at /me it names the user"),
        ("$filter" = Option<String>, Query, description = "as for the list"),
    ),
    responses(
        (status = 200, description = "the number", body = String, content_type = "text/plain"),
        (status = 400, description = "an option or header that is not understood"),
        (status = 401, description = "no token, or one that is no good"),
        (status = 403, description = "another user, or another's subscription"),
        (status = 500, description = "a fault of the service"),
        (status = 503, description = "the store or the issuer is away; come back after Retry-After"),
    )
)]
pub(crate) async fn count(State(graph): State<Arc<Graph>>, named: Named, parts: Parts) -> Response {
    graph.answer(&Ids::of(&parts.headers), read::count(&graph, &named, &parts)).await
}

/// What has changed of a user's notifications since the last time; the first time all of them. As a list, it is a receipt for
/// what it hands out.
#[utoipa::path(
    get,
    path = "/beta/me/notifications/delta",
    operation_id = "notificationsDelta",
    tag = "notifications",
    security(("bearer" = [])),
    params(
        ("X-UNS-ID" = Option<String>, Header, description = "the device's subscription; with an app's token at /me it names the user"),
        ("$top" = Option<u64>, Query, description = "notifications of a page, 1 to 100; 20 if not given"),
        ("$skiptoken" = Option<String>, Query, description = "from @odata.nextLink"),
        ("$deltatoken" = Option<String>, Query, description = "from @odata.deltaLink; latest begins now"),
    ),
    responses(
        (status = 200, description = "a page; the last one has @odata.deltaLink", body = super::read::NotificationDelta<'static>),
        (status = 400, description = "an option or header that is not understood"),
        (status = 401, description = "no token, or one that is no good"),
        (status = 403, description = "another user, or another's subscription"),
        (status = 410, description = "the delta token is too old, or another place's: begin anew"),
        (status = 500, description = "a fault of the service"),
        (status = 503, description = "the store or the issuer is away; come back after Retry-After"),
    )
)]
pub(crate) async fn delta(State(graph): State<Arc<Graph>>, named: Named, parts: Parts) -> Response {
    graph.answer(&Ids::of(&parts.headers), read::delta(&graph, &named, &parts)).await
}

/// One notification. With a user's token and `X-UNS-ID` it is a receipt for it.
#[utoipa::path(
    get,
    path = "/beta/me/notifications/{id}",
    operation_id = "getNotification",
    tag = "notifications",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "the notification's id"),
        ("X-UNS-ID" = Option<String>, Header, description = "the device's subscription; with an app's token at /me it names the user"),
    ),
    responses(
        (status = 200, description = "the notification; its ETag is a header too", body = super::item::Item<'static>),
        (status = 400, description = "a header that is not understood"),
        (status = 401, description = "no token, or one that is no good"),
        (status = 403, description = "another user, or another's subscription"),
        (status = 404, description = "unknown, expired, deleted, or another's"),
        (status = 500, description = "a fault of the service"),
        (status = 503, description = "the store or the issuer is away; come back after Retry-After"),
    )
)]
pub(crate) async fn item(State(graph): State<Arc<Graph>>, named: Named, parts: Parts) -> Response {
    let ids = Ids::of(&parts.headers);
    // Some build URLs with `$` encoded, which no route has.
    if named.is("$count") {
        return graph.answer(&ids, read::count(&graph, &named, &parts)).await;
    }
    graph.answer(&ids, read::item(&graph, &named, &parts)).await
}

/// Says that a notification was read, or what was done with it. The user's other devices are told by a silent push, and what is
/// still to be pushed of it is withdrawn.
#[utoipa::path(
    patch,
    path = "/beta/me/notifications/{id}",
    operation_id = "updateNotification",
    tag = "notifications",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "the notification's id"),
        ("X-UNS-ID" = Option<String>, Header, description = "the device that makes the change, which is not told of it"),
        ("If-Match" = Option<String>, Header, description = "only if it has this ETag"),
    ),
    request_body(content = Object, description = "readState (true, false, \"Read\", \"Unread\"), userActionState (NoInteraction, Activated, Dismissed, Snoozed)", content_type = "application/json"),
    responses(
        (status = 200, description = "as it is now", body = super::item::Item<'static>),
        (status = 400, description = "a member that can't be changed or is no state, a header that is not understood"),
        (status = 401, description = "no token, or one that is no good"),
        (status = 403, description = "another user, or another's subscription"),
        (status = 404, description = "unknown, expired, deleted, or another's"),
        (status = 408, description = "the body took longer than 10 s"),
        (status = 412, description = "it has another ETag"),
        (status = 413, description = "more than 64 KiB"),
        (status = 415, description = "another Content-Encoding than gzip or deflate"),
        (status = 500, description = "a fault of the service"),
        (status = 503, description = "the store or the issuer is away; come back after Retry-After"),
    )
)]
pub(crate) async fn patch(State(graph): State<Arc<Graph>>, named: Named, request: Request) -> Response {
    let ids = Ids::of(request.headers());
    graph.answer(&ids, change::patch(&graph, &named, request)).await
}

/// Deletes a notification: its content is wiped at once, what is still to be pushed of it is withdrawn, the user's other devices
/// are told. Again is the same.
#[utoipa::path(
    delete,
    path = "/beta/me/notifications/{id}",
    operation_id = "deleteNotification",
    tag = "notifications",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "the notification's id"),
        ("X-UNS-ID" = Option<String>, Header, description = "the device that makes the change, which is not told of it"),
        ("If-Match" = Option<String>, Header, description = "only if it has this ETag"),
    ),
    responses(
        (status = 204, description = "it is deleted"),
        (status = 400, description = "a header that is not understood"),
        (status = 401, description = "no token, or one that is no good"),
        (status = 403, description = "another user, or another's subscription"),
        (status = 404, description = "unknown, expired, or another's"),
        (status = 412, description = "it has another ETag"),
        (status = 500, description = "a fault of the service"),
        (status = 503, description = "the store or the issuer is away; come back after Retry-After"),
    )
)]
pub(crate) async fn delete(State(graph): State<Arc<Graph>>, named: Named, headers: HeaderMap) -> Response {
    graph.answer(&Ids::of(&headers), change::delete(&graph, &named, &headers)).await
}
