//! Lost connections, killed brokers, missing queues: nothing confirmed is lost, and everything goes on by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use herald_core::lane::Lane;
use herald_harness::proxy::FaultProxy;
use herald_harness::{PrivateRabbit, amqp, wait};
use herald_queue::conformance::{ids, request, take};
use herald_queue::{Config, Publisher, Queue, Source, conformance};
use lapin::options::QueueDeleteOptions;

use crate::{declared, queue_at};

const LIMIT: Duration = Duration::from_secs(60);
const HIGH: Source = Source::Requests(Lane::High);

/// Publishes until it is confirmed, as a caller does that must not lose it.
async fn publish_surely(publisher: &Publisher, id: &str) {
    while publisher.publish(request(Lane::High, id)).await.is_err() {}
}

#[tokio::test]
async fn a_lost_connection_brings_the_message_again_with_a_higher_count() -> Result<()> {
    let broker = declared().await?;
    let proxy = FaultProxy::start(broker.address()).await?;
    let queue = queue_at(broker.url_via(proxy.port())?);
    publish_surely(&queue.publisher(), "r").await;
    let mut consumer = queue.consume(HIGH, 10);

    let mut held = take(&mut consumer, 1).await.remove(0);
    for _ in 0..2 {
        let before = held.delivery_count;
        proxy.cut_all();
        let again = take(&mut consumer, 1).await.remove(0);
        assert!(again.delivery_count > before && again.redelivered);
        assert_eq!(again.props.message_id.as_deref(), Some("r"));

        // The older one belongs to a connection that is gone: acking it is harmless, and does nothing.
        assert_eq!(queue.ack(vec![std::mem::replace(&mut held, again)]).await, 0);
    }
    assert_eq!(queue.ack(vec![held]).await, 1);
    assert_eq!(queue.counters().stale, 2);

    publish_surely(&queue.publisher(), "next").await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["next"], "the channel was not closed by any ack");
    Ok(())
}

#[tokio::test]
async fn too_many_deliveries_lead_to_suspect_and_from_there_to_parked() -> Result<()> {
    let broker = declared().await?;
    let proxy = FaultProxy::start(broker.address()).await?;
    publish_surely(&queue_at(broker.url()).publisher(), "poison").await;
    let lose_while_holding = async |source: Source| -> Result<()> {
        let queue = queue_at(broker.url_via(proxy.port())?);
        let held = take(&mut queue.consume(source, 1), 1).await;
        assert_eq!((ids(&held), held[0].origin), (vec!["poison".to_owned()], HIGH));
        proxy.cut_all();
        Ok(())
    };

    for _ in 0..=herald_queue::topology::WORK_DELIVERY_LIMIT {
        lose_while_holding(HIGH).await?;
    }
    for _ in 0..=herald_queue::topology::SUSPECT_DELIVERY_LIMIT {
        lose_while_holding(Source::Suspect).await?;
    }

    let queue = queue_at(broker.url());
    let parked = take(&mut queue.consume(Source::Parked, 1), 1).await;
    assert_eq!((ids(&parked), parked[0].origin, parked[0].park_reason()), (vec!["poison".to_owned()], HIGH, None));
    assert_eq!(parked[0].headers(), [], "no header of the broker passes for the producer's");
    assert_eq!(queue.ack(parked).await, 1);
    Ok(())
}

#[tokio::test]
async fn a_frozen_connection_is_noticed_and_replaced() -> Result<()> {
    let broker = declared().await?;
    let (frozen, sound) = (FaultProxy::start(broker.address()).await?, FaultProxy::start(broker.address()).await?);
    // Only one of two nodes takes connections at first, so that is the one in use.
    sound.refuse(true);
    let urls = vec![broker.url_via(sound.port())?, broker.url_via(frozen.port())?];
    let queue = Queue::open(Config { urls, heartbeat: Duration::from_secs(1), ..Config::new("") })?;
    let publisher = queue.publisher();
    let mut consumer = queue.consume(HIGH, 10);
    publish_surely(&publisher, "before").await;
    let before = take(&mut consumer, 1).await;
    assert_eq!(queue.ack(before).await, 1);

    sound.refuse(false);
    frozen.freeze();
    publish_surely(&publisher, "after").await;
    // The ack of "before" may have been on its way when the network froze; then it comes again first.
    while !ids(&take(&mut consumer, 1).await).contains(&"after".to_owned()) {}
    assert!(queue.counters().losses >= 2, "both connections were given up: {:?}", queue.counters());
    Ok(())
}

