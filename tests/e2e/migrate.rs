//! `herald migrate`: what `herald up` began on files is ended by workers on a broker and a PostgreSQL.

use std::path::PathBuf;

use herald_core::ids::AppId;
use serde_json::{Value, json};

use crate::requests;
use crate::world::{APP, Output, World, run, until};

/// Pushes in flight at once, and so what the kill may repeat.
const BUDGET: usize = 20;
/// Notifications that are under way when the worker is killed.
const UNDER_WAY: u64 = 300;
/// Requests that come when no worker runs.
const LATE: usize = 25;

/// A world on files and one with servers, of the same apps, phones and keys.
async fn both() -> (World, World) {
    let files = World::of()
        .on_files()
        .worker(&format!("budget = {BUDGET}\nlease_secs = 5\nattempt_timeout_secs = 2"))
        .start()
        .await;
    let mut servers = World::of().workers(0).allow("parked").start().await;
    servers.configure(files.simulator.folder().join("herald.toml"));
    (files, servers)
}

async fn migrate(files: &World, servers: &World, further: &[&str]) -> Output {
    let from = files.files().to_str().unwrap();
    servers.herald(&[&["migrate", "--from", from], further].concat()).await
}

async fn migrated(files: &World, servers: &World) -> Value {
    let output = migrate(files, servers, &["--json"]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[tokio::test]
async fn what_a_killed_process_left_on_files_is_ended_by_a_worker_on_servers() {
    let (mut files, mut servers) = both().await;
    // No receipts: they would close what is in flight.
    files.phone("anna", json!({ "platform": "ios", "receiptsUrl": "" })).await;
    files.phone("ben", json!({ "platform": "ios", "condition": "powerSaving" })).await;
    files.publish("watched", &requests::with_fallback(APP, "ben", 20)).await;
    files.reaches("ben", "watched", "watching").await;
    files.simulator.set(json!({ "delayMs": 500 })).await;
    let count = UNDER_WAY.to_string();
    let sent = files.herald(&["send", "--app", APP, "--user", "anna", "--raw", "{}", "--count", &count]).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let refused = migrate(&files, &servers, &[]).await;
    let pid = files.workers[0].process.pid().expect("it runs").to_string();
    assert!(refused.code == Some(69) && refused.stderr.contains(&pid), "{refused:?}");
    until("a part of the pushes, and others in flight", async || {
        let app = AppId::new(APP);
        files.simulator.accepted().await >= UNDER_WAY / 4 && files.store().open_count(&app).await.unwrap() >= 5
    })
    .await;
    files.kill_worker(0).await;
    assert!(files.simulator.accepted().await < UNDER_WAY, "the kill came too late to prove anything");
    for n in 0..LATE {
        files.publish(&format!("late-{n}"), &requests::raw(APP, "anna")).await;
    }

    let counted = migrate(&files, &servers, &["--dry-run"]).await;
    assert!(counted.code == Some(0) && counted.stdout.contains("to be moved"), "{counted:?}");
    let moved = migrated(&files, &servers).await;
    let deliveries = &moved["store"]["deliveries"];
    assert!(
        deliveries["files"].as_u64() > Some(UNDER_WAY / 4) && deliveries["files"] == deliveries["database"],
        "{moved}"
    );
    assert!(moved["openDeliveries"]["files"].as_u64() >= Some(5), "{moved}");
    assert_eq!(moved["openDeliveries"]["files"], moved["openDeliveries"]["openThere"], "{moved}");
    let waiting = &moved["queue"]["herald.requests.high"];
    assert!(waiting["files"].as_u64() >= Some(LATE as u64) && waiting["moved"] == waiting["files"], "{moved}");
    assert_eq!((&waiting["left"], &waiting["broker"]), (&json!(0), &waiting["moved"]), "{moved}");

    let up = files.herald(&["up"]).await;
    assert!(up.code == Some(69) && up.stderr.contains("was moved to PostgreSQL on"), "{up:?}");
    assert!(up.stderr.contains("HERALD_AMQP_URL") && up.stderr.contains("HERALD_DATABASE_URL"), "{up:?}");
    let again = migrated(&files, &servers).await;
    assert_eq!(
        (&again["store"]["deliveries"]["moved"], &again["queue"]["herald.requests.high"]["files"]),
        (&json!(0), &json!(0))
    );

    files.simulator.set(json!({ "delayMs": 0 })).await;
    let receipts = servers.add_worker().await.unwrap().url("/v1/receipts");
    files.simulator.set(json!({ "receiptsUrl": receipts })).await;
    servers.reaches("ben", "watched", "toasted").await;
    let total = UNDER_WAY + LATE as u64;
    until("every notification to reach the phone", async || raws(&files).await.len() as u64 == total).await;
    servers.all_closed().await;
    let repeated = raws(&files).await.iter().map(|raws| raws - 1).sum::<u64>();
    assert!(repeated <= BUDGET as u64, "{repeated} pushes repeated by one kill with {BUDGET} in flight");
    assert_eq!(files.simulator.count("ben", "toastsShown").await, 1);
    assert_eq!(servers.dead_count().await.unwrap(), 0);
    // With a worker at it, the counts still agree.
    assert_eq!(migrated(&files, &servers).await["openDeliveries"]["openThere"], 0);
    servers.finish().await;
    files.finish().await;
}

/// How often each notification reached the phone.
async fn raws(files: &World) -> Vec<u64> {
    let view = files.simulator.view("anna").await;
    let tallies = view["notifications"].as_object().into_iter().flat_map(serde_json::Map::values);
    tallies.map(|tally| tally["rawsDelivered"].as_u64().unwrap()).filter(|raws| *raws > 0).collect()
}

#[tokio::test]
async fn dead_letters_and_what_no_producer_of_ours_sends_are_moved_as_they_were() {
    use herald_queue::{Exchange, Outgoing, Queue};

    let (mut files, mut servers) = both().await;
    files.phone("anna", json!({ "platform": "ios" })).await;
    assert_eq!(files.stop_worker(0, crate::world::LIMIT).await, Some(0));
    let queue = Queue::open_file(&files.files().join("queue.db")).await.unwrap();
    let body = requests::raw(APP, "anna").to_string();
    let odd = Outgoing {
        message_id: Some("odd".to_owned()),
        content_type: "text/plain",
        headers: vec![("x-mine".to_owned(), "kept".to_owned())],
        ..Outgoing::json(Exchange::Requests, "low", body.clone())
    };
    let by_pair = json!({ "receipts": [] }).to_string();
    for outgoing in
        [odd, Outgoing::json(Exchange::Receipts, "receipt", by_pair), Outgoing::json(Exchange::Dead, "parked", body)]
    {
        queue.publisher().publish(outgoing).await.unwrap();
    }
    queue.close().await;
    let moved = migrated(&files, &servers).await;
    for name in ["herald.requests.low", "herald.receipts", "herald.parked"] {
        assert_eq!((&moved["queue"][name]["moved"], &moved["queue"][name]["left"]), (&json!(1), &json!(0)), "{name}");
    }
    servers.add_worker().await.unwrap();
    until("both dead letters", async || servers.dead_count().await.unwrap() == 2).await;
    let letters = servers.dead_letters().await;
    let odd = letters.iter().find(|letter| letter.message_id.as_deref() == Some("odd")).unwrap();
    assert_eq!((odd.field.as_str(), odd.source_queue.as_str()), ("content_type", "herald.requests.low"));
    assert!(odd.headers.contains("x-mine"), "{}", odd.headers);
    assert!(letters.iter().any(|letter| letter.reason_code == "delivery_limit"));
    servers.finish().await;
    files.finish().await;
}

#[tokio::test]
async fn a_move_without_both_servers_or_without_files_says_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let missing = PathBuf::from("nowhere");
    let output = run(&["migrate", "--from", missing.to_str().unwrap()], &[], folder.path()).await;
    assert_eq!(output.code, Some(64), "{output:?}");
    for named in ["HERALD_AMQP_URL", "HERALD_DATABASE_URL", "--from", "store.db"] {
        assert!(output.stderr.contains(named), "{named}: {output:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");
}
