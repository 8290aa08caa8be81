//! Which dead letters a command is about: a page after the other, however many there are.
//!
//! Stands between the arguments and what is done with each letter. It reads no body, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use herald_core::time::Timestamp;
use herald_store::{DeadEntry, DeadFilter, DeadKey, DeadPage, Store};

use super::args::WhichArgs;
use crate::connect;
use crate::failure::Failure;
use crate::out;

/// Letters looked at together.
const PAGE: i64 = 500;

/// The filter that was asked for; what is a span becomes a time.
pub(super) fn filter(which: &WhichArgs, now: Timestamp) -> DeadFilter {
    DeadFilter {
        reason: which.reason.clone(),
        queue: which.queue.map(|queue| queue.queue().to_owned()),
        app: which.app.clone().unwrap_or_default(),
        since: which.since.map(|when| when.at(now)),
        until: which.until.map(|when| when.at(now)),
    }
}

/// What was asked about must have been named: nothing is published or removed for a forgotten argument.
///
/// # Errors
/// [`Failure::Usage`] if it was not.
pub(super) fn something(which: &WhichArgs, all: bool) -> Result<(), Failure> {
    if all || !which.is_empty() {
        return Ok(());
    }
    let ways = "ids, a filter (--reason, --app, --queue, --since, --until), or --all";
    Err(Failure::Usage(format!("say which dead letters: {ways}; `herald dead list` shows them")))
}

/// The letters with these ids, in their order.
///
/// # Errors
/// A report that names those that are not there; as any call of the store.
pub(super) async fn by_ids(store: &Store, which: &WhichArgs) -> anyhow::Result<Vec<DeadEntry>> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for id in &which.ids {
        match store.dead_letter(*id).await.map_err(connect::store_failure)? {
            Some(letter) => found.push(letter.entry()),
            None => missing.push(id.to_string()),
        }
    }
    anyhow::ensure!(
        missing.is_empty(),
        "{}: no dead letter has this id; `herald dead list` shows them",
        missing.join(", ")
    );
    // A letter named twice is one.
    let mut seen = BTreeSet::new();
    found.retain(|entry| seen.insert(entry.key.id));
    Ok(found)
}

/// The chosen letters that were there when it was made, oldest first. What is parked again while they are worked on is not
/// met again.
pub(super) struct Pages<'a> {
    store: &'a Store,
    filter: DeadFilter,
    last: Option<DeadKey>,
    named: Option<Vec<DeadEntry>>,
}

impl<'a> Pages<'a> {
    /// Looks up those that are named.
    ///
    /// # Errors
    /// As [`by_ids`].
    pub(super) async fn of(store: &'a Store, which: &WhichArgs) -> anyhow::Result<Self> {
        let now = store.clock().now();
        let mut filter = filter(which, now);
        filter.until = Some(filter.until.map_or(now, |until| until.min(now)));
        let named = if which.ids.is_empty() { None } else { Some(by_ids(store, which).await?) };
        Ok(Self { store, filter, last: None, named })
    }

    /// The next ones; none at the end.
    ///
    /// # Errors
    /// As any call of the store.
    pub(super) async fn next(&mut self) -> Result<Vec<DeadEntry>, Failure> {
        if let Some(named) = &mut self.named {
            return Ok(std::mem::take(named));
        }
        let page = DeadPage::OldestAfter(self.last);
        let entries = self.store.dead_page(&self.filter, page, PAGE).await.map_err(connect::store_failure)?;
        self.last = entries.last().map(|entry| entry.key).or(self.last);
        Ok(entries)
    }
}

/// How many there are of each reason, app and queue.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<[String; 3], u64>);

impl Tally {
    pub(super) fn add(&mut self, entry: &DeadEntry) {
        let app = entry.app.as_ref().map_or("-", |app| app.as_str()).to_owned();
        *self.0.entry([entry.reason_code.clone(), app, entry.source_queue.clone()]).or_default() += 1;
    }

    /// # Errors
    /// When stdout can't be written.
    pub(super) fn show(&self) -> std::io::Result<()> {
        let row = |([reason, app, queue], count): (&[String; 3], &u64)| {
            [count.to_string(), reason.clone(), app.clone(), queue.clone()]
        };
        let rows: Vec<[String; 4]> = self.0.iter().map(row).collect();
        if rows.is_empty() { Ok(()) } else { out::table(["COUNT", "REASON", "APP", "QUEUE"], &rows) }
    }
}
