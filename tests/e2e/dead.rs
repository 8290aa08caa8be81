//! `herald dead`: what was parked is looked at, replayed and discarded, on servers and on files.

use std::collections::BTreeMap;

use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use herald_harness::amqp::{self, properties};
use herald_store::DeadLetter;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::requests;
use crate::world::{APP, LIMIT, OTHER, Output, Setup, World, login, until};

/// What a request of these tests holds, and nothing but `show --body` may tell.
const CONTENT: &str = "1042";

async fn dead(world: &World, args: &[&str]) -> Output {
    world.herald(&[&["dead"], args].concat()).await
}

async fn done(world: &World, args: &[&str]) -> String {
    let output = dead(world, args).await;
    assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
    output.stdout
}

async fn letters(world: &World, args: &[&str]) -> Vec<Value> {
    let shown = done(world, &[&["list", "--json"], args].concat()).await;
    let shown: Value = serde_json::from_str(&shown).unwrap_or_else(|_| panic!("{shown}"));
    shown["latest"].as_array().unwrap().clone()
}

/// The configuration without the second app.
fn without_other(world: &World) -> std::path::PathBuf {
    let whole = std::fs::read_to_string(world.config()).unwrap();
    let (first, _) = whole.split_once(&format!("[apps.\"{OTHER}\"]")).unwrap();
    let file = world.config().with_file_name("one-app.toml");
    std::fs::write(&file, first).unwrap();
    file
}

/// Publishes as the producer of the second app: on a broker under its login.
async fn publish_for_other(world: &World, key: &str, body: &Value) {
    let Some(url) = world.producers.get(1) else { return world.publish(key, body).await };
    let producer = amqp::connect(url).await.unwrap();
    let own = properties(key).with_user_id(login(url).as_str().into());
    producer.publish("herald.requests", "high", own, body.to_string().as_bytes()).await.unwrap();
    producer.close().await.unwrap();
}

#[tokio::test]
async fn what_was_parked_for_an_unknown_app_is_delivered_once_after_the_app_is_added() {
    delivered_after_the_app_is_added(World::of()).await;
}

#[tokio::test]
async fn on_files_too_what_was_parked_for_an_unknown_app_is_delivered_once() {
    delivered_after_the_app_is_added(World::of().on_files()).await;
}

async fn delivered_after_the_app_is_added(setup: Setup) {
    let mut world = setup.two_apps().workers(0).allow("parked").start().await;
    let whole = world.config().to_owned();
    world.configure(without_other(&world));
    world.add_worker().await.unwrap();
    world.phone_of(OTHER, "anna", "anna", json!({ "platform": "ios", "receiptsUrl": "" })).await;
    publish_for_other(&world, "order", &requests::raw(OTHER, "anna")).await;
    until("the dead letter", async || world.dead_count().await.is_ok_and(|count| count == 1)).await;

    let found = letters(&world, &["--app", "-", "--reason", "invalid_request", "--since", "1h"]).await;
    let id = found[0]["id"].as_str().unwrap();
    assert_eq!((&found[0]["field"], &found[0]["messageId"]), (&json!("targetHostName"), &json!("order")));
    let kept = world.store().dead_letter(id.parse().unwrap()).await.unwrap().unwrap();
    for args in [&["list"][..], &["show", id], &["show", id, "--json"], &["replay", "--all", "--dry-run"]] {
        assert!(!done(&world, args).await.contains(CONTENT), "{args:?} tells content");
    }
    assert!(done(&world, &["show", id, "--body"]).await.contains(CONTENT));
    assert_eq!(world.store().dead_letter(kept.id).await.unwrap(), Some(kept.clone()), "a dry run changed something");

    assert_eq!(world.stop_worker(0, LIMIT).await, Some(0));
    world.configure(whole);
    world.add_worker().await.unwrap();
    // The commands go by the login that owns the vhost, which may publish for neither app.
    let replayed = done(&world, &["replay", id]).await;
    assert!(replayed.contains("1 published again, 1 removed"), "{replayed}");
    let to = if world.producers.is_empty() { "herald.requests.high" } else { "herald.suspect" };
    assert!(replayed.contains(to), "{replayed}");
    until("the push", async || world.simulator.count("anna", "rawsDelivered").await == 1).await;
    assert_eq!(world.dead_count().await.unwrap(), 0);

    // As if the process had died between publishing and removing: the letter is replayed once more.
    world.store().dead_insert(&[kept], &[]).await.unwrap();
    done(&world, &["replay", "--reason", "invalid_request"]).await;
    publish_for_other(&world, "last", &requests::raw(OTHER, "anna")).await;
    until("the next push", async || world.simulator.count("anna", "rawsDelivered").await == 2).await;
    nothing_waits(&world).await;
    assert_eq!(world.simulator.pushes().await.len(), 2, "the replay was pushed once");
    assert_eq!(world.dead_count().await.unwrap(), 0);
    assert!(!world.logs().join("\n").contains(CONTENT), "a log tells content");
    world.finish().await;
}

