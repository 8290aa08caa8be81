//! One test's world: a vhost, a database, a simulator, workers; nothing of it is shared with another test.
//!
//! [`World::of`] describes it, [`Setup::start`] makes it, [`World::finish`] ends it in order and holds the workers' logs
//! against what the test allows: a warning that nobody expected fails the test. A test that fails prints the ends of the
//! logs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use herald_core::ids::{AppId, PushToken, Unsid, UserId};
use herald_core::subscription::{Environment, Platform, TokenKind};
use herald_harness::process::{Herald, herald};
use herald_harness::{Broker, Database, Permissions, wait};
use herald_queue::{Exchange, Outgoing, Queue};
use herald_store::{Config, NewSubscription, PostgresConfig, SqliteConfig, Store};
use serde_json::{Value, json};

use crate::simulator::Simulator;

/// The app of most tests.
pub(crate) const APP: &str = "mail.contoso.com";
/// A second one.
pub(crate) const OTHER: &str = "chat.fabrikam.com";
/// The longest that anything awaited may take, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// How much of a log is shown when a test fails.
const SHOWN_LINES: usize = 60;

/// Wait until it holds.
pub(crate) async fn until<R: wait::Reached>(what: &str, look: impl AsyncFnMut() -> R) -> R::Value {
    wait::until(LIMIT, what, look).await.unwrap()
}

/// What a test wants.
pub(crate) struct Setup {
    workers: usize,
    apps: Vec<String>,
    one_producer: bool,
    worker: String,
    gateway: String,
    app: String,
    fallback: String,
    allowed: Vec<&'static str>,
    broker: Option<String>,
    database: Option<String>,
    heartbeat_secs: u32,
    on_files: bool,
    up: bool,
}

impl Setup {
    /// So many workers from the start.
    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Two apps, so that logins matter.
    pub(crate) fn two_apps(mut self) -> Self {
        self.apps = vec![APP.to_owned(), OTHER.to_owned()];
        self
    }

    /// These apps instead of the one, all published for by one producer's login.
    pub(crate) fn apps(mut self, apps: Vec<String>) -> Self {
        (self.apps, self.one_producer) = (apps, true);
        self
    }

    /// Further lines for `[worker]`.
    pub(crate) fn worker(mut self, lines: &str) -> Self {
        self.worker.push_str(lines);
        self.worker.push('\n');
        self
    }

    /// The lines of `[gateway]`.
    pub(crate) fn gateway(mut self, lines: &str) -> Self {
        self.gateway = format!("[gateway]\n{lines}\n");
        self
    }

    /// Further lines for each app.
    pub(crate) fn app(mut self, lines: &str) -> Self {
        self.app.push_str(lines);
        self.app.push('\n');
        self
    }

    /// Further lines for each app's fallback.
    pub(crate) fn fallback(mut self, lines: &str) -> Self {
        self.fallback.push_str(lines);
        self.fallback.push('\n');
        self
    }

    /// A warning or error with this text is what the test expects.
    pub(crate) fn allow(mut self, text: &'static str) -> Self {
        self.allowed.push(text);
        self
    }

    /// How often a broker connection shows that it lives; a lost one is noticed after twice this.
    pub(crate) fn heartbeat(mut self, secs: u32) -> Self {
        self.heartbeat_secs = secs;
        self
    }

    /// A broker of the test's own instead of a vhost of the shared one.
    pub(crate) fn broker(mut self, url: String) -> Self {
        self.broker = Some(url);
        self
    }

    /// A database of the test's own server instead of one of the shared server.
    pub(crate) fn database(mut self, url: String) -> Self {
        self.database = Some(url);
        self
    }

    /// No servers: one `herald up` on files.
    pub(crate) fn on_files(mut self) -> Self {
        self.on_files = true;
        self.up()
    }

    /// `herald up` instead of `herald topology` and `herald worker`.
    pub(crate) fn up(mut self) -> Self {
        self.up = true;
        self
    }

