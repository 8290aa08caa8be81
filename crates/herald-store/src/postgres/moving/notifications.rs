//! Notifications of a move, with the state of their fan-out.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{OPERATION, Put, at, begin, column, others};
use crate::Result;
use crate::moving::rows::NotificationRow;
use crate::postgres::Postgres;
use crate::postgres::error::during;

impl Postgres {
    /// Inserted; or the fan-out of one that is there goes on further on. One whose key is another's is left out.
    pub(crate) async fn put_notifications(&self, rows: &[NotificationRow]) -> Result<Put> {
        let mut tx = begin(self).await?;
        let new = insert(&mut tx, rows).await.map_err(during(OPERATION))?;
        let known = others(rows, &new, |row| row.id);
        let updated = advance(&mut tx, &known).await.map_err(during(OPERATION))?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(Put { new: new.len() as u64, updated, ..Put::default() })
    }
}

/// Indexes: primary key, the unique one by app, user and key.
async fn insert(connection: &mut PgConnection, rows: &[NotificationRow]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "
        INSERT INTO notifications (id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at, next_at,
                                   cursor, swept_at, app_notification_id)
        SELECT new.*, new.content::jsonb->>'app_notification_id'
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::timestamptz[],
                      $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::uuid[], $12::timestamptz[])
               AS new (id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at, next_at, cursor,
                       swept_at)
         ORDER BY id
            ON CONFLICT DO NOTHING
        RETURNING id",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, text app_id))
    .bind(column!(rows, text user_id))
    .bind(column!(rows, text key))
    .bind(column!(rows, lane))
    .bind(column!(rows, text content))
    .bind(column!(rows, at received_at))
    .bind(column!(rows, at expires_at))
    .bind(column!(rows, at? deliver_at))
    .bind(column!(rows, at? next_at))
    .bind(column!(rows, cursor))
    .bind(column!(rows, at? swept_at))
    .fetch_all(connection)
    .await
}

/// Index: primary key. A fan-out starts without a cursor, goes on by ascending ids, and is over without `next_at`. That its
/// life is over is not taken along: the sweep that finds it here closes what was made here.
async fn advance(connection: &mut PgConnection, rows: &[&NotificationRow]) -> sqlx::Result<u64> {
    let advanced = sqlx::query(
        "
        WITH known AS MATERIALIZED (
            SELECT new.*
              FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) AS new (id, next_at, cursor)
              JOIN notifications n ON n.id = new.id
             WHERE n.next_at IS NOT NULL
               AND (new.next_at IS NULL OR (new.cursor IS NOT NULL AND (n.cursor IS NULL OR n.cursor < new.cursor)))
             ORDER BY n.id
               FOR UPDATE OF n
        )
        UPDATE notifications n
           SET next_at = known.next_at, cursor = known.cursor
          FROM known
         WHERE n.id = known.id",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, at? next_at))
    .bind(column!(rows, cursor))
    .execute(connection)
    .await?;
    Ok(advanced.rows_affected())
}
