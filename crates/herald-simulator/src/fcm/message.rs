//! The body of `messages:send`: what FCM checks in it, and what the phone needs of it.
//!
//! Sources: FCM HTTP v1 reference (`projects.messages`), "FCM error codes", "Set the lifespan of a message".

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::error::Refusal;
use super::fields::Fields;
use crate::device::Life;

/// The largest payload, keys and values together, in bytes.
const PAYLOAD_LIMIT: usize = 4_096;
/// The largest payload to a topic or condition.
const TOPIC_PAYLOAD_LIMIT: usize = 2_048;
/// How long FCM keeps a message, in seconds: 28 days.
const LIFE_LIMIT_SECS: u64 = 2_419_200;

const BODY: &[&str] = &["message", "validate_only"];
const MESSAGE: &[&str] = &[
    "name",
    "data",
    "notification",
    "android",
    "webpush",
    "apns",
    "fcm_options",
    "token",
    "fid",
    "topic",
    "condition",
];
const NOTIFICATION: &[&str] = &["title", "body", "image"];
const ANDROID: &[&str] = &[
    "collapse_key",
    "priority",
    "ttl",
    "restricted_package_name",
    "data",
    "notification",
    "fcm_options",
    "direct_boot_ok",
    "bandwidth_constrained_ok",
    "restricted_satellite_ok",
];
const ANDROID_NOTIFICATION: &[&str] = &[
    "title",
    "body",
    "icon",
    "color",
    "sound",
    "tag",
    "click_action",
    "body_loc_key",
    "body_loc_args",
    "title_loc_key",
    "title_loc_args",
    "channel_id",
    "ticker",
    "sticky",
    "event_time",
    "local_only",
    "notification_priority",
    "default_sound",
    "default_vibrate_timings",
    "default_light_settings",
    "vibrate_timings",
    "visibility",
    "notification_count",
    "light_settings",
    "image",
    "proxy",
    "bypass_proxy_notification",
    "id",
];

/// Whom a message is for: exactly one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Addressee<'a> {
    Token(Cow<'a, str>),
    Fid(Cow<'a, str>),
    /// A topic or condition: nobody's phone here.
    Many,
}

impl Addressee<'_> {
    /// The push token; empty if there is none.
    pub(super) fn token(&self) -> &str {
        match self {
            Self::Token(token) | Self::Fid(token) => token,
            Self::Many => "",
        }
    }
}

/// A message whose schema is right.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) addressee: Addressee<'a>,
    pub(super) validate_only: bool,
    /// Priority HIGH.
    pub(super) urgent: bool,
    data: Fields<'a>,
    android_data: Fields<'a>,
    notification: Fields<'a>,
    android_notification: Fields<'a>,
    shown: bool,
    ttl_secs: u64,
    collapse_key: Option<Cow<'a, str>>,
}

impl<'a> Message<'a> {
    /// Parses a body and checks its schema.
    ///
    /// # Errors
    /// FCM's refusal.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        let not_json = "Invalid JSON payload received. Unexpected token.";
        let body: Fields<'a> = serde_json::from_slice(body).map_err(|_| Refusal::schema("", not_json))?;
        body.only(BODY, "")?;
        let message = Fields::of(body.get("message"), "message")?;
        message.only(MESSAGE, "message")?;
        let notification = Fields::of(message.get("notification"), "message.notification")?;
        notification.only(NOTIFICATION, "message.notification")?;
        let android = Fields::of(message.get("android"), "message.android")?;
        android.only(ANDROID, "message.android")?;
        let android_notification = Fields::of(android.get("notification"), "message.android.notification")?;
        android_notification.only(ANDROID_NOTIFICATION, "message.android.notification")?;
        Ok(Self {
            addressee: addressee(&message)?,
            validate_only: flag(body.get("validate_only"), "validate_only")?,
            urgent: priority_is_high(&android)?,
            data: data(message.get("data"), "message.data")?,
            android_data: data(android.get("data"), "message.android.data")?,
            shown: message.get("notification").is_some() || android.get("notification").is_some(),
            notification,
            android_notification,
            ttl_secs: ttl_secs(&android)?,
            collapse_key: android.text("collapse_key", "message.android")?,
        })
    }

    /// Checks what is no matter of schema.
    ///
    /// # Errors
    /// FCM's refusal.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let limit = match self.addressee {
            Addressee::Token(_) | Addressee::Fid(_) => PAYLOAD_LIMIT,
            Addressee::Many => TOPIC_PAYLOAD_LIMIT,
        };
        let parts = [&self.data, &self.android_data, &self.notification, &self.android_notification];
        let size: usize =
            parts.into_iter().flat_map(|fields| &fields.0).map(|(key, value)| key.len() + size(value)).sum();
        if size > limit {
            return Err(Refusal::too_large());
        }
        let keys = self.data.0.iter().chain(&self.android_data.0).map(|(key, _)| key.as_ref());
        if let Some(key) = keys.into_iter().find(|key| is_reserved(key)) {
            return Err(Refusal::invalid(&format!("Invalid data payload key: {key}")));
        }
        Ok(())
    }

    /// Whether Android shows it without the app's help.
    pub(super) fn is_visible(&self) -> bool {
        self.shown
    }

    /// The app's object: data that the platform's own data overrides.
    pub(super) fn herald(&self) -> Option<Cow<'a, str>> {
        let own = self.android_data.text("herald", "").ok().flatten();
        own.or_else(|| self.data.text("herald", "").ok().flatten())
    }

    /// What a notification with the same one replaces.
    pub(super) fn tag(&self) -> Option<Cow<'a, str>> {
        self.android_notification.text("tag", "").ok().flatten()
    }

    /// What a message that waits with the same one is replaced by; an empty one is none.
    pub(super) fn collapse_key(&self) -> Option<String> {
        self.collapse_key.as_deref().filter(|key| !key.is_empty()).map(str::to_owned)
    }

    pub(super) fn life(&self, now_ms: u64) -> Life {
        if self.ttl_secs == 0 { Life::Now } else { Life::Until(now_ms.saturating_add(self.ttl_secs * 1000)) }
    }
}

