//! Posts over HTTP, as services that used Microsoft Graph send them: from the token to the phone, by a worker's own port and
//! by `herald gateway`, with the broker and without.

use std::time::{SystemTime, UNIX_EPOCH};

use herald_core::ids::Unsid;
use herald_core::time::Timestamp;
use herald_harness::PrivateRabbit;
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, Issuer, Key};
use crate::requests;
use crate::world::{APP, LIMIT, Setup, Worker, World, until};

/// A service with a token, and the issuer it is from.
struct Service {
    issuer: Issuer,
    token: String,
    client: reqwest::Client,
}

impl Service {
    async fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let key = Key::rsa("r");
        let issuer = Issuer::start_at(Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap()), &[&key]).await;
        let token = key.sign(&issuer.app_claims("mail-service"));
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        Self { issuer, token, client }
    }

    /// A world that takes its tokens.
    fn trusted(&self, world: Setup) -> Setup {
        let issuer = format!("[[gateway.issuers]]\nissuer = {:?}\naudiences = [{AUDIENCE:?}]", self.issuer.url);
        world.gateway(&issuer).app("client_ids = [\"mail-service\"]")
    }

    /// The status and the body of the answer; `unsid` as its header.
    async fn post(&self, to: &Worker, unsid: Unsid, key: Option<&str>, body: &Value) -> (u16, Value) {
        let mut post = self.client.post(to.url("/beta/me/notifications")).bearer_auth(&self.token);
        post = post.header("X-UNS-ID", unsid.to_string()).header("content-type", "application/json");
        if let Some(key) = key {
            post = post.header("Idempotency-Key", key);
        }
        let answer = post.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

/// Raw content with a toast after so long; whom it is for, the header says.
fn order(fallback_secs: u32) -> Value {
    let mut body = requests::with_fallback(APP, "nobody", fallback_secs);
    body.as_object_mut().unwrap().remove("target");
    body
}

/// A phone that is awake gets the raw push and its receipt ends it; one that saves power gets the toast.
async fn both_are_told(world: &World, service: &Service, gateway: &Worker) {
    for (user, condition, secs, ends) in [("anna", "awake", 60, "received"), ("bert", "powerSaving", 2, "toasted")] {
        let unsid = world.phone(user, json!({ "platform": "ios", "condition": condition })).await;
        let (status, first) = service.post(gateway, unsid, Some("order"), &order(secs)).await;
        assert_eq!(status, 201, "{first}");
        let (status, again) = service.post(gateway, unsid, Some("order"), &order(secs)).await;
        assert_eq!((status, &again["id"]), (201, &first["id"]));
        world.reaches(user, "order", ends).await;
    }
    let mut seen = Vec::new();
    for user in ["anna", "bert"] {
        let view = world.simulator.view(user).await;
        seen.push((view["rawsDelivered"].as_u64(), view["toastsShown"].as_u64()));
    }
    assert_eq!(seen, [(Some(1), Some(0)), (Some(0), Some(1))], "raws and toasts of the one awake, and of the other");
    world.all_closed().await;
}

#[tokio::test]
async fn what_a_service_posts_reaches_the_phone_once_and_the_receipt_ends_it() {
    let service = Service::start().await;
    let world = service.trusted(World::of()).start().await;
    both_are_told(&world, &service, &world.workers[0]).await;
    assert_eq!(world.metric("herald_requests_total", "result=\"stored\"").await, 2.0);
    assert_eq!(world.metric("herald_requests_total", "result=\"duplicate\"").await, 2.0);
    world.finish().await;
}

#[tokio::test]
async fn what_a_service_posts_to_one_process_on_files_reaches_the_phone_too() {
    let service = Service::start().await;
    let world = service.trusted(World::of().on_files()).start().await;
    both_are_told(&world, &service, &world.workers[0]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_broker_that_is_killed_stops_no_post_and_no_push() {
    let service = Service::start().await;
    let mut rabbit = PrivateRabbit::start().await.unwrap();
    rabbit.add_vhost("herald").await.unwrap();
    let setup = World::of().allow("herald_queue").allow("hints were not confirmed").broker(rabbit.url("herald"));
    let world = service.trusted(setup).start().await;
    rabbit.settle().await.unwrap();
    rabbit.kill9().await.unwrap();
    both_are_told(&world, &service, &world.workers[0]).await;
    rabbit.start_again().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_gateway_alone_takes_posts_for_workers_that_come_later_and_hints_at_them() {
    let service = Service::start().await;
    let mut world = service.trusted(World::of().workers(0)).start().await;
    let receipts = world.add_process("gateway", &[]).await.unwrap().url("/v1/receipts");
    world.simulator.set(json!({ "receiptsUrl": receipts })).await;
    let unsid = world.phone("anna", json!({ "platform": "ios", "condition": "awake" })).await;
    let amqp = world.amqp().await;
    let mut posted = 0;
    // The first ones may come before the gateway is connected, and then have no hint.
    until("a hint on the dispatch queue", async || {
        let (status, body) = service.post(&world.workers[0], unsid, None, &order(60)).await;
        assert_eq!(status, 201, "{body}");
        posted += 1;
        amqp.ready("herald.dispatch.high").await.is_ok_and(|ready| ready > 0)
    })
    .await;
    assert_eq!(world.simulator.accepted().await, 0, "a gateway pushes nothing");
    world.add_worker().await.unwrap();
    world.all_closed().await;
    until("every push", async || world.simulator.count("anna", "rawsDelivered").await == posted).await;
    assert_eq!(world.simulator.count("anna", "toastsShown").await, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_gateway_that_never_reaches_the_broker_takes_posts_and_the_workers_clock_finds_them() {
    let service = Service::start().await;
    let mut world = service.trusted(World::of()).allow("herald_queue").start().await;
    // Nobody listens on port 1.
    let nowhere = [("HERALD_AMQP_URL", "amqp://guest:guest@127.0.0.1:1/%2f".to_owned())];
    world.add_process("gateway", &nowhere).await.unwrap();
    both_are_told(&world, &service, &world.workers[1]).await;
    assert_eq!(world.workers[1].metric("herald_requests_total", "result=\"stored\"").await, 2.0);
    world.finish().await;
}
