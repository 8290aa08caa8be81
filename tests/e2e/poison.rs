//! Poison: work that panics, that ends the process or that never ends is done alone, parked with its reason, and its
//! neighbours are delivered (G6). A request or delivery that was only unlucky is done alone too, and succeeds.
//!
//! The binary is built with the feature `poison-for-tests`, by which a marked request does such things; `./test` sees to it.

use std::time::Duration;

use herald_harness::amqp::{self, properties};
use lapin::options::BasicGetOptions;
use lapin::types::AMQPValue;
use serde_json::{Value, json};

use crate::requests;
use crate::world::{APP, LIMIT, Setup, World, until};

/// A worker that dies is started again so often at most. Three deaths make work suspect; no more are needed.
const DEATHS: usize = 3;
const NEIGHBOURS: [&str; 6] = ["anna", "bert", "cora", "dora", "emil", "fred"];

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
    assert_eq!(world.dead_count().await.unwrap(), 0);
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
    until("the dead letter", async || world.dead_count().await.unwrap() == 1).await;
    let letter = world.dead_letters().await.remove(0);
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
    let mut world = setup.workers(0).worker("lease_secs = 6\nattempt_timeout_secs = 5").start().await;
    world.phone("anna", json!({ "platform": "ios", "ackLossPercent": 100 })).await;
    // Long enough to be killed between push and record.
    world.simulator.set(json!({ "delayMs": 4_000 })).await;
    world.publish("order", &requests::raw(APP, "anna")).await;
    for death in 1..=3 {
        world.add_worker().await.unwrap();
        until("the push to be in the worker's hands", async || {
            world.simulator.count("anna", "received").await == death
        })
        .await;
        world.kill_worker(0).await;
    }
    world.simulator.set(json!({ "delayMs": 0 })).await;
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

/// What workers say that are killed by their work, and those who see it.
fn poisoned(setup: Setup) -> Setup {
    let mut setup = setup.workers(0).worker("lease_secs = 9\nattempt_timeout_secs = 2\ndrain_secs = 10");
    for said in ["panicked", "parked", "poison", "killed a child process", "ended badly", "a step hangs"] {
        setup = setup.allow(said);
    }
    setup
}

/// Is the poison parked: as a dead letter if it never became a delivery, else as a failed delivery?
async fn is_parked(world: &World, place: &str) -> bool {
    match place {
        "intake" | "fanout" => world.dead_count().await.is_ok_and(|count| count == 1),
        _ => world.state("poison", "poison").await.is_some_and(|state| state == "failed"),
    }
}

/// Starts workers again as they die, as a supervisor does, until the poison is parked; how many died.
async fn supervise(world: &mut World, place: &str) -> usize {
    let mut deaths = 0;
    let parked = async {
        while !is_parked(world, place).await {
            deaths += world.bury_dead().await;
            if world.workers.is_empty() && world.add_worker().await.is_err() {
                // It died before it could say that it is ready.
                deaths += 1;
            }
            assert!(deaths <= DEATHS, "the work kills one worker after the other");
        }
    };
    tokio::time::timeout(2 * LIMIT, parked).await.expect("the poison is parked");
    deaths + world.bury_dead().await
}

