//! The command line: what can be asked for, in one place. Which file answers it is `main.rs`'s one `match`.
//!
//! It never reads the configuration and never decides a default that the configuration has too.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use herald_core::lane::Lane;
use herald_core::subscription::{Environment, Platform, Provider, TokenKind};
use uuid::Uuid;

/// Delivers app notifications to every device of a user, from a message queue.
#[derive(Debug, Parser)]
#[command(name = "herald", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The configuration file; without it ./herald.toml, if there is one
    #[arg(long, global = true, env = "HERALD_CONFIG", value_name = "FILE", value_parser = config_file())]
    pub config: Option<PathBuf>,
    /// How log lines are written to stderr (which ones: HERALD_LOG, "info" by default)
    #[arg(long, global = true, env = "HERALD_LOG_FORMAT", value_name = "text|json", default_value = "text", value_parser = log_format)]
    pub log_format: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 64 wrong usage or configuration (nothing was opened yet); \
                          69 broker or store unavailable; 70 a fault in Herald itself; 1 any other failure.";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One file each, of the same name.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work, in one process with simulated phones: needs no server and no account
    Demo(DemoArgs),
    /// Run everything in one process: on files, or with broker and store if their URLs are given
    Up,
    /// Take requests from the queue and push them; as many replicas as you like
    Worker,
    /// Serve HTTP alone: take notifications and receipts, push nothing; beside workers, as many as you like
    Gateway,
    /// Prepare the store and declare the broker's exchanges and queues; safe to repeat
    Topology(TopologyArgs),
    /// Serve simulated APNs and FCM with simulated phones
    Simulate(SimulateArgs),
    /// Publish requests to the queue, for trying and for load
    Send(Box<SendArgs>),
    /// Manage subscriptions in the store
    #[command(subcommand)]
    Subscriptions(SubscriptionsCommand),
    /// Show the configured apps, pause and resume their providers
    Apps(AppsArgs),
    /// Look at dead letters (work that could not be done), send them again, discard them
    #[command(subcommand)]
    Dead(crate::dead::args::DeadCommand),
    /// Look into what is refused, and say why
    #[command(subcommand)]
    Check(CheckCommand),
    /// Show what became of a notification, in plain words
    Trace(TraceArgs),
    /// Delete all that is kept of a user of an app, pending work included
    Erase(EraseArgs),
    /// Move what `herald up` has on files to a broker and a store; safe to repeat
    Migrate(MigrateArgs),
    /// Measure throughput and latency
    Bench(crate::bench::Args),
    /// Do one piece of work alone: a worker starts this for work that may kill its process
    #[command(hide = true)]
    Isolated,
}

/// `herald demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the script: exit code 0 if each person saw exactly what they should, else 1
    #[arg(long)]
    pub once: bool,
    /// Show no timeline, only the result, as one JSON object
    #[arg(long, requires = "once")]
    pub json: bool,
    /// Keep the files (queue, store, configuration) in this new or empty folder
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Seconds that an app has to send its receipt before the toast is due
    #[arg(long, value_name = "SECS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=15))]
    pub after: u32,
    /// The port of metrics and receipts; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub http_port: u16,
    /// The port by which the phones are seen and changed; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub control_port: u16,
}

/// `herald check`
#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// Say step by step whether an access token is taken by the configured issuers, and what to do if it isn't
    ///
    /// The token comes from a file or stdin, never from the command line, where other users of the machine could read it. The
    /// issuer's keys are fetched; neither broker nor store is needed. Exit code 0: it may reach notifications; 1: it is refused.
    Token(CheckTokenArgs),
}

