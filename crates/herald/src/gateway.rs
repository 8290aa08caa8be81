//! `herald gateway`: HTTP alone, beside the workers: takes notifications and receipts, and pushes nothing.
//!
//! Wiring only, and the parts of a gateway that a worker serves too. What it takes is due in the store, and any worker takes
//! it; without the broker it goes on, since a hint only makes that sooner.

use std::collections::HashMap;
use std::time::Duration;

use herald_core::request::Limits;
use herald_gateway::{ApiParts, AppRules, Gateway, Parts, ReceiptKeys, RequestLog, TlsFiles};
use herald_metrics::Metrics;
use herald_queue::Queue;
use herald_store::Store;
use herald_worker::settings::App;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::config::{AppConfig, Config, credentials, gateway};
use crate::connect::Role;
use crate::failure::Failure;
use crate::{connect, shutdown, worker};

/// How often the store's clock is looked at, as workers do.
const SYNC_CLOCK: Duration = Duration::from_secs(1);

/// Runs until a signal, then finishes the answers under way.
///
/// # Errors
/// [`Failure::Usage`] before anything is open; [`Failure::Unavailable`] if the store can't be reached at the start.
pub(crate) async fn run(config: &Config) -> anyhow::Result<()> {
    let apps = credentials::without_providers(config)?;
    let store = connect::ready_store(config, Role::Other).await?.with_teller(herald_worker::teller(&apps));
    let queue = connect::queue(config, "gateway", Role::Other).await?;
    let metrics = Metrics::new();
    let api = api(config, &apps, &metrics, &queue)?;
    let listener = worker::listen(config.listen).await?;
    tracing::info!(listen = %config.listen, apps = apps.len(), api = api.is_some(), "gateway started");
    shutdown::until_signal(|stop| async {
        let parts = Parts {
            metrics,
            store: store.clone(),
            // It consumes nothing, and takes posts without the broker: that one says nothing about its readiness.
            queue: None,
            receipt_keys: receipt_keys(&apps),
            api,
            tls: config.gateway.tls.clone(),
            request_log: config.gateway.request_log,
            draining: stop.clone(),
        };
        let mut beside = JoinSet::new();
        beside.spawn(follow_clock(store.clone()));
        Gateway::new(parts).serve(listener, stop).await?;
        beside.shutdown().await;
        Ok(())
    })
    .await?;
    queue.close().await;
    store.close().await;
    Ok(())
}

/// What a gateway has beside receipts, health and metrics, as it is configured.
#[derive(Default)]
pub(crate) struct Beside {
    pub(crate) api: Option<ApiParts>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) request_log: RequestLog,
}

/// What the routes need that ask who is calling, if anybody may call.
///
/// # Errors
/// [`Failure::Usage`] if a file of an issuer has changed.
pub(crate) fn api(
    config: &Config,
    apps: &[App],
    metrics: &Metrics,
    queue: &Queue,
) -> Result<Option<ApiParts>, Failure> {
    let rules = |configured: &AppConfig| {
        let app = apps.iter().find(|app| app.id == configured.id)?;
        Some((app.id.clone(), rules(app, configured)))
    };
    let api = |(identity, operator)| ApiParts {
        identity,
        operator,
        apps: config.apps.iter().filter_map(rules).collect::<HashMap<_, _>>(),
        public_url: config.gateway.public_url.clone(),
        resolve: std::sync::Arc::new(herald_worker::resolver(apps, metrics)),
        hints: Some(queue.clone()),
        throttled: config.gateway.throttled,
    };
    Ok(gateway::callers(config)?.map(api))
}

fn rules(app: &App, configured: &AppConfig) -> AppRules {
    AppRules {
        limits: Limits { fallback_delay_secs: app.fallback.delay_secs },
        subscriptions_per_user: configured.subscriptions_per_user as usize,
        rate: configured.request_rate,
    }
}

/// What receipts are verified with.
pub(crate) fn receipt_keys(apps: &[App]) -> ReceiptKeys {
    let keys = apps.iter().flat_map(|app| &app.receipt_keys);
    ReceiptKeys::new(keys.map(|key| (key.id.clone(), key.secret.clone())))
}

/// Keeps to the store's time until it is dropped.
async fn follow_clock(store: Store) {
    let mut tick = tokio::time::interval(SYNC_CLOCK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // While the store is away, its time goes on as it was.
        if let Err(error) = store.sync_clock().await {
            tracing::debug!(%error, "the store's clock could not be read");
        }
    }
}
