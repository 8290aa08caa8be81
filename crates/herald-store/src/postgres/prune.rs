//! Prune: the subscriptions under their locks, and their end.

use std::collections::HashMap;

use herald_core::ids::Unsid;
use sqlx::PgConnection;
use uuid::Uuid;

use super::error::during;
use super::rows::Columns;
use crate::prune::{Known, Pruned};
use crate::{Record, Result};

const OPERATION: &str = "record";

/// Ends the subscriptions whose token and confirmation are still those that were sent to.
pub(crate) async fn prune(connection: &mut PgConnection, batch: &[Record]) -> Result<Pruned> {
    let unsids: Vec<Uuid> = batch.iter().filter(|r| r.prune_token.is_some()).map(|r| r.unsid.0).collect();
    if unsids.is_empty() {
        return Ok(Pruned::default());
    }
    let known = lock_subscriptions(connection, &unsids).await?;
    let pruned = Pruned::by(batch, &known);
    end_subscriptions(connection, pruned.ended.iter().map(|(unsid, _, _)| unsid.0).collect(), "gone")
        .await
        .map_err(during(OPERATION))?;
    Ok(pruned)
}

/// Index: primary key.
async fn lock_subscriptions(connection: &mut PgConnection, unsids: &[Uuid]) -> Result<HashMap<Unsid, Known>> {
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
    let known = |row| {
        let columns = Columns::new(row, OPERATION);
        let known = Known {
            app: columns.app()?,
            user: columns.user()?,
            token: columns.get("token")?,
            confirmed_at: columns.time("confirmed_at")?,
            open: columns.get("open")?,
            active: columns.get("active")?,
            now: columns.time("now")?,
        };
        Ok((Unsid(columns.get("id")?), known))
    };
    rows.iter().map(known).collect()
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
