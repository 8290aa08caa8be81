//! Publishing: every message persistent, every confirm awaited.
//!
//! Used for requests (`herald send`), hints, events and dead letters. A publish ends in one of three ways that a caller must
//! tell apart: confirmed (it is on disk), refused (the queue is full), unconfirmed (it may or may not be there; publish it
//! again with the same `message_id`). It never retries by itself: the caller knows whether the message still matters.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use herald_core::lane::{DispatchQueue, Hint};
use lapin::options::BasicPublishOptions;
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Confirmation};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use super::connection::Link;
use super::supervisor::{Duty, Shared};
use super::{PERSISTENT, say};
use crate::counters::add;
use crate::hints::{self, MAX_HINTS};
use crate::message::Message;
use crate::park::{self, ParkReason};
use crate::topology::{Exchange, PARKED_KEY, SUSPECT_KEY, dispatch_key};

/// How many publishes may await their confirm at once, over all publishers of a queue: beyond this, publishing waits. Bounds
/// what is in doubt when the connection is lost; more brought no more throughput.
pub(crate) const WINDOW: usize = 1000;

/// How long a publish waits for a connection (and for the broker to take publishes again) before it says that there is none.
const LINK_LIMIT: Duration = Duration::from_secs(5);

/// How long a publish waits for its confirm. A live broker answers in milliseconds; after this the connection is replaced.
const CONFIRM_LIMIT: Duration = Duration::from_secs(30);

/// RabbitMQ 4 refuses larger messages by closing the channel.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// A message to publish. `delivery_mode` is always 2; it never has an expiration or a priority.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub exchange: Exchange,
    /// For which queues, at most 255 bytes.
    pub routing_key: String,
    /// The body, at most 16 MiB; requests at most 64 KiB.
    pub body: Bytes,
    /// `message_id`, at most 255 bytes: makes it safe to publish again.
    pub message_id: Option<String>,
    /// `type`, at most 255 bytes.
    pub kind: Option<String>,
    /// `content_type`.
    pub content_type: &'static str,
    /// `correlation_id`, at most 255 bytes.
    pub correlation_id: Option<String>,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// `user_id`: only our own login, or none.
    pub user_id: Option<String>,
}

impl Outgoing {
    /// A JSON body and nothing else.
    pub fn json(exchange: Exchange, routing_key: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            exchange,
            routing_key: routing_key.into(),
            body: body.into(),
            message_id: None,
            kind: None,
            content_type: "application/json",
            correlation_id: None,
            headers: vec![],
            user_id: None,
        }
    }
}

/// Why something is not known to be on the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No connection, or the broker takes no publishes; nothing was sent.
    #[error("not sent: {why}")]
    NotSent {
        /// What is in the way.
        why: String,
    },
    /// The broker took it and refused it: the queue is full.
    #[error("refused by the broker: the queue is full")]
    Refused,
    /// Sent, and no confirm came: it may or may not be in the queue.
    #[error("not confirmed by the broker: {why}")]
    Unconfirmed {
        /// What happened instead.
        why: String,
    },
    /// It can't be published as it is.
    #[error("can't be published: {problem}")]
    Invalid {
        /// What is wrong with it.
        problem: String,
    },
    /// A queue that was asked about does not exist.
    #[error("the queue {queue} does not exist; declare it with `herald topology`")]
    Missing {
        /// Its name.
        queue: &'static str,
    },
}

/// Some hints are not known to be on the broker; the others are.
#[derive(Debug, thiserror::Error)]
#[error("{} hints were not published: {why}", .hints.len())]
pub struct HintsLost {
    /// Which: their deliveries are due now again.
    pub hints: Vec<Hint>,
    /// Why the first of them was not.
    pub why: PublishError,
}

/// Publishes messages. Cheap to clone; all clones share connection and window.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    _open: Arc<DropGuard>,
}

impl Publisher {
    pub(crate) fn start(shared: &Arc<Shared>, open: Arc<DropGuard>) -> Self {
        shared.start(Duty::Publish);
        Self { shared: Arc::clone(shared), _open: open }
    }

