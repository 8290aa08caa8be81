//! How messages leave the queue's care: a batch, each where it came from.
//!
//! Stands between [`Queue::ack`](crate::Queue::ack), which takes messages by value, and the channel or file that has to be told.

use std::sync::Arc;

use crate::counters::Counting;
use crate::message::Message;
use crate::{amqp, embedded};

/// How a message leaves the queue's care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its work is stored.
    Ack,
    /// It was not started. By `nack` on RabbitMQ, where it counts as no delivery since 4.3; on a file it never does.
    GiveBack,
}

/// Where a message came from, and where its tag means something.
#[derive(Clone)]
pub(crate) enum Session {
    /// A channel of RabbitMQ; tags are its delivery tags.
    Amqp(Arc<amqp::session::Session>),
    /// A file; tags are row ids.
    Embedded(Arc<embedded::shared::Shared>),
}

impl Session {
    pub(crate) fn counting(&self) -> &Counting {
        match self {
            Self::Amqp(session) => session.counting(),
            Self::Embedded(shared) => &shared.counting,
        }
    }

    /// Nothing of it can be settled any more; the queue delivers it again.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Amqp(session) => session.is_over(),
            Self::Embedded(shared) => shared.closing.is_cancelled(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Amqp(this), Self::Amqp(other)) => Arc::ptr_eq(this, other),
            (Self::Embedded(this), Self::Embedded(other)) => Arc::ptr_eq(this, other),
            (Self::Amqp(_), Self::Embedded(_)) | (Self::Embedded(_), Self::Amqp(_)) => false,
        }
    }

    async fn settle(&self, tags: Vec<u64>, verdict: Verdict) -> usize {
        match self {
            Self::Amqp(session) => session.settle(tags, verdict).await,
            Self::Embedded(shared) => embedded::settle::settle(shared, tags, verdict).await,
        }
    }
}

/// Settles a batch, whatever sessions its messages are of; how many were settled.
pub(crate) async fn settle(mut batch: Vec<Message>, verdict: Verdict) -> usize {
    let mut settled = 0;
    while let Some(first) = batch.first() {
        let session = first.session.clone();
        let (mut these, others) = batch.into_iter().partition::<Vec<_>, _>(|message| message.session.is(&session));
        batch = others;
        for message in &mut these {
            message.settled = true;
        }
        let tags = these.iter().map(|message| message.tag).collect();
        settled += session.settle(tags, verdict).await;
        // Only now are their places in the prefetch free.
        drop(these);
    }
    settled
}
