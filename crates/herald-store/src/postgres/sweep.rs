//! Sweep: small steps, each a transaction, each skipping what others hold.

use std::time::Duration;

use herald_core::delivery::State;
use sqlx::PgPool;
use uuid::Uuid;

use super::Postgres;
use super::close::{close_deliveries, open_deliveries_of, tell};
use super::error::during;
use super::rows::micros;
use crate::sweep::KEEP_SUBSCRIPTIONS;
use crate::{Closed, Result, Swept, Teller};

const OPERATION: &str = "sweep";

impl Postgres {
    pub(crate) async fn sweep(&self, limit: i64, keep: Duration, teller: Option<&Teller>) -> Result<Swept> {
        let (notifications_expired, expired) = self.expire_notifications(limit, teller).await?;
        let notifications_deleted = delete_notifications(&self.pool, limit, keep).await.map_err(during(OPERATION))?;
        let subscriptions_expired = expire_subscriptions(&self.pool, limit).await.map_err(during(OPERATION))?;
        let subscriptions_deleted = delete_subscriptions(&self.pool, limit).await.map_err(during(OPERATION))?;
        let counts_deleted = delete_counts(&self.pool).await.map_err(during(OPERATION))?;
        let swept = Swept {
            expired,
            notifications_expired,
            notifications_deleted,
            subscriptions_expired,
            subscriptions_deleted,
            counts_deleted,
            more: false,
        };
        Ok(swept.within(limit))
    }

    async fn expire_notifications(&self, limit: i64, teller: Option<&Teller>) -> Result<(u64, Vec<Closed>)> {
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let expired = mark_expired(&mut tx, limit).await.map_err(during(OPERATION))?;
        if expired.is_empty() {
            return Ok((0, Vec::new()));
        }
        let open = open_deliveries_of(&mut tx, &expired).await.map_err(during(OPERATION))?;
        let closed = close_deliveries(&mut tx, &open, State::Expired, OPERATION).await?;
        tell(&mut tx, &closed, teller, OPERATION).await?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok((expired.len() as u64, closed))
    }
}

/// Index: `notifications_to_expire`.
async fn mark_expired(connection: &mut sqlx::PgConnection, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "
        WITH expired AS MATERIALIZED (
            SELECT id
              FROM notifications
             WHERE swept_at IS NULL AND expires_at <= (SELECT clock_timestamp())
             ORDER BY expires_at
             LIMIT $1
               FOR UPDATE SKIP LOCKED
        )
        UPDATE notifications n
           SET swept_at = clock_timestamp(), next_at = NULL
          FROM expired
         WHERE n.id = expired.id
        RETURNING n.id",
    )
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Indexes: `notifications_to_delete`, `deliveries_of_notification`. Beside erasure the only one that deletes either.
async fn delete_notifications(pool: &PgPool, limit: i64, keep: Duration) -> sqlx::Result<u64> {
    let deleted = sqlx::query(
        "
        WITH over AS MATERIALIZED (
            SELECT id
              FROM notifications
             WHERE swept_at IS NOT NULL AND swept_at <= (SELECT clock_timestamp()) - $2 * interval '1 microsecond'
             ORDER BY swept_at
             LIMIT $1
               FOR UPDATE SKIP LOCKED
        ), deliveries_deleted AS (
            DELETE FROM deliveries WHERE notification_id = ANY (ARRAY(SELECT id FROM over))
        )
        DELETE FROM notifications WHERE id = ANY (ARRAY(SELECT id FROM over))",
    )
    .bind(limit)
    .bind(micros(keep))
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}

/// Those not renewed in time end when they expired. Index: `subscriptions_to_expire`.
async fn expire_subscriptions(pool: &PgPool, limit: i64) -> sqlx::Result<u64> {
    let expired = sqlx::query(
        "
        WITH expired AS MATERIALIZED (
            SELECT id
              FROM subscriptions
             WHERE ended_at IS NULL AND expires_at <= (SELECT clock_timestamp())
             ORDER BY expires_at
             LIMIT $1
               FOR UPDATE SKIP LOCKED
        )
        UPDATE subscriptions s
           SET ended_at = s.expires_at, end_reason = 'expired'
          FROM expired
         WHERE s.id = expired.id",
    )
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(expired.rows_affected())
}

/// Index: `subscriptions_to_delete`.
async fn delete_subscriptions(pool: &PgPool, limit: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query(
        "
        WITH over AS MATERIALIZED (
            SELECT id
              FROM subscriptions
             WHERE ended_at <= (SELECT clock_timestamp()) - $2 * interval '1 microsecond'
             ORDER BY ended_at
             LIMIT $1
               FOR UPDATE SKIP LOCKED
        )
        DELETE FROM subscriptions WHERE id = ANY (ARRAY(SELECT id FROM over))",
    )
    .bind(limit)
    .bind(micros(KEEP_SUBSCRIPTIONS))
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}

/// Small tables: a row for each app and provider (and minute) at most.
async fn delete_counts(pool: &PgPool) -> sqlx::Result<u64> {
    let deleted: i64 = sqlx::query_scalar(
        "
        WITH counts AS (
            DELETE FROM guard_counts WHERE minute < clock_timestamp() - interval '10 minutes' RETURNING 1
        ), over AS (
            DELETE FROM pauses
             WHERE coalesce(held_until, until) < clock_timestamp() - interval '10 minutes'
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM counts) + (SELECT count(*) FROM over)",
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(deleted).unwrap_or(0))
}
