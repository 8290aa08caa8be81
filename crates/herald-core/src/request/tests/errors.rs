//! Every way to break the contract, and the field that the error names.

use serde_json::{Value, json};

use super::super::*;
use super::{NOW, UNSID, envelope, full, least, read, with, without};

/// The body breaks the contract in this field, and the error says so and what to do.
fn check(body: &Value, field: &str) -> RequestError {
    let error = read(body, &envelope()).expect_err(&body.to_string());
    is_about(&error, field);
    error
}

fn is_about(error: &RequestError, field: &str) {
    assert_eq!(error.field, field, "{error}");
    assert!(!error.problem.is_empty() && !error.fix.is_empty(), "{error}");
}

fn check_envelope(envelope: &Envelope<'_>, field: &str) -> RequestError {
    let error = read(&full(), envelope).expect_err(&format!("{envelope:?}"));
    is_about(&error, field);
    error
}

fn check_bytes(body: &[u8], problem: &str) {
    let error = parse(body, &envelope(), Lane::Normal, &Limits::default(), NOW).unwrap_err();
    is_about(&error, "body");
    assert!(error.problem.contains(problem), "{error}");
}

#[test]
fn properties_that_are_not_of_a_request_are_named() {
    let property = |change: fn(&mut Envelope<'_>), field| {
        let mut envelope = envelope();
        change(&mut envelope);
        check_envelope(&envelope, field)
    };
    property(|e| e.kind = Some("herald.notification.v2"), "type");
    property(|e| e.content_type = Some("text/plain"), "content_type");
    property(|e| e.content_type = Some("application/json-patch+json"), "content_type");
    let gzip = property(|e| e.content_encoding = Some("gzip"), "content_encoding");
    assert!(gzip.fix.contains("uncompressed"), "{gzip}");
    let celery = property(|e| e.foreign = Some("Celery"), "headers");
    assert!(celery.problem.contains("Celery"), "{celery}");
    property(|e| e.message_id = Some("a\nb"), "message_id");
    let too_long = "m".repeat(129);
    let message_id = Some(too_long.as_str());
    check_envelope(&Envelope { message_id, ..envelope() }, "message_id");
}

#[test]
fn a_request_without_any_key_is_told_what_to_set() {
    let mut anonymous = envelope();
    anonymous.message_id = None;
    let error = read(&without(full(), "/appNotificationId"), &anonymous).unwrap_err();
    is_about(&error, "message_id");
    assert!(error.fix.contains("message_id") && error.fix.contains("appNotificationId"), "{error}");
}

#[test]
fn a_body_that_is_no_object_is_named() {
    check_bytes(b"", "not JSON");
    check_bytes(b"{\"target\":", "line 1");
    check_bytes(b"\xff\xfe", "not JSON");
    check_bytes(b"{} {}", "not JSON");
    check_bytes("[".repeat(10_000).as_bytes(), "not JSON");
    check_bytes(b"7", "not a JSON object");
    check_bytes(b"null", "not a JSON object");
    check_bytes(b"[{}]", "list");
    check_bytes(b"[[1],{},{\"callbacks\":null}]", "Celery");
    check_bytes(&[b' '; MAX_BODY_BYTES + 1], "65537 bytes");
    let fix = parse(b"[]", &envelope(), Lane::Normal, &Limits::default(), NOW).unwrap_err().fix;
    assert_eq!(fix, "send one notification per message");
    // Exactly the limit is read.
    let body = full().to_string();
    let padded = format!("{}{body}", " ".repeat(MAX_BODY_BYTES - body.len()));
    assert!(parse(padded.as_bytes(), &envelope(), Lane::Normal, &Limits::default(), NOW).is_ok());
}

#[test]
fn a_target_that_names_nobody_or_two_is_named() {
    check(&without(full(), "/target"), "target");
    check(&with(full(), "/target", json!("u")), "target");
    check(&with(full(), "/target", json!({})), "target");
    check(&with(full(), "/target/userId", json!("u")), "target");
    let unsid = "target.userNotificationSubscriptionId";
    let error = check(&with(full(), "/target/userNotificationSubscriptionId", json!("unsid-1")), unsid);
    assert!(error.problem.contains("was not issued by Herald"), "{error}");
    check(&with(full(), "/target/userNotificationSubscriptionId", json!(7)), unsid);
    for user in [json!(""), json!(7), json!("u".repeat(257)), json!("a\u{7}b")] {
        check(&with(least(), "/target/userId", user), "target.userId");
    }
    let other = "0192aaaa-bbbb-7ccc-8ddd-eeeeffff0002";
    check_envelope(&Envelope { unsid: Some(other), ..envelope() }, unsid);
    check_envelope(&Envelope { unsid: Some("unsid-1"), ..envelope() }, "x-uns-id");
    check_envelope(&Envelope { unsid: Some(""), ..envelope() }, "x-uns-id");
    let both = read(&least(), &Envelope { unsid: Some(UNSID), ..envelope() }).unwrap_err();
    is_about(&both, "target");
}

