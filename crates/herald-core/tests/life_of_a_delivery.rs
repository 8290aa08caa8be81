//! Random lives of one delivery: answers, receipts, crashes, lapsed leases, pauses and takes are driven through the
//! decisions of the core against a model of the store, and the guarantees are checked on what came of it.

use std::time::Duration;

use herald_core::delivery::{Delivery, Event, State, Step, Take, at_take, step};
use herald_core::ids::DeliveryId;
use herald_core::invariants::{self, Fact, Promise};
use herald_core::lane::Lane;
use herald_core::outcome::{Outcome, Scope};
use herald_core::prune::Verdict;
use herald_core::push::Form;
use herald_core::time::Timestamp;
use proptest::prelude::*;

const LEASE: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_secs(60);

/// What chance does next.
#[derive(Debug, Clone, Copy)]
enum Chance {
    /// Time goes on by this many seconds.
    Wait(u16),
    /// A worker takes what is due and pushes it; this is what the provider answers.
    Push(Answered),
    /// A worker takes what is due and dies before the push.
    DieBefore,
    /// A worker takes what is due, pushes it and dies before the record.
    DieAfter,
    /// A worker takes what is due, pushes it and sleeps over its lease; another takes it; then the first one records.
    Overrun(Answered),
    /// A worker takes what is due and finds the provider paused for so many seconds.
    Hold(u16),
    /// The app acknowledges.
    Receipt,
    /// The user reads it elsewhere.
    Read,
}

#[derive(Debug, Clone, Copy)]
enum Answered {
    Accepted,
    Dead,
    Unconfirmed,
    Unproven,
    ThrottledDevice,
    ThrottledProvider,
    Unavailable,
    Unauthorized,
    NotSent,
    Unknown,
}

impl Answered {
    fn outcome(self) -> (Outcome, Option<Verdict>) {
        let gone = Outcome::Gone { since: None, guarded: true };
        match self {
            Self::Accepted => (Outcome::Accepted, None),
            Self::Dead => (gone, Some(Verdict::Dead)),
            Self::Unconfirmed => (gone, Some(Verdict::Unconfirmed)),
            Self::Unproven => (gone, Some(Verdict::Unproven)),
            Self::ThrottledDevice => (Outcome::Throttled { scope: Scope::Device, after: None }, None),
            Self::ThrottledProvider => (Outcome::Throttled { scope: Scope::Provider, after: None }, None),
            Self::Unavailable => (Outcome::Unavailable { after: None, least: Duration::ZERO }, None),
            Self::Unauthorized => (Outcome::Unauthorized, None),
            Self::NotSent => (Outcome::NotSent, None),
            Self::Unknown => (Outcome::Unknown, None),
        }
    }
}

fn answered() -> impl Strategy<Value = Answered> {
    prop_oneof![
        6 => Just(Answered::Accepted),
        1 => Just(Answered::Dead),
        1 => Just(Answered::Unconfirmed),
        1 => Just(Answered::Unproven),
        2 => Just(Answered::ThrottledDevice),
        1 => Just(Answered::ThrottledProvider),
        3 => Just(Answered::Unavailable),
        1 => Just(Answered::Unauthorized),
        2 => Just(Answered::NotSent),
        2 => Just(Answered::Unknown),
    ]
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        6 => (0u16..120).prop_map(Chance::Wait),
        6 => answered().prop_map(Chance::Push),
        1 => Just(Chance::DieBefore),
        1 => Just(Chance::DieAfter),
        1 => answered().prop_map(Chance::Overrun),
        1 => (1u16..400).prop_map(Chance::Hold),
        1 => Just(Chance::Receipt),
        1 => Just(Chance::Read),
    ]
}

/// The row, as the store keeps it, and what was seen from outside.
struct World {
    row: Delivery,
    next_at: Option<Timestamp>,
    now: Timestamp,
    subscribed: bool,
    trace: Vec<Fact>,
}

impl World {
    fn new(owed: bool) -> Self {
        let fallback_delay = owed.then_some(DELAY);
        let now = Timestamp::from_secs(1_000_000);
        let row = Delivery {
            id: DeliveryId(uuid::Uuid::from_u128(1)),
            version: 1,
            state: State::Due,
            form: Form::Raw,
            lane: Lane::High,
            fallback_delay,
            deadline_at: None,
            expires_at: now.plus(Duration::from_secs(3_600)),
            takes: 0,
            attempts: 0,
        };
        Self { row, next_at: Some(now), now, subscribed: true, trace: Vec::new() }
    }

    /// The store's take: a compare-and-set, here always of the newest version.
    fn take(&mut self) -> Option<(i64, Take)> {
        if !self.row.state.is_open() || self.next_at.is_none_or(|at| at > self.now) {
            return None;
        }
        self.row.version += 1;
        self.row.takes += 1;
        self.row.state = State::Sending;
        self.next_at = Some(self.now.plus(LEASE));
        if self.row.deadline_at.is_none() {
            self.row.deadline_at = self.row.fallback_delay.map(|delay| self.now.plus(delay));
        }
        Some((self.row.version, at_take(&self.row, self.subscribed, self.now)))
    }

