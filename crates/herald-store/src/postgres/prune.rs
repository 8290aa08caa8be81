//! Prune: a subscription ends only if it still has the token that the provider called dead.

use std::collections::{HashMap, HashSet};

use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::time::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::error::during;
use super::rows::Columns;
use crate::{Record, Result};

const OPERATION: &str = "record";

/// What pruning did to a batch of records.
#[derive(Default)]
pub(crate) struct Pruned {
    /// Subscriptions that ended.
    pub(crate) ended: Vec<(Unsid, AppId, UserId)>,
    /// Indexes of the records that ended them.
    pub(crate) by: HashSet<usize>,
    /// Indexes of the records whose subscription is active with another token (or the same, presented again since), and
    /// the store's time: their deliveries are due at once.
    pub(crate) renewed: HashMap<usize, Timestamp>,
}

/// A subscription as it is under its lock.
struct Locked {
    app: AppId,
    user: UserId,
    token: String,
    confirmed_at: Timestamp,
    open: bool,
    active: bool,
    now: Timestamp,
}

/// Ends the subscriptions whose token and confirmation are still those that were sent to.
pub(crate) async fn prune(connection: &mut PgConnection, batch: &[Record]) -> Result<Pruned> {
    let unsids: Vec<Uuid> = batch.iter().filter(|r| r.prune_token.is_some()).map(|r| r.unsid.0).collect();
    if unsids.is_empty() {
        return Ok(Pruned::default());
    }
    let locked = lock_subscriptions(connection, &unsids).await?;
    let mut pruned = Pruned::default();
    let mut ended = HashSet::new();
    for (index, record) in batch.iter().enumerate() {
        let (Some(sent), Some(now)) = (&record.prune_token, locked.get(&record.unsid)) else { continue };
        if now.open && now.token == sent.token.expose() && now.confirmed_at == sent.confirmed_at {
            if ended.insert(record.unsid) {
                pruned.by.insert(index);
                pruned.ended.push((record.unsid, now.app.clone(), now.user.clone()));
            }
        } else if now.active {
            pruned.renewed.insert(index, now.now);
        }
    }
    end_subscriptions(connection, ended.into_iter().map(|unsid| unsid.0).collect(), "gone")
        .await
        .map_err(during(OPERATION))?;
    Ok(pruned)
}

/// Index: primary key.
async fn lock_subscriptions(connection: &mut PgConnection, unsids: &[Uuid]) -> Result<HashMap<Unsid, Locked>> {
    let rows = sqlx::query(
        "
        SELECT id, app_id, user_id, token, confirmed_at, ended_at IS NULL AS open,
               ended_at IS NULL AND expires_at > clock_timestamp() AS active, clock_timestamp() AS now
          FROM subscriptions
         WHERE id = ANY ($1)
         ORDER BY id
           FOR UPDATE",
    )
    .bind(unsids)
    .fetch_all(connection)
    .await
    .map_err(during(OPERATION))?;
    let locked = |row| {
        let columns = Columns::new(row, OPERATION);
        let locked = Locked {
            app: columns.app()?,
            user: columns.user()?,
            token: columns.get("token")?,
            confirmed_at: columns.time("confirmed_at")?,
            open: columns.get("open")?,
            active: columns.get("active")?,
            now: columns.time("now")?,
        };
        Ok((Unsid(columns.get("id")?), locked))
    };
    rows.iter().map(locked).collect()
}

/// Ends subscriptions, which the caller has locked. Index: primary key.
pub(crate) async fn end_subscriptions(
    connection: &mut PgConnection,
    unsids: Vec<Uuid>,
    reason: &'static str,
) -> sqlx::Result<u64> {
    if unsids.is_empty() {
        return Ok(0);
    }
    let ended = sqlx::query(
        "
        UPDATE subscriptions
           SET ended_at = clock_timestamp(), end_reason = $2
         WHERE id = ANY ($1) AND ended_at IS NULL",
    )
    .bind(unsids)
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(ended.rows_affected())
}

/// Locks deliveries by ascending id. Index: primary key.
pub(crate) async fn lock_deliveries(connection: &mut PgConnection, deliveries: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query("SELECT id FROM deliveries WHERE id = ANY ($1) ORDER BY id FOR UPDATE")
        .bind(deliveries)
        .execute(connection)
        .await?;
    Ok(())
}
