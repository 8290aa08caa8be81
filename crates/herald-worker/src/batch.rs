//! Trying a batch again, and finding the one piece of work in it that can't be done.
//!
//! Stands around every statement of the store. On an outage the batch is kept and tried again; nothing is requeued in a
//! loop. If the store refuses a batch for good, it is halved until the refused piece stands alone, so that one bad piece
//! costs its neighbours nothing (G6).

use std::future::Future;
use std::time::Duration;

use herald_store::StoreError;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Waits between tries while the store is away.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Why a statement was given up.
#[derive(Debug)]
pub(crate) enum GaveUp {
    /// The worker is to stop; the work stays where it was.
    Stopped,
    /// The store refuses it for good.
    Refused(StoreError),
}

/// Runs a statement until the store answers, or `stop`.
pub(crate) async fn until_answered<T, F, Fut>(
    what: &str,
    stop: &CancellationToken,
    mut statement: F,
) -> Result<T, GaveUp>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let mut wait = FIRST_WAIT;
    let mut tries = 0_u32;
    loop {
        match statement().await {
            Ok(value) => {
                if tries > 0 {
                    info!(statement = what, tries, "the store answers again");
                }
                return Ok(value);
            }
            Err(error) if error.is_transient() => {
                // Said once per outage and statement, not at every try.
                if tries == 0 {
                    warn!(statement = what, %error, "the store is away; the work is kept and tried again");
                }
            }
            Err(error) => return Err(GaveUp::Refused(error)),
        }
        tries += 1;
        tokio::select! {
            // Dropping the sleep loses nothing.
            () = stop.cancelled() => return Err(GaveUp::Stopped),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(MAX_WAIT);
    }
}
