//! The handles behind [`crate::Metrics`]: where a label set is small, each series is looked up once, at the start.
//!
//! Stands below the methods; nothing here says when something is counted. Every series of a closed label set exists from
//! the start, at zero, so that a rate over it is right from the first event on.

use std::sync::{Mutex, PoisonError};

use herald_core::delivery::State;
use herald_core::fallback::NotOwed;
use herald_core::lane::{DispatchQueue, Lane};
use herald_core::push::Form;
use herald_core::subscription::Provider;
use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::BrokerTotals;
use crate::families::{self as family, Family, Kind, LabelName};
use crate::labels::{BatchStep, CancelledBy, HttpRoute, Label, PARK_CODES, ReceiptKind, RequestResult, StatusClass};

/// Why a failed registration is a bug that every test would show.
const CHECKED: &str = "families have valid names, and each is registered once";

macro_rules! core_labels {
    ($($set:ty: $all:expr;)*) => { $(
        impl Label for $set {
            const ALL: &'static [Self] = $all;
            fn label(self) -> &'static str {
                self.as_str()
            }
        }
    )* };
}

core_labels! {
    Lane: &Lane::ALL;
    DispatchQueue: &DispatchQueue::ALL;
    Provider: &Provider::ALL;
    Form: &Form::ALL;
    NotOwed: &NotOwed::ALL;
    State: &State::ALL;
}

/// One handle for each value of a label.
pub(crate) struct By<L, H>(Vec<(L, H)>);

