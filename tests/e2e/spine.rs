//! The whole way, with a producer in Python: from `basic_publish` to what each person sees; and a worker that is killed.

use std::process::Stdio;
use std::time::Duration;

use herald_core::ids::{AppId, UserId};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::load::{Load, message};
use crate::requests;
use crate::world::{APP, LIMIT, World, until};

const DELAY_SECS: u32 = 2;
/// G2: how long after its deadline a toast may be accepted.
const PROMPT: Duration = Duration::from_secs(2);

/// Publishes by pika; the answer is the keys that the broker confirmed.
async fn publish_by_python(url: &str, messages: &[(String, Value)]) -> Vec<String> {
    let python = std::env::var("HERALD_TEST_PYTHON").ok().filter(|path| !path.is_empty());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/e2e/publish.py");
    let mut process = tokio::process::Command::new(python.as_deref().unwrap_or("/usr/bin/python3"))
        .args([script, url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python3 with pika is installed (./test --install-servers does it)");
    let lines: String =
        messages.iter().map(|(key, body)| json!({ "key": key, "body": body }).to_string() + "\n").collect();
    let mut stdin = process.stdin.take().expect("piped");
    let write = async {
        stdin.write_all(lines.as_bytes()).await.unwrap();
        drop(stdin);
    };
    let both = async { tokio::join!(write, process.wait_with_output()).1.unwrap() };
    let output = tokio::time::timeout(LIMIT, both).await.expect("the producer ends");
    assert!(output.status.success(), "the producer failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn each_person_is_told_exactly_once_whatever_the_phone_is_doing() {
    let world = World::of().workers(2).start().await;
    let ios = |condition: &str| json!({ "platform": "ios", "condition": condition });
    for (user, spec) in [
        ("awake", ios("awake")),
        ("saving", ios("powerSaving")),
        ("quit", ios("forceQuit")),
        ("removed", ios("awake")),
        ("android", json!({ "platform": "android" })),
    ] {
        world.phone(user, spec).await;
    }
    world.uninstall("removed").await;

    let users = ["awake", "saving", "quit", "removed", "android"];
    // The receipt of the phone that is awake may take its time.
    let delay = |user: &str| if user == "awake" { 60 } else { DELAY_SECS };
    let messages: Vec<(String, Value)> =
        users.iter().map(|user| (format!("order-{user}"), requests::with_fallback(APP, user, delay(user)))).collect();
    assert_eq!(publish_by_python(world.amqp_url(), &messages).await.len(), users.len());

    for (user, state) in [
        ("awake", "received"),
        ("saving", "toasted"),
        ("quit", "toasted"),
        ("removed", "gone"),
        // No fallback is owed to it: the provider's acceptance is the end, or a receipt that was faster.
        ("android", "accepted"),
    ] {
        let key = format!("order-{user}");
        until(&format!("{key} to be {state}"), async || {
            world.state(user, &key).await.is_some_and(|is| is == state || (user == "android" && is == "received"))
        })
        .await;
    }
    for (user, shown, raws) in [("awake", 0, 1), ("saving", 1, 0), ("quit", 1, 0), ("removed", 0, 0), ("android", 0, 1)]
    {
        let view = world.simulator.view(user).await;
        let seen = (view["toastsShown"].as_u64(), view["alertsShown"].as_u64(), view["rawsDelivered"].as_u64());
        assert_eq!(seen, (Some(shown), Some(0), Some(raws)), "{user}: toasts, alerts, raws");
    }
    for user in ["saving", "quit"] {
        toast_is_prompt(&world, user).await;
    }
    android_gets_the_data(&world).await;
    let left = world.store().list(&AppId::new(APP), &UserId::new("removed")).await.unwrap();
    assert!(left.is_empty(), "the subscription of an uninstalled app is still active");
    world.all_closed().await;
    world.finish().await;
}

/// G2, by the simulator's clock: not before the deadline, and within two seconds of it.
async fn toast_is_prompt(world: &World, user: &str) {
    let pushes = world.simulator.pushes_to(user).await;
    let forms: Vec<&str> = pushes.iter().map(|push| push.form.as_str()).collect();
    assert_eq!(forms, ["raw", "toast"], "{user}");
    let (raw, toast) = (&pushes[0], &pushes[1]);
    assert_eq!(raw.headers["apns-collapse-id"], toast.headers["apns-collapse-id"], "{user}");
    assert_eq!(toast.body["aps"]["alert"]["title"], "Order shipped", "{user}");
    let delay = Duration::from_secs(u64::from(DELAY_SECS));
    let after = Duration::from_micros(toast.time - raw.time);
    assert!(after >= delay - Duration::from_millis(100), "{user}: the toast came {after:?} after the raw push");
    assert!(after <= delay + PROMPT, "{user}: the toast came {after:?} after the raw push");
}

async fn android_gets_the_data(world: &World) {
    let pushes = world.simulator.pushes_to("android").await;
    assert_eq!(pushes.len(), 1);
    let message = &pushes[0].body["message"];
    assert_eq!(message["android"]["priority"], "HIGH");
    assert!(message.get("notification").is_none(), "a raw push shows nothing by itself: {message}");
    let herald: Value = serde_json::from_str(message["data"]["herald"].as_str().unwrap()).unwrap();
    assert_eq!(herald["content"], "{\"order\":1042}");
}

#[tokio::test]
async fn a_worker_killed_in_the_midst_of_three_hundred_loses_nothing() {
    const BUDGET: usize = 20;
    let mut world = World::of()
        .workers(2)
        .worker(&format!("budget = {BUDGET}\nlease_secs = 5\nattempt_timeout_secs = 2"))
        .start()
        .await;
    let mut load = Load::new(&world).await;
    world.simulator.set(json!({ "delayMs": 60 })).await;
    let messages: Vec<(String, Value)> = (0..300).map(message).collect();
    let url = world.amqp_url().to_owned();
    let (confirmed, ()) = tokio::join!(publish_by_python(&url, &messages), async {
        until("a quarter of the pushes", async || world.simulator.accepted().await >= 150).await;
        // The receipts of the phones go to the first worker, so it is the second that dies.
        world.kill_worker(1).await;
        assert!(world.simulator.accepted().await < 600, "the kill came too late to prove anything");
    });
    confirmed.into_iter().for_each(|key| load.is_confirmed(key));
    assert_eq!(load.confirmed(), 300);
    load.check(&world, BUDGET).await;
    world.finish().await;
}
