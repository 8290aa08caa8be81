//! History and figures. Reads only.

use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::lane::DispatchQueue;
use herald_core::time::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Postgres;
use super::error::during;
use super::rows::Columns;
use super::take::notification;
use crate::history::COUNT_LIMIT;
use crate::{Result, Stats, Trace, TracedDelivery};

impl Postgres {
    pub(crate) async fn trace(&self, app: &AppId, id: NotificationId) -> Result<Option<Trace>> {
        let row = self.read_traced(app, id).await.map_err(during("trace"))?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns::new(&row, "trace");
        let notification = notification(&columns)?;
        let rows = self.read_deliveries(id).await.map_err(during("trace"))?;
        Ok(Some(Trace {
            key: columns.get("key")?,
            received_at: columns.time("received_at")?,
            next_at: columns.time_or_none("next_at")?,
            deliveries: rows.iter().map(|row| traced(row, notification.expires_at)).collect::<Result<_>>()?,
            notification,
        }))
    }

    /// Index: primary key.
    async fn read_traced(&self, app: &AppId, id: NotificationId) -> sqlx::Result<Option<PgRow>> {
        sqlx::query(
            "
            SELECT id, app_id, user_id, key, content, expires_at, received_at, next_at
              FROM notifications
             WHERE id = $1 AND app_id = $2",
        )
        .bind(id.0)
        .bind(app.as_str())
        .fetch_optional(&self.pool)
        .await
    }

    /// Index: `deliveries_of_notification`.
    async fn read_deliveries(&self, id: NotificationId) -> sqlx::Result<Vec<PgRow>> {
        sqlx::query(
            "
            SELECT id, unsid, version, state, form, lane, queue, provider, fallback_delay_ms, deadline_at, takes,
                   attempt_count, next_at, received_at, closed_at, failure, attempts::text AS attempts
              FROM deliveries
             WHERE notification_id = $1
             ORDER BY id
             LIMIT 1000",
        )
        .bind(id.0)
        .fetch_all(&self.pool)
        .await
    }

    /// Index: primary key.
    pub(crate) async fn app_of(&self, id: NotificationId) -> Result<Option<AppId>> {
        let app: Option<String> = sqlx::query_scalar("SELECT app_id FROM notifications WHERE id = $1")
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(during("app_of"))?;
        Ok(app.map(AppId::new))
    }

    /// Index: `notifications_by_name`, backwards, for each app.
    pub(crate) async fn named(
        &self,
        apps: &[AppId],
        user: Option<&UserId>,
        name: &str,
        limit: i64,
    ) -> Result<Vec<(AppId, NotificationId)>> {
        let found: Vec<(String, Uuid)> = sqlx::query_as(
            "
            SELECT named.app_id, named.id
              FROM unnest($1::text[]) AS app (id)
             CROSS JOIN LATERAL (
                   SELECT app_id, id
                     FROM notifications
                    WHERE app_id = app.id AND app_notification_id = $2 AND ($3::text IS NULL OR user_id = $3)
                    ORDER BY id DESC
                    LIMIT $4
                   ) AS named
             ORDER BY named.id DESC
             LIMIT $4",
        )
        .bind(apps.iter().map(AppId::as_str).collect::<Vec<_>>())
        .bind(name)
        .bind(user.map(UserId::as_str))
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(during("named"))?;
        Ok(found.into_iter().map(|(app, id)| (AppId::new(app), NotificationId(id))).collect())
    }

    /// Index: `notifications_app_id_user_id_key_key`.
    pub(crate) async fn notification_by_key(
        &self,
        app: &AppId,
        user: &UserId,
        key: &str,
    ) -> Result<Option<NotificationId>> {
        let id: Option<Uuid> =
            sqlx::query_scalar("SELECT id FROM notifications WHERE app_id = $1 AND user_id = $2 AND key = $3")
                .bind(app.as_str())
                .bind(user.as_str())
                .bind(key)
                .fetch_optional(&self.pool)
                .await
                .map_err(during("notification_by_key"))?;
        Ok(id.map(NotificationId))
    }

    /// Reads all of `deliveries_due`.
    pub(crate) async fn open_count(&self, app: &AppId) -> Result<u64> {
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM deliveries WHERE next_at IS NOT NULL AND app_id = $1")
            .bind(app.as_str())
            .fetch_one(&self.pool)
            .await
            .map_err(during("open_count"))?;
        Ok(u64::try_from(open).unwrap_or(0))
    }

    pub(crate) async fn stats(&self) -> Result<Stats> {
        let mut oldest_due = Vec::with_capacity(DispatchQueue::ALL.len());
        for queue in DispatchQueue::ALL {
            oldest_due.push((queue, self.oldest_due(queue).await.map_err(during("stats"))?));
        }
        let counts = self.count_open().await.map_err(during("stats"))?;
        let open: Vec<(State, u64)> = counts
            .into_iter()
            .filter_map(|(state, count)| Some((State::from_number(state)?, u64::try_from(count).unwrap_or(0))))
            .collect();
        let total: u64 = open.iter().map(|(_, count)| count).sum();
        let (dead_letters, outbox) = self.count_waiting().await.map_err(during("stats"))?;
        Ok(Stats {
            oldest_due,
            open_is_partial: i64::try_from(total).is_ok_and(|total| total >= COUNT_LIMIT),
            open,
            dead_letters: u64::try_from(dead_letters).unwrap_or(0),
            outbox: u64::try_from(outbox).unwrap_or(0),
        })
    }

    /// Index: `deliveries_due`, its first row.
    async fn oldest_due(&self, queue: DispatchQueue) -> sqlx::Result<Duration> {
        let age: Option<i64> = sqlx::query_scalar(
            "
            SELECT (extract(epoch FROM clock_timestamp() - next_at) * 1000000)::bigint
              FROM deliveries
             WHERE queue = $1 AND next_at <= (SELECT clock_timestamp())
             ORDER BY next_at
             LIMIT 1",
        )
        .bind(queue.number())
        .fetch_optional(&self.pool)
        .await?;
        Ok(Duration::from_micros(age.and_then(|age| u64::try_from(age).ok()).unwrap_or(0)))
    }

    /// Index: `deliveries_due`, in its order, so that closed rows are not read.
    async fn count_open(&self) -> sqlx::Result<Vec<(i16, i64)>> {
        sqlx::query_as(
            "
            SELECT state, count(*)
              FROM (SELECT state FROM deliveries WHERE next_at IS NOT NULL ORDER BY queue, next_at LIMIT $1) AS open
             GROUP BY state
             ORDER BY state",
        )
        .bind(COUNT_LIMIT)
        .fetch_all(&self.pool)
        .await
    }

    async fn count_waiting(&self) -> sqlx::Result<(i64, i64)> {
        sqlx::query_as(
            "
            SELECT (SELECT count(*) FROM (SELECT FROM dead_letters LIMIT $1) AS d),
                   (SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) AS o)",
        )
        .bind(COUNT_LIMIT)
        .fetch_one(&self.pool)
        .await
    }
}

fn traced(row: &PgRow, expires_at: Timestamp) -> Result<TracedDelivery> {
    let columns = Columns::new(row, "trace");
    Ok(TracedDelivery {
        delivery: columns.delivery(expires_at)?,
        unsid: Unsid(columns.get("unsid")?),
        provider: columns.provider()?,
        queue: columns.parsed("queue", DispatchQueue::from_number)?,
        next_at: columns.time_or_none("next_at")?,
        received_at: columns.time_or_none("received_at")?,
        failure: columns.get("failure")?,
        closed_at: columns.time_or_none("closed_at")?,
        attempts: columns.json("attempts")?,
    })
}
