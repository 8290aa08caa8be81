//! The outbox: written in the job of the change it tells of.

use std::time::Duration;

use herald_core::event::OutboxEvent;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::rows::{Columns, stored};
use super::{JobResult, Sqlite, Tx};
use crate::{OutboxRow, Result};

/// Writes events. One whose id is there already is the same event: nothing changes.
///
/// Index: primary key.
pub(crate) fn insert_events(tx: &Tx<'_>, events: &[OutboxEvent]) -> JobResult<()> {
    if events.is_empty() {
        return Ok(());
    }
    let now = stored(tx.now());
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO outbox (id, routing_key, body, next_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING",
    )?;
    // What happened in one moment is told in its order.
    for (place, event) in (0_i64..).zip(events) {
        insert.execute(params![event.id, event.routing_key, event.body, now + place])?;
    }
    Ok(())
}

impl Sqlite {
    pub(crate) async fn outbox_claim(&self, limit: i64, hold: Duration) -> Result<Vec<OutboxRow>> {
        self.write("outbox_claim", move |tx| {
            let now = tx.now();
            let due = find_due(tx, stored(now), limit)?;
            hold_until(tx, &due, stored(now.plus(hold)))?;
            Ok(due)
        })
        .await
    }

    pub(crate) async fn outbox_done(&self, ids: &[Uuid]) -> Result<u64> {
        let ids = ids.to_vec();
        self.write("outbox_done", move |tx| delete(tx, &ids)).await
    }
}

/// The SQL of a claim of events: (now, limit). Index: `outbox_due`.
const OUTBOX_DUE: &str = "
    SELECT id, routing_key, body
      FROM outbox
     WHERE next_at <= ?1
     ORDER BY next_at
     LIMIT ?2";

fn find_due(tx: &Tx<'_>, now: i64, limit: i64) -> JobResult<Vec<OutboxRow>> {
    let mut due = tx.connection.prepare_cached(OUTBOX_DUE)?;
    // SQLite takes a negative limit for none.
    let rows = due.query_and_then(params![now, limit.max(0)], |row| {
        let columns = Columns(row);
        Ok(OutboxRow { id: columns.get("id")?, routing_key: columns.get("routing_key")?, body: columns.get("body")? })
    })?;
    rows.collect()
}

/// Index: primary key.
fn hold_until(tx: &Tx<'_>, rows: &[OutboxRow], until: i64) -> JobResult<()> {
    let mut hold = tx.connection.prepare_cached("UPDATE outbox SET next_at = ?2 WHERE id = ?1")?;
    for row in rows {
        hold.execute(params![row.id, until])?;
    }
    Ok(())
}

/// Index: primary key.
fn delete(tx: &Tx<'_>, ids: &[Uuid]) -> JobResult<u64> {
    let mut delete = tx.connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?;
    let mut deleted = 0;
    for id in ids {
        deleted += delete.execute([id])?;
    }
    Ok(deleted as u64)
}
