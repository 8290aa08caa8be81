//! What a client is told at start, checked once.
//!
//! Stands before the way of a notification: every mistake a person can make in an address, a service account or a
//! certificate is found here, with what to do about it, and never while a push waits. Never prints a key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use herald_core::time::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Url;
use serde::Deserialize;

/// The store's clock: what `iat` and `exp` of an assertion are written from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// FCM's host.
const GOOGLE: &str = "https://fcm.googleapis.com";

/// Everything one client needs. `Debug` hides the service account.
#[derive(Clone)]
pub struct Config {
    /// `https://host[:port]`, [`Config::google`] or a simulator's. Plain `http` is taken for simulators only.
    pub url: String,
    /// The service account's JSON text, as downloaded. Its `token_uri` decides where access tokens come from.
    pub service_account_json: String,
    /// Certificates (PEM) to trust **instead of** the system's, for FCM and the token endpoint: for a simulator.
    pub ca_pem: Option<String>,
    /// The most that one [`crate::Client::send`] takes, waiting for a place, a token and a resend included. FCM asks for 10 s
    /// or more.
    pub request_timeout: Duration,
    /// The most that one connect takes.
    pub connect_timeout: Duration,
    /// So many HTTP/2 connections, with 100 pushes in flight on each: FCM closes a connection that has more.
    pub clients: usize,
    /// The store's clock.
    pub now: Clock,
}

impl Config {
    /// A client for `url` with the usual limits.
    pub fn new(url: impl Into<String>, service_account_json: impl Into<String>, now: Clock) -> Self {
        Self {
            url: url.into(),
            service_account_json: service_account_json.into(),
            ca_pem: None,
            request_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            clients: 4,
            now,
        }
    }

    /// Google's address.
    pub const fn google() -> &'static str {
        GOOGLE
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("service_account_json", &"…")
            .field("ca_pem", &self.ca_pem.as_ref().map(|pem| format!("{} bytes", pem.len())))
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a [`Config`], and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The address is not `https://host[:port]`.
    #[error("FCM url {url:?} is not https://host[:port]; use https://fcm.googleapis.com, or the simulator's address")]
    Url {
        /// As given.
        url: String,
    },
    /// The JSON is not a service account's.
    #[error(
        "FCM service account: {problem}; give the JSON file that the Google Cloud console makes under \
         service accounts, keys, add key, JSON"
    )]
    ServiceAccount {
        /// What is missing or wrong; never a value.
        problem: String,
    },
    /// The extra certificates can't be read.
    #[error("FCM CA certificates: {problem}; give PEM with at least one CERTIFICATE block")]
    CaPem {
        /// What the parser said.
        problem: String,
    },
    /// A limit that would let nothing through.
    #[error("FCM {field} is 0; it must be at least 1")]
    Zero {
        /// The setting.
        field: &'static str,
    },
    /// The HTTP client could not be set up.
    #[error("HTTP client for FCM: {problem}; on a machine without ca-certificates, install them or give a CA file")]
    Http {
        /// What it said.
        problem: String,
    },
}

/// The fields of the JSON that are read. All are required: a wrong file is found at once.
#[derive(Deserialize)]
struct Raw {
    r#type: String,
    project_id: String,
    private_key_id: String,
    private_key: String,
    client_email: String,
    token_uri: String,
}

/// A service account, read. `Debug` hides the key.
#[derive(Clone)]
pub(crate) struct ServiceAccount {
    pub(crate) project_id: String,
    pub(crate) key_id: String,
    pub(crate) key: EncodingKey,
    pub(crate) email: String,
    pub(crate) token_uri: Url,
    /// `token_uri` as it is written: the assertion's `aud` must equal it to the letter.
    pub(crate) audience: String,
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount")
            .field("project_id", &self.project_id)
            .field("email", &self.email)
            .field("token_uri", &self.token_uri.as_str())
            .finish_non_exhaustive()
    }
}