#[test]
fn an_app_that_is_no_host_name_is_named() {
    check(&without(full(), "/targetHostName"), "targetHostName");
    let label = "a".repeat(64);
    let long = vec!["a".repeat(63); 4].join(".");
    let not_names =
        ["", " ", "a b", "a..b", ".a", "a.", "-a.b", "a-.b", "https://a.b", "a.b:443", "a_b.c", "ä.de", &label, &long];
    for name in not_names {
        check(&with(full(), "/targetHostName", json!(name)), "targetHostName");
    }
    check(&with(full(), "/targetHostName", json!(["a.b"])), "targetHostName");
    for name in ["localhost", "xn--4ca.de", "1.2.3.4", &"a".repeat(63)] {
        assert!(read(&with(full(), "/targetHostName", json!(name)), &envelope()).is_ok(), "{name}");
    }
}

#[test]
fn a_plain_field_of_another_kind_is_named() {
    for (name, wrong) in [
        ("appNotificationId", json!("")),
        ("appNotificationId", json!(1042)),
        ("appNotificationId", json!("x".repeat(257))),
        ("appNotificationId", json!("a\u{0}")),
        ("groupName", json!("x".repeat(257))),
        ("groupName", json!({})),
        ("priority", json!("Urgent")),
        ("priority", json!("")),
        ("priority", json!(10)),
        ("displayTimeToLive", json!("a minute")),
        ("displayTimeToLive", json!(1.5)),
        ("displayTimeToLive", json!(-1)),
        ("displayTimeToLive", json!(2_147_483_648_u64)),
        ("displayTimeToLive", json!(true)),
        ("displayTimeToLive", json!(1e300)),
        ("payload", json!("hi")),
        ("payload", json!({})),
        ("payload", json!({"rawContent": null, "visualContent": null})),
        ("targetPolicy", json!(["ios"])),
        ("fallbackPolicy", json!(true)),
        ("expirationDateTime", json!("tomorrow")),
        ("expirationDateTime", json!("2026-10-01T00:00:00")),
        ("expirationDateTime", json!(1_790_000_000)),
        ("deliverAt", json!("")),
    ] {
        check(&with(full(), &format!("/{name}"), wrong), name);
    }
    check(&without(full(), "/payload"), "payload");
}

#[test]
fn content_of_another_kind_is_named_by_its_path() {
    let error = check(&with(full(), "/payload/rawContent", json!({"order": 1042})), "payload.rawContent");
    assert_eq!(error.problem, "is an object, not a string");
    for (visual, field) in [
        (json!("T"), "payload.visualContent"),
        (json!({}), "payload.visualContent.title"),
        (json!({"title": ""}), "payload.visualContent.title"),
        (json!({"title": " \n"}), "payload.visualContent.title"),
        (json!({"title": 7}), "payload.visualContent.title"),
        (json!({"title": "T", "body": []}), "payload.visualContent.body"),
    ] {
        check(&with(full(), "/payload/visualContent", visual), field);
    }
    let types = "targetPolicy.platformTypes";
    for wrong in [json!([]), json!(""), json!(["symbian"]), json!(["ios", 7]), json!({"ios": true})] {
        check(&with(full(), "/targetPolicy/platformTypes", wrong), types);
    }
}

#[test]
fn a_fallback_that_can_never_be_sent_is_named_by_its_path() {
    const AT: &str = "/fallbackPolicy/endpointFallback";
    let path = |name: &str| format!("fallbackPolicy.endpointFallback.{name}");
    check(&with(full(), "/fallbackPolicy", json!({})), "fallbackPolicy.endpointFallback");
    check(&with(full(), AT, json!([])), "fallbackPolicy.endpointFallback");
    for wrong in [json!([]), json!(["android"]), json!(["iOS", "Android"]), json!(null), json!(5)] {
        check(&with(full(), &format!("{AT}/platformTypes"), wrong), &path("platformTypes"));
    }
    for wrong in [json!(59), json!(601), json!(-60), json!("soon"), json!(null), json!(60.5)] {
        check(&with(full(), &format!("{AT}/fallbackDelayInSeconds"), wrong), &path("fallbackDelayInSeconds"));
    }
    check(&without(full(), &format!("{AT}/visualContent")), &path("visualContent"));
    check(&without(full(), &format!("{AT}/visualContent/title")), &path("visualContent.title"));
    check(&with(full(), &format!("{AT}/visualContent/body"), json!(7)), &path("visualContent.body"));
    check(&with(full(), "/targetPolicy/platformTypes", json!(["android"])), "targetPolicy.platformTypes");
    // Without a target policy, iOS is addressed.
    assert!(read(&without(full(), "/targetPolicy"), &envelope()).is_ok());
}

#[test]
fn a_life_that_is_over_is_told_from_one_that_is_wrong() {
    let at = |moment: Timestamp| json!(moment.to_rfc3339());
    let expires = |moment| check(&with(full(), "/expirationDateTime", at(moment)), "expirationDateTime").expired;
    assert!(expires(NOW));
    assert!(expires(NOW.minus(MAX_LIFE)));
    assert!(!expires(NOW.plus(MAX_LIFE).plus(CLOCK_TOLERANCE).plus(Duration::from_micros(1))));
    assert!(!check(&with(full(), "/expirationDateTime", json!("x")), "expirationDateTime").expired);
    check(&with(full(), "/deliverAt", json!("2026-10-01T00:00:00Z")), "deliverAt");
    check(&with(least(), "/deliverAt", at(NOW.plus(DEFAULT_LIFE))), "deliverAt");
}

#[test]
fn an_error_reads_as_one_line() {
    let error = check(&without(full(), "/targetHostName"), "targetHostName");
    let line = "targetHostName: is missing; set the host name the app is configured under, such as mail.contoso.com";
    assert_eq!(error.to_string(), line);
}
