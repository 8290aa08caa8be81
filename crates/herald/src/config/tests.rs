//! Mistakes are found, all at once, each with its place and what to do; right configurations mean what they say.

mod gateway;

use std::path::Path;

use herald_core::event::Tell;
use herald_core::fallback::Mode;

use super::*;

const EXAMPLE: &str = include_str!("../../../../herald.example.toml");
const SECRET: &str = "hunter2";

/// A folder with a `herald.toml`, gone when dropped.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(toml: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.file("herald.toml", toml);
        folder
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn input(&self, env: &[(&str, &str)]) -> Input {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Input { file: Some(self.0.path().join("herald.toml")), env: env.iter().map(owned).collect() }
    }

    /// Loads it for a worker.
    fn load_all(&self, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let urls = [("HERALD_AMQP_URL", "amqp://a@b/v"), ("HERALD_DATABASE_URL", "postgres://a@b/c")];
        self.load(Needs::Worker, &[&urls, env].concat())
    }

    /// Loads it; problems with the folder's path cut away.
    fn load(&self, needs: Needs, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let prefix = format!("{}/", self.0.path().display());
        let lines = |failure: Failure| failure.to_string().replace(&prefix, "").lines().map(str::to_owned).collect();
        Config::load(&self.input(env), needs).map_err(lines)
    }
}

fn load(toml: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    Folder::with(toml).load(Needs::Connections, env)
}

/// The configuration has these problems, each beginning like this, and no others.
#[track_caller]
fn check(toml: &str, expected: &[&str]) {
    let problems = Folder::with(toml).load(Needs::Servers, &[]).expect_err("it has a problem");
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(expected) {
        assert!(problem.starts_with(start), "{problem:?} does not begin with {start:?}");
        let (what, fix) = problem.rsplit_once("; ").unwrap_or_else(|| panic!("{problem:?} says nothing to do"));
        assert!(!what.is_empty() && !fix.is_empty() && !fix.ends_with('.'), "{problem:?}");
    }
}

/// A whole app, changed by `change`.
fn app(change: impl FnOnce(String) -> String) -> String {
    change(
        r#"
        [apps."mail.contoso.com"]
        amqp_users = ["mail"]
        [apps."mail.contoso.com".apns]
        key_file = "key.p8"
        key_id = "ABC123DEFG"
        team_id = "DEF123GHIJ"
        topic = "com.contoso.mail"
        "#
        .to_owned(),
    )
}

#[test]
fn nothing_configured_is_right_and_has_the_documented_defaults() {
    let config = load("", &[]).unwrap();
    assert!(config.broker.urls.is_empty() && config.store.url.is_none() && config.apps.is_empty());
    assert_eq!(config.listen.to_string(), "127.0.0.1:9464");
    let worker = config.worker;
    assert_eq!((worker.budget, worker.lease.as_secs(), worker.attempt_timeout.as_secs()), (1000, 60, 20));
    assert_eq!((worker.clock_interval.as_millis(), worker.drain.as_secs(), worker.max_pause.as_secs()), (200, 30, 900));
}

#[test]
fn what_the_example_shows_as_default_is_the_default() {
    let defaults = "budget = 1000 lease_secs = 60 attempt_timeout_secs = 20 clock_interval_ms = 200 drain_secs = 30 \
                    max_pause_secs = 900 \
                    heartbeat_secs = 10 max_connections = 16 min_delay_secs = 60 max_delay_secs = 600 subscriptions_per_user = 20";
    let words: Vec<&str> = defaults.split_whitespace().collect();
    for setting in words.chunks(3) {
        let line = format!("# {}", setting.join(" "));
        assert!(EXAMPLE.contains(&line), "the example has no line {line:?}");
    }
    let config = load(&app(|t| t), &[]).unwrap();
    assert_eq!((config.broker.heartbeat.as_secs(), config.store.max_connections), (10, 16));
    assert_eq!((config.apps[0].fallback.mode, config.apps[0].fallback.delay_secs), (Mode::Send, (60, 600)));
    assert_eq!((config.apps[0].events, config.apps[0].subscriptions_per_user), (TellSet::EMPTY, 20));
}