/// Everything that was published has been taken in, by the lane or alone.
async fn nothing_waits(world: &World) {
    if world.producers.is_empty() {
        return until("the duplicate to be counted", async || {
            world.metric("herald_requests_total", "result=\"duplicate\"").await == 1.0
        })
        .await;
    }
    // A child process counts for itself: wait until the suspect is acked.
    let queue = herald_queue::Queue::open(herald_queue::Config::new(world.amqp_url())).unwrap();
    let log = |world: &World| world.logs().join("\n").matches("a suspect is done alone").count();
    until("the second suspect to be done", async || {
        log(world) == 2 && queue.depth(herald_queue::Source::Suspect).await.is_ok_and(|ready| ready == 0)
    })
    .await;
    queue.close().await;
}

#[tokio::test]
async fn a_replay_vouches_for_the_login_that_published_and_for_no_other() {
    let world = World::of().two_apps().allow("parked").start().await;
    world.phone("anna", json!({ "platform": "ios" })).await;
    // The second app's producer speaks for the first app.
    publish_for_other(&world, "foreign", &requests::raw(APP, "anna")).await;
    until("the dead letter", async || world.dead_count().await.is_ok_and(|count| count == 1)).await;
    let first = world.dead_letters().await.remove(0);
    assert_eq!((first.field.as_str(), first.app.as_ref().map(AppId::as_str)), ("user_id", Some(APP)));
    let replayed = done(&world, &["replay", "--app", APP]).await;
    assert!(replayed.contains("1 published again"), "{replayed}");
    let again = until("it to be parked again, with its reason, and to stay", async || {
        let letter = world.store().dead_letter(first.id).await.ok()??;
        (letter.parked_at > first.parked_at).then_some(letter)
    })
    .await;
    assert_eq!((&again.field, &again.headers, &again.body), (&first.field, &first.headers, &first.body));
    assert!(again.headers.contains(&login(&world.producers[1])), "{}", again.headers);
    assert!(world.simulator.pushes().await.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_replayed_message_has_what_its_producer_gave_it_and_nothing_of_the_brokers() {
    let mut world = World::of().allow("parked").start().await;
    let amqp = world.amqp().await;
    let mut headers = FieldTable::default();
    let entries = [
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-own", "kept"),
        ("x-death", "forged"),
        ("x-first-death-queue", "herald.receipts"),
        ("x-herald-user-id", "somebody"),
    ];
    for (name, value) in entries {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let sent = properties("odd")
        .with_type("herald.notification.v9".into())
        .with_correlation_id("c".into())
        .with_app_id("shop".into())
        .with_timestamp(1_700_000_000)
        .with_headers(headers);
    let body = requests::raw(APP, "anna").to_string();
    amqp.publish("herald.requests", "low", sent, body.as_bytes()).await.unwrap();
    until("the dead letter", async || world.dead_count().await.is_ok_and(|count| count == 1)).await;
    assert_eq!(world.stop_worker(0, LIMIT).await, Some(0));
    let id = world.dead_letters().await[0].id.to_string();
    let shown = done(&world, &["show", &id]).await;
    assert!(shown.contains("x-own: kept") && shown.contains("herald.notification.v9"), "{shown}");
    done(&world, &["replay", &id, "--message-id", "mended"]).await;

    let got = amqp.get("herald.requests.low").await.unwrap().expect("it is back in its lane");
    assert_eq!(got.body, body.as_bytes());
    // The broker counts the deliveries of this message in a header of its own.
    let headers = got.properties.headers().clone().unwrap_or_default();
    let published = headers.inner().iter().filter(|(name, _)| name.as_str() != "x-delivery-count");
    let published: FieldTable =
        published.map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>().into();
    let got = got.properties.with_headers(published);
    let mut kept = FieldTable::default();
    for (name, value) in &entries[..2] {
        kept.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    let expected = properties("mended")
        .with_type("herald.notification.v9".into())
        .with_correlation_id("c".into())
        .with_app_id("shop".into())
        .with_timestamp(1_700_000_000)
        .with_headers(kept);
    assert_eq!(got, expected);
    assert_eq!(world.dead_count().await.unwrap(), 0);
    world.finish().await;
}

fn letter(n: u128, queue: &str, reason: &str, app: Option<&str>) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(n),
        source_queue: queue.to_owned(),
        reason_code: reason.to_owned(),
        field: String::new(),
        problem: "it is one of a test".to_owned(),
        fix: "nothing".to_owned(),
        app: app.map(AppId::new),
        message_id: Some(format!("m{n}")),
        headers: json!({ "message_id": format!("m{n}") }).to_string(),
        body: requests::raw(APP, "anna").to_string().into_bytes(),
        parked_at: Timestamp::from_secs(1_700_000_000 + i64::try_from(n).unwrap()),
    }
}

#[tokio::test]
async fn filters_choose_a_dry_run_changes_nothing_and_what_is_discarded_is_gone() {
    filters_choose(World::of().workers(0)).await;
}

#[tokio::test]
async fn on_files_without_a_worker_filters_choose_and_what_is_discarded_is_gone() {
    let mut world = World::of().on_files().start().await;
    assert_eq!(world.stop_worker(0, LIMIT).await, Some(0));
    filters_choose_in(world).await;
}

async fn filters_choose(setup: Setup) {
    filters_choose_in(setup.start().await).await;
}

async fn filters_choose_in(mut world: World) {
    let (high, low) = ("herald.requests.high", "herald.requests.low");
    let all = [
        letter(1, high, "invalid_request", Some(APP)),
        letter(2, high, "poison", Some(APP)),
        letter(3, low, "invalid_request", None),
        letter(4, "herald.dispatch.high", "bad_hint", None),
        letter(5, "herald.receipts", "invalid_receipts", None),
        letter(6, low, "unknown_target", Some(OTHER)),
    ];
    world.store().dead_insert(&all, &[]).await.unwrap();
    let check = async |args: &[&str], expected: &[u128]| {
        let listed = letters(&world, args).await;
        let ids: Vec<u128> =
            listed.iter().map(|it| it["id"].as_str().unwrap().parse::<Uuid>().unwrap().as_u128()).collect();
        assert_eq!(ids, expected, "{args:?}");
    };
    let (two, four) = (Uuid::from_u128(2).to_string(), Uuid::from_u128(4).to_string());
    check(&[], &[6, 5, 4, 3, 2, 1]).await;
    check(&["--limit", "2"], &[6, 5]).await;
    check(&["--limit", "2", "--after", &four], &[3, 2]).await;
    check(&["--app", "-"], &[5, 4, 3]).await;
    check(&["--app", APP, "--reason", "poison"], &[2]).await;
    check(&["--queue", low], &[6, 3]).await;
    check(&["--since", "2023-11-14T22:13:25Z"], &[6, 5]).await;
    check(&["--since", "1h"], &[]).await;
    check(&[&two], &[2]).await;

    let before = world.dead_letters().await;
    let would = done(&world, &["replay", "--all", "--dry-run"]).await;
    for told in ["would publish 5 again", "1 to herald.suspect, where each is done alone", "not replayed: 1; a hint"] {
        assert!(would.contains(told), "{told}: {would}");
    }
    let would = done(&world, &["discard", "--app", "-", "--dry-run"]).await;
    assert!(would.contains("would discard 3") && would.contains("bad_hint"), "{would}");
    assert_eq!(world.dead_letters().await, before, "a dry run changed something");

    for args in [&["replay"][..], &["discard"], &["discard", "--dry-run"], &["replay", &two, "--app", APP]] {
        let refused = dead(&world, args).await;
        assert_eq!(refused.code, Some(64), "{args:?}: {refused:?}");
        assert!(refused.stderr.contains("--app"), "{args:?}: {refused:?}");
    }
    let nobody = Uuid::from_u128(77).to_string();
    for args in [&["replay", &two, &nobody][..], &["discard", &two, &nobody], &["show", &nobody], &["list", &nobody]] {
        let refused = dead(&world, args).await;
        assert_eq!(refused.code, Some(1), "{args:?}: {refused:?}");
        assert!(refused.stderr.contains(&nobody), "{args:?}: {refused:?}");
    }
    let hint = dead(&world, &["replay", &four]).await;
    assert!(hint.code == Some(1) && hint.stdout.contains("discard it"), "{hint:?}");
    assert_eq!(world.dead_letters().await, before, "what was refused changed something");

    let discarded = done(&world, &["discard", "--app", "-"]).await;
    assert!(discarded.contains("3 discarded"), "{discarded}");
    check(&[], &[6, 2, 1]).await;
    // What waits on the queue, poison too, is done as soon as a worker is there.
    done(&world, &["replay", &two, &Uuid::from_u128(1).to_string()]).await;
    check(&[], &[6]).await;
    world.phone("anna", json!({ "platform": "ios", "receiptsUrl": "" })).await;
    world.add_worker().await.unwrap();
    until("both pushes", async || world.simulator.count("anna", "rawsDelivered").await == 2).await;
    world.finish().await;
}
