//! `herald up` on files: the same guarantees without a server, and other processes that work on the same files.

use std::collections::BTreeMap;

use herald_core::ids::AppId;
use herald_harness::wait;
use serde_json::json;

use crate::requests;
use crate::world::{APP, LIMIT, World, run, until};

/// Pushes in flight at once, and so what one kill may repeat.
const BUDGET: usize = 200;
/// Users, each with one phone.
const USERS: [&str; 4] = ["anna", "ben", "carla", "dora"];
/// Notifications to each of them.
const EACH: u64 = 5_000;

#[tokio::test]
async fn a_process_killed_in_the_midst_of_twenty_thousand_loses_nothing() {
    let mut world = World::of()
        .on_files()
        .worker(&format!("budget = {BUDGET}\nlease_secs = 5\nattempt_timeout_secs = 2"))
        .start()
        .await;
    for (user, platform) in USERS.into_iter().zip(["ios", "android", "ios", "android"]) {
        world.phone(user, json!({ "platform": platform, "receiptsUrl": "" })).await;
    }
    let total = EACH * USERS.len() as u64;
    for user in USERS {
        let count = EACH.to_string();
        let sent = world.herald(&["send", "--app", APP, "--user", user, "--raw", "{}", "--count", &count]).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
    }
    for share in [total / 4, total / 2] {
        until("a part of the pushes", async || world.simulator.accepted().await >= share).await;
        world.kill_worker(0).await;
        assert!(world.simulator.accepted().await < total, "the kill came too late to prove anything");
        world.add_worker().await.unwrap();
    }
    wait::until(LIMIT * 3, "every push", async || world.simulator.accepted().await >= total).await.unwrap();
    world.all_closed().await;

    let mut told = BTreeMap::new();
    for user in USERS {
        let view = world.simulator.view(user).await;
        let raws = view["notifications"].as_object().unwrap().iter();
        told.extend(raws.map(|(id, tally)| (id.clone(), tally["rawsDelivered"].as_u64().unwrap())));
    }
    assert_eq!(told.len() as u64, total, "every notification reached its phone");
    let repeated = told.values().map(|raws| raws - 1).sum::<u64>();
    assert!(repeated <= 2 * BUDGET as u64, "{repeated} pushes repeated by two kills with {BUDGET} in flight");
    assert_eq!(world.dead_count().await.unwrap(), 0);
    world.finish().await;
}

#[tokio::test]
async fn other_commands_work_on_the_same_files_while_it_runs() {
    let world = World::of().on_files().allow("parked").start().await;
    let phone = world.simulator.phone("anna", json!({ "app": APP, "platform": "ios", "receiptsUrl": "" })).await;
    let token = phone["token"].as_str().unwrap();
    let added = world
        .herald(&["subscriptions", "add", "--app", APP, "--user", "anna", "--platform", "ios", "--token", token])
        .await;
    assert_eq!(added.code, Some(0), "{added:?}");
    let listed = world.herald(&["subscriptions", "list", "--app", APP, "--user", "anna"]).await;
    assert!(listed.stdout.contains(added.stdout.trim()), "{listed:?}");

    let send = ["send", "--app", APP, "--user", "anna", "--raw", "{}", "--priority", "High", "--key", "one"];
    assert_eq!(world.herald(&send).await.code, Some(0));
    world.reaches("anna", "one", "accepted").await;
    until("the push", async || world.simulator.count("anna", "rawsDelivered").await == 1).await;

    let broken =
        world.herald(&["send", "--app", "nobody.example", "--user", "anna", "--raw", "{}", "--no-check"]).await;
    assert_eq!(broken.code, Some(0), "{broken:?}");
    until("the dead letter", async || world.dead_count().await.unwrap() == 1).await;
    let dead = world.herald(&["dead", "list"]).await;
    assert!(dead.code == Some(0) && dead.stdout.contains("targetHostName"), "{dead:?}");
    let apps = world.herald(&["apps", "list"]).await;
    assert!(apps.code == Some(0) && apps.stdout.contains(APP), "{apps:?}");
    world.finish().await;
}

