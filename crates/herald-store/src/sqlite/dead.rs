//! Dead letters.

use herald_core::event::OutboxEvent;
use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::outbox::insert_events;
use super::rows::{Columns, counted, first, stored};
use super::{JobResult, Sqlite, Tx};
use crate::{DeadLetter, Result};

impl Sqlite {
    pub(crate) async fn dead_insert(&self, letters: &[DeadLetter], events: &[OutboxEvent]) -> Result<u64> {
        let (letters, events) = (letters.to_vec(), events.to_vec());
        self.write("dead_insert", move |tx| {
            let new = insert_letters(tx, &letters)?;
            insert_events(tx, &events)?;
            Ok(new)
        })
        .await
    }

    pub(crate) async fn dead_list(&self, limit: i64, before: Option<(Timestamp, Uuid)>) -> Result<Vec<DeadLetter>> {
        let before = before.unwrap_or((Timestamp::from_micros(i64::MAX), Uuid::max()));
        self.read("dead_list", move |tx| newest(tx, limit, before)).await
    }

    pub(crate) async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>> {
        self.read("dead_letter", move |tx| find(tx, id)).await
    }

    pub(crate) async fn dead_remove(&self, ids: &[Uuid]) -> Result<u64> {
        let ids = ids.to_vec();
        self.write("dead_remove", move |tx| remove(tx, &ids)).await
    }

    pub(crate) async fn dead_count(&self) -> Result<u64> {
        self.read("dead_count", |tx| {
            let mut count = tx.connection.prepare_cached("SELECT count(*) FROM dead_letters")?;
            Ok(counted(count.query_row([], |row| row.get(0))?))
        })
        .await
    }
}

/// Index: primary key.
fn insert_letters(tx: &Tx<'_>, letters: &[DeadLetter]) -> JobResult<u64> {
    let mut insert = tx.connection.prepare_cached(
        "
        INSERT INTO dead_letters (id, source_queue, reason_code, field, problem, fix, app_id, message_id, headers, body,
                                  parked_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
            ON CONFLICT (id) DO NOTHING",
    )?;
    let mut new = 0;
    for letter in letters {
        new += insert.execute(params![
            letter.id,
            letter.source_queue,
            letter.reason_code,
            letter.field,
            letter.problem,
            letter.fix,
            letter.app.as_ref().map(AppId::as_str),
            letter.message_id,
            letter.headers,
            letter.body,
            stored(letter.parked_at),
        ])?;
    }
    Ok(new as u64)
}

/// Index: `dead_letters_newest`.
fn newest(tx: &Tx<'_>, limit: i64, before: (Timestamp, Uuid)) -> JobResult<Vec<DeadLetter>> {
    let mut newest = tx.connection.prepare_cached(
        "
        SELECT *
          FROM dead_letters
         WHERE (parked_at, id) < (?1, ?2)
         ORDER BY parked_at DESC, id DESC
         LIMIT ?3",
    )?;
    let (parked_at, id) = before;
    // SQLite takes a negative limit for none.
    newest.query_and_then(params![stored(parked_at), id, limit.max(0)], |row| letter(&Columns(row)))?.collect()
}

/// Index: primary key.
fn find(tx: &Tx<'_>, id: Uuid) -> JobResult<Option<DeadLetter>> {
    let mut find = tx.connection.prepare_cached("SELECT * FROM dead_letters WHERE id = ?1")?;
    first(&mut find, [id], letter)
}

/// Index: primary key.
fn remove(tx: &Tx<'_>, ids: &[Uuid]) -> JobResult<u64> {
    let mut remove = tx.connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?;
    let mut removed = 0;
    for id in ids {
        removed += remove.execute([id])?;
    }
    Ok(removed as u64)
}

fn letter(columns: &Columns<'_>) -> JobResult<DeadLetter> {
    Ok(DeadLetter {
        id: columns.get("id")?,
        source_queue: columns.get("source_queue")?,
        reason_code: columns.get("reason_code")?,
        field: columns.get("field")?,
        problem: columns.get("problem")?,
        fix: columns.get("fix")?,
        app: columns.get::<Option<String>>("app_id")?.map(AppId::new),
        message_id: columns.get("message_id")?,
        headers: columns.get("headers")?,
        body: columns.get("body")?,
        parked_at: columns.time("parked_at")?,
    })
}
