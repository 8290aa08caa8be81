//! Tables: every leniency and every error. Random bodies are in `random`.

mod errors;
mod random;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
pub(super) const UNSID: &str = "0192aaaa-bbbb-7ccc-8ddd-eeeeffff0001";

pub(super) fn envelope() -> Envelope<'static> {
    Envelope { message_id: Some("m-1"), content_type: Some("application/json"), ..Envelope::default() }
}

/// The example of docs/requests.md.
pub(super) fn full() -> Value {
    json!({
        "target": { "userNotificationSubscriptionId": UNSID },
        "targetHostName": "mail.contoso.com", "appNotificationId": "order-1042", "groupName": "orders",
        "priority": "High", "expirationDateTime": "2026-10-01T00:00:00Z", "displayTimeToLive": 600,
        "deliverAt": "2026-09-30T00:00:00Z",
        "payload": { "rawContent": "{\"order\":1042}" },
        "targetPolicy": { "platformTypes": ["ios", "android"] },
        "fallbackPolicy": { "endpointFallback": { "platformTypes": ["ios"], "fallbackDelayInSeconds": 60,
                            "visualContent": { "title": "Order shipped", "body": "Arrives Tuesday" } } }
    })
}

/// The least that is a request.
pub(super) fn least() -> Value {
    json!({ "target": { "userId": "u" }, "targetHostName": "a.example.com", "payload": { "rawContent": "hi" } })
}

/// Sets the field at a JSON pointer, whether it was there or not.
pub(super) fn with(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
    body
}

pub(super) fn without(mut body: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    body
}

pub(super) fn read(body: &Value, envelope: &Envelope<'_>) -> Result<Request, RequestError> {
    parse(body.to_string().as_bytes(), envelope, Lane::Normal, &Limits::default(), NOW)
}

fn ok(body: &Value) -> Request {
    read(body, &envelope()).unwrap_or_else(|error| panic!("{error} in {body}"))
}

fn visual(title: &str, body: Option<&str>) -> Visual {
    Visual { title: title.to_owned(), body: body.map(str::to_owned) }
}

#[test]
fn a_full_request_is_read_field_by_field() {
    let request = parse(full().to_string().as_bytes(), &envelope(), Lane::Low, &Limits::default(), NOW).unwrap();
    let ios = PlatformSet::EMPTY.with(Platform::Ios);
    let expected = Request {
        app: AppId::new("mail.contoso.com"),
        target: Target::Unsid(Unsid(Uuid::try_parse(UNSID).unwrap())),
        key: "m-1".to_owned(),
        content: Content {
            app_notification_id: Some("order-1042".to_owned()),
            group_name: Some("orders".to_owned()),
            priority: Priority::High,
            payload: Payload { raw: Some("{\"order\":1042}".to_owned()), visual: None },
            display_ttl: Some(600),
            target_policy: ios.with(Platform::Android),
            fallback: Some(FallbackPolicy {
                platforms: ios,
                delay: Duration::from_secs(60),
                visual: visual("Order shipped", Some("Arrives Tuesday")),
            }),
            traceparent: None,
            tracestate: None,
        },
        expires_at: Timestamp::parse_rfc3339("2026-10-01T00:00:00Z").unwrap(),
        deliver_at: Timestamp::parse_rfc3339("2026-09-30T00:00:00Z"),
        lane: Lane::Low,
    };
    assert_eq!(request, expected);
}

#[test]
fn what_is_left_out_has_its_default() {
    let request = ok(&least());
    assert_eq!(request.target, Target::User(UserId::new("u")));
    assert_eq!(request.expires_at, NOW.plus(DEFAULT_LIFE));
    assert_eq!((request.deliver_at, request.lane), (None, Lane::Normal));
    let content = request.content;
    assert_eq!(content.target_policy, PlatformSet::ALL);
    assert_eq!((content.priority, content.display_ttl, content.fallback), (Priority::None, None, None));
}

#[test]
fn null_is_absent_everywhere() {
    let mut nulls = least();
    for name in [
        "appNotificationId",
        "groupName",
        "priority",
        "expirationDateTime",
        "displayTimeToLive",
        "deliverAt",
        "targetPolicy",
        "fallbackPolicy",
    ] {
        nulls = with(nulls, &format!("/{name}"), Value::Null);
    }
    nulls = with(nulls, "/payload/visualContent", Value::Null);
    nulls = with(nulls, "/target/userNotificationSubscriptionId", Value::Null);
    assert_eq!(ok(&nulls), ok(&least()));
}

