//! Consumers: a task that keeps one queue subscribed, and the handle from which the worker takes batches.
//!
//! First step of the way: what [`Consumer::next`] hands out goes to intake or take, and comes back to
//! [`Queue::ack`](crate::Queue::ack). The prefetch bounds everything: what the broker sent and nobody settled is at most that
//! many messages, here and in lapin's buffer together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::backoff::Backoff;
use super::connection::Link;
use super::session::{Session, Verdict};
use super::supervisor::{Duty, Shared};
use super::{STEP_LIMIT, say};
use crate::counters::add;
use crate::message::Message;
use crate::source::Source;

/// For how long a batch waits for more once it has a message: long enough to fill a group commit under load, too short
/// to be felt by one lonely message.
const LINGER: Duration = Duration::from_millis(3);

/// Takes messages from one queue. Survives every loss of connection or channel by itself.
pub struct Consumer {
    source: Source,
    shared: Arc<Shared>,
    arriving: mpsc::Receiver<Message>,
    /// Received, not handed out yet: kept here so that a dropped [`Consumer::next`] loses nothing.
    taken: Vec<Message>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    _open: Arc<DropGuard>,
}

impl Consumer {
    pub(crate) fn start(shared: &Arc<Shared>, open: Arc<DropGuard>, source: Source, prefetch: u16) -> Self {
        shared.start(Duty::Consume);
        // 0 would mean "without limit" to the broker.
        let prefetch = prefetch.max(1);
        let (out, arriving) = mpsc::channel(usize::from(prefetch));
        let stop = shared.closing.child_token();
        let subscription = Subscription { shared: Arc::clone(shared), source, prefetch, out, stop: stop.clone() };
        shared.consumers.fetch_add(1, Ordering::Relaxed);
        shared.tasks.spawn(subscription.keep());
        let _stop_on_drop = stop.clone().drop_guard();
        Self { source, shared: Arc::clone(shared), arriving, taken: vec![], stop, _stop_on_drop, _open: open }
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
        let counting = &self.shared.counting;
        add(&counting.delivered, batch.len());
        add(&counting.redelivered, batch.iter().filter(|message| message.delivery_count > 0).count());
        batch
    }

    /// Ends the subscription and gives back what was not handed out yet, so that other workers get it at once. Messages
    /// that were handed out can still be acked. Takes at most 20 s.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        let mut rest = std::mem::take(&mut self.taken);
        let drained = timeout(STEP_LIMIT * 2, async {
            while let Some(message) = self.arriving.recv().await {
                rest.push(message);
            }
        });
        if drained.await.is_err() {
            tracing::debug!(queue = %self.source, "the broker did not end the subscription in time");
        }
        let given_back = settle(rest, Verdict::GiveBack).await;
        add(&self.shared.counting.given_back, given_back);
    }
}

/// Settles a batch, whatever sessions its messages are of; how many were settled.
pub(crate) async fn settle(mut batch: Vec<Message>, verdict: Verdict) -> usize {
    let mut settled = 0;
    while let Some(first) = batch.first() {
        let session = Arc::clone(&first.session);
        let (mut these, others) = batch.into_iter().partition::<Vec<_>, _>(|m| Arc::ptr_eq(&m.session, &session));
        batch = others;
        for message in &mut these {
            message.settled = true;
        }
        let tags = these.iter().map(|message| message.tag).collect();
        settled += session.settle(tags, verdict).await;
    }
    settled
}

/// Keeps a queue subscribed until it is told to stop.
struct Subscription {
    shared: Arc<Shared>,
    source: Source,
    prefetch: u16,
    out: mpsc::Sender<Message>,
    stop: CancellationToken,
}

/// Why deliveries ended.
enum End {
    /// The consumer was stopped or dropped, or the queue is closing.
    Stopped,
    /// The whole link is gone; its supervisor says why.
    LinkLost,
    /// Only this channel is gone.
    ChannelLost(String),
}

