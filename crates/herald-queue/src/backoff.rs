//! How long to wait before the next attempt to connect or subscribe.
//!
//! Doubles from 0.1 s to 10 s, with jitter, so that a fleet doesn't return all at once. It starts again only after
//! something held for longer than the last wait: a link that dies as soon as it is up must not make a tight loop, and one
//! that is cut every second must not keep us away for ten.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// What had been built held for `lived` and is gone.
    pub(crate) fn held_for(&mut self, lived: Duration) {
        if self.last.is_none_or(|last| lived > last) {
            self.last = None;
        }
    }

    /// The next wait: between half and one and a half times the nominal one.
    pub(crate) fn next(&mut self) -> Duration {
        let nominal = self.last.map_or(FIRST, |last| (last * 2).min(LONGEST));
        self.last = Some(nominal);
        nominal.mul_f64(0.5 + fraction())
    }
}

/// A number from 0 to 1, good enough to spread waits. Every `RandomState` has other keys.
fn fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).expect("32 bits are left")) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nominal(backoff: &mut Backoff) -> u128 {
        let wait = backoff.next();
        let nominal = backoff.last.unwrap();
        assert!(wait >= nominal / 2 && wait <= nominal * 3 / 2, "{wait:?} of {nominal:?}");
        nominal.as_millis()
    }

    #[test]
    fn waits_double_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| nominal(&mut backoff)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn only_what_held_for_longer_than_the_last_wait_starts_it_again() {
        let mut backoff = Backoff::default();
        nominal(&mut backoff);
        nominal(&mut backoff);
        backoff.held_for(Duration::from_millis(150));
        assert_eq!(nominal(&mut backoff), 400);
        backoff.held_for(Duration::from_secs(1));
        assert_eq!(nominal(&mut backoff), 100);
    }
}
