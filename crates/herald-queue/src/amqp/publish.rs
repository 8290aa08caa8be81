//! Publishing to RabbitMQ: every message persistent, every confirm awaited.
//!
//! Stands behind [`Publisher`](crate::Publisher), which says what the ends of a publish mean.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::protocol::BasicProperties;
use lapin::{Channel, Confirmation};
use tokio::time::timeout;

use super::connection::Link;
use super::say;
use super::supervisor::Shared;
use crate::counters::add;
use crate::publisher::{PublishError, Ready};

/// How many publishes may await their confirm at once, over all publishers of a queue: beyond this, publishing waits. Bounds
/// what is in doubt when the connection is lost; more brought no more throughput.
pub(crate) const WINDOW: usize = 1000;

/// How long a publish waits for a connection (and for the broker to take publishes again) before it says that there is none.
const LINK_LIMIT: Duration = Duration::from_secs(5);

/// How long a publish waits for its confirm. A live broker answers in milliseconds; after this the connection is replaced.
const CONFIRM_LIMIT: Duration = Duration::from_secs(30);

/// Publishes one message and waits for its confirm.
pub(crate) async fn send(shared: &Shared, ready: Ready) -> Result<(), PublishError> {
    let result = attempt(shared, ready).await;
    let counting = &shared.counting;
    match &result {
        Ok(()) => add(&counting.confirmed, 1),
        Err(PublishError::Refused) => add(&counting.refused, 1),
        Err(_) => add(&counting.unconfirmed, 1),
    }
    result
}

async fn attempt(shared: &Shared, ready: Ready) -> Result<(), PublishError> {
    let role = &shared.publish;
    let Ok(permit) = timeout(CONFIRM_LIMIT, shared.window.acquire()).await else {
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
    check_user(&link, &ready.properties)?;
    let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
    let channel = &link.publish_channels[turn % link.publish_channels.len()];
    let confirmed = tokio::select! {
        // lapin rejects what is pending when a connection ends, but not always at once.
        () = link.lost.cancelled() => return Err(PublishError::Unconfirmed { why: link.why().to_owned() }),
        confirmed = timeout(CONFIRM_LIMIT, publish(channel, ready)) => confirmed,
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

async fn publish(channel: &Channel, ready: Ready) -> Result<Confirmation, lapin::Error> {
    // Not mandatory: the alternate exchange catches what no binding wants, and lapin attributes returns to wrong publishes.
    let options = BasicPublishOptions::default();
    let Ready { exchange, key, body, properties } = ready;
    channel.basic_publish(exchange.name().into(), key, options, &body, properties).await?.await
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
