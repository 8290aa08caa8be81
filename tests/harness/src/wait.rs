//! Waiting for a condition, with a limit and with words for what was awaited.
//!
//! Tests wait for what they need and never for time to pass; the only sleep is the pause between two looks.

use anyhow::{Result, bail};
use std::time::Duration;
use tokio::time::Instant;

/// The pause between two looks.
pub const POLL: Duration = Duration::from_millis(20);

/// What a look at a condition can answer: `bool`, or an `Option` whose value is wanted.
pub trait Reached {
    /// What the wait returns.
    type Value;
    /// The value, if the condition holds.
    fn reached(self) -> Option<Self::Value>;
}

impl Reached for bool {
    type Value = ();
    fn reached(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Reached for Option<T> {
    type Value = T;
    fn reached(self) -> Option<T> {
        self
    }
}

/// Look every 20 ms until the condition holds, for at most `limit`.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// let mut looks = 0;
/// herald_harness::wait::until(Duration::from_secs(1), "the third look", async || {
///     looks += 1;
///     looks == 3
/// }).await.unwrap();
/// # });
/// ```
///
/// # Errors
/// Names what was awaited and for how long. A look that hangs is cut off at the limit too.
pub async fn until<R: Reached>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> R) -> Result<R::Value> {
    let deadline = Instant::now() + limit;
    loop {
        let Ok(answer) = tokio::time::timeout_at(deadline, look()).await else {
            bail!("waited {limit:?} for {what}, in vain: the last look did not come back");
        };
        if let Some(value) = answer.reached() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} for {what}, in vain");
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_value_of_the_first_look_that_finds_one_is_returned() {
        let mut looks = 0;
        let value = until(Duration::from_secs(5), "a value", async || {
            looks += 1;
            (looks > 2).then_some(looks)
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_wait_in_vain_says_what_was_awaited() {
        let error = until(Duration::from_millis(30), "the sea to part", async || false).await.unwrap_err();
        assert!(error.to_string().contains("the sea to part"), "{error}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_cut_off() {
        let error = until(Duration::from_millis(30), "an answer", std::future::pending::<bool>).await.unwrap_err();
        assert!(error.to_string().contains("did not come back"), "{error}");
    }
}
