//! Push: a taken delivery is handed to its provider, if it still may be.
//!
//! Stands between take and record. Whatever happens, the delivery reaches the record with what happened to it; the only way
//! out besides is the death of the process, and then the lease ends.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use herald_core::breaker::Admission;
use herald_core::delivery::{Delivery, Event, Take, at_take};
use herald_core::lane::DispatchQueue;
use herald_core::outcome::Classified;
use herald_core::push::{Context, Form};
use herald_core::retry::HELD_SPREAD;
use herald_core::time::Timestamp;
use herald_store::Taken;
use tokio::time::Instant;
use tracing::{debug, error};

use crate::budget::{Permit, Permits};
use crate::lease::Lease;
use crate::poison_for_tests::{self, Place};
use crate::provider;
use crate::watchdog::watched;
use crate::way::Way;

/// How long a delivery is held that this worker's configuration has no app or credentials for: perhaps it is only behind.
const UNKNOWN_APP_HOLD: Duration = Duration::from_secs(15 * 60);
/// The clients keep the attempt's limit themselves, and know then whether the push was sent; this is the net below them.
const GRACE: Duration = Duration::from_millis(500);

/// A take that is over: what became of it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) taken: Taken,
    pub(crate) end: End,
    /// Given back when the record is committed. Isolated work has none.
    #[expect(dead_code, reason = "it is held, not read; dropping it gives it back")]
    pub(crate) permit: Option<Permit>,
}

/// How a take ended.
#[derive(Debug)]
pub(crate) enum End {
    /// A push was handed to the provider.
    Attempted(Attempted),
    /// Nothing was pushed, and this is why.
    NotPushed(Event),
}

/// One push, and what it came to.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) form: Form,
    pub(crate) at: Timestamp,
    pub(crate) took: Duration,
    pub(crate) classified: Classified,
    /// When the latest push began that was known to have been accepted, of the same app, provider and environment, before
    /// this one began.
    pub(crate) accepted_at: Option<Timestamp>,
}

/// Starts a push for each taken delivery. There must be a permit for each.
pub(crate) fn start(way: &Arc<Way>, taken: Vec<Taken>, permits: &mut Permits, lease: Lease) {
    for taken in taken {
        let Some(permit) = permits.one(&taken.notification.app) else {
            // More was taken than asked for: the lease brings it back.
            error!(delivery.id = %taken.delivery.id, "a delivery was taken without a permit; its lease will end");
            continue;
        };
        let way = Arc::clone(way);
        way.pushes.spawn({
            let way = Arc::clone(&way);
            async move { watched("push", push(&way, taken, permit, lease)).await }
        });
    }
}

async fn push(way: &Way, taken: Taken, permit: Permit, lease: Lease) {
    // A panic inside one delivery parks that delivery and nothing else.
    let end = match AssertUnwindSafe(attempt(way, &taken, lease)).catch_unwind().await {
        Ok(end) => end,
        Err(_panic) => {
            error!(delivery.id = %taken.delivery.id, "a push panicked; the delivery is parked as poison");
            End::NotPushed(Event::Poisoned)
        }
    };
    // The record ends only after every push has: it can't be gone.
    if way.done.send(Done { taken, end, permit: Some(permit) }).await.is_err() {
        error!("the record ended before a push did; the lease will bring the delivery back");
    }
}

async fn attempt(way: &Way, taken: &Taken, lease: Lease) -> End {
    let now = way.clock.now();
    let delivery = &taken.delivery;
    let form = match at_take(delivery, taken.subscription_active, now) {
        Take::Close(event) => return End::NotPushed(event),
        Take::Push(form) => form,
    };
    let hold = |until: Timestamp| End::NotPushed(Event::Held(until.plus(HELD_SPREAD.mul_f64(jitter(delivery)))));
    let Some(app) = way.apps.get(&taken.notification.app) else {
        debug!(app.id = %taken.notification.app, "held: the app is not configured here");
        return hold(now.plus(UNKNOWN_APP_HOLD));
    };
    let Some(provider) = taken.subscription.platform.provider().filter(|_| app.reaches(&taken.subscription)) else {
        debug!(app.id = %taken.notification.app, delivery.id = %delivery.id, "held: no credentials reach this device");
        return hold(now.plus(UNKNOWN_APP_HOLD));
    };
    // Before the breaker is asked: a probe that is not sent would never report.
    let limit = way.settings.attempt_timeout + GRACE;
    if !lease.allows(limit) {
        return End::NotPushed(Event::LeaseOver);
    }
    let queue = if form == Form::Toast { DispatchQueue::Fallback } else { delivery.lane.into() };
    if let Admission::Hold(until) = app.admit(provider, queue, now) {
        return hold(until);
    }
    let receipt = app.capability(delivery.id, taken.notification.expires_at);
    let context = Context {
        notification: &taken.notification,
        subscription: &taken.subscription,
        delivery: delivery.id,
        form,
        not_after: delivery.fallback_delay.and(delivery.deadline_at),
        receipt: &receipt,
        now,
    };
    poison_for_tests::swallow(Place::Push, &taken.notification.content);
    let accepted_at = app.accepted_at(provider, taken.subscription.environment);
    let begun = Instant::now();
    let classified = provider::send(&app.settings, context, limit).await;
    End::Attempted(Attempted { form, at: now, took: begun.elapsed(), classified, accepted_at })
}

/// Entropy in `0.0..1.0` for retries and holds: a random (v7) id and the version spread a burst well enough.
pub(crate) fn jitter(delivery: &Delivery) -> f64 {
    let [.., a, b, c, d] = delivery.id.0.into_bytes();
    let version = u32::try_from(delivery.version & 0xFFFF_FFFF).unwrap_or(0);
    let bits = u32::from_be_bytes([a, b, c, d]) ^ version.wrapping_mul(0x9E37_79B9);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}