/// `herald check token`
#[derive(Debug, Args)]
pub(crate) struct CheckTokenArgs {
    /// The file with the token; `-` reads it from stdin
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `herald migrate`
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The folder of the files (queue.db, store.db); nothing may be running on them
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// Move nothing, only count what is on both sides
    #[arg(long)]
    pub dry_run: bool,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `herald topology`
#[derive(Debug, Args)]
pub(crate) struct TopologyArgs {
    /// Declare and change nothing, only say whether all is as it should be
    #[arg(long)]
    pub check: bool,
}

/// `herald simulate`
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Where credentials and a ready herald.toml are kept; a restart uses the same ones
    #[arg(long, value_name = "DIR", default_value = "simulator")]
    pub dir: PathBuf,
    /// The address to listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub listen_ip: IpAddr,
    /// The name by which workers reach it, if not on this machine: in the addresses and the certificate
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub host: String,
    /// APNs' port; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub apns_port: u16,
    /// The port of APNs' sandbox; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub apns_sandbox_port: u16,
    /// The port of FCM and of Google's token endpoint; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = 8444)]
    pub fcm_port: u16,
    /// The port of the control interface (plain HTTP); 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = 8445)]
    pub control_port: u16,
    /// An app that has credentials here; may be repeated
    #[arg(long = "app", value_name = "HOST", default_values = ["mail.contoso.com", "chat.fabrikam.com"])]
    pub apps: Vec<String>,
    /// Accept what independent clients are known to send, though the documentation forbids it: signatures in DER, padded
    /// base64, iat as a fraction or text, … (the table is in crates/herald-simulator/README.md)
    #[arg(long)]
    pub lenient: bool,
    /// Where simulated apps acknowledge what they got (the gateway's receipts address)
    #[arg(long, value_name = "URL")]
    pub receipts_url: Option<String>,
    /// Hold every answer of a provider back by this much
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay_ms: u64,
    /// Treat a token of no known device as a device that is awake
    #[arg(long)]
    pub accept_unknown_tokens: bool,
    /// What all that looks like chance follows from: tokens, losses, delays, percentages
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
}

/// `herald send`
#[derive(Debug, Default, Args)]
pub(crate) struct SendArgs {
    /// Requests as JSON: one object, an array, or one object a line; `-` reads them from stdin
    #[arg(value_name = "FILE", conflicts_with_all = ["app", "user", "unsid", "raw", "title", "body"])]
    pub file: Option<PathBuf>,
    /// The app (Graph's targetHostName)
    #[arg(long, value_name = "HOST", required_unless_present = "file")]
    pub app: Option<String>,
    /// Tell all devices of this user
    #[arg(long, value_name = "USER", required_unless_present_any = ["file", "unsid"], conflicts_with = "unsid")]
    pub user: Option<String>,
    /// Tell all devices of this subscription's user
    #[arg(long, value_name = "UNSID")]
    pub unsid: Option<Uuid>,
    /// Data for the app, sent silently
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["file", "title"])]
    pub raw: Option<String>,
    /// Title of a visible notification
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Text of a visible notification
    #[arg(long, value_name = "TEXT", requires = "title")]
    pub body: Option<String>,
    /// Priority: High, None or Low
    #[arg(long, value_name = "PRIORITY", value_parser = ["High", "None", "Low"])]
    pub priority: Option<String>,
    /// The queue; without it that of the priority
    #[arg(long, value_parser = lane)]
    pub lane: Option<Lane>,
    /// Title of the toast shown when the silent push is not proven to have arrived
    #[arg(long, value_name = "TEXT")]
    pub fallback_title: Option<String>,
    /// Text of that toast
    #[arg(long, value_name = "TEXT", requires = "fallback_title")]
    pub fallback_body: Option<String>,
    /// Seconds until that toast, 60 if not given
    #[arg(long, value_name = "SECS", requires = "fallback_title")]
    pub fallback_after: Option<u32>,
    /// Your own id of the notification (appNotificationId); a newer one with the same id replaces it on the screen
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The idempotency key; without it a new one each time
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// When it is removed: a time (2026-12-01T00:00:00Z), or from now (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "WHEN", conflicts_with = "file")]
    pub expires: Option<String>,
    /// Send it this often, each with its own key; the letter n in braces, in any text, becomes the number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// At most this many a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Send it even if it breaks the contract
    #[arg(long)]
    pub no_check: bool,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `herald subscriptions`
#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionsCommand {
    /// Register a device, and print its subscription id (UNSID)
    Add(SubscribeArgs),
    /// Show the active subscriptions of a user
    List(ListSubscriptionsArgs),
    /// End a subscription
    Remove {
        /// Its id
        unsid: Uuid,
    },
    /// Add very many from a file; takes nothing from what is there, and may be repeated
    Import(crate::subscriptions::args::ImportArgs),
    /// Write the active ones to stdout, with their push tokens
    Export(crate::subscriptions::args::ExportArgs),
}

/// `herald subscriptions add`
#[derive(Debug, Args)]
pub(crate) struct SubscribeArgs {
    /// The app
    #[arg(long, value_name = "HOST")]
    pub app: String,
    /// Whose device it is
    #[arg(long, value_name = "USER")]
    pub user: String,
    /// ios or android
    #[arg(long, value_parser = platform)]
    pub platform: Platform,
    /// The push token that the device got from Apple or Google
    #[arg(long, value_name = "TOKEN")]
    pub token: String,
    /// What kind of address the token is: token, or fid (a Firebase Installation ID)
    #[arg(long, default_value = "token", value_parser = token_kind)]
    pub kind: TokenKind,
    /// Apple's environment: production, or sandbox (builds signed for development)
    #[arg(long, default_value = "production", value_parser = environment)]
    pub environment: Environment,
    /// When it ends unless renewed
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub expires_days: u32,
}