impl Subscription {
    async fn keep(self) {
        let mut backoff = Backoff::default();
        let mut logged = false;
        loop {
            let link = tokio::select! {
                () = self.stop.cancelled() => break,
                link = self.shared.consume.link() => link,
            };
            let since = Instant::now();
            let end = tokio::select! {
                // Dropping it midway closes the channel it made.
                () = self.stop.cancelled() => break,
                subscribed = timeout(STEP_LIMIT, self.subscribe(&link)) => match subscribed {
                    Ok(Ok((session, deliveries))) => Ok((session, deliveries)),
                    Ok(Err(error)) => Err(end_of(&link, &error)),
                    Err(_) => {
                        link.lose(format!("no subscription to {} within {STEP_LIMIT:?}", self.source));
                        Err(End::LinkLost)
                    }
                },
            };
            let end = match end {
                Ok((session, deliveries)) => {
                    if std::mem::take(&mut logged) {
                        tracing::info!(queue = %self.source, "subscribed again");
                    }
                    self.forward_all(&link, session, deliveries).await
                }
                Err(end) => end,
            };
            match end {
                End::Stopped => break,
                End::LinkLost => continue,
                End::ChannelLost(why) => {
                    add(&self.shared.counting.resubscribed, 1);
                    if !std::mem::replace(&mut logged, true) {
                        tracing::warn!(queue = %self.source, why, "no subscription; trying again (`herald topology` declares what is missing)");
                    }
                    backoff.held_for(since.elapsed());
                    tokio::select! {
                        () = self.stop.cancelled() => break,
                        () = sleep(backoff.next()) => {}
                    }
                }
            }
        }
        self.shared.consumers.fetch_sub(1, Ordering::Relaxed);
    }

    async fn subscribe(&self, link: &Arc<Link>) -> Result<(Arc<Session>, lapin::Consumer), lapin::Error> {
        let channel = link.connection.create_channel().await?;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let queue = self.source.queue().into();
        let deliveries =
            channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
        Ok((Arc::new(Session::new(Arc::clone(&self.shared), Arc::clone(link), channel)), deliveries))
    }

    async fn forward_all(&self, link: &Link, session: Arc<Session>, mut deliveries: lapin::Consumer) -> End {
        self.shared.subscribed.fetch_add(1, Ordering::Relaxed);
        let end = self.forward(link, &session, &mut deliveries).await;
        self.shared.subscribed.fetch_sub(1, Ordering::Relaxed);
        match &end {
            // Handed-out messages are still to be acked: the channel closes with the last of them.
            End::Stopped => tokio::select! {
                () = link.lost.cancelled() => {}
                cancelled = timeout(STEP_LIMIT, self.cancel(&session, &mut deliveries)) => {
                    if cancelled.is_err() {
                        link.lose(format!("the subscription to {} did not end within {STEP_LIMIT:?}", self.source));
                    }
                }
            },
            End::LinkLost => session.end(),
            End::ChannelLost(_) => {
                session.end();
                // If the broker only cancelled the consumer, the channel is open, and what is unacked on it must return.
                if session.channel.status().connected()
                    && timeout(STEP_LIMIT, session.channel.close(200, "OK".into())).await.is_err()
                {
                    link.lose(format!("a channel did not close within {STEP_LIMIT:?}"));
                }
            }
        }
        end
    }

    async fn forward(&self, link: &Link, session: &Arc<Session>, deliveries: &mut lapin::Consumer) -> End {
        loop {
            let delivery = tokio::select! {
                () = self.stop.cancelled() => return End::Stopped,
                () = link.lost.cancelled() => return End::LinkLost,
                delivery = deliveries.next() => delivery,
            };
            match delivery {
                Some(Ok(delivery)) => {
                    session.delivered(delivery.delivery_tag);
                    let message = Message::new(delivery, self.source, Arc::clone(session));
                    tokio::select! {
                        () = link.lost.cancelled() => return End::LinkLost,
                        sent = self.out.send(message) => if sent.is_err() { return End::Stopped },
                    }
                }
                Some(Err(error)) => return end_of(link, &error),
                None if link.connection.status().connected() => {
                    return End::ChannelLost(
                        "the broker ended the subscription (queue deleted, or its leader lost)".to_owned(),
                    );
                }
                None => {
                    link.lose("the connection is closed");
                    return End::LinkLost;
                }
            }
        }
    }

    /// Ends the subscription; what had already arrived still goes to the consumer, which gives it back.
    async fn cancel(&self, session: &Arc<Session>, deliveries: &mut lapin::Consumer) {
        if let Err(error) = session.channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default()).await {
            tracing::debug!(queue = %self.source, error = say(&error), "the subscription was over already");
            return;
        }
        while let Some(Ok(delivery)) = deliveries.next().await {
            session.delivered(delivery.delivery_tag);
            if self.out.send(Message::new(delivery, self.source, Arc::clone(session))).await.is_err() {
                return;
            }
        }
    }
}

/// A soft error of AMQP closes the channel and leaves the connection as it was; any other puts the link in doubt.
fn end_of(link: &Link, error: &lapin::Error) -> End {
    if error.is_amqp_soft_error() && link.connection.status().connected() {
        return End::ChannelLost(say(error));
    }
    link.lose(say(error));
    End::LinkLost
}
