//! `herald apps`: which apps are configured, whether their providers are pushed to, and if not why.
//!
//! Pauses are in the store, so that all workers share them: an operator's pause stops every replica, and its work is kept.

use std::time::Duration;

use herald_core::breaker::Trip;
use herald_core::ids::AppId;
use herald_core::subscription::{Environment, Provider};
use herald_store::{Pause, Store};
use serde_json::{Value, json};

use crate::cli::{AppsArgs, AppsCommand};
use crate::config::{AppConfig, Config};
use crate::connect::Role;
use crate::failure::Failure;
use crate::subscriptions::known_app;
use crate::{connect, out};

/// What a pause kept comes back spread over this time, so that the end of a pause is no flood.
const RESUME_SPREAD: Duration = Duration::from_secs(10);

/// The reason word of a pause that a person asked for.
const OPERATOR: &str = "operator";

/// Lists, pauses or resumes.
///
/// # Errors
/// [`Failure::Usage`] for an unknown app, and without a store URL where one is needed; as any call of the store.
pub(crate) async fn run(config: &Config, args: AppsArgs) -> anyhow::Result<()> {
    match args.command.unwrap_or(AppsCommand::List { json: false }) {
        AppsCommand::List { json } => list(config, json).await,
        AppsCommand::Pause { app, provider, secs } => {
            let (app, providers) = which(config, &app, provider)?;
            let store = connect::ready_store(config, Role::Other).await?;
            let until = store.clock().now().plus(Duration::from_secs(secs));
            for provider in providers {
                let detail = "herald apps pause";
                let paused = store.pause(&app, provider, until, OPERATOR, detail, true).await;
                paused.map_err(connect::store_failure)?;
                out::line(format!(
                    "{app} {provider}: paused until {until}, from about a second from now on; its work is kept"
                ))?;
            }
            Ok(())
        }
        AppsCommand::Resume { app, provider } => {
            let (app, providers) = which(config, &app, provider)?;
            resume(&connect::ready_store(config, Role::Other).await?, &app, &providers).await
        }
    }
}

async fn resume(store: &Store, app: &AppId, providers: &[Provider]) -> anyhow::Result<()> {
    for provider in providers {
        let was_paused = store.resume(app, *provider, RESUME_SPREAD).await.map_err(connect::store_failure)?;
        out::line(match was_paused {
            true => format!("{app} {provider}: resumed"),
            false => format!("{app} {provider}: was not paused"),
        })?;
    }
    Ok(())
}

/// The app, and the provider given or all that it has. On a machine that knows no apps: both.
fn which(config: &Config, app: &str, provider: Option<Provider>) -> Result<(AppId, Vec<Provider>), Failure> {
    let app = known_app(config, app)?;
    let Some(known) = config.apps.iter().find(|known| known.id == app) else {
        return Ok((app, provider.map_or_else(|| Provider::ALL.to_vec(), |one| vec![one])));
    };
    let has: Vec<Provider> = providers(known).into_iter().map(|(provider, _)| provider).collect();
    match provider {
        Some(one) if !has.contains(&one) => Err(Failure::Usage(format!("{app}: has no {one}; nothing to do"))),
        Some(one) => Ok((app, vec![one])),
        None => Ok((app, has)),
    }
}

async fn list(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let pauses = if connect::has_store(config) {
        let store = connect::ready_store(config, Role::Other).await?;
        Some(store.pauses().await.map_err(connect::store_failure)?)
    } else {
        None
    };
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for app in &config.apps {
        for (provider, details) in providers(app) {
            let pause = pauses.as_ref().map(|all| all.iter().find(|p| p.app == app.id && p.provider == provider));
            values.push(value(app, provider, &details, pause));
            rows.push([app.id.to_string(), provider.to_string(), details, state(pause), what_to_do(pause)]);
        }
    }
    if as_json {
        return Ok(out::json(&values.into())?);
    }
    if rows.is_empty() {
        return Ok(out::line("no app is configured; describe one in herald.toml (see herald.example.toml)")?);
    }
    Ok(out::table(["APP", "PROVIDER", "DETAILS", "STATE", "WHAT TO DO"], &rows)?)
}

