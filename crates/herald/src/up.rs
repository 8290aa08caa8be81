//! `herald up`: everything in one process, with the real providers of `herald.toml`.
//!
//! On files (`store.db`, `queue.db`) if neither broker nor store has a URL: nothing else is needed, and one such process
//! runs on one machine. With both URLs it prepares broker and store as `herald topology` does, and then is a worker like any
//! other.

use crate::config::{Config, Place};
use crate::connect::Role;
use crate::{connect, topology, worker};

/// Runs until a signal, then drains.
///
/// # Errors
/// As [`worker::run`]; [`crate::failure::Failure::Unavailable`] if the files can't be used, or another process works on them.
pub(crate) async fn run(config: &Config) -> anyhow::Result<()> {
    match &config.place {
        Place::Files(dir) => tracing::info!(dir = %dir.display(), "working on files"),
        Place::Servers => {
            connect::store(config, Role::Worker).await?.migrate().await.map_err(connect::store_failure)?
        }
    }
    let parts = worker::assemble(config, "up", Role::Worker).await?;
    parts.queue.declare_topology().await.map_err(topology::failure)?;
    worker::until_signal(config, parts).await
}
