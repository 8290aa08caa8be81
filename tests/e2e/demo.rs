//! `herald demo` as a newcomer runs it: no server, no configuration; what it says, what it leaves, and whether it can fail.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use herald_harness::process::{Herald, herald};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::world::{APP, LIMIT, Output, until};

const BINARY: &str = env!("CARGO_BIN_EXE_herald");
/// What `--once` promises.
const ONCE: Duration = Duration::from_secs(30);
/// The last words of the script.
const GOOD: &str = "Each person saw exactly what they should.";
/// What is said when it goes on.
const GOES_ON: &str = "It goes on";

/// The command in an empty folder, with nothing of this process's environment but a TMPDIR of its own.
fn command(args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).env_clear().env("TMPDIR", folder).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(args: &[&str], folder: &Path) -> Output {
    output(command(args, folder)).await
}

async fn output(mut command: Command) -> Output {
    let ended = tokio::time::timeout(LIMIT, command.output()).await;
    let ended = ended.expect("it ends in time").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Output { code: ended.status.code(), stdout: text(ended.stdout), stderr: text(ended.stderr) }
}

/// A demo that goes on, up to its last words.
async fn going_on(folder: &Path, args: &[&str]) -> Herald {
    let demo = herald(BINARY).arg("demo").args(args.iter().copied()).env("TMPDIR", folder);
    demo.ready_when_writes(GOES_ON).start().await.unwrap()
}

async fn send_signal(demo: &Herald, signal: &str) {
    let pid = demo.pid().expect("it runs").to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// Plain text of at most 80 columns; only a path can't be broken.
fn check_looks(text: &str) {
    assert!(!text.contains('\x1b'), "{text}");
    for line in text.lines().filter(|line| !line.starts_with("  export ")) {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
        assert_eq!(line.trim_end(), line);
    }
}

#[tokio::test]
async fn its_json_says_that_each_person_saw_what_they_should_and_two_can_run_at_once() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let began = Instant::now();
    let args = ["demo", "--once", "--json"];
    let (first_said, second_said) = tokio::join!(run(&args, first.path()), run(&args, second.path()));
    assert!(began.elapsed() < ONCE, "{:?}", began.elapsed());
    let phone = |name, (platform, condition), (raws, receipts, toasts), state| {
        json!({ "name": name, "platform": platform, "condition": condition, "rawAccepted": raws, "receipts": receipts,
            "toastsShown": toasts, "state": state, "expected": state })
    };
    let expected = json!({ "ok": true, "phones": [
        phone("anna", ("ios", "awake"), (1, 1, 0), "received"),
        phone("ben", ("ios", "powerSaving"), (1, 0, 1), "toasted"),
        phone("carla", ("ios", "forceQuit"), (1, 0, 1), "toasted"),
        phone("dora", ("android", "awake"), (1, 1, 0), "accepted"),
        phone("emil", ("ios", "uninstalled"), (0, 0, 0), "gone"),
    ] });
    for (said, folder) in [(first_said, first), (second_said, second)] {
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
        let mut object: Value = serde_json::from_str(&said.stdout).unwrap();
        // A receipt may be faster than the record of the provider's acceptance.
        if object["phones"][3]["state"] == "received" {
            object["phones"][3]["state"] = "accepted".into();
            object["phones"][3]["expected"] = "accepted".into();
        }
        assert_eq!(object, expected);
        assert!(is_empty(folder.path()), "it left files behind");
    }
}

#[tokio::test]
async fn its_timeline_is_plain_and_narrow_and_tells_the_whole_story() {
    let folder = TempDir::new().unwrap();
    let said = run(&["demo", "--once"], folder.path()).await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    check_looks(&said.stdout);
    let stories = [
        ("anna", &["raw push accepted by APNs", "receipt: the app has it, so there will be no toast"][..]),
        (
            "ben",
            &[
                "raw push accepted by APNs",
                "deferred: no receipt within 3 s",
                "toast accepted by APNs",
                "the person sees",
            ],
        ),
        (
            "carla",
            &["raw push accepted", "deferred: no receipt within 3 s", "toast accepted by APNs", "the person sees"],
        ),
        ("dora", &["raw push accepted by FCM", "receipt: the app has it"]),
        ("emil", &["raw push refused by APNs: 410 Unregistered", "token pruned"]),
    ];
    let timeline: Vec<&str> = said.stdout.lines().filter(|line| line.get(6..8) == Some(" s")).collect();
    for (name, story) in stories {
        let own: Vec<&str> =
            timeline.iter().filter(|line| line.get(10..).is_some_and(|l| l.starts_with(name))).copied().collect();
        assert_eq!(own.len(), story.len(), "{name}: {own:?}");
        assert!(own.iter().zip(story).all(|(line, part)| line.contains(part)), "{name}: {own:?}");
    }
    assert!(said.stdout.trim_end().ends_with(GOOD), "{}", said.stdout);
    assert!(is_empty(folder.path()), "it left files behind");
}

