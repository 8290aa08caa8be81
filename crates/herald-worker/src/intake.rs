//! Intake: requests become stored notifications with their deliveries.
//!
//! The first step of the way. One transaction stores a batch; **then** its messages are acked; the deliveries that the
//! budget has room for are pushed at once, as already taken, and the rest are due. A key that is already stored means a
//! duplicate: ack, count, nothing else. What breaks the contract is parked with the field, the problem and the fix.
//!
//! If the process dies before the commit, the broker redelivers; between commit and ack, the redelivered copy is a
//! duplicate and the taken deliveries' lease ends.

use std::sync::Arc;

use herald_core::ids::NotificationId;
use herald_core::lane::Lane;
use herald_core::request::{self, Envelope, Limits, Request, RequestError};
use herald_core::time::Timestamp;
use herald_metrics::RequestResult;
use herald_queue::{Message, ParkReason, Source};
use herald_store::{Intaken, NewNotification};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use uuid::Uuid;

use crate::batch::{GaveUp, until_answered};
use crate::budget::{Kind, Permits};
use crate::lease::Lease;
use crate::poison_for_tests::Place;
use crate::resolve::resolve;
use crate::settings::Producers;
use crate::way::Way;
use crate::{parked, poison_for_tests, push};

/// Requests in one transaction: enough to share a commit, few enough that it lasts milliseconds.
const MAX_BATCH: usize = 250;
/// Unacked requests that one lane of one worker may hold: two batches, so that the next one waits here, not in the broker.
const PREFETCH: u16 = 500;
/// Deliveries a request is expected to have when permits are set aside: phones per person.
const DEVICES_PER_USER: usize = 3;
/// A request that was delivered this often is looked at by a child process only (protocol step 10).
const SUSPECT_AFTER: u32 = 3;

/// A request that keeps the contract, with the message that is acked once it is stored.
type Read = (Message, Request);

/// Takes in one lane until `stop`.
pub(crate) async fn run(way: Arc<Way>, lane: Lane, stop: CancellationToken) {
    let mut consumer = way.queue.consume(Source::Requests(lane), PREFETCH);
    loop {
        let next = async {
            let room = way.budget.room(lane.into(), Kind::New).await;
            consumer.next(room.min(MAX_BATCH)).await
        };
        let batch = tokio::select! {
            // Both futures may be dropped while they wait: nothing has been handed out yet.
            () = stop.cancelled() => break,
            batch = next => batch,
        };
        if batch.is_empty() {
            break;
        }
        way.metrics.batch(herald_metrics::BatchStep::Intake, batch.len());
        accept(&way, lane, batch, &stop).await;
    }
    consumer.stop().await;
}

/// One batch of one lane. What is good goes first; nothing that must be parked or set aside holds it up.
async fn accept(way: &Arc<Way>, lane: Lane, batch: Vec<Message>, stop: &CancellationToken) {
    let now = way.clock.now();
    let mut sorted = Sorted::default();
    let mut new = Vec::with_capacity(batch.len());
    for message in batch {
        if message.delivery_count >= SUSPECT_AFTER {
            sorted.suspects.push(message);
            continue;
        }
        let request = parked::unpanicked(
            || read(way, message.body(), &message.envelope(), lane, now).map_err(Unread::Refused),
            |reason| Err(Unread::Panicked(reason)),
        );
        match request {
            Ok(request) => new.push((message, request)),
            Err(Unread::Refused(error)) if error.expired => {
                way.metrics.request(lane, RequestResult::Expired);
                sorted.settled.push(message);
            }
            Err(Unread::Refused(error)) => sorted.bad.push((message, reason(error))),
            Err(Unread::Panicked(reason)) => sorted.bad.push((message, reason)),
        }
    }
    let (crowded, new) = part_crowded(way, lane, new);
    // No permits: stored as due.
    store_all(way, lane, crowded, way.budget.take(lane.into(), Kind::New, 0), &mut sorted, stop).await;
    let permits = way.budget.take(lane.into(), Kind::New, new.len() * DEVICES_PER_USER);
    store_all(way, lane, new, permits, &mut sorted, stop).await;
    way.queue.ack(sorted.settled).await;
    sorted.bad.iter().for_each(|_| way.metrics.request(lane, RequestResult::Parked));
    parked::park_aside(way, sorted.bad, stop);
    parked::suspect_aside(way, sorted.suspects, stop);
}

/// What becomes of the messages of a batch.
#[derive(Default)]
struct Sorted {
    /// Stored, duplicate or expired: to be acked.
    settled: Vec<Message>,
    /// To be parked.
    bad: Vec<(Message, ParkReason)>,
    /// To be moved to `herald.suspect`.
    suspects: Vec<Message>,
}

/// Why a message holds no request.
enum Unread {
    Refused(RequestError),
    Panicked(ParkReason),
}

/// Sorts out the requests of apps that hold half of the lane already while another app waits.
fn part_crowded(way: &Way, lane: Lane, new: Vec<Read>) -> (Vec<Read>, Vec<Read>) {
    let Some((_, first)) = new.first() else { return (Vec::new(), new) };
    let several = new.iter().any(|(_, request)| request.app != first.app);
    new.into_iter().partition(|(_, request)| way.budget.is_crowded_by(lane.into(), &request.app, several))
}

