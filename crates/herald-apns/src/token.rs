//! The provider token's life: minted when first needed, shared by all pushes, replaced in time, and never too often.
//!
//! Stands beside the pool: every request carries the token that is current when it is written. Apple's rules: a token
//! older than 60 minutes is refused (`ExpiredProviderToken`), and one replaced sooner than 20 minutes after the last
//! on the same connection is refused too (`TooManyProviderTokenUpdates`) ("Establishing a token-based connection to
//! APNs"). So the age decides, on the store's clock, and nothing else does. Never mints because a clock ticked.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herald_core::time::Timestamp;
use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::backoff;
use crate::config::{Clock, ConfigError};

/// A token is replaced at an age between these two; the point differs per token, so that replicas do not switch together.
const OLDEST_AT_LEAST: Duration = Duration::from_secs(45 * 60);
/// See [`OLDEST_AT_LEAST`].
const OLDEST_AT_MOST: Duration = Duration::from_secs(50 * 60);
/// A token younger than this is never replaced, not even after a 403: the cause is then a clock or a key, not age.
const YOUNGEST: Duration = Duration::from_secs(20 * 60);

/// One minted token.
pub(crate) struct Token {
    /// `bearer <jwt>`, marked sensitive: `Debug` hides it, and HPACK never indexes it.
    pub(crate) bearer: HeaderValue,
    minted: Timestamp,
    lives: Duration,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("minted", &self.minted).finish_non_exhaustive()
    }
}

/// The claims, in full: `iss` and `iat`, nothing else.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
}

/// Mints and keeps the token of one (team, key, environment).
pub(crate) struct Tokens {
    team_id: String,
    key_id: String,
    key: EncodingKey,
    now: Clock,
    /// Minting takes a fraction of a millisecond and happens under this lock: however many ask, one mints.
    current: Mutex<Option<Arc<Token>>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("team_id", &self.team_id).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the key and signs once to prove it, so that a wrong key is found at start and not at the first push.
    pub(crate) fn new(team_id: &str, key_id: &str, key_pem: &str, now: Clock) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError::Key { key_id: key_id.to_owned(), problem };
        let key = EncodingKey::from_ec_pem(key_pem.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        let tokens =
            Self { team_id: team_id.to_owned(), key_id: key_id.to_owned(), key, now, current: Mutex::new(None) };
        tokens.mint(Timestamp::from_secs(0)).map_err(|e| wrong(e.to_string()))?;
        Ok(tokens)
    }

