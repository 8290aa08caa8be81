//! Receipts: what cancels a toast, what does not, and what is refused.

use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_harness::amqp::{self, properties};
use serde_json::json;

use crate::requests;
use crate::simulator::Push;
use crate::world::{APP, World, login, until};

/// A phone that gets raw pushes and never acknowledges by itself.
fn silent() -> serde_json::Value {
    json!({ "platform": "ios", "ackLossPercent": 100 })
}

async fn raw_push_to(world: &World, phone: &str) -> Push {
    until(&format!("a raw push to {phone}"), async || {
        world.simulator.pushes_to(phone).await.into_iter().find(|push| push.form == "raw" && push.accepted())
    })
    .await
}

fn by_capability(capability: &str) -> String {
    json!({ "receipts": [{ "capability": capability }] }).to_string()
}

/// What became of each receipt of a request.
fn statuses((status, answer): &(u16, String)) -> Vec<String> {
    assert_eq!(*status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    let results = answer["results"].as_array().expect("a list of results");
    results.iter().map(|result| result["status"].as_str().unwrap().to_owned()).collect()
}

async fn count(world: &World, result: &str) -> f64 {
    world.metric("herald_receipts_total", &format!("result=\"{result}\"")).await
}

async fn notification(world: &World, user: &str, key: &str) -> NotificationId {
    let app = AppId::new(APP);
    until("the notification to be stored", async || {
        world.store().notification_by_key(&app, &UserId::new(user), key).await.unwrap()
    })
    .await
}

#[tokio::test]
async fn a_receipt_from_an_upstream_service_cancels_the_toast_of_its_device_and_of_no_other() {
    let world = World::of().start().await;
    let first = world.phone_of(APP, "anna", "first", silent()).await;
    world.phone_of(APP, "anna", "second", silent()).await;
    world.publish("order", &requests::with_fallback(APP, "anna", 10)).await;
    raw_push_to(&world, "first").await;
    raw_push_to(&world, "second").await;
    let id = notification(&world, "anna", "order").await;
    let pair = |unsid: Unsid| json!({ "notificationId": id, "userNotificationSubscriptionId": unsid });
    let body = json!({ "receipts": [pair(first)] }).to_string();
    let amqp = world.amqp().await;
    amqp.publish("herald.receipts", "receipt", properties("r1"), body.as_bytes()).await.unwrap();
    world.all_closed().await;
    let shown =
        (world.simulator.count("first", "toastsShown").await, world.simulator.count("second", "toastsShown").await);
    assert_eq!(shown, (0, 1), "toasts on the phone that acknowledged, and on the other");
    assert_eq!(count(&world, "on_time").await, 1.0);
    // The same again: known already. For a stranger's pair: nothing.
    let stranger = json!({ "notificationId": id, "userNotificationSubscriptionId": uuid::Uuid::nil() });
    let again = json!({ "receipts": [pair(first), stranger] }).to_string();
    amqp.publish("herald.receipts", "receipt", properties("r2"), again.as_bytes()).await.unwrap();
    until("the repetition and the stranger to be counted", async || {
        (count(&world, "duplicate").await, count(&world, "unknown").await) == (1.0, 1.0)
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn one_apps_producer_acknowledges_nothing_of_another_app() {
    let world = World::of().two_apps().allow("parked").start().await;
    let unsid = world.phone("anna", silent()).await;
    let own = amqp::connect(&world.producers[0]).await.unwrap();
    let of_own = properties("order").with_user_id(login(&world.producers[0]).as_str().into());
    let body = requests::with_fallback(APP, "anna", 3).to_string();
    own.publish("herald.requests", "high", of_own, body.as_bytes()).await.unwrap();
    raw_push_to(&world, "anna").await;
    let id = notification(&world, "anna", "order").await;
    let receipt =
        json!({ "receipts": [{ "notificationId": id, "userNotificationSubscriptionId": unsid }] }).to_string();
    // The tests' own connection may publish receipts; which app it speaks for is what `user_id` says.
    let receipts = world.amqp().await;
    receipts.publish("herald.receipts", "receipt", properties("nobody's"), receipt.as_bytes()).await.unwrap();
    until("the receipt of nobody to be parked", async || world.dead_count().await.is_ok_and(|count| count == 1)).await;
    let letter = world.dead_letters().await.remove(0);
    assert_eq!((letter.reason_code.as_str(), letter.field.as_str()), ("invalid_receipts", "user_id"));
    world.reaches("anna", "order", "toasted").await;
    world.finish().await;
}

#[tokio::test]
async fn capabilities_acknowledge_one_by_one_or_in_batches_and_forged_ones_nothing() {
    let world = World::of().start().await;
    let users = ["anna", "bert", "cora", "dora"];
    for user in users {
        world.phone(user, silent()).await;
        world.publish(&format!("order-{user}"), &requests::with_fallback(APP, user, 12)).await;
    }
    let mut capabilities = Vec::new();
    for user in users {
        capabilities.push(raw_push_to(&world, user).await.capability);
    }
    let worker = &world.workers[0];
    // Alone; two at once, one of them twice; and by a handler that can send no body.
    let alone = json!({ "capability": capabilities[0] }).to_string();
    let batch =
        json!({ "receipts": [{ "capability": capabilities[1] }, { "capability": capabilities[1] }] }).to_string();
    assert_eq!(statuses(&worker.post("/v1/receipts", alone).await), ["received"]);
    assert_eq!(statuses(&worker.post("/v1/receipts", batch).await), ["received", "duplicate"]);
    assert_eq!(statuses(&worker.bearer("/v1/receipts", &capabilities[2]).await), ["received"]);
    // With another signature: alone among others, and where the status is all that is read.
    let mut forged = capabilities[3].clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'Q' } else { 'A' });
    assert_eq!(statuses(&worker.post("/v1/receipts", by_capability(&forged)).await), ["refused"]);
    assert_eq!(worker.bearer("/v1/receipts", &forged).await.0, 401);
    assert_eq!(count(&world, "refused").await, 2.0);
    // No receipts at all.
    for body in ["", "[]", "{}", "{\"receipts\": 7}", "{\"receipts\": [{}]}", "not json"] {
        let (status, answer) = worker.post("/v1/receipts", body).await;
        assert_eq!(status, 400, "{body:?}: {answer}");
    }
    for user in &users[..3] {
        world.reaches(user, &format!("order-{user}"), "received").await;
    }
    world.all_closed().await;
    let mut shown = Vec::new();
    for user in users {
        shown.push(world.simulator.count(user, "toastsShown").await);
    }
    assert_eq!(shown, [0, 0, 0, 1], "a toast where the receipt was forged, and nowhere else");
    world.finish().await;
}

#[tokio::test]
async fn a_receipt_after_the_toast_is_late_and_kept_as_a_fact() {
    let world = World::of().start().await;
    world.phone("anna", silent()).await;
    world.publish("order", &requests::with_fallback(APP, "anna", 1)).await;
    let capability = raw_push_to(&world, "anna").await.capability;
    world.reaches("anna", "order", "toasted").await;
    let answer = world.workers[0].post("/v1/receipts", by_capability(&capability)).await;
    assert_eq!(statuses(&answer), ["late"]);
    assert_eq!(count(&world, "late").await, 1.0);
    let id = notification(&world, "anna", "order").await;
    let trace = world.store().trace(&AppId::new(APP), id).await.unwrap().expect("it is stored");
    let traced = &trace.deliveries[0];
    assert_eq!(traced.delivery.state.as_str(), "toasted");
    assert!(traced.received_at.is_some(), "the late receipt is not in the trace");
    let forms: Vec<&str> = traced.attempts.iter().map(|attempt| attempt.form.as_str()).collect();
    assert_eq!(forms, ["raw", "toast"]);
    world.finish().await;
}

#[tokio::test]
async fn a_team_that_only_observes_counts_toasts_and_sends_none() {
    let world = World::of().fallback("mode = \"observe\"").start().await;
    world.phone("anna", silent()).await;
    world.publish("order", &requests::with_fallback(APP, "anna", 1)).await;
    raw_push_to(&world, "anna").await;
    world.reaches("anna", "order", "accepted").await;
    assert_eq!(world.metric("herald_fallbacks_not_owed_total", "reason=\"observed\"").await, 1.0);
    assert_eq!(world.metric("herald_fallbacks_sent_total", "").await, 0.0);
    // Closed with the raw push: nothing is left by which a toast could come.
    world.all_closed().await;
    let forms: Vec<String> = world.simulator.pushes_to("anna").await.into_iter().map(|push| push.form).collect();
    assert_eq!(forms, ["raw"]);
    world.finish().await;
}