#[test]
fn variables_stand_above_the_file_and_empty_ones_do_not_count() {
    let toml = "[worker]\nbudget = 5\nlease_secs = 50\n[http]\nlisten = \"127.0.0.1:1\"";
    let env = [
        ("HERALD_AMQP_URL", "amqp://a:b@one/v, amqps://a:b@two/v"),
        ("HERALD_DATABASE_URL", "postgres://a:b@c/d"),
        ("HERALD_WORKER_BUDGET", "7"),
        ("HERALD_WORKER_LEASE_SECS", ""),
        ("HERALD_LISTEN", "0.0.0.0:2"),
    ];
    let config = load(toml, &env).unwrap();
    assert_eq!((config.worker.budget, config.worker.lease.as_secs()), (7, 50));
    assert_eq!(config.listen.to_string(), "0.0.0.0:2");
    let urls: Vec<&str> = config.broker.urls.iter().map(Secret::expose).collect();
    assert_eq!(urls, ["amqp://a:b@one/v", "amqps://a:b@two/v"]);
    assert_eq!(config.store.url.unwrap().expose(), "postgres://a:b@c/d");
}

#[test]
fn every_variable_sets_something_that_exists() {
    // Any text is a folder's name, a number too.
    assert_eq!(load("", &[("HERALD_DIR", "7")]).unwrap().place, Place::Files("7".into()));
    for (name, _) in source::VARIABLES.into_iter().filter(|(name, _)| *name != "HERALD_DIR") {
        let problems = load("", &[(name, "!")]).map(|_| ()).expect_err(name);
        assert!(problems.iter().all(|p| p.starts_with(&format!("{name}: "))), "{problems:?}");
    }
}

#[test]
fn a_mistyped_variable_is_named_and_a_strange_one_is_left_alone() {
    let strange = [
        ("HERALD_TEST_DATABASE_URL", "x"),
        ("HERALD_TCP", "x"),
        ("HERALD_SERVICE_HOST", "10.0.0.1"),
        ("HERALD_PORT", "tcp://10.0.0.1:1"),
        ("HERALD_LOG", "info"),
    ];
    assert!(load("", &strange).is_ok());
    let problems = load("", &[("HERALD_WORKER_BUGET", "7")]).unwrap_err();
    assert_eq!(problems, ["HERALD_WORKER_BUGET: unknown variable; did you mean HERALD_WORKER_BUDGET?"]);
}

#[test]
fn a_problem_with_a_variable_names_the_variable() {
    let problems = load("", &[("HERALD_WORKER_BUDGET", "many"), ("HERALD_LISTEN", "9464")]).unwrap_err();
    assert_eq!(
        problems,
        [
            "HERALD_WORKER_BUDGET: has the wrong type; give a whole number without quotes",
            "HERALD_LISTEN: is not an address with a port; give 127.0.0.1:9464, or 0.0.0.0:9464 for all",
        ]
    );
}

#[test]
fn unknown_names_are_found_at_every_level_with_the_nearest_known_one() {
    let toml = app(|toml| {
        format!(
            "colour = 1\n[worker]\nbudgt = 1\n{toml}ky_id = \"A\"\n[apps.\"mail.contoso.com\".fallback]\nmod = \"send\""
        )
    });
    check(
        &toml,
        &[
            "herald.toml: worker.budgt: unknown name; did you mean budget?",
            "herald.toml: apps.\"mail.contoso.com\".apns.ky_id: unknown name; did you mean key_id?",
            "herald.toml: apps.\"mail.contoso.com\".fallback.mod: unknown name; did you mean mode?",
            "herald.toml: colour: unknown name; known here: broker, store, embedded, http, gateway, worker, apps",
        ],
    );
}

