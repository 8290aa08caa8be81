//! Record: facts always, state at the version of the take, dead tokens by compare-and-clear, in one job.

use std::collections::HashSet;
use std::sync::Arc;

use herald_core::delivery::State;
use herald_core::ids::DeliveryId;
use herald_sqlite::Fault;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::close::{close_deliveries, open_deliveries_to, tell};
use super::outbox::insert_events;
use super::prune::prune;
use super::rows::{first, stored};
use super::{JobResult, Sqlite, Tx};
use crate::prune::Pruned;
use crate::record::Next;
use crate::{Attempt, Closed, Record, Recorded, Result, Teller};

impl Sqlite {
    pub(crate) async fn record(&self, batch: &[Record], teller: Option<Arc<Teller>>) -> Result<Vec<Recorded>> {
        let batch = batch.to_vec();
        self.write("record", move |tx| {
            let pruned = prune(tx, &batch)?;
            let withdrawn = withdraw_others(tx, &batch, &pruned)?;
            let mut results = Vec::with_capacity(batch.len());
            for (index, record) in batch.iter().enumerate() {
                let next = Next::of(record, pruned.renewed.get(&index).copied());
                if let Some(attempt) = &record.attempt {
                    keep_attempt(tx, record.delivery, attempt)?;
                }
                let applied = write_step(tx, record, &next)?;
                if applied && !next.renewed {
                    insert_events(tx, &record.events)?;
                }
                let state = if applied { Some(next.state) } else { state(tx, record.delivery)? };
                results.push(Recorded { applied, pruned: pruned.by.contains(&index), state, withdrawn: Vec::new() });
            }
            tell(tx, &withdrawn, teller.as_deref())?;
            pruned.hand_out(&batch, withdrawn, &mut results);
            Ok(results)
        })
        .await
    }
}

/// Withdraws the other open deliveries to the subscriptions that ended.
fn withdraw_others(tx: &Tx<'_>, batch: &[Record], pruned: &Pruned) -> JobResult<Vec<Closed>> {
    if pruned.ended.is_empty() {
        return Ok(Vec::new());
    }
    let own: HashSet<Uuid> = batch.iter().map(|record| record.delivery.0).collect();
    let mut others = open_deliveries_to(tx, &pruned.ended)?;
    others.retain(|id| !own.contains(id));
    close_deliveries(tx, &others, State::Withdrawn)
}

/// Of very many attempts the first and the last 31 are kept: the first says when it all began.
///
/// Index: primary key.
fn keep_attempt(tx: &Tx<'_>, delivery: DeliveryId, attempt: &Attempt) -> JobResult<()> {
    let json = serde_json::to_string(attempt).map_err(|_| Fault::Defect("an attempt can't be written".to_owned()))?;
    let mut keep = tx.connection.prepare_cached(
        "
        UPDATE deliveries
           SET attempts = json_insert(CASE WHEN json_array_length(attempts) < 32 THEN attempts
                                           ELSE json_remove(attempts, '$[1]') END, '$[#]', json(?2)),
               attempt_count = min(attempt_count + 1, 32767)
         WHERE id = ?1",
    )?;
    keep.execute(params![delivery.0, json])?;
    Ok(())
}

/// Writes what comes next, if the row is still at the version of the take. Says whether it was.
///
/// Index: primary key.
fn write_step(tx: &Tx<'_>, record: &Record, next: &Next) -> JobResult<bool> {
    let mut step = tx.connection.prepare_cached(
        "
        UPDATE deliveries
           SET version = version + 1, state = ?3, form = ?4, queue = ?5, next_at = ?6,
               deadline_at = CASE WHEN ?7 THEN deadline_at ELSE ?8 END,
               failure = ?9, takes = 0, closed_at = coalesce(?10, closed_at)
         WHERE id = ?1 AND version = ?2",
    )?;
    let closed_at = if next.state.is_open() { None } else { Some(stored(tx.now())) };
    let written = step.execute(params![
        record.delivery.0,
        record.version,
        next.state.number(),
        next.form.number(),
        next.queue.number(),
        next.next_at.map(stored),
        next.renewed,
        record.step.deadline_at.map(stored),
        next.failure,
        closed_at,
    ])?;
    Ok(written > 0)
}

/// None if the row is gone. Index: primary key.
fn state(tx: &Tx<'_>, delivery: DeliveryId) -> JobResult<Option<State>> {
    let mut by_id = tx.connection.prepare_cached("SELECT state FROM deliveries WHERE id = ?1")?;
    first(&mut by_id, [delivery.0], |columns| columns.state("state"))
}
