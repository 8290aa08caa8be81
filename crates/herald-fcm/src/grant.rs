//! One access token from the token endpoint: the JWT bearer grant of RFC 7523.
//!
//! Stands under `oauth`, which decides when. A signed assertion goes out, a token comes back. Short retries of what passes
//! by itself (no connection, 5xx) are made here; a refusal is not retried: it is the key, the account or the clock.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use http::HeaderValue;
use jsonwebtoken::{Algorithm, Header};
use serde::{Deserialize, Serialize};

use crate::config::{Clock, ServiceAccount};
use crate::lanes::chain;
use crate::oauth::AccessToken;

/// The least that lets us send.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// What Google allows at most for an assertion.
const ASSERTION_LIVES_SECS: i64 = 3600;
/// One request to the token endpoint.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The first wait between two tries; then twice that.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Tries after the first. Patience beyond that is the worker's.
const RETRIES: usize = 2;
/// The most that is read of an answer. A token is about 1 KiB.
const BODY_LIMIT: usize = 64 * 1024;
/// The longest life that is believed.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GrantError {
    /// The endpoint refuses the service account: somebody must act.
    #[error("{0}")]
    Refused(String),
    /// It will pass.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Asks for a token, with short retries.
pub(crate) async fn grant(
    http: &reqwest::Client,
    account: &ServiceAccount,
    now: &Clock,
) -> Result<AccessToken, GrantError> {
    let backoff = ExponentialBuilder::default().with_min_delay(FIRST_WAIT).with_max_times(RETRIES).with_jitter();
    (|| ask(http, account, now))
        .retry(backoff)
        .when(|error| matches!(error, GrantError::Unavailable(_)))
        .notify(|error, wait| tracing::debug!(%error, wait_ms = wait.as_millis(), "no access token yet"))
        .await
}

async fn ask(http: &reqwest::Client, account: &ServiceAccount, now: &Clock) -> Result<AccessToken, GrantError> {
    let asked = now();
    let assertion = assertion(account, asked.secs())?;
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
    let mut response =
        http.post(account.token_uri.clone()).timeout(REQUEST_TIMEOUT).form(&form).send().await.map_err(unavailable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(GrantError::Unavailable("the token endpoint's answer is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return granted(&body, asked);
    }
    if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
        return Err(GrantError::Unavailable(format!("the token endpoint answers {}", status.as_u16())));
    }
    Err(GrantError::Refused(refusal(status.as_u16(), &body)))
}

fn unavailable(error: reqwest::Error) -> GrantError {
    GrantError::Unavailable(chain(&error.without_url()))
}

fn assertion(account: &ServiceAccount, now: i64) -> Result<String, GrantError> {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(account.key_id.clone());
    let claims = Claims {
        iss: &account.email,
        scope: SCOPE,
        aud: &account.audience,
        iat: now,
        exp: now.saturating_add(ASSERTION_LIVES_SECS),
    };
    jsonwebtoken::encode(&header, &claims, &account.key)
        .map_err(|error| GrantError::Refused(format!("the service account's key does not sign: {error}")))
}

fn granted(body: &[u8], asked: herald_core::time::Timestamp) -> Result<AccessToken, GrantError> {
    let wrong = || GrantError::Unavailable("the token endpoint answers 200 without an access token".to_owned());
    let granted: Granted = serde_json::from_slice(body).map_err(|_| wrong())?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", granted.access_token)).map_err(|_| wrong())?;
    bearer.set_sensitive(true);
    let lives = Duration::from_secs(granted.expires_in).min(LONGEST_LIFE);
    Ok(AccessToken { bearer, expires: asked.plus(lives), lives })
}

/// `invalid_grant: Invalid JWT Signature.`, in printable characters, or the status alone.
fn refusal(status: u16, body: &[u8]) -> String {
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else {
        return format!("the token endpoint answers {status}");
    };
    let words = format!("{}: {}", refusal.error, refusal.error_description);
    words.chars().filter(|c| !c.is_control()).take(200).collect::<String>().trim_end_matches([' ', ':']).to_owned()
}