#[test]
fn graphs_leniency_is_kept() {
    let same = |pointer: &str, spelling: Value| {
        assert_eq!(ok(&with(full(), pointer, spelling.clone())), ok(&full()), "{pointer} {spelling}");
    };
    same("/displayTimeToLive", json!("600"));
    same("/displayTimeToLive", json!(" 600 "));
    same("/displayTimeToLive", json!(600.0));
    same("/priority", json!("high"));
    same("/priority", json!("HIGH"));
    same("/targetHostName", json!("Mail.CONTOSO.com"));
    same("/targetPolicy/platformTypes", json!(["Android", "IOS"]));
    same("/targetPolicy/platformTypes", json!(["ios", "android", "ios"]));
    same("/fallbackPolicy/endpointFallback/platformTypes", json!("iOS"));
    same("/fallbackPolicy/endpointFallback/fallbackDelayInSeconds", json!("60"));
    same("/expirationDateTime", json!("2026-10-01T02:00:00.000+02:00"));
    same("/expirationDateTime", json!("2026-10-01T00:00:00.0000000Z"));
    same("/target/userNotificationSubscriptionId", json!(UNSID.to_uppercase()));
    same("/unknownField", json!({"deep": [1, 2, 3]}));
    same("/payload/@odata.type", json!("#microsoft.graph.payloadTypes"));
}

#[test]
fn a_field_may_have_other_forms_that_mean_something() {
    let content = |pointer: &str, value: Value| ok(&with(least(), pointer, value)).content;
    assert_eq!(content("/targetPolicy", json!({})).target_policy, PlatformSet::ALL);
    let one = content("/targetPolicy", json!({"platformTypes": "webpush"})).target_policy;
    assert_eq!(one, PlatformSet::EMPTY.with(Platform::WebPush));
    assert_eq!(content("/displayTimeToLive", json!(0)).display_ttl, None);
    assert_eq!(content("/displayTimeToLive", json!(2_147_483_647)).display_ttl, Some(2_147_483_647));
    assert_eq!(content("/groupName", json!("")).group_name, None);
    assert_eq!(content("/groupName", json!("ü".repeat(256))).group_name, Some("ü".repeat(256)));
    assert_eq!(content("/payload/rawContent", json!("")).payload.raw.as_deref(), Some(""));
    assert_eq!(content("/priority", json!("None")).priority, Priority::None);
    assert_eq!(content("/priority", json!("low")).priority, Priority::Low);
    let payload = content("/payload/visualContent", json!({"title": "T"})).payload;
    assert_eq!(payload, Payload { raw: Some("hi".to_owned()), visual: Some(visual("T", None)) });
    // A fallback that can't be owed is no error: it is counted as not owed.
    assert!(ok(&with(full(), "/priority", json!("Low"))).content.fallback.is_some());
    let visible = with(full(), "/payload", json!({"visualContent": {"title": "T"}}));
    assert!(ok(&visible).content.fallback.is_some());
}

#[test]
fn the_older_wrapped_body_is_read_with_the_target_inside_or_beside() {
    let inside = json!({ "notification": full() });
    assert_eq!(ok(&inside), ok(&full()));
    let target = full()["target"].clone();
    let beside = json!({ "notification": without(full(), "/target"), "target": target });
    assert_eq!(ok(&beside), ok(&full()));
    // A field that only happens to have that name is ignored like any other.
    assert_eq!(ok(&with(full(), "/notification", json!({"x": 1}))), ok(&full()));
}

#[test]
fn the_header_names_the_subscription_as_well() {
    let header = Envelope { unsid: Some(UNSID), ..envelope() };
    let target = ok(&full()).target;
    assert_eq!(read(&without(full(), "/target"), &header).unwrap().target, target);
    assert_eq!(read(&full(), &header).unwrap().target, target);
    assert_eq!(read(&with(full(), "/target", Value::Null), &header).unwrap().target, target);
}

#[test]
fn properties_are_read_as_clients_send_them() {
    for (kind, content_type, content_encoding) in [
        (None, None, None),
        (Some(KIND), Some("application/json"), Some("identity")),
        (Some(""), Some("Application/JSON; charset=utf-8"), Some("utf-8")),
        (None, Some(""), Some("")),
    ] {
        let envelope = Envelope { kind, content_type, content_encoding, ..envelope() };
        assert_eq!(read(&full(), &envelope).unwrap(), ok(&full()), "{envelope:?}");
    }
    let with_bom = [b"\xEF\xBB\xBF".as_slice(), full().to_string().as_bytes()].concat();
    assert_eq!(parse(&with_bom, &envelope(), Lane::Normal, &Limits::default(), NOW).unwrap(), ok(&full()));
}

