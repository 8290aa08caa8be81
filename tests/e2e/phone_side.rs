//! The phone's side, from the subscription to the state push: the app on each phone is the client in TypeScript, the phone's
//! system and its providers are simulated, and the trace tells all of it afterwards.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use herald_core::time::Timestamp;
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, Issuer, Key};
use crate::lines::ByLines;
use crate::requests;
use crate::simulator::Push;
use crate::typescript::npm;
use crate::world::{APP, LIMIT, World, until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/e2e/phone.mjs");
/// The client that gets the tokens of app and person.
const CLIENT: &str = "service";
/// A fallback that is cancelled, late enough that a slow machine has fetched by then.
const TOAST_SECS: u32 = 5;

/// The app on one phone.
struct App {
    name: &'static str,
    process: ByLines,
}

impl App {
    /// Installs it on a phone of anna's, whose system shows what is visible and leaves the rest to this app; signs in, and
    /// subscribes.
    async fn installed(world: &World, built: &Path, token: &str, name: &'static str, platform: &str) -> (Self, String) {
        let spec = json!({ "app": APP, "platform": platform, "condition": "awake", "receiptsUrl": "" });
        let phone = world.simulator.phone(name, spec).await;
        let mut process = ByLines::node(Path::new(SCRIPT), built, &[]);
        let package = built.join("dist/src/index.js");
        process.ask(&json!({ "package": package, "baseUrl": world.workers[0].url(""), "token": token })).await;
        let mut app = Self { name, process };
        let device =
            json!({ "platform": platform, "pushToken": phone["token"], "deviceState": { "alertsAllowed": true } });
        let subscription = app.done("subscribe", json!([device])).await;
        (app, subscription["userNotificationSubscriptionId"].as_str().unwrap().to_owned())
    }

    /// What a method of the client gave.
    async fn done(&mut self, method: &str, with: Value) -> Value {
        let answer = self.process.ask(&json!({ "do": method, "with": with })).await;
        answer.get("done").unwrap_or_else(|| panic!("{} could not {method}: {answer}", self.name)).clone()
    }

    /// The newest push of this form that came to the phone, as the app reads it.
    async fn push(&mut self, world: &World, form: &str, count: usize) -> Value {
        let name = self.name;
        let push = until(&format!("{count} × {form} at {name}"), async || {
            let mut pushes = world.simulator.pushes_to(name).await.into_iter().filter(Push::accepted);
            pushes.by_ref().filter(|push| push.form == form).nth(count - 1)
        })
        .await;
        // APNs hands the whole body to the app, FCM its data.
        let payload = if push.body["message"].is_null() { push.body } else { push.body["message"]["data"].clone() };
        self.done("parsePush", json!([payload])).await
    }
}

/// The app's service.
struct Service {
    client: reqwest::Client,
    token: String,
}

impl Service {
    /// Posts an order to the user of a subscription; the notification's id.
    async fn post(&self, world: &World, unsid: &str, order: &str, fallback_secs: u32) -> String {
        let mut body = requests::with_fallback(APP, "nobody", fallback_secs);
        body.as_object_mut().unwrap().remove("target");
        body["appNotificationId"] = order.into();
        let post = self.client.post(world.workers[0].url("/beta/me/notifications")).bearer_auth(&self.token);
        let post = post.header("X-UNS-ID", unsid).header("content-type", "application/json").body(body.to_string());
        let answer = post.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// The deliveries of its trace as (platform, state, forms pushed), and the trace.
    async fn trace(&self, world: &World, id: &str) -> (Vec<(String, String, Vec<String>)>, Value) {
        let get = self.client.get(world.workers[0].url(&format!("/v1/notifications/{id}/trace")));
        let trace: Value = get.bearer_auth(&self.token).send().await.unwrap().json().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = |delivery: &Value| {
            let attempts =
                delivery["attempts"].as_array().unwrap().iter().map(|attempt| text(&attempt["form"])).collect();
            (text(&delivery["subscription"]["platform"]), text(&delivery["state"]), attempts)
        };
        let mut deliveries: Vec<_> = trace["deliveries"].as_array().unwrap().iter().map(told).collect();
        deliveries.sort();
        (deliveries, trace)
    }
}

fn delivery(platform: &str, state: &str, forms: &[&str]) -> (String, String, Vec<String>) {
    (platform.to_owned(), state.to_owned(), forms.iter().map(|form| (*form).to_owned()).collect())
}

/// Fetched by the app: no toast. Returns where the iPhone's changes go on from.
async fn fetched(world: &World, service: &Service, iphone: &mut App, unsid: &str) -> (String, Value) {
    let id = service.post(world, unsid, "order-1", TOAST_SECS).await;
    let push = iphone.push(world, "raw", 1).await;
    assert_eq!((&push["notificationId"], &push["appNotificationId"]), (&json!(id), &json!("order-1")));
    let item = iphone.done("get", json!([id])).await;
    assert_eq!(item["payload"]["rawContent"], "{\"order\":1042}");
    assert_eq!(iphone.done("look", json!([push])).await, "new");
    assert_eq!(iphone.done("look", json!([item_of(&item)])).await, "known", "by whichever way it comes");
    let (deliveries, trace) = service.trace(world, &id).await;
    assert_eq!(deliveries, [delivery("ios", "received", &["raw"])], "{trace}");
    let changes = iphone.done("delta", json!([])).await;
    assert_eq!(changes["changed"].as_array().map(Vec::len), Some(1), "{changes}");
    (id, changes["deltaLink"].clone())
}

/// What an item has of a push.
fn item_of(item: &Value) -> Value {
    json!({ "notificationId": item["id"], "appNotificationId": item["appNotificationId"] })
}

#[tokio::test]
async fn a_fetch_spares_the_toast_and_what_one_phone_dismisses_leaves_the_other() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let key = Key::rsa("r");
    let issuer = Issuer::start_at(Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap()), &[&key]).await;
    let trusted = format!("[[gateway.issuers]]\nissuer = {:?}\naudiences = [{AUDIENCE:?}]", issuer.url);
    let world = World::of().gateway(&trusted).app(&format!("client_ids = [{CLIENT:?}]")).start().await;
    let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
    let service = Service { client, token: key.sign(&issuer.app_claims(CLIENT)) };
    let anna = key.sign(&issuer.claims());
    let package = npm("build").await;

    let (mut iphone, unsid) = App::installed(&world, package.path(), &anna, "iphone", "ios").await;
    let (first, link) = fetched(&world, &service, &mut iphone, &unsid).await;

    // Nobody opens the second one on the iPhone.
    let (mut android, of_android) = App::installed(&world, package.path(), &anna, "android", "android").await;
    assert_ne!(of_android, unsid);
    let second = service.post(&world, &unsid, "order-2", TOAST_SECS).await;
    let raw = android.push(&world, "raw", 1).await;
    assert_eq!(raw["notificationId"], json!(second));
    let told = android.done("acknowledge", json!([[raw]])).await;
    assert!(told == json!(["received"]) || told == json!(["late"]), "FCM's acceptance may be recorded first: {told}");
    let toast = iphone.push(&world, "toast", 1).await;
    assert_eq!((&toast["notificationId"], &toast["content"]), (&json!(second), &json!("{\"order\":1042}")));
    until("the toast on the screen", async || world.simulator.count("iphone", "toastsShown").await == 1).await;
    // The person swipes it away on the Android phone: the iPhone is told, and asks what changed.
    let item = android.done("dismiss", json!([second])).await;
    assert_eq!(item["userActionState"], "Dismissed");
    let state = iphone.push(&world, "state", 1).await;
    assert_eq!((&state["notificationId"], &state["fetch"]), (&json!(second), &json!(true)));
    let changes = iphone.done("delta", json!([link])).await;
    let changed: Vec<_> = changes["changed"].as_array().unwrap().iter().filter(|item| item["id"] == second).collect();
    assert_eq!(changed.len(), 1, "{changes}");
    assert_eq!((&changed[0]["userActionState"], &changes["complete"]), (&json!("Dismissed"), &json!(false)));
    world.all_closed().await;

    // Of the first, whose deadline is past by now, no toast came; and the phone that dismissed was told nothing.
    assert_eq!(world.simulator.count("iphone", "toastsShown").await, 1);
    assert!(world.simulator.pushes_to("android").await.iter().all(|push| push.form != "state"));
    let (deliveries, trace) = service.trace(&world, &second).await;
    let android_state = deliveries[0].1.clone();
    let expected = [
        delivery("android", &android_state, &["raw"]),
        delivery("ios", "accepted", &["state"]),
        delivery("ios", "toasted", &["raw", "toast"]),
    ];
    assert_eq!(deliveries, expected, "{trace}");
    assert!(["received", "accepted"].contains(&android_state.as_str()), "{trace}");
    assert_eq!(service.trace(&world, &first).await.0, [delivery("ios", "received", &["raw"])]);
    world.finish().await;
}
