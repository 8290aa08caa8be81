//! How long a take may still push, by monotonic time.
//!
//! Stands between take and push: the clock is read **before** the take is asked for, so the lease that a worker believes in
//! never ends later than the store's. A worker that was asleep finds it over and gives up; it never pushes (protocol step 4).

use std::time::Duration;

use tokio::time::Instant;

/// The lease of one batch of takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    ends: Instant,
}

impl Lease {
    /// To be called before the statement that takes.
    pub(crate) fn before_take(length: Duration) -> Self {
        Self { ends: Instant::now() + length }
    }

    /// Is there time for a whole attempt?
    pub(crate) fn allows(&self, attempt: Duration) -> bool {
        self.ends.saturating_duration_since(Instant::now()) >= attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_slept_gives_up() {
        let lease = Lease::before_take(Duration::from_secs(60));
        let attempt = Duration::from_secs(20);
        assert!(lease.allows(attempt));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(lease.allows(attempt));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!lease.allows(attempt));
    }
}
