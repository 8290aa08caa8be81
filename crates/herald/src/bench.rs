//! `herald bench`: measures Herald on this machine, with separate processes, real servers and simulated providers.
//!
//! A figure is worth something only beside another one of the same run on the same machine, so each bench prints a ratio.
//! What was measured where, and where the time goes, is in `docs/performance.md`. It never tests anything: a bench that is
//! slow does not fail.

mod ceiling;
mod children;
mod cpu;
mod exposition;
mod gateway;
mod get;
mod load;
mod posts;
mod pushes;
mod raw;
mod report;
mod servers;
mod simulator;
mod window;

use clap::ValueEnum;
use herald_core::subscription::Provider;

use crate::config::Config;

/// `herald bench`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Raw pushes from a full queue to the providers' acceptance, and the bare HTTP/2 ceiling beside it
    ///
    /// Needs HERALD_AMQP_URL and HERALD_DATABASE_URL, a vhost and a database that nothing else uses; or --embedded. Starts a
    /// simulator without delay and the workers as processes of this same binary, and ends them.
    Raw(RawArgs),
    /// Posts over HTTP that are answered 201 once they are stored, and a bare HTTP server that stores nothing beside them
    ///
    /// Needs HERALD_DATABASE_URL, a database that nothing else uses; or --embedded. Gateway, bare server and clients are in this
    /// process. Then, for a while, posts at half of the rate that was measured.
    Gateway(GatewayArgs),
}

/// `herald bench gateway`
#[derive(Debug, Clone, clap::Args)]
struct GatewayArgs {
    /// Seconds of each of the two measurements
    #[arg(long, value_name = "SECS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    secs: u64,
    /// Seconds at half of the rate that was measured
    #[arg(long, value_name = "SECS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    half_secs: u64,
    /// Connections, each with one post at a time
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = clap::value_parser!(u16).range(1..=500))]
    connections: u16,
    /// Users, each with one device
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    users: u64,
    /// On a file in a temporary folder instead of a database
    #[arg(long)]
    embedded: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// `herald bench raw`
#[derive(Debug, Clone, clap::Args)]
struct RawArgs {
    /// Notifications to measure
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    count: u64,
    /// Users, each with one device
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    users: u64,
    /// Notifications before the measurement begins: connections open, caches fill
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    warm_up: u64,
    /// Connections of the ceiling to each provider; without it as many as the workers had
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    connections: Option<u16>,
    /// Which provider the devices are reached by
    #[arg(long, default_value = "apns")]
    provider: Choice,
    /// On files in a temporary folder instead of broker and store: one worker, `herald up`
    #[arg(long, conflicts_with = "workers")]
    embedded: bool,
    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Which providers are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    Apns,
    Fcm,
    Both,
}

impl Choice {
    /// In the order in which users are dealt out to them.
    fn providers(self) -> &'static [Provider] {
        match self {
            Self::Apns => &[Provider::Apns],
            Self::Fcm => &[Provider::Fcm],
            Self::Both => &Provider::ALL,
        }
    }
}

/// Measures, and prints what it found.
///
/// # Errors
/// [`crate::failure::Failure::Usage`] without the servers' URLs; a report of what was in the way.
pub(crate) async fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Raw(args) => raw::run(config, args).await,
        What::Gateway(args) => gateway::run(config, args).await,
    }
}
