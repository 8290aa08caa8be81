//! Random requests: nothing panics, and what is right survives.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::{NOW, envelope, full, read};

const SECRET: &str = "s3cret";

/// A request as a producer may write it, beside what it must be read as.
fn valid() -> impl Strategy<Value = (Value, Request)> {
    let name = || proptest::option::of("[^\\p{Cc}]{1,20}");
    let text = || ".{0,40}";
    let visual = || ("\\PC{0,10}[a-z]", proptest::option::of(text())).prop_map(|(title, body)| Visual { title, body });
    let payload = (proptest::option::of(text()), proptest::option::of(visual()))
        .prop_filter("neither", |(raw, visual)| raw.is_some() || visual.is_some());
    let fallback = proptest::option::of((60_u64..=600, visual()));
    let times = (
        proptest::option::of(2_u64..30 * 86_400),
        proptest::option::of(1_u64..7 * 86_400),
        proptest::option::of(1_u32..1_000_000),
    );
    let priority = proptest::sample::select(&[Priority::None, Priority::High, Priority::Low]);
    ((name(), name(), "[^\\p{Cc}]{1,20}"), priority, payload, fallback, times, 0_u8..16).prop_map(
        |((id, group, user), priority, (raw, visual), fallback, (expires, deliver, display_ttl), platforms)| {
            build(Request {
                app: AppId::new("a.example.com"),
                target: Target::User(UserId::new(user)),
                key: "m-1".to_owned(),
                content: Content {
                    app_notification_id: id,
                    group_name: group,
                    priority,
                    payload: Payload { raw, visual },
                    display_ttl,
                    target_policy: policy(platforms, fallback.is_some()),
                    fallback: fallback.map(|(secs, visual)| FallbackPolicy {
                        platforms: PlatformSet::EMPTY.with(Platform::Ios),
                        delay: Duration::from_secs(secs),
                        visual,
                    }),
                    traceparent: None,
                    tracestate: None,
                },
                expires_at: expires.map_or(NOW.plus(DEFAULT_LIFE), |secs| NOW.plus(Duration::from_secs(secs))),
                deliver_at: deliver.map(|secs| NOW.plus(Duration::from_secs(secs))),
                lane: Lane::Normal,
            })
        },
    )
}

/// Some platforms; iOS among them if a fallback wants it, all for none.
fn policy(bits: u8, needs_ios: bool) -> PlatformSet {
    let set =
        Platform::ALL.into_iter().filter(|p| bits & (1 << p.number()) != 0).fold(PlatformSet::EMPTY, PlatformSet::with);
    let set = if needs_ios { set.with(Platform::Ios) } else { set };
    if set.is_empty() { PlatformSet::ALL } else { set }
}

fn build(mut request: Request) -> (Value, Request) {
    request.deliver_at = request.deliver_at.filter(|at| *at < request.expires_at);
    let content = &request.content;
    let visual = |visual: &Visual| json!({"title": visual.title, "body": visual.body});
    let Target::User(user) = &request.target else { unreachable!("made above") };
    let body = json!({
        "target": {"userId": user.as_str()},
        "targetHostName": request.app.as_str(),
        "appNotificationId": content.app_notification_id,
        "groupName": content.group_name,
        "priority": format!("{:?}", content.priority),
        "payload": {"rawContent": content.payload.raw, "visualContent": content.payload.visual.as_ref().map(visual)},
        "displayTimeToLive": content.display_ttl,
        "targetPolicy": {"platformTypes": content.target_policy},
        "fallbackPolicy": content.fallback.as_ref().map(|fallback| json!({"endpointFallback": {
            "platformTypes": fallback.platforms,
            "fallbackDelayInSeconds": fallback.delay.as_secs(),
            "visualContent": visual(&fallback.visual),
        }})),
        "expirationDateTime": request.expires_at,
        "deliverAt": request.deliver_at,
    });
    (body, request)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,10}".prop_map(|text| Value::from(format!("{SECRET}{text}"))),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-zA-Z]{0,6}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Where each value of the body stands, as JSON pointers.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| pointers(value, &format!("{at}/{name}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| pointers(value, &format!("{at}/{i}"), found))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

proptest! {
    #[test]
    fn what_is_written_again_is_read_as_the_same_request((_, request) in valid()) {
        let again = parse(&body_of(&request), &envelope(), request.lane, &Limits::default(), NOW).unwrap();
        prop_assert_eq!(again, request);
    }

    #[test]
    fn a_request_is_read_as_it_was_written((body, request) in valid()) {
        prop_assert_eq!(read(&body, &envelope()), Ok(request));
    }

    #[test]
    fn any_value_anywhere_is_read_or_refused_without_quoting_it(at in any::<prop::sample::Index>(), value in any_json()) {
        let mut places = Vec::new();
        pointers(&full(), "", &mut places);
        let mut body = full();
        *body.pointer_mut(&places[at.index(places.len())]).unwrap() = value;
        if let Err(error) = read(&body, &envelope()) {
            let (said, field) = (error.to_string(), error.field);
            prop_assert!(!said.contains(SECRET), "{}", said);
            prop_assert!(!field.is_empty() && !error.problem.is_empty() && !error.fix.is_empty());
        }
    }

    #[test]
    fn a_body_with_changed_bytes_never_panics(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), end in any::<prop::sample::Index>()) {
        let mut bytes = full().to_string().into_bytes();
        for (at, byte) in changes {
            let i = at.index(bytes.len());
            bytes[i] = byte;
        }
        let is_read = |body: &[u8]| parse(body, &envelope(), Lane::Normal, &Limits::default(), NOW).is_ok();
        is_read(&bytes);
        bytes.truncate(end.index(bytes.len()));
        prop_assert!(!is_read(&bytes), "a body without its end was read");
    }

    #[test]
    fn any_bytes_and_any_properties_never_panic(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        texts in proptest::array::uniform8(proptest::option::of(".{0,80}")),
    ) {
        let [message_id, kind, content_type, content_encoding, user_id, unsid, traceparent, tracestate] = texts.each_ref().map(Option::as_deref);
        let envelope = Envelope { message_id, kind, content_type, content_encoding, user_id, unsid, traceparent, tracestate, foreign: None };
        prop_assert!(parse(&body, &envelope, Lane::High, &Limits::default(), NOW).is_err());
        if let Err(error) = read(&full(), &envelope) {
            prop_assert!(["message_id", "type", "content_type", "content_encoding", "x-uns-id"].contains(&error.field.as_str()), "{}", error);
        }
    }
}
