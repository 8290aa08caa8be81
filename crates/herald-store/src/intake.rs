//! Intake: a batch of requests becomes notifications and deliveries, in one transaction.
//!
//! First step of the way. The caller acks its messages after this returns, never before. What a request resolves to is
//! decided by the pure function handed in.

use std::sync::Arc;
use std::time::Duration;

use herald_core::event::OutboxEvent;
use herald_core::ids::{DeliveryId, NotificationId, Unsid, UserId};
use herald_core::lane::{Hint, Lane};
use herald_core::notification::Notification;
use herald_core::push::Form;
use herald_core::request::{Request, Target};
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;

use crate::{FANOUT_LIMIT, Inner, Result, Store, Taken};

/// A request to be stored.
#[derive(Debug, Clone)]
pub struct NewNotification {
    /// The id it gets if its key is new.
    pub id: NotificationId,
    /// What was asked for.
    pub request: Request,
    /// When it came in, store time.
    pub received_at: Timestamp,
}

impl NewNotification {
    /// The notification that is stored of it.
    pub(crate) fn notification(self, user: UserId) -> Notification {
        let Request { app, content, expires_at, .. } = self.request;
        Notification { id: self.id, app, user, content, expires_at }
    }

    /// What a stored notification was asked for by, with the user as its target.
    pub(crate) fn of(
        notification: &Notification,
        key: String,
        lane: Lane,
        received_at: Timestamp,
        deliver_at: Option<Timestamp>,
    ) -> Self {
        let Notification { id, app, user, content, expires_at } = notification.clone();
        let request = Request { app, target: Target::User(user), key, content, expires_at, deliver_at, lane };
        Self { id, request, received_at }
    }
}

/// Deliveries that one transaction makes at most: what is beyond it is resolved in pages, as a fan-out is.
const BATCH_LIMIT: usize = 5 * FANOUT_LIMIT;

/// Is a notification with so many devices too wide for a transaction that has `made` so many deliveries already?
pub(crate) const fn too_wide(devices: usize, made: usize) -> bool {
    devices > FANOUT_LIMIT || made + devices > BATCH_LIMIT
}

/// What a notification resolves to.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// One for each subscription that gets a push. At most one for each subscription handed in.
    pub deliveries: Vec<NewDelivery>,
    /// Events to be told (`noDevices`, `fallbackNotPossible`).
    pub events: Vec<OutboxEvent>,
}

/// A delivery to be stored.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// To which subscription; one of those handed to the resolve function.
    pub unsid: Unsid,
    /// Form of its first push.
    pub form: Form,
    /// How long after the first attempt the fallback is due; none if none is owed. At most some weeks.
    pub fallback_delay: Option<Duration>,
}

/// What became of a request, in the order of the batch.
#[derive(Debug)]
#[must_use = "what is taken must be pushed and recorded"]
pub enum Intaken {
    /// Stored now.
    Stored {
        /// What was stored.
        notification: Arc<Notification>,
        /// Deliveries that the caller may push now.
        taken: Vec<Taken>,
        /// Deliveries beyond the budget: due now, for whoever takes them. Publishing these hints is optional.
        due: Vec<Hint>,
        /// Resolved later: it is scheduled, or has more than [`crate::FANOUT_LIMIT`] subscriptions.
        deferred_fanout: bool,
    },
    /// Its key is stored already. Nothing was written.
    Duplicate,
    /// It names a subscription that this app never had. Nothing was written; it is to be parked.
    UnknownTarget,
}

impl Store {
    /// Stores a batch of requests with their deliveries, in one transaction.
    ///
    /// For every request whose key is new, `resolve` is asked once with the user's active subscriptions. Of the
    /// deliveries, the first `budget` (in the order of the batch) are taken with a lease of `lease`, the rest are due now.
    /// `resolve` is called inside the transaction: it must be pure and quick.
    ///
    /// # Errors
    /// On any error nothing is stored. After [`StoreError::Unavailable`](crate::StoreError::Unavailable) it is not known
    /// whether the commit happened; repeating the batch is safe, its keys see to it.
    pub async fn intake<F>(
        &self,
        batch: Vec<NewNotification>,
        budget: usize,
        lease: Duration,
        resolve: F,
    ) -> Result<Vec<Intaken>>
    where
        F: FnMut(&NewNotification, &UserId, &[Subscription], Timestamp) -> Resolved + Send + 'static,
    {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.within("intake", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.intake(batch, budget, lease, resolve).await,
                Inner::Sqlite(lite) => lite.intake(batch, budget, lease, resolve).await,
            }
        })
        .await
    }
}
