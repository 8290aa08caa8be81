//! A worker's life: everything is started, and stops in the order that loses nothing and sends nothing twice.
//!
//! | what stops | when | why then |
//! | --- | --- | --- |
//! | intake, take, receipts, dead letters, suspects, the clock | at once | no new work; what was handed out is finished or given back |
//! | pushes in flight | when they are answered | an unanswered push is a fault (G4) |
//! | the record | when the last push has ended | else their leases would send them again |
//! | events | when the last record is written | they were written by it |
//!
//! All of it within `drain`; what is left then is in the broker unacked, or in the store under a lease that ends.

use std::sync::Arc;
use std::time::Duration;

use herald_core::lane::{DispatchQueue, Lane};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::watchdog::{Watchdog, watched};
use crate::way::{Way, Worker};
use crate::{clock, events, fanout, house, intake, isolation, parked, pauses, receipts, record, take};

/// What is left of the drain when the record stops trying a store that is away.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Pushes whose outcome was not recorded; their leases bring them back.
    pub unfinished: usize,
    /// A task of the worker panicked, which is why it stopped.
    pub failed: bool,
}

/// Runs a worker until `stop`, then drains it.
pub async fn run(worker: Worker, stop: CancellationToken) -> Drained {
    let (way, ends) = Way::new(worker);
    let _watchdog = Watchdog::start(way.settings.attempt_timeout);
    let (pushes_ended, records_ended, give_up) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let mut recorder = JoinSet::new();
    recorder
        .spawn(watched("record", record::run(Arc::clone(&way), ends.to_record, pushes_ended.clone(), give_up.clone())));
    let mut teller = JoinSet::new();
    teller.spawn(watched("events", events::run(Arc::clone(&way), records_ended.clone())));
    let mut sources = start_sources(&way, &stop);
    sources.spawn(watched("isolation", isolation::deliveries(Arc::clone(&way), ends.to_isolate, stop.clone())));
    sources.spawn(watched("pauses", pauses::run(Arc::clone(&way), ends.to_share, stop.clone())));

    let failed = tokio::select! {
        // The loops end by themselves only when they were stopped, or when one of them panicked.
        () = stop.cancelled() => false,
        ended = sources.join_next() => ended.is_some_and(|ended| ended.is_err()),
        _ = recorder.join_next() => true,
    };
    if failed {
        error!("a task of the worker panicked; the worker stops");
    }
    stop.cancel();
    let drain = way.settings.drain;
    let begun = Instant::now();
    info!(in_flight = way.budget.in_flight(), drain_ms = drain.as_millis(), "draining");

    // A source may be cut off: what it holds is unacked, or under a lease. A push and its record may not, so they have
    // most of the time.
    let mut late = !join_all(&mut sources, begun + drain / 5).await;
    sources.shutdown().await;
    way.pushes.close();
    late |= timeout_at(begun + drain * 4 / 5, way.pushes.wait()).await.is_err();
    pushes_ended.cancel();
    let almost = (begun + drain).checked_sub(LAST_MOMENT).unwrap_or(begun);
    if !join_all(&mut recorder, almost).await {
        late = true;
        give_up.cancel();
        join_all(&mut recorder, begun + drain).await;
    }
    records_ended.cancel();
    late |= !join_all(&mut teller, begun + drain + LAST_MOMENT).await;
    let drained = Drained { unfinished: way.budget.in_flight(), failed };
    if late {
        warn!(
            unfinished = drained.unfinished,
            "the drain ran out of time; leases and the broker bring back what is left"
        );
    } else {
        info!("drained");
    }
    drained
}

fn start_sources(way: &Arc<Way>, stop: &CancellationToken) -> JoinSet<()> {
    let mut sources = JoinSet::new();
    for lane in Lane::ALL {
        sources.spawn(watched("intake", intake::run(Arc::clone(way), lane, stop.clone())));
    }
    for queue in DispatchQueue::ALL {
        sources.spawn(watched("take", take::run(Arc::clone(way), queue, stop.clone())));
        sources.spawn(watched("clock", clock::run(Arc::clone(way), queue, stop.clone())));
    }
    sources.spawn(watched("receipts", receipts::run(Arc::clone(way), stop.clone())));
    sources.spawn(watched("parked", parked::run(Arc::clone(way), stop.clone())));
    sources.spawn(watched("isolation", isolation::run(Arc::clone(way), stop.clone())));
    sources.spawn(watched("fanout", fanout::run(Arc::clone(way), stop.clone())));
    sources.spawn(watched("house", house::run(Arc::clone(way), stop.clone())));
    sources.spawn(watched("sweep", house::sweep(Arc::clone(way), stop.clone())));
    sources
}

/// Waits for all tasks; says whether they ended in time.
async fn join_all(tasks: &mut JoinSet<()>, deadline: Instant) -> bool {
    let all = async { while tasks.join_next().await.is_some() {} };
    timeout_at(deadline, all).await.is_ok()
}
