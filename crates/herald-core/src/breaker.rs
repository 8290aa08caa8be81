//! The circuit breaker of one app's provider: a provider in trouble is probed, not stormed.
//!
//! Stands before push (may this be sent now?) and in record (what did the answer say?). A value: it neither sleeps nor
//! locks. *Why per app and provider:* one tenant's bad key, or one provider's outage, must not slow the others.
//!
//! **Trips** (the first that holds):
//! - at once on `unauthorized`, `misconfigured` and a provider-wide throttle: every further push would fare the same, and
//!   a wrong key that is used on costs connections;
//! - when at least [`MIN_FAILURES`] attempts in the current window of [`WINDOW`] failed as `unavailable`, `not sent` or `unknown`, and
//!   they are half or more of all attempts;
//! - when [`MIN_FAILURES`] attempts in it were answered as `unavailable` with none in between that proves the opposite: however long all was
//!   well before, that is an outage. (Lost connections are not counted here: one takes all that was on it.)
//!
//! A `Retry-After` is a floor of the open, that of answers to pushes that were still in flight too. One answer with a
//! `Retry-After` does not trip it: that is one front end's word about one push, which waits by itself.
//!
//! **While open** nothing is sent; deliveries get the open's end as their `next_at` and give their place in the budget
//! back. **After it** a few probes go first ([`PROBES`] at once); the first proof that the provider works (accepted, gone,
//! invalid, throttled for a device: any answer about the push itself) closes it, the next failure opens it for longer.

use std::time::Duration;

use crate::outcome::{Outcome, Scope};
use crate::retry::MAX_RETRY_AFTER;
use crate::time::Timestamp;

/// Failures are counted over this long.
pub const WINDOW: Duration = Duration::from_secs(30);
/// Fewer failures than this never trip it.
pub const MIN_FAILURES: u32 = 10;
/// Probes in flight at once after an open.
pub const PROBES: u32 = 2;
/// A probe that has no answer after so long counts no more, and another goes: those that were sent while the provider still
/// hung must not hold back what waits for its return.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// An open that gets longer by less than this is not worth telling the other replicas.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// How long what is not a probe stays away while the probes are out: answers take less, and each look costs a take.
pub const PROBE_HOLD: Duration = Duration::from_secs(2);

/// The state of one app's provider, as one replica sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Sending; counts of the current window.
    Closed {
        /// When the window began.
        since: Timestamp,
        /// Attempts in it that prove that the provider works.
        good: u32,
        /// Attempts in it that do not.
        bad: u32,
        /// `unavailable` answers in it since the last attempt that proves that the provider works.
        run: u32,
    },
    /// Sending nothing.
    Open {
        /// Until then.
        until: Timestamp,
        /// How often it opened in a row.
        times: u16,
    },
    /// The open has ended; probes decide.
    Probing {
        /// Probes in flight.
        probes: u32,
        /// When a probe was last let go; see [`PROBE_PATIENCE`].
        at: Timestamp,
        /// How often it opened in a row.
        times: u16,
    },
}

/// Why a breaker opened. Bounded: a metric label and the pause's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trip {
    /// Credentials refused.
    Unauthorized,
    /// Topic, project or environment wrong.
    Misconfigured,
    /// Throttled as a whole.
    Throttled,
    /// In trouble, or out of reach.
    Unavailable,
    /// Too many tokens answered as dead: the mass-failure guard.
    MassFailure,
}

impl Trip {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::Unauthorized, Self::Misconfigured, Self::Throttled, Self::Unavailable, Self::MassFailure];

    /// The label in metrics and the `reason` of a pause.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Misconfigured => "misconfigured",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::MassFailure => "mass_failure",
        }
    }

    /// Reads its label.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == text)
    }

    /// The first open's length; each further one in a row doubles it, up to the second value, or the operator's bound.
    const fn lengths(self) -> (Duration, Duration) {
        match self {
            // A person must act; a probe every quarter of an hour, if not sooner, notices that they have.
            Self::Unauthorized | Self::Misconfigured => (Duration::from_secs(30), Duration::from_secs(900)),
            Self::MassFailure => (Duration::from_secs(300), Duration::from_secs(900)),
            // Providers come back by themselves; the backlog should go within seconds of it.
            Self::Unavailable => (Duration::from_secs(1), Duration::from_secs(5)),
            Self::Throttled => (Duration::from_secs(60), Duration::from_secs(3_600)),
        }
    }
}

