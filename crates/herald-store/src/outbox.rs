//! The outbox: events written with the state change they tell of, until they are published.
//!
//! After the way. At least once: a claim that is not finished comes up again.

use std::time::Duration;

use uuid::Uuid;

use crate::{Inner, Result, Store};

/// An event to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its stable id.
    pub id: Uuid,
    /// `<event>.<app>`.
    pub routing_key: String,
    /// CloudEvents 1.0 JSON.
    pub body: String,
}

impl Store {
    /// Claims up to `limit` events for `hold`, oldest first.
    ///
    /// # Errors
    /// As any call.
    pub async fn outbox_claim(&self, limit: i64, hold: Duration) -> Result<Vec<OutboxRow>> {
        self.within("outbox_claim", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.outbox_claim(limit, hold).await,
                Inner::Sqlite(lite) => lite.outbox_claim(limit, hold).await,
            }
        })
        .await
    }

    /// Removes events whose publishing was confirmed. Returns how many there were.
    ///
    /// # Errors
    /// As any call; they are published again then.
    pub async fn outbox_done(&self, ids: &[Uuid]) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        self.within("outbox_done", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.outbox_done(ids).await,
                Inner::Sqlite(lite) => lite.outbox_done(ids).await,
            }
        })
        .await
    }
}
