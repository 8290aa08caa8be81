//! Pauses: a breaker that opened is told to the other replicas, and what is due of that provider is moved to its end.
//!
//! Stands beside record, in a task of its own: an outage that opens a hundred breakers must not hold up the record of
//! anybody's pushes. If the store can't be told, this replica's breaker holds all the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use herald_core::breaker::Trip;
use herald_core::time::Timestamp;
use herald_store::StoreError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::guard::Gate;
use crate::way::Way;

/// Trips that wait to be told. One more is dropped: its breaker is open here, and the next one will be told.
const WAITING: usize = 1_024;
/// What is paused for less is not worth moving: it comes back before the statement is done.
const WORTH_MOVING: Duration = Duration::from_secs(10);
/// Rows moved by one statement, and statements at most: what is left finds the breaker open.
const MOVE_STEP: i64 = 1_000;
const MAX_MOVES: usize = 20;
/// What a pause held comes back spread over this long.
const MOVE_JITTER: Duration = Duration::from_secs(1);

/// A breaker that opened just now.
#[derive(Debug)]
pub(crate) struct Tripped {
    pub(crate) gate: Gate,
    pub(crate) trip: Trip,
    pub(crate) until: Timestamp,
    /// Why, for the operator.
    pub(crate) detail: String,
}

/// The way to tell of a trip.
#[derive(Debug, Clone)]
pub(crate) struct Pauses(mpsc::Sender<Tripped>);

/// Where trips are told from.
pub(crate) fn channel() -> (Pauses, mpsc::Receiver<Tripped>) {
    let (tell, told) = mpsc::channel(WAITING);
    (Pauses(tell), told)
}

impl Pauses {
    /// Tells of a trip, without waiting.
    pub(crate) fn tell(&self, tripped: Tripped) {
        if self.0.try_send(tripped).is_err() {
            warn!("too many breakers open at once to share them all; they hold here");
        }
    }
}

/// Shares trips until `stop`.
pub(crate) async fn run(way: Arc<Way>, mut told: mpsc::Receiver<Tripped>, stop: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            // Trips not yet shared are known here only, and this replica is going.
            () = stop.cancelled() => return,
            received = told.recv_many(&mut batch, WAITING) => if received == 0 { return },
        }
        // Of one gate's trips the last to end counts.
        let mut by_gate: HashMap<Gate, Tripped> = HashMap::new();
        for tripped in batch.drain(..) {
            match by_gate.get(&tripped.gate) {
                Some(known) if known.until >= tripped.until => {}
                Some(_) | None => {
                    by_gate.insert(tripped.gate.clone(), tripped);
                }
            }
        }
        for tripped in by_gate.into_values() {
            share(&way, &tripped).await;
        }
    }
}

async fn share(way: &Way, tripped: &Tripped) {
    let Tripped { gate: (app, provider), trip, until, detail } = tripped;
    way.metrics.paused(*provider, *trip);
    warn!(app.id = %app, %provider, reason = trip.as_str(), detail, until = %until, "paused; the work is kept");
    let shared = match way.store.pause(app, *provider, *until, trip.as_str(), detail, false).await {
        Ok(()) if until.since(way.clock.now()) >= WORTH_MOVING => move_paused(way, &tripped.gate).await,
        result => result,
    };
    if let Err(error) = shared {
        warn!(app.id = %app, %provider, %error, "the pause could not be shared; it holds here");
    }
}

async fn move_paused(way: &Way, (app, provider): &Gate) -> Result<(), StoreError> {
    for _ in 0..MAX_MOVES {
        let moved = way.store.move_paused(app, *provider, MOVE_JITTER, MOVE_STEP).await?;
        if moved < u64::try_from(MOVE_STEP).unwrap_or(0) {
            break;
        }
    }
    Ok(())
}