/// An app's providers, with what tells its credentials from others.
fn providers(app: &AppConfig) -> Vec<(Provider, String)> {
    let mut all = Vec::new();
    if let Some(apns) = &app.apns {
        let environments: Vec<&str> = apns.environments.iter().copied().map(Environment::as_str).collect();
        all.push((Provider::Apns, format!("{} {} key {}", apns.topic, environments.join("+"), apns.key_id)));
    }
    if let Some(fcm) = &app.fcm {
        all.push((Provider::Fcm, fcm.service_account_file.display().to_string()));
    }
    all
}

/// `None`: there is no store to ask. `Some(None)`: it is not paused.
type Known<'a> = Option<Option<&'a Pause>>;

fn state(pause: Known<'_>) -> String {
    match pause {
        None => "unknown".to_owned(),
        Some(None) => "active".to_owned(),
        Some(Some(pause)) => format!("paused until {}: {}", pause.until, pause.reason),
    }
}

fn what_to_do(pause: Known<'_>) -> String {
    match pause {
        None => "set HERALD_DATABASE_URL to see pauses".to_owned(),
        Some(None) => String::new(),
        Some(Some(pause)) => {
            let resume = format!("herald apps resume {} --provider {}", pause.app, pause.provider);
            if pause.by_operator {
                return resume;
            }
            let fix = fix(pause.provider, Trip::parse(&pause.reason), &pause.detail);
            let said = if pause.detail.is_empty() { String::new() } else { format!(" ({})", pause.detail) };
            format!("{fix}{said}; it goes on by itself at the end of the pause, or at once: {resume}")
        }
    }
}

/// What mends the cause of a pause. `detail` begins with the provider's status and words.
fn fix(provider: Provider, reason: Option<Trip>, detail: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    match (provider, reason) {
        (Provider::Apns, Some(Trip::Unauthorized)) if says(&["ExpiredProviderToken"]) => {
            "set this machine's clock right: Apple finds the time in our token too old"
        }
        (Provider::Apns, Some(Trip::Unauthorized)) if says(&["BadEnvironmentKey", "BadCertificateEnvironment"]) => {
            "the key is not of this environment: set environment, or key_file and key_id, in herald.toml, then restart"
        }
        (Provider::Apns, Some(Trip::Unauthorized)) => {
            "compare key_file, key_id and team_id in herald.toml with the key on Apple's developer site (was it revoked?), \
             then restart; if they are right, set this machine's clock right"
        }
        (Provider::Apns, Some(Trip::Misconfigured)) => {
            "set topic in herald.toml to the app's bundle id, with a key that may push to it, then restart"
        }
        (Provider::Apns, Some(Trip::MassFailure)) => {
            "compare environment and topic in herald.toml with the build that these devices have, then restart"
        }
        (Provider::Fcm, Some(Trip::Unauthorized)) if says(&["403"]) => {
            "in the Google Cloud console, enable the Firebase Cloud Messaging API of the project and let the service account \
             send messages"
        }
        (Provider::Fcm, Some(Trip::Unauthorized)) => {
            "make a new key of the service account in the Google Cloud console (was this one revoked?), set \
             service_account_file in herald.toml to it, then restart; if it is right, set this machine's clock right"
        }
        (Provider::Fcm, Some(Trip::Misconfigured)) if says(&["401"]) => {
            "in the Firebase console, give the project the key of Apple or the web that it lacks"
        }
        (Provider::Fcm, Some(Trip::Misconfigured)) => {
            "set service_account_file in herald.toml to a service account of the Firebase project that the app is built \
             with, then restart"
        }
        (Provider::Fcm, Some(Trip::MassFailure)) => {
            "see that service_account_file in herald.toml is of the Firebase project that the app is built with, then restart"
        }
        (_, Some(Trip::Throttled)) => "nothing; if it comes often, set a lower pushes_per_second in herald.toml",
        (_, Some(Trip::Unavailable)) => "nothing: the provider is in trouble, or this machine's way to it is",
        (_, None) => "see the workers' logs, and put it right",
    }
}

