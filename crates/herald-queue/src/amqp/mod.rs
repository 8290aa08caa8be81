//! RabbitMQ over AMQP 0-9-1, by lapin. No type of lapin leaves this crate.
//!
//! lapin's own recovery is not used: a channel error leaves its consumers pending for ever, an exhausted backoff hangs them,
//! and a socket that is full goes unnoticed. Here a role (publish, consume) has one [`supervisor`], which keeps one
//! [`link`](connection::Link) up; whatever fails on a link loses all of it, and everything on it is built anew.
//!
//! Reading order: [`config`] (where) → [`broker`] (the operations) → [`connection`] (one link) → [`supervisor`] (always a
//! link) → [`session`] (one channel's deliveries and their settlement, by the rules of [`outstanding`]) → [`consume`] →
//! [`publish`] → [`declare`] (topology).

pub(crate) mod config;
pub(crate) mod broker;
pub(crate) mod connection;
pub(crate) mod supervisor;
pub(crate) mod session;
mod outstanding;
pub(crate) mod consume;
pub(crate) mod publish;
pub(crate) mod declare;

use std::time::Duration;

/// How long any single exchange with the broker may take (open a channel, subscribe, declare): a broker that needs longer
/// is replaced by the next one.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(10);

/// What the peer says is wrong, in one line. lapin's texts quote neither passwords nor bodies.
pub(crate) fn say(error: &lapin::Error) -> String {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(protocol) => protocol.get_message().as_str().to_owned(),
        _ => error.to_string(),
    }
}
