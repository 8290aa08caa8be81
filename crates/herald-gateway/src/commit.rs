//! Group commit: what many clients bring becomes few transactions.
//!
//! Stands between the handlers, of which hundreds may wait, and the store. While one transaction runs, what arrives
//! gathers; the next one takes it all. So a lone request doesn't wait for others, and a flood costs one transaction for
//! hundreds. A handler is answered only after the commit that holds what it brought (G1, G3). What is committed, and how, is
//! a [`Work`]: receipts ([`crate::receipts`]) and notifications ([`crate::graph`]).

use std::future::Future;

use herald_store::StoreError;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

/// Requests of a kind that wait for a commit; more are told to come back. Bounds memory: 64 KiB each.
const MAX_WAITING: usize = 1_024;

/// One kind of thing that is committed in groups.
pub(crate) trait Work: Send + Sync + 'static {
    /// One of them.
    type Item: Clone + Send + Sync;
    /// What became of one.
    type Done: Send;
    /// A transaction takes no further request once it holds this many.
    const ENOUGH: usize;
    /// What they are called in the log.
    const NAME: &'static str;

    /// Commits them in one transaction, and counts. One result each, in their order.
    fn apply(&self, items: Vec<Self::Item>) -> impl Future<Output = Result<Vec<Self::Done>, StoreError>> + Send;
}

/// It was not committed, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCommitted {
    /// The store is away, or too many wait: the same later may work.
    #[error("could not be stored now")]
    Away,
    /// The store refuses this for good: a fault of ours.
    #[error("is refused by the store")]
    Refused,
}

type Answer<W> = Result<Vec<<W as Work>::Done>, NotCommitted>;

/// What one request brought, and who waits for what became of it.
struct Waiting<W: Work> {
    items: Vec<W::Item>,
    answer: oneshot::Sender<Answer<W>>,
}

/// The handlers' side.
pub(crate) struct Commits<W: Work>(mpsc::Sender<Waiting<W>>);

impl<W: Work> Clone for Commits<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The store's side.
pub(crate) struct Committer<W: Work> {
    waiting: mpsc::Receiver<Waiting<W>>,
    work: W,
}

pub(crate) fn channel<W: Work>(work: W) -> (Commits<W>, Committer<W>) {
    let (sender, waiting) = mpsc::channel(MAX_WAITING);
    (Commits(sender), Committer { waiting, work })
}

impl<W: Work> Commits<W> {
    /// Stores what one request brought; returns once it is committed, with what became of each, in their order.
    ///
    /// # Errors
    /// See [`NotCommitted`].
    pub(crate) async fn commit(&self, items: Vec<W::Item>) -> Answer<W> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, committed) = oneshot::channel();
        self.0.try_send(Waiting { items, answer }).map_err(|_| NotCommitted::Away)?;
        committed.await.map_err(|_| NotCommitted::Away)?
    }
}

impl<W: Work> Committer<W> {
    /// Commits what handlers bring until the last of them is gone.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            let batch = self.gather(first);
            self.commit(batch).await;
        }
    }

    /// With `first`, what else has arrived by now. Who gave up waiting is left out: it will come again.
    fn gather(&mut self, first: Waiting<W>) -> Vec<Waiting<W>> {
        let mut held = first.items.len();
        let mut batch = vec![first];
        while held < W::ENOUGH
            && let Ok(next) = self.waiting.try_recv()
        {
            held += next.items.len();
            batch.push(next);
        }
        batch.retain(|waiting| !waiting.answer.is_closed());
        batch
    }

    async fn commit(&self, batch: Vec<Waiting<W>>) {
        let all: Vec<W::Item> = batch.iter().flat_map(|waiting| waiting.items.iter().cloned()).collect();
        if all.is_empty() {
            return;
        }
        let count = all.len();
        match self.work.apply(all).await {
            Ok(done) => {
                let mut done = done.into_iter();
                for Waiting { items, answer } in batch {
                    reply::<W>(answer, Ok(done.by_ref().take(items.len()).collect()));
                }
            }
            // One request that the store can't take must not stop its neighbours.
            Err(error) if !error.is_transient() && batch.len() > 1 => {
                for Waiting { items, answer } in batch {
                    let count = items.len();
                    let done = self.work.apply(items).await;
                    reply::<W>(answer, done.map_err(|error| not_committed::<W>(&error, count)));
                }
            }
            Err(error) => {
                let error = not_committed::<W>(&error, count);
                for waiting in batch {
                    reply::<W>(waiting.answer, Err(error));
                }
            }
        }
    }
}

fn reply<W: Work>(answer: oneshot::Sender<Answer<W>>, result: Answer<W>) {
    if answer.send(result).is_err() {
        tracing::debug!("nobody waits for the answer of a commit of {} any more", W::NAME);
    }
}

fn not_committed<W: Work>(error: &StoreError, count: usize) -> NotCommitted {
    if error.is_transient() {
        warn!(%error, count, "{} could not be stored; their senders are told to repeat them", W::NAME);
        NotCommitted::Away
    } else {
        error!(%error, count, "the store refuses {}; their senders are told so", W::NAME);
        NotCommitted::Refused
    }
}
