//! One suite that every queue must pass: what the rest of Herald relies on, whatever broker is behind it.
//!
//! Each case gets a way to open the same fresh, empty, declared queue again and again (each time with connections of its
//! own, or the file anew) and panics if the queue breaks the rule in its name. Faults that need a particular broker are tested beside it, in
//! `tests/conformance`. Never part of the program.

use std::time::Duration;

use herald_core::ids::DeliveryId;
use herald_core::lane::{DispatchQueue, Hint, Lane};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::{
    Consumer, Exchange, Login, Message, Outgoing, ParkReason, Parked, Publisher, Queue, Replay, Source, hints,
};

/// How long a case waits for anything before it fails.
const LIMIT: Duration = Duration::from_secs(20);

const HIGH: Source = Source::Requests(Lane::High);

/// A request with this id; the id is its body too.
pub fn request(lane: Lane, id: &str) -> Outgoing {
    let body = id.as_bytes().to_vec();
    Outgoing { message_id: Some(id.to_owned()), ..Outgoing::json(Exchange::Requests, lane.as_str(), body) }
}

/// Takes `count` messages, however many batches they come in.
pub async fn take(consumer: &mut Consumer, count: usize) -> Vec<Message> {
    let mut taken = vec![];
    let taking = timeout(LIMIT, async {
        while taken.len() < count {
            let batch = consumer.next(count - taken.len()).await;
            assert!(!batch.is_empty(), "{} ended", consumer.source());
            taken.extend(batch);
        }
    });
    assert!(taking.await.is_ok(), "{count} messages were wanted of {}, {} came", consumer.source(), taken.len());
    taken
}

/// The ids of messages, sorted: no order of delivery is promised.
pub fn ids(messages: &[Message]) -> Vec<String> {
    let mut ids: Vec<String> = messages.iter().filter_map(|message| message.props.message_id.clone()).collect();
    ids.sort();
    ids
}

async fn publish_requests(publisher: &Publisher, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|n| format!("r{n:03}")).collect();
    let outgoing = ids.iter().map(|id| request(Lane::High, id)).collect();
    for result in publisher.publish_all(outgoing).await {
        result.expect("a healthy queue confirms");
    }
    ids
}

async fn depth_becomes(queue: &Queue, source: Source, expected: u64) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let depth = queue.depth(source).await.expect("a healthy queue tells its depth");
        if depth == expected {
            return;
        }
        assert!(Instant::now() < deadline, "the depth of {source} stays {depth}, {expected} was wanted");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What comes next out of the queue is a message published only now: nothing else is left in it.
async fn nothing_is_left(open: &impl AsyncFn() -> Queue, source: Source, exchange: Exchange, key: &str) {
    let queue = open().await;
    let last = Outgoing { message_id: Some("last".to_owned()), ..Outgoing::json(exchange, key, "last") };
    queue.publisher().publish(last).await.expect("a healthy queue confirms");
    let mut consumer = queue.consume(source, 10);
    let left = take(&mut consumer, 1).await;
    assert_eq!(ids(&left), ["last"]);
    assert_eq!(queue.ack(left).await, 1);
    queue.close().await;
}

/// What is published comes out as it went in, and is gone once it is acked.
pub async fn a_message_comes_out_as_it_went_in_and_is_gone_once_acked(open: impl AsyncFn() -> Queue) {
    let queue = open().await;
    let sent = Outgoing {
        kind: Some("herald.notification.v1".to_owned()),
        correlation_id: Some("order 7".to_owned()),
        headers: vec![
            ("x-uns-id".to_owned(), "u".to_owned()),
            ("traceparent".to_owned(), "00-1".to_owned()),
            ("x-own".to_owned(), "o".to_owned()),
        ],
        ..request(Lane::High, "r1")
    };
    queue.publisher().publish(sent).await.expect("a healthy queue confirms");

    let mut consumer = queue.consume(HIGH, 10);
    let taken = take(&mut consumer, 1).await;
    let message = &taken[0];
    assert_eq!(message.body().as_ref(), b"r1");
    assert_eq!((message.source, message.origin, message.delivery_count), (HIGH, HIGH, 0));
    let props = &message.props;
    assert_eq!(props.message_id.as_deref(), Some("r1"));
    assert_eq!(props.kind.as_deref(), Some("herald.notification.v1"));
    assert_eq!(props.content_type.as_deref(), Some("application/json"));
    assert_eq!(props.correlation_id.as_deref(), Some("order 7"));
    assert_eq!((props.unsid.as_deref(), props.traceparent.as_deref()), (Some("u"), Some("00-1")));
    assert!(message.headers().contains(&("x-own".to_owned(), "o".to_owned())));

    assert_eq!(queue.ack(taken).await, 1);
    queue.close().await;
    nothing_is_left(&open, HIGH, Exchange::Requests, "high").await;
}

