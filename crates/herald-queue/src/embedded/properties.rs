//! AMQP's properties as readable JSON, and back: how a file keeps them, and a dead letter in the store.
//!
//! The names are AMQP's; what Herald never sets (priority, expiration, delivery mode) is not kept. Headers are text, because
//! [`Outgoing`](crate::Outgoing) and [`park`](crate::park) write no others. The format is of this module, not of a library's
//! derive: a file outlives both. It never fails to read: whoever reads a message decides what is missing in it.

use std::collections::BTreeMap;

use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde::{Deserialize, Serialize};

use crate::message;

macro_rules! stored {
    ($($(#[$doc:meta])* $field:ident $get:ident $with:ident,)*) => {
        /// As they are in the file. A field that this version does not know is left out, a missing one is absent.
        #[derive(Debug, Default, Serialize, Deserialize)]
        #[serde(default)]
        struct Stored {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] $field: Option<String>,)*
            #[serde(skip_serializing_if = "Option::is_none")]
            timestamp: Option<u64>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            headers: BTreeMap<String, String>,
        }

        impl Stored {
            fn of(original: &BasicProperties) -> Self {
                Self {
                    $($field: original.$get().as_ref().map(|text| text.as_str().to_owned()),)*
                    timestamp: *original.timestamp(),
                    headers: original.headers().as_ref().map(headers_of).unwrap_or_default(),
                }
            }

            fn into_properties(self) -> BasicProperties {
                let mut properties = BasicProperties::default();
                $(if let Some(text) = self.$field.and_then(short) { properties = properties.$with(text); })*
                if let Some(timestamp) = self.timestamp {
                    properties = properties.with_timestamp(timestamp);
                }
                if self.headers.is_empty() { properties } else { properties.with_headers(table_of(self.headers)) }
            }
        }
    };
}

stored! {
    message_id message_id with_message_id,
    #[serde(rename = "type")]
    kind kind with_type,
    content_type content_type with_content_type,
    content_encoding content_encoding with_content_encoding,
    user_id user_id with_user_id,
    app_id app_id with_app_id,
    correlation_id correlation_id with_correlation_id,
    reply_to reply_to with_reply_to,
}

fn headers_of(table: &FieldTable) -> BTreeMap<String, String> {
    let names = table.inner().keys().map(ShortString::as_str);
    names.filter_map(|name| Some((name.to_owned(), message::text(table, name)?))).collect()
}

fn table_of(headers: BTreeMap<String, String>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        if let Some(name) = short(name) {
            table.insert(name, AMQPValue::LongString(value.into()));
        }
    }
    table
}

/// AMQP's limit is 255 bytes; what is longer was written by somebody else, and is left out.
fn short(text: String) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

/// The JSON to keep.
pub(crate) fn to_json(properties: &BasicProperties) -> String {
    write(&Stored::of(properties))
}

fn write(stored: &Stored) -> String {
    serde_json::to_string(stored).expect("text and numbers always serialize")
}

/// The properties that a dead letter has kept; `None` where this is no JSON of ours.
pub(crate) fn kept(json: &str) -> Option<BasicProperties> {
    // serde would take an array for the fields in their order.
    let ours = json.starts_with('{');
    ours.then(|| serde_json::from_str::<Stored>(json).ok())?.map(Stored::into_properties)
}

/// The properties that were kept; none where this is no JSON of ours.
pub(crate) fn from_json(json: &[u8]) -> BasicProperties {
    read(json).into_properties()
}

fn read(json: &[u8]) -> Stored {
    serde_json::from_slice(json).unwrap_or_default()
}

/// The same properties for what was delivered too often, marked as RabbitMQ does: so nobody takes a producer's claims for a
/// worker's words.
pub(crate) fn dead_lettered(json: &[u8], from: &str) -> String {
    let mut stored = read(json);
    stored.headers.insert("x-death".to_owned(), "delivery_limit".to_owned());
    // The first death stays the first, but a claim of the producer's is none.
    let died_before = from == crate::Source::Suspect.queue() && stored.headers.contains_key(FIRST_DEATH_QUEUE);
    if !died_before {
        stored.headers.insert(FIRST_DEATH_QUEUE.to_owned(), from.to_owned());
    }
    write(&stored)
}

const FIRST_DEATH_QUEUE: &str = "x-first-death-queue";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_as_they_were_and_read_like_amqp() {
        let mut headers = FieldTable::default();
        headers.insert("x-own".into(), AMQPValue::LongString("o\0ö".into()));
        let properties = BasicProperties::default()
            .with_message_id("m".into())
            .with_type("herald.notification.v1".into())
            .with_user_id("shop".into())
            .with_timestamp(7)
            .with_headers(headers);
        let json = to_json(&properties);
        assert_eq!(
            json,
            r#"{"message_id":"m","type":"herald.notification.v1","user_id":"shop","timestamp":7,"headers":{"x-own":"o\u0000ö"}}"#
        );
        assert_eq!(from_json(json.as_bytes()), properties);
    }

    #[test]
    fn what_is_no_json_of_ours_is_read_as_nothing() {
        for odd in [&b""[..], b"7", b"\xff", br#"{"message_id":7}"#] {
            assert_eq!(from_json(odd), BasicProperties::default(), "{odd:?}");
        }
        let long = format!(r#"{{"message_id":"{}","type":"t","future":1}}"#, "x".repeat(256));
        assert_eq!(from_json(long.as_bytes()), BasicProperties::default().with_type("t".into()));
    }

    #[test]
    fn the_first_death_stays_the_first_and_a_producers_claim_is_none() {
        let first_of = |json: &str| read(json.as_bytes()).headers[FIRST_DEATH_QUEUE].clone();
        let forged = r#"{"headers":{"x-first-death-queue":"herald.receipts"}}"#;
        let once = dead_lettered(forged.as_bytes(), "herald.requests.high");
        assert_eq!(first_of(&once), "herald.requests.high");
        let twice = dead_lettered(once.as_bytes(), "herald.suspect");
        assert_eq!(first_of(&twice), "herald.requests.high");
    }
}
