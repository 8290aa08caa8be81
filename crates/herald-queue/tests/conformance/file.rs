//! What is particular to a queue in a file: other processes, a full disk, a lock, what is not routed.

use std::time::Duration;

use anyhow::Result;
use herald_core::lane::{DispatchQueue, Lane};
use herald_harness::wait;
use herald_queue::conformance::{ids, request, take};
use herald_queue::{Exchange, Outgoing, PublishError, Queue, Source, topology};
use herald_sqlite::rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::queue_in;

const LIMIT: Duration = Duration::from_secs(20);
const HIGH: Source = Source::Requests(Lane::High);

/// The file, as another program would open it.
fn beside(folder: &TempDir) -> Result<Connection> {
    let connection = Connection::open(folder.path().join("queue.db"))?;
    connection.busy_timeout(LIMIT)?;
    Ok(connection)
}

async fn becomes(queue: &Queue, what: &str, condition: impl Fn(herald_queue::Health) -> bool) -> Result<()> {
    wait::until(LIMIT, what, async || condition(queue.health())).await
}

#[tokio::test]
async fn what_another_opener_publishes_is_noticed_without_being_told() -> Result<()> {
    let folder = TempDir::new()?;
    let (consuming, publishing) = (queue_in(&folder).await, queue_in(&folder).await);
    let mut consumer = consuming.consume(HIGH, 10);
    becomes(&consuming, "the lock", |health| health.consuming).await?;

    for id in ["r1", "r2"] {
        publishing.publisher().publish(request(Lane::High, id)).await?;
        let taken = take(&mut consumer, 1).await;
        assert_eq!(ids(&taken), [id]);
        assert_eq!(consuming.ack(taken).await, 1);
    }
    // The one that only publishes comes and goes without disturbing the consumer.
    publishing.close().await;
    consuming.publisher().publish(request(Lane::High, "r3")).await?;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["r3"]);
    consuming.close().await;
    Ok(())
}

#[tokio::test]
async fn a_second_consumer_says_who_is_in_the_way_and_takes_over_once_it_is_gone() -> Result<()> {
    let folder = TempDir::new()?;
    let (first, second) = (queue_in(&folder).await, queue_in(&folder).await);
    first.publisher().publish(request(Lane::High, "r")).await?;
    let mut held_by = first.consume(HIGH, 10);
    let held = take(&mut held_by, 1).await;

    let mut waiting = second.consume(HIGH, 10);
    becomes(&second, "a reason", |health| health.last_loss.is_some()).await?;
    let health = second.health();
    let why = health.last_loss.unwrap_or_default();
    assert!(!health.consuming && health.publishing);
    assert!(why.contains("queue.db.lock") && why.contains(&std::process::id().to_string()), "{why}");
    assert_eq!(first.depth(HIGH).await?, 0, "what is handed out is left alone");

    first.close().await;
    let again = take(&mut waiting, 1).await;
    assert_eq!((ids(&again), again[0].delivery_count), (ids(&held), 1));
    assert_eq!(first.ack(held).await, 0, "it is the other's now");
    assert_eq!((second.ack(again).await, second.health().consuming), (1, true));
    second.close().await;
    Ok(())
}

