//! The operations of a [`Queue`](crate::Queue) on RabbitMQ: one connection to publish, one to consume, each made when first
//! wanted and kept up for ever.
//!
//! It connects to nothing by itself; [`supervisor`] does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::config::{self, Config, ConfigError};
use super::consume;
use super::declare::{self, Declared, TopologyError};
use super::publish::WINDOW;
use super::say;
use super::supervisor::{self, Duty, Role, Shared};
use crate::consumer::Consumer;
use crate::counters::{Counting, Health};
use crate::publisher::PublishError;
use crate::source::Source;

/// How long [`Broker::depth`] waits for a connection and an answer.
const DEPTH_LIMIT: Duration = Duration::from_secs(5);

/// How long [`Broker::close`] waits for its tasks.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// RabbitMQ. Clones share the connections, which end with the last of them.
#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) shared: Arc<Shared>,
    open: Arc<DropGuard>,
}

impl Broker {
    pub(crate) fn open(config: Config) -> Result<Self, ConfigError> {
        let addresses = config::addresses(&config)?;
        let closing = CancellationToken::new();
        let shared = Shared {
            config,
            addresses,
            counting: Arc::new(Counting::default()),
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

    pub(crate) async fn declare_topology(&self) -> Result<Declared, TopologyError> {
        declare::declare(&self.shared).await
    }

    pub(crate) async fn verify_topology(&self) -> Result<(), TopologyError> {
        declare::verify(&self.shared).await
    }

    pub(crate) fn consume(&self, source: Source, prefetch: u16) -> Consumer {
        consume::start(&self.shared, Arc::clone(&self.open), source, prefetch)
    }

    /// Makes the connection that publishes. Needs a tokio runtime.
    pub(crate) fn start_publishing(&self) {
        self.shared.start(Duty::Publish);
    }

    pub(crate) async fn depth(&self, source: Source) -> Result<u64, PublishError> {
        self.shared.start(Duty::Publish);
        let asked = timeout(DEPTH_LIMIT, async {
            let link = self.shared.publish.link().await;
            supervisor::ready(&link, source.queue()).await
        });
        match asked.await {
            Ok(Ok(count)) => Ok(count),
            Ok(Err(error)) if error.is_amqp_soft_error() => Err(PublishError::Missing { queue: source.queue() }),
            Ok(Err(error)) => Err(PublishError::NotSent { why: say(&error) }),
            Err(_) => Err(PublishError::NotSent { why: format!("no answer from the broker within {DEPTH_LIMIT:?}") }),
        }
    }

    pub(crate) fn health(&self) -> Health {
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

    pub(crate) async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
        if timeout(CLOSE_LIMIT, self.shared.tasks.wait()).await.is_err() {
            tracing::debug!("the broker's connections did not end in time");
        }
    }
}
