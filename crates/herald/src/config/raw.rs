//! The configuration as it was written: every name that exists, none of them checked for its meaning.
//!
//! Second step of three. A value that is not there is `None` here and nowhere later.

use std::cell::RefCell;
use std::path::PathBuf;

use figment::value::Dict;

use super::problem::Problems;
use super::source::Sources;
use super::table::{Given, Table};

/// `herald.toml` with what variables set.
pub(super) struct RawConfig {
    pub(super) broker: RawParty,
    pub(super) store: RawParty,
    pub(super) embedded_dir: Option<Given<PathBuf>>,
    pub(super) listen: Option<Given<String>>,
    pub(super) gateway: RawGateway,
    pub(super) worker: RawWorker,
    pub(super) apps: Vec<RawApp>,
}

/// `[broker]` or `[store]`.
pub(super) struct RawParty {
    pub(super) url: Option<Given<Vec<String>>>,
    pub(super) ca_file: Option<Given<PathBuf>>,
    /// `heartbeat_secs` or `max_connections`.
    pub(super) number: Option<Given<i128>>,
}

/// `[gateway]`.
pub(super) struct RawGateway {
    pub(super) at: String,
    pub(super) public_url: Option<Given<String>>,
    pub(super) operator_token_file: Option<Given<PathBuf>>,
    /// Of a variable.
    pub(super) operator_token: Option<Given<String>>,
    pub(super) tls_cert_file: Option<Given<PathBuf>>,
    pub(super) tls_key_file: Option<Given<PathBuf>>,
    /// `gateway.token_issuer`, its place and its `signing_key_file`.
    pub(super) token_issuer: Option<(String, Option<Given<PathBuf>>)>,
    pub(super) issuers: Vec<RawIssuer>,
    pub(super) request_log: Option<Given<String>>,
    pub(super) throttled_status: Option<Given<i128>>,
}

/// `[[gateway.issuers]]`.
pub(super) struct RawIssuer {
    pub(super) at: String,
    pub(super) issuer: Option<Given<String>>,
    pub(super) audiences: Option<Given<Vec<String>>>,
    pub(super) user_claim: Option<Given<String>>,
    pub(super) user_prefix: Option<Given<String>>,
    pub(super) jwks_url: Option<Given<String>>,
    pub(super) ca_file: Option<Given<PathBuf>>,
}

/// `[worker]`.
pub(super) struct RawWorker {
    pub(super) at: String,
    pub(super) budget: Option<Given<i128>>,
    pub(super) lease_secs: Option<Given<i128>>,
    pub(super) attempt_timeout_secs: Option<Given<i128>>,
    pub(super) clock_interval_ms: Option<Given<i128>>,
    pub(super) drain_secs: Option<Given<i128>>,
    pub(super) max_pause_secs: Option<Given<i128>>,
}

/// `[apps."…"]`.
pub(super) struct RawApp {
    pub(super) id: Given<String>,
    pub(super) amqp_users: Option<Given<Vec<String>>>,
    /// Where `amqp_users` would stand.
    pub(super) amqp_users_at: String,
    pub(super) client_ids: Option<Given<Vec<String>>>,
    pub(super) pushes_per_second: Option<Given<i128>>,
    pub(super) requests_per_second: Option<Given<i128>>,
    pub(super) request_burst: Option<Given<i128>>,
    pub(super) subscriptions_per_user: Option<Given<i128>>,
    pub(super) events: Option<Given<Vec<String>>>,
    pub(super) apns: Option<RawApns>,
    pub(super) fcm: Option<RawFcm>,
    pub(super) fallback: RawFallback,
    pub(super) receipt_keys: Vec<RawSecret>,
    pub(super) clients: Vec<RawSecret>,
}

/// `[apps."…".apns]`.
pub(super) struct RawApns {
    pub(super) at: String,
    pub(super) key_file: Option<Given<PathBuf>>,
    pub(super) key_id: Option<Given<String>>,
    pub(super) team_id: Option<Given<String>>,
    pub(super) topic: Option<Given<String>>,
    pub(super) environment: Option<Given<String>>,
    pub(super) url: Option<Given<String>>,
    pub(super) ca_file: Option<Given<PathBuf>>,
}

/// `[apps."…".fcm]`.
pub(super) struct RawFcm {
    pub(super) at: String,
    pub(super) service_account_file: Option<Given<PathBuf>>,
    pub(super) url: Option<Given<String>>,
    pub(super) ca_file: Option<Given<PathBuf>>,
}

/// `[apps."…".fallback]`.
pub(super) struct RawFallback {
    pub(super) at: String,
    pub(super) mode: Option<Given<String>>,
    pub(super) min_delay_secs: Option<Given<i128>>,
    pub(super) max_delay_secs: Option<Given<i128>>,
}

/// `[[apps."…".receipt_keys]]`, `[[apps."…".clients]]`.
pub(super) struct RawSecret {
    pub(super) at: String,
    pub(super) id: Option<Given<String>>,
    pub(super) secret_file: Option<Given<PathBuf>>,
    pub(super) secret_env: Option<Given<String>>,
}

