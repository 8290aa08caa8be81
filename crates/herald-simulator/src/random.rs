//! Repeatable pseudo-randomness: ids, tokens and losses derived from the seed, so that a failing run can be run again.
//!
//! Never used for keys: those come from the cryptography library.

use std::sync::atomic::{AtomicU64, Ordering};

/// One step of SplitMix64 (public domain, Sebastiano Vigna): a well-mixed number from a counter-like state.
pub(crate) fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number for a text (FNV-1a), mixed with the seed.
pub(crate) fn of(seed: u64, text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    mix(seed ^ hash)
}

/// Numbers one after another: the same seed gives the same ones in the same order.
#[derive(Debug)]
pub(crate) struct Dice {
    seed: u64,
    rolls: AtomicU64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, rolls: AtomicU64::new(0) }
    }

    /// The next number.
    pub(crate) fn roll(&self) -> u64 {
        mix(self.seed ^ mix(self.rolls.fetch_add(1, Ordering::Relaxed)))
    }

    /// Starts again with the first number.
    pub(crate) fn reset(&self) {
        self.rolls.store(0, Ordering::Relaxed);
    }
}

/// Digits and capitals, as Apple's key and team ids.
pub(crate) const CAPITALS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Hexadecimal digits.
pub(crate) const HEX: &[u8] = b"0123456789abcdef";
/// The alphabet of registration tokens and installation ids.
pub(crate) const URL_SAFE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `length` characters of `alphabet`, always the same for the same seed and text.
pub(crate) fn chars(seed: u64, text: &str, alphabet: &[u8], length: usize) -> String {
    let mut state = of(seed, text);
    let mut next = || {
        state = mix(state);
        let index = state % alphabet.len() as u64;
        char::from(alphabet[usize::try_from(index).unwrap_or(0)])
    };
    (0..length).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_roll_the_same_numbers_again_after_a_reset_and_others_with_another_seed() {
        let rolls = |dice: &Dice| (0..8).map(|_| dice.roll()).collect::<Vec<_>>();
        let dice = Dice::new(1);
        let first = rolls(&dice);
        assert_ne!(rolls(&dice), first);
        dice.reset();
        assert_eq!(rolls(&dice), first);
        assert_ne!(rolls(&Dice::new(2)), first);
    }

    #[test]
    fn the_same_seed_and_text_give_the_same_characters_and_others_do_not() {
        let id = chars(1, "a.p8", CAPITALS, 10);
        assert_eq!(id.len(), 10);
        assert_eq!(id, chars(1, "a.p8", CAPITALS, 10));
        assert_ne!(id, chars(2, "a.p8", CAPITALS, 10));
        assert_ne!(id, chars(1, "b.p8", CAPITALS, 10));
        assert!(id.bytes().all(|b| CAPITALS.contains(&b)));
    }
}
