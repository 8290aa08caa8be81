//! Lanes: a flood of one never delays another (G7).

use futures_util::future::join_all;
use herald_harness::amqp::properties;
use serde_json::json;

use crate::requests;
use crate::world::{APP, World, until};

const FLOOD: usize = 300;

#[tokio::test]
async fn a_flood_in_the_low_lane_delays_neither_a_high_one_nor_a_toast() {
    let world = World::of().worker("budget = 20").start().await;
    let silent = json!({ "platform": "ios", "ackLossPercent": 100 });
    for user in ["many", "watched", "urgent"] {
        world.phone(user, silent.clone()).await;
    }
    // Twenty in flight, a quarter of a second each: the flood takes some four seconds.
    world.simulator.set(json!({ "delayMs": 250 })).await;
    world.publish("watched", &requests::with_fallback(APP, "watched", 1)).await;
    let amqp = world.amqp().await;
    let body = requests::raw(APP, "many").to_string();
    let flood = join_all((0..FLOOD).map(async |number| {
        let properties = properties(&format!("low-{number}"));
        amqp.publish("herald.requests", "low", properties, body.as_bytes()).await.unwrap();
    }));
    flood.await;
    until("the flood to be on its way", async || !world.simulator.pushes_to("many").await.is_empty()).await;
    world.publish("urgent", &requests::raw(APP, "urgent")).await;
    world.reaches("urgent", "urgent", "accepted").await;
    world.reaches("watched", "watched", "toasted").await;
    let done = world.simulator.pushes_to("many").await.len();
    assert!(done < FLOOD, "all {done} of the flood went first");
    let of = async |user: &str| world.simulator.pushes_to(user).await;
    let delay = (of("watched").await[1].time - of("watched").await[0].time) / 1_000;
    assert!(delay < 3_000, "the toast that was due after 1 s came after {delay} ms");
    until("all to be stored", async || {
        world.metric("herald_requests_total", "result=\"stored\"").await == (FLOOD + 2) as f64
    })
    .await;
    world.all_closed().await;
    assert_eq!(of("many").await.len(), FLOOD, "each of the flood once");
    world.finish().await;
}