impl ServiceAccount {
    pub(crate) fn parse(json: &str) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError::ServiceAccount { problem };
        // serde's own words may quote a value, and a value may be the key.
        let raw: Raw = serde_json::from_str(json).map_err(|error| wrong(problem(&error)))?;
        if raw.r#type != "service_account" {
            return Err(wrong("its type is not \"service_account\"".to_owned()));
        }
        if raw.project_id.is_empty()
            || !raw.project_id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
        {
            return Err(wrong("its project_id is empty or has characters no project id has".to_owned()));
        }
        let key = EncodingKey::from_rsa_pem(raw.private_key.as_bytes())
            .map_err(|error| wrong(format!("its private_key is not an RSA key in PEM ({error})")))?;
        let token_uri = Url::parse(&raw.token_uri).map_err(|error| wrong(format!("its token_uri: {error}")))?;
        if !matches!(token_uri.scheme(), "https" | "http") {
            return Err(wrong("its token_uri is neither https nor http".to_owned()));
        }
        // Signs once, so that a key that only looks like one is found at start and not at the first push.
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &serde_json::json!({}), &key)
            .map_err(|error| wrong(format!("its private_key does not sign ({error})")))?;
        let audience = raw.token_uri;
        Ok(Self {
            audience,
            project_id: raw.project_id,
            key_id: raw.private_key_id,
            key,
            email: raw.client_email,
            token_uri,
        })
    }
}

fn problem(error: &serde_json::Error) -> String {
    let words = error.to_string();
    match (words.strip_prefix("missing field "), error.classify()) {
        (Some(field), _) => format!("{} is missing", field.split(" at line").next().unwrap_or(field)),
        (None, serde_json::error::Category::Data) => format!("a field of the wrong type on line {}", error.line()),
        (None, _) => format!("not JSON (line {}, column {})", error.line(), error.column()),
    }
}

/// Where pushes go: `{url}/v1/projects/{project}/messages:send`.
pub(crate) fn push_url(url: &str, project_id: &str) -> Result<Url, ConfigError> {
    let wrong = || ConfigError::Url { url: url.to_owned() };
    let mut parsed = Url::parse(url).map_err(|_| wrong())?;
    let plain = parsed.path() == "/" && parsed.query().is_none() && parsed.username().is_empty();
    if !matches!(parsed.scheme(), "https" | "http") || !plain || !parsed.has_host() {
        return Err(wrong());
    }
    parsed.set_path(&format!("/v1/projects/{project_id}/messages:send"));
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_push_address_is_made_of_url_and_project() {
        let url = push_url("https://fcm.googleapis.com/", "contoso-mail").unwrap();
        assert_eq!(url.as_str(), "https://fcm.googleapis.com/v1/projects/contoso-mail/messages:send");
        for wrong in ["fcm.googleapis.com", "ftp://h", "https://h/fcm/send", "https://h?key=1", ""] {
            assert_eq!(push_url(wrong, "p").unwrap_err(), ConfigError::Url { url: wrong.to_owned() });
        }
    }

    #[test]
    fn a_wrong_service_account_says_what_is_wrong_and_prints_no_value() {
        let full = serde_json::json!({
            "type": "service_account", "project_id": "p", "private_key_id": "k", "private_key": "c2VjcmV0",
            "client_email": "a@b", "token_uri": "https://oauth2.googleapis.com/token",
        });
        let with = |field: &str, value: serde_json::Value| {
            let mut json = full.clone();
            json[field] = value;
            ServiceAccount::parse(&json.to_string()).unwrap_err().to_string()
        };
        assert!(with("private_key", "c2VjcmV0".into()).contains("private_key"));
        assert!(with("type", "authorized_user".into()).contains("type"));
        assert!(with("project_id", "a/b".into()).contains("project_id"));
        assert!(with("private_key", 7.into()).contains("wrong type"));
        let missing = ServiceAccount::parse("{\"type\":\"service_account\"}").unwrap_err().to_string();
        assert!(missing.contains("project_id") && missing.contains("missing"), "{missing}");
        assert!(ServiceAccount::parse("c2VjcmV0").unwrap_err().to_string().contains("not JSON"));
        for error in [with("private_key", "c2VjcmV0".into()), with("private_key", 7.into())] {
            assert!(!error.contains("c2VjcmV0"), "{error}");
        }
    }
}
