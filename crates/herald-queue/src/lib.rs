//! Takes messages from the queue and hands messages on, durably.
//!
//! First and last step of a notification's way: requests and hints come in by a [`Consumer`], and are acked in batches once
//! the store has them; hints, events and dead letters go out by a [`Publisher`], every one confirmed. The broker is RabbitMQ
//! (3.10 to 4.x); nothing outside this crate knows that, and no type of its client is in this interface.
//!
//! It never looks into a body (but for [`hints`]), never decides what happens to a message, and never logs one.
//!
//! Reading order: [`topology`] (which queues) → [`config`] (where) → [`message`] (what comes out) → [`outstanding`] (how it
//! is acked) → [`park`] (dead letters) → [`amqp`] (the protocol).

mod source;
pub mod topology;
mod config;
mod message;
mod outstanding;
pub mod hints;
mod park;
mod counters;
mod amqp;
#[cfg(feature = "conformance")]
pub mod conformance;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use amqp::consume::Consumer;
pub use amqp::declare::{Declared, Difference, TopologyError};
pub use amqp::publish::{HintsLost, Outgoing, PublishError, Publisher};
pub use config::{Config, ConfigError};
pub use counters::{Counters, Health};
pub use message::{Message, Properties};
pub use park::ParkReason;
pub use source::Source;
pub use topology::Exchange;

use amqp::consume;
use amqp::publish::WINDOW;
use amqp::session::Verdict;
use amqp::supervisor::{self, Duty, Role, Shared};
use counters::{Counting, add};

/// How long [`Queue::depth`] waits for a connection and an answer.
const DEPTH_LIMIT: Duration = Duration::from_secs(5);

/// How long [`Queue::close`] waits for its tasks.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// The broker: one connection to publish, one to consume, each made when first wanted and kept up for ever.
///
/// Cheap to clone. When the last clone, consumer and publisher is dropped, the connections end in the background;
/// [`Queue::close`] waits for that.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
    open: Arc<DropGuard>,
}

impl Queue {
    /// Checks the configuration. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ConfigError`] says which part is wrong, and quotes no secret.
    pub fn open(config: Config) -> Result<Self, ConfigError> {
        let addresses = config::addresses(&config)?;
        let closing = CancellationToken::new();
        let shared = Shared {
            config,
            addresses,
            counting: Counting::default(),
            closing: closing.clone(),
            tasks: TaskTracker::new(),
            publish: Role::new(Duty::Publish),
            consume: Role::new(Duty::Consume),
            consumers: AtomicUsize::new(0),
            subscribed: AtomicUsize::new(0),
            last_loss: Mutex::new(None),
            window: Semaphore::new(WINDOW),
            turn: AtomicUsize::new(0),
        };
        Ok(Self { shared: Arc::new(shared), open: Arc::new(closing.drop_guard()) })
    }

    /// Declares every exchange, queue and binding of [`topology`] that is missing. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`TopologyError`]: no broker, no permission, or something exists with other arguments (nothing is deleted).
    pub async fn declare_topology(&self) -> Result<Declared, TopologyError> {
        amqp::declare::declare(&self.shared).await
    }

    /// Checks that the topology is there, without changing it. Bindings can't be seen this way.
    ///
    /// # Errors
    /// [`TopologyError`] names every exchange and queue that is missing or different, and the fix.
    pub async fn verify_topology(&self) -> Result<(), TopologyError> {
        amqp::declare::verify(&self.shared).await
    }

    /// Starts to consume a queue, on a channel of its own, with at most `prefetch` messages unsettled (at least 1). Must be
    /// called within a tokio runtime.
    pub fn consume(&self, source: Source, prefetch: u16) -> Consumer {
        Consumer::start(&self.shared, Arc::clone(&self.open), source, prefetch)
    }

    /// A publisher. Must be called within a tokio runtime.
    pub fn publisher(&self) -> Publisher {
        Publisher::start(&self.shared, Arc::clone(&self.open))
    }

    /// Tells the broker that the work of these messages is stored: they are gone. Messages whose connection was lost in the
    /// meantime are left out; the broker delivers them again. How many were acked.
    pub async fn ack(&self, batch: Vec<Message>) -> usize {
        let all = batch.len();
        let acked = consume::settle(batch, Verdict::Ack).await;
        add(&self.shared.counting.acked, acked);
        add(&self.shared.counting.stale, all - acked);
        acked
    }

    /// Gives messages that were not started back to the broker, for other workers. For a drain; never to wait for better
    /// times, because each return counts as a delivery before RabbitMQ 4.3. How many were given back.
    pub async fn give_back(&self, batch: Vec<Message>) -> usize {
        let given_back = consume::settle(batch, Verdict::GiveBack).await;
        add(&self.shared.counting.given_back, given_back);
        given_back
    }

    /// How many messages are ready in a queue: neither handed to a consumer nor settled. Takes at most 5 s.
    ///
    /// # Errors
    /// [`PublishError::NotSent`] without a connection, [`PublishError::Missing`] without the queue.
    pub async fn depth(&self, source: Source) -> Result<u64, PublishError> {
        self.shared.start(Duty::Publish);
        let asked = timeout(DEPTH_LIMIT, async {
            let link = self.shared.publish.link().await;
            supervisor::ready(&link, source.queue()).await
        });
        match asked.await {
            Ok(Ok(count)) => Ok(count),
            Ok(Err(error)) if error.is_amqp_soft_error() => Err(PublishError::Missing { queue: source.queue() }),
            Ok(Err(error)) => Err(PublishError::NotSent { why: amqp::say(&error) }),
            Err(_) => Err(PublishError::NotSent { why: format!("no answer from the broker within {DEPTH_LIMIT:?}") }),
        }
    }

    /// Whether it can work now.
    pub fn health(&self) -> Health {
        let shared = &self.shared;
        let ((publish_up, publishing_for), (consume_up, consuming_for)) =
            (shared.publish.is_up(), shared.consume.is_up());
        let blocked = shared.publish.blocked();
        let all_subscribed = shared.subscribed.load(Ordering::Relaxed) >= shared.consumers.load(Ordering::Relaxed);
        Health {
            publishing: publish_up && blocked.is_none(),
            publishing_for,
            consuming: consume_up && all_subscribed,
            consuming_for,
            blocked,
            last_loss: shared.last_loss.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Totals since it was opened.
    pub fn counters(&self) -> Counters {
        self.shared.counting.read()
    }

    /// Ends everything: consumers hand out no more, connections say goodbye, unsettled messages return to the broker. Takes
    /// at most 10 s.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
        if timeout(CLOSE_LIMIT, self.shared.tasks.wait()).await.is_err() {
            tracing::debug!("the broker's connections did not end in time");
        }
    }
}