#[tokio::test]
async fn a_full_disk_refuses_publishes_whole_and_takes_them_again_once_there_is_space() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    let publisher = queue.publisher();
    let mut consumer = queue.consume(HIGH, 10);
    publisher.publish(request(Lane::High, "before")).await?;
    let held = take(&mut consumer, 1).await;

    queue.limit_file(1).await?;
    let large = |id: &str| Outgoing { body: vec![b' '; 20_000].into(), ..request(Lane::High, id) };
    let refused = publisher.publish_all(vec![request(Lane::Low, "small"), large("large")]).await;
    for result in refused {
        let Err(PublishError::NotSent { why }) = result else { panic!("a full disk took a message") };
        assert!(why.contains("queue.db: the disk is full; free some space"), "{why}");
    }
    let health = queue.health();
    assert!(!health.publishing && health.blocked.is_some_and(|why| why.contains("the disk is full")));
    assert_eq!(queue.depth(Source::Requests(Lane::Low)).await?, 0, "nothing of it is there");
    assert_eq!(queue.ack(held).await, 1, "an ack needs no more pages");

    queue.limit_file(u32::MAX).await?;
    becomes(&queue, "space", |health| health.publishing && health.consuming && health.blocked.is_none()).await?;
    publisher.publish(large("after")).await?;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["after"]);
    assert_eq!((queue.counters().losses, queue.counters().unconfirmed), (1, 2));
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn an_ack_that_can_not_be_written_is_tried_until_it_can() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    queue.publisher().publish(request(Lane::High, "r")).await?;
    let mut consumer = queue.consume(HIGH, 10);
    let taken = take(&mut consumer, 1).await;
    let other = beside(&folder)?;
    other.execute_batch("CREATE TRIGGER no BEFORE DELETE ON messages BEGIN SELECT RAISE(ABORT, 'no'); END")?;

    let repair = async {
        becomes(&queue, "the fault to be seen", |health| health.blocked.is_some()).await?;
        other.execute_batch("DROP TRIGGER no")?;
        anyhow::Ok(())
    };
    let (acked, repaired) = tokio::join!(timeout(LIMIT, queue.ack(taken)), repair);
    repaired?;
    assert_eq!((acked?, queue.counters().acked, queue.counters().stale), (1, 1, 0));
    let left: i64 = other.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))?;
    assert_eq!(left, 0);
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn an_ack_that_can_not_be_written_when_the_queue_closes_is_stale_and_comes_again() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    queue.publisher().publish(request(Lane::High, "r")).await?;
    let taken = take(&mut queue.consume(HIGH, 10), 1).await;
    let other = beside(&folder)?;
    other.execute_batch("CREATE TRIGGER no BEFORE DELETE ON messages BEGIN SELECT RAISE(ABORT, 'no'); END")?;

    let close = async {
        becomes(&queue, "the fault to be seen", |health| health.blocked.is_some()).await?;
        queue.close().await;
        anyhow::Ok(())
    };
    let (acked, closed) = tokio::join!(queue.ack(taken), close);
    closed?;
    assert_eq!((acked, queue.counters().stale), (0, 1));
    other.execute_batch("DROP TRIGGER no")?;

    let queue = queue_in(&folder).await;
    assert_eq!(ids(&take(&mut queue.consume(HIGH, 10), 1).await), ["r"]);
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn a_consumer_that_can_not_claim_says_so_and_goes_on_by_itself() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    let other = beside(&folder)?;
    other.execute_batch("CREATE TRIGGER no BEFORE UPDATE ON messages BEGIN SELECT RAISE(ABORT, 'no'); END")?;
    queue.publisher().publish(request(Lane::High, "r")).await?;
    let mut consumer = queue.consume(HIGH, 10);
    becomes(&queue, "the fault to be seen", |health| !health.consuming && health.last_loss.is_some()).await?;

    other.execute_batch("DROP TRIGGER no")?;
    let taken = take(&mut consumer, 1).await;
    assert_eq!((ids(&taken), taken[0].delivery_count), (vec!["r".to_owned()], 0));
    becomes(&queue, "the consumer to go on", |health| health.consuming && health.publishing).await?;
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn what_is_not_a_queue_is_named_and_left_as_it_was() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("queue.db");
    let words = "these are only words, and many more of them than a header has: ".repeat(100);
    std::fs::write(&path, &words)?;
    let error = Queue::open_file(&path).await.err().expect("no database passed for a queue");
    assert!(error.to_string().contains("queue.db: the file is damaged, or no database; stop Herald"), "{error}");
    assert!(std::fs::read_to_string(&path)? == words);

    let other = folder.path().join("other.db");
    Connection::open(&other)?.execute_batch("CREATE TABLE messages (mine)")?;
    let error = Queue::open_file(&other).await.err().expect("another's file passed for a queue");
    assert!(error.to_string().contains("other.db: the file is not Herald's"), "{error}");
    assert!(!error.is_transient());
    Ok(())
}