/// May a push go now?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Go,
    /// No; be due again then.
    Hold(Timestamp),
}

/// How an attempt looks to the breaker.
enum Sign {
    Good,
    Bad(Option<Duration>),
    Trip(Trip, Option<Duration>),
}

fn sign(outcome: Outcome) -> Sign {
    match outcome {
        Outcome::Accepted
        | Outcome::Gone { .. }
        | Outcome::Invalid
        | Outcome::Throttled { scope: Scope::Device, .. } => Sign::Good,
        Outcome::NotSent | Outcome::Unknown => Sign::Bad(None),
        Outcome::Unavailable { after, .. } => Sign::Bad(after),
        Outcome::Throttled { scope: Scope::Provider, after } => Sign::Trip(Trip::Throttled, after),
        Outcome::Unauthorized => Sign::Trip(Trip::Unauthorized, None),
        Outcome::Misconfigured => Sign::Trip(Trip::Misconfigured, None),
    }
}

impl Breaker {
    /// A breaker that has seen nothing yet.
    pub const fn new(now: Timestamp) -> Self {
        Self::Closed { since: now, good: 0, bad: 0, run: 0 }
    }

    /// Asks for leave to send one push; a probe is counted as in flight.
    pub fn admit(&mut self, now: Timestamp) -> Admission {
        match *self {
            Self::Closed { .. } => Admission::Go,
            Self::Open { until, .. } if now < until => Admission::Hold(until),
            Self::Open { times, .. } => {
                *self = Self::Probing { probes: 1, at: now, times };
                Admission::Go
            }
            Self::Probing { probes, at, times } => {
                if probes < PROBES || now.since(at) >= PROBE_PATIENCE {
                    *self = Self::Probing { probes: probes.min(PROBES - 1) + 1, at: now, times };
                    Admission::Go
                } else {
                    Admission::Hold(now.plus(PROBE_HOLD))
                }
            }
        }
    }

    /// Takes in what an attempt came to. A returned trip says why and until when it opened just now. `longest` bounds an
    /// open that no `Retry-After` asked for.
    pub fn observe(&mut self, outcome: Outcome, now: Timestamp, longest: Duration) -> Option<(Trip, Timestamp)> {
        match (sign(outcome), *self) {
            (Sign::Bad(Some(after)), Self::Open { until, times }) => {
                let asked = now.plus(after.min(MAX_RETRY_AFTER));
                *self = Self::Open { until: until.max(asked), times };
                (asked > until.plus(WORTH_TELLING)).then_some((Trip::Unavailable, asked))
            }
            // Other answers to pushes that were in flight when it opened say nothing new.
            (_, Self::Open { .. }) => None,
            (Sign::Trip(trip, after), _) => Some(self.open(trip, after, now, longest)),
            (Sign::Good, Self::Probing { .. }) => {
                *self = Self::new(now);
                None
            }
            (Sign::Bad(after), Self::Probing { .. }) => Some(self.open(Trip::Unavailable, after, now, longest)),
            (Sign::Good, Self::Closed { since, good, bad, .. }) => {
                *self = match now.since(since) > WINDOW {
                    true => Self::Closed { since: now, good: 1, bad: 0, run: 0 },
                    false => Self::Closed { since, good: good + 1, bad, run: 0 },
                };
                None
            }
            (Sign::Bad(after), Self::Closed { since, good, bad, run }) => {
                let over = now.since(since) > WINDOW;
                let (since, good, bad, run) = if over { (now, 0, 0, 0) } else { (since, good, bad, run) };
                let bad = bad + 1;
                let run = run + u32::from(matches!(outcome, Outcome::Unavailable { .. }));
                *self = Self::Closed { since, good, bad, run };
                let trips = run >= MIN_FAILURES || (bad >= MIN_FAILURES && bad >= good);
                trips.then(|| self.open(Trip::Unavailable, after, now, longest))
            }
        }
    }

