//! One issuer: where its keys are, kept fresh.
//!
//! Stands between a token and the key that signed it, and is the only I/O of identity. What it holds to:
//!
//! - the keys are fetched when they are first needed, and again after an hour or when a token names a key that isn't there;
//! - one fetch at a time, however many requests wait for it, and none within 30 s of the last one (2 s while there are no
//!   keys at all), so that tokens with invented key ids can't make us flood the issuer;
//! - while the issuer is away the last good keys hold: an issuer's outage logs nobody out;
//! - no redirect is followed and nothing but the issuer's own document says where its keys are.
//!
//! Source: OpenID Connect Discovery 1.0 §4.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::caller::{Clients, Rules};
use super::jwks::KeySet;
use super::own::OwnKeyError;
use super::token::{Jwt, TokenError};

/// After so long the keys are fetched again: how long a key that its issuer withdrew is still taken.
const FRESH_FOR: Duration = Duration::from_secs(3_600);
/// Between two fetches.
const FLOOR: Duration = Duration::from_secs(30);
/// The same while there are no keys at all, so that who starts before its issuer is ready soon after it is.
const FIRST_FLOOR: Duration = Duration::from_secs(2);
/// How long one document may take.
const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// The largest document, in bytes: Microsoft's key set has 20 KiB.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// What is configured of an issuer.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// Its name, exactly as the claim `iss` has it.
    pub issuer: String,
    /// What is taken of its tokens.
    pub rules: Rules,
    /// Where its keys are; none: its discovery document says it.
    pub jwks_url: Option<String>,
    /// A certificate (PEM) to trust for it beside those of the system.
    pub ca_pem: Option<String>,
}

/// Why an issuer can't be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// Not an address, or one that anybody on the way could answer.
    #[error("{0:?} is not an https address (http is taken for 127.0.0.1 and localhost only)")]
    Address(String),
    /// The certificate can't be read.
    #[error("its ca_file holds no certificate (PEM)")]
    Certificate,
    /// The HTTP client can't be made.
    #[error("no HTTP client can be made: {0}")]
    Client(reqwest::Error),
    /// The built-in issuer can't sign.
    #[error("the built-in issuer's signing key {0}")]
    OwnKey(#[from] OwnKeyError),
}

/// An issuer with its keys.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) name: String,
    pub(crate) rules: Rules,
    /// Whose clients are whose, among those that this issuer may speak of.
    pub(crate) clients: Arc<Clients>,
    source: Source,
    http: Client,
    keys: RwLock<Option<Arc<KeySet>>>,
    /// When the last fetch ended, or began if it never did. Held by the one that fetches.
    fetched: Mutex<Option<Fetched>>,
}

#[derive(Debug)]
enum Source {
    Discovery(Url),
    Keys(Url),
    /// The keys are at hand: nothing is ever fetched.
    Here,
}

#[derive(Debug)]
struct Fetched {
    at: Instant,
    /// None: it worked.
    problem: Option<String>,
}

/// What is known of an issuer's keys, for an explanation.
#[derive(Debug)]
pub(crate) struct KnownKeys {
    /// Their ids, in order; a key without one is not among them.
    pub(crate) ids: Vec<String>,
    /// Why the last fetch failed, if it did.
    pub(crate) problem: Option<String>,
}

