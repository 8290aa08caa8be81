//! `[gateway]`: whose tokens are taken, and where clients reach this.
//!
//! Part of the third step. What can be seen without a file is checked always; the certificates of issuers only where HTTP is
//! served.

use std::path::PathBuf;

use herald_gateway::identity::{Clients, Identity, IssuerConfig, Rules};

use super::check::existing;
use super::problem::Problems;
use super::raw::{RawGateway, RawIssuer};
use super::table::Given;
use super::{AppConfig, Config, GatewayConfig, IssuerSettings, Needs};
use crate::failure::Failure;

/// `user_claim`: the user's id in OpenID Connect.
const USER_CLAIM: &str = "sub";
/// The longest `user_prefix`: a user's id has 256 characters at most, prefix included.
const MAX_PREFIX_CHARS: usize = 64;

pub(super) fn check(raw: RawGateway, apps: &[AppConfig], needs: Needs, problems: &mut Problems) -> GatewayConfig {
    let public_url = raw.public_url.map(|given| public_url(&given, problems)).unwrap_or_default();
    let several = raw.issuers.len() > 1;
    let mut issuers: Vec<IssuerSettings> = Vec::new();
    for raw in raw.issuers {
        let Some(issuer) = issuer(raw, needs, problems) else { continue };
        if issuers.iter().any(|other| other.issuer == issuer.issuer) {
            let fix = "keep one of the two; audiences is a list";
            problems.add(format!("{}.issuer", issuer.at), "is the name of another issuer too", fix);
        }
        if several {
            prefix(&issuer, &issuers, problems);
        }
        issuers.push(issuer);
    }
    if let Some(first) = issuers.first().filter(|_| apps.iter().all(|app| app.client_ids.is_empty())) {
        let what = "nobody could post: no app has client_ids, so each of its tokens would be refused";
        problems.add(&first.at, what, "give the client ids of each app's service: [apps.\"…\"] client_ids = [\"…\"]");
    }
    GatewayConfig { public_url, issuers }
}

/// Which apps' clients are whose, with the mistakes in it.
pub(super) fn client_ids(
    given: Option<Given<Vec<String>>>,
    seen: &mut Vec<String>,
    problems: &mut Problems,
) -> Vec<String> {
    let Some(given) = given else { return Vec::new() };
    let mut ids = Vec::new();
    for id in &given.value {
        // Issuers write GUIDs in either case.
        let id = id.trim().to_ascii_lowercase();
        if id.is_empty() {
            problems.add(&given.at, "has an empty client id", "give what the issuer calls the app's service");
        } else if seen.contains(&id) {
            let what = format!("{id:?} is listed twice: a client belongs to one app");
            problems.add(&given.at, what, "keep it where it belongs");
        } else {
            seen.push(id.clone());
            ids.push(id);
        }
    }
    ids
}

fn public_url(given: &Given<String>, problems: &mut Problems) -> String {
    let text = given.value.trim_end_matches('/');
    let good = |uri: &http::Uri| {
        matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some_and(|host| !host.is_empty())
    };
    if !text.parse::<http::Uri>().is_ok_and(|uri| good(&uri)) || text.contains(['@', '?', '#']) {
        let fix = "give the address that clients use, like https://push.contoso.com";
        problems.add(&given.at, "is not an address that starts with https:// or http://", fix);
    }
    text.to_owned()
}

