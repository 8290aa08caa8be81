//! The provider token's life: minted when first needed, shared by all pushes, replaced in time, and never too often.
//!
//! Stands beside the pool: every request carries the token that is current when it is written. Apple's rules: a token
//! older than 60 minutes is refused (`ExpiredProviderToken`), and one replaced sooner than 20 minutes after the last
//! on the same connection is refused too (`TooManyProviderTokenUpdates`) ("Establishing a token-based connection to
//! APNs"). Never mints because a clock ticked.
//!
//! A token's age is measured by a clock that nobody sets; what APNs reads in it, `iat`, comes from the store's clock. Where
//! the two have parted since it was minted, the store's clock was set, and nobody but APNs can say which of its readings
//! was right:
//!
//! | age | `iat` by the store's clock | the token is |
//! | --- | --- | --- |
//! | 45 to 50 minutes | whatever | replaced |
//! | 20 minutes or more | as old as that, or in the future | replaced |
//! | 20 minutes or more | younger | kept; replaced if APNs says `ExpiredProviderToken` |
//! | less than 20 minutes | agrees with the age | kept, whatever APNs says: the cause is a key, or a clock that is still wrong |
//! | less than 20 minutes | does not | kept; replaced if APNs refuses it, and all connections with it, so that none sees two tokens |

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herald_core::time::Timestamp;
use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::backoff;
use crate::config::{Clock, ConfigError, Monotonic};

/// A token is replaced at an age between these two; the point differs per token, so that replicas do not switch together.
const OLDEST_AT_LEAST: Duration = Duration::from_secs(45 * 60);
/// See [`OLDEST_AT_LEAST`].
const OLDEST_AT_MOST: Duration = Duration::from_secs(50 * 60);
/// A token younger than this is not replaced on connections that have seen it.
const YOUNGEST: Duration = Duration::from_secs(20 * 60);
/// Clocks that part by less were not set.
const PARTED: Duration = Duration::from_secs(60);

/// One minted token.
pub(crate) struct Token {
    /// `bearer <jwt>`, marked sensitive: `Debug` hides it, and HPACK never indexes it.
    pub(crate) bearer: HeaderValue,
    /// `iat`.
    minted: Timestamp,
    /// The same moment by the clock that nobody sets.
    since: Duration,
    lives: Duration,
}

/// The store's clock and the one that nobody sets.
#[derive(Clone, Copy)]
struct Moment {
    now: Timestamp,
    monotonic: Duration,
}

impl Token {
    fn age(&self, moment: Moment) -> Duration {
        moment.monotonic.saturating_sub(self.since)
    }

    /// The store's clock was set since this was minted.
    fn is_mistimed(&self, moment: Moment) -> bool {
        let should_be = self.minted.plus(self.age(moment));
        should_be.since(moment.now).max(moment.now.since(should_be)) > PARTED
    }

    fn wants_replacement(&self, moment: Moment) -> bool {
        let age = self.age(moment);
        let looks_old = moment.now.since(self.minted) >= self.lives;
        let is_ahead = self.minted.since(moment.now) > PARTED;
        age >= self.lives || (age >= YOUNGEST && (looks_old || is_ahead))
    }
}

