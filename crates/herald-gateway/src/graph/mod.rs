//! Microsoft Graph's notifications API, as its clients know it: `POST /beta/me/notifications`.
//!
//! Stands beside the queue as the other way in: the same contract, the same intake, the same store. 201 after the commit;
//! then the deliveries are due, and whichever worker takes them pushes them.
//!
//! | route (a slash at the end makes no difference; `/v1.0` is the same) | who | whom it tells |
//! | --- | --- | --- |
//! | `POST /beta/me/notifications` | an app | the user of the subscription in `X-UNS-ID`, or the body's `target` |
//! | | a user | that user |
//! | `POST /beta/users/{id}/notifications` | an app | that user |
//! | | a user | themselves |
//!
//! It never pushes, and never tells one app anything of another (G8). Reading order: this file → [`mod@post`] (a request's way)
//! → [`headers`] → [`intake`] (how it is stored) → [`hints`] → [`resource`] (the answer).
//!
//! Source of the contract: Microsoft's documentation of `/me/notifications` (beta, until January 2022), and what its clients
//! send.

mod post;
mod headers;
mod intake;
mod hints;
mod resource;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, post};
use herald_queue::Queue;

use crate::api::{Api, Resolve};
use crate::commit::{self, Commits, Committer};
use crate::refusal::Refusal;
use crate::request_ids::Ids;

use hints::Hinter;
use intake::Posts;
use resource::Version;

/// What the handlers share.
pub(crate) struct Posting {
    api: Arc<Api>,
    commits: Commits<Posts>,
}

/// What must run while the routes are served.
pub(crate) struct Background {
    committer: Committer<Posts>,
    hinter: Option<Hinter>,
}

impl Background {
    /// Until the last handler is gone.
    pub(crate) async fn run(self) {
        let hinting = async {
            if let Some(hinter) = self.hinter {
                hinter.run().await;
            }
        };
        tokio::join!(self.committer.run(), hinting);
    }
}

/// The routes, and what must run beside them.
pub(crate) fn routes(api: &Arc<Api>, resolve: Resolve, hints: Option<Queue>) -> (Router, Background) {
    let (hints, hinter) = hints::channel(hints);
    let (commits, committer) =
        commit::channel(Posts { store: api.store.clone(), metrics: api.metrics.clone(), resolve, hints });
    let posting = Posting { api: Arc::clone(api), commits };
    let mut router = Router::new();
    for version in Version::ALL {
        let at = |path: &str| format!("{}{path}", version.path());
        router = router
            .route(&at("/me/notifications"), of(post(of_me)))
            .route(&at("/me/notifications/"), of(post(of_me)))
            .route(&at("/users/{id}/notifications"), of(post(of_user)))
            .route(&at("/users/{id}/notifications/"), of(post(of_user)));
    }
    (router.with_state(Arc::new(posting)), Background { committer, hinter })
}

/// With an answer for every other method.
fn of(method: MethodRouter<Arc<Posting>>) -> MethodRouter<Arc<Posting>> {
    method.fallback(other_method)
}

async fn of_me(State(posting): State<Arc<Posting>>, request: Request) -> Response {
    answer(&posting, None, request).await
}

async fn of_user(
    State(posting): State<Arc<Posting>>,
    user: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A path that is no text names nobody, as the empty one does.
    let user = user.map(|Path(user)| user).unwrap_or_default();
    answer(&posting, Some(&user), request).await
}

async fn answer(posting: &Posting, path_user: Option<&str>, request: Request) -> Response {
    let ids = Ids::of(request.headers());
    match post::take_in(posting, path_user, request).await {
        Ok(created) => created.into_response(),
        Err(refusal) => refusal.of(ids.inner(posting.api.store.clock().now())).into_response(),
    }
}

async fn other_method(State(posting): State<Arc<Posting>>, headers: HeaderMap) -> Response {
    let ids = Ids::of(&headers);
    let (code, fix) = ("methodNotAllowed", "POST a notification");
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, code, "method", "is not served at this path", fix);
    let mut response = refusal.of(ids.inner(posting.api.store.clock().now())).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}
