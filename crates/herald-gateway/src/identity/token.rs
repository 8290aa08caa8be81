//! A bearer token taken apart: its header, its claims, and what was signed. Nothing in it is believed here.
//!
//! Stands where a request comes in, before the caller is known. Pure. A token's text never gets into an error.
//!
//! Sources: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (best practices), RFC 9068 (`at+jwt`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herald_core::time::Timestamp;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The longest token, in bytes: those with many groups in them have some 10 KiB, and a header of HTTP 16 KiB at most.
pub(crate) const MAX_TOKEN_BYTES: usize = 12 * 1024;
/// The longest key id: those of Microsoft and Google have 40 characters or fewer.
const MAX_KID_CHARS: usize = 256;

/// Why a token says nothing about its bearer. Each is a 401 but for [`TokenError::NoKeys`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It isn't a signed JWT.
    #[error("is not a signed JWT: {0}")]
    Malformed(&'static str),
    /// Signed by something else than RS256 or ES256, or not at all.
    #[error("is signed by an algorithm that is not taken; RS256 and ES256 are")]
    Algorithm,
    /// Its header asks for an extension that must be understood.
    #[error("has a critical header that is not understood here")]
    Critical,
    /// Nobody here trusts its issuer.
    #[error("is of an issuer that is not configured here")]
    Issuer,
    /// The issuer has no such key.
    #[error("is signed by a key that its issuer does not have")]
    UnknownKey,
    /// The signature isn't that of the key it names.
    #[error("has a signature that does not hold")]
    Signature,
    /// A claim is missing or of the wrong type.
    #[error("has no usable claim {0}")]
    Claim(&'static str),
    /// Its life is over.
    #[error("has expired")]
    Expired,
    /// Its life hasn't begun.
    #[error("is not valid yet")]
    NotYet,
    /// It was made for somebody else.
    #[error("is for another audience")]
    Audience,
    /// The issuer's keys have never been seen, so nothing can be said: a 503, since it is no fault of the caller's.
    #[error("can't be checked: the keys of its issuer could not be fetched yet")]
    NoKeys,
}

/// A token, taken apart.
pub(crate) struct Jwt<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    pub(crate) claims: Claims,
    /// Header and claims as they were signed.
    pub(crate) signed: &'a str,
    /// In base64, as [`jsonwebtoken::crypto::verify`] takes it.
    pub(crate) signature: &'a str,
}

/// What is read of a header. `jwk`, `jku`, `x5u` and `x5c` bring or name a key themselves: they are never looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], [`TokenError::Algorithm`], [`TokenError::Critical`].
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("it is too long"));
        }
        let three = TokenError::Malformed("it has no three parts");
        let (signed, signature) = token.rsplit_once('.').ok_or(three.clone())?;
        let (header, claims) = signed.split_once('.').ok_or(three.clone())?;
        if claims.contains('.') {
            return Err(three);
        }
        let header: Header = part(header).ok_or(TokenError::Malformed("its header can't be read"))?;
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            _ => return Err(TokenError::Algorithm),
        };
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        if header.typ.as_deref().is_some_and(|kind| !is_access_token(kind)) {
            return Err(TokenError::Malformed("its type is neither JWT nor at+jwt"));
        }
        if header.kid.as_ref().is_some_and(|kid| kid.chars().count() > MAX_KID_CHARS) {
            return Err(TokenError::Malformed("its key id is too long"));
        }
        if signature.is_empty() {
            return Err(TokenError::Malformed("its signature is missing"));
        }
        let claims = part(claims).ok_or(TokenError::Malformed("its claims can't be read"))?;
        Ok(Self { algorithm, kid: header.kid, claims: Claims(claims), signed, signature })
    }
}

