//! `herald trace` and `herald erase`: what became of a notification, and that nothing is left of a user.

use herald_core::ids::{AppId, UserId};
use herald_store::Erased;
use serde_json::{Value, json};

use crate::requests;
use crate::world::{APP, World, until};

#[tokio::test]
async fn a_trace_tells_the_toast_in_plain_words_and_an_erasure_leaves_nothing_of_it() {
    let world = World::of().on_files().start().await;
    let unsid = world.phone("anna", json!({ "platform": "ios", "condition": "forceQuit" })).await;
    let send = ["send", "--app", APP, "--user", "anna", "--raw", "s3cret", "--priority", "High", "--id", "order-1042"];
    let fallback = ["--key", "one", "--fallback-title", "s3cret", "--fallback-after", "1"];
    let sent = world.herald(&[&send[..], &fallback].concat()).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    world.reaches("anna", "one", "toasted").await;

    let by_name = ["trace", "--app", APP, "--app-notification-id", "order-1042"];
    let told = world.herald(&by_name).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    for words in ["stored: a raw push of priority High", "accepted by APNs (apns-id ", "the toast is due", "done:"] {
        assert!(told.stdout.contains(words), "nothing of {words:?} in:\n{}", told.stdout);
    }
    assert!(!told.stdout.contains("s3cret"), "what it says is told: {}", told.stdout);
    let all: Value = serde_json::from_str(&world.herald(&[&by_name[..], &["--json"]].concat()).await.stdout).unwrap();
    let id = all[0]["id"].as_str().unwrap().to_owned();
    let one: Value = serde_json::from_str(&world.herald(&["trace", &id, "--json"]).await.stdout).unwrap();
    assert_eq!(one["id"], id.as_str());
    let delivery = &one["deliveries"][0];
    assert_eq!((&delivery["state"], &delivery["attempts"][1]["form"]), (&json!("toasted"), &json!("toast")));
    assert_eq!(delivery["userNotificationSubscriptionId"], unsid.to_string());

    let erase = ["erase", "--app", APP, "--user", "anna"];
    let unsure = world.herald(&erase).await;
    assert!(unsure.code == Some(64) && unsure.stderr.contains("--yes"), "{unsure:?}");
    let erased = world.herald(&[&erase[..], &["--yes", "--json"]].concat()).await;
    assert_eq!(erased.code, Some(0), "{erased:?}");
    let counts: Value = serde_json::from_str(&erased.stdout).unwrap();
    let expected = json!({ "notifications": 1, "deliveries": 1, "subscriptions": 1, "events": 0, "deadLetters": 0 });
    assert_eq!(counts, expected);
    for gone in [&by_name[..], &["trace", &id]] {
        let output = world.herald(gone).await;
        assert!(output.code == Some(1) && output.stdout.is_empty(), "{output:?}");
    }
    assert_eq!(world.store().subscription(unsid).await.unwrap(), None);
    world.finish().await;
}

#[tokio::test]
async fn a_user_erased_while_they_are_pushed_to_holds_up_nobody_and_is_no_fault() {
    let world = World::of().start().await;
    for user in ["anna", "ben"] {
        world.phone(user, json!({ "platform": "ios", "receiptsUrl": "" })).await;
    }
    // Answers take long enough for the erasure to come in the midst of the push.
    world.simulator.set(json!({ "delayMs": 3_000 })).await;
    for user in ["anna", "ben"] {
        let mut body = requests::raw(APP, user);
        body["appNotificationId"] = json!(user);
        world.publish("high", &body).await;
    }
    let app = AppId::new(APP);
    until("both to be pushed", async || world.store().open_count(&app).await.is_ok_and(|open| open == 2)).await;
    let erase = async || world.store().erase(&app, &UserId::new("anna")).await.unwrap();
    assert_eq!(erase().await.deliveries, 1);
    world.all_closed().await;
    until("the other's push", async || world.simulator.count("ben", "rawsDelivered").await == 1).await;
    until("the record that finds nothing", async || world.metric("herald_records_late_total", "").await >= 1.0).await;
    assert_eq!(erase().await, Erased::default(), "the record of the push brought nothing back");
    // No WARN or ERROR line, which this looks for.
    world.finish().await;
}
