//! The life of a delivery: its states, what happens to it, and what happens next.
//!
//! Stands at the centre: intake makes a delivery ([`Delivery`]), a take asks what to push ([`at_take`]), and record asks
//! what the attempt means ([`step`]). The store writes what comes out, always guarded by the version of the take.
//!
//! # Transitions
//! `↑` is the version going up; every line but the first does so. "Owed" means that the row has a `fallback_delay`.
//!
//! | from | what happens | to | form of the next push | `next_at` |
//! | --- | --- | --- | --- | --- |
//! | – | intake, within the budget | sending | raw or alert | the lease's end |
//! | – | intake, beyond the budget | due | raw or alert | now |
//! | due, watching, sending (lease lapsed) | take | sending | toast from the deadline on, else as it was | the lease's end |
//! | sending | raw accepted, owed | watching | toast | acceptance + delay |
//! | sending | raw accepted, not owed; alert or state accepted | accepted | – | – |
//! | sending | toast accepted | toasted | – | – |
//! | sending | gone, proven | gone, and the subscription ends | – | – |
//! | sending | gone, said for the first time while others are accepted | due | toast if the deadline comes first | the earlier of 10 to 15 s and deadline |
//! | sending | gone, stale or unproven | due | as it was | after the guard's window, or the open breaker's end |
//! | sending | invalid: raw that is owed a toast | due | toast | now |
//! | sending | invalid: anything else | failed | – | – |
//! | sending | throttled for the device: raw that is owed a toast | due | toast | now + 10 s (rule 4) |
//! | sending | throttled, unavailable, misconfigured, unauthorized, not sent, unknown | due | toast if the deadline comes first | the earlier of retry (or the open breaker's end) and deadline |
//! | sending | lease over before the push | due | as it was | now |
//! | sending | held: provider paused, breaker open, app over its rate | due | as it was | when the hold ends |
//! | sending | found expired, or the subscription ended | expired, withdrawn | – | – |
//! | sending | poison: it killed its workers | failed | – | – |
//! | any open | receipt | received | – | – |
//! | any open | read, dismissed, deleted | withdrawn | – | – |
//!
//! A state push tells another device what its user did. Producers are told nothing of its life but that a subscription ended.
//!
//! Any other pair is [`Impossible`]: the caller logs and counts it and writes nothing.
use std::time::Duration;

use crate::event::Tell;
use crate::fallback;
use crate::ids::DeliveryId;
use crate::lane::{DispatchQueue, Lane};
use crate::outcome::{Outcome, Scope};
use crate::prune::Verdict;
use crate::push::Form;
use crate::retry;
use crate::time::Timestamp;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Open: push at `next_at`.
    Due,
    /// Open: taken; `next_at` is the lease's end.
    Sending,
    /// Open: the raw push was accepted; `next_at` is the fallback's deadline.
    Watching,
    /// Closed: accepted by the provider, no receipt awaited.
    Accepted,
    /// Closed: the app proved that it has it.
    Received,
    /// Closed: the fallback's toast was accepted.
    Toasted,
    /// Closed: the token is dead.
    Gone,
    /// Closed: it can't be delivered.
    Failed,
    /// Closed: the notification's life ended first.
    Expired,
    /// Closed: read, dismissed or deleted first, or the subscription ended.
    Withdrawn,
}

impl State {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Due,
        Self::Sending,
        Self::Watching,
        Self::Accepted,
        Self::Received,
        Self::Toasted,
        Self::Gone,
        Self::Failed,
        Self::Expired,
        Self::Withdrawn,
    ];

    /// Is there still something to do?
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Due | Self::Sending | Self::Watching)
    }

    /// The label in metrics and traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Sending => "sending",
            Self::Watching => "watching",
            Self::Accepted => "accepted",
            Self::Received => "received",
            Self::Toasted => "toasted",
            Self::Gone => "gone",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The number stored in the `state` column: open states are below 10.
    pub const fn number(self) -> i16 {
        match self {
            Self::Due => 0,
            Self::Sending => 1,
            Self::Watching => 2,
            Self::Accepted => 10,
            Self::Received => 11,
            Self::Toasted => 12,
            Self::Gone => 13,
            Self::Failed => 14,
            Self::Expired => 15,
            Self::Withdrawn => 16,
        }
    }

    /// The state with that number.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.number() == number)
    }
}

/// Why a delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The provider refused the push for good.
    Invalid,
    /// The work kills workers.
    Poison,
}

impl Failure {
    /// The label in the `failure` column and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Poison => "poison",
        }
    }
}

