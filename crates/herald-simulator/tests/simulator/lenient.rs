//! What strictness decides, and what becomes of pushes that APNs takes but doesn't deliver.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use herald_simulator::{ApnsRules, Condition, DeviceRate, Mismatch, PhoneChange, PhoneSpec, SettingsChange};
use http::{HeaderValue, Request};

use super::connections::rules;
use super::wire::{RAW, Wire, pushing, read, with_key};
use super::*;

fn signed(credentials: &Credentials, iat: &Value) -> String {
    let key = EncodingKey::from_ec_pem(credentials.apns_key_pem.as_bytes()).unwrap();
    let header = Header { kid: Some(credentials.apns_key_id.clone()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, &json!({ "iss": credentials.apns_team_id, "iat": iat }), &key).unwrap()
}

/// The token's signature as `SEQUENCE { INTEGER r, INTEGER s }`, encoded with `engine`.
fn with_der_signature(token: &str, engine: &impl Engine) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let integer = |half: &[u8]| {
        let digits = &half[half.iter().take_while(|digit| **digit == 0).count()..];
        let sign: &[u8] = if digits[0] >= 0x80 { &[0] } else { &[] };
        [&[2, u8::try_from(sign.len() + digits.len()).unwrap()], sign, digits].concat()
    };
    let body = [integer(&raw[..32]), integer(&raw[32..])].concat();
    format!("{signed}.{}", engine.encode([&[0x30, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()))
}

/// The same claims in standard base64 with padding, and a signature that fits them.
fn padded(credentials: &Credentials, token: &str) -> String {
    let mut parts = token.split('.').map(|part| STANDARD.encode(URL_SAFE_NO_PAD.decode(part).unwrap()));
    let signed = format!("{}.{}", parts.next().unwrap(), parts.next().unwrap());
    let key = EncodingKey::from_ec_pem(credentials.apns_key_pem.as_bytes()).unwrap();
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::ES256).unwrap();
    format!("{signed}.{}", STANDARD.encode(URL_SAFE_NO_PAD.decode(signature).unwrap()))
}

async fn reason_of(wire: &Wire, request: Request<()>, body: &str) -> String {
    let response = wire.answer(request, body).await.unwrap();
    let (frames, _) = read(response.into_body()).await;
    let body: Value = serde_json::from_slice(&frames.concat()).unwrap_or_default();
    body["reason"].as_str().unwrap_or_default().to_owned()
}

fn set(mut request: Request<()>, name: &'static str, value: &str) -> Request<()> {
    request.headers_mut().remove(name);
    if !value.is_empty() {
        request.headers_mut().insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request
}

fn strict(simulator: &Simulator, strict: bool) {
    simulator.set(&SettingsChange { strict: Some(strict), ..SettingsChange::default() });
}

#[tokio::test]
async fn what_independent_clients_send_is_refused_strictly_and_taken_leniently() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let own = mail(&simulator);
    let usual = signed(&own, &json!(now()));
    let with = |provider_token: &str| with_key(provider_token, MAIL_TOPIC, &token);
    let push = || pushing(&simulator, &token);
    let fraction = json!(0.5 + f64::from(i32::try_from(now()).unwrap()));
    let alert = r#"{"aps":{"alert":"a"}}"#;
    for (name, request, body, refused, delivered) in [
        ("DER", with(&with_der_signature(&usual, &URL_SAFE_NO_PAD)), RAW, "InvalidProviderToken", 1),
        ("DER, padded", with(&with_der_signature(&usual, &STANDARD)), RAW, "InvalidProviderToken", 1),
        ("padded", with(&padded(&own, &usual)), RAW, "InvalidProviderToken", 1),
        ("fraction", with(&signed(&own, &fraction)), RAW, "InvalidProviderToken", 1),
        ("text", with(&signed(&own, &json!(now().to_string()))), RAW, "InvalidProviderToken", 1),
        ("upper case", set(push(), "apns-id", "01234567-89AB-CDEF-0123-456789ABCDEF"), RAW, "BadMessageId", 1),
        ("priority 10", set(push(), "apns-priority", "10"), RAW, "BadPriority", 0),
        ("no priority", set(push(), "apns-priority", ""), RAW, "BadPriority", 0),
        ("mismatch", push(), alert, "InvalidPushType", 1),
        ("suffix", set(push(), "apns-topic", "com.contoso.mail.voip"), RAW, "BadTopic", 1),
        ("no JSON", push(), "hello", "PayloadEmpty", 0),
        ("no object", push(), "[1]", "PayloadEmpty", 0),
    ] {
        let copy = || {
            let mut again = Request::new(());
            (*again.method_mut(), *again.uri_mut()) = (request.method().clone(), request.uri().clone());
            again.headers_mut().clone_from(request.headers());
            again
        };
        strict(&simulator, true);
        assert_eq!(reason_of(&Wire::apns(&simulator).await, copy(), body).await, refused, "{name}");
        strict(&simulator, false);
        let before = simulator.phone("anna").unwrap().tally.received;
        assert_eq!(reason_of(&Wire::apns(&simulator).await, copy(), body).await, "", "{name}");
        assert_eq!(simulator.phone("anna").unwrap().tally.received - before, delivered, "{name}");
        let noted = simulator.journal().last().unwrap().notes == ["dropped"];
        assert_eq!(noted, delivered == 0, "{name}");
    }
}

#[tokio::test]
async fn a_push_type_that_contradicts_the_payload_is_refused_taken_dropped_or_late() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    let alert = r#"{"aps":{"alert":"a"}}"#;
    for (mismatch, reason, received, note) in [
        (None, "InvalidPushType", 0, None),
        (Some(Mismatch::Error), "InvalidPushType", 0, None),
        (Some(Mismatch::Accept), "", 1, None),
        (Some(Mismatch::Drop), "", 1, Some("dropped")),
        // Not within this test.
        (Some(Mismatch::DelayMs(600_000)), "", 1, Some("delayed")),
    ] {
        rules(&simulator, ApnsRules { mismatch, ..ApnsRules::default() });
        assert_eq!(reason_of(&wire, pushing(&simulator, &token), alert).await, reason, "{mismatch:?}");
        assert_eq!(simulator.phone("anna").unwrap().tally.received, received, "{mismatch:?}");
        let notes = simulator.journal().last().unwrap().notes.clone();
        assert_eq!(notes.first().map(String::as_str), note, "{mismatch:?}");
    }
    rules(&simulator, ApnsRules { mismatch: Some(Mismatch::DelayMs(1)), ..ApnsRules::default() });
    assert_eq!(reason_of(&wire, pushing(&simulator, &token), alert).await, "");
    assert!(simulator.wait_for_phone("anna", LIMIT, |phone| phone.tally.received == 2).await.is_some());
}

