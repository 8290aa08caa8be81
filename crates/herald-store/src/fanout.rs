//! A notification that is due itself: a scheduled send, or one with very many subscriptions.
//!
//! Stands between intake and due: intake stored the notification without deliveries; here they are made, a page of
//! subscriptions per transaction, with the cursor on the notification's row. A crash between pages resumes at the cursor.

use std::time::Duration;

use herald_core::event::OutboxEvent;
use herald_core::ids::{NotificationId, UserId};
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;

use crate::{DeadLetter, Inner, NewNotification, Resolved, Result, Store};

/// Intake resolves at most this many subscriptions of one notification at once (protocol step 9).
pub const FANOUT_LIMIT: usize = 1_000;

/// What one page of a fan-out came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expanded {
    /// This many deliveries are due now; there are more subscriptions: go on.
    More(usize),
    /// This many deliveries are due now; it is complete.
    Done(usize),
    /// It expired first; nothing was made and it is no longer due.
    Expired,
    /// Nothing to do: complete, withdrawn, deleted, or another replica is at it.
    Stale,
}

/// A notification that is due itself, and claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedFanout {
    /// Which.
    pub notification: NotificationId,
    /// Claims since its last page was made, this one included.
    pub claims: u16,
}

impl Store {
    /// Claims up to `limit` notifications that are due themselves, for `hold`, oldest first.
    ///
    /// # Errors
    /// As any call; what may have been claimed unseen comes back after the hold.
    pub async fn claim_fanout(&self, limit: i64, hold: Duration) -> Result<Vec<ClaimedFanout>> {
        self.within("claim_fanout", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.claim_fanout(limit, hold).await,
                Inner::Sqlite(lite) => lite.claim_fanout(limit, hold).await,
            }
        })
        .await
    }

    /// Makes the deliveries of the next `page` subscriptions, all due now, in one transaction. Until it is
    /// [`Expanded::Done`], the notification stays claimed for another `hold` after each page.
    ///
    /// `resolve` is asked once for each page; the request it sees is as intake stored it, with the user as its target. It
    /// is asked with no subscriptions only if the user has none at all.
    ///
    /// # Errors
    /// As any call; the page is made whole or not at all.
    pub async fn expand<F>(
        &self,
        notification: NotificationId,
        page: usize,
        hold: Duration,
        resolve: F,
    ) -> Result<Expanded>
    where
        F: FnMut(&NewNotification, &UserId, &[Subscription], Timestamp) -> Resolved + Send + 'static,
    {
        self.within("expand", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.expand(notification, page.max(1), hold, resolve).await,
                Inner::Sqlite(lite) => lite.expand(notification, page.max(1), hold, resolve).await,
            }
        })
        .await
    }

    /// Gives up a notification that is due itself: stores the dead letter that `letter` makes of it, and the events about it,
    /// in the transaction that ends it. If no page of it was made, it is deleted, so that a replay of the letter is no
    /// duplicate; what was made of it goes its way. Says whether there was something to give up.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn park_fanout<F>(&self, notification: NotificationId, letter: F) -> Result<bool>
    where
        F: FnOnce(NewNotification, Timestamp) -> (DeadLetter, Vec<OutboxEvent>) + Send + 'static,
    {
        self.within("park_fanout", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.park_fanout(notification, letter).await,
                Inner::Sqlite(lite) => lite.park_fanout(notification, letter).await,
            }
        })
        .await
    }
}
