//! `[gateway]`: whose tokens are taken, the built-in issuer, the certificate, and where clients reach this.
//!
//! Part of the third step. What can be seen without a file is checked always; the certificates of issuers only where HTTP is
//! served.

use std::path::PathBuf;

use herald_gateway::identity::{Clients, Identity, IssuerConfig, OwnClient, OwnIssuerConfig, Rules};
use herald_gateway::{OperatorToken, RequestLog, ThrottledStatus, TlsFiles};

use super::check::existing;
use super::problem::Problems;
use super::raw::{RawGateway, RawIssuer, RawSecret};
use super::secret::Secret;
use super::source::OPERATOR_TOKEN;
use super::table::Given;
use super::{AppConfig, Config, GatewayConfig, IssuerSettings, KeyConfig, KeySource, Needs, apps};
use crate::failure::Failure;

/// `user_claim`: the user's id in OpenID Connect.
const USER_CLAIM: &str = "sub";
/// The longest `user_prefix`: a user's id has 256 characters at most, prefix included.
const MAX_PREFIX_CHARS: usize = 64;
/// The shortest secret of a client: anybody may guess as often as they like.
const MIN_SECRET_CHARS: usize = 16;
const NO_OPERATOR_TOKEN: &str = "is no token of 32 or more visible ASCII characters";
const MAKE_OPERATOR_TOKEN: &str = "make one with openssl rand -hex 32";

pub(super) fn check(raw: RawGateway, apps: &[AppConfig], needs: Needs, problems: &mut Problems) -> GatewayConfig {
    let public_url = raw.public_url.map(|given| public_url(&given, problems)).unwrap_or_default();
    let tls = tls(&raw.at, raw.tls_cert_file, raw.tls_key_file, needs, problems);
    let operator_token = operator_token(raw.operator_token_file, raw.operator_token, needs, problems);
    let signing_key_file =
        raw.token_issuer.and_then(|(at, key)| signing_key(&at, key, &public_url, (apps, needs), problems));
    if let Some(client) = apps.iter().find_map(|app| app.clients.first()).filter(|_| signing_key_file.is_none()) {
        let fix = "describe the issuer as [gateway.token_issuer], or list the client in client_ids of its own issuer";
        problems.add(&client.at, "could get no token: there is no built-in issuer", fix);
    }
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
    if signing_key_file.is_some() && issuers.iter().any(|issuer| issuer.issuer == public_url) {
        let fix = "keep one of the two, or give the built-in issuer another gateway.public_url";
        problems.add(format!("{}.token_issuer", raw.at), "has the name of another issuer", fix);
    }
    let request_log = request_log(raw.request_log.as_ref(), problems);
    let throttled = throttled(raw.throttled_status.as_ref(), problems);
    GatewayConfig { at: raw.at, public_url, issuers, operator_token, signing_key_file, tls, request_log, throttled }
}

fn request_log(given: Option<&Given<String>>, problems: &mut Problems) -> RequestLog {
    match given.map(|given| (given.value.as_str(), given)) {
        None | Some(("refused", _)) => RequestLog::Refused,
        Some(("all", _)) => RequestLog::All,
        Some(("none", _)) => RequestLog::None,
        Some((text, given)) => {
            let fix = "give \"all\", \"refused\" (those that were not done) or \"none\"";
            problems.add(&given.at, format!("{text:?} is no choice of requests to log"), fix);
            RequestLog::Refused
        }
    }
}

fn throttled(given: Option<&Given<i128>>, problems: &mut Problems) -> ThrottledStatus {
    match given.map(|given| (given.value, given)) {
        None | Some((429, _)) => ThrottledStatus::TooManyRequests,
        Some((406, _)) => ThrottledStatus::NotAcceptable,
        Some((number, given)) => {
            let fix = "give 429, or 406 for clients written against Graph's documentation";
            problems.add(&given.at, format!("{number} is no status for requests beyond the rate"), fix);
            ThrottledStatus::TooManyRequests
        }
    }
}

