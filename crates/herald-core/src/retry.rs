//! When a refused push is tried again. The answer to "why was it sent again?".
//!
//! Stands in record, under [`crate::delivery::step`]. A function of the outcome, the number of attempts and given entropy;
//! the wait itself is a column in the store (`next_at`), never a timer. The whole schedule is this file, so that another
//! library can take its place.
//!
//! | outcome | first wait | grows | at most | why |
//! | --- | --- | --- | --- | --- |
//! | not sent | 1 s | ×2 | 1 min | it was not processed; the client has tried other connections already |
//! | unknown | 10 s | ×2 | 15 min | may have been processed; FCM asks for at least 10 s, a late answer is the common case |
//! | unavailable | 2 s (FCM: 10 s), or `Retry-After` | ×2 | 15 min | one early retry helps alerts; the breaker holds back the rest |
//! | throttled, this device | 10 s, or `Retry-After` | ×2 | 15 min | 10 s → 20 → 40 … 15 min |
//! | throttled, whole provider | 60 s, or `Retry-After` | – | 1 h | FCM's default when it names none |
//! | misconfigured, unauthorized | 1 min | ×2 | 15 min | a person must act; a probe must notice soon that they have |
//! | gone, said for the first time | 10 to 15 s | – | – | a push to another token must be accepted first ([`crate::prune`]) |
//! | gone, not proven | 5 min | – | 5 min | the mass-failure guard's window ([`crate::prune`]) |
//!
//! A `Retry-After` is a floor and is honoured up to an hour.
//!
//! **While the provider's breaker is open** the failure is no word about this delivery, and none of these waits grows: it is
//! tried when the breaker lets probes go, as all that was held meanwhile, so that a backlog is gone seconds after a provider
//! has come back. Only a floor of its own ([`again_at`]) can keep it longer.

use std::time::Duration;

use crate::outcome::{Outcome, Scope};
use crate::prune::WINDOW;
use crate::time::Timestamp;

/// The longest wait that a provider's `Retry-After` can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// What a breaker held comes back spread over this long.
pub const HELD_SPREAD: Duration = Duration::from_secs(1);

/// What may have been processed is not sent again sooner.
const UNKNOWN_FLOOR: Duration = Duration::from_secs(10);

/// How long after a token was first called dead the provider is asked again: long enough for another push to be accepted.
const CONFIRM: Duration = Duration::from_secs(10);

const MAX_WAIT: Duration = Duration::from_secs(15 * 60);

/// How long to wait after an attempt that came to `outcome`; `None` if there is nothing to wait for.
///
/// `attempts` counts the recorded attempts, this one included (1 = the first). `jitter` is in `0.0..1.0`; it spreads the
/// wait over its upper half to one and a half, so that a burst does not come back as a burst.
pub fn wait(outcome: Outcome, attempts: u16, jitter: f64) -> Option<Duration> {
    let (first, most, floor) = match outcome {
        Outcome::Accepted | Outcome::Invalid => return None,
        Outcome::NotSent => (Duration::from_secs(1), Duration::from_secs(60), None),
        Outcome::Unknown => (UNKNOWN_FLOOR, MAX_WAIT, Some(UNKNOWN_FLOOR)),
        Outcome::Unavailable { after, least } => (Duration::from_secs(2), MAX_WAIT, Some(after.unwrap_or(least))),
        Outcome::Throttled { scope: Scope::Device, after } => (Duration::from_secs(10), MAX_WAIT, after),
        Outcome::Throttled { scope: Scope::Provider, after } => {
            let wait = after.unwrap_or(Duration::from_secs(60));
            (wait, wait, Some(wait))
        }
        Outcome::Misconfigured | Outcome::Unauthorized => (Duration::from_secs(60), MAX_WAIT, None),
        Outcome::Gone { .. } => (WINDOW, WINDOW, Some(WINDOW)),
    };
    let doublings = u32::from(attempts.saturating_sub(1)).min(16);
    let base = first.saturating_mul(1 << doublings).min(most);
    let spread = base.mul_f64(0.5 + jitter.clamp(0.0, 1.0));
    let floor = floor.unwrap_or_default().min(MAX_RETRY_AFTER);
    // Above a floor the jitter only adds: coming back early is what the provider asked us not to do.
    Some(if spread < floor { floor.saturating_add(floor.mul_f64(jitter.clamp(0.0, 1.0) * 0.1)) } else { spread })
}

/// When to try again after an attempt that came to `outcome`. `open_until`: until when the breaker of the whole provider is
/// open, if it is.
pub fn again_at(
    outcome: Outcome,
    attempts: u16,
    jitter: f64,
    open_until: Option<Timestamp>,
    now: Timestamp,
) -> Timestamp {
    let alone = now.plus(wait(outcome, attempts, jitter).unwrap_or_default());
    let Some(until) = open_until else { return alone };
    let floor = match outcome {
        Outcome::Unavailable { after, least } => after.unwrap_or(least),
        // As long as a late answer could still come.
        Outcome::Unknown => UNKNOWN_FLOOR,
        Outcome::NotSent
        | Outcome::Misconfigured
        | Outcome::Unauthorized
        | Outcome::Throttled { scope: Scope::Provider, .. }
        | Outcome::Gone { .. } => Duration::ZERO,
        Outcome::Throttled { scope: Scope::Device, .. } | Outcome::Accepted | Outcome::Invalid => return alone,
    };
    until.max(now.plus(floor.min(MAX_RETRY_AFTER))).plus(HELD_SPREAD.mul_f64(jitter.clamp(0.0, 1.0)))
}

