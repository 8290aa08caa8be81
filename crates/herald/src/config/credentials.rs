//! What is in the files: keys, service accounts, secrets. Last step of the configuration, for who pushes or serves HTTP.
//!
//! Reads them twice: once at start, so that a wrong key is a configuration error beside all others, and once to make the
//! clients, which need the store's clock. No message quotes a file's content.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use herald_core::receipt::MIN_KEY_BYTES;
use herald_core::subscription::Environment;
use herald_core::time::Timestamp;
use herald_worker::settings::{ApnsApp, App, FcmApp, ReceiptKey};

use super::problem::Problems;
use super::{ApnsConfig, AppConfig, Config, FcmConfig, KeyConfig, KeySource, Needs};
use crate::failure::Failure;

/// The store's clock.
pub(crate) type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Notes everything that is wrong with the files of these apps, as far as they are needed.
pub(super) fn check(apps: &[AppConfig], needs: Needs, attempt_timeout: Duration, problems: &mut Problems) {
    // Nothing is signed here, so that no clock is asked.
    let mut opener = Opener::new(Arc::new(|| Timestamp::from_secs(0)), attempt_timeout, problems);
    for app in apps {
        if needs.pushes() {
            opener.app(app);
        } else {
            opener.without_providers(app);
        }
    }
}

/// The apps with their clients, which tell the time by `now`. Connects to nothing yet.
///
/// # Errors
/// [`Failure::Usage`] with all problems: a file changed since the configuration was loaded.
pub(crate) fn open(config: &Config, now: Now) -> Result<Vec<App>, Failure> {
    let mut problems = Problems::default();
    let mut opener = Opener::new(now, config.worker.attempt_timeout, &mut problems);
    // All of them before any is judged: collecting to an `Option` at once would stop at the first.
    let apps: Vec<Option<App>> = config.apps.iter().map(|app| opener.app(app)).collect();
    problems.or(apps.into_iter().collect())
}

/// The apps without their clients, for who never pushes: it needs no key of a provider.
///
/// # Errors
/// As [`open`].
pub(crate) fn without_providers(config: &Config) -> Result<Vec<App>, Failure> {
    let mut problems = Problems::default();
    let mut opener = Opener::new(Arc::new(|| Timestamp::from_secs(0)), config.worker.attempt_timeout, &mut problems);
    let apps: Vec<Option<App>> = config.apps.iter().map(|app| opener.without_providers(app)).collect();
    problems.or(apps.into_iter().collect())
}

/// What makes two apps share an APNs client: connections belong to a team, and there should be few.
type ApnsKey = (String, String, std::path::PathBuf, String, Option<std::path::PathBuf>);

struct Opener<'a> {
    now: Now,
    attempt_timeout: Duration,
    problems: &'a mut Problems,
    apns: BTreeMap<ApnsKey, herald_apns::Client>,
}

impl<'a> Opener<'a> {
    fn new(now: Now, attempt_timeout: Duration, problems: &'a mut Problems) -> Self {
        Self { now, attempt_timeout, problems, apns: BTreeMap::new() }
    }

    fn app(&mut self, app: &AppConfig) -> Option<App> {
        let apns = app.apns.as_ref().map(|apns| self.apns_apps(apns));
        let fcm = app.fcm.as_ref().map(|fcm| self.fcm_app(fcm));
        let without = self.without_providers(app);
        Some(App {
            apns: match apns {
                Some(apns) => apns?,
                None => BTreeMap::new(),
            },
            fcm: match fcm {
                Some(fcm) => Some(fcm?),
                None => None,
            },
            ..without?
        })
    }

    fn without_providers(&mut self, app: &AppConfig) -> Option<App> {
        let keys: Vec<Option<ReceiptKey>> = app.receipt_keys.iter().map(|key| self.receipt_key(key)).collect();
        Some(App {
            id: app.id.clone(),
            apns: BTreeMap::new(),
            fcm: None,
            amqp_users: app.amqp_users.clone(),
            receipt_keys: keys.into_iter().collect::<Option<_>>()?,
            fallback: app.fallback,
            pushes_per_second: app.pushes_per_second,
            events: app.events,
        })
    }

    fn apns_apps(&mut self, apns: &ApnsConfig) -> Option<BTreeMap<Environment, ApnsApp>> {
        let topic: Arc<str> = apns.topic.as_str().into();
        let mut apps = BTreeMap::new();
        for environment in apns.environments.iter().copied() {
            let client = self.apns_client(apns, environment)?;
            apps.insert(environment, ApnsApp { topic: Arc::clone(&topic), client });
        }
        Some(apps)
    }