#[tokio::test]
async fn what_no_binding_wants_is_kept_and_events_without_subscribers_are_gone() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    let publisher = queue.publisher();
    publisher.publish(Outgoing::json(Exchange::Requests, "hihg", "{}")).await?;
    publisher.publish(Outgoing::json(Exchange::Events, "received.mail", "{}")).await?;

    let mut kept = beside(&folder)?;
    let kept = kept.transaction()?;
    let row = |row: &herald_sqlite::rusqlite::Row<'_>| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    };
    let rows = kept
        .prepare("SELECT queue, exchange, routing_key FROM messages")?
        .query_map([], row)?
        .collect::<Result<Vec<_>, _>>()?;
    assert_eq!(
        rows,
        [(topology::UNROUTED_QUEUE.to_owned(), "herald.requests".to_owned(), "hihg".to_owned())],
        "the event has no subscriber"
    );
    assert_eq!(queue.counters().confirmed, 2);
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn a_backlog_of_ten_thousand_comes_out_in_its_order() -> Result<()> {
    const COUNT: usize = 10_000;
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    let outgoing = (0..COUNT).map(|n| request(Lane::Normal, &n.to_string())).collect();
    assert!(queue.publisher().publish_all(outgoing).await.iter().all(Result::is_ok));
    assert_eq!(queue.depth(Source::Requests(Lane::Normal)).await?, COUNT as u64);

    let mut consumer = queue.consume(Source::Requests(Lane::Normal), 1000);
    let mut next = 0;
    while next < COUNT {
        let batch = take(&mut consumer, 1).await;
        for message in &batch {
            assert_eq!(message.props.message_id.as_deref(), Some(next.to_string().as_str()));
            next += 1;
        }
        let mut batch = batch;
        batch.extend(consumer.next(499).await.into_iter().inspect(|message| {
            assert_eq!(message.props.message_id.as_deref(), Some(next.to_string().as_str()));
            next += 1;
        }));
        let count = batch.len();
        assert_eq!(queue.ack(batch).await, count);
    }
    assert_eq!(queue.depth(Source::Requests(Lane::Normal)).await?, 0);
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn a_flood_in_one_queue_holds_up_no_other() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    let publisher = queue.publisher();
    let flood = (0..500).map(|n| request(Lane::Low, &n.to_string())).collect();
    assert!(publisher.publish_all(flood).await.iter().all(Result::is_ok));
    let mut low = queue.consume(Source::Requests(Lane::Low), 10);
    let held = take(&mut low, 10).await;

    let mut high = queue.consume(HIGH, 10);
    publisher.publish(request(Lane::High, "urgent")).await?;
    assert_eq!(ids(&take(&mut high, 1).await), ["urgent"]);
    assert_eq!(queue.ack(held).await, 10);
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn a_consumer_that_is_dropped_returns_what_it_did_not_hand_out() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    let all = (0..10).map(|n| request(Lane::High, &n.to_string())).collect();
    queue.publisher().publish_all(all).await;
    let mut consumer = queue.consume(HIGH, 10);
    let held = take(&mut consumer, 4).await;
    wait::until(LIMIT, "the prefetch", async || queue.depth(HIGH).await == Ok(0)).await?;

    drop(consumer);
    let mut other = queue.consume(HIGH, 10);
    let rest = take(&mut other, 6).await;
    assert!(rest.iter().all(|message| message.delivery_count == 0), "it was given back, not lost");
    assert_eq!((queue.ack(held).await, queue.ack(rest).await), (4, 6));
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn the_topology_of_a_file_is_always_there() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    queue.verify_topology().await?;
    let declared = queue.declare_topology().await?;
    assert_eq!((declared.created.len(), declared.existed.len()), (0, 0));
    for queue_of in DispatchQueue::ALL {
        assert_eq!(queue.depth(Source::Dispatch(queue_of)).await, Ok(0));
    }
    queue.close().await;
    let closed = queue.publisher().publish(request(Lane::High, "late")).await;
    assert!(matches!(closed, Err(PublishError::NotSent { .. })), "{closed:?}");
    Ok(())
}

#[tokio::test]
async fn a_row_that_somebody_else_wrote_badly_holds_up_nothing() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    beside(&folder)?.execute_batch(
        "INSERT INTO messages (queue, exchange, routing_key, properties, body)
         VALUES ('herald.requests.high', '', '', '[7]', x'ff')",
    )?;
    queue.publisher().publish(request(Lane::High, "r")).await?;
    let mut consumer = queue.consume(HIGH, 10);
    let taken = take(&mut consumer, 2).await;
    assert_eq!((&taken[0].props.message_id, taken[0].body().as_ref()), (&None, &b"\xff"[..]));
    assert_eq!(taken[1].props.message_id.as_deref(), Some("r"));
    assert_eq!(queue.ack(taken).await, 2);
    queue.close().await;
    Ok(())
}
