//! `herald isolated`: the child process that does one piece of work alone (protocol step 10). Not for people: a worker starts it.
//!
//! Standard input says what to do, standard output what came of it; both are JSON. If this process dies, the worker knows
//! that the work killed it.

use std::io::Read as _;

use herald_worker::{BEGUN, Isolated, Verdict};

use crate::config::Config;
use crate::connect::Role;
use crate::{out, worker};

/// Work is at most a message of 16 MiB, which is what a broker takes, written as numbers of up to four characters.
const MAX_INPUT: u64 = 80 * 1024 * 1024;

/// Does one piece of work, told on stdin.
///
/// # Errors
/// When the input is not work, or the answer can't be written.
pub(crate) async fn run(config: &Config) -> anyhow::Result<()> {
    let mut input = Vec::new();
    std::io::stdin().take(MAX_INPUT).read_to_end(&mut input)?;
    let work: Isolated = serde_json::from_slice(&input)?;
    let verdict = match worker::assemble(config, "isolated", Role::Other).await {
        Ok(parts) => herald_worker::do_alone(parts, work, || out::line(BEGUN)).await,
        Err(error) => {
            tracing::warn!(%error, "isolated work could not begin");
            Verdict::Unavailable
        }
    };
    out::line(serde_json::to_string(&verdict)?)?;
    Ok(())
}
