//! What a person did on one device: the others are told by a state push, a fallback that waits is withdrawn, and what a device
//! fetched costs no toast. By the app's own requests, with its user's token, on servers and on files.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use herald_core::delivery::State;
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::push::Form;
use herald_core::time::Timestamp;
use herald_store::TracedDelivery;
use serde_json::{Value, json};

use crate::events::{QUEUE, subscribe};
use crate::issuer::{AUDIENCE, Issuer, Key};
use crate::requests;
use crate::world::{APP, LIMIT, Setup, World, until};

const ME: &str = "/beta/me/notifications";
/// A toast that comes before the test ends, late enough that what cancels another of the same age is there first.
const TOAST_SECS: u32 = 8;

/// The apps on the devices of users, with tokens of theirs, and the issuer those are from.
struct Apps {
    issuer: Issuer,
    key: Key,
    client: reqwest::Client,
}

impl Apps {
    async fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let key = Key::rsa("r");
        let issuer = Issuer::start_at(Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap()), &[&key]).await;
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        Self { issuer, key, client }
    }

    fn trusted(&self, world: Setup) -> Setup {
        let issuer = format!("[[gateway.issuers]]\nissuer = {:?}\naudiences = [{AUDIENCE:?}]", self.issuer.url);
        world.gateway(&issuer).app("client_ids = [\"service\"]")
    }

    /// What the app on a user's device asks; the status and the body of the answer.
    async fn ask(&self, world: &World, user: &str, device: Unsid, ask: (&str, &str, Option<Value>)) -> (u16, Value) {
        let (method, path, body) = ask;
        let token = self.key.sign(&self.issuer.with("sub", json!(user)));
        let request = self.client.request(method.parse().unwrap(), world.workers[0].url(path));
        let mut request = request.bearer_auth(token).header("X-UNS-ID", device.to_string());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }
}

/// How many of a user's notification's deliveries have a receipt, and how many are watched for one.
async fn received_and_watched(world: &World, user: &str) -> (usize, usize) {
    let app = AppId::new(APP);
    let user = UserId::new(user);
    let Ok(Some(id)) = world.store().notification_by_key(&app, &user, "order").await else { return (0, 0) };
    let Ok(Some(trace)) = world.store().trace(&app, id).await else { return (0, 0) };
    let count = |is: &dyn Fn(&TracedDelivery) -> bool| trace.deliveries.iter().filter(|traced| is(traced)).count();
    // A receipt may come before the record of the push that it is for, or after it.
    (count(&|traced| traced.received_at.is_some()), count(&|traced| traced.delivery.state == State::Watching))
}

/// Anna has two Android phones and an iPad that are awake, and an iPhone that saves power; she reads on one of the first. Bert has
/// an iPhone that saves power, as has carl, who opens the app, which fetches.
async fn one_device_reads_and_the_others_know(world: &World, apps: &Apps) {
    let reader = world.phone_of(APP, "anna", "reader", json!({ "platform": "android" })).await;
    world.phone_of(APP, "anna", "tablet", json!({ "platform": "android" })).await;
    world.phone_of(APP, "anna", "ipad", json!({ "platform": "ios" })).await;
    let saving = json!({ "platform": "ios", "condition": "powerSaving" });
    world.phone_of(APP, "anna", "iphone", saving.clone()).await;
    world.phone("bert", saving.clone()).await;
    let carls = world.phone("carl", saving).await;
    for user in ["anna", "carl", "bert"] {
        world.publish("order", &requests::with_fallback(APP, user, TOAST_SECS)).await;
    }
    until("every raw push", async || {
        received_and_watched(world, "anna").await == (3, 1) && received_and_watched(world, "carl").await == (0, 1)
    })
    .await;

    let (status, list) = apps.ask(world, "anna", reader, ("GET", ME, None)).await;
    assert_eq!((status, &list["value"][0]["payload"]["rawContent"]), (200, &json!("{\"order\":1042}")), "{list}");
    let path = format!("{ME}/{}", list["value"][0]["id"].as_str().unwrap());
    let read = ("PATCH", &*path, Some(json!({ "readState": true, "userActionState": "Activated" })));
    let (status, item) = apps.ask(world, "anna", reader, read).await;
    assert_eq!((status, &item["readState"]), (200, &json!(true)), "{item}");
    let (status, list) = apps.ask(world, "carl", carls, ("GET", ME, None)).await;
    assert_eq!((status, list["value"].as_array().map(Vec::len)), (200, Some(1)), "{list}");
    assert_eq!(received_and_watched(world, "carl").await, (1, 0), "a fetch is a receipt before it is answered");

    for other in ["tablet", "ipad"] {
        until("the state push", async || world.simulator.count(other, "statesDelivered").await == 1).await;
    }
    // The same toast that nothing cancelled is shown: those of anna and carl, which are older, would have been.
    until("the toast of bert", async || world.simulator.count("bert", "toastsShown").await == 1).await;
    for phone in ["iphone", "carl"] {
        assert_eq!(world.simulator.count(phone, "alertsSeen").await, 0, "{phone}");
    }
    world.all_closed().await;
    assert_eq!(world.simulator.count("reader", "statesDelivered").await, 0, "the device that did it knows");
    assert_eq!(world.metric("herald_fallbacks_cancelled_total", "by=\"read\"").await, 1.0);
    assert_eq!(world.metric("herald_fallbacks_cancelled_total", "by=\"receipt\"").await, 2.0);

    // The tablet fetches what it was told of, and deletes it: the others are told once more, and nothing is left.
    let (status, _) = apps.ask(world, "anna", reader, ("DELETE", &path, None)).await;
    assert_eq!(status, 204);
    until("the next state push", async || world.simulator.count("tablet", "statesDelivered").await == 2).await;
    assert_eq!(apps.ask(world, "anna", reader, ("GET", &path, None)).await.0, 404);
    world.all_closed().await;
    assert_eq!(world.simulator.count("reader", "statesDelivered").await, 0);
}

