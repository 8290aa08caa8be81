//! Isolation: work that may kill a worker is done alone, one at a time, by a child process of the same binary.
//!
//! Stands beside take (a delivery with three takes and no recorded outcome) and intake (a request that was delivered three
//! times or more; it comes by `herald.suspect`). If the child dies, the parent parks the work and goes on; its neighbours
//! never notice (G6). Losing a connection is no evidence: the work is only done in another place.
//!
//! The child is told what to do as one JSON object on its standard input, and answers with one on its standard output.

use std::process::Stdio;
use std::sync::Arc;

use herald_core::delivery::Event;
use herald_core::lane::{Hint, Lane};
use herald_core::request::Envelope;
use herald_queue::{Message, ParkReason, Source};
use herald_store::Taken;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::budget::Permit;
use crate::parked;
use crate::push::{Done, End};
use crate::way::Way;

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Isolated {
    /// Take this delivery at this version, push it, record it.
    Delivery {
        /// Its id.
        id: Uuid,
        /// Its version, as the parent took it.
        version: i64,
    },
    /// Take in this request, push what it asks for, record it.
    Request(Box<Carried>),
}

/// A request, carried to the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Carried {
    pub(crate) lane: Lane,
    pub(crate) body: Vec<u8>,
    message_id: Option<String>,
    kind: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    user_id: Option<String>,
    unsid: Option<String>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    foreign: Option<String>,
}

impl Carried {
    fn of(message: &Message, lane: Lane) -> Self {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let envelope = message.envelope();
        Self {
            lane,
            body: message.body().to_vec(),
            message_id: own(envelope.message_id),
            kind: own(envelope.kind),
            content_type: own(envelope.content_type),
            content_encoding: own(envelope.content_encoding),
            user_id: own(envelope.user_id),
            unsid: own(envelope.unsid),
            traceparent: own(envelope.traceparent),
            tracestate: own(envelope.tracestate),
            foreign: own(envelope.foreign),
        }
    }

    pub(crate) fn envelope(&self) -> Envelope<'_> {
        Envelope {
            message_id: self.message_id.as_deref(),
            kind: self.kind.as_deref(),
            content_type: self.content_type.as_deref(),
            content_encoding: self.content_encoding.as_deref(),
            user_id: self.user_id.as_deref(),
            unsid: self.unsid.as_deref(),
            traceparent: self.traceparent.as_deref(),
            tracestate: self.tracestate.as_deref(),
            foreign: self.foreign.as_deref(),
        }
    }
}

/// What a child answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The work is done, or there was nothing to do.
    Done,
    /// It can't be done; park it.
    Park {
        /// As in [`ParkReason`].
        code: String,
        /// As in [`ParkReason`].
        field: String,
        /// As in [`ParkReason`].
        problem: String,
        /// As in [`ParkReason`].
        fix: String,
    },
    /// The store could not be reached; the work is where it was.
    Unavailable,
}

/// Does a taken delivery alone. The take passes to the child, which takes it again at the version given.
pub(crate) fn start(way: &Arc<Way>, taken: Taken, permit: Permit) {
    warn!(delivery.id = %taken.delivery.id, takes = taken.delivery.takes, "taken often without an outcome; it is done alone");
    let pushes = way.pushes.clone();
    let way = Arc::clone(way);
    pushes.spawn(async move {
        let _turn = way.alone.lock().await;
        let work = Isolated::Delivery { id: taken.delivery.id.0, version: taken.delivery.version };
        let event = match child(&way, &work).await {
            Some(Verdict::Done) => return,
            Some(Verdict::Unavailable | Verdict::Park { .. }) => Event::LeaseOver,
            None => {
                error!(delivery.id = %taken.delivery.id, "the delivery killed its child process; it is parked as poison");
                way.metrics.parked("poison");
                Event::Poisoned
            }
        };
        let taken = retake(&way, taken).await;
        if way.done.send(Done { taken, end: End::NotPushed(event), permit }).await.is_err() {
            error!("the record ended before isolated work did; the lease will bring the delivery back");
        }
    });
}

