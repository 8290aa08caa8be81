//! The clock: what is due is re-enqueued, and what is over is swept.
//!
//! Stands between the store and the dispatch queues; runs in every replica. It keeps no timer per delivery: time is the
//! column `next_at`, and a row that is due becomes a hint. That is how a deferred raw push becomes a toast, how retries
//! spread over replicas, and how a crashed worker's work is picked up. A hint that waits long is published again at the
//! same version, and whichever is read first counts.

use std::sync::Arc;
use std::time::Duration;

use herald_core::breaker::Trip;
use herald_core::lane::DispatchQueue;
use herald_core::subscription::Provider;
use herald_metrics::{BatchStep, BrokerTotals, CancelledBy, PauseReason};
use herald_queue::Source;
use herald_store::{Expanded, FANOUT_LIMIT, Pause, StoreError};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::resolve::resolve;
use crate::tell;
use crate::way::Way;

/// Rows claimed by one statement.
const CLAIM: i64 = 500;
/// How long a claimed row is not claimed again: longer than a hint usually waits.
const HOLD: Duration = Duration::from_secs(30);
/// No more hints are published to a queue while this many of its messages (of up to 100 hints) are ready: a few seconds' work.
const ENOUGH_READY: u64 = 100;
/// Batches claimed for one queue before the others get their turn.
const MAX_ROUNDS: usize = 20;
/// How often the rest is done.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How often gauges are read from the store, and expired rows swept.
const SWEEP: Duration = Duration::from_secs(10);
/// Rows swept by one statement.
const SWEEP_STEP: i64 = 500;
/// Notifications due themselves that are claimed by one statement.
const FANOUT_CLAIM: i64 = 10;
/// How long an expired notification is kept for its trace.
const KEEP: Duration = Duration::from_secs(24 * 3_600);

/// Runs until `stop`.
pub(crate) async fn run(way: Arc<Way>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(way.settings.clock_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut house = Instant::now();
    let mut sweep = Instant::now();
    let mut trouble = false;
    loop {
        tokio::select! {
            // Between ticks nothing is under way.
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let result = turn(&way, &mut house, &mut sweep).await;
        // Said once per outage, not at every tick.
        match &result {
            Err(error) if !trouble => warn!(%error, "the clock can't reach the store; what is due waits"),
            Ok(()) if trouble => info!("the clock reaches the store again"),
            Ok(()) | Err(_) => {}
        }
        trouble = result.is_err();
    }
}

async fn turn(way: &Way, house: &mut Instant, sweep: &mut Instant) -> Result<(), StoreError> {
    for queue in DispatchQueue::ALL {
        enqueue_due(way, queue).await?;
    }
    way.metrics.in_flight(way.budget.in_flight());
    let now = Instant::now();
    if now >= *house {
        *house = now + HOUSEKEEPING;
        way.store.sync_clock().await?;
        show_broker(way);
        follow_pauses(way).await?;
        fan_out(way).await?;
    }
    if now >= *sweep {
        *sweep = now + SWEEP;
        sweep_expired(way).await?;
    }
    Ok(())
}

/// Publishes hints for what is due of one dispatch queue.
async fn enqueue_due(way: &Way, queue: DispatchQueue) -> Result<(), StoreError> {
    for _ in 0..MAX_ROUNDS {
        match way.queue.depth(Source::Dispatch(queue)).await {
            Ok(ready) if ready < ENOUGH_READY => {}
            // Enough is waiting already, or the broker is away: the rows stay due.
            Ok(_) | Err(_) => return Ok(()),
        }
        let hints = way.store.due(queue, CLAIM, HOLD).await?;
        if hints.is_empty() {
            return Ok(());
        }
        way.metrics.batch(BatchStep::Hints, hints.len());
        if let Err(lost) = way.queue.publisher().hints(queue, &hints).await {
            warn!(queue = %queue, lost = lost.hints.len(), error = %lost.why, "hints were not confirmed; they are due again");
            way.store.undue(&lost.hints).await?;
            return Ok(());
        }
        if hints.len() < usize::try_from(CLAIM).unwrap_or(usize::MAX) {
            return Ok(());
        }
    }
    Ok(())
}

/// Takes over what other replicas and operators paused or resumed.
async fn follow_pauses(way: &Way) -> Result<(), StoreError> {
    let pauses = way.store.pauses().await?;
    way.metrics.pauses_in_force(pauses.iter().filter_map(|pause| Some((pause.provider, reason(pause)?))));
    let now = way.clock.now();
    for app in way.apps.iter() {
        for provider in Provider::ALL {
            let paused = pauses.iter().find(|pause| pause.app == app.settings.id && pause.provider == provider);
            app.follow(provider, paused.map(|pause| pause.until), now);
        }
    }
    Ok(())
}

/// Why it is paused, as a label. A reason of a newer replica is not counted here.
fn reason(pause: &Pause) -> Option<PauseReason> {
    if pause.by_operator { Some(PauseReason::Operator) } else { Trip::parse(&pause.reason).map(PauseReason::Trip) }
}

/// Shows what the broker's client has counted.
fn show_broker(way: &Way) {
    let counters = way.queue.counters();
    way.metrics.broker(BrokerTotals {
        losses: counters.losses,
        failed_connects: counters.failed_connects,
        refused: counters.refused,
        unconfirmed: counters.unconfirmed,
    });
}

/// Resolves notifications that are due themselves: scheduled ones, and those to very many subscriptions.
async fn fan_out(way: &Way) -> Result<(), StoreError> {
    for notification in way.store.claim_fanout(FANOUT_CLAIM, HOLD).await? {
        loop {
            let page = way
                .store
                .expand(notification, FANOUT_LIMIT, HOLD, |new, user, active, now| {
                    resolve(&way.apps, &way.metrics, new, user, active, now)
                })
                .await?;
            match page {
                Expanded::More(_) => {}
                Expanded::Done(_) | Expanded::Expired | Expanded::Stale => break,
            }
        }
    }
    Ok(())
}

/// Closes what has expired, deletes what has been over for long, and reads the gauges.
async fn sweep_expired(way: &Way) -> Result<(), StoreError> {
    loop {
        let swept = way.store.sweep(SWEEP_STEP, KEEP).await?;
        swept.expired.iter().for_each(|closed| tell::count_closed(&way.metrics, closed, CancelledBy::Expiry));
        if !swept.more {
            break;
        }
    }
    let stats = way.store.stats().await?;
    for (queue, lag) in stats.oldest_due {
        way.metrics.due_lag(queue, lag);
    }
    Ok(())
}
