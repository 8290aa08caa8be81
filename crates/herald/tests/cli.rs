//! The command from outside: exit codes, what is said on stdout and stderr, and what is never said.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const SECRET: &str = "hunter2";
/// Nobody listens there: ports below 1024 are not the system's to hand out.
const NOBODY: &str = "127.0.0.1:1";

/// The command in an empty folder, with nothing of this process's environment.
struct Herald(tempfile::TempDir);

impl Herald {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn with(toml: &str) -> Self {
        let herald = Self::new();
        std::fs::write(herald.folder().join("herald.toml"), toml).unwrap();
        herald
    }

    fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
        command.args(args).env_clear().envs(env.iter().copied()).current_dir(self.folder()).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str], env: &[(&str, &str)], code: i32) -> (String, String) {
        let Output { status, stdout, stderr } = self.command(args, env).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert_eq!(status.code(), Some(code), "{args:?}\n{stdout}\n{stderr}");
        assert!(!stdout.contains(SECRET) && !stderr.contains(SECRET), "{args:?} shows a secret:\n{stdout}\n{stderr}");
        (stdout, stderr)
    }
}

#[test]
fn help_and_version_are_no_mistakes_and_an_unknown_flag_is_wrong_usage() {
    let herald = Herald::new();
    assert!(herald.run(&["--help"], &[], 0).0.contains("Exit codes"));
    assert!(herald.run(&["--version"], &[], 0).0.starts_with("herald "));
    assert!(herald.run(&["worker", "--colour"], &[], 64).1.contains("--colour"));
    herald.run(&[], &[], 64);
    herald.run(&["topology"], &[("HERALD_LOG_FORMAT", "yaml")], 64);
    herald.run(&["apps"], &[("HERALD_LOG_FORMAT", ""), ("HERALD_CONFIG", ""), ("HERALD_LOG", "")], 0);
    herald.run(&["topology"], &[("HERALD_LOG", "herald=loud")], 64);
}

#[test]
fn a_wrong_configuration_is_told_in_full_and_nothing_is_opened() {
    let toml = format!("[broker]\nurl = \"http://a:{SECRET}@b\"\n[worker]\nlease_secs = 5\n[stoer]\n");
    let herald = Herald::with(&toml);
    let (stdout, stderr) = herald.run(&["topology"], &[], 64);
    assert_eq!(stdout, "");
    for problem in ["herald.toml: stoer: ", "herald.toml: broker.url: ", "herald.toml: worker.attempt_timeout_secs: "] {
        assert!(stderr.lines().any(|line| line.starts_with(problem)), "{problem}\n{stderr}");
    }
    assert_eq!(stderr.lines().count(), 3, "{stderr}");
    let (_, stderr) = Herald::new().run(&["topology", "--config", "other.toml"], &[], 64);
    assert!(stderr.starts_with("other.toml: No such file"), "{stderr}");
}

#[test]
fn a_worker_without_its_keys_ends_before_it_opens_anything() {
    let toml = "[apps.a.apns]\nkey_file = \"none.p8\"\nkey_id = \"ABC123DEFG\"\nteam_id = \"ABC123DEFG\"\ntopic = \"com.a\"\n\
                [apps.a.fcm]\nservice_account_file = \"none.json\"";
    let urls = [("HERALD_AMQP_URL", "amqp://127.0.0.1:1"), ("HERALD_DATABASE_URL", "postgres://a@127.0.0.1:1/b")];
    let (_, stderr) = Herald::with(toml).run(&["worker"], &urls, 64);
    assert!(stderr.contains("herald.toml: apps.a.apns.key_file: no such file: none.p8; give the path"), "{stderr}");
    assert!(stderr.contains("herald.toml: apps.a.fcm.service_account_file: no such file: none.json"), "{stderr}");
}

#[test]
fn a_command_without_the_url_it_needs_names_the_variable() {
    let herald = Herald::new();
    let send = ["send", "--app", "a", "--user", "u", "--raw", "x"];
    let check = |args: &[&str], variable: &str| {
        let (_, stderr) = herald.run(args, &[], 64);
        assert!(stderr.contains(variable), "{args:?}: {stderr}");
    };
    check(&["topology"], "HERALD_AMQP_URL");
    check(&send, "HERALD_AMQP_URL");
    let unsid = "01890a5d-ac96-774b-bcce-b302099a8057";
    check(&["subscriptions", "list", "--app", "a", "--user", "u"], "HERALD_DATABASE_URL");
    check(&["subscriptions", "remove", unsid], "HERALD_DATABASE_URL");
    check(&["apps", "pause", "a"], "HERALD_DATABASE_URL");
    check(&["apps", "resume", "a"], "HERALD_DATABASE_URL");
    check(&["dead", "list"], "HERALD_DATABASE_URL");
}

