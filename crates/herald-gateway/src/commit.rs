//! Group commit: receipts of many phones become few transactions.
//!
//! Stands between the handlers, of which thousands may wait, and the store. While one transaction runs, what arrives
//! gathers; the next one takes it all. So a lone receipt doesn't wait for others, and a flood costs one transaction for
//! a thousand. A handler is answered only after the commit that holds its receipts (G3).

use herald_metrics::{BatchStep, CancelledBy, Metrics, ReceiptKind};
use herald_store::{Receipt, ReceiptResult, Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

/// Requests that wait for a commit; more are told to come back. Bounds memory: each holds 1,000 receipts at most.
const MAX_WAITING: usize = 1_024;
/// A transaction takes no further request once it holds this many receipts.
const ENOUGH: usize = 1_000;

/// The receipts were not committed, as far as is known. Sending them again is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receipts could not be stored")]
pub(crate) struct NotCommitted;

/// One request's receipts, and who waits for what became of them.
struct Waiting {
    receipts: Vec<Receipt>,
    answer: oneshot::Sender<Result<Vec<ReceiptResult>, NotCommitted>>,
}

/// The handlers' side.
#[derive(Debug, Clone)]
pub(crate) struct Commits(mpsc::Sender<Waiting>);

/// The store's side.
#[derive(Debug)]
pub(crate) struct Committer {
    waiting: mpsc::Receiver<Waiting>,
    store: Store,
    metrics: Metrics,
}

pub(crate) fn channel(store: Store, metrics: Metrics) -> (Commits, Committer) {
    let (sender, waiting) = mpsc::channel(MAX_WAITING);
    (Commits(sender), Committer { waiting, store, metrics })
}

impl Commits {
    /// Stores receipts; returns once they are committed, with what became of each, in their order.
    ///
    /// # Errors
    /// [`NotCommitted`] if the store is away, or if too many wait already.
    pub(crate) async fn commit(&self, receipts: Vec<Receipt>) -> Result<Vec<ReceiptResult>, NotCommitted> {
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, committed) = oneshot::channel();
        self.0.try_send(Waiting { receipts, answer }).map_err(|_| NotCommitted)?;
        committed.await.map_err(|_| NotCommitted)?
    }
}

impl Committer {
    /// Commits what handlers bring until the last of them is gone.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            let batch = self.gather(first);
            self.commit(batch).await;
        }
    }

    /// With `first`, what else has arrived by now. Who gave up waiting is left out: it will come again.
    fn gather(&mut self, first: Waiting) -> Vec<Waiting> {
        let mut held = first.receipts.len();
        let mut batch = vec![first];
        while held < ENOUGH
            && let Ok(next) = self.waiting.try_recv()
        {
            held += next.receipts.len();
            batch.push(next);
        }
        batch.retain(|waiting| !waiting.answer.is_closed());
        batch
    }

    async fn commit(&self, batch: Vec<Waiting>) {
        let all: Vec<Receipt> = batch.iter().flat_map(|waiting| waiting.receipts.iter().cloned()).collect();
        match self.apply(&all).await {
            Ok(results) => {
                let mut results = results.into_iter();
                for Waiting { receipts, answer } in batch {
                    reply(answer, Ok(results.by_ref().take(receipts.len()).collect()));
                }
            }
            // One request that the store can't take must not stop its neighbours.
            Err(error) if !error.is_transient() && batch.len() > 1 => {
                for Waiting { receipts, answer } in batch {
                    let result = self.apply(&receipts).await;
                    reply(answer, result.map_err(|error| not_committed(&error, receipts.len())));
                }
            }
            Err(error) => {
                let error = not_committed(&error, all.len());
                for waiting in batch {
                    reply(waiting.answer, Err(error));
                }
            }
        }
    }

    async fn apply(&self, receipts: &[Receipt]) -> Result<Vec<ReceiptResult>, StoreError> {
        let results = self.store.receipts(receipts).await?;
        self.metrics.batch(BatchStep::Receipt, receipts.len());
        for result in &results {
            count(&self.metrics, result);
        }
        Ok(results)
    }
}

fn reply(
    answer: oneshot::Sender<Result<Vec<ReceiptResult>, NotCommitted>>,
    result: Result<Vec<ReceiptResult>, NotCommitted>,
) {
    if answer.send(result).is_err() {
        tracing::debug!("nobody waits for the answer to a receipt any more");
    }
}

fn not_committed(error: &StoreError, receipts: usize) -> NotCommitted {
    if error.is_transient() {
        warn!(%error, receipts, "receipts could not be stored; their senders are told to repeat them");
    } else {
        error!(%error, receipts, "the store refuses receipts; their senders are told to repeat them");
    }
    NotCommitted
}

fn count(metrics: &Metrics, result: &ReceiptResult) {
    match result {
        ReceiptResult::Closed(closed) => {
            metrics.receipt(ReceiptKind::OnTime, closed.took());
            metrics.closed(closed.state);
            if closed.fallback_pending {
                metrics.fallback_cancelled(CancelledBy::Receipt);
            }
        }
        ReceiptResult::Late(closed) => metrics.receipt(ReceiptKind::Late, closed.took()),
        ReceiptResult::Duplicate => metrics.receipt(ReceiptKind::Duplicate, None),
        ReceiptResult::Unknown => metrics.receipt(ReceiptKind::Unknown, None),
    }
}
