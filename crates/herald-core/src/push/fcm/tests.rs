//! Requests for FCM: forms, limits, sizes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::payload::tests::{NOW, RECEIPT, Sample, any_sample, visual};

fn message(sample: &Sample) -> Value {
    let body: Value = serde_json::from_slice(&build(&sample.context()).body).unwrap();
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["message"]);
    body["message"].clone()
}

fn herald(message: &Value) -> Value {
    serde_json::from_str(message["data"]["herald"].as_str().unwrap()).unwrap()
}

/// What FCM counts, and a notification's fields on top.
fn counted(message: &Value) -> usize {
    let size = |object: &Value| -> usize {
        let fields = object.as_object().into_iter().flatten();
        fields.map(|(key, value)| key.len() + value.as_str().unwrap().len()).sum()
    };
    size(&message["data"]) + size(&message["android"]["notification"])
}

#[test]
fn a_raw_push_is_one_data_key_and_an_alert_is_shown_as_well() {
    let raw = message(&Sample::new(Form::Raw));
    let object = json!({"version": 1, "form": "raw", "notificationId": "00000000-0000-0000-0000-000000000007",
        "appNotificationId": "order-1042", "groupName": "orders", "receipt": RECEIPT, "content": "raw"});
    assert_eq!(herald(&raw), object);
    assert_eq!(raw["android"], json!({"priority": "HIGH", "ttl": "604800s"}));
    assert_eq!(raw["token"], json!("00ff00ff"));
    assert_eq!(raw["data"].as_object().unwrap().len(), 1);

    let sample = Sample::new(Form::Alert);
    let alert = message(&sample);
    let tag = payload::collapse_id(&sample.notification);
    assert_eq!(alert["android"]["notification"], json!({"title": "Title", "body": "Body", "tag": tag}));
    assert_eq!(herald(&alert)["content"], json!("raw"));
    let toast = message(&Sample::new(Form::Toast));
    assert_eq!(
        toast["android"]["notification"],
        json!({"title": "Order shipped", "body": "Arrives Tuesday", "tag": tag})
    );
}

#[test]
fn an_installation_id_goes_where_it_belongs() {
    let mut sample = Sample::new(Form::Raw);
    sample.subscription.token_kind = TokenKind::Fid;
    let message = message(&sample);
    assert_eq!((message.get("token"), &message["fid"]), (None, &json!("00ff00ff")));
}

#[test]
fn priority_is_high_for_what_is_visible_or_was_asked_for() {
    let check = |form, priority, expected: &str| {
        let mut sample = Sample::new(form);
        sample.notification.content.priority = priority;
        assert_eq!(message(&sample)["android"]["priority"], json!(expected), "{form:?} {priority:?}");
    };
    check(Form::Raw, Priority::High, "HIGH");
    check(Form::Raw, Priority::None, "NORMAL");
    check(Form::Raw, Priority::Low, "NORMAL");
    check(Form::Alert, Priority::Low, "HIGH");
    check(Form::Toast, Priority::None, "HIGH");
    check(Form::State, Priority::High, "NORMAL");
}

#[test]
fn a_message_lives_28_days_at_most_and_never_less_than_now() {
    let check = |life: Duration, display_ttl, expected: &str| {
        let mut sample = Sample::new(Form::Raw);
        sample.notification.expires_at = NOW.plus(life);
        sample.notification.content.display_ttl = display_ttl;
        assert_eq!(message(&sample)["android"]["ttl"], json!(expected));
    };
    check(Duration::from_secs(30 * 86_400), None, "2419200s");
    check(Duration::from_millis(59_999), None, "59s");
    check(Duration::from_secs(60), Some(5), "5s");
    check(Duration::ZERO, None, "0s");
    let mut expired = Sample::new(Form::Raw);
    expired.notification.expires_at = NOW.minus(Duration::from_secs(5));
    assert_eq!(message(&expired)["android"]["ttl"], json!("0s"));
}

#[test]
fn content_is_carried_up_to_exactly_4096_bytes() {
    // Escaping inside the object's text counts; escaping the text once more in the request does not.
    for form in [Form::Raw, Form::Alert] {
        for (unit, unit_bytes) in [("a", 1), ("é", 2), ("🚢", 4), ("\"", 2), ("\u{1}", 6)] {
            let room = MAX_PAYLOAD_BYTES - counted(&message(&Sample::new(form).raw("")));
            let full = format!("{}{}", unit.repeat(room / unit_bytes), "a".repeat(room % unit_bytes));
            let largest = message(&Sample::new(form).raw(full.clone()));
            assert_eq!(counted(&largest), 4096);
            assert_eq!(herald(&largest)["content"], json!(full));

            let over = message(&Sample::new(form).raw(format!("{full}a")));
            assert_eq!(herald(&over).get("content"), None);
            assert_eq!(herald(&over)["fetch"], json!(true));
            assert_eq!(over["android"], largest["android"], "what is shown stays");
        }
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_body_first() {
    let mut sample = Sample::new(Form::Alert);
    sample.notification.content.payload.visual = Some(visual("Title", Some(&"\"ü".repeat(5000))));
    let cut = message(&sample);
    let notification = &cut["android"]["notification"];
    assert_eq!(notification["title"], json!("Title"));
    assert!(notification["body"].as_str().unwrap().ends_with('…'));
    assert!((4094..=4096).contains(&counted(&cut)), "{}", counted(&cut));
    assert_eq!(herald(&cut)["fetch"], json!(true));
}

#[test]
fn a_push_never_prints_its_token() {
    assert!(!format!("{:?}", build(&Sample::new(Form::Raw).context())).contains("00ff"));
}

proptest! {
    #[test]
    fn every_push_is_valid_json_counts_at_most_4096_bytes_and_uses_no_reserved_key(sample in any_sample()) {
        let message = message(&sample);
        prop_assert!(counted(&message) <= MAX_PAYLOAD_BYTES);
        for (key, value) in message["data"].as_object().unwrap() {
            let is_reserved = key == "from" || key == "message_type" || key.starts_with("google") || key.starts_with("gcm");
            prop_assert!(!is_reserved && value.is_string());
        }
        prop_assert_eq!(message["android"].get("notification").is_some(), sample.form.is_visible());
        prop_assert_eq!(message["android"].get("collapse_key"), None);
        let herald = herald(&message);
        let raw = sample.notification.content.payload.raw.as_deref();
        let is_fetch = herald.get("fetch").is_some();
        prop_assert!(is_fetch || herald.get("content").and_then(Value::as_str) == raw);
        prop_assert!(!is_fetch || herald.get("content").is_none());
    }
}
