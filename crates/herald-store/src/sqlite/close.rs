//! Closing open deliveries other than by a record: receipts, withdrawals, expiry. All return what the rows were like
//! before, and tell those who asked in the same job.

use herald_core::delivery::State;
use herald_core::ids::{AppId, DeliveryId, NotificationId, Unsid, UserId};
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::outbox::insert_events;
use super::rows::{first, stored};
use super::take::Notifications;
use super::{JobResult, Tx};
use crate::{Closed, Teller};

/// Closes those of these deliveries that are open.
///
/// Index: primary key.
pub(crate) fn close_deliveries(tx: &Tx<'_>, deliveries: &[Uuid], as_state: State) -> JobResult<Vec<Closed>> {
    let at = tx.now();
    let mut close = tx.connection.prepare_cached(
        "
        UPDATE deliveries
           SET state = ?2, next_at = NULL, version = version + 1, closed_at = ?3
         WHERE id = ?1",
    )?;
    let mut all = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let Some(Closing { closed, .. }) = closing(tx, *delivery, as_state, at)? else { continue };
        if closed.had.is_open() {
            close.execute(params![delivery, as_state.number(), stored(at)])?;
            all.push(closed);
        }
    }
    Ok(all)
}

/// What closing a delivery comes to.
pub(crate) struct Closing {
    /// As it is now, and as it is then; the same state if it is closed already.
    pub(crate) closed: Closed,
    /// It has a receipt.
    pub(crate) received: bool,
}

/// Looks at a delivery that is to be closed; writes nothing.
///
/// Index: primary key.
pub(crate) fn closing(tx: &Tx<'_>, id: Uuid, as_state: State, at: Timestamp) -> JobResult<Option<Closing>> {
    let mut by_id = tx.connection.prepare_cached(
        "
        SELECT id, notification_id, unsid, app_id, provider, lane, form, state, deadline_at, fallback_delay_ms,
               json_extract(attempts, '$[0].at') AS first_attempt_at, received_at IS NOT NULL AS received
          FROM deliveries
         WHERE id = ?1",
    )?;
    first(&mut by_id, [id], |columns| {
        let had = columns.state("state")?;
        let first_attempt_at: Option<String> = columns.get("first_attempt_at")?;
        let closed = Closed {
            delivery: DeliveryId(columns.get("id")?),
            notification: NotificationId(columns.get("notification_id")?),
            unsid: Unsid(columns.get("unsid")?),
            app: columns.app()?,
            provider: columns.provider()?,
            lane: columns.lane()?,
            form: columns.form()?,
            had,
            state: if had.is_open() { as_state } else { had },
            deadline_at: columns.time_or_none("deadline_at")?,
            fallback_pending: had.is_open() && columns.get::<Option<i64>>("fallback_delay_ms")?.is_some(),
            first_attempt_at: first_attempt_at.as_deref().and_then(Timestamp::parse_rfc3339),
            at,
        };
        Ok(Closing { closed, received: columns.get("received")? })
    })
}

/// The open deliveries of these notifications.
///
/// Index: `deliveries_of_notification`.
pub(crate) fn open_deliveries_of(tx: &Tx<'_>, notifications: &[Uuid]) -> JobResult<Vec<Uuid>> {
    let mut open =
        tx.connection.prepare_cached("SELECT id FROM deliveries WHERE notification_id = ?1 AND state < 10")?;
    let mut all = Vec::new();
    for notification in notifications {
        for id in open.query_map([notification], |row| row.get(0))? {
            all.push(id?);
        }
    }
    Ok(all)
}

/// The open deliveries of a notification that push its content. State pushes (form 3) tell of what its user did with it, and
/// are not withdrawn by that.
///
/// Index: `deliveries_of_notification`.
pub(crate) fn open_pushes_of(tx: &Tx<'_>, notification: NotificationId) -> JobResult<Vec<Uuid>> {
    let mut open = tx
        .connection
        .prepare_cached("SELECT id FROM deliveries WHERE notification_id = ?1 AND state < 10 AND form <> 3")?;
    open.query_and_then([notification.0], |row| Ok(row.get(0)?))?.collect()
}

/// The open deliveries to these subscriptions.
///
/// Indexes: that of `UNIQUE (app_id, user_id, key)` by its first two columns, then `deliveries_of_notification`. Ending is
/// rare and a user's notifications are few; an index of open deliveries by subscription would be paid for by every one.
pub(crate) fn open_deliveries_to(tx: &Tx<'_>, subscriptions: &[(Unsid, AppId, UserId)]) -> JobResult<Vec<Uuid>> {
    // SQLite reads the tables of a CROSS JOIN in the order given.
    let mut open = tx.connection.prepare_cached(
        "
        SELECT d.id
          FROM notifications n
         CROSS JOIN deliveries d ON d.notification_id = n.id AND d.unsid = ?1
         WHERE n.app_id = ?2 AND n.user_id = ?3 AND d.state < 10",
    )?;
    let mut all = Vec::new();
    for (unsid, app, user) in subscriptions {
        for id in open.query_map(params![unsid.0, app.as_str(), user.as_str()], |row| row.get(0))? {
            all.push(id?);
        }
    }
    Ok(all)
}

/// Writes the events of closed deliveries, for the apps that asked.
pub(crate) fn tell(tx: &Tx<'_>, closed: &[Closed], teller: Option<&Teller>) -> JobResult<()> {
    let Some(teller) = teller else { return Ok(()) };
    let mut notifications = Notifications::default();
    for closed in closed.iter().filter(|closed| (teller.wanted)(&closed.app)) {
        if let Some((notification, _)) = notifications.read(tx, closed.notification)? {
            insert_events(tx, &(teller.tell)(closed, &notification))?;
        }
    }
    Ok(())
}