#[tokio::test]
async fn a_push_without_a_type_is_taken_and_noted() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    assert_eq!(wire.reason(set(pushing(&simulator, &token), "apns-push-type", "")).await.0, 200);
    assert_eq!(simulator.journal()[0].notes, ["withoutPushType"]);
    assert_eq!(simulator.counters().accepted["apns"]["missing"], 1);
    assert_eq!(simulator.phone("anna").unwrap().tally.raws_delivered, 1);
}

#[tokio::test]
async fn tokens_of_any_length_are_tokens_and_collapse_ids_are_measured_in_bytes() {
    let simulator = start().await;
    let wire = Wire::apns(&simulator).await;
    for length in [2, 64, 160, 200] {
        let spec = PhoneSpec { token: Some("ab".repeat(length / 2)), ..PhoneSpec::new(MAIL, Platform::Ios) };
        let token = simulator.add_phone("anna", &spec).unwrap().token;
        assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200, "{length}");
    }
    let token = iphone(&simulator, "bert").token;
    for (id, status) in [("é".repeat(32), 200), ("é".repeat(33), 400), (format!("{}x", "é".repeat(32)), 400)] {
        let (answered, reason) = wire.reason(set(pushing(&simulator, &token), "apns-collapse-id", &id)).await;
        assert_eq!((answered, reason == "BadCollapseId"), (status, status == 400), "{id}");
    }
}

#[tokio::test]
async fn an_expiration_of_zero_is_never_stored_and_one_in_the_past_reaches_nobody() {
    let simulator = start().await;
    let spec = PhoneSpec { condition: Condition::Offline, ..PhoneSpec::new(MAIL, Platform::Ios) };
    let token = simulator.add_phone("anna", &spec).unwrap().token;
    let wire = Wire::apns(&simulator).await;
    let expiring = |when: &str| set(pushing(&simulator, &token), "apns-expiration", when);
    let past = (now() - 60).to_string();
    let future = (now() + 60).to_string();
    for (when, expired, stored) in [("0", 1, 0), (past.as_str(), 2, 0), (future.as_str(), 2, 1)] {
        assert_eq!(wire.reason(expiring(when)).await.0, 200);
        let phone = simulator.phone("anna").unwrap();
        assert_eq!((phone.tally.expired, phone.stored), (expired, stored), "{when}");
    }
    let awake = PhoneChange { condition: Some(Condition::Awake), ..PhoneChange::default() };
    assert_eq!(simulator.change_phone("anna", &awake).unwrap().tally.raws_delivered, 1);
    // To a phone that is there, 0 is delivered and the past still isn't.
    assert_eq!((wire.reason(expiring("0")).await.0, wire.reason(expiring(&past)).await.0), (200, 200));
    let tally = simulator.phone("anna").unwrap().tally;
    assert_eq!((tally.raws_delivered, tally.expired), (2, 3));
}

#[tokio::test]
async fn a_device_that_gets_too_much_is_throttled_alone() {
    let simulator = start().await;
    let (anna, bert) = (iphone(&simulator, "anna").token, iphone(&simulator, "bert").token);
    let device_rate = Some(DeviceRate { burst: 2, refill_secs: 60 });
    rules(&simulator, ApnsRules { device_rate, ..ApnsRules::default() });
    let wire = Wire::apns(&simulator).await;
    let mut statuses = Vec::new();
    for token in [&anna, &anna, &anna, &bert] {
        let response = wire.answer(pushing(&simulator, token), RAW).await.unwrap();
        assert!(!response.headers().contains_key("retry-after"));
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 429, 200]);
    assert_eq!(simulator.counters().refused["apns"]["TooManyRequests"], 1);
    simulator.set(&SettingsChange { clock_offset_secs: Some(61), ..SettingsChange::default() });
    assert_eq!(wire.reason(pushing(&simulator, &anna)).await.0, 200);
    assert_eq!(wire.reason(pushing(&simulator, &anna)).await, (429, "TooManyRequests".to_owned()));
}
