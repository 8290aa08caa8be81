//! When another connect may begin.
//!
//! Stands under the pool, which asks before each connect and tells what came of it. Apple treats repeated opening and
//! closing as an attack, so three things bound it, whatever goes wrong:
//!
//! | after | no connect for |
//! | --- | --- |
//! | a connect failed, n in a row | the back-off of n ([`backoff::delay`]), [`backoff::UNREACHABLE`] at most |
//! | a connection ended that never answered, n in a row | the back-off of n − 1: a server may refuse one stream and close |
//! | a GOAWAY with ENHANCE_YOUR_CALM, n in a row | the back-off of n |
//! | `per_minute` connects within 60 s that did not fail | the rest of the 60 s |
//!
//! An answer forgets all but the last, if it came on a connection that was opened after the last trouble: what an older one
//! answers says nothing about opening another. Never sleeps: it only says yes or no.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff;

const MINUTE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    per_minute: usize,
    /// When the connects of the last minute began that have not failed; never more than `per_minute`.
    begun: VecDeque<Instant>,
    /// Connects that failed, and GOAWAYs that asked for calm, since the last answer.
    failed: u32,
    /// Connections that ended without having answered anything, since the last answer.
    barren: u32,
    not_before: Option<Instant>,
    /// When one of these three was last seen.
    trouble: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(per_minute: usize) -> Self {
        Self { per_minute, begun: VecDeque::new(), failed: 0, barren: 0, not_before: None, trouble: None }
    }

    /// Whether a connect may begin.
    pub(crate) fn may_begin(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|until| until <= now) && !self.is_spent(now)
    }

    /// A connect begins. True if it is the last that its minute allows.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        while self.begun.len() >= self.per_minute {
            self.begun.pop_front();
        }
        self.begun.push_back(now);
        self.is_spent(now)
    }

    /// The connect that began last failed. Returns how long there will be none. It doesn't count in its minute: an outage
    /// must not use up what its end needs.
    pub(crate) fn failed(&mut self, now: Instant, random: u64) -> Duration {
        self.begun.pop_back();
        self.failed = self.failed.saturating_add(1);
        self.rest(now, backoff::delay(self.failed, backoff::UNREACHABLE, random))
    }

    /// The server asks for calm.
    pub(crate) fn calmed(&mut self, now: Instant, random: u64) {
        self.failed = self.failed.saturating_add(1);
        self.rest(now, backoff::delay(self.failed, backoff::BARREN, random));
    }

    /// A connection ended that never answered.
    pub(crate) fn barren(&mut self, now: Instant, random: u64) {
        self.barren = self.barren.saturating_add(1);
        self.rest(now, backoff::delay(self.barren - 1, backoff::BARREN, random));
    }

    /// An answer came on a connection that was opened at `opened`.
    pub(crate) fn answered(&mut self, opened: Instant) {
        if self.trouble.take_if(|trouble| *trouble <= opened).is_some() {
            (self.failed, self.barren, self.not_before) = (0, 0, None);
        }
    }

    fn rest(&mut self, now: Instant, rest: Duration) -> Duration {
        self.trouble = Some(now);
        self.not_before = self.not_before.max(Some(now + rest));
        rest
    }

    fn is_spent(&self, now: Instant) -> bool {
        self.begun.len() >= self.per_minute && self.begun.front().is_some_and(|first| now < *first + MINUTE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With this, a back-off is as long as it can be, but for a millisecond.
    const LONGEST: u64 = u64::MAX;

    #[test]
    fn no_minute_has_more_connects_than_allowed_whatever_is_answered() {
        let start = Instant::now();
        let mut pace = Pace::new(3);
        let begun: Vec<u64> = (0..200)
            .filter(|second| {
                let now = start + Duration::from_secs(*second);
                pace.answered(now);
                let may = pace.may_begin(now);
                if may {
                    pace.begin(now);
                }
                may
            })
            .collect();
        assert_eq!(begun, [0, 1, 2, 60, 61, 62, 120, 121, 122, 180, 181, 182]);
    }

    #[test]
    fn the_last_connect_of_a_minute_says_so() {
        let now = Instant::now();
        let mut pace = Pace::new(2);
        assert!(!pace.begin(now));
        assert!(pace.begin(now));
        assert!(!pace.may_begin(now + Duration::from_secs(59)));
        assert!(pace.may_begin(now + Duration::from_secs(60)));
    }

    #[test]
    fn a_failed_connect_is_followed_by_a_rest_and_an_answer_ends_it() {
        let now = Instant::now();
        let mut pace = Pace::new(100);
        let rest = pace.failed(now, LONGEST);
        assert!(rest > Duration::ZERO && !pace.may_begin(now) && pace.may_begin(now + rest));
        pace.answered(now + Duration::from_millis(1));
        assert!(pace.may_begin(now));
    }

    #[test]
    fn what_an_older_connection_answers_ends_no_rest() {
        let opened = Instant::now();
        let now = opened + Duration::from_secs(1);
        let failed = |pace: &mut Pace| {
            pace.failed(now, LONGEST);
        };
        let calmed = |pace: &mut Pace| pace.calmed(now, LONGEST);
        for trouble in [&failed as &dyn Fn(&mut Pace), &calmed] {
            let mut pace = Pace::new(100);
            trouble(&mut pace);
            pace.answered(opened);
            assert!(!pace.may_begin(now));
            pace.answered(now);
            assert!(pace.may_begin(now));
        }
    }

    #[test]
    fn connects_that_failed_leave_the_minute_to_those_that_did_not() {
        let now = Instant::now();
        let mut pace = Pace::new(2);
        for _ in 0..10 {
            pace.begin(now);
            pace.failed(now, 0);
        }
        assert!(pace.may_begin(now) && !pace.begin(now) && pace.may_begin(now) && pace.begin(now));
    }

    #[test]
    fn the_first_barren_connection_costs_nothing_and_does_not_shorten_another_rest() {
        let now = Instant::now();
        let mut pace = Pace::new(100);
        pace.barren(now, LONGEST);
        assert!(pace.may_begin(now));
        pace.barren(now, LONGEST);
        assert!(!pace.may_begin(now));
        let mut pace = Pace::new(100);
        let rest = pace.failed(now, LONGEST);
        pace.barren(now, LONGEST);
        assert!(!pace.may_begin(now) && pace.may_begin(now + rest));
    }
}
