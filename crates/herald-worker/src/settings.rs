//! What a worker is told at its start: types that can't be half-configured.
//!
//! The binary's `config.rs` makes these from `herald.toml` and `HERALD_…` variables; nothing past it sees an `Option`
//! that start-up could have resolved. Never a place for defaults: those are in `config.rs`, beside their documentation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herald_core::event::TellSet;
use herald_core::ids::AppId;
use herald_core::subscription::Environment;

/// One tenant.
#[derive(Debug)]
pub struct App {
    /// The Graph `targetHostName`.
    pub id: AppId,
    /// How its iOS devices are reached, by environment; empty if it has no iOS app.
    pub apns: BTreeMap<Environment, ApnsApp>,
    /// How its Android devices are reached; none if it has no Android app.
    pub fcm: Option<FcmApp>,
    /// AMQP logins that may publish for it. Must not be empty as soon as two apps are configured.
    pub amqp_users: Vec<String>,
    /// Keys of receipt capabilities: the first signs, all verify.
    pub receipt_keys: Vec<ReceiptKey>,
    /// What is done about deferred raw pushes.
    pub fallback: Fallback,
    /// At most this many pushes per second through each provider, for this replica; none = no limit.
    pub pushes_per_second: Option<u32>,
    /// The events its producers asked for.
    pub events: TellSet,
}

/// APNs for one environment of one app.
#[derive(Debug)]
pub struct ApnsApp {
    /// The bundle id.
    pub topic: Arc<str>,
    /// The client: shared by apps of the same team, key and environment.
    pub client: herald_apns::Client,
}

/// FCM for one app.
#[derive(Debug)]
pub struct FcmApp {
    /// The client: one per service account.
    pub client: herald_fcm::Client,
}

/// A key for receipt capabilities. `Debug` hides it.
#[derive(Clone)]
pub struct ReceiptKey {
    /// At most 16 characters of `A-Z a-z 0-9 - _`.
    pub id: String,
    /// At least 32 bytes.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReceiptKey({}, …)", self.id)
    }
}

/// Rule 8 of the fallback and the range of rule 2.
#[derive(Debug, Clone, Copy)]
pub struct Fallback {
    /// Send toasts, or only count them.
    pub mode: herald_core::fallback::Mode,
    /// Seconds allowed for `fallbackDelayInSeconds` (Graph: 60 to 600).
    pub delay_secs: (u32, u32),
}

/// Whom the queue lets publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Producers {
    /// Those who log in to a broker, which vouches for the login: each may speak for the apps that list it.
    ByLogin,
    /// Whoever may write the queue's file: the operator of this machine, who speaks for every app.
    OfThisMachine,
}

/// Settings of the process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Pushes in flight at once, over all providers. Bounds memory and what a crash can repeat (G4).
    pub budget: usize,
    /// How long a take may hold a delivery. Longer than the longest attempt (client time-out) by a safe margin.
    pub lease: Duration,
    /// The longest that one attempt may take, connection and answer included.
    pub attempt_timeout: Duration,
    /// How often the clock looks for due work when it found none.
    pub clock_interval: Duration,
    /// The longest that a provider is left alone for a fault that a person must mend, or for a mass of dead tokens, until a
    /// probe looks whether it is over.
    pub max_pause: Duration,
    /// How long a drain may take before the process gives up its work to the leases.
    pub drain: Duration,
    /// How the binary is started again for work that is done alone in a child process (protocol step 10).
    pub isolate: Isolate,
    /// Whom the queue lets publish.
    pub producers: Producers,
}

/// The command line of the child process.
#[derive(Debug, Clone)]
pub struct Isolate {
    /// The binary.
    pub program: std::path::PathBuf,
    /// Its arguments: the same configuration, and the hidden subcommand.
    pub args: Vec<String>,
    /// Variables that it must not see, if its configuration is not that of this process's environment.
    pub without: Vec<String>,
    /// The longest that one piece of isolated work may take before the child is killed.
    pub timeout: Duration,
}
