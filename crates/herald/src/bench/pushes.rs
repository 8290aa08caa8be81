//! Pushes made ready beforehand: the same bodies and headers that a worker sends to these devices, with nothing left to do
//! for the ceiling but to send them.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use herald_core::ids::{AppId, DeliveryId, NotificationId};
use herald_core::notification::{Content, Notification, Payload, Priority};
use herald_core::push::{self, Context, Form};
use herald_core::receipt;
use herald_core::subscription::{PlatformSet, Provider, Subscription};
use herald_core::time::Timestamp;
use http::{HeaderValue, Request, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::ceiling::{Endpoint, exchange};
use super::load::{LIFE, RAW_CONTENT};
use super::simulator::APP;
use crate::config::{ApnsConfig, AppConfig, FcmConfig};

/// Scope of an access token that may send.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// How long an assertion holds, in seconds.
const ASSERTION_SECS: i64 = 3600;

/// One request, ready.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) head: Request<()>,
    pub(super) body: Bytes,
}

/// The parts of a Firebase service account that a sender needs.
#[derive(Deserialize)]
struct ServiceAccount {
    project_id: String,
    private_key: String,
    private_key_id: String,
    client_email: String,
    token_uri: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
}

/// One push for each of these subscriptions that `provider` reaches, and where to send them.
///
/// # Errors
/// When the simulator's credentials can't be read, or it grants no access token.
pub(super) async fn prepare(
    provider: Provider,
    app: &AppConfig,
    subscriptions: &[Subscription],
    now: Timestamp,
) -> anyhow::Result<(Endpoint, Vec<Prepared>)> {
    let reached = |subscription: &&Subscription| subscription.platform.provider() == Some(provider);
    let reached: Vec<&Subscription> = subscriptions.iter().filter(reached).collect();
    match provider {
        Provider::Apns => {
            let config = app.apns.as_ref().context("the bench's app has no APNs")?;
            let endpoint = Endpoint::new(config.url.as_deref(), config.ca_file.as_deref())?;
            let bearer = provider_token(config, now)?;
            let made = reached.iter().map(|subscription| apns(config, &endpoint, &bearer, subscription, now));
            let made = made.collect::<anyhow::Result<_>>()?;
            Ok((endpoint, made))
        }
        Provider::Fcm => {
            let config = app.fcm.as_ref().context("the bench's app has no FCM")?;
            let endpoint = Endpoint::new(config.url.as_deref(), config.ca_file.as_deref())?;
            let account = account(config)?;
            let bearer = access_token(&endpoint, &account, now).await?;
            let made = reached.iter().map(|subscription| fcm(&account, &endpoint, &bearer, subscription, now));
            let made = made.collect::<anyhow::Result<_>>()?;
            Ok((endpoint, made))
        }
    }
}

fn apns(
    config: &ApnsConfig,
    endpoint: &Endpoint,
    bearer: &HeaderValue,
    subscription: &Subscription,
    now: Timestamp,
) -> anyhow::Result<Prepared> {
    let topic: Arc<str> = Arc::from(config.topic.as_str());
    let push = with_context(subscription, now, |context| push::apns::build(context, &topic));
    let head = endpoint
        .post(&format!("/3/device/{}", push.token.expose()))
        .header(header::AUTHORIZATION, bearer)
        .header("apns-topic", &*push.topic)
        .header("apns-push-type", push.push_type.as_str())
        .header("apns-priority", push.priority.to_string())
        .header("apns-expiration", push.expiration.to_string())
        .header("apns-id", push.id.hyphenated().to_string())
        .header("apns-collapse-id", push.collapse_id)
        .header(header::CONTENT_TYPE, "application/json")
        .body(())?;
    Ok(Prepared { head, body: push.body.into() })
}

fn fcm(
    account: &ServiceAccount,
    endpoint: &Endpoint,
    bearer: &HeaderValue,
    subscription: &Subscription,
    now: Timestamp,
) -> anyhow::Result<Prepared> {
    let push = with_context(subscription, now, push::fcm::build);
    let head = endpoint
        .post(&format!("/v1/projects/{}/messages:send", account.project_id))
        .header(header::AUTHORIZATION, bearer)
        .header(header::CONTENT_TYPE, "application/json")
        .body(())?;
    Ok(Prepared { head, body: push.body.into() })
}

/// The push that a worker would build for a notification like those of the bench.
fn with_context<T>(subscription: &Subscription, now: Timestamp, build: impl FnOnce(&Context<'_>) -> T) -> T {
    let delivery = DeliveryId(Uuid::now_v7());
    let expires_at = now.plus(LIFE);
    let notification = Notification {
        id: NotificationId(Uuid::now_v7()),
        app: AppId::new(APP),
        user: subscription.user.clone(),
        content: Content {
            app_notification_id: Some("order-1042".to_owned()),
            group_name: None,
            priority: Priority::None,
            payload: Payload { raw: Some(RAW_CONTENT.to_owned()), visual: None },
            display_ttl: None,
            target_policy: PlatformSet::ALL,
            fallback: None,
            traceparent: None,
            tracestate: None,
        },
        expires_at,
    };
    // As long as a real one; no phone of the bench uses it.
    let receipt = receipt::sign("bench", &[0; receipt::MIN_KEY_BYTES], delivery, expires_at);
    build(&Context {
        notification: &notification,
        subscription,
        delivery,
        form: Form::Raw,
        not_after: None,
        receipt: &receipt,
        now,
    })
}

fn provider_token(config: &ApnsConfig, now: Timestamp) -> anyhow::Result<HeaderValue> {
    let key = EncodingKey::from_ec_pem(&read(&config.key_file)?)?;
    let header = Header { kid: Some(config.key_id.clone()), ..Header::new(Algorithm::ES256) };
    let claims = json!({ "iss": config.team_id, "iat": now.secs() });
    bearer(&jsonwebtoken::encode(&header, &claims, &key)?)
}

async fn access_token(endpoint: &Endpoint, account: &ServiceAccount, now: Timestamp) -> anyhow::Result<HeaderValue> {
    let key = EncodingKey::from_rsa_pem(account.private_key.as_bytes())?;
    let header = Header { kid: Some(account.private_key_id.clone()), ..Header::new(Algorithm::RS256) };
    let claims = json!({
        "iss": account.client_email, "scope": SCOPE, "aud": account.token_uri,
        "iat": now.secs(), "exp": now.secs() + ASSERTION_SECS,
    });
    let assertion = jsonwebtoken::encode(&header, &claims, &key)?;
    let form = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
    let head = endpoint.post("/token").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(())?;
    let answer = exchange(endpoint, Prepared { head, body: form.into() }).await.context("an access token")?;
    bearer(&serde_json::from_slice::<Granted>(&answer)?.access_token)
}

fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("bearer {token}"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn account(config: &FcmConfig) -> anyhow::Result<ServiceAccount> {
    serde_json::from_slice(&read(&config.service_account_file)?).context("the simulator's service account")
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// TLS as the workers use it: the simulator's authority, ALPN `h2`.
pub(super) fn tls(ca_file: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read(ca_file)?) {
        roots.add(certificate?)?;
    }
    let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

/// How many bytes a push to this subscription has.
pub(super) fn payload_bytes(subscription: &Subscription, now: Timestamp) -> usize {
    match subscription.platform.provider() {
        Some(Provider::Fcm) => with_context(subscription, now, push::fcm::build).body.len(),
        _ => with_context(subscription, now, |context| push::apns::build(context, &Arc::from("topic"))).body.len(),
    }
}
