//! Notifications that are due themselves: scheduled ones, and those to very many subscriptions.
//!
//! Stands between the store and due: page by page, each in one transaction with its cursor, the pages of several
//! notifications in turn. What is made is due and goes the usual way.

use std::sync::Arc;
use std::time::Duration;

use herald_core::ids::NotificationId;
use herald_store::{Expanded, FANOUT_LIMIT, StoreError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::clock::{HOLD, Trouble};
use crate::resolve::resolve;
use crate::way::Way;

const LOOK: Duration = Duration::from_secs(1);
/// Notifications claimed by one statement, and worked on in turn.
const CLAIM: usize = 100;

/// Resolves them until `stop`.
pub(crate) async fn run(way: Arc<Way>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    loop {
        tokio::select! {
            // Between ticks nothing is under way.
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let result = all_due(&way, &stop).await;
        trouble.note("fan-outs", &result);
    }
}

/// All that are due now, however many were scheduled for the same moment.
async fn all_due(way: &Arc<Way>, stop: &CancellationToken) -> Result<(), StoreError> {
    loop {
        let claimed = way.store.claim_fanout(i64::try_from(CLAIM).unwrap_or(i64::MAX), HOLD).await?;
        let full = claimed.len() == CLAIM;
        in_turn(way, claimed, stop).await?;
        if !full || stop.is_cancelled() {
            return Ok(());
        }
    }
}

/// A page of each, and again, until all are done. A crash between pages leaves the cursor; the hold brings it back.
async fn in_turn(way: &Arc<Way>, mut claimed: Vec<NotificationId>, stop: &CancellationToken) -> Result<(), StoreError> {
    while !claimed.is_empty() && !stop.is_cancelled() {
        let mut more = Vec::with_capacity(claimed.len());
        for notification in claimed {
            let asked = Arc::clone(way);
            let page = way.store.expand(notification, FANOUT_LIMIT, HOLD, move |new, user, active, now| {
                resolve(asked.apps.rules(&new.request.app), &asked.metrics, new, user, active, now)
            });
            match page.await {
                Ok(Expanded::More(_)) => more.push(notification),
                Ok(Expanded::Done(_) | Expanded::Expired | Expanded::Stale) => {}
                Err(error) if error.is_transient() => return Err(error),
                // One that can't be read must not hold up the others.
                Err(error) => error!(notification.id = %notification, %error, "the store refuses a page of a fan-out"),
            }
        }
        claimed = more;
    }
    Ok(())
}
