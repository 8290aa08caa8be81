//! Pauses and the mass-failure guard's counts.

use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::AppId;
use herald_core::push::Form;
use herald_core::subscription::Provider;
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::{OptionalExtension as _, params};

use super::rows::{Columns, counted, micros, provider_number, stored};
use super::{JobResult, Sqlite, Tx};
use crate::{Pause, Result};

/// Rows that one job makes due: some ten milliseconds.
const BRING_BACK_STEP: usize = 1_000;

/// What the guard counts by, and how much of it it looks at.
const MINUTE: Duration = Duration::from_secs(60);
const COUNTED: Duration = Duration::from_secs(5 * 60);

impl Sqlite {
    pub(crate) async fn pause(
        &self,
        app: &AppId,
        provider: Provider,
        until: Timestamp,
        reason: &str,
        detail: &str,
        by_operator: bool,
    ) -> Result<()> {
        let (app, reason, detail) = (app.clone(), reason.to_owned(), detail.to_owned());
        self.write("pause", move |tx| {
            let since = tx.now();
            upsert(tx, &Pause { app, provider, since, until, reason, detail, by_operator })
        })
        .await
    }

    pub(crate) async fn pauses(&self) -> Result<Vec<Pause>> {
        self.read("pauses", read_running).await
    }

    pub(crate) async fn resume(&self, app: &AppId, provider: Provider, spread: Duration) -> Result<bool> {
        let of = app.clone();
        let ended = self.write("resume", move |tx| end_pause(tx, &of, provider)).await?;
        // Even if it had ended: a process that learned of it late may have held rows until the old end meanwhile.
        self.bring_back(app, provider, spread).await?;
        Ok(ended)
    }

    /// Reads the whole table: a row for each app and provider at most.
    pub(crate) async fn pauses_cut_short(&self) -> Result<Vec<(AppId, Provider)>> {
        let read = |tx: &Tx<'_>| {
            let mut over = tx.connection.prepare_cached("SELECT app_id, provider FROM pauses WHERE held_until > ?1")?;
            let mut rows = over.query([stored(tx.now())])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let columns = Columns(row);
                all.push((columns.app()?, columns.provider()?));
            }
            Ok(all)
        };
        self.read("pauses_cut_short", read).await
    }

    /// In steps, each its own job: none is long, and what was brought back stays so.
    pub(crate) async fn bring_back(&self, app: &AppId, provider: Provider, spread: Duration) -> Result<()> {
        loop {
            let app = app.clone();
            let brought = self.write("bring_back", move |tx| bring_back(tx, &app, provider, spread)).await?;
            if brought < BRING_BACK_STEP {
                return Ok(());
            }
        }
    }

    /// The pause's end is read here, so that one that was resumed meanwhile moves nothing.
    pub(crate) async fn move_paused(
        &self,
        app: &AppId,
        provider: Provider,
        jitter: Duration,
        limit: i64,
    ) -> Result<u64> {
        let app = app.clone();
        self.write("move_paused", move |tx| {
            let Some(until) = read_end(tx, &app, provider)? else { return Ok(0) };
            move_due(tx, &app, provider, (until, jitter), limit)
        })
        .await
    }

    pub(crate) async fn guard_count(
        &self,
        app: &AppId,
        provider: Provider,
        accepted: u64,
        suspect: u64,
    ) -> Result<(u64, u64)> {
        let app = app.clone();
        self.write("guard_count", move |tx| {
            let now = stored(tx.now());
            let minute = now - now % micros(MINUTE);
            add_counts(tx, &app, provider, minute, (accepted, suspect))?;
            sum_counts(tx, &app, provider, minute - micros(COUNTED))
        })
        .await
    }
}

/// Index: primary key.
fn upsert(tx: &Tx<'_>, pause: &Pause) -> JobResult<()> {
    let mut upsert = tx.connection.prepare_cached(
        "
        INSERT INTO pauses (app_id, provider, since, until, reason, detail, by_operator)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
            ON CONFLICT (app_id, provider) DO UPDATE
           SET since = CASE WHEN pauses.until > excluded.since THEN pauses.since ELSE excluded.since END,
               until = excluded.until, reason = excluded.reason, detail = excluded.detail,
               by_operator = excluded.by_operator, held_until = NULL
         WHERE excluded.by_operator OR pauses.until <= excluded.since
            OR (NOT pauses.by_operator AND pauses.until < excluded.until)",
    )?;
    upsert.execute(params![
        pause.app.as_str(),
        provider_number(pause.provider),
        stored(pause.since),
        stored(pause.until),
        pause.reason,
        pause.detail,
        pause.by_operator,
    ])?;
    Ok(())
}

/// Reads the whole table: a row for each app and provider at most.
fn read_running(tx: &Tx<'_>) -> JobResult<Vec<Pause>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT app_id, provider, since, until, reason, detail, by_operator
          FROM pauses
         WHERE until > ?1
         ORDER BY app_id, provider",
    )?;
    let pauses = read.query_and_then([stored(tx.now())], |row| {
        let columns = Columns(row);
        Ok(Pause {
            app: columns.app()?,
            provider: columns.provider()?,
            since: columns.time("since")?,
            until: columns.time("until")?,
            reason: columns.get("reason")?,
            detail: columns.get("detail")?,
            by_operator: columns.get("by_operator")?,
        })
    })?;
    pauses.collect()
}

