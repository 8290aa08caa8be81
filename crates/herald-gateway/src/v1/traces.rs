//! `/v1/notifications/…/trace`: what became of a notification, for its app's service and for the operator.
//!
//! Beside the way. An app sees its own, the operator any; a user none: a trace says more of the service than a user need know.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use herald_core::ids::{AppId, NotificationId, Unsid};
use serde::Serialize;
use utoipa::ToSchema;

use super::{not_found, query, stored, user};
use crate::api::Api;
use crate::auth::{self, Who};
use crate::identity::Caller;
use crate::refusal::Refusal;
use crate::trace::{Traced, told};

/// Traces in one answer.
const LIMIT: i64 = 20;
const WHAT: &str = "notification";

/// The traces of notifications that their producer calls the same.
#[derive(Serialize, ToSchema)]
pub(crate) struct Traces {
    value: Vec<Traced>,
}

/// The trace of a notification.
#[utoipa::path(
    get,
    path = "/v1/notifications/{id}/trace",
    operation_id = "getTrace",
    tag = "traces",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "What became of it", body = Traced),
        (status = 401, description = "No token, or one that is no good"),
        (status = 403, description = "A user's token"),
        (status = 404, description = "No notification that the caller may see"),
        (status = 500, description = "The store refuses it: a fault of the service"),
        (status = 503, description = "The store or the issuer's keys are away; come back after Retry-After"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    id: Result<Path<NotificationId>, PathRejection>,
    request: Request,
) -> Result<Json<Traced>, Refusal> {
    let (parts, _) = request.into_parts();
    let who = auth::who(&api, &parts.headers, api.store.clock().now()).await?;
    let own = app_of(who)?;
    // A path that is no id names nothing.
    let Ok(Path(id)) = id else { return Err(not_found(WHAT)) };
    let app = match own {
        Some(app) => Some(app),
        None => stored(api.store.app_of(id)).await?,
    };
    let app = app.ok_or_else(|| not_found(WHAT))?;
    trace(&api, &app, id).await?.map(Json).ok_or_else(|| not_found(WHAT))
}

/// The traces of the notifications that their producer calls so, the newest first.
#[utoipa::path(
    get,
    path = "/v1/notifications/trace",
    operation_id = "findTraces",
    tag = "traces",
    params(
        ("appNotificationId" = String, Query, description = "The producer's own id"),
        ("userId" = Option<String>, Query, description = "Of this user alone"),
        ("targetHostName" = Option<String>, Query, description = "Of this app alone; for the operator"),
    ),
    responses(
        (status = 200, description = "At most 20", body = Traces),
        (status = 400, description = "A parameter is missing or wrong; it is named"),
        (status = 401, description = "No token, or one that is no good"),
        (status = 403, description = "A user's token"),
        (status = 500, description = "The store refuses it: a fault of the service"),
        (status = 503, description = "The store or the issuer's keys are away; come back after Retry-After"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn find(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Traces>, Refusal> {
    let (parts, _) = request.into_parts();
    let who = auth::who(&api, &parts.headers, api.store.clock().now()).await?;
    let own = app_of(who)?;
    let Some(name) = query(&parts.uri, "appNotificationId").filter(|name| !name.is_empty()) else {
        return Err(Refusal::invalid("appNotificationId", "is missing", "give the producer's own id"));
    };
    if name.chars().any(char::is_control) {
        return Err(Refusal::invalid("appNotificationId", "has a control character", "give the producer's own id"));
    }
    let user = query(&parts.uri, "userId").map(|named| user(&named)).transpose()?;
    let mut apps: Vec<AppId> = match own {
        Some(app) => vec![app],
        None => api.apps.keys().cloned().collect(),
    };
    if let Some(named) = query(&parts.uri, "targetHostName") {
        apps.retain(|app| app.as_str().eq_ignore_ascii_case(&named));
    }
    let found = stored(api.store.named(&apps, user.as_ref(), &name, LIMIT)).await?;
    let mut value = Vec::with_capacity(found.len());
    for (app, id) in found {
        // One that was deleted in this moment is left out.
        value.extend(trace(&api, &app, id).await?);
    }
    Ok(Json(Traces { value }))
}

/// The app that the caller speaks for; none: the operator, for all.
fn app_of(who: Who) -> Result<Option<AppId>, Refusal> {
    match who {
        Who::Operator => Ok(None),
        Who::Caller(Caller::App(app)) => Ok(Some(app)),
        Who::Caller(Caller::User { .. }) => {
            let fix = "use a token of the app, or the operator's";
            Err(Refusal::forbidden("Authorization", "a user's token sees no traces", fix))
        }
    }
}

async fn trace(api: &Api, app: &AppId, id: NotificationId) -> Result<Option<Traced>, Refusal> {
    let Some(trace) = stored(api.store.trace(app, id)).await? else { return Ok(None) };
    let unsids: Vec<Unsid> = trace.deliveries.iter().map(|delivery| delivery.unsid).collect();
    let known = stored(api.store.known(&unsids)).await?;
    Ok(Some(told(&trace, &known, api.store.clock().now())))
}
