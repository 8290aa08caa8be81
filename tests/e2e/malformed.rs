//! Requests that break the contract: each is parked with a reason that names the field, and its neighbours are delivered.

use herald_core::ids::AppId;
use herald_harness::amqp::{self, Amqp, properties};
use herald_store::DeadLetter;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::requests;
use crate::world::{APP, LIMIT, OTHER, World, login, until};

/// A message and the field that its dead letter must name.
struct Broken {
    key: &'static str,
    field: &'static str,
    body: Vec<u8>,
    properties: BasicProperties,
}

/// Makes them for one producer.
struct Maker {
    login: String,
    made: Vec<Broken>,
}

impl Maker {
    fn properties(&self, key: &str) -> BasicProperties {
        properties(key).with_user_id(self.login.as_str().into())
    }

    fn bytes(&mut self, key: &'static str, field: &'static str, body: &[u8]) {
        let properties = self.properties(key);
        self.made.push(Broken { key, field, body: body.to_vec(), properties });
    }

    /// A good request but for what `spoil` does to its body.
    fn body(&mut self, key: &'static str, field: &'static str, spoil: impl FnOnce(&mut Value)) {
        let mut body = requests::with_fallback(APP, "anna", 60);
        spoil(&mut body);
        self.bytes(key, field, body.to_string().as_bytes());
    }

    /// A good request but for what `spoil` makes of its properties.
    fn envelope(
        &mut self,
        key: &'static str,
        field: &'static str,
        spoil: impl FnOnce(BasicProperties) -> BasicProperties,
    ) {
        let properties = spoil(self.properties(key));
        let body = requests::raw(APP, "anna").to_string().into_bytes();
        self.made.push(Broken { key, field, body, properties });
    }
}

fn headers(entries: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    table
}

const UNSID: &str = "target.userNotificationSubscriptionId";
const ENDPOINT: &str = "fallbackPolicy.endpointFallback.platformTypes";
const DELAY: &str = "fallbackPolicy.endpointFallback.fallbackDelayInSeconds";
const NEVER_SEEN: &str = "0192f0a0-0000-7000-8000-000000000001";

fn spoiled_bodies(make: &mut Maker, now: herald_core::time::Timestamp) {
    make.bytes("not-json", "body", b"{\"targetHostName\": ");
    make.bytes("no-text", "body", b"\xff\xfe\x00");
    make.bytes("empty", "body", b"");
    make.bytes("list", "body", b"[{\"targetHostName\": \"mail.contoso.com\"}]");
    make.bytes("text", "body", b"\"order shipped\"");
    make.bytes("celery-body", "body", b"[[1042], {}, {\"callbacks\": null, \"chain\": null}]");
    make.body("no-app", "targetHostName", |body| body["targetHostName"] = Value::Null);
    make.body("unknown-app", "targetHostName", |body| body["targetHostName"] = "nobody.example".into());
    make.body("no-target", "target", |body| body["target"] = Value::Null);
    make.body("two-targets", "target", |body| body["target"][UNSID.rsplit('.').next().unwrap()] = NEVER_SEEN.into());
    make.body("unsid-no-uuid", UNSID, |body| body["target"] = json!({ "userNotificationSubscriptionId": "anna" }));
    make.body("unsid-unseen", UNSID, |body| body["target"] = json!({ "userNotificationSubscriptionId": NEVER_SEEN }));
    make.body("user-is-number", "target.userId", |body| body["target"] = json!({ "userId": 7 }));
    make.body("no-payload", "payload", |body| body["payload"] = Value::Null);
    make.body("neither-part", "payload", |body| body["payload"] = json!({}));
    make.body("raw-is-object", "payload.rawContent", |body| body["payload"] = json!({ "rawContent": { "order": 1 } }));
    make.body("no-title", "payload.visualContent.title", |body| {
        body["payload"] = json!({ "visualContent": { "body": "Arrives Tuesday" } });
    });
    make.body("priority", "priority", |body| body["priority"] = "Urgent".into());
    make.body("ttl", "displayTimeToLive", |body| body["displayTimeToLive"] = json!(-1));
    make.body("fallback-android", ENDPOINT, |body| {
        body["fallbackPolicy"]["endpointFallback"]["platformTypes"] = json!(["android"]);
    });
    make.body("policy-without-ios", "targetPolicy.platformTypes", |body| {
        body["targetPolicy"] = json!({ "platformTypes": ["android"] });
    });
    make.body("delay-too-long", DELAY, |body| {
        body["fallbackPolicy"]["endpointFallback"]["fallbackDelayInSeconds"] = json!(601);
    });
    make.body("delay-zero", DELAY, |body| {
        body["fallbackPolicy"]["endpointFallback"]["fallbackDelayInSeconds"] = json!(0);
    });
    make.body("bad-date", "expirationDateTime", |body| body["expirationDateTime"] = "tomorrow".into());
    make.body("too-far", "expirationDateTime", |body| {
        body["expirationDateTime"] = now.plus(std::time::Duration::from_secs(31 * 86_400)).to_rfc3339().into();
    });
    make.body("control-character", "appNotificationId", |body| body["appNotificationId"] = "order\u{0}1042".into());
    make.body("too-large", "body", |body| {
        let short = body.to_string().len();
        body["payload"]["rawContent"] = "x".repeat(64 * 1024 + 1 - short + "{\\\"order\\\":1042}".len()).into();
    });
}