fn addressee<'a>(message: &Fields<'a>) -> Result<Addressee<'a>, Refusal> {
    let given = ["token", "fid", "topic", "condition"].into_iter().filter(|name| message.get(name).is_some());
    let given: Vec<_> = given.collect();
    match given.as_slice() {
        [] => Err(Refusal::no_recipient()),
        [name] => {
            let text = message.text(name, "message")?.unwrap_or_default();
            match *name {
                "token" if text.is_empty() => Err(Refusal::no_recipient()),
                "token" => Ok(Addressee::Token(text)),
                "fid" => Ok(Addressee::Fid(text)),
                _ => Ok(Addressee::Many),
            }
        }
        [first, second, ..] => {
            let problem = "Invalid value at 'message' (oneof), oneof field 'target' is already set.";
            Err(Refusal::schema(
                &format!("message.{second}"),
                &format!("{problem} Cannot set '{second}' besides '{first}'"),
            ))
        }
    }
}

fn data<'a>(json: Option<&'a RawValue>, place: &str) -> Result<Fields<'a>, Refusal> {
    let data = Fields::of(json, place)?;
    match data.0.iter().position(|(_, value)| !value.get().starts_with('"')) {
        Some(index) => {
            let field = format!("{place}[{index}].value");
            Err(Refusal::wrong_type(&field, "TYPE_STRING", data.0[index].1.get()))
        }
        None => Ok(data),
    }
}

fn flag(json: Option<&RawValue>, place: &str) -> Result<bool, Refusal> {
    match json.map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(Refusal::wrong_type(place, "TYPE_BOOL", other)),
    }
}

fn priority_is_high(android: &Fields<'_>) -> Result<bool, Refusal> {
    let kind = "type.googleapis.com/google.firebase.fcm.v1.AndroidMessagePriority";
    match android.text("priority", "message.android")? {
        Some(priority) if priority.eq_ignore_ascii_case("high") => Ok(true),
        Some(priority) if !priority.eq_ignore_ascii_case("normal") => {
            Err(Refusal::wrong_type("message.android.priority", kind, &format!("\"{priority}\"")))
        }
        Some(_) | None => Ok(false),
    }
}

/// A duration such as `3.5s`, from 0 to 28 days, rounded down.
fn ttl_secs(android: &Fields<'_>) -> Result<u64, Refusal> {
    let Some(ttl) = android.text("ttl", "message.android")? else { return Ok(LIFE_LIMIT_SECS) };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let secs = ttl.strip_suffix('s').and_then(|number| {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        (digits(whole) && digits(fraction) && fraction.len() <= 9).then(|| whole.parse::<u64>().ok()).flatten()
    });
    match secs {
        Some(secs) if secs <= LIFE_LIMIT_SECS => Ok(secs),
        Some(_) => Err(Refusal::schema("message.android.ttl", "Invalid TTL: it must be between 0 and 2419200 seconds")),
        None => {
            let kind = "type.googleapis.com/google.protobuf.Duration";
            Err(Refusal::wrong_type("message.android.ttl", kind, &format!("\"{ttl}\"")))
        }
    }
}

/// The bytes that a value takes: of a text its content, of anything else its JSON.
fn size(value: &RawValue) -> usize {
    let json = value.get();
    if json.contains('\\') {
        return serde_json::from_str::<String>(json).map_or(json.len(), |text| text.len());
    }
    if json.starts_with('"') { json.len() - 2 } else { json.len() }
}