#[test]
fn the_key_is_the_message_id_else_of_the_id_and_the_body() {
    let anonymous = Envelope { message_id: None, ..envelope() };
    let key = |body: &Value, envelope: &Envelope<'_>| read(body, envelope).unwrap().key;
    assert_eq!(key(&full(), &envelope()), "m-1");
    let longest = "é".repeat(128);
    assert_eq!(key(&full(), &Envelope { message_id: Some(&longest), ..envelope() }), longest);

    let derived = key(&full(), &anonymous);
    assert!(derived.starts_with("order-1042#") && derived.len() == "order-1042#".len() + 32, "{derived}");
    assert_eq!(derived, key(&full(), &Envelope { message_id: Some(""), ..envelope() }));
    assert_eq!(derived, key(&full(), &anonymous), "a resend has the same key");
    assert_ne!(derived, key(&with(full(), "/groupName", json!("x")), &anonymous), "another body is a new notification");
    // sha256sum of the two bytes `{}` begins so; a change of the derivation would make repetitions new notifications.
    assert_eq!(super::key(&anonymous, Some("a"), b"{}").unwrap(), "a#44136fa355b3678a1146ad16f7e8649e");
}

#[test]
fn times_are_limited_by_now_and_30_days() {
    let at = |secs: u64, millis: u64| NOW.plus(Duration::from_secs(secs)).plus(Duration::from_millis(millis));
    let expires = |at: Timestamp| ok(&with(least(), "/expirationDateTime", json!(at.to_rfc3339()))).expires_at;
    assert_eq!(expires(at(0, 1)), at(0, 1));
    assert_eq!(expires(NOW.plus(MAX_LIFE)), NOW.plus(MAX_LIFE));
    // Asked by a clock that is ahead of ours.
    assert_eq!(expires(NOW.plus(MAX_LIFE).plus(CLOCK_TOLERANCE)), NOW.plus(MAX_LIFE));
    let deliver = |at: Timestamp| ok(&with(least(), "/deliverAt", json!(at.to_rfc3339()))).deliver_at;
    assert_eq!(deliver(at(0, 1)), Some(at(0, 1)));
    assert_eq!(deliver(NOW), None, "what should have been delivered by now is delivered now");
    assert_eq!(deliver(NOW.minus(MAX_LIFE)), None);
}

#[test]
fn the_operator_may_allow_other_delays() {
    let limits = Limits { fallback_delay_secs: (2, 5) };
    let body = with(full(), "/fallbackPolicy/endpointFallback/fallbackDelayInSeconds", json!(2)).to_string();
    let request = parse(body.as_bytes(), &envelope(), Lane::High, &limits, NOW).unwrap();
    assert_eq!(request.content.fallback.unwrap().delay, Duration::from_secs(2));
    let error = parse(full().to_string().as_bytes(), &envelope(), Lane::High, &limits, NOW).unwrap_err();
    assert_eq!(error.fix, "set whole seconds, 2 to 5");
}

#[test]
fn a_trace_context_is_handed_on_if_it_is_one() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let check = |traceparent: &str, tracestate: &str, expected: (Option<&str>, Option<&str>)| {
        let envelope = Envelope { traceparent: Some(traceparent), tracestate: Some(tracestate), ..envelope() };
        let content = read(&full(), &envelope).unwrap().content;
        assert_eq!((content.traceparent.as_deref(), content.tracestate.as_deref()), expected);
    };
    check(parent, "a=1,b=2", (Some(parent), Some("a=1,b=2")));
    check(parent, "", (Some(parent), None));
    check(parent, &"x".repeat(513), (Some(parent), None));
    check(parent, "a=\n", (Some(parent), None));
    for broken in
        ["", "00", &parent.to_uppercase(), &parent.replace("00-", "ff-"), &format!("{parent}-00"), &"0".repeat(10_000)]
    {
        check(broken, "a=1", (None, None));
    }
    check("00-00000000000000000000000000000000-b7ad6b7169203331-01", "a=1", (None, None));
}

#[test]
fn a_users_token_names_the_user() {
    let read_for = |body: &Value, unsid| {
        let envelope = Envelope { unsid, ..envelope() };
        let body = body.to_string();
        let request = parse_for(UserId::new("u"), body.as_bytes(), &envelope, Lane::Normal, &Limits::default(), NOW);
        request.map(|request| request.target).map_err(|error| error.field)
    };
    let user = Target::User(UserId::new("u"));
    assert_eq!(read_for(&without(full(), "/target"), None), Ok(user.clone()));
    assert_eq!(read_for(&least(), None), Ok(user));
    assert_eq!(read_for(&with(least(), "/target/userId", json!("v")), None), Err("target".to_owned()));
    assert_eq!(read_for(&full(), None), Err("target".to_owned()));
    assert_eq!(read_for(&without(full(), "/target"), Some(UNSID)), Err("x-uns-id".to_owned()));
}