/// What to send instead of a token that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instead {
    /// Nothing: the answer stands.
    None,
    /// The token that is current now.
    Other,
    /// The same, but not on a connection that was open until now: the refused one was too young to be followed by another.
    Early,
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
    monotonic: Monotonic,
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
    pub(crate) fn new(
        team_id: &str,
        key_id: &str,
        key_pem: &str,
        now: Clock,
        monotonic: Monotonic,
    ) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError::Key { key_id: key_id.to_owned(), problem };
        let key = EncodingKey::from_ec_pem(key_pem.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        let (team_id, key_id) = (team_id.to_owned(), key_id.to_owned());
        let tokens = Self { team_id, key_id, key, now, monotonic, current: Mutex::new(None) };
        tokens.mint(tokens.moment()).map_err(|e| wrong(e.to_string()))?;
        Ok(tokens)
    }

    /// The token to send now. Minted if there is none, or if the one there is has had its time.
    pub(crate) fn current(&self) -> Result<Arc<Token>, jsonwebtoken::errors::Error> {
        let mut current = self.lock();
        let moment = self.moment();
        match &*current {
            Some(token) if !token.wants_replacement(moment) => Ok(Arc::clone(token)),
            _ => self.replace(&mut current, moment),
        }
    }

    /// After `ExpiredProviderToken`.
    pub(crate) fn instead_of(&self, used: &Arc<Token>) -> Instead {
        self.instead(used, |moment| used.age(moment) >= YOUNGEST || used.is_mistimed(moment))
    }

    /// After `InvalidProviderToken`.
    pub(crate) fn instead_of_mistimed(&self, used: &Arc<Token>) -> Instead {
        self.instead(used, |moment| used.is_mistimed(moment))
    }

    /// Another than the refused `used`: one that somebody minted meanwhile, or a new one if it `may` be replaced.
    fn instead(&self, used: &Arc<Token>, may: impl FnOnce(Moment) -> bool) -> Instead {
        let mut current = self.lock();
        let moment = self.moment();
        if current.as_ref().is_some_and(|token| !Arc::ptr_eq(token, used)) {
            return Instead::Other;
        }
        if !may(moment) || self.replace(&mut current, moment).is_err() {
            return Instead::None;
        }
        if used.age(moment) < YOUNGEST { Instead::Early } else { Instead::Other }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Token>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self) -> Moment {
        Moment { now: (self.now)(), monotonic: (self.monotonic)() }
    }

    fn replace(
        &self,
        current: &mut Option<Arc<Token>>,
        moment: Moment,
    ) -> Result<Arc<Token>, jsonwebtoken::errors::Error> {
        let token = Arc::new(self.mint(moment)?);
        tracing::debug!(key.id = %self.key_id, "minted an APNs provider token");
        *current = Some(Arc::clone(&token));
        Ok(token)
    }

    fn mint(&self, moment: Moment) -> Result<Token, jsonwebtoken::errors::Error> {
        // Exactly `alg` and `kid`: Apple's page lists no `typ`.
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        let claims = Claims { iss: &self.team_id, iat: moment.now.secs() };
        let jwt = jsonwebtoken::encode(&header, &claims, &self.key)?;
        let mut bearer = HeaderValue::try_from(format!("bearer {jwt}")).expect("base64url and dots are header text");
        bearer.set_sensitive(true);
        let spread = (OLDEST_AT_MOST - OLDEST_AT_LEAST).as_secs();
        let lives = OLDEST_AT_LEAST + Duration::from_secs(backoff::random() % spread);
        Ok(Token { bearer, minted: moment.now, since: moment.monotonic, lives })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const MINUTE: i64 = 60;

    /// A store's clock that can be set, and one that can't.
    #[derive(Default)]
    struct Clocks {
        store: AtomicI64,
        monotonic: AtomicI64,
    }

    impl Clocks {
        fn pass(&self, seconds: i64) {
            self.monotonic.fetch_add(seconds, Ordering::SeqCst);
            self.set(seconds);
        }

        fn set(&self, by: i64) {
            self.store.fetch_add(by, Ordering::SeqCst);
        }
    }

    fn tokens_of(key_pem: &str) -> Result<(Arc<Clocks>, Tokens), ConfigError> {
        let clocks = Arc::new(Clocks::default());
        clocks.set(1_800_000_000);
        let (store, other) = (Arc::clone(&clocks), Arc::clone(&clocks));
        let now = move || Timestamp::from_secs(store.store.load(Ordering::SeqCst));
        let monotonic = move || Duration::from_secs(other.monotonic.load(Ordering::SeqCst).cast_unsigned());
        let tokens = Tokens::new("TEAM123456", "KEY1234567", key_pem, Arc::new(now), Arc::new(monotonic))?;
        Ok((clocks, tokens))
    }

    fn tokens() -> (Arc<Clocks>, Tokens) {
        tokens_of(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
    }

    /// Whether the token is still the current one.
    fn kept(tokens: &Tokens, token: &Arc<Token>) -> bool {
        Arc::ptr_eq(token, &tokens.current().unwrap())
    }

    #[test]
    fn the_token_has_alg_and_kid_iss_and_iat_and_nothing_else() {
        let token = tokens().1.current().unwrap();
        let jwt = token.bearer.to_str().unwrap().strip_prefix("bearer ").unwrap().to_owned();
        let parts: Vec<Vec<u8>> = jwt.split('.').map(|p| URL_SAFE_NO_PAD.decode(p).unwrap()).collect();
        let json = |n: usize| serde_json::from_slice::<serde_json::Value>(&parts[n]).unwrap();
        assert_eq!(json(0), serde_json::json!({"alg": "ES256", "kid": "KEY1234567"}));
        assert_eq!(json(1), serde_json::json!({"iss": "TEAM123456", "iat": 1_800_000_000}));
        assert_eq!(parts[2].len(), 64, "r and s, not DER");
    }

    #[test]
    fn a_token_is_kept_for_45_minutes_and_replaced_before_50() {
        let (clocks, tokens) = tokens();
        let first = tokens.current().unwrap();
        clocks.pass(45 * MINUTE - 1);
        assert!(kept(&tokens, &first));
        clocks.pass(5 * MINUTE + 1);
        let second = tokens.current().unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(kept(&tokens, &second));
    }

    #[test]
    fn a_clock_that_is_set_mints_nothing_while_the_token_is_young() {
        for by in [-3 * MINUTE, -60 * MINUTE, 60 * MINUTE, 24 * 60 * MINUTE] {
            let (clocks, tokens) = tokens();
            let first = tokens.current().unwrap();
            clocks.set(by);
            assert!(kept(&tokens, &first), "{by}");
            clocks.pass(20 * MINUTE - 1);
            assert!(kept(&tokens, &first), "{by}");
        }
    }

    #[test]
    fn a_token_of_a_clock_that_was_set_is_replaced_when_it_is_20_minutes_old() {
        for by in [-60 * MINUTE, 60 * MINUTE] {
            let (clocks, tokens) = tokens();
            let first = tokens.current().unwrap();
            clocks.set(by);
            clocks.pass(20 * MINUTE);
            let second = tokens.current().unwrap();
            assert!(!Arc::ptr_eq(&first, &second), "{by}");
            clocks.pass(44 * MINUTE);
            assert!(kept(&tokens, &second), "{by}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_a_little_does_not_lengthen_a_tokens_life() {
        let (clocks, tokens) = tokens();
        let first = tokens.current().unwrap();
        clocks.pass(40 * MINUTE);
        clocks.set(-30 * MINUTE);
        assert!(kept(&tokens, &first));
        clocks.pass(10 * MINUTE);
        assert!(!kept(&tokens, &first));
    }

    #[test]
    fn an_expired_token_is_replaced_once_and_only_if_it_is_20_minutes_old() {
        let (clocks, tokens) = tokens();
        let first = tokens.current().unwrap();
        clocks.pass(20 * MINUTE - 1);
        assert_eq!(tokens.instead_of(&first), Instead::None);
        clocks.pass(1);
        assert_eq!(tokens.instead_of(&first), Instead::Other);
        let second = tokens.current().unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(tokens.instead_of(&first), Instead::Other);
        assert!(kept(&tokens, &second), "the second one asking takes what the first minted");
    }

    #[test]
    fn a_refused_token_of_a_clock_that_was_set_is_replaced_early_and_once() {
        let refusals: [fn(&Tokens, &Arc<Token>) -> Instead; 2] = [Tokens::instead_of, Tokens::instead_of_mistimed];
        for (by, refused) in [-60 * MINUTE, 60 * MINUTE].into_iter().zip(refusals) {
            let (clocks, tokens) = tokens();
            let first = tokens.current().unwrap();
            clocks.pass(MINUTE);
            assert_eq!(refused(&tokens, &first), Instead::None);
            clocks.set(by);
            assert_eq!(refused(&tokens, &first), Instead::Early);
            let second = tokens.current().unwrap();
            assert_eq!(refused(&tokens, &second), Instead::None, "the clock is as it was when this was minted");
            assert_eq!(refused(&tokens, &first), Instead::Other);
            assert!(kept(&tokens, &second));
        }
    }

    #[test]
    fn an_invalid_token_is_not_replaced_for_its_age() {
        let (clocks, tokens) = tokens();
        let first = tokens.current().unwrap();
        clocks.pass(30 * MINUTE);
        assert_eq!(tokens.instead_of_mistimed(&first), Instead::None);
    }

    #[test]
    fn a_wrong_key_is_found_at_start_and_never_printed() {
        let rsa = "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n";
        for pem in ["", "not a key", rsa] {
            let error = tokens_of(pem).map(drop).unwrap_err().to_string();
            assert!(error.contains("KEY1234567") && error.contains(".p8"), "{error}");
            assert!(!error.contains("c2VjcmV0"), "{error}");
        }
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        assert!(tokens_of(&p384).is_err());
    }

    #[test]
    fn debug_hides_the_token() {
        let (_, tokens) = tokens();
        let token = tokens.current().unwrap();
        let jwt = token.bearer.to_str().unwrap().strip_prefix("bearer ").unwrap().to_owned();
        assert!(!format!("{token:?} {:?} {tokens:?}", token.bearer).contains(&jwt));
    }
}