#[tokio::test]
async fn a_missing_queue_costs_other_consumers_nothing_and_is_consumed_once_it_is_there() -> Result<()> {
    let broker = declared().await?;
    let client = amqp::connect(&broker.url()).await?;
    client.channel().queue_delete("herald.receipts".into(), QueueDeleteOptions::default()).await?;
    let queue = queue_at(broker.url());
    let publisher = queue.publisher();
    let mut high = queue.consume(HIGH, 10);
    publish_surely(&publisher, "r").await;
    let held = take(&mut high, 1).await;

    let mut receipts = queue.consume(Source::Receipts, 10);
    wait::until(LIMIT, "two vain subscriptions", async || queue.counters().resubscribed >= 2).await?;
    assert!(!queue.health().consuming, "a consumer without a queue is not healthy");
    assert_eq!(queue.ack(held).await, 1, "the other consumer kept its connection");
    assert_eq!(queue.counters().losses, 0, "{:?}", queue.health());

    queue.declare_topology().await?;
    let receipt = herald_queue::Outgoing::json(herald_queue::Exchange::Receipts, "receipt", "{}");
    publisher.publish(receipt).await?;
    assert_eq!(take(&mut receipts, 1).await.len(), 1);

    // Deleted under a consumer's feet.
    client.channel().queue_delete("herald.receipts".into(), QueueDeleteOptions::default()).await?;
    wait::until(LIMIT, "the loss to be noticed", async || !queue.health().consuming).await?;
    queue.declare_topology().await?;
    wait::until(LIMIT, "the subscription to be back", async || queue.health().consuming).await?;
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn without_a_broker_nothing_is_lost_or_hangs_and_health_says_why() -> Result<()> {
    let broker = declared().await?;
    let proxy = FaultProxy::start(broker.address()).await?;
    proxy.refuse(true);
    let queue = queue_at(broker.url_via(proxy.port())?);
    let mut consumer = queue.consume(HIGH, 10);

    let error = queue.publisher().publish(request(Lane::High, "r")).await.unwrap_err();
    assert_eq!(error.to_string(), "not sent: no connection to the broker");
    let health = queue.health();
    assert!(!health.publishing && !health.consuming && health.last_loss.is_some(), "{health:?}");

    proxy.refuse(false);
    publish_surely(&queue.publisher(), "r").await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["r"]);
    wait::until(LIMIT, "health", async || queue.health().publishing && queue.health().consuming).await?;
    queue.close().await;
    Ok(())
}

async fn private_queue(rabbit: &PrivateRabbit) -> Result<Queue> {
    let queue = queue_at(rabbit.url("/"));
    queue.declare_topology().await?;
    Ok(queue)
}

/// Publishes one request after another until told to stop; the ids of those that were confirmed.
async fn publish_many(publisher: &Publisher, stop: &std::sync::atomic::AtomicBool) -> BTreeSet<String> {
    let mut confirmed = BTreeSet::new();
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let id = format!("m{}", confirmed.len());
        if publisher.publish(request(Lane::High, &id)).await.is_ok() {
            confirmed.insert(id);
        }
    }
    confirmed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_loses_no_confirmed_message_and_all_goes_on_by_itself() -> Result<()> {
    let mut rabbit = PrivateRabbit::start().await?;
    let queue = private_queue(&rabbit).await?;
    rabbit.settle().await?;
    let (publisher, mut consumer) = (queue.publisher(), queue.consume(HIGH, 50));
    let stop = std::sync::atomic::AtomicBool::new(false);

    let publishing = publish_many(&publisher, &stop);
    let faults = async {
        let progress = |least: u64| {
            wait::until(LIMIT, "progress", {
                let queue = &queue;
                async move || queue.counters().acked >= least
            })
        };
        progress(100).await?;
        rabbit.kill9().await?;
        rabbit.start_again().await?;
        progress(queue.counters().acked + 100).await?;
        rabbit.rabbitmqctl(&["close_all_connections", "for the test"]).await?;
        progress(queue.counters().acked + 100).await?;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        anyhow::Ok(())
    };
    let mut seen = BTreeSet::new();
    let work = async {
        let (confirmed, outcome) = tokio::join!(publishing, faults);
        outcome.map(|()| confirmed)
    };
    tokio::pin!(work);
    let confirmed = loop {
        tokio::select! {
            // Cancel-safe: what `next` had received stays with the consumer.
            batch = consumer.next(20) => {
                seen.extend(ids(&batch));
                queue.ack(batch).await;
            }
            confirmed = &mut work => break confirmed?,
        }
    };
    while !confirmed.is_subset(&seen) {
        let batch = tokio::time::timeout(LIMIT, consumer.next(20)).await?;
        seen.extend(ids(&batch));
        queue.ack(batch).await;
    }
    assert!(queue.counters().losses >= 4, "both connections were lost twice: {:?}", queue.counters());
    queue.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_short_of_memory_blocks_publishes_and_not_acks() -> Result<()> {
    let mut rabbit = PrivateRabbit::start().await?;
    let queue = private_queue(&rabbit).await?;
    let (publisher, mut consumer) = (queue.publisher(), queue.consume(HIGH, 10));
    publish_surely(&publisher, "before").await;
    let held = take(&mut consumer, 1).await;

    rabbit.rabbitmqctl(&["set_vm_memory_high_watermark", "0.000001"]).await?;
    let during = publish_surely(&publisher, "during");
    let relief = async {
        wait::until(LIMIT, "the broker to block", async || queue.health().blocked.is_some()).await?;
        assert!(!queue.health().publishing && queue.health().consuming);
        assert_eq!(queue.ack(held).await, 1);
        rabbit.rabbitmqctl(&["set_vm_memory_high_watermark", "0.9"]).await
    };
    let ((), relieved) = tokio::join!(during, relief);
    relieved?;

    assert_eq!(ids(&conformance::take(&mut consumer, 1).await), ["during"]);
    wait::until(LIMIT, "the broker to take publishes", async || queue.health().publishing).await?;
    assert_eq!(queue.counters().losses, 0, "an alarm is no loss");
    queue.close().await;
    Ok(())
}