/// Takes over what the child had taken, if it had come so far.
async fn retake(way: &Way, taken: Taken) -> Taken {
    let childs = Hint { delivery: taken.delivery.id, version: taken.delivery.version + 1 };
    match way.store.take(&[childs], way.settings.lease).await {
        Ok(mut again) => again.pop().unwrap_or(taken),
        Err(error) => {
            warn!(%error, "could not take over from a child process");
            taken
        }
    }
}

/// Watches over `herald.suspect` until `stop`.
pub(crate) async fn run(way: Arc<Way>, stop: CancellationToken) {
    let mut consumer = way.queue.consume(Source::Suspect, 1);
    loop {
        let batch = tokio::select! {
            // Nothing has been handed out while the consumer waits.
            () = stop.cancelled() => break,
            batch = consumer.next(1) => batch,
        };
        let Some(message) = batch.into_iter().next() else { break };
        suspect(&way, message, &stop).await;
    }
    consumer.stop().await;
}

async fn suspect(way: &Way, message: Message, stop: &CancellationToken) {
    let id = message.props.message_id.as_deref().unwrap_or("-");
    info!(message.id = id, origin = %message.origin, "a suspect is done alone");
    let reason = match message.origin {
        Source::Requests(lane) => {
            let _turn = way.alone.lock().await;
            match child(way, &Isolated::Request(Box::new(Carried::of(&message, lane)))).await {
                Some(Verdict::Done) => {
                    way.queue.ack(vec![message]).await;
                    return;
                }
                Some(Verdict::Unavailable) => {
                    way.queue.give_back(vec![message]).await;
                    return;
                }
                Some(Verdict::Park { code, field, problem, fix }) => ParkReason { code, field, problem, fix },
                None => ParkReason {
                    code: "poison".to_owned(),
                    field: String::new(),
                    problem: "it killed the process that worked on it".to_owned(),
                    fix: "report it with the worker's log; replay it after an upgrade".to_owned(),
                },
            }
        }
        // What isn't a request was only unlucky: too many workers died or lost their connection while they held it.
        Source::Dispatch(_) | Source::Receipts | Source::Suspect | Source::Parked => ParkReason {
            code: "delivery_limit".to_owned(),
            field: String::new(),
            problem: "it was delivered too often and never acknowledged".to_owned(),
            fix: "hints can be discarded; replay anything else once the workers are healthy".to_owned(),
        },
    };
    if parked::park(way, &message, &reason, stop).await {
        way.queue.ack(vec![message]).await;
    }
}

/// Runs a child. `None` if it died without an answer, or took too long.
async fn child(way: &Way, work: &Isolated) -> Option<Verdict> {
    let isolate = &way.settings.isolate;
    let input = serde_json::to_vec(work).expect("ids, text and bytes always serialize");
    let spawned = Command::new(&isolate.program)
        .args(&isolate.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    let mut process = match spawned {
        Ok(process) => process,
        Err(error) => {
            // That says nothing about the work.
            warn!(%error, "could not start a child process for isolated work");
            return Some(Verdict::Unavailable);
        }
    };
    let talk = async {
        if let Some(mut stdin) = process.stdin.take() {
            stdin.write_all(&input).await?;
        }
        process.wait_with_output().await
    };
    match tokio::time::timeout(isolate.timeout, talk).await {
        Ok(Ok(output)) if output.status.success() => serde_json::from_slice(&output.stdout).ok(),
        Ok(Ok(output)) => {
            warn!(status = %output.status, "a child process ended badly");
            None
        }
        Ok(Err(error)) => {
            warn!(%error, "a child process could not be heard");
            None
        }
        Err(_late) => {
            warn!(limit_ms = isolate.timeout.as_millis(), "a child process took too long and was killed");
            None
        }
    }
}