/// A token that is at hand is looked at now, one in a file only where HTTP is served.
fn operator_token(
    file: Option<Given<PathBuf>>,
    token: Option<Given<String>>,
    needs: Needs,
    problems: &mut Problems,
) -> Option<(String, KeySource)> {
    match (file, token) {
        (None, None) => None,
        (_, Some(token)) if token.at != OPERATOR_TOKEN => {
            let fix = format!("put it into a file and give operator_token_file, or set {OPERATOR_TOKEN}");
            problems.add(&token.at, "is a secret, which does not belong here", fix);
            None
        }
        (Some(file), Some(_)) => {
            problems.add(&file.at, format!("is given, and {OPERATOR_TOKEN} too"), "keep one of the two");
            None
        }
        (None, Some(Given { value, at })) => {
            if OperatorToken::new(&value).is_none() {
                problems.add(&at, NO_OPERATOR_TOKEN, MAKE_OPERATOR_TOKEN);
            }
            Some((at, KeySource::Value(Secret::new(value))))
        }
        (Some(file), None) => {
            let path = match needs.serves() {
                true => existing(&file, "the file with the operator's token", problems)?,
                false => file.value,
            };
            Some((file.at, KeySource::File(path)))
        }
    }
}

fn signing_key(
    at: &str,
    given: Option<Given<PathBuf>>,
    public_url: &str,
    (apps, needs): (&[AppConfig], Needs),
    problems: &mut Problems,
) -> Option<PathBuf> {
    if public_url.is_empty() {
        let fix = "set gateway.public_url to the address that clients use: it is the issuer's name";
        problems.add(at, "has no name", fix);
    }
    if apps.iter().all(|app| app.clients.is_empty()) {
        let fix = "give each service an id and a secret: [[apps.\"…\".clients]]";
        problems.add(at, "has no clients, so nobody could ask for a token", fix);
    }
    let make = "openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt makes one";
    match given {
        Some(given) if needs.serves() => existing(&given, "the issuer's private key (PEM)", problems),
        Some(given) => Some(given.value),
        None => {
            problems.add(format!("{at}.signing_key_file"), "is missing", make);
            None
        }
    }
}

fn tls(
    at: &str,
    cert: Option<Given<PathBuf>>,
    key: Option<Given<PathBuf>>,
    needs: Needs,
    problems: &mut Problems,
) -> Option<TlsFiles> {
    let mut file = |given: Given<PathBuf>, what: &str| match needs.serves() {
        true => existing(&given, what, problems),
        false => Some(given.value),
    };
    match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let (cert, key) = (file(cert, "the server's certificate (PEM)"), file(key, "its private key (PEM)"));
            Some(TlsFiles { cert_file: cert?, key_file: key? })
        }
        (cert, _) => {
            let missing = if cert.is_some() { "tls_key_file" } else { "tls_cert_file" };
            problems.add(format!("{at}.{missing}"), "is missing", "give both files, or none");
            None
        }
    }
}