/// Reads and checks one request, as far as that needs no store.
pub(crate) fn read(
    way: &Way,
    body: &[u8],
    envelope: &Envelope<'_>,
    lane: Lane,
    now: Timestamp,
) -> Result<Request, RequestError> {
    let request = request::parse(body, envelope, lane, &WIDEST, now)?;
    poison_for_tests::swallow(Place::Intake, &request.content);
    let refuse = |field: &str, problem: String, fix: &str| {
        Err(RequestError { field: field.to_owned(), problem, fix: fix.to_owned(), expired: false })
    };
    let Some(app) = way.apps.get(&request.app) else {
        let problem = "no such app is configured here".to_owned();
        return refuse("targetHostName", problem, "use the host name of an app in herald.toml, or add the app there");
    };
    let (least, most) = app.settings.fallback.delay_secs;
    if let Some(policy) = &request.content.fallback
        && !(u64::from(least)..=u64::from(most)).contains(&policy.delay.as_secs())
    {
        let field = "fallbackPolicy.endpointFallback.fallbackDelayInSeconds";
        return refuse(field, "out of range".to_owned(), &format!("give {least} to {most} seconds"));
    }
    let users = &app.settings.amqp_users;
    if way.settings.producers == Producers::ByLogin && (way.apps.len() > 1 || !users.is_empty()) {
        match envelope.user_id {
            Some(login) if users.iter().any(|user| user == login) => {}
            Some(_) => {
                let problem = "this login may not publish for this app".to_owned();
                return refuse("user_id", problem, "add the login to amqp_users of the app, or publish by another one");
            }
            None => {
                let problem = "missing, so the broker vouches for nobody".to_owned();
                return refuse("user_id", problem, "set the property user_id to the login that publishes");
            }
        }
    }
    Ok(request)
}

/// The widest limits of any app; each app's own are checked once the app is known.
const WIDEST: Limits = Limits { fallback_delay_secs: (1, 86_400) };

pub(crate) fn reason(error: RequestError) -> ParkReason {
    ParkReason { code: "invalid_request".to_owned(), field: error.field, problem: error.problem, fix: error.fix }
}

/// Stores what was read; a batch that the store refuses for good is halved until the culprit stands alone.
async fn store_all(
    way: &Arc<Way>,
    lane: Lane,
    new: Vec<Read>,
    mut permits: Permits,
    sorted: &mut Sorted,
    stop: &CancellationToken,
) {
    let mut stack = vec![new];
    while let Some(mut part) = stack.pop() {
        if part.is_empty() {
            continue;
        }
        let requests: Vec<Request> = part.iter().map(|(_, request)| request.clone()).collect();
        match store(way, &requests, &permits, stop).await {
            Ok((intaken, lease)) => {
                for ((message, _), intaken) in part.into_iter().zip(intaken) {
                    one(way, lane, message, intaken, &mut permits, lease, sorted);
                }
            }
            Err(GaveUp::Stopped) => {
                way.queue.give_back(part.into_iter().map(|(message, _)| message).collect()).await;
                return;
            }
            Err(GaveUp::Refused(_)) if part.len() > 1 => {
                let rest = part.split_off(part.len() / 2);
                stack.push(rest);
                stack.push(part);
            }
            Err(GaveUp::Refused(refused)) => {
                error!(error = %refused, "the store refuses a request for good; it is parked");
                sorted.bad.extend(part.into_iter().map(|(message, _)| (message, store_refused())));
            }
        }
    }
}

/// Stores a batch in one transaction, however long the store is away.
pub(crate) async fn store(
    way: &Arc<Way>,
    requests: &[Request],
    permits: &Permits,
    stop: &CancellationToken,
) -> Result<(Vec<Intaken>, Lease), GaveUp> {
    // The ids stay the same over retries: what a lost commit stored after all is then a duplicate, and its lease ends.
    let received_at = way.clock.now();
    let new = |request: &Request| NewNotification {
        id: NotificationId(Uuid::now_v7()),
        request: request.clone(),
        received_at,
    };
    let batch: Vec<NewNotification> = requests.iter().map(new).collect();
    let mut lease = Lease::before_take(way.settings.lease);
    let intaken = until_answered("intake", stop, || {
        lease = Lease::before_take(way.settings.lease);
        let asked = Arc::clone(way);
        way.store.intake(batch.clone(), permits.left(), way.settings.lease, move |new, user, active, now| {
            resolve(asked.apps.rules(&new.request.app), &asked.metrics, new, user, active, now)
        })
    })
    .await?;
    Ok((intaken, lease))
}

/// One request's result: its pushes start, and its message is sorted.
fn one(
    way: &Arc<Way>,
    lane: Lane,
    message: Message,
    intaken: Intaken,
    permits: &mut Permits,
    lease: Lease,
    sorted: &mut Sorted,
) {
    match intaken {
        Intaken::Stored { notification, taken, .. } => {
            way.metrics.request(lane, RequestResult::Stored);
            debug!(notification.id = %notification.id, app.id = %notification.app, taken = taken.len(), "stored");
            push::start(way, taken, permits, lease);
            sorted.settled.push(message);
        }
        Intaken::Duplicate => {
            way.metrics.request(lane, RequestResult::Duplicate);
            sorted.settled.push(message);
        }
        Intaken::UnknownTarget => sorted.bad.push((message, unknown_target())),
    }
}

pub(crate) fn unknown_target() -> ParkReason {
    ParkReason {
        code: "unknown_target".to_owned(),
        field: "target.userNotificationSubscriptionId".to_owned(),
        problem: "this app has never had such a subscription".to_owned(),
        fix: "send the id that Herald gave when the device subscribed".to_owned(),
    }
}

pub(crate) fn store_refused() -> ParkReason {
    ParkReason {
        code: "store_refused".to_owned(),
        field: String::new(),
        problem: "the store refuses it".to_owned(),
        fix: "see the worker's log at the time it was parked".to_owned(),
    }
}