fn issuer(raw: RawIssuer, needs: Needs, problems: &mut Problems) -> Option<IssuerSettings> {
    let at = raw.at;
    let mut missing = |name: &str, fix: &str| problems.add(format!("{at}.{name}"), "is missing", fix);
    let issuer = raw.issuer.map(|given| given.value).filter(|name| !name.is_empty());
    if issuer.is_none() {
        missing("issuer", "give its name exactly as its tokens have it in the claim iss");
    }
    let audiences = raw.audiences.map(|given| given.value).unwrap_or_default();
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        missing(
            "audiences",
            "give what its tokens for this service have in the claim aud: [\"https://push.contoso.com\"]",
        );
    }
    let user_prefix = raw.user_prefix.map(|given| given.value).unwrap_or_default();
    if user_prefix.chars().count() > MAX_PREFIX_CHARS || user_prefix.chars().any(char::is_control) {
        let fix = format!("give at most {MAX_PREFIX_CHARS} characters without control characters");
        problems.add(format!("{at}.user_prefix"), "can't be the beginning of a user's id", fix);
    }
    let ca_file = match raw.ca_file {
        Some(given) if needs.serves() => Some(existing(&given, "the certificate to trust for it (PEM)", problems)?),
        given => given.map(|given| given.value),
    };
    Some(IssuerSettings {
        issuer: issuer?,
        audiences,
        user_claim: raw.user_claim.map(|given| given.value).unwrap_or_else(|| USER_CLAIM.to_owned()),
        user_prefix,
        jwks_url: raw.jwks_url.map(|given| given.value),
        ca_file,
        at,
    })
}

/// Two issuers must not be able to speak for one user: nobody's id may begin with the other's prefix.
fn prefix(issuer: &IssuerSettings, others: &[IssuerSettings], problems: &mut Problems) {
    let at = format!("{}.user_prefix", issuer.at);
    let fix = "give each issuer a prefix of its own, like \"staff:\"; users are subscribed under prefix and name";
    if issuer.user_prefix.is_empty() {
        problems.add(at, "is missing: with more than one issuer, each could speak for the other's users", fix);
        return;
    }
    let begins = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && (a.starts_with(b) || b.starts_with(a));
    if let Some(other) = others.iter().find(|other| begins(&other.user_prefix, &issuer.user_prefix)) {
        let what =
            format!("{:?} and {:?} begin alike, so users could be confused", other.user_prefix, issuer.user_prefix);
        problems.add(at, what, fix);
    }
}

/// Notes what is wrong with the addresses and certificates of issuers. Fetches nothing.
pub(super) fn check_issuers(issuers: &[IssuerSettings], problems: &mut Problems) {
    for issuer in issuers {
        if let Some(config) = of_files(issuer, problems)
            && let Err(error) = Identity::new(vec![config], Clients::new())
        {
            let fix = "give the issuer's https address, jwks_url if it has no discovery document, and its certificate";
            problems.add(&issuer.at, error.to_string(), fix);
        }
    }
}

/// Who is calling, if there is an issuer.
///
/// # Errors
/// [`Failure::Usage`] with all problems: a file changed since the configuration was loaded.
pub(crate) fn identity(config: &Config) -> Result<Option<Identity>, Failure> {
    let issuers = &config.gateway.issuers;
    if issuers.is_empty() {
        return Ok(None);
    }
    let mut problems = Problems::default();
    let configs: Vec<Option<IssuerConfig>> = issuers.iter().map(|issuer| of_files(issuer, &mut problems)).collect();
    let clients = config.apps.iter().flat_map(|app| app.client_ids.iter().map(|id| (id.clone(), app.id.clone())));
    let identity = problems.or(configs.into_iter().collect::<Option<Vec<_>>>())?;
    let identity = Identity::new(identity, clients.collect());
    identity.map(Some).map_err(|error| Failure::Usage(format!("gateway.issuers: {error}")))
}

fn of_files(issuer: &IssuerSettings, problems: &mut Problems) -> Option<IssuerConfig> {
    let read = |path: &PathBuf, problems: &mut Problems| match std::fs::read_to_string(path) {
        Ok(pem) => Some(pem),
        Err(error) => {
            let what = format!("{}: {error}", path.display());
            problems.add(format!("{}.ca_file", issuer.at), what, "give a readable text file");
            None
        }
    };
    let ca_pem = match &issuer.ca_file {
        Some(path) => Some(read(path, problems)?),
        None => None,
    };
    Some(IssuerConfig {
        issuer: issuer.issuer.clone(),
        rules: Rules {
            audiences: issuer.audiences.clone(),
            user_claim: issuer.user_claim.clone(),
            user_prefix: issuer.user_prefix.clone(),
        },
        jwks_url: issuer.jwks_url.clone(),
        ca_pem,
    })
}
