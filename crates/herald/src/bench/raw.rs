//! `herald bench raw`: raw pushes from a full queue to the providers' acceptance, then the same pushes without Herald.
//!
//! The queue is filled before the first worker starts, so that it never limits; the simulator answers without delay, so that
//! a limit that shows is this machine's. Everything started here is ended, and what was made is taken away, on every way out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use herald_core::subscription::{Provider, Subscription};
use herald_core::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::ceiling::{self, Work};
use super::children::{Child, free_address};
use super::exposition::{self, Histogram};
use super::get::get;
use super::load::Order;
use super::report::{Herald, Report};
use super::servers::Servers;
use super::simulator::{Simulator, config_file};
use super::window::{Goal, Measured, watch};
use super::{RawArgs, load, pushes};
use crate::config::{Config, Place, Secret};
use crate::{connect, shutdown};

/// The ceiling sends so many times what Herald sent: it is that much faster, and a window of less than a second says little.
const CEILING_TIMES: u64 = 5;

/// Streams at once on a connection: what each provider is known to allow, and the simulator does.
const fn max_streams(provider: Provider) -> usize {
    match provider {
        Provider::Apns => 1_000,
        Provider::Fcm => 100,
    }
}

/// Measures and prints.
///
/// # Errors
/// See [`super::run`].
pub(super) async fn run(config: &Config, args: &RawArgs) -> anyhow::Result<()> {
    let mut config = config.clone();
    let files = args.embedded.then(|| tempfile::Builder::new().prefix("herald-bench-").tempdir()).transpose()?;
    if let Some(files) = &files {
        config.place = Place::Files(files.path().join("data"));
    }
    let servers = Servers::open(&config).await?;
    let measured = shutdown::until_signal(|stop| measure_and_clean(&config, args, &servers, stop)).await;
    servers.close().await;
    measured?.print(args.json)
}

async fn measure_and_clean(
    config: &Config,
    args: &RawArgs,
    servers: &Servers,
    stop: CancellationToken,
) -> anyhow::Result<Report> {
    let mut subscriptions = Vec::new();
    let measured = tokio::select! {
        measured = measure(config, args, servers, &mut subscriptions) => measured,
        // Dropping the other one ends the child processes and removes their folder.
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped before the measurement was done")),
    };
    if measured.is_err() && !args.embedded {
        servers.drain().await;
    }
    load::unsubscribe(&servers.store, &subscriptions).await;
    measured
}

async fn measure(
    config: &Config,
    args: &RawArgs,
    servers: &Servers,
    subscriptions: &mut Vec<Subscription>,
) -> anyhow::Result<Report> {
    let folder = tempfile::Builder::new().prefix("herald-bench-").tempdir()?;
    let mut simulator = Simulator::start(folder.path(), &urls(config)?).await?;
    let providers = args.provider.providers();
    tracing::info!(users = args.users, requests = args.warm_up + args.count, "registering users and filling the queue");
    *subscriptions = load::subscribe(&servers.store, args.users, providers).await?;
    let now = servers.store.clock().now();
    let order = Order { login: connect::broker_login(config), users: args.users, expires_at: now.plus(load::LIFE) };
    load::publish(&servers.queue, &order, args.warm_up + args.count).await?;
    servers.filled(args.warm_up + args.count).await?;

    tracing::info!(workers = args.workers, "measuring Herald");
    let herald = herald(config, args, servers, &mut simulator, folder.path()).await?;

    tracing::info!("measuring the bare HTTP/2 ceiling");
    let work = work(config, args, &herald, &simulator, subscriptions, now).await?;
    let ceiling_connections = work.iter().map(|work| u64::from(work.connections)).sum();
    let ceiling_streams = work.iter().map(|work| work.streams).max().unwrap_or(0);
    let ceiling = ceiling(args, &mut simulator, work).await?;
    simulator.child.end().await?;
    Ok(Report {
        args: args.clone(),
        budget: config.worker.budget,
        payload_bytes: herald.payload_bytes(subscriptions, now),
        herald,
        ceiling,
        ceiling_connections,
        ceiling_streams,
    })
}

/// What the ceiling sends: the same pushes as Herald, over as many connections, as many at once.
async fn work(
    config: &Config,
    args: &RawArgs,
    herald: &Herald,
    simulator: &Simulator,
    subscriptions: &[Subscription],
    now: Timestamp,
) -> anyhow::Result<Vec<Work>> {
    let providers = args.provider.providers();
    let mut all = Vec::new();
    for provider in providers {
        let (endpoint, requests) = pushes::prepare(*provider, &simulator.app, subscriptions, now).await?;
        let connections = args.connections.unwrap_or_else(|| herald.connections_to(*provider));
        // New work of one lane never uses the last quarter of the budget.
        let in_flight = config.worker.budget * usize::from(args.workers) * 3 / 4 / providers.len();
        let streams = (in_flight / usize::from(connections)).clamp(1, max_streams(*provider));
        let count = CEILING_TIMES * (args.warm_up + args.count) / providers.len() as u64;
        all.push(Work { endpoint, requests, connections, streams, count, sent: AtomicU64::new(0) });
    }
    Ok(all)
}