    /// Publishes one message and waits for its confirm, at most 5 s for a connection and 30 s for the confirm.
    ///
    /// # Errors
    /// [`PublishError`]; after `Unconfirmed` it may have been published all the same.
    pub async fn publish(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let properties = properties(&outgoing)?;
        self.send(outgoing.exchange, &outgoing.routing_key, &outgoing.body, properties).await
    }

    /// Publishes messages side by side; the results are in the order of `outgoing`. In which order they reach their queues is
    /// not promised.
    pub async fn publish_all(&self, outgoing: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        join_all(outgoing.into_iter().map(|one| self.publish(one))).await
    }

    /// Publishes hints to a dispatch queue, up to 100 in a message.
    ///
    /// # Errors
    /// [`HintsLost`] names the hints of the messages that failed.
    pub async fn hints(&self, queue: DispatchQueue, hints: &[Hint]) -> Result<(), HintsLost> {
        let outgoing = hints::encode(hints)
            .into_iter()
            .map(|body| Outgoing {
                kind: Some(hints::KIND.to_owned()),
                ..Outgoing::json(Exchange::Dispatch, dispatch_key(queue), body)
            })
            .collect();
        let results = self.publish_all(outgoing).await;
        let (mut lost, mut why) = (vec![], None);
        for (chunk, result) in hints.chunks(MAX_HINTS).zip(results) {
            if let Err(error) = result {
                lost.extend_from_slice(chunk);
                why.get_or_insert(error);
            }
        }
        why.map_or(Ok(()), |why| Err(HintsLost { hints: lost, why }))
    }

    /// Moves a copy of `message` to `herald.parked`, with the reason. Ack the message once this has returned `Ok`.
    ///
    /// # Errors
    /// [`PublishError`]; then the message must stay unacked.
    pub async fn park(&self, message: &Message, reason: &ParkReason) -> Result<(), PublishError> {
        self.dead(message, PARKED_KEY, Some(reason)).await
    }

    /// Moves a copy of `message` to `herald.suspect`, to be done alone. Ack the message once this has returned `Ok`.
    ///
    /// # Errors
    /// [`PublishError`]; then the message must stay unacked.
    pub async fn suspect(&self, message: &Message) -> Result<(), PublishError> {
        self.dead(message, SUSPECT_KEY, None).await
    }

    async fn dead(&self, message: &Message, key: &str, reason: Option<&ParkReason>) -> Result<(), PublishError> {
        let user = message.props.user_id.as_deref();
        let properties = park::properties(message.original(), message.origin, user, reason);
        self.send(Exchange::Dead, key, message.body(), properties).await
    }

    async fn send(
        &self,
        exchange: Exchange,
        key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), PublishError> {
        let key = short("routing key", key)?;
        if body.len() > MAX_BODY {
            return Err(PublishError::Invalid {
                problem: format!("the body has {} bytes, more than {MAX_BODY}", body.len()),
            });
        }
        let result = self.attempt(exchange, key, body, properties).await;
        let counting = &self.shared.counting;
        match &result {
            Ok(()) => add(&counting.confirmed, 1),
            Err(PublishError::Refused) => add(&counting.refused, 1),
            Err(_) => add(&counting.unconfirmed, 1),
        }
        result
    }

