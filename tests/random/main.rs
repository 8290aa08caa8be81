//! A hundred thousand random requests through a running worker: right, half right and rubbish. None may end the worker, and
//! each ends closed or parked.
//!
//! The seed is fixed; `HERALD_TEST_SEED` takes another. A failure names the seed. A test target of its own: no other test shall
//! wait for a broker that has so much to do.

#![allow(clippy::unwrap_used, reason = "what can't go on in a test fails it")]

#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "../e2e/letters.rs"]
mod letters;
#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "../e2e/simulator.rs"]
mod simulator;
#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "../e2e/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use herald_core::ids::AppId;
use herald_harness::amqp::Amqp;
use herald_harness::wait;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::world::{APP, LIMIT, Setup, World, until};

/// Users with a phone each; the others that requests name have none.
const USERS: u64 = 10;
/// Requests published at once.
const AT_ONCE: usize = 500;
/// Everything that may hold a message when all is done.
const QUEUES: [&str; 10] = [
    "herald.requests.high",
    "herald.requests.normal",
    "herald.requests.low",
    "herald.dispatch.fallback",
    "herald.dispatch.high",
    "herald.dispatch.normal",
    "herald.dispatch.low",
    "herald.receipts",
    "herald.suspect",
    "herald.parked",
];

#[tokio::test]
async fn a_hundred_thousand_random_requests_end_closed_or_parked() {
    all_end_closed_or_parked(World::of(), 100_000).await;
}

