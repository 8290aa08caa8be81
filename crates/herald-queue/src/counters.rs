//! What a [`Queue`](crate::Queue) has done and is, as values: the caller turns them into metrics and readiness.
//!
//! Nothing here decides anything; counters only go up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals since [`Queue::open`](crate::Queue::open).
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Counting { $(pub(crate) $name: AtomicU64,)* }

        impl Counting {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Messages handed out by consumers.
    delivered,
    /// Of those, with a delivery count above 0.
    redelivered,
    /// Messages acked.
    acked,
    /// Acks that came after their connection was lost, or that a file could not take before it was closed: the queue delivers
    /// those messages again.
    stale,
    /// Messages given back to the queue unstarted.
    given_back,
    /// Messages dropped neither acked nor given back: a bug of the caller, or a stop in a hurry.
    dropped,
    /// Publishes that the queue confirmed.
    confirmed,
    /// Publishes that the broker refused because the queue is full.
    refused,
    /// Publishes whose fate is unknown, or that never left.
    unconfirmed,
    /// Connections lost, either role; on a file, how often it began to fail.
    losses,
    /// Consumers that lost their channel while the connection stayed.
    resubscribed,
    /// Attempts to connect that failed.
    failed_connects,
    /// Of those, where the peer accepted the connection and then said nothing.
    silent_peers,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// Whether a [`Queue`](crate::Queue) can work now, for readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The publish connection is up and not blocked, and false until the first [`Queue::publisher`](crate::Queue::publisher);
    /// or the file can be written.
    pub publishing: bool,
    /// For how long that has been so.
    pub publishing_for: Duration,
    /// The consume connection is up, or this process is the one that consumes the file, and every consumer gets what there
    /// is. False until the first [`Queue::consume`](crate::Queue::consume).
    pub consuming: bool,
    /// For how long the consume connection has been up or down, or that has been so for a file.
    pub consuming_for: Duration,
    /// The queue takes no publishes now, and why (memory or disk alarm; a full disk).
    pub blocked: Option<String>,
    /// Why the last connection was lost, or could not be made; what last was wrong with the file or its lock.
    pub last_loss: Option<String>,
}
