//! `herald-harness`: start private servers once and run a command with them; what `./test` uses.
//!
//! `herald-harness with-servers -- cargo test` starts RabbitMQ and PostgreSQL, unless the environment names them,
//! sets the environment variables by which tests find them, runs the command, ends the servers, and ends with the
//! command's exit code.

use anyhow::{Context, Result, bail};
use herald_harness::{AMQP_URL, DATABASE_URL, PrivatePostgres, PrivateRabbit, RABBITMQ_API};
use std::process::ExitCode;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: herald-harness with-servers -- COMMAND [ARGS…]";

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("herald-harness: {error:#}");
            ExitCode::from(70)
        }
    }
}

async fn run(args: Vec<String>) -> Result<u8> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ["with-servers", "--", program, rest @ ..] = args.as_slice() else { bail!(USAGE) };
    let mut command = Command::new(program);
    command.args(rest).kill_on_drop(true);
    // Signals are taken from here on, so that the servers are ended in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let servers = tokio::select! {
        servers = start() => servers?,
        _ = terminate.recv() => return Ok(143),
        _ = interrupt.recv() => return Ok(130),
    };
    command.envs(servers.env());
    let mut child = command.spawn().with_context(|| format!("{program} can't be started"))?;
    let code = tokio::select! {
        status = child.wait() => status?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        _ = terminate.recv() => 143,
        // A Ctrl-C reaches the command as well, by the terminal: it may say its last words.
        _ = interrupt.recv() => { child.wait().await?; 130 }
    };
    drop(servers);
    Ok(code)
}

struct Servers {
    rabbit: Option<PrivateRabbit>,
    postgres: Option<PrivatePostgres>,
}

impl Servers {
    fn env(&self) -> Vec<(&'static str, String)> {
        let rabbit =
            self.rabbit.iter().flat_map(|rabbit| [(AMQP_URL, rabbit.url("/")), (RABBITMQ_API, rabbit.api_url())]);
        let postgres = self.postgres.iter().map(|postgres| (DATABASE_URL, postgres.url("postgres")));
        rabbit.chain(postgres).collect()
    }
}

/// Both at once: RabbitMQ takes seconds.
async fn start() -> Result<Servers> {
    let given = |name| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let rabbit = async { if given(AMQP_URL) { Ok(None) } else { PrivateRabbit::start().await.map(Some) } };
    let postgres = async { if given(DATABASE_URL) { Ok(None) } else { PrivatePostgres::start().await.map(Some) } };
    let (rabbit, postgres) = tokio::try_join!(rabbit, postgres)?;
    Ok(Servers { rabbit, postgres })
}