#[test]
fn values_out_of_range_or_of_the_wrong_type_are_found_together() {
    let toml = "[worker]\nbudget = 0\nlease_secs = \"long\"\n[http]\nlisten = \"nowhere\"\n[broker]\nurl = \"http://x\"\n\
                heartbeat_secs = 61\n[store]\nurl = [\"postgres://a/b\", \"postgres://c/d\"]\n";
    check(
        toml,
        &[
            "herald.toml: worker.lease_secs: has the wrong type; give a whole number",
            "herald.toml: broker.url: is not a URL of amqp:// or amqps:// with a host; give amqp://",
            "herald.toml: broker.heartbeat_secs: 61 is out of range; give 1 to 60",
            "herald.toml: store.url: is more than one URL; ",
            "herald.toml: http.listen: is not an address with a port; ",
            "herald.toml: worker.budget: 0 is out of range; give 1 to 100000",
        ],
    );
}

#[test]
fn times_are_checked_against_each_other() {
    check(
        "[worker]\nlease_secs = 20",
        &["herald.toml: worker.attempt_timeout_secs: an attempt may take 20 s, longer than"],
    );
    check(
        "[worker]\nattempt_timeout_secs = 60",
        &["herald.toml: worker.attempt_timeout_secs: an", "herald.toml: worker.drain_secs: a"],
    );
    check("[worker]\ndrain_secs = 10", &["herald.toml: worker.drain_secs: a drain of 10 s cuts off attempts"]);
    assert!(load("[worker]\nlease_secs = 2\nattempt_timeout_secs = 1\ndrain_secs = 1", &[]).is_ok());
    let delays = "[apps.\"mail.contoso.com\".fallback]\nmin_delay_secs = 601";
    check(&app(|toml| toml + delays), &["herald.toml: apps.\"mail.contoso.com\".fallback: the shortest delay (601 s)"]);
}

#[test]
fn an_app_without_a_provider_or_with_the_id_of_another_is_refused() {
    let at = "herald.toml: apps.\"mail.contoso.com\"";
    check("[apps.\"mail.contoso.com\"]", &[&format!("{at}: has no provider")]);
    let twice = app(|toml| format!("{toml}\n{}", toml.replace("mail.contoso.com", "Mail.Contoso.com")));
    check(&twice, &["herald.toml: apps.\"mail.contoso.com\": is the same app as \"Mail.Contoso.com\""]);
    check(
        &app(|toml| toml.replace("mail.contoso.com", "mail_contoso")),
        &["herald.toml: apps.mail_contoso: \"mail_contoso\" is not a host name"],
    );
}

#[test]
fn two_apps_need_their_producers_named_and_one_does_not() {
    let nobody = || app(|toml| toml.replace("amqp_users = [\"mail\"]", ""));
    assert!(load(&nobody(), &[]).is_ok());
    let two = nobody() + &app(|toml| toml.replace("mail.contoso.com", "chat.fabrikam.com"));
    check(&two, &["herald.toml: apps.\"mail.contoso.com\".amqp_users: is missing: with more than one app"]);
}

#[test]
fn everything_wrong_with_apns_is_found_together() {
    let at = "herald.toml: apps.\"mail.contoso.com\".apns";
    let check = |from: &str, to: &str, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|e| format!("{at}{e}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&app(|toml| toml.replace(from, to)), &expected);
    };
    check("key_id = \"ABC123DEFG\"\n", "", &[".key_id: is missing; give the 10 characters"]);
    check("ABC123DEFG", "ABC", &[".key_id: \"ABC\" is not 10 capitals and digits; "]);
    check("DEF123GHIJ", "def123ghij", &[".team_id: \"def123ghij\" is not 10 capitals"]);
    check(
        "com.contoso.mail",
        "com.contoso.mail.voip",
        &[".topic: \"com.contoso.mail.voip\" is the topic of another kind"],
    );
    check("com.contoso.mail", "com.contoso mail", &[".topic: \"com.contoso mail\" is not a bundle id"]);
    check("topic =", "environment = \"test\"\ntopic =", &[".environment: \"test\" is none of Apple's environments"]);
    for url in ["http://localhost", "https://", "localhost:1", "https://a/path", "https://u:p@a"] {
        check("topic =", &format!("url = \"{url}\"\ntopic ="), &[".url: is not an https address without a path"]);
    }
    let toml = app(|toml| toml.replace("key_id =", "key_di =").replace("team_id = \"DEF123GHIJ\"", "team_id = true"));
    super::tests::check(
        &toml,
        &[
            &format!("{at}.team_id: has the wrong type"),
            &format!("{at}.key_di: unknown name; did you mean key_id?"),
            &format!("{at}.key_id: is missing"),
            &format!("{at}.team_id: is missing"),
        ],
    );
}

