//! Sweep: what has outlived its use is closed, then deleted, in small steps.
//!
//! Beside the way. Each step is a transaction of its own and skips what others hold, so every replica may sweep.

use std::time::Duration;

use crate::{Closed, Inner, Result, Store};

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

impl Store {
    /// Sweeps once, each kind by `limit` rows at most. Expired notifications are deleted `keep` after their expiry.
    ///
    /// # Errors
    /// As any call; the steps before the failing one are done.
    pub async fn sweep(&self, limit: i64, keep: Duration) -> Result<Swept> {
        self.within("sweep", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.sweep(limit.max(1), keep, self.teller()).await,
            }
        })
        .await
    }
}
