//! Outages under load: for a minute one app's APNs is out of reach and another's FCM answers 503 with a Retry-After, while a
//! steady load goes to three apps. Then both return.
//!
//! A test target of its own, so that nothing else runs beside it: what it holds are times. Held: nothing is lost; what waited
//! is gone seconds after the return; a Retry-After is kept; who is not affected is not slower; duplicates are at most what
//! was in flight when the connections broke. The figures are written to the standard error.

#![allow(clippy::unwrap_used, reason = "what can't go on in a test fails it")]

#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "../e2e/requests.rs"]
mod requests;
#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "../e2e/simulator.rs"]
mod simulator;
#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "../e2e/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use herald_core::ids::AppId;
use herald_harness::amqp::{Amqp, connect, properties};
use herald_harness::proxy::FaultProxy;
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use crate::simulator::Push;
use crate::world::{World, login, until};

const APPS: [&str; 3] = ["a.contoso.com", "b.contoso.com", "c.contoso.com"];
const PLATFORMS: [&str; 2] = ["ios", "android"];
/// Each stream (an app's platform) has so many users, a phone each.
const USERS: usize = 5;
/// One notification for each of the six streams per tick: 60 a second.
const TICK: Duration = Duration::from_millis(100);
const BEFORE: Duration = Duration::from_secs(5);
const OUT: Duration = Duration::from_secs(60);
const AFTER: Duration = Duration::from_secs(3);
/// Of the 503s of B's FCM, in seconds.
const RETRY_AFTER: u64 = 10;
/// What an answer and its record take: what was begun before is in flight.
const IN_FLIGHT: Duration = Duration::from_secs(4);
/// Failures after which a breaker opens (`herald_core::breaker::MIN_FAILURES`).
const UNTIL_OPEN: usize = 10;
/// The backlog is gone so soon after the provider can be tried again.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// A latency below this is no sign of anything on a busy machine.
const FLOOR: Duration = Duration::from_secs(1);

/// Microseconds since 1970, as the simulator's journal has them.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// One app's platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    app: &'static str,
    platform: &'static str,
}

impl Stream {
    fn all() -> impl Iterator<Item = Self> {
        APPS.into_iter().flat_map(|app| PLATFORMS.map(|platform| Self { app, platform }))
    }

    fn user(self, number: usize) -> String {
        format!("{}-{}-{}", self.app, self.platform, number % USERS)
    }

    fn is_out(self) -> bool {
        [(APPS[0], "ios"), (APPS[1], "android")].contains(&(self.app, self.platform))
    }
}

/// What was published: its stream, and when.
type Published = BTreeMap<String, (Stream, u64)>;

/// Publishes at a steady pace for so long.
async fn load(amqp: &Amqp, login: &str, published: &mut Published, lasts: Duration) {
    let ends = Instant::now() + lasts;
    let mut tick = interval(TICK);
    while Instant::now() < ends {
        tick.tick().await;
        let number = published.len();
        let batch = Stream::all().map(|stream| {
            let key = format!("{}-{}-{number}", stream.app, stream.platform);
            let mut body = requests::raw(stream.app, &stream.user(number / 6));
            body["appNotificationId"] = key.as_str().into();
            (key, stream, body.to_string(), now())
        });
        let sent = join_all(batch.map(async |(key, stream, body, at)| {
            let properties = properties(&key).with_user_id(login.into());
            amqp.publish("herald.requests", "high", properties, body.as_bytes()).await.unwrap();
            (key, (stream, at))
        }));
        published.extend(sent.await);
    }
}

/// The key of a push's notification.
fn key(push: &Push) -> String {
    let herald = match push.body["message"]["data"]["herald"].as_str() {
        Some(text) => serde_json::from_str(text).unwrap(),
        None => push.body["herald"].clone(),
    };
    herald["appNotificationId"].as_str().expect("each has one").to_owned()
}

/// Breaks one app's way to APNs and makes another's FCM unavailable; then makes both whole again.
struct Outage<'a> {
    world: &'a World,
    apns: &'a FaultProxy,
    project: String,
}

impl Outage<'_> {
    async fn begin(&self) {
        self.apns.refuse(true);
        self.apns.cut_all();
        let unavailable = json!({ "provider": "fcm", "topic": self.project, "status": 503, "errorCode": "UNAVAILABLE",
            "headers": { "retry-after": RETRY_AFTER.to_string() }, "times": 0 });
        self.world.simulator.script(unavailable).await;
    }

    async fn end(&self) {
        self.apns.refuse(false);
        self.world.simulator.no_script().await;
    }
}

