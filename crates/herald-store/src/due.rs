//! Due: what has something to do at or before now is claimed for a hint, version unchanged.
//!
//! The clock's step. Claiming allows nobody to push; it only keeps other replicas from publishing the same hint for a while.

use std::time::Duration;

use herald_core::lane::{DispatchQueue, Hint};

use crate::{Inner, Result, Store};

impl Store {
    /// Claims up to `limit` due deliveries of a dispatch queue, oldest first, for `hold`: they come up again after it, at
    /// the same version, unless somebody took them. Rows that another replica claims at this moment are skipped.
    ///
    /// # Errors
    /// As any call; nothing is claimed then, or the claim lapses after `hold`.
    pub async fn due(&self, queue: DispatchQueue, limit: i64, hold: Duration) -> Result<Vec<Hint>> {
        self.within("due", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.claim_due(queue, limit, hold).await,
                Inner::Sqlite(lite) => lite.claim_due(queue, limit, hold).await,
            }
        })
        .await
    }

    /// Makes claimed deliveries due again at once, because their hint could not be published. Returns how many were
    /// still at that version.
    ///
    /// # Errors
    /// As any call; they come up after their hold then.
    pub async fn undue(&self, hints: &[Hint]) -> Result<u64> {
        self.put_off(hints, Duration::ZERO).await
    }

    /// Makes deliveries at these versions due within `spread` from now, at random; nothing else of them changes, their
    /// count of takes neither. For takes that are given up before anything was tried. Returns how many there were.
    ///
    /// # Errors
    /// As any call; their hold or lease brings them back then.
    pub async fn put_off(&self, hints: &[Hint], spread: Duration) -> Result<u64> {
        if hints.is_empty() {
            return Ok(0);
        }
        self.within("put_off", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.put_off(hints, spread).await,
                Inner::Sqlite(lite) => lite.put_off(hints, spread).await,
            }
        })
        .await
    }
}