#[tokio::test]
async fn a_person_who_saw_something_else_is_named_and_the_exit_code_is_one() {
    let folder = TempDir::new().unwrap();
    let keep = folder.path().join("kept");
    // Enough time to change a phone behind its back.
    let args = ["demo", "--once", "--json", "--after", "15", "--keep", keep.to_str().unwrap()];
    let demo = run(&args, folder.path());
    let meddle = async {
        let described = until("the simulator's addresses", async || {
            serde_json::from_str::<Value>(&std::fs::read_to_string(keep.join("simulator.json")).ok()?).ok()
        });
        let ben = format!("{}/phones/ben", described.await["controlUrl"].as_str().unwrap());
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        until("the raw push to wait for ben's phone", async || {
            let Ok(answer) = client.get(&ben).send().await else { return false };
            answer.json::<Value>().await.is_ok_and(|view| view["stored"] == 1)
        })
        .await;
        // Awake again in time, the app gets the raw push and acknowledges it: no toast.
        let awake = client.patch(&ben).json(&json!({ "condition": "awake" })).send().await.unwrap();
        assert!(awake.status().is_success());
    };
    let (said, ()) = tokio::join!(demo, meddle);
    assert_eq!(said.code, Some(1), "{said:?}");
    let differences = "not as expected:\n  ben: receipts: 1, expected 0\n  ben: toasts shown: 0, expected 1\n  \
                       ben: state: received, expected toasted\n";
    assert_eq!(said.stderr, differences);
    let object: Value = serde_json::from_str(&said.stdout).unwrap();
    let ben = &object["phones"][1];
    assert_eq!(
        (&object["ok"], &ben["toastsShown"], &ben["state"], &ben["expected"]),
        (&json!(false), &json!(0), &json!("received"), &json!("toasted"))
    );
}

#[tokio::test]
async fn what_others_send_from_a_second_terminal_is_seen_too_and_ctrl_c_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let mut demo = going_on(folder.path(), &[]).await;
    demo.writes("/v1/receipts", LIMIT).await.unwrap();
    let text = demo.stdout().unwrap();
    check_looks(&text);
    let config = text.lines().find_map(|line| line.strip_prefix("  export HERALD_CONFIG=")).expect("it names the file");

    // What it says to send, to a phone that it says can be changed.
    let control =
        text.split("curl -sw '\\n' ").nth(1).and_then(|rest| rest.split("/phones").next()).expect("an address");
    let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
    let metrics = text.split_whitespace().find(|word| word.ends_with("/metrics")).expect("an address");
    assert!(client.get(metrics).send().await.unwrap().status().is_success());
    let change = json!({ "condition": "forceQuit" });
    client.patch(format!("{control}/phones/anna")).json(&change).send().await.unwrap();
    let send = ["send", "--app", APP, "--user", "anna", "--raw", "hello", "--priority", "High"];
    let toast = ["--fallback-title", "Hello anna", "--fallback-after", "1"];
    let mut command = command(&[&send[..], &toast[..]].concat(), folder.path());
    command.env("HERALD_CONFIG", config);
    let sent = output(command).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    for line in [
        "anna   the phone was changed: the app is closed by hand",
        "queue  1 request stored; nothing follows for one without a phone",
        "anna   the person sees a toast: \"Hello anna\"",
    ] {
        demo.writes(line, LIMIT).await.unwrap();
    }
    assert_eq!(
        client.get(format!("{control}/phones/anna")).send().await.unwrap().json::<Value>().await.unwrap()["toastsShown"],
        1
    );

    assert!(!is_empty(folder.path()), "its files are not in TMPDIR, and this test would prove nothing");
    send_signal(&demo, "-INT").await;
    assert_eq!(demo.wait(LIMIT).await.unwrap().code(), Some(0), "{}", demo.stderr().unwrap());
    assert_eq!(demo.stderr().unwrap(), "");
    assert!(demo.stdout().unwrap().ends_with("Ended; no file is left behind.\n"));
    assert!(is_empty(folder.path()), "it left files behind");
}

#[tokio::test]
async fn a_signal_in_the_midst_of_the_script_leaves_nothing_either() {
    let folder = TempDir::new().unwrap();
    // As from ctrl-c, a supervisor, and a terminal that is closed.
    for signal in ["-INT", "-TERM", "-HUP"] {
        let demo = herald(BINARY).args(["demo", "--after", "15"]).env("TMPDIR", folder.path());
        let mut demo = demo.ready_when_writes("requests published").start().await.unwrap();
        assert!(!is_empty(folder.path()), "its files are here while it runs");
        send_signal(&demo, signal).await;
        assert_eq!(demo.wait(LIMIT).await.unwrap().code(), Some(0), "{signal}: {}", demo.stderr().unwrap());
        assert!(is_empty(folder.path()), "{signal}: it left files behind");
    }
}

#[tokio::test]
async fn a_folder_that_was_asked_for_is_kept_and_must_be_empty() {
    let folder = TempDir::new().unwrap();
    let args = ["demo", "--once", "--keep", "kept"];
    let said = run(&args, folder.path()).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    check_looks(&said.stdout.lines().filter(|line| !line.starts_with("Kept, in ")).collect::<Vec<_>>().join("\n"));
    for file in ["store.db", "queue.db", "herald.toml"] {
        assert!(folder.path().join("kept").join(file).is_file(), "no {file}");
    }
    let again = run(&args, folder.path()).await;
    assert_eq!(again.code, Some(64), "{again:?}");
    assert!(again.stderr.contains("--keep kept: is not empty"), "{again:?}");
}

#[tokio::test]
async fn json_is_of_a_run_that_ends() {
    let folder = TempDir::new().unwrap();
    let said = run(&["demo", "--json"], folder.path()).await;
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(said.stderr.contains("--once"), "{said:?}");
}
