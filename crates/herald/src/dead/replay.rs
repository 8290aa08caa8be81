//! `herald dead replay`: dead letters go back to where they came from.
//!
//! Each is published, confirmed, and only then removed. Killed in between, a letter is in both places: replayed once more, its
//! key makes it a duplicate. What is parked again meanwhile stays, because it has another time ([`DeadKey`]).

use std::collections::BTreeMap;

use herald_queue::{Login, Parked, PublishError, Publisher, Replay};
use herald_store::{DeadKey, Store};

use super::args::ReplayArgs;
use super::choose::{Pages, Tally, something};
use crate::config::{Config, Place};
use crate::connect::Role;
use crate::failure::Failure;
use crate::{connect, out};

/// How many are published together, and about how many bytes: bounds the memory, keeps the broker busy.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Reasons of what may kill a worker.
const DANGEROUS: [&str; 2] = ["poison", "delivery_limit"];

/// What came of it.
#[derive(Debug, Default)]
struct Done {
    /// By the queue it went to.
    published: BTreeMap<&'static str, u64>,
    removed: u64,
    /// By why.
    refused: BTreeMap<String, u64>,
}

impl Done {
    fn published(&self) -> u64 {
        self.published.values().sum()
    }
}

/// Publishes and removes, or says what would be.
///
/// # Errors
/// [`Failure::Usage`] without a choice; a report that names unknown ids, or the one letter that can't be replayed;
/// [`Failure::Unavailable`] with what was done before, if the broker does not confirm.
pub(super) async fn run(config: &Config, args: &ReplayArgs) -> anyhow::Result<()> {
    something(&args.which, args.all)?;
    if args.message_id.is_some() && args.which.ids.len() != 1 {
        return Err(Failure::Usage("--message-id: a key is of one notification; give one id with it".to_owned()).into());
    }
    let store = connect::ready_store(config, Role::Other).await?;
    let mut pages = Pages::of(&store, &args.which).await?;
    if args.dry_run {
        let (tally, done) = look(config, &store, &mut pages, args).await?;
        out::line(format!("would publish {} again", done.published()))?;
        tally.show()?;
        return told(&done);
    }
    let queue = connect::queue(config, "dead", Role::Other).await?;
    let mut done = Done::default();
    let ended = all(config, &store, &queue.publisher(), &mut pages, args, &mut done).await;
    queue.close().await;
    ended.map_err(|failure| match failure {
        Failure::Unavailable(error) => Failure::Unavailable(error.context(format!(
            "{} published again, {} removed; the others are where they were (repeating it is safe)",
            done.published(),
            done.removed
        ))),
        other => other,
    })?;
    out::line(format!("{} published again, {} removed", done.published(), done.removed))?;
    if done.removed < done.published() {
        out::line("those that were not removed have been parked again, or removed, by others meanwhile")?;
    }
    told(&done)?;
    // With ids, somebody wanted just these.
    anyhow::ensure!(args.which.ids.is_empty() || done.refused.is_empty(), "not all of them could be published again");
    Ok(())
}

/// Where they go, and what can't.
fn told(done: &Done) -> anyhow::Result<()> {
    for (queue, count) in &done.published {
        let alone = if *queue == "herald.suspect" { ", where each is done alone" } else { "" };
        out::line(format!("  {count} to {queue}{alone}"))?;
    }
    for (why, count) in &done.refused {
        out::line(format!("not replayed: {count}; {why}"))?;
    }
    Ok(())
}

/// What would be published.
async fn look(
    config: &Config,
    store: &Store,
    pages: &mut Pages<'_>,
    args: &ReplayArgs,
) -> Result<(Tally, Done), Failure> {
    let (mut tally, mut done) = (Tally::default(), Done::default());
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok((tally, done));
        }
        for entry in page {
            if let Some((_, replay)) = read(config, store, entry.key, args, &mut done).await? {
                *done.published.entry(replay.to().queue()).or_default() += 1;
                tally.add(&entry);
            }
        }
    }
}

async fn all(
    config: &Config,
    store: &Store,
    publisher: &Publisher,
    pages: &mut Pages<'_>,
    args: &ReplayArgs,
    done: &mut Done,
) -> Result<(), Failure> {
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for entry in page {
            let Some((key, replay)) = read(config, store, entry.key, args, done).await? else { continue };
            bytes += replay.bytes();
            batch.push((key, replay));
            if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                publish(store, publisher, std::mem::take(&mut batch), done).await?;
                bytes = 0;
            }
        }
        publish(store, publisher, batch, done).await?;
    }
}

/// What is published for a letter; nothing if it is gone, or can't be replayed.
async fn read(
    config: &Config,
    store: &Store,
    key: DeadKey,
    args: &ReplayArgs,
    done: &mut Done,
) -> Result<Option<(DeadKey, Replay)>, Failure> {
    let Some(letter) = store.dead_letter(key.id).await.map_err(connect::store_failure)? else { return Ok(None) };
    let login = connect::broker_login(config);
    let login = match &config.place {
        Place::Files(_) => Login::Unchecked,
        Place::Servers => Login::Ours(login.as_deref()),
    };
    let key = letter.entry().key;
    let parked = Parked {
        queue: &letter.source_queue,
        properties: &letter.headers,
        message_id: args.message_id.as_deref(),
        dangerous: DANGEROUS.contains(&letter.reason_code.as_str()),
    };
    match Replay::of(&parked, letter.body, login) {
        Ok(replay) => Ok(Some((key, replay))),
        Err(why) => {
            *done.refused.entry(why.to_string()).or_default() += 1;
            Ok(None)
        }
    }
}

/// Publishes, then removes what is confirmed.
async fn publish(
    store: &Store,
    publisher: &Publisher,
    batch: Vec<(DeadKey, Replay)>,
    done: &mut Done,
) -> Result<(), Failure> {
    let (keys, replays): (Vec<_>, Vec<_>) = batch.into_iter().map(|(key, replay)| ((key, replay.to()), replay)).unzip();
    let results = publisher.replay(replays).await;
    let (mut confirmed, mut failed) = (Vec::new(), None::<PublishError>);
    for ((key, to), result) in keys.into_iter().zip(results) {
        match result {
            Ok(()) => {
                confirmed.push(key);
                *done.published.entry(to.queue()).or_default() += 1;
            }
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    // Killed before this: what was published is replayed once more, and is a duplicate then.
    done.removed += store.dead_remove(&confirmed).await.map_err(connect::store_failure)?;
    match failed {
        None => Ok(()),
        Some(error) => Err(Failure::Unavailable(anyhow::Error::from(error).context("broker"))),
    }
}
