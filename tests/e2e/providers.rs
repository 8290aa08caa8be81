//! What providers answer, scripted: what is repeated, what waits, what ends a subscription, and what never may.

use std::time::Duration;

use herald_core::ids::{AppId, UserId};
use serde_json::{Value, json};

use crate::requests;
use crate::simulator::Push;
use crate::world::{APP, World, until};

async fn push_to(world: &World, phone: &str, wanted: impl Fn(&Push) -> bool) -> Push {
    until(&format!("a push to {phone}"), async || world.simulator.pushes_to(phone).await.into_iter().find(&wanted))
        .await
}

async fn is_subscribed(world: &World, user: &str) -> bool {
    !world.store().list(&AppId::new(APP), &UserId::new(user)).await.unwrap().is_empty()
}

/// A phone that never acknowledges, so that what the provider says is all that counts.
fn ios() -> Value {
    json!({ "platform": "ios", "ackLossPercent": 100 })
}

#[tokio::test]
async fn a_raw_push_throttled_for_its_device_becomes_a_toast_ten_seconds_later() {
    let world = World::of().start().await;
    world.phone("anna", ios()).await;
    world.simulator.script(json!({ "phone": "anna", "status": 429, "reason": "TooManyRequests" })).await;
    world.publish("order", &requests::with_fallback(APP, "anna", 60)).await;
    world.reaches("anna", "order", "toasted").await;
    let pushes = world.simulator.pushes_to("anna").await;
    let seen: Vec<(&str, Option<u64>)> = pushes.iter().map(|push| (push.form.as_str(), push.status)).collect();
    assert_eq!(seen, [("raw", Some(429)), ("toast", Some(200))]);
    let after = Duration::from_micros(pushes[1].time - pushes[0].time);
    assert!((Duration::from_secs(9)..Duration::from_secs(13)).contains(&after), "the toast came after {after:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_provider_in_trouble_for_a_moment_is_tried_again() {
    let world = World::of().start().await;
    world.phone("anna", ios()).await;
    world.phone("dora", json!({ "platform": "android" })).await;
    world
        .simulator
        .script(json!([
            { "phone": "anna", "status": 503, "reason": "ServiceUnavailable" },
            { "phone": "dora", "status": 503, "errorCode": "UNAVAILABLE" },
        ]))
        .await;
    for user in ["anna", "dora"] {
        world.publish(&format!("order-{user}"), &requests::raw(APP, user)).await;
    }
    for user in ["anna", "dora"] {
        until("the raw push to arrive", async || world.simulator.count(user, "rawsDelivered").await == 1).await;
        let statuses: Vec<_> = world.simulator.pushes_to(user).await.iter().map(|push| push.status).collect();
        assert_eq!(statuses, [Some(503), Some(200)], "{user}");
    }
    world.all_closed().await;
    world.finish().await;
}

#[tokio::test]
async fn a_refused_key_pauses_the_provider_keeps_the_work_and_ends_no_subscription() {
    const USERS: [&str; 3] = ["anna", "bert", "cora"];
    let world = World::of().workers(2).allow("paused; the work is kept").start().await;
    for user in USERS {
        world.phone(user, ios()).await;
    }
    world.phone("dora", json!({ "platform": "android" })).await;
    let refusal = json!({ "provider": "apns", "status": 403, "reason": "InvalidProviderToken", "times": 0 });
    world.simulator.script(refusal).await;
    for user in USERS {
        world.publish(&format!("first-{user}"), &requests::raw(APP, user)).await;
    }
    until("the pause to be shared", async || !world.store().pauses().await.unwrap().is_empty()).await;
    for user in USERS {
        world.publish(&format!("second-{user}"), &requests::raw(APP, user)).await;
    }
    // The other provider goes on.
    world.publish("order-dora", &requests::raw(APP, "dora")).await;
    until("Android to be reached", async || world.simulator.count("dora", "rawsDelivered").await == 1).await;
    let list = world.herald(&["apps", "list", "--json"]).await;
    let apps: Value = serde_json::from_str(&list.stdout).unwrap_or_else(|_| panic!("{list:?}"));
    let state = |provider: &str| {
        apps.as_array().unwrap().iter().find(|app| app["provider"] == provider).unwrap()["state"].clone()
    };
    assert_eq!((state("apns"), state("fcm")), (json!("paused"), json!("active")));
    until("all to be stored", async || {
        world.store().open_count(&AppId::new(APP)).await.is_ok_and(|open| open == 2 * USERS.len() as u64)
    })
    .await;

    world.simulator.no_script().await;
    let resumed = world.herald(&["apps", "resume", APP, "--provider", "apns"]).await;
    assert_eq!((resumed.code, resumed.stdout.contains("resumed")), (Some(0), true), "{resumed:?}");
    for user in USERS {
        until("what was kept to arrive", async || world.simulator.count(user, "rawsDelivered").await == 2).await;
        assert!(is_subscribed(&world, user).await, "{user} lost the subscription by our fault");
    }
    world.all_closed().await;
    assert_eq!(world.metric("herald_tokens_pruned_total", "").await, 0.0);
    world.finish().await;
}

#[tokio::test]
async fn a_bad_token_ends_a_subscription_only_when_it_is_said_twice_and_others_are_accepted_in_between() {
    let world = World::of().start().await;
    for user in ["anna", "bert", "cora"] {
        world.phone(user, ios()).await;
    }
    for user in ["anna", "bert"] {
        world.simulator.script(json!({ "phone": user, "status": 400, "reason": "BadDeviceToken", "times": 0 })).await;
    }
    let prove = async |key: &str| {
        world.publish(key, &requests::raw(APP, "cora")).await;
        world.reaches("cora", key, "accepted").await;
    };
    let refused = async |times: f64| {
        until("the refusal to be recorded", async || {
            world.metric("herald_attempts_total", "outcome=\"gone\"").await == times
        })
        .await;
    };
    // Nothing was accepted yet: it may well be our own mistake.
    world.publish("order", &requests::raw(APP, "anna")).await;
    refused(1.0).await;
    world.reaches("anna", "order", "due").await;
    prove("before").await;
    prove("before too").await;
    // It is said for the first time.
    world.publish("order", &requests::raw(APP, "bert")).await;
    refused(2.0).await;
    world.reaches("bert", "order", "due").await;
    assert!(is_subscribed(&world, "bert").await);
    // Others are accepted, and it is said again: now it is the token.
    prove("between").await;
    world.reaches("bert", "order", "gone").await;
    assert!(!is_subscribed(&world, "bert").await);
    assert!(is_subscribed(&world, "anna").await && is_subscribed(&world, "cora").await);
    assert_eq!(world.simulator.pushes_to("bert").await.len(), 2);
    assert_eq!(world.metric("herald_tokens_pruned_total", "").await, 1.0);
    world.finish().await;
}

#[tokio::test]
async fn a_push_whose_answer_gets_lost_is_repeated_with_the_same_ids() {
    let world = World::of().worker("attempt_timeout_secs = 2\nlease_secs = 10").start().await;
    world.phone("anna", ios()).await;
    world.simulator.script(json!({ "phone": "anna", "fault": "close", "process": true })).await;
    world.publish("order", &requests::raw(APP, "anna")).await;
    let repeated = push_to(&world, "anna", Push::accepted).await;
    let first = push_to(&world, "anna", |push| push.status.is_none()).await;
    for header in ["apns-id", "apns-collapse-id"] {
        assert!(first.headers[header].is_string(), "no {header} in {}", first.headers);
        assert_eq!(first.headers[header], repeated.headers[header], "{header}");
    }
    world.all_closed().await;
    assert_eq!(world.simulator.pushes_to("anna").await.len(), 2);
    world.finish().await;
}

#[tokio::test]
async fn a_device_that_no_credentials_reach_is_held_and_pauses_nobody() {
    let world = World::of().start().await;
    world.phone("anna", json!({ "platform": "ios" })).await;
    // A developer's build: its token is of the sandbox, and only production is configured.
    let sandbox = herald_store::NewSubscription {
        app: AppId::new(APP),
        user: UserId::new("anna"),
        platform: herald_core::subscription::Platform::Ios,
        token_kind: herald_core::subscription::TokenKind::Token,
        token: herald_core::ids::PushToken::new("5a".repeat(32)),
        environment: herald_core::subscription::Environment::Sandbox,
        expires_at: world.store().clock().now().plus(Duration::from_secs(3_600)),
        unsid: None,
    };
    world.store().subscribe(sandbox).await.unwrap();
    for order in ["first", "second"] {
        world.publish(order, &requests::raw(APP, "anna")).await;
    }
    until("both raw pushes to the phone", async || world.simulator.count("anna", "rawsDelivered").await == 2).await;
    let app = AppId::new(APP);
    until("the other device's deliveries to be held", async || world.store().open_count(&app).await.unwrap() == 2)
        .await;
    assert!(world.store().pauses().await.unwrap().is_empty(), "one device must not pause the app");
    assert_eq!(world.store().list(&app, &UserId::new("anna")).await.unwrap().len(), 2, "nothing is pruned");
    world.finish().await;
}
