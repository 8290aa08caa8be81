//! Events: what producers may want to know, from the store's outbox to `herald.events`.
//!
//! Stands after record. The row was written in the transaction of the state change; here it is published, confirmed, and
//! only then marked as sent: at least once, under a stable id.

use std::sync::Arc;
use std::time::Duration;

use herald_queue::{Exchange, Outgoing};
use herald_store::{OutboxRow, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::clock::Trouble;
use crate::way::Way;

/// Events published together.
const BATCH: i64 = 100;
/// CloudEvents 1.0, structured mode.
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// How long a claimed row is this replica's.
const HOLD: Duration = Duration::from_secs(30);

/// Publishes what is in the outbox until `stop`; then once more, for what the drain left.
pub(crate) async fn run(way: Arc<Way>, stop: CancellationToken) {
    let mut trouble = Trouble::default();
    loop {
        let published = publish(&way).await;
        let full = matches!(published, Ok(true));
        trouble.note("the outbox", &published.map(|_| ()));
        if full && !stop.is_cancelled() {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(way.settings.clock_interval) => {}
        }
    }
    // What the drain left; what the store does not give now is published by another replica.
    let last = publish(&way).await;
    trouble.note("the outbox", &last.map(|_| ()));
}

/// One batch; says whether there may be more.
async fn publish(way: &Way) -> Result<bool, StoreError> {
    let rows = way.store.outbox_claim(BATCH, HOLD).await?;
    if rows.is_empty() {
        return Ok(false);
    }
    let results = way.queue.publisher().publish_all(rows.iter().map(outgoing).collect()).await;
    let sent: Vec<Uuid> =
        rows.iter().zip(&results).filter(|(_, result)| result.is_ok()).map(|(row, _)| row.id).collect();
    way.metrics.events_published(sent.len());
    let all = sent.len() == rows.len();
    // Published but not marked: published again later, under the same id.
    way.store.outbox_done(&sent).await?;
    if !all {
        warn!(failed = rows.len() - sent.len(), "some events were not confirmed; they will be repeated");
    }
    Ok(all && rows.len() == usize::try_from(BATCH).unwrap_or(usize::MAX))
}

fn outgoing(row: &OutboxRow) -> Outgoing {
    Outgoing {
        message_id: Some(row.id.to_string()),
        content_type: CLOUD_EVENT,
        ..Outgoing::json(Exchange::Events, row.routing_key.clone(), row.body.clone())
    }
}
