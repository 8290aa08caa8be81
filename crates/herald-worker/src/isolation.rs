//! Isolation: work that may kill a worker is done alone, one at a time, by a child process of the same binary.
//!
//! Stands beside take (a delivery with three takes and no recorded outcome), intake (a request that was delivered three
//! times or more; it comes by `herald.suspect`) and the fan-out (a notification that was claimed three times and made no page). If the child dies, the parent parks the work and goes on; its neighbours
//! never notice (G6). Losing a connection is no evidence: the work is only done in another place.
//!
//! The child is told what to do as one JSON object on its standard input. On its standard output it says [`BEGUN`] once it
//! has its configuration and the store, and then what came of the work, as JSON. A child that dies before it has begun
//! says nothing about the work. Nobody waits for a child with a permit of the budget.

use std::fmt;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use herald_core::delivery::Event;
use herald_core::ids::NotificationId;
use herald_core::lane::{Hint, Lane};
use herald_core::request::Envelope;
use herald_queue::{Message, ParkReason, Source};
use herald_store::Taken;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::parked;
use crate::push::{Done, End};
use crate::way::Way;

/// Deliveries that wait for a child at most; one child takes them all. What finds no place is put off.
pub(crate) const PLACES: usize = 50;
/// How far apart deliveries come back that found no place.
const PUT_OFF: Duration = Duration::from_secs(20);
/// Waits between tries while a child can't come to the work.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What a child writes first, once it could begin: only from there on does its death say something about the work.
pub const BEGUN: &str = "begun";

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Isolated {
    /// Take these deliveries at these versions, push them, record them.
    Deliveries(Vec<(Uuid, i64)>),
    /// Take in this request, push what it asks for, record it.
    Request(Box<Carried>),
    /// Make the deliveries of this notification, which is due itself.
    Fanout(Uuid),
}

/// A request, carried to the child.
#[derive(Serialize, Deserialize)]
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

/// Without what the message says.
impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried").field("lane", &self.lane).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
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

/// How a child ended.
enum Ended {
    Answered(Verdict),
    /// It never came to the work: that says nothing about it.
    NotBegun,
    /// It had begun, and died or took too long.
    Died,
}

/// Gives taken deliveries to isolation; those that find no place are put off, their count of takes as it is.
pub(crate) async fn set_aside(way: &Way, taken: Vec<Taken>) {
    let mut put_off = Vec::new();
    for taken in taken {
        let hint = Hint { delivery: taken.delivery.id, version: taken.delivery.version };
        if way.alone.try_send(taken).is_err() {
            put_off.push(hint);
        }
    }
    if let Err(error) = way.store.put_off(&put_off, PUT_OFF).await {
        warn!(%error, "deliveries for isolation could not be put off; their leases will end");
    }
}

/// Does what was set aside, until `stop`. What waits then is brought back by its lease.
pub(crate) async fn deliveries(way: Arc<Way>, mut waiting: mpsc::Receiver<Taken>, stop: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            received = waiting.recv_many(&mut batch, PLACES) => if received == 0 { return },
        }
        together(&way, std::mem::take(&mut batch), &stop).await;
    }
}

/// One child for all: most are only the neighbours of what killed a worker. If it dies, one child for each.
async fn together(way: &Way, batch: Vec<Taken>, stop: &CancellationToken) {
    info!(deliveries = batch.len(), "taken often without an outcome; done by a child process");
    let all = batch.iter().map(|taken| (taken.delivery.id.0, taken.delivery.version)).collect();
    match child(way, &Isolated::Deliveries(all)).await {
        // Without an outcome the leases bring them back.
        Ended::Answered(_) | Ended::NotBegun => return,
        Ended::Died if batch.len() == 1 => {}
        Ended::Died => warn!(deliveries = batch.len(), "one of these killed a child process; each is done alone"),
    }
    let several = batch.len() > 1;
    for taken in batch {
        if stop.is_cancelled() {
            return;
        }
        let Some(taken) = retake(way, &taken).await else { continue };
        let died = if several {
            let alone = Isolated::Deliveries(vec![(taken.delivery.id.0, taken.delivery.version)]);
            matches!(child(way, &alone).await, Ended::Died)
        } else {
            true
        };
        if died {
            poison(way, &taken).await;
        }
    }
}

async fn poison(way: &Way, taken: &Taken) {
    let Some(taken) = retake(way, taken).await else { return };
    error!(delivery.id = %taken.delivery.id, "the delivery kills whoever works on it; it is parked as poison");
    way.metrics.parked("poison");
    if way.done.send(Done { taken, end: End::NotPushed(Event::Poisoned), permit: None }).await.is_err() {
        error!("the record ended before isolated work did; the lease will bring the delivery back");
    }
}

