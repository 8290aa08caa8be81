//! Parking: work that can't be done is moved to a dead letter with its reason, and its neighbours go on (G6).
//!
//! Stands beside intake and take. A message is acked only after its copy on `herald.parked` (or `herald.suspect`) is
//! confirmed, so a crash in between parks it twice at most, under one id. The workers drain `herald.parked` into the store's
//! dead letters, where operators list, replay and discard them.

use std::sync::Arc;
use std::time::Duration;

use herald_core::event::{OutboxEvent, Subject, Tell, cloud_event};
use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use herald_queue::{Exchange, Message, Outgoing, ParkReason, Source};
use herald_store::DeadLetter;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use crate::batch::{GaveUp, until_answered};
use crate::events::CLOUD_EVENT;
use crate::way::Way;

const PREFETCH: u16 = 100;
const RETRY: Duration = Duration::from_secs(1);

/// Moves a message to the dead letters. Says whether it may be acked now.
pub(crate) async fn park(way: &Way, message: &Message, reason: &ParkReason, stop: &CancellationToken) -> bool {
    way.metrics.parked(&reason.code);
    warn!(
        queue = %message.source, message.id = message.props.message_id.as_deref().unwrap_or("-"), code = %reason.code,
        field = %reason.field, problem = %reason.problem, fix = %reason.fix, "parked"
    );
    loop {
        match way.queue.publisher().park(message, reason).await {
            Ok(()) => return true,
            Err(error) => warn!(%error, "could not park a message; it stays where it is and is tried again"),
        }
        if pause(stop).await {
            return false;
        }
    }
}

/// Moves a message that has been delivered too often to `herald.suspect`. Says whether it may be acked now.
pub(crate) async fn set_aside(way: &Way, message: &Message, stop: &CancellationToken) -> bool {
    loop {
        match way.queue.publisher().suspect(message).await {
            Ok(()) => return true,
            Err(error) => warn!(%error, "could not move a message to herald.suspect; it stays where it is"),
        }
        if pause(stop).await {
            return false;
        }
    }
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
        let (letters, events): (Vec<DeadLetter>, Vec<Vec<OutboxEvent>>) =
            batch.iter().map(|message| letter(&way, message, now)).unzip();
        let events: Vec<OutboxEvent> = events.into_iter().flatten().collect();
        match until_answered("dead_insert", &stop, || way.store.dead_insert(&letters)).await {
            Ok(_) => {
                tell(&way, &events).await;
                way.queue.ack(batch).await;
            }
            Err(GaveUp::Stopped) => {
                way.queue.give_back(batch).await;
            }
            Err(GaveUp::Refused(refused)) => {
                // Left unacked: it stays on herald.parked, where the broker's own tools show it.
                error!(error = %refused, "the store refuses dead letters; they stay on herald.parked");
                way.queue.give_back(batch).await;
                if pause(&stop).await {
                    break;
                }
            }
        }
    }
    consumer.stop().await;
}

/// Publishes the events about dead letters. Before the ack, so that a crash repeats them, under the same ids.
async fn tell(way: &Way, events: &[OutboxEvent]) {
    if events.is_empty() {
        return;
    }
    let outgoing = events.iter().map(|event| Outgoing {
        message_id: Some(event.id.to_string()),
        content_type: CLOUD_EVENT,
        ..Outgoing::json(Exchange::Events, event.routing_key.clone(), event.body.clone())
    });
    let results = way.queue.publisher().publish_all(outgoing.collect()).await;
    let failed = results.iter().filter(|result| result.is_err()).count();
    if failed > 0 {
        warn!(failed, "events about dead letters could not be published");
    }
}

/// A dead letter of a message, and the event about it if its app asked for one.
fn letter(way: &Way, message: &Message, now: Timestamp) -> (DeadLetter, Vec<OutboxEvent>) {
    let reason = message.park_reason().unwrap_or_else(|| ParkReason {
        code: "delivery_limit".to_owned(),
        field: String::new(),
        problem: "the broker gave up: it was delivered too often and never acknowledged".to_owned(),
        fix: "see the workers' logs for why they could not finish it; replay it when that is mended".to_owned(),
    });
    let props = &message.props;
    let body = message.body();
    // The same message parked twice has one id: by its own id if it has one, else by its content.
    let name = [props.message_id.as_deref().unwrap_or("").as_bytes(), message.origin.queue().as_bytes(), body].concat();
    let app = named_app(body).filter(|app| way.apps.get(app).is_some());
    let headers = serde_json::to_string(&message.headers()).unwrap_or_default();
    let events = app.as_ref().and_then(|app| event(way, app, message, &reason, now)).into_iter().collect();
    let letter = DeadLetter {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, &name),
        source_queue: message.origin.queue().to_owned(),
        reason_code: reason.code,
        field: reason.field,
        problem: reason.problem,
        fix: reason.fix,
        app,
        message_id: props.message_id.clone(),
        headers,
        body: body.to_vec(),
        parked_at: now,
    };
    (letter, events)
}

fn event(way: &Way, app: &AppId, message: &Message, reason: &ParkReason, now: Timestamp) -> Option<OutboxEvent> {
    if !way.apps.get(app)?.settings.events.contains(Tell::Parked) {
        return None;
    }
    let subject = Subject {
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
