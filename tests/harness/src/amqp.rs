//! A small AMQP client for tests: publish with a confirm, get, purge, count.
//!
//! It is the producer's and the subscriber's side of the broker, written apart from `herald-queue` so that a mistake
//! there can't hide here. It never consumes in the background.

use anyhow::{Context, Result, bail};
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// A connection with one channel in confirm mode.
pub struct Amqp {
    connection: Connection,
    channel: Channel,
}

/// A message that was got, and acked by that.
#[derive(Debug, Clone)]
pub struct Got {
    /// Its body.
    pub body: Vec<u8>,
    /// Its routing key.
    pub routing_key: String,
    /// Its properties, headers included.
    pub properties: BasicProperties,
    /// Whether the broker had delivered it before.
    pub redelivered: bool,
}

/// Properties of a persistent JSON message with this `message_id`, as producers should set them.
#[must_use]
pub fn properties(message_id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(message_id.into())
}

/// Connect to a vhost's URL.
///
/// # Errors
/// If the broker can't be reached within 20 s or refuses the user.
pub async fn connect(url: &str) -> Result<Amqp> {
    let connect = async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Amqp { connection, channel })
    };
    tokio::time::timeout(LIMIT, connect).await.context("the broker doesn't answer")?
}

impl Amqp {
    /// Publish and wait for the broker's confirm. `Ok` means the broker has it in a queue.
    ///
    /// # Errors
    /// If the broker refuses it, can't route it, or doesn't confirm within 20 s: then nothing is known about it.
    pub async fn publish(&self, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) -> Result<()> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish = async {
            let confirm = self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?;
            match confirm.await? {
                Confirmation::Ack(None) => Ok(()),
                Confirmation::Ack(Some(_)) => bail!("{exchange}/{key}: no queue is bound, the message came back"),
                Confirmation::Nack(_) => bail!("{exchange}/{key}: the broker refused the message"),
                other => bail!("{exchange}/{key}: not confirmed: {other:?}"),
            }
        };
        tokio::time::timeout(LIMIT, publish).await.context("the broker doesn't confirm")?
    }

    /// Take one message, acked; `None` if the queue has none ready.
    ///
    /// # Errors
    /// If the queue doesn't exist or the connection is lost.
    pub async fn get(&self, queue: &str) -> Result<Option<Got>> {
        let get = async {
            let Some(message) = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await? else {
                return Ok(None);
            };
            let delivery = message.delivery;
            delivery.acker.ack(BasicAckOptions::default()).await?;
            Ok(Some(Got {
                body: delivery.data,
                routing_key: delivery.routing_key.to_string(),
                properties: delivery.properties,
                redelivered: delivery.redelivered,
            }))
        };
        tokio::time::timeout(LIMIT, get).await.context("the broker doesn't answer")?
    }

    /// Remove all ready messages of a queue; the answer is how many there were.
    ///
    /// # Errors
    /// If the queue doesn't exist or the connection is lost.
    pub async fn purge(&self, queue: &str) -> Result<u32> {
        let purge = self.channel.queue_purge(queue.into(), QueuePurgeOptions::default());
        Ok(tokio::time::timeout(LIMIT, purge).await.context("the broker doesn't answer")??)
    }

    /// How many messages of a queue are ready; unacked ones don't count.
    ///
    /// # Errors
    /// If the queue doesn't exist; this connection is of no more use then.
    pub async fn ready(&self, queue: &str) -> Result<u32> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declare = self.channel.queue_declare(queue.into(), passive, FieldTable::default());
        Ok(tokio::time::timeout(LIMIT, declare).await.context("the broker doesn't answer")??.message_count())
    }

    /// Declare a durable quorum queue, reached by its name through the default exchange.
    ///
    /// # Errors
    /// If the broker refuses.
    pub async fn declare_quorum(&self, queue: &str) -> Result<()> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let declare = self.channel.queue_declare(queue.into(), options, arguments);
        tokio::time::timeout(LIMIT, declare).await.context("the broker doesn't answer")??;
        Ok(())
    }

    /// The channel, for what isn't here.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Close in order.
    ///
    /// # Errors
    /// If the connection was lost before.
    pub async fn close(self) -> Result<()> {
        Ok(self.connection.close(200, "done".into()).await?)
    }
}
