//! What APNs remembers of one connection: the provider token in use, the team it bound itself to, and its sins.
//!
//! Source: Apple, "Establishing a token-based connection to APNs". A provider token's signature is checked once per
//! connection; afterwards the header is compared byte by byte.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::HeaderValue;
use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::keys::{Key, Keyring};
use super::reason::Reason;
use super::rules::{ApnsRules, EnvironmentReason, OtherTeamReason};
use crate::jwt::Jwt;
use crate::line::Line;
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
    pub(crate) line: Arc<Line>,
    wedged: AtomicBool,
    /// What its answers weighed so far.
    errors: AtomicU64,
    held: Mutex<Option<Held>>,
}

/// The provider token in use, and what the first one bound the connection to.
#[derive(Debug)]
struct Held {
    header: HeaderValue,
    key: Arc<Key>,
    issued_at: i64,
    since: i64,
    /// The state of the keyring that the key is from.
    keys_at: u64,
    /// The state of the keyring at the first push: topics added later are unknown here.
    bound_at: u64,
}

/// What a provider token is checked against.
pub(super) struct Authority<'a> {
    pub(super) apps: &'a Apps,
    pub(super) keys: &'a Keyring,
    pub(super) rules: Option<&'a ApnsRules>,
    pub(super) strict: bool,
    /// In seconds since 1970.
    pub(super) now: i64,
}

impl Connection {
    pub(crate) fn new(environment: Environment, line: Arc<Line>) -> Self {
        let (wedged, errors) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { environment, line, wedged, errors, held: Mutex::new(None) }
    }

    /// After an expired provider token, everything on the connection is refused (seen by the authors of pushy).
    pub(super) fn is_wedged(&self) -> bool {
        self.wedged.load(Ordering::Relaxed)
    }

    /// Counts an answer's weight; says whether the connection has just reached `limit`.
    pub(super) fn errs(&self, weight: u64, limit: u64) -> bool {
        let before = self.errors.fetch_add(weight, Ordering::Relaxed);
        before < limit && before.saturating_add(weight) >= limit
    }

    /// Checks the request's provider token, and that its key may push to `bundle_id`, a topic of `app` since
    /// `topic_since`.
    ///
    /// # Errors
    /// The reason that APNs gives.
    pub(super) fn authorize(
        &self,
        header: Option<&HeaderValue>,
        authority: &Authority<'_>,
        (bundle_id, app, topic_since): (&str, usize, u64),
    ) -> Result<(), Reason> {
        let header = header.ok_or(Reason::MissingProviderToken)?;
        let keys_at = authority.keys.changes();
        let mut held = self.held.lock().expect("nothing panics while the provider token is held");
        match held.as_ref().filter(|held| held.header == *header && held.keys_at == keys_at) {
            Some(held) => self.check_age(held.issued_at, authority.now)?,
            None => self.take(&mut held, header, authority, keys_at)?,
        }
        let held = held.as_ref().expect("a token was taken, or was there");
        if held.key.app != app || !held.key.signs_for(bundle_id) || topic_since > held.bound_at {
            return Err(Reason::TopicDisallowed);
        }
        Ok(())
    }

    /// A provider token that is new on the connection, or whose key may have changed.
    fn take(
        &self,
        held: &mut Option<Held>,
        header: &HeaderValue,
        authority: &Authority<'_>,
        keys_at: u64,
    ) -> Result<(), Reason> {
        let (key, issued_at) = verify(header, authority)?;
        let now = authority.now;
        let rules = authority.rules;
        if held.as_ref().is_some_and(|held| held.key.app != key.app) {
            return Err(match rules.map(|rules| rules.other_team_reason).unwrap_or_default() {
                OtherTeamReason::InvalidProviderToken => Reason::InvalidProviderToken,
                OtherTeamReason::Forbidden => Reason::Forbidden,
            });
        }
        if issued_at > now.saturating_add(SKEW_SECS) {
            return Err(Reason::InvalidProviderToken);
        }
        self.check_age(issued_at, now)?;
        if !key.signs_in(self.environment) {
            return Err(match rules.map(|rules| rules.environment_reason).unwrap_or_default() {
                EnvironmentReason::BadEnvironmentKeyInToken => Reason::BadEnvironmentKeyInToken,
                EnvironmentReason::BadEnvironmentKeyIdInToken => Reason::BadEnvironmentKeyIdInToken,
            });
        }
        if held.as_ref().is_some_and(|held| held.key.family != key.family) {
            return Err(Reason::UnrelatedKeyIdInToken);
        }
        let (since, bound_at) = match held.as_ref() {
            Some(held) if held.header == *header => (held.since, held.bound_at),
            Some(held) if now.saturating_sub(held.since) < TOKEN_SWITCH_SECS => {
                return Err(Reason::TooManyProviderTokenUpdates);
            }
            Some(held) => (now, held.bound_at),
            None => (now, keys_at),
        };
        *held = Some(Held { header: header.clone(), key, issued_at, since, keys_at, bound_at });
        Ok(())
    }

    fn check_age(&self, issued_at: i64, now: i64) -> Result<(), Reason> {
        if now.saturating_sub(issued_at) > TOKEN_LIFE_SECS {
            self.wedged.store(true, Ordering::Relaxed);
            return Err(Reason::ExpiredProviderToken);
        }
        Ok(())
    }
}

/// The key and the `iat` of a provider token with a good signature.
fn verify(header: &HeaderValue, authority: &Authority<'_>) -> Result<(Arc<Key>, i64), Reason> {
    #[derive(serde::Deserialize)]
    struct Claims {
        iss: String,
        iat: Value,
    }
    let refused = Reason::InvalidProviderToken;
    let strict = authority.strict;
    let (scheme, token) = header.to_str().ok().and_then(|header| header.split_once(' ')).ok_or(refused)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused);
    }
    let jwt = Jwt::parse(token, !strict).ok_or(refused)?;
    let key = jwt.header.kid.as_deref().and_then(|kid| authority.keys.key(kid)).ok_or(refused)?;
    let team_id = &authority.apps.list[key.app].keys.credentials.apns_team_id;
    let claims: Claims = jwt.claims().ok_or(refused)?;
    if key.revoked
        || jwt.header.alg != "ES256"
        || claims.iss != *team_id
        || !jwt.signed_by(&key.public, Algorithm::ES256, !strict)
    {
        return Err(refused);
    }
    let issued_at = issued_at(&claims.iat, strict).ok_or(refused)?;
    Ok((key, issued_at))
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
