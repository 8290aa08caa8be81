//! `herald topology`: makes the store's tables, and the broker's exchanges and queues. Safe to repeat; deletes nothing.
//!
//! Run once before the first worker and after each upgrade. `--check` changes nothing.

use herald_queue::TopologyError;

use crate::cli::TopologyArgs;
use crate::config::Config;
use crate::connect::Role;
use crate::failure::Failure;
use crate::{connect, out};

/// Prepares, or with `--check` only looks.
///
/// # Errors
/// [`Failure::Usage`] without a broker URL; [`Failure::Unavailable`] if broker or store can't be reached; a report of every
/// difference if something is there that is not as it should be.
pub(crate) async fn run(config: &Config, args: &TopologyArgs) -> anyhow::Result<()> {
    let queue = connect::queue(config, "topology", Role::Other).await?;
    if config.store.url.is_none() {
        out::line("store: no URL given (HERALD_DATABASE_URL), left alone")?;
    } else if args.check {
        connect::ready_store(config, Role::Other).await?;
        out::line("store: its tables are as they should be")?;
    } else {
        let store = connect::store(config, Role::Other).await?;
        store.migrate().await.map_err(connect::store_failure)?;
        out::line("store: its tables are up to date")?;
    }
    if args.check {
        queue.verify_topology().await.map_err(failure)?;
        return Ok(out::line("broker: every exchange and queue is as it should be")?);
    }
    let declared = queue.declare_topology().await.map_err(failure)?;
    for name in &declared.created {
        out::line(format!("broker: created {name}"))?;
    }
    for name in &declared.existed {
        out::line(format!("broker: already there {name}"))?;
    }
    let (created, existed) = (declared.created.len(), declared.existed.len());
    Ok(out::line(format!("broker: {created} created, {existed} already there"))?)
}

/// Which exit code a difference or an absent broker leads to.
pub(crate) fn failure(error: TopologyError) -> anyhow::Error {
    match error {
        TopologyError::Unreachable(_) | TopologyError::Forbidden { .. } => Failure::Unavailable(error.into()).into(),
        TopologyError::Differs(_) => error.into(),
    }
}
