//! Store time on this replica: the offset measured against the store, plus a monotonic clock.
//!
//! Every decision that compares times reads this clock (docs/protocol.md); nothing reads the wall clock. It does no I/O: the
//! store measures and hands the result in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use herald_core::time::Timestamp;

/// Measurements older than this no longer count: two oscillators drift apart by some milliseconds in that time.
const KEEP: Duration = Duration::from_secs(600);

/// A measurement that contradicts the others by more than this, and by more than its own error, is believed against them: the
/// store's clock was set, or this machine slept and its monotonic clock with it. Oscillators drift by less while one is kept.
const STEP: Duration = Duration::from_millis(200);

/// No more measurements than this are kept.
const MOST: usize = 32;

/// One measurement: the store's time at a moment of ours.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    store: Timestamp,
    round_trip: Duration,
}

/// Store time, cheap to read. Clones share the measurements.
#[derive(Debug, Clone)]
pub struct Clock {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    best: Sample,
    samples: VecDeque<Sample>,
}

impl Clock {
    /// From a first measurement: the store said `store` between `sent` and `answered`.
    pub(crate) fn new(sent: Instant, store: Timestamp, answered: Instant) -> Self {
        let sample = Sample::new(sent, store, answered);
        Self { shared: Arc::new(Mutex::new(Shared { best: sample, samples: VecDeque::from([sample]) })) }
    }

    /// Takes another measurement in. The one with the shortest recent round trip decides: its error is half of that at most.
    pub(crate) fn measured(&self, sent: Instant, store: Timestamp, answered: Instant) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = Sample::new(sent, store, answered);
        if shared.best.contradicts(&sample) {
            shared.samples.clear();
        }
        shared.samples.push_back(sample);
        while shared.samples.len() > MOST
            || shared.samples.front().is_some_and(|s| answered.saturating_duration_since(s.at) > KEEP)
        {
            shared.samples.pop_front();
        }
        if let Some(best) = shared.samples.iter().min_by_key(|s| s.round_trip).copied() {
            shared.best = best;
        }
    }

    /// The store's time now. Goes backwards only when a new measurement says so, and by no more than that.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The store's time at a moment of this process.
    pub fn at(&self, moment: Instant) -> Timestamp {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).best.at_moment(moment)
    }

    /// How wrong it can be: half of the round trip that decides.
    pub fn uncertainty(&self) -> Duration {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).best.round_trip / 2
    }
}

impl Sample {
    fn new(sent: Instant, store: Timestamp, answered: Instant) -> Self {
        let round_trip = answered.saturating_duration_since(sent);
        Self { at: sent + round_trip / 2, store, round_trip }
    }

    fn at_moment(&self, moment: Instant) -> Timestamp {
        match moment.checked_duration_since(self.at) {
            Some(later) => self.store.plus(later),
            None => self.store.minus(self.at.saturating_duration_since(moment)),
        }
    }

    /// Both can't be right.
    fn contradicts(&self, newer: &Self) -> bool {
        let apart = newer.store.micros().abs_diff(self.at_moment(newer.at).micros());
        Duration::from_micros(apart) > STEP + (self.round_trip + newer.round_trip) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_recent_round_trip_decides() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let clock = Clock::new(start, Timestamp::from_secs(1_000), start + ms(100));
        assert_eq!(clock.at(start + ms(50)), Timestamp::from_secs(1_000));
        assert_eq!(clock.uncertainty(), ms(50));
        // Better: 2 ms there and back.
        clock.measured(start + ms(200), Timestamp::from_millis(1_000_160), start + ms(202));
        assert_eq!(clock.at(start + ms(201)), Timestamp::from_millis(1_000_160));
        // Worse: changes nothing.
        clock.measured(start + ms(300), Timestamp::from_millis(1_000_340), start + ms(400));
        assert_eq!(clock.at(start + ms(201)), Timestamp::from_millis(1_000_160));
        // Both better ones are too old by then: the newest is all there is.
        let later = start + KEEP + ms(500);
        clock.measured(later, Timestamp::from_secs(2_000), later + ms(400));
        assert_eq!(clock.at(later + ms(200)), Timestamp::from_secs(2_000));
    }

    #[test]
    fn a_step_of_the_stores_clock_is_believed_at_once_however_short_the_round_trips_before() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let clock = Clock::new(start, Timestamp::from_secs(1_000), start);
        for n in 1..20 {
            clock.measured(start + ms(n), Timestamp::from_secs(1_000).plus(ms(n)), start + ms(n));
        }
        // This machine slept for an hour.
        clock.measured(start + ms(100), Timestamp::from_secs(4_600), start + ms(102));
        assert_eq!(clock.at(start + ms(101)), Timestamp::from_secs(4_600));
    }
}
