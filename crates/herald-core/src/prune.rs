//! Whether a dead token ends a subscription. A decision of its own: our fault never costs the user's device (G5).
//!
//! Stands in record, before [`crate::delivery::step`]. Three questions are asked of a `gone`:
//!
//! 1. *Is it about this token?* APNs' 410 says since when the token has been dead. If the app presented the token after
//!    that, the answer is **stale** and proves nothing (signal-server's rule).
//! 2. *Could it be our own fault?* `BadDeviceToken`, a wrong sender and the like are what a sandbox token on production,
//!    or a wrong service account, look like. Such a `guarded` answer is believed only when it is **said twice, and in
//!    between a push was accepted** that went the same way: by this process, to the same provider and environment. So a
//!    fault of ours must have come, gone and come back to be taken for a dead token ([`Case`]). And it needs the leave of
//!    the [`MassFailureGuard`]: most of the app's other pushes are accepted.
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

/// After more than this many tokens in a row, without an accepted push in between, nothing is pruned: a fault of ours that
/// begins after hours of success is noticed at once, not when its share of the window is large enough.
pub const MAX_RUN: u64 = 3;

/// A token that is refused again sooner than this is in the guard's counts already: they go back four minutes at least.
pub const COUNTED: Duration = Duration::from_secs(240);

/// What one app's provider answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MassFailureGuard {
    /// Pushes accepted in the last [`WINDOW`], over all replicas.
    pub accepted: u64,
    /// Answers that are `gone` and guarded in the last [`WINDOW`], over all replicas.
    pub suspect: u64,
    /// The longest run of tokens refused so just now, on this replica.
    pub run: u64,
}

/// What the guard allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Prune what was said twice: others are accepted, so the token is to blame.
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

/// What else is known of the token that a `gone` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// When the app last presented the token.
    pub confirmed_at: Timestamp,
    /// When the delivery's push before this one was answered, if that was `gone` too.
    pub refused_at: Option<Timestamp>,
    /// When the latest push began that this process had seen accepted before it began this one, of the same app, provider
    /// and environment.
    pub accepted_at: Option<Timestamp>,
}

impl Case {
    /// Has the provider said so of this token before?
    fn is_repeated(self) -> bool {
        self.refused_at.is_some_and(|at| at >= self.confirmed_at)
    }

    /// Did our side work after it was said first, and before it was said again?
    fn is_confirmed(self) -> bool {
        self.is_repeated() && self.refused_at < self.accepted_at
    }
}

/// What a `gone` means for the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The token is dead: end the subscription.
    Dead,
    /// The answer is older than the token's last presentation.
    Stale,
    /// Said for the first time, while others are accepted: ask again soon.
    Unconfirmed,
    /// Perhaps our own fault.
    Unproven,
}

