//! Push clients written by others, against the simulated providers: what they send is taken, and what the simulator
//! answers is read back by each as its own type. So simulator and Herald can't share a misunderstanding of the wire.
//!
//! The clients are in tests/clients; they are installed once into cargo's target folder. Herald's workers have no part here.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::simulator::Simulator;
use crate::world::LIMIT;

const APP: &str = "mail.contoso.com";
const OTHER_APP: &str = "chat.contoso.com";
const TOPIC: &str = "com.contoso.mail";
pub(crate) const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients");
/// Scripted answers of APNs, which depend on no request. Each has a phone of this name.
const SCRIPTED: [(u64, &str); 4] =
    [(429, "TooManyRequests"), (500, "InternalServerError"), (503, "ServiceUnavailable"), (503, "Shutdown")];

/// Runs a tool to its end, on a thread that may block; one that takes too long is ended.
pub(crate) fn run(command: Command, advice: &str) -> Output {
    let mut command = tokio::process::Command::from(command);
    let ended = tokio::time::timeout(LIMIT * 2, command.kill_on_drop(true).output());
    let output = tokio::runtime::Handle::current().block_on(ended).unwrap_or_else(|_| panic!("{command:?} hangs"));
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; {advice}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed; {advice}\n{text}");
    output
}

