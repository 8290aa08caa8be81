//! What a move writes: each page a transaction, each statement safe to repeat; and what it counts.
//!
//! Rows are locked in the order of the other modules: subscriptions before notifications before deliveries, each by ascending
//! id. Which row wins where both sides have one is said in [`crate::moving`].

mod compare;
mod deliveries;
mod notifications;
mod rest;
mod subscriptions;

use std::collections::HashSet;

use herald_core::time::Timestamp;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::stored;

pub(super) const OPERATION: &str = "move";

/// What was done with a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Put {
    /// Inserted.
    pub(crate) new: u64,
    /// Was there, and is newer now.
    pub(crate) updated: u64,
    /// Subscriptions that ended here because another has their token.
    pub(crate) replaced: u64,
    /// Subscriptions that were left for another pass.
    pub(crate) waiting: u64,
}

/// As a `timestamptz`.
fn at(micros: i64) -> OffsetDateTime {
    stored(Timestamp::from_micros(micros))
}

/// One column of a page, to be bound.
macro_rules! column {
    ($rows:expr, at $field:ident) => {
        $rows.iter().map(|row| at(row.$field)).collect::<Vec<_>>()
    };
    ($rows:expr, at? $field:ident) => {
        $rows.iter().map(|row| row.$field.map(at)).collect::<Vec<_>>()
    };
    ($rows:expr, text $field:ident) => {
        $rows.iter().map(|row| row.$field.as_str()).collect::<Vec<_>>()
    };
    ($rows:expr, text? $field:ident) => {
        $rows.iter().map(|row| row.$field.as_deref()).collect::<Vec<_>>()
    };
    ($rows:expr, $field:ident) => {
        $rows.iter().map(|row| row.$field).collect::<Vec<_>>()
    };
}
use column;

/// Rows of a page that a statement has not returned.
fn others<'r, R>(rows: &'r [R], done: &[Uuid], id: impl Fn(&R) -> Uuid) -> Vec<&'r R> {
    let done: HashSet<&Uuid> = done.iter().collect();
    rows.iter().filter(|row| !done.contains(&id(row))).collect()
}

/// What a statement with `RETURNING xmax = 0` did: of a row that it inserted, that is so.
fn counted(inserted: &[bool]) -> Put {
    let new = inserted.iter().filter(|new| **new).count() as u64;
    Put { new, updated: inserted.len() as u64 - new, ..Put::default() }
}

/// The transaction of a page.
async fn begin(postgres: &super::Postgres) -> crate::Result<sqlx::Transaction<'static, sqlx::Postgres>> {
    postgres.pool.begin().await.map_err(super::error::during(OPERATION))
}
