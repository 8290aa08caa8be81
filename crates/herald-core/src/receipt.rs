//! The receipt capability: a short signed token that a push carries and that can do nothing but acknowledge its delivery.
//!
//! Stands beside the way of a notification: [`crate::push`] puts one into every push, and the gateway verifies it when a
//! background handler or a notification service extension acknowledges without the user's credentials (rule 9 of the
//! fallback). It names no user and no app, opens nothing else, and a leaked one can at worst acknowledge one delivery.
//!
//! ```text
//! base64url without padding of:
//!   1 byte    version, 1
//!   1 byte    length of the key id, 1 to 16
//!   n bytes   key id, [A-Za-z0-9_-]
//!   16 bytes  delivery id
//!   4 bytes   expiry, seconds since the Unix epoch, big endian
//!   16 bytes  HMAC-SHA-256 of the domain and all before, its left half
//! ```
//! That is 72 characters at most. Truncation to half the hash is what RFC 2104 §5 allows at least.
//!
//! The key is looked up by the id inside, so keys rotate: sign with the newest, keep the older ones to verify until the
//! last capability signed with them has expired.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use crate::ids::DeliveryId;
use crate::time::Timestamp;

/// The longest key id, in characters.
pub const MAX_KEY_ID_LEN: usize = 16;
/// The shortest signing key that a configuration should accept, in bytes: the hash's own length (RFC 2104 §3).
pub const MIN_KEY_BYTES: usize = 32;
/// The longest capability, in characters.
pub const MAX_LEN: usize = (2 + MAX_KEY_ID_LEN + 16 + 4 + TAG_BYTES).div_ceil(3) * 4;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
/// Keeps a capability from being mistaken for anything else that the same key might ever sign.
const DOMAIN: &[u8] = b"herald.receipt.v1\0";

/// Why a capability is refused. Says nothing about the delivery: whether it exists is the store's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// It is not a capability of a version that is known here.
    #[error("not a receipt capability")]
    Malformed,
    /// It names a key that is not (or no longer) configured.
    #[error("signed with a key that is not configured")]
    UnknownKey,
    /// It was not signed with that key, or was changed since.
    #[error("the signature does not match")]
    Forged,
    /// It was right once.
    #[error("expired")]
    Expired,
}

/// May this text be a key id? 1 to 16 of `A-Z a-z 0-9 - _`.
pub fn is_key_id(text: &str) -> bool {
    (1..=MAX_KEY_ID_LEN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Makes the capability to acknowledge `delivery` until `expires` (rounded up to a whole second, at most the year 2106).
///
/// `key_id` must satisfy [`is_key_id`], which the configuration checks; what is too long is cut, so that such a
/// capability is refused by [`verify`] instead of stopping a push.
pub fn sign(key_id: &str, key: &[u8], delivery: DeliveryId, expires: Timestamp) -> String {
    debug_assert!(is_key_id(key_id), "the configuration checks key ids");
    let key_id = &key_id.as_bytes()[..key_id.len().min(MAX_KEY_ID_LEN)];
    let mut bytes = Vec::with_capacity(2 + key_id.len() + 16 + 4 + TAG_BYTES);
    bytes.push(VERSION);
    bytes.push(u8::try_from(key_id.len()).unwrap_or(0));
    bytes.extend_from_slice(key_id);
    bytes.extend_from_slice(delivery.0.as_bytes());
    bytes.extend_from_slice(&expiry_secs(expires).to_be_bytes());
    let tag = mac(key, &bytes).finalize().into_bytes();
    bytes.extend_from_slice(&tag[..TAG_BYTES]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Which delivery this capability acknowledges. `key` finds a configured key by its id.
///
/// # Errors
/// [`CapabilityError`]; whether it has expired is told only of one that is genuine.
pub fn verify<'k>(
    key: impl FnOnce(&str) -> Option<&'k [u8]>,
    capability: &str,
    now: Timestamp,
) -> Result<DeliveryId, CapabilityError> {
    if capability.len() > MAX_LEN {
        return Err(CapabilityError::Malformed);
    }
    // Strict: no padding, no stray bits, so that one delivery has exactly one genuine spelling per key and expiry.
    let bytes = URL_SAFE_NO_PAD.decode(capability).map_err(|_| CapabilityError::Malformed)?;
    let parts = Parts::read(&bytes).ok_or(CapabilityError::Malformed)?;
    let key = key(parts.key_id).ok_or(CapabilityError::UnknownKey)?;
    // Compares in constant time.
    mac(key, parts.signed).verify_truncated_left(parts.tag).map_err(|_| CapabilityError::Forged)?;
    if now.secs() >= i64::from(parts.expires) {
        return Err(CapabilityError::Expired);
    }
    Ok(parts.delivery)
}

/// A capability taken apart; nothing in it is to be believed before `tag` is verified.
struct Parts<'a> {
    key_id: &'a str,
    delivery: DeliveryId,
    expires: u32,
    signed: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&[version, key_id_len], rest) = bytes.split_first_chunk::<2>()?;
        let (key_id, rest) = rest.split_at_checked(usize::from(key_id_len))?;
        let (&delivery, rest) = rest.split_first_chunk::<16>()?;
        let (&expires, tag) = rest.split_first_chunk::<4>()?;
        let key_id = std::str::from_utf8(key_id).ok().filter(|id| is_key_id(id))?;
        (version == VERSION && tag.len() == TAG_BYTES).then(|| Self {
            key_id,
            delivery: DeliveryId(Uuid::from_bytes(delivery)),
            expires: u32::from_be_bytes(expires),
            signed: &bytes[..bytes.len() - TAG_BYTES],
            tag,
        })
    }
}