/// `application/` may be left out (RFC 7515 §4.1.9), and letters may be of either case.
fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// What a token says. To be believed only once its signature held.
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// A claim that is text, if there is one that isn't empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A claim that is text, or a list of texts.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<&str>> {
        match self.0.get(name)? {
            Value::String(text) => Some(vec![text]),
            Value::Array(list) => list.iter().map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }

    /// A time in seconds since 1970, with or without a fraction.
    ///
    /// # Errors
    /// [`TokenError::Claim`] if it is anything else.
    pub(crate) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, TokenError> {
        /// Seconds in about 30,000 years: far from the end of what a timestamp holds.
        const MOST: f64 = 1e12;
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let secs = value.as_f64().filter(|secs| (0.0..MOST).contains(secs)).ok_or(TokenError::Claim(name))?;
        #[expect(clippy::cast_possible_truncation, reason = "within ±10¹² by the line above")]
        Ok(Some(Timestamp::from_millis((secs * 1e3) as i64)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2lnbmVk", part(header), part(claims))
    }

    fn parsed(header: &Value) -> Result<(Algorithm, Option<String>), TokenError> {
        Jwt::parse(&token(header, &json!({}))).map(|jwt| (jwt.algorithm, jwt.kid))
    }

    #[test]
    fn a_token_is_taken_apart() {
        let text = token(&json!({"alg": "ES256", "kid": "k", "typ": "at+jwt"}), &json!({"sub": "anna"}));
        let jwt = Jwt::parse(&text).unwrap();
        assert_eq!((jwt.algorithm, jwt.kid.as_deref()), (Algorithm::ES256, Some("k")));
        assert_eq!(jwt.claims.text("sub"), Some("anna"));
        assert_eq!((jwt.signature, format!("{}.c2lnbmVk", jwt.signed)), ("c2lnbmVk", text.clone()));
    }

    #[test]
    fn only_two_algorithms_are_taken_and_no_header_names_its_own_key() {
        assert_eq!(parsed(&json!({"alg": "RS256"})), Ok((Algorithm::RS256, None)));
        for alg in ["none", "None", "HS256", "RS1", "PS256", "ES384", "EdDSA", "rs256", ""] {
            assert_eq!(parsed(&json!({"alg": alg})), Err(TokenError::Algorithm), "{alg}");
        }
        assert_eq!(parsed(&json!({"alg": "RS256", "crit": ["b64"], "b64": false})), Err(TokenError::Critical));
        let own = json!({"alg": "RS256", "jwk": {"kty": "oct"}, "jku": "https://evil.example", "x5c": ["A"]});
        assert_eq!(parsed(&own), Ok((Algorithm::RS256, None)));
    }

    #[test]
    fn what_is_no_token_is_told_in_words_without_it() {
        let long = token(&json!({"alg": "RS256"}), &json!({"pad": "x".repeat(MAX_TOKEN_BYTES)}));
        for bad in ["", "secret", "a.b", "a.b.c.d", "e30.e30.e30", "!.!.!", "eyJhbGciOiJSUzI1NiJ9.e30.", long.as_str()]
        {
            let error = Jwt::parse(bad).map(|_| ()).unwrap_err();
            assert!(matches!(error, TokenError::Malformed(_)), "{bad}: {error}");
            assert!(!error.to_string().contains("secret"));
        }
        for header in [
            json!({"alg": "RS256", "typ": "JWE"}),
            json!({"alg": "RS256", "kid": 7}),
            json!({"alg": "RS256", "kid": "k".repeat(300)}),
            json!({"kid": "k"}),
            json!([]),
        ] {
            assert!(matches!(parsed(&header), Err(TokenError::Malformed(_))), "{header}");
        }
    }

    #[test]
    fn claims_are_read_by_type() {
        let text = token(
            &json!({"alg": "RS256"}),
            &json!({"one": "a", "many": ["a", "b"], "mixed": ["a", 1], "when": 12.5, "empty": "", "wrong": "12"}),
        );
        let claims = Jwt::parse(&text).unwrap().claims;
        assert_eq!(claims.texts("one"), Some(vec!["a"]));
        assert_eq!(claims.texts("many"), Some(vec!["a", "b"]));
        assert_eq!((claims.texts("mixed"), claims.text("empty"), claims.text("many")), (None, None, None));
        assert_eq!(claims.time("when"), Ok(Some(Timestamp::from_millis(12_500))));
        assert_eq!((claims.time("none"), claims.time("wrong")), (Ok(None), Err(TokenError::Claim("wrong"))));
    }
}
