//! Take: the compare-and-set on the version, and what a push needs to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use herald_core::delivery::{Delivery, State};
use herald_core::ids::{NotificationId, Unsid};
use herald_core::lane::Hint;
use herald_core::notification::{Content, Notification};
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::params;

use super::close::close_deliveries;
use super::rows::{Columns, stored};
use super::subscriptions::read_known;
use super::{JobResult, Sqlite, Tx};
use crate::{Result, Taken};

/// Takes are counted up to this, as on PostgreSQL.
const MOST_TAKES: u16 = 32_767;

impl Sqlite {
    pub(crate) async fn take(&self, hints: &[Hint], lease: Duration) -> Result<Vec<Taken>> {
        let hints = hints.to_vec();
        self.write("take", move |tx| {
            let taken_at = tx.now();
            let mut notifications = Notifications::default();
            let mut taken = Vec::with_capacity(hints.len());
            for hint in &hints {
                let Some(mut one) = open_at_version(tx, *hint, &mut notifications, taken_at)? else { continue };
                let delivery = &mut one.delivery;
                delivery.version += 1;
                delivery.takes = delivery.takes.saturating_add(1).min(MOST_TAKES);
                delivery.state = State::Sending;
                let first_deadline = || delivery.fallback_delay.map(|delay| taken_at.plus(delay));
                delivery.deadline_at = delivery.deadline_at.or_else(first_deadline);
                write_take(tx, delivery, taken_at.plus(lease))?;
                taken.push(one);
            }
            Ok(taken)
        })
        .await
    }
}

/// An open delivery with all that belongs to it as it is now, before its take. None if its version is another one by now.
///
/// Index: primary key.
fn open_at_version(
    tx: &Tx<'_>,
    hint: Hint,
    notifications: &mut Notifications,
    now: Timestamp,
) -> JobResult<Option<Taken>> {
    let mut open = tx.connection.prepare_cached(
        "
        SELECT id, notification_id, unsid, version, state, form, lane, fallback_delay_ms, deadline_at, takes, attempt_count,
               json_extract(attempts, '$[#-1]') AS last_attempt
          FROM deliveries
         WHERE id = ?1 AND version = ?2 AND state < 10",
    )?;
    let mut rows = open.query(params![hint.delivery.0, hint.version])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let columns = Columns(row);
    let notification = notifications.read(tx, NotificationId(columns.get("notification_id")?))?;
    let known = read_known(tx, Unsid(columns.get("unsid")?))?;
    let Some(((notification, received_at), known)) = notification.zip(known) else {
        // The user was erased while this was being stored, or the sweep deleted what had ended long ago: nothing is left to
        // push, and without an end the row would be due again after each lease.
        close_deliveries(tx, &[hint.delivery.0], State::Withdrawn)?;
        return Ok(None);
    };
    let delivery = columns.delivery(notification.expires_at)?;
    Ok(Some(Taken {
        delivery,
        was: delivery.state,
        notification,
        subscription: known.subscription,
        subscription_active: known.active,
        gone_at: columns.last_attempt()?.and_then(|attempt| attempt.gone_at()),
        received_at,
        taken_at: now,
    }))
}

/// Index: primary key.
fn write_take(tx: &Tx<'_>, delivery: &Delivery, lease_ends: Timestamp) -> JobResult<()> {
    let mut take = tx.connection.prepare_cached(
        "
        UPDATE deliveries
           SET version = ?2, takes = ?3, state = ?4, next_at = ?5, deadline_at = ?6
         WHERE id = ?1",
    )?;
    take.execute(params![
        delivery.id.0,
        delivery.version,
        delivery.takes,
        delivery.state.number(),
        stored(lease_ends),
        delivery.deadline_at.map(stored),
    ])?;
    Ok(())
}

/// Notifications with the time their request came in, each read once in a job; shared, so that a fan-out holds its content
/// once.
#[derive(Default)]
pub(crate) struct Notifications {
    read: HashMap<NotificationId, (Arc<Notification>, Timestamp)>,
}

impl Notifications {
    /// None if there is none by now. Index: primary key.
    pub(crate) fn read(
        &mut self,
        tx: &Tx<'_>,
        id: NotificationId,
    ) -> JobResult<Option<(Arc<Notification>, Timestamp)>> {
        if let Some(read) = self.read.get(&id) {
            return Ok(Some(read.clone()));
        }
        let mut by_id = tx.connection.prepare_cached(
            "
            SELECT id, app_id, user_id, content, expires_at, received_at
              FROM notifications
             WHERE id = ?1",
        )?;
        let mut rows = by_id.query([id.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let columns = Columns(row);
        let read = (Arc::new(notification(&columns)?), columns.time("received_at")?);
        self.read.insert(id, read.clone());
        Ok(Some(read))
    }
}

/// Columns of `notifications`.
pub(crate) fn notification(columns: &Columns<'_>) -> JobResult<Notification> {
    Ok(Notification {
        id: NotificationId(columns.get("id")?),
        app: columns.app()?,
        user: columns.user()?,
        content: columns.json::<Content>("content")?,
        expires_at: columns.time("expires_at")?,
    })
}
