//! Publishing: every message durable, every one confirmed.
//!
//! Used for requests (`herald send`), hints, events and dead letters. A publish ends in one of three ways that a caller must
//! tell apart: confirmed (it is on disk), refused (the queue is full), unconfirmed (it may or may not be there; publish it
//! again with the same `message_id`). It never retries by itself: the caller knows whether the message still matters.

use bytes::Bytes;
use futures_util::future::join_all;
use herald_core::lane::{DispatchQueue, Hint};
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::hints::{self, MAX_HINTS};
use crate::message::Message;
use crate::park::{self, ParkReason};
use crate::replay::Replay;
use crate::topology::{Exchange, PARKED_KEY, SUSPECT_KEY, dispatch_key};
use crate::{Backend, amqp};

/// AMQP's `delivery_mode` for what must survive a restart.
pub(crate) const PERSISTENT: u8 = 2;

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
    /// `user_id`: on RabbitMQ only our own login, or none.
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
    /// No connection, or the broker takes no publishes, or the file can't be written; nothing was sent.
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

/// A message as it goes to the backend: nothing about it is invalid any more.
pub(crate) struct Ready {
    pub(crate) exchange: Exchange,
    pub(crate) key: ShortString,
    pub(crate) body: Bytes,
    pub(crate) properties: BasicProperties,
}

impl Ready {
    pub(crate) fn new(
        exchange: Exchange,
        key: &str,
        body: Bytes,
        properties: BasicProperties,
    ) -> Result<Self, PublishError> {
        let key = short("routing key", key)?;
        if body.len() > MAX_BODY {
            return Err(PublishError::Invalid {
                problem: format!("the body has {} bytes, more than {MAX_BODY}", body.len()),
            });
        }
        Ok(Self { exchange, key, body, properties })
    }

    fn of(outgoing: Outgoing) -> Result<Self, PublishError> {
        let properties = properties(&outgoing)?;
        Self::new(outgoing.exchange, &outgoing.routing_key, outgoing.body, properties)
    }
}

/// Publishes messages. Cheap to clone; all clones share connection and window, or the file.
#[derive(Clone)]
pub struct Publisher(Backend);

impl Publisher {
    pub(crate) fn new(backend: Backend) -> Self {
        match &backend {
            Backend::Amqp(broker) => broker.start_publishing(),
            // It is open already.
            Backend::Embedded(_) => {}
        }
        Self(backend)
    }

    /// Publishes one message and waits for its confirm, at most 5 s for a connection and 30 s for the confirm.
    ///
    /// # Errors
    /// [`PublishError`]; after `Unconfirmed` it may have been published all the same.
    pub async fn publish(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        self.send(Ready::of(outgoing)?).await
    }

    /// Publishes messages side by side; the results are in the order of `outgoing`. In which order they reach their queues is
    /// not promised. On a file, many share one commit: then all of those are there, or none.
    pub async fn publish_all(&self, outgoing: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        match &self.0 {
            Backend::Amqp(_) => join_all(outgoing.into_iter().map(|one| self.publish(one))).await,
            Backend::Embedded(file) => file.publish_all(outgoing.into_iter().map(Ready::of).collect()).await,
        }
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

    /// Publishes dead letters again, side by side; the results are in their order. Remove one once its result is `Ok`: in
    /// between it is in both places, and the key of a request makes that harmless.
    pub async fn replay(&self, letters: Vec<Replay>) -> Vec<Result<(), PublishError>> {
        let ready: Vec<_> = letters.into_iter().map(Replay::ready).collect();
        match &self.0 {
            Backend::Amqp(_) => join_all(ready.into_iter().map(async |one| self.send(one?).await)).await,
            Backend::Embedded(file) => file.publish_all(ready).await,
        }
    }

    async fn dead(&self, message: &Message, key: &str, reason: Option<&ParkReason>) -> Result<(), PublishError> {
        let user = message.props.user_id.as_deref();
        let properties = park::properties(message.original(), message.origin, user, reason);
        self.send(Ready::new(Exchange::Dead, key, message.body().clone(), properties)?).await
    }

    async fn send(&self, ready: Ready) -> Result<(), PublishError> {
        match &self.0 {
            Backend::Amqp(broker) => amqp::publish::send(&broker.shared, ready).await,
            Backend::Embedded(file) => file.publish(ready).await,
        }
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

pub(crate) fn short(what: &str, text: &str) -> Result<ShortString, PublishError> {
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