fn spoiled_envelopes(make: &mut Maker, stranger: &str) {
    make.envelope("content-type", "content_type", |it| it.with_content_type("text/xml".into()));
    make.envelope("compressed", "content_encoding", |it| it.with_content_encoding("gzip".into()));
    make.envelope("unknown-type", "type", |it| it.with_type("herald.notification.v9".into()));
    make.envelope("celery", "headers", |it| it.with_headers(headers(&[("lang", "py"), ("task", "shop.ship")])));
    make.envelope("two-subscriptions", "target", |it| it.with_headers(headers(&[("x-uns-id", NEVER_SEEN)])));
    make.envelope("header-no-uuid", "x-uns-id", |it| it.with_headers(headers(&[("x-uns-id", "anna")])));
    make.envelope(
        "an-id-that-is-much-longer-than-the-128-characters-that-the-contract-allows-for-a-key-so-that-it-can-not-be-\
         used-as-an-idempotency-key",
        "message_id",
        |it| it,
    );
    let mut other_one = requests::raw(APP, "anna");
    other_one["target"] = json!({ "userNotificationSubscriptionId": "0192f0a0-0000-7000-8000-000000000002" });
    let properties_of = make.properties("disagreeing").with_headers(headers(&[("x-uns-id", NEVER_SEEN)]));
    let body = other_one.to_string().into_bytes();
    make.made.push(Broken { key: "disagreeing", field: UNSID, body, properties: properties_of });
    // Refused by Herald: RabbitMQ would refuse a login that isn't the connection's, so this one is sent as that login.
    let other = properties("foreign-login").with_user_id(stranger.into());
    let body = requests::raw(APP, "anna").to_string().into_bytes();
    make.made.push(Broken { key: "foreign-login", field: "user_id", body, properties: other });
    let body = requests::raw(APP, "anna").to_string().into_bytes();
    make.made.push(Broken { key: "no-login", field: "user_id", body, properties: properties("no-login") });
}

async fn send(amqp: &Amqp, broken: &Broken) {
    let sent = amqp.publish("herald.requests", "high", broken.properties.clone(), &broken.body).await;
    sent.unwrap_or_else(|error| panic!("{}: {error:#}", broken.key));
}

#[tokio::test]
async fn what_breaks_the_contract_is_parked_with_its_field_and_the_next_request_is_delivered() {
    let world = World::of().two_apps().allow("parked").start().await;
    world.phone("anna", json!({ "platform": "ios" })).await;
    let producer = amqp::connect(&world.producers[0]).await.unwrap();
    let stranger = amqp::connect(&world.producers[1]).await.unwrap();
    let mut make = Maker { login: login(&world.producers[0]), made: Vec::new() };
    spoiled_bodies(&mut make, world.store().clock().now());
    spoiled_envelopes(&mut make, &login(&world.producers[1]));
    for broken in &make.made {
        send(if broken.key == "foreign-login" { &stranger } else { &producer }, broken).await;
    }
    without_any_key(&producer, &make).await;

    let all = make.made.len() + 1;
    until("all of them to be dead letters", async || {
        world.dead_count().await.is_ok_and(|count| usize::try_from(count).is_ok_and(|count| count >= all))
    })
    .await;
    let letters = world.dead_letters().await;
    let found = |key: &str| -> Option<&DeadLetter> { letters.iter().find(|it| it.message_id.as_deref() == Some(key)) };
    let fields: Vec<(&str, &str)> = make.made.iter().map(|it| (it.key, it.field)).collect();
    let named = |key: &'static str| (key, found(key).map_or("(not parked)", |letter| letter.field.as_str()));
    assert_eq!(make.made.iter().map(|it| named(it.key)).collect::<Vec<_>>(), fields);
    assert_eq!(letters.len(), all);
    for letter in &letters {
        assert!(!letter.problem.is_empty() && !letter.fix.is_empty(), "{letter:?} doesn't say what to do");
        assert_eq!(letter.source_queue, "herald.requests.high", "{letter:?}");
    }
    let without_key = letters.iter().find(|letter| letter.message_id.is_none()).expect("it was parked");
    assert_eq!(without_key.field, "message_id");
    assert_eq!(found("unsid-unseen").unwrap().reason_code, "unknown_target");

    neither_duplicates_nor_the_expired_are_parked(&world, &producer, &make).await;
    assert_eq!(world.dead_count().await.unwrap(), all as u64);
    world.finish().await;
}