/// `herald subscriptions list`
#[derive(Debug, Args)]
pub(crate) struct ListSubscriptionsArgs {
    /// The app
    #[arg(long, value_name = "HOST")]
    pub app: String,
    /// The user
    #[arg(long, value_name = "USER")]
    pub user: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `herald trace`
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The notification's id
    #[arg(required_unless_present = "app_notification_id", conflicts_with_all = ["app_notification_id", "app", "user"])]
    pub id: Option<Uuid>,
    /// Or the producer's own id of it; shows the latest 20
    #[arg(long, value_name = "NAME", requires = "app")]
    pub app_notification_id: Option<String>,
    /// The app whose producer calls it so
    #[arg(long, value_name = "HOST")]
    pub app: Option<String>,
    /// Those to this user alone
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// All facts as JSON, as the gateway answers them
    #[arg(long)]
    pub json: bool,
}

/// `herald erase`
#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    /// The app
    #[arg(long, value_name = "HOST")]
    pub app: String,
    /// The user
    #[arg(long, value_name = "USER")]
    pub user: String,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
    /// Print the counts as JSON
    #[arg(long)]
    pub json: bool,
}

/// `herald apps`
#[derive(Debug, Args)]
pub(crate) struct AppsArgs {
    /// List, pause or resume; list if not given
    #[command(subcommand)]
    pub command: Option<AppsCommand>,
}

/// What to do about apps.
#[derive(Debug, Subcommand)]
pub(crate) enum AppsCommand {
    /// Show the configured apps, their providers, and why one is paused
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop pushing for an app; its work is kept
    Pause {
        /// The app
        app: String,
        /// Only this provider: apns or fcm
        #[arg(long, value_parser = provider)]
        provider: Option<Provider>,
        /// For how long
        #[arg(long, value_name = "SECS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
        secs: u64,
    },
    /// Push for an app again
    Resume {
        /// The app
        app: String,
        /// Only this provider: apns or fcm
        #[arg(long, value_parser = provider)]
        provider: Option<Provider>,
    },
}

/// Any path, the empty one too: a variable that is set but empty counts as absent.
fn config_file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "" | "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json"),
    }
}

fn lane(text: &str) -> Result<Lane, &'static str> {
    text.parse().map_err(|()| "one of high, normal, low")
}

fn platform(text: &str) -> Result<Platform, &'static str> {
    Platform::parse(text).filter(|p| p.provider().is_some()).ok_or("ios or android; others are not pushed yet")
}

fn token_kind(text: &str) -> Result<TokenKind, &'static str> {
    TokenKind::parse(text).ok_or("token or fid")
}

fn environment(text: &str) -> Result<Environment, &'static str> {
    Environment::parse(text).ok_or("production or sandbox")
}

fn provider(text: &str) -> Result<Provider, &'static str> {
    Provider::ALL.into_iter().find(|p| p.as_str() == text).ok_or("apns or fcm")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_send_needs_an_app_a_target_and_something_to_tell_or_a_file() {
        let check = |args: &[&str], good: bool| {
            let all = ["herald", "send"].iter().chain(args);
            assert_eq!(Cli::try_parse_from(all).is_ok(), good, "{args:?}");
        };
        check(&["--app", "a", "--user", "u", "--raw", "x"], true);
        check(&["--app", "a", "--user", "u", "--title", "x", "--body", "y"], true);
        check(&["--app", "a", "--unsid", "01890a5d-ac96-774b-bcce-b302099a8057", "--raw", "x"], true);
        check(&["requests.jsonl"], true);
        check(&["-", "--count", "3"], true);
        check(&["--user", "u", "--raw", "x"], false);
        check(&["--app", "a", "--raw", "x"], false);
        check(&["--app", "a", "--user", "u"], false);
        check(&["--app", "a", "--user", "u", "--body", "y"], false);
        check(&["--app", "a", "--user", "u", "--raw", "x", "--fallback-after", "60"], false);
        check(&["--app", "a", "--user", "u", "--raw", "x", "--count", "0"], false);
        check(&["requests.jsonl", "--app", "a"], false);
    }
}
