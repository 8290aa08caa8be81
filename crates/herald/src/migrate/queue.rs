//! The queue's part of a move: what waits in the file is published to the broker, confirmed, and only then acked.
//!
//! Killed in between, it is published again: a request's key makes that a duplicate, and receipts and dead letters change
//! nothing the second time. Hints are left: the clock on the database makes them anew.

use std::path::Path;
use std::time::Duration;

use herald_core::lane::DispatchQueue;
use herald_queue::topology::{RECEIPT_KEY, lane_key};
use herald_queue::{Exchange, Message, Outgoing, ParkReason, PublishError, Publisher, Queue, Source};
use tokio::time::{Instant, sleep, timeout};

use crate::failure::Failure;

/// Messages in hand at once.
const PREFETCH: u16 = 500;
/// Nothing more for so long: the queue is looked at once more.
const QUIET: Duration = Duration::from_millis(300);
/// How long another process may keep the queue.
const OWN_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether we have it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a message is published in all.
const TRIES: u32 = 3;
/// A request that was delivered this often is done alone, as by a worker.
const SUSPECT_AFTER: u32 = 3;
/// Headers beyond this go by the way of suspects, which keeps what fits a frame of the broker's.
const MAX_HEADERS: usize = 32 * 1024;

/// What is moved: all but hints. Suspects after requests, as too many deliveries turn one into the other.
const MOVED: [Source; 6] = {
    let [high, normal, low, _, _, _, _, receipts, suspect, parked] = Source::ALL;
    [high, normal, low, receipts, suspect, parked]
};

/// One queue on both sides.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) source: Source,
    /// In the file when the move began.
    pub(super) files: u64,
    /// Confirmed by the broker, and gone from the file.
    pub(super) moved: u64,
    /// In the file now.
    pub(super) left: u64,
    /// Ready on the broker now; a worker there takes from it.
    pub(super) broker: Option<u64>,
}

impl Counts {
    /// Whether a worker asks whose login published it.
    pub(super) fn by_login(&self) -> bool {
        !matches!(self.source, Source::Parked)
    }
}

/// Opens the file, none if there is none, and frees what a process that is gone had in hand.
///
/// # Errors
/// [`Failure::Unavailable`] if the file can't be used, or another process consumes it.
pub(super) async fn open(path: &Path) -> Result<Option<Queue>, Failure> {
    if !path.is_file() {
        return Ok(None);
    }
    let queue = Queue::open_file(path).await.map_err(|error| Failure::Unavailable(error.into()))?;
    let mut hints = queue.consume(Source::Dispatch(DispatchQueue::Low), 1);
    let until = Instant::now() + OWN_LIMIT;
    while !queue.health().consuming {
        if Instant::now() > until {
            let why = queue.health().last_loss.unwrap_or_else(|| path.display().to_string());
            queue.close().await;
            return Err(Failure::Unavailable(anyhow::anyhow!("the queue can't be consumed: {why}")));
        }
        sleep(LOOK_EVERY).await;
    }
    hints.stop().await;
    Ok(Some(queue))
}

/// What waits in the file.
///
/// # Errors
/// [`Failure::Unavailable`] if it can't be read.
pub(super) async fn count(file: &Queue) -> Result<Vec<Counts>, Failure> {
    let mut all = Vec::with_capacity(MOVED.len());
    for source in MOVED {
        let files = depth(file, source).await?;
        all.push(Counts { source, files, moved: 0, left: files, broker: None });
    }
    Ok(all)
}

async fn depth(queue: &Queue, source: Source) -> Result<u64, Failure> {
    queue.depth(source).await.map_err(|error| Failure::Unavailable(error.into()))
}

/// Moves what waits; `login` is ours on the broker.
///
/// # Errors
/// [`Failure::Unavailable`] if the broker does not confirm, or the file can't be used; what was confirmed is moved.
pub(super) async fn move_all(
    file: &Queue,
    broker: &Queue,
    login: Option<String>,
    all: &mut [Counts],
) -> anyhow::Result<()> {
    let publisher = broker.publisher();
    for counts in all.iter_mut() {
        counts.moved = move_one(file, &publisher, counts.source, login.as_deref()).await?;
    }
    for counts in all {
        counts.left = depth(file, counts.source).await?;
        counts.broker = Some(depth(broker, counts.source).await?);
    }
    Ok(())
}

