//! `herald trace`: what became of a notification, in plain words, or with all facts as the gateway answers them.
//!
//! Reads the store, beside running workers or without any.

use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_gateway::trace::{Traced, told};
use herald_store::Store;

use crate::cli::TraceArgs;
use crate::config::Config;
use crate::connect::Role;
use crate::subscriptions::known_app;
use crate::{connect, out};

/// Traces in one answer, as over HTTP.
const LIMIT: i64 = 20;

/// Prints.
///
/// # Errors
/// [`crate::failure::Failure::Usage`] without a store URL, or for an app that is not configured; a report if there is no such
/// notification; as any call of the store.
pub(crate) async fn run(config: &Config, args: &TraceArgs) -> anyhow::Result<()> {
    let named = args.app.as_deref().map(|app| known_app(config, app)).transpose()?;
    let store = connect::ready_store(config, Role::Other).await?;
    let found = match (args.id, &args.app_notification_id, named) {
        (None, Some(name), Some(app)) => {
            let user = args.user.as_deref().map(UserId::new);
            store.named(&[app], user.as_ref(), name, LIMIT).await.map_err(connect::store_failure)?
        }
        (id, ..) => {
            let id = NotificationId(id.unwrap_or_default());
            let app = store.app_of(id).await.map_err(connect::store_failure)?;
            app.map(|app| (app, id)).into_iter().collect()
        }
    };
    let mut traces = Vec::with_capacity(found.len());
    for (app, id) in found {
        traces.extend(trace(&store, &app, id).await?);
    }
    if traces.is_empty() {
        anyhow::bail!(
            "no such notification is stored; one is kept for a day after its life, and `herald dead list` shows what was never stored"
        );
    }
    match (args.json, args.id, traces.as_slice()) {
        (true, Some(_), [one]) => Ok(out::json(&serde_json::to_value(one)?)?),
        (true, ..) => Ok(out::json(&serde_json::to_value(&traces)?)?),
        (false, ..) => traces.iter().try_for_each(|trace| Ok(show(trace)?)),
    }
}

async fn trace(store: &Store, app: &AppId, id: NotificationId) -> anyhow::Result<Option<Traced>> {
    let Some(trace) = store.trace(app, id).await.map_err(connect::store_failure)? else { return Ok(None) };
    let unsids: Vec<Unsid> = trace.deliveries.iter().map(|delivery| delivery.unsid).collect();
    let known = store.known(&unsids).await.map_err(connect::store_failure)?;
    Ok(Some(told(&trace, &known, store.clock().now())))
}

fn show(trace: &Traced) -> std::io::Result<()> {
    let name = trace.app_notification_id.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let (id, app, user, at) = (trace.id, &trace.target_host_name, &trace.user_id, trace.received_date_time);
    out::line(out::printable(&format!("{id}{name} to {user} of {app}, received on {at}")))?;
    trace.story.iter().try_for_each(|line| out::line(out::printable(line)))
}
