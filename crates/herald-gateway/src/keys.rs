//! The keys of receipt capabilities, of all apps and of every age.
//!
//! Stands before the store: what no key here made never reaches it. Apps name their keys themselves, so two of them may
//! share an id; then each key of that id is tried.

use std::collections::HashMap;
use std::fmt;

use herald_core::ids::DeliveryId;
use herald_core::receipt::{self, CapabilityError};
use herald_core::time::Timestamp;

/// The keys, by id. `Debug` hides them.
#[derive(Clone, Default)]
pub struct ReceiptKeys(HashMap<String, Vec<Vec<u8>>>);

impl ReceiptKeys {
    /// Ids and secrets, in any order, those that no longer sign included.
    pub fn new(keys: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut by_id: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
        for (id, secret) in keys {
            let secrets = by_id.entry(id).or_default();
            if !secrets.contains(&secret) {
                secrets.push(secret);
            }
        }
        Self(by_id)
    }

    /// Which delivery a capability acknowledges.
    pub(crate) fn verify(&self, capability: &str, now: Timestamp) -> Result<DeliveryId, CapabilityError> {
        let mut secrets: &[Vec<u8>] = &[];
        let mut result = receipt::verify(
            |id| {
                secrets = self.0.get(id).map(Vec::as_slice).unwrap_or_default();
                secrets.first().map(Vec::as_slice)
            },
            capability,
            now,
        );
        for secret in secrets.iter().skip(1) {
            if result == Err(CapabilityError::Forged) {
                result = receipt::verify(|_| Some(secret.as_slice()), capability, now);
            }
        }
        result
    }
}

impl fmt::Debug for ReceiptKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReceiptKeys").field(&self.0.keys().collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);
    const LATER: Timestamp = Timestamp::from_secs(2_000);

    fn secret(fill: u8) -> Vec<u8> {
        vec![fill; 32]
    }

    #[test]
    fn every_key_of_an_id_verifies_and_no_other() {
        let keys = ReceiptKeys::new([
            ("k1".to_owned(), secret(1)),
            ("k1".to_owned(), secret(2)),
            ("old".to_owned(), secret(3)),
        ]);
        let delivery = DeliveryId(uuid::Uuid::from_u128(7));
        let check = |id, fill, expires, want| {
            let capability = receipt::sign(id, &secret(fill), delivery, expires);
            assert_eq!(keys.verify(&capability, NOW), want, "{id} {fill}");
        };
        check("k1", 1, LATER, Ok(delivery));
        check("k1", 2, LATER, Ok(delivery));
        check("old", 3, LATER, Ok(delivery));
        check("k1", 3, LATER, Err(CapabilityError::Forged));
        check("old", 1, LATER, Err(CapabilityError::Forged));
        check("new", 1, LATER, Err(CapabilityError::UnknownKey));
        check("k1", 2, NOW, Err(CapabilityError::Expired));
        assert_eq!(keys.verify("nothing", NOW), Err(CapabilityError::Malformed));
    }

    #[test]
    fn secrets_do_not_print() {
        let keys = ReceiptKeys::new([("k1".to_owned(), b"a secret of thirty-two bytes....".to_vec())]);
        assert_eq!(format!("{keys:?}"), r#"ReceiptKeys(["k1"])"#);
    }
}
