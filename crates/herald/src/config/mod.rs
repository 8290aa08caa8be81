//! The configuration: `herald.toml` and `HERALD_…` variables become a [`Config`] that can't be half right.
//!
//! Three steps: [`source`] (where it is written) → [`raw`] (as written) → [`check`], [`apps`] and [`gateway`] (as meant). All mistakes
//! are reported at once, each with its place, what is wrong and what to do, before any port or connection is opened.
//! Secrets come from files and variables, are read as late as can be, and never print. Nothing here opens a connection.

mod apps;
mod check;
pub(crate) mod gateway;
pub(crate) mod credentials;
mod problem;
mod raw;
mod secret;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use herald_core::event::TellSet;
use herald_core::ids::AppId;
use herald_core::subscription::Environment;
use herald_gateway::{Rate, RequestLog, ThrottledStatus};
use herald_worker::settings::Fallback;

use crate::failure::Failure;
pub(crate) use check::{BROKER_EXAMPLE, LISTEN, STORE_EXAMPLE};
use problem::Problems;
pub(crate) use secret::Secret;
pub(crate) use source::Input;

/// The configuration, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The file it was read from, if there was one.
    pub file: Option<PathBuf>,
    /// `[broker]`
    pub broker: Broker,
    /// `[store]`
    pub store: Database,
    /// Whether it is those two, or files.
    pub place: Place,
    /// `http.listen`
    pub listen: SocketAddr,
    /// `[gateway]`
    pub gateway: GatewayConfig,
    /// `[worker]`
    pub worker: WorkerSettings,
    /// `[apps]`, in the order of their ids.
    pub apps: Vec<AppConfig>,
}

/// Where work comes in and is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the configured broker and store, shared by any number of replicas.
    Servers,
    /// In files in this folder (`embedded.dir`), of one worker on this machine.
    Files(PathBuf),
}

/// Where the broker is. No URL is no mistake yet: not every command needs one.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    /// One for each node, tried in turn.
    pub urls: Vec<Secret>,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A lost connection is noticed after twice this.
    pub heartbeat: Duration,
}

/// Where the store is. No URL is no mistake yet: not every command needs one.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// Of PostgreSQL.
    pub url: Option<Secret>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// At most this many connections of this process.
    pub max_connections: u32,
}

/// `[worker]`: the meaning of each is at its default, in [`check`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerSettings {
    /// Pushes in flight at once.
    pub budget: usize,
    /// How long a take holds.
    pub lease: Duration,
    /// The longest attempt; shorter than the lease.
    pub attempt_timeout: Duration,
    /// How often the clock looks.
    pub clock_interval: Duration,
    /// The longest drain; not shorter than an attempt.
    pub drain: Duration,
    /// The longest pause that no provider asked for.
    pub max_pause: Duration,
}

/// `[gateway]`
#[derive(Debug, Clone)]
pub(crate) struct GatewayConfig {
    /// Its place, for messages.
    pub at: String,
    /// Without a slash at the end; empty for none.
    pub public_url: String,
    /// Whose tokens are taken. Nobody can post without one.
    pub issuers: Vec<IssuerSettings>,
    /// Where the operator's token is, and its place for messages; none: nobody is the operator.
    pub operator_token: Option<(String, KeySource)>,
    /// What the built-in issuer signs with, if there is one; then `public_url` isn't empty.
    pub signing_key_file: Option<PathBuf>,
    /// Certificate and key of what listens.
    pub tls: Option<herald_gateway::TlsFiles>,
    /// Which requests are logged.
    pub request_log: RequestLog,
    /// What one too many is answered.
    pub throttled: ThrottledStatus,
}

