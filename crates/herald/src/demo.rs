//! `herald demo`: everything in one process, with simulated providers and phones, to see what Herald does.
//!
//! The worker, its queue and its store (on files in a temporary folder) are those of `herald up`; only the providers and the
//! phones are simulated. Reading order: [`cast`] (who, and what each should see) → [`script`] (what is done) → [`observe`]
//! and [`snapshot`] (what is seen) → [`timeline`] (what is said about it) → [`verdict`] (was it right) → [`screen`].
//!
//! It reads no configuration of the user's and no variable that leads to a server, and leaves nothing behind.

mod cast;
mod folder;
mod observe;
mod post;
mod screen;
mod script;
mod snapshot;
mod timeline;
mod verdict;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use herald_queue::Publisher;
use herald_simulator::{Options, SettingsChange, Simulator};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::cli::DemoArgs;
use crate::config::{Config, Input, Needs};
use crate::connect::Role;
use crate::failure::Failure;
use crate::{gateway, out, shutdown, simulate, topology, worker};
use cast::{APP, CAST, Person};
use folder::Folder;
use observe::Observer;
use post::Service;
use screen::{Facts, Screen};
use snapshot::Snapshot;
use timeline::{Line, Mark};
use verdict::{Found, Report};

/// With `--once`, the whole run.
const ONCE_LIMIT: Duration = Duration::from_secs(28);
/// From the publishing to the verdict, beyond the time that a receipt has.
const SCRIPT_LIMIT: Duration = Duration::from_secs(10);
/// When all deliveries are closed, this long is waited for what is still missing.
const MISSING_LIMIT: Duration = Duration::from_secs(2);
/// When all is as expected, this long is looked for more than that: a second toast would be wrong.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two looks: short for the eye.
const TICK: Duration = Duration::from_millis(50);
/// How long the worker may take to end what is in flight.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How many pushes of the providers' journal are kept.
const JOURNAL: usize = 2_000;
/// Variables that would lead another `herald` elsewhere than to the demo's files.
const LEADING: [&str; 3] = ["HERALD_AMQP_URL", "HERALD_DATABASE_URL", "HERALD_DIR"];

/// Plays the script; without `--once` it then goes on until a signal.
///
/// # Errors
/// With `--once`: if anybody saw anything else than expected. [`Failure::Usage`] for a port that is taken or a folder that is
/// not empty; that the folder can't be used.
pub(crate) async fn run(args: &DemoArgs, input: &Input) -> anyhow::Result<()> {
    let limit = Instant::now() + ONCE_LIMIT;
    shutdown::until_signal(|stop| async move {
        // Heard from the first moment on, so that a terminal that is closed leaves no folder behind.
        let mut hangup = signal(SignalKind::hangup())?;
        let folder = Folder::make(args.keep.as_deref())?;
        let played = tokio::select! {
            played = play(args, input, &folder, &stop) => played,
            // Dropping it ends everything: there is no more time for order.
            () = tokio::time::sleep_until(limit), if args.once => {
                Err(anyhow::anyhow!("not done within {} s", ONCE_LIMIT.as_secs()))
            }
            () = asks(&mut hangup, &stop) => Ok(()),
        };
        let left = match &folder {
            Folder::Kept(dir) => Some(format!(
                "Kept, in {}:\nqueue.db, store.db, herald.toml, keys: to look at. The phones are gone.",
                dir.display()
            )),
            Folder::Temporary(_) => (!args.once).then(|| "Ended; no file is left behind.".to_owned()),
        };
        folder.close().await?;
        // A reader that went away (`| head`) has not seen that each person was told: that is no success.
        played.map_err(|error| if out::is_closed_pipe(&error) { anyhow::anyhow!("{error:#}") } else { error })?;
        if let (Some(left), false) = (left, args.json) {
            out::line(left)?;
        }
        Ok(())
    })
    .await
}

/// Asks for the end as soon as the signal comes; never returns.
async fn asks(signal: &mut Signal, stop: &CancellationToken) {
    signal.recv().await;
    stop.cancel();
    std::future::pending().await
}

