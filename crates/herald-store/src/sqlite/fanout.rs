//! Fan-out: pages of subscriptions, the cursor on the notification's row.

use std::sync::Arc;
use std::time::Duration;

use herald_core::event::OutboxEvent;
use herald_core::ids::{NotificationId, Unsid, UserId};
use herald_core::notification::Notification;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::dead::insert_letters;
use super::deliveries::insert_deliveries;
use super::outbox::insert_events;
use super::reading::next_change;
use super::rows::{first, stored};
use super::subscriptions::active_subscriptions;
use super::take::notification;
use super::{JobResult, Sqlite, Tx};
use crate::deliveries::Budget;
use crate::{ClaimedFanout, DeadLetter, Expanded, NewNotification, Resolved, Result};

impl Sqlite {
    pub(crate) async fn claim_fanout(&self, limit: i64, hold: Duration) -> Result<Vec<ClaimedFanout>> {
        self.write("claim_fanout", move |tx| {
            let now = tx.now();
            let due = due_notifications(tx, limit, now)?;
            due.into_iter()
                .map(|id| Ok(ClaimedFanout { notification: id, claims: claim(tx, id, now.plus(hold))? }))
                .collect()
        })
        .await
    }

    pub(crate) async fn expand<F>(
        &self,
        id: NotificationId,
        page: usize,
        hold: Duration,
        mut resolve: F,
    ) -> Result<Expanded>
    where
        F: FnMut(&NewNotification, &UserId, &[Subscription], Timestamp) -> Resolved + Send + 'static,
    {
        self.write("expand", move |tx| {
            let Some(due) = due_notification(tx, id)? else { return Ok(Expanded::Stale) };
            let DueNotification { notification, new, cursor } = &due;
            let now = tx.now();
            if notification.expires_at <= now {
                move_cursor(tx, id, None, now)?;
                return Ok(Expanded::Expired);
            }
            let subscriptions = active_subscriptions(tx, &notification.app, &notification.user, *cursor, page)?;
            let more = subscriptions.len() == page;
            let mut resolved = Resolved::default();
            if !subscriptions.is_empty() || cursor.is_none() {
                resolved = resolve(new, &notification.user, &subscriptions, now);
            }
            // Nothing is taken here: its hints bring the page to the worker as fast as it can push.
            let (lane, received_at) = (new.request.lane, new.received_at);
            let made = Budget::none().make(notification, lane, received_at, now, &resolved.deliveries, &subscriptions);
            insert_deliveries(tx, notification, &made.rows)?;
            insert_events(tx, &resolved.events)?;
            let cursor = subscriptions.last().map(|s| s.id).filter(|_| more);
            move_cursor(tx, id, cursor, now.plus(hold))?;
            Ok(if more { Expanded::More(made.due.len()) } else { Expanded::Done(made.due.len()) })
        })
        .await
    }

    pub(crate) async fn park_fanout<F>(&self, id: NotificationId, letter: F) -> Result<bool>
    where
        F: FnOnce(NewNotification, Timestamp) -> (DeadLetter, Vec<OutboxEvent>) + Send + 'static,
    {
        self.write("park_fanout", move |tx| {
            let Some(due) = due_notification(tx, id)? else { return Ok(false) };
            let now = tx.now();
            let (letter, events) = letter(due.new, now);
            insert_letters(tx, &[letter])?;
            insert_events(tx, &events)?;
            match due.cursor {
                None => delete(tx, id)?,
                Some(_) => move_cursor(tx, id, None, now)?,
            }
            Ok(true)
        })
        .await
    }
}

/// Oldest first. Index: `notifications_due`.
fn due_notifications(tx: &Tx<'_>, limit: i64, now: Timestamp) -> JobResult<Vec<NotificationId>> {
    let mut due =
        tx.connection.prepare_cached("SELECT id FROM notifications WHERE next_at <= ?1 ORDER BY next_at LIMIT ?2")?;
    // SQLite takes a negative limit for none.
    let rows = due.query_and_then(params![stored(now), limit.max(0)], |row| Ok(NotificationId(row.get(0)?)))?;
    rows.collect()
}

/// Says how often it has been claimed since its last page. Index: primary key.
fn claim(tx: &Tx<'_>, id: NotificationId, hold_ends: Timestamp) -> JobResult<u16> {
    let mut claim = tx.connection.prepare_cached(
        "UPDATE notifications SET next_at = ?2, claims = min(claims + 1, 32767) WHERE id = ?1 RETURNING claims",
    )?;
    Ok(claim.query_row(params![id.0, stored(hold_ends)], |row| row.get(0))?)
}

/// Index: primary key. Nothing refers to one without deliveries.
fn delete(tx: &Tx<'_>, id: NotificationId) -> JobResult<()> {
    tx.connection.prepare_cached("DELETE FROM notifications WHERE id = ?1")?.execute([id.0])?;
    Ok(())
}

/// Says when a notification is due itself. Index: primary key.
pub(crate) fn set_due(tx: &Tx<'_>, id: NotificationId, next_at: Option<Timestamp>) -> JobResult<()> {
    let mut set = tx.connection.prepare_cached("UPDATE notifications SET next_at = ?2 WHERE id = ?1")?;
    set.execute(params![id.0, next_at.map(stored)])?;
    Ok(())
}

/// A notification that is due itself, as it was stored.
struct DueNotification {
    notification: Arc<Notification>,
    new: NewNotification,
    cursor: Option<Unsid>,
}

/// Index: primary key.
fn due_notification(tx: &Tx<'_>, id: NotificationId) -> JobResult<Option<DueNotification>> {
    let mut by_id = tx.connection.prepare_cached(
        "
        SELECT id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at, cursor
          FROM notifications
         WHERE id = ?1 AND next_at IS NOT NULL",
    )?;
    first(&mut by_id, [id.0], |columns| {
        let notification = notification(columns)?;
        let (lane, received_at) = (columns.lane()?, columns.time("received_at")?);
        let deliver_at = columns.time_or_none("deliver_at")?;
        Ok(DueNotification {
            new: NewNotification::of(&notification, columns.get("key")?, lane, received_at, deliver_at),
            notification: Arc::new(notification),
            cursor: columns.get::<Option<Uuid>>("cursor")?.map(Unsid),
        })
    })
}

/// Goes on after `cursor` at `next_at`, or is complete without one. With its first page a scheduled notification is there for
/// its user: that is a change. Index: primary key.
fn move_cursor(tx: &Tx<'_>, id: NotificationId, cursor: Option<Unsid>, next_at: Timestamp) -> JobResult<()> {
    let changed = next_change(tx)?;
    let mut set = tx.connection.prepare_cached(
        "
        UPDATE notifications
           SET cursor = ?2, next_at = ?3, claims = 0, changed = CASE WHEN cursor IS NULL THEN ?4 ELSE changed END
         WHERE id = ?1",
    )?;
    set.execute(params![id.0, cursor.map(|unsid| unsid.0), cursor.map(|_| stored(next_at)), changed])?;
    Ok(())
}
