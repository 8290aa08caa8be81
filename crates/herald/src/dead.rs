//! `herald dead`: dead letters, work that could not be done: why, and what to do with it.
//!
//! Works on the store and, for a replay, on the queue, beside running workers or without any. It shows reasons; bodies hold
//! content and are shown only by `show --body`.

pub(crate) mod args;
mod choose;
mod discard;
mod list;
mod replay;

use crate::config::Config;
use args::DeadCommand;

/// Lists, shows, replays or discards.
///
/// # Errors
/// [`crate::failure::Failure::Usage`] without a store, without a broker for a replay, or for a choice that can't be meant;
/// as any call of the store.
pub(crate) async fn run(config: &Config, command: DeadCommand) -> anyhow::Result<()> {
    match command {
        DeadCommand::List(args) => list::list(config, &args).await,
        DeadCommand::Show(args) => list::show(config, &args).await,
        DeadCommand::Replay(args) => replay::run(config, &args).await,
        DeadCommand::Discard(args) => discard::run(config, &args).await,
    }
}
