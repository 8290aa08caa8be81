//! `docs/app-side.schema.json`, which apps are written by, against what is really built.
//!
//! The check knows the keywords that the schema uses, and fails at any other: so none is passed over.

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::tests::{RECEIPT, Sample, any_sample};
use super::*;
use crate::push::{apns, fcm};

const SCHEMA: &str = include_str!("../../../../docs/app-side.schema.json");
/// The only pattern of the schema.
const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// Does the value have what this keyword of the schema asks?
fn holds(schema: &Value, keyword: &str, expected: &Value, value: &Value) -> bool {
    let object = value.as_object();
    match keyword {
        "$schema" | "title" | "description" | "examples" | "then" => true,
        "type" => match expected.as_str().unwrap() {
            "object" => value.is_object(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            other => panic!("the check does not know the type {other}"),
        },
        "const" => value == expected,
        "enum" => expected.as_array().unwrap().contains(value),
        "required" => {
            let mut names = expected.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            object.is_none_or(|object| names.all(|name| object.contains_key(name)))
        }
        "properties" => object.is_none_or(|object| {
            let about = expected.as_object().unwrap();
            object.iter().all(|(name, member)| about.get(name).is_none_or(|about| valid(about, member)))
        }),
        "additionalProperties" => {
            assert_eq!(expected, false, "the check knows no other");
            object.is_none_or(|object| object.keys().all(|name| schema["properties"].get(name).is_some()))
        }
        "pattern" => {
            assert_eq!(expected, UUID, "the check knows no other");
            value.as_str().is_none_or(|text| Uuid::try_parse(text).is_ok_and(|id| id.to_string() == text))
        }
        "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= expected.as_u64().unwrap()),
        "minimum" => value.as_f64().is_none_or(|number| number >= expected.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= expected.as_f64().unwrap()),
        "not" => !valid(expected, value),
        "allOf" => expected.as_array().unwrap().iter().all(|part| valid(part, value)),
        "if" => !valid(expected, value) || valid(&schema["then"], value),
        other => panic!("the check does not know the keyword {other}"),
    }
}

fn valid(schema: &Value, value: &Value) -> bool {
    schema.as_object().unwrap().iter().all(|(keyword, expected)| holds(schema, keyword, expected, value))
}

/// The object in the push through APNs, and in the one through FCM.
fn built(sample: &Sample) -> [Value; 2] {
    let apns = apns::build(&sample.context(), &std::sync::Arc::from("com.contoso.mail"));
    let apns: Value = serde_json::from_slice(&apns.body).unwrap();
    let fcm: Value = serde_json::from_slice(&fcm::build(&sample.context()).body).unwrap();
    [apns["herald"].clone(), serde_json::from_str(fcm["message"]["data"]["herald"].as_str().unwrap()).unwrap()]
}

proptest! {
    #[test]
    fn whatever_is_pushed_is_what_the_schema_says(sample in any_sample()) {
        for herald in built(&sample) {
            prop_assert!(valid(&schema(), &herald), "{herald}");
        }
    }
}

#[test]
fn pushes_that_are_cut_are_what_the_schema_says_and_each_of_its_keys_is_sent() {
    let mut sent = std::collections::BTreeSet::new();
    for form in Form::ALL {
        let plain = Sample::new(form);
        let mut long = Sample::new(form).raw("x".repeat(5000));
        long.notification.content.display_ttl = Some(u32::MAX);
        let mut bare = long.clone();
        bare.notification.content.group_name = Some("g".repeat(5000));
        for (sample, fetches) in [(plain, form == Form::State), (long, true), (bare, true)] {
            for herald in built(&sample) {
                assert!(valid(&schema(), &herald), "{herald}");
                assert_eq!(herald.get("fetch").is_some(), fetches, "{herald}");
                sent.extend(herald.as_object().unwrap().keys().cloned());
            }
        }
    }
    assert_eq!(sent, schema()["properties"].as_object().unwrap().keys().cloned().collect());
}

#[test]
fn the_schema_takes_its_examples_and_nothing_that_would_not_be_sent() {
    let schema = schema();
    for example in schema["examples"].as_array().unwrap() {
        assert!(valid(&schema, example), "{example}");
    }
    let good = json!({ "version": 1, "form": "raw", "notificationId": "00000000-0000-0000-0000-000000000007",
        "receipt": RECEIPT, "content": "raw" });
    assert!(valid(&schema, &good));
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed
    };
    for bad in [
        json!("herald"),
        with("version", json!(2)),
        with("form", json!("visible")),
        with("form", json!("state")),
        with("notificationId", json!("7")),
        with("notificationId", json!("00000000-0000-0000-0000-00000000000A")),
        with("receipt", json!("x".repeat(73))),
        with("receipt", json!(null)),
        with("displayTimeToLive", json!("60")),
        with("displayTimeToLive", json!(-1)),
        with("displayTimeToLive", json!(4_294_967_296_u64)),
        with("fetch", json!(false)),
        with("fetch", json!(true)),
        with("userId", json!("anna")),
        json!({ "version": 1, "form": "raw", "receipt": RECEIPT }),
    ] {
        assert!(!valid(&schema, &bad), "{bad}");
    }
    assert_eq!(schema["properties"]["version"]["const"], VERSION);
    assert_eq!(schema["properties"]["receipt"]["maxLength"], receipt::MAX_LEN);
    let forms: Vec<_> = Form::ALL.iter().map(|form| form.as_str()).collect();
    assert_eq!(schema["properties"]["form"]["enum"], json!(forms));
}
