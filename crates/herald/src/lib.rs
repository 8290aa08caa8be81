//! The `herald` command: reads the command line and the configuration, and runs one subcommand. What a subcommand does is in
//! the file of its name.
//!
//! A library only so that the fuzz target of the configuration can reach it; [`main`] is all that the binary calls.

mod cli;
mod config;
mod connect;
mod failure;
mod out;
mod shutdown;
mod telemetry;

mod apps;
mod bench;
mod check;
mod dead;
mod demo;
mod erase;
mod gateway;
mod isolated;
mod migrate;
mod send;
mod simulate;
mod subscriptions;
mod topology;
mod trace;
mod up;
mod worker;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use futures_util::FutureExt as _;

use cli::{Cli, Command};
use config::{Config, Input, Needs};
use failure::Failure;

/// How long work on blocking threads (name resolution, files) may hold up the end of the process.
const BLOCKING_LIMIT: Duration = Duration::from_millis(500);

/// Runs the process's command line to its end, and says the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no mistakes, though clap hands them over as such. Nobody is left to tell if this fails.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(failure::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) if out::is_closed_pipe(&report) => ExitCode::SUCCESS,
        Err(report) => {
            out::report(&report);
            failure::exit_code(&report)
        }
    }
}

/// Everything that can go wrong.
fn start(cli: Cli) -> anyhow::Result<()> {
    let input = Input::of_process(cli.config);
    let filter = input.env.get("HERALD_LOG").map(|filter| filter.trim()).filter(|filter| !filter.is_empty());
    // Log lines of what goes well would stand between those of the demo's timeline.
    let demo = matches!(cli.command, Command::Demo(_)).then_some("warn");
    telemetry::init(cli.log_format, filter.or(demo))?;
    // The library that ours and lapin's TLS run on. An error says that it was chosen before, which is as good.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(AssertUnwindSafe(run(cli.command, &input)).catch_unwind());
    runtime.shutdown_timeout(BLOCKING_LIMIT);
    done.unwrap_or_else(|_| Err(Failure::Internal(anyhow::anyhow!("a panic (a fault in Herald); see above")).into()))
}

/// Each reads its configuration first, so that it is wrong before anything is open.
async fn run(command: Command, input: &Input) -> anyhow::Result<()> {
    let config = |needs| Config::load(input, needs);
    match command {
        // It shows Herald as it is, whatever is configured here.
        Command::Demo(args) => demo::run(&args, input).await,
        Command::Up => up::run(&config(Needs::Up)?).await,
        Command::Worker => worker::run(&config(Needs::Worker)?).await,
        Command::Gateway => gateway::run(&config(Needs::Gateway)?).await,
        Command::Isolated => isolated::run(&config(Needs::Up)?).await,
        Command::Topology(args) => topology::run(&config(Needs::Servers)?, &args).await,
        // It makes the configuration that others read, and so starts without one.
        Command::Simulate(args) => simulate::run(input, &args).await,
        Command::Send(args) => send::run(&config(Needs::Connections)?, &args).await,
        Command::Subscriptions(command) => subscriptions::run(&config(Needs::Connections)?, command).await,
        Command::Apps(args) => apps::run(&config(Needs::Connections)?, args).await,
        Command::Dead(command) => dead::run(&config(Needs::Connections)?, command).await,
        Command::Check(command) => check::run(&config(Needs::Tokens)?, &command).await,
        Command::Trace(args) => trace::run(&config(Needs::Connections)?, &args).await,
        Command::Erase(args) => erase::run(&config(Needs::Connections)?, &args).await,
        Command::Migrate(args) => migrate::run(&config(Needs::Servers)?, &args).await,
        Command::Bench(args) => bench::run(&config(Needs::Servers)?, &args).await,
    }
}
