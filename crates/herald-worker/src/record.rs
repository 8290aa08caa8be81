//! Record: what came of each take is written, and what follows from it is decided.
//!
//! The last step of the way. What has arrived while the last batch was written is the next batch (group commit). Facts
//! (attempts, dead tokens) are always written; the state only while the delivery is still at the take's version. A permit
//! is given back when its record is committed, so a store that is away stops new pushes by itself.

use std::collections::HashMap;
use std::sync::Arc;

use herald_core::delivery::{Event, State, Step, step};
use herald_core::event::{OutboxEvent, Subject, cloud_event};
use herald_core::outcome::Outcome;
use herald_core::prune::{self, Case, Leave, MassFailureGuard, Verdict};
use herald_core::push::Form;
use herald_core::time::Timestamp;
use herald_metrics::{BatchStep, CancelledBy};
use herald_store::{Attempt, Record, Recorded};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::apps::AppRuntime;
use crate::batch::{GaveUp, until_answered};
use crate::guard::{Gate, Guard};
use crate::pauses::Tripped;
use crate::push::{Attempted, Done, End, jitter};
use crate::tell;
use crate::way::Way;

/// Records in one transaction.
const MAX_BATCH: usize = 250;

/// Records until every push has ended (`ended`) and been recorded. `give_up` ends the tries on a store that is away.
pub(crate) async fn run(
    way: Arc<Way>,
    mut done: mpsc::Receiver<Done>,
    ended: CancellationToken,
    give_up: CancellationToken,
) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    let mut guard = Guard::default();
    loop {
        let received = tokio::select! {
            // In this order, so that nothing that has arrived is left behind.
            biased;
            received = done.recv_many(&mut batch, MAX_BATCH) => received,
            () = ended.cancelled(), if !done.is_closed() => {
                done.close();
                continue;
            }
        };
        if received == 0 {
            return;
        }
        way.metrics.batch(BatchStep::Record, received);
        commit(&way, std::mem::take(&mut batch), &mut guard, &give_up).await;
    }
}

async fn commit(way: &Arc<Way>, batch: Vec<Done>, guard: &mut Guard, stop: &CancellationToken) {
    let now = way.clock.now();
    for done in &batch {
        if let End::Attempted(attempted) = &done.end {
            observe(way, done, attempted, guard, now);
        }
    }
    let sums = guard.sums(way, now, stop).await;
    for (gate, sum) in &sums {
        if sum.leave() == Leave::Trip
            && let Some((trip, until)) = way.apps.get(&gate.0).and_then(|app| app.trip(gate.1, now))
        {
            let detail =
                format!("{} of {} answers say that the token is dead", sum.suspect, sum.suspect + sum.accepted);
            way.pauses.tell(Tripped { gate: gate.clone(), trip, until, detail });
        }
    }
    let steps: Vec<(Done, Step)> = batch.into_iter().filter_map(|done| decide(way, done, &sums, now)).collect();
    write(way, steps, now, stop).await;
}

/// Counts an attempt, and shows it to the breaker.
fn observe(way: &Way, done: &Done, attempted: &Attempted, guard: &mut Guard, now: Timestamp) {
    let Some(provider) = done.taken.subscription.platform.provider() else { return };
    let classified = &attempted.classified;
    let outcome = classified.outcome;
    way.metrics.attempted(provider, attempted.form, outcome, classified.reason, attempted.took);
    let notification = &done.taken.notification;
    // How long a request takes to its first push; a toast comes late by design, and a state push tells of something else.
    if outcome == Outcome::Accepted && matches!(attempted.form, Form::Raw | Form::Alert) {
        let accepted_at = attempted.at.plus(attempted.took);
        way.metrics.accepted_after(done.taken.delivery.lane, accepted_at.since(done.taken.received_at));
    }
    let gate = (notification.app.clone(), provider);
    let is_counted = done.taken.gone_at.is_some_and(|at| now.since(at) < prune::COUNTED);
    guard.note(gate.clone(), outcome, is_counted);
    let Some(app) = way.apps.get(&notification.app) else { return };
    if outcome == Outcome::Accepted {
        app.accepted(provider, done.taken.subscription.environment, attempted.at);
    }
    if let Some((trip, until)) = app.observe(provider, outcome, now) {
        let words = classified.detail.as_deref().or(classified.reason).unwrap_or("no answer");
        let detail = classified.status.map_or_else(|| words.to_owned(), |status| format!("{status} {words}"));
        way.pauses.tell(Tripped { gate, trip, until, detail });
    }
}

/// What happens next to one delivery. An impossible pair is logged and counted; the lease brings the delivery back.
fn decide(way: &Way, done: Done, sums: &HashMap<Gate, MassFailureGuard>, now: Timestamp) -> Option<(Done, Step)> {
    let event = match &done.end {
        End::NotPushed(event) => *event,
        End::Attempted(attempted) => Event::Attempted {
            form: attempted.form,
            outcome: attempted.classified.outcome,
            verdict: verdict(&done, attempted, sums),
            jitter: jitter(&done.taken.delivery),
            open_until: open_until(way, &done),
        },
    };
    match step(&done.taken.delivery, event, now) {
        Ok(step) => Some((done, step)),
        Err(impossible) => {
            way.metrics.impossible_transition();
            error!(delivery.id = %done.taken.delivery.id, error = %impossible, "impossible transition; nothing is written");
            None
        }
    }
}