/// From the start of all parts to their end.
async fn play(args: &DemoArgs, input: &Input, folder: &Folder, stop: &CancellationToken) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.http_port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Usage(format!("--http-port: {address}: {error}; choose another, or 0 for any")))?;
    let http_url = format!("http://{}", listener.local_addr()?);
    let simulator = start_simulator(args, folder, &http_url).await?;
    let file = configure(folder, &simulator, &http_url)?;
    // The user's own configuration and variables are another Herald's.
    let config = Config::load(&Input { file: Some(file.clone()), ..Input::default() }, Needs::Up)?;
    let mut parts = worker::assemble(&config, "demo", Role::Worker).await?;
    let theirs = input.env.keys().filter(|name| name.starts_with("HERALD_") && !name.starts_with("HERALD_LOG"));
    parts.settings.isolate.without = theirs.cloned().collect();
    parts.queue.declare_topology().await.map_err(topology::failure)?;

    let phones = script::set_up(&simulator, &parts.store).await?;
    let observer = Observer::new(&simulator, parts.store.clone(), parts.metrics.clone(), phones);
    let publisher = parts.queue.publisher();
    let worker_stop = CancellationToken::new();
    let service = Service::new(folder.path(), &http_url)?;
    let api = gateway::api(&config, &parts.apps, &parts.metrics, &parts.queue)?;
    let mut working = pin!(worker::serve(
        parts,
        gateway::Beside { api, ..gateway::Beside::default() },
        listener,
        worker_stop.clone()
    ));
    let program = std::env::current_exe()?;
    let control_url = simulator.control_url();
    let unset: Vec<&str> = LEADING.into_iter().filter(|name| input.env.contains_key(*name)).collect();
    let facts = Facts {
        program: &program,
        config: &file,
        control_url: &control_url,
        http_url: &http_url,
        unset: &unset,
        after: after(args),
    };
    let mut show = Show { args, screen: Screen::new(args.json), observer, before: Snapshot::default(), start: None };
    let shown = tokio::select! {
        shown = show.run((&publisher, &service), &facts, stop) => shown,
        ended = &mut working => return Err(ended.err().unwrap_or_else(panicked)),
    };
    drop((publisher, show));
    worker_stop.cancel();
    // What is cut off here was in flight to phones that are gone now.
    let drained = timeout(DRAIN_LIMIT, working).await;
    simulator.shutdown().await;
    match drained {
        Ok(Ok(drained)) if drained.failed => shown.and(Err(panicked())),
        Ok(Err(error)) => shown.and(Err(error)),
        Ok(Ok(_)) | Err(_) => shown,
    }
}

fn panicked() -> anyhow::Error {
    Failure::Internal(anyhow::anyhow!("a part of the worker panicked; see above")).into()
}

fn after(args: &DemoArgs) -> Duration {
    Duration::from_secs(args.after.into())
}

async fn start_simulator(args: &DemoArgs, folder: &Folder, http_url: &str) -> anyhow::Result<Simulator> {
    let simulator = Simulator::start(Options {
        host: Ipv4Addr::LOCALHOST.to_string(),
        control_port: args.control_port,
        apps: vec![simulate::spec(APP)],
        dir: Some(folder.path().to_owned()),
        journal_limit: JOURNAL,
        ..Options::default()
    })
    .await
    .map_err(|error| match error {
        herald_simulator::StartError::Listen { .. } => Failure::Usage(format!("--control-port: {error}")).into(),
        error => anyhow::Error::from(error),
    })?;
    let receipts_url = Some(format!("{http_url}/v1/receipts"));
    simulator.set(&SettingsChange { receipts_url, ..SettingsChange::default() });
    Ok(simulator)
}

/// Writes the `herald.toml` by which this worker and other commands find the files and the providers.
fn configure(folder: &Folder, simulator: &Simulator, http_url: &str) -> anyhow::Result<PathBuf> {
    let apps = [APP.to_owned()];
    simulate::secrets(folder.path(), &apps)?;
    let apps = format!("{}{}", simulate::gateway_toml(http_url), simulate::apps_toml(&apps, simulator, &[])?);
    let listen = http_url.trim_start_matches("http://");
    let toml = format!(
        "# Written by `herald demo`; `herald send` and others use it as long as the demo runs.\n\
         [embedded]\ndir = \".\"\n\n[http]\nlisten = \"{listen}\"\n\n[worker]\nclock_interval_ms = 50\n{apps}"
    );
    let file = folder.path().join("herald.toml");
    std::fs::write(&file, toml)?;
    Ok(file)
}

/// How notifications are sent: published on the queue, and posted over HTTP.
type Ways<'a> = (&'a Publisher, &'a Service);

