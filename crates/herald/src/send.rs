//! `herald send`: publishes requests, as a producer does. For trying things and for load.
//!
//! Builds bodies ([`body`]), checks each with the parser that the workers use, so that a mistake is told here and not found
//! among dead letters, and publishes them with confirms ([`publish`]).

mod body;
mod publish;

use std::time::{SystemTime, UNIX_EPOCH};

use herald_core::lane::Lane;
use herald_core::request::{self, Envelope, Limits};
use herald_core::time::Timestamp;
use serde_json::Value;

use crate::cli::SendArgs;
use crate::config::Config;
use crate::connect::Role;
use crate::failure::Failure;
use crate::{connect, out};

/// The delays allowed for apps that this machine's configuration doesn't know.
const WIDEST_DELAY_SECS: (u32, u32) = (1, 86_400);

/// A request to publish.
#[derive(Debug, Clone, PartialEq)]
struct Draft {
    body: Value,
    key: String,
    lane: Lane,
}

/// Builds, checks and publishes.
///
/// # Errors
/// [`Failure::Usage`] for arguments, files and bodies that can't be sent; [`Failure::Unavailable`] if the broker does not
/// confirm.
pub(crate) async fn run(config: &Config, args: &SendArgs) -> anyhow::Result<()> {
    let now = now();
    let bodies = body::read(args, now)?;
    if !args.no_check {
        let first: Vec<Draft> = body::drafts(args, &bodies, 1).collect();
        check(config, &first, now)?;
    }
    if args.fallback_title.is_some() && args.priority.as_deref() != Some("High") {
        tracing::warn!("no toast will follow: a fallback is owed only with --priority High");
    }
    if args.dry_run {
        for draft in (1..=args.count).flat_map(|n| body::drafts(args, &bodies, n)) {
            out::line(draft.body.to_string())?;
        }
        return Ok(());
    }
    let queue = connect::queue(config, "send", Role::Other).await?;
    let drafts = (1..=args.count).flat_map(|n| body::drafts(args, &bodies, n));
    let user = connect::broker_login(config);
    let sent = publish::all(&queue.publisher(), drafts, args.rate, user).await;
    queue.close().await;
    let sent = sent?;
    out::line(format!("{} sent in {:.1} s ({:.0} a second)", sent.count, sent.took.as_secs_f64(), sent.rate()))?;
    Ok(())
}

/// Checks each with the workers' own parser.
fn check(config: &Config, drafts: &[Draft], now: Timestamp) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        if let Err(error) = parse(config, draft, now) {
            let number = if drafts.len() > 1 { format!("request {}: ", index + 1) } else { String::new() };
            wrong.push(format!("{number}{}: {}; {}", error.field, error.problem, error.fix));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.push("nothing was sent; --no-check sends it as it is".to_owned());
    Err(Failure::Usage(wrong.join("\n")))
}

fn parse(config: &Config, draft: &Draft, now: Timestamp) -> Result<request::Request, request::RequestError> {
    let app = draft.body["targetHostName"].as_str().unwrap_or_default().to_ascii_lowercase();
    let known = config.apps.iter().find(|known| known.id.as_str() == app);
    let limits = Limits { fallback_delay_secs: known.map_or(WIDEST_DELAY_SECS, |known| known.fallback.delay_secs) };
    let envelope = Envelope {
        message_id: Some(&draft.key),
        kind: Some(publish::KIND),
        content_type: Some("application/json"),
        ..Envelope::default()
    };
    request::parse(draft.body.to_string().as_bytes(), &envelope, draft.lane, &limits, now)
}

/// This machine's clock: good enough to say whether an expiry is in the future.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(0).plus(since)
}

#[cfg(test)]
mod tests;
