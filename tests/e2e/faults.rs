//! Faults under load: each time nothing that the broker confirmed is lost, nothing needless is shown, and repeated pushes
//! are no more than what was in flight on what failed.
//!
//! Broker and store of a test that kills them are its own. Each fault strikes when some of the pushes, and not all of
//! them, are done; that is checked, so that a fault that came too late is a failed test and not a passed one.

use std::time::Duration;

use herald_harness::proxy::FaultProxy;
use herald_harness::{PrivatePostgres, PrivateRabbit, amqp};
use serde_json::json;

use crate::load::Load;
use crate::requests;
use crate::world::{APP, Setup, World, until};

/// Pushes in flight of each worker, at most.
const BUDGET: usize = 20;
const NOTIFICATIONS: usize = 240;
/// Two phones each.
const PUSHES: u64 = 2 * NOTIFICATIONS as u64;
/// Both workers together push some 300 a second at most.
const PROVIDER_DELAY_MS: u64 = 120;

/// What RabbitMQ's or PostgreSQL's absence makes workers say.
const BROKER_AWAY: [&str; 2] = ["herald_queue", "hints were not confirmed"];
const STORE_AWAY: [&str; 2] = ["store", "sqlx_core"];

fn world(lease_secs: u32) -> Setup {
    let worker = format!("budget = {BUDGET}\nlease_secs = {lease_secs}\nattempt_timeout_secs = 2");
    World::of().workers(2).worker(&worker)
}

