//! The child's side of isolation: one piece of work, the same steps, then the end.
//!
//! Called by the binary's hidden subcommand, with what [`crate::isolation`] wrote to its standard input.

use std::sync::Arc;
use std::time::Duration;

use herald_core::ids::{DeliveryId, NotificationId};
use herald_core::lane::{DispatchQueue, Hint};
use herald_store::{Expanded, Intaken};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::batch::GaveUp;
use crate::budget::Kind;
use crate::isolation::{Carried, Isolated, Verdict};
use crate::lease::Lease;
use crate::watchdog::{Watchdog, watched};
use crate::way::{Ends, Way, Worker};
use crate::{fanout, house, intake, push, record};

/// The child gives up this long before its parent would kill it, whatever it waits for: a store that is away, or slow, is no
/// evidence of poison.
const BEFORE_THE_END: Duration = Duration::from_secs(5);

/// Does this, records it, and says what came of it. `begun` is called when everything that it needs is there.
pub async fn do_alone(mut worker: Worker, work: Isolated, begun: impl FnOnce() -> std::io::Result<()>) -> Verdict {
    // The lease must outlast the child: else another worker takes it from one that hangs, and its parent, which
    // comes to record the poison, finds another version.
    let settings = &mut worker.settings;
    settings.lease = settings.lease.max(settings.isolate.timeout + BEFORE_THE_END);
    let (way, ends) = Way::new(worker);
    // What is paused is paused for a child too.
    if house::follow_pauses(&way).await.is_err() || begun().is_err() {
        return Verdict::Unavailable;
    }
    // Work that hangs ends this process sooner than the parent's patience does.
    let _watchdog = Watchdog::start(way.settings.attempt_timeout);
    let limit = way.settings.isolate.timeout.saturating_sub(BEFORE_THE_END);
    tokio::time::timeout(limit, to_the_end(&way, ends, work)).await.unwrap_or(Verdict::Unavailable)
}

async fn to_the_end(way: &Arc<Way>, Ends { to_record, .. }: Ends, work: Isolated) -> Verdict {
    let (ended, never) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(record::run(Arc::clone(way), to_record, ended.clone(), never.clone()));
    let verdict = match work {
        Isolated::Deliveries(deliveries) => take(way, &deliveries).await,
        Isolated::Request(carried) => watched("isolated", request(way, &carried, &never)).await,
        Isolated::Fanout(id) => watched("isolated", fanout(way, NotificationId(id))).await,
    };
    way.pushes.close();
    way.pushes.wait().await;
    ended.cancel();
    while let Some(recorded) = tasks.join_next().await {
        if recorded.is_err() {
            return Verdict::Unavailable;
        }
    }
    verdict
}

async fn take(way: &Arc<Way>, deliveries: &[(uuid::Uuid, i64)]) -> Verdict {
    let hint = |(id, version): &(uuid::Uuid, i64)| Hint { delivery: DeliveryId(*id), version: *version };
    // What is beyond the budget is brought back by its lease.
    let hints: Vec<Hint> =
        deliveries.iter().map(hint).take(way.budget.room_now(DispatchQueue::Fallback, Kind::Due)).collect();
    let lease = Lease::before_take(way.settings.lease);
    let Ok(taken) = way.store.take(&hints, way.settings.lease).await else { return Verdict::Unavailable };
    let mut permits = way.budget.take(DispatchQueue::Fallback, Kind::Due, taken.len());
    push::start(way, taken, &mut permits, lease);
    Verdict::Done
}

async fn request(way: &Arc<Way>, carried: &Carried, never: &CancellationToken) -> Verdict {
    let now = way.clock.now();
    let request = match intake::read(way, &carried.body, &carried.envelope(), carried.lane, now) {
        Ok(request) => request,
        Err(error) if error.expired => return Verdict::Done,
        Err(error) => return park(intake::reason(error)),
    };
    let mut permits = way.budget.take(carried.lane.into(), Kind::New, way.settings.budget);
    match intake::store(way, std::slice::from_ref(&request), &permits, never).await {
        Ok((mut intaken, lease)) => match intaken.pop() {
            Some(Intaken::Stored { taken, .. }) => {
                push::start(way, taken, &mut permits, lease);
                Verdict::Done
            }
            Some(Intaken::UnknownTarget) => park(intake::unknown_target()),
            Some(Intaken::Duplicate) | None => Verdict::Done,
        },
        Err(GaveUp::Stopped) => Verdict::Unavailable,
        Err(GaveUp::Refused(_)) => park(intake::store_refused()),
    }
}

async fn fanout(way: &Arc<Way>, notification: NotificationId) -> Verdict {
    loop {
        match fanout::page(way, notification).await {
            Ok(Expanded::More(_)) => {}
            Ok(Expanded::Done(_) | Expanded::Expired | Expanded::Stale) => return Verdict::Done,
            Err(error) => {
                warn!(notification.id = %notification, %error, "the store refuses a page of a fan-out");
                return Verdict::Unavailable;
            }
        }
    }
}

fn park(reason: herald_queue::ParkReason) -> Verdict {
    let herald_queue::ParkReason { code, field, problem, fix } = reason;
    Verdict::Park { code, field, problem, fix }
}