    fn apns_client(&mut self, apns: &ApnsConfig, environment: Environment) -> Option<herald_apns::Client> {
        let url = apns.url.clone().unwrap_or_else(|| {
            let apple = match environment {
                Environment::Production => herald_apns::Config::production(),
                Environment::Sandbox => herald_apns::Config::development(),
            };
            apple.to_owned()
        });
        let (team, key_id, file) = (apns.team_id.clone(), apns.key_id.clone(), apns.key_file.clone());
        let key = (team, key_id, file, url.clone(), apns.ca_file.clone());
        if let Some(client) = self.apns.get(&key) {
            return Some(client.clone());
        }
        let key_pem = self.read(&format!("{}.key_file", apns.at), &apns.key_file)?;
        let mut config = herald_apns::Config::new(url, &apns.team_id, &apns.key_id, key_pem, Arc::clone(&self.now));
        config.ca_pem = self.ca(&apns.at, apns.ca_file.as_deref())?;
        config.request_timeout = self.attempt_timeout;
        config.connect_timeout = config.connect_timeout.min(self.attempt_timeout);
        match herald_apns::Client::new(config) {
            Ok(client) => {
                self.apns.insert(key, client.clone());
                Some(client)
            }
            Err(error) => self.refuse(&apns.at, &error.to_string()),
        }
    }

    fn fcm_app(&mut self, fcm: &FcmConfig) -> Option<FcmApp> {
        let url = fcm.url.clone().unwrap_or_else(|| herald_fcm::Config::google().to_owned());
        let account = self.read(&format!("{}.service_account_file", fcm.at), &fcm.service_account_file)?;
        let mut config = herald_fcm::Config::new(url, account, Arc::clone(&self.now));
        config.ca_pem = self.ca(&fcm.at, fcm.ca_file.as_deref())?;
        config.request_timeout = self.attempt_timeout;
        config.connect_timeout = config.connect_timeout.min(self.attempt_timeout);
        match herald_fcm::Client::new(config) {
            Ok(client) => Some(FcmApp { client }),
            Err(error) => self.refuse(&fcm.at, &error.to_string()),
        }
    }

    fn receipt_key(&mut self, key: &KeyConfig) -> Option<ReceiptKey> {
        let secret = match &key.source {
            KeySource::Value(text) => from_base64(text.expose()),
            KeySource::File(path) => {
                let read = std::fs::read(path);
                let bytes = match read {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        return self.refuse(&key.at, &format!("{}: {error}; give a readable file", path.display()));
                    }
                };
                // Base64 if it is that; else the bytes themselves, of which a key may be made as well.
                match std::str::from_utf8(&bytes).ok().and_then(|text| from_base64(text.trim())) {
                    Some(decoded) => Some(decoded),
                    None => Some(bytes),
                }
            }
        };
        match secret {
            Some(secret) if secret.len() >= MIN_KEY_BYTES => Some(ReceiptKey { id: key.id.clone(), secret }),
            Some(secret) => {
                let what = format!("its secret has {} bytes, fewer than {MIN_KEY_BYTES}", secret.len());
                self.refuse(&key.at, &format!("{what}; make one with openssl rand -base64 32"))
            }
            None => self.refuse(&key.at, "its secret is not base64; make one with openssl rand -base64 32"),
        }
    }

    /// The outer `None`: it could not be read.
    #[allow(clippy::option_option, reason = "the two layers are unreadable and not given")]
    fn ca(&mut self, at: &str, path: Option<&Path>) -> Option<Option<String>> {
        match path {
            None => Some(None),
            Some(path) => self.read(&format!("{at}.ca_file"), path).map(Some),
        }
    }

    fn read(&mut self, at: &str, path: &Path) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => self.refuse(at, &format!("{}: {error}; give a readable text file", path.display())),
        }
    }

    /// Notes a problem whose text says what is wrong and, behind a semicolon, what to do.
    fn refuse<T>(&mut self, at: &str, text: &str) -> Option<T> {
        let (what, fix) = text.rsplit_once("; ").unwrap_or((text, "put it right"));
        self.problems.add(at, what, fix);
        None
    }
}

/// Any of the usual alphabets, padded or not.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD].into_iter().find_map(|engine| engine.decode(text).ok())
}
