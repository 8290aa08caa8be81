//! Keeps one queue subscribed, and feeds the [`Consumer`] from which the worker takes batches.
//!
//! The prefetch bounds everything: what the broker sent and nobody settled is at most that many messages, in the consumer and
//! in lapin's buffer together.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::Link;
use super::session::Session;
use super::supervisor::{Duty, Shared};
use super::{STEP_LIMIT, say};
use crate::backoff::Backoff;
use crate::consumer::Consumer;
use crate::counters::add;
use crate::message::{Content, Message};
use crate::settle;
use crate::source::Source;

/// Starts to keep `source` subscribed, on a channel of its own. Needs a tokio runtime.
pub(crate) fn start(shared: &Arc<Shared>, open: Arc<DropGuard>, source: Source, prefetch: u16) -> Consumer {
    shared.start(Duty::Consume);
    let (out, arriving) = mpsc::channel(usize::from(prefetch));
    let stop = shared.closing.child_token();
    let subscription = Subscription { shared: Arc::clone(shared), source, prefetch, out, stop: stop.clone() };
    shared.consumers.fetch_add(1, Ordering::Relaxed);
    shared.tasks.spawn(subscription.keep());
    Consumer::new(source, Arc::clone(&shared.counting), arriving, stop, open)
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
                    let message = self.message(delivery, session);
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

    fn message(&self, delivery: Delivery, session: &Arc<Session>) -> Message {
        let content = Content {
            delivery_count: delivery_count(&delivery),
            redelivered: delivery.redelivered,
            original: delivery.properties,
            body: delivery.data.into(),
        };
        let session = settle::Session::Amqp(Arc::clone(session));
        Message::new(content, self.source, session, delivery.delivery_tag, None)
    }

    /// Ends the subscription; what had already arrived still goes to the consumer, which gives it back.
    async fn cancel(&self, session: &Arc<Session>, deliveries: &mut lapin::Consumer) {
        if let Err(error) = session.channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default()).await {
            tracing::debug!(queue = %self.source, error = say(&error), "the subscription was over already");
            return;
        }
        while let Some(Ok(delivery)) = deliveries.next().await {
            session.delivered(delivery.delivery_tag);
            if self.out.send(self.message(delivery, session)).await.is_err() {
                return;
            }
        }
    }
}

/// How often the broker delivered it before.
fn delivery_count(delivery: &Delivery) -> u32 {
    // On a first delivery the header is not the broker's (RabbitMQ 4 sends none): a producer's own says nothing.
    let headers = delivery.properties.headers().as_ref().filter(|_| delivery.redelivered);
    headers.and_then(|table| number(table, "x-delivery-count")).unwrap_or(0)
}

fn number(table: &FieldTable, name: &str) -> Option<u32> {
    let value = match table.inner().get(name)? {
        AMQPValue::ShortShortInt(n) => i64::from(*n),
        AMQPValue::ShortShortUInt(n) => i64::from(*n),
        AMQPValue::ShortInt(n) => i64::from(*n),
        AMQPValue::ShortUInt(n) => i64::from(*n),
        AMQPValue::LongInt(n) => i64::from(*n),
        AMQPValue::LongUInt(n) => i64::from(*n),
        AMQPValue::LongLongInt(n) => *n,
        _ => return None,
    };
    Some(u32::try_from(value.max(0)).unwrap_or(u32::MAX))
}

/// A soft error of AMQP closes the channel and leaves the connection as it was; any other puts the link in doubt.
fn end_of(link: &Link, error: &lapin::Error) -> End {
    if error.is_amqp_soft_error() && link.connection.status().connected() {
        return End::ChannelLost(say(error));
    }
    link.lose(say(error));
    End::LinkLost
}
