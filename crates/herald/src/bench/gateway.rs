//! `herald bench gateway`: posts through the gateway, then through a bare axum handler that reads the body and stores nothing.
//!
//! The same clients, posts and connections against both, in one process and one run: what is between the two figures is what
//! a post costs, token, contract and commit. Then posts at half of the rate, which must all be taken, and soon. No worker
//! runs; what was posted is withdrawn at the end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::routing::post;
use herald_core::event::TellSet;
use herald_core::fallback::Mode;
use herald_core::ids::AppId;
use herald_core::request::Limits;
use herald_core::subscription::Provider;
use herald_gateway::identity::{Identity, OwnClient, OwnIssuerConfig};
use herald_gateway::{ApiParts, AppRules, Gateway, Parts, ReceiptKeys, RequestLog, ThrottledStatus};
use herald_metrics::Metrics;
use herald_store::Store;
use herald_worker::settings::{App, Fallback};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::posts::{self, Answers, Pace, Post, Posts};
use super::report::machine;
use super::simulator::APP;
use super::{GatewayArgs, load};
use crate::config::{Config, Place};
use crate::connect::{self, Role};
use crate::failure::Failure;
use crate::{out, shutdown};

/// Connections are made, caches fill.
const WARM_UP: Duration = Duration::from_secs(2);
/// The client of the built-in issuer, which is this process too.
const CLIENT: (&str, &str) = ("bench", "of this process only");

/// Measures and prints.
///
/// # Errors
/// See [`super::run`].
pub(super) async fn run(config: &Config, args: &GatewayArgs) -> anyhow::Result<()> {
    let mut config = config.clone();
    let files = args.embedded.then(|| tempfile::Builder::new().prefix("herald-bench-").tempdir()).transpose()?;
    if let Some(files) = &files {
        config.place = Place::Files(files.path().join("data"));
    }
    let store = connect::store(&config, Role::Worker).await?;
    store.migrate().await.map_err(connect::store_failure)?;
    let open = store.stats().await.map_err(connect::store_failure)?.open.iter().map(|(_, count)| count).sum::<u64>();
    if open > 0 {
        let what = format!("the store holds {open} open deliveries; give the bench a database of its own");
        return Err(Failure::Usage(what).into());
    }
    let subscriptions = load::subscribe(&store, args.users, &[Provider::Apns]).await?;
    let measured = shutdown::until_signal(async |stop| {
        tokio::select! {
            measured = measure(&store, args) => measured,
            () = stop.cancelled() => Err(anyhow::anyhow!("stopped before the measurement was done")),
        }
    })
    .await;
    if !args.embedded {
        load::unsubscribe(&store, &subscriptions).await;
    }
    store.close().await;
    print(args, &measured?)
}

/// One run.
struct Measured {
    gateway: Answers,
    bare: Answers,
    half: Answers,
}

async fn measure(store: &Store, args: &GatewayArgs) -> anyhow::Result<Measured> {
    let mut serving = JoinSet::new();
    let gateway = gateway(store, &mut serving).await?;
    let posts = Posts { token: token(gateway).await?, all: all(args.users), connections: args.connections };
    let full = Pace { warm_up: WARM_UP, measured: Duration::from_secs(args.secs), per_second: None };
    let through_gateway = posts::send(gateway, &posts, full).await?;
    ensure!(through_gateway.count() > 0, "nothing was answered within the time");
    let bare = bare(through_gateway.body_bytes, &mut serving).await?;
    let through_bare = posts::send(bare, &posts, full).await?;
    let per_second = Some(through_gateway.per_second() / 2.0);
    let half = Pace { warm_up: WARM_UP, measured: Duration::from_secs(args.half_secs), per_second };
    let half = posts::send(gateway, &posts, half).await?;
    serving.shutdown().await;
    Ok(Measured { gateway: through_gateway, bare: through_bare, half })
}