    /// Opens it for this reason; also used when the mass-failure guard trips. The length is `after`, if the provider named
    /// one, else the reason's, but not more than `longest`.
    pub fn open(
        &mut self,
        trip: Trip,
        after: Option<Duration>,
        now: Timestamp,
        longest: Duration,
    ) -> (Trip, Timestamp) {
        let times = match *self {
            Self::Closed { .. } => 0,
            Self::Open { times, .. } | Self::Probing { times, .. } => times.saturating_add(1),
        };
        let (first, most) = trip.lengths();
        let length = first.saturating_mul(1 << times.min(12)).min(most).min(longest);
        // A provider in trouble that asks for less is left alone as long as without it.
        let until = now.plus(match (trip, after) {
            (Trip::Unavailable, Some(after)) => after.min(MAX_RETRY_AFTER).max(length),
            (_, Some(after)) => after.min(MAX_RETRY_AFTER),
            (_, None) => length,
        });
        *self = Self::Open { until, times };
        (trip, until)
    }

    /// Takes over a pause that another replica, or an operator, wrote to the store.
    pub fn pause(&mut self, until: Timestamp) {
        match *self {
            Self::Open { until: mine, .. } if mine >= until => {}
            Self::Open { times, .. } | Self::Probing { times, .. } => *self = Self::Open { until, times },
            Self::Closed { .. } => *self = Self::Open { until, times: 0 },
        }
    }

    /// An operator resumed it, or another replica's probe was accepted: probe now.
    pub fn resume(&mut self, now: Timestamp) {
        if let Self::Open { times, .. } = *self {
            *self = Self::Open { until: now, times };
        }
    }

    /// Until when nothing is sent; none if it is closed, or probes decide.
    pub const fn open_until(&self) -> Option<Timestamp> {
        match self {
            Self::Open { until, .. } => Some(*until),
            Self::Closed { .. } | Self::Probing { .. } => None,
        }
    }

    /// Is it closed?
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What a push waits in any case is no matter of the breaker.
    const BAD: Outcome = Outcome::Unavailable { after: None, least: Duration::from_secs(10) };
    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn half_of_at_least_ten_failures_trip_it() {
        let mut breaker = Breaker::new(at(0));
        for _ in 0..9 {
            assert_eq!(breaker.observe(BAD, at(1), HOUR), None);
        }
        assert_eq!(breaker.observe(BAD, at(1), HOUR), Some((Trip::Unavailable, at(2))));

        let mut mostly_good = Breaker::new(at(0));
        for _ in 0..20 {
            assert_eq!(mostly_good.observe(Outcome::Accepted, at(1), HOUR), None);
        }
        for _ in 0..19 {
            assert_eq!(mostly_good.observe(Outcome::Unknown, at(1), HOUR), None);
        }
        assert!(mostly_good.observe(Outcome::Unknown, at(1), HOUR).is_some());
    }

    #[test]
    fn ten_answers_of_trouble_in_a_row_trip_it_however_long_all_was_well() {
        let mut breaker = Breaker::new(at(0));
        for _ in 0..1_000 {
            assert_eq!(breaker.observe(Outcome::Accepted, at(1), HOUR), None);
        }
        for outcome in [BAD, Outcome::Accepted].repeat(30).into_iter().chain([BAD; 9]) {
            assert_eq!(breaker.observe(outcome, at(1), HOUR), None);
        }
        assert_eq!(breaker.observe(BAD, at(1), HOUR), Some((Trip::Unavailable, at(2))));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut breaker = Breaker::new(at(0));
        for _ in 0..9 {
            assert_eq!(breaker.observe(BAD, at(1), HOUR), None);
        }
        assert_eq!(breaker.observe(BAD, at(60), HOUR), None);
    }

    #[test]
    fn our_own_faults_trip_at_once_and_a_retry_after_is_kept() {
        for (outcome, want) in [
            (Outcome::Unauthorized, (Trip::Unauthorized, at(40))),
            (Outcome::Misconfigured, (Trip::Misconfigured, at(40))),
            (
                Outcome::Throttled { scope: Scope::Provider, after: Some(Duration::from_secs(7)) },
                (Trip::Throttled, at(17)),
            ),
        ] {
            assert_eq!(Breaker::new(at(0)).observe(outcome, at(10), HOUR), Some(want));
        }
    }

