//! Events: what a producer that asked for them is told, as CloudEvents on `herald.events`.

use std::collections::{BTreeMap, BTreeSet};

use herald_harness::amqp::{Amqp, Got, properties};
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};

use crate::requests;
use crate::world::{APP, World, until};

pub(crate) const QUEUE: &str = "events-of-a-test";

pub(crate) async fn subscribe(amqp: &Amqp) {
    let channel = amqp.channel();
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    channel
        .queue_bind(
            QUEUE.into(),
            "herald.events".into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
}

/// The event's name, its `data`, its id.
fn read(got: &Got) -> (String, Value, String) {
    let event: Value = serde_json::from_slice(&got.body).unwrap();
    let content_type = got.properties.content_type().as_ref().map(|text| text.as_str().to_owned());
    assert_eq!(content_type.as_deref(), Some("application/cloudevents+json"));
    assert_eq!(event["specversion"], "1.0", "{event}");
    for attribute in ["id", "source", "type", "time"] {
        assert!(event[attribute].as_str().is_some_and(|text| !text.is_empty()), "no {attribute} in {event}");
    }
    let id = event["id"].as_str().unwrap().to_owned();
    assert_eq!(got.properties.message_id().as_ref().map(|text| text.as_str()), Some(id.as_str()), "its stable id");
    let (name, app) = got.routing_key.split_once('.').unwrap();
    assert_eq!(app, APP);
    assert_eq!(event["type"], format!("herald.notification.{name}.v1"));
    (name.to_owned(), event["data"].clone(), id)
}

#[tokio::test]
async fn an_app_that_asked_is_told_what_became_of_its_notifications() {
    let world = World::of().app("events = [\"usual\"]").allow("parked").start().await;
    let amqp = world.amqp().await;
    subscribe(&amqp).await;
    world.phone("awake", json!({ "platform": "ios" })).await;
    world.phone("saving", json!({ "platform": "ios", "condition": "powerSaving" })).await;
    world.phone("removed", json!({ "platform": "ios" })).await;
    world.uninstall("removed").await;
    for user in ["awake", "saving", "removed", "nobody"] {
        // The receipt of the phone that is awake may take its time; the toast of the other need not.
        let mut body = requests::with_fallback(APP, user, if user == "awake" { 60 } else { 1 });
        body["appNotificationId"] = format!("of-{user}").into();
        world.publish(&format!("order-{user}"), &body).await;
    }
    let broken = json!({ "targetHostName": APP, "target": { "userId": "awake" } }).to_string();
    amqp.publish("herald.requests", "high", properties("broken"), broken.as_bytes()).await.unwrap();

    // By name, then by what it is about.
    let expected: BTreeSet<(&str, &str)> = [
        ("received", "of-awake"),
        ("deferred", "of-saving"),
        ("toasted", "of-saving"),
        ("gone", "of-removed"),
        ("noDevices", "of-nobody"),
        ("parked", "payload"),
    ]
    .into();
    let mut told: BTreeMap<(String, String), Value> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    until("all events", async || {
        while let Some(got) = amqp.get(QUEUE).await.unwrap() {
            let (name, data, id) = read(&got);
            assert!(ids.insert(id), "an id came twice without a fault: {data}");
            let about = data["appNotificationId"].as_str().or(data["field"].as_str()).unwrap_or_default();
            told.insert((name, about.to_owned()), data);
        }
        expected.iter().all(|(name, about)| told.contains_key(&((*name).to_owned(), (*about).to_owned())))
    })
    .await;
    let unexpected: Vec<_> = told
        .keys()
        .filter(|(name, about)| !expected.contains(&(name.as_str(), about.as_str())) && name != "subscriptionEnded")
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    let data = &told[&("toasted".to_owned(), "of-saving".to_owned())];
    assert_eq!((&data["form"], &data["userId"]), (&json!("toast"), &json!("saving")));
    for data in told.values() {
        assert!(!data.to_string().contains("Arrives Tuesday"), "an event carries content: {data}");
    }
    world.all_closed().await;
    world.finish().await;
}

#[tokio::test]
async fn an_app_that_did_not_ask_is_told_nothing() {
    let world = World::of().start().await;
    let amqp = world.amqp().await;
    subscribe(&amqp).await;
    world.phone("awake", json!({ "platform": "ios" })).await;
    world.publish("order", &requests::with_fallback(APP, "awake", 60)).await;
    world.publish("order", &requests::raw(APP, "nobody")).await;
    world.reaches("awake", "order", "received").await;
    world.all_closed().await;
    // The drain publishes what is left in the outbox.
    let mut world = world;
    assert_eq!(world.stop_worker(0, crate::world::LIMIT).await, Some(0));
    assert_eq!(amqp.ready(QUEUE).await.unwrap(), 0);
    assert_eq!(world.store().stats().await.unwrap().outbox, 0);
    world.finish().await;
}
