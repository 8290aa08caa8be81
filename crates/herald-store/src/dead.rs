//! Dead letters: work that can't be done, parked with its reason, replayable.
//!
//! Beside the way: drained from `herald.parked`. They hold content, so they have no `Debug` of it.

use std::fmt;

use herald_core::event::OutboxEvent;
use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use uuid::Uuid;

use crate::{Inner, Result, Store};

/// A parked message.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id: the same for the same parked message, so that draining it twice stores it once.
    pub id: Uuid,
    /// The queue it was on.
    pub source_queue: String,
    /// Why: a bounded word.
    pub reason_code: String,
    /// Field, property or header that breaks the contract.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub fix: String,
    /// The app, as far as it could be read.
    pub app: Option<AppId>,
    /// The message's own id.
    pub message_id: Option<String>,
    /// Its properties and headers, JSON.
    pub headers: String,
    /// Its body as it came.
    pub body: Vec<u8>,
    /// When it was parked.
    pub parked_at: Timestamp,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("source_queue", &self.source_queue)
            .field("reason_code", &self.reason_code)
            .field("field", &self.field)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Stores dead letters, and the events about them in the same transaction; one whose id is stored already changes
    /// nothing. Returns how many were new.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn dead_insert(&self, letters: &[DeadLetter], events: &[OutboxEvent]) -> Result<u64> {
        if letters.is_empty() {
            return Ok(0);
        }
        self.within("dead_insert", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.dead_insert(letters, events).await,
                Inner::Sqlite(lite) => lite.dead_insert(letters, events).await,
            }
        })
        .await
    }

    /// The newest dead letters, at most `limit`; those parked before the one named by `before`, if given.
    ///
    /// # Errors
    /// As any call.
    pub async fn dead_list(&self, limit: i64, before: Option<(Timestamp, Uuid)>) -> Result<Vec<DeadLetter>> {
        self.within("dead_list", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.dead_list(limit, before).await,
                Inner::Sqlite(lite) => lite.dead_list(limit, before).await,
            }
        })
        .await
    }

    /// One dead letter.
    ///
    /// # Errors
    /// As any call.
    pub async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>> {
        self.within("dead_letter", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.dead_letter(id).await,
                Inner::Sqlite(lite) => lite.dead_letter(id).await,
            }
        })
        .await
    }

    /// Removes dead letters that were replayed or discarded. Returns how many there were.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn dead_remove(&self, ids: &[Uuid]) -> Result<u64> {
        self.within("dead_remove", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.dead_remove(ids).await,
                Inner::Sqlite(lite) => lite.dead_remove(ids).await,
            }
        })
        .await
    }

    /// How many dead letters there are.
    ///
    /// # Errors
    /// As any call.
    pub async fn dead_count(&self) -> Result<u64> {
        self.within("dead_count", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.dead_count().await,
                Inner::Sqlite(lite) => lite.dead_count().await,
            }
        })
        .await
    }
}
