//! An issuer's keys: a JWK set read leniently, and the one key that a token names.
//!
//! Stands between the issuer's answer and the check of a signature. Pure. A set holds what other services use too
//! (encryption, other algorithms, other curves): a key that can't be used here is skipped and never spoils the set.
//!
//! Source: RFC 7517 (JWK), RFC 7518 §3.3 (RSA of 2048 bits or more), §6.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::token::{Jwt, TokenError};

/// Keys of a set that are looked at: issuers have two to ten.
const MAX_KEYS: usize = 100;
/// The shortest RSA modulus, in characters of base64: 2048 bits (RFC 7518 §3.3).
const MIN_RSA_CHARS: usize = 342;

/// The keys of one issuer that can verify.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    /// Two keys may have one id, if they are of different kinds.
    by_kid: HashMap<(String, &'static str), DecodingKey>,
    /// Those without an id: used if there is just one of the kind.
    unnamed: Vec<(&'static str, DecodingKey)>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWK set. `None` if it isn't one; a set without a usable key is an empty one.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        let set: Set = serde_json::from_slice(json).ok()?;
        let mut keys = Self::default();
        for jwk in set.keys.into_iter().take(MAX_KEYS) {
            let Ok(jwk) = serde_json::from_value::<Jwk>(jwk) else { continue };
            keys.add(jwk);
        }
        Some(keys)
    }

    fn add(&mut self, jwk: Jwk) {
        let Some(algorithm) = usable_for(&jwk) else { return };
        let Ok(key) = DecodingKey::from_jwk(&jwk) else { return };
        match jwk.common.key_id {
            Some(kid) => drop(self.by_kid.entry((kid, word(algorithm))).or_insert(key)),
            None => self.unnamed.push((word(algorithm), key)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_kid.len() + self.unnamed.len()
    }

    /// The ids that its keys have.
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.by_kid.keys().map(|(kid, _)| kid.clone()).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Whether one of these keys signed the token.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`] if the set doesn't have the key that the token names, or names none and there are several;
    /// [`TokenError::Signature`].
    pub(crate) fn verify(&self, jwt: &Jwt<'_>) -> Result<(), TokenError> {
        let key = self.key(jwt).ok_or(TokenError::UnknownKey)?;
        let holds = jsonwebtoken::crypto::verify(jwt.signature, jwt.signed.as_bytes(), key, jwt.algorithm);
        if holds.unwrap_or(false) { Ok(()) } else { Err(TokenError::Signature) }
    }

    fn key(&self, jwt: &Jwt<'_>) -> Option<&DecodingKey> {
        let kind = word(jwt.algorithm);
        if let Some(kid) = &jwt.kid {
            return self.by_kid.get(&(kid.clone(), kind));
        }
        let named = self.by_kid.iter().filter(|((_, of), _)| *of == kind).map(|(_, key)| key);
        let mut fitting = named.chain(self.unnamed.iter().filter(|(of, _)| *of == kind).map(|(_, key)| key));
        let only = fitting.next()?;
        fitting.next().is_none().then_some(only)
    }
}

const fn word(algorithm: Algorithm) -> &'static str {
    if matches!(algorithm, Algorithm::ES256) { "ES256" } else { "RS256" }
}

/// The one algorithm that the key may be used with here. A key fits one only, so that none is used in another's place.
fn usable_for(jwk: &Jwk) -> Option<Algorithm> {
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) if rsa.n.len() >= MIN_RSA_CHARS => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let says = common.key_algorithm.is_none_or(|says| says == KeyAlgorithm::from(algorithm));
    (signs && verifies && says).then_some(algorithm)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
    use serde_json::json;

    use super::*;

    fn pair() -> (EncodingKey, Value) {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        (key, serde_json::to_value(jwk).unwrap())
    }

    fn with(jwk: &Value, field: &str, value: Value) -> Value {
        let mut jwk = jwk.clone();
        jwk[field] = value;
        jwk
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn verify(keys: &KeySet, key: &EncodingKey, kid: Option<&str>) -> Result<(), TokenError> {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, &json!({"sub": "anna"}), key).unwrap();
        keys.verify(&Jwt::parse(&token).unwrap())
    }

    #[test]
    fn a_token_is_verified_by_the_key_it_names() {
        let ((a, jwk_a), (b, jwk_b)) = (pair(), pair());
        let keys = set(&[with(&jwk_a, "kid", json!("a")), with(&jwk_b, "kid", json!("b"))]);
        assert_eq!(verify(&keys, &a, Some("a")), Ok(()));
        assert_eq!(verify(&keys, &a, Some("b")), Err(TokenError::Signature));
        assert_eq!(verify(&keys, &b, Some("c")), Err(TokenError::UnknownKey));
        assert_eq!(verify(&keys, &a, None), Err(TokenError::UnknownKey), "it could be either");
        assert_eq!(verify(&set(std::slice::from_ref(&jwk_a)), &a, None), Ok(()));
        assert_eq!(verify(&set(&[with(&jwk_a, "kid", json!("a"))]), &a, None), Ok(()));
    }

    #[test]
    fn keys_that_cannot_be_used_here_are_skipped_and_spoil_nothing() {
        let (key, jwk) = pair();
        let named = with(&jwk, "kid", json!("k"));
        let short = json!({"kty": "RSA", "kid": "short", "n": "AQAB", "e": "AQAB"});
        let others = [
            json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": "AQ"}),
            json!({"kty": "unheard-of", "kid": "k"}),
            json!(7),
            short,
            with(&named, "use", json!("enc")),
            with(&named, "alg", json!("ES384")),
            with(&named, "key_ops", json!(["encrypt"])),
        ];
        assert_eq!(set(&others).len(), 0);
        let mut all = others.to_vec();
        all.push(with(&named, "use", json!("sig")));
        assert_eq!(verify(&set(&all), &key, Some("k")), Ok(()));
        assert!(KeySet::parse(b"<html>").is_none() && KeySet::parse(br#"{"keys": {}}"#).is_none());
    }

    #[test]
    fn a_key_of_one_kind_verifies_nothing_of_the_other() {
        let (_, jwk) = pair();
        let keys = set(&[with(&jwk, "kid", json!("k"))]);
        let header = r#"{"alg":"RS256","kid":"k"}"#;
        let part = |text: &str| {
            use base64::Engine as _;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
        };
        let token = format!("{}.{}.AAAA", part(header), part("{}"));
        assert_eq!(keys.verify(&Jwt::parse(&token).unwrap()), Err(TokenError::UnknownKey));
    }
}
