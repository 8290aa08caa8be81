//! How often a person is alerted in the end, by phones whose systems and apps behave as real ones do.

use serde_json::{Value, json};

use crate::requests;
use crate::world::{APP, World, until};

/// More than a phone takes to handle what it has.
const LATE_SECS: u32 = 15;
/// A toast that comes, late enough that the raw push reaches its phone before it expires: that is by the second, and a slow
/// machine may take more than one.
const SOON_SECS: u32 = 5;

/// The app shows a notification of its own for each raw push; with `dedupe`, for those that it doesn't know.
fn iphone(dedupe: bool, mut rules: Value, mut spec: Value) -> Value {
    rules["appAlerts"] = true.into();
    rules["dedupe"] = dedupe.into();
    spec["platform"] = "ios".into();
    spec["rules"] = rules;
    spec
}

async fn alerts(world: &World, user: &str) -> u64 {
    world.simulator.count(user, "alertsSeen").await
}

#[tokio::test]
async fn a_raw_that_the_system_holds_until_after_its_toast_alerts_once_with_dedupe_and_twice_without() {
    let world = World::of().start().await;
    // The system of each takes no silent push today: it holds what came until the person opens the app.
    let spent = json!({ "backgroundBudget": { "perHour": 0 } });
    let users = [("dedupes", true, 1), ("shows", false, 2)];
    for (user, dedupe, _) in users {
        world.phone(user, iphone(dedupe, spent.clone(), json!({}))).await;
        world.publish(user, &requests::with_fallback(APP, user, SOON_SECS)).await;
    }
    for (user, _, expected) in users {
        world.reaches(user, user, "toasted").await;
        until("the toast", async || alerts(&world, user).await == 1).await;
        assert_eq!(world.simulator.count(user, "held").await, 1);
        world.simulator.change(user, json!({ "launch": true })).await;
        let view = world.simulator.view(user).await;
        assert_eq!((&view["rawsDelivered"], &view["alertsSeen"]), (&json!(1), &json!(expected)), "{view}");
        // The app gives its own notification the identifier of the toast.
        assert_eq!(view["onScreen"], 1);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_lost_receipt_costs_a_needless_toast_that_an_app_with_dedupe_keeps_silent() {
    let world = World::of().start().await;
    let users = [("dedupes", true, 1), ("shows", false, 2)];
    for (user, dedupe, _) in users {
        world.phone(user, iphone(dedupe, json!({}), json!({ "ackLossPercent": 100 }))).await;
        world.publish(user, &requests::with_fallback(APP, user, SOON_SECS)).await;
    }
    for (user, _, expected) in users {
        world.reaches(user, user, "toasted").await;
        until("the toast", async || world.simulator.count(user, "toastsShown").await == 1).await;
        let view = world.simulator.view(user).await;
        assert_eq!((&view["rawsDelivered"], &view["receiptsLost"]), (&json!(1), &json!(1)), "{view}");
        assert_eq!((&view["alertsSeen"], &view["onScreen"]), (&json!(expected), &json!(1)), "{view}");
    }
    world.finish().await;
}

#[tokio::test]
async fn bursts_and_slow_receipts_within_the_delay_and_pushes_that_come_twice_cost_no_toast() {
    let world = World::of().start().await;
    let twice = json!({ "duplicatePercent": 100, "duplicateAfter": { "fixedMs": 50 } });
    let slow = json!({ "ackDelay": { "uniformMs": [200, 400] } });
    let saving = json!({ "condition": "powerSaving" });
    for (user, rules, spec) in
        [("bursts", json!({ "burstEverySecs": 1 }), saving), ("slow", slow, json!({})), ("twice", twice, json!({}))]
    {
        world.phone(user, iphone(true, rules, spec)).await;
        world.publish(user, &requests::with_fallback(APP, user, LATE_SECS)).await;
    }
    for user in ["bursts", "slow", "twice"] {
        world.reaches(user, user, "received").await;
        assert_eq!((alerts(&world, user).await, world.simulator.count(user, "toastsShown").await), (1, 0), "{user}");
    }
    until("the copy", async || world.simulator.count("twice", "rawsDelivered").await == 2).await;
    assert_eq!(alerts(&world, "twice").await, 1);
    world.finish().await;
}