fn allowing(setup: Setup, texts: &[&'static str]) -> Setup {
    texts.iter().fold(setup, |setup, text| setup.allow(text))
}

/// Waits until a good part of the load is pushed.
async fn under_way(world: &World) {
    until("an eighth of the pushes", async || world.simulator.accepted().await >= PUSHES / 8).await;
}

/// The fault must have struck in the middle.
async fn not_done(world: &World) {
    let accepted = world.simulator.accepted().await;
    assert!(accepted < PUSHES, "the fault came too late: all {accepted} pushes were done");
}

async fn loaded(world: &World) -> Load {
    let load = Load::new(world).await;
    world.simulator.set(json!({ "delayMs": PROVIDER_DELAY_MS })).await;
    load
}

#[tokio::test]
async fn purged_dispatch_queues_lose_nothing() {
    // Half of the work is due by way of the dispatch queues: more than a budget arrives at once.
    let world = world(30).start().await;
    let mut load = loaded(&world).await;
    let amqp = world.amqp().await;
    load.publish(&amqp, 0, NOTIFICATIONS).await;
    let mut purged = 0;
    until("hints to be purged several times while pushes go on", async || {
        for queue in ["fallback", "high", "normal", "low"] {
            purged += amqp.purge(&format!("herald.dispatch.{queue}")).await.unwrap();
        }
        world.simulator.accepted().await >= PUSHES / 3
    })
    .await;
    not_done(&world).await;
    load.check(&world, 0).await;
    assert_eq!(load.confirmed(), NOTIFICATIONS);
    world.finish().await;
}

#[tokio::test]
async fn a_worker_killed_loses_nothing_and_repeats_at_most_what_it_had_in_flight() {
    let mut world = world(5).start().await;
    let mut load = loaded(&world).await;
    let amqp = world.amqp().await;
    load.publish(&amqp, 0, NOTIFICATIONS).await;
    under_way(&world).await;
    world.kill_worker(1).await;
    not_done(&world).await;
    load.check(&world, BUDGET).await;
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_sleeps_through_its_leases_gives_up_when_it_wakes() {
    // The broker gives the sleeper's requests to the other worker as soon as heartbeats are missed.
    // Its open transaction, if it is in one, is ended by PostgreSQL: until then statements of the other worker wait.
    let setup = allowing(allowing(world(3).heartbeat(1), &BROKER_AWAY), &STORE_AWAY);
    let world = setup.allow("sqlx::query: slow statement").allow("is silent; replaced").start().await;
    let mut load = loaded(&world).await;
    let amqp = world.amqp().await;
    load.publish(&amqp, 0, NOTIFICATIONS).await;
    under_way(&world).await;
    signal(&world, 1, "STOP").await;
    not_done(&world).await;
    // The other worker alone brings all of it to an end.
    load.check(&world, BUDGET).await;
    signal(&world, 1, "CONT").await;
    until("the sleeper to notice that its connections are gone", async || {
        world.workers[1].process.stderr().unwrap().contains("no connection to the broker")
    })
    .await;
    until("the sleeper to have nothing in hand", async || {
        world.workers[1].metric("herald_pushes_in_flight", "").await == 0.0
    })
    .await;
    load.check(&world, BUDGET).await;
    world.finish().await;
}

/// Sends a signal to a worker that it can't handle.
async fn signal(world: &World, worker: usize, name: &str) {
    let pid = world.workers[worker].process.pid().expect("it runs");
    let sent = tokio::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status().await.unwrap();
    assert!(sent.success(), "kill -s {name}");
}

#[tokio::test]
async fn a_broker_killed_and_started_again_loses_nothing() {
    let mut rabbit = PrivateRabbit::start().await.unwrap();
    rabbit.add_vhost("herald").await.unwrap();
    let world = allowing(world(30), &BROKER_AWAY).broker(rabbit.url("herald")).start().await;
    rabbit.settle().await.unwrap();
    let mut load = loaded(&world).await;
    let amqp = world.amqp().await;
    load.publish(&amqp, 0, NOTIFICATIONS / 2).await;
    let confirmed = load.confirmed();
    under_way(&world).await;
    // The second half is being published while the broker dies: some of it is confirmed, some is doubtful.
    tokio::join!(load.publish(&amqp, NOTIFICATIONS / 2, NOTIFICATIONS), async {
        rabbit.kill9().await.unwrap();
    });
    not_done(&world).await;
    rabbit.start_again().await.unwrap();
    let again = world.amqp().await;
    // What was doubtful is published once more, as a producer does: the key is what makes that safe.
    load.publish(&again, 0, NOTIFICATIONS).await;
    assert!(confirmed > 0 && load.confirmed() == NOTIFICATIONS);
    load.check(&world, 2 * BUDGET).await;
    world.finish().await;
}

#[tokio::test]
async fn a_store_killed_and_started_again_loses_nothing() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    let world = allowing(world(5), &STORE_AWAY).database(postgres.url("postgres")).start().await;
    let mut load = loaded(&world).await;
    let amqp = world.amqp().await;
    load.publish(&amqp, 0, NOTIFICATIONS / 2).await;
    under_way(&world).await;
    postgres.kill9().await.unwrap();
    not_done(&world).await;
    // What is published meanwhile waits in the broker.
    load.publish(&amqp, NOTIFICATIONS / 2, NOTIFICATIONS).await;
    postgres.start_again().await.unwrap();
    load.check(&world, 2 * BUDGET).await;
    assert_eq!(load.confirmed(), NOTIFICATIONS);
    world.finish().await;
}

#[tokio::test]
async fn a_frozen_connection_to_the_broker_loses_nothing() {
    let broker = herald_harness::broker().await.unwrap();
    let proxy = FaultProxy::start(broker.address()).await.unwrap();
    let url = broker.url_via(proxy.port()).unwrap();
    let setup = world(30).heartbeat(1).broker(url);
    let world = allowing(setup, &BROKER_AWAY).start().await;
    let mut load = loaded(&world).await;
    // The producer's own connection is not the frozen one.
    let amqp = amqp::connect(&broker.url()).await.unwrap();
    load.publish(&amqp, 0, NOTIFICATIONS).await;
    under_way(&world).await;
    let before = proxy.accepted();
    proxy.freeze();
    not_done(&world).await;
    // Both sides must notice by heartbeats alone: nothing is closed. New connections hang too.
    until("the workers to try new connections", async || proxy.accepted() > before).await;
    proxy.cut_all();
    proxy.thaw();
    load.check(&world, 2 * BUDGET).await;
    assert_eq!(load.confirmed(), NOTIFICATIONS);
    tokio::time::timeout(Duration::from_secs(90), world.finish()).await.unwrap();
}

#[tokio::test]
async fn a_toast_is_shown_on_time_though_the_broker_is_away() {
    let mut rabbit = PrivateRabbit::start().await.unwrap();
    rabbit.add_vhost("herald").await.unwrap();
    let world = allowing(World::of(), &BROKER_AWAY).broker(rabbit.url("herald")).start().await;
    rabbit.settle().await.unwrap();
    world.phone("anna", json!({ "platform": "ios", "condition": "powerSaving" })).await;
    world.publish("order", &requests::with_fallback(APP, "anna", 3)).await;
    until("the raw push to be accepted", async || world.simulator.pushes_to("anna").await.len() == 1).await;
    rabbit.kill9().await.unwrap();
    until("the toast", async || world.simulator.count("anna", "toastsShown").await == 1).await;
    let pushes = world.simulator.pushes_to("anna").await;
    let late = Duration::from_micros(pushes[1].time - pushes[0].time).saturating_sub(Duration::from_secs(3));
    assert!(late < Duration::from_secs(2), "the toast came {late:?} after its deadline");
    rabbit.start_again().await.unwrap();
    world.reaches("anna", "order", "toasted").await;
    world.finish().await;
}
