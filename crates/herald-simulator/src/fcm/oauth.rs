//! Google's token endpoint: a signed assertion in, an access token out (RFC 7523, "JWT bearer grant").
//!
//! Source: Google, "Using OAuth 2.0 for Server to Server Applications".

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::error::{BadToken, Refusal};
use crate::counters::{Provider, bump};
use crate::exchange::Answer;
use crate::jwt::Jwt;
use crate::random;
use crate::world::World;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// What google-auth puts into `aud` whatever `token_uri` says.
const GOOGLES_AUDIENCE: &str = "https://oauth2.googleapis.com/token";
/// Those that let a client send.
const SCOPES: [&str; 2] =
    ["https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform"];
/// How Google's other scopes begin, or read.
const ANY_SCOPE: &str = "https://www.googleapis.com/auth/";
const OPEN_ID: [&str; 3] = ["openid", "email", "profile"];
/// How long an assertion may hold, in seconds.
const ASSERTION_LIFE_SECS: i64 = 3600;
/// How far the client's clock may be off, in seconds.
const SKEW_SECS: i64 = 300;
/// How many access tokens are remembered; then the expired ones are forgotten, and if that isn't enough, all.
const TOKENS_LIMIT: usize = 10_000;

/// The access tokens handed out.
#[derive(Debug)]
pub(crate) struct AccessTokens {
    seed: u64,
    serial: AtomicU64,
    granted: RwLock<HashMap<String, Grant>>,
}

#[derive(Debug, Clone, Copy)]
struct Grant {
    app: usize,
    ends_ms: u64,
    /// Whether its scopes let it send messages.
    sends: bool,
    revoked: bool,
}

/// An assertion that was found to be right.
#[derive(Debug, Clone, Copy)]
struct Granted {
    app: usize,
    sends: bool,
}

impl AccessTokens {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, serial: AtomicU64::new(0), granted: RwLock::default() }
    }

    /// The app that this access token may send for.
    ///
    /// # Errors
    /// Unknown, revoked, expired, or without a scope for messages.
    pub(super) fn app(&self, access_token: &str, now_ms: u64) -> Result<usize, Refusal> {
        let granted = self.granted.read().expect("nothing panics while access tokens are held");
        match granted.get(access_token) {
            None => Err(Refusal::bad_credential(BadToken::Unknown)),
            Some(grant) if grant.revoked => Err(Refusal::bad_credential(BadToken::Revoked)),
            Some(grant) if grant.ends_ms <= now_ms => Err(Refusal::bad_credential(BadToken::Expired)),
            Some(grant) if !grant.sends => Err(Refusal::scope_insufficient()),
            Some(grant) => Ok(grant.app),
        }
    }

    fn grant(&self, Granted { app, sends }: Granted, now_ms: u64, life_secs: u64) -> String {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let token =
            format!("ya29.{}", random::chars(self.seed, &format!("access token {serial}"), random::URL_SAFE, 64));
        let mut granted = self.granted.write().expect("nothing panics while access tokens are held");
        if granted.len() >= TOKENS_LIMIT {
            granted.retain(|_, grant| grant.ends_ms > now_ms && !grant.revoked);
        }
        if granted.len() >= TOKENS_LIMIT {
            granted.clear();
        }
        let ends_ms = now_ms.saturating_add(life_secs.saturating_mul(1000));
        granted.insert(token.clone(), Grant { app, ends_ms, sends, revoked: false });
        token
    }

    /// Revokes all access tokens.
    pub(crate) fn revoke(&self) {
        let mut granted = self.granted.write().expect("nothing panics while access tokens are held");
        granted.values_mut().for_each(|grant| grant.revoked = true);
    }
}

/// The bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Answers a request to the token endpoint.
pub(super) fn mint(world: &World, parts: &Parts, body: &[u8]) -> Answer {
    match check(world, parts, body) {
        Ok(granted) => {
            let life_secs = world.access_token_secs();
            let token = world.access_tokens.grant(granted, world.clock.millis(), life_secs);
            bump(&world.counters.mints);
            let body = json!({ "access_token": token, "expires_in": life_secs, "token_type": "Bearer" });
            Answer::json(StatusCode::OK, "", &body)
        }
        Err((error, description)) => {
            world.counters.refused(Provider::Oauth, error);
            let body = json!({ "error": error, "error_description": description });
            Answer::json(StatusCode::BAD_REQUEST, error, &body)
        }
    }
}