    async fn attempt(
        &self,
        exchange: Exchange,
        key: ShortString,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), PublishError> {
        let role = &self.shared.publish;
        let Ok(permit) = timeout(CONFIRM_LIMIT, self.shared.window.acquire()).await else {
            return Err(PublishError::NotSent { why: format!("{WINDOW} publishes already await their confirm") });
        };
        let _permit = permit.expect("the window is never closed");
        let Ok(link) = timeout(LINK_LIMIT, role.open_link()).await else {
            let why = role.blocked().map_or_else(
                || "no connection to the broker".to_owned(),
                |reason| format!("the broker takes no publishes now ({reason})"),
            );
            return Err(PublishError::NotSent { why });
        };
        check_user(&link, &properties)?;
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let channel = &link.publish_channels[turn % link.publish_channels.len()];
        let confirmed = tokio::select! {
            // lapin rejects what is pending when a connection ends, but not always at once.
            () = link.lost.cancelled() => return Err(PublishError::Unconfirmed { why: link.why().to_owned() }),
            confirmed = timeout(CONFIRM_LIMIT, publish(channel, exchange, key, body, properties)) => confirmed,
        };
        match confirmed {
            Ok(Ok(Confirmation::Ack(_))) => Ok(()),
            Ok(Ok(Confirmation::Nack(_))) => Err(PublishError::Refused),
            Ok(Ok(Confirmation::NotRequested)) => unreachable!("publish channels are in confirm mode"),
            Ok(Err(error)) => {
                link.lose(say(&error));
                Err(PublishError::Unconfirmed { why: link.why().to_owned() })
            }
            Err(_) => {
                link.lose(format!("no confirm within {CONFIRM_LIMIT:?}"));
                Err(PublishError::Unconfirmed { why: link.why().to_owned() })
            }
        }
    }
}

async fn publish(
    channel: &Channel,
    exchange: Exchange,
    key: ShortString,
    body: &[u8],
    properties: BasicProperties,
) -> Result<Confirmation, lapin::Error> {
    // Not mandatory: the alternate exchange catches what no binding wants, and lapin attributes returns to wrong publishes.
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.name().into(), key, options, body, properties).await?.await
}

/// The broker closes the channel over a `user_id` that is not the login, and with it all publishes in flight.
fn check_user(link: &Link, properties: &BasicProperties) -> Result<(), PublishError> {
    let login = link.connection.status().username();
    match properties.user_id() {
        Some(user) if user.as_str() != login => {
            Err(PublishError::Invalid { problem: format!("user_id {user} is not the login {login}") })
        }
        _ => Ok(()),
    }
}

fn properties(outgoing: &Outgoing) -> Result<BasicProperties, PublishError> {
    let mut properties =
        BasicProperties::default().with_delivery_mode(PERSISTENT).with_content_type(outgoing.content_type.into());
    if let Some(id) = &outgoing.message_id {
        properties = properties.with_message_id(short("message_id", id)?);
    }
    if let Some(kind) = &outgoing.kind {
        properties = properties.with_type(short("type", kind)?);
    }
    if let Some(id) = &outgoing.correlation_id {
        properties = properties.with_correlation_id(short("correlation_id", id)?);
    }
    if let Some(user) = &outgoing.user_id {
        properties = properties.with_user_id(short("user_id", user)?);
    }
    if !outgoing.headers.is_empty() {
        let mut table = FieldTable::default();
        for (name, value) in &outgoing.headers {
            table.insert(short("header name", name)?, AMQPValue::LongString(value.as_str().into()));
        }
        properties = properties.with_headers(table);
    }
    Ok(properties)
}

fn short(what: &str, text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text)
        .map_err(|_| PublishError::Invalid { problem: format!("the {what} has {} bytes, more than 255", text.len()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_amqp_can_not_carry_are_an_error_and_no_panic() {
        let long = "x".repeat(256);
        let plain = Outgoing::json(Exchange::Requests, "high", "{}");
        let check = |outgoing: &Outgoing, what: &str| {
            let error = properties(outgoing).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        check(&Outgoing { message_id: Some(long.clone()), ..plain.clone() }, "message_id");
        check(&Outgoing { headers: vec![(long.clone(), "v".to_owned())], ..plain.clone() }, "header name");
        check(&Outgoing { user_id: Some(long), ..plain }, "user_id");
    }

    #[test]
    fn what_is_published_is_persistent_and_does_not_expire() {
        let properties = properties(&Outgoing::json(Exchange::Events, "received.mail", "{}")).unwrap();
        assert_eq!((properties.delivery_mode(), properties.expiration()), (&Some(2), &None));
    }
}
