//! Every row of APNs' answers, and whatever else may come.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
const SINCE_MS: i64 = 1_789_999_999_123;

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, provider_id: Some("id-1".to_owned()), retry_after: None, body: body.as_bytes().to_vec() }
}

fn of(status: u16, reason: &str) -> Outcome {
    classify(&answer(status, &format!(r#"{{"reason":"{reason}"}}"#)), NOW).outcome
}

const BAD_TOKEN: Outcome = Outcome::Gone { since: None, guarded: true };
const DEVICE: Outcome = Outcome::Throttled { scope: Scope::Device, after: None };
const PROVIDER: Outcome = Outcome::Throttled { scope: Scope::Provider, after: None };
const TROUBLE: Outcome = Outcome::Unavailable { after: None, least: Duration::ZERO };

#[test]
fn every_documented_reason_has_its_outcome() {
    let rows = [
        (400, "BadCollapseId", Outcome::Invalid),
        (400, "BadDeviceToken", BAD_TOKEN),
        (400, "BadExpirationDate", Outcome::Invalid),
        (400, "BadMessageId", Outcome::Invalid),
        (400, "BadPriority", Outcome::Invalid),
        (400, "BadTopic", Outcome::Misconfigured),
        (400, "DeviceTokenNotForTopic", BAD_TOKEN),
        (400, "DuplicateHeaders", Outcome::Invalid),
        (400, "IdleTimeout", Outcome::NotSent),
        (400, "InvalidPushType", Outcome::Invalid),
        (400, "MissingDeviceToken", Outcome::Invalid),
        (400, "MissingTopic", Outcome::Misconfigured),
        (400, "PayloadEmpty", Outcome::Invalid),
        (400, "TopicDisallowed", Outcome::Misconfigured),
        (403, "BadCertificate", Outcome::Unauthorized),
        (403, "BadCertificateEnvironment", Outcome::Unauthorized),
        (403, "ExpiredProviderToken", Outcome::Unauthorized),
        (403, "Forbidden", Outcome::Unauthorized),
        (403, "InvalidProviderToken", Outcome::Unauthorized),
        (403, "MissingProviderToken", Outcome::Unauthorized),
        (403, "UnrelatedKeyIdInToken", Outcome::Unauthorized),
        (403, "BadEnvironmentKeyIdInToken", Outcome::Unauthorized),
        (403, "BadEnvironmentKeyInToken", Outcome::Unauthorized),
        (404, "BadPath", Outcome::Invalid),
        (405, "MethodNotAllowed", Outcome::Invalid),
        (410, "ExpiredToken", BAD_TOKEN),
        (410, "Unregistered", BAD_TOKEN),
        (413, "PayloadTooLarge", Outcome::Invalid),
        (429, "TooManyProviderTokenUpdates", PROVIDER),
        (429, "TooManyRequests", DEVICE),
        (500, "InternalServerError", TROUBLE),
        (503, "ServiceUnavailable", TROUBLE),
        (503, "Shutdown", TROUBLE),
        (400, "BadChannelId", Outcome::Invalid),
        (400, "BadRequestParams", Outcome::Invalid),
        (400, "BadRequestPayload", Outcome::Invalid),
        (400, "CannotCreateChannelConfig", Outcome::Invalid),
        (400, "ChannelNotRegistered", Outcome::Invalid),
        (400, "FeatureNotEnabled", Outcome::Invalid),
        (400, "MissingChannelId", Outcome::Invalid),
        (400, "MissingPushType", Outcome::Invalid),
        (403, "TopicMismatch", Outcome::Unauthorized),
        (503, "Service Unavailable", TROUBLE),
    ];
    assert_eq!(rows.len(), DOCUMENTED.len(), "a reason was added without a row here");
    for (status, reason, outcome) in rows {
        let classified = classify(&answer(status, &format!(r#"{{"reason":"{reason}"}}"#)), NOW);
        let expected = Classified {
            outcome,
            status: Some(status),
            reason: Some(reason),
            detail: None,
            provider_id: Some("id-1".to_owned()),
        };
        assert_eq!(classified, expected);
    }
}

#[test]
fn a_200_is_accepted_with_or_without_an_apns_id() {
    let classified = classify(&answer(200, ""), NOW);
    assert_eq!((classified.outcome, classified.reason), (Outcome::Accepted, None));
    assert_eq!(classified.provider_id.as_deref(), Some("id-1"));
    let bare = classify(&Answer { status: 200, ..Answer::default() }, NOW);
    assert_eq!((bare.outcome, bare.provider_id), (Outcome::Accepted, None));
}

#[test]
fn a_410_with_a_timestamp_needs_no_guard() {
    let since = Some(Timestamp::from_millis(SINCE_MS));
    let check = |reason: &str, timestamp: &str, since, guarded| {
        let body = format!(r#"{{"reason":"{reason}"{timestamp}}}"#);
        assert_eq!(classify(&answer(410, &body), NOW).outcome, Outcome::Gone { since, guarded }, "{body}");
    };
    let at = format!(r#","timestamp":{SINCE_MS}"#);
    check("Unregistered", &at, since, false);
    check("ExpiredToken", &at, since, false);
    // A token's end at no known time may be about a token that was presented since.
    check("Unregistered", "", None, true);
    for broken in ["null", "\"soon\"", "-1", "0", "1e400", "1.5", "{}"] {
        let body = format!(r#"{{"reason":"Unregistered","timestamp":{broken}}}"#);
        let outcome = classify(&answer(410, &body), NOW).outcome;
        // 1e400 is no JSON number that can be read, so that answer is not APNs'.
        let expected = if broken == "1e400" { TROUBLE } else { BAD_TOKEN };
        assert_eq!(outcome, expected, "{body}");
    }
    // Only a 410 has a timestamp that means this.
    let body = format!(r#"{{"reason":"BadDeviceToken"{at}}}"#);
    assert_eq!(classify(&answer(400, &body), NOW).outcome, BAD_TOKEN);
}

#[test]
fn an_undocumented_reason_goes_by_its_status() {
    for (status, outcome) in [
        (400, Outcome::Invalid),
        (403, Outcome::Unauthorized),
        (404, Outcome::Invalid),
        (408, TROUBLE),
        (410, BAD_TOKEN),
        (418, Outcome::Invalid),
        (429, DEVICE),
        (500, TROUBLE),
        (599, TROUBLE),
    ] {
        let classified = classify(&answer(status, r#"{"reason":"New\u0000 Reason","more":[1]}"#), NOW);
        assert_eq!(classified.outcome, outcome, "{status}");
        assert_eq!((classified.reason, classified.detail.as_deref()), (Some("other"), Some("New Reason")));
    }
    // Even with a time, the word is not one that says "the token is dead".
    let body = format!(r#"{{"reason":"New","timestamp":{SINCE_MS}}}"#);
    let since = Some(Timestamp::from_millis(SINCE_MS));
    assert_eq!(classify(&answer(410, &body), NOW).outcome, Outcome::Gone { since, guarded: true });
    let long = classify(&answer(400, &format!(r#"{{"reason":"{}"}}"#, "x".repeat(1000))), NOW);
    assert_eq!(long.detail.map(|detail| detail.len()), Some(64));
}

#[test]
fn a_known_reason_at_another_status_goes_by_the_status_and_keeps_its_label() {
    let check = |status, reason, outcome| {
        let classified = classify(&answer(status, &format!(r#"{{"reason":"{reason}"}}"#)), NOW);
        assert_eq!((classified.outcome, classified.reason, classified.detail), (outcome, Some(reason), None));
    };
    check(400, "Unregistered", Outcome::Invalid);
    check(403, "BadDeviceToken", Outcome::Unauthorized);
    check(503, "BadDeviceToken", TROUBLE);
}

#[test]
fn an_error_without_a_reason_is_a_server_in_trouble_not_a_dead_token() {
    for status in [400, 403, 404, 410, 413, 429, 500, 502, 503] {
        for body in
            ["", "<html>", "{}", "[]", "null", r#"{"reason":7}"#, r#"{"reason":"#, r#"{"timestamp":1789999999123}"#]
        {
            let classified = classify(&answer(status, body), NOW);
            assert_eq!((classified.outcome, classified.reason), (TROUBLE, Some("other")), "{status} {body}");
        }
    }
}

#[test]
fn a_status_that_is_no_answer_is_unknown() {
    for status in [0, 100, 103, 199, 201, 204, 301, 308, 399, 600, 65535] {
        assert_eq!(of(status, "BadDeviceToken"), Outcome::Unknown, "{status}");
    }
}

#[test]
fn a_retry_after_is_kept_should_one_ever_come() {
    let wait = Some(Duration::from_secs(7));
    let check = |status, reason: &str, outcome| {
        let answer =
            Answer { retry_after: Some("7".to_owned()), ..answer(status, &format!(r#"{{"reason":"{reason}"}}"#)) };
        assert_eq!(classify(&answer, NOW).outcome, outcome);
    };
    check(429, "TooManyRequests", Outcome::Throttled { scope: Scope::Device, after: wait });
    check(503, "ServiceUnavailable", Outcome::Unavailable { after: wait, least: Duration::ZERO });
    check(500, "New", Outcome::Unavailable { after: wait, least: Duration::ZERO });
}

proptest! {
    #[test]
    fn only_the_documented_shape_is_gone(
        status in prop_oneof![any::<u16>(), Just(400), Just(403), Just(404), Just(410), Just(429)],
        reason in prop_oneof!["[A-Za-z]{0,20}", Just("BadDeviceToken".to_owned()), Just("DeviceTokenNotForTopic".to_owned())],
        junk in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        retry_after in proptest::option::of(".*"),
    ) {
        let genuine = junk.is_none();
        let body = junk.unwrap_or_else(|| format!(r#"{{"reason":"{reason}"}}"#).into_bytes());
        let classified = classify(&Answer { status, provider_id: None, retry_after, body }, NOW);
        let documented = genuine
            && (status == 410 || (status == 400 && (reason == "BadDeviceToken" || reason == "DeviceTokenNotForTopic")));
        prop_assert_eq!(matches!(classified.outcome, Outcome::Gone { .. }), documented);
        prop_assert_eq!(matches!(classified.outcome, Outcome::Accepted), status == 200);
    }
}
