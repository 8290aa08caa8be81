//! Take: hints become deliveries that this worker, and no other, may push now.
//!
//! Stands between the dispatch queues and push. A hint says "this delivery, at this version, is due"; the store's
//! compare-and-set on the version decides who gets it. What is not returned is stale: someone else was first, or a receipt
//! was. The hint is acked after the take; a crash in between leaves a stale hint and a lease that ends.

use std::collections::VecDeque;
use std::sync::Arc;

use herald_core::delivery::State;
use herald_core::lane::{DispatchQueue, Hint};
use herald_queue::{ParkReason, Source, hints};
use herald_store::Taken;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::batch::{GaveUp, until_answered};
use crate::budget::Kind;
use crate::lease::Lease;
use crate::way::Way;
use crate::{isolation, parked, push};

/// Unacked hint messages that one queue of one worker may hold; each has up to 100 hints.
const PREFETCH: u16 = 20;
/// Takes in one statement.
const MAX_TAKES: usize = 250;
/// A delivery that was taken this often without a recorded outcome is pushed by a child process only (protocol step 10).
const ALONE_AFTER: u16 = 3;

/// Takes what is due of one dispatch queue until `stop`.
pub(crate) async fn run(way: Arc<Way>, queue: DispatchQueue, stop: CancellationToken) {
    let mut consumer = way.queue.consume(Source::Dispatch(queue), PREFETCH);
    loop {
        let next = async {
            let room = way.budget.room(queue, Kind::Due).await;
            consumer.next(room.div_ceil(hints::MAX_HINTS)).await
        };
        let batch = tokio::select! {
            // Nothing has been handed out while either future waits.
            () = stop.cancelled() => break,
            batch = next => batch,
        };
        if batch.is_empty() {
            break;
        }
        let mut due = Vec::new();
        let mut good = Vec::with_capacity(batch.len());
        let mut bad = Vec::new();
        for message in batch {
            match hints::decode(message.body()) {
                Ok(hints) => {
                    due.extend(hints);
                    good.push(message);
                }
                Err(refused) => bad.push((message, bad_hint(&refused))),
            }
        }
        parked::park_aside(&way, bad, &stop);
        if take_all(&way, queue, due, &stop).await {
            way.queue.ack(good).await;
        } else {
            way.queue.give_back(good).await;
        }
    }
    consumer.stop().await;
}

fn bad_hint(refused: &hints::BadHints) -> ParkReason {
    ParkReason {
        code: "bad_hint".to_owned(),
        field: String::new(),
        problem: refused.to_string(),
        fix: "do nothing; the clock finds what is due by itself".to_owned(),
    }
}

/// Takes these, as fast as the budget allows. Says whether it got to the end.
pub(crate) async fn take_all(way: &Arc<Way>, queue: DispatchQueue, due: Vec<Hint>, stop: &CancellationToken) -> bool {
    let mut due = VecDeque::from(due);
    // How many are taken at once: fewer after a refusal, until the one that can't be read is found.
    let mut most = MAX_TAKES;
    while !due.is_empty() {
        let room = tokio::select! {
            () = stop.cancelled() => return false,
            room = way.budget.room(queue, Kind::Due) => room,
        };
        let mut permits = way.budget.take(queue, Kind::Due, room.min(due.len()).min(most));
        // The oldest first.
        let part: Vec<Hint> = due.drain(..permits.left()).collect();
        if part.is_empty() {
            continue;
        }
        way.metrics.batch(herald_metrics::BatchStep::Take, part.len());
        let mut lease = Lease::before_take(way.settings.lease);
        let taken = until_answered("take", stop, || {
            lease = Lease::before_take(way.settings.lease);
            way.store.take(&part, way.settings.lease)
        })
        .await;
        match taken {
            Ok(taken) => {
                most = (most * 2).min(MAX_TAKES);
                way.metrics.stale_hints(part.len() - taken.len());
                let (alone, together): (Vec<Taken>, Vec<Taken>) =
                    taken.into_iter().partition(|taken| taken.delivery.takes > ALONE_AFTER);
                let lapsed = together.iter().chain(&alone).filter(|taken| taken.was == State::Sending).count();
                way.metrics.lease_lapses(lapsed);
                push::start(way, together, &mut permits, lease);
                // No permit goes with them: isolation has its own places, and must not hold up anybody's.
                drop(permits);
                isolation::set_aside(way, alone).await;
            }
            Err(GaveUp::Stopped) => return false,
            // A row that can't be read must not hold up its neighbours.
            Err(GaveUp::Refused(_)) if part.len() > 1 => {
                most = part.len() / 2;
                part.into_iter().rev().for_each(|hint| due.push_front(hint));
            }
            // A hint is an id and a number; the clock publishes it again.
            Err(GaveUp::Refused(refused)) => {
                error!(delivery.id = %part[0].delivery, error = %refused, "the store refuses a take");
            }
        }
    }
    true
}
