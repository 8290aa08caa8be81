//! APNs payloads: what the system reads in `aps`, and what the app reads in `herald`.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::reason::{PushType, Reason};
use crate::contract::Contract;

/// A payload, read as far as APNs and the phone's system do.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Payload<'a> {
    #[serde(borrow, default)]
    aps: Option<&'a RawValue>,
    #[serde(borrow, default)]
    herald: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Aps<'a> {
    alert: Option<IgnoredAny>,
    badge: Option<IgnoredAny>,
    sound: Option<IgnoredAny>,
    #[serde(rename = "content-available", borrow)]
    content_available: Option<&'a RawValue>,
    #[serde(rename = "mutable-content", borrow)]
    mutable_content: Option<&'a RawValue>,
}

/// What the system does with a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Something is shown, played or badged.
    pub(crate) interacts: bool,
    /// It shows an alert.
    pub(crate) alerts: bool,
    /// It may wake the app.
    pub(crate) wakes: bool,
    /// A notification service extension runs.
    pub(crate) mutable: bool,
}

impl<'a> Payload<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// [`Reason::PayloadEmpty`] for what is no JSON object. Which reason Apple gives for that is not documented.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Reason> {
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Reason::PayloadEmpty);
        }
        serde_json::from_slice(body).map_err(|_| Reason::PayloadEmpty)
    }

    /// What the system does with it. An `aps` that is no object does nothing.
    pub(crate) fn effect(&self) -> Effect {
        let aps: Aps<'_> = self.aps.and_then(|aps| serde_json::from_str(aps.get()).ok()).unwrap_or_default();
        let set = |flag: Option<&RawValue>| flag.is_some_and(|flag| flag.get() == "1");
        Effect {
            interacts: aps.alert.is_some() || aps.badge.is_some() || aps.sound.is_some(),
            alerts: aps.alert.is_some(),
            wakes: set(aps.content_available),
            mutable: set(aps.mutable_content),
        }
    }

    /// What the app reads, if it is there and well-formed.
    pub(crate) fn contract(&self) -> Option<Contract<'a>> {
        Contract::parse(self.herald?.get())
    }
}

/// Whether the push type "accurately reflects the payload", as Apple demands.
pub(crate) fn reflects(push_type: PushType, effect: Effect) -> bool {
    match push_type {
        PushType::Alert => effect.interacts,
        PushType::Background => effect.wakes && !effect.interacts,
        PushType::Other(_) => true,
    }
}

/// A collapse id or another header as text.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_push_type_must_reflect_the_payload() {
        for (push_type, body, good) in [
            (PushType::Background, r#"{"aps":{"content-available":1}}"#, true),
            (PushType::Background, r#"{"aps":{"content-available":1,"alert":"a"}}"#, false),
            (PushType::Background, r#"{"aps":{"content-available":1,"sound":"a"}}"#, false),
            (PushType::Background, r#"{"aps":{}}"#, false),
            (PushType::Background, r#"{}"#, false),
            (PushType::Alert, r#"{"aps":{"alert":{"title":"t"}}}"#, true),
            (PushType::Alert, r#"{"aps":{"badge":0}}"#, true),
            (PushType::Alert, r#"{"aps":{"content-available":1}}"#, false),
            (PushType::Alert, r#"{"aps":"x"}"#, false),
            (PushType::Other(0), r#"{"aps":{}}"#, true),
        ] {
            let effect = Payload::parse(body.as_bytes()).unwrap().effect();
            assert_eq!(reflects(push_type, effect), good, "{push_type:?} {body}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "[]", "1", "{", "null", "{}x"] {
            assert!(Payload::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
