//! Dead letters: work that can't be done, parked with its reason, replayable.
//!
//! Beside the way: drained from `herald.parked`, looked at, replayed and discarded by operators. They hold content, so they
//! have no `Debug` of it, and what chooses among them ([`DeadFilter`], [`DeadPage`]) reads no body.

use std::fmt;
use std::time::Duration;

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
    /// The producer's properties and headers, JSON as the queue keeps them.
    pub headers: String,
    /// Its body as it came.
    pub body: Vec<u8>,
    /// When it was parked.
    pub parked_at: Timestamp,
}

impl DeadLetter {
    /// All but its properties and its body.
    pub fn entry(&self) -> DeadEntry {
        DeadEntry {
            key: DeadKey { parked_at: self.parked_at, id: self.id },
            source_queue: self.source_queue.clone(),
            reason_code: self.reason_code.clone(),
            field: self.field.clone(),
            problem: self.problem.clone(),
            fix: self.fix.clone(),
            app: self.app.clone(),
            message_id: self.message_id.clone(),
            body_bytes: self.body.len() as u64,
        }
    }
}

/// A dead letter as it was parked then: the same message parked again has the same id and another time. Ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadKey {
    /// When it was parked.
    pub parked_at: Timestamp,
    /// Its id.
    pub id: Uuid,
}

/// What is known of a dead letter without its properties and its body, which may be large and hold content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadEntry {
    /// Which.
    pub key: DeadKey,
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
    /// How long its body is.
    pub body_bytes: u64,
}

/// Which dead letters; by default all. What is named must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Parked for this reason.
    pub reason: Option<String>,
    /// Came from this queue.
    pub queue: Option<String>,
    /// Of this app.
    pub app: OfApp,
    /// Parked at this time or later.
    pub since: Option<Timestamp>,
    /// Parked before this time.
    pub until: Option<Timestamp>,
}

/// The app that dead letters are chosen by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OfApp {
    /// Whatever it is.
    #[default]
    Any,
    /// None that was configured when it was parked, or none that could be read.
    Unknown,
    /// This one.
    Named(AppId),
}

/// In which order, and where it goes on after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadPage {
    /// The newest; those before this one, if given.
    NewestBefore(Option<DeadKey>),
    /// The oldest; those after this one, if given.
    OldestAfter(Option<DeadKey>),
}

/// A filter as the statements want it: one stretch of `dead_letters_newest`, both ends left out, and what must hold in it.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub(crate) after: DeadKey,
    pub(crate) before: DeadKey,
    pub(crate) reason: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) unknown_app: bool,
}

impl Stretch {
    pub(crate) fn of(filter: &DeadFilter, page: DeadPage) -> Self {
        // The last before `since`, and the first at `until`, which is left out itself.
        let since = filter.since.unwrap_or(Timestamp::from_micros(0)).minus(Duration::from_micros(1));
        let mut after = DeadKey { parked_at: since, id: Uuid::max() };
        let mut before = match filter.until {
            Some(until) => DeadKey { parked_at: until, id: Uuid::nil() },
            None => DeadKey { parked_at: Timestamp::from_micros(i64::MAX), id: Uuid::max() },
        };
        match page {
            DeadPage::NewestBefore(key) => before = key.map_or(before, |key| key.min(before)),
            DeadPage::OldestAfter(key) => after = key.map_or(after, |key| key.max(after)),
        }
        Self {
            after,
            before,
            reason: filter.reason.clone(),
            queue: filter.queue.clone(),
            app: match &filter.app {
                OfApp::Named(app) => Some(app.as_str().to_owned()),
                OfApp::Any | OfApp::Unknown => None,
            },
            unknown_app: filter.app == OfApp::Unknown,
        }
    }
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
    /// Stores dead letters, and the events about them in the same transaction. One whose id is stored already at another time
    /// takes its place: it was replayed and parked again, and whoever replayed it must not remove it
    /// ([`Store::dead_remove`]). Returns how many were written.
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

    /// At most `limit` of the chosen dead letters, without their bodies.
    ///
    /// # Errors
    /// As any call.
    pub async fn dead_page(&self, filter: &DeadFilter, page: DeadPage, limit: i64) -> Result<Vec<DeadEntry>> {
        self.within("dead_page", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.dead_page(filter, page, limit).await,
                Inner::Sqlite(lite) => lite.dead_page(filter, page, limit).await,
            }
        })
        .await
    }

    /// How many dead letters a filter chooses.
    ///
    /// # Errors
    /// As any call.
    pub async fn dead_matching(&self, filter: &DeadFilter) -> Result<u64> {
        self.within("dead_matching", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.dead_matching(filter).await,
                Inner::Sqlite(lite) => lite.dead_matching(filter).await,
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

    /// Removes dead letters that were replayed or discarded, but not what has been parked again since under the same id.
    /// Returns how many were removed.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn dead_remove(&self, letters: &[DeadKey]) -> Result<u64> {
        self.within("dead_remove", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.dead_remove(letters).await,
                Inner::Sqlite(lite) => lite.dead_remove(letters).await,
            }
        })
        .await
    }
}
