//! Every metric of Herald, with unit, help and typed labels.
//!
//! Stands beside every step of a notification's way: whoever does something says so by one method of [`Metrics`], named
//! for what happened. No other crate knows the client library, a metric's name or a label's spelling, and no label can
//! hold a value from outside: not an app, not a token, not a provider's undocumented word.
//!
//! It never decides anything, and recording never fails, waits or allocates in proportion to traffic.
//!
//! Reading order: [`Metrics`] (what can happen) → `families` (what is measured) → `labels` (by what).

mod labels;
mod families;
mod handles;

use std::sync::Arc;
use std::time::Duration;

use herald_core::breaker::Trip;
use herald_core::delivery::State;
use herald_core::fallback::NotOwed;
use herald_core::lane::{DispatchQueue, Lane};
use herald_core::outcome::Outcome;
use herald_core::push::Form;
use herald_core::subscription::Provider;
use prometheus::{Encoder as _, TextEncoder};

pub use labels::{BatchStep, CancelledBy, HttpRoute, ReceiptKind, RequestResult, StatusClass};

use handles::Handles;

/// Why an app's provider is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PauseReason {
    /// Its breaker opened.
    Trip(Trip),
    /// An operator paused it.
    Operator,
}

impl PauseReason {
    /// The label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Trip(trip) => trip.as_str(),
            Self::Operator => labels::OPERATOR,
        }
    }
}

/// What the broker's client counted since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BrokerTotals {
    /// Connections lost.
    pub losses: u64,
    /// Attempts to connect that failed.
    pub failed_connects: u64,
    /// Publishes that the broker refused.
    pub refused: u64,
    /// Publishes that were not confirmed.
    pub unconfirmed: u64,
}

