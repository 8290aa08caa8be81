//! HTTP for phones and operators: receipts in, health and metrics out.
//!
//! Stands beside the way of a notification: a phone's receipt closes its delivery in the store, which is what cancels the
//! fallback (rule 5 in `herald_core::fallback`). Served by every worker; replicas share nothing but the store.
//!
//! | route | for whom | answer |
//! | --- | --- | --- |
//! | `POST /v1/receipts` | apps | 200 once every receipt in it is committed (G3) |
//! | `GET /healthz` | supervisor | 200 while the process can answer; says nothing of broker and store |
//! | `GET /readyz` | load balancer | 200, or 503 with what is not ready |
//! | `GET /metrics` | Prometheus | text format 0.0.4 |
//!
//! It never pushes, knows no provider, and never logs a capability, a body or a header. It speaks plain HTTP/1.1: on
//! an open network it stands behind a proxy that ends TLS.
//!
//! Reading order: this file → `receipts` (what apps send) → `commit` (how it is stored) → `keys` → `health` → `refusal` →
//! `connections`.

pub mod identity;
mod receipts;
mod commit;
mod keys;
mod health;
mod refusal;
mod connections;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use herald_metrics::Metrics;
use herald_queue::Queue;
use herald_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use keys::ReceiptKeys;

use commit::{Commits, Committer};
use connections::Bounded;
use refusal::Refusal;

/// The largest body of a request, in bytes: 1,000 capabilities with their times are about 150 KiB.
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
    /// Cancelled when the process begins to drain: it is not ready from then on, but still takes receipts.
    pub draining: CancellationToken,
}

/// What every handler shares.
pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) commits: Commits,
}

/// The HTTP interface of one process.
#[derive(Debug)]
pub struct Gateway {
    router: Router,
    committer: Committer,
}

impl Gateway {
    /// Nothing is served yet.
    pub fn new(parts: Parts) -> Self {
        let (commits, committer) = commit::channel(parts.store.clone(), parts.metrics.clone());
        Self { router: router(Arc::new(Shared { parts, commits })), committer }
    }

    /// Serves until `stop`; then takes no more connections, finishes the answers under way, for 10 s at most, and returns.
    /// No task of its own is left behind.
    ///
    /// # Errors
    /// If the listener fails for good.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let Self { router, committer } = self;
        let too_long = {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                tokio::time::sleep(DRAIN_LIMIT).await;
            }
        };
        let serving = axum::serve(Bounded::new(listener), router).with_graceful_shutdown(stop.cancelled_owned());
        tokio::select! {
            // All answers are out, so nobody waits for a commit any more.
            served = async { serving.await } => served,
            // Who has no answer yet gets none, and sends its receipt again.
            () = too_long => Ok(()),
            // Ends only with the last handler, which the router above keeps.
            () = committer.run() => Ok(()),
        }
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/receipts", post(receipts::post))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(async || {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "notFound",
                "path",
                "nothing is here",
                "there are /healthz, /readyz, /metrics and, to POST to, /v1/receipts",
            )
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "methodNotAllowed",
                "method",
                "this path has no such method",
                "POST receipts; GET everything else",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared)
}
