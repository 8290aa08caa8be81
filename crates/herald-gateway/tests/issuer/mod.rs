//! An issuer of tokens for tests: it serves its documents on 127.0.0.1 and signs what it is asked to.

#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what can't go on in a test fails it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herald_core::time::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A key of an issuer.
pub(crate) struct Key {
    kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
    /// The public half.
    pub(crate) pem: String,
}

impl Key {
    pub(crate) fn ec(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let pem = pair.serialize_pem();
        let private = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
        Self { kid: kid.to_owned(), algorithm: Algorithm::ES256, private, pem: pair.public_key_pem() }
    }

    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let private = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { kid: kid.to_owned(), algorithm: Algorithm::RS256, private, pem: pair.public_key_pem() }
    }

    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.clone());
        serde_json::to_value(jwk).unwrap()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }

    /// With a header as given.
    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }
}

/// The audience of its tokens.
pub(crate) const AUDIENCE: &str = "https://herald.example";
/// What lets a user's token reach notifications.
pub(crate) const SCOPE: &str = "Notifications.ReadWrite.CreatedByApp";

/// An issuer that serves its documents on 127.0.0.1.
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) shared: Arc<Served>,
    now: Timestamp,
    _server: JoinSet<()>,
}

#[derive(Default)]
pub(crate) struct Served {
    keys: std::sync::Mutex<Value>,
    pub(crate) named: std::sync::Mutex<String>,
    away: AtomicBool,
    silent: AtomicBool,
    fetches: AtomicU32,
}

impl Issuer {
    pub(crate) async fn start_at(now: Timestamp, keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Served::default());
        *shared.named.lock().unwrap() = url.clone();
        let keys_url = format!("{url}/keys");
        let discovery = async move |State(served): State<Arc<Served>>| {
            Json(json!({ "issuer": *served.named.lock().unwrap(), "jwks_uri": keys_url }))
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(serve_keys))
            .with_state(shared.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let issuer = Self { url, shared, now, _server: server };
        issuer.has(keys);
        issuer
    }

    /// An app's own token's claims, for one of its clients.
    pub(crate) fn app_claims(&self, client: &str) -> Value {
        json!({ "iss": self.url, "aud": AUDIENCE, "sub": client, "azp": client, "exp": self.now.secs() + 600 })
    }

    /// These keys are in its set from now on.
    pub(crate) fn has(&self, keys: &[&Key]) {
        let mut all: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        all.push(json!({"kty": "oct", "kid": "other", "k": "c2VjcmV0", "use": "enc"}));
        *self.shared.keys.lock().unwrap() = json!({ "keys": all });
    }

    pub(crate) fn is_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::SeqCst);
    }

    /// From now on nobody who asks for keys gets an answer.
    pub(crate) fn is_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    pub(crate) fn fetches(&self) -> u32 {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// A good user's token's claims.
    pub(crate) fn claims(&self) -> Value {
        json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "anna", "azp": "service",
            "scp": SCOPE, "exp": self.now.secs() + 600, "nbf": self.now.secs() - 5,
        })
    }

    /// The same with one claim changed.
    pub(crate) fn with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[name] = value;
        claims
    }
}

async fn serve_keys(State(served): State<Arc<Served>>) -> Response {
    served.fetches.fetch_add(1, Ordering::SeqCst);
    if served.silent.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    if served.away.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, "<html>away</html>").into_response();
    }
    Json(served.keys.lock().unwrap().clone()).into_response()
}
