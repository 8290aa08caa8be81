//! `DELETE /v1/apps/{app}/users/{userId}`: all that is kept of a user goes. For the operator alone.
//!
//! Beside the way. Idempotent: a call that was cut off is made again, and deletes the rest.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use herald_core::ids::AppId;
use herald_store::Erased;
use serde::Serialize;
use utoipa::ToSchema;

use super::{stored, user};
use crate::api::Api;
use crate::auth::{self, Who};
use crate::refusal::Refusal;

/// How many of each went with this call.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Erasure {
    /// Those not yet pushed too.
    notifications: u64,
    /// Open ones too.
    deliveries: u64,
    /// Ended ones too.
    subscriptions: u64,
    /// Those not published yet.
    events: u64,
    /// Those that name the user or a subscription of theirs.
    dead_letters: u64,
}

/// Erases a user of an app.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/users/{userId}",
    operation_id = "eraseUser",
    tag = "operators",
    params(
        ("app" = String, Path, description = "The app's targetHostName"),
        ("userId" = String, Path, description = "The user, as the app names them"),
    ),
    responses(
        (status = 200, description = "All of it is gone", body = Erasure),
        (status = 400, description = "The path names no user"),
        (status = 401, description = "No token, or one that is no good"),
        (status = 403, description = "Not the operator's token"),
        (status = 404, description = "No such app is configured, and it has nothing of that user"),
        (status = 500, description = "The store refuses it: a fault of the service"),
        (status = 503, description = "Not all of it is gone yet; send it again after Retry-After"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn erase(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Json<Erasure>, Refusal> {
    let (parts, _) = request.into_parts();
    match auth::who(&api, &parts.headers, api.store.clock().now()).await? {
        Who::Operator => {}
        Who::Caller(_) => {
            let fix = "use the operator's token";
            return Err(Refusal::forbidden("Authorization", "only the operator may erase a user", fix));
        }
    }
    // A path that is no text names nobody, as the empty one does.
    let (app, named) = path.map(|Path(path)| path).unwrap_or_default();
    let (app, user) = (AppId::new(app.to_ascii_lowercase()), user(&named)?);
    let unknown = || {
        let fix = "give its targetHostName as herald.toml has it";
        Refusal::new(
            StatusCode::NOT_FOUND,
            "notFound",
            "app",
            "is configured nowhere here, and has nothing of that user",
            fix,
        )
    };
    if app.as_str().chars().any(char::is_control) {
        return Err(unknown());
    }
    let erased = stored(api.store.erase(&app, &user)).await?;
    // One that is configured no more may have left something; a mistyped one must not look like a success.
    if erased == Erased::default() && !api.apps.contains_key(&app) {
        return Err(unknown());
    }
    let Erased { notifications, deliveries, subscriptions, events, dead_letters } = erased;
    tracing::info!(app.id = %app, notifications, deliveries, subscriptions, "a user was erased");
    Ok(Json(Erasure { notifications, deliveries, subscriptions, events, dead_letters }))
}