async fn move_one(file: &Queue, publisher: &Publisher, source: Source, login: Option<&str>) -> anyhow::Result<u64> {
    let mut moved = 0;
    loop {
        let (left, before) = (depth(file, source).await?, moved);
        if left == 0 {
            return Ok(moved);
        }
        let mut consumer = file.consume(source, PREFETCH);
        // Dropping `next` loses nothing; what is on its way then returns with `stop`, and is seen by the next look.
        while let Ok(batch) = timeout(QUIET, consumer.next(usize::from(PREFETCH))).await {
            if batch.is_empty() {
                break;
            }
            moved += move_batch(file, publisher, batch, login).await?;
        }
        consumer.stop().await;
        if moved == before && depth(file, source).await? >= left {
            let why = file.health().last_loss.unwrap_or_else(|| format!("{source}: the file gives nothing out"));
            return Err(Failure::Unavailable(anyhow::anyhow!(why)).into());
        }
    }
}

/// Publishes a batch and acks what was confirmed; how many.
async fn move_batch(
    file: &Queue,
    publisher: &Publisher,
    batch: Vec<Message>,
    login: Option<&str>,
) -> anyhow::Result<u64> {
    let (mut waiting, mut moved) = (batch, 0);
    for attempt in 1.. {
        let results = publish(publisher, &mut waiting, login).await;
        let (mut confirmed, mut failed, mut why) = (Vec::new(), Vec::new(), None);
        for (message, result) in waiting.into_iter().zip(results) {
            match result {
                Ok(()) => confirmed.push(message),
                Err(error) => {
                    failed.push(message);
                    why = Some(error);
                }
            }
        }
        // Killed before this: they are published once more by the next move.
        moved += file.ack(confirmed).await as u64;
        let Some(error) = why else { break };
        if attempt == TRIES || matches!(error, PublishError::Invalid { .. } | PublishError::Missing { .. }) {
            let what = format!("{} messages stay in the file; the same command goes on from here", failed.len());
            file.give_back(failed).await;
            return Err(anyhow::Error::from(Failure::Unavailable(error.into())).context(what));
        }
        waiting = failed;
    }
    Ok(moved)
}

/// Publishes messages; the results are in their order.
async fn publish(
    publisher: &Publisher,
    messages: &mut [Message],
    login: Option<&str>,
) -> Vec<Result<(), PublishError>> {
    let mut plain = Vec::new();
    let mut results: Vec<Option<Result<(), PublishError>>> = Vec::with_capacity(messages.len());
    for message in messages.iter_mut() {
        results.push(match (copy(message, login), message.source) {
            (Some(outgoing), _) => {
                plain.push(outgoing);
                None
            }
            (None, Source::Parked) => Some(publisher.park(message, &reason(message)).await),
            (None, _) => {
                message.props.user_id = login.map(str::to_owned);
                Some(publisher.suspect(message).await)
            }
        });
    }
    let mut plain = publisher.publish_all(plain).await.into_iter();
    let or_plain = |result: Option<_>| result.or_else(|| plain.next());
    results.into_iter().map(or_plain).map(|result| result.expect("one for each that was published")).collect()
}

/// The message as its producer would publish it again; none for a dead letter, and for a request that has what no producer
/// of ours sets, or that was delivered so often that it has to be done alone: the way of suspects keeps all of it.
fn copy(message: &Message, login: Option<&str>) -> Option<Outgoing> {
    let props = &message.props;
    let headers = message.headers();
    let (exchange, key) = match message.source {
        Source::Requests(lane) => (Exchange::Requests, lane_key(lane)),
        Source::Receipts => (Exchange::Receipts, RECEIPT_KEY),
        Source::Dispatch(_) | Source::Suspect | Source::Parked => return None,
    };
    let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let odd = message.delivery_count >= SUSPECT_AFTER
        || size > MAX_HEADERS
        || props.content_encoding.is_some()
        || props.content_type.as_ref().is_some_and(|kind| kind != "application/json");
    if odd && message.source != Source::Receipts {
        return None;
    }
    Some(Outgoing {
        message_id: props.message_id.clone(),
        kind: props.kind.clone(),
        correlation_id: props.correlation_id.clone(),
        headers,
        user_id: login.map(str::to_owned),
        ..Outgoing::json(exchange, key, message.body().clone())
    })
}

/// Why it was parked; the same words as a worker has for what the queue itself gave up.
fn reason(message: &Message) -> ParkReason {
    message.park_reason().unwrap_or_else(|| ParkReason {
        code: "delivery_limit".to_owned(),
        field: String::new(),
        problem: "the queue gave up: it was delivered too often and never acknowledged".to_owned(),
        fix: "see the log for why it could not be finished; publish it again when that is mended".to_owned(),
    })
}