    #[test]
    fn it_holds_while_open_probes_after_and_closes_on_the_first_proof() {
        let mut breaker = Breaker::new(at(0));
        breaker.observe(Outcome::Unauthorized, at(0), HOUR);
        assert_eq!(breaker.admit(at(29)), Admission::Hold(at(30)));
        assert_eq!(breaker.admit(at(30)), Admission::Go);
        assert_eq!(breaker.admit(at(30)), Admission::Go);
        assert!(matches!(breaker.admit(at(30)), Admission::Hold(_)));
        assert_eq!(breaker.observe(Outcome::Unauthorized, at(31), HOUR), Some((Trip::Unauthorized, at(91))));
        assert_eq!(breaker.admit(at(91)), Admission::Go);
        assert_eq!(breaker.observe(Outcome::Accepted, at(92), HOUR), None);
        assert!(breaker.is_closed());
        assert_eq!(breaker.admit(at(92)), Admission::Go);
    }

    #[test]
    fn a_probe_that_never_reports_does_not_hold_it_for_ever() {
        let mut breaker = Breaker::new(at(0));
        breaker.open(Trip::Unavailable, None, at(0), HOUR);
        assert_eq!(breaker.admit(at(1)), Admission::Go);
        assert_eq!(breaker.admit(at(1)), Admission::Go);
        assert!(matches!(breaker.admit(at(3)), Admission::Hold(_)));
        assert_eq!(breaker.admit(at(4)), Admission::Go);
        assert!(matches!(breaker.admit(at(4)), Admission::Hold(_)));
        // The provider is back; what the older probes came to says nothing any more.
        assert_eq!(breaker.observe(Outcome::Accepted, at(5), HOUR), None);
        assert_eq!(breaker.observe(Outcome::Unknown, at(20), HOUR), None);
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_shared_pause_is_taken_over_and_a_resume_probes() {
        let mut breaker = Breaker::new(at(0));
        breaker.pause(at(100));
        assert_eq!(breaker.admit(at(50)), Admission::Hold(at(100)));
        breaker.resume(at(51));
        assert_eq!(breaker.admit(at(51)), Admission::Go);
    }

    #[test]
    fn a_retry_after_of_a_provider_in_trouble_is_kept_by_the_breaker_too() {
        let asks = |secs| Outcome::Unavailable { after: Some(Duration::from_secs(secs)), least: Duration::ZERO };
        let mut breaker = Breaker::new(at(0));
        for _ in 0..9 {
            assert_eq!(breaker.observe(asks(10), at(1), HOUR), None, "one front end's word trips nothing");
        }
        assert_eq!(breaker.observe(asks(10), at(1), HOUR), Some((Trip::Unavailable, at(11))));
        // Of pushes that were in flight: later, hardly later, earlier.
        assert_eq!(breaker.observe(asks(10), at(3), HOUR), Some((Trip::Unavailable, at(13))));
        assert_eq!(breaker.observe(asks(11), at(3), HOUR), None);
        assert_eq!(breaker.observe(asks(1), at(4), HOUR), None);
        assert_eq!(breaker.admit(at(13)), Admission::Hold(at(14)));
        assert_eq!(breaker.admit(at(14)), Admission::Go);
        assert_eq!(breaker.observe(asks(20), at(14), HOUR), Some((Trip::Unavailable, at(34))), "a probe's too");
    }

    #[test]
    fn the_operators_bound_shortens_an_open_but_no_retry_after() {
        let longest = Duration::from_secs(3);
        let mut breaker = Breaker::new(at(0));
        assert_eq!(breaker.observe(Outcome::Unauthorized, at(0), longest), Some((Trip::Unauthorized, at(3))));
        let throttled = Outcome::Throttled { scope: Scope::Provider, after: Some(Duration::from_secs(60)) };
        assert_eq!(Breaker::new(at(0)).observe(throttled, at(0), longest), Some((Trip::Throttled, at(60))));
    }
}