/// All latencies from publish to the provider's acceptance, sorted, of what the filter lets through.
fn latencies(
    published: &Published,
    arrived: &BTreeMap<String, Vec<u64>>,
    which: impl Fn(Stream, u64) -> bool,
) -> Vec<Duration> {
    let wanted = published.iter().filter(|(_, (stream, at))| which(*stream, *at));
    let mut all: Vec<Duration> =
        wanted.map(|(key, (_, at))| Duration::from_micros(arrived[key][0].saturating_sub(*at))).collect();
    all.sort();
    all
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

/// The pause that a 503 asks for, kept: from the answer that opens the breaker on, nothing is begun before it is over but
/// what was in flight. The answer is how many attempts were refused, and how soon after another the soonest came.
fn retry_after_is_kept(pushes: &[Push], stream: Stream) -> (usize, Duration) {
    let own = format!("{}-{}", stream.app, stream.platform);
    let of = pushes.iter().filter(|push| push.phone.starts_with(&own));
    let mut times: Vec<(u64, bool)> = of.map(|push| (push.time, push.status == Some(503))).collect();
    times.sort_unstable();
    let refused: Vec<u64> = times.iter().filter(|(_, refused)| *refused).map(|(time, _)| *time).collect();
    let mut soonest = Duration::MAX;
    for answered in refused.iter().skip(UNTIL_OPEN) {
        let later = times.iter().map(|(time, _)| Duration::from_micros(time.saturating_sub(*answered)));
        if let Some(next) = later.filter(|after| *after > IN_FLIGHT).min() {
            soonest = soonest.min(next);
        }
    }
    (refused.len(), soonest)
}

/// A world in which the first app reaches APNs through a proxy.
async fn world() -> (World, FaultProxy, String) {
    let mut world = World::of()
        .workers(0)
        .apps(APPS.map(str::to_owned).to_vec())
        .allow("paused; the work is kept")
        .allow("no connection to APNs")
        .start()
        .await;
    let text = std::fs::read_to_string(world.simulator.folder().join("simulator.json")).unwrap();
    let described: Value = serde_json::from_str(&text).unwrap();
    let apps = described["apps"].as_array().unwrap();
    let project = apps.iter().find(|app| app["app"] == APPS[1]).unwrap()["projectId"].as_str().unwrap().to_owned();
    let url = described["apnsUrl"].as_str().unwrap();
    let port = url.rsplit(':').next().unwrap();
    let proxy = FaultProxy::start(format!("127.0.0.1:{port}")).await.unwrap();
    let proxied = url.replace(port, &proxy.port().to_string());
    world.reconfigure(&world.configuration().replacen(url, &proxied, 1));
    world.add_worker().await.unwrap();
    for stream in Stream::all() {
        for user in (0..USERS).map(|number| stream.user(number)) {
            let spec = json!({ "platform": stream.platform, "ackLossPercent": 100 });
            world.phone_of(stream.app, &user, &user, spec).await;
        }
    }
    (world, proxy, project)
}

/// Waits until all that was published is stored and closed.
async fn all_closed(world: &World, published: usize) {
    // What is still on the queue has no delivery yet.
    let all = f64::from(u32::try_from(published).unwrap());
    until("every request to be stored", async || {
        world.metric("herald_requests_total", r#"result="stored""#).await >= all
    })
    .await;
    for app in APPS.map(AppId::new) {
        until("every delivery to be closed", async || world.store().open_count(&app).await.is_ok_and(|open| open == 0))
            .await;
    }
}

#[tokio::test]
async fn an_outage_of_one_apps_provider_touches_nobody_else_and_leaves_nothing_behind() {
    let (world, apns, project) = world().await;
    let login = login(&world.producers[0]);
    let amqp = connect(&world.producers[0]).await.unwrap();
    let mut published = Published::new();
    load(&amqp, &login, &mut published, BEFORE).await;
    let outage = Outage { world: &world, apns: &apns, project };
    let begun = now();
    outage.begin().await;
    load(&amqp, &login, &mut published, OUT).await;
    outage.end().await;
    let ended = now();
    load(&amqp, &login, &mut published, AFTER).await;
    all_closed(&world, published.len()).await;

    let pushes = world.simulator.pushes().await;
    let mut arrived: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for push in pushes.iter().filter(|push| push.accepted()) {
        arrived.entry(key(push)).or_default().push(push.time);
    }
    let lost: Vec<&String> = published.keys().filter(|key| !arrived.contains_key(*key)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), published.len());
    let repeated: usize = arrived.values().map(|times| times.len() - 1).sum();

    let sound = latencies(&published, &arrived, |stream, at| !stream.is_out() && at < begun);
    let beside = latencies(&published, &arrived, |stream, at| !stream.is_out() && (begun..ended).contains(&at));
    let mut figures = format!(
        "{} published, all arrived, {repeated} twice\nunaffected, p99 from publish to acceptance: {:?} before, {:?} beside\n",
        published.len(),
        p99(&sound),
        p99(&beside)
    );
    let mut gone_after = Vec::new();
    for stream in Stream::all().filter(|stream| stream.is_out()) {
        let waited: Vec<u64> = published
            .iter()
            .filter(|(_, (of, at))| *of == stream && (begun..ended).contains(at))
            .map(|(key, _)| arrived[key][0])
            .collect();
        let backlog = waited.iter().filter(|time| **time > ended).count();
        let gone = Duration::from_micros(waited.iter().max().unwrap().saturating_sub(ended));
        figures += &format!("{} {}: {backlog} waited, gone {gone:?} after the return\n", stream.app, stream.platform);
        gone_after.push(gone);
    }
    let b = Stream { app: APPS[1], platform: "android" };
    let (refused, soonest) = retry_after_is_kept(&pushes, b);
    figures += &format!("{refused} attempts were answered 503, the next after {soonest:?} at the soonest\n");
    std::io::stderr().write_all(figures.as_bytes()).unwrap();

    assert!(p99(&beside) <= (p99(&sound) * 2).max(FLOOR), "the outage slowed those beside it");
    assert!(gone_after[0] <= GONE_WITHIN, "the backlog of APNs was there for {:?}", gone_after[0]);
    let b_bound = GONE_WITHIN + Duration::from_secs(RETRY_AFTER);
    assert!(gone_after[1] <= b_bound, "the backlog of FCM was there for {:?}", gone_after[1]);
    assert!(soonest >= Duration::from_secs(RETRY_AFTER), "an attempt came {soonest:?} after a 503");
    assert!(refused <= 60, "{refused} attempts at a provider that asked to be left alone");
    // In flight when the connections broke: two ticks' worth.
    assert!(repeated <= 2 * USERS, "{repeated} duplicates");
    world.finish().await;
}
