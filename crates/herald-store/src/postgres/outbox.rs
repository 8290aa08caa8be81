//! The outbox: written in the transaction of the change it tells of.

use std::time::Duration;

use herald_core::event::OutboxEvent;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Postgres;
use super::error::during;
use super::rows::micros;
use crate::{OutboxRow, Result};

/// Writes events. One whose id is there already is the same event: nothing changes.
pub(crate) async fn insert_events(connection: &mut PgConnection, events: &[OutboxEvent]) -> sqlx::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    // Their places make a time of each, so that what happened in one moment is told in its order. Sorted, so that two
    // transactions with the same events wait for each other in one order.
    let mut events: Vec<(i64, &OutboxEvent)> = (0..).zip(events).collect();
    events.sort_unstable_by_key(|(_, event)| event.id);
    sqlx::query(
        "
        INSERT INTO outbox (id, routing_key, body, next_at)
        SELECT id, routing_key, body, (SELECT clock_timestamp()) + place * interval '1 microsecond'
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) AS new (id, routing_key, body, place)
            ON CONFLICT (id) DO NOTHING",
    )
    .bind(events.iter().map(|(_, event)| event.id).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.routing_key.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.body.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|(place, _)| *place).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

impl Postgres {
    /// Index: `outbox_due`.
    pub(crate) async fn outbox_claim(&self, limit: i64, hold: Duration) -> Result<Vec<OutboxRow>> {
        let mut claimed: Vec<(OffsetDateTime, Uuid, String, String)> = sqlx::query_as(
            "
            WITH claimed AS MATERIALIZED (
                SELECT id, next_at
                  FROM outbox
                 WHERE next_at <= (SELECT clock_timestamp())
                 ORDER BY next_at
                 LIMIT $1
                   FOR UPDATE SKIP LOCKED
            )
            UPDATE outbox o
               SET next_at = clock_timestamp() + $2 * interval '1 microsecond'
              FROM claimed c
             WHERE o.id = c.id
            RETURNING c.next_at, o.id, o.routing_key, o.body",
        )
        .bind(limit)
        .bind(micros(hold))
        .fetch_all(&self.pool)
        .await
        .map_err(during("outbox_claim"))?;
        claimed.sort_unstable_by_key(|(since, ..)| *since);
        Ok(claimed.into_iter().map(|(_, id, routing_key, body)| OutboxRow { id, routing_key, body }).collect())
    }

    /// Index: primary key.
    pub(crate) async fn outbox_done(&self, ids: &[Uuid]) -> Result<u64> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let done = sqlx::query("DELETE FROM outbox WHERE id = ANY ($1)")
            .bind(ids)
            .execute(&self.pool)
            .await
            .map_err(during("outbox_done"))?;
        Ok(done.rows_affected())
    }
}