/// When the running pause ends. Index: primary key.
fn read_end(tx: &Tx<'_>, app: &AppId, provider: Provider) -> JobResult<Option<i64>> {
    let mut read =
        tx.connection.prepare_cached("SELECT until FROM pauses WHERE app_id = ?1 AND provider = ?2 AND until > ?3")?;
    let until = params![app.as_str(), provider_number(provider), stored(tx.now())];
    Ok(read.query_row(until, |row| row.get(0)).optional()?)
}

/// Index: primary key.
fn end_pause(tx: &Tx<'_>, app: &AppId, provider: Provider) -> JobResult<bool> {
    let mut end = tx.connection.prepare_cached(
        "UPDATE pauses SET held_until = until, until = ?3 WHERE app_id = ?1 AND provider = ?2 AND until > ?3",
    )?;
    Ok(end.execute(params![app.as_str(), provider_number(provider), stored(tx.now())])? > 0)
}

/// The SQL of a move: (app, provider, sending, now, end, jitter, limit).
///
/// Index: `deliveries_due`, those due by now only. What is taken (`sending`) stays: its lease is running.
const MOVE_DUE: &str = "
    UPDATE deliveries
       SET next_at = ?5 + abs(random() % (?6 + 1))
     WHERE id IN (SELECT id
                    FROM deliveries
                   WHERE queue IN (0, 1, 2, 3) AND next_at <= ?4
                     AND app_id = ?1 AND provider = ?2 AND state <> ?3
                   LIMIT ?7)";

fn move_due(
    tx: &Tx<'_>,
    app: &AppId,
    provider: Provider,
    (until, jitter): (i64, Duration),
    limit: i64,
) -> JobResult<u64> {
    let mut moving = tx.connection.prepare_cached(MOVE_DUE)?;
    let moved = moving.execute(params![
        app.as_str(),
        provider_number(provider),
        State::Sending.number(),
        stored(tx.now()),
        until,
        micros(jitter),
        // SQLite takes a negative limit for none.
        limit.max(0),
    ])?;
    Ok(moved as u64)
}

/// The SQL that makes due what a pause moved: (app, provider, due, watching, toast, now, spread, limit).
///
/// Due rows, and watching ones whose deadline has passed: a raw push whose deadline is still to come keeps waiting for its
/// receipt, and a toast for its deadline. Reads the rows of `deliveries_due` that are due later than the spread: what is due
/// within it needs no help, and so each step finds other rows. Rare: an operator does it.
const BRING_BACK: &str = "
    UPDATE deliveries
       SET next_at = ?6 + abs(random() % (?7 + 1))
     WHERE id IN (SELECT id
                    FROM deliveries
                   WHERE queue IN (0, 1, 2, 3) AND next_at > ?6 + ?7
                     AND app_id = ?1 AND provider = ?2
                     AND (state = ?3 AND (form <> ?5 OR deadline_at IS NULL OR deadline_at <= ?6)
                          OR state = ?4 AND deadline_at <= ?6)
                   LIMIT ?8)";

/// Nothing, if a newer pause runs.
fn bring_back(tx: &Tx<'_>, app: &AppId, provider: Provider, spread: Duration) -> JobResult<usize> {
    if read_end(tx, app, provider)?.is_some() {
        return Ok(0);
    }
    let mut bringing = tx.connection.prepare_cached(BRING_BACK)?;
    let brought = bringing.execute(params![
        app.as_str(),
        provider_number(provider),
        State::Due.number(),
        State::Watching.number(),
        Form::Toast.number(),
        stored(tx.now()),
        micros(spread),
        i64::try_from(BRING_BACK_STEP).unwrap_or(i64::MAX),
    ])?;
    Ok(brought)
}

/// Index: primary key.
fn add_counts(
    tx: &Tx<'_>,
    app: &AppId,
    provider: Provider,
    minute: i64,
    (accepted, suspect): (u64, u64),
) -> JobResult<()> {
    let mut add = tx.connection.prepare_cached(
        "
        INSERT INTO guard_counts (app_id, provider, minute, accepted, suspect)
        VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (app_id, provider, minute) DO UPDATE
           SET accepted = accepted + excluded.accepted, suspect = suspect + excluded.suspect",
    )?;
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    add.execute(params![app.as_str(), provider_number(provider), minute, number(accepted), number(suspect)])?;
    Ok(())
}

/// Index: primary key.
fn sum_counts(tx: &Tx<'_>, app: &AppId, provider: Provider, after: i64) -> JobResult<(u64, u64)> {
    let mut sum = tx.connection.prepare_cached(
        "
        SELECT sum(accepted), sum(suspect)
          FROM guard_counts
         WHERE app_id = ?1 AND provider = ?2 AND minute > ?3",
    )?;
    let (accepted, suspect) =
        sum.query_row(params![app.as_str(), provider_number(provider), after], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((counted(accepted), counted(suspect)))
}