impl<L: Label, H> By<L, H> {
    fn new(values: impl IntoIterator<Item = L>, handle: impl Fn(&'static str) -> H) -> Self {
        Self(values.into_iter().map(|value| (value, handle(value.label()))).collect())
    }

    fn all(handle: impl Fn(&'static str) -> H) -> Self {
        Self::new(L::ALL.iter().copied(), handle)
    }

    pub(crate) fn get(&self, label: L) -> Option<&H> {
        self.0.iter().find(|(value, _)| *value == label).map(|(_, handle)| handle)
    }

    pub(crate) fn at(&self, label: L) -> &H {
        self.get(label).expect("it was made for all values")
    }
}

/// Requests, by lane and result.
pub(crate) struct Requests(By<Lane, By<RequestResult, IntCounter>>);

impl Requests {
    pub(crate) fn at(&self, lane: Lane, result: RequestResult) -> &IntCounter {
        self.0.at(lane).at(result)
    }
}

/// Attempts. That of most of them, accepted for no reason, is looked up once.
pub(crate) struct Attempts {
    all: IntCounterVec,
    accepted: By<Provider, By<Form, IntCounter>>,
}

impl Attempts {
    pub(crate) fn at(&self, provider: Provider, form: Form, outcome: &'static str, reason: &'static str) -> IntCounter {
        if (outcome, reason) == ("accepted", "none") {
            return self.accepted.at(provider).at(form).clone();
        }
        self.all.with_label_values(&[provider.as_str(), form.as_str(), outcome, reason])
    }
}

/// All of them.
pub(crate) struct Handles {
    pub(crate) registry: Registry,
    pub(crate) requests: Requests,
    pub(crate) attempts: Attempts,
    pub(crate) attempt_time: By<Provider, Histogram>,
    pub(crate) accept_time: By<Lane, Histogram>,
    pub(crate) closed: By<State, IntCounter>,
    pub(crate) receipts: By<ReceiptKind, IntCounter>,
    pub(crate) receipt_time: Histogram,
    pub(crate) fallback_owed: IntCounter,
    pub(crate) fallback_not_owed: By<NotOwed, IntCounter>,
    pub(crate) fallback_sent: IntCounter,
    pub(crate) fallback_cancelled: By<CancelledBy, IntCounter>,
    pub(crate) due_lag: By<DispatchQueue, Gauge>,
    pub(crate) lease_lapses: IntCounter,
    pub(crate) in_flight: IntGauge,
    pub(crate) budget: IntGauge,
    pub(crate) parked: IntCounterVec,
    pub(crate) pauses: IntCounterVec,
    pub(crate) paused: IntGaugeVec,
    pub(crate) pruned: By<Provider, IntCounter>,
    pub(crate) stale_hints: IntCounter,
    pub(crate) late_records: IntCounter,
    pub(crate) batch_size: By<BatchStep, Histogram>,
    pub(crate) events: IntCounter,
    pub(crate) http: By<HttpRoute, By<StatusClass, IntCounter>>,
    pub(crate) http_time: By<HttpRoute, Histogram>,
    pub(crate) throttled: IntCounter,
    pub(crate) impossible: IntCounter,
    broker: Mutex<Broker>,
}

/// Counters that follow totals kept elsewhere.
struct Broker {
    losses: IntCounter,
    failed_connects: IntCounter,
    refused: IntCounter,
    unconfirmed: IntCounter,
}

impl Handles {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let handles = Self {
            requests: requests(r),
            attempts: attempts(r),
            attempt_time: histograms(r, &family::ATTEMPT_TIME),
            accept_time: histograms(r, &family::ACCEPT_TIME),
            closed: By::new(family::closed_states(), one_of(&counters(r, &family::CLOSED))),
            receipts: By::all(one_of(&counters(r, &family::RECEIPTS))),
            receipt_time: histogram_vec(r, &family::RECEIPT_TIME).with_label_values::<&str>(&[]),
            fallback_owed: counter(r, &family::FALLBACK_OWED),
            fallback_not_owed: By::all(one_of(&counters(r, &family::FALLBACK_NOT_OWED))),
            fallback_sent: counter(r, &family::FALLBACK_SENT),
            fallback_cancelled: By::all(one_of(&counters(r, &family::FALLBACK_CANCELLED))),
            due_lag: due_lag(r),
            lease_lapses: counter(r, &family::LEASE_LAPSES),
            in_flight: gauge(r, &family::IN_FLIGHT),
            budget: gauge(r, &family::BUDGET),
            parked: counters(r, &family::PARKED),
            pauses: counters(r, &family::PAUSES),
            paused: gauges(r, &family::PAUSED),
            pruned: By::all(one_of(&counters(r, &family::PRUNED))),
            stale_hints: counter(r, &family::STALE_HINTS),
            late_records: counter(r, &family::LATE_RECORDS),
            batch_size: histograms(r, &family::BATCH_SIZE),
            events: counter(r, &family::EVENTS),
            http: http(r),
            http_time: histograms(r, &family::HTTP_TIME),
            throttled: counter(r, &family::THROTTLED),
            impossible: counter(r, &family::IMPOSSIBLE),
            broker: Mutex::new(broker(r)),
            registry,
        };
        handles.start_at_zero();
        handles
    }

    /// Makes the series that are not looked up beforehand.
    fn start_at_zero(&self) {
        for code in PARK_CODES {
            self.parked.with_label_values(&[code]);
        }
        for provider in Provider::ALL {
            for reason in family::pause_reasons() {
                self.paused.with_label_values(&[provider.as_str(), reason]);
                self.pauses.with_label_values(&[provider.as_str(), reason]);
            }
        }
    }

    /// The lock keeps two scrapes at once from adding the same difference twice.
    pub(crate) fn catch_up(&self, totals: BrokerTotals) {
        let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        for (counter, total) in [
            (&broker.losses, totals.losses),
            (&broker.failed_connects, totals.failed_connects),
            (&broker.refused, totals.refused),
            (&broker.unconfirmed, totals.unconfirmed),
        ] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

fn requests(registry: &Registry) -> Requests {
    let all = counters(registry, &family::REQUESTS);
    Requests(By::all(|lane| By::all(|result| all.with_label_values(&[lane, result]))))
}

fn attempts(registry: &Registry) -> Attempts {
    let all = counters(registry, &family::ATTEMPTS);
    let accepted = By::all(|provider| By::all(|form| all.with_label_values(&[provider, form, "accepted", "none"])));
    Attempts { all, accepted }
}

fn http(registry: &Registry) -> By<HttpRoute, By<StatusClass, IntCounter>> {
    let all = counters(registry, &family::HTTP);
    By::all(|route| By::all(|status| all.with_label_values(&[route, status])))
}

fn due_lag(registry: &Registry) -> By<DispatchQueue, Gauge> {
    let opts = opts(&family::DUE_LAG);
    let all = registered(registry, GaugeVec::new(opts, &names(&family::DUE_LAG)).expect(CHECKED));
    By::all(|queue| all.with_label_values(&[queue]))
}

fn broker(registry: &Registry) -> Broker {
    Broker {
        losses: counter(registry, &family::BROKER_LOSSES),
        failed_connects: counter(registry, &family::BROKER_FAILED_CONNECTS),
        refused: counter(registry, &family::BROKER_REFUSED),
        unconfirmed: counter(registry, &family::BROKER_UNCONFIRMED),
    }
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help())
}

fn names(family: &Family) -> Vec<&'static str> {
    family.labels.iter().copied().map(LabelName::as_str).collect()
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect(CHECKED);
    collector
}

fn counter(registry: &Registry, family: &Family) -> IntCounter {
    registered(registry, IntCounter::with_opts(opts(family)).expect(CHECKED))
}

fn counters(registry: &Registry, family: &Family) -> IntCounterVec {
    registered(registry, IntCounterVec::new(opts(family), &names(family)).expect(CHECKED))
}

fn gauge(registry: &Registry, family: &Family) -> IntGauge {
    registered(registry, IntGauge::with_opts(opts(family)).expect(CHECKED))
}

fn gauges(registry: &Registry, family: &Family) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(opts(family), &names(family)).expect(CHECKED))
}

fn histogram_vec(registry: &Registry, family: &Family) -> HistogramVec {
    let Kind::Histogram(bounds) = family.kind else { unreachable!("{} is a histogram", family.name) };
    let opts = HistogramOpts::new(family.name, family.help()).buckets(bounds.to_vec());
    registered(registry, HistogramVec::new(opts, &names(family)).expect(CHECKED))
}

fn histograms<L: Label>(registry: &Registry, family: &Family) -> By<L, Histogram> {
    let all = histogram_vec(registry, family);
    By::all(|label| all.with_label_values(&[label]))
}

/// The handle for one value of a counter with one label.
fn one_of(all: &IntCounterVec) -> impl Fn(&'static str) -> IntCounter {
    move |label| all.with_label_values(&[label])
}