async fn herald(
    config: &Config,
    args: &RawArgs,
    servers: &Servers,
    simulator: &mut Simulator,
    folder: &Path,
) -> anyhow::Result<Herald> {
    let total = args.warm_up + args.count;
    let mut workers = Vec::new();
    for n in 1..=args.workers {
        workers.push(worker(config, &format!("worker-{n}"), folder)?);
    }
    let pids: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
    let providers = args.provider.providers();
    let goal = Goal { providers, before: 0, warm_up: args.warm_up, total };
    let measured = watch(simulator, goal, &pids, &mut workers).await?;
    servers.recorded().await?;
    let mut metrics = Vec::new();
    for worker in &workers {
        let text = get(worker.address, "/metrics").await?;
        metrics.push(String::from_utf8_lossy(&text).into_owned());
    }
    let counts = simulator.counts().await?;
    for worker in workers {
        // Every delivery is closed: nothing is in flight that could be lost.
        worker.end().await?;
    }
    let accepts = Histogram::read(&metrics, "herald_accept_seconds");
    let sum = |name, wanted: &dyn Fn(&str) -> bool| exposition::sum(&metrics, name, wanted);
    let closed = sum("herald_deliveries_closed_total", &|labels| labels.contains("state=\"accepted\""));
    let attempts = sum("herald_attempts_total", &|labels| !labels.contains("outcome=\"accepted\""));
    Ok(Herald {
        measured,
        connections: providers.iter().map(|provider| (*provider, counts.connections(*provider))).collect(),
        lost: total.saturating_sub(closed),
        repeated: counts.accepted(providers).saturating_sub(total),
        refused: counts.refused(providers),
        not_accepted: attempts,
        p50: accepts.quantile(0.5),
        p99: accepts.quantile(0.99),
    })
}

fn worker(config: &Config, name: &str, folder: &Path) -> anyhow::Result<Child> {
    let address = free_address()?;
    let mut env = urls(config)?;
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    set("HERALD_LOG", "warn".to_owned());
    set("HERALD_LISTEN", address.to_string());
    set("HERALD_DATABASE_MAX_CONNECTIONS", config.store.max_connections.to_string());
    set("HERALD_WORKER_BUDGET", config.worker.budget.to_string());
    let files = [("HERALD_AMQP_CA_FILE", &config.broker.ca_file), ("HERALD_DATABASE_CA_FILE", &config.store.ca_file)];
    for (name, file) in files {
        if let Some(file) = file {
            set(name, std::path::absolute(file)?.display().to_string());
        }
    }
    let command = match config.place {
        Place::Servers => "worker",
        Place::Files(_) => "up",
    };
    let args: [OsString; 3] = ["--config".into(), config_file(folder).into(), command.into()];
    Child::start(name, folder, address, &args, &env)
}

/// Broker and store, or the folder of the files, as the variables that name them to child processes.
fn urls(config: &Config) -> anyhow::Result<BTreeMap<String, String>> {
    if let Place::Files(dir) = &config.place {
        // Empty counts as absent: a child must not find the servers that this process's environment names.
        let none = ["HERALD_AMQP_URL", "HERALD_DATABASE_URL"].map(|name| (name.to_owned(), String::new()));
        return Ok(none.into_iter().chain([("HERALD_DIR".to_owned(), dir.display().to_string())]).collect());
    }
    let broker: Vec<&str> = config.broker.urls.iter().map(Secret::expose).collect();
    let store = config.store.url.as_ref().context("a store is configured, or the bench had not begun")?;
    Ok(BTreeMap::from([
        ("HERALD_AMQP_URL".to_owned(), broker.join(",")),
        ("HERALD_DATABASE_URL".to_owned(), store.expose().to_owned()),
    ]))
}

async fn ceiling(args: &RawArgs, simulator: &mut Simulator, work: Vec<Work>) -> anyhow::Result<Measured> {
    let providers: &'static [Provider] = args.provider.providers();
    let total = work.iter().map(|work| work.count).sum();
    let before = simulator.counts().await?.accepted(providers);
    let goal = Goal { providers, before, warm_up: args.warm_up, total };
    let own = [std::process::id()];
    let watched = watch(simulator, goal, &own, &mut []);
    let (measured, ()) = tokio::try_join!(watched, ceiling::run(work))?;
    Ok(measured)
}
