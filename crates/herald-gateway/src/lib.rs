//! HTTP for app services, phones and operators: notifications and receipts in, health and metrics out.
//!
//! Stands beside the way of a notification: an app service's post is stored as the worker stores a request; a phone's receipt
//! closes its delivery, which is what cancels the fallback (rule 5 in `herald_core::fallback`). Served by every worker, and
//! by `herald gateway` alone; replicas share nothing but the store.
//!
//! | route | for whom | answer |
//! | --- | --- | --- |
//! | `POST /v1/receipts` | apps | 200 once every receipt in it is committed (G3) |
//! | `GET /v1/notifications/{id}/trace` | app services, the operator | what became of it: [`trace`] |
//! | `DELETE /v1/apps/{app}/users/{user}` | the operator | what went of a user: `v1` |
//! | `/v1/subscriptions` | apps and their services | a device's subscription: `v1` |
//! | `/beta/me/notifications` and others like it | app services, apps | 201 once it is committed (G1); lists, changes: [`graph`] |
//! | `GET /healthz` | supervisor | 200 while the process can answer; says nothing of broker and store |
//! | `GET /readyz` | load balancer | 200, or 503 with what is not ready |
//! | `GET /metrics` | Prometheus | text format 0.0.4 |
//!
//! It never pushes, knows no provider, and never logs a token, a capability, a body or a header. It speaks HTTP/1.1, by TLS if
//! it is given a certificate; else it stands behind a proxy that ends TLS on an open network.
//!
//! Reading order: this file → `serving` (a connection's way) → `passing` (every request's way) → `receipts` (what phones send) →
//! `commit` (how it is stored) → `keys` → [`identity`], `auth` (who is calling) → `throttle` (how often) → `tokens` (the built-in
//! issuer) → `api` → [`graph`] (what app services post) → `v1` (Herald's own routes) → [`trace`] → `body` → `health` → `refusal` →
//! `secret` → `request_ids` → `connections` → `tls`.

mod serving;
mod passing;
mod receipts;
mod commit;
mod keys;
pub mod identity;
mod auth;
mod throttle;
mod tokens;
mod api;
pub mod graph;
mod v1;
pub mod trace;
mod openapi;
mod body;
mod health;
mod refusal;
mod secret;
mod request_ids;
mod connections;
mod tls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Router, middleware};
use herald_metrics::Metrics;
use herald_queue::Queue;
use herald_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use api::{ApiParts, AppRules, Resolve};
pub use auth::OperatorToken;
pub use keys::ReceiptKeys;
pub use passing::RequestLog;
pub use throttle::{Rate, ThrottledStatus};
pub use tls::{TlsError, TlsFiles};

use api::{Api, Routes};
use commit::{Commits, Committer};
use connections::Bounded;
use passing::Passing;
use receipts::Receipts;
use refusal::Refusal;
use tls::Secured;

/// The largest body of receipts, in bytes: 1,000 capabilities with their times are about 150 KiB.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// How long answers under way may hold up the end of [`Gateway::serve`].
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// What a gateway is made of.
pub struct Parts {
    /// What is counted, and served under `/metrics`.
    pub metrics: Metrics,
    /// Where receipts go. Its teller writes the events about them.
    pub store: Store,
    /// Whose health counts for readiness; none where no queue is used.
    pub queue: Option<Queue>,
    /// What receipt capabilities are verified with.
    pub receipt_keys: ReceiptKeys,
    /// For those who bring a token; none where no issuer of tokens is configured.
    pub api: Option<ApiParts>,
    /// Certificate and key of the listener; none: it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Which requests get a line in the log.
    pub request_log: RequestLog,
    /// Cancelled when the process begins to drain: it is not ready from then on, but still takes what comes.
    pub draining: CancellationToken,
}

/// What the handlers of receipts, health and metrics share.
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) store: Store,
    pub(crate) queue: Option<Queue>,
    pub(crate) receipt_keys: ReceiptKeys,
    pub(crate) draining: CancellationToken,
    pub(crate) commits: Commits<Receipts>,
    pub(crate) api: Option<Arc<Api>>,
}

/// The HTTP interface of one process.
pub struct Gateway {
    router: Router,
    receipts: Committer<Receipts>,
    posts: Option<graph::Background>,
    tls: Option<TlsFiles>,
}

impl Gateway {
    /// Nothing is served yet. Must be called within a tokio runtime.
    pub fn new(parts: Parts) -> Self {
        let Parts { metrics, store, queue, receipt_keys, api, tls, request_log: log, draining } = parts;
        let clock = store.clock();
        let now = Box::new(move || clock.now());
        let passing = Passing { metrics: metrics.clone(), now, log, tls: tls.is_some() };
        let (commits, receipts) = commit::channel(Receipts { store: store.clone(), metrics: metrics.clone() });
        let routes = api.map(|api| api::routes(api, &store, &metrics, commits.clone()));
        let (routes, posts, api) = match routes {
            Some(Routes { router, background, api }) => (Some(router), Some(background), Some(api)),
            None => (None, None, None),
        };
        let shared = Shared { metrics, store, queue, receipt_keys, draining, commits, api };
        let router = router(Arc::new(shared), routes);
        let router = router.layer(middleware::from_fn_with_state(Arc::new(passing), passing::through));
        Self { router, receipts, posts, tls }
    }

    /// Serves until `stop`; then takes no more connections, finishes the answers under way, for 10 s at most, and returns.
    /// No task of its own is left behind.
    ///
    /// # Errors
    /// If the certificate can't be used.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let Self { router, receipts, posts, tls } = self;
        let committing = async {
            let posting = async {
                if let Some(posts) = posts {
                    posts.run().await;
                }
            };
            tokio::join!(receipts.run(), posting);
        };
        let too_long = {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                tokio::time::sleep(DRAIN_LIMIT).await;
            }
        };
        let listener = Bounded::new(listener);
        let serving = async {
            match tls {
                Some(files) => {
                    serving::serve(Secured::new(listener, files).map_err(io::Error::other)?, router, stop).await
                }
                None => serving::serve(listener, router, stop).await,
            }
            Ok(())
        };
        tokio::select! {
            // All answers are out, so nobody waits for a commit any more.
            served = serving => served,
            // Who has no answer yet gets none, and sends it again.
            () = too_long => Ok(()),
            // Ends only with the last handler, which the router above keeps.
            () = committing => Ok(()),
        }
    }
}

fn router(shared: Arc<Shared>, api: Option<Router>) -> Router {
    let own = Router::new()
        .route("/v1/receipts", post(receipts::post))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(async || {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "notFound",
                "path",
                "nothing is here",
                "GET /v1/openapi.json lists what there is",
            )
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "methodNotAllowed",
                "method",
                "this path has no such method",
                "see the header Allow",
            )
        })
        .with_state(shared);
    match api {
        Some(api) => own.merge(api),
        None => own,
    }
}
