//! Posts as an app's service does: a token from the built-in issuer, then the notification, over HTTP.
//!
//! The other way in, beside the queue ([`super::script`]).

use std::path::Path;

use anyhow::{Context as _, ensure};
use reqwest::{Client, StatusCode, header};
use serde_json::Value;

use super::cast::APP;

/// The service of the demo's app.
pub(super) struct Service {
    client: Client,
    http_url: String,
    secret: String,
}

impl Service {
    /// Knows its secret, and asks for nothing yet.
    ///
    /// # Errors
    /// If the secret can't be read.
    pub(super) fn new(folder: &Path, http_url: &str) -> anyhow::Result<Self> {
        let secret = std::fs::read_to_string(folder.join(format!("{APP}.client-secret")))?;
        // The gateway is on this machine, whatever proxy the user has.
        let client = Client::builder().no_proxy().build()?;
        Ok(Self { client, http_url: http_url.to_owned(), secret: secret.trim().to_owned() })
    }

    /// Posts a notification to a user; `key` is its idempotency key.
    ///
    /// # Errors
    /// If it was answered with anything but 201.
    pub(super) async fn post(&self, user: &str, key: String, body: &Value) -> anyhow::Result<()> {
        let token = self.token().await.context("no token for the app's service")?;
        let post = self.client.post(format!("{}/beta/users/{user}/notifications", self.http_url));
        let post = post.bearer_auth(token).header("Idempotency-Key", key);
        let answer = post.header(header::CONTENT_TYPE, "application/json").body(body.to_string()).send().await?;
        let status = answer.status();
        ensure!(status == StatusCode::CREATED, "the post was answered with {status}: {}", answer.text().await?);
        Ok(())
    }

    async fn token(&self) -> anyhow::Result<String> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", APP),
            ("client_secret", &self.secret),
            ("scope", "https://graph.microsoft.com/.default"),
        ];
        let answer = self.client.post(format!("{}/common/oauth2/v2.0/token", self.http_url)).form(&form).send().await?;
        let answer: Value = serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?;
        Ok(answer["access_token"].as_str().context("the answer has no access_token")?.to_owned())
    }
}
