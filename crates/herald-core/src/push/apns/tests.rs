//! Requests for APNs: forms, limits, sizes.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::payload::tests::{NOW, RECEIPT, Sample, any_sample, visual};

fn push(sample: &Sample) -> ApnsPush {
    build(&sample.context(), &Arc::from("com.contoso.mail"))
}

fn json_of(push: &ApnsPush) -> Value {
    serde_json::from_slice(&push.body).unwrap()
}

#[test]
fn a_raw_push_is_silent_and_a_toast_carries_all_that_its_raw_carried() {
    let raw = push(&Sample::new(Form::Raw));
    let herald = json!({"version": 1, "form": "raw", "notificationId": "00000000-0000-0000-0000-000000000007",
        "appNotificationId": "order-1042", "groupName": "orders", "receipt": RECEIPT, "content": "raw"});
    assert_eq!(json_of(&raw), json!({"aps": {"content-available": 1}, "herald": herald}));
    assert_eq!((raw.push_type, raw.priority), (PushType::Background, 5));
    assert_eq!(
        (&*raw.topic, raw.token.expose(), raw.environment.as_str()),
        ("com.contoso.mail", "00ff00ff", "sandbox")
    );

    let toast = push(&Sample::new(Form::Toast));
    let mut shown = herald.clone();
    shown["form"] = json!("toast");
    let aps = json!({"alert": {"title": "Order shipped", "body": "Arrives Tuesday"}, "sound": "default",
        "mutable-content": 1, "thread-id": "orders"});
    assert_eq!(json_of(&toast), json!({"aps": aps, "herald": shown}));
    assert_eq!((toast.push_type, toast.priority), (PushType::Alert, 10));

    assert_eq!(raw.collapse_id, toast.collapse_id);
    assert_ne!(raw.id, toast.id);
    assert_eq!(raw.id, push(&Sample::new(Form::Raw)).id, "a resend carries the same apns-id");
}

#[test]
fn an_alert_shows_the_payload_and_a_state_push_nothing() {
    let mut sample = Sample::new(Form::Alert);
    sample.notification.content.group_name = None;
    sample.notification.content.payload =
        crate::notification::Payload { raw: None, visual: Some(visual("Title", None)) };
    let alert = json_of(&push(&sample));
    assert_eq!(alert["aps"], json!({"alert": {"title": "Title"}, "sound": "default", "mutable-content": 1}));
    assert_eq!(alert["herald"].get("content"), None);
    assert_eq!(alert["herald"].get("fetch"), None);

    let state = push(&Sample::new(Form::State));
    assert_eq!((state.push_type, state.priority), (PushType::Background, 5));
    assert_eq!(json_of(&state)["aps"], json!({"content-available": 1}));
    assert_eq!(json_of(&state)["herald"]["fetch"], json!(true));
}

#[test]
fn the_provider_stores_a_push_no_longer_than_it_is_of_use() {
    let week = NOW.plus(Duration::from_secs(7 * 86_400)).secs();
    let check = |form, not_after: Option<i64>, display_ttl, expected| {
        let mut sample = Sample::new(form);
        sample.not_after = not_after.map(|millis| Timestamp::from_millis(NOW.micros() / 1000 + millis));
        sample.notification.content.display_ttl = display_ttl;
        assert_eq!(push(&sample).expiration, expected, "{form:?} {not_after:?} {display_ttl:?}");
    };
    check(Form::Raw, None, None, week);
    check(Form::Raw, Some(60_900), None, NOW.secs() + 60);
    check(Form::Raw, Some(60_000), Some(30), NOW.secs() + 30);
    check(Form::Raw, Some(60_000), Some(90), NOW.secs() + 60);
    // Only a raw push has a deadline.
    check(Form::Toast, Some(60_000), None, week);
    check(Form::Alert, None, Some(30), NOW.secs() + 30);
    // Never stored: it would take the place of a toast that waits for the device.
    check(Form::State, Some(60_000), Some(30), 0);
    // Within the second that runs: one attempt, not a moment in the past.
    check(Form::Raw, Some(900), None, 0);
    check(Form::Raw, Some(0), None, 0);
    check(Form::Alert, None, Some(0), 0);
    check(Form::Raw, Some(-5_000), None, NOW.secs() - 5);
}

