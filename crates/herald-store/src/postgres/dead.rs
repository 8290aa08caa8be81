//! Dead letters.

use std::cmp::Reverse;

use herald_core::event::OutboxEvent;
use herald_core::ids::AppId;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Postgres;
use super::error::during;
use super::outbox::insert_events;
use super::rows::{Columns, stored};
use crate::dead::Stretch;
use crate::{DeadEntry, DeadFilter, DeadKey, DeadLetter, DeadPage, Result};

/// Index: `dead_letters_newest`, read backwards.
pub(crate) const DEAD_OLDEST: &str = "
    SELECT id, source_queue, reason_code, field, problem, fix, app_id, message_id, parked_at,
           octet_length(body)::int8 AS body_bytes
      FROM dead_letters
     WHERE (parked_at, id) > ($1, $2) AND (parked_at, id) < ($3, $4)
       AND ($5::text IS NULL OR reason_code = $5)
       AND ($6::text IS NULL OR source_queue = $6)
       AND ($7::text IS NULL OR app_id = $7)
       AND (NOT $8::bool OR app_id IS NULL)
     ORDER BY parked_at, id
     LIMIT $9";

/// Index: `dead_letters_newest`.
pub(crate) const DEAD_NEWEST: &str = "
    SELECT id, source_queue, reason_code, field, problem, fix, app_id, message_id, parked_at,
           octet_length(body)::int8 AS body_bytes
      FROM dead_letters
     WHERE (parked_at, id) > ($1, $2) AND (parked_at, id) < ($3, $4)
       AND ($5::text IS NULL OR reason_code = $5)
       AND ($6::text IS NULL OR source_queue = $6)
       AND ($7::text IS NULL OR app_id = $7)
       AND (NOT $8::bool OR app_id IS NULL)
     ORDER BY parked_at DESC, id DESC
     LIMIT $9";

/// Index: `dead_letters_newest`.
const DEAD_MATCHING: &str = "
    SELECT count(*)
      FROM dead_letters
     WHERE (parked_at, id) > ($1, $2) AND (parked_at, id) < ($3, $4)
       AND ($5::text IS NULL OR reason_code = $5)
       AND ($6::text IS NULL OR source_queue = $6)
       AND ($7::text IS NULL OR app_id = $7)
       AND (NOT $8::bool OR app_id IS NULL)";

impl Postgres {
    /// Index: primary key.
    pub(crate) async fn dead_insert(&self, letters: &[DeadLetter], events: &[OutboxEvent]) -> Result<u64> {
        const OPERATION: &str = "dead_insert";
        // Sorted, so that two workers draining the same messages wait for each other in one order.
        let mut letters: Vec<&DeadLetter> = letters.iter().collect();
        letters.sort_unstable_by_key(|letter| (letter.id, Reverse(letter.parked_at)));
        // One statement can't write a row twice: of a message that was parked twice, the latest counts.
        letters.dedup_by_key(|letter| letter.id);
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let new = insert_letters(&mut tx, &letters).await.map_err(during(OPERATION))?;
        insert_events(&mut tx, events).await.map_err(during(OPERATION))?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(new)
    }

    /// Index: `dead_letters_newest`.
    pub(crate) async fn dead_page(&self, filter: &DeadFilter, page: DeadPage, limit: i64) -> Result<Vec<DeadEntry>> {
        let statement = match page {
            DeadPage::NewestBefore(_) => DEAD_NEWEST,
            DeadPage::OldestAfter(_) => DEAD_OLDEST,
        };
        let chosen = Stretch::of(filter, page);
        let rows = sqlx::query(statement)
            .bind(stored(chosen.after.parked_at))
            .bind(chosen.after.id)
            .bind(stored(chosen.before.parked_at))
            .bind(chosen.before.id)
            .bind(chosen.reason)
            .bind(chosen.queue)
            .bind(chosen.app)
            .bind(chosen.unknown_app)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(during("dead_page"))?;
        rows.iter().map(entry).collect()
    }

