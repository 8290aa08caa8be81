//! Pauses and the mass-failure guard's counts.

use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::AppId;
use herald_core::push::Form;
use herald_core::subscription::Provider;
use herald_core::time::Timestamp;
use sqlx::{PgConnection, PgPool};

use super::Postgres;
use super::error::during;
use super::rows::{Columns, micros, provider_number, stored};
use crate::{Pause, Result};

/// Rows that a resume makes due in one statement.
const BRING_BACK_STEP: u64 = 5_000;

impl Postgres {
    /// Index: primary key.
    pub(crate) async fn pause(
        &self,
        app: &AppId,
        provider: Provider,
        until: Timestamp,
        reason: &str,
        detail: &str,
        by_operator: bool,
    ) -> Result<()> {
        sqlx::query(
            "
            INSERT INTO pauses (app_id, provider, since, until, reason, detail, by_operator)
            VALUES ($1, $2, clock_timestamp(), $3, $4, $5, $6)
                ON CONFLICT (app_id, provider) DO UPDATE
               SET since = CASE WHEN pauses.until > clock_timestamp() THEN pauses.since ELSE excluded.since END,
                   until = excluded.until, reason = excluded.reason, detail = excluded.detail,
                   by_operator = excluded.by_operator, held_until = NULL
             WHERE excluded.by_operator OR pauses.until <= clock_timestamp()
                OR (NOT pauses.by_operator AND pauses.until < excluded.until)",
        )
        .bind(app.as_str())
        .bind(provider_number(provider))
        .bind(stored(until))
        .bind(reason)
        .bind(detail)
        .bind(by_operator)
        .execute(&self.pool)
        .await
        .map_err(during("pause"))?;
        Ok(())
    }

