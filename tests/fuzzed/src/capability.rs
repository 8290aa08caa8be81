//! Receipt capabilities: nothing but what was signed is believed, in one spelling only, and not for longer than it says.

use std::time::Duration;

use herald_core::ids::DeliveryId;
use herald_core::receipt::{CapabilityError, MAX_LEN, sign, verify};
use herald_core::time::Timestamp;
use uuid::Uuid;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Verifies it as it is, and a genuine one that it changes: bytes of the input are laid over it by exclusive or.
///
/// # Panics
/// If something doesn't hold.
pub(crate) fn check(data: &[u8]) {
    let key = |id: &str| (id == "k1").then_some(KEY);
    let delivery = DeliveryId(Uuid::from_u128(42));
    let genuine = sign("k1", KEY, delivery, NOW.plus(Duration::from_secs(60)));
    if let Ok(text) = std::str::from_utf8(data) {
        let verified = verify(key, text, NOW);
        assert!(verified.is_err() || text == genuine, "a capability nobody signed is taken");
    }

    let changed: Vec<u8> = genuine.bytes().enumerate().map(|(at, byte)| byte ^ data.get(at).unwrap_or(&0)).collect();
    if let Ok(text) = std::str::from_utf8(&changed) {
        let verified = verify(key, text, NOW);
        assert_eq!(verified.is_ok(), text == genuine, "{verified:?}");
    }

    // The same bytes decide how long a genuine one lives.
    let life = data.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    let ends = NOW.plus(Duration::from_secs(u64::from(life)));
    let timed = sign("k1", KEY, delivery, ends);
    assert!(timed.len() <= MAX_LEN);
    let last = u32::try_from(ends.secs()).map_or(i64::from(u32::MAX), i64::from);
    assert_eq!(verify(key, &timed, Timestamp::from_secs(last - 1)), Ok(delivery));
    assert_eq!(verify(key, &timed, Timestamp::from_secs(last)), Err(CapabilityError::Expired));
    assert_eq!(verify(|_| None, &timed, NOW), Err(CapabilityError::UnknownKey));
}
