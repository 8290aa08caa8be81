//! An app's own rate: at most so many pushes per second through one provider, for this replica.
//!
//! Stands under push. A value (generic cell rate algorithm): whoever comes too early is told when to come back, and those
//! moments are spread, so that what is held does not come back at once.

use std::time::Duration;

use herald_core::time::Timestamp;

/// The longest that anyone is told to stay away; the place in line is asked for again then.
const MAX_HOLD: Duration = Duration::from_secs(30);

/// A rate with a burst of one second's worth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    gap: Duration,
    /// When the next push would be due if pushes came evenly.
    next: Timestamp,
    /// When the next one of those who were turned away should come back.
    line: Timestamp,
}

impl Rate {
    /// So many pushes per second, at least one.
    pub(crate) fn new(per_second: u32) -> Self {
        let epoch = Timestamp::from_micros(0);
        Self { gap: Duration::from_secs(1) / per_second.max(1), next: epoch, line: epoch }
    }

    /// Takes one push from the rate, or says when to come back.
    pub(crate) fn admit(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let next = self.next.max(now.minus(Duration::from_secs(1)).plus(self.gap));
        if next <= now {
            self.next = next.plus(self.gap);
            return Ok(());
        }
        self.line = self.line.max(next).plus(self.gap).min(now.plus(MAX_HOLD));
        Err(self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_a_burst_and_the_rest_is_spread_over_the_next() {
        let mut rate = Rate::new(10);
        let now = Timestamp::from_secs(100);
        let (mut gone, mut held) = (0, Vec::new());
        for _ in 0..20 {
            match rate.admit(now) {
                Ok(()) => gone += 1,
                Err(then) => held.push(then),
            }
        }
        assert_eq!(gone, 10);
        assert!(held.windows(2).all(|w| w[1] == w[0].plus(Duration::from_millis(100))), "{held:?}");
        assert!(held[0] > now && held[9] <= now.plus(Duration::from_secs(2)));
        assert_eq!(rate.admit(now.plus(Duration::from_secs(3))), Ok(()));
    }

    #[test]
    fn over_a_minute_no_more_than_the_rate_gets_through() {
        let mut rate = Rate::new(5);
        let start = Timestamp::from_secs(100);
        let through = (0..60_000).filter(|ms| rate.admit(start.plus(Duration::from_millis(*ms))).is_ok()).count();
        assert!((300..=306).contains(&through), "{through}");
    }
}