/// What is shown, and to where it has come.
struct Show<'a> {
    args: &'a DemoArgs,
    screen: Screen,
    observer: Observer<'a>,
    before: Snapshot,
    start: Option<herald_core::time::Timestamp>,
}

impl Show<'_> {
    async fn run(&mut self, ways: Ways<'_>, facts: &Facts<'_>, stop: &CancellationToken) -> anyhow::Result<()> {
        self.screen.say(&screen::intro(after(self.args), self.screen.paint()))?;
        self.play_script(ways, stop).await?;
        if stop.is_cancelled() {
            return if self.args.once { Err(anyhow::anyhow!("ended before the script was done")) } else { Ok(()) };
        }
        let all = self.found();
        self.screen.say(&screen::table(&all, self.screen.paint()))?;
        let differences = verdict::differences(&all);
        if self.args.json {
            out::line(serde_json::to_string_pretty(&Report::new(&all))?)?;
        }
        if !differences.is_empty() {
            let report = anyhow::anyhow!("not as expected:\n  {}", differences.join("\n  "));
            if self.args.once {
                return Err(report);
            }
            out::report(&report);
        }
        if !self.args.once {
            self.screen.say(&screen::commands(facts, self.screen.paint()))?;
            self.go_on(stop).await?;
        }
        Ok(())
    }

    /// Publishes, and follows what comes of it to its end.
    async fn play_script(&mut self, (queue, service): Ways<'_>, stop: &CancellationToken) -> anyhow::Result<()> {
        for person in &CAST {
            self.observer.expect(person.name, script::key(person));
        }
        self.before = self.observer.look().await?;
        self.start = self.before.at;
        script::send(queue, service, after(self.args)).await?;
        if let Some(at) = self.start {
            let posted: Vec<&str> = CAST.iter().filter(|person| person.over_http).map(|person| person.name).collect();
            let text = format!("{} requests published, one for each person", CAST.len() - posted.len());
            self.say(&[Line { at, who: "queue".to_owned(), mark: Mark::Step, text }])?;
            let text = format!("the one for {} posted over HTTP, as to Microsoft Graph: 201", posted.join(" and "));
            self.say(&[Line { at, who: "http".to_owned(), mark: Mark::Step, text }])?;
        }
        let limit = Instant::now() + after(self.args) + SCRIPT_LIMIT;
        let (mut good_since, mut closed_since) = (None, None);
        while Instant::now() < limit && !stop.is_cancelled() {
            self.tick(stop).await?;
            let all = self.found();
            let closed = all.iter().all(|(_, found)| found.state.is_some_and(|state| !state.is_open()));
            let good = verdict::differences(&all).is_empty();
            if lasts(good, &mut good_since, SETTLE) || lasts(closed, &mut closed_since, MISSING_LIMIT) {
                break;
            }
        }
        Ok(())
    }

    /// Follows what others send, until it is told to stop.
    async fn go_on(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        self.observer.count_requests();
        while !stop.is_cancelled() {
            self.tick(stop).await?;
        }
        Ok(())
    }

    /// Waits a moment, looks, and says what is new.
    async fn tick(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        if timeout_at(Instant::now() + TICK, stop.cancelled()).await.is_ok() {
            return Ok(());
        }
        match self.observer.look().await {
            Ok(after) => {
                let lines = timeline::lines(&self.before, &after);
                self.before = after;
                self.say(&lines)
            }
            Err(error) => {
                tracing::warn!(%error, "the store could not be looked at");
                Ok(())
            }
        }
    }

    fn say(&self, lines: &[Line]) -> anyhow::Result<()> {
        let Some(start) = self.start else { return Ok(()) };
        for line in lines {
            self.screen.say(&screen::timeline(line, start, self.screen.paint()))?;
        }
        Ok(())
    }

    /// What each person's notification has come to.
    fn found(&self) -> Vec<(Person, Found)> {
        let of = |person: &Person| {
            (*person, Found::of(person, self.observer.notification(&script::key(person)), &self.before))
        };
        CAST.iter().map(of).collect()
    }
}

/// Has it been so for this long, from one look to the next?
fn lasts(now: bool, since: &mut Option<Instant>, long: Duration) -> bool {
    if !now {
        *since = None;
    }
    now && since.get_or_insert_with(Instant::now).elapsed() >= long
}