#[test]
fn a_party_that_does_not_answer_is_another_exit_code_than_a_mistake() {
    let herald = Herald::new();
    let broker = format!("amqp://herald:{SECRET}@{NOBODY}/v");
    let store = format!("postgres://herald:{SECRET}@{NOBODY}/herald");
    herald.run(&["topology", "--check"], &[("HERALD_AMQP_URL", &broker)], 69);
    herald.run(&["topology"], &[("HERALD_AMQP_URL", &broker), ("HERALD_DATABASE_URL", &store)], 69);
    herald.run(&["dead", "list"], &[("HERALD_DATABASE_URL", &store)], 69);
}

#[test]
fn a_request_that_breaks_the_contract_is_told_before_the_broker_is_asked() {
    let herald = Herald::new();
    std::fs::write(herald.folder().join("requests.jsonl"), "{\"targetHostName\": \"a\"}\n{\"target\": 7}\n").unwrap();
    let broker = [("HERALD_AMQP_URL", "amqp://127.0.0.1:1")];
    let (_, stderr) = herald.run(&["send", "requests.jsonl"], &broker, 64);
    assert!(stderr.contains("request 1: ") && stderr.contains("request 2: "), "{stderr}");
    let (_, stderr) = herald.run(&["send", "none.json"], &broker, 64);
    assert!(stderr.starts_with("none.json: "), "{stderr}");
}

#[test]
fn a_dry_run_shows_what_would_be_sent() {
    let args = ["send", "--app", "a", "--user", "u", "--raw", "order {n}", "--count", "2", "--dry-run"];
    let (stdout, _) = Herald::new().run(&args, &[], 0);
    let bodies: Vec<serde_json::Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let raws: Vec<&str> = bodies.iter().map(|b| b["payload"]["rawContent"].as_str().unwrap()).collect();
    assert_eq!(raws, ["order 1", "order 2"]);
}

#[test]
fn apps_are_listed_without_a_store() {
    let herald = Herald::new();
    assert!(herald.run(&["apps"], &[], 0).0.contains("no app is configured"));
    let herald = Herald::with("[apps.\"mail.contoso.com\".fcm]\nservice_account_file = \"elsewhere.json\"");
    let (stdout, _) = herald.run(&["apps"], &[], 0);
    assert!(stdout.contains("mail.contoso.com  fcm") && stdout.contains("HERALD_DATABASE_URL"), "{stdout}");
    let (stdout, _) = herald.run(&["apps", "list", "--json"], &[], 0);
    let listed: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((listed[0]["app"].as_str(), listed[0]["state"].as_str()), (Some("mail.contoso.com"), Some("unknown")));
    let (_, stderr) = herald.run(&["apps", "pause", "mail.contoso.cm"], &[], 64);
    assert!(stderr.contains("known: mail.contoso.com"), "{stderr}");
}

/// A simulator, ended when dropped.
struct Simulator(Child);

impl Drop for Simulator {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_simulator_writes_a_configuration_that_a_worker_takes_and_ends_when_asked() {
    let herald = Herald::new();
    let ports = ["simulate", "--dir", "sim", "--apns-port", "0", "--fcm-port", "0", "--control-port", "0"];
    let child = herald.command(&ports, &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut simulator = Simulator(child);
    let mut lines = BufReader::new(simulator.0.stdout.take().unwrap()).lines();
    // It says that it is ready last.
    let said: Vec<String> = lines.by_ref().map(Result::unwrap).take_while(|line| !line.starts_with("ready")).collect();
    assert!(said.iter().any(|line| line.contains("https://")), "{said:?}");

    let (stdout, _) = herald.run(&["apps", "--config", "sim/herald.toml"], &[], 0);
    assert!(stdout.contains("mail.contoso.com") && stdout.contains("chat.fabrikam.com"), "{stdout}");
    // All of its credentials are right: only the two URLs are missing.
    let (_, stderr) = herald.run(&["worker", "--config", "sim/herald.toml"], &[], 64);
    assert!(stderr.contains("HERALD_AMQP_URL") && !stderr.contains("sim/"), "{stderr}");

    let asked = Command::new("kill").arg(simulator.0.id().to_string()).status().unwrap();
    assert!(asked.success());
    assert_eq!(simulator.0.wait().unwrap().code(), Some(0));
}
