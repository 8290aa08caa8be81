//! What every step of the way shares.

use std::sync::Arc;

use herald_metrics::Metrics;
use herald_queue::Queue;
use herald_store::{Clock, Store, Taken};
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::TaskTracker;

use crate::apps::Apps;
use crate::budget::Budget;
use crate::isolation;
use crate::pauses::{self, Pauses, Tripped};
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
    /// To isolation: deliveries that are pushed by a child process. What finds no place is put off.
    pub(crate) alone: mpsc::Sender<Taken>,
    /// Child processes run one at a time.
    pub(crate) turn: Mutex<()>,
    /// Breakers that opened, on their way to the other replicas.
    pub(crate) pauses: Pauses,
    /// To the record. Bounded by the budget: every message in it holds a permit.
    pub(crate) done: mpsc::Sender<Done>,
}

/// Where the channels of a way end: each is given to one task.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) to_record: mpsc::Receiver<Done>,
    pub(crate) to_isolate: mpsc::Receiver<Taken>,
    pub(crate) to_share: mpsc::Receiver<Tripped>,
}

impl Way {
    /// Also returns the other ends of its channels.
    pub(crate) fn new(worker: Worker) -> (Arc<Self>, Ends) {
        let Worker { apps, settings, store, queue, metrics } = worker;
        let clock = store.clock();
        let (done, to_record) = mpsc::channel(settings.budget.max(8));
        let (alone, to_isolate) = mpsc::channel(isolation::PLACES);
        let (pauses, to_share) = pauses::channel();
        let way = Self {
            apps: Apps::new(apps, settings.max_pause, clock.now()),
            budget: Budget::new(settings.budget),
            pushes: TaskTracker::new(),
            settings,
            alone,
            turn: Mutex::new(()),
            pauses,
            store,
            clock,
            queue,
            metrics,
            done,
        };
        (Arc::new(way), Ends { to_record, to_isolate, to_share })
    }
}
