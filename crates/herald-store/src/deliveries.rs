//! New deliveries, made by intake and by fan-out and by nothing else: which are taken at once, and which are due.
//!
//! Between resolving and storing. The same for every database; writes nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use herald_core::delivery::{Delivery, State};
use herald_core::ids::Unsid;
use herald_core::lane::{DispatchQueue, Hint, Lane};
use herald_core::notification::Notification;
use herald_core::push::Form;
use herald_core::subscription::{Provider, Subscription};
use herald_core::time::Timestamp;

use crate::{NewDelivery, Taken};

/// The version of a new row.
pub(crate) const FIRST_VERSION: i64 = 1;

/// A row to be inserted.
pub(crate) struct NewRow {
    pub(crate) delivery: Delivery,
    pub(crate) unsid: Unsid,
    pub(crate) provider: Provider,
    pub(crate) next_at: Timestamp,
}

impl NewRow {
    pub(crate) fn queue(&self) -> DispatchQueue {
        if self.delivery.form == Form::Toast { DispatchQueue::Fallback } else { self.delivery.lane.into() }
    }
}

/// The deliveries of one notification: rows to be inserted, those that are taken, hints for those that are due.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) rows: Vec<NewRow>,
    pub(crate) taken: Vec<Taken>,
    pub(crate) due: Vec<Hint>,
}

/// How many more new deliveries are taken, and for how long.
pub(crate) struct Budget {
    pub(crate) left: usize,
    pub(crate) lease: Duration,
}

impl Budget {
    /// Nothing is taken.
    pub(crate) const fn none() -> Self {
        Self { left: 0, lease: Duration::ZERO }
    }

    /// Makes the deliveries of a notification: the first that are left in the budget are taken, the rest are due.
    pub(crate) fn make(
        &mut self,
        notification: &Arc<Notification>,
        lane: Lane,
        received_at: Timestamp,
        at: Timestamp,
        new: &[NewDelivery],
        subscriptions: &[Subscription],
    ) -> Made {
        let known: HashMap<Unsid, &Subscription> = subscriptions.iter().map(|s| (s.id, s)).collect();
        let mut made = Made { rows: Vec::with_capacity(new.len()), ..Made::default() };
        for new in new {
            let Some((subscription, provider)) =
                known.get(&new.unsid).and_then(|s| s.platform.provider().map(|provider| (*s, provider)))
            else {
                tracing::error!(notification.id = %notification.id, "resolved to a subscription that can't be pushed to");
                continue;
            };
            let mut delivery = Delivery {
                id: new.id,
                version: FIRST_VERSION,
                state: State::Due,
                form: new.form,
                lane,
                fallback_delay: new.fallback_delay,
                deadline_at: None,
                expires_at: notification.expires_at,
                takes: 0,
                attempts: 0,
            };
            let mut next_at = at;
            if self.left > 0 {
                self.left -= 1;
                next_at = at.plus(self.lease);
                delivery.state = State::Sending;
                delivery.takes = 1;
                delivery.deadline_at = new.fallback_delay.map(|delay| at.plus(delay));
                made.taken.push(Taken {
                    delivery,
                    was: State::Due,
                    notification: Arc::clone(notification),
                    subscription: subscription.clone(),
                    subscription_active: true,
                    gone_at: None,
                    received_at,
                    taken_at: at,
                });
            } else {
                made.due.push(Hint { delivery: new.id, version: FIRST_VERSION });
            }
            made.rows.push(NewRow { delivery, unsid: subscription.id, provider, next_at });
        }
        made
    }
}
