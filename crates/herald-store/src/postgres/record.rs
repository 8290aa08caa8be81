//! Record: facts always, state at the version of the take, dead tokens by compare-and-clear, in one transaction.

use std::collections::{HashMap, HashSet};

use herald_core::delivery::State;
use herald_core::event::OutboxEvent;
use herald_core::ids::DeliveryId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Postgres;
use super::close::{close_deliveries, open_deliveries_to, tell};
use super::error::{during, unreadable};
use super::outbox::insert_events;
use super::prune::{lock_deliveries, prune};
use super::rows::{Columns, stored};
use crate::prune::Pruned;
use crate::record::Next;
use crate::{Closed, Record, Recorded, Result, Teller};

const OPERATION: &str = "record";

impl Postgres {
    pub(crate) async fn record(&self, batch: &[Record], teller: Option<&Teller>) -> Result<Vec<Recorded>> {
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let pruned = prune(&mut tx, batch).await?;
        let withdrawn =
            if pruned.ended.is_empty() { Vec::new() } else { withdraw_others(&mut tx, batch, &pruned).await? };
        let mut results: Vec<Option<Recorded>> = vec![None; batch.len()];
        for round in rounds(batch) {
            let written = write_records(&mut tx, batch, &round, &pruned).await?;
            for index in round {
                let written = written.get(&batch[index].delivery);
                results[index] = Some(Recorded {
                    applied: written.is_some_and(|w| w.applied),
                    pruned: pruned.by.contains(&index),
                    state: written.map(|w| w.state),
                    withdrawn: Vec::new(),
                });
            }
        }
        let mut results: Vec<Recorded> = results.into_iter().flatten().collect();
        let events: Vec<OutboxEvent> = batch
            .iter()
            .zip(&results)
            .enumerate()
            .filter(|(index, (_, recorded))| recorded.applied && !pruned.renewed.contains_key(index))
            .flat_map(|(_, (record, _))| record.events.iter().cloned())
            .collect();
        insert_events(&mut tx, &events).await.map_err(during(OPERATION))?;
        tell(&mut tx, &withdrawn, teller, OPERATION).await?;
        // Dying before this: nothing is recorded; the lease ends and the delivery is pushed again with the same ids (G4).
        tx.commit().await.map_err(during(OPERATION))?;
        pruned.hand_out(batch, withdrawn, &mut results);
        Ok(results)
    }
}

/// Withdraws the other open deliveries to the subscriptions that ended. All rows that this transaction will write are
/// locked at once, in order, before the first is written.
async fn withdraw_others(connection: &mut PgConnection, batch: &[Record], pruned: &Pruned) -> Result<Vec<Closed>> {
    let own: HashSet<Uuid> = batch.iter().map(|record| record.delivery.0).collect();
    let mut others = open_deliveries_to(connection, &pruned.ended).await.map_err(during(OPERATION))?;
    others.retain(|id| !own.contains(id));
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<Uuid> = others.iter().copied().chain(own).collect();
    lock_deliveries(connection, &all).await.map_err(during(OPERATION))?;
    close_deliveries(connection, &others, State::Withdrawn, OPERATION).await
}

/// Indexes of the batch in rounds, each delivery at most once in each: an update can write a row only once. There is
/// nearly always one round; two records of one delivery are a worker that overslept and took it again.
fn rounds(batch: &[Record]) -> Vec<Vec<usize>> {
    let mut seen: HashMap<DeliveryId, usize> = HashMap::with_capacity(batch.len());
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (index, record) in batch.iter().enumerate() {
        let round = seen.entry(record.delivery).or_insert(0);
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(index);
        *round += 1;
    }
    rounds
}

/// What a record did to its row.
struct Written {
    applied: bool,
    state: State,
}

/// The SQL of a record. Index: primary key.
///
/// Of very many attempts the first and the last 31 are kept: the first says when it all began.
pub(crate) const RECORD: &str = "
    WITH known AS MATERIALIZED (
        SELECT record.*, d.version = record.version AS current
          FROM unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::smallint[], $5::smallint[], $6::timestamptz[],
                      $7::timestamptz[], $8::boolean[], $9::text[], $10::text[])
               AS record (id, version, state, form, queue, next_at, deadline_at, renewed, failure, attempt)
          JOIN deliveries d ON d.id = record.id
         ORDER BY d.id
           FOR UPDATE OF d
    )
    UPDATE deliveries d
       SET attempts = CASE WHEN known.attempt IS NULL THEN d.attempts
                           WHEN jsonb_array_length(d.attempts) < 32 THEN d.attempts || known.attempt::jsonb
                           ELSE (d.attempts - 1) || known.attempt::jsonb END,
           attempt_count = least(d.attempt_count + (known.attempt IS NOT NULL)::integer, 32767),
           version = CASE WHEN known.current THEN d.version + 1 ELSE d.version END,
           state = CASE WHEN known.current THEN known.state ELSE d.state END,
           form = CASE WHEN known.current THEN known.form ELSE d.form END,
           queue = CASE WHEN known.current THEN known.queue ELSE d.queue END,
           next_at = CASE WHEN known.current THEN known.next_at ELSE d.next_at END,
           deadline_at = CASE WHEN known.current AND NOT known.renewed THEN known.deadline_at ELSE d.deadline_at END,
           failure = CASE WHEN known.current THEN known.failure ELSE d.failure END,
           takes = CASE WHEN known.current THEN 0 ELSE d.takes END,
           closed_at = CASE WHEN known.current AND known.state >= 10 THEN clock_timestamp() ELSE d.closed_at END
      FROM known
     WHERE d.id = known.id
    RETURNING d.id, known.current, d.state";

async fn write_records(
    connection: &mut PgConnection,
    batch: &[Record],
    round: &[usize],
    pruned: &Pruned,
) -> Result<HashMap<DeliveryId, Written>> {
    let records: Vec<&Record> = round.iter().map(|index| &batch[*index]).collect();
    let nexts: Vec<Next> =
        round.iter().map(|index| Next::of(&batch[*index], pruned.renewed.get(index).copied())).collect();
    let attempt = |record: &&Record| {
        let json = record.attempt.as_ref().map(serde_json::to_string).transpose();
        json.map_err(|_| unreadable(OPERATION, "attempts"))
    };
    let rows = sqlx::query(RECORD)
        .bind(records.iter().map(|r| r.delivery.0).collect::<Vec<_>>())
        .bind(records.iter().map(|r| r.version).collect::<Vec<_>>())
        .bind(nexts.iter().map(|n| n.state.number()).collect::<Vec<_>>())
        .bind(nexts.iter().map(|n| n.form.number()).collect::<Vec<_>>())
        .bind(nexts.iter().map(|n| n.queue.number()).collect::<Vec<_>>())
        .bind(nexts.iter().map(|n| n.next_at.map(stored)).collect::<Vec<_>>())
        .bind(records.iter().map(|r| r.step.deadline_at.map(stored)).collect::<Vec<_>>())
        .bind(nexts.iter().map(|n| n.renewed).collect::<Vec<_>>())
        .bind(nexts.iter().map(|n| n.failure).collect::<Vec<_>>())
        .bind(records.iter().map(attempt).collect::<Result<Vec<_>>>()?)
        .fetch_all(connection)
        .await
        .map_err(during(OPERATION))?;
    let written = |row| {
        let columns = Columns::new(row, OPERATION);
        let written = Written { applied: columns.get("current")?, state: columns.state("state")? };
        Ok((DeliveryId(columns.get("id")?), written))
    };
    rows.iter().map(written).collect()
}
