//! Herald's own routes for those who bring a token, under `/v1`.
//!
//! Stands beside Graph's routes: what Graph's clients never asked for over HTTP, since its own libraries did it.

use std::sync::Arc;

use axum::Router;

use crate::api::Api;

/// The routes.
pub(crate) fn routes(api: &Arc<Api>) -> Router {
    Router::new().with_state(Arc::clone(api))
}