/// Judges an outcome; `None` unless it is `gone`.
pub fn judge(outcome: Outcome, case: Case, guard: MassFailureGuard) -> Option<Verdict> {
    let Outcome::Gone { since, guarded } = outcome else { return None };
    Some(match (since, guarded) {
        (Some(since), _) if since < case.confirmed_at => Verdict::Stale,
        (_, false) => Verdict::Dead,
        (_, true) => match guard.leave() {
            Leave::Prune if case.is_confirmed() => Verdict::Dead,
            Leave::Prune if !case.is_repeated() => Verdict::Unconfirmed,
            Leave::Prune | Leave::Wait | Leave::Trip => Verdict::Unproven,
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

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// The token was presented at 10.
    fn case(refused_at: Option<i64>, accepted_at: Option<i64>) -> Case {
        Case { confirmed_at: at(10), refused_at: refused_at.map(at), accepted_at: accepted_at.map(at) }
    }

    const GUARDED: Outcome = Outcome::Gone { since: None, guarded: true };

    #[test]
    fn a_410_older_than_the_token_is_stale_and_a_newer_one_is_proof() {
        let gone = |since, guarded| Outcome::Gone { since, guarded };
        let healthy = guard(100, 1);
        for (outcome, seen, want) in [
            (gone(Some(at(9)), false), healthy, Some(Verdict::Stale)),
            (gone(Some(at(10)), false), healthy, Some(Verdict::Dead)),
            (gone(Some(at(11)), false), guard(0, 1), Some(Verdict::Dead)),
            (gone(None, false), healthy, Some(Verdict::Dead)),
            (gone(None, true), healthy, Some(Verdict::Unconfirmed)),
            (gone(None, true), guard(0, 1), Some(Verdict::Unproven)),
            (gone(None, true), guard(10, 90), Some(Verdict::Unproven)),
            (Outcome::Unauthorized, healthy, None),
            (Outcome::Misconfigured, healthy, None),
            (Outcome::Invalid, healthy, None),
            (Outcome::Unknown, healthy, None),
        ] {
            assert_eq!(judge(outcome, case(None, Some(9)), seen), want, "{outcome:?} {seen:?}");
        }
    }

    #[test]
    fn a_guarded_answer_is_believed_when_it_is_said_twice_with_an_accepted_push_in_between() {
        let healthy = guard(100, 1);
        for (refused_at, accepted_at, seen, want) in [
            (None, None, healthy, Verdict::Unconfirmed),
            (None, Some(99), healthy, Verdict::Unconfirmed),
            (Some(20), None, healthy, Verdict::Unproven),
            (Some(20), Some(19), healthy, Verdict::Unproven),
            (Some(20), Some(20), healthy, Verdict::Unproven),
            (Some(20), Some(21), healthy, Verdict::Dead),
            (Some(20), Some(21), guard(0, 1), Verdict::Unproven),
            (Some(20), Some(21), guard(100, 90), Verdict::Unproven),
            // What was said of the token before this one is no word about this one.
            (Some(9), Some(21), healthy, Verdict::Unconfirmed),
        ] {
            let case = case(refused_at, accepted_at);
            assert_eq!(judge(GUARDED, case, seen), Some(want), "{case:?} {seen:?}");
        }
    }

    /// A push to one of a few living tokens, in milliseconds: it begins, the provider decides, the answer is seen.
    #[derive(Debug, Clone, Copy)]
    struct Sent {
        token: usize,
        begun: i64,
        decided: i64,
        seen: i64,
    }

    fn sent() -> impl Strategy<Value = Sent> {
        (0usize..4, 0i64..60_000, 0i64..3_000, 0i64..3_000).prop_map(|(token, begun, until_decided, until_seen)| Sent {
            token,
            begun,
            decided: begun + until_decided,
            seen: begun + until_decided + until_seen,
        })
    }

    proptest! {
        #[test]
        fn when_nothing_is_accepted_no_guarded_answer_prunes(suspect in 1u64..1_000_000, refused in 10i64..100) {
            let verdict = judge(GUARDED, case(Some(refused), Some(refused + 1)), guard(0, suspect));
            prop_assert_eq!(verdict, Some(Verdict::Unproven));
        }

        #[test]
        fn one_fault_of_ours_prunes_no_token_whenever_it_comes_and_however_long_it_stays(
            sent in proptest::collection::vec(sent(), 1..25),
            (begins, lasts) in (0i64..60_000, 0i64..60_000),
        ) {
            let moment = |millis| Timestamp::from_micros(millis * 1_000);
            let refused = |push: &Sent| (begins..begins + lasts).contains(&push.decided);
            for push in sent.iter().filter(|push| refused(push)) {
                let before = |other: &&Sent| other.seen <= push.begun;
                // The delivery's push before this one is any of the same token.
                for first in sent.iter().filter(before).filter(|first| first.token == push.token && refused(first)) {
                    let accepted = sent.iter().filter(before).filter(|other| !refused(other));
                    let case = Case {
                        confirmed_at: Timestamp::from_micros(0),
                        refused_at: Some(moment(first.seen)),
                        accepted_at: accepted.map(|other| moment(other.begun)).max(),
                    };
                    prop_assert_eq!(judge(GUARDED, case, guard(1_000, 1)), Some(Verdict::Unproven));
                }
            }
        }
    }
}