/// A delivery's row, as far as decisions read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Goes up at every take and every change of state.
    pub version: i64,
    /// Where it stands.
    pub state: State,
    /// Form of its next push.
    pub form: Form,
    /// The lane its request came in by.
    pub lane: Lane,
    /// How long after the first attempt or the acceptance the fallback is due; none if none is owed.
    pub fallback_delay: Option<Duration>,
    /// When the fallback is due; none before the first attempt, or if none is owed.
    pub deadline_at: Option<Timestamp>,
    /// When the notification's life ends.
    pub expires_at: Timestamp,
    /// Takes since the last recorded outcome.
    pub takes: u16,
    /// Attempts recorded so far.
    pub attempts: u16,
}

/// What is to be written of a delivery; every field is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The state from now on.
    pub state: State,
    /// Form of the next push.
    pub form: Form,
    /// When there is something to do; none in closed states.
    pub next_at: Option<Timestamp>,
    /// The fallback's deadline from now on.
    pub deadline_at: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// End the subscription, if it still has the token that was sent to.
    pub prune: bool,
    /// What producers may want to know.
    pub tell: Vec<Tell>,
}

impl Step {
    /// The dispatch queue the row belongs to from now on.
    pub fn queue(&self, lane: Lane) -> DispatchQueue {
        if self.form == Form::Toast { DispatchQueue::Fallback } else { lane.into() }
    }
}

/// What a take found: push, or close without a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Push this form.
    Push(Form),
    /// There is nothing left to push; record this.
    Close(Event),
}

/// What happened to a delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// A push of this form was handed to the provider and came to this.
    Attempted {
        /// What was pushed.
        form: Form,
        /// What it came to.
        outcome: Outcome,
        /// For a `gone`: what it means for the subscription ([`crate::prune::judge`]).
        verdict: Option<Verdict>,
        /// Entropy for the retry, in `0.0..1.0`.
        jitter: f64,
        /// Until when the breaker of the whole provider is open, if it is: then this failure is none of the delivery's.
        open_until: Option<Timestamp>,
    },
    /// Too little of the lease was left for a whole attempt, so nothing was pushed.
    LeaseOver,
    /// Nothing may be pushed to this provider before then.
    Held(Timestamp),
    /// The notification's life has ended.
    Expired,
    /// The subscription has ended.
    SubscriptionEnded,
    /// The work killed its workers, even alone in a child process.
    Poisoned,
    /// The app proved that it has the notification.
    Received,
    /// It was read, dismissed or deleted.
    Withdrawn,
}

impl Eq for Event {}

/// A state and an event that don't go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a delivery that is {} can't meet this event", state.as_str())]
pub struct Impossible {
    /// The state.
    pub state: State,
}

/// The form that a take pushes: from the deadline on it is the toast, never another raw (rule 3).
pub fn form_at(delivery: &Delivery, now: Timestamp) -> Form {
    match (delivery.form, delivery.deadline_at) {
        (Form::Raw, Some(deadline)) if delivery.fallback_delay.is_some() && deadline <= now => Form::Toast,
        (form, _) => form,
    }
}

/// What to do with a delivery that has just been taken.
pub fn at_take(delivery: &Delivery, subscription_active: bool, now: Timestamp) -> Take {
    if delivery.expires_at <= now {
        Take::Close(Event::Expired)
    } else if !subscription_active {
        Take::Close(Event::SubscriptionEnded)
    } else {
        Take::Push(form_at(delivery, now))
    }
}

/// What happens next. `now` is the store's time at which the event is recorded.
///
/// # Errors
/// [`Impossible`] if the delivery's state can't meet the event.
pub fn step(delivery: &Delivery, event: Event, now: Timestamp) -> Result<Step, Impossible> {
    let mut step = next(delivery, event, now)?;
    if delivery.form == Form::State {
        step.tell.retain(|tell| *tell == Tell::SubscriptionEnded);
    }
    Ok(step)
}

fn next(delivery: &Delivery, event: Event, now: Timestamp) -> Result<Step, Impossible> {
    let open = delivery.state.is_open();
    // A push, or the decision not to push, can only come from the worker that took it.
    let taken = delivery.state == State::Sending;
    Ok(match event {
        Event::Received if open => closed(delivery, State::Received, vec![Tell::Received]),
        Event::Withdrawn | Event::SubscriptionEnded if open => {
            closed(delivery, State::Withdrawn, vec![Tell::Withdrawn])
        }
        Event::Expired if open => closed(delivery, State::Expired, vec![Tell::Expired]),
        Event::Attempted { form, outcome, verdict, jitter, open_until } if taken => {
            let attempts = delivery.attempts.saturating_add(1);
            let again_at = match verdict {
                Some(Verdict::Unconfirmed) => retry::confirm_at(jitter, open_until, now),
                Some(Verdict::Dead | Verdict::Stale | Verdict::Unproven) | None => {
                    retry::again_at(outcome, attempts, jitter, open_until, now)
                }
            };
            attempted(delivery, form, outcome, verdict, again_at, now)
        }
        Event::LeaseOver if taken => due(delivery, delivery.form, now, now),
        Event::Held(until) if taken => held(delivery, until.max(now)),
        Event::Poisoned if taken => failed(delivery, Failure::Poison),
        Event::Received
        | Event::Withdrawn
        | Event::SubscriptionEnded
        | Event::Expired
        | Event::Attempted { .. }
        | Event::LeaseOver
        | Event::Held(_)
        | Event::Poisoned => return Err(Impossible { state: delivery.state }),
    })
}