fn value(app: &AppConfig, provider: Provider, details: &str, pause: Known<'_>) -> Value {
    let paused = pause.map(|pause| {
        pause.map(|pause| {
            json!({"since": pause.since, "until": pause.until, "reason": pause.reason, "detail": pause.detail,
                   "byOperator": pause.by_operator})
        })
    });
    json!({
        "app": app.id,
        "provider": provider,
        "details": details,
        "state": match pause { None => "unknown", Some(None) => "active", Some(Some(_)) => "paused" },
        "pause": paused.flatten(),
        "whatToDo": what_to_do(pause),
    })
}

#[cfg(test)]
mod tests {
    use herald_core::time::Timestamp;

    use super::*;

    fn pause(by_operator: bool, detail: &str) -> Pause {
        Pause {
            app: AppId::new("mail.contoso.com"),
            provider: Provider::Apns,
            since: Timestamp::from_secs(0),
            until: Timestamp::from_secs(60),
            reason: "unauthorized".to_owned(),
            detail: detail.to_owned(),
            by_operator,
        }
    }

    #[test]
    fn a_pause_says_why_until_when_and_what_to_do() {
        let automatic = pause(false, "403 InvalidProviderToken");
        assert_eq!(state(Some(Some(&automatic))), "paused until 1970-01-01T00:01:00Z: unauthorized");
        let resume = "herald apps resume mail.contoso.com --provider apns";
        let check = |pause: &Pause, expected: String| assert_eq!(what_to_do(Some(Some(pause))), expected);
        check(
            &automatic,
            format!(
                "compare key_file, key_id and team_id in herald.toml with the key on Apple's developer site (was it \
                 revoked?), then restart; if they are right, set this machine's clock right (403 InvalidProviderToken); it \
                 goes on by itself at the end of the pause, or at once: {resume}"
            ),
        );
        check(&pause(true, "x"), resume.to_owned());
        assert_eq!((state(Some(None)).as_str(), what_to_do(Some(None)).as_str()), ("active", ""));
        assert!(what_to_do(None).contains("HERALD_DATABASE_URL"));
    }

    #[test]
    fn every_automatic_pause_names_what_mends_it() {
        use Provider::{Apns, Fcm};
        for (provider, trip, detail, word) in [
            (Apns, Trip::Unauthorized, "403 ExpiredProviderToken", "clock"),
            (Apns, Trip::Unauthorized, "403 BadEnvironmentKeyInToken", "environment"),
            (Apns, Trip::Unauthorized, "403 Forbidden", "key_id"),
            (Apns, Trip::Misconfigured, "400 BadTopic", "topic"),
            (Apns, Trip::MassFailure, "20 of 20 answers say that the token is dead", "environment"),
            (Fcm, Trip::Unauthorized, "403 PERMISSION_DENIED", "enable"),
            (Fcm, Trip::Unauthorized, "invalid_grant: account not found", "service_account_file"),
            (Fcm, Trip::Misconfigured, "401 THIRD_PARTY_AUTH_ERROR", "Firebase console"),
            (Fcm, Trip::Misconfigured, "404 other", "service_account_file"),
            (Fcm, Trip::MassFailure, "20 of 20 answers say that the token is dead", "service_account_file"),
            (Fcm, Trip::Throttled, "429 QUOTA_EXCEEDED", "pushes_per_second"),
            (Apns, Trip::Unavailable, "503 ServiceUnavailable", "in trouble"),
        ] {
            let said = fix(provider, Some(trip), detail);
            assert!(said.contains(word), "{provider} {trip:?} {detail}: {said}");
        }
    }
}
