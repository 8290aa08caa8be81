//! Due: claims for hints, and giving them back.

use std::time::Duration;

use herald_core::ids::DeliveryId;
use herald_core::lane::{DispatchQueue, Hint};
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::params;

use super::rows::{Columns, micros, stored};
use super::{JobResult, Sqlite, Tx};
use crate::Result;

impl Sqlite {
    pub(crate) async fn claim_due(&self, queue: DispatchQueue, limit: i64, hold: Duration) -> Result<Vec<Hint>> {
        self.write("due", move |tx| {
            let now = tx.now();
            let due = due_deliveries(tx, queue, limit, now)?;
            hold_until(tx, &due, now.plus(hold))?;
            Ok(due.into_iter().map(|(_, hint)| hint).collect())
        })
        .await
    }

    pub(crate) async fn put_off(&self, hints: &[Hint], spread: Duration) -> Result<u64> {
        let hints = hints.to_vec();
        self.write("put_off", move |tx| put_off(tx, &hints, spread)).await
    }
}

/// Oldest first, each with its rowid.
///
/// Index: `deliveries_due`.
fn due_deliveries(tx: &Tx<'_>, queue: DispatchQueue, limit: i64, now: Timestamp) -> JobResult<Vec<(i64, Hint)>> {
    let mut due = tx.connection.prepare_cached(
        "
        SELECT rowid, id, version
          FROM deliveries
         WHERE queue = ?1 AND next_at <= ?2
         ORDER BY next_at
         LIMIT ?3",
    )?;
    // SQLite takes a negative limit for none.
    let rows = due.query_and_then(params![queue.number(), stored(now), limit.max(0)], |row| {
        let columns = Columns(row);
        let hint = Hint { delivery: DeliveryId(columns.get("id")?), version: columns.get("version")? };
        Ok((columns.get("rowid")?, hint))
    })?;
    rows.collect()
}

/// Index: rowid.
fn hold_until(tx: &Tx<'_>, due: &[(i64, Hint)], until: Timestamp) -> JobResult<()> {
    let mut hold = tx.connection.prepare_cached("UPDATE deliveries SET next_at = ?2 WHERE rowid = ?1")?;
    for (rowid, _) in due {
        hold.execute(params![rowid, stored(until)])?;
    }
    Ok(())
}

/// Index: primary key.
fn put_off(tx: &Tx<'_>, hints: &[Hint], spread: Duration) -> JobResult<u64> {
    let mut put_off = tx.connection.prepare_cached(
        "
        UPDATE deliveries
           SET next_at = ?3 + abs(random() % (?4 + 1))
         WHERE id = ?1 AND version = ?2 AND next_at IS NOT NULL",
    )?;
    let now = stored(tx.now());
    let mut count = 0;
    for hint in hints {
        count += put_off.execute(params![hint.delivery.0, hint.version, now, micros(spread)])?;
    }
    Ok(count as u64)
}
