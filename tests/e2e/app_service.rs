//! The app's service of `examples/app-service`, as it is: it gets its token, posts, and is told what became of it.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{APP, LIMIT, World};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/app-service/service.py");
const SECRET: &str = "correct-horse-battery";

/// What it prints for a user: the events about what it posted.
async fn service(world: &World, user: &str) -> Vec<Value> {
    let python = std::env::var("HERALD_TEST_PYTHON").ok().filter(|path| !path.is_empty());
    let mut command = tokio::process::Command::new(python.as_deref().unwrap_or("/usr/bin/python3"));
    command.args([SCRIPT, user]).env("HERALD_URL", world.workers[0].url("")).env("HERALD_APP", APP);
    command.env("HERALD_CLIENT_ID", "mail-service").env("HERALD_CLIENT_SECRET", SECRET).env("DELAY", "1");
    command.env("HERALD_AMQP_URL", world.amqp_url()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("it ends with the last event").unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_sample_service_gets_a_token_posts_and_reads_what_became_of_it() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let key = file("issuer-key.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let secret = file("secret", SECRET);
    let issuer = format!(
        "public_url = \"http://127.0.0.1\"\n[gateway.token_issuer]\nsigning_key_file = {key:?}",
        key = key.display().to_string()
    );
    let app = format!(
        "events = [\"usual\"]\n[[apps.{APP:?}.clients]]\nid = \"mail-service\"\nsecret_file = {:?}",
        secret.display().to_string()
    );
    let world = World::of().gateway(&issuer).app(&app).start().await;
    world.phone("saving", json!({ "platform": "ios", "condition": "powerSaving" })).await;

    let told = service(&world, "saving").await;
    let names: Vec<_> = told.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["deferred", "toasted"], "{told:?}");
    assert!(told.iter().all(|event| event["appNotificationId"] == "order-1042" && event["userId"] == "saving"));
    assert_eq!(world.simulator.count("saving", "toastsShown").await, 1);
    let told = service(&world, "nobody").await;
    assert_eq!(told[0]["event"], "noDevices", "{told:?}");
    world.all_closed().await;
    world.finish().await;
}
