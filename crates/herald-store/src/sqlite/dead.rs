//! Dead letters.

use herald_core::event::OutboxEvent;
use herald_core::ids::AppId;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::outbox::insert_events;
use super::rows::{Columns, counted, first, stored};
use super::{JobResult, Sqlite, Tx};
use crate::dead::Stretch;
use crate::{DeadEntry, DeadFilter, DeadKey, DeadLetter, DeadPage, Result};

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

    pub(crate) async fn dead_page(&self, filter: &DeadFilter, page: DeadPage, limit: i64) -> Result<Vec<DeadEntry>> {
        let chosen = Stretch::of(filter, page);
        self.read("dead_page", move |tx| match page {
            DeadPage::NewestBefore(_) => newest_of(tx, &chosen, limit),
            DeadPage::OldestAfter(_) => oldest_of(tx, &chosen, limit),
        })
        .await
    }

    pub(crate) async fn dead_matching(&self, filter: &DeadFilter) -> Result<u64> {
        let chosen = Stretch::of(filter, DeadPage::NewestBefore(None));
        self.read("dead_matching", move |tx| matching(tx, &chosen)).await
    }

    pub(crate) async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>> {
        self.read("dead_letter", move |tx| find(tx, id)).await
    }

    pub(crate) async fn dead_remove(&self, letters: &[DeadKey]) -> Result<u64> {
        let letters = letters.to_vec();
        self.write("dead_remove", move |tx| remove(tx, &letters)).await
    }
}

/// Index: primary key.
pub(crate) fn insert_letters(tx: &Tx<'_>, letters: &[DeadLetter]) -> JobResult<u64> {
    let mut insert = tx.connection.prepare_cached(
        "
        INSERT INTO dead_letters (id, source_queue, reason_code, field, problem, fix, app_id, message_id, headers, body,
                                  parked_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
            ON CONFLICT (id) DO UPDATE
           SET reason_code = excluded.reason_code, field = excluded.field, problem = excluded.problem,
               fix = excluded.fix, app_id = excluded.app_id, headers = excluded.headers, parked_at = excluded.parked_at
         WHERE dead_letters.parked_at <> excluded.parked_at",
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
fn newest_of(tx: &Tx<'_>, chosen: &Stretch, limit: i64) -> JobResult<Vec<DeadEntry>> {
    let mut page = tx.connection.prepare_cached(
        "
        SELECT id, source_queue, reason_code, field, problem, fix, app_id, message_id, parked_at,
               length(body) AS body_bytes
          FROM dead_letters
         WHERE (parked_at, id) > (?1, ?2) AND (parked_at, id) < (?3, ?4)
           AND (?5 IS NULL OR reason_code = ?5)
           AND (?6 IS NULL OR source_queue = ?6)
           AND (?7 IS NULL OR app_id = ?7)
           AND (NOT ?8 OR app_id IS NULL)
         ORDER BY parked_at DESC, id DESC
         LIMIT ?9",
    )?;
    let Stretch { after, before, reason, queue, app, unknown_app } = chosen;
    let (from, to) = (stored(after.parked_at), stored(before.parked_at));
    let values = params![from, after.id, to, before.id, reason, queue, app, unknown_app, limit.max(0)];
    page.query_and_then(values, |row| entry(&Columns(row)))?.collect()
}

/// Index: `dead_letters_newest`, read backwards.
fn oldest_of(tx: &Tx<'_>, chosen: &Stretch, limit: i64) -> JobResult<Vec<DeadEntry>> {
    let mut page = tx.connection.prepare_cached(
        "
        SELECT id, source_queue, reason_code, field, problem, fix, app_id, message_id, parked_at,
               length(body) AS body_bytes
          FROM dead_letters
         WHERE (parked_at, id) > (?1, ?2) AND (parked_at, id) < (?3, ?4)
           AND (?5 IS NULL OR reason_code = ?5)
           AND (?6 IS NULL OR source_queue = ?6)
           AND (?7 IS NULL OR app_id = ?7)
           AND (NOT ?8 OR app_id IS NULL)
         ORDER BY parked_at, id
         LIMIT ?9",
    )?;
    let Stretch { after, before, reason, queue, app, unknown_app } = chosen;
    let (from, to) = (stored(after.parked_at), stored(before.parked_at));
    let values = params![from, after.id, to, before.id, reason, queue, app, unknown_app, limit.max(0)];
    page.query_and_then(values, |row| entry(&Columns(row)))?.collect()
}

/// Index: `dead_letters_newest`.
fn matching(tx: &Tx<'_>, chosen: &Stretch) -> JobResult<u64> {
    let mut count = tx.connection.prepare_cached(
        "
        SELECT count(*)
          FROM dead_letters
         WHERE (parked_at, id) > (?1, ?2) AND (parked_at, id) < (?3, ?4)
           AND (?5 IS NULL OR reason_code = ?5)
           AND (?6 IS NULL OR source_queue = ?6)
           AND (?7 IS NULL OR app_id = ?7)
           AND (NOT ?8 OR app_id IS NULL)",
    )?;
    let Stretch { after, before, reason, queue, app, unknown_app } = chosen;
    let (from, to) = (stored(after.parked_at), stored(before.parked_at));
    let values = params![from, after.id, to, before.id, reason, queue, app, unknown_app];
    Ok(counted(count.query_row(values, |row| row.get(0))?))
}

/// Index: primary key.
fn find(tx: &Tx<'_>, id: Uuid) -> JobResult<Option<DeadLetter>> {
    let mut find = tx.connection.prepare_cached("SELECT * FROM dead_letters WHERE id = ?1")?;
    first(&mut find, [id], letter)
}

/// Index: primary key.
fn remove(tx: &Tx<'_>, letters: &[DeadKey]) -> JobResult<u64> {
    let mut remove = tx.connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1 AND parked_at = ?2")?;
    let mut removed = 0;
    for key in letters {
        removed += remove.execute(params![key.id, stored(key.parked_at)])?;
    }
    Ok(removed as u64)
}

fn entry(columns: &Columns<'_>) -> JobResult<DeadEntry> {
    Ok(DeadEntry {
        key: DeadKey { parked_at: columns.time("parked_at")?, id: columns.get("id")? },
        source_queue: columns.get("source_queue")?,
        reason_code: columns.get("reason_code")?,
        field: columns.get("field")?,
        problem: columns.get("problem")?,
        fix: columns.get("fix")?,
        app: columns.get::<Option<String>>("app_id")?.map(AppId::new),
        message_id: columns.get("message_id")?,
        body_bytes: counted(columns.get("body_bytes")?),
    })
}

pub(crate) fn letter(columns: &Columns<'_>) -> JobResult<DeadLetter> {
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
