//! Prune: the subscriptions as they are, and their end.

use std::collections::HashMap;

use herald_core::ids::Unsid;
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::rows::{first, stored};
use super::{JobResult, Tx};
use crate::Record;
use crate::prune::{Known, Pruned};

/// Ends the subscriptions whose token and confirmation are still those that were sent to.
pub(crate) fn prune(tx: &Tx<'_>, batch: &[Record]) -> JobResult<Pruned> {
    let now = tx.now();
    let mut known = HashMap::new();
    for record in batch.iter().filter(|record| record.prune_token.is_some()) {
        if let Some(subscription) = known_subscription(tx, record.unsid, now)? {
            known.insert(record.unsid, subscription);
        }
    }
    let pruned = Pruned::by(batch, &known);
    let ended: Vec<Uuid> = pruned.ended.iter().map(|(unsid, _, _)| unsid.0).collect();
    end_subscriptions(tx, &ended, "gone")?;
    Ok(pruned)
}

/// Index: primary key.
fn known_subscription(tx: &Tx<'_>, unsid: Unsid, now: Timestamp) -> JobResult<Option<Known>> {
    let mut by_id = tx.connection.prepare_cached(
        "
        SELECT app_id, user_id, token, confirmed_at, ended_at IS NULL AS open,
               ended_at IS NULL AND expires_at > ?2 AS active
          FROM subscriptions
         WHERE id = ?1",
    )?;
    first(&mut by_id, params![unsid.0, stored(now)], |columns| {
        Ok(Known {
            app: columns.app()?,
            user: columns.user()?,
            token: columns.get("token")?,
            confirmed_at: columns.time("confirmed_at")?,
            open: columns.get("open")?,
            active: columns.get("active")?,
            now,
        })
    })
}

/// Ends subscriptions. Returns how many had not ended before. Index: primary key.
pub(crate) fn end_subscriptions(tx: &Tx<'_>, unsids: &[Uuid], reason: &'static str) -> JobResult<u64> {
    let mut end = tx.connection.prepare_cached(
        "
        UPDATE subscriptions
           SET ended_at = ?2, end_reason = ?3
         WHERE id = ?1 AND ended_at IS NULL",
    )?;
    let now = stored(tx.now());
    let mut ended = 0;
    for unsid in unsids {
        ended += end.execute(params![unsid, now, reason])?;
    }
    Ok(ended as u64)
}