    /// The store's record: the state only at the take's version.
    fn record(&mut self, version: i64, event: Event) {
        if self.row.version != version || !self.row.state.is_open() {
            return;
        }
        let step = step(&self.row, event, self.now).expect("a taken delivery meets any event of its worker");
        if let Event::Attempted { .. } = event {
            self.row.attempts += 1;
        }
        self.write(&step);
        self.row.takes = 0;
    }

    fn write(&mut self, step: &Step) {
        assert_eq!(step.next_at.is_some(), step.state.is_open(), "open means something to do: {step:?}");
        self.row.version += 1;
        self.row.state = step.state;
        self.row.form = step.form;
        self.row.deadline_at = step.deadline_at;
        self.next_at = step.next_at;
        if step.prune {
            self.subscribed = false;
        }
        if !step.state.is_open() {
            self.trace.push(Fact::Closed(step.state, self.now));
        }
    }

    fn answer(&mut self, form: Form, answered: Answered) -> Event {
        let (outcome, verdict) = answered.outcome();
        self.trace.push(match answered {
            Answered::Accepted => Fact::Accepted(form, self.now),
            Answered::Unknown => Fact::Fault,
            Answered::Dead
            | Answered::Unconfirmed
            | Answered::Unproven
            | Answered::ThrottledDevice
            | Answered::ThrottledProvider
            | Answered::Unavailable
            | Answered::Unauthorized
            | Answered::NotSent => Fact::Refused(form, self.now),
        });
        Event::Attempted { form, outcome, verdict, jitter: 0.5, open_until: None }
    }

    /// Takes what is due and hands its push to the provider, if there is one.
    fn push(&mut self) -> Option<(i64, Form)> {
        let (version, take) = self.take()?;
        match take {
            Take::Close(event) => {
                self.record(version, event);
                None
            }
            Take::Push(form) => {
                self.trace.push(Fact::Pushed(form, self.now));
                Some((version, form))
            }
        }
    }

    fn live(&mut self, chance: Chance) {
        match chance {
            Chance::Wait(secs) => self.now = self.now.plus(Duration::from_secs(secs.into())),
            Chance::Push(answered) => {
                if let Some((version, form)) = self.push() {
                    let event = self.answer(form, answered);
                    self.record(version, event);
                }
            }
            Chance::DieBefore => {
                if self.take().is_some() {
                    self.trace.push(Fact::Fault);
                }
            }
            Chance::DieAfter => {
                if self.push().is_some() {
                    self.trace.push(Fact::Fault);
                }
            }
            Chance::Overrun(answered) => {
                if let Some((version, form)) = self.push() {
                    self.now = self.now.plus(LEASE);
                    self.trace.push(Fact::Fault);
                    let other = self.push();
                    let event = self.answer(form, answered);
                    self.record(version, event);
                    if let Some((version, form)) = other {
                        let event = self.answer(form, Answered::Accepted);
                        self.record(version, event);
                    }
                }
            }
            Chance::Hold(secs) => {
                if let Some((version, Take::Push(_))) = self.take() {
                    self.record(version, Event::Held(self.now.plus(Duration::from_secs(secs.into()))));
                }
            }
            Chance::Receipt => {
                if self.trace.iter().any(|fact| matches!(fact, Fact::Pushed(..))) {
                    self.trace.push(Fact::Receipt(self.now));
                    self.end(Event::Received);
                }
            }
            Chance::Read => self.end(Event::Withdrawn),
        }
    }

    /// The store's conditional update of an open row.
    fn end(&mut self, event: Event) {
        if self.row.state.is_open() {
            let step = step(&self.row, event, self.now).expect("an open delivery can end");
            self.write(&step);
        }
    }

    /// No more faults: everything that becomes due is pushed and accepted, to the end.
    fn settle(&mut self) {
        for _ in 0..10 {
            let Some(next) = self.next_at.filter(|_| self.row.state.is_open()) else { return };
            self.now = self.now.max(next);
            self.live(Chance::Push(Answered::Accepted));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_guarantees_hold(owed in any::<bool>(), chances in proptest::collection::vec(chance(), 0..40)) {
        let mut world = World::new(owed);
        for chance in chances {
            world.live(chance);
        }
        world.settle();
        let promise = Promise { fallback: world.row.fallback_delay, expires_at: world.row.expires_at };
        prop_assert_eq!(invariants::check(&promise, &world.trace), Ok(()), "{:?}", world.trace);
    }
}

#[test]
fn without_a_receipt_the_toast_comes_a_delay_after_the_acceptance_and_with_one_it_does_not() {
    let mut deferred = World::new(true);
    deferred.live(Chance::Push(Answered::Accepted));
    deferred.live(Chance::Wait(59));
    deferred.live(Chance::Push(Answered::Accepted));
    assert_eq!(deferred.row.state, State::Watching, "nothing is due before the deadline");
    deferred.live(Chance::Wait(1));
    deferred.live(Chance::Push(Answered::Accepted));
    assert_eq!(deferred.row.state, State::Toasted);

    let mut received = World::new(true);
    received.live(Chance::Push(Answered::Accepted));
    received.live(Chance::Receipt);
    received.live(Chance::Wait(119));
    received.settle();
    assert_eq!(received.row.state, State::Received);
    assert!(!received.trace.iter().any(|fact| matches!(fact, Fact::Pushed(Form::Toast, _))));
}
