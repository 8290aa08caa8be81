//! What is measured: every metric's name, help, kind, labels and buckets, in one list.
//!
//! Stands below [`crate::Metrics`], which makes its handles from this list, and behind `docs/metrics.md`, which is
//! written from it. The doc comment of an entry is its help text on the wire.

use std::fmt::Write as _;

use herald_core::breaker::Trip;
use herald_core::delivery::State;
use herald_core::fallback::NotOwed;
use herald_core::lane::{DispatchQueue, Lane};
use herald_core::push::Form;
use herald_core::subscription::Provider;

use crate::labels::{
    BatchStep, CancelledBy, HttpRoute, Label, OPERATOR, PARK_CODES, ReceiptKind, RequestResult, StatusClass,
};

/// How a family's values behave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Only goes up while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size; the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// A label's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelName {
    Lane,
    Queue,
    Result,
    Provider,
    Form,
    Outcome,
    ProviderReason,
    State,
    NotOwed,
    By,
    ParkCode,
    Pause,
    Step,
    Route,
    Status,
}

impl LabelName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Queue => "queue",
            Self::Result => "result",
            Self::Provider => "provider",
            Self::Form => "form",
            Self::Outcome => "outcome",
            Self::ProviderReason | Self::NotOwed | Self::Pause => "reason",
            Self::State => "state",
            Self::By => "by",
            Self::ParkCode => "code",
            Self::Step => "step",
            Self::Route => "route",
            Self::Status => "status",
        }
    }
}

/// One metric.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    help: &'static [&'static str],
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [LabelName],
}

