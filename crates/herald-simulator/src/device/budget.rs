//! How often a phone or its provider lets something through: Apple's budget for silent pushes, Google's bucket for
//! collapsible messages.
//!
//! Pure: time is an argument, in milliseconds since 1970. A clock that is put back makes nothing come sooner.

use std::collections::VecDeque;

use super::rules::{BackgroundBudget, COUNT_LIMIT, CollapsibleBurst};

const HOUR_MS: u64 = 3_600_000;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;

/// When silent pushes were handed to the app, earliest first.
#[derive(Debug, Default)]
pub(super) struct Spent {
    times: VecDeque<u64>,
}

impl Spent {
    /// From when on the budget allows another one: `now_ms` if it does already, `None` if it never does.
    pub(super) fn free_at(&self, budget: BackgroundBudget, now_ms: u64) -> Option<u64> {
        let hourly = self.leaves_at(budget.per_hour, HOUR_MS)?;
        let daily = budget.per_day.map_or(Some(0), |per_day| self.leaves_at(per_day, DAY_MS))?;
        Some(hourly.max(daily).max(now_ms))
    }

    /// When the oldest of the last `limit` is `span_ms` old: from then on there is room for one more.
    fn leaves_at(&self, limit: u32, span_ms: u64) -> Option<u64> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if limit == 0 {
            return None;
        }
        let oldest = self.times.len().checked_sub(limit).map(|index| self.times[index]);
        Some(oldest.map_or(0, |oldest| oldest.saturating_add(span_ms)))
    }

    pub(super) fn spend(&mut self, now_ms: u64) {
        let place = self.times.partition_point(|time| *time <= now_ms);
        self.times.insert(place, now_ms);
        if self.times.len() > COUNT_LIMIT as usize {
            self.times.pop_front();
        }
    }
}

/// A token bucket; a new one is full.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    taken: u32,
    refilled_at_ms: u64,
}

impl Bucket {
    /// Takes a token.
    ///
    /// # Errors
    /// When there will be one, if there is none now.
    pub(super) fn take(&mut self, rule: CollapsibleBurst, now_ms: u64) -> Result<(), u64> {
        let refill_ms = rule.refill_secs.saturating_mul(1000).max(1);
        let gained = now_ms.saturating_sub(self.refilled_at_ms) / refill_ms;
        self.taken = self.taken.saturating_sub(u32::try_from(gained).unwrap_or(u32::MAX));
        self.refilled_at_ms = if self.taken == 0 { now_ms } else { self.refilled_at_ms + gained * refill_ms };
        if self.taken >= rule.size {
            return Err(self.refilled_at_ms.saturating_add(refill_ms).max(now_ms + 1));
        }
        self.taken += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_through_and_then_one_at_each_refill() {
        let (rule, mut bucket) = (CollapsibleBurst { size: 2, refill_secs: 10 }, Bucket::default());
        assert_eq!([bucket.take(rule, 5_000), bucket.take(rule, 6_000)], [Ok(()), Ok(())]);
        assert_eq!(bucket.take(rule, 6_000), Err(15_000));
        assert_eq!(bucket.take(rule, 15_000), Ok(()));
        assert_eq!(bucket.take(rule, 15_001), Err(25_000));
        assert_eq!([bucket.take(rule, 90_000), bucket.take(rule, 90_000)], [Ok(()), Ok(())]);
        // A clock put back brings no tokens.
        assert!(bucket.take(rule, 1_000).is_err_and(|at| at > 90_000));
    }

    #[test]
    fn a_budget_is_free_when_the_oldest_of_its_pushes_leaves_the_hour_and_the_day() {
        let budget = BackgroundBudget { per_hour: 2, per_day: Some(3) };
        let mut spent = Spent::default();
        for now in [0, 1_000] {
            assert_eq!(spent.free_at(budget, now), Some(now));
            spent.spend(now);
        }
        assert_eq!(spent.free_at(budget, 2_000), Some(HOUR_MS));
        spent.spend(HOUR_MS);
        assert_eq!(spent.free_at(budget, HOUR_MS), Some(DAY_MS));
        assert_eq!(spent.free_at(BackgroundBudget { per_hour: 0, per_day: None }, 0), None);
    }
}