impl RawConfig {
    /// Reads everything, notes unknown names and wrong types.
    pub(super) fn read(sources: &Sources, dict: Dict, problems: &RefCell<Problems>) -> Self {
        let mut root = Table::root(sources, dict, problems);
        let broker = party(root.table("broker"), "heartbeat_secs");
        let store = party(root.table("store"), "max_connections");
        let mut embedded = root.table("embedded");
        let embedded_dir = embedded.file("dir");
        embedded.finish();
        let mut http = root.table("http");
        let listen = http.text("listen");
        http.finish();
        let gateway = gateway(root.table("gateway"));
        let worker = worker(root.table("worker"));
        let apps = root.table("apps").tables().into_iter().map(|(id, table)| app(id, table)).collect();
        root.finish();
        Self { broker, store, embedded_dir, listen, gateway, worker, apps }
    }
}

fn party(mut table: Table<'_>, number: &'static str) -> RawParty {
    let (url, ca_file) = (table.texts("url"), table.file("ca_file"));
    let number = table.number(number);
    table.finish();
    RawParty { url, ca_file, number }
}

fn gateway(mut table: Table<'_>) -> RawGateway {
    let gateway = RawGateway {
        at: table.own_place(),
        operator_token_file: table.file("operator_token_file"),
        operator_token: table.text("operator_token"),
        tls_cert_file: table.file("tls_cert_file"),
        tls_key_file: table.file("tls_key_file"),
        token_issuer: table.optional_table("token_issuer").map(token_issuer),
        public_url: table.text("public_url"),
        issuers: table.list("issuers").into_iter().map(issuer).collect(),
        request_log: table.text("request_log"),
        throttled_status: table.number("throttled_status"),
    };
    table.finish();
    gateway
}

fn token_issuer(mut table: Table<'_>) -> (String, Option<Given<PathBuf>>) {
    let issuer = (table.own_place(), table.file("signing_key_file"));
    table.finish();
    issuer
}

fn issuer(mut table: Table<'_>) -> RawIssuer {
    let issuer = RawIssuer {
        at: table.own_place(),
        issuer: table.text("issuer"),
        audiences: table.texts("audiences"),
        user_claim: table.text("user_claim"),
        user_prefix: table.text("user_prefix"),
        jwks_url: table.text("jwks_url"),
        ca_file: table.file("ca_file"),
    };
    table.finish();
    issuer
}

fn worker(mut table: Table<'_>) -> RawWorker {
    let worker = RawWorker {
        at: table.own_place(),
        budget: table.number("budget"),
        lease_secs: table.number("lease_secs"),
        attempt_timeout_secs: table.number("attempt_timeout_secs"),
        clock_interval_ms: table.number("clock_interval_ms"),
        drain_secs: table.number("drain_secs"),
        max_pause_secs: table.number("max_pause_secs"),
    };
    table.finish();
    worker
}

fn app(id: String, mut table: Table<'_>) -> RawApp {
    let app = RawApp {
        id: Given { value: id, at: table.own_place() },
        amqp_users: table.texts("amqp_users"),
        amqp_users_at: table.place("amqp_users"),
        client_ids: table.texts("client_ids"),
        pushes_per_second: table.number("pushes_per_second"),
        requests_per_second: table.number("requests_per_second"),
        request_burst: table.number("request_burst"),
        subscriptions_per_user: table.number("subscriptions_per_user"),
        events: table.texts("events"),
        apns: table.optional_table("apns").map(apns),
        fcm: table.optional_table("fcm").map(fcm),
        fallback: fallback(table.table("fallback")),
        receipt_keys: table.list("receipt_keys").into_iter().map(secret).collect(),
        clients: table.list("clients").into_iter().map(secret).collect(),
    };
    table.finish();
    app
}

fn apns(mut table: Table<'_>) -> RawApns {
    let apns = RawApns {
        at: table.own_place(),
        key_file: table.file("key_file"),
        key_id: table.text("key_id"),
        team_id: table.text("team_id"),
        topic: table.text("topic"),
        environment: table.text("environment"),
        url: table.text("url"),
        ca_file: table.file("ca_file"),
    };
    table.finish();
    apns
}

fn fcm(mut table: Table<'_>) -> RawFcm {
    let fcm = RawFcm {
        at: table.own_place(),
        service_account_file: table.file("service_account_file"),
        url: table.text("url"),
        ca_file: table.file("ca_file"),
    };
    table.finish();
    fcm
}

fn fallback(mut table: Table<'_>) -> RawFallback {
    let fallback = RawFallback {
        at: table.own_place(),
        mode: table.text("mode"),
        min_delay_secs: table.number("min_delay_secs"),
        max_delay_secs: table.number("max_delay_secs"),
    };
    table.finish();
    fallback
}

fn secret(mut table: Table<'_>) -> RawSecret {
    let secret = RawSecret {
        at: table.own_place(),
        id: table.text("id"),
        secret_file: table.file("secret_file"),
        secret_env: table.text("secret_env"),
    };
    table.finish();
    secret
}
