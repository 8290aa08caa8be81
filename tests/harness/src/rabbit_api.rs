//! The few calls to RabbitMQ's management HTTP API that tests need: vhosts, users, permissions.
//!
//! Used by the shared and the private broker; it never publishes or reads a message.

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// What a user may do in a vhost: regular expressions on names of queues and exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Names it may declare and delete.
    pub configure: String,
    /// Names it may publish to or bind.
    pub write: String,
    /// Names it may consume from or bind to.
    pub read: String,
}

impl Permissions {
    /// The three expressions.
    #[must_use]
    pub fn new(configure: &str, write: &str, read: &str) -> Self {
        Self { configure: configure.into(), write: write.into(), read: read.into() }
    }

    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::new(".*", ".*", ".*")
    }
}

/// A client of the API, with its user.
#[derive(Debug, Clone)]
pub(crate) struct RabbitApi {
    client: Client,
    base: Url,
    user: String,
    password: String,
}

impl RabbitApi {
    /// `url` holds user and password; its path is ignored.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let mut base: Url = url.parse().context("the URL of RabbitMQ's management API can't be understood")?;
        let user = base.username().to_owned();
        let password = base.password().unwrap_or_default().to_owned();
        if base.set_username("").is_err() || base.set_password(None).is_err() {
            bail!("the URL of RabbitMQ's management API needs a host");
        }
        // Never by way of the system's proxy: the broker is near. And no connection is kept: it would belong to the
        // runtime of the test that opened it, and hang in another's.
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(LIMIT).build()?;
        Ok(Self { client, base, user, password })
    }

    /// Whether it answers and takes the user's password.
    pub(crate) async fn answers(&self) -> bool {
        self.call(Method::GET, &["whoami"], None).await.is_ok()
    }

    /// Make a vhost in which this user may do everything.
    pub(crate) async fn add_vhost(&self, vhost: &str) -> Result<()> {
        self.call(Method::PUT, &["vhosts", vhost], Some(json!({}))).await?;
        self.permit(&self.user, vhost, &Permissions::all()).await
    }

    /// Delete a vhost with all it holds; its connections are closed. One that doesn't exist is no error.
    pub(crate) async fn delete_vhost(&self, vhost: &str) -> Result<()> {
        self.call(Method::DELETE, &["vhosts", vhost], None).await
    }

    /// Make a user without tags and give it permissions.
    pub(crate) async fn add_user(&self, name: &str, password: &str, vhost: &str, may: &Permissions) -> Result<()> {
        self.call(Method::PUT, &["users", name], Some(json!({ "password": password, "tags": "" }))).await?;
        self.permit(name, vhost, may).await
    }

    /// Delete a user. One that doesn't exist is no error.
    pub(crate) async fn delete_user(&self, name: &str) -> Result<()> {
        self.call(Method::DELETE, &["users", name], None).await
    }

    async fn permit(&self, user: &str, vhost: &str, may: &Permissions) -> Result<()> {
        let body = json!({ "configure": may.configure, "write": may.write, "read": may.read });
        self.call(Method::PUT, &["permissions", vhost, user], Some(body)).await
    }

    async fn call(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<()> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().push("api").extend(path);
        }
        let what = format!("{method} {}", url.path());
        let absent_is_well = method == Method::DELETE;
        let mut call = self.client.request(method, url).basic_auth(&self.user, Some(&self.password));
        if let Some(body) = body {
            call = call.json(&body);
        }
        let answer = call.send().await.with_context(|| format!("{what}: RabbitMQ's management API doesn't answer"))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND if absent_is_well => Ok(()),
            status => bail!("{what}: RabbitMQ's management API answered {status}"),
        }
    }
}
