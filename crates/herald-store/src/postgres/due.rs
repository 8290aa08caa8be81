//! Due: claims for hints, and giving them back.

use std::time::Duration;

use herald_core::ids::DeliveryId;
use herald_core::lane::{DispatchQueue, Hint};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Postgres;
use super::error::during;
use super::rows::micros;
use crate::Result;

impl Postgres {
    pub(crate) async fn claim_due(&self, queue: DispatchQueue, limit: i64, hold: Duration) -> Result<Vec<Hint>> {
        let mut claimed = claim_due(&self.pool, queue, limit, hold).await.map_err(during("due"))?;
        claimed.sort_unstable_by_key(|(_, _, due_since)| *due_since);
        Ok(claimed.into_iter().map(|(id, version, _)| Hint { delivery: DeliveryId(id), version }).collect())
    }

    pub(crate) async fn put_off(&self, hints: &[Hint], spread: Duration) -> Result<u64> {
        put_off(&self.pool, hints, spread).await.map_err(during("put_off"))
    }
}

/// The SQL of a claim; `tests/plans.rs` looks at its plan.
///
/// Index: `deliveries_due`. The time is asked for in a subquery, so that it is one value and the index can be searched by
/// it; the claim is materialized, so that its limit holds whatever the join.
pub(crate) const CLAIM_DUE: &str = "
    WITH claimed AS MATERIALIZED (
        SELECT id, next_at
          FROM deliveries
         WHERE queue = $1 AND next_at <= (SELECT clock_timestamp())
         ORDER BY next_at
         LIMIT $2
           FOR UPDATE SKIP LOCKED
    )
    UPDATE deliveries d
       SET next_at = clock_timestamp() + $3 * interval '1 microsecond'
      FROM claimed c
     WHERE d.id = c.id
    RETURNING d.id, d.version, c.next_at";

async fn claim_due(
    pool: &PgPool,
    queue: DispatchQueue,
    limit: i64,
    hold: Duration,
) -> sqlx::Result<Vec<(Uuid, i64, OffsetDateTime)>> {
    sqlx::query_as(CLAIM_DUE).bind(queue.number()).bind(limit).bind(micros(hold)).fetch_all(pool).await
}

/// Index: primary key.
async fn put_off(pool: &PgPool, hints: &[Hint], spread: Duration) -> sqlx::Result<u64> {
    let (ids, versions) = arrays(hints);
    let put_off = sqlx::query(
        "
        WITH held AS MATERIALIZED (
            SELECT d.id
              FROM unnest($1::uuid[], $2::bigint[]) AS hint (id, version)
              JOIN deliveries d ON d.id = hint.id AND d.version = hint.version
             WHERE d.next_at IS NOT NULL
             ORDER BY d.id
               FOR UPDATE OF d
        )
        UPDATE deliveries d
           SET next_at = clock_timestamp() + random() * $3 * interval '1 microsecond'
          FROM held
         WHERE d.id = held.id",
    )
    .bind(ids)
    .bind(versions)
    .bind(micros(spread))
    .execute(pool)
    .await?;
    Ok(put_off.rows_affected())
}

/// Hints as two arrays.
pub(crate) fn arrays(hints: &[Hint]) -> (Vec<Uuid>, Vec<i64>) {
    hints.iter().map(|h| (h.delivery.0, h.version)).unzip()
}