/// The folder with the packages of a client whose sources are in `source`. The first to come installs them; others, of any
/// process, wait for it.
pub(crate) fn installed(source: &Path) -> PathBuf {
    const ADVICE: &str = "nodejs, npm and python3-venv are needed (./test --install-servers), and once the network";
    let client = source.file_name().unwrap().display();
    let node = source.join("package-lock.json").exists();
    let pinned = if node { "package-lock.json" } else { "requirements.txt" };
    let mut hash = DefaultHasher::new();
    std::fs::read(source.join(pinned)).unwrap().hash(&mut hash);
    let clients = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    let folder = clients.join(format!("{client}-{:016x}", hash.finish()));
    std::fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let complete = folder.join("complete");
    if !complete.exists() {
        if node {
            for file in ["package.json", pinned] {
                std::fs::copy(source.join(file), folder.join(file)).unwrap();
            }
            let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
            let mut command = Command::new("npm");
            command.args(npm).current_dir(&folder);
            run(command, ADVICE);
        } else {
            let python = std::env::var("HERALD_TEST_PYTHON").ok().filter(|path| !path.is_empty());
            let python = python.as_deref().unwrap_or("/usr/bin/python3");
            let mut venv = Command::new(python);
            venv.args(["-m", "venv", "--clear"]).arg(folder.join("venv"));
            run(venv, ADVICE);
            let mut pip = Command::new(folder.join("venv/bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "-r"]);
            pip.arg(source.join(pinned));
            run(pip, ADVICE);
        }
        File::create(complete).unwrap();
    }
    folder
}

/// Gives a client its plan; the answer is a line for each push.
pub(crate) async fn by(client: &'static str, plan: Value) -> Vec<Value> {
    let work = move || {
        let source = Path::new(CLIENTS).join(client);
        let folder = installed(&source);
        let (program, script) = if source.join("push.js").exists() {
            (PathBuf::from("node"), source.join("push.js"))
        } else {
            (folder.join("venv/bin/python"), source.join("push.py"))
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), plan.to_string()).unwrap();
        let mut command = Command::new(program);
        if let Some(file) = plan["extraCaFile"].as_str() {
            command.env("NODE_EXTRA_CA_CERTS", file);
        }
        command.arg(script).current_dir(folder).stdin(Stdio::from(File::open(file.path()).unwrap()));
        let output = run(command, "the client failed");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The simulator of one test.
struct Providers {
    simulator: Simulator,
    described: Value,
    _folder: TempDir,
}

impl Providers {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let simulator = Simulator::start(folder.path(), &[APP, OTHER_APP].map(str::to_owned)).await.unwrap();
        let described = std::fs::read_to_string(folder.path().join("simulator.json")).unwrap();
        Self { simulator, described: serde_json::from_str(&described).unwrap(), _folder: folder }
    }

    async fn token(&self, name: &str, app: &str, platform: &str) -> String {
        let phone = self.simulator.phone(name, json!({ "app": app, "platform": platform })).await;
        phone["token"].as_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.simulator.folder().join(name)
    }

    /// The plan of an APNs client with `APP`'s key.
    fn apns(&self, pushes: &[Value]) -> Value {
        let url: reqwest::Url = self.described["apnsUrl"].as_str().unwrap().parse().unwrap();
        let apps = self.described["apps"].as_array().unwrap();
        let app = apps.iter().find(|app| app["app"] == APP).unwrap();
        json!({
            "host": url.host_str(), "port": url.port(), "caFile": self.file("ca.pem"),
            "keyFile": self.file(&format!("{APP}.p8")), "keyId": app["keyId"], "teamId": app["teamId"],
            "topic": app["topic"], "pushes": pushes,
        })
    }
}

/// A visible push; `change` replaces members.
fn alert(case: &str, token: &str, change: &Value) -> Value {
    let payload = json!({ "aps": { "alert": "Hello" } });
    let mut push = json!({ "case": case, "token": token, "type": "alert", "priority": 10, "payload": payload });
    push.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    push
}

/// What a client made of each push: `sent`, or its reason, or its own words.
fn outcomes(results: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let outcome = |result: &Value| match (&result["sent"], &result["reason"]) {
        (sent, _) if *sent == 1 => "sent".to_owned(),
        (_, Value::String(reason)) => reason.clone(),
        _ => text(&result["error"]),
    };
    results.iter().map(|result| (text(&result["case"]), outcome(result))).collect()
}

fn expected(table: &[(&str, &str)]) -> Vec<(String, String)> {
    table.iter().map(|(case, outcome)| ((*case).to_owned(), (*outcome).to_owned())).collect()
}

/// Kinds of pushes and refusals that both APNs clients name alike, with the strict simulator.
async fn kinds_and_refusals(client: &'static str) {
    let providers = Providers::start().await;
    let phone = providers.token("phone", APP, "ios").await;
    let other = providers.token("other", OTHER_APP, "ios").await;
    let gone = providers.token("gone", APP, "ios").await;
    providers.simulator.change("gone", json!({ "condition": "uninstalled" })).await;
    let background = json!({ "aps": { "content-available": 1 } });
    let background = |case, priority| {
        alert(case, &phone, &json!({ "type": "background", "priority": priority, "payload": background.clone() }))
    };
    let voip = format!("{TOPIC}.voip");
    let pushes = [
        alert("alert", &phone, &json!({ "collapseId": "thread", "expiration": 4_000_000_000_u64 })),
        alert("alert 5", &phone, &json!({ "priority": 5 })),
        background("background", 5),
        alert("voip", &phone, &json!({ "type": "voip", "topic": voip })),
        background("background 10", 10),
        alert("unknown", &"ab".repeat(32), &json!({})),
        alert("gone", &gone, &json!({})),
        alert("other token", &other, &json!({})),
        alert("other topic", &other, &json!({ "topic": "com.contoso.chat" })),
        alert("no such topic", &phone, &json!({ "topic": "com.example" })),
        alert("large", &phone, &json!({ "payload": { "aps": { "alert": "x".repeat(5000) } } })),
    ];
    let results = by(client, providers.apns(&pushes)).await;
    let table = [
        ("alert", "sent"),
        ("alert 5", "sent"),
        ("background", "sent"),
        ("voip", "sent"),
        ("background 10", "BadPriority"),
        ("unknown", "BadDeviceToken"),
        ("gone", "Unregistered"),
        ("other token", "DeviceTokenNotForTopic"),
        ("other topic", "TopicDisallowed"),
        ("no such topic", "BadTopic"),
        ("large", "PayloadTooLarge"),
    ];
    assert_eq!(outcomes(&results), expected(&table));
    let gone = results.iter().find(|result| result["case"] == "gone").unwrap();
    assert!(gone["timestamp"].as_u64() > Some(1_600_000_000_000), "milliseconds: {gone}");

    let journal = providers.simulator.journal().await;
    let first = &journal.iter().find(|entry| entry["phone"] == "phone").expect("the alert")["headers"];
    assert_eq!(first["apns-collapse-id"], "thread", "{first}");
    assert!(first["apns-expiration"].as_str().unwrap().starts_with("4000000"), "{first}");
    // Not strict, the simulator takes what Apple forbids without naming a reason.
    providers.simulator.set(json!({ "strict": false })).await;
    let results = by(client, providers.apns(&[background("background 10", 10)])).await;
    assert_eq!(outcomes(&results), expected(&[("background 10", "sent")]));

    let mut plan = providers.apns(&[alert("other team", &phone, &json!({}))]);
    plan["teamId"] = json!("AAAAAAAAAA");
    assert_eq!(outcomes(&by(client, plan).await), expected(&[("other team", "InvalidProviderToken")]));

    let mut plan = providers.apns(&(0..20).map(|_| alert("together", &phone, &json!({}))).collect::<Vec<_>>());
    plan["together"] = json!(true);
    assert_eq!(outcomes(&by(client, plan).await), expected(&[("together", "sent"); 20]));
}

/// What a client makes of answers about the provider, and how often it asked for each.
async fn troubles(client: &'static str) -> Vec<(String, String, usize)> {
    let providers = Providers::start().await;
    let mut pushes = Vec::new();
    for (status, reason) in SCRIPTED {
        let token = providers.token(reason, APP, "ios").await;
        providers.simulator.script(json!({ "phone": reason, "times": 0, "status": status, "reason": reason })).await;
        pushes.push(alert(reason, &token, &json!({})));
    }
    let results = by(client, providers.apns(&pushes)).await;
    let journal = providers.simulator.journal().await;
    let asked = |case: &str| journal.iter().filter(|entry| entry["phone"] == case).count();
    outcomes(&results)
        .into_iter()
        .map(|(case, outcome)| (asked(&case), case, outcome))
        .map(|(n, c, o)| (c, o, n))
        .collect()
}

#[tokio::test]
async fn node_apn_sends_each_kind_of_push_and_reads_each_refusal() {
    kinds_and_refusals("node-apn").await;
}

#[tokio::test]
async fn aioapns_sends_each_kind_of_push_and_reads_each_refusal() {
    kinds_and_refusals("aioapns").await;
}

#[tokio::test]
async fn aioapns_reads_troubles_of_the_provider_and_does_not_repeat() {
    let table = SCRIPTED.map(|(_, reason)| (reason.to_owned(), reason.to_owned(), 1));
    assert_eq!(troubles("aioapns").await, table);
}

#[tokio::test]
async fn node_apn_reads_troubles_of_the_provider_and_repeats() {
    // Its own words for an internal error; the others it names as APNs does.
    let words = |reason| if reason == "InternalServerError" { "Error 500, stream ended unexpectedly" } else { reason };
    let table = SCRIPTED.map(|(_, reason)| (reason.to_owned(), words(reason).to_owned(), 4));
    assert_eq!(troubles("node-apn").await, table);
}

#[tokio::test]
async fn firebase_admin_sends_each_kind_of_message_and_reads_each_error_as_its_own_type() {
    let providers = Providers::start().await;
    let phone = providers.token("phone", APP, "android").await;
    let data = json!({ "key": "value" });
    let mut messages = vec![
        json!({ "case": "high", "token": phone, "data": data, "priority": "high", "ttlSecs": 60, "collapseKey": "mail" }),
        json!({ "case": "normal", "token": phone, "data": data, "priority": "normal", "by": "http2" }),
        json!({ "case": "notification", "token": phone, "notification": { "title": "Hello", "body": "Anna" } }),
        json!({ "case": "topic", "topic": "news", "data": data }),
        json!({ "case": "dry run", "token": phone, "data": data, "dryRun": true }),
        json!({ "case": "no token", "token": "none", "data": data }),
    ];
    // The scripted error, and what firebase-admin makes of it.
    let errors = [
        (404, "UNREGISTERED", "UnregisteredError"),
        (403, "SENDER_ID_MISMATCH", "SenderIdMismatchError"),
        (400, "INVALID_ARGUMENT", "InvalidArgumentError"),
        (429, "QUOTA_EXCEEDED", "QuotaExceededError"),
        (401, "THIRD_PARTY_AUTH_ERROR", "ThirdPartyAuthError"),
        (500, "INTERNAL", "InternalError"),
        (503, "UNAVAILABLE", "UnavailableError"),
    ];
    for (status, code, _) in errors {
        let token = providers.token(code, APP, "android").await;
        let headers = json!({ "retry-after": "0" });
        let script = json!({ "phone": code, "times": 0, "status": status, "errorCode": code, "headers": headers });
        providers.simulator.script(script).await;
        messages.push(json!({ "case": code, "token": token, "data": data }));
    }
    let plan = json!({
        "url": providers.described["fcmUrl"], "caFile": providers.file("ca.pem"),
        "serviceAccountFile": providers.file(&format!("{APP}.service-account.json")), "messages": messages,
    });
    let results = by("firebase-admin-python", plan).await;
    let read: Vec<(&str, &str)> = results
        .iter()
        .map(|result| (result["case"].as_str().unwrap(), result["type"].as_str().unwrap_or("sent")))
        .collect();
    let sent = ["high", "normal", "notification", "topic", "dry run"].map(|case| (case, "sent"));
    let refused = errors.map(|(_, code, class)| (code, class));
    assert_eq!(read, [&sent[..], &[("no token", "InvalidArgumentError")], &refused[..]].concat());

    let journal = providers.simulator.journal().await;
    let high = journal.iter().find(|entry| entry["phone"] == "phone").expect("the first message");
    let android = json!({ "priority": "high", "ttl": "60s", "collapse_key": "mail" });
    assert_eq!(high["body"]["message"]["android"], android);
    let asked = |code: &str| journal.iter().filter(|entry| entry["phone"] == code).count();
    assert_eq!((asked("UNAVAILABLE"), asked("UNREGISTERED")), (5, 1), "it repeats four times what may pass");
}
