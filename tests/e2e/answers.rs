//! Every answer of a provider, by one table: what it is taken for, what becomes of the delivery, when it is tried again,
//! whether the subscription ends, and for how long the provider is paused.
//!
//! The rows of [`APNS`] and [`FCM`] are Apple's and Google's documented answers and those that a proxy, a server in trouble
//! or an undocumented word make. Each row has a provider of an app of its own, because pauses and the mass-failure guard's
//! counts are kept by those; all rows go through one real worker at once. Waits longer than a few seconds are read from the
//! delivery's `next_at`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use herald_core::ids::{AppId, UserId};
use herald_core::subscription::Provider;
use herald_harness::amqp::{Amqp, connect, properties};
use herald_store::{Pause, TracedDelivery};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::requests;
use crate::world::{World, login, until};

/// Status (0: no answer, the word says how); the word of the answer, or its whole body if it is not a word; what else there
/// is to it, of [`Row::more`]; outcome; the delivery's next state; seconds until the next push; subscription; seconds of the
/// provider's pause.
type Columns = (u16, &'static str, &'static str, &'static str, &'static str, (u32, u32), &'static str, (u32, u32));

/// There is no next push; the provider is not paused.
const NO: (u32, u32) = (0, 0);
/// Healed by the client, before anybody sees the answer: another connection, or a newer token, and once more.
const HEALED: (u32, u32) = (0, 1);
/// Not processed: soon.
const SOON: (u32, u32) = (0, 2);
/// The provider in trouble: an early retry.
const EARLY: (u32, u32) = (1, 3);
/// The same at Google, who asks for ten seconds.
const GOOGLES: (u32, u32) = (10, 11);
/// This device only.
const DEVICE: (u32, u32) = (5, 15);
/// A toast ten seconds after the refusal of a raw push that is owed one.
const TOAST: (u32, u32) = (10, 11);
/// Perhaps it was processed.
const LATER: (u32, u32) = (10, 15);
/// A person must act: when the pause ends, with a probe.
const PROBE: (u32, u32) = (29, 31);
/// Google's default for a throttled project: when the pause ends.
const MINUTE: (u32, u32) = (59, 61);
/// Not proven, or older than the token: after the mass-failure guard's window.
const WINDOW: (u32, u32) = (300, 450);
/// Said once while others are accepted: asked again, when something was accepted in between.
const CONFIRM: (u32, u32) = (10, 15);
/// How long a fault of ours pauses at first.
const OURS: (u32, u32) = (29, 30);
/// How long a throttled project pauses.
const QUOTA: (u32, u32) = (59, 60);

const HTML: &str = "<!DOCTYPE html><title>Error</title>Please try again in 30 seconds.";
const TOO_BIG: &str = r#"{"error":{"code":400,"message":"Android message is too big","status":"INVALID_ARGUMENT"}}"#;
const BAD_TOKEN: &str = r#"{"error":{"code":400,"message":"Invalid","status":"INVALID_ARGUMENT","details":[
    {"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"INVALID_ARGUMENT"},
    {"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"message.token"}]}]}}"#;
const BAD_WORDS: &str = r#"{"error":{"code":400,"status":"INVALID_ARGUMENT",
    "message":"The registration token is not a valid FCM registration token","details":[
    {"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"INVALID_ARGUMENT"}]}}"#;
const BAD_DATA: &str = r#"{"error":{"code":400,"message":"Invalid","status":"INVALID_ARGUMENT","details":[
    {"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"message.data[0].value"}]}]}}"#;
const OLD_LOGIN: &str = r#"{"error":{"code":401,"message":"expired","status":"UNAUTHENTICATED","details":[
    {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ACCESS_TOKEN_EXPIRED"}]}}"#;
const DENIED: &str = r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":
    "Permission 'cloudmessaging.messages.create' denied on resource"}}"#;
const NOT_FOUND: &str = r#"{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND"}}"#;
const OF_DEVICE: &str = r#"{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[
    {"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"QUOTA_EXCEEDED"},
    {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"device:1"}]}]}}"#;
const OF_PROJECT: &str = r#"{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[
    {"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"QUOTA_EXCEEDED"},
    {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"project:7"}]}]}}"#;
