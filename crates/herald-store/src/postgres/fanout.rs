//! Fan-out: pages of subscriptions, the cursor on the notification's row.

use std::sync::Arc;
use std::time::Duration;

use herald_core::event::OutboxEvent;
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::notification::Notification;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Postgres;
use super::dead::insert_letters;
use super::deliveries::NewRows;
use super::error::during;
use super::outbox::insert_events;
use super::rows::{Columns, micros};
use super::take::notification;
use crate::deliveries::Budget;
use crate::{ClaimedFanout, DeadLetter, Expanded, NewNotification, Resolved, Result};

const OPERATION: &str = "expand";

impl Postgres {
    /// Index: `notifications_due`.
    pub(crate) async fn claim_fanout(&self, limit: i64, hold: Duration) -> Result<Vec<ClaimedFanout>> {
        let claimed: Vec<(Uuid, i16)> = sqlx::query_as(
            "
            WITH claimed AS MATERIALIZED (
                SELECT id
                  FROM notifications
                 WHERE next_at <= (SELECT clock_timestamp())
                 ORDER BY next_at
                 LIMIT $1
                   FOR UPDATE SKIP LOCKED
            )
            UPDATE notifications n
               SET next_at = clock_timestamp() + $2 * interval '1 microsecond', claims = least(n.claims + 1, 32767)
              FROM claimed
             WHERE n.id = claimed.id
            RETURNING n.id, n.claims",
        )
        .bind(limit)
        .bind(micros(hold))
        .fetch_all(&self.pool)
        .await
        .map_err(during("claim_fanout"))?;
        let claimed = claimed.into_iter().map(|(id, claims)| ClaimedFanout {
            notification: NotificationId(id),
            claims: u16::try_from(claims).unwrap_or(0),
        });
        Ok(claimed.collect())
    }

    pub(crate) async fn expand<F>(
        &self,
        id: NotificationId,
        page: usize,
        hold: Duration,
        mut resolve: F,
    ) -> Result<Expanded>
    where
        F: FnMut(&NewNotification, &UserId, &[Subscription], Timestamp) -> Resolved + Send,
    {
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let Some(row) = lock(&mut tx, NEXT_PAGE, id).await.map_err(during(OPERATION))? else {
            return Ok(Expanded::Stale);
        };
        let due = DueNotification::read(&row)?;
        if due.expired {
            move_cursor(&mut tx, id, None, hold).await.map_err(during(OPERATION))?;
            tx.commit().await.map_err(during(OPERATION))?;
            return Ok(Expanded::Expired);
        }
        let Notification { app, user, .. } = &*due.notification;
        let subscriptions = page_of_subscriptions(&mut tx, app, user, due.cursor, page).await?;
        let more = subscriptions.len() == page;
        let mut resolved = Resolved::default();
        if !subscriptions.is_empty() || due.cursor.is_none() {
            resolved = resolve(&due.new, user, &subscriptions, due.now);
        }
        // Nothing is taken here: a page is far more than one worker's budget, and its hints spread it over all.
        let (lane, received_at) = (due.new.request.lane, due.new.received_at);
        let made =
            Budget::none().make(&due.notification, lane, received_at, due.now, &resolved.deliveries, &subscriptions);
        let mut rows = NewRows::default();
        rows.add(&due.notification, &made.rows);
        rows.insert(&mut tx).await.map_err(during(OPERATION))?;
        insert_events(&mut tx, &resolved.events).await.map_err(during(OPERATION))?;
        let cursor = subscriptions.last().map(|s| s.id).filter(|_| more);
        move_cursor(&mut tx, id, cursor, hold).await.map_err(during(OPERATION))?;
        // Dying before this: the page is not made, and comes up again after the hold.
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(if more { Expanded::More(made.due.len()) } else { Expanded::Done(made.due.len()) })
    }

