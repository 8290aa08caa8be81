//! The built-in issuer: access tokens for the services of apps that have no identity provider of their own.
//!
//! Stands before identity: what it grants is verified like any other issuer's token, by a key that is at hand instead of
//! fetched. It knows the client credentials grant only, so a token of it always speaks for an app, never for a user. The
//! shape of its answers is that of Microsoft's v2.0 endpoint, since the services that come from Graph ask there.
//!
//! Pure: time and ids are arguments. It keeps no token and logs no secret. Secrets are kept and compared as SHA-256, so
//! that the time of a comparison says nothing about them.
//!
//! Sources: RFC 6749 §2.3.1, §4.4, §5; Microsoft, "OAuth 2.0 client credentials flow on the Microsoft identity platform".

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::secret::Secret;

use super::caller::{Clients, Rules};
use super::jwks::KeySet;

/// How long a token holds.
const LIFE: Duration = Duration::from_secs(3_600);
/// The longest form: id, secret, scope and what a client library adds about itself.
pub(crate) const MAX_FORM_BYTES: usize = 16 * 1024;

/// What is configured.
pub struct OwnIssuerConfig {
    /// Where services reach the gateway, without a slash at the end: the issuer's name, and what its tokens are for.
    pub url: String,
    /// A private key in PEM (PKCS #8): of P-256, or RSA of 2048 bits or more. Replicas share it.
    pub key_pem: String,
    /// Who may ask.
    pub clients: Vec<OwnClient>,
}

/// A service of an app.
pub struct OwnClient {
    /// Its `client_id`.
    pub id: String,
    /// Its app.
    pub app: AppId,
    /// Its `client_secret`.
    pub secret: String,
}

/// The key can't sign.
#[derive(Debug, thiserror::Error)]
#[error("is no private key of P-256 or RSA in PEM (PKCS #8)")]
pub struct OwnKeyError;

/// The built-in issuer.
pub(crate) struct OwnIssuer {
    url: String,
    key: EncodingKey,
    header: Header,
    jwks: Value,
    /// By client id in lower case.
    secrets: HashMap<String, Secret>,
}

impl fmt::Debug for OwnIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnIssuer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why no token is granted (RFC 6749 §5.2). The numbers are Microsoft's, which its libraries show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotGranted {
    /// A parameter is missing, given twice, or the form can't be read.
    Request(&'static str),
    /// Another grant than client credentials.
    GrantType,
    /// Client and secret don't belong together. Which of them is wrong is nobody's business.
    Client,
    /// The scope isn't one of `….default`.
    Scope,
}

impl NotGranted {
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Client => 401,
            Self::Request(_) | Self::GrantType | Self::Scope => 400,
        }
    }

    /// The body in Microsoft's shape.
    pub(crate) fn body(self, now: Timestamp, trace: Uuid) -> Value {
        let (error, code, description) = match self {
            Self::Request(problem) => ("invalid_request", 900_144, problem),
            Self::GrantType => ("unsupported_grant_type", 70_003, "grant_type must be client_credentials"),
            Self::Client => ("invalid_client", 7_000_215, "the client is unknown, or its secret is wrong"),
            Self::Scope => ("invalid_scope", 70_011, "scope must end in /.default"),
        };
        json!({
            "error": error, "error_description": description, "error_codes": [code],
            "timestamp": now.to_rfc3339(), "trace_id": trace, "correlation_id": trace,
        })
    }
}

