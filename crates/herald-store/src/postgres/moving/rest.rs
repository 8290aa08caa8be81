//! Pauses, events and dead letters of a move: few, or never changed.

use uuid::Uuid;

use super::{OPERATION, Put, at, column, counted};
use crate::Result;
use crate::moving::rows::{DeadLetterRow, EventRow, PauseRow};
use crate::postgres::Postgres;
use crate::postgres::error::during;

impl Postgres {
    /// As [`Postgres::pause`] would: one that lasts longer replaces a shorter one, an operator's only by an operator's.
    pub(crate) async fn put_pauses(&self, rows: &[PauseRow]) -> Result<Put> {
        let inserted: Vec<bool> = sqlx::query_scalar(
            "
            INSERT INTO pauses AS p (app_id, provider, since, until, reason, detail, by_operator)
            SELECT *
              FROM unnest($1::text[], $2::smallint[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[],
                          $7::boolean[])
                   AS new (app_id, provider, since, until, reason, detail, by_operator)
             ORDER BY app_id, provider
                ON CONFLICT (app_id, provider) DO UPDATE
               SET since = excluded.since, until = excluded.until, reason = excluded.reason, detail = excluded.detail,
                   by_operator = excluded.by_operator
             WHERE p.until < excluded.until
               AND (excluded.by_operator OR NOT p.by_operator OR p.until <= clock_timestamp())
            RETURNING p.xmax = 0",
        )
        .bind(column!(rows, text app_id))
        .bind(column!(rows, provider))
        .bind(column!(rows, at since))
        .bind(column!(rows, at until))
        .bind(column!(rows, text reason))
        .bind(column!(rows, text detail))
        .bind(column!(rows, by_operator))
        .fetch_all(&self.pool)
        .await
        .map_err(during(OPERATION))?;
        Ok(counted(&inserted))
    }

    /// Index: primary key.
    pub(crate) async fn put_events(&self, rows: &[&EventRow]) -> Result<Put> {
        let new: Vec<Uuid> = sqlx::query_scalar(
            "
            INSERT INTO outbox (id, routing_key, body, next_at)
            SELECT *
              FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) AS new (id, routing_key, body, next_at)
             ORDER BY id
                ON CONFLICT (id) DO NOTHING
            RETURNING id",
        )
        .bind(column!(rows, id))
        .bind(column!(rows, text routing_key))
        .bind(column!(rows, text body))
        .bind(column!(rows, at next_at))
        .fetch_all(&self.pool)
        .await
        .map_err(during(OPERATION))?;
        Ok(Put { new: new.len() as u64, ..Put::default() })
    }

    /// Index: primary key.
    pub(crate) async fn put_dead_letters(&self, rows: &[&DeadLetterRow]) -> Result<Put> {
        let new: Vec<Uuid> = sqlx::query_scalar(
            "
            INSERT INTO dead_letters (id, source_queue, reason_code, field, problem, fix, app_id, message_id, headers,
                                      body, parked_at)
            SELECT *
              FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                          $8::text[], $9::text[], $10::bytea[], $11::timestamptz[])
                   AS new (id, source_queue, reason_code, field, problem, fix, app_id, message_id, headers, body,
                           parked_at)
             ORDER BY id
                ON CONFLICT (id) DO NOTHING
            RETURNING id",
        )
        .bind(column!(rows, id))
        .bind(column!(rows, text source_queue))
        .bind(column!(rows, text reason_code))
        .bind(column!(rows, text field))
        .bind(column!(rows, text problem))
        .bind(column!(rows, text fix))
        .bind(column!(rows, text? app_id))
        .bind(column!(rows, text? message_id))
        .bind(column!(rows, text headers))
        .bind(rows.iter().map(|row| row.body.as_slice()).collect::<Vec<_>>())
        .bind(column!(rows, at parked_at))
        .fetch_all(&self.pool)
        .await
        .map_err(during(OPERATION))?;
        Ok(Put { new: new.len() as u64, ..Put::default() })
    }
}
