//! The handle from which the worker takes batches of one queue.
//!
//! First step of the way: what [`Consumer::next`] hands out goes to intake or take, and comes back to
//! [`Queue::ack`](crate::Queue::ack). A task of the backend feeds it; the prefetch bounds everything: what the queue gave and
//! nobody settled is at most that many messages, here and there together. It never talks to a broker or a file.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::counters::{Counting, add};
use crate::embedded;
use crate::message::Message;
use crate::settle::{Session, Verdict, settle};
use crate::source::Source;

/// For how long a batch waits for more once it has a message: long enough to fill a group commit under load, too short
/// to be felt by one lonely message.
const LINGER: Duration = Duration::from_millis(3);

/// How long [`Consumer::stop`] waits for the backend to end the subscription.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Takes messages from one queue. Survives every loss of connection or channel, and every fault of a file, by itself.
pub struct Consumer {
    source: Source,
    counting: Arc<Counting>,
    arriving: mpsc::Receiver<Message>,
    /// Received, not handed out yet: kept here so that a dropped [`Consumer::next`] loses nothing.
    taken: Vec<Message>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    _open: Arc<DropGuard>,
}

impl Consumer {
    /// What a task feeds by `arriving`, which ends soon after `stop` is cancelled.
    pub(crate) fn new(
        source: Source,
        counting: Arc<Counting>,
        arriving: mpsc::Receiver<Message>,
        stop: CancellationToken,
        open: Arc<DropGuard>,
    ) -> Self {
        let _stop_on_drop = stop.clone().drop_guard();
        Self { source, counting, arriving, taken: vec![], stop, _stop_on_drop, _open: open }
    }

    /// The queue it consumes.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The next batch: waits for one message, takes what has arrived besides and what arrives within 3 ms, at most `room`.
    /// Without room, and while there is no connection, it just waits. Empty only after [`Consumer::stop`] or
    /// [`Queue::close`](crate::Queue::close). Dropping the future loses nothing.
    pub async fn next(&mut self, room: usize) -> Vec<Message> {
        if room == 0 {
            self.stop.cancelled().await;
            return vec![];
        }
        loop {
            // What belongs to a lost connection comes again by itself; working on it now would do it twice.
            self.taken.retain(|message| !message.session.is_over());
            if !self.taken.is_empty() {
                break;
            }
            if self.arriving.recv_many(&mut self.taken, room).await == 0 {
                return vec![];
            }
        }
        let until = Instant::now() + LINGER;
        while self.taken.len() < room {
            let free = room - self.taken.len();
            // An error is the end of waiting, 0 the end of the subscription; either way the batch is what there is.
            match timeout_at(until, self.arriving.recv_many(&mut self.taken, free)).await {
                Ok(count) if count > 0 => {}
                _ => break,
            }
        }
        let rest = self.taken.split_off(room.min(self.taken.len()));
        let mut batch = std::mem::replace(&mut self.taken, rest);
        for message in &mut batch {
            message.settled = false;
        }
        add(&self.counting.delivered, batch.len());
        add(&self.counting.redelivered, batch.iter().filter(|message| message.delivery_count > 0).count());
        batch
    }

    /// Ends the subscription and gives back what was not handed out yet, so that other workers get it at once. Messages
    /// that were handed out can still be acked. Takes at most 20 s.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        let mut rest = std::mem::take(&mut self.taken);
        let drained = timeout(STOP_LIMIT, async {
            while let Some(message) = self.arriving.recv().await {
                rest.push(message);
            }
        });
        if drained.await.is_err() {
            tracing::debug!(queue = %self.source, "the subscription did not end in time");
        }
        let given_back = settle(rest, Verdict::GiveBack).await;
        add(&self.counting.given_back, given_back);
    }
}

impl Drop for Consumer {
    /// What was not handed out returns: on RabbitMQ with the channel, which closes with its last message; on a file here.
    fn drop(&mut self) {
        self.arriving.close();
        while let Ok(message) = self.arriving.try_recv() {
            self.taken.push(message);
        }
        let Some(Session::Embedded(shared)) = self.taken.first().map(|message| message.session.clone()) else {
            return;
        };
        embedded::settle::give_back_later(&shared, self.taken.iter().map(|message| message.tag).collect());
    }
}
