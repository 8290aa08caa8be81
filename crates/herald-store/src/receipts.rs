//! Receipts, reads, dismissals, deletions: an open delivery is closed in place, by one conditional update.
//!
//! Beside the way: it may come before, during or after any push. Idempotent; a late receipt is kept as a fact on the
//! closed row. Who may acknowledge what is decided before (capability or bearer).

use std::sync::Arc;
use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::{AppId, DeliveryId, NotificationId, Unsid, UserId};
use herald_core::lane::Lane;
use herald_core::push::Form;
use herald_core::subscription::Provider;
use herald_core::time::Timestamp;

use crate::{Inner, Result, Store};

/// Which delivery a receipt is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// That of a receipt capability.
    Delivery(DeliveryId),
    /// That of this notification to this subscription.
    Pair {
        /// The notification.
        notification: NotificationId,
        /// The subscription.
        unsid: Unsid,
        /// If given, the delivery must be of one of these apps; another's is unknown.
        apps: Option<Arc<[AppId]>>,
        /// If given, the notification must be this user's; another's is unknown.
        user: Option<UserId>,
    },
}

/// The app's proof that it has the notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Of which delivery.
    pub by: By,
    /// When the app says it got it. A moment in the future counts as now, and so does none.
    pub received_at: Option<Timestamp>,
}

/// A delivery that was closed other than by a record, and what it was like before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Of which notification.
    pub notification: NotificationId,
    /// To which subscription.
    pub unsid: Unsid,
    /// Of which app.
    pub app: AppId,
    /// By which provider it goes.
    pub provider: Provider,
    /// The lane its request came in by.
    pub lane: Lane,
    /// Form of its next push, had it stayed open.
    pub form: Form,
    /// Its state before.
    pub had: State,
    /// Its state now; the same as `had` for a late receipt.
    pub state: State,
    /// The fallback's deadline, if one was owed and the first push was taken.
    pub deadline_at: Option<Timestamp>,
    /// A fallback was still to come, and now is not.
    pub fallback_pending: bool,
    /// When its first recorded push began.
    pub first_attempt_at: Option<Timestamp>,
    /// Store time of the change.
    pub at: Timestamp,
}

impl Closed {
    /// How long after the first recorded push it was closed (or the late receipt came).
    pub fn took(&self) -> Option<Duration> {
        self.first_attempt_at.map(|first| self.at.since(first))
    }
}

/// What became of a receipt, in the order of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptResult {
    /// It closed the delivery.
    Closed(Closed),
    /// The delivery was closed already, without a receipt; now it has one.
    Late(Closed),
    /// The delivery had a receipt already.
    Duplicate,
    /// No such delivery, or not of that app.
    Unknown,
}

impl Store {
    /// Takes a batch of receipts in. After this returns, no toast of theirs will be taken (G3).
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn receipts(&self, batch: &[Receipt]) -> Result<Vec<ReceiptResult>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.within("receipts", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.receipts(batch, self.teller()).await,
                Inner::Sqlite(lite) => lite.receipts(batch, self.teller.clone()).await,
            }
        })
        .await
    }

    /// Withdraws all open deliveries of a notification (read, dismissed or deleted), and a fan-out still to come. Returns
    /// what it closed; nothing if the notification is not of that app.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn withdraw(&self, app: &AppId, notification: NotificationId) -> Result<Vec<Closed>> {
        self.within("withdraw", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.withdraw(app, notification, self.teller()).await,
                Inner::Sqlite(lite) => lite.withdraw(app, notification, self.teller.clone()).await,
            }
        })
        .await
    }
}
