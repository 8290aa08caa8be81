//! Takes messages from the queue and hands messages on, durably.
//!
//! First and last step of a notification's way: requests and hints come in by a [`Consumer`], and are acked in batches once
//! the store has them; hints, events and dead letters go out by a [`Publisher`], every one confirmed. The queue is RabbitMQ
//! (3.10 to 4.x, [`Queue::open`]) or one file on this machine ([`Queue::open_file`]); nothing outside this crate knows which,
//! no type of a client or a database is in this interface, and both pass the same suite, `conformance`.
//!
//! It never looks into a body (but for [`hints`]), never decides what happens to a message, and never logs one.
//!
//! Reading order: [`topology`] (which queues) → [`consumer`], [`message`], [`mod@settle`] (what comes out, and how it is settled)
//! → [`publisher`], [`park`], [`mod@replay`] (what goes in; dead letters, and back) → [`amqp`] (RabbitMQ) → [`embedded`] (the file).

mod source;
pub mod topology;
mod consumer;
mod message;
mod settle;
mod publisher;
pub mod hints;
mod park;
mod replay;
mod counters;
mod backoff;
mod amqp;
mod embedded;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

use std::path::Path;

pub use amqp::config::{Config, ConfigError};
pub use amqp::declare::{Declared, Difference, TopologyError};
pub use consumer::Consumer;
pub use counters::{Counters, Health};
pub use embedded::FileError;
pub use message::{Message, Properties};
pub use park::ParkReason;
pub use publisher::{HintsLost, Outgoing, PublishError, Publisher};
pub use replay::{Login, NotReplayable, Parked, Replay};
pub use source::Source;
pub use topology::Exchange;

use amqp::broker::Broker;
use counters::{Counting, add};
use embedded::Embedded;
use settle::{Verdict, settle};

/// The queue.
///
/// Cheap to clone. When the last clone, consumer and publisher is dropped, its connections or its file are closed in the
/// background; [`Queue::close`] waits for that.
#[derive(Clone)]
pub struct Queue(Backend);

/// What is behind a [`Queue`].
#[derive(Clone)]
pub(crate) enum Backend {
    /// RabbitMQ.
    Amqp(Broker),
    /// One file.
    Embedded(Embedded),
}

impl Queue {
    /// RabbitMQ. Checks the configuration; connects to nothing yet.
    ///
    /// # Errors
    /// [`ConfigError`] says which part is wrong, and quotes no secret.
    pub fn open(config: Config) -> Result<Self, ConfigError> {
        Broker::open(config).map(|broker| Self(Backend::Amqp(broker)))
    }

    /// The queue in one file, which is made with its folder (for this user alone) if it is not there. Any number of
    /// processes may open it and publish, while one of them consumes; opening it disturbs none of them.
    ///
    /// # Errors
    /// [`FileError`] names the file, what is wrong with it and what to do.
    pub async fn open_file(path: &Path) -> Result<Self, FileError> {
        Embedded::open(path).await.map(|file| Self(Backend::Embedded(file)))
    }

    /// Declares every exchange, queue and binding of [`topology`] that is missing. Repeating it changes nothing. A file needs
    /// none of it: nothing is made, and all is well.
    ///
    /// # Errors
    /// [`TopologyError`]: no broker, no permission, or something exists with other arguments (nothing is deleted).
    pub async fn declare_topology(&self) -> Result<Declared, TopologyError> {
        match &self.0 {
            Backend::Amqp(broker) => broker.declare_topology().await,
            Backend::Embedded(_) => Ok(Declared::default()),
        }
    }

    /// Checks that the topology is there, without changing it. Bindings can't be seen this way. A file has it always.
    ///
    /// # Errors
    /// [`TopologyError`] names every exchange and queue that is missing or different, and the fix.
    pub async fn verify_topology(&self) -> Result<(), TopologyError> {
        match &self.0 {
            Backend::Amqp(broker) => broker.verify_topology().await,
            Backend::Embedded(_) => Ok(()),
        }
    }

    /// Starts to consume a queue, with at most `prefetch` messages unsettled (at least 1). Must be called within a tokio
    /// runtime. While another process consumes the same file, [`Queue::health`] says so, and it is tried until that one ends.
    pub fn consume(&self, source: Source, prefetch: u16) -> Consumer {
        // 0 would mean "without limit" to RabbitMQ.
        let prefetch = prefetch.max(1);
        match &self.0 {
            Backend::Amqp(broker) => broker.consume(source, prefetch),
            Backend::Embedded(file) => file.consume(source, prefetch),
        }
    }

    /// A publisher. Must be called within a tokio runtime.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.0.clone())
    }

    /// Tells the queue that the work of these messages is stored: they are gone. Messages whose connection was lost in the
    /// meantime are left out; the broker delivers them again. A file that can't be written is tried until it can, or the queue
    /// closes. How many were acked.
    pub async fn ack(&self, batch: Vec<Message>) -> usize {
        let all = batch.len();
        let acked = settle(batch, Verdict::Ack).await;
        add(&self.counting().acked, acked);
        add(&self.counting().stale, all - acked);
        acked
    }

    /// Gives messages that were not started back to the queue, for other workers. For a drain; never to wait for better
    /// times, because each return counts as a delivery before RabbitMQ 4.3. How many were given back.
    pub async fn give_back(&self, batch: Vec<Message>) -> usize {
        let given_back = settle(batch, Verdict::GiveBack).await;
        add(&self.counting().given_back, given_back);
        given_back
    }

    /// How many messages are ready in a queue: neither handed to a consumer nor settled. Takes at most 5 s.
    ///
    /// # Errors
    /// [`PublishError::NotSent`] without a connection or a readable file, [`PublishError::Missing`] without the queue.
    pub async fn depth(&self, source: Source) -> Result<u64, PublishError> {
        match &self.0 {
            Backend::Amqp(broker) => broker.depth(source).await,
            Backend::Embedded(file) => file.depth(source).await,
        }
    }

    /// Whether it can work now.
    pub fn health(&self) -> Health {
        match &self.0 {
            Backend::Amqp(broker) => broker.health(),
            Backend::Embedded(file) => file.health(),
        }
    }

    /// Totals since it was opened.
    pub fn counters(&self) -> Counters {
        self.counting().read()
    }

    /// Ends everything: consumers hand out no more, unsettled messages return to the queue, connections say goodbye, a file
    /// is closed. Takes at most 10 s.
    pub async fn close(&self) {
        match &self.0 {
            Backend::Amqp(broker) => broker.close().await,
            Backend::Embedded(file) => file.close().await,
        }
    }

    /// Allows an embedded queue's file at most this many pages (of 4096 bytes), as if the disk were full then; it never
    /// shrinks it. `u32::MAX` lifts it. Nothing on RabbitMQ.
    ///
    /// # Errors
    /// [`PublishError::NotSent`] if the file can't be written.
    #[cfg(feature = "conformance")]
    pub async fn limit_file(&self, pages: u32) -> Result<(), PublishError> {
        match &self.0 {
            Backend::Amqp(_) => Ok(()),
            Backend::Embedded(file) => file.limit_pages(pages).await,
        }
    }

    fn counting(&self) -> &Counting {
        match &self.0 {
            Backend::Amqp(broker) => &broker.shared.counting,
            Backend::Embedded(file) => file.counting(),
        }
    }
}
