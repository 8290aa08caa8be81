//! Hints about what was just stored, so that a worker takes it now and not when its clock looks.
//!
//! Beside the way: one task publishes, nobody waits for it, and whatever it drops (too many, no broker) the clock finds,
//! because the deliveries are due in the store.

use std::collections::HashMap;

use herald_core::lane::{DispatchQueue, Hint};
use herald_queue::{Publisher, Queue};
use tokio::sync::mpsc;
use tracing::debug;

/// Posts whose hints wait to be published. More are dropped. Bounds memory and how old a hint may be.
const MAX_WAITING: usize = 1_000;

type Waiting = (DispatchQueue, Vec<Hint>);

/// Where hints are given.
#[derive(Clone)]
pub(super) struct Hints(Option<mpsc::Sender<Waiting>>);

/// Who publishes them.
pub(super) struct Hinter {
    waiting: mpsc::Receiver<Waiting>,
    queue: Queue,
    publisher: Publisher,
}

/// Without a queue, hints go nowhere. Must be called within a tokio runtime.
pub(super) fn channel(queue: Option<Queue>) -> (Hints, Option<Hinter>) {
    let Some(queue) = queue else { return (Hints(None), None) };
    let (sender, waiting) = mpsc::channel(MAX_WAITING);
    // Made now: a publisher is what has the queue connect to publish.
    let publisher = queue.publisher();
    (Hints(Some(sender)), Some(Hinter { waiting, queue, publisher }))
}

impl Hints {
    /// Waits for nothing.
    pub(super) fn give(&self, queue: DispatchQueue, hints: &[Hint]) {
        if let Some(sender) = self.0.as_ref().filter(|_| !hints.is_empty())
            && sender.try_send((queue, hints.to_vec())).is_err()
        {
            debug!(hints = hints.len(), "hints were dropped; the clock finds what they say");
        }
    }
}

impl Hinter {
    /// Publishes what is given until the last giver is gone.
    pub(super) async fn run(mut self) {
        while let Some((queue, hints)) = self.waiting.recv().await {
            let mut gathered: HashMap<DispatchQueue, Vec<Hint>> = HashMap::from([(queue, hints)]);
            while let Ok((queue, hints)) = self.waiting.try_recv() {
                gathered.entry(queue).or_default().extend(hints);
            }
            for (queue, hints) in gathered {
                self.publish(queue, &hints).await;
            }
        }
    }

    async fn publish(&self, queue: DispatchQueue, hints: &[Hint]) {
        // A publish would wait for the broker, and hints that come late are of no use.
        if !self.queue.health().publishing {
            return;
        }
        if let Err(lost) = self.publisher.hints(queue, hints).await {
            debug!(queue = %queue, lost = lost.hints.len(), error = %lost.why, "hints were lost; the clock finds what they say");
        }
    }
}
