//! Sweep: what has outlived its use is closed, then deleted, in small steps.
//!
//! Beside the way. Each step is a transaction of its own and skips what others hold, so every replica may sweep.

use std::time::Duration;

use crate::{Closed, Inner, Result, Store};

/// An ended subscription still names its user for this long (docs/requests.md).
pub(crate) const KEEP_SUBSCRIPTIONS: Duration = Duration::from_secs(90 * 24 * 3600);

/// What one sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Open deliveries of expired notifications, now [`Expired`](herald_core::delivery::State::Expired).
    pub expired: Vec<Closed>,
    /// Notifications whose life was found to be over.
    pub notifications_expired: u64,
    /// Notifications deleted, with their deliveries.
    pub notifications_deleted: u64,
    /// Subscriptions that were not renewed in time, now ended.
    pub subscriptions_expired: u64,
    /// Subscriptions deleted, 90 days after their end.
    pub subscriptions_deleted: u64,
    /// Old counts of the mass-failure guard and pauses that are over.
    pub counts_deleted: u64,
    /// Some step did all that its limit allows: sweep again soon.
    pub more: bool,
}

impl Swept {
    /// The same, and whether some step did all that its limit allows.
    pub(crate) fn within(self, limit: i64) -> Self {
        let most = self
            .notifications_expired
            .max(self.notifications_deleted)
            .max(self.subscriptions_expired)
            .max(self.subscriptions_deleted);
        Self { more: i64::try_from(most).is_ok_and(|most| most >= limit), ..self }
    }
}

impl Store {
    /// Sweeps once, each kind by `limit` rows at most. Expired notifications are deleted `keep` after their expiry.
    ///
    /// # Errors
    /// As any call; the steps before the failing one are done.
    pub async fn sweep(&self, limit: i64, keep: Duration) -> Result<Swept> {
        self.within("sweep", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.sweep(limit.max(1), keep, self.teller()).await,
                Inner::Sqlite(lite) => lite.sweep(limit.max(1), keep, self.teller.clone()).await,
            }
        })
        .await
    }
}
