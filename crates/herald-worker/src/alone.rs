//! The child's side of isolation: one piece of work, the same steps, then the end.
//!
//! Called by the binary's hidden subcommand, with what [`crate::isolation`] wrote to its standard input.

use std::sync::Arc;

use herald_core::ids::DeliveryId;
use herald_core::lane::{DispatchQueue, Hint};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::budget::Kind;
use crate::intake;
use crate::isolation::{Carried, Isolated, Verdict};
use crate::lease::Lease;
use crate::way::{Way, Worker};
use crate::{push, record};

/// Does this, records it, and says what came of it.
pub async fn do_alone(worker: Worker, work: Isolated) -> Verdict {
    let (way, done) = Way::new(worker);
    let ended = CancellationToken::new();
    let mut recorder = JoinSet::new();
    recorder.spawn(record::run(Arc::clone(&way), done, ended.clone(), CancellationToken::new()));
    let verdict = match work {
        Isolated::Delivery { id, version } => delivery(&way, DeliveryId(id), version).await,
        Isolated::Request(carried) => request(&way, &carried).await,
    };
    way.pushes.close();
    way.pushes.wait().await;
    ended.cancel();
    while let Some(recorded) = recorder.join_next().await {
        if recorded.is_err() {
            return Verdict::Unavailable;
        }
    }
    verdict
}

async fn delivery(way: &Arc<Way>, delivery: DeliveryId, version: i64) -> Verdict {
    let lease = Lease::before_take(way.settings.lease);
    let Ok(taken) = way.store.take(&[Hint { delivery, version }], way.settings.lease).await else {
        return Verdict::Unavailable;
    };
    let mut permits = way.budget.take(DispatchQueue::Fallback, Kind::Due, taken.len());
    push::start(way, taken, &mut permits, lease);
    Verdict::Done
}

async fn request(way: &Arc<Way>, carried: &Carried) -> Verdict {
    let now = way.clock.now();
    let request = match intake::read(way, &carried.body, &carried.envelope(), carried.lane, now) {
        Ok(request) => request,
        Err(error) if error.expired => return Verdict::Done,
        Err(error) => return park(intake::reason(error)),
    };
    let mut permits = way.budget.take(carried.lane.into(), Kind::New, way.settings.budget);
    match intake::store(way, std::slice::from_ref(&request), &permits, &CancellationToken::new()).await {
        Ok((mut intaken, lease)) => match intaken.pop() {
            Some(herald_store::Intaken::Stored { taken, .. }) => {
                push::start(way, taken, &mut permits, lease);
                Verdict::Done
            }
            Some(herald_store::Intaken::UnknownTarget) => park(intake::unknown_target()),
            Some(herald_store::Intaken::Duplicate) | None => Verdict::Done,
        },
        Err(_) => park(intake::store_refused()),
    }
}

fn park(reason: herald_queue::ParkReason) -> Verdict {
    let herald_queue::ParkReason { code, field, problem, fix } = reason;
    Verdict::Park { code, field, problem, fix }
}