    /// The token to send now. Minted if there is none, or if the one there is has reached its age.
    pub(crate) fn current(&self) -> Result<Arc<Token>, jsonwebtoken::errors::Error> {
        let now = (self.now)();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(token) if now.since(token.minted) < token.lives => Ok(Arc::clone(token)),
            _ => self.replace(&mut current, now),
        }
    }

    /// A token other than the refused `used`: one that somebody minted meanwhile, or a new one if `used` is old enough.
    /// None if it is too young to be replaced.
    pub(crate) fn instead_of(&self, used: &Arc<Token>) -> Option<Arc<Token>> {
        let now = (self.now)();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(token) if !Arc::ptr_eq(token, used) => Some(Arc::clone(token)),
            _ if now.since(used.minted) < YOUNGEST => None,
            _ => self.replace(&mut current, now).ok(),
        }
    }

    fn replace(
        &self,
        current: &mut Option<Arc<Token>>,
        now: Timestamp,
    ) -> Result<Arc<Token>, jsonwebtoken::errors::Error> {
        let token = Arc::new(self.mint(now)?);
        tracing::debug!(key.id = %self.key_id, "minted an APNs provider token");
        *current = Some(Arc::clone(&token));
        Ok(token)
    }

    fn mint(&self, now: Timestamp) -> Result<Token, jsonwebtoken::errors::Error> {
        // Exactly `alg` and `kid`: Apple's page lists no `typ`.
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        let claims = Claims { iss: &self.team_id, iat: now.secs() };
        let jwt = jsonwebtoken::encode(&header, &claims, &self.key)?;
        let mut bearer = HeaderValue::try_from(format!("bearer {jwt}")).expect("base64url and dots are header text");
        bearer.set_sensitive(true);
        let spread = (OLDEST_AT_MOST - OLDEST_AT_LEAST).as_secs();
        let lives = OLDEST_AT_LEAST + Duration::from_secs(backoff::random() % spread);
        Ok(Token { bearer, minted: now, lives })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const MINUTE: i64 = 60;

    fn clock() -> (Arc<AtomicI64>, Clock) {
        let seconds = Arc::new(AtomicI64::new(1_800_000_000));
        let shared = Arc::clone(&seconds);
        (seconds, Arc::new(move || Timestamp::from_secs(shared.load(Ordering::SeqCst))))
    }

    fn tokens(now: Clock) -> Tokens {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        Tokens::new("TEAM123456", "KEY1234567", &key, now).unwrap()
    }

    #[test]
    fn the_token_has_alg_and_kid_iss_and_iat_and_nothing_else() {
        let (_, now) = clock();
        let token = tokens(now).current().unwrap();
        let jwt = token.bearer.to_str().unwrap().strip_prefix("bearer ").unwrap().to_owned();
        let parts: Vec<Vec<u8>> = jwt.split('.').map(|p| URL_SAFE_NO_PAD.decode(p).unwrap()).collect();
        let json = |n: usize| serde_json::from_slice::<serde_json::Value>(&parts[n]).unwrap();
        assert_eq!(json(0), serde_json::json!({"alg": "ES256", "kid": "KEY1234567"}));
        assert_eq!(json(1), serde_json::json!({"iss": "TEAM123456", "iat": 1_800_000_000}));
        assert_eq!(parts[2].len(), 64, "r and s, not DER");
    }

    #[test]
    fn a_token_is_kept_for_45_minutes_and_replaced_before_50() {
        let (seconds, now) = clock();
        let tokens = tokens(now);
        let first = tokens.current().unwrap();
        seconds.fetch_add(45 * MINUTE - 1, Ordering::SeqCst);
        assert!(Arc::ptr_eq(&first, &tokens.current().unwrap()));
        seconds.fetch_add(5 * MINUTE + 1, Ordering::SeqCst);
        let second = tokens.current().unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &tokens.current().unwrap()));
    }

    #[test]
    fn a_clock_that_goes_back_mints_nothing() {
        let (seconds, now) = clock();
        let tokens = tokens(now);
        let first = tokens.current().unwrap();
        seconds.fetch_sub(3 * MINUTE, Ordering::SeqCst);
        assert!(Arc::ptr_eq(&first, &tokens.current().unwrap()));
    }

    #[test]
    fn a_refused_token_is_replaced_once_and_only_if_it_is_20_minutes_old() {
        let (seconds, now) = clock();
        let tokens = tokens(now);
        let first = tokens.current().unwrap();
        seconds.fetch_add(20 * MINUTE - 1, Ordering::SeqCst);
        assert!(tokens.instead_of(&first).is_none());
        seconds.fetch_add(1, Ordering::SeqCst);
        let second = tokens.instead_of(&first).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(
            Arc::ptr_eq(&second, &tokens.instead_of(&first).unwrap()),
            "the second one asking takes what the first minted"
        );
    }

    #[test]
    fn a_wrong_key_is_found_at_start_and_never_printed() {
        let (_, now) = clock();
        let rsa = "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n";
        for pem in ["", "not a key", rsa] {
            let error = Tokens::new("TEAM123456", "KEY1234567", pem, Arc::clone(&now)).unwrap_err().to_string();
            assert!(error.contains("KEY1234567") && error.contains(".p8"), "{error}");
            assert!(!error.contains("c2VjcmV0"), "{error}");
        }
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        assert!(Tokens::new("TEAM123456", "KEY1234567", &p384, now).is_err());
    }

    #[test]
    fn debug_hides_the_token() {
        let (_, now) = clock();
        let tokens = tokens(now);
        let token = tokens.current().unwrap();
        let jwt = token.bearer.to_str().unwrap().strip_prefix("bearer ").unwrap().to_owned();
        assert!(!format!("{token:?} {:?} {tokens:?}", token.bearer).contains(&jwt));
    }
}
