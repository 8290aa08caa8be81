//! `herald worker`: takes requests from the queue and pushes them, until a signal; and serves HTTP: metrics, health,
//! receipts, and what app services post.
//!
//! Wiring only. What a worker does is in `herald-worker`; the order in which it stops is in its `drain.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use herald_gateway::{Gateway, Parts};
use herald_metrics::Metrics;
use herald_worker::Worker;
use herald_worker::settings::{Isolate, Producers, Settings};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Place, credentials};
use crate::connect::Role;
use crate::failure::Failure;
use crate::gateway::Beside;
use crate::{connect, gateway, shutdown, topology};

/// How much longer than an attempt a piece of isolated work may take: starting a process, connecting, taking, recording.
const ISOLATED_EXTRA: Duration = Duration::from_secs(30);

/// Runs until a signal, then drains.
///
/// # Errors
/// [`Failure::Usage`] before anything is open; [`Failure::Unavailable`] if broker or store can't be reached at the start;
/// [`Failure::Internal`] if a part of the worker panicked.
pub(crate) async fn run(config: &Config) -> anyhow::Result<()> {
    let worker = assemble(config, "worker", Role::Worker).await?;
    worker.queue.verify_topology().await.map_err(topology::failure)?;
    until_signal(config, worker).await
}

/// Runs a worker until a signal, then drains.
///
/// # Errors
/// As [`run`].
pub(crate) async fn until_signal(config: &Config, worker: Worker) -> anyhow::Result<()> {
    let listener = listen(config.listen).await?;
    tracing::info!(listen = %config.listen, apps = worker.apps.len(), budget = worker.settings.budget, "worker started");
    let api = gateway::api(config, &worker.apps, &worker.metrics, &worker.queue)?;
    let beside = Beside { api, tls: config.gateway.tls.clone(), request_log: config.gateway.request_log };
    let drained = shutdown::until_signal(|stop| serve(worker, beside, listener, stop)).await?;
    if drained.failed {
        return Err(Failure::Internal(anyhow::anyhow!("a part of the worker panicked; see above")).into());
    }
    Ok(())
}

/// The port of metrics, health and receipts.
///
/// # Errors
/// [`Failure::Usage`] if it is taken.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let taken = |error| Failure::Usage(format!("http.listen (HERALD_LISTEN): {address}: {error}"));
    TcpListener::bind(address).await.map_err(taken)
}

/// The worker with its HTTP beside it. HTTP goes on during the drain: receipts and posts still count, and `/readyz` says
/// why not.
///
/// # Errors
/// As [`run`].
pub(crate) async fn serve(
    worker: Worker,
    beside: Beside,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<herald_worker::Drained> {
    let (queue, store) = (worker.queue.clone(), worker.store.clone());
    let gateway = Gateway::new(Parts {
        metrics: worker.metrics.clone(),
        store: store.clone(),
        queue: Some(queue.clone()),
        receipt_keys: gateway::receipt_keys(&worker.apps),
        api: beside.api,
        tls: beside.tls,
        request_log: beside.request_log,
        draining: stop.clone(),
    });
    let http_stop = CancellationToken::new();
    let mut http = JoinSet::new();
    http.spawn(gateway.serve(listener, http_stop.clone()));
    let drained = herald_worker::run(worker, stop).await;
    http_stop.cancel();
    while let Some(ended) = http.join_next().await {
        ended??;
    }
    queue.close().await;
    store.close().await;
    Ok(drained)
}

/// The parts of a worker, connected; also for the child process that works alone.
///
/// # Errors
/// As [`run`].
pub(crate) async fn assemble(config: &Config, purpose: &str, role: Role) -> anyhow::Result<Worker> {
    // The store first: of two workers on the same files it refuses the second, before that has touched the queue.
    let store = connect::ready_store(config, role).await?;
    let queue = connect::queue(config, purpose, role).await?;
    let clock = store.clock();
    let apps = credentials::open(config, Arc::new(move || clock.now()))?;
    let store = store.with_teller(herald_worker::teller(&apps));
    let metrics = Metrics::new();
    metrics.budget(config.worker.budget);
    Ok(Worker { apps, settings: settings(config)?, store, queue, metrics })
}

fn settings(config: &Config) -> anyhow::Result<Settings> {
    let mut args = vec!["isolated".to_owned()];
    if let Some(file) = &config.file {
        args.extend(["--config".to_owned(), file.display().to_string()]);
    }
    Ok(Settings {
        budget: config.worker.budget,
        lease: config.worker.lease,
        attempt_timeout: config.worker.attempt_timeout,
        clock_interval: config.worker.clock_interval,
        drain: config.worker.drain,
        max_pause: config.worker.max_pause,
        producers: match config.place {
            Place::Servers => Producers::ByLogin,
            Place::Files(_) => Producers::OfThisMachine,
        },
        isolate: Isolate {
            program: std::env::current_exe()?,
            args,
            without: Vec::new(),
            timeout: config.worker.attempt_timeout + ISOLATED_EXTRA,
        },
    })
}
