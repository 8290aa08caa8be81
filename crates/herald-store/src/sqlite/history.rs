//! History and figures. Reads only, each call one state of the file.

use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::lane::DispatchQueue;
use herald_core::notification::Notification;
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::{OptionalExtension as _, params};

use super::rows::{Columns, counted, first, stored};
use super::take::notification;
use super::{JobResult, Sqlite, Tx};
use crate::history::COUNT_LIMIT;
use crate::{Result, Stats, Trace, TracedDelivery};

impl Sqlite {
    pub(crate) async fn trace(&self, app: &AppId, id: NotificationId) -> Result<Option<Trace>> {
        let app = app.clone();
        self.read("trace", move |tx| {
            let Some(mut trace) = read_traced(tx, &app, id)? else { return Ok(None) };
            trace.deliveries = read_deliveries(tx, &trace.notification)?;
            Ok(Some(trace))
        })
        .await
    }

    pub(crate) async fn app_of(&self, id: NotificationId) -> Result<Option<AppId>> {
        self.read("app_of", move |tx| {
            let mut read = tx.connection.prepare_cached("SELECT app_id FROM notifications WHERE id = ?1")?;
            first(&mut read, [id.0], |columns| columns.app())
        })
        .await
    }

    pub(crate) async fn named(
        &self,
        apps: &[AppId],
        user: Option<&UserId>,
        name: &str,
        limit: i64,
    ) -> Result<Vec<(AppId, NotificationId)>> {
        let (apps, user, name) = (apps.to_vec(), user.cloned(), name.to_owned());
        self.read("named", move |tx| {
            let mut found = Vec::new();
            for app in apps {
                let ids = find_by_name(tx, &app, user.as_ref(), &name, limit)?;
                found.extend(ids.into_iter().map(|id| (app.clone(), id)));
            }
            found.sort_unstable_by_key(|(_, id)| std::cmp::Reverse(*id));
            found.truncate(usize::try_from(limit).unwrap_or(0));
            Ok(found)
        })
        .await
    }

    pub(crate) async fn notification_by_key(
        &self,
        app: &AppId,
        user: &UserId,
        key: &str,
    ) -> Result<Option<NotificationId>> {
        let (app, user, key) = (app.clone(), user.clone(), key.to_owned());
        self.read("notification_by_key", move |tx| find_by_key(tx, &app, &user, &key)).await
    }

    pub(crate) async fn open_count(&self, app: &AppId) -> Result<u64> {
        let app = app.clone();
        self.read("open_count", move |tx| count_open_of(tx, &app)).await
    }

    pub(crate) async fn stats(&self) -> Result<Stats> {
        self.read("stats", |tx| {
            let mut oldest_due = Vec::with_capacity(DispatchQueue::ALL.len());
            for queue in DispatchQueue::ALL {
                oldest_due.push((queue, read_oldest_due(tx, queue)?));
            }
            let open = count_open(tx)?;
            let total: u64 = open.iter().map(|(_, count)| count).sum();
            let (dead_letters, outbox) = count_waiting(tx)?;
            let open_is_partial = i64::try_from(total).is_ok_and(|total| total >= COUNT_LIMIT);
            Ok(Stats { oldest_due, open, open_is_partial, dead_letters, outbox })
        })
        .await
    }
}

/// Without its deliveries. Index: primary key.
fn read_traced(tx: &Tx<'_>, app: &AppId, id: NotificationId) -> JobResult<Option<Trace>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT id, app_id, user_id, key, content, expires_at, received_at, next_at
          FROM notifications
         WHERE id = ?1 AND app_id = ?2",
    )?;
    first(&mut read, params![id.0, app.as_str()], |columns| {
        Ok(Trace {
            notification: notification(columns)?,
            key: columns.get("key")?,
            received_at: columns.time("received_at")?,
            next_at: columns.time_or_none("next_at")?,
            deliveries: Vec::new(),
        })
    })
}

