//! The members of a body, by name: unknown ones are ignored, null is absent, and a wrong type is refused by its place.
//!
//! Pure. No refusal quotes a value.

use herald_core::time::Timestamp;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// An object of a body.
pub(super) struct Members<'b> {
    object: &'b Map<String, Value>,
    /// What stands before its members' names; ends in a dot, or is empty.
    place: &'static str,
}

impl<'b> Members<'b> {
    /// The body itself.
    pub(super) fn of(object: &'b Map<String, Value>) -> Self {
        Self { object, place: "" }
    }

    fn get<T>(
        &self,
        name: &str,
        expected: &'static str,
        read: impl FnOnce(&'b Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(Refusal::invalid(
                    format!("{}{name}", self.place),
                    format!("is not {expected}"),
                    expected_fix(expected),
                )),
            },
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'b str>, Refusal> {
        self.get(name, "text", Value::as_str)
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Refusal> {
        self.get(name, "true or false", Value::as_bool)
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        let expected = "a time like 2026-12-01T00:00:00Z";
        self.get(name, expected, |value| value.as_str().and_then(Timestamp::parse_rfc3339))
    }

    /// A text that is one of a closed set.
    pub(super) fn word<T>(
        &self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        self.get(name, expected, |value| value.as_str().and_then(parse))
    }

    /// The members of a member. `place` is its name and a dot.
    pub(super) fn object(&self, name: &str, place: &'static str) -> Result<Option<Self>, Refusal> {
        let object = self.get(name, "an object", Value::as_object)?;
        Ok(object.map(|object| Members { object, place }))
    }
}

fn expected_fix(expected: &'static str) -> String {
    format!("give {expected}, or leave it out")
}