fn mac(key: &[u8], signed: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(DOMAIN);
    mac.update(signed);
    mac
}

fn expiry_secs(expires: Timestamp) -> u32 {
    let up = expires.micros().div_euclid(1_000_000) + i64::from(expires.micros().rem_euclid(1_000_000) != 0);
    u32::try_from(up.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const EXPIRES: Timestamp = Timestamp::from_secs(1_800_000_000);
    const BEFORE: Timestamp = Timestamp::from_secs(1_799_999_999);

    fn delivery() -> DeliveryId {
        DeliveryId(Uuid::from_u128(0x0192_aaaa_bbbb_7ccc_8ddd_eeee_ffff_0001))
    }

    fn known(id: &str) -> Option<&'static [u8]> {
        (id == "k1").then_some(KEY)
    }

    #[test]
    fn a_capability_acknowledges_its_delivery_and_is_short_and_url_safe() {
        let capability = sign("k1", KEY, delivery(), EXPIRES);
        assert_eq!(verify(known, &capability, BEFORE), Ok(delivery()));
        let longest = sign("ABCDEFGHIJKLM-_0", KEY, delivery(), EXPIRES);
        assert_eq!(longest.len(), MAX_LEN);
        assert!(longest.len() <= 90, "{}", longest.len());
        assert!(longest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{longest}");
        assert_eq!(verify(|_| Some(KEY), &longest, BEFORE), Ok(delivery()));
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        // Computed apart from this code: base64url(head + HMAC-SHA-256(key, "herald.receipt.v1\0" + head)[..16]).
        let capability = sign("k1", KEY, delivery(), EXPIRES);
        assert_eq!(capability, "AQJrMQGSqqq7u3zMjd3u7v__AAFrSdIAGUHV2jN2Dkr3X_j1FF8iag");
    }

    #[test]
    fn a_capability_that_is_not_right_is_refused_with_its_reason() {
        let good = sign("k1", KEY, delivery(), EXPIRES);
        let check =
            |capability: &str, now, error| assert_eq!(verify(known, capability, now), Err(error), "{capability}");
        check(&good, EXPIRES, CapabilityError::Expired);
        check(&sign("k2", KEY, delivery(), EXPIRES), BEFORE, CapabilityError::UnknownKey);
        check(&sign("k1", b"another key", delivery(), EXPIRES), BEFORE, CapabilityError::Forged);
        // A forged one never learns whether it would have expired.
        check(&sign("k1", b"another key", delivery(), BEFORE), EXPIRES, CapabilityError::Forged);
        for garbage in ["", "x", "AQ", "not base64!", "====", "AQJrMQ", &good[..good.len() - 1], &format!("{good}A")] {
            check(garbage, BEFORE, CapabilityError::Malformed);
        }
        check(&format!("{good}="), BEFORE, CapabilityError::Malformed);
        check(&"A".repeat(100_000), BEFORE, CapabilityError::Malformed);
    }

    #[test]
    fn an_expiry_is_rounded_up_and_saturates() {
        let at = |micros| {
            verify(
                known,
                &sign("k1", KEY, delivery(), Timestamp::from_micros(1_500_000)),
                Timestamp::from_micros(micros),
            )
        };
        assert_eq!(at(1_999_999), Ok(delivery()));
        assert_eq!(at(2_000_000), Err(CapabilityError::Expired));
        let forever = sign("k1", KEY, delivery(), Timestamp::from_micros(i64::MAX));
        assert_eq!(verify(known, &forever, BEFORE), Ok(delivery()));
        let never = sign("k1", KEY, delivery(), Timestamp::from_micros(i64::MIN));
        assert_eq!(verify(known, &never, BEFORE), Err(CapabilityError::Expired));
    }

    #[test]
    fn key_ids_are_short_and_plain() {
        for good in ["a", "2026-11", "ABCDEFGHIJKLM-_0"] {
            assert!(is_key_id(good), "{good}");
        }
        for bad in ["", "ABCDEFGHIJKLM-_01", "a.b", "a b", "é"] {
            assert!(!is_key_id(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn changing_any_byte_or_character_is_refused(at in 0_usize..1000, flip in 1_u8..=255, put in "[A-Za-z0-9_-]") {
            let good = sign("k1", KEY, delivery(), EXPIRES);
            let mut bytes = URL_SAFE_NO_PAD.decode(&good).unwrap();
            let i = at % bytes.len();
            bytes[i] ^= flip;
            prop_assert!(verify(|_| Some(KEY), &URL_SAFE_NO_PAD.encode(&bytes), BEFORE).is_err());

            let mut text = good.clone();
            let i = at % text.len();
            text.replace_range(i..=i, &put);
            prop_assert_eq!(verify(|_| Some(KEY), &text, BEFORE).is_ok(), text == good);
        }

        #[test]
        fn any_text_at_all_is_answered_without_a_panic(text in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(verify(|_| Some(KEY), &text, BEFORE).is_err());
            prop_assert!(verify(|_| Some(KEY), &URL_SAFE_NO_PAD.encode(bytes), BEFORE).is_err());
        }
    }
}
