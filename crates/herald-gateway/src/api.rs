//! What all routes share that ask who is calling: Graph's ([`crate::graph`]) and Herald's own ([`crate::v1`]).
//!
//! Put together once at the start; nothing in it changes while it is served.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use herald_core::ids::{AppId, UserId};
use herald_core::request::Limits;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use herald_metrics::Metrics;
use herald_queue::Queue;
use herald_store::{NewNotification, Resolved, Store, StoreError};
use tokio::time::timeout;
use tracing::{error, warn};

use crate::auth::OperatorToken;
use crate::commit::Commits;
use crate::identity::Identity;
use crate::receipts::Receipts;
use crate::refusal::Refusal;
use crate::throttle::{Rate, Throttle, ThrottledStatus};
use crate::{graph, tokens, v1};

/// How long the store may take for one request before the client is told to come back.
pub(crate) const STORE_LIMIT: Duration = Duration::from_secs(10);

/// Which deliveries a notification to these active subscriptions makes: what the worker's intake asks too. Pure and quick.
pub type Resolve = Arc<dyn Fn(&NewNotification, &UserId, &[Subscription], Timestamp) -> Resolved + Send + Sync>;

/// What the API needs beside the store.
pub struct ApiParts {
    /// Who is calling.
    pub identity: Identity,
    /// The operator's token; none: nobody is the operator.
    pub operator: Option<OperatorToken>,
    /// The apps that are served, each with its rules.
    pub apps: HashMap<AppId, AppRules>,
    /// Where clients reach this, without a slash at the end, as it is put before paths in answers; empty for none.
    pub public_url: String,
    /// Which devices get what.
    pub resolve: Resolve,
    /// Where hints go, so that a worker takes the work at once and not when its clock finds it.
    pub hints: Option<Queue>,
    /// What a request beyond its app's rate is answered.
    pub throttled: ThrottledStatus,
}

/// What an app may do over HTTP.
#[derive(Debug, Clone)]
pub struct AppRules {
    /// What its requests may ask for.
    pub limits: Limits,
    /// How many there may be; none: any number.
    pub rate: Option<Rate>,
    /// How many active subscriptions a user may have; one more ends the one confirmed longest ago.
    pub subscriptions_per_user: usize,
}

/// What the handlers share.
pub(crate) struct Api {
    pub(crate) identity: Identity,
    pub(crate) operator: Option<OperatorToken>,
    pub(crate) apps: HashMap<AppId, AppRules>,
    pub(crate) throttle: Throttle,
    pub(crate) public_url: String,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    /// Where receipts go that are not brought by a capability.
    pub(crate) receipts: Commits<Receipts>,
}

/// What the routes are served by.
pub(crate) struct Routes {
    pub(crate) router: Router,
    /// What must run beside them.
    pub(crate) background: graph::Background,
    /// For the receipts that a token speaks for.
    pub(crate) api: Arc<Api>,
}

pub(crate) fn routes(parts: ApiParts, store: &Store, metrics: &Metrics, receipts: Commits<Receipts>) -> Routes {
    let ApiParts { identity, operator, apps, public_url, resolve, hints, throttled } = parts;
    let own = identity.own();
    let rates = apps.iter().filter_map(|(app, rules)| Some((app.clone(), rules.rate?)));
    let throttle = Throttle::new(rates, throttled);
    let (store, metrics) = (store.clone(), metrics.clone());
    let api = Arc::new(Api { identity, operator, apps, throttle, public_url, store, metrics, receipts });
    let (graph, background) = graph::routes(&api, resolve, hints);
    let router = graph.merge(v1::routes(&api));
    let router = match own {
        Some(own) => router.merge(tokens::routes(own, &api.store)),
        None => router,
    };
    Routes { router, background, api }
}

/// What the store says of `what` is asked for, within [`STORE_LIMIT`].
///
/// # Errors
/// 503 if it is away or too slow, 500 if it refuses for good. Logged here, once.
pub(crate) async fn asked<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Refusal> {
    let fix = "send it again after Retry-After";
    match timeout(STORE_LIMIT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is_transient() => {
            warn!(%error, "the store could not be asked for {what}; the client is told to come back");
            Err(Refusal::unavailable("the store can't be asked now", fix))
        }
        Ok(Err(error)) => {
            error!(%error, "the store refuses {what}; the client is told so");
            Err(Refusal::defect("the store refuses this, which is a fault of the service"))
        }
        Err(_) => {
            warn!("the store took too long for {what}; the client is told to come back");
            Err(Refusal::unavailable("the store took too long", fix))
        }
    }
}
