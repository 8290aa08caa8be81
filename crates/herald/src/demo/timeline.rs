//! What to say about what happened between two looks: a pure function of the two snapshots.
//!
//! Times are those at which it happened, by the store's clock, not those of the look. It never decides what is expected
//! ([`super::verdict`]) and never how a line looks ([`super::screen`]).

use std::time::Duration;

use herald_core::delivery::State;
use herald_core::push::Form;
use herald_core::subscription::Provider;
use herald_core::time::Timestamp;
use herald_simulator::Condition;
use herald_store::Attempt;

use super::snapshot::{Delivery, Snapshot};

/// [`herald_core::outcome::Outcome::as_str`] of the one good outcome.
const ACCEPTED: &str = "accepted";

/// What a line is about, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A step on the way.
    Step,
    /// The app has it.
    Good,
    /// The raw push did not arrive in time.
    Deferred,
    /// A person sees something.
    Seen,
    /// A refusal, or an end without delivery.
    Refused,
}

/// A line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// When it happened, by the store's clock.
    pub(super) at: Timestamp,
    /// To whom, or where.
    pub(super) who: String,
    /// What it is about.
    pub(super) mark: Mark,
    /// What happened.
    pub(super) text: String,
}

/// What happened in between, in the order of its times.
pub(super) fn lines(before: &Snapshot, after: &Snapshot) -> Vec<Line> {
    let Some(now) = after.at else { return Vec::new() };
    let mut lines = Vec::new();
    for (name, phone) in &after.phones {
        if before.phones.get(name).is_some_and(|before| before.condition != phone.condition) {
            let text = format!("the phone was changed: {}", condition(phone.condition));
            lines.push(Line { at: now, who: name.clone(), mark: Mark::Step, text });
        }
    }
    // They came in since the last look, and before the pushes that they led to.
    let came = before.at.unwrap_or(now);
    lines.extend(requests(before, after).map(|(mark, text)| Line { at: came, who: "queue".to_owned(), mark, text }));
    for (id, delivery) in &after.deliveries {
        let new = happened(before.deliveries.get(id), delivery, now);
        lines.extend(new.into_iter().map(|(at, mark, text)| Line { at, who: delivery.person.clone(), mark, text }));
    }
    lines.sort_by_key(|line| line.at);
    folded(lines)
}

/// Of many equal lines the first, with their number: somebody has sent a thousand.
fn folded(lines: Vec<Line>) -> Vec<Line> {
    let mut folded: Vec<(Line, u64)> = Vec::new();
    for line in lines {
        match folded.iter_mut().find(|(first, _)| (&first.who, &first.text) == (&line.who, &line.text)) {
            Some((_, count)) => *count += 1,
            None => folded.push((line, 1)),
        }
    }
    let numbered = |(line, count): (Line, u64)| match count {
        1 => line,
        _ => Line { text: format!("{count} times: {}", line.text), ..line },
    };
    folded.into_iter().map(numbered).collect()
}

/// In the order in which it happens, so that equal times stay in order.
fn happened(before: Option<&Delivery>, after: &Delivery, now: Timestamp) -> Vec<(Timestamp, Mark, String)> {
    let mut new = Vec::new();
    let told = before.map_or(0, |before| before.attempts.len());
    for (index, attempt) in after.attempts.iter().enumerate().skip(told) {
        let first_toast =
            attempt.form == Form::Toast && after.attempts[..index].iter().all(|earlier| earlier.form != Form::Toast);
        if first_toast {
            let at = after.deadline_at.map_or(attempt.at, |deadline| deadline.min(attempt.at));
            new.push((at, Mark::Deferred, deferral(after)));
        }
        let (mark, text) = push(attempt, after);
        new.push((attempt.at.plus(Duration::from_millis(attempt.took_ms.into())), mark, text));
    }
    if let (Some(at), true) = (after.received_at, before.is_none_or(|before| before.received_at.is_none())) {
        new.push((at, Mark::Good, receipt(after)));
    }
    if before.is_none_or(|before| before.state != after.state)
        && let Some((mark, text)) = end(after)
    {
        new.push((after.closed_at.unwrap_or(now), mark, text));
    }
    for (what, seen) in [("toast", toasts_seen as fn(&Delivery) -> u64), ("notification", alerts_seen)] {
        for _ in before.map_or(0, seen)..seen(after) {
            let title = after.title.as_deref().unwrap_or_default();
            new.push((now, Mark::Seen, format!("the person sees a {what}: {title:?}")));
        }
    }
    new
}

