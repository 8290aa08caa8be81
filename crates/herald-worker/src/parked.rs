//! Parking: work that can't be done is moved to a dead letter with its reason, and its neighbours go on (G6).
//!
//! Stands beside intake and take. A message is acked only after its copy on `herald.parked` (or `herald.suspect`) is
//! confirmed, so a crash in between parks it twice at most, under one id. The workers drain `herald.parked` into the store's
//! dead letters, where operators list them.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use herald_core::event::{OutboxEvent, Subject, Tell, cloud_event};
use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use herald_queue::{Message, ParkReason, PublishError, Source};
use herald_store::DeadLetter;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use crate::batch::{GaveUp, until_answered};
use crate::way::Way;

const PREFETCH: u16 = 100;
const RETRY: Duration = Duration::from_secs(1);
/// Messages parked at once.
const AT_ONCE: usize = 32;

/// A parked message, what is stored of it, and the event about it if its app asked for one.
type Letter = (Message, (DeadLetter, Option<OutboxEvent>));

/// Moves messages to the dead letters and acks them, in a task of their own: their neighbours wait neither for the broker's
/// confirms nor for a broker that takes none. Bounded by the prefetch that the messages still fill.
pub(crate) fn park_aside(way: &Arc<Way>, bad: Vec<(Message, ParkReason)>, stop: &CancellationToken) {
    if bad.is_empty() {
        return;
    }
    let (tasks, way, stop) = (way.pushes.clone(), Arc::clone(way), stop.clone());
    tasks.spawn(async move {
        let parking = bad.into_iter().map(async |(message, reason)| {
            if park(&way, &message, &reason, &stop).await {
                way.queue.ack(vec![message]).await;
            }
        });
        futures_util::stream::iter(parking).buffer_unordered(AT_ONCE).collect::<()>().await;
    });
}

/// Moves messages that have been delivered too often to `herald.suspect` and acks them, in a task of their own.
pub(crate) fn suspect_aside(way: &Arc<Way>, suspects: Vec<Message>, stop: &CancellationToken) {
    if suspects.is_empty() {
        return;
    }
    let (tasks, way, stop) = (way.pushes.clone(), Arc::clone(way), stop.clone());
    tasks.spawn(async move {
        for message in suspects {
            let moved = until_confirmed(&stop, || {
                let publisher = way.queue.publisher();
                let message = &message;
                async move { publisher.suspect(message).await }
            });
            if moved.await {
                way.queue.ack(vec![message]).await;
            }
        }
    });
}

/// Moves a message to the dead letters. Says whether it may be acked now.
pub(crate) async fn park(way: &Way, message: &Message, reason: &ParkReason, stop: &CancellationToken) -> bool {
    way.metrics.parked(&reason.code);
    warn!(
        queue = %message.source, message.id = message.props.message_id.as_deref().unwrap_or("-"), code = %reason.code,
        field = %reason.field, problem = %reason.problem, fix = %reason.fix, "parked"
    );
    until_confirmed(stop, || {
        let publisher = way.queue.publisher();
        async move { publisher.park(message, reason).await }
    })
    .await
}

/// Publishes until the broker has confirmed it, or `stop`. Says whether it has.
async fn until_confirmed<F, Fut>(stop: &CancellationToken, mut publish: F) -> bool
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), PublishError>>,
{
    loop {
        match publish().await {
            Ok(()) => return true,
            Err(error) => warn!(%error, "a message could not be moved aside; it stays where it is and is tried again"),
        }
        if pause(stop).await {
            return false;
        }
    }
}

/// Runs a reader of one message; a panic becomes the reason to park that message, and nothing else.
pub(crate) fn unpanicked<T>(read: impl FnOnce() -> T, refuse: impl FnOnce(ParkReason) -> T) -> T {
    std::panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        error!("reading a message panicked; it is parked");
        refuse(ParkReason {
            code: "poison".to_owned(),
            field: String::new(),
            problem: "reading it panicked: a defect of Herald".to_owned(),
            fix: "report it with the worker's log; publish it again after an upgrade".to_owned(),
        })
    })
}

/// Waits before another try; says whether to stop instead.
async fn pause(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep(RETRY) => false,
    }
}

