//! The simulator's time: the system's clock plus an offset that a test can set.
//!
//! Provider tokens, access tokens, expiries and the journal use it; delays and timeouts never do.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A clock that can be put forward or back.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset_secs: AtomicI64,
}

impl Clock {
    /// Microseconds since 1970.
    pub(crate) fn micros(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let offset = self.offset_secs.load(Ordering::Relaxed).saturating_mul(1_000_000);
        u64::try_from(now.saturating_add(offset)).unwrap_or(0)
    }

    /// Milliseconds since 1970.
    pub(crate) fn millis(&self) -> u64 {
        self.micros() / 1000
    }

    /// Seconds since 1970.
    pub(crate) fn secs(&self) -> i64 {
        i64::try_from(self.micros() / 1_000_000).unwrap_or(i64::MAX)
    }

    /// Sets how far this clock is ahead of the system's, in seconds; negative: behind.
    pub(crate) fn set_offset_secs(&self, offset: i64) {
        self.offset_secs.store(offset, Ordering::Relaxed);
    }

    /// How far this clock is ahead of the system's, in seconds.
    pub(crate) fn offset_secs(&self) -> i64 {
        self.offset_secs.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_moves_the_clock() {
        let clock = Clock::default();
        let before = clock.secs();
        clock.set_offset_secs(3600);
        assert!(clock.secs() >= before + 3600);
        assert!(clock.millis() / 1000 >= u64::try_from(before).unwrap() + 3600);
        clock.set_offset_secs(i64::MIN);
        assert_eq!(clock.secs(), 0);
    }
}
