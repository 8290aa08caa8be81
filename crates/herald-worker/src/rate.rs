//! An app's own rate: at most so many pushes per second through one provider, for this replica.
//!
//! Stands under push. A value (generic cell rate algorithm): whoever comes too early is told when to come back, and those
//! moments are spread, so that what is held does not come back at once. Normal and low may use three quarters of the rate,
//! and stand in a line of their own: a campaign must not hold up a high push or a toast (G7).

use std::time::Duration;

use herald_core::lane::DispatchQueue;
use herald_core::time::Timestamp;

/// The longest that anyone is told to stay away; the place in line is asked for again then.
const MAX_HOLD: Duration = Duration::from_secs(30);

/// The rate of one app and provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    all: Cells,
    bulk: Cells,
}

impl Rate {
    /// So many pushes per second, at least one.
    pub(crate) fn new(per_second: u32) -> Self {
        let gap = Duration::from_secs(1) / per_second.max(1);
        Self { all: Cells::new(gap), bulk: Cells::new(gap * 4 / 3) }
    }

    /// Takes one push of that queue from the rate, or says when to come back.
    pub(crate) fn admit(&mut self, queue: DispatchQueue, now: Timestamp) -> Result<(), Timestamp> {
        match queue {
            DispatchQueue::Fallback | DispatchQueue::High => {
                self.all.take(now).then_some(()).ok_or_else(|| self.all.turn_away(now))
            }
            DispatchQueue::Normal | DispatchQueue::Low => {
                (self.bulk.take(now) && self.all.take(now)).then_some(()).ok_or_else(|| self.bulk.turn_away(now))
            }
        }
    }
}

/// Evenly spaced pushes with a burst of one second's worth.
#[derive(Debug, Clone, Copy)]
struct Cells {
    gap: Duration,
    /// When the next push would be due if pushes came evenly.
    next: Timestamp,
    /// When the last one of those who were turned away should come back.
    line: Timestamp,
}

impl Cells {
    fn new(gap: Duration) -> Self {
        let epoch = Timestamp::from_micros(0);
        Self { gap, next: epoch, line: epoch }
    }

    fn take(&mut self, now: Timestamp) -> bool {
        let next = self.next.max(now.minus(Duration::from_secs(1)).plus(self.gap));
        let free = next <= now;
        if free {
            self.next = next.plus(self.gap);
        }
        free
    }

    fn turn_away(&mut self, now: Timestamp) -> Timestamp {
        self.line = self.line.max(self.next).max(now).plus(self.gap).min(now.plus(MAX_HOLD));
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGH: DispatchQueue = DispatchQueue::High;

    #[test]
    fn a_second_holds_a_burst_and_the_rest_is_spread_over_the_next() {
        let mut rate = Rate::new(10);
        let now = Timestamp::from_secs(100);
        let (mut gone, mut held) = (0, Vec::new());
        for _ in 0..20 {
            match rate.admit(HIGH, now) {
                Ok(()) => gone += 1,
                Err(then) => held.push(then),
            }
        }
        assert_eq!(gone, 10);
        assert!(held.windows(2).all(|w| w[1] == w[0].plus(Duration::from_millis(100))), "{held:?}");
        assert!(held[0] > now && held[9] <= now.plus(Duration::from_secs(2)));
        assert_eq!(rate.admit(HIGH, now.plus(Duration::from_secs(3))), Ok(()));
    }

    #[test]
    fn over_a_minute_no_more_than_the_rate_gets_through() {
        let mut rate = Rate::new(5);
        let start = Timestamp::from_secs(100);
        let at = |ms| start.plus(Duration::from_millis(ms));
        let through = (0..60_000).filter(|ms| rate.admit(HIGH, at(*ms)).is_ok()).count();
        assert!((300..=306).contains(&through), "{through}");
    }

    #[test]
    fn a_campaign_leaves_a_quarter_of_the_rate_to_high_pushes_and_toasts() {
        let mut rate = Rate::new(100);
        let start = Timestamp::from_secs(100);
        let mut through = [0, 0];
        for ms in 0..10_000 {
            let now = start.plus(Duration::from_millis(ms));
            through[0] += usize::from(rate.admit(DispatchQueue::Low, now).is_ok());
            if ms % 50 == 0 {
                through[1] += usize::from(rate.admit(HIGH, now).is_ok());
            }
        }
        assert_eq!(through[1], 200, "every high one, twenty a second");
        assert!(through[0] <= 825 && through[0] >= 700, "{through:?}");
    }
}