/// Drains `herald.parked` into the store until `stop`.
pub(crate) async fn run(way: Arc<Way>, stop: CancellationToken) {
    let mut consumer = way.queue.consume(Source::Parked, PREFETCH);
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => break,
            batch = consumer.next(usize::from(PREFETCH)) => batch,
        };
        if batch.is_empty() {
            break;
        }
        let now = way.clock.now();
        let letters = batch.into_iter().map(|message| {
            let letter = letter(&way, &message, now);
            (message, letter)
        });
        if !store(&way, letters.collect(), &stop).await && pause(&stop).await {
            break;
        }
    }
    consumer.stop().await;
}

/// Stores dead letters and acks their messages; a batch that the store refuses for good is halved, so that one bad letter
/// stops no other. Says whether all were stored.
async fn store(way: &Way, letters: Vec<Letter>, stop: &CancellationToken) -> bool {
    let mut all = true;
    let mut stack = vec![letters];
    while let Some(mut part) = stack.pop() {
        let rows: Vec<DeadLetter> = part.iter().map(|(_, (letter, _))| letter.clone()).collect();
        let events: Vec<OutboxEvent> = part.iter().filter_map(|(_, (_, event))| event.clone()).collect();
        match until_answered("dead_insert", stop, || way.store.dead_insert(&rows, &events)).await {
            Ok(_) => {
                way.queue.ack(part.into_iter().map(|(message, _)| message).collect()).await;
            }
            Err(GaveUp::Refused(_)) if part.len() > 1 => {
                let rest = part.split_off(part.len() / 2);
                stack.push(rest);
                stack.push(part);
            }
            Err(gave_up) => {
                if let GaveUp::Refused(refused) = gave_up {
                    error!(error = %refused, "the store refuses a dead letter; it stays on herald.parked");
                }
                all = false;
                way.queue.give_back(part.into_iter().map(|(message, _)| message).collect()).await;
            }
        }
    }
    all
}

/// A dead letter of a message, and the event about it if its app asked for one.
fn letter(way: &Way, message: &Message, now: Timestamp) -> (DeadLetter, Option<OutboxEvent>) {
    let reason = message.park_reason().unwrap_or_else(|| ParkReason {
        code: "delivery_limit".to_owned(),
        field: String::new(),
        problem: "the broker gave up: it was delivered too often and never acknowledged".to_owned(),
        fix: "see the workers' logs for why they could not finish it; publish it again when that is mended".to_owned(),
    });
    let props = &message.props;
    let body = message.body();
    // The same message parked twice has one id: by its own id if it has one, else by its content.
    let name = [props.message_id.as_deref().unwrap_or("").as_bytes(), message.origin.queue().as_bytes(), body].concat();
    let app = named_app(body).filter(|app| way.apps.get(app).is_some());
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &name);
    let event = app.as_ref().and_then(|app| event(way, app, id, message, &reason, now));
    let letter = DeadLetter {
        id,
        source_queue: message.origin.queue().to_owned(),
        reason_code: storable(&reason.code),
        field: storable(&reason.field),
        problem: storable(&reason.problem),
        fix: storable(&reason.fix),
        app,
        message_id: props.message_id.as_deref().map(storable),
        headers: message.kept(),
        body: body.to_vec(),
        parked_at: now,
    };
    (letter, event)
}

/// A store's text holds no NUL, and a producer's may.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

fn event(
    way: &Way,
    app: &AppId,
    letter: Uuid,
    message: &Message,
    reason: &ParkReason,
    now: Timestamp,
) -> Option<OutboxEvent> {
    if !way.apps.get(app)?.settings.events.contains(Tell::Parked) {
        return None;
    }
    let message_id = message.props.message_id.as_deref().map(storable);
    let subject = Subject {
        dead_letter_id: Some(letter),
        message_id: message_id.as_deref(),
        reason: Some(&reason.problem),
        field: Some(&reason.field).filter(|field| !field.is_empty()).map(String::as_str),
        fix: Some(&reason.fix),
        ..Subject::default()
    };
    let trace = (message.props.traceparent.as_deref(), message.props.tracestate.as_deref());
    Some(cloud_event(Tell::Parked, app, &subject, now, trace))
}

/// The app that a broken request names, if that much of it can be read.
fn named_app(body: &[u8]) -> Option<AppId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        target_host_name: String,
    }
    let named: Named = serde_json::from_slice(body).ok()?;
    Some(AppId::new(named.target_host_name.to_ascii_lowercase()))
}