impl OwnIssuer {
    /// With what identity needs of it: its rules, its keys and its clients.
    ///
    /// # Errors
    /// See [`OwnKeyError`].
    pub(crate) fn new(config: OwnIssuerConfig) -> Result<(Self, Rules, KeySet, Clients), OwnKeyError> {
        let pem = config.key_pem.as_bytes();
        let of = |key: Result<EncodingKey, _>, algorithm| {
            let key = key.ok()?;
            let jwk = Jwk::from_encoding_key(&key, algorithm).ok()?;
            Some((key, algorithm, jwk))
        };
        let (key, algorithm, mut jwk) = of(EncodingKey::from_ec_pem(pem), Algorithm::ES256)
            .or_else(|| of(EncodingKey::from_rsa_pem(pem), Algorithm::RS256))
            .ok_or(OwnKeyError)?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| OwnKeyError)?;
        jwk.common.key_id = Some(kid.clone());
        let jwks = json!({ "keys": [jwk] });
        // What can't verify here (another curve, a short RSA key) must not sign.
        let keys = KeySet::parse(jwks.to_string().as_bytes()).filter(|keys| keys.len() == 1).ok_or(OwnKeyError)?;
        let clients = config.clients.iter().map(|client| (client.id.to_ascii_lowercase(), client.app.clone()));
        let clients: Clients = clients.collect();
        let secret = |client: &OwnClient| (client.id.to_ascii_lowercase(), Secret::new(&client.secret));
        let secrets = config.clients.iter().map(secret).collect();
        let rules =
            Rules { audiences: vec![config.url.clone()], user_claim: "sub".to_owned(), user_prefix: String::new() };
        let header = Header { typ: Some("at+jwt".to_owned()), kid: Some(kid), ..Header::new(algorithm) };
        Ok((Self { url: config.url, key, header, jwks, secrets }, rules, keys, clients))
    }

    pub(crate) fn name(&self) -> &str {
        &self.url
    }

    /// The key set that others may verify by.
    pub(crate) fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// OpenID Connect Discovery 1.0 §3, as far as there is something to say. Asked under a tenant's path, it names itself by
    /// that, as Microsoft's libraries want it; its tokens name it without.
    pub(crate) fn discovery(&self, tenant: Option<&str>) -> Value {
        let (url, algorithm, place) = (&self.url, self.header.alg, tenant.unwrap_or("common"));
        json!({
            "issuer": tenant.map_or_else(|| url.clone(), |tenant| format!("{url}/{tenant}/v2.0")),
            "token_endpoint": format!("{url}/{place}/oauth2/v2.0/token"),
            "authorization_endpoint": format!("{url}/{place}/oauth2/v2.0/authorize"),
            "jwks_uri": format!("{url}/{place}/discovery/v2.0/keys"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [format!("{algorithm:?}")],
        })
    }

    /// What a request to the token endpoint gets. `basic` is what follows `Basic ` in its `Authorization`.
    ///
    /// # Errors
    /// See [`NotGranted`].
    pub(crate) fn grant(
        &self,
        form: &[u8],
        basic: Option<&str>,
        now: Timestamp,
        token_id: Uuid,
    ) -> Result<Value, NotGranted> {
        let form = Form::read(form)?;
        if form.grant_type.as_deref() != Some("client_credentials") {
            return Err(NotGranted::GrantType);
        }
        let (client, secret) = match basic {
            Some(basic) => from_basic(basic).ok_or(NotGranted::Client)?,
            None => (
                form.client_id.ok_or(NotGranted::Request("client_id is missing"))?,
                form.client_secret.ok_or(NotGranted::Request("client_secret is missing"))?,
            ),
        };
        let client = client.to_ascii_lowercase();
        if !self.secrets.get(&client).is_some_and(|ours| ours.is(&secret)) {
            return Err(NotGranted::Client);
        }
        let scope = form.scope.ok_or(NotGranted::Request("scope is missing"))?;
        if !scope.split_whitespace().all(|scope| scope.ends_with("/.default")) || scope.trim().is_empty() {
            return Err(NotGranted::Scope);
        }
        let (begins, ends) = (now.secs(), now.plus(LIFE).secs());
        let claims = json!({
            "iss": self.url, "aud": self.url, "sub": client, "appid": client, "azp": client, "idtyp": "app",
            "iat": begins, "nbf": begins, "exp": ends, "jti": token_id, "ver": "2.0",
        });
        let token = jsonwebtoken::encode(&self.header, &claims, &self.key).expect("the key signed when it was read");
        let expires_in = LIFE.as_secs() - 1;
        Ok(json!({
            "token_type": "Bearer", "expires_in": expires_in, "ext_expires_in": expires_in, "access_token": token,
        }))
    }
}

/// RFC 6749 §2.3.1: both are form-encoded before they are put together.
fn from_basic(basic: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(basic.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let plain = |part: &str| {
        let pair = format!("x={part}");
        let value = form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned());
        value.unwrap_or_default()
    };
    Some((plain(id), plain(secret)))
}

/// The parameters that mean something here; client libraries send more.
#[derive(Default)]
struct Form {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    scope: Option<String>,
}