    pub(crate) async fn dead_matching(&self, filter: &DeadFilter) -> Result<u64> {
        let chosen = Stretch::of(filter, DeadPage::NewestBefore(None));
        let count: i64 = sqlx::query_scalar(DEAD_MATCHING)
            .bind(stored(chosen.after.parked_at))
            .bind(chosen.after.id)
            .bind(stored(chosen.before.parked_at))
            .bind(chosen.before.id)
            .bind(chosen.reason)
            .bind(chosen.queue)
            .bind(chosen.app)
            .bind(chosen.unknown_app)
            .fetch_one(&self.pool)
            .await
            .map_err(during("dead_matching"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Index: primary key.
    pub(crate) async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>> {
        let row = sqlx::query("SELECT * FROM dead_letters WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(during("dead_letter"))?;
        row.as_ref().map(letter).transpose()
    }

    /// Index: primary key.
    pub(crate) async fn dead_remove(&self, letters: &[DeadKey]) -> Result<u64> {
        let removed = sqlx::query(
            "
            DELETE FROM dead_letters
             USING unnest($1::uuid[], $2::timestamptz[]) AS gone (id, parked_at)
             WHERE dead_letters.id = gone.id AND dead_letters.parked_at = gone.parked_at",
        )
        .bind(letters.iter().map(|key| key.id).collect::<Vec<_>>())
        .bind(letters.iter().map(|key| stored(key.parked_at)).collect::<Vec<_>>())
        .execute(&self.pool)
        .await
        .map_err(during("dead_remove"))?;
        Ok(removed.rows_affected())
    }
}

pub(crate) async fn insert_letters(connection: &mut PgConnection, letters: &[&DeadLetter]) -> sqlx::Result<u64> {
    let inserted = sqlx::query(
        "
        INSERT INTO dead_letters (id, source_queue, reason_code, field, problem, fix, app_id, message_id, headers, body,
                                  parked_at)
        SELECT *
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                      $9::text[], $10::bytea[], $11::timestamptz[])
            ON CONFLICT (id) DO UPDATE
           SET reason_code = excluded.reason_code, field = excluded.field, problem = excluded.problem,
               fix = excluded.fix, app_id = excluded.app_id, headers = excluded.headers, parked_at = excluded.parked_at
         WHERE dead_letters.parked_at <> excluded.parked_at",
    )
    .bind(letters.iter().map(|l| l.id).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| l.source_queue.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| l.reason_code.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| l.field.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| l.problem.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| l.fix.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| l.app.as_ref().map(AppId::as_str)).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| l.message_id.as_deref()).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| l.headers.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| l.body.as_slice()).collect::<Vec<_>>())
    .bind(letters.iter().map(|l| stored(l.parked_at)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected())
}

fn entry(row: &PgRow) -> Result<DeadEntry> {
    let columns = Columns::new(row, "dead_letters");
    Ok(DeadEntry {
        key: DeadKey { parked_at: columns.time("parked_at")?, id: columns.get("id")? },
        source_queue: columns.get("source_queue")?,
        reason_code: columns.get("reason_code")?,
        field: columns.get("field")?,
        problem: columns.get("problem")?,
        fix: columns.get("fix")?,
        app: columns.get::<Option<&str>>("app_id")?.map(AppId::new),
        message_id: columns.get("message_id")?,
        body_bytes: u64::try_from(columns.get::<i64>("body_bytes")?).unwrap_or(0),
    })
}

pub(crate) fn letter(row: &PgRow) -> Result<DeadLetter> {
    let columns = Columns::new(row, "dead_letters");
    Ok(DeadLetter {
        id: columns.get("id")?,
        source_queue: columns.get("source_queue")?,
        reason_code: columns.get("reason_code")?,
        field: columns.get("field")?,
        problem: columns.get("problem")?,
        fix: columns.get("fix")?,
        app: columns.get::<Option<&str>>("app_id")?.map(AppId::new),
        message_id: columns.get("message_id")?,
        headers: columns.get("headers")?,
        body: columns.get("body")?,
        parked_at: columns.time("parked_at")?,
    })
}