const CUT_OFF: &str = r#"{"error":{"code":404,"message":"Requested enti"#;
const NAMELESS: &str = "{}";

/// Apple, "Handling notification responses from APNs".
#[rustfmt::skip]
const APNS: &[Columns] = &[
    // answer                                                        outcome          delivery    again    token   pause
    (200, "",                                "",                     "accepted",      "accepted", NO,      "kept", NO),
    (400, "BadCollapseId",                   "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, "BadDeviceToken",                  "",                     "gone",          "gone",     CONFIRM, "ends", NO),
    (400, "BadDeviceToken",                  "unproven",             "gone",          "due",      WINDOW,  "kept", NO),
    (400, "BadExpirationDate",               "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, "BadMessageId",                    "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, "BadPriority",                     "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, "BadPriority",                     "owed",                 "invalid",       "toasted",  SOON,    "kept", NO),
    (400, "BadTopic",                        "",                     "misconfigured", "due",      PROBE,   "kept", OURS),
    (400, "DeviceTokenNotForTopic",          "",                     "gone",          "gone",     CONFIRM, "ends", NO),
    (400, "DeviceTokenNotForTopic",          "unproven",             "gone",          "due",      WINDOW,  "kept", NO),
    (400, "DuplicateHeaders",                "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, "IdleTimeout",                     "healed",               "accepted",      "accepted", HEALED,  "kept", NO),
    (400, "InvalidPushType",                 "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, "MissingDeviceToken",              "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, "MissingTopic",                    "",                     "misconfigured", "due",      PROBE,   "kept", OURS),
    (400, "PayloadEmpty",                    "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, "TopicDisallowed",                 "",                     "misconfigured", "due",      PROBE,   "kept", OURS),
    (403, "BadCertificate",                  "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, "BadCertificateEnvironment",       "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, "ExpiredProviderToken",            "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, "Forbidden",                       "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, "InvalidProviderToken",            "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, "MissingProviderToken",            "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, "UnrelatedKeyIdInToken",           "healed",               "accepted",      "accepted", HEALED,  "kept", NO),
    (403, "UnrelatedKeyIdInToken",           "twice",                "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, "BadEnvironmentKeyIdInToken",      "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, "BadEnvironmentKeyInToken",        "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (404, "BadPath",                         "",                     "invalid",       "failed",   NO,      "kept", NO),
    (405, "MethodNotAllowed",                "",                     "invalid",       "failed",   NO,      "kept", NO),
    (410, "ExpiredToken",                    "since the push",       "gone",          "gone",     NO,      "ends", NO),
    (410, "Unregistered",                    "since the push",       "gone",          "gone",     NO,      "ends", NO),
    (410, "Unregistered",                    "since the push, unproven", "gone",      "gone",     NO,      "ends", NO),
    (410, "Unregistered",                    "since an hour",        "gone",          "due",      WINDOW,  "kept", NO),
    (410, "Unregistered",                    "",                     "gone",          "gone",     CONFIRM, "ends", NO),
    (410, "Unregistered",                    "unproven",             "gone",          "due",      WINDOW,  "kept", NO),
    (413, "PayloadTooLarge",                 "",                     "invalid",       "failed",   NO,      "kept", NO),
    (429, "TooManyProviderTokenUpdates",     "healed",               "accepted",      "accepted", HEALED,  "kept", NO),
    (429, "TooManyProviderTokenUpdates",     "twice",                "throttled",     "due",      MINUTE,  "kept", QUOTA),
    (429, "TooManyRequests",                 "",                     "throttled",     "due",      DEVICE,  "kept", NO),
    (429, "TooManyRequests",                 "owed",                 "throttled",     "due",      TOAST,   "kept", NO),
    (500, "InternalServerError",             "",                     "unavailable",   "accepted", EARLY,   "kept", NO),
    (503, "ServiceUnavailable",              "",                     "unavailable",   "accepted", EARLY,   "kept", NO),
    (503, "Shutdown",                        "",                     "unavailable",   "accepted", EARLY,   "kept", NO),
    // What nobody documented goes by its status, and what is not JSON is not from APNs.
    (400, "NobodyKnows",                     "",                     "invalid",       "failed",   NO,      "kept", NO),
    (418, "NobodyKnows",                     "",                     "invalid",       "failed",   NO,      "kept", NO),
    (403, "NobodyKnows",                     "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (410, "NobodyKnows",                     "",                     "gone",          "gone",     CONFIRM, "ends", NO),
    (410, "NobodyKnows",                     "unproven",             "gone",          "due",      WINDOW,  "kept", NO),
    (429, "NobodyKnows",                     "",                     "throttled",     "due",      DEVICE,  "kept", NO),
    (502, "NobodyKnows",                     "",                     "unavailable",   "accepted", EARLY,   "kept", NO),
    (502, HTML,                              "",                     "unavailable",   "accepted", EARLY,   "kept", NO),
    (404, HTML,                              "",                     "unavailable",   "accepted", EARLY,   "kept", NO),
    (400, "",                                "",                     "unavailable",   "accepted", EARLY,   "kept", NO),
    (410, "",                                "",                     "unavailable",   "accepted", EARLY,   "kept", NO),
    (0,   "refuse",                          "healed",               "accepted",      "accepted", HEALED,  "kept", NO),
    (0,   "reset",                           "",                     "unknown",       "due",      LATER,   "kept", NO),
    (0,   "close",                           "",                     "unknown",       "due",      LATER,   "kept", NO),
    (0,   "hang",                            "",                     "unknown",       "due",      LATER,   "kept", NO),
];

/// Firebase, `ErrorCode` and "FCM error codes".
#[rustfmt::skip]
const FCM: &[Columns] = &[
    // answer                                                        outcome          delivery    again    token   pause
    (200, "",                                "",                     "accepted",      "accepted", NO,      "kept", NO),
    (200, NAMELESS,                          "",                     "unknown",       "due",      LATER,   "kept", NO),
    (400, BAD_TOKEN,                         "",                     "gone",          "gone",     CONFIRM, "ends", NO),
    (400, BAD_TOKEN,                         "unproven",             "gone",          "due",      WINDOW,  "kept", NO),
    (400, BAD_WORDS,                         "",                     "gone",          "gone",     CONFIRM, "ends", NO),
    (400, BAD_DATA,                          "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, TOO_BIG,                           "",                     "invalid",       "failed",   NO,      "kept", NO),
    (400, "INVALID_ARGUMENT",                "",                     "invalid",       "failed",   NO,      "kept", NO),
    (401, "THIRD_PARTY_AUTH_ERROR",          "",                     "misconfigured", "due",      PROBE,   "kept", OURS),
    (401, "APNS_AUTH_ERROR",                 "",                     "misconfigured", "due",      PROBE,   "kept", OURS),
    (401, OLD_LOGIN,                         "healed",               "accepted",      "accepted", HEALED,  "kept", NO),
    (401, OLD_LOGIN,                         "twice",                "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, "SENDER_ID_MISMATCH",              "",                     "gone",          "gone",     CONFIRM, "ends", NO),
    (403, "SENDER_ID_MISMATCH",              "unproven",             "gone",          "due",      WINDOW,  "kept", NO),
    (403, DENIED,                            "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (403, HTML,                              "",                     "unauthorized",  "due",      PROBE,   "kept", OURS),
    (404, "UNREGISTERED",                    "",                     "gone",          "gone",     CONFIRM, "ends", NO),
    (404, "UNREGISTERED",                    "unproven",             "gone",          "due",      WINDOW,  "kept", NO),
    (404, NOT_FOUND,                         "",                     "misconfigured", "due",      PROBE,   "kept", OURS),
    (404, HTML,                              "",                     "misconfigured", "due",      PROBE,   "kept", OURS),
    (404, CUT_OFF,                           "",                     "misconfigured", "due",      PROBE,   "kept", OURS),
    (429, "QUOTA_EXCEEDED",                  "",                     "throttled",     "due",      MINUTE,  "kept", QUOTA),
    (429, OF_PROJECT,                        "retry-after 120",      "throttled",     "due",      (119, 121), "kept", (119, 120)),
    (429, OF_PROJECT,                        "retry-after in 100 s", "throttled",     "due",      (98, 101), "kept", (98, 100)),
    (429, OF_DEVICE,                         "retry-after 30",       "throttled",     "due",      (30, 33), "kept", NO),
    (429, OF_DEVICE,                         "",                     "throttled",     "due",      (60, 66), "kept", NO),
    (500, "INTERNAL",                        "",                     "unavailable",   "due",      GOOGLES, "kept", NO),
    (502, HTML,                              "",                     "unavailable",   "due",      GOOGLES, "kept", NO),
    (504, HTML,                              "",                     "unavailable",   "due",      GOOGLES, "kept", NO),
    (503, "UNAVAILABLE",                     "",                     "unavailable",   "due",      GOOGLES, "kept", NO),
    (503, "UNAVAILABLE",                     "retry-after 30",       "unavailable",   "due",      (30, 33), "kept", NO),
    (503, "UNAVAILABLE",                     "retry-after in 100 s", "unavailable",   "due",      (98, 110), "kept", NO),
    (500, "UNSPECIFIED_ERROR",               "",                     "unavailable",   "due",      GOOGLES, "kept", NO),
    (400, "UNSPECIFIED_ERROR",               "",                     "invalid",       "failed",   NO,      "kept", NO),
    (404, "NOBODY_KNOWS",                    "",                     "misconfigured", "due",      PROBE,   "kept", OURS),
    (418, "NOBODY_KNOWS",                    "",                     "invalid",       "failed",   NO,      "kept", NO),
    (503, CUT_OFF,                           "",                     "unavailable",   "due",      GOOGLES, "kept", NO),
    (400, CUT_OFF,                           "",                     "unavailable",   "due",      GOOGLES, "kept", NO),
    (0,   "refuse",                          "healed",               "accepted",      "accepted", HEALED,  "kept", NO),
    (0,   "reset",                           "",                     "unknown",       "due",      LATER,   "kept", NO),
    (0,   "close",                           "",                     "unknown",       "due",      LATER,   "kept", NO),
    (0,   "hang",                            "",                     "unknown",       "due",      LATER,   "kept", NO),
];

/// The longest that a busy machine may add to a wait before it is read.
const SLACK: f64 = 4.0;
const SUBJECT: &str = "order";

/// A row of a table, with its app.
struct Row {
    app: AppId,
    provider: Provider,
    columns: &'static Columns,
}

/// The rows of both tables.
fn rows() -> Vec<Row> {
    let of = |provider, table: &'static [Columns]| {
        let row = move |(number, columns)| Row { app: AppId::new(format!("app-{number}.test")), provider, columns };
        table.iter().enumerate().map(row)
    };
    of(Provider::Apns, APNS).chain(of(Provider::Fcm, FCM)).collect()
}

impl Row {
    /// What there is to the answer besides status and words: `healed` (the client's second try is accepted), `twice` (it is
    /// not), `owed` (to a raw push that is owed a toast), `unproven` (nothing was accepted before), a 410's `since`, and a
    /// `retry-after` in seconds or as a date.
    fn more(&self, what: &str) -> bool {
        self.columns.2.contains(what)
    }

    /// Is the token believed to be dead only when the provider says so again?
    fn is_asked_again(&self) -> bool {
        self.columns.5 == CONFIRM
    }

    fn user(&self) -> String {
        format!("{}-of-{}", self.provider, self.app)
    }

    /// Another user of the same app and provider, of whom a push is accepted.
    fn proof(&self) -> String {
        format!("proof-{}", self.user())
    }

    fn name(&self) -> String {
        let (status, word, more, ..) = self.columns;
        format!("{} {status} {} {more}", self.provider, word.chars().take(60).collect::<String>())
    }

    fn script(&self, now_ms: i64) -> Value {
        let (status, word, ..) = *self.columns;
        let mut script =
            json!({ "phone": self.user(), "times": 1 + u64::from(self.more("twice") || self.is_asked_again()) });
        let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        match (status, self.provider) {
            (0, _) => script["fault"] = word.into(),
            (_, Provider::Apns) if is_word => script["reason"] = word.into(),
            (_, Provider::Fcm) if is_word => script["errorCode"] = word.into(),
            (_, _) => script["body"] = word.into(),
        }
        if status > 0 {
            script["status"] = status.into();
        }
        if self.more("since the push") {
            script["timestamp"] = now_ms.into();
        } else if self.more("since an hour") {
            script["timestamp"] = (now_ms - 3_600_000).into();
        }
        if let Some(asked) = self.columns.2.strip_prefix("retry-after ") {
            script["headers"] = json!({ "retry-after": retry_after(asked) });
        }
        script
    }

    /// What came out otherwise than the table says, if anything.
    fn check(&self, seen: &TracedDelivery, ended: bool, pause: Option<&Pause>, pushes: usize) -> Vec<String> {
        let (_, _, _, outcome, state, again, token, paused) = *self.columns;
        let first = &seen.attempts[0];
        let first_end = first.at.plus(Duration::from_millis(first.took_ms.into()));
        let next = seen.attempts.get(1).map(|second| second.at).or(seen.next_at);
        let mut wrong = Vec::new();
        let mut same = |what: &str, is: String, wanted: String| {
            if is != wanted {
                wrong.push(format!("{}: {what} {is}, not {wanted}", self.name()));
            }
        };
        same("outcome", first.outcome.to_string(), outcome.to_owned());
        same("delivery", seen.delivery.state.as_str().to_owned(), state.to_owned());
        same("subscription", if ended { "ends" } else { "kept" }.to_owned(), token.to_owned());
        let wait = next.map(|next| next.since(first_end).as_secs_f64());
        match (again, wait) {
            (NO | HEALED, None) => same("pushes", pushes.to_string(), (1 + u32::from(again == HEALED)).to_string()),
            (range, Some(wait)) if range != NO && is_in(range, wait) => {}
            _ => same("again after", format!("{wait:?}"), format!("{again:?}")),
        }
        match pause.map(|pause| pause.until.since(pause.since).as_secs_f64()) {
            None if paused == NO => {}
            Some(secs) if paused != NO && (f64::from(paused.0) - SLACK..f64::from(paused.1) + 0.5).contains(&secs) => {}
            other => same("paused for", format!("{other:?}"), format!("{paused:?}")),
        }
        wrong
    }
}

fn is_in((least, most): (u32, u32), secs: f64) -> bool {
    (f64::from(least)..f64::from(most) + SLACK).contains(&secs)
}

/// `30`, or `in 30 s`: a date of HTTP.
fn retry_after(asked: &str) -> String {
    let Some(secs) = asked.strip_prefix("in ") else { return asked.to_owned() };
    let secs: u64 = secs.trim_end_matches(" s").parse().expect("the table has a number there");
    let then = OffsetDateTime::now_utc() + Duration::from_secs(secs);
    then.format(&Rfc2822).unwrap().replace("+0000", "GMT")
}

/// One connection for all rows; the login speaks for every app.
struct Producer {
    amqp: Amqp,
    login: String,
}

impl Producer {
    async fn publish(&self, key: &str, body: &Value) {
        let properties = properties(key).with_user_id(self.login.as_str().into());
        self.amqp.publish("herald.requests", "high", properties, body.to_string().as_bytes()).await.unwrap();
    }
}

/// The only delivery of a user's notification, if it is stored.
async fn delivery(world: &World, app: &AppId, user: &str, key: &str) -> Option<TracedDelivery> {
    let id = world.store().notification_by_key(app, &UserId::new(user), key).await.ok()??;
    world.store().trace(app, id).await.ok()??.deliveries.into_iter().next()
}

/// Something of the same app is accepted.
async fn prove(world: &World, producer: &Producer, rows: &[&Row], key: &str) {
    for row in rows {
        producer.publish(key, &requests::raw(row.app.as_str(), &row.proof())).await;
    }
    for row in rows {
        until("the proof to be accepted", async || {
            let proof = delivery(world, &row.app, &row.proof(), key).await?;
            (proof.delivery.state.as_str() == "accepted").then_some(())
        })
        .await;
    }
}

/// Between the two times that a provider calls a token dead, something of the same app is accepted.
async fn prove_between(world: &World, producer: &Producer, rows: &[Row]) {
    let asked_again: Vec<&Row> = rows.iter().filter(|row| row.is_asked_again()).collect();
    for row in &asked_again {
        until(&row.name(), async || {
            let seen = delivery(world, &row.app, &row.user(), SUBJECT).await?;
            (!seen.attempts.is_empty()).then_some(())
        })
        .await;
    }
    prove(world, producer, &asked_again, "proof between").await;
}

#[tokio::test]
async fn every_answer_of_a_provider_does_what_the_table_says() {
    let rows = rows();
    let world = World::of()
        .apps(rows.iter().map(|row| row.app.to_string()).collect::<BTreeSet<_>>().into_iter().collect())
        .worker("attempt_timeout_secs = 5\nlease_secs = 30")
        .allow("paused; the work is kept")
        .allow("APNs refuses our connection or token; connection left")
        .allow("APNs connection is silent; replaced")
        .start()
        .await;
    let producer = Producer { amqp: connect(&world.producers[0]).await.unwrap(), login: login(&world.producers[0]) };
    for row in &rows {
        let platform = if row.provider == Provider::Apns { "ios" } else { "android" };
        for user in [row.proof(), row.user()] {
            let spec = json!({ "platform": platform, "ackLossPercent": 100 });
            world.phone_of(row.app.as_str(), &user, &user, spec).await;
        }
    }
    let proven: Vec<&Row> = rows.iter().filter(|row| !row.more("unproven")).collect();
    prove(&world, &producer, &proven, "proof").await;
    let now_ms = world.store().clock().now().micros() / 1_000;
    let scripted = rows.iter().filter(|row| (row.columns.0, row.columns.1) != (200, ""));
    let answers: Vec<Value> = scripted.map(|row| row.script(now_ms)).collect();
    world.simulator.script(Value::from(answers)).await;
    for row in &rows {
        let body = match row.more("owed") {
            true => requests::with_fallback(row.app.as_str(), &row.user(), 60),
            false => requests::raw(row.app.as_str(), &row.user()),
        };
        producer.publish(SUBJECT, &body).await;
    }
    // Looked at from the beginning: some are pushed again five seconds later.
    let seen = join_all(rows.iter().map(async |row| {
        let name = row.name();
        let settled = until(&name, async || {
            let seen = delivery(&world, &row.app, &row.user(), SUBJECT).await?;
            let state = seen.delivery.state.as_str();
            // What is due within seconds is about to be pushed again.
            let is_settled = state != "sending" && (state != "due" || row.columns.4 == "due");
            (is_settled && !seen.attempts.is_empty()).then_some(seen)
        });
        (row.user(), settled.await)
    }));
    let ((), seen) = tokio::join!(prove_between(&world, &producer, &rows), seen);
    let seen: BTreeMap<String, TracedDelivery> = seen.into_iter().collect();
    let pauses = world.store().pauses().await.unwrap();
    let pushes = world.simulator.pushes().await;
    let wrong = join_all(rows.iter().map(async |row| {
        let ended = world.store().list(&row.app, &UserId::new(row.user())).await.unwrap().is_empty();
        let pause = pauses.iter().find(|pause| (&pause.app, pause.provider) == (&row.app, row.provider));
        let pushes = pushes.iter().filter(|push| push.phone == row.user()).count();
        row.check(&seen[&row.user()], ended, pause, pushes)
    }));
    let wrong: Vec<String> = wrong.await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "of {} answers, otherwise than the table says:\n{}", rows.len(), wrong.join("\n"));
    world.finish().await;
}
