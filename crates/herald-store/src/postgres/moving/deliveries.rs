//! Deliveries of a move: the version decides, as it does between workers, and a receipt is a fact.

use herald_core::delivery::State;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{OPERATION, Put, at, begin, column, counted, others};
use crate::Result;
use crate::moving::rows::DeliveryRow;
use crate::postgres::Postgres;
use crate::postgres::error::during;

impl Postgres {
    /// Those whose notification is there: inserted, or made newer. What closed here stays closed.
    pub(crate) async fn put_deliveries(&self, rows: &[DeliveryRow]) -> Result<Put> {
        let mut tx = begin(self).await?;
        let written = upsert(&mut tx, rows).await.map_err(during(OPERATION))?;
        let (done, inserted): (Vec<Uuid>, Vec<bool>) = written.into_iter().unzip();
        let mut put = counted(&inserted);
        let mut received = others(rows, &done, |row| row.id);
        received.retain(|row| row.received_at.is_some());
        put.updated += receive(&mut tx, &received).await.map_err(during(OPERATION))?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(put)
    }
}

/// Indexes: primary key, `deliveries_of_notification`, the primary key of `notifications`. State pushes (form 3) share a pair
/// with what they are about.
///
/// At the same version only the attempts can differ: of a worker that overslept its lease.
async fn upsert(connection: &mut PgConnection, rows: &[DeliveryRow]) -> sqlx::Result<Vec<(Uuid, bool)>> {
    sqlx::query_as(
        "
        INSERT INTO deliveries AS d (id, notification_id, unsid, next_at, deadline_at, received_at, closed_at, version,
                                     fallback_delay_ms, provider, state, form, lane, queue, takes, attempt_count, failure,
                                     app_id, attempts)
        SELECT new.id, new.notification_id, new.unsid, new.next_at, new.deadline_at, new.received_at, new.closed_at,
               new.version, new.fallback_delay_ms, new.provider, new.state, new.form, new.lane, new.queue, new.takes,
               new.attempt_count, new.failure, new.app_id, new.attempts::jsonb
          FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
                      $7::timestamptz[], $8::bigint[], $9::bigint[], $10::smallint[], $11::smallint[], $12::smallint[],
                      $13::smallint[], $14::smallint[], $15::smallint[], $16::smallint[], $17::text[], $18::text[],
                      $19::text[])
               AS new (id, notification_id, unsid, next_at, deadline_at, received_at, closed_at, version,
                       fallback_delay_ms, provider, state, form, lane, queue, takes, attempt_count, failure, app_id,
                       attempts)
         WHERE EXISTS (SELECT FROM notifications n WHERE n.id = new.notification_id)
           AND (new.form = 3
                OR NOT EXISTS (SELECT FROM deliveries o
                                WHERE o.notification_id = new.notification_id AND o.unsid = new.unsid
                                  AND o.id <> new.id AND o.form <> 3))
         ORDER BY new.id
            ON CONFLICT (id) DO UPDATE
           SET next_at = excluded.next_at, deadline_at = excluded.deadline_at,
               received_at = coalesce(excluded.received_at, d.received_at), closed_at = excluded.closed_at,
               version = excluded.version, fallback_delay_ms = excluded.fallback_delay_ms, state = excluded.state,
               form = excluded.form, queue = excluded.queue, takes = excluded.takes,
               attempt_count = excluded.attempt_count, failure = excluded.failure, attempts = excluded.attempts
         WHERE (d.state < 10 AND d.version < excluded.version)
            OR (d.version = excluded.version AND d.state = excluded.state AND d.attempt_count < excluded.attempt_count)
        RETURNING d.id, d.xmax = 0",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, notification_id))
    .bind(column!(rows, unsid))
    .bind(column!(rows, at? next_at))
    .bind(column!(rows, at? deadline_at))
    .bind(column!(rows, at? received_at))
    .bind(column!(rows, at? closed_at))
    .bind(column!(rows, version))
    .bind(column!(rows, fallback_delay_ms))
    .bind(column!(rows, provider))
    .bind(column!(rows, state))
    .bind(column!(rows, form))
    .bind(column!(rows, lane))
    .bind(column!(rows, queue))
    .bind(column!(rows, takes))
    .bind(column!(rows, attempt_count))
    .bind(column!(rows, text? failure))
    .bind(column!(rows, text app_id))
    .bind(column!(rows, text attempts))
    .fetch_all(connection)
    .await
}

/// Receipts that came in the file, as they would have here: an open row is closed, so no toast follows (G3). Index: primary
/// key.
async fn receive(connection: &mut PgConnection, rows: &[&DeliveryRow]) -> sqlx::Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let received = sqlx::query(
        "
        WITH known AS MATERIALIZED (
            SELECT new.*
              FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS new (id, received_at, closed_at)
              JOIN deliveries d ON d.id = new.id
             WHERE d.received_at IS NULL
             ORDER BY d.id
               FOR UPDATE OF d
        )
        UPDATE deliveries d
           SET state = CASE WHEN d.state < 10 THEN $4 ELSE d.state END,
               next_at = NULL,
               version = CASE WHEN d.state < 10 THEN d.version + 1 ELSE d.version END,
               received_at = known.received_at,
               closed_at = coalesce(d.closed_at, known.closed_at, clock_timestamp())
          FROM known
         WHERE d.id = known.id",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, at? received_at))
    .bind(column!(rows, at? closed_at))
    .bind(State::Received.number())
    .execute(connection)
    .await?;
    Ok(received.rows_affected())
}
