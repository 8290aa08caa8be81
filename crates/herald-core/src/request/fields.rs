//! Reading one JSON object, field by field: what is absent, what is of another type, and where it stood.
//!
//! Used by [`super::parse`] only. Takes values out of the object, so no text is copied. Never quotes one.

use serde_json::{Map, Value};

use super::{MAX_NAME_CHARS, RequestError};
use crate::subscription::{Platform, PlatformSet};
use crate::time::Timestamp;

/// The fields of an object that have not been read yet, and the object's own path (empty for the body).
#[derive(Default)]
pub(super) struct Fields {
    path: &'static str,
    map: Map<String, Value>,
}

impl Fields {
    pub(super) fn of_body(map: Map<String, Value>) -> Self {
        Self { path: "", map }
    }

    /// An older form of the contract wraps the notification: `{"notification": {…}}`. `Err` is the object as it was.
    pub(super) fn unwrapped(mut self) -> Result<(Self, Self), Self> {
        if self.map.contains_key("payload") || !self.map.get("notification").is_some_and(Value::is_object) {
            return Err(self);
        }
        match self.map.remove("notification") {
            Some(Value::Object(inner)) => Ok((Self::of_body(inner), self)),
            _ => Err(self),
        }
    }

    /// An error about the field of this name.
    pub(super) fn error(&self, name: &str, problem: &str, fix: impl Into<String>) -> RequestError {
        let field = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        RequestError::new(field, problem, fix)
    }

    /// Takes a field; `null` is absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    fn wrong_type(&self, name: &str, wanted: &str, found: &Value, fix: &str) -> RequestError {
        self.error(name, &format!("is {}, not {wanted}", kind(found)), fix)
    }

    /// An object that stands at `path`.
    pub(super) fn object(&mut self, name: &str, path: &'static str, fix: &str) -> Result<Option<Self>, RequestError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self { path, map })),
            Some(other) => Err(self.wrong_type(name, "an object", &other, fix)),
        }
    }

    /// A string, as it is.
    pub(super) fn text(&mut self, name: &str, fix: &str) -> Result<Option<String>, RequestError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(name, "a string", &other, fix)),
        }
    }

    /// A string that names something: 1 to 256 characters, no control characters.
    pub(super) fn name(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        let fix = format!("set 1 to {MAX_NAME_CHARS} characters without control characters");
        let Some(text) = self.text(name, &fix)? else {
            return Ok(None);
        };
        let problem = if text.is_empty() {
            "is empty"
        } else if text.chars().count() > MAX_NAME_CHARS {
            "is too long"
        } else if text.chars().any(char::is_control) {
            "has control characters"
        } else {
            return Ok(Some(text));
        };
        Err(self.error(name, problem, fix))
    }

    /// As [`Self::name`], where an empty string means that there is none.
    pub(super) fn optional_name(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        if self.map.get(name).and_then(Value::as_str) == Some("") {
            return Ok(None);
        }
        self.name(name)
    }

    /// A whole number, or a string of one, which is what Graph's own samples send.
    pub(super) fn integer(&mut self, name: &str, fix: &str) -> Result<Option<i64>, RequestError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong_type(name, "a whole number", &value, fix))
    }

    /// An RFC 3339 date and time with any offset.
    pub(super) fn date(&mut self, name: &str) -> Result<Option<Timestamp>, RequestError> {
        const FIX: &str = "set an ISO 8601 date and time with an offset, such as 2026-12-01T00:00:00Z";
        let Some(text) = self.text(name, FIX)? else {
            return Ok(None);
        };
        let date = Timestamp::parse_rfc3339(text.trim());
        date.map(Some).ok_or_else(|| self.error(name, "is not a date and time with an offset", FIX))
    }

    /// A list of platform names, or one name. An empty list addresses nobody, which nobody means.
    pub(super) fn platforms(&mut self, name: &str) -> Result<Option<PlatformSet>, RequestError> {
        const FIX: &str = "set a list of Windows, iOS, Android, WebPush";
        let Some(value) = self.take(name) else { return Ok(None) };
        let names = match value {
            Value::Array(names) => names,
            one @ Value::String(_) => vec![one],
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                return Err(self.wrong_type(name, "a list of platform names", &other, FIX));
            }
        };
        let mut set = PlatformSet::EMPTY;
        for platform in &names {
            let known = platform.as_str().and_then(|text| Platform::parse(text.trim()));
            set = set.with(known.ok_or_else(|| self.error(name, "has an entry that is no platform", FIX))?);
        }
        if set.is_empty() {
            return Err(self.error(name, "is empty", FIX));
        }
        Ok(Some(set))
    }
}

/// `60.0` is 60; `60.5` is no whole number.
fn whole(number: f64) -> Option<i64> {
    // Far beyond anything that is in range anyway, and exact in both types.
    const MOST: f64 = 9e15;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within ±2^53")]
    (number.fract() == 0.0 && number.abs() <= MOST).then_some(number as i64)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