/// Index: `deliveries_of_notification`.
fn read_deliveries(tx: &Tx<'_>, of: &Notification) -> JobResult<Vec<TracedDelivery>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT id, unsid, version, state, form, lane, queue, provider, fallback_delay_ms, deadline_at, takes,
               attempt_count, next_at, received_at, closed_at, failure, attempts
          FROM deliveries
         WHERE notification_id = ?1
         ORDER BY id
         LIMIT 1000",
    )?;
    read.query_and_then([of.id.0], |row| traced(&Columns(row), of.expires_at))?.collect()
}

fn traced(columns: &Columns<'_>, expires_at: Timestamp) -> JobResult<TracedDelivery> {
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

/// Index: the unique one of `notifications`, by app, user and key.
fn find_by_key(tx: &Tx<'_>, app: &AppId, user: &UserId, key: &str) -> JobResult<Option<NotificationId>> {
    let mut find =
        tx.connection.prepare_cached("SELECT id FROM notifications WHERE app_id = ?1 AND user_id = ?2 AND key = ?3")?;
    let id = find.query_row(params![app.as_str(), user.as_str(), key], |row| row.get(0)).optional()?;
    Ok(id.map(NotificationId))
}

/// Index: `notifications_by_name`, backwards.
fn find_by_name(
    tx: &Tx<'_>,
    app: &AppId,
    user: Option<&UserId>,
    name: &str,
    limit: i64,
) -> JobResult<Vec<NotificationId>> {
    let mut find = tx.connection.prepare_cached(
        "
        SELECT id
          FROM notifications INDEXED BY notifications_by_name
         WHERE app_id = ?1 AND app_notification_id = ?2 AND (?3 IS NULL OR user_id = ?3)
         ORDER BY id DESC
         LIMIT ?4",
    )?;
    let values = params![app.as_str(), name, user.map(UserId::as_str), limit];
    find.query_and_then(values, |row| Ok(NotificationId(row.get(0)?)))?.collect()
}

/// Reads all of `deliveries_due`.
fn count_open_of(tx: &Tx<'_>, app: &AppId) -> JobResult<u64> {
    let mut count = tx.connection.prepare_cached(
        "SELECT count(*) FROM deliveries INDEXED BY deliveries_due WHERE next_at IS NOT NULL AND app_id = ?1",
    )?;
    Ok(counted(count.query_row([app.as_str()], |row| row.get(0))?))
}

/// Index: `deliveries_due`, its first row.
fn read_oldest_due(tx: &Tx<'_>, queue: DispatchQueue) -> JobResult<Duration> {
    let now = tx.now();
    let mut read = tx.connection.prepare_cached(
        "
        SELECT next_at
          FROM deliveries
         WHERE queue = ?1 AND next_at <= ?2
         ORDER BY next_at
         LIMIT 1",
    )?;
    let oldest = read.query_row(params![queue.number(), stored(now)], |row| row.get(0)).optional()?;
    Ok(oldest.map_or(Duration::ZERO, |oldest| now.since(Timestamp::from_micros(oldest))))
}

/// Index: `deliveries_due`, in its order, so that closed rows are not read.
fn count_open(tx: &Tx<'_>) -> JobResult<Vec<(State, u64)>> {
    let mut count = tx.connection.prepare_cached(
        "
        SELECT state, count(*) AS count
          FROM (SELECT state
                  FROM deliveries INDEXED BY deliveries_due
                 WHERE next_at IS NOT NULL
                 ORDER BY queue, next_at
                 LIMIT ?1)
         GROUP BY state
         ORDER BY state",
    )?;
    let counts = count.query_and_then([COUNT_LIMIT], |row| {
        let columns = Columns(row);
        Ok((columns.state("state")?, counted(columns.get("count")?)))
    })?;
    counts.collect()
}

/// Dead letters and events.
fn count_waiting(tx: &Tx<'_>) -> JobResult<(u64, u64)> {
    let mut count = tx.connection.prepare_cached(
        "
        SELECT (SELECT count(*) FROM (SELECT 1 FROM dead_letters LIMIT ?1)),
               (SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT ?1))",
    )?;
    let (dead_letters, outbox) = count.query_row([COUNT_LIMIT], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((counted(dead_letters), counted(outbox)))
}
