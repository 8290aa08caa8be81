//! `herald subscriptions`: registers, shows and ends subscriptions in the store, as the gateway does for apps.
//!
//! For trying things, for tests and for support; and moves them from and to other installations. A push token is a secret: no
//! output but an export's shows more than its end.

pub(crate) mod args;
mod export;
mod import;
mod rows;

use std::time::Duration;

use herald_core::device::{Address, AddressError, Part};
use herald_core::ids::{AppId, PushToken, Unsid, UserId};
use herald_core::subscription::Subscription;
use herald_store::NewSubscription;
use serde_json::{Value, json};

use crate::cli::{ListSubscriptionsArgs, SubscribeArgs, SubscriptionsCommand};
use crate::config::Config;
use crate::connect::Role;
use crate::failure::Failure;
use crate::{connect, out};

/// How much of a token's end is shown: enough to tell two devices apart, too little to push to one.
const SHOWN: usize = 6;
/// A token shorter than this shows nothing.
const SHORTEST_SHOWN: usize = 24;

/// Adds, lists, removes, imports or exports.
///
/// # Errors
/// [`Failure::Usage`] without a store URL, or for an app or token that can't be right; as any call of the store.
pub(crate) async fn run(config: &Config, command: SubscriptionsCommand) -> anyhow::Result<()> {
    match command {
        SubscriptionsCommand::Add(args) => add(config, args).await,
        SubscriptionsCommand::List(args) => list(config, &args).await,
        SubscriptionsCommand::Import(args) => import::run(config, &args).await,
        SubscriptionsCommand::Export(args) => export::run(config, &args).await,
        SubscriptionsCommand::Remove { unsid } => {
            let store = connect::ready_store(config, Role::Other).await?;
            match store.end(Unsid(unsid)).await.map_err(connect::store_failure)? {
                true => Ok(out::line("ended")?),
                false => {
                    anyhow::bail!("{unsid}: no active subscription has this id; `herald subscriptions list` shows them")
                }
            }
        }
    }
}

async fn add(config: &Config, args: SubscribeArgs) -> anyhow::Result<()> {
    let app = known_app(config, &args.app)?;
    let address =
        Address::checked(args.platform, args.kind, args.environment, &args.token).map_err(|error| wrong(&error))?;
    let store = connect::ready_store(config, Role::Other).await?;
    let life = Duration::from_secs(u64::from(args.expires_days) * 24 * 60 * 60);
    let new = NewSubscription {
        app,
        user: UserId::new(args.user),
        platform: address.platform,
        token_kind: address.token_kind,
        token: address.token,
        environment: address.environment,
        expires_at: store.clock().now().plus(life),
        unsid: None,
    };
    let made = store.subscribe(new).await.map_err(connect::store_failure)?;
    Ok(out::line(made.id.to_string())?)
}

/// By the name of the argument.
fn wrong(error: &AddressError) -> Failure {
    let AddressError { part, problem, fix } = error;
    let argument = match part {
        Part::Platform => "--platform",
        Part::TokenKind => "--kind",
        Part::Environment => "--environment",
        Part::PushToken => "--token",
    };
    Failure::Usage(format!("{argument}: {problem}; {fix}"))
}

async fn list(config: &Config, args: &ListSubscriptionsArgs) -> anyhow::Result<()> {
    let app = known_app(config, &args.app)?;
    let store = connect::ready_store(config, Role::Other).await?;
    let found = store.list(&app, &UserId::new(args.user.as_str())).await.map_err(connect::store_failure)?;
    if args.json {
        return Ok(out::json(&found.iter().map(as_json).collect())?);
    }
    let rows: Vec<[String; 5]> = found.iter().map(row).collect();
    Ok(out::table(["UNSID", "PLATFORM", "ENVIRONMENT", "TOKEN", "EXPIRES"], &rows)?)
}

fn row(subscription: &Subscription) -> [String; 5] {
    [
        subscription.id.to_string(),
        subscription.platform.to_string(),
        subscription.environment.as_str().to_owned(),
        shown(&subscription.token),
        subscription.expires_at.to_rfc3339(),
    ]
}

fn as_json(subscription: &Subscription) -> Value {
    json!({
        "userNotificationSubscriptionId": subscription.id,
        "targetHostName": subscription.app,
        "userId": subscription.user,
        "platform": subscription.platform.as_str(),
        "tokenKind": subscription.token_kind.as_str(),
        "tokenEnd": shown(&subscription.token),
        "environment": subscription.environment.as_str(),
        "confirmedAt": subscription.confirmed_at,
        "expirationDateTime": subscription.expires_at,
    })
}

/// The end of a token.
fn shown(token: &PushToken) -> String {
    let text = token.expose();
    match text.char_indices().rev().nth(SHOWN - 1) {
        Some((start, _)) if text.len() >= SHORTEST_SHOWN => format!("…{}", &text[start..]),
        _ => "…".to_owned(),
    }
}

/// The app, in lower case. If apps are configured here it must be one of them: a mistyped one would never be pushed for.
///
/// # Errors
/// [`Failure::Usage`] with the known ones.
pub(crate) fn known_app(config: &Config, text: &str) -> Result<AppId, Failure> {
    let app = AppId::new(text.to_ascii_lowercase());
    if config.apps.is_empty() || config.apps.iter().any(|known| known.id == app) {
        return Ok(app);
    }
    let known: Vec<&str> = config.apps.iter().map(|known| known.id.as_str()).collect();
    Err(Failure::Usage(format!("{text}: no such app is configured; known: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_token_is_shown_and_nothing_of_a_short_one() {
        let check = |token: &str, expected| assert_eq!(shown(&PushToken::new(token)), expected);
        check(&format!("{}abcdef", "0".repeat(58)), "…abcdef");
        check("abcdef", "…");
        check("", "…");
    }
}
