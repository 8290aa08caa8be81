//! `GET /v1/openapi.json`: what is served here, as an OpenAPI 3.1 document made from the handlers' own annotations.
//!
//! Stands beside the way: for those who write clients, and for the test that sends whatever the document allows.

use axum::Json;
use utoipa::OpenApi;

use crate::v1;

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(title = "Herald", description = "Push notification delivery."),
    paths(
        v1::subscriptions::register,
        v1::subscriptions::list,
        v1::subscriptions::show,
        v1::subscriptions::change,
        v1::subscriptions::end,
        v1::traces::show,
        v1::traces::find,
        v1::erasure::erase,
    )
)]
struct Document;

/// Serves the document.
pub(crate) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
