//! Dead letters.

use herald_core::event::OutboxEvent;
use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Postgres;
use super::error::during;
use super::outbox::insert_events;
use super::rows::{Columns, stored};
use crate::{DeadLetter, Result};

impl Postgres {
    /// Index: primary key.
    pub(crate) async fn dead_insert(&self, letters: &[DeadLetter], events: &[OutboxEvent]) -> Result<u64> {
        const OPERATION: &str = "dead_insert";
        // Sorted, so that two workers draining the same messages wait for each other in one order.
        let mut letters: Vec<&DeadLetter> = letters.iter().collect();
        letters.sort_unstable_by_key(|letter| letter.id);
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let new = insert_letters(&mut tx, &letters).await.map_err(during(OPERATION))?;
        insert_events(&mut tx, events).await.map_err(during(OPERATION))?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(new)
    }

    /// Index: `dead_letters_newest`.
    pub(crate) async fn dead_list(&self, limit: i64, before: Option<(Timestamp, Uuid)>) -> Result<Vec<DeadLetter>> {
        let (parked_at, id) = before.unwrap_or((Timestamp::from_micros(i64::MAX), Uuid::max()));
        let rows = sqlx::query(
            "
            SELECT *
              FROM dead_letters
             WHERE (parked_at, id) < ($1, $2)
             ORDER BY parked_at DESC, id DESC
             LIMIT $3",
        )
        .bind(stored(parked_at))
        .bind(id)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(during("dead_list"))?;
        rows.iter().map(letter).collect()
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
    pub(crate) async fn dead_remove(&self, ids: &[Uuid]) -> Result<u64> {
        let removed = sqlx::query("DELETE FROM dead_letters WHERE id = ANY ($1)")
            .bind(ids)
            .execute(&self.pool)
            .await
            .map_err(during("dead_remove"))?;
        Ok(removed.rows_affected())
    }

    pub(crate) async fn dead_count(&self) -> Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters")
            .fetch_one(&self.pool)
            .await
            .map_err(during("dead_count"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

async fn insert_letters(connection: &mut PgConnection, letters: &[&DeadLetter]) -> sqlx::Result<u64> {
    let inserted = sqlx::query(
        "
        INSERT INTO dead_letters (id, source_queue, reason_code, field, problem, fix, app_id, message_id, headers, body,
                                  parked_at)
        SELECT *
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                      $9::text[], $10::bytea[], $11::timestamptz[])
            ON CONFLICT (id) DO NOTHING",
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

fn letter(row: &PgRow) -> Result<DeadLetter> {
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