fn push(attempt: &Attempt, delivery: &Delivery) -> (Mark, String) {
    let by = provider(delivery.provider);
    let what = match attempt.form {
        Form::Raw => "raw push",
        Form::Toast => "toast",
        Form::Alert => "visible push",
        Form::State => "state push",
    };
    match (&*attempt.outcome, attempt.form) {
        (ACCEPTED, Form::Raw) => {
            let next = match delivery.fallback_delay {
                Some(delay) => format!("; the app has {} to send a receipt", secs(delay)),
                None if delivery.provider == Provider::Fcm => "; Android: no toast will follow".to_owned(),
                None => "; no toast will follow".to_owned(),
            };
            (Mark::Step, format!("{what} accepted by {by}{next}"))
        }
        (ACCEPTED, _) => (Mark::Step, format!("{what} accepted by {by}")),
        ("not_sent", _) => (Mark::Refused, format!("{what} could not be sent to {by}")),
        ("unknown", _) => (Mark::Refused, format!("{what}: no answer from {by}")),
        (outcome, _) => {
            let status = attempt.status.map(|status| status.to_string());
            let reason = attempt.reason.as_deref().filter(|reason| *reason != "other");
            let words: Vec<&str> = status.as_deref().into_iter().chain(reason).collect();
            let why = if words.is_empty() { outcome.to_owned() } else { words.join(" ") };
            (Mark::Refused, format!("{what} refused by {by}: {why}"))
        }
    }
}

fn deferral(delivery: &Delivery) -> String {
    let arrived = |attempt: &Attempt| attempt.form == Form::Raw && attempt.outcome == ACCEPTED;
    match delivery.fallback_delay {
        Some(delay) if delivery.attempts.iter().any(arrived) => {
            format!("deferred: no receipt within {}; it goes out again as a toast", secs(delay))
        }
        Some(_) | None => "deferred: no raw push was accepted; it goes out again as a toast".to_owned(),
    }
}

fn receipt(delivery: &Delivery) -> String {
    let has = "the app has it";
    match (delivery.state, delivery.fallback_delay) {
        (State::Received, Some(_)) => format!("receipt: {has}, so there will be no toast"),
        (State::Toasted, _) => format!("receipt, after the toast: {has}"),
        _ => format!("receipt: {has}"),
    }
}

/// What there is to say when it is closed, and hasn't been said by a push or a receipt.
fn end(delivery: &Delivery) -> Option<(Mark, String)> {
    Some(match delivery.state {
        State::Gone => (Mark::Refused, "token pruned: Herald will not push to this phone again".to_owned()),
        State::Failed => (Mark::Refused, format!("given up: {}", delivery.failure.as_deref().unwrap_or("failed"))),
        State::Expired => (Mark::Refused, "expired before it could be delivered".to_owned()),
        State::Withdrawn => (Mark::Step, "withdrawn: nothing more is sent".to_owned()),
        State::Due | State::Sending | State::Watching | State::Accepted | State::Received | State::Toasted => {
            return None;
        }
    })
}

/// Toasts that were shown and whose acceptance is recorded: the phone may show one before Herald has written that down.
fn toasts_seen(delivery: &Delivery) -> u64 {
    delivery.toasts_shown.min(accepted(delivery, Form::Toast))
}

fn alerts_seen(delivery: &Delivery) -> u64 {
    delivery.alerts_shown.min(accepted(delivery, Form::Alert))
}

fn accepted(delivery: &Delivery, form: Form) -> u64 {
    delivery.attempts.iter().filter(|attempt| attempt.form == form && attempt.outcome == ACCEPTED).count() as u64
}

/// What became of requests, if both snapshots have looked.
fn requests(before: &Snapshot, after: &Snapshot) -> impl Iterator<Item = (Mark, String)> {
    let new = after.requests.iter().filter_map(|(result, count)| {
        let more = count.checked_sub(*before.requests.get(result)?).filter(|more| *more > 0)?;
        let requests = if more == 1 { "1 request".to_owned() } else { format!("{more} requests") };
        Some(match result.as_str() {
            "stored" => (Mark::Step, format!("{requests} stored; nothing follows for one without a phone")),
            "duplicate" => (Mark::Step, format!("{requests} with a key that was used before: nothing is sent")),
            "parked" => (Mark::Refused, format!("{requests} parked; `herald dead list` says why")),
            other => (Mark::Refused, format!("{requests} {other}")),
        })
    });
    new.collect::<Vec<_>>().into_iter()
}

/// The provider's name as people know it.
const fn provider(provider: Provider) -> &'static str {
    match provider {
        Provider::Apns => "APNs",
        Provider::Fcm => "FCM",
    }
}

/// A condition in words.
const fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Awake => "it is awake",
        Condition::PowerSaving => "it saves power",
        Condition::ForceQuit => "the app is closed by hand",
        Condition::Uninstalled => "the app is uninstalled",
        Condition::Offline => "it is offline",
    }
}

/// `3 s`, `2.5 s`.
fn secs(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
