//! `GET /v1/openapi.json`: what is served here, as an OpenAPI 3.1 document made from the handlers' own annotations.
//!
//! Stands beside the way: for those who write clients, and for the test that sends whatever the document allows. Routes that
//! are served only with an issuer or the built-in one are in it always.

use axum::Json;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::v1;

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Herald",
        description = "Push notification delivery: notifications as Microsoft Graph took them, and what phones and operators \
                       need besides. Every refusal has Graph's envelope.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        crate::health::live,
        crate::health::ready,
        crate::health::metrics,
        crate::openapi::document,
        crate::tokens::token,
        crate::tokens::discovery,
        crate::tokens::tenants_discovery,
        crate::tokens::keys,
        v1::subscriptions::register,
        v1::subscriptions::list,
        v1::subscriptions::show,
        v1::subscriptions::change,
        v1::subscriptions::end,
        v1::traces::show,
        v1::traces::find,
        v1::erasure::erase,
    ),
    modifiers(&Bearer)
)]
struct Annotated;

/// The one way in: a bearer token.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token of an app's service or of a user, by an issuer of herald.toml; or the operator's.",
            ))
            .build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Serves the document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "operators", responses((status = 200, description = "This document")))]
pub(crate) async fn document() -> Json<Document> {
    Json(Annotated::openapi())
}
