//! Every row of FCM's answers, and whatever else may come.

use proptest::prelude::*;

use super::*;

// Mon, 21 Sep 2026 14:13:20 GMT
const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
const GONE: Outcome = Outcome::Gone { since: None, guarded: true };
const TROUBLE: Outcome = Outcome::Unavailable { after: None, least: Duration::from_secs(10) };
const HTML: &str = "<!DOCTYPE html><title>Error</title><p>Please try again in 30 seconds.";

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));
const PROVIDER: Outcome = Outcome::Throttled { scope: Scope::Provider, after: MINUTE };
const DEVICE: Outcome = Outcome::Throttled { scope: Scope::Device, after: MINUTE };

fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer { status, provider_id: None, retry_after: None, body: body.into() }
}

/// An error body as Google writes it: the status word follows from the HTTP status.
fn error(http: u16, message: &str, details: &[&str]) -> String {
    let status = match http {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        _ => "UNKNOWN",
    };
    let details = details.join(",");
    format!(r#"{{"error":{{"code":{http},"message":"{message}","status":"{status}","details":[{details}]}}}}"#)
}

fn fcm(code: &str) -> String {
    format!(r#"{{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"{code}"}}"#)
}

fn violation(field: &str) -> String {
    format!(
        r#"{{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{{"field":"{field}","description":"Invalid"}}]}}"#
    )
}

fn quota(description: &str) -> String {
    format!(
        r#"{{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{"subject":"project:x","description":"{description}"}}]}}"#
    )
}

const INFO: &str = r#"{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ACCESS_TOKEN_EXPIRED"}"#;
const TOKEN_TEXT: &str = "The registration token is not a valid FCM registration token";

#[track_caller]
fn check(http: u16, body: &str, outcome: Outcome, reason: &'static str) {
    let expected = Classified { outcome, status: Some(http), reason: Some(reason), detail: None, provider_id: None };
    assert_eq!(classify(&answer(http, body), NOW), expected, "{body}");
}

#[test]
fn a_400_is_the_token_only_if_nothing_else_is_to_blame() {
    let reason = "INVALID_ARGUMENT";
    let (code, token, data) = (fcm(reason), violation("message.token"), violation("message.data[0].value"));
    let blamed = |message: &str, details: &[&str], outcome| check(400, &error(400, message, details), outcome, reason);
    blamed("Invalid", &[&code, &token], GONE);
    blamed("Invalid", &[&token, &code], GONE);
    blamed("Invalid", &[&code, &violation("message.fid")], GONE);
    blamed(TOKEN_TEXT, &[&code], GONE);
    blamed("Invalid", &[&data, &code], Outcome::Invalid);
    blamed(TOKEN_TEXT, &[&data, &token, &code], Outcome::Invalid);
    blamed("Invalid", &[&code], Outcome::Invalid);
    blamed(TOKEN_TEXT, &[], Outcome::Invalid);
    blamed("Invalid", &[&token], Outcome::Invalid);
    let large = r#"{"error":{"code":400,"message":"Payload too large","status":"INVALID_ARGUMENT"}}"#;
    check(400, large, Outcome::Invalid, reason);
}

#[test]
fn a_401_403_or_404_is_about_the_device_only_with_an_fcm_error() {
    let with = |http, code: &'static str, outcome| check(http, &error(http, "x", &[INFO, &fcm(code)]), outcome, code);
    with(404, "UNREGISTERED", GONE);
    with(403, "SENDER_ID_MISMATCH", GONE);
    with(401, "THIRD_PARTY_AUTH_ERROR", Outcome::Misconfigured);
    with(401, "APNS_AUTH_ERROR", Outcome::Misconfigured);
    for (http, outcome, reason) in [
        (401, Outcome::Unauthorized, "UNAUTHENTICATED"),
        (403, Outcome::Unauthorized, "PERMISSION_DENIED"),
        (404, Outcome::Misconfigured, "NOT_FOUND"),
    ] {
        check(http, &error(http, "x", &[INFO]), outcome, reason);
        check(http, &error(http, "x", &[]), outcome, reason);
        check(http, HTML, outcome, "other");
        check(http, "", outcome, "other");
    }
}

#[test]
fn a_429_slows_down_the_device_if_it_is_named_else_everything() {
    let code = fcm("QUOTA_EXCEEDED");
    let quota_of =
        |text: &str, outcome| check(429, &error(429, "x", &[&quota(text), &code]), outcome, "QUOTA_EXCEEDED");
    quota_of("Message rate per minute", PROVIDER);
    quota_of("Device message rate", DEVICE);
    check(429, &error(429, "Too many messages to this device", &[]), DEVICE, "RESOURCE_EXHAUSTED");
    check(429, &error(429, "x", &[]), PROVIDER, "RESOURCE_EXHAUSTED");
    check(429, HTML, PROVIDER, "other");
}

#[test]
fn a_server_in_trouble_is_unavailable_whatever_it_says() {
    check(500, &error(500, "x", &[&fcm("INTERNAL")]), TROUBLE, "INTERNAL");
    check(503, &error(503, "x", &[&fcm("UNAVAILABLE")]), TROUBLE, "UNAVAILABLE");
    check(500, &error(500, "x", &[&fcm("UNSPECIFIED_ERROR")]), TROUBLE, "UNSPECIFIED_ERROR");
    for http in [500, 502, 503, 504] {
        check(http, HTML, TROUBLE, "other");
        check(http, "", TROUBLE, "other");
    }
    check(400, &error(400, "x", &[&fcm("UNSPECIFIED_ERROR")]), Outcome::Invalid, "UNSPECIFIED_ERROR");
}

#[test]
fn a_200_is_accepted_by_its_message_name() {
    let classified = classify(&answer(200, r#"{"name":"projects/p/messages/0:1"}"#), NOW);
    assert_eq!((classified.outcome, classified.reason), (Outcome::Accepted, None));
    assert_eq!(classified.provider_id.as_deref(), Some("projects/p/messages/0:1"));
    for body in ["", "{}", HTML, r#"{"name":7}"#, r#"{"name":"projects/p/mess"#] {
        assert_eq!(classify(&answer(200, body), NOW).outcome, Outcome::Unknown, "{body}");
    }
}

#[test]
fn an_unknown_code_goes_by_its_status_and_is_never_gone() {
    for (status, outcome) in [
        (400, Outcome::Invalid),
        (401, Outcome::Unauthorized),
        (403, Outcome::Unauthorized),
        (404, Outcome::Misconfigured),
        (408, TROUBLE),
        (409, Outcome::Invalid),
        (429, PROVIDER),
        (500, TROUBLE),
        (302, Outcome::Unknown),
        (204, Outcome::Unknown),
    ] {
        let classified = classify(&answer(status, error(status, "x", &[&fcm("NEW_CODE")])), NOW);
        assert_eq!(classified.outcome, outcome, "{status}");
        assert_eq!((classified.reason, classified.detail.as_deref()), (Some("other"), Some("NEW_CODE")));
    }
    // A 400 that FCM did not write is not about this push.
    assert_eq!(classify(&answer(400, HTML), NOW).outcome, TROUBLE);
}

#[test]
fn a_code_at_another_status_is_not_believed() {
    for (status, code, outcome) in [
        (403, "UNREGISTERED", Outcome::Unauthorized),
        (400, "UNREGISTERED", Outcome::Invalid),
        (410, "UNREGISTERED", Outcome::Invalid),
        (503, "UNREGISTERED", TROUBLE),
        (404, "SENDER_ID_MISMATCH", Outcome::Misconfigured),
    ] {
        let classified = classify(&answer(status, error(status, TOKEN_TEXT, &[&fcm(code)])), NOW);
        assert_eq!((classified.outcome, classified.reason), (outcome, Some(code)), "{status} {code}");
    }
    // The word must come from FcmError; a look-alike type does not count.
    let other = r#"{"@type":"type.googleapis.com/x.FcmError","errorCode":"UNREGISTERED"}"#;
    assert_eq!(classify(&answer(404, error(404, "x", &[other])), NOW).outcome, Outcome::Misconfigured);
    let as_status = error(404, "x", &[]).replace("NOT_FOUND", "UNREGISTERED");
    assert_eq!(classify(&answer(404, as_status), NOW).outcome, Outcome::Misconfigured);
}

#[test]
fn a_retry_after_is_seconds_or_a_date_and_an_hour_at_most() {
    let check = |text: &str, secs: Option<u64>| {
        let answer = Answer { retry_after: Some(text.to_owned()), ..answer(503, "") };
        assert_eq!(retry_after(&answer, NOW), secs.map(Duration::from_secs), "{text}");
    };
    check("0", Some(0));
    check(" 120 ", Some(120));
    check("86400", Some(3600));
    check("99999999999999999999999999", Some(3600));
    check("Mon, 21 Sep 2026 14:15:00 GMT", Some(100));
    check("Mon, 21 Sep 2026 14:13:00 GMT", Some(0));
    check("Tue, 22 Sep 2026 14:15:00 GMT", Some(3600));
    for junk in ["", "soon", "-5", "1.5", "+5", "2026-09-21T14:15:00Z"] {
        check(junk, None);
    }
    let throttled = Answer { retry_after: Some("7".to_owned()), ..answer(429, HTML) };
    let after = Some(Duration::from_secs(7));
    assert_eq!(classify(&throttled, NOW).outcome, Outcome::Throttled { scope: Scope::Provider, after });
    let busy = Answer { retry_after: Some("7".to_owned()), ..answer(503, HTML) };
    assert_eq!(classify(&busy, NOW).outcome, Outcome::Unavailable { after, least: Duration::ZERO });
}

proptest! {
    #[test]
    fn any_bytes_at_any_status_are_classified_and_never_gone(
        status in prop_oneof![any::<u16>(), Just(400), Just(403), Just(404), Just(410), Just(429)],
        body in proptest::collection::vec(any::<u8>(), 0..200),
        retry_after in proptest::option::of(".*"),
    ) {
        let classified = classify(&Answer { status, provider_id: None, retry_after, body }, NOW);
        let is_gone_or_accepted = matches!(classified.outcome, Outcome::Gone { .. } | Outcome::Accepted);
        prop_assert!(!is_gone_or_accepted);
    }

    #[test]
    fn only_the_three_documented_shapes_are_gone(
        status in prop_oneof![400_u16..=404, Just(410), Just(429), Just(500)],
        code in prop_oneof!["[A-Z_]{0,12}", proptest::sample::select(DOCUMENTED).prop_map(str::to_owned)],
        field in prop_oneof![Just("message.token"), Just("message.data[0].value"), Just("")],
        has_fcm_error in any::<bool>(),
    ) {
        let mut details = vec![violation(field)];
        if has_fcm_error {
            details.push(fcm(&code));
        }
        let details: Vec<&str> = details.iter().map(String::as_str).collect();
        let outcome = classify(&answer(status, error(status, "x", &details)), NOW).outcome;
        let documented = has_fcm_error
            && matches!(
                (status, code.as_str(), field),
                (404, "UNREGISTERED", _) | (403, "SENDER_ID_MISMATCH", _) | (400, "INVALID_ARGUMENT", "message.token")
            );
        prop_assert_eq!(matches!(outcome, Outcome::Gone { .. }), documented);
    }
}
