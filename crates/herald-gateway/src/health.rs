//! What supervisors, load balancers and Prometheus ask.
//!
//! Never part of a notification's way. Liveness knows nothing of broker and store: a restart would not bring them back.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use herald_core::breaker::Trip;
use herald_metrics::{BrokerTotals, PauseReason};
use herald_queue::Health;
use herald_store::Pause;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::Shared;

/// How long the store may take to answer before it counts as away: well below the time-out of a probe and of a scrape.
const PING_LIMIT: Duration = Duration::from_secs(2);

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Readiness {
    ready: bool,
    not_ready: Vec<NotReady>,
}

/// One part that can't work now.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct NotReady {
    part: &'static str,
    problem: String,
}

impl NotReady {
    fn new(part: &'static str, problem: impl Into<String>) -> Self {
        Self { part, problem: problem.into() }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    alive: bool,
}

/// Whether the process can answer at all.
#[utoipa::path(get, path = "/healthz", tag = "operators", responses((status = 200, description = "It can", body = Alive)))]
pub(crate) async fn live() -> Response {
    Json(Alive { alive: true }).into_response()
}

/// Whether work should be sent here.
#[utoipa::path(
    get, path = "/readyz", tag = "operators",
    responses(
        (status = 200, description = "It should", body = Readiness),
        (status = 503, description = "It should not, and why", body = Readiness),
    )
)]
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let mut not_ready = Vec::new();
    if shared.draining.is_cancelled() {
        not_ready.push(NotReady::new("process", "draining"));
    }
    if let Some(queue) = &shared.queue {
        not_ready.extend(of_queue(queue.health()));
    }
    match timeout(PING_LIMIT, shared.store.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => not_ready.push(NotReady::new("store", error.to_string())),
        Err(_) => not_ready.push(NotReady::new("store", format!("no answer within {} s", PING_LIMIT.as_secs()))),
    }
    let status = if not_ready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: not_ready.is_empty(), not_ready })).into_response()
}

fn of_queue(health: Health) -> Vec<NotReady> {
    let Health { publishing, publishing_for, consuming, consuming_for, blocked, last_loss } = health;
    let mut not_ready = Vec::new();
    let since = |down: Duration| {
        let why = last_loss.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("down for {} s{why}", down.as_secs())
    };
    match blocked {
        Some(why) => not_ready.push(NotReady::new("queue.blocked", format!("the queue takes no messages now: {why}"))),
        None if !publishing => not_ready.push(NotReady::new("queue.publishing", since(publishing_for))),
        None => {}
    }
    if !consuming {
        not_ready.push(NotReady::new("queue.consuming", since(consuming_for)));
    }
    not_ready
}

/// All metrics, in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "operators",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"))
)]
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    if let Some(queue) = &shared.queue {
        let counters = queue.counters();
        shared.metrics.broker(BrokerTotals {
            losses: counters.losses,
            failed_connects: counters.failed_connects,
            refused: counters.refused,
            unconfirmed: counters.unconfirmed,
        });
    }
    match timeout(PING_LIMIT, shared.store.pauses()).await {
        Ok(Ok(pauses)) => shared.metrics.pauses_in_force(pauses.iter().map(|pause| (pause.provider, reason(pause)))),
        // What was known last is told: a scrape must not fail with the store, least of all then.
        Ok(Err(_)) | Err(_) => tracing::debug!("the pauses could not be read for a scrape"),
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.metrics.render()).into_response()
}

fn reason(pause: &Pause) -> PauseReason {
    let trip = Trip::parse(&pause.reason).filter(|_| !pause.by_operator);
    trip.map_or(PauseReason::Operator, PauseReason::Trip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Health {
        Health {
            publishing: true,
            publishing_for: Duration::from_secs(9),
            consuming: true,
            consuming_for: Duration::from_secs(9),
            blocked: None,
            last_loss: None,
        }
    }

    #[test]
    fn each_part_of_the_queue_that_is_not_ready_is_named() {
        let check = |health, want: &[&str]| {
            let parts: Vec<_> = of_queue(health).iter().map(|not_ready| not_ready.part).collect();
            assert_eq!(parts, want);
        };
        check(well(), &[]);
        check(Health { consuming: false, ..well() }, &["queue.consuming"]);
        check(Health { publishing: false, ..well() }, &["queue.publishing"]);
        check(Health { publishing: false, consuming: false, ..well() }, &["queue.publishing", "queue.consuming"]);
        // A blocked connection is up; saying that it is down would send the operator the wrong way.
        check(Health { publishing: false, blocked: Some("memory".to_owned()), ..well() }, &["queue.blocked"]);
    }

    #[test]
    fn a_lost_connection_is_told_with_its_cause_and_age() {
        let health = Health { consuming: false, last_loss: Some("reset by peer".to_owned()), ..well() };
        assert_eq!(of_queue(health), [NotReady::new("queue.consuming", "down for 9 s: reset by peer")]);
    }
}
