//! G5: our fault never costs the user's device. Whatever is wrong on our side, nothing is dropped and no subscription ends;
//! `herald apps` says what is wrong and what to do; and when it is mended, the work goes on by itself.
//!
//! Pauses that a person must end are bounded by two seconds here (`max_pause_secs`), so that a test sees them end; a mass of
//! dead tokens is resumed by the operator instead, because the guard's window is minutes long.

use std::path::PathBuf;
use std::time::Duration;

use herald_core::ids::{AppId, UserId};
use herald_store::TracedDelivery;
use serde_json::{Value, json};

use crate::requests;
use crate::world::{APP, LIMIT, Setup, World, until};

const USERS: [&str; 4] = ["anna", "bert", "cora", "dora"];
/// More dead tokens than the mass-failure guard takes for chance.
const MANY: usize = 24;

fn setup() -> Setup {
    World::of()
        .worker("max_pause_secs = 2")
        .allow("paused; the work is kept")
        .allow("APNs refuses our connection or token; connection left")
        .allow("no FCM access token")
}

/// What the tests that follow have in common: users of one platform, and a notification to each.
struct Fault {
    world: World,
    users: Vec<String>,
    platform: &'static str,
    /// So many raw pushes have arrived at each phone before.
    arrived: u64,
}

impl Fault {
    async fn new(world: World, platform: &'static str, users: Vec<String>) -> Self {
        for user in &users {
            world.phone(user, json!({ "platform": platform, "ackLossPercent": 100 })).await;
        }
        Self { world, users, platform, arrived: 0 }
    }

    async fn few(world: World, platform: &'static str) -> Self {
        Self::new(world, platform, USERS.map(str::to_owned).to_vec()).await
    }

    /// Everything has worked until now.
    async fn worked(mut self) -> Self {
        self.publish("before").await;
        self.all_arrive(1).await;
        self.arrived = 1;
        self
    }

    fn provider(&self) -> &'static str {
        if self.platform == "ios" { "apns" } else { "fcm" }
    }

    async fn publish(&self, key: &str) {
        for user in &self.users {
            self.world.publish(key, &requests::raw(APP, user)).await;
        }
    }

    /// The provider is paused, all work is kept, every subscription lives, and the operator reads these words.
    async fn is_kept(&self, open: usize, words: &[&str]) {
        until("the provider to be paused", async || !self.world.store().pauses().await.unwrap().is_empty()).await;
        until("all to be stored and open", async || {
            self.world.store().open_count(&AppId::new(APP)).await.is_ok_and(|count| count == open as u64)
        })
        .await;
        self.all_are_subscribed().await;
        let said = until("the operator to be told", async || {
            let list = self.world.herald(&["apps", "list", "--json"]).await;
            let apps: Value = serde_json::from_str(&list.stdout).unwrap_or_else(|_| panic!("{list:?}"));
            let apps = apps.as_array().cloned().unwrap_or_default();
            let app = apps.into_iter().find(|app| app["provider"] == self.provider())?;
            (app["state"] == "paused").then(|| app["whatToDo"].as_str().unwrap_or_default().to_owned())
        })
        .await;
        for word in words {
            assert!(said.contains(word), "it does not say {word:?}: {said}");
        }
        assert!(said.contains(&format!("herald apps resume {APP} --provider {}", self.provider())), "{said}");
    }

    async fn all_are_subscribed(&self) {
        for user in &self.users {
            let list = self.world.store().list(&AppId::new(APP), &UserId::new(user.as_str())).await.unwrap();
            assert_eq!(list.len(), 1, "{user} lost the subscription by our fault");
        }
        assert_eq!(self.world.metric("herald_tokens_pruned_total", "").await, 0.0);
    }

    /// The only delivery of a user's notification.
    async fn delivery(&self, user: &str, key: &str) -> TracedDelivery {
        let (app, user) = (AppId::new(APP), UserId::new(user));
        until("it to be stored", async || {
            let id = self.world.store().notification_by_key(&app, &user, key).await.ok()??;
            self.world.store().trace(&app, id).await.ok()??.deliveries.pop()
        })
        .await
    }

    async fn attempts(&self, user: &str, key: &str) -> usize {
        self.delivery(user, key).await.attempts.len()
    }

    /// How long it is until the next push.
    async fn wait(&self, user: &str, key: &str) -> Duration {
        let now = self.world.store().clock().now();
        self.delivery(user, key).await.next_at.expect("it is open").since(now)
    }

    /// Each phone has got so many raw pushes, and each only once.
    async fn all_arrive(&self, each: u64) {
        for user in &self.users {
            until(&format!("{each} to arrive at {user}'s"), async || {
                self.world.simulator.count(user, "rawsDelivered").await == each
            })
            .await;
        }
        self.world.all_closed().await;
        self.all_are_subscribed().await;
        for user in &self.users {
            assert_eq!(self.world.simulator.count(user, "rawsDelivered").await, each, "{user}");
        }
    }
}