/// Keys that FCM keeps for itself. An empty one is refused too, which no page says.
fn is_reserved(key: &str) -> bool {
    matches!(key, "" | "from" | "message_type") || key.starts_with("google") || key.starts_with("gcm")
}

#[cfg(test)]
mod tests {
    use super::super::rules::FcmRules;
    use super::*;
    use serde_json::{Value, json};

    fn refusal(body: &Value) -> Option<Value> {
        let body = body.to_string();
        let result = Message::parse(body.as_bytes()).and_then(|message| message.check());
        let answer = result.err()?.answer(&FcmRules::default());
        Some(serde_json::from_slice(&answer.body).unwrap())
    }

    fn with(extra: &Value) -> Value {
        let mut message = json!({"token": "abcdefgh"});
        message.as_object_mut().unwrap().append(&mut extra.as_object().unwrap().clone());
        json!({ "message": message })
    }

    #[test]
    fn good_messages_are_taken() {
        for good in [
            with(&json!({})),
            with(&json!({"data": {"a": "b", "collapse_key": "c"}})),
            with(&json!({"android": {"priority": "high", "ttl": "0s", "collapseKey": "c"}})),
            with(&json!({"android": {"priority": "NORMAL", "ttl": "2419200s", "collapse_key": "c"}})),
            with(&json!({"android": {"ttl": "3.5s", "notification": {"channelId": "a", "title_loc_key": "b"}}})),
            with(&json!({"notification": {"title": "t"}, "apns": {"headers": {}}, "fcmOptions": {}})),
            json!({"message": {"fid": "abc"}, "validateOnly": true}),
            json!({"message": {"topic": "news"}}),
        ] {
            assert_eq!(refusal(&good), None, "{good}");
        }
    }

    #[test]
    fn wrong_messages_are_refused_at_their_field() {
        for (bad, field) in [
            (json!({"message": {"token": "abcdefgh"}, "x": 1}), ""),
            (with(&json!({"x": 1})), "message"),
            (with(&json!({"android": {"tll": "1s"}})), "message.android"),
            (with(&json!({"android": {"notification": {"titel": "t"}}})), "message.android.notification"),
            (with(&json!({"data": {"a": "b", "c": 12}})), "message.data[1].value"),
            (with(&json!({"android": {"ttl": "60"}})), "message.android.ttl"),
            (with(&json!({"android": {"ttl": "-1s"}})), "message.android.ttl"),
            (with(&json!({"android": {"ttl": "2419201s"}})), "message.android.ttl"),
            (with(&json!({"android": {"priority": "urgent"}})), "message.android.priority"),
            (with(&json!({"topic": "t"})), "message.topic"),
            (with(&json!({"data": []})), "message.data"),
        ] {
            let body = refusal(&bad).unwrap_or_else(|| panic!("{bad} was taken"));
            assert_eq!(body["error"]["status"], "INVALID_ARGUMENT");
            assert_eq!(body["error"]["details"][0]["fieldViolations"][0]["field"], field, "{bad}: {body}");
        }
        let number = refusal(&with(&json!({"data": {"a": 12}}))).unwrap();
        assert_eq!(number["error"]["message"], "Invalid value at 'message.data[0].value' (TYPE_STRING), 12");
        assert_eq!(refusal(&json!({"message": {}})).unwrap()["error"]["details"][1]["errorCode"], "INVALID_ARGUMENT");
        for bad in [
            with(&json!({"data": {"from": "x"}})),
            with(&json!({"data": {"gcm.x": "x"}})),
            with(&json!({"android": {"data": {"google.x": "x"}}})),
        ] {
            assert_eq!(refusal(&bad).unwrap()["error"]["details"][0]["errorCode"], "INVALID_ARGUMENT", "{bad}");
        }
        assert!(Message::parse(b"{").is_err() && Message::parse(b"[]").is_err());
    }

    #[test]
    fn the_limit_is_on_keys_and_values_without_their_json() {
        let payload = |length: usize| with(&json!({"data": {"k\"": "ä\n".to_owned() + &"x".repeat(length - 5)}}));
        assert_eq!(refusal(&payload(4096)), None);
        assert_eq!(refusal(&payload(4097)).unwrap()["error"].get("details"), None);
        let topic = |length: usize| json!({"message": {"topic": "t", "data": {"k": "x".repeat(length - 1)}}});
        assert_eq!(refusal(&topic(2048)), None);
        assert!(refusal(&topic(2049)).is_some());
    }

    #[test]
    fn the_platforms_data_overrides_the_general_one() {
        let body = with(&json!({"data": {"herald": "a"}, "android": {"data": {"herald": "b"}}})).to_string();
        assert_eq!(Message::parse(body.as_bytes()).unwrap().herald().as_deref(), Some("b"));
    }
}
