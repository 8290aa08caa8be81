//! History and figures: what happened to a notification, and how much is waiting.
//!
//! Beside the way: read by the gateway, metrics and tests. Changes nothing.

use std::time::Duration;

use herald_core::delivery::{Delivery, State};
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::lane::DispatchQueue;
use herald_core::notification::Notification;
use herald_core::subscription::Provider;
use herald_core::time::Timestamp;

use crate::{Attempt, Inner, Result, Store};

/// What is counted is counted up to this many.
pub(crate) const COUNT_LIMIT: i64 = 100_000;

/// All that is known of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// What it says, and to whom.
    pub notification: Notification,
    /// Its idempotency key.
    pub key: String,
    /// When its request came in.
    pub received_at: Timestamp,
    /// When it is resolved (next), if it is due itself.
    pub next_at: Option<Timestamp>,
    /// Its deliveries, at most 1,000, oldest first.
    pub deliveries: Vec<TracedDelivery>,
}

/// A delivery with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedDelivery {
    /// Its row.
    pub delivery: Delivery,
    /// To which subscription.
    pub unsid: Unsid,
    /// By which provider.
    pub provider: Provider,
    /// The dispatch queue it belongs to.
    pub queue: DispatchQueue,
    /// When there is something to do; none if it is closed.
    pub next_at: Option<Timestamp>,
    /// When the app got it, if a receipt came, in time or late.
    pub received_at: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// Its pushes, oldest first; of very many, the first and the last 31.
    pub attempts: Vec<Attempt>,
}

/// How much is waiting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// How long the oldest due delivery of each dispatch queue has been due; zero if none is. A claim for a hint counts
    /// as having been served.
    pub oldest_due: Vec<(DispatchQueue, Duration)>,
    /// Open deliveries by state.
    pub open: Vec<(State, u64)>,
    /// There are more open deliveries than were counted: the numbers in `open` are lower bounds.
    pub open_is_partial: bool,
    /// Dead letters.
    pub dead_letters: u64,
    /// Events not published yet.
    pub outbox: u64,
}

impl Store {
    /// What happened to a notification of this app.
    ///
    /// # Errors
    /// As any call.
    pub async fn trace(&self, app: &AppId, notification: NotificationId) -> Result<Option<Trace>> {
        self.within("trace", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.trace(app, notification).await,
                Inner::Sqlite(lite) => lite.trace(app, notification).await,
            }
        })
        .await
    }

    /// Of which app a notification is.
    ///
    /// # Errors
    /// As any call.
    pub async fn app_of(&self, notification: NotificationId) -> Result<Option<AppId>> {
        self.within("app_of", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.app_of(notification).await,
                Inner::Sqlite(lite) => lite.app_of(notification).await,
            }
        })
        .await
    }

    /// The notifications that their producers call so (`appNotificationId`), of these apps and, if given, this user; the
    /// newest first.
    ///
    /// # Errors
    /// As any call.
    pub async fn named(
        &self,
        apps: &[AppId],
        user: Option<&UserId>,
        name: &str,
        limit: i64,
    ) -> Result<Vec<(AppId, NotificationId)>> {
        self.within("named", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.named(apps, user, name, limit).await,
                Inner::Sqlite(lite) => lite.named(apps, user, name, limit).await,
            }
        })
        .await
    }

    /// The notification stored under an idempotency key.
    ///
    /// # Errors
    /// As any call.
    pub async fn notification_by_key(&self, app: &AppId, user: &UserId, key: &str) -> Result<Option<NotificationId>> {
        self.within("notification_by_key", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.notification_by_key(app, user, key).await,
                Inner::Sqlite(lite) => lite.notification_by_key(app, user, key).await,
            }
        })
        .await
    }

    /// How many deliveries of an app are open, those of fan-outs still to come not counted. Reads all open rows.
    ///
    /// # Errors
    /// As any call.
    pub async fn open_count(&self, app: &AppId) -> Result<u64> {
        self.within("open_count", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.open_count(app).await,
                Inner::Sqlite(lite) => lite.open_count(app).await,
            }
        })
        .await
    }

    /// How much is waiting. Bounded: counts at most 100,000 open deliveries, dead letters and events each.
    ///
    /// # Errors
    /// As any call.
    pub async fn stats(&self) -> Result<Stats> {
        self.within("stats", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.stats().await,
                Inner::Sqlite(lite) => lite.stats().await,
            }
        })
        .await
    }
}