/// Changes rows behind everybody's back.
async fn overwrite(world: &World, sql: &str) {
    let python = std::env::var("HERALD_TEST_PYTHON").ok().filter(|path| !path.is_empty());
    let script = "import sqlite3, sys\n\
                  file = sqlite3.connect(sys.argv[1], timeout=20)\n\
                  file.execute(sys.argv[2])\n\
                  file.commit()";
    let status = tokio::process::Command::new(python.as_deref().unwrap_or("/usr/bin/python3"))
        .args(["-c", script])
        .arg(world.files().join("store.db"))
        .arg(sql)
        .status()
        .await
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_row_that_can_not_be_read_holds_up_none_of_its_neighbours() {
    let mut world = World::of().on_files().workers(0).allow("the store refuses a take").start().await;
    for user in USERS {
        world.phone(user, json!({ "platform": "ios", "condition": "forceQuit" })).await;
    }
    // Stored by a process that dies before any is due again; then all are due at once.
    world.add_worker().await.unwrap();
    for user in USERS {
        world.publish(user, &requests::with_fallback(APP, user, 3)).await;
        world.reaches(user, user, "watching").await;
    }
    world.kill_worker(0).await;
    // As failing hardware does.
    overwrite(&world, "UPDATE notifications SET content = 'not JSON' WHERE key = 'ben'").await;
    world.add_worker().await.unwrap();
    for user in ["anna", "carla", "dora"] {
        until(&format!("{user}'s toast"), async || world.simulator.count(user, "toastsShown").await == 1).await;
        world.reaches(user, user, "toasted").await;
    }
    assert_eq!(world.simulator.count("ben", "toastsShown").await, 0);
    until("the refusal to be logged", async || world.logs().join("").contains("the store refuses a take")).await;
    world.finish().await;
}

#[tokio::test]
async fn what_a_killed_worker_held_for_a_pause_that_was_ended_is_pushed_by_the_next() {
    let mut world = World::of().on_files().workers(0).start().await;
    world.phone("anna", json!({ "platform": "ios", "receiptsUrl": "" })).await;
    assert_eq!(world.herald(&["apps", "pause", APP]).await.code, Some(0));
    // One that starts now knows of it from its first look at the store.
    world.add_worker().await.unwrap();
    world.publish("one", &requests::raw(APP, "anna")).await;
    world.reaches("anna", "one", "due").await;
    world.kill_worker(0).await;
    assert_eq!(world.herald(&["apps", "resume", APP]).await.code, Some(0));
    // The last thing that it wrote, after the resume and before it saw it.
    overwrite(&world, "UPDATE deliveries SET next_at = next_at + 3600 * 1000000").await;
    world.add_worker().await.unwrap();
    world.reaches("anna", "one", "accepted").await;
    world.finish().await;
}

#[tokio::test]
async fn a_second_process_on_the_same_files_is_refused_and_told_who_is_there() {
    let world = World::of().on_files().start().await;
    let second = world.herald(&["up"]).await;
    assert_eq!(second.code, Some(69), "{second:?}");
    let pid = world.workers[0].process.pid().expect("it runs").to_string();
    assert!(second.stderr.contains("store.db") && second.stderr.contains(&pid), "{second:?}");
    world.publish("after", &requests::raw(APP, "nobody")).await;
    let app = AppId::new(APP);
    let nobody = herald_core::ids::UserId::new("nobody");
    until("the first to go on", async || world.store().notification_by_key(&app, &nobody, "after").await.unwrap())
        .await;
    world.finish().await;
}

#[tokio::test]
async fn with_the_urls_of_both_servers_it_prepares_and_uses_those() {
    let world = World::of().up().start().await;
    world.phone("anna", json!({ "platform": "ios", "receiptsUrl": "" })).await;
    world.publish("one", &requests::raw(APP, "anna")).await;
    world.reaches("anna", "one", "accepted").await;
    world.finish().await;
}

#[tokio::test]
async fn its_bench_finds_no_server_that_the_environment_names_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = [
        ("HERALD_AMQP_URL", "amqp://guest:guest@127.0.0.1:9/none".to_owned()),
        ("HERALD_DATABASE_URL", "postgres://postgres@127.0.0.1:9/none".to_owned()),
    ];
    let args = ["bench", "raw", "--embedded", "--count", "500", "--users", "10", "--warm-up", "10", "--json"];
    let output = run(&args, &nowhere, folder.path()).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&report["embedded"], &report["herald"]["lost"]), (&json!(true), &json!(0)), "{report}");
    assert!(report["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{report}");
}

#[tokio::test]
async fn without_a_broker_and_without_files_a_command_names_the_variable() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        &["worker"][..],
        &["topology"],
        &["bench", "raw"],
        &["send", "--app", APP, "--user", "anna", "--raw", "{}"],
        &["dead", "list"],
        &["subscriptions", "list", "--app", APP, "--user", "anna"],
    ] {
        let output = run(command, &[], folder.path()).await;
        assert_eq!(output.code, Some(64), "{command:?}: {output:?}");
        let named = ["HERALD_AMQP_URL", "HERALD_DATABASE_URL"].iter().any(|name| output.stderr.contains(name));
        assert!(named, "{command:?}: {output:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "none of them leaves anything");
}