/// The metrics of one process. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Handles>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// All metrics, at zero, in a registry of their own: two of them in one process don't meet.
    pub fn new() -> Self {
        Self(Arc::new(Handles::new()))
    }

    /// Everything in Prometheus' text format, version 0.0.4: content type `text/plain; version=0.0.4`.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.0.registry.gather(), &mut text)
            .expect("every family is checked when it is registered, and a Vec takes all bytes");
        String::from_utf8(text).expect("names and labels are text")
    }

    /// `docs/metrics.md`: names, kinds, labels and what they mean.
    pub fn describe() -> String {
        families::document()
    }

    /// A request was read from the queue and came to this.
    pub fn request(&self, lane: Lane, result: RequestResult) {
        self.0.requests.at(lane, result).inc();
    }

    /// A push was handed to a provider and came to this. `reason` is the provider's documented word, from
    /// [`herald_core::outcome::Classified`].
    pub fn attempted(
        &self,
        provider: Provider,
        form: Form,
        outcome: Outcome,
        reason: Option<&'static str>,
        took: Duration,
    ) {
        self.0.attempts.at(provider, form, outcome.as_str(), reason.unwrap_or("none")).inc();
        self.0.attempt_time.at(provider).observe(took.as_secs_f64());
    }

    /// A push was accepted, this long after its request arrived.
    pub fn accepted_after(&self, lane: Lane, since_request: Duration) {
        self.0.accept_time.at(lane).observe(since_request.as_secs_f64());
    }

    /// A delivery was closed in this state. Nothing is counted for an open one.
    pub fn closed(&self, state: State) {
        if let Some(counter) = self.0.closed.get(state) {
            counter.inc();
        }
    }

    /// A receipt came and did this; `delay` after its delivery's first push, if that is known.
    pub fn receipt(&self, kind: ReceiptKind, delay: Option<Duration>) {
        self.0.receipts.at(kind).inc();
        if let Some(delay) = delay {
            self.0.receipt_time.observe(delay.as_secs_f64());
        }
    }

    /// A fallback was asked for and is owed, for one delivery.
    pub fn fallback_owed(&self) {
        self.0.fallback_owed.inc();
    }

    /// A fallback was asked for and is not owed, for one delivery.
    pub fn fallback_not_owed(&self, why: NotOwed) {
        self.0.fallback_not_owed.at(why).inc();
    }

    /// A toast was accepted.
    pub fn fallback_sent(&self) {
        self.0.fallback_sent.inc();
    }

    /// An owed fallback will not be sent.
    pub fn fallback_cancelled(&self, by: CancelledBy) {
        self.0.fallback_cancelled.at(by).inc();
    }

    /// The oldest due delivery of this dispatch queue has waited this long; zero if none is due.
    pub fn due_lag(&self, queue: DispatchQueue, lag: Duration) {
        self.0.due_lag.at(queue).set(lag.as_secs_f64());
    }

    /// So many deliveries were taken whose former lease had ended without a record.
    pub fn lease_lapses(&self, count: usize) {
        self.0.lease_lapses.inc_by(number(count));
    }

    /// So many pushes are in flight now.
    pub fn in_flight(&self, count: usize) {
        self.0.in_flight.set(signed(count));
    }

    /// So many pushes may be in flight.
    pub fn budget(&self, count: usize) {
        self.0.budget.set(signed(count));
    }

    /// Work was parked. A code that isn't in this crate's list counts as `other`.
    pub fn parked(&self, code: &str) {
        let code = labels::PARK_CODES.iter().find(|known| **known == code).unwrap_or(&"other");
        self.0.parked.with_label_values(&[*code]).inc();
    }

    /// This process paused an app's provider.
    pub fn paused(&self, provider: Provider, trip: Trip) {
        self.0.pauses.with_label_values(&[provider.as_str(), trip.as_str()]).inc();
    }

    /// These pauses are in force now, one item for each app and provider; those of an earlier call are forgotten.
    pub fn pauses_in_force(&self, pauses: impl IntoIterator<Item = (Provider, PauseReason)>) {
        let pauses: Vec<_> = pauses.into_iter().map(|(provider, reason)| (provider, reason.as_str())).collect();
        // A drained combination is reported as 0, so that an alert on it ends.
        for provider in Provider::ALL {
            for reason in families::pause_reasons() {
                let count = pauses.iter().filter(|pause| **pause == (provider, reason)).count();
                self.0.paused.with_label_values(&[provider.as_str(), reason]).set(signed(count));
            }
        }
    }

    /// A subscription ended because its token is dead.
    pub fn token_pruned(&self, provider: Provider) {
        self.0.pruned.at(provider).inc();
    }

    /// So many hints were about deliveries that had moved on.
    pub fn stale_hints(&self, count: usize) {
        self.0.stale_hints.inc_by(number(count));
    }

    /// A record came after another worker's take.
    pub fn late_record(&self) {
        self.0.late_records.inc();
    }

    /// A step worked on so many at once. An empty batch is no batch.
    pub fn batch(&self, step: BatchStep, size: usize) {
        if let Ok(size @ 1..) = u32::try_from(size) {
            self.0.batch_size.at(step).observe(f64::from(size));
        }
    }

    /// What the broker's client has counted so far, to be told again and again; each total only goes up.
    pub fn broker(&self, totals: BrokerTotals) {
        self.0.catch_up(totals);
    }

    /// So many events were published and confirmed.
    pub fn events_published(&self, count: usize) {
        self.0.events.inc_by(number(count));
    }

    /// A request over HTTP was answered with this status, this long after its headers were read.
    pub fn http(&self, route: HttpRoute, status: u16, took: Duration) {
        self.0.http.at(route).at(StatusClass::of(status)).inc();
        self.0.http_time.at(route).observe(took.as_secs_f64());
    }

    /// A request over HTTP was refused because its app sends more than it may.
    pub fn throttled(&self) {
        self.0.throttled.inc();
    }

    /// A delivery's state can't meet what happened to it.
    pub fn impossible_transition(&self) {
        self.0.impossible.inc();
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