type Problem = (&'static str, &'static str);

#[derive(serde::Deserialize)]
struct Claims {
    iss: String,
    scope: String,
    aud: String,
    iat: i64,
    exp: i64,
}

fn check(world: &World, parts: &Parts, body: &[u8]) -> Result<Granted, Problem> {
    let invalid = |problem| ("invalid_grant", problem);
    let form = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if form.split(';').next() != Some("application/x-www-form-urlencoded") {
        return Err(("invalid_request", "The request must be application/x-www-form-urlencoded"));
    }
    if field(body, "grant_type").as_deref() != Some(GRANT_TYPE) {
        return Err(("unsupported_grant_type", "Invalid grant_type"));
    }
    let assertion = field(body, "assertion").ok_or(("invalid_request", "Missing parameter: assertion"))?;
    let malformed = invalid("Invalid JWT: Failed to parse the assertion");
    let jwt = Jwt::parse(&assertion, false).ok_or(malformed)?;
    let claims: Claims = jwt.claims().ok_or(malformed)?;
    let app = world.apps.of_client_email(&claims.iss).ok_or(invalid("Invalid grant: account not found"))?;
    let keys = &world.apps.list[app].keys;
    let right_key = jwt.header.kid.as_ref().is_none_or(|kid| *kid == keys.fcm_key_id);
    let right_key = right_key && !world.accounts.is_revoked(app);
    if jwt.header.alg != "RS256" || !right_key || !jwt.signed_by(&keys.fcm_key, Algorithm::RS256, false) {
        return Err(invalid("Invalid JWT Signature."));
    }
    if claims.aud != world.token_uri && claims.aud != GOOGLES_AUDIENCE {
        return Err(invalid("Invalid JWT: the audience is not this token endpoint"));
    }
    // Google's other scopes are granted too: that they don't let anybody send is FCM's word, not the token endpoint's.
    if !claims.scope.split(' ').all(|scope| scope.starts_with(ANY_SCOPE) || OPEN_ID.contains(&scope)) {
        return Err(("invalid_scope", "Invalid OAuth scope or ID token audience provided."));
    }
    let now = world.clock.secs();
    let short_lived = (0..=ASSERTION_LIFE_SECS).contains(&claims.exp.saturating_sub(claims.iat));
    let current = claims.iat <= now.saturating_add(SKEW_SECS) && claims.exp >= now.saturating_sub(SKEW_SECS);
    if !short_lived || !current {
        return Err(invalid(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat \
             and exp values in the JWT claim.",
        ));
    }
    Ok(Granted { app, sends: claims.scope.split(' ').any(|scope| SCOPES.contains(&scope)) })
}

/// A field of a form, decoded.
fn field<'a>(form: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let form = std::str::from_utf8(form).ok()?;
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    if !value.contains(['%', '+']) {
        return Some(Cow::Borrowed(value));
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_form_are_decoded() {
        let form = b"grant_type=urn%3Aietf%3aparams&b=x+y&c=%zz&d=plain";
        assert_eq!(field(form, "grant_type").as_deref(), Some("urn:ietf:params"));
        assert_eq!(field(form, "b").as_deref(), Some("x y"));
        assert_eq!(field(form, "c"), None);
        assert_eq!(field(form, "d").as_deref(), Some("plain"));
        assert_eq!(field(form, "e"), None);
    }

    #[test]
    fn an_access_token_ends_or_is_revoked_and_each_is_its_own_refusal() {
        let tokens = AccessTokens::new(1);
        let granted = Granted { app: 3, sends: true };
        let token = tokens.grant(granted, 1_000, 5);
        assert_eq!(tokens.app(&token, 5_999), Ok(3));
        assert_eq!(tokens.app(&token, 6_000), Err(Refusal::bad_credential(BadToken::Expired)));
        assert_ne!(token, tokens.grant(granted, 1_000, 5));
        assert_eq!(tokens.app("ya29.never", 0), Err(Refusal::bad_credential(BadToken::Unknown)));
        let other = tokens.grant(Granted { sends: false, ..granted }, 1_000, 5);
        assert_eq!(tokens.app(&other, 2_000), Err(Refusal::scope_insufficient()));
        tokens.revoke();
        assert_eq!(tokens.app(&token, 5_999), Err(Refusal::bad_credential(BadToken::Revoked)));
    }
}