async fn poison_is_parked(setup: Setup, deed: &str, place: &str) {
    let mut world = poisoned(setup).allow("panicked at").start().await;
    for user in NEIGHBOURS.iter().chain(&["poison"]) {
        world.phone(user, json!({ "platform": "ios", "ackLossPercent": 100 })).await;
    }
    let mut poison = requests::raw(APP, "poison");
    poison["appNotificationId"] = format!("herald-test:{deed}:{place}").into();
    // What is due by itself is resolved apart; some neighbours come that way too, at the same moment. By then it is stored.
    let due_at = world.store().clock().now().plus(Duration::from_secs(10)).to_rfc3339();
    let beside = |user: &str, is_scheduled: bool| {
        let mut body = requests::raw(APP, user);
        if is_scheduled {
            body["deliverAt"] = due_at.as_str().into();
        }
        body
    };
    if place == "fanout" {
        poison["deliverAt"] = due_at.as_str().into();
    }
    let (before, after) = NEIGHBOURS.split_at(3);
    for user in before {
        world.publish("beside", &beside(user, place == "fanout")).await;
    }
    world.publish("poison", &poison).await;
    for user in after {
        world.publish("beside", &beside(user, place == "fanout" && *user != after[0])).await;
    }
    let deaths = supervise(&mut world, place).await;
    assert_eq!(deaths, if deed == "panic" { 0 } else { DEATHS }, "a panic kills nobody, anything else three workers");
    if place != "push" {
        let letter = world.dead_letters().await.remove(0);
        assert_eq!((letter.reason_code.as_str(), letter.message_id.as_deref()), ("poison", Some("poison")));
        assert!(!letter.fix.is_empty());
        let body: Value = serde_json::from_slice(&letter.body).unwrap();
        assert_eq!(
            (&body["target"], &body["payload"]),
            (&poison["target"], &poison["payload"]),
            "what is to be replayed"
        );
    }
    if world.workers.is_empty() {
        world.add_worker().await.unwrap();
    }
    for user in NEIGHBOURS {
        world.reaches(user, "beside", "accepted").await;
        let arrived = world.simulator.count(user, "rawsDelivered").await;
        // Each death may repeat what was in flight on it (G4), and nothing else may.
        assert!((1..=1 + deaths as u64).contains(&arrived), "{arrived} pushes to {user}, at {deaths} deaths");
    }
    assert_eq!(world.simulator.count("poison", "rawsDelivered").await, 0);
    world.publish("afterwards", &requests::raw(APP, "anna")).await;
    world.reaches("anna", "afterwards", "accepted").await;
    world.all_closed().await;
    assert_eq!(world.bury_dead().await, 0, "no worker dies of what is parked");
    world.finish().await;
}

#[tokio::test]
async fn a_request_that_panics_is_parked_and_kills_nobody() {
    poison_is_parked(World::of(), "panic", "intake").await;
}

#[tokio::test]
async fn a_request_that_aborts_its_process_is_parked_after_three_deaths() {
    poison_is_parked(World::of(), "abort", "intake").await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_parked_after_three_deaths() {
    poison_is_parked(World::of(), "loop", "intake").await;
}

#[tokio::test]
async fn a_delivery_that_panics_is_parked_and_kills_nobody() {
    poison_is_parked(World::of(), "panic", "push").await;
}

#[tokio::test]
async fn a_delivery_that_aborts_its_process_is_parked_after_three_deaths() {
    poison_is_parked(World::of(), "abort", "push").await;
}

#[tokio::test]
async fn a_delivery_that_never_ends_is_parked_after_three_deaths() {
    poison_is_parked(World::of(), "loop", "push").await;
}

#[tokio::test]
async fn on_files_too_a_request_that_aborts_its_process_is_parked() {
    poison_is_parked(World::of().on_files(), "abort", "intake").await;
}

#[tokio::test]
async fn on_files_too_a_delivery_that_aborts_its_process_is_parked() {
    poison_is_parked(World::of().on_files(), "abort", "push").await;
}

#[tokio::test]
async fn a_scheduled_notification_that_panics_when_it_is_due_is_parked_and_kills_nobody() {
    poison_is_parked(World::of(), "panic", "fanout").await;
}

#[tokio::test]
async fn a_scheduled_notification_that_aborts_its_process_when_it_is_due_is_parked_after_three_deaths() {
    poison_is_parked(World::of(), "abort", "fanout").await;
}

#[tokio::test]
async fn a_scheduled_notification_that_never_ends_when_it_is_due_is_parked_after_three_deaths() {
    poison_is_parked(World::of(), "loop", "fanout").await;
}

#[tokio::test]
async fn on_files_too_a_scheduled_notification_that_aborts_its_process_is_parked() {
    poison_is_parked(World::of().on_files(), "abort", "fanout").await;
}
