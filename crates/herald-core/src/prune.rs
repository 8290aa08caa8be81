//! Whether a dead token ends a subscription. A decision of its own: our fault never costs the user's device (G5).
//!
//! Stands in record, before [`crate::delivery::step`]. Three questions are asked of a `gone`:
//!
//! 1. *Is it about this token?* APNs' 410 says since when the token has been dead. If the app presented the token after
//!    that, the answer is **stale** and proves nothing (signal-server's rule).
//! 2. *Could it be our own fault?* `BadDeviceToken`, a wrong sender and the like are what a sandbox token on production,
//!    or a wrong service account, look like. Such a `guarded` answer prunes only with the leave of the
//!    [`MassFailureGuard`]: this app's other pushes must be accepted meanwhile, and just before.
//! 3. *Is it still the token that was sent to?* That is the store's compare-and-clear, not asked here.

use std::time::Duration;

use crate::outcome::Outcome;
use crate::time::Timestamp;

/// How far back the guard looks, and how long an unproven `gone` waits for its next attempt.
pub const WINDOW: Duration = Duration::from_secs(300);

/// A trip needs this many guarded answers in the window...
pub const TRIP_MIN: u64 = 20;

/// ...and more than this share of all answers, in percent.
pub const TRIP_PERCENT: u64 = 5;

/// No more than this many guarded answers in a row, without an accepted push in between, prune: a fault of ours that
/// begins after hours of success is noticed at once, not when its share of the window is large enough.
pub const MAX_RUN: u64 = 3;

/// What one app's provider answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MassFailureGuard {
    /// Pushes accepted in the last [`WINDOW`], over all replicas.
    pub accepted: u64,
    /// Answers that are `gone` and guarded in the last [`WINDOW`], over all replicas.
    pub suspect: u64,
    /// The longest run of guarded answers just now, on this replica.
    pub run: u64,
}

/// What the guard allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Prune: others are accepted, so the token is to blame.
    Prune,
    /// Don't: there is no proof that our side works. Try again after the window.
    Wait,
    /// Don't, and pause the provider: so many at once are our fault until proven otherwise.
    Trip,
}

impl MassFailureGuard {
    /// May a guarded `gone` end a subscription?
    pub fn leave(self) -> Leave {
        let too_many = self.suspect * 100 > (self.accepted + self.suspect) * TRIP_PERCENT;
        if (too_many && self.suspect >= TRIP_MIN) || self.run >= TRIP_MIN {
            Leave::Trip
        } else if self.run > MAX_RUN || self.accepted == 0 || (too_many && self.suspect > self.accepted) {
            Leave::Wait
        } else {
            Leave::Prune
        }
    }
}

/// What a `gone` means for the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The token is dead: end the subscription.
    Dead,
    /// The answer is older than the token's last presentation.
    Stale,
    /// Perhaps our own fault.
    Unproven,
}

/// Judges an outcome; `None` unless it is `gone`. `confirmed_at`: when the app last presented the token.
pub fn judge(outcome: Outcome, confirmed_at: Timestamp, guard: MassFailureGuard) -> Option<Verdict> {
    let Outcome::Gone { since, guarded } = outcome else { return None };
    Some(match (since, guarded) {
        (Some(since), _) if since < confirmed_at => Verdict::Stale,
        (_, false) => Verdict::Dead,
        (_, true) => match guard.leave() {
            Leave::Prune => Verdict::Dead,
            Leave::Wait | Leave::Trip => Verdict::Unproven,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guard(accepted: u64, suspect: u64) -> MassFailureGuard {
        MassFailureGuard { accepted, suspect, run: 1 }
    }

    #[test]
    fn the_guard_prunes_single_cases_waits_without_proof_and_trips_on_many() {
        for (accepted, suspect, want) in [
            (0, 1, Leave::Wait),
            (0, 19, Leave::Wait),
            (0, 20, Leave::Trip),
            (1, 1, Leave::Prune),
            (1, 2, Leave::Wait),
            (1000, 1, Leave::Prune),
            (1000, 50, Leave::Prune),
            (1000, 60, Leave::Trip),
            (379, 19, Leave::Prune),
        ] {
            assert_eq!(guard(accepted, suspect).leave(), want, "{accepted} accepted, {suspect} suspect");
        }
    }

    #[test]
    fn a_run_of_guarded_answers_stops_pruning_whatever_came_before() {
        for (run, want) in [(3, Leave::Prune), (4, Leave::Wait), (19, Leave::Wait), (20, Leave::Trip)] {
            let after_success = MassFailureGuard { accepted: 1_000_000, suspect: run, run };
            assert_eq!(after_success.leave(), want, "{run} in a row");
        }
    }

    #[test]
    fn a_410_older_than_the_token_is_stale_and_a_newer_one_is_proof() {
        let at = Timestamp::from_secs;
        let gone = |since, guarded| Outcome::Gone { since, guarded };
        let healthy = guard(100, 1);
        for (outcome, seen, want) in [
            (gone(Some(at(9)), false), healthy, Some(Verdict::Stale)),
            (gone(Some(at(10)), false), healthy, Some(Verdict::Dead)),
            (gone(Some(at(11)), false), guard(0, 1), Some(Verdict::Dead)),
            (gone(None, false), healthy, Some(Verdict::Dead)),
            (gone(None, true), healthy, Some(Verdict::Dead)),
            (gone(None, true), guard(0, 1), Some(Verdict::Unproven)),
            (gone(None, true), guard(10, 90), Some(Verdict::Unproven)),
            (Outcome::Unauthorized, healthy, None),
            (Outcome::Misconfigured, healthy, None),
            (Outcome::Invalid, healthy, None),
            (Outcome::Unknown, healthy, None),
        ] {
            assert_eq!(judge(outcome, at(10), seen), want, "{outcome:?} {seen:?}");
        }
    }

    proptest! {
        #[test]
        fn when_nothing_is_accepted_no_guarded_answer_prunes(suspect in 1u64..1_000_000) {
            let gone = Outcome::Gone { since: None, guarded: true };
            prop_assert_eq!(judge(gone, Timestamp::from_secs(0), guard(0, suspect)), Some(Verdict::Unproven));
        }
    }
}