/// What is read of a discovery document.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// Nothing is fetched yet.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub(crate) fn new(config: IssuerConfig, clients: Arc<Clients>) -> Result<Self, IssuerError> {
        let source = match &config.jwks_url {
            Some(url) => Source::Keys(address(url)?),
            None => {
                let base = config.issuer.trim_end_matches('/');
                Source::Discovery(address(&format!("{base}/.well-known/openid-configuration"))?)
            }
        };
        let mut http = Client::builder().timeout(FETCH_LIMIT).redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = &config.ca_pem {
            let all = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|_| IssuerError::Certificate)?;
            if all.is_empty() {
                return Err(IssuerError::Certificate);
            }
            http = http.tls_certs_merge(all);
        }
        Ok(Self {
            name: config.issuer,
            rules: config.rules,
            clients,
            source,
            http: http.build().map_err(IssuerError::Client)?,
            keys: RwLock::new(None),
            fetched: Mutex::new(None),
        })
    }

    /// The built-in issuer, with its keys.
    pub(crate) fn built_in(name: String, rules: Rules, clients: Arc<Clients>, keys: KeySet) -> Self {
        let keys = RwLock::new(Some(Arc::new(keys)));
        Self { name, rules, clients, source: Source::Here, http: Client::new(), keys, fetched: Mutex::new(None) }
    }

    /// Whether this issuer signed the token; fetches the keys if that may help.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`], [`TokenError::Signature`], [`TokenError::NoKeys`].
    pub(crate) async fn verify(&self, jwt: &Jwt<'_>) -> Result<(), TokenError> {
        let known = self.keys();
        if matches!(self.source, Source::Here) {
            return known.ok_or(TokenError::NoKeys)?.verify(jwt);
        }
        let verified = known.as_ref().map(|keys| keys.verify(jwt));
        match verified {
            // The usual case waits for nothing unless an hour has passed.
            Some(Err(TokenError::UnknownKey)) | None => self.refresh(known.as_ref(), FLOOR).await,
            Some(_) => self.refresh(known.as_ref(), FRESH_FOR).await,
        }
        self.keys().ok_or(TokenError::NoKeys)?.verify(jwt)
    }

    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.read().expect("nothing panics while keys are held").clone()
    }

    /// What is known of its keys now. Fetches nothing.
    pub(crate) async fn known_keys(&self) -> KnownKeys {
        let ids = self.keys().map(|keys| keys.ids()).unwrap_or_default();
        KnownKeys { ids, problem: self.fetched.lock().await.as_ref().and_then(|last| last.problem.clone()) }
    }

    /// Fetches the keys if the last fetch is `age` old or older, or failed longer ago than the floor. `seen` are the keys
    /// that the caller knows: if others are there by now, another caller fetched them meanwhile.
    async fn refresh(&self, seen: Option<&Arc<KeySet>>, age: Duration) {
        let mut fetched = match self.fetched.try_lock() {
            Ok(fetched) => fetched,
            // Somebody fetches. Who has good keys goes on with them.
            Err(_) if age > FLOOR => return,
            Err(_) => self.fetched.lock().await,
        };
        let now_known = self.keys();
        if now_known.as_ref().map(Arc::as_ptr) != seen.map(Arc::as_ptr) {
            return;
        }
        if let Some(last) = fetched.as_ref() {
            let due = match (&last.problem, seen) {
                (None, _) => age,
                (Some(_), Some(_)) => FLOOR,
                (Some(_), None) => FIRST_FLOOR,
            };
            if last.at.elapsed() < due {
                return;
            }
        }
        // Noted before: whoever asked may go away in the midst, and that must not lift the floor.
        *fetched = Some(Fetched { at: Instant::now(), problem: Some("it was broken off".to_owned()) });
        let problem = match self.fetch().await {
            Ok(keys) => {
                info!(issuer = self.name, keys = keys.len(), "fetched an issuer's keys");
                *self.keys.write().expect("nothing panics while keys are held") = Some(Arc::new(keys));
                None
            }
            Err(problem) => {
                warn!(issuer = self.name, problem, kept = seen.is_some(), "an issuer's keys could not be fetched");
                Some(problem)
            }
        };
        *fetched = Some(Fetched { at: Instant::now(), problem });
    }

    /// Never quotes what was answered.
    async fn fetch(&self) -> Result<KeySet, String> {
        let keys = match &self.source {
            Source::Here => return Err("it has no address".to_owned()),
            Source::Keys(url) => url.clone(),
            Source::Discovery(url) => {
                let document = self.get(url.clone()).await?;
                let found: Discovered = serde_json::from_slice(&document)
                    .map_err(|_| format!("{url} is no discovery document with issuer and jwks_uri"))?;
                if found.issuer != self.name {
                    return Err(format!("{url} is the document of another issuer; give the name that it says"));
                }
                address(&found.jwks_uri).map_err(|error| format!("the jwks_uri of {url}: {error}"))?
            }
        };
        let set = KeySet::parse(&self.get(keys.clone()).await?).ok_or_else(|| format!("{keys} is no JWK set"))?;
        if set.len() == 0 {
            return Err(format!("{keys} has no key for RS256 or ES256"));
        }
        Ok(set)
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>, String> {
        let shown = url.to_string();
        let failed = |error: reqwest::Error| format!("{shown}: {}", chain(&error.without_url()));
        let mut response = self.http.get(url).send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("{shown} answered {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_DOCUMENT_BYTES {
                return Err(format!("{shown} is larger than {} KiB", MAX_DOCUMENT_BYTES / 1024));
            }
        }
        Ok(body)
    }
}

/// An error with its causes, which is where reqwest says what really happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// https, or http on this machine: what anybody on the way could change decides who everybody is.
fn address(text: &str) -> Result<Url, IssuerError> {
    let bad = || IssuerError::Address(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let good = url.scheme() == "https" || (url.scheme() == "http" && here);
    let plain = url.username().is_empty() && url.password().is_none();
    if good && plain && url.host_str().is_some() { Ok(url) } else { Err(bad()) }
}
