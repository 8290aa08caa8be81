//! Record: what a push came to, and what happens next, in one transaction.
//!
//! Last step of the way. Attempts and dead tokens are facts and always written; state and `next_at` only at the version
//! of the take, so that a worker that overslept its lease changes nothing.

use std::borrow::Cow;
use std::time::Duration;

use herald_core::delivery::{State, Step};
use herald_core::event::OutboxEvent;
use herald_core::ids::{DeliveryId, PushToken, Unsid};
use herald_core::lane::DispatchQueue;
use herald_core::outcome::Outcome;
use herald_core::push::Form;
use herald_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Closed, Inner, Result, Store, Taken};

/// One push handed to a provider, as the delivery's history keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was pushed.
    pub form: Form,
    /// When the push began, store time.
    pub at: Timestamp,
    /// Milliseconds until its outcome.
    pub took_ms: u32,
    /// [`herald_core::outcome::Outcome::as_str`].
    pub outcome: Cow<'static, str>,
    /// HTTP status; none when no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The provider's documented reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// An undocumented reason as sent, cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The provider's id of the push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
}

impl Attempt {
    /// When it was answered, if the answer was that the token is dead.
    pub(crate) fn gone_at(&self) -> Option<Timestamp> {
        // The rest of a millisecond was cut off.
        let took = Duration::from_millis(u64::from(self.took_ms) + 1);
        (self.outcome == Outcome::Gone { since: None, guarded: true }.as_str()).then(|| self.at.plus(took))
    }
}

/// What a pruning step was about: the subscription ends only if it still has this token, confirmed at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneToken {
    /// The token that was pushed to.
    pub token: PushToken,
    /// [`herald_core::subscription::Subscription::confirmed_at`] as it was then.
    pub confirmed_at: Timestamp,
}

/// What is to be recorded of a take. Made from the [`Taken`], so that the version can't be forgotten.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The version of the take.
    pub version: i64,
    /// Its subscription.
    pub unsid: Unsid,
    /// What core decided. Its `prune` counts only with a `prune_token`.
    pub step: Step,
    /// The dispatch queue it belongs to from now on ([`Step::queue`]).
    pub queue: DispatchQueue,
    /// The push, if one was made.
    pub attempt: Option<Attempt>,
    /// The token to end, if the provider says that it is dead.
    pub prune_token: Option<PruneToken>,
    /// Told only if the step is applied.
    pub events: Vec<OutboxEvent>,
}

impl Record {
    /// The record of a take: what core decided, the push if one was made, and what is told of it.
    pub fn new(taken: &Taken, step: Step, attempt: Option<Attempt>, events: Vec<OutboxEvent>) -> Self {
        let prune_token = step.prune.then(|| PruneToken {
            token: taken.subscription.token.clone(),
            confirmed_at: taken.subscription.confirmed_at,
        });
        Self {
            delivery: taken.delivery.id,
            version: taken.delivery.version,
            unsid: taken.subscription.id,
            queue: step.queue(taken.delivery.lane),
            step,
            attempt,
            prune_token,
            events,
        }
    }
}

/// What became of a record, in the order of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The row was still at the version of the take, and is now as the step says (or due, see `state`).
    pub applied: bool,
    /// The subscription was ended by this record.
    pub pruned: bool,
    /// The row's state now. [`State::Due`] after a pruning step: the subscription has another token by now, and the
    /// delivery is due at once with it. None if the row is gone.
    pub state: Option<State>,
    /// Other open deliveries that the end of the subscription withdrew.
    pub withdrawn: Vec<Closed>,
}

/// What is written of a record if its version still holds.
pub(crate) struct Next {
    pub(crate) state: State,
    pub(crate) form: Form,
    pub(crate) queue: DispatchQueue,
    pub(crate) next_at: Option<Timestamp>,
    /// [`herald_core::delivery::Failure::as_str`].
    pub(crate) failure: Option<&'static str>,
    /// The step was about a token that is not this subscription's any more: the deadline stays as it is.
    pub(crate) renewed: bool,
}

impl Next {
    /// `renewed_at`: now, if the subscription has another token by now.
    pub(crate) fn of(record: &Record, renewed_at: Option<Timestamp>) -> Self {
        let Some(now) = renewed_at else {
            let Step { state, form, next_at, failure, .. } = record.step;
            let failure = failure.map(herald_core::delivery::Failure::as_str);
            return Self { state, form, queue: record.queue, next_at, failure, renewed: false };
        };
        let form = record.attempt.as_ref().map_or(record.step.form, |attempt| attempt.form);
        let queue = if form == Form::Toast { DispatchQueue::Fallback } else { record.queue };
        Self { state: State::Due, form, queue, next_at: Some(now), failure: None, renewed: true }
    }
}

impl Store {
    /// Records a batch in one transaction. One record for each delivery; a second one for the same is as one at an old
    /// version.
    ///
    /// # Errors
    /// On any error nothing is known to be recorded. Repeating is safe for states; an attempt may then be kept twice.
    pub async fn record(&self, batch: &[Record]) -> Result<Vec<Recorded>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.within("record", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.record(batch, self.teller()).await,
                Inner::Sqlite(lite) => lite.record(batch, self.teller.clone()).await,
            }
        })
        .await
    }
}