fn attempted(
    delivery: &Delivery,
    form: Form,
    outcome: Outcome,
    verdict: Option<Verdict>,
    again_at: Timestamp,
    now: Timestamp,
) -> Step {
    let raw_owed = form == Form::Raw && delivery.fallback_delay.is_some();
    let retry = || due(delivery, form, again_at, now);
    match outcome {
        Outcome::Accepted => accepted(delivery, form, now),
        Outcome::Gone { .. } => match verdict {
            Some(Verdict::Dead) => {
                Step { prune: true, ..closed(delivery, State::Gone, vec![Tell::Gone, Tell::SubscriptionEnded]) }
            }
            Some(Verdict::Stale | Verdict::Unconfirmed | Verdict::Unproven) | None => retry(),
        },
        Outcome::Invalid if raw_owed => toast_at(delivery, now),
        Outcome::Invalid => failed(delivery, Failure::Invalid),
        Outcome::Throttled { scope: Scope::Device, after } if raw_owed => toast_at(
            delivery,
            now.plus(after.unwrap_or_default().clamp(fallback::AFTER_REFUSAL, retry::MAX_RETRY_AFTER)),
        ),
        Outcome::Throttled { .. }
        | Outcome::Unavailable { .. }
        | Outcome::Misconfigured
        | Outcome::Unauthorized
        | Outcome::NotSent
        | Outcome::Unknown => retry(),
    }
}

fn accepted(delivery: &Delivery, form: Form, now: Timestamp) -> Step {
    match (form, delivery.fallback_delay) {
        (Form::Raw, Some(delay)) => {
            // Moved once, to the acceptance + the delay; but not beyond the notification's life, or nobody would be told.
            let moved = now.plus(delay);
            let deadline = match delivery.deadline_at {
                Some(first) if moved >= delivery.expires_at => first,
                Some(_) | None => moved,
            };
            Step {
                state: State::Watching,
                form: Form::Toast,
                next_at: Some(deadline),
                deadline_at: Some(deadline),
                failure: None,
                prune: false,
                tell: vec![Tell::Accepted],
            }
        }
        (Form::Toast, _) => closed(delivery, State::Toasted, vec![Tell::Deferred, Tell::Toasted]),
        (Form::Raw | Form::Alert | Form::State, _) => closed(delivery, State::Accepted, vec![Tell::Accepted]),
    }
}

/// Due again at `wanted`, or at the deadline if that comes first; never later than the end of its life, where the next
/// take closes it.
fn due(delivery: &Delivery, form: Form, wanted: Timestamp, now: Timestamp) -> Step {
    let (form, at) = match (form, delivery.deadline_at) {
        (Form::Raw, Some(deadline)) if delivery.fallback_delay.is_some() && deadline <= wanted => {
            (Form::Toast, deadline.max(now))
        }
        _ => (form, wanted),
    };
    Step {
        state: State::Due,
        form,
        next_at: Some(at.min(delivery.expires_at)),
        deadline_at: delivery.deadline_at,
        failure: None,
        prune: false,
        tell: Vec::new(),
    }
}

/// Nothing can be pushed before `until`, the toast neither: so the deadline does not bring it forward. The form stays as it
/// is, because the hold may end before its time; the take decides by the deadline.
fn held(delivery: &Delivery, until: Timestamp) -> Step {
    Step {
        state: State::Due,
        form: delivery.form,
        next_at: Some(until.min(delivery.expires_at)),
        deadline_at: delivery.deadline_at,
        failure: None,
        prune: false,
        tell: Vec::new(),
    }
}

/// The raw push is deferred already: the toast is due then, whatever the deadline was.
fn toast_at(delivery: &Delivery, at: Timestamp) -> Step {
    let at = delivery.deadline_at.map_or(at, |deadline| deadline.min(at));
    Step { form: Form::Toast, deadline_at: Some(at), tell: vec![Tell::Deferred], ..due(delivery, Form::Toast, at, at) }
}

fn closed(delivery: &Delivery, state: State, tell: Vec<Tell>) -> Step {
    Step {
        state,
        form: delivery.form,
        next_at: None,
        deadline_at: delivery.deadline_at,
        failure: None,
        prune: false,
        tell,
    }
}

fn failed(delivery: &Delivery, failure: Failure) -> Step {
    Step { failure: Some(failure), ..closed(delivery, State::Failed, vec![Tell::Failed]) }
}

#[cfg(test)]
mod tests;
