//! A gateway that serves two apps, what it has stored, and the requests that are sent to it.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use herald_core::ids::{AppId, DeliveryId, NotificationId, PushToken, Unsid, UserId};
use herald_core::push::Form;
use herald_core::request::Limits;
use herald_core::subscription::{Environment, Platform, TokenKind};
use herald_gateway::identity::{Clients, Identity, IssuerConfig, OwnClient, OwnIssuerConfig, Rules};
use herald_gateway::{
    ApiParts, AppRules, Gateway, OperatorToken, Parts, ReceiptKeys, RequestLog, ThrottledStatus, TlsFiles,
};
use herald_metrics::Metrics;
use herald_store::{NewDelivery, NewSubscription, PostgresConfig, Resolved, Store, Trace};
use rcgen::CertifiedKey;
use reqwest::{Certificate, Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::issuer::{AUDIENCE, Issuer, Key};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const MAIL: &str = "mail.contoso.com";
pub(crate) const CHAT: &str = "chat.fabrikam.com";
pub(crate) const ME: &str = "/beta/me/notifications";
pub(crate) const PUBLIC_URL: &str = "https://push.contoso.com";
/// The operator's token.
pub(crate) const OPERATOR: &str = "the-operator-has-a-long-token-of-32-or-more";
/// Subscriptions that a user may have.
pub(crate) const PER_USER: usize = 3;
/// What must never come back in a refusal.
pub(crate) const SECRET: &str = "s3cret";

/// A gateway with two apps that serves until it is dropped.
pub(crate) struct Served {
    pub(crate) base: String,
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) issuer: Issuer,
    pub(crate) key: Key,
    pub(crate) stop: CancellationToken,
    _serving: JoinSet<std::io::Result<()>>,
    _files: Option<TempDir>,
}

impl Served {
    /// By plain HTTP, for the tokens of an issuer elsewhere.
    pub(crate) async fn on(database_url: String) -> Result<Self> {
        Self::start(database_url, None, |_| ()).await
    }

    /// By plain HTTP, with some of its parts changed.
    pub(crate) async fn with(database_url: String, change: impl FnOnce(&mut Parts)) -> Result<Self> {
        Self::start(database_url, None, change).await
    }

    /// By TLS, with the built-in issuer besides.
    pub(crate) async fn secured(database_url: String) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let file = |name: &str, text: String| -> Result<PathBuf> {
            let path = folder.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let cert_file = file("cert.pem", cert.pem())?;
        let files = TlsFiles { cert_file, key_file: file("key.pem", signing_key.serialize_pem())? };
        Self::start(database_url, Some((folder, files, cert.pem())), |_| ()).await
    }

    async fn start(
        database_url: String,
        tls: Option<(TempDir, TlsFiles, String)>,
        change: impl FnOnce(&mut Parts),
    ) -> Result<Self> {
        let store = Store::connect(PostgresConfig {
            url: database_url,
            ca_pem: None,
            max_connections: 4,
            statement_timeout: Duration::from_secs(1),
        })
        .await?;
        store.migrate().await?;
        let key = Key::ec("e");
        let issuer = Issuer::start_at(store.clock().now(), &[&key]).await;
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let mut api = api(&issuer)?;
        let mut client = Client::builder();
        let mut scheme = "http://127.0.0.1";
        if let Some((_, _, cert)) = &tls {
            api.identity = api.identity.with_own(own_issuer())?;
            client = client.tls_certs_only([Certificate::from_pem(cert.as_bytes())?]);
            scheme = "https://localhost";
        }
        let mut parts = Parts {
            metrics: metrics.clone(),
            store: store.clone(),
            queue: None,
            receipt_keys: ReceiptKeys::default(),
            api: Some(api),
            tls: tls.as_ref().map(|(_, files, _)| files.clone()),
            request_log: RequestLog::default(),
            draining: CancellationToken::new(),
        };
        change(&mut parts);
        let gateway = Gateway::new(parts);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("{scheme}:{}", listener.local_addr()?.port());
        let mut serving = JoinSet::new();
        serving.spawn(gateway.serve(listener, stop.clone()));
        let client = client.build()?;
        Ok(Self {
            base,
            client,
            store,
            metrics,
            issuer,
            key,
            stop,
            _serving: serving,
            _files: tls.map(|(folder, ..)| folder),
        })
    }

    /// A phone of a user of an app.
    pub(crate) async fn phone(&self, app: &str, user: &str) -> Result<Unsid> {
        let new = NewSubscription {
            app: AppId::new(app),
            user: UserId::new(user),
            platform: Platform::Ios,
            token_kind: TokenKind::Token,
            token: PushToken::new(Uuid::now_v7().simple().to_string()),
            environment: Environment::Production,
            expires_at: self.store.clock().now().plus(DAY),
            unsid: None,
        };
        Ok(self.store.subscribe(new).await?.id)
    }

    /// A token of an app's own service.
    pub(crate) fn of_app(&self, client: &str) -> String {
        self.key.sign(&self.issuer.app_claims(client))
    }

    /// A token of anna, as a user of the first app.
    pub(crate) fn of_anna(&self) -> String {
        self.key.sign(&self.issuer.claims())
    }

