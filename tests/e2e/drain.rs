//! A stop in order: what was taken is finished, what was not is left to the others, and nobody is told twice.

use std::time::Duration;

use serde_json::json;

use crate::load::Load;
use crate::world::{World, until};

const NOTIFICATIONS: usize = 150;

#[tokio::test]
async fn a_worker_asked_to_end_under_load_sends_nothing_twice_and_loses_nothing() {
    let mut world = World::of().workers(2).worker("budget = 40").start().await;
    let mut load = Load::new(&world).await;
    // Slow enough that pushes are in flight whenever the signal comes.
    world.simulator.set(json!({ "delayMs": 500 })).await;
    let amqp = world.amqp().await;
    load.publish(&amqp, 0, NOTIFICATIONS).await;
    until("pushes in flight on the worker that is to end", async || {
        world.workers[1].metric("herald_pushes_in_flight", "").await >= 5.0
    })
    .await;
    let code = world.stop_worker(1, Duration::from_secs(30)).await;
    assert_eq!(code, Some(0));
    let log = world.logs().remove(0);
    assert!(log.contains("drained"), "{log}");
    assert!(world.simulator.accepted().await < 2 * NOTIFICATIONS as u64, "there was nothing left for the other worker");
    load.check(&world, 0).await;
    assert_eq!(load.confirmed(), NOTIFICATIONS);
    world.finish().await;
}

#[tokio::test]
async fn a_worker_with_nothing_to_do_ends_at_once() {
    let mut world = World::of().start().await;
    assert_eq!(world.stop_worker(0, Duration::from_secs(10)).await, Some(0));
    world.finish().await;
}