#[test]
fn events_are_the_usual_ones_or_named() {
    let events =
        |list: &str| load(&app(|toml| toml.replace("amqp_users", &format!("events = {list}\namqp_users"))), &[]);
    assert_eq!(events("[\"usual\"]").unwrap().apps[0].events, TellSet::usual());
    let both = events("[\"usual\", \"accepted\"]").unwrap().apps[0].events;
    assert_eq!(both, TellSet::usual().with(Tell::Accepted));
    assert_eq!(events("\"toasted\"").unwrap().apps[0].events, TellSet::EMPTY.with(Tell::Toasted));
    let problems = events("[\"tosted\"]").unwrap_err();
    let at = "herald.toml: apps.\"mail.contoso.com\".events";
    assert_eq!(problems, [format!("{at}: \"tosted\" is not an event; did you mean toasted?")]);
}

#[test]
fn receipt_keys_have_an_id_of_their_own_and_one_secret() {
    let keys = |text: &str| app(|toml| toml + &text.replace("[[k]]", "[[apps.\"mail.contoso.com\".receipt_keys]]"));
    let at = "herald.toml: apps.\"mail.contoso.com\".receipt_keys";
    let check = |text: &str, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|e| format!("{at}{e}")).collect();
        super::tests::check(&keys(text), &expected.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check("[[k]]\nid = \"k1\"", &["[0]: has no secret"]);
    check("[[k]]\nid = \"k1\"\nsecret_file = \"a\"\nsecret_env = \"A\"", &["[0]: has two secrets"]);
    check("[[k]]\nsecret_file = \"a\"", &["[0].id: is missing"]);
    check("[[k]]\nid = \"a b\"\nsecret_file = \"a\"", &["[0].id: \"a b\" can't be a key's id"]);
    check(
        "[[k]]\nid = \"a\"\nsecret_file = \"a\"\n[[k]]\nid = \"a\"\nsecret_file = \"b\"",
        &["[1].id: \"a\" is the id of"],
    );
    let missing = Folder::with(&keys("[[k]]\nid = \"k1\"\nsecret_env = \"NOT_SET\""));
    missing.file("key.p8", "");
    let problems = missing.load_all(&[]).unwrap_err();
    let expected = format!("{at}[0].secret_env: the environment variable NOT_SET is not set");
    assert!(problems.iter().any(|p| p.starts_with(&expected)), "{problems:?}");
}

#[test]
fn a_missing_key_file_matters_only_to_who_pushes() {
    let folder = Folder::with(&app(|toml| toml));
    assert!(folder.load(Needs::Connections, &[]).is_ok());
    let problems = folder.load_all(&[]).unwrap_err();
    let at = "herald.toml: apps.\"mail.contoso.com\".apns.key_file";
    assert_eq!(problems, [format!("{at}: no such file: key.p8; give the path of the .p8 from Apple's developer site")]);
}

#[test]
fn who_pushes_needs_an_app_a_broker_and_a_store() {
    let problems = Folder::with("").load(Needs::Worker, &[]).unwrap_err();
    assert!(problems[1].contains("HERALD_AMQP_URL") && problems[2].contains("HERALD_DATABASE_URL"), "{problems:?}");
    let problems = Folder::with("").load_all(&[]).unwrap_err();
    assert!(problems[0].contains("no app is configured"), "{problems:?}");
}

