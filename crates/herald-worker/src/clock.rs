//! The clock: what is due is re-enqueued.
//!
//! Stands between the store and the dispatch queues; runs in every replica, in a loop for each queue, so that nothing else
//! delays a fallback. It keeps no timer per delivery: time is the column `next_at`, and a row that is due becomes a hint.
//! That is how a deferred raw push becomes a toast, how retries spread over replicas, and how a crashed worker's work is
//! picked up. A hint that waits long is published again at the same version, and whichever is read first counts.
//!
//! A hint is only a means to spread work. While the broker is away or takes no publishes, this replica takes what is due
//! by itself: a toast must not wait for a queue that it does not need.

use std::sync::Arc;
use std::time::Duration;

use herald_core::lane::DispatchQueue;
use herald_metrics::BatchStep;
use herald_queue::{Publisher, Source};
use herald_store::StoreError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::budget::Kind;
use crate::take;
use crate::way::Way;

/// Rows claimed by one statement.
const CLAIM: usize = 500;
/// How long a claimed row is not claimed again: longer than a hint usually waits.
pub(crate) const HOLD: Duration = Duration::from_secs(30);
/// No more hints are published to a queue while this many of its messages (of up to 100 hints) are ready: a few seconds' work.
const ENOUGH_READY: u64 = 100;
/// Claims of one tick.
const MAX_ROUNDS: usize = 20;

/// Re-enqueues what is due of one dispatch queue until `stop`.
pub(crate) async fn run(way: Arc<Way>, queue: DispatchQueue, stop: CancellationToken) {
    let mut tick = tokio::time::interval(way.settings.clock_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    // Made first: a publisher is what has the queue connect to publish.
    let publisher = way.queue.publisher();
    loop {
        tokio::select! {
            // Between ticks nothing is under way.
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let result = enqueue_due(&way, &publisher, queue, &stop).await;
        trouble.note("the clock", &result);
    }
}

async fn enqueue_due(
    way: &Arc<Way>,
    publisher: &Publisher,
    queue: DispatchQueue,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    for _ in 0..MAX_ROUNDS {
        if stop.is_cancelled() {
            return Ok(());
        }
        if !way.queue.health().publishing {
            return take_directly(way, queue, stop).await;
        }
        match way.queue.depth(Source::Dispatch(queue)).await {
            Ok(ready) if ready < ENOUGH_READY => {}
            Ok(_) => return Ok(()),
            Err(_) => return take_directly(way, queue, stop).await,
        }
        let hints = way.store.due(queue, i64::try_from(CLAIM).unwrap_or(i64::MAX), HOLD).await?;
        if hints.is_empty() {
            return Ok(());
        }
        way.metrics.batch(BatchStep::Hints, hints.len());
        if let Err(lost) = publisher.hints(queue, &hints).await {
            warn!(queue = %queue, lost = lost.hints.len(), error = %lost.why, "hints were not confirmed; they are due again");
            way.store.undue(&lost.hints).await?;
            return Ok(());
        }
        if hints.len() < CLAIM {
            return Ok(());
        }
    }
    Ok(())
}

/// Takes what is due without a hint, as far as the budget goes. The version decides as it does for a hint.
async fn take_directly(way: &Arc<Way>, queue: DispatchQueue, stop: &CancellationToken) -> Result<(), StoreError> {
    let room = way.budget.room_now(queue, Kind::Due).min(CLAIM);
    if room == 0 {
        return Ok(());
    }
    let due = way.store.due(queue, i64::try_from(room).unwrap_or(i64::MAX), HOLD).await?;
    take::take_all(way, queue, due, stop).await;
    Ok(())
}

/// Says once that something is wrong, and once that it is right again.
#[derive(Debug, Default)]
pub(crate) struct Trouble(bool);

impl Trouble {
    pub(crate) fn note(&mut self, who: &'static str, result: &Result<(), StoreError>) {
        match result {
            Err(error) if !self.0 => warn!(who, %error, "can't reach the store; its work waits"),
            Ok(()) if self.0 => info!(who, "reaches the store again"),
            Ok(()) | Err(_) => {}
        }
        self.0 = result.is_err();
    }
}
