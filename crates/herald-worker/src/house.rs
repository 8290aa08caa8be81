//! Housekeeping, each second: the store's clock, pauses of other replicas and operators, gauges; and the sweep of what is
//! over.
//!
//! Stands beside the way; nothing waits for it.

use std::sync::Arc;
use std::time::Duration;

use herald_core::breaker::Trip;
use herald_core::subscription::Provider;
use herald_metrics::{BrokerTotals, CancelledBy, PauseReason};
use herald_store::{Pause, StoreError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Trouble;
use crate::guard::Gate;
use crate::tell;
use crate::way::Way;

const KEEP_HOUSE: Duration = Duration::from_secs(1);
const SWEEP: Duration = Duration::from_secs(10);
/// Rows of each kind swept by one statement, and rounds at most in a row: the rest has time until the next sweep.
const SWEEP_STEP: i64 = 500;
const SWEEP_ROUNDS: usize = 10;
/// How long an expired notification is kept for its trace.
const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// What a resumed pause held comes back spread over this long.
const RESUME_SPREAD: Duration = Duration::from_secs(5);

/// Keeps house until `stop`.
pub(crate) async fn run(way: Arc<Way>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(KEEP_HOUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    let mut resumed = None;
    loop {
        tokio::select! {
            // Between ticks nothing is under way.
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let result = keep_house(&way, &mut resumed).await;
        trouble.note("housekeeping", &result);
    }
}

/// `resumed`: what was resumed at the last tick; none before the first.
async fn keep_house(way: &Way, resumed: &mut Option<Vec<Gate>>) -> Result<(), StoreError> {
    way.metrics.in_flight(way.budget.in_flight());
    show_broker(way);
    way.store.sync_clock().await?;
    // One tick after the end was seen: by now what this replica was just holding until the old end is recorded.
    if let Some(resumed) = resumed {
        while let Some((app, provider)) = resumed.last() {
            way.store.bring_back(app, *provider, RESUME_SPREAD).await?;
            resumed.pop();
        }
    }
    let mut now_resumed = follow_pauses(way).await?;
    if resumed.is_none() {
        // A worker that was stopped before it saw the end has held its last work until then, and nobody else knows.
        now_resumed.extend(way.store.pauses_cut_short().await?);
    }
    *resumed = Some(now_resumed);
    Ok(())
}

/// Takes over what other replicas and operators paused or resumed. Returns what ended before its time.
pub(crate) async fn follow_pauses(way: &Way) -> Result<Vec<Gate>, StoreError> {
    let pauses = way.store.pauses().await?;
    way.metrics.pauses_in_force(pauses.iter().filter_map(|pause| Some((pause.provider, reason(pause)?))));
    let now = way.clock.now();
    let mut resumed = Vec::new();
    for app in way.apps.iter() {
        for provider in Provider::ALL {
            let paused = pauses.iter().find(|pause| pause.app == app.settings.id && pause.provider == provider);
            if app.follow(provider, paused.map(|pause| pause.until), now) {
                resumed.push((app.settings.id.clone(), provider));
            }
        }
    }
    Ok(resumed)
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

/// Closes what has expired, deletes what has been over for long, and reads gauges, until `stop`.
pub(crate) async fn sweep(way: Arc<Way>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SWEEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    loop {
        tokio::select! {
            // Between ticks nothing is under way.
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let result = sweep_once(&way, &stop).await;
        trouble.note("the sweep", &result);
    }
}

async fn sweep_once(way: &Way, stop: &CancellationToken) -> Result<(), StoreError> {
    for _ in 0..SWEEP_ROUNDS {
        let swept = way.store.sweep(SWEEP_STEP, KEEP).await?;
        swept.expired.iter().for_each(|closed| tell::count_closed(&way.metrics, closed, CancelledBy::Expiry));
        if !swept.more || stop.is_cancelled() {
            break;
        }
    }
    let stats = way.store.stats().await?;
    for (queue, lag) in stats.oldest_due {
        way.metrics.due_lag(queue, lag);
    }
    Ok(())
}