#[test]
fn without_urls_work_is_on_files_beside_the_configuration_if_the_command_takes_them() {
    let folder = Folder::with(&app(|toml| toml));
    let place = |needs, env: &[(&str, &str)]| folder.load(needs, env).unwrap().place;
    assert_eq!(place(Needs::Connections, &[]), Place::Files(folder.0.path().join("herald-data")));
    assert_eq!(place(Needs::Connections, &[("HERALD_DIR", "here")]), Place::Files("here".into()));
    assert_eq!(place(Needs::Servers, &[]), Place::Servers);
    assert_eq!(place(Needs::Connections, &[("HERALD_AMQP_URL", "amqp://a@b/v")]), Place::Servers);
    let dir = Folder::with("[embedded]\ndir = \"data\"");
    assert_eq!(dir.load(Needs::Connections, &[]).unwrap().place, Place::Files(dir.0.path().join("data")));
}

#[test]
fn half_of_the_servers_is_a_mistake_that_names_the_other_half() {
    let folder = Folder::with(&app(|toml| toml));
    folder.file("key.p8", &p8());
    let problems = folder.load(Needs::Up, &[("HERALD_AMQP_URL", "amqp://a@b/v")]).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("HERALD_DATABASE_URL") && problems[0].contains("files"), "{problems:?}");
}

#[test]
fn who_works_on_files_lists_no_logins() {
    let nobody = app(|toml| toml.replace("amqp_users = [\"mail\"]", ""));
    let two = nobody.replace("mail.contoso.com", "chat.fabrikam.com") + &nobody;
    assert_eq!(load(&two, &[("HERALD_AMQP_URL", "amqp://a@b/v")]).unwrap_err().len(), 2);
    assert!(load(&two, &[]).is_ok());
}

#[test]
fn a_secret_is_never_shown() {
    let env = [
        ("HERALD_AMQP_URL", "amqp://a:hunter2@b/v"),
        ("HERALD_DATABASE_URL", "postgres://a:hunter2@c/d"),
        ("KEY", "hunter2hunter2"),
    ];
    let key = "[[apps.\"mail.contoso.com\".receipt_keys]]\nid = \"k1\"\nsecret_env = \"KEY\"";
    let config = load(&app(|toml| toml + key), &env).unwrap();
    assert!(!format!("{config:?}").contains(SECRET));
    let wrong = [
        ("[broker]\nurl = \"http://a:hunter2@b\"", [("HERALD_DATABASE_URL", "mysql://a:hunter2@c")]),
        ("[broker]\nurl = \"amqp://a:hunter2@b\n", [("A", "B")]),
        ("[broker]\nurl = { password = \"hunter2\" }", [("A", "B")]),
    ];
    for (toml, env) in wrong {
        let problems = load(toml, &env).unwrap_err().join("\n");
        assert!(!problems.contains(SECRET) && !problems.is_empty(), "{problems}");
    }
}

#[test]
fn a_file_that_is_not_toml_says_where() {
    let problems = load("[broker]\nurl = \"amqp://a\nx", &[]).unwrap_err();
    assert!(problems[0].starts_with("herald.toml: TOML parse error at line 2, column"), "{problems:?}");
    let missing = Input { file: Some(Path::new("/nowhere/herald.toml").to_owned()), ..Input::default() };
    let failure = Config::load(&missing, Needs::Connections).unwrap_err().to_string();
    assert!(failure.starts_with("/nowhere/herald.toml: No such file"), "{failure}");
}

#[test]
fn the_example_parses_and_shows_every_setting() {
    let config = Folder::with(EXAMPLE).load(Needs::Connections, &[("RECEIPT_KEY_1", "x")]).unwrap();
    let ids: Vec<&str> = config.apps.iter().map(|app| app.id.as_str()).collect();
    assert_eq!(ids, ["chat.fabrikam.com", "mail.contoso.com"]);
    assert_eq!(config.apps[1].receipt_keys.len(), 2);
    let all = EXAMPLE.lines().map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join("\n");
    let settings = "url ca_file heartbeat_secs max_connections listen budget lease_secs attempt_timeout_secs clock_interval_ms \
                    drain_secs max_pause_secs dir public_url operator_token_file subscriptions_per_user tls_cert_file tls_key_file signing_key_file issuer audiences user_claim user_prefix jwks_url request_log throttled_status client_ids amqp_users pushes_per_second requests_per_second request_burst events key_file key_id team_id topic environment \
                    service_account_file mode min_delay_secs max_delay_secs id secret_file secret_env";
    for name in settings.split_whitespace() {
        assert!(all.contains(&format!("\n{name} = ")), "the example does not show {name}");
    }
}

