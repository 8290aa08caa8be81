//! What APNs remembers of one connection: the provider token in use, the team it bound itself to, and its sins.
//!
//! Source: Apple, "Establishing a token-based connection to APNs". A provider token's signature is checked once per
//! connection; afterwards the header is compared byte by byte.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;
use jsonwebtoken::Algorithm;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::reason::Reason;
use crate::jwt::Jwt;
use crate::phones::Environment;
use crate::world::Apps;

/// How old a provider token may be, in seconds.
const TOKEN_LIFE_SECS: i64 = 3600;
/// How long a connection must keep a provider token before the next one, in seconds.
const TOKEN_SWITCH_SECS: i64 = 20 * 60;
/// How far a provider token may be ahead of our clock, in seconds. Apple doesn't say.
const SKEW_SECS: i64 = 5 * 60;

/// A connection to APNs.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) environment: Environment,
    /// Ends the connection at once.
    pub(crate) close: CancellationToken,
    wedged: AtomicBool,
    held: Mutex<Option<Held>>,
}

/// The provider token in use.
#[derive(Debug)]
struct Held {
    header: HeaderValue,
    app: usize,
    issued_at: i64,
    since: i64,
}

impl Connection {
    pub(crate) fn new(environment: Environment, close: CancellationToken) -> Self {
        Self { environment, close, wedged: AtomicBool::new(false), held: Mutex::new(None) }
    }

    /// After an expired provider token, everything on the connection is refused (seen by the authors of pushy).
    pub(crate) fn is_wedged(&self) -> bool {
        self.wedged.load(Ordering::Relaxed)
    }

    /// The app whose key signed the request's provider token. `now` in seconds since 1970.
    ///
    /// # Errors
    /// The reason that APNs gives.
    pub(crate) fn authorize(
        &self,
        header: Option<&HeaderValue>,
        apps: &Apps,
        now: i64,
        strict: bool,
    ) -> Result<usize, Reason> {
        let header = header.ok_or(Reason::MissingProviderToken)?;
        let mut held = self.held.lock().expect("nothing panics while the provider token is held");
        if let Some(held) = held.as_ref().filter(|held| held.header == *header) {
            self.check_age(held.issued_at, now)?;
            return Ok(held.app);
        }
        let (app, issued_at) = verify(header, apps, strict)?;
        if held.as_ref().is_some_and(|held| held.app != app) || issued_at > now.saturating_add(SKEW_SECS) {
            return Err(Reason::InvalidProviderToken);
        }
        self.check_age(issued_at, now)?;
        if held.as_ref().is_some_and(|held| now.saturating_sub(held.since) < TOKEN_SWITCH_SECS) {
            return Err(Reason::TooManyProviderTokenUpdates);
        }
        *held = Some(Held { header: header.clone(), app, issued_at, since: now });
        Ok(app)
    }

    fn check_age(&self, issued_at: i64, now: i64) -> Result<(), Reason> {
        if now.saturating_sub(issued_at) > TOKEN_LIFE_SECS {
            self.wedged.store(true, Ordering::Relaxed);
            return Err(Reason::ExpiredProviderToken);
        }
        Ok(())
    }
}

/// The app and the `iat` of a provider token with a good signature.
fn verify(header: &HeaderValue, apps: &Apps, strict: bool) -> Result<(usize, i64), Reason> {
    #[derive(serde::Deserialize)]
    struct Claims {
        iss: String,
        iat: Value,
    }
    let refused = Reason::InvalidProviderToken;
    let (scheme, token) = header.to_str().ok().and_then(|header| header.split_once(' ')).ok_or(refused)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused);
    }
    let jwt = Jwt::parse(token, !strict).ok_or(refused)?;
    let app = jwt.header.kid.as_deref().and_then(|kid| apps.of_key_id(kid)).ok_or(refused)?;
    let keys = &apps.list[app].keys;
    let claims: Claims = jwt.claims().ok_or(refused)?;
    if jwt.header.alg != "ES256"
        || claims.iss != keys.credentials.apns_team_id
        || !jwt.signed_by(&keys.apns_key, Algorithm::ES256, !strict)
    {
        return Err(refused);
    }
    let issued_at = issued_at(&claims.iat, strict).ok_or(refused)?;
    Ok((app, issued_at))
}

/// `iat` as whole seconds; leniently also as a fraction (pyapns-client) or as text (kalyke).
fn issued_at(iat: &Value, strict: bool) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "fractions of a second don't matter; casts saturate")]
    let lenient = || match iat {
        Value::Number(number) => number.as_f64().map(|secs| secs as i64),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    iat.as_i64().or_else(|| if strict { None } else { lenient() })
}