fn open_until(way: &Way, done: &Done) -> Option<Timestamp> {
    let provider = done.taken.subscription.platform.provider()?;
    way.apps.get(&done.taken.notification.app)?.open_until(provider)
}

fn verdict(done: &Done, attempted: &Attempted, sums: &HashMap<Gate, MassFailureGuard>) -> Option<Verdict> {
    let Done { taken, .. } = done;
    let gate = (taken.notification.app.clone(), taken.subscription.platform.provider()?);
    let guard = sums.get(&gate).copied().unwrap_or_default();
    let case = Case {
        confirmed_at: taken.subscription.confirmed_at,
        refused_at: taken.gone_at,
        accepted_at: attempted.accepted_at,
    };
    prune::judge(attempted.classified.outcome, case, guard)
}

async fn write(way: &Arc<Way>, steps: Vec<(Done, Step)>, now: Timestamp, stop: &CancellationToken) {
    let mut stack = vec![steps];
    while let Some(mut part) = stack.pop() {
        if part.is_empty() {
            continue;
        }
        let records: Vec<Record> = part.iter().map(|(done, step)| record_of(way, done, step, now)).collect();
        match until_answered("record", stop, || way.store.record(&records)).await {
            Ok(recorded) => {
                part.iter().zip(&recorded).for_each(|((done, step), recorded)| count(way, done, step, recorded))
            }
            Err(GaveUp::Stopped) => return,
            Err(GaveUp::Refused(refused)) if part.len() == 1 => {
                error!(delivery.id = %part[0].0.taken.delivery.id, error = %refused, "the store refuses a record; the lease will end");
            }
            Err(GaveUp::Refused(_)) => {
                let rest = part.split_off(part.len() / 2);
                stack.push(rest);
                stack.push(part);
            }
        }
    }
}

fn record_of(way: &Way, done: &Done, step: &Step, now: Timestamp) -> Record {
    let taken = &done.taken;
    let attempt = match &done.end {
        End::NotPushed(_) => None,
        End::Attempted(attempted) => Some(Attempt {
            form: attempted.form,
            at: attempted.at,
            took_ms: u32::try_from(attempted.took.as_millis()).unwrap_or(u32::MAX),
            outcome: attempted.classified.outcome.as_str().into(),
            status: attempted.classified.status,
            reason: attempted.classified.reason.map(Into::into),
            detail: attempted.classified.detail.clone(),
            provider_id: attempted.classified.provider_id.clone(),
        }),
    };
    let events = way.apps.get(&taken.notification.app).map(|app| events_of(app, done, step, now)).unwrap_or_default();
    Record::new(taken, step.clone(), attempt, events)
}

/// The events that the app asked for.
fn events_of(app: &AppRuntime, done: &Done, step: &Step, now: Timestamp) -> Vec<OutboxEvent> {
    let taken = &done.taken;
    let content = &taken.notification.content;
    let (form, reason) = match &done.end {
        End::Attempted(attempted) => (Some(attempted.form.as_str()), attempted.classified.reason),
        End::NotPushed(_) => (None, step.failure.map(|failure| failure.as_str())),
    };
    let subject = Subject {
        notification_id: Some(taken.notification.id),
        app_notification_id: content.app_notification_id.as_deref(),
        delivery_id: Some(taken.delivery.id),
        user_notification_subscription_id: Some(taken.subscription.id),
        user_id: Some(&taken.notification.user),
        form,
        reason,
        ..Subject::default()
    };
    let trace = (content.traceparent.as_deref(), content.tracestate.as_deref());
    let wanted = step.tell.iter().filter(|tell| app.settings.events.contains(**tell));
    wanted.map(|tell| cloud_event(*tell, &taken.notification.app, &subject, now, trace)).collect()
}

fn count(way: &Way, done: &Done, step: &Step, recorded: &Recorded) {
    if recorded.pruned
        && let Some(provider) = done.taken.subscription.platform.provider()
    {
        way.metrics.token_pruned(provider);
    }
    if !recorded.applied {
        way.metrics.late_record();
        return;
    }
    recorded
        .withdrawn
        .iter()
        .for_each(|closed| tell::count_closed(&way.metrics, closed, CancelledBy::SubscriptionEnded));
    match recorded.state {
        Some(state) if !state.is_open() => way.metrics.closed(state),
        Some(_) | None => return,
    }
    if done.taken.delivery.fallback_delay.is_none() {
        return;
    }
    match step.state {
        State::Toasted => way.metrics.fallback_sent(),
        State::Gone => way.metrics.fallback_cancelled(CancelledBy::Gone),
        State::Expired => way.metrics.fallback_cancelled(CancelledBy::Expiry),
        State::Withdrawn => way.metrics.fallback_cancelled(CancelledBy::SubscriptionEnded),
        State::Due | State::Sending | State::Watching | State::Accepted | State::Received | State::Failed => {}
    }
}