/// A key as Apple gives it.
fn p8() -> String {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem()
}

/// A service account as Google gives it.
fn service_account() -> String {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem();
    serde_json::json!({
        "type": "service_account", "project_id": "contoso", "private_key_id": "1", "private_key": key,
        "client_email": "herald@contoso.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

/// 32 bytes, as `openssl rand -base64 32` prints them.
const RECEIPT_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n";

fn now() -> credentials::Now {
    std::sync::Arc::new(|| herald_core::time::Timestamp::from_secs(0))
}

/// The files that the example names.
fn example() -> Folder {
    let folder = Folder::with(EXAMPLE);
    let account = service_account();
    folder
        .file("secrets/AuthKey_ABC123DEFG.p8", &p8())
        .file("secrets/contoso-mail-firebase.json", &account)
        .file("secrets/fabrikam-chat-firebase.json", &account)
        .file("secrets/receipt-key-2", RECEIPT_KEY);
    folder
}

#[tokio::test]
async fn the_example_with_its_files_is_a_worker_s_configuration() {
    let config = example().load_all(&[("RECEIPT_KEY_1", RECEIPT_KEY)]);
    // The folder is gone: the files are read again when the clients are made.
    let gone = credentials::open(&config.unwrap(), now()).unwrap_err().to_string();
    assert!(gone.contains("AuthKey_ABC123DEFG.p8: No such file"), "{gone}");

    let folder = example();
    let config = folder.load_all(&[("RECEIPT_KEY_1", RECEIPT_KEY)]).unwrap();
    let apps = credentials::open(&config, now()).unwrap();
    let [chat, mail] = apps.as_slice() else { panic!("two apps") };
    assert_eq!((chat.id.as_str(), chat.apns.len(), chat.fcm.is_some()), ("chat.fabrikam.com", 0, true));
    assert_eq!((mail.id.as_str(), mail.apns.len(), mail.fcm.is_some()), ("mail.contoso.com", 1, true));
    assert_eq!(mail.apns[&Environment::Production].topic.as_ref(), "com.contoso.mail");
    let keys: Vec<(&str, &[u8])> = mail.receipt_keys.iter().map(|k| (k.id.as_str(), k.secret.as_slice())).collect();
    let secret = b"0123456789abcdef0123456789abcdef".as_slice();
    assert_eq!(keys, [("k2", secret), ("k1", secret)]);
    assert_eq!((chat.fallback.mode, mail.fallback.mode), (Mode::Observe, Mode::Send));
}

#[tokio::test]
async fn both_environments_are_two_clients() {
    let folder = Folder::with(&app(|toml| toml + "environment = \"both\""));
    folder.file("key.p8", &p8());
    let apps = credentials::open(&folder.load_all(&[]).unwrap(), now()).unwrap();
    let environments: Vec<Environment> = apps[0].apns.keys().copied().collect();
    assert_eq!(environments, [Environment::Production, Environment::Sandbox]);
}

#[tokio::test]
async fn what_is_wrong_in_files_is_found_together_and_never_quoted() {
    let folder = example();
    folder
        .file("secrets/AuthKey_ABC123DEFG.p8", &p8().replace("PRIVATE", "PUBLIC"))
        .file("secrets/contoso-mail-firebase.json", "{\"type\": \"hunter2\"}")
        .file("secrets/receipt-key-2", "hunter2");
    let problems = folder.load_all(&[("RECEIPT_KEY_1", "hunter2hunter2hunter2!")]).unwrap_err();
    let at = "herald.toml: apps.\"mail.contoso.com\".";
    let expected = [
        "apns: APNs key ABC123DEFG: not",
        "fcm: FCM service account: ",
        "receipt_keys[0]: its secret has 7 bytes",
        "receipt_keys[1]: its secret is not base64",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(expected) {
        assert!(problem.starts_with(&format!("{at}{start}")), "{problem}");
        assert!(problem.contains("; ") && !problem.contains(SECRET), "{problem}");
    }
}
