//! The simulator as a client meets it: real connections, real TLS, real signatures.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod apns;
mod connections;
mod control;
mod fcm;
mod fcm_connections;
mod fcm_errors;
mod fcm_oauth;
mod fcm_quota;
mod keys;
mod lenient;
mod outages;
mod phones;
mod rules;
mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herald_simulator::{AppSpec, Credentials, Options, PhoneSpec, PhoneView, Platform, Simulator};
use http_body_util::{BodyExt, Full};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const MAIL: &str = "mail.contoso.com";
const CHAT: &str = "chat.contoso.com";
const MAIL_TOPIC: &str = "com.contoso.mail";
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

fn options() -> Options {
    let spec = |app: &str, bundle_id: &str, project_id: &str| AppSpec {
        app: app.to_owned(),
        bundle_id: bundle_id.to_owned(),
        project_id: project_id.to_owned(),
    };
    let apps = vec![spec(MAIL, MAIL_TOPIC, "contoso-mail"), spec(CHAT, "com.contoso.chat", "contoso-chat")];
    Options { apps, ..Options::default() }
}

async fn start() -> Simulator {
    start_with(options()).await
}

/// Starts with RSA keys that all tests share: to make some takes longer than most tests.
async fn start_with(options: Options) -> Simulator {
    static KEYS: LazyLock<[String; 2]> = LazyLock::new(|| {
        std::array::from_fn(|_| {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
            json!({ "private_key": key.serialize_pem() }).to_string()
        })
    });
    let dir = tempfile::tempdir().unwrap();
    for (spec, key) in options.apps.iter().zip(KEYS.iter()) {
        std::fs::write(dir.path().join(format!("{}.service-account.json", spec.app)), key).unwrap();
    }
    Simulator::start(Options { dir: Some(dir.path().to_owned()), ..options }).await.unwrap()
}

fn mail(simulator: &Simulator) -> Credentials {
    simulator.credentials(MAIL).unwrap()
}

/// A client with connections of its own.
fn client(simulator: &Simulator) -> Client {
    let ca = reqwest::Certificate::from_pem(simulator.ca_pem().as_bytes()).unwrap();
    Client::builder().tls_certs_only([ca]).timeout(LIMIT).build().unwrap()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A provider token of this age in seconds.
fn provider_token(credentials: &Credentials, age: i64) -> String {
    let key = EncodingKey::from_ec_pem(credentials.apns_key_pem.as_bytes()).unwrap();
    let header = Header { kid: Some(credentials.apns_key_id.clone()), typ: None, ..Header::new(Algorithm::ES256) };
    let claims = json!({ "iss": credentials.apns_team_id, "iat": now() - age });
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

/// The provider token that all pushes of a simulator use: a connection refuses to change it soon.
fn current_provider_token(credentials: &Credentials) -> String {
    static TOKENS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut tokens = TOKENS.lock().unwrap();
    tokens.entry(credentials.apns_key_pem.clone()).or_insert_with(|| provider_token(credentials, 0)).clone()
}

/// The `herald` object of a push.
fn herald(form: &str, id: &str) -> Value {
    json!({ "version": 1, "form": form, "notificationId": id, "receipt": format!("receipt-{id}"), "content": "x" })
}

/// A push to APNs that is right in every way.
fn raw_push(simulator: &Simulator, client: &Client, token: &str, id: &str) -> reqwest::RequestBuilder {
    let body = json!({ "aps": { "content-available": 1 }, "herald": herald("raw", id) });
    push(simulator, client, token, "background", "5").body(body.to_string())
}

/// A toast that is right in every way.
fn toast_push(simulator: &Simulator, client: &Client, token: &str, id: &str) -> reqwest::RequestBuilder {
    let aps = json!({ "alert": { "title": "t", "body": "b" }, "mutable-content": 1 });
    let body = json!({ "aps": aps, "herald": herald("toast", id) });
    push(simulator, client, token, "alert", "10").header("apns-collapse-id", id).body(body.to_string())
}

fn push(
    simulator: &Simulator,
    client: &Client,
    token: &str,
    push_type: &str,
    priority: &str,
) -> reqwest::RequestBuilder {
    client
        .post(format!("{}/3/device/{token}", simulator.apns_url()))
        .header("authorization", format!("bearer {}", current_provider_token(&mail(simulator))))
        .header("apns-topic", MAIL_TOPIC)
        .header("apns-push-type", push_type)
        .header("apns-priority", priority)
}

fn iphone(simulator: &Simulator, name: &str) -> PhoneView {
    simulator.add_phone(name, &PhoneSpec::new(MAIL, Platform::Ios)).unwrap()
}

async fn json_of(response: Response) -> Value {
    let bytes = response.bytes().await.unwrap();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

/// A server that takes receipts: answers the first `failures` with 503, and hands the bodies of the others on.
struct ReceiptSink {
    url: String,
    received: mpsc::UnboundedReceiver<Value>,
    _serving: JoinSet<()>,
}

impl ReceiptSink {
    async fn start(failures: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/receipts", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        let left = Arc::new(AtomicUsize::new(failures));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, left) = (sender.clone(), left.clone());
                let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (sender, left) = (sender.clone(), left.clone());
                    async move {
                        let body = request.into_body().collect().await?.to_bytes();
                        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
                        if !fails {
                            sender.send(serde_json::from_slice(&body).unwrap()).unwrap();
                        }
                        let response = http::Response::builder().status(if fails { 503 } else { 202 });
                        Ok::<_, hyper::Error>(response.body(Full::new(bytes::Bytes::new())).unwrap())
                    }
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        Self { url, received, _serving: serving }
    }

    async fn next(&mut self) -> Value {
        tokio::time::timeout(LIMIT, self.received.recv()).await.unwrap().unwrap()
    }
}
