//! The way of one push: access token, a place on a connection, exchange, and one more try after a refused token.
//!
//! Stands between the worker and FCM. Brings back bytes and a status; what they mean is decided in
//! `herald_core::outcome`. Never sends again what may have been processed.

use std::sync::Arc;
use std::time::Duration;

use herald_core::outcome::{Answer, Undelivered};
use herald_core::push::FcmPush;
use reqwest::{Certificate, Url};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::config::{self, Config, ConfigError, ServiceAccount};
use crate::exchange::exchange;
use crate::grant::GrantError;
use crate::lanes::{Http, Lanes};
use crate::oauth::{AccessToken, Tokens};

/// Marks an answer that FCM's own logic gave, as opposed to the login in front of it.
const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";

/// A client for one service account. Cloning shares everything.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: Url,
    request_timeout: Duration,
    tokens: Tokens,
    lanes: Lanes,
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// FCM surely did not process it.
    #[error("the push was not sent")]
    NotSent,
    /// FCM may have processed it.
    #[error("the push may have been processed: no answer came")]
    Unknown,
    /// It was not sent, because the token endpoint refuses the service account. Ours to mend: a revoked key, a deleted
    /// account, a clock that is wrong. The text is what the endpoint said; it holds no secret.
    #[error("the service account is refused: {0}")]
    Unauthorized(String),
}

impl From<Undelivered> for SendError {
    fn from(undelivered: Undelivered) -> Self {
        match undelivered {
            Undelivered::NotSent => Self::NotSent,
            Undelivered::Unknown => Self::Unknown,
        }
    }
}

/// What a client is doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Pushes that have a place on a connection.
    pub in_flight: usize,
}

impl Client {
    /// Checks everything that can be checked without the network.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong and what to do.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        for (field, zero) in [
            ("clients", config.clients == 0),
            ("request_timeout", config.request_timeout.is_zero()),
            ("connect_timeout", config.connect_timeout.is_zero()),
        ] {
            if zero {
                return Err(ConfigError::Zero { field });
            }
        }
        let account = ServiceAccount::parse(&config.service_account_json)?;
        let url = config::push_url(&config.url, &account.project_id)?;
        let http = Http {
            roots: config.ca_pem.as_deref().map(certificates).transpose()?,
            connect_timeout: config.connect_timeout,
            only_http2: url.scheme() == "https",
        };
        // Token endpoints other than Google's may speak HTTP/1.1 only.
        let plain = Http { only_http2: false, ..http.clone() };
        let tokens = Tokens::new(plain.client()?, account, config.now);
        let lanes = Lanes::new(http, config.clients, config.request_timeout)?;
        Ok(Self { inner: Arc::new(Inner { url, request_timeout: config.request_timeout, tokens, lanes }) })
    }

    /// Sends one push and brings back FCM's answer, whatever it is. Takes at most the configured `request_timeout`.
    ///
    /// A 401 from the login in front of FCM (no `FcmError` in it) is healed first, once: another access token, another try.
    ///
    /// # Errors
    /// See [`SendError`]. Dropping the future before it ends resets the stream; the push may have been processed.
    pub async fn send(&self, push: &FcmPush) -> Result<Answer, SendError> {
        let deadline = Instant::now() + self.inner.request_timeout;
        let token = self.token(deadline).await?;
        let answer = self.exchange(push, &token, deadline).await?;
        if !is_login_refusal(&answer) {
            return Ok(answer);
        }
        self.inner.tokens.refused(&token);
        match self.token(deadline).await {
            Ok(newer) => Ok(self.exchange(push, &newer, deadline).await?),
            // The refusal says more than a token endpoint that is away.
            Err(SendError::NotSent | SendError::Unknown) => Ok(answer),
            Err(unauthorized @ SendError::Unauthorized(_)) => Err(unauthorized),
        }
    }

    async fn token(&self, deadline: Instant) -> Result<Arc<AccessToken>, SendError> {
        match timeout_at(deadline, self.inner.tokens.current()).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(GrantError::Refused(words))) => Err(SendError::Unauthorized(words)),
            Ok(Err(GrantError::Unavailable(_))) | Err(_) => Err(SendError::NotSent),
        }
    }

    async fn exchange(&self, push: &FcmPush, token: &AccessToken, deadline: Instant) -> Result<Answer, Undelivered> {
        let Ok(Some(place)) = timeout_at(deadline, self.inner.lanes.acquire()).await else {
            return Err(Undelivered::NotSent);
        };
        exchange(&place, &self.inner.url, token, &push.body, deadline).await
    }

    /// Takes no more pushes and lets those in flight finish (at most `request_timeout`).
    pub async fn close(&self) {
        self.inner.lanes.close().await;
        self.inner.tokens.close().await;
    }

    /// What it is doing now.
    pub fn stats(&self) -> Stats {
        Stats { in_flight: self.inner.lanes.in_flight() }
    }
}

fn certificates(pem: &str) -> Result<Vec<Certificate>, ConfigError> {
    let certificates = Certificate::from_pem_bundle(pem.as_bytes())
        .map_err(|error| ConfigError::CaPem { problem: crate::lanes::chain(&error) })?;
    if certificates.is_empty() {
        return Err(ConfigError::CaPem { problem: "no certificate found".to_owned() });
    }
    Ok(certificates)
}

/// 401 without an `FcmError`: our access token, not the device's or Apple's credentials.
fn is_login_refusal(answer: &Answer) -> bool {
    if answer.status != 401 {
        return false;
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let details = body["error"]["details"].as_array();
    !details.is_some_and(|details| details.iter().any(|detail| detail["@type"] == FCM_ERROR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_401_without_an_fcm_error_is_about_our_access_token() {
        let with = |detail: &str| format!("{{\"error\":{{\"code\":401,\"details\":[{detail}]}}}}");
        for (status, body, expected) in [
            (401, String::new(), true),
            (401, "<html>".to_owned(), true),
            (
                401,
                with(r#"{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ACCESS_TOKEN_EXPIRED"}"#),
                true,
            ),
            (401, with(&format!(r#"{{"@type":"{FCM_ERROR}","errorCode":"THIRD_PARTY_AUTH_ERROR"}}"#)), false),
            (403, String::new(), false),
            (200, String::new(), false),
        ] {
            let answer = Answer { status, body: body.clone().into_bytes(), ..Answer::default() };
            assert_eq!(is_login_refusal(&answer), expected, "{status} {body}");
        }
    }
}
