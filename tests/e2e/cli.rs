//! The command line: exit codes that a supervisor can act on, and the commands that people use.

use serde_json::{Value, json};

use crate::requests;
use crate::world::{APP, World, run, until};

#[tokio::test]
async fn a_wrong_configuration_ends_with_64_and_every_mistake_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("herald.toml"),
        "[worker]\nbudget = 0\nlease_secs = 5\nattempt_timeout_secs = 9\nbugdet = 3\n\
         [apps.\"mail.contoso.com\".apns]\nkey_file = \"no-such.p8\"\nkey_id = \"short\"\nteam_id = \"ABCDEFGHIJ\"\n\
         topic = \"com.contoso.mail\"\n[apps.\"chat.fabrikam.com\".fcm]\nservice_account_file = \"no-such.json\"\n",
    )
    .unwrap();
    let output = run(&["worker"], &[], folder.path()).await;
    assert_eq!(output.code, Some(64), "{output:?}");
    for mistake in
        ["worker.budget", "bugdet", "attempt_timeout_secs", "key_id", "no-such.p8", "no-such.json", "amqp_users"]
    {
        assert!(output.stderr.contains(mistake), "nothing about {mistake} in:\n{}", output.stderr);
    }
    assert!(output.stderr.lines().count() >= 7, "not one a line:\n{}", output.stderr);
    assert_eq!(output.stdout, "");
}

#[tokio::test]
async fn a_missing_broker_or_store_ends_with_64_and_names_the_variable() {
    let folder = tempfile::tempdir().unwrap();
    for (args, variable) in [(["topology", "--check"], "HERALD_AMQP_URL"), (["dead", "list"], "HERALD_DATABASE_URL")] {
        let output = run(&args, &[], folder.path()).await;
        assert_eq!(output.code, Some(64), "{args:?}: {output:?}");
        assert!(output.stderr.contains(variable), "{args:?}: {output:?}");
    }
    let unknown = run(&["wroker"], &[], folder.path()).await;
    assert_eq!(unknown.code, Some(64), "{unknown:?}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_ends_with_69() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let port = herald_harness::ports::free().unwrap();
    let env = [("HERALD_AMQP_URL", format!("amqp://guest:hidden-word@127.0.0.1:{port}"))];
    let output = run(&["topology"], &env, folder.path()).await;
    assert_eq!(output.code, Some(69), "{output:?}");
    assert!(!output.stderr.contains("hidden-word"), "a password was printed: {output:?}");
}

#[tokio::test]
async fn fifty_sent_by_the_command_arrive_and_every_command_tells_what_there_is() {
    let world = World::of().start().await;
    let phone = world.simulator.phone("anna", json!({ "app": APP, "platform": "ios" })).await;
    let token = phone["token"].as_str().unwrap();
    let add = ["subscriptions", "add", "--app", APP, "--user", "anna", "--platform", "ios", "--token", token];
    let added = world.herald(&add).await;
    assert_eq!(added.code, Some(0), "{added:?}");
    let unsid = added.stdout.trim().to_owned();

    let list = world.herald(&["subscriptions", "list", "--app", APP, "--user", "anna", "--json"]).await;
    let listed: Value = serde_json::from_str(&list.stdout).unwrap_or_else(|_| panic!("{list:?}"));
    assert_eq!(listed[0]["userNotificationSubscriptionId"], unsid.as_str());
    assert!(!list.stdout.contains(token), "a push token is a secret");

    let send = ["send", "--app", APP, "--unsid", &unsid, "--raw", "{n}", "--count", "50", "--rate", "1000"];
    let sent = world.herald(&send).await;
    assert!(sent.code == Some(0) && sent.stdout.contains("50 sent"), "{sent:?}");
    until("all fifty to arrive", async || world.simulator.count("anna", "rawsDelivered").await == 50).await;
    world.all_closed().await;
    assert_eq!(world.metric("herald_requests_total", "result=\"stored\"").await, 50.0);

    let wrong = world
        .herald(&[
            "send",
            "--app",
            APP,
            "--unsid",
            &unsid,
            "--raw",
            "x",
            "--fallback-title",
            "t",
            "--fallback-after",
            "0",
        ])
        .await;
    assert_eq!(wrong.code, Some(64), "{wrong:?}");
    assert!(wrong.stderr.contains("fallbackDelayInSeconds"), "{wrong:?}");

    let apps = world.herald(&["apps"]).await;
    assert!(apps.code == Some(0) && apps.stdout.contains(APP) && apps.stdout.contains("active"), "{apps:?}");
    let dead = world.herald(&["dead", "list"]).await;
    assert!(dead.code == Some(0) && dead.stdout.contains("no dead letters"), "{dead:?}");
    let topology = world.herald(&["topology", "--check"]).await;
    assert_eq!(topology.code, Some(0), "{topology:?}");

    let removed = world.herald(&["subscriptions", "remove", &unsid]).await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    let left = world.herald(&["subscriptions", "list", "--app", APP, "--user", "anna", "--json"]).await;
    assert_eq!(left.stdout.trim(), "[]");
    world.finish().await;
}

#[tokio::test]
async fn an_operators_pause_keeps_the_work_until_it_is_resumed() {
    let mut world = World::of().workers(0).start().await;
    world.phone("anna", json!({ "platform": "ios" })).await;
    let paused = world.herald(&["apps", "pause", APP, "--provider", "apns"]).await;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    // A worker that starts now knows of it from its first look at the store.
    world.add_worker().await.unwrap();
    world.publish("order", &requests::raw(APP, "anna")).await;
    world.reaches("anna", "order", "due").await;
    assert!(world.simulator.pushes_to("anna").await.is_empty());
    let resumed = world.herald(&["apps", "resume", APP]).await;
    assert!(resumed.code == Some(0) && resumed.stdout.contains("resumed"), "{resumed:?}");
    until("what was kept to arrive", async || world.simulator.count("anna", "rawsDelivered").await == 1).await;
    world.all_closed().await;
    world.finish().await;
}

#[tokio::test]
async fn the_configuration_that_the_simulator_writes_is_all_that_a_worker_needs() {
    let mut world = World::of().workers(0).start().await;
    let written = world.simulator.folder().join("herald.toml");
    world.configure(written);
    let receipts = world.add_worker().await.unwrap().url("/v1/receipts");
    world.simulator.set(json!({ "receiptsUrl": receipts })).await;
    world.phone("anna", json!({ "platform": "ios" })).await;
    world.phone("dora", json!({ "platform": "android" })).await;
    for user in ["anna", "dora"] {
        let sent = world.herald(&["send", "--app", APP, "--user", user, "--raw", "x"]).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        until("the phone to acknowledge", async || world.simulator.count(user, "receiptsSent").await == 1).await;
    }
    world.all_closed().await;
    world.finish().await;
}
