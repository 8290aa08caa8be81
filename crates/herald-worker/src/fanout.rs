//! Notifications that are due themselves: scheduled ones, and those to very many subscriptions.
//!
//! Stands between the store and due: page by page, each in one transaction with its cursor, the pages of several
//! notifications in turn. What is made is due and goes the usual way. What kills its workers is done by a child process and
//! becomes a dead letter: there is no delivery yet that could fail.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use herald_core::event::{OutboxEvent, Subject, Tell, cloud_event};
use herald_core::ids::{NotificationId, UserId};
use herald_core::request::{Request, body_of};
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use herald_queue::Source;
use herald_store::{ClaimedFanout, DeadLetter, Expanded, FANOUT_LIMIT, NewNotification, StoreError};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use crate::clock::Trouble;
use crate::isolation;
use crate::poison_for_tests::{self, Place};
use crate::resolve::resolve;
use crate::way::Way;

const LOOK: Duration = Duration::from_secs(1);
/// Notifications claimed by one statement, and worked on in turn.
const CLAIM: usize = 100;

/// So many claims without a page may have been deaths of workers; from then on it is done by a child process (G6).
const DEATHS: u16 = 3;

/// Resolves them until `stop`.
pub(crate) async fn run(way: Arc<Way>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    // Ends with this loop, and its child process with it: what it had is brought back by its claim's hold.
    let mut alone = JoinSet::new();
    loop {
        tokio::select! {
            // Between ticks nothing is under way but what is done alone.
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let result = all_due(&way, &mut alone, &stop).await;
        trouble.note("fan-outs", &result);
    }
}

/// All that are due now, however many were scheduled for the same moment.
async fn all_due(way: &Arc<Way>, alone: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(), StoreError> {
    loop {
        while alone.try_join_next().is_some() {}
        let claimed = way.store.claim_fanout(i64::try_from(CLAIM).unwrap_or(i64::MAX), way.settings.lease).await?;
        let full = claimed.len() == CLAIM;
        let (suspects, sound): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|one| one.claims > DEATHS);
        // Beside the others, since a child may take most of a minute. Further ones come back after their hold.
        if !suspects.is_empty() && alone.is_empty() {
            alone.spawn(one_by_one(Arc::clone(way), suspects));
        }
        in_turn(way, sound.into_iter().map(|one| one.notification).collect(), stop).await?;
        if !full || stop.is_cancelled() {
            return Ok(());
        }
    }
}

/// Each by a child process of its own.
async fn one_by_one(way: Arc<Way>, suspects: Vec<ClaimedFanout>) {
    for ClaimedFanout { notification, .. } in suspects {
        if isolation::fanout_kills(&way, notification).await
            && let Err(error) = poison(&way, notification).await
        {
            warn!(notification.id = %notification, %error, "a fan-out could not be parked; it comes back");
        }
    }
}

/// A page of each, and again, until all are done. A crash between pages leaves the cursor; the hold brings it back.
async fn in_turn(way: &Arc<Way>, mut claimed: Vec<NotificationId>, stop: &CancellationToken) -> Result<(), StoreError> {
    while !claimed.is_empty() && !stop.is_cancelled() {
        let mut more = Vec::with_capacity(claimed.len());
        for notification in claimed {
            // A panic inside one fan-out parks that one and nothing else.
            match AssertUnwindSafe(page(way, notification)).catch_unwind().await {
                Ok(Ok(Expanded::More(_))) => more.push(notification),
                Ok(Ok(Expanded::Done(_) | Expanded::Expired | Expanded::Stale)) => {}
                Ok(Err(error)) if error.is_transient() => return Err(error),
                // One that can't be read must not hold up the others.
                Ok(Err(error)) => {
                    error!(notification.id = %notification, %error, "the store refuses a page of a fan-out")
                }
                Err(_panic) => poison(way, notification).await?,
            }
        }
        claimed = more;
    }
    Ok(())
}

/// Makes the next page.
pub(crate) async fn page(way: &Arc<Way>, notification: NotificationId) -> Result<Expanded, StoreError> {
    let asked = Arc::clone(way);
    let resolve = move |new: &NewNotification, user: &UserId, active: &[Subscription], now| {
        poison_for_tests::swallow(Place::Fanout, &new.request.content);
        resolve(asked.apps.rules(&new.request.app), &asked.metrics, new, user, active, now)
    };
    way.store.expand(notification, FANOUT_LIMIT, way.settings.lease, resolve).await
}

/// Parks a fan-out that panics, or that kills whoever does it.
async fn poison(way: &Arc<Way>, notification: NotificationId) -> Result<(), StoreError> {
    error!(notification.id = %notification, "the fan-out kills whoever works on it; it is parked as poison");
    let asked = Arc::clone(way);
    if way.store.park_fanout(notification, move |new, now| letter(&asked, new, now)).await? {
        way.metrics.parked("poison");
    }
    Ok(())
}

/// The dead letter of a fan-out, with its request as a producer might have written it, and the event about it.
fn letter(way: &Way, new: NewNotification, now: Timestamp) -> (DeadLetter, Vec<OutboxEvent>) {
    // Its time has come: a replay is pushed at once.
    let request = Request { deliver_at: None, ..new.request };
    let headers =
        |name: &str, text: &Option<String>| text.as_ref().map(|text| (name.to_owned(), Value::from(text.as_str())));
    let trace = (&request.content.traceparent, &request.content.tracestate);
    let headers: Map<_, _> =
        [headers("traceparent", trace.0), headers("tracestate", trace.1)].into_iter().flatten().collect();
    let (queue, body) = (Source::Requests(request.lane).queue(), body_of(&request));
    let letter = DeadLetter {
        // The same if it is replayed and parked again.
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, &[request.key.as_bytes(), queue.as_bytes(), &body].concat()),
        source_queue: queue.to_owned(),
        reason_code: "poison".to_owned(),
        field: String::new(),
        problem: "making its deliveries killed the process that did it".to_owned(),
        fix: "report it with the worker's log; replay it after an upgrade".to_owned(),
        app: Some(request.app.clone()),
        message_id: Some(request.key.clone()),
        headers: json!({ "message_id": request.key, "content_type": "application/json", "headers": headers })
            .to_string(),
        body,
        parked_at: now,
    };
    let wanted = way.apps.get(&request.app).is_some_and(|app| app.settings.events.contains(Tell::Parked));
    let event = wanted.then(|| {
        let subject = Subject {
            dead_letter_id: Some(letter.id),
            notification_id: Some(new.id),
            message_id: letter.message_id.as_deref(),
            reason: Some(&letter.problem),
            fix: Some(&letter.fix),
            ..Subject::default()
        };
        cloud_event(Tell::Parked, &request.app, &subject, now, (trace.0.as_deref(), trace.1.as_deref()))
    });
    (letter, event.into_iter().collect())
}