    /// Makes it all; the workers are ready.
    pub(crate) async fn start(self) -> World {
        self.try_start().await.unwrap()
    }

    async fn try_start(self) -> Result<World> {
        let folder = tempfile::tempdir()?;
        let own = |given: &Option<String>| given.is_none() && !self.on_files;
        let mut broker = if own(&self.broker) { Some(herald_harness::broker().await?) } else { None };
        let database = if own(&self.database) { Some(herald_harness::database().await?) } else { None };
        let place = if self.on_files {
            Place::Files(folder.path().join("data"))
        } else {
            Place::Servers {
                amqp_url: self.broker.clone().or(broker.as_ref().map(Broker::url)).unwrap_or_default(),
                database_url: self.database.clone().or(database.as_ref().map(Database::url)).unwrap_or_default(),
            }
        };
        let simulator = Simulator::start(&folder.path().join("simulator"), &self.apps).await?;

        // The login of each app's producer, which alone may publish for it as soon as there are two.
        let mut producers = Vec::new();
        if let (2.., Some(broker)) = (self.apps.len(), &mut broker) {
            let may_publish = Permissions::new("^$", "^herald\\.requests$", "^$");
            let producing = if self.one_producer { &self.apps[..1] } else { &self.apps[..] };
            for app in producing {
                producers.push(broker.add_user(app.split('.').next().unwrap_or("x"), &may_publish).await?);
            }
        }
        let config = folder.path().join("herald.toml");
        std::fs::write(&config, self.toml(&simulator, &producers)?)?;

        let mut world = World {
            workers: Vec::new(),
            ended: Vec::new(),
            simulator,
            producers,
            place,
            command: if self.up { "up" } else { "worker" },
            config,
            allowed: self.allowed,
            finished: false,
            store: None,
            _broker: broker,
            _database: database,
            _folder: folder,
        };
        if !self.up {
            let topology = world.herald(&["topology"]).await;
            anyhow::ensure!(topology.code == Some(0), "herald topology: {topology:?}");
        }
        world.store = Some(world.connect_store().await?);
        for _ in 0..self.workers {
            world.add_worker().await?;
        }
        if let Some(first) = world.workers.first() {
            world.simulator.set(json!({ "receiptsUrl": first.url("/v1/receipts") })).await;
        }
        Ok(world)
    }

    /// `herald.toml`, with the credentials that the simulator made.
    fn toml(&self, simulator: &Simulator, producers: &[String]) -> Result<String> {
        use std::fmt::Write as _;
        let text = std::fs::read_to_string(simulator.folder().join("simulator.json"))?;
        let described: Value = serde_json::from_str(&text)?;
        let mut toml = format!(
            "[broker]\nheartbeat_secs = {}\n[store]\nmax_connections = 8\n[worker]\nclock_interval_ms = 50\n{}\n{}",
            self.heartbeat_secs, self.worker, self.gateway,
        );
        for (index, app) in self.apps.iter().enumerate() {
            let folder = simulator.folder().display();
            let users: Vec<String> =
                producers.get(index).or(producers.first()).map(|url| login(url)).into_iter().collect();
            let (apns, fcm) = (&described["apnsUrl"], &described["fcmUrl"]);
            let about = described["apps"]
                .as_array()
                .and_then(|apps| apps.iter().find(|about| about["app"] == **app))
                .with_context(|| format!("{app} is not in simulator.json"))?;
            write!(
                toml,
                "[apps.\"{app}\"]\namqp_users = {users:?}\n{}\n\
                 [apps.\"{app}\".apns]\nkey_file = \"{folder}/{app}.p8\"\nkey_id = {}\nteam_id = {}\ntopic = {}\n\
                 url = {apns}\nca_file = \"{folder}/ca.pem\"\n\
                 [apps.\"{app}\".fcm]\nservice_account_file = \"{folder}/{app}.service-account.json\"\n\
                 url = {fcm}\nca_file = \"{folder}/ca.pem\"\n\
                 [apps.\"{app}\".fallback]\nmin_delay_secs = 1\n{}\n\
                 [[apps.\"{app}\".receipt_keys]]\nid = \"k1\"\nsecret_file = \"{folder}/{app}.receipt-key\"\n",
                self.app, about["keyId"], about["teamId"], about["topic"], self.fallback,
            )?;
        }
        Ok(toml)
    }
}

