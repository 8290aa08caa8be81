//! JSON objects read one level at a time: keys in order, values as they stand.
//!
//! FCM's errors name the place of a fault and count entries, so the order matters; and values nobody reads aren't built.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::Refusal;

/// The fields of one object.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

/// A key, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Fields<'a> {
    /// The fields of the object `json` at `place`; an absent or `null` one has none.
    ///
    /// # Errors
    /// A schema refusal if it is something else.
    pub(super) fn of(json: Option<&'a RawValue>, place: &str) -> Result<Self, Refusal> {
        match json {
            None => Ok(Self::default()),
            Some(json) => serde_json::from_str(json.get())
                .map_err(|_| Refusal::wrong_type(place, "type.googleapis.com/google.protobuf.Struct", json.get())),
        }
    }

    /// The value of a field given in snake_case, whose camelCase is accepted too. `null` counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(key, _)| is_name(key, name));
        found.map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    /// A text.
    ///
    /// # Errors
    /// A schema refusal if it is something else.
    pub(super) fn text(&self, name: &str, place: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match serde_json::from_str::<Key<'a>>(value.get()) {
            Ok(Key(text)) => Ok(Some(text)),
            Err(_) => Err(Refusal::wrong_type(&format!("{place}.{name}"), "TYPE_STRING", value.get())),
        }
    }

    /// Refuses fields that don't exist.
    ///
    /// # Errors
    /// "Cannot find field", for the first one.
    pub(super) fn only(&self, names: &[&str], place: &str) -> Result<(), Refusal> {
        match self.0.iter().find(|(key, _)| !names.iter().any(|name| is_name(key, name))) {
            Some((key, _)) => Err(Refusal::unknown_field(place, key)),
            None => Ok(()),
        }
    }
}

/// Whether `key` is `name` (snake_case), or its camelCase.
fn is_name(key: &str, name: &str) -> bool {
    let mut wanted = name.bytes();
    let mut key_bytes = key.bytes();
    key == name
        || loop {
            let (wished, is) = match (wanted.next(), key_bytes.next()) {
                (None, None) => break true,
                (Some(b'_'), is) => (wanted.next().map(|byte| byte.to_ascii_uppercase()), is),
                (wished, is) => (wished, is),
            };
            if wished != is {
                break false;
            }
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_field_are_its_name() {
        for (key, name, same) in [
            ("collapse_key", "collapse_key", true),
            ("collapseKey", "collapse_key", true),
            ("collapsekey", "collapse_key", false),
            ("CollapseKey", "collapse_key", false),
            ("collapse", "collapse_key", false),
            ("collapseKeys", "collapse_key", false),
        ] {
            assert_eq!(is_name(key, name), same, "{key}");
        }
    }

    #[test]
    fn fields_keep_their_order_and_null_is_absent() {
        let fields: Fields<'_> = serde_json::from_str(r#"{"b": 1, "a\"": "x", "c": null}"#).unwrap();
        let keys: Vec<_> = fields.0.iter().map(|(key, _)| key.as_ref()).collect();
        assert_eq!(keys, ["b", "a\"", "c"]);
        assert!(fields.get("c").is_none() && fields.get("b").is_some());
        assert!(serde_json::from_str::<Fields<'_>>("[]").is_err());
    }
}
