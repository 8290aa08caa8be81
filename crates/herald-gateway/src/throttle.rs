//! How many requests an app may make: a token bucket for each app that has a rate.
//!
//! Stands right behind the caller's check, before anything else is looked at, so that one app's flood costs the others and
//! the store nothing (G7, G8). Each process counts for itself: replicas allow that many each. Requests without a caller
//! (receipts by capability, health) are not counted. The bucket is pure; only [`Throttle`] looks at a clock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use herald_core::ids::AppId;
use herald_metrics::Metrics;
use tokio::time::Instant;

use crate::refusal::Refusal;

/// How many requests of one app each process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In a second, in the long run; 1 at least.
    pub per_second: u32,
    /// At once, after a rest; 1 at least.
    pub burst: u32,
}

/// What one too many is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThrottledStatus {
    /// 429, as Graph and its libraries have it (RFC 6585).
    #[default]
    TooManyRequests,
    /// 406, which Graph's documentation of notifications has for it.
    NotAcceptable,
}

/// The buckets.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Nothing is added or taken away while it serves.
    buckets: HashMap<AppId, (Rate, Mutex<Bucket>)>,
    status: StatusCode,
    start: Instant,
}

impl Throttle {
    pub(crate) fn new(rates: impl Iterator<Item = (AppId, Rate)>, status: ThrottledStatus) -> Self {
        let status = match status {
            ThrottledStatus::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            ThrottledStatus::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        };
        let buckets = rates.map(|(app, rate)| (app, (rate, Mutex::default()))).collect();
        Self { buckets, status, start: Instant::now() }
    }

    /// Counts a request of the app.
    ///
    /// # Errors
    /// 429 (or 406) with the seconds until there is room for one: it was not counted.
    pub(crate) fn admit(&self, app: &AppId, metrics: &Metrics) -> Result<(), Refusal> {
        let Some((rate, bucket)) = self.buckets.get(app) else { return Ok(()) };
        let taken = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(*rate, self.start.elapsed());
        taken.map_err(|wait| {
            metrics.throttled();
            Refusal::throttled(self.status, whole_secs(wait))
        })
    }
}

/// A token bucket by the time at which it will be full again (the generic cell rate algorithm): one number, and exact.
#[derive(Debug, Default)]
struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Takes one at `now`, which never goes back.
    ///
    /// # Errors
    /// How long until there is one.
    fn take(&mut self, rate: Rate, now: Duration) -> Result<(), Duration> {
        // Rounded up, so that no second ever has more than the rate.
        let each = Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(rate.per_second.max(1))));
        let room = each.saturating_mul(rate.burst.max(1));
        let full_at = self.full_at.max(now) + each;
        match full_at.checked_sub(now + room) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.full_at = full_at;
                Ok(())
            }
        }
    }
}

/// For `Retry-After`, which has no fractions: who waits so long is not refused for having waited too little.
fn whole_secs(wait: Duration) -> u32 {
    let secs = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    u32::try_from(secs).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_burst_passes_and_then_what_the_rate_allows() {
        let rate = Rate { per_second: 10, burst: 3 };
        let mut bucket = Bucket::default();
        for (at, expected) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(MS(100))),
            (40, Err(MS(60))),
            (100, Ok(())),
            (100, Err(MS(100))),
            // Two rested, not more: refusals cost nothing.
            (300, Ok(())),
            (300, Ok(())),
            (300, Err(MS(100))),
            // However long it rests, a burst is what it has.
            (9_000, Ok(())),
            (9_000, Ok(())),
            (9_000, Ok(())),
            (9_000, Err(MS(100))),
        ] {
            assert_eq!(bucket.take(rate, MS(at)), expected, "at {at} ms");
        }
    }

    #[test]
    fn the_wait_is_told_in_whole_seconds_rounded_up() {
        for (wait, secs) in [(MS(1), 1), (MS(1_000), 1), (MS(1_001), 2), (Duration::MAX, u32::MAX)] {
            assert_eq!(whole_secs(wait), secs);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn apps_have_buckets_of_their_own_and_one_without_a_rate_has_none() {
        let (mail, chat, free) = (AppId::new("mail.example"), AppId::new("chat.example"), AppId::new("free.example"));
        let rate = Rate { per_second: 1, burst: 2 };
        let rates = [(mail.clone(), rate), (chat.clone(), rate)];
        let (throttle, metrics) = (Throttle::new(rates.into_iter(), ThrottledStatus::default()), Metrics::new());
        let passes = |app: &AppId| (0..5).filter(|_| throttle.admit(app, &metrics).is_ok()).count();
        assert_eq!((passes(&mail), passes(&mail), passes(&chat), passes(&free)), (2, 0, 2, 5));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((passes(&mail), passes(&chat)), (1, 1));
    }

    proptest! {
        /// In any stretch of time, no more than the burst and what the rate allows in it; and who waits as told is let in.
        #[test]
        fn no_stretch_of_time_has_more_than_burst_and_rate(
            per_second in 1_u32..2_000,
            burst in 1_u32..50,
            pauses in proptest::collection::vec(0_u64..2_000_000, 1..200),
        ) {
            let rate = Rate { per_second, burst };
            let (mut bucket, mut now, mut taken) = (Bucket::default(), Duration::ZERO, Vec::new());
            for pause in pauses {
                now += Duration::from_micros(pause);
                match bucket.take(rate, now) {
                    Ok(()) => taken.push(now),
                    Err(wait) => {
                        now += wait;
                        prop_assert_eq!(bucket.take(rate, now), Ok(()));
                        taken.push(now);
                    }
                }
            }
            for (first, begin) in taken.iter().enumerate() {
                for (last, end) in taken.iter().enumerate().skip(first) {
                    let allowed = f64::from(burst) + (*end - *begin).as_secs_f64() * f64::from(per_second);
                    prop_assert!((last - first + 1) as f64 <= allowed + 1e-6);
                }
            }
        }
    }
}
