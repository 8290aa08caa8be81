//! The body of a message on `herald.dispatch.*`: which deliveries are due, at which version.
//!
//! Written by the clock, intake and gateway through [`Publisher::hints`](crate::Publisher::hints), read by take. JSON, so
//! that an operator can read it with any tool: `{"hints":[["0190…",7],…]}`. It never says what a delivery contains.

use herald_core::ids::DeliveryId;
use herald_core::lane::Hint;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many hints one message carries at most: a take of one message is one statement of bounded size, and the body
/// stays below 5 KB.
pub const MAX_HINTS: usize = 100;

/// The `type` property of a hint message.
pub const KIND: &str = "herald.hints.v1";

#[derive(Serialize, Deserialize)]
struct Body {
    hints: Vec<(Uuid, i64)>,
}

/// Why a body on a dispatch queue holds no hints. Such a message is parked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHints {
    /// Not the JSON of a hint message.
    #[error("not a hint message (line {line}, column {column}); only Herald publishes to herald.dispatch")]
    Malformed {
        /// Line of the first error, from 1.
        line: usize,
        /// Column of the first error, from 1.
        column: usize,
    },
    /// More than [`MAX_HINTS`].
    #[error("{count} hints in one message; at most {MAX_HINTS} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// The bodies for these hints, in order, [`MAX_HINTS`] in each but the last. No hints, no bodies.
pub fn encode(hints: &[Hint]) -> Vec<bytes::Bytes> {
    hints
        .chunks(MAX_HINTS)
        .map(|chunk| {
            let body = Body { hints: chunk.iter().map(|hint| (hint.delivery.0, hint.version)).collect() };
            bytes::Bytes::from(serde_json::to_vec(&body).expect("UUIDs and integers always serialize"))
        })
        .collect()
}

/// The hints in this body.
///
/// # Errors
/// [`BadHints`] if it is not the body of a hint message; the error quotes nothing of it.
pub fn decode(body: &[u8]) -> Result<Vec<Hint>, BadHints> {
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| BadHints::Malformed { line: error.line(), column: error.column() })?;
    if body.hints.len() > MAX_HINTS {
        return Err(BadHints::TooMany { count: body.hints.len() });
    }
    Ok(body.hints.into_iter().map(|(id, version)| Hint { delivery: DeliveryId(id), version }).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_is_the_json_that_the_documentation_shows() {
        let hint = Hint { delivery: DeliveryId(Uuid::from_u128(1)), version: 7 };
        assert_eq!(encode(&[hint]), [r#"{"hints":[["00000000-0000-0000-0000-000000000001",7]]}"#.as_bytes()]);
    }

    #[test]
    fn no_hints_need_no_message() {
        assert!(encode(&[]).is_empty());
    }

    #[test]
    fn bodies_that_are_not_hints_are_errors_that_quote_nothing() {
        for bad in [
            &b""[..],
            b"{}",
            b"[]",
            b"\xff",
            br#"{"hints":[["secret",7]]}"#,
            br#"{"hints":[["00000000-0000-0000-0000-000000000001"]]}"#,
        ] {
            let error = decode(bad).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn more_than_a_hundred_hints_in_one_message_are_refused() {
        let one = r#"["00000000-0000-0000-0000-000000000001",7]"#;
        let body = format!(r#"{{"hints":[{}]}}"#, vec![one; MAX_HINTS + 1].join(","));
        assert_eq!(decode(body.as_bytes()), Err(BadHints::TooMany { count: MAX_HINTS + 1 }));
    }

    proptest! {
        #[test]
        fn hints_come_back_as_they_were_in_messages_of_at_most_a_hundred(raw in prop::collection::vec((any::<u128>(), any::<i64>()), 0..350)) {
            let hints: Vec<Hint> = raw.into_iter().map(|(id, version)| Hint { delivery: DeliveryId(Uuid::from_u128(id)), version }).collect();
            let bodies = encode(&hints);
            prop_assert_eq!(bodies.len(), hints.len().div_ceil(MAX_HINTS));
            let back: Vec<Hint> = bodies.iter().flat_map(|body| decode(body).unwrap()).collect();
            prop_assert_eq!(back, hints);
        }
    }
}
