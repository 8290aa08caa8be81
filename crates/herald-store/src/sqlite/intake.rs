//! Intake: the requests of a batch in turn, in one job.

use std::sync::Arc;
use std::time::Duration;

use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::request::Target;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use herald_sqlite::Fault;
use herald_sqlite::rusqlite::params;

use super::deliveries::insert_deliveries;
use super::fanout::set_due;
use super::outbox::insert_events;
use super::reading::next_change;
use super::rows::{first, lane_number, stored};
use super::subscriptions::active_subscriptions;
use super::{JobResult, Sqlite, Tx};
use crate::deliveries::{Budget, Made};
use crate::intake::too_wide;
use crate::{FANOUT_LIMIT, Intaken, NewNotification, Resolved, Result};

impl Sqlite {
    pub(crate) async fn intake<F>(
        &self,
        batch: Vec<NewNotification>,
        budget: usize,
        lease: Duration,
        resolve: F,
    ) -> Result<Vec<Intaken>>
    where
        F: FnMut(&NewNotification, &UserId, &[Subscription], Timestamp) -> Resolved + Send + 'static,
    {
        self.write("intake", move |tx| {
            let mut intake = Intake { tx, budget: Budget { left: budget, lease }, devices: 0, resolve };
            batch.into_iter().map(|new| intake.one(new)).collect()
        })
        .await
    }
}

/// A batch on its way in.
struct Intake<'a, F> {
    tx: &'a Tx<'a>,
    budget: Budget,
    /// Subscriptions resolved so far.
    devices: usize,
    resolve: F,
}

impl<F> Intake<'_, F>
where
    F: FnMut(&NewNotification, &UserId, &[Subscription], Timestamp) -> Resolved,
{
    fn one(&mut self, new: NewNotification) -> JobResult<Intaken> {
        let tx = self.tx;
        let Some(user) = user(tx, &new)? else { return Ok(Intaken::UnknownTarget) };
        let at = tx.now();
        let scheduled = new.request.deliver_at.filter(|deliver_at| *deliver_at > at);
        if !insert_notification(tx, &new, &user, scheduled)? {
            return Ok(Intaken::Duplicate);
        }
        let subscriptions = match scheduled {
            Some(_) => None,
            None => self.resolvable(&new, &user, at)?,
        };
        let deferred_fanout = subscriptions.is_none();
        let (mut resolved, subscriptions) = (Resolved::default(), subscriptions.unwrap_or_default());
        if !deferred_fanout {
            resolved = (self.resolve)(&new, &user, &subscriptions, at);
        }
        let (lane, received_at) = (new.request.lane, new.received_at);
        let notification = Arc::new(new.notification(user));
        let Made { rows, taken, due } =
            self.budget.make(&notification, lane, received_at, at, &resolved.deliveries, &subscriptions);
        insert_deliveries(tx, &notification, &rows)?;
        insert_events(tx, &resolved.events)?;
        Ok(Intaken::Stored { notification, taken, due, deferred_fanout })
    }

    /// The user's active subscriptions. None if they are too many for this job: the notification is due itself then.
    fn resolvable(
        &mut self,
        new: &NewNotification,
        user: &UserId,
        at: Timestamp,
    ) -> JobResult<Option<Vec<Subscription>>> {
        let subscriptions = active_subscriptions(self.tx, &new.request.app, user, None, FANOUT_LIMIT + 1)?;
        if too_wide(subscriptions.len(), self.devices) {
            set_due(self.tx, new.id, Some(at))?;
            return Ok(None);
        }
        self.devices += subscriptions.len();
        Ok(Some(subscriptions))
    }
}

/// The user of a request; none if it names a subscription that its app never had.
fn user(tx: &Tx<'_>, new: &NewNotification) -> JobResult<Option<UserId>> {
    match &new.request.target {
        Target::User(user) => Ok(Some(user.clone())),
        Target::Unsid(unsid) => owner(tx, *unsid, &new.request.app),
    }
}

/// The user of a subscription of this app, ended ones too: an ended one still names its user.
///
/// Index: primary key.
fn owner(tx: &Tx<'_>, unsid: Unsid, app: &AppId) -> JobResult<Option<UserId>> {
    let mut by_id = tx.connection.prepare_cached("SELECT user_id FROM subscriptions WHERE id = ?1 AND app_id = ?2")?;
    first(&mut by_id, params![unsid.0, app.as_str()], |columns| columns.user())
}

/// Inserts a notification if its key is new, and says whether it was.
///
/// Index: that of `UNIQUE (app_id, user_id, key)`.
fn insert_notification(
    tx: &Tx<'_>,
    new: &NewNotification,
    user: &UserId,
    next_at: Option<Timestamp>,
) -> JobResult<bool> {
    let (NotificationId(id), request) = (new.id, &new.request);
    let content =
        serde_json::to_string(&request.content).map_err(|_| Fault::Defect("a content can't be written".to_owned()))?;
    let changed = next_change(tx)?;
    let mut insert = tx.connection.prepare_cached(
        "
        INSERT INTO notifications (id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at, next_at,
                                   app_notification_id, changed)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
            ON CONFLICT (app_id, user_id, key) DO NOTHING",
    )?;
    let inserted = insert.execute(params![
        id,
        request.app.as_str(),
        user.as_str(),
        request.key,
        lane_number(request.lane),
        content,
        stored(new.received_at),
        stored(request.expires_at),
        request.deliver_at.map(stored),
        next_at.map(stored),
        request.content.app_notification_id,
        changed,
    ])?;
    Ok(inserted > 0)
}
