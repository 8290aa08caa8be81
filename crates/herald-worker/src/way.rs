//! What every step of the way shares.

use std::sync::Arc;

use herald_metrics::Metrics;
use herald_queue::Queue;
use herald_store::{Clock, Store};
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::TaskTracker;

use crate::apps::Apps;
use crate::budget::Budget;
use crate::push::Done;
use crate::settings::{App, Settings};

/// What a worker is made of, before it runs.
pub struct Worker {
    /// The tenants.
    pub apps: Vec<App>,
    /// Settings of the process.
    pub settings: Settings,
    /// What remembers.
    pub store: Store,
    /// What brings work in.
    pub queue: Queue,
    /// What is counted.
    pub metrics: Metrics,
}

/// Shared by all steps; cheap to share, nothing in it is locked across an await.
pub(crate) struct Way {
    pub(crate) apps: Apps,
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) queue: Queue,
    pub(crate) metrics: Metrics,
    pub(crate) budget: Arc<Budget>,
    /// Pushes in flight: drained before the process ends.
    pub(crate) pushes: TaskTracker,
    /// Isolated work is done one at a time.
    pub(crate) alone: Mutex<()>,
    /// To the record. Bounded by the budget: every message in it holds a permit.
    pub(crate) done: mpsc::Sender<Done>,
}

impl Way {
    /// Also returns the record's end of the channel.
    pub(crate) fn new(worker: Worker) -> (Arc<Self>, mpsc::Receiver<Done>) {
        let Worker { apps, settings, store, queue, metrics } = worker;
        let clock = store.clock();
        let (done, to_record) = mpsc::channel(settings.budget.max(8));
        let way = Self {
            apps: Apps::new(apps, clock.now()),
            budget: Budget::new(settings.budget),
            pushes: TaskTracker::new(),
            settings,
            alone: Mutex::new(()),
            store,
            clock,
            queue,
            metrics,
            done,
        };
        (Arc::new(way), to_record)
    }
}
