//! Suspects: a request that was delivered often and never acknowledged is done by a child process; nobody waits for it.

use herald_harness::amqp::{self, properties};
use lapin::options::BasicGetOptions;
use lapin::types::AMQPValue;
use serde_json::json;

use crate::requests;
use crate::world::{APP, Setup, World, until};

/// What workers that die with the message in hand leave behind: a message that was delivered and not acknowledged.
async fn deliver_and_die(url: &str, key: &str) -> Option<i64> {
    let dying = amqp::connect(url).await.unwrap();
    let got = dying.channel().basic_get("herald.requests.high".into(), BasicGetOptions::default()).await.unwrap();
    let got = got.expect("the suspect is ready");
    assert_eq!(got.delivery.properties.message_id().as_ref().map(|id| id.as_str()), Some(key));
    let headers = got.delivery.properties.headers().clone().unwrap_or_default();
    let count = match headers.inner().get("x-delivery-count") {
        Some(AMQPValue::LongLongInt(count)) => Some(*count),
        Some(AMQPValue::LongInt(count)) => Some(i64::from(*count)),
        _ => None,
    };
    dying.close().await.unwrap();
    count
}

#[tokio::test]
async fn a_request_delivered_three_times_is_done_alone_and_its_neighbours_are_not_held_up() {
    let mut world = World::of().workers(0).allow("panic").start().await;
    for user in ["suspect", "neighbour-1", "neighbour-2"] {
        world.phone(user, json!({ "platform": "ios", "receiptsUrl": "" })).await;
    }
    world.publish("of-suspect", &requests::raw(APP, "suspect")).await;
    let amqp = world.amqp().await;
    for _ in 0..3 {
        until("the message to be ready again", async || amqp.ready("herald.requests.high").await.unwrap() == 1).await;
        deliver_and_die(world.amqp_url(), "of-suspect").await;
    }
    until("the message to be ready again", async || amqp.ready("herald.requests.high").await.unwrap() == 1).await;
    for user in ["neighbour-1", "neighbour-2"] {
        world.publish(&format!("of-{user}"), &requests::raw(APP, user)).await;
    }
    world.add_worker().await.unwrap();
    for user in ["neighbour-1", "neighbour-2", "suspect"] {
        until(&format!("the push to {user}"), async || world.simulator.count(user, "rawsDelivered").await == 1).await;
        world.reaches(user, &format!("of-{user}"), "accepted").await;
    }
    let log = world.logs().join("\n");
    assert!(log.contains("a suspect is done alone"), "it was not recognized as a suspect:\n{log}");
    until("it to leave herald.suspect", async || amqp.ready("herald.suspect").await.unwrap() == 0).await;
    world.all_closed().await;
    assert_eq!(world.store().dead_count().await.unwrap(), 0);
    assert_eq!(world.simulator.pushes().await.len(), 3, "each once");
    world.finish().await;
}

#[tokio::test]
async fn a_suspect_that_breaks_the_contract_is_parked_with_its_field() {
    let mut world = World::of().workers(0).allow("parked").start().await;
    let amqp = world.amqp().await;
    amqp.publish("herald.requests", "high", properties("broken"), b"{}").await.unwrap();
    for _ in 0..3 {
        until("the message to be ready again", async || amqp.ready("herald.requests.high").await.unwrap() == 1).await;
        deliver_and_die(world.amqp_url(), "broken").await;
    }
    until("the message to be ready again", async || amqp.ready("herald.requests.high").await.unwrap() == 1).await;
    world.add_worker().await.unwrap();
    until("the dead letter", async || world.store().dead_count().await.unwrap() == 1).await;
    let letter = world.store().dead_list(1, None).await.unwrap().remove(0);
    assert_eq!((letter.field.as_str(), letter.source_queue.as_str()), ("target", "herald.requests.high"));
    assert_eq!(letter.message_id.as_deref(), Some("broken"));
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_that_was_in_three_dying_workers_hands_is_pushed_by_a_child_process() {
    pushed_by_a_child_process(World::of()).await;
}

#[tokio::test]
async fn on_files_too_a_delivery_that_was_in_three_dying_hands_is_pushed_by_a_child_process() {
    pushed_by_a_child_process(World::of().on_files()).await;
}

async fn pushed_by_a_child_process(setup: Setup) {
    let mut world = setup.workers(0).worker("lease_secs = 3\nattempt_timeout_secs = 2").start().await;
    world.phone("anna", json!({ "platform": "ios", "ackLossPercent": 100 })).await;
    // Long enough to be killed between push and record.
    world.simulator.set(json!({ "delayMs": 1_000 })).await;
    world.publish("order", &requests::raw(APP, "anna")).await;
    for death in 1..=3 {
        world.add_worker().await.unwrap();
        until("the push to be in the worker's hands", async || {
            world.simulator.count("anna", "received").await == death
        })
        .await;
        world.kill_worker(0).await;
    }
    world.add_worker().await.unwrap();
    world.reaches("anna", "order", "accepted").await;
    let log = world.logs().join("\n");
    assert!(
        log.contains("taken often without an outcome; done by a child process"),
        "it was pushed like any other:\n{log}"
    );
    assert_eq!(
        world.simulator.count("anna", "received").await,
        4,
        "one push for each death, and one that was recorded"
    );
    world.all_closed().await;
    world.finish().await;
}