/// A gateway as `herald gateway` has it, without a broker and with the built-in issuer alone.
async fn gateway(store: &Store, serving: &mut JoinSet<std::io::Result<()>>) -> anyhow::Result<SocketAddr> {
    let (metrics, app) = (Metrics::new(), AppId::new(APP));
    let client = OwnClient { id: CLIENT.0.to_owned(), app: app.clone(), secret: CLIENT.1.to_owned() };
    let key_pem = rcgen::KeyPair::generate()?.serialize_pem();
    let issuer = OwnIssuerConfig { url: "http://127.0.0.1".to_owned(), key_pem, clients: vec![client] };
    let limits = Limits::default();
    let rules = App {
        id: app.clone(),
        apns: Default::default(),
        fcm: None,
        amqp_users: Vec::new(),
        receipt_keys: Vec::new(),
        fallback: Fallback { mode: Mode::Send, delay_secs: limits.fallback_delay_secs },
        pushes_per_second: None,
        events: TellSet::EMPTY,
    };
    let api = ApiParts {
        operator: None,
        identity: Identity::default().with_own(issuer)?,
        apps: HashMap::from([(app, AppRules { limits, subscriptions_per_user: 1, rate: None })]),
        public_url: String::new(),
        resolve: Arc::new(herald_worker::resolver(&[rules], &metrics)),
        hints: None,
        throttled: ThrottledStatus::default(),
    };
    let gateway = Gateway::new(Parts {
        metrics,
        store: store.clone(),
        queue: None,
        receipt_keys: ReceiptKeys::default(),
        api: Some(api),
        tls: None,
        request_log: RequestLog::default(),
        draining: CancellationToken::new(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    serving.spawn(gateway.serve(listener, CancellationToken::new()));
    Ok(address)
}

/// The least that a server can do: it reads the body, and answers as much as the gateway does.
async fn bare(body_bytes: usize, serving: &mut JoinSet<std::io::Result<()>>) -> anyhow::Result<SocketAddr> {
    let answer = Bytes::from(vec![b' '; body_bytes]);
    let handler = async move |_: Bytes| (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], answer);
    let router = Router::new().route("/beta/users/{id}/notifications", post(handler));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    serving.spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// A token of the built-in issuer, as services get one; with the word before it.
async fn token(gateway: SocketAddr) -> anyhow::Result<String> {
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default",
        CLIENT.0,
        CLIENT.1.replace(' ', "+")
    );
    let answer = posts::form(gateway, "/common/oauth2/v2.0/token", form).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    Ok(format!("Bearer {}", answer["access_token"].as_str().context("the built-in issuer grants no token")?))
}

/// One post to each user: raw content, to be gone within the hour.
fn all(users: u64) -> Vec<Post> {
    let post = |n| {
        let body = json!({
            "targetHostName": APP,
            "payload": { "rawContent": load::RAW_CONTENT },
            "targetPolicy": { "platformTypes": ["ios", "android"] },
        });
        Post { path: format!("/beta/users/{}/notifications", load::user(n)), body: body.to_string().into() }
    };
    (0..users).map(post).collect()
}

fn print(args: &GatewayArgs, measured: &Measured) -> anyhow::Result<()> {
    let Measured { gateway, bare, half } = measured;
    let ratio = gateway.per_second() / bare.per_second();
    if args.json {
        let of = |answers: &Answers| {
            json!({
                "perSecond": answers.per_second(), "answers": answers.count(), "notCreated": answers.others(),
                "p50Ms": answers.quantile_ms(0.5), "p99Ms": answers.quantile_ms(0.99),
            })
        };
        return Ok(out::json(&json!({
            "machine": machine(), "release": !cfg!(debug_assertions), "embedded": args.embedded,
            "connections": args.connections, "users": args.users, "secs": args.secs, "halfSecs": args.half_secs,
            "gateway": of(gateway), "bare": of(bare), "ratio": ratio, "half": of(half),
        }))?);
    }
    let store = if args.embedded { "an embedded file" } else { "PostgreSQL" };
    out::line(format!(
        "posts over {} connections to {} users, stored in {store}, on {}; clients in the same process",
        args.connections,
        args.users,
        machine()
    ))?;
    out::line("")?;
    let row = |name: &str, answers: &Answers| {
        [
            name.to_owned(),
            format!("{:.0}", answers.per_second()),
            format!("{:.1}", answers.quantile_ms(0.5)),
            format!("{:.1}", answers.quantile_ms(0.99)),
            answers.count().to_string(),
            answers.others().to_string(),
        ]
    };
    let rows = [row("herald", gateway), row("bare axum handler", bare), row("herald, half of its rate", half)];
    out::table(["", "POSTS/S", "P50 MS", "P99 MS", "ANSWERS", "NOT 201"], &rows)?;
    out::line("")?;
    out::line(format!("ratio to the bare handler: {:.1} %", ratio * 100.0))?;
    if cfg!(debug_assertions) {
        out::line("a debug build: these figures say nothing about speed; use --release")?;
    }
    Ok(())
}
