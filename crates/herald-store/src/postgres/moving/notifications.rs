//! Notifications of a move, with the state of their fan-out and how they stand with their users.

use std::collections::HashSet;

use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{OPERATION, Put, at, begin, column, others};
use crate::Result;
use crate::moving::rows::NotificationRow;
use crate::postgres::Postgres;
use crate::postgres::error::during;

impl Postgres {
    /// Inserted; or the fan-out of one that is there goes on further on, and what its user did later is done here too. One
    /// whose key is another's is left out. To clients of this database, all that is written is a change.
    pub(crate) async fn put_notifications(&self, rows: &[NotificationRow]) -> Result<Put> {
        let mut tx = begin(self).await?;
        let new = insert(&mut tx, rows).await.map_err(during(OPERATION))?;
        let known = others(rows, &new, |row| row.id);
        let mut updated: HashSet<Uuid> =
            advance(&mut tx, &known).await.map_err(during(OPERATION))?.into_iter().collect();
        updated.extend(stand(&mut tx, &known).await.map_err(during(OPERATION))?);
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(Put { new: new.len() as u64, updated: updated.len() as u64, ..Put::default() })
    }
}

/// Indexes: primary key, the unique one by app, user and key.
async fn insert(connection: &mut PgConnection, rows: &[NotificationRow]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "
        INSERT INTO notifications (id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at, next_at,
                                   cursor, swept_at, read, user_action, modified_at, deleted_at, revision,
                                   app_notification_id)
        SELECT new.*
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::timestamptz[],
                      $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::uuid[], $12::timestamptz[],
                      $13::boolean[], $14::smallint[], $15::timestamptz[], $16::timestamptz[], $17::integer[], $18::text[])
               AS new (id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at, next_at, cursor,
                       swept_at, read, user_action, modified_at, deleted_at, revision, app_notification_id)
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
    .bind(column!(rows, read))
    .bind(column!(rows, user_action))
    .bind(column!(rows, at? modified_at))
    .bind(column!(rows, at? deleted_at))
    .bind(column!(rows, revision))
    .bind(rows.iter().map(|row| name(&row.content)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
}

/// The producer's own id, which is part of the content. Not by SQL: PostgreSQL's JSON refuses a `\u0000` anywhere in it.
fn name(content: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        app_notification_id: Option<String>,
    }
    serde_json::from_str::<Named>(content).ok()?.app_notification_id
}

/// Index: primary key. A fan-out starts without a cursor, goes on by ascending ids, and is over without `next_at`. That its
/// life is over is not taken along: the sweep that finds it here closes what was made here.
async fn advance(connection: &mut PgConnection, rows: &[&NotificationRow]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
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
           SET next_at = known.next_at, cursor = known.cursor, changed = pg_current_xact_id()::text::bigint
          FROM known
         WHERE n.id = known.id
        RETURNING n.id",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, at? next_at))
    .bind(column!(rows, cursor))
    .fetch_all(connection)
    .await
}

/// Index: primary key. Each change is one revision more, so the higher one is the later one, as far as that can be told.
async fn stand(connection: &mut PgConnection, rows: &[&NotificationRow]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "
        WITH known AS MATERIALIZED (
            SELECT new.*
              FROM unnest($1::uuid[], $2::boolean[], $3::smallint[], $4::timestamptz[], $5::timestamptz[], $6::integer[],
                          $7::text[])
                   AS new (id, read, user_action, modified_at, deleted_at, revision, content)
              JOIN notifications n ON n.id = new.id
             WHERE n.revision < new.revision AND n.deleted_at IS NULL
             ORDER BY n.id
               FOR UPDATE OF n
        )
        UPDATE notifications n
           SET read = known.read, user_action = known.user_action, modified_at = known.modified_at,
               deleted_at = known.deleted_at, revision = known.revision, content = known.content,
               changed = pg_current_xact_id()::text::bigint
          FROM known
         WHERE n.id = known.id
        RETURNING n.id",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, read))
    .bind(column!(rows, user_action))
    .bind(column!(rows, at? modified_at))
    .bind(column!(rows, at? deleted_at))
    .bind(column!(rows, revision))
    .bind(column!(rows, text content))
    .fetch_all(connection)
    .await
}