    pub(crate) async fn send(&self, post: Post) -> Result<Response> {
        let Post { method, path, token, headers, body } = post;
        let mut request = self.client.request(method, format!("{}{path}", self.base)).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(request.send().await?)
    }

    /// A token of another user of the first app.
    pub(crate) fn of_user(&self, user: &str) -> String {
        self.key.sign(&self.issuer.with("sub", json!(user)))
    }

    /// The status and the JSON of an answer, null if there is none.
    pub(crate) async fn asked(&self, ask: Post) -> Result<(u16, Value)> {
        let response = self.send(ask).await?;
        let (status, body) = (response.status().as_u16(), response.text().await?);
        Ok((status, serde_json::from_str(&body).unwrap_or_default()))
    }

    /// A notification for anna; its id.
    pub(crate) async fn told(&self, body: &Value) -> Result<String> {
        let created = self.created(Post::to(ME, self.of_anna(), body)).await?;
        created["id"].as_str().map(str::to_owned).context("no id")
    }

    /// Posts what must be taken in.
    pub(crate) async fn created(&self, post: Post) -> Result<Value> {
        let response = self.send(post).await?;
        let status = response.status();
        let body: Value = response.json().await?;
        ensure!(status == StatusCode::CREATED, "{status}: {body}");
        Ok(body)
    }

    /// What is stored of an answer's notification.
    pub(crate) async fn trace(&self, app: &str, created: &Value) -> Result<Trace> {
        let id = NotificationId(created["id"].as_str().context("no id")?.parse()?);
        self.store.trace(&AppId::new(app), id).await?.context("not stored")
    }

    pub(crate) async fn open(&self) -> Result<(u64, u64)> {
        Ok((self.store.open_count(&AppId::new(MAIL)).await?, self.store.open_count(&AppId::new(CHAT)).await?))
    }

    pub(crate) fn metric(&self, series: &str) -> String {
        let text = self.metrics.render();
        let value = text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or(" 0");
        value.trim().to_owned()
    }
}

/// The built-in issuer with a client of the first app.
fn own_issuer() -> OwnIssuerConfig {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let client = OwnClient {
        id: "own-service".to_owned(),
        app: AppId::new(MAIL),
        secret: "a secret of sixteen or more".to_owned(),
    };
    OwnIssuerConfig { url: PUBLIC_URL.to_owned(), key_pem: key.serialize_pem(), clients: vec![client] }
}

fn app_rules(limits: Limits) -> AppRules {
    AppRules { limits, subscriptions_per_user: PER_USER, rate: None }
}

pub(crate) fn api(issuer: &Issuer) -> Result<ApiParts> {
    let clients = Clients::from([("service".to_owned(), AppId::new(MAIL)), ("other".to_owned(), AppId::new(CHAT))]);
    let rules =
        Rules { audiences: vec![AUDIENCE.to_owned()], user_claim: "sub".to_owned(), user_prefix: String::new() };
    let config = IssuerConfig { issuer: issuer.url.clone(), rules, jwks_url: None, ca_pem: None };
    Ok(ApiParts {
        identity: Identity::new(vec![config], clients)?,
        operator: OperatorToken::new(OPERATOR),
        apps: HashMap::from([
            (AppId::new(MAIL), app_rules(Limits::default())),
            (AppId::new(CHAT), app_rules(Limits { fallback_delay_secs: (1, 5) })),
        ]),
        public_url: PUBLIC_URL.to_owned(),
        resolve: Arc::new(|_, _, active, _| Resolved {
            deliveries: active
                .iter()
                .map(|subscription| NewDelivery {
                    id: DeliveryId(Uuid::now_v7()),
                    unsid: subscription.id,
                    form: Form::Raw,
                    fallback_delay: None,
                })
                .collect(),
            events: Vec::new(),
        }),
        hints: None,
        throttled: ThrottledStatus::default(),
    })
}

/// A request.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Post {
    pub(crate) fn to(path: &str, token: impl Into<Option<String>>, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        let body = body.to_string().into_bytes();
        Self { method: Method::POST, path: path.to_owned(), token: token.into(), headers, body }
    }

    /// A request without a body.
    pub(crate) fn ask(method: Method, path: impl Into<String>, token: impl Into<Option<String>>) -> Self {
        Self { method, path: path.into(), token: token.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn get(path: impl Into<String>, token: impl Into<Option<String>>) -> Self {
        Self::ask(Method::GET, path, token)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// What Microsoft's own sample posts.
pub(crate) fn sample() -> Value {
    json!({
        "targetHostName": MAIL,
        "appNotificationId": "testRaw",
        "payload": { "rawContent": "Hello World!" },
        "targetPolicy": { "platformTypes": ["windows", "ios", "android"] },
        "priority": "High",
        "displayTimeToLive": "60",
    })
}

pub(crate) fn changed(path: &str, value: Value) -> Value {
    let mut body = sample();
    let (parent, name) = path.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[name] = value;
    body
}

pub(crate) fn fallback(secs: u32) -> Value {
    json!({ "endpointFallback": {
        "platformTypes": ["iOS"], "fallbackDelayInSeconds": secs, "visualContent": { "title": "T", "body": "B" },
    }})
}

pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(body).unwrap();
    packed.finish().unwrap()
}
