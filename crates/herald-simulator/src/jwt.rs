//! JSON Web Tokens, taken apart and checked: RFC 7515 to the letter, or as lenient as known clients need.
//!
//! Used for Apple's provider tokens (ES256) and Google's assertions (RS256). Decides nothing about claims.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The header's fields that matter here.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
}

/// A token in parts, signature not yet checked.
pub(crate) struct Jwt<'a> {
    pub(crate) header: Header,
    claims: Vec<u8>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Takes a compact serialization apart. `lenient` also takes standard base64 with padding, which the `a2` and
    /// `apns-h2` libraries send.
    pub(crate) fn parse(token: &'a str, lenient: bool) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header = serde_json::from_slice(&decode(header, lenient)?).ok()?;
        Some(Self { header, claims: decode(claims, lenient)?, signed, signature: decode(signature, lenient)? })
    }

    /// The claims, if they have this shape.
    pub(crate) fn claims<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.claims).ok()
    }

    /// Whether `key` signed this token. `lenient` also takes ECDSA signatures in DER, which pushy and `a2` send.
    pub(crate) fn signed_by(&self, key: &DecodingKey, algorithm: Algorithm, lenient: bool) -> bool {
        let fixed = if lenient && algorithm == Algorithm::ES256 && self.signature.len() != 64 {
            ecdsa_from_der(&self.signature)
        } else {
            None
        };
        let signature = URL_SAFE_NO_PAD.encode(fixed.as_deref().unwrap_or(&self.signature));
        jsonwebtoken::crypto::verify(&signature, self.signed.as_bytes(), key, algorithm).unwrap_or(false)
    }
}

fn decode(part: &str, lenient: bool) -> Option<Vec<u8>> {
    let strict = URL_SAFE_NO_PAD.decode(part).ok();
    if lenient { strict.or_else(|| STANDARD.decode(part).ok()) } else { strict }
}

/// `SEQUENCE { INTEGER r, INTEGER s }` of P-256 as the 64 bytes r||s of RFC 7518 §3.4.
fn ecdsa_from_der(der: &[u8]) -> Option<Vec<u8>> {
    let (&[0x30, length], rest) = der.split_first_chunk::<2>()? else { return None };
    if usize::from(length) != rest.len() {
        return None;
    }
    let (r, rest) = der_integer(rest)?;
    let (s, rest) = der_integer(rest)?;
    rest.is_empty().then(|| [r, s].concat())
}

fn der_integer(der: &[u8]) -> Option<([u8; 32], &[u8])> {
    let (&[0x02, length], rest) = der.split_first_chunk::<2>()? else { return None };
    let (digits, rest) = rest.split_at_checked(usize::from(length))?;
    let digits = &digits[digits.iter().take_while(|&&digit| digit == 0).count()..];
    let mut number = [0; 32];
    number.get_mut(32_usize.checked_sub(digits.len())?..)?.copy_from_slice(digits);
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::EncodingKey;
    use rcgen::KeyPair;

    fn token() -> (String, DecodingKey) {
        let pair = KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let header = jsonwebtoken::Header { kid: Some("K".to_owned()), ..jsonwebtoken::Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, &serde_json::json!({"iss": "T"}), &key).unwrap();
        (token, DecodingKey::from_ec_der(pair.public_key_raw()))
    }

    fn der(signature: &[u8]) -> Vec<u8> {
        let integer = |half: &[u8]| {
            let digits = &half[half.iter().take_while(|&&digit| digit == 0).count()..];
            let sign: &[u8] = if digits[0] >= 0x80 { &[0] } else { &[] };
            [&[0x02, u8::try_from(digits.len() + sign.len()).unwrap()], sign, digits].concat()
        };
        let body = [integer(&signature[..32]), integer(&signature[32..])].concat();
        [&[0x30, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
    }

    #[test]
    fn a_signature_holds_only_for_its_key_and_its_text() {
        let (token, key) = token();
        let jwt = Jwt::parse(&token, false).unwrap();
        assert!(jwt.signed_by(&key, Algorithm::ES256, false));
        assert_eq!(jwt.header.kid.as_deref(), Some("K"));
        let (_, other) = super::tests::token();
        assert!(!jwt.signed_by(&other, Algorithm::ES256, false));
    }

    #[test]
    fn der_signatures_and_padded_base64_need_leniency() {
        let (token, key) = token();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let padded = format!("{signed}.{}", STANDARD.encode(der(&URL_SAFE_NO_PAD.decode(signature).unwrap())));
        assert!(Jwt::parse(&padded, true).unwrap().signed_by(&key, Algorithm::ES256, true));
        let url_safe = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(der(&URL_SAFE_NO_PAD.decode(signature).unwrap())));
        assert!(!Jwt::parse(&url_safe, false).unwrap().signed_by(&key, Algorithm::ES256, false));
    }

    #[test]
    fn what_is_no_token_is_not_taken_apart() {
        for bad in ["", "a", "a.b", "a.b.c", "e30.e30.", "!.!.!"] {
            assert!(Jwt::parse(bad, true).is_none(), "{bad}");
        }
    }
}