/// A file of the simulator's credentials.
fn file(world: &World, name: &str) -> PathBuf {
    world.simulator.folder().join(format!("{APP}.{name}"))
}

/// Something in the configuration is wrong, noticed, and put right; a mended configuration needs a restart.
async fn wrong_configuration(platform: &'static str, spoil: impl FnOnce(&World, &str) -> String, words: &[&str]) {
    let mut fault = Fault::few(setup().workers(0).start().await, platform).await;
    let right = fault.world.configuration();
    fault.world.reconfigure(&spoil(&fault.world, &right));
    fault.world.add_worker().await.unwrap();
    fault.publish("first").await;
    fault.is_kept(USERS.len(), words).await;

    fault.world.reconfigure(&right);
    assert_eq!(fault.world.stop_worker(0, LIMIT).await, Some(0));
    fault.world.add_worker().await.unwrap();
    fault.all_arrive(1).await;
    fault.world.finish().await;
}

#[tokio::test]
async fn another_key_than_apples_costs_nothing() {
    let spoil = |world: &World, right: &str| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let other = file(world, "other.p8");
        std::fs::write(&other, key.serialize_pem()).unwrap();
        right.replace(&file(world, "p8").display().to_string(), &other.display().to_string())
    };
    wrong_configuration("ios", spoil, &["InvalidProviderToken", "key_file", "key_id", "team_id"]).await;
}

#[tokio::test]
async fn another_topic_than_the_apps_costs_nothing() {
    let spoil = |_: &World, right: &str| {
        let topic = right.lines().find(|line| line.starts_with("topic = ")).expect("the app has a topic");
        right.replace(topic, "topic = \"com.nobody.app\"")
    };
    wrong_configuration("ios", spoil, &["BadTopic", "topic", "bundle id"]).await;
}

