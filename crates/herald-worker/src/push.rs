//! Push: a taken delivery is handed to its provider, if it still may be.
//!
//! Stands between take and record. Whatever happens, the delivery reaches the record with what happened to it; the only way
//! out besides is the death of the process, and then the lease ends.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use herald_core::breaker::Admission;
use herald_core::delivery::{Event, Take, at_take};
use herald_core::outcome::Classified;
use herald_core::push::{Context, Form};
use herald_core::time::Timestamp;
use herald_store::Taken;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::budget::{Permit, Permits};
use crate::lease::Lease;
use crate::provider;
use crate::way::Way;

/// How long a delivery of an app that this worker does not know is held: perhaps only its configuration is behind.
const UNKNOWN_APP_HOLD: Duration = Duration::from_secs(60);

/// The clients keep the attempt's limit themselves, and know then whether the push was sent; this is the net below them.
const GRACE: Duration = Duration::from_millis(500);

/// A take that is over: what became of it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) taken: Taken,
    pub(crate) end: End,
    /// Given back when the record is committed.
    #[expect(dead_code, reason = "it is held, not read; dropping it gives it back")]
    pub(crate) permit: Permit,
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
            async move { push(&way, taken, permit, lease).await }
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
    if way.done.send(Done { taken, end, permit }).await.is_err() {
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
    let Some(app) = way.apps.get(&taken.notification.app) else {
        warn!(app.id = %taken.notification.app, "a delivery of an app that is not configured here is held for a minute");
        return End::NotPushed(Event::Held(now.plus(UNKNOWN_APP_HOLD)));
    };
    if let Some(provider) = taken.subscription.platform.provider()
        && let Admission::Hold(until) = app.admit(provider, now)
    {
        return End::NotPushed(Event::Held(until));
    }
    let limit = way.settings.attempt_timeout + GRACE;
    if !lease.allows(limit) {
        return End::NotPushed(Event::LeaseOver);
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
    let begun = Instant::now();
    let classified = provider::send(&app.settings, context, limit).await;
    End::Attempted(Attempted { form, at: now, took: begun.elapsed(), classified })
}
