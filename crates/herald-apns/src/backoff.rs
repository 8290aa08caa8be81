//! How long to leave a server alone after it could not be reached.
//!
//! Stands under the pool. Full jitter (a random time up to the exponential bound), so that replicas that lost APNs at the
//! same moment do not come back at the same moment. Never sleeps: it only names a time.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The bound after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The bound after connects that failed. Nothing of Apple's was used; who asks for a connection is slowed by the worker's
/// breaker already, and a push must not wait a minute for a server that has come back.
pub(crate) const UNREACHABLE: Duration = Duration::from_secs(5);
/// The bound after connections that gave no answer: opening and closing them is what Apple takes for an attack.
pub(crate) const BARREN: Duration = Duration::from_secs(60);

/// The wait after `failures` in a row: between zero and `FIRST` · 2^(failures−1), at most `most`. `random` picks the point.
pub(crate) fn delay(failures: u32, most: Duration, random: u64) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else {
        return Duration::ZERO;
    };
    let bound = FIRST.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(most);
    let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % (millis + 1))
}

/// A number nobody can foresee: the standard library keys every `RandomState` anew. For jitter and spreading only.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_from_one_second_to_sixty() {
        let longest = |failures| (0..200_000).step_by(7).map(|r| delay(failures, BARREN, r)).max().unwrap();
        assert_eq!(longest(0), Duration::ZERO);
        for (failures, bound) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60)] {
            let longest = longest(failures);
            assert!(longest <= Duration::from_secs(bound), "{failures}: {longest:?}");
            assert!(longest > Duration::from_secs(bound) * 9 / 10, "{failures}: {longest:?}");
        }
    }

    #[test]
    fn two_numbers_differ() {
        assert_ne!(random(), random());
    }
}
