//! Take: a hint becomes the right to push, for one worker.
//!
//! Stands between a hint and the push. Whether the push is still wanted (expired, subscription ended, deadline passed) is
//! core's to decide from what is returned here.

use std::sync::Arc;
use std::time::Duration;

use herald_core::delivery::{Delivery, State};
use herald_core::lane::Hint;
use herald_core::notification::Notification;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;

use crate::{Inner, Result, Store};

/// A delivery that this worker alone may push until its lease ends. Made only by [`Store::intake`] and [`Store::take`].
#[derive(Debug, Clone)]
#[must_use = "a take that is neither recorded nor given up waits for its lease to end"]
#[non_exhaustive]
pub struct Taken {
    /// The row, at the version of this take; its record must carry that version.
    pub delivery: Delivery,
    /// Its state before the take.
    pub was: State,
    /// What to tell; shared among the notification's deliveries.
    pub notification: Arc<Notification>,
    /// Whom and where, as it is now (for a first push: as it was resolved).
    pub subscription: Subscription,
    /// Neither ended nor expired. If it is not, the delivery is to be closed, not pushed.
    pub subscription_active: bool,
    /// When the push before this one was answered, if the answer was that the token is dead.
    pub gone_at: Option<Timestamp>,
    /// When its request came in.
    pub received_at: Timestamp,
    /// Store time of the take; the lease runs from here.
    pub taken_at: Timestamp,
}

impl Store {
    /// Takes the deliveries whose version is still that of the hint. What is not returned is stale: taken, closed or
    /// deleted meanwhile; drop it. Order is not kept.
    ///
    /// The caller's own lease runs from a monotonic reading made **before** this call.
    ///
    /// # Errors
    /// As any call; what may have been taken unseen becomes due when its lease ends.
    pub async fn take(&self, hints: &[Hint], lease: Duration) -> Result<Vec<Taken>> {
        if hints.is_empty() {
            return Ok(Vec::new());
        }
        self.within("take", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.take(hints, lease).await,
                Inner::Sqlite(lite) => lite.take(hints, lease).await,
            }
        })
        .await
    }
}