/// Takes over what a child left: at our version, or at the one after it if the child had taken it. `None` if it is done.
async fn retake(way: &Way, taken: &Taken) -> Option<Taken> {
    let at = |version| Hint { delivery: taken.delivery.id, version };
    let (ours, childs) = (at(taken.delivery.version), at(taken.delivery.version + 1));
    match way.store.take(&[ours, childs], way.settings.lease).await {
        Ok(mut again) => again.pop(),
        Err(error) => {
            warn!(%error, "could not take over from a child process; the lease will end");
            None
        }
    }
}

/// Resolves a notification by a child process; says whether that kills whoever does it.
pub(crate) async fn fanout_kills(way: &Way, notification: NotificationId) -> bool {
    info!(notification.id = %notification, "a fan-out was claimed often without a page; done by a child process");
    // What was not done is brought back when the claim's hold is over.
    matches!(child(way, &Isolated::Fanout(notification.0)).await, Ended::Died)
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
        Source::Requests(lane) => match alone(way, &Isolated::Request(Box::new(Carried::of(&message, lane))), stop)
            .await
        {
            Ended::Answered(Verdict::Park { code, field, problem, fix }) => ParkReason { code, field, problem, fix },
            Ended::Died => ParkReason {
                code: "poison".to_owned(),
                field: String::new(),
                problem: "it killed the process that worked on it".to_owned(),
                fix: "report it with the worker's log; publish it again after an upgrade".to_owned(),
            },
            Ended::Answered(Verdict::Done) => {
                way.queue.ack(vec![message]).await;
                return;
            }
            Ended::Answered(Verdict::Unavailable) | Ended::NotBegun => {
                way.queue.give_back(vec![message]).await;
                return;
            }
        },
        // What isn't a request was only unlucky: too many workers died or lost their connection while they held it.
        Source::Dispatch(_) | Source::Receipts | Source::Suspect | Source::Parked => ParkReason {
            code: "delivery_limit".to_owned(),
            field: String::new(),
            problem: "it was delivered too often and never acknowledged".to_owned(),
            fix: "hints need nothing; publish anything else again once the workers are healthy".to_owned(),
        },
    };
    if parked::park(way, &message, &reason, stop).await {
        way.queue.ack(vec![message]).await;
    }
}

/// Runs a child for it, again and again while none can come to the work; gives up only on `stop`. The message stays
/// unacked meanwhile: giving it back would count as a delivery, and soon it would look like poison.
async fn alone(way: &Way, work: &Isolated, stop: &CancellationToken) -> Ended {
    let mut wait = FIRST_WAIT;
    loop {
        let ended = child(way, work).await;
        if !matches!(ended, Ended::NotBegun | Ended::Answered(Verdict::Unavailable)) {
            return ended;
        }
        tokio::select! {
            () = stop.cancelled() => return Ended::NotBegun,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(MAX_WAIT),
        }
    }
}

/// Runs a child. One at a time in this process.
async fn child(way: &Way, work: &Isolated) -> Ended {
    let _turn = way.turn.lock().await;
    let isolate = &way.settings.isolate;
    let input = serde_json::to_vec(work).expect("ids, text and bytes always serialize");
    let mut command = Command::new(&isolate.program);
    for name in &isolate.without {
        command.env_remove(name);
    }
    let spawned = command
        .args(&isolate.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    let mut process = match spawned {
        Ok(process) => process,
        Err(error) => {
            warn!(%error, "could not start a child process for isolated work");
            return Ended::NotBegun;
        }
    };
    let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
    let (mut stdin, mut stdout) = stdin.zip(stdout).expect("both are piped, and taken once");
    let begins = async {
        stdin.write_all(&input).await?;
        drop(stdin);
        let mut first = [0; BEGUN.len()];
        stdout.read_exact(&mut first).await?;
        Ok::<_, io::Error>(first == *BEGUN.as_bytes())
    };
    if !matches!(tokio::time::timeout(isolate.timeout, begins).await, Ok(Ok(true))) {
        warn!("a child process could not begin its work");
        return Ended::NotBegun;
    }
    let mut answer = String::new();
    // From here on: how long it took to reach the store is no matter of the work.
    let ends = async {
        stdout.read_to_string(&mut answer).await?;
        process.wait().await
    };
    match tokio::time::timeout(isolate.timeout, ends).await {
        Ok(Ok(status)) if status.success() => match serde_json::from_str(answer.trim()) {
            Ok(verdict) => Ended::Answered(verdict),
            Err(_) => Ended::Died,
        },
        Ok(Ok(status)) => {
            warn!(%status, "a child process ended badly");
            Ended::Died
        }
        Ok(Err(error)) => {
            warn!(%error, "a child process could not be heard");
            Ended::NotBegun
        }
        Err(_late) => {
            warn!(limit_ms = isolate.timeout.as_millis(), "a child process took too long and is killed");
            Ended::Died
        }
    }
}