impl Family {
    /// The doc comment as one sentence or more.
    pub(crate) fn help(&self) -> String {
        self.help.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

macro_rules! families {
    ($($(#[doc = $help:literal])+ $id:ident = $name:literal $kind:expr, [$($label:ident),*];)*) => {
        $($(#[doc = $help])+ pub(crate) const $id: Family = Family {
            name: $name,
            help: &[$($help),+],
            kind: $kind,
            labels: &[$(LabelName::$label),*],
        };)*
        /// All of them, in the order of the document.
        pub(crate) const ALL: &[&Family] = &[$(&$id),*];
    };
}

const ATTEMPT_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const ACCEPT_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0];
// Around the range of fallback delays, 60 to 600 s: where most receipts arrive says which delay to choose.
const RECEIPT_SECONDS: &[f64] = &[0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 7200.0];
const HTTP_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

families! {
    /// Requests read from the queue or posted over HTTP, by lane and what became of them; a post that was refused is not one.
    REQUESTS = "herald_requests_total" Kind::Counter, [Lane, Result];
    /// Pushes handed to a provider and recorded, by form and what they came to; the reason is the provider's documented
    /// word, `other`, or `none`.
    ATTEMPTS = "herald_attempts_total" Kind::Counter, [Provider, Form, Outcome, ProviderReason];
    /// How long an attempt took, from the take's hand-over to the provider's answer.
    ATTEMPT_TIME = "herald_attempt_seconds" Kind::Histogram(ATTEMPT_SECONDS), [Provider];
    /// Time from the request's arrival to the provider's acceptance, of each accepted push.
    ACCEPT_TIME = "herald_accept_seconds" Kind::Histogram(ACCEPT_SECONDS), [Lane];
    /// Deliveries closed, by the state they closed in.
    CLOSED = "herald_deliveries_closed_total" Kind::Counter, [State];
    /// Receipts, by what they did.
    RECEIPTS = "herald_receipts_total" Kind::Counter, [Result];
    /// Time from a delivery's first push to its receipt, late ones included.
    RECEIPT_TIME = "herald_receipt_delay_seconds" Kind::Histogram(RECEIPT_SECONDS), [];
    /// Deliveries of which the request asked for a fallback that is owed.
    FALLBACK_OWED = "herald_fallbacks_owed_total" Kind::Counter, [];
    /// Deliveries of which the request asked for a fallback that is not owed, by why.
    FALLBACK_NOT_OWED = "herald_fallbacks_not_owed_total" Kind::Counter, [NotOwed];
    /// Toasts that the provider accepted.
    FALLBACK_SENT = "herald_fallbacks_sent_total" Kind::Counter, [];
    /// Owed fallbacks that were cancelled before the toast, by what.
    FALLBACK_CANCELLED = "herald_fallbacks_cancelled_total" Kind::Counter, [By];
    /// How long the oldest due delivery of a dispatch queue has been due and not taken.
    DUE_LAG = "herald_due_lag_seconds" Kind::Gauge, [Queue];
    /// Takes of deliveries whose former lease ended without a record: a worker died, or was too slow.
    LEASE_LAPSES = "herald_lease_lapses_total" Kind::Counter, [];
    /// Pushes in flight in this process.
    IN_FLIGHT = "herald_pushes_in_flight" Kind::Gauge, [];
    /// How many pushes may be in flight in this process.
    BUDGET = "herald_push_budget" Kind::Gauge, [];
    /// Requests, deliveries and hints parked as dead letters, by the code of the reason.
    PARKED = "herald_parked_total" Kind::Counter, [ParkCode];
    /// Times that this process paused an app's provider, by why.
    PAUSES = "herald_pauses_total" Kind::Counter, [Provider, Pause];
    /// Apps whose provider is paused now, by why. Read from the store, so every process says the same: take the maximum.
    PAUSED = "herald_paused_apps" Kind::Gauge, [Provider, Pause];
    /// Subscriptions ended because the provider says that their token is dead.
    PRUNED = "herald_tokens_pruned_total" Kind::Counter, [Provider];
    /// Hints whose delivery had moved on: repeated or overtaken, and harmless.
    STALE_HINTS = "herald_hints_stale_total" Kind::Counter, [];
    /// Records that came after another worker's take; the attempt is kept as a fact, the state is not touched.
    LATE_RECORDS = "herald_records_late_total" Kind::Counter, [];
    /// How much one step did at once.
    BATCH_SIZE = "herald_batch_size" Kind::Histogram(SIZES), [Step];
    /// Connections to the broker that were lost.
    BROKER_LOSSES = "herald_broker_connection_losses_total" Kind::Counter, [];
    /// Attempts to connect to the broker that failed.
    BROKER_FAILED_CONNECTS = "herald_broker_connects_failed_total" Kind::Counter, [];
    /// Publishes that the broker refused, because a queue is full.
    BROKER_REFUSED = "herald_broker_publishes_refused_total" Kind::Counter, [];
    /// Publishes that the broker did not confirm; their fate is unknown and they are repeated.
    BROKER_UNCONFIRMED = "herald_broker_publishes_unconfirmed_total" Kind::Counter, [];
    /// Events published to `herald.events` and confirmed.
    EVENTS = "herald_events_published_total" Kind::Counter, [];
    /// Requests over HTTP that were answered, by what they asked for and how the answer's status begins.
    HTTP = "herald_http_requests_total" Kind::Counter, [Route, Status];
    /// Time from a request's headers to its answer's.
    HTTP_TIME = "herald_http_seconds" Kind::Histogram(HTTP_SECONDS), [Route];
    /// Requests over HTTP refused because their app sends more than it may; the request log names the app.
    THROTTLED = "herald_http_throttled_total" Kind::Counter, [];
    /// Events that a delivery's state can't meet: always a bug.
    IMPOSSIBLE = "herald_impossible_transitions_total" Kind::Counter, [];
}

/// The values that a label of this family can have; none where `herald-core` holds the list (the provider's reasons).
fn values(family: &Family, label: LabelName) -> Option<Vec<&'static str>> {
    Some(match label {
        LabelName::Lane => Lane::ALL.iter().map(|lane| lane.as_str()).collect(),
        LabelName::Queue => DispatchQueue::ALL.iter().map(|queue| queue.as_str()).collect(),
        LabelName::Result if family.name == RECEIPTS.name => ReceiptKind::labels(),
        LabelName::Result => RequestResult::labels(),
        LabelName::Provider => Provider::ALL.iter().map(|provider| provider.as_str()).collect(),
        LabelName::Form => Form::ALL.iter().map(|form| form.as_str()).collect(),
        LabelName::Outcome => OUTCOMES.to_vec(),
        LabelName::ProviderReason => return None,
        LabelName::State => closed_states().map(State::as_str).collect(),
        LabelName::NotOwed => NotOwed::ALL.iter().map(|why| why.as_str()).collect(),
        LabelName::By => CancelledBy::labels(),
        LabelName::ParkCode => PARK_CODES.to_vec(),
        LabelName::Pause => pause_reasons().collect(),
        LabelName::Step => BatchStep::labels(),
        LabelName::Route => HttpRoute::labels(),
        LabelName::Status => StatusClass::labels(),
    })
}

/// The labels of `herald_core::outcome::Outcome`; a test holds them to it.
pub(crate) const OUTCOMES: [&str; 9] =
    ["accepted", "gone", "invalid", "misconfigured", "unauthorized", "throttled", "unavailable", "not_sent", "unknown"];

pub(crate) fn closed_states() -> impl Iterator<Item = State> {
    State::ALL.into_iter().filter(|state| !state.is_open())
}

pub(crate) fn pause_reasons() -> impl Iterator<Item = &'static str> {
    Trip::ALL.iter().map(|trip| trip.as_str()).chain([OPERATOR])
}

/// `docs/metrics.md`.
pub(crate) fn document() -> String {
    let mut text = String::from(HEAD);
    for family in ALL {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let name = family.name;
        write!(text, "\n## `{name}`\n\n{kind}. {}\n", family.help()).expect("writing to a String can't fail");
        for label in family.labels {
            let values = match values(family, *label) {
                Some(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
                None => {
                    "`none`, `other`, or a reason that Apple or Google documents (`herald-core/src/outcome`)".to_owned()
                }
            };
            writeln!(text, "\n- `{}`: {values}", label.as_str()).expect("writing to a String can't fail");
        }
        if let Kind::Histogram(bounds) = family.kind {
            let bounds = bounds.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
            writeln!(text, "\n- buckets up to: {bounds}").expect("writing to a String can't fail");
        }
    }
    // Items of one list stand together.
    text.replace("\n\n- ", "\n- ").replace(".\n- ", ".\n\n- ")
}

const HEAD: &str = "\
# Metrics

Every metric that a Herald process serves under `GET /metrics`, in Prometheus' text format. Times are in seconds. Each
process counts what it did itself since it started: sum over replicas. All label sets are closed, and no label ever holds
an app, a user, a device, a token or content.

This file is written from `crates/herald-metrics`; a test compares them. After a change there:
`HERALD_WRITE_DOCS=1 cargo test -p herald-metrics`.
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_is_what_the_code_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let want = document();
        if std::env::var_os("HERALD_WRITE_DOCS").is_some() {
            std::fs::write(&path, &want).unwrap();
        }
        let is = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(is == want, "docs/metrics.md is not up to date; run: HERALD_WRITE_DOCS=1 cargo test -p herald-metrics");
    }

    #[test]
    fn names_are_unique_and_say_their_kind_and_unit() {
        for (at, family) in ALL.iter().enumerate() {
            let name = family.name;
            assert!(ALL[at + 1..].iter().all(|other| other.name != name), "{name} twice");
            assert!(name.starts_with("herald_"), "{name}");
            assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(family.help().ends_with('.') && !family.help().contains("  "), "{name}");
            for unit in ["_ms", "_millis", "_minutes"] {
                assert!(!name.contains(unit), "{name}");
            }
        }
    }
}