/// When to ask again after a token was called dead for the first time; `jitter` and `open_until` as above.
pub fn confirm_at(jitter: f64, open_until: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let jitter = jitter.clamp(0.0, 1.0);
    let alone = now.plus(CONFIRM.mul_f64(1.0 + jitter / 2.0));
    open_until.map_or(alone, |until| alone.max(until.plus(HELD_SPREAD.mul_f64(jitter))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(outcome: Outcome, attempts: u16) -> Option<f64> {
        wait(outcome, attempts, 0.5).map(|d| d.as_secs_f64())
    }

    #[test]
    fn each_outcome_waits_as_the_table_says() {
        let throttled = |scope, after| Outcome::Throttled { scope, after };
        let after = |s| Some(Duration::from_secs(s));
        let trouble = |least| Outcome::Unavailable { after: None, least: Duration::from_secs(least) };
        for (outcome, attempts, want) in [
            (Outcome::Accepted, 1, None),
            (Outcome::Invalid, 1, None),
            (Outcome::NotSent, 1, Some(1.0)),
            (Outcome::NotSent, 9, Some(60.0)),
            (Outcome::Unknown, 1, Some(10.0)),
            (Outcome::Unknown, 3, Some(40.0)),
            (trouble(0), 1, Some(2.0)),
            (trouble(10), 1, Some(10.5)),
            (trouble(10), 4, Some(16.0)),
            (trouble(10), 40, Some(900.0)),
            (throttled(Scope::Device, None), 2, Some(20.0)),
            (throttled(Scope::Provider, None), 7, Some(60.0)),
            (throttled(Scope::Provider, after(120)), 1, Some(120.0)),
            (Outcome::Unauthorized, 1, Some(60.0)),
            (Outcome::Misconfigured, 99, Some(900.0)),
            (Outcome::Gone { since: None, guarded: true }, 5, Some(300.0)),
        ] {
            assert_eq!(secs(outcome, attempts), want, "{outcome:?} at attempt {attempts}");
        }
    }

    #[test]
    fn a_retry_after_is_a_floor_up_to_an_hour() {
        let unavailable =
            |secs| Outcome::Unavailable { after: Some(Duration::from_secs(secs)), least: Duration::from_secs(10) };
        assert_eq!(wait(unavailable(30), 1, 0.0), Some(Duration::from_secs(30)));
        assert_eq!(wait(unavailable(86_400), 1, 0.0), Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn while_the_breaker_is_open_a_delivery_waits_for_it_and_not_for_itself() {
        let at = Timestamp::from_secs;
        let unavailable = |after| Outcome::Unavailable {
            after: Option::map(after, Duration::from_secs),
            least: Duration::from_secs(10),
        };
        let throttled = |scope| Outcome::Throttled { scope, after: None };
        for (outcome, want) in [
            (unavailable(None), 110),
            (unavailable(Some(20)), 120),
            (Outcome::NotSent, 105),
            (Outcome::Unknown, 110),
            (Outcome::Unauthorized, 105),
            (Outcome::Misconfigured, 105),
            (throttled(Scope::Provider), 105),
            // That is the device's own matter.
            (throttled(Scope::Device), 100 + 640),
        ] {
            let until = again_at(outcome, 7, 0.5, Some(at(105)), at(100));
            assert_eq!(until.secs(), want, "{outcome:?}");
        }
    }

    #[test]
    fn a_token_called_dead_is_asked_about_again_in_seconds_or_when_the_breaker_lets_go() {
        let at = Timestamp::from_secs;
        assert_eq!(confirm_at(0.0, None, at(100)), at(110));
        assert_eq!(confirm_at(1.0, None, at(100)), at(115));
        assert_eq!(confirm_at(1.0, Some(at(105)), at(100)), at(115));
        assert_eq!(confirm_at(1.0, Some(at(400)), at(100)), at(401));
    }

    proptest! {
        #[test]
        fn waits_are_bounded_and_never_zero(attempts in 1u16.., jitter in 0.0f64..1.0, after in proptest::option::of(0u64..100_000)) {
            let after = after.map(Duration::from_secs);
            for outcome in [
                Outcome::NotSent,
                Outcome::Unknown,
                Outcome::Unavailable { after, least: Duration::from_secs(10) },
                Outcome::Throttled { scope: Scope::Device, after },
                Outcome::Misconfigured,
            ] {
                let wait = wait(outcome, attempts, jitter).unwrap();
                prop_assert!(wait >= Duration::from_millis(500));
                prop_assert!(wait <= MAX_RETRY_AFTER.mul_f64(1.1));
            }
        }
    }
}