#[tokio::test]
async fn what_one_device_read_is_told_to_the_others_and_costs_no_toast_and_producers_hear_of_no_state_push() {
    let apps = Apps::start().await;
    let world = apps.trusted(World::of().app("events = [\"usual\", \"accepted\"]")).start().await;
    let amqp = world.amqp().await;
    subscribe(&amqp).await;
    one_device_reads_and_the_others_know(&world, &apps).await;
    // The drain publishes what is left in the outbox.
    let mut world = world;
    assert_eq!(world.stop_worker(0, LIMIT).await, Some(0));
    assert_eq!(world.store().stats().await.unwrap().outbox, 0);
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(got) = amqp.get(QUEUE).await.unwrap() {
        *told.entry(got.routing_key.split('.').next().unwrap().to_owned()).or_default() += 1;
    }
    // A raw push is acknowledged before or after its acceptance is recorded: of Android's one of both is told; of the iPad's the
    // receipt, and perhaps the acceptance; of the three iPhones' the acceptance, of carl's the receipt too.
    let received_or_accepted = told.remove("received").unwrap_or(0) + told.remove("accepted").unwrap_or(0);
    assert!((7..=8).contains(&received_or_accepted), "{received_or_accepted}");
    let expected = [("deferred", 1), ("toasted", 1), ("withdrawn", 1)];
    assert_eq!(told, expected.map(|(name, count)| (name.to_owned(), count)).into());
    world.finish().await;
}

#[tokio::test]
async fn what_one_device_read_is_told_to_the_others_by_one_process_on_files_too() {
    let apps = Apps::start().await;
    let world = apps.trusted(World::of().on_files()).start().await;
    one_device_reads_and_the_others_know(&world, &apps).await;
    world.finish().await;
}

#[tokio::test]
async fn a_state_push_takes_no_alert_from_a_phone_that_can_not_be_reached() {
    let apps = Apps::start().await;
    let world = apps.trusted(World::of()).start().await;
    world.phone_of(APP, "dora", "iphone", json!({ "platform": "ios", "condition": "offline" })).await;
    let tablet = world.phone_of(APP, "dora", "tablet", json!({ "platform": "android" })).await;
    world.publish("first", &requests::raw(APP, "dora")).await;
    until("the first", async || world.simulator.count("tablet", "rawsDelivered").await == 1).await;
    world.all_closed().await;
    let mut alert = requests::raw(APP, "dora");
    alert["payload"] = json!({ "visualContent": { "title": "Order shipped" } });
    world.publish("second", &alert).await;
    until("the alert", async || world.simulator.count("tablet", "alertsSeen").await == 1).await;
    world.all_closed().await;

    let (_, list) = apps.ask(&world, "dora", tablet, ("GET", ME, None)).await;
    let first = list["value"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
    let read = json!({ "readState": true });
    assert_eq!(apps.ask(&world, "dora", tablet, ("PATCH", &format!("{ME}/{first}"), Some(read))).await.0, 200);
    let id = NotificationId(first.parse().unwrap());
    until("the state push to be handed over", async || {
        let trace = world.store().trace(&AppId::new(APP), id).await.ok().flatten();
        let accepted =
            |traced: &TracedDelivery| traced.delivery.form == Form::State && traced.delivery.state == State::Accepted;
        trace.is_some_and(|trace| trace.deliveries.iter().any(accepted))
    })
    .await;
    // Reached again, it shows the alert that waited for it.
    world.simulator.change("iphone", json!({ "condition": "awake" })).await;
    until("the alert", async || world.simulator.count("iphone", "alertsSeen").await == 1).await;
    world.finish().await;
}