/// The name in a broker's URL.
pub(crate) fn login(url: &str) -> String {
    let url: reqwest::Url = url.parse().expect("the harness makes URLs");
    url.username().to_owned()
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A worker process.
pub(crate) struct Worker {
    pub(crate) process: Herald,
    listen: String,
    client: reqwest::Client,
}

impl Worker {
    /// The address of a path of its HTTP.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    /// The sum of all series of a metric whose labels include this text (`""`: of all).
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let Ok(answer) = self.client.get(self.url("/metrics")).send().await else { return f64::NAN };
        let text = answer.text().await.unwrap_or_default();
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Posts nothing but a bearer token; the answer's status and body.
    pub(crate) async fn bearer(&self, path: &str, token: &str) -> (u16, String) {
        let answer = self.client.post(self.url(path)).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Posts JSON; the answer's status and body.
    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        let call = self.client.post(self.url(path)).header("content-type", "application/json").body(body);
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// Where the world's work comes in and is remembered.
enum Place {
    Servers { amqp_url: String, database_url: String },
    Files(PathBuf),
}

/// The world.
pub(crate) struct World {
    pub(crate) workers: Vec<Worker>,
    /// What workers that are gone have logged.
    ended: Vec<String>,
    pub(crate) simulator: Simulator,
    /// With two apps: the URL by which each one's producer connects.
    pub(crate) producers: Vec<String>,
    place: Place,
    command: &'static str,
    config: PathBuf,
    allowed: Vec<&'static str>,
    finished: bool,
    store: Option<Store>,
    _broker: Option<Broker>,
    _database: Option<Database>,
    _folder: tempfile::TempDir,
}

impl World {
    /// One worker, one app, nothing special.
    pub(crate) fn of() -> Setup {
        Setup {
            workers: 1,
            apps: vec![APP.to_owned()],
            one_producer: false,
            worker: String::new(),
            gateway: String::new(),
            app: String::new(),
            fallback: String::new(),
            allowed: Vec::new(),
            broker: None,
            database: None,
            heartbeat_secs: 10,
            on_files: false,
            up: false,
        }
    }

    /// The broker's URL, with a user that may do everything.
    pub(crate) fn amqp_url(&self) -> &str {
        match &self.place {
            Place::Servers { amqp_url, .. } => amqp_url,
            Place::Files(_) => panic!("a world on files has no broker"),
        }
    }

    /// The folder of the files.
    pub(crate) fn files(&self) -> &Path {
        match &self.place {
            Place::Servers { .. } => panic!("a world with servers has no files"),
            Place::Files(folder) => folder,
        }
    }

    /// Connects to the broker as a producer does.
    pub(crate) async fn amqp(&self) -> herald_harness::amqp::Amqp {
        herald_harness::amqp::connect(self.amqp_url()).await.unwrap()
    }

    /// The same database as the workers'.
    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("connected at the start")
    }

    async fn connect_store(&self) -> Result<Store> {
        let config = match &self.place {
            Place::Servers { database_url, .. } => Config::Postgres(PostgresConfig {
                url: database_url.clone(),
                ca_pem: None,
                max_connections: 4,
                statement_timeout: Duration::from_secs(10),
            }),
            Place::Files(folder) => Config::Sqlite(SqliteConfig { path: folder.join("store.db"), leads: false }),
        };
        Ok(Store::connect(config).await?)
    }

    /// The variables of every process.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        let config = ("HERALD_CONFIG", self.config.display().to_string());
        match &self.place {
            Place::Servers { amqp_url, database_url } => {
                vec![("HERALD_AMQP_URL", amqp_url.clone()), ("HERALD_DATABASE_URL", database_url.clone()), config]
            }
            Place::Files(folder) => vec![("HERALD_DIR", folder.display().to_string()), config],
        }
    }

    /// Starts one more worker and waits until it is ready.
    pub(crate) async fn add_worker(&mut self) -> Result<&mut Worker> {
        self.add_process(self.command, &[]).await
    }

    /// Starts a process that serves HTTP, ends by signal and keeps the configuration of the workers but for these
    /// variables; waits until it is ready. It is among the workers from then on.
    pub(crate) async fn add_process(&mut self, command: &str, other: &[(&str, String)]) -> Result<&mut Worker> {
        let listen = format!("127.0.0.1:{}", herald_harness::ports::free()?);
        let mut builder = herald(env!("CARGO_BIN_EXE_herald")).arg(command).env("HERALD_LISTEN", &listen);
        for (name, value) in self.env() {
            builder = builder.env(name, value);
        }
        for (name, value) in other {
            builder = builder.env(name, value);
        }
        let process = builder.ready_when_answers(format!("http://{listen}/readyz")).start().await?;
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        self.workers.push(Worker { process, listen, client });
        Ok(self.workers.last_mut().expect("just added"))
    }

    /// Kills a worker as a crash would; its log is kept.
    pub(crate) async fn kill_worker(&mut self, index: usize) {
        let mut worker = self.workers.remove(index);
        worker.process.kill9().await.unwrap();
        self.ended.push(worker.process.stderr().unwrap());
    }

    /// Takes out the workers that have died by themselves, their logs kept; how many.
    pub(crate) async fn bury_dead(&mut self) -> usize {
        let (mut alive, mut dead) = (Vec::new(), 0);
        for mut worker in std::mem::take(&mut self.workers) {
            if worker.process.wait(Duration::from_millis(50)).await.is_ok() {
                self.ended.push(worker.process.stderr().unwrap());
                dead += 1;
            } else {
                alive.push(worker);
            }
        }
        self.workers = alive;
        dead
    }

    /// Asks a worker to end and waits for it; the answer is its exit code.
    pub(crate) async fn stop_worker(&mut self, index: usize, limit: Duration) -> Option<i32> {
        let mut worker = self.workers.remove(index);
        worker.process.sigterm().unwrap();
        let ended = worker.process.wait(limit).await;
        self.ended.push(worker.process.stderr().unwrap());
        ended.unwrap().code()
    }

    /// The configuration of workers and commands.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// From now on, workers and commands use this configuration.
    pub(crate) fn configure(&mut self, file: PathBuf) {
        self.config = file;
    }

    /// The configuration as it is.
    pub(crate) fn configuration(&self) -> String {
        std::fs::read_to_string(&self.config).unwrap()
    }

    /// Writes another; processes that are started from now on use it.
    pub(crate) fn reconfigure(&self, toml: &str) {
        std::fs::write(&self.config, toml).unwrap();
    }

    /// Runs a command to its end.
    pub(crate) async fn herald(&self, args: &[&str]) -> Output {
        run(args, &self.env(), self.config.parent().expect("a file is in a folder")).await
    }

    /// The sum of a metric over all workers that run.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let mut sum = 0.0;
        for worker in &self.workers {
            sum += worker.metric(name, label).await;
        }
        sum
    }

    /// Makes a phone and registers it for a user of an app. `spec` is the simulator's, without the app.
    pub(crate) async fn phone_of(&self, app: &str, user: &str, name: &str, mut spec: Value) -> Unsid {
        spec["app"] = app.into();
        let phone = self.simulator.phone(name, spec).await;
        let token = phone["token"].as_str().expect("a phone has a token");
        let platform = phone["platform"].as_str().and_then(Platform::parse).expect("a phone has a platform");
        let new = NewSubscription {
            app: AppId::new(app),
            user: UserId::new(user),
            platform,
            token_kind: TokenKind::Token,
            token: PushToken::new(token),
            environment: Environment::Production,
            expires_at: self.store().clock().now().plus(Duration::from_secs(86_400)),
            unsid: None,
        };
        self.store().subscribe(new).await.unwrap().id
    }

    /// The same for [`APP`], the phone named after its user.
    pub(crate) async fn phone(&self, user: &str, spec: Value) -> Unsid {
        self.phone_of(APP, user, user, spec).await
    }

    /// The app is removed from a registered phone; APNs says since when, which is after the registration.
    pub(crate) async fn uninstall(&self, phone: &str) {
        let now = self.store().clock().now().plus(Duration::from_millis(5)).micros() / 1_000;
        self.simulator.change(phone, json!({ "condition": "uninstalled", "unregisteredAtMs": now })).await;
    }

    /// Publishes a request to the high lane, confirmed, under a key.
    pub(crate) async fn publish(&self, key: &str, body: &Value) {
        if let Place::Files(folder) = &self.place {
            let queue = Queue::open_file(&folder.join("queue.db")).await.unwrap();
            let request = Outgoing {
                message_id: Some(key.to_owned()),
                ..Outgoing::json(Exchange::Requests, "high", body.to_string())
            };
            queue.publisher().publish(request).await.unwrap();
            return queue.close().await;
        }
        let amqp = self.amqp().await;
        let properties = herald_harness::amqp::properties(key);
        amqp.publish("herald.requests", "high", properties, body.to_string().as_bytes()).await.unwrap();
        amqp.close().await.unwrap();
    }

    /// Waits until nothing of an app is open.
    pub(crate) async fn all_closed(&self) {
        let app = AppId::new(APP);
        until("every delivery to be closed", async || self.store().open_count(&app).await.is_ok_and(|open| open == 0))
            .await;
    }

    /// The state of a user's notification's only delivery, if it is stored.
    pub(crate) async fn state(&self, user: &str, key: &str) -> Option<String> {
        let app = AppId::new(APP);
        let id = self.store().notification_by_key(&app, &UserId::new(user), key).await.ok()??;
        let trace = self.store().trace(&app, id).await.ok()??;
        trace.deliveries.first().map(|traced| traced.delivery.state.as_str().to_owned())
    }

    /// Waits until a user's notification's only delivery is in this state.
    pub(crate) async fn reaches(&self, user: &str, key: &str, state: &str) {
        until(&format!("{key} of {user} to be {state}"), async || {
            self.state(user, key).await.is_some_and(|is| is == state)
        })
        .await;
    }

    /// Everything that workers have logged.
    pub(crate) fn logs(&self) -> Vec<String> {
        let running = self.workers.iter().map(|worker| worker.process.stderr().unwrap_or_default());
        self.ended.iter().cloned().chain(running).collect()
    }

    /// Ends the workers in order, and holds their logs against what is allowed.
    pub(crate) async fn finish(mut self) {
        while !self.workers.is_empty() {
            let code = self.stop_worker(0, LIMIT).await;
            assert_eq!(code, Some(0), "a worker did not end in order");
        }
        let logs = self.logs().join("\n");
        let expected = |line: &&str| self.allowed.iter().any(|text| line.contains(text));
        let complaints = logs.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
        let unexpected: Vec<&str> = complaints.filter(|line| !expected(line)).take(10).collect();
        assert!(unexpected.is_empty(), "unexpected in the workers' logs:\n{}", unexpected.join("\n"));
        let panics = logs.contains("panicked at") && !self.allowed.contains(&"panicked at");
        assert!(!panics, "a worker panicked:\n{logs}");
        self.finished = true;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.finished || !std::thread::panicking() {
            return;
        }
        for (index, log) in self.logs().iter().chain([&self.simulator.log()]).enumerate() {
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("--- log {index}, workers first, the simulator last:\n{}", shown.join("\n"));
        }
    }
}

/// Runs the binary to its end with nothing of this process's `HERALD_…` variables.
pub(crate) async fn run(args: &[&str], env: &[(&str, String)], folder: &Path) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_herald"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HERALD_")) {
        command.env_remove(name);
    }
    command.args(args).envs(env.iter().map(|(name, value)| (name, value))).current_dir(folder);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("the command ends").unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