#[tokio::test]
async fn another_project_than_the_apps_costs_nothing() {
    let spoil = |world: &World, right: &str| {
        let account = file(world, "service-account.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&account).unwrap()).unwrap();
        json["project_id"] = "nobodys-project".into();
        let other = file(world, "other.json");
        std::fs::write(&other, json.to_string()).unwrap();
        right.replace(&account.display().to_string(), &other.display().to_string())
    };
    wrong_configuration("android", spoil, &["404", "service_account_file", "project"]).await;
}

/// Something is wrong at the provider or with time; when it is right again, nobody has to do anything.
async fn mended_elsewhere(fault: Fault, spoil: Value, words: &[&str]) {
    match (spoil.get("status"), spoil.get("revoked")) {
        (Some(_), _) => fault.world.simulator.script(spoil).await,
        (None, Some(_)) => fault.world.simulator.change_service_account(APP, spoil).await,
        (None, None) => fault.world.simulator.set(spoil).await,
    }
    fault.world.simulator.revoke_access_tokens().await;
    fault.publish("during").await;
    fault.is_kept(USERS.len(), words).await;

    fault.world.simulator.no_script().await;
    fault.world.simulator.set(json!({ "clockOffsetSecs": 0 })).await;
    fault.world.simulator.change_service_account(APP, json!({ "revoked": false })).await;
    fault.all_arrive(fault.arrived + 1).await;
    fault.world.finish().await;
}

/// Everything has worked until now.
async fn working(platform: &'static str) -> Fault {
    Fault::few(setup().start().await, platform).await.worked().await
}

#[tokio::test]
async fn a_project_that_is_not_found_costs_nothing_and_goes_on_by_itself() {
    let script = json!({ "provider": "fcm", "status": 404, "times": 0 });
    mended_elsewhere(working("android").await, script, &["404 NOT_FOUND", "project"]).await;
}

#[tokio::test]
async fn a_revoked_service_account_costs_nothing_and_goes_on_by_itself() {
    mended_elsewhere(
        working("android").await,
        json!({ "revoked": true }),
        &["invalid_grant", "service account", "clock"],
    )
    .await;
}

#[tokio::test]
async fn a_clock_two_hours_behind_costs_nothing_with_apple_and_goes_on_by_itself() {
    mended_elsewhere(working("ios").await, json!({ "clockOffsetSecs": 7_200 }), &["ExpiredProviderToken", "clock"])
        .await;
}

#[tokio::test]
async fn a_clock_two_hours_ahead_costs_nothing_with_apple_and_goes_on_by_itself() {
    // A token that a connection has shown before is not looked at again: so from the first push on.
    let fault = Fault::few(setup().start().await, "ios").await;
    mended_elsewhere(fault, json!({ "clockOffsetSecs": -7_200 }), &["InvalidProviderToken", "clock"]).await;
}

#[tokio::test]
async fn a_clock_two_hours_behind_costs_nothing_with_google_and_goes_on_by_itself() {
    mended_elsewhere(working("android").await, json!({ "clockOffsetSecs": 7_200 }), &["invalid_grant", "clock"]).await;
}

fn bad() -> Value {
    json!({ "provider": "apns", "status": 400, "reason": "BadDeviceToken", "times": 0 })
}

fn unregistered() -> Value {
    json!({ "provider": "fcm", "status": 404, "errorCode": "UNREGISTERED", "times": 0 })
}

/// All tokens of an app are answered as dead: more likely we push to the wrong place than all users left at once.
async fn all_tokens_dead(mut fault: Fault, script: Value, words: &[&str]) {
    fault.arrived += 2;
    fault.world.simulator.script(script).await;
    fault.publish("during").await;
    fault.is_kept(MANY, words).await;
    fault.publish("later").await;
    fault.is_kept(2 * MANY, words).await;
    let pause_ends = fault.world.store().pauses().await.unwrap()[0].until;

    // By itself it would go on when the pause, or the guard's window, is over.
    for (user, key) in fault.users.iter().flat_map(|user| [(user, "during"), (user, "later")]) {
        let wait = fault.wait(user, key).await;
        assert!(wait < Duration::from_secs(451), "{key} of {user} waits {wait:?}");
    }
    fault.world.simulator.no_script().await;
    let resumed = fault.world.herald(&["apps", "resume", APP, "--provider", fault.provider()]).await;
    assert!(resumed.stdout.contains("resumed"), "{resumed:?}");
    fault.all_arrive(fault.arrived).await;
    assert!(fault.world.store().clock().now() < pause_ends, "that was the end of the pause, not the resume");
    fault.world.finish().await;
}

async fn many(platform: &'static str) -> Fault {
    let world = World::of().allow("paused; the work is kept").start().await;
    Fault::new(world, platform, (0..MANY).map(|user| format!("user-{user}")).collect()).await
}

#[tokio::test]
async fn a_whole_apps_tokens_that_apple_calls_bad_end_no_subscription() {
    all_tokens_dead(many("ios").await, bad(), &["token is dead", "environment", "topic"]).await;
}

#[tokio::test]
async fn a_whole_apps_tokens_that_google_calls_unregistered_end_no_subscription() {
    let fault = many("android").await;
    all_tokens_dead(fault, unregistered(), &["token is dead", "service_account_file", "project"]).await;
}

#[tokio::test]
async fn many_tokens_that_turn_bad_a_moment_after_pushes_were_accepted_end_no_subscription() {
    let fault = many("ios").await.worked().await;
    all_tokens_dead(fault, bad(), &["token is dead", "environment", "topic"]).await;
}

/// So few that the guard does not trip.
async fn few_tokens_turn_bad(platform: &'static str, script: Value) {
    let world = World::of().start().await;
    let fault = Fault::new(world, platform, USERS[..3].iter().map(|user| (*user).to_owned()).collect()).await;
    let fault = fault.worked().await;
    fault.world.simulator.script(script).await;
    fault.publish("during").await;
    // Each is asked about again at least once, when the wait of the first refusal is over.
    for user in &fault.users {
        until("it to be said twice", async || fault.attempts(user, "during").await >= 2).await;
        let wait = fault.wait(user, "during").await;
        assert!(
            (250..451).contains(&wait.as_secs()),
            "said twice, and nothing accepted in between: {user} waits {wait:?}"
        );
    }
    fault.all_are_subscribed().await;
    fault.world.finish().await;
}

#[tokio::test]
async fn the_tokens_of_a_small_app_that_apple_calls_bad_after_accepting_them_end_no_subscription() {
    few_tokens_turn_bad("ios", bad()).await;
}

#[tokio::test]
async fn the_tokens_of_a_small_app_that_google_calls_unregistered_after_accepting_them_end_no_subscription() {
    few_tokens_turn_bad("android", unregistered()).await;
}

#[tokio::test]
async fn tokens_that_are_called_bad_for_a_moment_are_pushed_to_seconds_later() {
    let world = World::of().start().await;
    let users = USERS[..3].iter().map(|user| (*user).to_owned()).collect();
    let fault = Fault::new(world, "ios", users).await.worked().await;
    fault.world.simulator.script(bad()).await;
    fault.publish("during").await;
    for user in &fault.users {
        until("it to be said", async || fault.attempts(user, "during").await >= 1).await;
    }
    fault.world.simulator.no_script().await;
    fault.all_arrive(2).await;
    fault.world.finish().await;
}