/// `[[gateway.issuers]]`
#[derive(Debug, Clone)]
pub(crate) struct IssuerSettings {
    /// Its place, for messages.
    pub at: String,
    /// As in the claim `iss`.
    pub issuer: String,
    /// Not empty.
    pub audiences: Vec<String>,
    /// Which claim names the user.
    pub user_claim: String,
    /// Not empty if there are two issuers, and no other's beginning.
    pub user_prefix: String,
    /// Instead of its discovery document.
    pub jwks_url: Option<String>,
    /// Beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[apps."…"]`: at least one provider, its files not yet read.
#[derive(Debug, Clone)]
pub(crate) struct AppConfig {
    /// In lower case.
    pub id: AppId,
    /// AMQP logins that may publish for it; not empty if there are two apps.
    pub amqp_users: Vec<String>,
    /// Who may ask the built-in issuer for its tokens; their ids are in lower case, and no other app has one of them.
    pub clients: Vec<KeyConfig>,
    /// What issuers call its services and apps, in lower case; no other app has one of them.
    pub client_ids: Vec<String>,
    /// Through each provider, for this replica.
    pub pushes_per_second: Option<u32>,
    /// Over HTTP, in each process.
    pub request_rate: Option<Rate>,
    /// Active subscriptions that one user may have.
    pub subscriptions_per_user: u32,
    /// What producers are told.
    pub events: TellSet,
    /// Its iOS app.
    pub apns: Option<ApnsConfig>,
    /// Its Android app.
    pub fcm: Option<FcmConfig>,
    /// Toasts.
    pub fallback: Fallback,
    /// The first signs.
    pub receipt_keys: Vec<KeyConfig>,
}

/// `[apps."…".apns]`
#[derive(Debug, Clone)]
pub(crate) struct ApnsConfig {
    /// Its place, for messages.
    pub at: String,
    /// The .p8.
    pub key_file: PathBuf,
    /// 10 characters.
    pub key_id: String,
    /// 10 characters.
    pub team_id: String,
    /// The bundle id.
    pub topic: String,
    /// One or both.
    pub environments: Vec<Environment>,
    /// Instead of Apple's.
    pub url: Option<String>,
    /// Instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[apps."…".fcm]`
#[derive(Debug, Clone)]
pub(crate) struct FcmConfig {
    /// Its place, for messages.
    pub at: String,
    /// The service account's JSON.
    pub service_account_file: PathBuf,
    /// Instead of Google's.
    pub url: Option<String>,
    /// Instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[[apps."…".receipt_keys]]` or `[[apps."…".clients]]`
#[derive(Debug, Clone)]
pub(crate) struct KeyConfig {
    /// Its place, for messages.
    pub at: String,
    /// What a capability names it by.
    pub id: String,
    /// Where the secret is.
    pub source: KeySource,
}

/// Where a secret is.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// In this file; that of a receipt key as base64, or the bytes themselves.
    File(PathBuf),
    /// The value of a variable; that of a receipt key in base64.
    Value(Secret),
}

/// What a command needs to be right before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Broker and store, never files. Key files may be elsewhere.
    Servers,
    /// Broker and store, or files if neither has a URL. Key files may be elsewhere: a machine that publishes need not hold
    /// them.
    Connections,
    /// Broker and store and what HTTP needs. Providers' key files may be elsewhere.
    Gateway,
    /// What tells who is calling, and neither broker nor store.
    Tokens,
    /// Broker and store and everything else: it will push.
    Worker,
    /// Broker and store, or files if neither has a URL, and everything else: it will push.
    Up,
}

impl Needs {
    /// Everything must be there that a push needs.
    const fn pushes(self) -> bool {
        matches!(self, Self::Worker | Self::Up)
    }

    /// What HTTP needs must be there: its secrets and certificates.
    const fn serves(self) -> bool {
        self.pushes() || matches!(self, Self::Gateway | Self::Tokens)
    }

    /// Broker and store must be configured, unless files do.
    const fn connects(self) -> bool {
        self.serves() && !matches!(self, Self::Tokens)
    }

    /// Files do as well.
    const fn takes_files(self) -> bool {
        matches!(self, Self::Connections | Self::Up)
    }
}

impl Config {
    /// Reads and checks.
    ///
    /// # Errors
    /// [`Failure::Usage`] with all problems, one a line.
    pub(crate) fn load(input: &Input, needs: Needs) -> Result<Self, Failure> {
        let mut problems = Problems::default();
        let (sources, dict) = source::Sources::read(input, &mut problems);
        let shared = RefCell::new(problems);
        let raw = raw::RawConfig::read(&sources, dict, &shared);
        let mut problems = shared.into_inner();
        let config = check::check(raw, input, needs, &mut problems);
        if let Some(config) = config.as_ref().filter(|_| needs.serves()) {
            credentials::check(&config.apps, needs, config.worker.attempt_timeout, &mut problems);
            gateway::check_files(config, &mut problems);
        }
        problems.or(config)
    }
}
