//! Claims the messages of one queue, and feeds the [`Consumer`] from which the worker takes batches.
//!
//! A place of the prefetch is taken before a message is claimed and is free again when it is settled; so there are never more
//! rows claimed, nor messages in memory, than the prefetch says. Without a place, or without news, it waits and reads nothing.

use std::sync::Arc;

use herald_sqlite::Fault;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::properties::{dead_lettered, from_json};
use super::settle::give_back_later;
use super::shared::Shared;
use super::table::{self, ClaimedRow};
use crate::backoff::Backoff;
use crate::consumer::Consumer;
use crate::message::{Content, Message};
use crate::settle::Session;
use crate::source::Source;
use crate::topology::delivery_limit;

/// How many messages one write claims at most: others wait for the file meanwhile.
const BATCH: usize = 256;

/// Starts to claim messages of `source`. Needs a tokio runtime.
pub(super) fn start(shared: &Arc<Shared>, open: Arc<DropGuard>, source: Source, prefetch: u16) -> Consumer {
    let prefetch = usize::from(prefetch);
    let (out, arriving) = mpsc::channel(prefetch);
    let stop = shared.closing.child_token();
    let subscription = Subscription {
        shared: Arc::clone(shared),
        source,
        places: Arc::new(Semaphore::new(prefetch)),
        out,
        stop: stop.clone(),
        failing: false,
    };
    shared.working.spawn(subscription.keep());
    Consumer::new(source, Arc::clone(&shared.counting), arriving, stop, open)
}

struct Subscription {
    shared: Arc<Shared>,
    source: Source,
    places: Arc<Semaphore>,
    out: mpsc::Sender<Message>,
    stop: CancellationToken,
    failing: bool,
}

/// What a claim brought.
struct Claimed {
    rows: Vec<ClaimedRow>,
    /// The queue that what was delivered too often was moved to.
    moved_to: Option<&'static str>,
}

impl Subscription {
    async fn keep(mut self) {
        let mut owned = self.shared.owned.subscribe();
        tokio::select! {
            () = self.stop.cancelled() => return,
            // An error would be the end of `shared`.
            owned = owned.wait_for(|owned| *owned) => if owned.is_err() { return },
        }
        let mut news = self.shared.listen(self.source);
        let mut backoff = Backoff::default();
        while let Some(places) = self.free_places().await {
            news.mark_unchanged();
            // Not to be dropped midway: what it claims has to reach somebody. Killed after its commit, the messages are
            // claimed and counted as delivered, and the next process hands them out again.
            let goes_on = match claim(&self.shared, self.source, places.num_permits()).await {
                Ok(Claimed { rows, moved_to: None }) if rows.is_empty() => {
                    self.fails(false);
                    drop(places);
                    tokio::select! {
                        () = self.stop.cancelled() => false,
                        changed = news.changed() => changed.is_ok(),
                    }
                }
                Ok(Claimed { rows, moved_to }) => {
                    self.fails(false);
                    backoff = Backoff::default();
                    if let Some(queue) = moved_to {
                        self.shared.news_of(queue);
                    }
                    self.hand_out(rows, places).await
                }
                Err(fault) => {
                    self.shared.failed(&fault, 0);
                    self.fails(true);
                    tokio::select! {
                        () = self.stop.cancelled() => false,
                        mended = self.shared.mended(&mut backoff) => mended,
                    }
                }
            };
            if !goes_on {
                break;
            }
        }
        self.fails(false);
    }

    fn fails(&mut self, now: bool) {
        if std::mem::replace(&mut self.failing, now) != now {
            self.shared.failing(now);
        }
    }

    /// The free places, at least one; `None` once it is to stop.
    async fn free_places(&self) -> Option<OwnedSemaphorePermit> {
        let mut places = tokio::select! {
            () = self.stop.cancelled() => return None,
            place = Arc::clone(&self.places).acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let more = self.places.available_permits().min(BATCH - 1);
        let more = u32::try_from(more).expect("at most a batch");
        // Nobody else takes places, so an error is impossible; it would only make the batch smaller.
        if let Ok(more) = Arc::clone(&self.places).try_acquire_many_owned(more) {
            places.merge(more);
        }
        Some(places)
    }

    /// Hands messages to the consumer; `false` if it is gone, and they are given back.
    async fn hand_out(&self, rows: Vec<ClaimedRow>, mut places: OwnedSemaphorePermit) -> bool {
        let mut refused = vec![];
        for row in rows {
            let place = places.split(1).expect("no more rows than places were claimed");
            let message = self.message(row, place);
            // It never waits: the channel has room for the whole prefetch.
            if let Err(message) = self.out.send(message).await {
                refused.push(message.0.tag);
            }
        }
        let taken = refused.is_empty();
        if !taken {
            give_back_later(&self.shared, refused);
        }
        taken
    }

    fn message(&self, row: ClaimedRow, place: OwnedSemaphorePermit) -> Message {
        let content = Content {
            delivery_count: row.deliveries.saturating_sub(1),
            redelivered: row.redelivered,
            original: from_json(&row.properties),
            body: row.body.into(),
        };
        let tag = u64::try_from(row.id).expect("row ids count up from 1");
        Message::new(content, self.source, Session::Embedded(Arc::clone(&self.shared)), tag, Some(place))
    }
}

/// Claims up to `limit` messages, and moves those among them that were delivered too often to where they can be done alone or
/// looked at: one commit.
async fn claim(shared: &Shared, source: Source, limit: usize) -> Result<Claimed, Fault> {
    let write = move |connection: &_| {
        let mut claimed = Claimed { rows: table::claim(connection, source.queue(), limit)?, moved_to: None };
        let Some((again, queue)) = delivery_limit(source) else {
            return Ok(claimed);
        };
        let (sound, too_often): (Vec<_>, _) = claimed.rows.into_iter().partition(|row| row.deliveries - 1 <= again);
        for row in &too_often {
            let properties = dead_lettered(&row.properties, source.queue());
            table::transfer(connection, row.id, queue, &properties)?;
            claimed.moved_to = Some(queue);
        }
        claimed.rows = sound;
        Ok(claimed)
    };
    shared.database.write(write).await
}
