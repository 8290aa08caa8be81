//! What all routes share that ask who is calling: Graph's ([`crate::graph`]) and Herald's own ([`crate::v1`]).
//!
//! Put together once at the start; nothing in it changes while it is served.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use herald_core::ids::{AppId, UserId};
use herald_core::request::Limits;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use herald_metrics::Metrics;
use herald_queue::Queue;
use herald_store::{NewNotification, Resolved, Store};

use crate::auth::OperatorToken;
use crate::identity::Identity;
use crate::throttle::{Rate, Throttle, ThrottledStatus};
use crate::{graph, tokens, v1};

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
}

/// The routes, and what must run beside them.
pub(crate) fn routes(parts: ApiParts, store: &Store, metrics: &Metrics) -> (Router, graph::Background) {
    let ApiParts { identity, operator, apps, public_url, resolve, hints, throttled } = parts;
    let own = identity.own();
    let rates = apps.iter().filter_map(|(app, rules)| Some((app.clone(), rules.rate?)));
    let throttle = Throttle::new(rates, throttled);
    let (store, metrics) = (store.clone(), metrics.clone());
    let api = Arc::new(Api { identity, operator, apps, throttle, public_url, store, metrics });
    let (graph, background) = graph::routes(&api, resolve, hints);
    let router = graph.merge(v1::routes(&api));
    let router = match own {
        Some(own) => router.merge(tokens::routes(own, &api.store)),
        None => router,
    };
    (router, background)
}