    /// Reads the whole table: a row for each app and provider at most.
    pub(crate) async fn pauses(&self) -> Result<Vec<Pause>> {
        let rows = sqlx::query(
            "
            SELECT app_id, provider, since, until, reason, detail, by_operator
              FROM pauses
             WHERE until > clock_timestamp()
             ORDER BY app_id, provider",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(during("pauses"))?;
        let pause = |row| {
            let columns = Columns::new(row, "pauses");
            Ok(Pause {
                app: columns.app()?,
                provider: columns.provider()?,
                since: columns.time("since")?,
                until: columns.time("until")?,
                reason: columns.get("reason")?,
                detail: columns.get("detail")?,
                by_operator: columns.get("by_operator")?,
            })
        };
        rows.iter().map(pause).collect()
    }

    pub(crate) async fn resume(&self, app: &AppId, provider: Provider, spread: Duration) -> Result<bool> {
        const OPERATION: &str = "resume";
        let ended = end_pause(&self.pool, app, provider).await.map_err(during(OPERATION))?;
        // Even if it had ended: a replica that learned of it late may have held rows until the old end meanwhile.
        self.bring_back(app, provider, spread).await?;
        Ok(ended)
    }

    /// Reads the whole table: a row for each app and provider at most.
    pub(crate) async fn pauses_cut_short(&self) -> Result<Vec<(AppId, Provider)>> {
        const OPERATION: &str = "pauses_cut_short";
        let rows = sqlx::query("SELECT app_id, provider FROM pauses WHERE held_until > clock_timestamp()")
            .fetch_all(&self.pool)
            .await
            .map_err(during(OPERATION))?;
        let gate = |row| {
            let columns = Columns::new(row, OPERATION);
            Ok((columns.app()?, columns.provider()?))
        };
        rows.iter().map(gate).collect()
    }

    /// In steps, each its own transaction: none is long, and what was brought back stays so.
    pub(crate) async fn bring_back(&self, app: &AppId, provider: Provider, spread: Duration) -> Result<()> {
        const OPERATION: &str = "bring_back";
        let mut connection = self.pool.acquire().await.map_err(during(OPERATION))?;
        while bring_back(&mut connection, app, provider, spread).await.map_err(during(OPERATION))? == BRING_BACK_STEP {}
        Ok(())
    }

    /// Index: `deliveries_due`, those due by now only; the pause's end is read here, so that one that was resumed
    /// meanwhile moves nothing. What is taken (`sending`) stays: its lease is running.
    pub(crate) async fn move_paused(
        &self,
        app: &AppId,
        provider: Provider,
        jitter: Duration,
        limit: i64,
    ) -> Result<u64> {
        let moved = sqlx::query(
            "
            WITH paused AS MATERIALIZED (
                SELECT until
                  FROM pauses
                 WHERE app_id = $1 AND provider = $2 AND until > clock_timestamp()
            ), due AS MATERIALIZED (
                SELECT id
                  FROM deliveries
                 WHERE queue = ANY ('{0,1,2,3}') AND next_at <= (SELECT clock_timestamp())
                   AND app_id = $1 AND provider = $2 AND state <> $3 AND EXISTS (SELECT FROM paused)
                 LIMIT $5
                   FOR UPDATE SKIP LOCKED
            )
            UPDATE deliveries d
               SET next_at = paused.until + random() * $4 * interval '1 microsecond'
              FROM due, paused
             WHERE d.id = due.id",
        )
        .bind(app.as_str())
        .bind(provider_number(provider))
        .bind(State::Sending.number())
        .bind(micros(jitter))
        .bind(limit)
        .execute(&self.pool)
        .await
        .map_err(during("move_paused"))?;
        Ok(moved.rows_affected())
    }

    /// Index: primary key. The upsert's row is not visible to the rest of its own statement, so it is added from there.
    pub(crate) async fn guard_count(
        &self,
        app: &AppId,
        provider: Provider,
        accepted: u64,
        suspect: u64,
    ) -> Result<(u64, u64)> {
        let (accepted, suspect): (i64, i64) = sqlx::query_as(
            "
            WITH this AS (
                INSERT INTO guard_counts AS g (app_id, provider, minute, accepted, suspect)
                VALUES ($1, $2, date_trunc('minute', clock_timestamp()), $3, $4)
                    ON CONFLICT (app_id, provider, minute) DO UPDATE
                   SET accepted = g.accepted + excluded.accepted, suspect = g.suspect + excluded.suspect
                RETURNING minute, accepted, suspect
            )
            SELECT sum(accepted)::bigint, sum(suspect)::bigint
              FROM (SELECT accepted, suspect FROM this
                    UNION ALL
                    SELECT g.accepted, g.suspect
                      FROM guard_counts g, this
                     WHERE g.app_id = $1 AND g.provider = $2
                       AND g.minute > this.minute - interval '5 minutes' AND g.minute <> this.minute) AS counts",
        )
        .bind(app.as_str())
        .bind(provider_number(provider))
        .bind(i64::try_from(accepted).unwrap_or(i64::MAX))
        .bind(i64::try_from(suspect).unwrap_or(i64::MAX))
        .fetch_one(&self.pool)
        .await
        .map_err(during("guard_count"))?;
        Ok((u64::try_from(accepted).unwrap_or(0), u64::try_from(suspect).unwrap_or(0)))
    }
}

/// Index: primary key.
async fn end_pause(pool: &PgPool, app: &AppId, provider: Provider) -> sqlx::Result<bool> {
    let ended = sqlx::query(
        "
        UPDATE pauses
           SET held_until = until, until = clock_timestamp()
         WHERE app_id = $1 AND provider = $2 AND until > clock_timestamp()",
    )
    .bind(app.as_str())
    .bind(provider_number(provider))
    .execute(pool)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// Makes due what a pause moved: due rows, and watching ones whose deadline has passed. A raw push whose deadline is still
/// to come keeps waiting for its receipt, and a toast for its deadline. Nothing, if a newer pause runs.
///
/// Reads the rows of `deliveries_due` that are due later than the spread: what is due within it needs no help, and so each
/// step finds other rows. Rare: an operator does it.
async fn bring_back(
    connection: &mut PgConnection,
    app: &AppId,
    provider: Provider,
    spread: Duration,
) -> sqlx::Result<u64> {
    let brought = sqlx::query(
        "
        WITH later AS MATERIALIZED (
            SELECT id
              FROM deliveries
             WHERE queue = ANY ('{0,1,2,3}') AND app_id = $1 AND provider = $2
               AND next_at > (SELECT clock_timestamp()) + $5 * interval '1 microsecond'
               AND (state = $3 AND (form <> $6 OR deadline_at IS NULL OR deadline_at <= (SELECT clock_timestamp()))
                    OR state = $4 AND deadline_at <= (SELECT clock_timestamp()))
               AND NOT EXISTS (SELECT FROM pauses WHERE app_id = $1 AND provider = $2 AND until > clock_timestamp())
             LIMIT $7
               FOR UPDATE SKIP LOCKED
        )
        UPDATE deliveries d
           SET next_at = clock_timestamp() + random() * $5 * interval '1 microsecond'
          FROM later
         WHERE d.id = later.id",
    )
    .bind(app.as_str())
    .bind(provider_number(provider))
    .bind(State::Due.number())
    .bind(State::Watching.number())
    .bind(micros(spread))
    .bind(Form::Toast.number())
    .bind(i64::try_from(BRING_BACK_STEP).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(brought.rows_affected())
}