async fn all_end_closed_or_parked(setup: Setup, count: usize) {
    let seed = std::env::var("HERALD_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(5);
    let world = setup.allow("parked").start().await;
    for user in 0..USERS {
        let platform = if user % 2 == 0 { "ios" } else { "android" };
        world.phone(&format!("user-{user}"), json!({ "platform": platform, "receiptsUrl": "" })).await;
    }
    let amqp = world.amqp().await;
    let mut chance = Chance(seed);
    let mut former = Vec::new();
    let mut published: BTreeMap<Identity, usize> = BTreeMap::new();
    for _ in 0..count.div_ceil(AT_ONCE) {
        let requests: Vec<Random> = (0..AT_ONCE).map(|_| chance.request(&mut former)).collect();
        publish(&amqp, &requests).await;
        requests.iter().for_each(|random| *published.entry(random.identity()).or_default() += 1);
    }

    let done = async || world.metric("herald_requests_total", "").await;
    let waited = wait::until(LIMIT * 3, "each request to be answered for", async || done().await >= count as f64).await;
    waited.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    world.all_closed().await;
    for queue in QUEUES {
        until(&format!("{queue} to be empty"), async || amqp.ready(queue).await.unwrap() == 0).await;
    }
    let mut ends = Vec::new();
    for result in ["stored", "duplicate", "expired", "parked"] {
        ends.push((result, world.metric("herald_requests_total", &format!("result=\"{result}\"")).await));
    }
    // Exactly once each, and each kind has occurred: else this proves little.
    assert_eq!(ends.iter().map(|(_, number)| number).sum::<f64>(), count as f64, "seed {seed}: {ends:?}");
    assert!(ends.iter().all(|(_, number)| *number > 100.0), "seed {seed}: {ends:?}");
    // What is parked twice is one dead letter; each that was parked has one.
    until("each parked one to have its dead letter", async || {
        let letters = dead_letters(&world).await;
        letters.iter().filter_map(|letter| published.get(letter)).sum::<usize>() as f64 == ends[3].1
    })
    .await;
    assert_eq!(world.store().open_count(&AppId::new(APP)).await.unwrap(), 0, "seed {seed}");
    world.finish().await;
}

async fn publish(amqp: &Amqp, requests: &[Random]) {
    let published = requests.iter().map(async |random| {
        amqp.publish("herald.requests", random.lane, random.properties.clone(), &random.body).await
    });
    for result in join_all(published).await {
        result.unwrap();
    }
}

/// Whose dead letter it is: `message_id`, queue and body.
type Identity = (String, String, Vec<u8>);

/// All dead letters that have arrived: the last may still be on their way from `herald.parked`, unacked.
async fn dead_letters(world: &World) -> BTreeSet<Identity> {
    let letters = world.dead_letters().await.into_iter();
    letters.map(|letter| (letter.message_id.unwrap_or_default(), letter.source_queue, letter.body)).collect()
}

/// A message for a lane.
#[derive(Clone)]
struct Random {
    lane: &'static str,
    properties: BasicProperties,
    body: Vec<u8>,
}

impl Random {
    fn identity(&self) -> Identity {
        let key = self.properties.message_id().as_ref().map(|key| key.as_str().to_owned()).unwrap_or_default();
        (key, format!("herald.requests.{}", self.lane), self.body.clone())
    }
}

/// SplitMix64: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// So many times of a hundred.
    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of<T: Clone>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())].clone()
    }

    fn request(&mut self, former: &mut Vec<Random>) -> Random {
        if !former.is_empty() && self.percent(5) {
            let again = self.below(former.len());
            return former[again].clone();
        }
        let body = match self.below(100) {
            0..60 => self.plausible().to_string().into_bytes(),
            60..75 => self.one_wrong().to_string().into_bytes(),
            75..90 => self.damaged(),
            _ => self.rubbish(),
        };
        let random = Random { lane: self.of(&["high", "normal", "low"]), properties: self.properties(), body };
        if former.len() < 1_000 {
            former.push(random.clone());
        }
        random
    }

    fn plausible(&mut self) -> Value {
        // One in four has a phone.
        let user = self.next() % (USERS * 4);
        let mut body = json!({
            "target": { "userId": format!("user-{user}") },
            "targetHostName": APP,
            "priority": self.of(&["High", "Low", "None", "high", "LOW"]),
            "payload": { "rawContent": "x".repeat(self.below(200)) },
        });
        if self.percent(20) {
            let long = if self.percent(2) { 20_000 } else { 50 };
            body["payload"]["visualContent"] =
                json!({ "title": "Überraschung \u{1f4e6}", "body": "y".repeat(self.below(long)) });
        }
        if self.percent(30) {
            body["appNotificationId"] = format!("order-{}", self.below(500)).into();
        }
        if self.percent(20) {
            body["displayTimeToLive"] = self.of(&[json!(60), json!("600"), json!(0), json!(-1), json!(1.5)]);
        }
        if self.percent(20) {
            body["expirationDateTime"] = moment(self.of(&[-60, 0, 3_600, 7_200, 86_400 * 29, 86_400 * 400])).into();
        }
        if self.percent(5) {
            body["deliverAt"] = moment(self.of(&[-3_600, 1, 2])).into();
        }
        if self.percent(10) {
            let secs = self.of(&[json!(1), json!("2"), json!(0), json!(100_000), json!("soon")]);
            body["fallbackPolicy"] = json!({ "endpointFallback": {
                "platformTypes": self.of(&["iOS", "ios", "android", "toaster"]),
                "fallbackDelayInSeconds": secs,
                "visualContent": { "title": "Order shipped" },
            }});
        }
        if self.percent(5) { json!({ "notification": body }) } else { body }
    }

    /// One value of it is another's, or of another kind.
    fn one_wrong(&mut self) -> Value {
        let mut body = self.plausible();
        let paths = [
            "/target",
            "/target/userId",
            "/targetHostName",
            "/priority",
            "/payload",
            "/payload/rawContent",
            "/targetPolicy",
            "/notification",
        ];
        let wrong = [
            Value::Null,
            json!({}),
            json!([]),
            json!(""),
            json!(true),
            json!(1e308),
            json!("nobody.example"),
            json!("\u{0}"),
            json!("z".repeat(300)),
            json!({ "userNotificationSubscriptionId": "0190" }),
            json!({ "userNotificationSubscriptionId": "01900000-0000-7000-8000-000000000001" }),
        ];
        let (path, value) = (self.of(&paths), wrong[self.below(wrong.len())].clone());
        match body.pointer_mut(path) {
            Some(place) => *place = value,
            None => body[path.trim_start_matches('/')] = value,
        }
        body
    }

    /// Some bytes of it are others, or it ends early.
    fn damaged(&mut self) -> Vec<u8> {
        let mut body = self.plausible().to_string().into_bytes();
        for _ in 0..=self.below(4) {
            let at = self.below(body.len());
            match self.below(4) {
                0 => body.truncate(at.max(1)),
                1 => drop(body.remove(at)),
                2 => body.insert(at, self.of(b"{}[]\",:0e\\\xff\x00")),
                _ => body[at] ^= 1 << self.below(8),
            }
            if body.is_empty() {
                body.push(b'{');
            }
        }
        body
    }

    fn rubbish(&mut self) -> Vec<u8> {
        match self.below(40) {
            0 => "[".repeat(30_000).into_bytes(),
            1 => format!("{}1{}", "{\"payload\":".repeat(2_000), "}".repeat(2_000)).into_bytes(),
            // The largest that is read, and one more.
            2 => vec![b' '; 64 * 1024 + self.below(2)],
            3 => format!("{{\"target\":{}}}", "9".repeat(400)).into_bytes(),
            4..8 => Vec::new(),
            _ => (0..self.below(80)).map(|_| self.next().to_le_bytes()[0]).collect(),
        }
    }

    fn properties(&mut self) -> BasicProperties {
        let mut properties = BasicProperties::default().with_delivery_mode(self.of(&[1, 2, 2, 2]));
        if self.percent(97) {
            let key = if self.percent(2) { "k".repeat(self.below(250)) } else { format!("key-{:x}", self.next()) };
            properties = properties.with_message_id(key.as_str().into());
        }
        let content_type = if self.percent(90) { "application/json" } else { self.of(&["text/plain", "", "json"]) };
        properties = properties.with_content_type(content_type.into());
        if self.percent(3) {
            properties =
                properties.with_type(self.of(&["herald.notification.v1", "herald.notification.v2", ""]).into());
        }
        if self.percent(2) {
            properties = properties.with_content_encoding(self.of(&["gzip", "utf-8", "identity"]).into());
        }
        if self.percent(10) {
            properties = properties.with_headers(self.headers());
        }
        properties
    }

    fn headers(&mut self) -> FieldTable {
        let names = [
            "x-uns-id",
            "traceparent",
            "tracestate",
            "task",
            "lang",
            "x-death",
            "x-first-death-queue",
            "x-herald-user-id",
            "x-herald-source-queue",
            "x-herald-error-code",
            "x-delivery-count",
        ];
        let mut headers = FieldTable::default();
        for _ in 0..=self.below(4) {
            let value = match self.below(6) {
                0 => AMQPValue::LongLongInt(i64::MIN),
                1 => AMQPValue::Void,
                2 => AMQPValue::ByteArray(vec![0xff, 0xfe].into()),
                3 => AMQPValue::LongString("herald.requests.high".into()),
                4 => AMQPValue::LongString("t".repeat(self.below(2_000)).into()),
                _ => AMQPValue::Boolean(true),
            };
            headers.insert(self.of(&names).into(), value);
        }
        headers
    }
}

/// So many seconds from now, or ago.
fn moment(secs: i64) -> String {
    (OffsetDateTime::now_utc() + time::Duration::seconds(secs)).format(&Rfc3339).unwrap()
}
