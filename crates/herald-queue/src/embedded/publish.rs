//! Publishing into the file: routed by [`topology`], many messages to a commit.
//!
//! What is confirmed is on the disk. What fails, fails as a whole: nothing of its commit is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use herald_sqlite::Fault;
use tokio::time::timeout;

use super::properties::to_json;
use super::shared::Shared;
use super::table::{self, NewRow};
use crate::counters::add;
use crate::publisher::{PublishError, Ready};
use crate::topology::{self, UNROUTED_QUEUE};

/// How long a publish waits for its commit: longer than for another process that writes, and for all that waits before it.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);

/// How many messages, and about how many bytes, share a write at most: others wait for the file meanwhile.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Publishes messages; the results are in their order. What is invalid already stays so, and is not counted.
pub(super) async fn publish_all(
    shared: &Arc<Shared>,
    all: Vec<Result<Ready, PublishError>>,
) -> Vec<Result<(), PublishError>> {
    let mut results = Vec::with_capacity(all.len());
    let (mut batch, mut places, mut bytes) = (vec![], vec![], 0);
    for one in all {
        match one {
            Err(error) => results.push(Err(error)),
            Ok(ready) => {
                if batch.len() == BATCH || (bytes > 0 && bytes + ready.body.len() > BATCH_BYTES) {
                    flush(shared, &mut batch, &mut places, &mut results).await;
                    bytes = 0;
                }
                bytes += ready.body.len();
                batch.push(ready);
                places.push(results.len());
                results.push(Ok(()));
            }
        }
    }
    flush(shared, &mut batch, &mut places, &mut results).await;
    results
}

async fn flush(
    shared: &Arc<Shared>,
    batch: &mut Vec<Ready>,
    places: &mut Vec<usize>,
    results: &mut [Result<(), PublishError>],
) {
    let result = publish(shared, std::mem::take(batch)).await;
    for place in places.drain(..) {
        results[place] = result.clone();
    }
}

/// Publishes messages in one commit: all of them are there, or none.
pub(super) async fn publish(shared: &Arc<Shared>, batch: Vec<Ready>) -> Result<(), PublishError> {
    if batch.is_empty() {
        return Ok(());
    }
    let count = batch.len();
    let result = write(shared, batch).await;
    let counter = if result.is_ok() { &shared.counting.confirmed } else { &shared.counting.unconfirmed };
    add(counter, count);
    result
}

async fn write(shared: &Arc<Shared>, batch: Vec<Ready>) -> Result<(), PublishError> {
    let bytes = batch.iter().map(|ready| ready.body.len()).sum();
    let rows: Vec<NewRow> = batch.into_iter().flat_map(rows).collect();
    let queues: BTreeSet<&'static str> = rows.iter().map(|row| row.queue).collect();
    if queues.is_empty() {
        return Ok(());
    }
    if queues.contains(UNROUTED_QUEUE) {
        tracing::warn!(queue = UNROUTED_QUEUE, "kept a message that no queue takes; look at its routing key");
    }
    let insert_all = move |connection: &_| rows.iter().try_for_each(|row| table::insert(connection, row));
    // Killed before the commit: nothing is there, and nobody was told otherwise. After it: the messages are there.
    match timeout(COMMIT_LIMIT, shared.database.write(insert_all)).await {
        Ok(Ok(())) => {
            queues.into_iter().for_each(|queue| shared.news_of(queue));
            Ok(())
        }
        Ok(Err(fault)) => {
            shared.failed(&fault, bytes);
            Err(error(shared, &fault))
        }
        Err(_) => Err(PublishError::Unconfirmed { why: format!("no commit within {COMMIT_LIMIT:?}") }),
    }
}

/// A row for each queue that takes it: none if nobody is bound to an exchange without an alternate.
fn rows(ready: Ready) -> Vec<NewRow> {
    let Ready { exchange, key, body, properties } = ready;
    let queues = topology::route(exchange, key.as_str());
    let row = |queue| NewRow {
        queue,
        exchange: exchange.name(),
        routing_key: key.as_str().to_owned(),
        properties: to_json(&properties),
        body: body.clone(),
    };
    queues.into_iter().map(row).collect()
}

fn error(shared: &Shared, fault: &Fault) -> PublishError {
    let why = shared.say(fault);
    match fault {
        // Which part of a commit reached a disk that fails is unknown until it is read again.
        Fault::Io { .. } => PublishError::Unconfirmed { why },
        Fault::Full
        | Fault::ReadOnly
        | Fault::Corrupt
        | Fault::Busy
        | Fault::CantOpen { .. }
        | Fault::Foreign
        | Fault::Closed
        | Fault::Defect(_) => PublishError::NotSent { why },
    }
}