/// A consumer holds at most its prefetch, and gets more as it settles.
pub async fn the_prefetch_bounds_what_is_unsettled(open: impl AsyncFn() -> Queue) {
    let queue = open().await;
    publish_requests(&queue.publisher(), 10).await;
    let mut consumer = queue.consume(HIGH, 3);

    let mut held = take(&mut consumer, 3).await;
    depth_becomes(&queue, HIGH, 7).await;
    assert_eq!(queue.ack(vec![held.remove(0)]).await, 1);
    held.extend(take(&mut consumer, 1).await);
    depth_becomes(&queue, HIGH, 6).await;

    assert_eq!(queue.ack(held).await, 3);
    queue.close().await;
}

/// A batch has at most the room that was asked for, and a `next` that is dropped loses nothing.
pub async fn a_batch_fits_the_room_and_a_dropped_next_loses_nothing(open: impl AsyncFn() -> Queue) {
    let queue = open().await;
    // Full batches only: one that waits for more is dropped before it has waited long enough.
    let sent = publish_requests(&queue.publisher(), 21).await;
    let mut consumer = queue.consume(HIGH, 21);

    let mut taken = vec![];
    while taken.len() < sent.len() {
        // Dropped at its first await more often than not.
        tokio::select! {
            biased;
            batch = consumer.next(3) => {
                assert!(batch.len() <= 3 && !batch.is_empty());
                taken.extend(batch);
            }
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(ids(&taken), sent);
    assert!(timeout(Duration::from_millis(50), consumer.next(0)).await.is_err(), "without room there is no batch");

    assert_eq!(queue.ack(taken).await, sent.len());
    queue.close().await;
}

/// Batches acked in any order settle exactly their own messages; the others come again.
pub async fn acks_out_of_order_settle_exactly_their_messages(open: impl AsyncFn() -> Queue) {
    let queue = open().await;
    publish_requests(&queue.publisher(), 12).await;
    let mut consumer = queue.consume(HIGH, 12);
    let taken = take(&mut consumer, 12).await;
    let mut unsettled = [2, 7].map(|n: usize| taken[n].props.message_id.clone().unwrap_or_default());
    unsettled.sort();
    let mut taken: Vec<Option<Message>> = taken.into_iter().map(Some).collect();
    let mut pick = |picked: &[usize]| -> Vec<Message> { picked.iter().filter_map(|&n| taken[n].take()).collect() };

    // Two holes (2 and 7) stay unsettled through multiple and single acks.
    for batch in [&[11, 5][..], &[0, 1, 3], &[4, 6], &[10, 9, 8]] {
        assert_eq!(queue.ack(pick(batch)).await, batch.len());
    }
    drop(taken);
    assert_eq!(queue.counters().dropped, 2);
    queue.close().await;

    let queue = open().await;
    let mut consumer = queue.consume(HIGH, 12);
    let again = take(&mut consumer, 2).await;
    assert_eq!(ids(&again), unsettled);
    assert_eq!(queue.ack(again).await, 2);
    queue.close().await;
    nothing_is_left(&open, HIGH, Exchange::Requests, "high").await;
}

/// What is given back goes to whoever consumes next.
pub async fn what_is_given_back_is_delivered_again(open: impl AsyncFn() -> Queue) {
    let queue = open().await;
    let sent = publish_requests(&queue.publisher(), 3).await;
    let mut consumer = queue.consume(HIGH, 3);
    let taken = take(&mut consumer, 3).await;
    assert_eq!(queue.give_back(taken).await, 3);

    let again = take(&mut consumer, 3).await;
    assert_eq!(ids(&again), sent);
    assert!(again.iter().all(|message| message.redelivered));
    assert_eq!(queue.ack(again).await, 3);
    queue.close().await;
}

/// A consumer that stops returns what it had not handed out, and what it had handed out can still be acked.
pub async fn a_stopped_consumer_returns_what_it_did_not_hand_out(open: impl AsyncFn() -> Queue) {
    let queue = open().await;
    publish_requests(&queue.publisher(), 10).await;
    let mut consumer = queue.consume(HIGH, 10);
    let held = take(&mut consumer, 4).await;
    depth_becomes(&queue, HIGH, 0).await;

    consumer.stop().await;
    assert!(consumer.next(10).await.is_empty(), "a stopped consumer hands out nothing");
    depth_becomes(&queue, HIGH, 6).await;
    assert_eq!(queue.ack(held).await, 4);

    let mut other = queue.consume(HIGH, 10);
    let rest = take(&mut other, 6).await;
    assert_eq!(queue.ack(rest).await, 6);
    queue.close().await;
    nothing_is_left(&open, HIGH, Exchange::Requests, "high").await;
}

/// A parked message keeps its body and its own properties, and says why it was parked; it
/// can be published again as it was.
pub async fn a_parked_message_keeps_its_body_and_says_why(open: impl AsyncFn() -> Queue) {
    let queue = open().await;
    let publisher = queue.publisher();
    let sent = Outgoing {
        kind: Some("herald.notification.v9".to_owned()),
        headers: vec![("x-own".to_owned(), "o".to_owned())],
        ..request(Lane::Low, "bad")
    };
    publisher.publish(sent).await.expect("a healthy queue confirms");
    let mut consumer = queue.consume(Source::Requests(Lane::Low), 10);
    let taken = take(&mut consumer, 1).await;
    let reason = ParkReason {
        code: "unknownType".to_owned(),
        field: "type".to_owned(),
        problem: "is herald.notification.v9".to_owned(),
        fix: "send herald.notification.v1".to_owned(),
    };
    publisher.park(&taken[0], &reason).await.expect("a healthy queue confirms");
    assert_eq!(queue.ack(taken).await, 1);
    // The replay is taken by another one.
    consumer.stop().await;

    let mut parked = queue.consume(Source::Parked, 10);
    let letters = take(&mut parked, 1).await;
    let letter = &letters[0];
    assert_eq!((letter.source, letter.origin), (Source::Parked, Source::Requests(Lane::Low)));
    assert_eq!(letter.body().as_ref(), b"bad");
    assert_eq!(letter.props.kind.as_deref(), Some("herald.notification.v9"));
    assert_eq!(letter.props.message_id.as_deref(), Some("bad"));
    assert_eq!(letter.headers(), [("x-own".to_owned(), "o".to_owned())]);
    assert_eq!(letter.park_reason(), Some(reason));
    replayed_as_it_was(&queue, letter).await;
    assert_eq!(queue.ack(letters).await, 1);
    queue.close().await;
}

/// To its lane, and to `herald.suspect`.
async fn replayed_as_it_was(queue: &Queue, letter: &Message) {
    for (dangerous, to) in [(false, Source::Requests(Lane::Low)), (true, Source::Suspect)] {
        let properties = letter.kept();
        let parked =
            Parked { queue: letter.origin.queue(), properties: &properties, message_id: Some("mended"), dangerous };
        let replay = Replay::of(&parked, letter.body().to_vec(), Login::Ours(None)).expect("requests are replayable");
        for result in queue.publisher().replay(vec![replay]).await {
            result.expect("a healthy queue confirms");
        }
        let mut consumer = queue.consume(to, 10);
        let again = take(&mut consumer, 1).await;
        assert_eq!((again[0].source, again[0].origin), (to, Source::Requests(Lane::Low)));
        assert_eq!((again[0].body().as_ref(), ids(&again)), (&b"bad"[..], vec!["mended".to_owned()]));
        assert_eq!(again[0].props.kind.as_deref(), Some("herald.notification.v9"));
        assert_eq!((again[0].headers(), again[0].park_reason()), (letter.headers(), None));
        assert_eq!(queue.ack(again).await, 1);
        consumer.stop().await;
    }
}

/// A message moved to `herald.suspect` still knows where it came from, and its count begins anew.
pub async fn a_suspect_message_knows_where_it_came_from(open: impl AsyncFn() -> Queue) {
    let queue = open().await;
    let publisher = queue.publisher();
    publish_requests(&publisher, 1).await;
    let mut consumer = queue.consume(HIGH, 10);
    let once = take(&mut consumer, 1).await;
    queue.give_back(once).await;
    let twice = take(&mut consumer, 1).await;
    publisher.suspect(&twice[0]).await.expect("a healthy queue confirms");
    assert_eq!(queue.ack(twice).await, 1);

    let mut suspects = queue.consume(Source::Suspect, 1);
    let suspect = take(&mut suspects, 1).await;
    assert_eq!((suspect[0].source, suspect[0].origin), (Source::Suspect, HIGH));
    assert_eq!((suspect[0].delivery_count, suspect[0].park_reason()), (0, None));
    assert_eq!(ids(&suspect), ["r000"]);
    assert_eq!(queue.ack(suspect).await, 1);
    queue.close().await;
}

/// Hints arrive on their dispatch queue, a hundred in a message at most.
pub async fn hints_arrive_on_their_dispatch_queue(open: impl AsyncFn() -> Queue) {
    let queue = open().await;
    let due: Vec<Hint> = (0..250).map(|n| Hint { delivery: DeliveryId(Uuid::from_u128(n)), version: 1 }).collect();
    queue.publisher().hints(DispatchQueue::Fallback, &due).await.expect("a healthy queue confirms");
    depth_becomes(&queue, Source::Dispatch(DispatchQueue::Fallback), 3).await;

    let mut consumer = queue.consume(Source::Dispatch(DispatchQueue::Fallback), 10);
    let taken = take(&mut consumer, 3).await;
    let mut read: Vec<Hint> =
        taken.iter().flat_map(|message| hints::decode(message.body()).expect("these are hints")).collect();
    read.sort_by_key(|hint| hint.delivery.0);
    assert_eq!(read, due);
    assert_eq!(queue.ack(taken).await, 3);
    queue.close().await;
}
