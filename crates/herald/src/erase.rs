//! `herald erase`: all that is kept of a user of an app goes, pending work included.
//!
//! Works on the store, beside running workers or without any. What still waits in the broker it can't see.

use std::io::{IsTerminal as _, Write as _};

use herald_core::ids::UserId;
use herald_store::Erased;
use serde_json::json;

use crate::cli::EraseArgs;
use crate::config::Config;
use crate::connect::Role;
use crate::failure::Failure;
use crate::subscriptions::known_app;
use crate::{connect, out};

/// Erases, once it is sure.
///
/// # Errors
/// [`Failure::Usage`] without a store URL, for an app that is not configured, or if nobody says yes; as any call of the
/// store: what was erased before is gone, and the same again erases the rest.
pub(crate) async fn run(config: &Config, args: &EraseArgs) -> anyhow::Result<()> {
    let app = known_app(config, &args.app)?;
    if !args.yes && !sure(args)? {
        return Err(Failure::Usage("nothing was erased".to_owned()).into());
    }
    let store = connect::ready_store(config, Role::Other).await?;
    let erased = store.erase(&app, &UserId::new(args.user.as_str())).await.map_err(connect::store_failure)?;
    let Erased { notifications, deliveries, subscriptions, events, dead_letters } = erased;
    if args.json {
        return Ok(out::json(&json!({
            "notifications": notifications, "deliveries": deliveries, "subscriptions": subscriptions,
            "events": events, "deadLetters": dead_letters,
        }))?);
    }
    let counts = [
        ("notifications", notifications),
        ("deliveries", deliveries),
        ("subscriptions", subscriptions),
        ("events", events),
        ("dead letters", dead_letters),
    ];
    counts.iter().try_for_each(|(what, count)| Ok(out::line(format!("{count} {what} erased"))?))
}

/// Asks whoever sits there.
fn sure(args: &EraseArgs) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Failure::Usage("--yes: is missing, and nobody is there to ask; it can't be undone".to_owned()).into()
        );
    }
    let mut stderr = std::io::stderr().lock();
    let (user, app) = (out::printable(&args.user), out::printable(&args.app));
    write!(stderr, "erase all of {user} in {app}? It can't be undone. Type yes: ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}
