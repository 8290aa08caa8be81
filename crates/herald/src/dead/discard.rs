//! `herald dead discard`: dead letters are removed for good.

use super::args::DiscardArgs;
use super::choose::{Pages, Tally, something};
use crate::config::Config;
use crate::connect::Role;
use crate::{connect, out};

/// Removes, or says what would be.
///
/// # Errors
/// [`crate::failure::Failure::Usage`] without a choice; a report that names unknown ids; as any call of the store.
pub(super) async fn run(config: &Config, args: &DiscardArgs) -> anyhow::Result<()> {
    something(&args.which, args.all)?;
    let store = connect::ready_store(config, Role::Other).await?;
    let mut pages = Pages::of(&store, &args.which).await?;
    let (mut tally, mut chosen, mut removed) = (Tally::default(), 0, 0);
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        page.iter().for_each(|entry| tally.add(entry));
        chosen += page.len();
        if !args.dry_run {
            let keys: Vec<_> = page.iter().map(|entry| entry.key).collect();
            removed += store.dead_remove(&keys).await.map_err(connect::store_failure)?;
        }
    }
    out::line(if args.dry_run { format!("would discard {chosen}") } else { format!("{removed} discarded") })?;
    Ok(tally.show()?)
}
