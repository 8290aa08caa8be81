//! A message from a queue: its body, the properties that Herald reads, and the duty to settle it exactly once.
//!
//! Handed out by [`Consumer::next`](crate::Consumer::next); ends in [`Queue::ack`](crate::Queue::ack) or
//! [`Queue::give_back`](crate::Queue::give_back). `Debug` never shows the body.
//!
//! AMQP's properties are the model, whatever the backend: a file keeps them as JSON and gives them back as such, so that what
//! a message says, and what a dead letter carries, is decided in one place.

use std::fmt;

use bytes::Bytes;
use herald_core::request::Envelope;
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::OwnedSemaphorePermit;

use crate::counters::add;
use crate::embedded::properties::to_json;
use crate::park::{self, ParkReason};
use crate::settle::Session;
use crate::source::Source;

/// What came with the body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// `message_id`, the idempotency key of a request.
    pub message_id: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// `content_type`.
    pub content_type: Option<String>,
    /// `content_encoding`.
    pub content_encoding: Option<String>,
    /// `user_id`, which RabbitMQ validated against the login of whoever published it first. On a file, the claim of somebody
    /// who may write it.
    pub user_id: Option<String>,
    /// `app_id`, the producer's name. Validated by nobody.
    pub app_id: Option<String>,
    /// `correlation_id`.
    pub correlation_id: Option<String>,
    /// `timestamp`, in seconds since the Unix epoch, by the producer's clock.
    pub timestamp: Option<u64>,
    /// Header `x-uns-id`.
    pub unsid: Option<String>,
    /// Header `traceparent` (W3C).
    pub traceparent: Option<String>,
    /// Header `tracestate` (W3C).
    pub tracestate: Option<String>,
    /// Header `task`: a Celery message names its task there.
    pub task: Option<String>,
    /// Header `lang`: a Celery message says `py` there.
    pub lang: Option<String>,
}

/// A message from a queue. Settled exactly once: by [`Queue::ack`](crate::Queue::ack) when its work is stored, or by
/// [`Queue::give_back`](crate::Queue::give_back) when it was not started. Dropped otherwise, it counts as
/// [`Counters::dropped`](crate::Counters::dropped), keeps its place in the prefetch, and is delivered again once the
/// channel or the file closes.
#[must_use = "a message is settled by ack or give_back"]
pub struct Message {
    /// What came with the body.
    pub props: Properties,
    /// How often it was delivered before and not settled. A lost connection, or a process that was killed, counts as one.
    pub delivery_count: u32,
    /// The queue may have delivered it before. No rule rests on this.
    pub redelivered: bool,
    /// The queue it came from.
    pub source: Source,
    /// The queue it was in first; other than `source` for what came by `herald.dead`.
    pub origin: Source,
    body: Bytes,
    original: Box<BasicProperties>,
    pub(crate) tag: u64,
    pub(crate) session: Session,
    place: Option<OwnedSemaphorePermit>,
    /// Not handed out yet, or settled.
    pub(crate) settled: bool,
}

/// A message as its backend has it.
pub(crate) struct Content {
    pub(crate) delivery_count: u32,
    pub(crate) redelivered: bool,
    pub(crate) original: BasicProperties,
    pub(crate) body: Bytes,
}

impl Message {
    /// Not handed out yet. `place` is its place in the prefetch where the backend counts those by itself.
    pub(crate) fn new(
        content: Content,
        source: Source,
        session: Session,
        tag: u64,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let Content { delivery_count, redelivered, original, body } = content;
        Self {
            props: properties(&original, source),
            delivery_count,
            redelivered,
            source,
            origin: park::origin(original.headers().as_ref(), source),
            body,
            original: Box::new(original),
            tag,
            session,
            place,
            settled: true,
        }
    }

    /// The body as it was published, at most what the broker allows (16 MiB by default).
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The properties as a request's parser wants them.
    pub fn envelope(&self) -> Envelope<'_> {
        let props = &self.props;
        Envelope {
            message_id: props.message_id.as_deref(),
            kind: props.kind.as_deref(),
            content_type: props.content_type.as_deref(),
            content_encoding: props.content_encoding.as_deref(),
            user_id: props.user_id.as_deref(),
            unsid: props.unsid.as_deref(),
            traceparent: props.traceparent.as_deref(),
            tracestate: props.tracestate.as_deref(),
            foreign: props.lang.as_ref().and(props.task.as_deref()),
        }
    }

    /// Why it was parked, if a worker parked it. `None` for what the broker parked after too many deliveries.
    pub fn park_reason(&self) -> Option<ParkReason> {
        park::reason(self.original.headers().as_ref()?)
    }

    /// What a dead letter keeps of its properties for a [`Replay`](crate::Replay), as JSON: the producer's, with the login
    /// that was vouched for, without the broker's headers and without Herald's. The names are AMQP's.
    pub fn kept(&self) -> String {
        to_json(&park::kept(&self.original, self.props.user_id.as_deref()))
    }

    /// The producer's own headers that are text, without the broker's and without Herald's.
    pub fn headers(&self) -> Vec<(String, String)> {
        let Some(table) = self.original.headers() else {
            return vec![];
        };
        park::producers_headers(table)
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), text_of(value)?)))
            .collect()
    }

    pub(crate) fn original(&self) -> &BasicProperties {
        &self.original
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("source", &self.source)
            .field("message_id", &self.props.message_id)
            .field("delivery_count", &self.delivery_count)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.settled {
            add(&self.session.counting().dropped, 1);
            if let Some(place) = self.place.take() {
                place.forget();
            }
            tracing::debug!(queue = %self.source, "a message was dropped unsettled; the queue delivers it again");
        }
    }
}

pub(crate) fn properties(original: &BasicProperties, source: Source) -> Properties {
    let headers = original.headers().as_ref();
    let header = |name: &str| headers.and_then(|table| text(table, name));
    let owned = |value: &Option<lapin::types::ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    Properties {
        message_id: owned(original.message_id()),
        kind: owned(original.kind()),
        content_type: owned(original.content_type()),
        content_encoding: owned(original.content_encoding()),
        user_id: owned(original.user_id()).or_else(|| park::vouched_user(headers?, source)),
        app_id: owned(original.app_id()),
        correlation_id: owned(original.correlation_id()),
        timestamp: *original.timestamp(),
        unsid: header("x-uns-id"),
        traceparent: header("traceparent"),
        tracestate: header("tracestate"),
        task: header("task"),
        lang: header("lang"),
    }
}

/// A header as text: clients of different languages send long strings or bytes.
pub(crate) fn text(table: &FieldTable, name: &str) -> Option<String> {
    table.inner().get(name).and_then(text_of)
}

fn text_of(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        AMQPValue::ByteArray(bytes) => std::str::from_utf8(bytes.as_slice()).ok().map(str::to_owned),
        _ => None,
    }
}