#[test]
fn content_is_carried_up_to_exactly_4096_bytes() {
    let fits = |form, unit: &str, unit_bytes: usize| {
        let frame = push(&Sample::new(form).raw("")).body.len();
        let room = MAX_PAYLOAD_BYTES - frame;
        let full = format!("{}{}", unit.repeat(room / unit_bytes), "a".repeat(room % unit_bytes));
        let largest = push(&Sample::new(form).raw(full.clone()));
        assert_eq!(largest.body.len(), 4096);
        assert_eq!(json_of(&largest)["herald"]["content"], json!(full));

        let over = json_of(&push(&Sample::new(form).raw(format!("{full}a"))));
        assert_eq!(over["herald"].get("content"), None);
        assert_eq!(over["herald"]["fetch"], json!(true));
        assert_eq!(over["aps"], json_of(&push(&Sample::new(form)))["aps"], "what is shown stays");
    };
    for form in [Form::Raw, Form::Toast, Form::Alert] {
        fits(form, "a", 1);
        fits(form, "é", 2);
        fits(form, "🚢", 4);
        fits(form, "\"", 2);
        fits(form, "\u{1}", 6);
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_body_first() {
    let mut sample = Sample::new(Form::Alert);
    sample.notification.content.payload.visual = Some(visual("Title", Some(&"ü".repeat(5000))));
    let cut = push(&sample);
    let alert = json_of(&cut)["aps"]["alert"].clone();
    assert_eq!(alert["title"], json!("Title"));
    assert!(alert["body"].as_str().unwrap().ends_with("ü…"));
    assert!((4094..=4096).contains(&cut.body.len()), "{}", cut.body.len());
    // The whole text is there to be fetched, even if there is no raw content.
    sample.notification.content.payload.raw = None;
    assert_eq!(json_of(&push(&sample))["herald"]["fetch"], json!(true));

    sample.notification.content.payload.visual = Some(visual(&"t".repeat(5000), Some("Body")));
    let alert = json_of(&push(&sample))["aps"]["alert"].clone();
    assert!(alert["title"].as_str().unwrap().ends_with("t…"));
    assert_eq!(alert.get("body"), None);
}

#[test]
fn names_that_leave_no_room_are_left_for_the_app_to_fetch() {
    let mut sample = Sample::new(Form::Toast);
    sample.notification.content.group_name = Some("g".repeat(4000));
    let body = json_of(&push(&sample));
    assert_eq!(body["aps"]["alert"]["title"], json!("Order shipped"));
    assert_eq!(body["aps"].get("thread-id"), None);
    assert_eq!((&body["herald"]["fetch"], body["herald"].get("groupName")), (&json!(true), None));
    assert_eq!(body["herald"]["receipt"], json!(RECEIPT));

    // No title takes no room, but what is around it may be too large all the same.
    sample.notification.content.fallback = None;
    sample.notification.content.payload.visual = Some(visual("", None));
    assert!(push(&sample).body.len() <= MAX_PAYLOAD_BYTES);
}

proptest! {
    #[test]
    fn every_push_is_valid_json_of_at_most_4096_bytes(sample in any_sample()) {
        let push = push(&sample);
        prop_assert!(push.body.len() <= MAX_PAYLOAD_BYTES);
        prop_assert!(push.collapse_id.len() <= 64);
        prop_assert!(push.expiration >= 0);
        let body: Value = serde_json::from_slice(&push.body).unwrap();
        let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
        prop_assert_eq!(keys, ["aps", "herald"]);
        let (aps, herald) = (&body["aps"], &body["herald"]);
        let is_silent = aps == &json!({"content-available": 1});
        prop_assert_eq!(is_silent, !sample.form.is_visible());
        prop_assert_eq!(aps.get("alert").is_some(), sample.form.is_visible());
        prop_assert_eq!(&herald["receipt"], &json!(RECEIPT));
        // Nothing is lost without a word: the content is whole, or the app is told to fetch.
        let raw = sample.notification.content.payload.raw.as_deref();
        let is_fetch = herald.get("fetch").is_some();
        prop_assert!(is_fetch || herald.get("content").and_then(Value::as_str) == raw);
        prop_assert!(!is_fetch || herald.get("content").is_none());
    }
}
