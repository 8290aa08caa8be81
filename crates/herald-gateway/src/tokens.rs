//! The built-in issuer over HTTP: the token endpoint, where Microsoft's libraries look for it, and the documents about it.
//!
//! Beside the way: a service comes here for a token before it posts. What is granted is decided in `identity::own`; here is
//! only HTTP. Never logs a form, a header or a token.
//!
//! | route | answer |
//! | --- | --- |
//! | `POST /{tenant}/oauth2/v2.0/token` | a token, or the error of RFC 6749 §5.2 in Microsoft's shape |
//! | `GET /.well-known/openid-configuration`, `GET /{tenant}/v2.0/.well-known/openid-configuration` | the discovery document |
//! | `GET /{tenant}/discovery/v2.0/keys` | the key set |
//!
//! The tenant may be any: there is one issuer here.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use herald_store::Store;
use serde_json::Value;
use tracing::debug;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::body;
use crate::identity::own::{MAX_FORM_BYTES, NotGranted, OwnIssuer};

/// What a client sends. Further fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document alone: the form is read field by field")]
pub(crate) struct TokenForm {
    /// `client_credentials`.
    grant_type: String,
    /// The service's id; by HTTP Basic instead, if it likes.
    client_id: Option<String>,
    /// Its secret; likewise.
    client_secret: Option<String>,
    /// For whom the token is; anything.
    scope: Option<String>,
}

pub(crate) struct Endpoint {
    issuer: Arc<OwnIssuer>,
    store: Store,
}

pub(crate) fn routes(issuer: Arc<OwnIssuer>, store: &Store) -> Router {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(tenants_discovery))
        .route("/{tenant}/discovery/v2.0/keys", get(keys))
        .with_state(Arc::new(Endpoint { issuer, store: store.clone() }))
}

/// Grants a token to an app's service, as Microsoft's endpoint does.
#[utoipa::path(
    post, path = "/{tenant}/oauth2/v2.0/token", tag = "tokens",
    params(("tenant" = String, Path, description = "Any: there is one issuer here")),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "A token for an hour", body = Object),
        (status = 400, description = "The form is no good: an error of RFC 6749 §5.2", body = Object),
        (status = 401, description = "The client is unknown, or its secret is wrong", body = Object),
    )
)]
pub(crate) async fn token(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let basic = basic(request.headers());
    let now = endpoint.store.clock().now();
    let id = Uuid::now_v7();
    let granted = match body::read(request, MAX_FORM_BYTES).await {
        Ok(form) => endpoint.issuer.grant(&form, basic.as_deref(), now, id),
        Err(_) => Err(NotGranted::Request("the form could not be read, or is too long")),
    };
    match granted {
        Ok(granted) => Json(granted).into_response(),
        Err(refused) => {
            debug!(?refused, trace_id = %id, "no token was granted");
            let status = StatusCode::from_u16(refused.status()).expect("400 and 401 are statuses");
            let mut response = (status, Json(refused.body(now, id))).into_response();
            if status == StatusCode::UNAUTHORIZED {
                let challenge = HeaderValue::from_static("Basic realm=\"herald\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

fn basic(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| credentials.to_owned())
}

/// What the built-in issuer offers.
#[utoipa::path(
    get, path = "/.well-known/openid-configuration", tag = "tokens",
    responses((status = 200, description = "The discovery document", body = Object))
)]
pub(crate) async fn discovery(State(endpoint): State<Arc<Endpoint>>) -> Json<Value> {
    Json(endpoint.issuer.discovery(None))
}

/// The same for a tenant, which may be any.
#[utoipa::path(
    get, path = "/{tenant}/v2.0/.well-known/openid-configuration", tag = "tokens",
    params(("tenant" = String, Path, description = "Any: there is one issuer here")),
    responses((status = 200, description = "The discovery document", body = Object))
)]
pub(crate) async fn tenants_discovery(
    State(endpoint): State<Arc<Endpoint>>,
    Path(tenant): Path<String>,
) -> Json<Value> {
    Json(endpoint.issuer.discovery(Some(&tenant)))
}

/// The keys that the built-in issuer signs with.
#[utoipa::path(
    get, path = "/{tenant}/discovery/v2.0/keys", tag = "tokens",
    params(("tenant" = String, Path, description = "Any: there is one issuer here")),
    responses((status = 200, description = "The key set", body = Object))
)]
pub(crate) async fn keys(State(endpoint): State<Arc<Endpoint>>) -> Json<Value> {
    Json(endpoint.issuer.jwks().clone())
}