/// The clients of the built-in issuer, which are nobody else's.
pub(super) fn clients(
    raw: Vec<RawSecret>,
    seen: &mut Vec<String>,
    env: &std::collections::BTreeMap<String, String>,
    needs: Needs,
    problems: &mut Problems,
) -> Vec<KeyConfig> {
    let mut clients = Vec::new();
    for raw in raw {
        let at = raw.at.clone();
        let Some(id) = raw.id.clone() else {
            problems.add(format!("{at}.id"), "is missing", "give what the service calls itself: its client_id");
            continue;
        };
        let ids = client_ids(Some(Given { value: vec![id.value], at: id.at }), seen, problems);
        // Without a secret it is a mistake that is told already, or nothing is served.
        let source = apps::key_source(raw, env, needs, problems).unwrap_or(KeySource::Value(Secret::new("")));
        clients.extend(ids.into_iter().map(|id| KeyConfig { at: at.clone(), id, source: source.clone() }));
    }
    clients
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

/// Notes what is wrong with the files: certificates, keys, secrets. Fetches nothing.
pub(super) fn check_files(config: &Config, problems: &mut Problems) {
    if let Some(Err(error)) = config.gateway.tls.as_ref().map(TlsFiles::check) {
        let fix = "give the certificate's chain and its key, both in PEM";
        problems.add(format!("{}.tls_cert_file", config.gateway.at), error.to_string(), fix);
    }
    operator(config, problems);
    if let Some(own) = own(config, problems)
        && let Err(error) = Identity::default().with_own(own)
    {
        problems.add(signing_key_at(config), error.to_string(), "give another key");
    }
    for issuer in &config.gateway.issuers {
        if let Some(config) = of_files(issuer, problems)
            && let Err(error) = Identity::new(vec![config], Clients::new())
        {
            let fix = "give the issuer's https address, jwks_url if it has no discovery document, and its certificate";
            problems.add(&issuer.at, error.to_string(), fix);
        }
    }
}

/// The operator's token, its file read.
fn operator(config: &Config, problems: &mut Problems) -> Option<OperatorToken> {
    let (at, source) = config.gateway.operator_token.as_ref()?;
    let token = match source {
        KeySource::Value(token) => OperatorToken::new(token.expose()),
        KeySource::File(path) => match std::fs::read_to_string(path) {
            Ok(text) => OperatorToken::new(text.trim()),
            Err(error) => {
                problems.add(at, format!("{}: {error}", path.display()), "give a readable text file");
                return None;
            }
        },
    };
    if token.is_none() && matches!(source, KeySource::File(_)) {
        problems.add(at, NO_OPERATOR_TOKEN, MAKE_OPERATOR_TOKEN);
    }
    token
}

/// Who may call, if there is anybody: the callers that issuers name, and the operator.
///
/// # Errors
/// As [`identity`].
pub(crate) fn callers(config: &Config) -> Result<Option<(Identity, Option<OperatorToken>)>, Failure> {
    let mut problems = Problems::default();
    let operator = operator(config, &mut problems);
    problems.or(Some(()))?;
    let identity = identity(config)?;
    Ok((identity.is_some() || operator.is_some()).then(|| (identity.unwrap_or_default(), operator)))
}

/// Who is calling, if there is an issuer.
///
/// # Errors
/// [`Failure::Usage`] with all problems: a file changed since the configuration was loaded.
pub(crate) fn identity(config: &Config) -> Result<Option<Identity>, Failure> {
    let issuers = &config.gateway.issuers;
    if issuers.is_empty() && config.gateway.signing_key_file.is_none() {
        return Ok(None);
    }
    let mut problems = Problems::default();
    let own = own(config, &mut problems);
    let configs: Vec<Option<IssuerConfig>> = issuers.iter().map(|issuer| of_files(issuer, &mut problems)).collect();
    let clients = config.apps.iter().flat_map(|app| app.client_ids.iter().map(|id| (id.clone(), app.id.clone())));
    let identity = problems.or(configs.into_iter().collect::<Option<Vec<_>>>())?;
    let identity = Identity::new(identity, clients.collect());
    let identity = identity.and_then(|identity| match own {
        Some(own) => identity.with_own(own),
        None => Ok(identity),
    });
    identity.map(Some).map_err(|error| Failure::Usage(format!("gateway: {error}")))
}

fn signing_key_at(config: &Config) -> String {
    format!("{}.token_issuer.signing_key_file", config.gateway.at)
}

/// The built-in issuer, its files read.
fn own(config: &Config, problems: &mut Problems) -> Option<OwnIssuerConfig> {
    let file = config.gateway.signing_key_file.as_ref()?;
    let mut read = |path: &PathBuf, at: &str| match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            problems.add(at, format!("{}: {error}", path.display()), "give a readable text file");
            None
        }
    };
    let key_pem = read(file, &signing_key_at(config));
    let mut clients = Vec::new();
    let mut short = Vec::new();
    for (app, client) in config.apps.iter().flat_map(|app| app.clients.iter().map(move |client| (app, client))) {
        let secret = match &client.source {
            KeySource::Value(secret) => Some(secret.expose().to_owned()),
            KeySource::File(path) => read(path, &client.at).map(|text| text.trim().to_owned()),
        };
        let Some(secret) = secret else { continue };
        if secret.chars().count() < MIN_SECRET_CHARS {
            short.push(&client.at);
        }
        clients.push(OwnClient { id: client.id.clone(), app: app.id.clone(), secret });
    }
    for at in short {
        let what = format!("its secret has fewer than {MIN_SECRET_CHARS} characters");
        problems.add(at, what, "make one with openssl rand -base64 32");
    }
    Some(OwnIssuerConfig { url: config.gateway.public_url.clone(), key_pem: key_pem?, clients })
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
