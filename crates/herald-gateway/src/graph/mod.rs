//! Microsoft Graph's notifications API, as its clients know it: `/beta/me/notifications`.
//!
//! Stands beside the queue as the other way in: the same contract, the same intake, the same store. 201 after the commit;
//! then the deliveries are due, and whichever worker takes them pushes them. And it is how apps see and change what their user
//! was told, which Graph's own libraries did.
//!
//! | route (a slash at the end makes no difference; `/v1.0` is the same) | |
//! | --- | --- |
//! | `POST /beta/me/notifications` | takes one in: [`mod@post`] |
//! | `GET /beta/me/notifications` | lists: [`read`], and below |
//! | `GET /beta/me/notifications/$count` | counts |
//! | `GET /beta/me/notifications/delta` | lists what has changed since |
//! | `GET /beta/me/notifications/{id}` | one |
//! | `PATCH`, `DELETE /beta/me/notifications/{id}` | read, acted on, deleted: [`change`] |
//!
//! All of them at `/beta/users/{user}/notifications` too. An app's token speaks for its service, which names the user by path or
//! by a subscription of theirs (`X-UNS-ID`, a post's `target`); a user's for themselves.
//!
//! It never pushes, and never tells one app anything of another, or one user of another (G8). Reading order: this file →
//! [`mod@post`] (a request's way) → [`headers`] → [`intake`] (how it is stored) → [`hints`] → [`resource`] (the answer) →
//! [`whose`] (who reads, about whom) → [`query`] → [`read`] → [`item`] → [`change`].
//!
//! Source of the contract: Microsoft's documentation of `/me/notifications` (beta, until January 2022), its published metadata
//! and libraries, and what its clients send.

mod post;
mod headers;
mod intake;
mod hints;
mod resource;
mod whose;
mod query;
pub(crate) mod read;
pub(crate) mod item;
mod change;
pub(crate) mod served;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use herald_core::ids::NotificationId;
use herald_queue::Queue;

use crate::api::{Api, Resolve};
use crate::commit::{self, Commits, Committer};
use crate::refusal::Refusal;
use crate::request_ids::Ids;

use hints::{Hinter, Hints};
use intake::Posts;
use resource::Version;

/// What the handlers share.
pub(crate) struct Graph {
    api: Arc<Api>,
    commits: Commits<Posts>,
    hints: Hints,
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
    let (commits, committer) = commit::channel(Posts {
        store: api.store.clone(),
        metrics: api.metrics.clone(),
        resolve,
        hints: hints.clone(),
    });
    let graph = Graph { api: Arc::clone(api), commits, hints };
    let mut router = Router::new();
    for version in Version::ALL {
        for whose in ["/me", "/users/{user}"] {
            for (path, methods) in methods() {
                let path = format!("{}{whose}/notifications{path}", version.path());
                router = router.route(&path, methods.clone()).route(&format!("{path}/"), methods);
            }
        }
    }
    (router.with_state(Arc::new(graph)), Background { committer, hinter })
}

/// What is served below each user's notifications, with an answer for every other method.
fn methods() -> [(&'static str, MethodRouter<Arc<Graph>>); 4] {
    let of = |methods: MethodRouter<Arc<Graph>>, allowed: &'static str| {
        methods.fallback(async move |State(graph): State<Arc<Graph>>, headers: HeaderMap| {
            other_method(&graph, &headers, allowed).await
        })
    };
    [
        ("", of(post(served::post).get(served::list), "GET, HEAD, POST")),
        ("/$count", of(get(served::count), "GET, HEAD")),
        ("/delta", of(get(served::delta), "GET, HEAD")),
        ("/{id}", of(get(served::item).patch(served::patch).delete(served::delete), "GET, HEAD, PATCH, DELETE")),
    ]
}

/// What a path names. What is no text names nobody and nothing, as the empty one does.
pub(crate) struct Named {
    user: Option<String>,
    id: Option<String>,
}

impl Named {
    /// None below `/me`.
    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether this stands where an id does.
    fn is(&self, word: &str) -> bool {
        self.id.as_deref() == Some(word)
    }

    fn notification(&self) -> Option<NotificationId> {
        self.id.as_deref()?.parse().ok().map(NotificationId)
    }
}

impl FromRequestParts<Arc<Graph>> for Named {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, graph: &Arc<Graph>) -> Result<Self, Infallible> {
        let params = RawPathParams::from_request_parts(parts, graph).await;
        let Ok(params) = params else { return Ok(Self { user: Some(String::new()), id: None }) };
        let named = |name: &str| params.iter().find(|(given, _)| *given == name).map(|(_, value)| value.to_owned());
        Ok(Self { user: named("user"), id: named("id") })
    }
}

impl Graph {
    /// The answer, or the refusal in its form; by both, who asked is told by which ids.
    async fn answer(&self, ids: &Ids, work: impl Future<Output = Result<Response, Refusal>>) -> Response {
        match work.await {
            Ok(response) => response,
            Err(refusal) => refusal.of(ids.inner(self.api.store.clock().now())).into_response(),
        }
    }
}

async fn other_method(graph: &Graph, headers: &HeaderMap, allowed: &'static str) -> Response {
    let (code, fix) = ("methodNotAllowed", "see the header Allow");
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, code, "method", "is not served at this path", fix);
    let mut response = graph.answer(&Ids::of(headers), async { Err(refusal) }).await;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