impl Form {
    fn read(body: &[u8]) -> Result<Self, NotGranted> {
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            let place = match &*name {
                "grant_type" => &mut form.grant_type,
                "client_id" => &mut form.client_id,
                "client_secret" => &mut form.client_secret,
                "scope" => &mut form.scope,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(NotGranted::Request("a parameter is given twice"));
            }
        }
        Ok(form)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SignatureAlgorithm};

    use super::*;
    use crate::identity::caller::{self, Caller};
    use crate::identity::token::Jwt;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const GOOD: &str = "client_id=Service-1&client_secret=s%26cret%2B&grant_type=client_credentials&\
                        scope=https%3A%2F%2Fgraph.microsoft.com%2F.default&x-client-SKU=msal.js.node";

    fn pem(algorithm: &'static SignatureAlgorithm) -> String {
        KeyPair::generate_for(algorithm).unwrap().serialize_pem()
    }

    fn issuer(key_pem: String) -> Result<(OwnIssuer, Rules, KeySet, Clients), OwnKeyError> {
        let client =
            |id: &str, app: &str| OwnClient { id: id.to_owned(), app: AppId::new(app), secret: "s&cret+".to_owned() };
        OwnIssuer::new(OwnIssuerConfig {
            url: "https://push.example".to_owned(),
            key_pem,
            clients: vec![client("service-1", "mail.contoso.com"), client("b", "chat.fabrikam.com")],
        })
    }

    fn grant(form: &str, basic: Option<&str>) -> Result<Value, NotGranted> {
        issuer(pem(&PKCS_ECDSA_P256_SHA256)).unwrap().0.grant(form.as_bytes(), basic, NOW, Uuid::nil())
    }

    #[test]
    fn what_it_grants_is_verified_as_an_app_token_of_the_clients_app() {
        for key in [&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256] {
            let (issuer, rules, keys, clients) = issuer(pem(key)).unwrap();
            let granted = issuer.grant(GOOD.as_bytes(), None, NOW, Uuid::nil()).unwrap();
            assert_eq!((&granted["token_type"], &granted["expires_in"]), (&json!("Bearer"), &json!(3599)));
            let jwt = Jwt::parse(granted["access_token"].as_str().unwrap()).unwrap();
            assert_eq!(keys.verify(&jwt), Ok(()));
            let app = Caller::App(AppId::new("mail.contoso.com"));
            assert_eq!(caller::of(&jwt.claims, &rules, &clients, NOW, &mut |_| ()), Ok(app));
            assert!(caller::of(&jwt.claims, &rules, &clients, NOW.plus(2 * LIFE), &mut |_| ()).is_err());
            assert_eq!(jwt.claims.text("iss"), Some(issuer.name()));
        }
    }

    #[test]
    fn only_a_known_client_with_its_own_secret_gets_a_token() {
        let with = |from: &str, to: &str| grant(&GOOD.replace(from, to), None).map(|_| ());
        assert_eq!(with("Service-1", "service-2"), Err(NotGranted::Client));
        assert_eq!(with("s%26cret%2B", "s%26cret"), Err(NotGranted::Client));
        assert_eq!(with("s%26cret%2B", ""), Err(NotGranted::Client));
        assert_eq!(with("client_secret", "secret"), Err(NotGranted::Request("client_secret is missing")));
        assert_eq!(with("client_id", "id"), Err(NotGranted::Request("client_id is missing")));
        assert_eq!(with("=client_credentials", "=password"), Err(NotGranted::GrantType));
        assert_eq!(with("%2F.default", "%2FMail.Read"), Err(NotGranted::Scope));
        assert_eq!(with("scope", "scopes"), Err(NotGranted::Request("scope is missing")));
        assert_eq!(with("x-client-SKU", "client_id"), Err(NotGranted::Request("a parameter is given twice")));
        assert_eq!(grant("", None).map(|_| ()), Err(NotGranted::GrantType));
        assert_eq!([NotGranted::Client.status(), NotGranted::Scope.status()], [401, 400]);
    }

    #[test]
    fn credentials_in_the_header_are_form_encoded_first() {
        let form = "grant_type=client_credentials&scope=x/.default";
        let basic = |text: &str| grant(form, Some(&STANDARD.encode(text))).map(|_| ());
        assert_eq!(basic("service-1:s%26cret%2B"), Ok(()));
        assert_eq!(basic("service-1:s&cret+"), Err(NotGranted::Client));
        assert_eq!(basic("service-1"), Err(NotGranted::Client));
        assert_eq!(grant(form, Some("?")).map(|_| ()), Err(NotGranted::Client));
    }

    #[test]
    fn keys_that_nobody_could_verify_by_are_refused() {
        for bad in [String::new(), "secret".to_owned(), pem(&PKCS_ECDSA_P384_SHA384)] {
            assert!(issuer(bad).is_err());
        }
    }

    #[test]
    fn nothing_of_a_secret_or_a_key_is_printed() {
        let (issuer, ..) = issuer(pem(&PKCS_ECDSA_P256_SHA256)).unwrap();
        assert_eq!(format!("{issuer:?}"), r#"OwnIssuer { url: "https://push.example", .. }"#);
        let body = NotGranted::Client.body(NOW, Uuid::nil());
        assert_eq!((&body["error"], &body["error_codes"]), (&json!("invalid_client"), &json!([7_000_215])));
        assert!(issuer.jwks()["keys"][0].get("d").is_none());
    }
}