    pub(crate) async fn park_fanout<F>(&self, id: NotificationId, letter: F) -> Result<bool>
    where
        F: FnOnce(NewNotification, Timestamp) -> (DeadLetter, Vec<OutboxEvent>) + Send,
    {
        const OPERATION: &str = "park_fanout";
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let Some(row) = lock(&mut tx, GIVE_UP, id).await.map_err(during(OPERATION))? else { return Ok(false) };
        let due = DueNotification::read(&row)?;
        let (letter, events) = letter(due.new, due.now);
        insert_letters(&mut tx, &[&letter]).await.map_err(during(OPERATION))?;
        insert_events(&mut tx, &events).await.map_err(during(OPERATION))?;
        match due.cursor {
            None => delete(&mut tx, id).await.map_err(during(OPERATION))?,
            Some(_) => move_cursor(&mut tx, id, None, Duration::ZERO).await.map_err(during(OPERATION))?,
        }
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(true)
    }
}

/// A notification that is due itself, as it was stored.
struct DueNotification {
    notification: Arc<Notification>,
    new: NewNotification,
    cursor: Option<Unsid>,
    expired: bool,
    now: Timestamp,
}

impl DueNotification {
    fn read(row: &PgRow) -> Result<Self> {
        let columns = Columns::new(row, OPERATION);
        let notification = notification(&columns)?;
        let (lane, received_at) = (columns.lane()?, columns.time("received_at")?);
        let deliver_at = columns.time_or_none("deliver_at")?;
        Ok(Self {
            new: NewNotification::of(&notification, columns.get("key")?, lane, received_at, deliver_at),
            notification: Arc::new(notification),
            cursor: columns.get::<Option<Uuid>>("cursor")?.map(Unsid),
            expired: columns.get("expired")?,
            now: columns.time("now")?,
        })
    }
}

macro_rules! due_notification {
    ($lock:literal) => {
        concat!(
            "
        SELECT id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at, cursor,
               expires_at <= clock_timestamp() AS expired, clock_timestamp() AS now
          FROM notifications
         WHERE id = $1 AND next_at IS NOT NULL
           FOR UPDATE ",
            $lock
        )
    };
}

/// Index: primary key. Skips one that another replica is at.
const NEXT_PAGE: &str = due_notification!("SKIP LOCKED");

/// Index: primary key. Whoever was killed at it may not have let go yet.
const GIVE_UP: &str = due_notification!("");

async fn lock(connection: &mut PgConnection, sql: &'static str, id: NotificationId) -> sqlx::Result<Option<PgRow>> {
    sqlx::query(sql).bind(id.0).fetch_optional(connection).await
}

/// Index: `subscriptions_of_user`.
pub(super) async fn page_of_subscriptions(
    connection: &mut PgConnection,
    app: &AppId,
    user: &UserId,
    after: Option<Unsid>,
    page: usize,
) -> Result<Vec<Subscription>> {
    let rows = sqlx::query(
        "
        SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at
          FROM subscriptions
         WHERE app_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > clock_timestamp() AND id > $3
         ORDER BY id
         LIMIT $4",
    )
    .bind(app.as_str())
    .bind(user.as_str())
    .bind(after.map_or(Uuid::nil(), |unsid| unsid.0))
    .bind(i64::try_from(page).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await
    .map_err(during(OPERATION))?;
    rows.iter().map(|row| Columns::new(row, OPERATION).subscription()).collect()
}

/// Index: primary key. Nothing refers to one without deliveries.
async fn delete(connection: &mut PgConnection, id: NotificationId) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM notifications WHERE id = $1").bind(id.0).execute(connection).await?;
    Ok(())
}

/// Goes on after `cursor`, or is complete without one. With its first page a scheduled notification is there for its user:
/// that is a change. Index: primary key.
async fn move_cursor(
    connection: &mut PgConnection,
    id: NotificationId,
    cursor: Option<Unsid>,
    hold: Duration,
) -> sqlx::Result<()> {
    sqlx::query(
        "
        UPDATE notifications
           SET cursor = $2, claims = 0,
               changed = CASE WHEN cursor IS NULL THEN pg_current_xact_id()::text::bigint ELSE changed END,
               next_at = CASE WHEN $2 IS NOT NULL THEN clock_timestamp() + $3 * interval '1 microsecond' END
         WHERE id = $1",
    )
    .bind(id.0)
    .bind(cursor.map(|unsid| unsid.0))
    .bind(micros(hold))
    .execute(connection)
    .await?;
    Ok(())
}