/// Nothing by which a repetition could be recognized.
async fn without_any_key(producer: &Amqp, make: &Maker) {
    let properties = BasicProperties::default().with_user_id(make.login.as_str().into());
    let body = requests::raw(APP, "anna").to_string();
    producer.publish("herald.requests", "high", properties, body.as_bytes()).await.unwrap();
}

async fn neither_duplicates_nor_the_expired_are_parked(world: &World, producer: &Amqp, make: &Maker) {
    let mut late = requests::raw(APP, "anna");
    late["expirationDateTime"] = "2020-01-01T00:00:00Z".into();
    // A zero character is text like any other where nothing but the app reads it.
    let mut good = requests::raw(APP, "anna");
    good["payload"]["rawContent"] = "zero \u{0} inside".into();
    for (key, body) in [("late", &late), ("good", &good), ("good", &good), ("good", &good)] {
        producer.publish("herald.requests", "high", make.properties(key), body.to_string().as_bytes()).await.unwrap();
    }
    until("the good one to be delivered", async || world.simulator.count("anna", "rawsDelivered").await == 1).await;
    until("the repetitions to be counted", async || {
        world.metric("herald_requests_total", "result=\"duplicate\"").await == 2.0
    })
    .await;
    assert_eq!(world.metric("herald_requests_total", "result=\"expired\"").await, 1.0);
    world.all_closed().await;
    let pushes = world.simulator.pushes().await;
    assert_eq!(pushes.len(), 1, "only the good one was pushed, and once");
    assert_eq!(pushes[0].body["herald"]["content"], "zero \u{0} inside");
}

#[tokio::test]
async fn an_app_can_not_be_spoken_for_by_another_apps_producer() {
    let world = World::of().two_apps().allow("parked").start().await;
    let unsid = world.phone("anna", json!({ "platform": "ios" })).await;
    let other = amqp::connect(&world.producers[1]).await.unwrap();
    let login = login(&world.producers[1]);
    let own = |key: &str| properties(key).with_user_id(login.as_str().into());
    // Its own app, but the other's subscription: unknown there, whatever its id is.
    let mut foreign = requests::raw(OTHER, "anna");
    foreign["target"] = json!({ "userNotificationSubscriptionId": unsid.to_string() });
    other.publish("herald.requests", "high", own("foreign-unsid"), foreign.to_string().as_bytes()).await.unwrap();
    // Its own app, and a user who has a phone only with the other app.
    let nobody = requests::raw(OTHER, "anna").to_string();
    other.publish("herald.requests", "high", own("foreign-user"), nobody.as_bytes()).await.unwrap();
    until("the one to be parked and the other to be stored", async || {
        world.dead_count().await.is_ok_and(|count| count == 1)
            && world.metric("herald_requests_total", "result=\"stored\"").await == 1.0
    })
    .await;
    let letters = world.dead_letters().await;
    assert_eq!((letters[0].reason_code.as_str(), letters[0].field.as_str()), ("unknown_target", UNSID));
    assert_eq!(letters[0].app, Some(AppId::new(OTHER)));
    assert!(world.simulator.pushes().await.is_empty(), "another app's phone was pushed to");
    world.finish().await;
}

#[tokio::test]
async fn receipts_and_hints_that_can_not_be_read_are_parked_too() {
    let world = World::of().allow("parked").start().await;
    let amqp = world.amqp().await;
    amqp.publish("herald.receipts", "receipt", properties("r"), b"{\"receipts\": 7}").await.unwrap();
    amqp.publish("herald.dispatch", "high", properties("h"), b"not hints").await.unwrap();
    herald_harness::wait::until(LIMIT, "both dead letters", async || {
        world.dead_count().await.is_ok_and(|count| count == 2)
    })
    .await
    .unwrap();
    let mut codes: Vec<String> = world.dead_letters().await.into_iter().map(|letter| letter.reason_code).collect();
    codes.sort();
    assert_eq!(codes, ["bad_hint", "invalid_receipts"]);
    world.finish().await;
}
