//! The bodies to send: from flags, from a file, or from stdin, with `{n}` filled in.
//!
//! Its output keeps the contract of docs/requests.md; what comes from a file is not changed but for `{n}`.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use herald_core::lane::Lane;
use herald_core::time::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Draft;
use crate::cli::SendArgs;
use crate::failure::Failure;

/// What becomes the number of the round in any text, so that `--count` can make them differ.
const NUMBER: &str = "{n}";

/// The longest input that is read, in bytes: a file of requests, not a database.
const MAX_INPUT: u64 = 256 * 1024 * 1024;

/// Graph's shortest delay: what `--fallback-after` is if it is not given.
const FALLBACK_AFTER_SECS: u32 = 60;

/// The bodies that flags, file or stdin describe, `{n}` not yet filled in.
pub(super) fn read(args: &SendArgs, now: Timestamp) -> Result<Vec<Value>, Failure> {
    let Some(path) = &args.file else { return Ok(vec![from_flags(args, now)?]) };
    let text = input(path).map_err(|error| {
        Failure::Usage(format!("{}: {error}; give a readable file, or - for stdin", path.display()))
    })?;
    let bodies = parse(&text).map_err(|problem| Failure::Usage(format!("{}: {problem}", path.display())))?;
    if bodies.is_empty() {
        return Err(Failure::Usage(format!("{}: holds no request; give JSON objects", path.display())));
    }
    Ok(bodies)
}

/// The drafts of round `n`, each with a key of its own.
pub(super) fn drafts(args: &SendArgs, bodies: &[Value], n: u64) -> impl Iterator<Item = Draft> {
    let several = bodies.len() > 1;
    bodies.iter().enumerate().map(move |(index, body)| {
        let mut body = body.clone();
        fill(&mut body, &n.to_string());
        let lane = args.lane.unwrap_or_else(|| lane_of(&body));
        Draft { key: key(args, n, several.then_some(index + 1)), lane, body }
    })
}

/// The key given, made distinct if it is for several; without one a new one, so that sending twice tells twice.
fn key(args: &SendArgs, n: u64, index: Option<usize>) -> String {
    let Some(key) = &args.key else { return Uuid::now_v7().to_string() };
    let mut key = match (key.contains(NUMBER), args.count) {
        (true, _) => key.replace(NUMBER, &n.to_string()),
        (false, 1) => key.clone(),
        (false, _) => format!("{key}-{n}"),
    };
    if let Some(index) = index {
        key = format!("{key}-{index}");
    }
    key
}

/// The lane that the gateway would choose.
fn lane_of(body: &Value) -> Lane {
    match body["priority"].as_str() {
        Some(priority) if priority.eq_ignore_ascii_case("high") => Lane::High,
        Some(priority) if priority.eq_ignore_ascii_case("low") => Lane::Low,
        _ => Lane::Normal,
    }
}

fn fill(value: &mut Value, number: &str) {
    match value {
        Value::String(text) if text.contains(NUMBER) => *text = text.replace(NUMBER, number),
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, number)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, number)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn from_flags(args: &SendArgs, now: Timestamp) -> Result<Value, Failure> {
    let target = match (&args.unsid, &args.user) {
        (Some(unsid), _) => json!({"userNotificationSubscriptionId": unsid}),
        (None, user) => json!({"userId": user}),
    };
    let mut payload = Map::new();
    if let Some(raw) = &args.raw {
        payload.insert("rawContent".to_owned(), json!(raw));
    }
    if let Some(visual) = visual(args.title.as_deref(), args.body.as_deref()) {
        payload.insert("visualContent".to_owned(), visual);
    }
    let mut body = json!({"target": target, "targetHostName": args.app, "payload": payload});
    let mut set = |name: &str, value: Value| body[name] = value;
    if let Some(priority) = &args.priority {
        set("priority", json!(priority));
    }
    if let Some(id) = &args.id {
        set("appNotificationId", json!(id));
    }
    if let Some(when) = &args.expires {
        set("expirationDateTime", json!(expiry(when, now)?));
    }
    if let Some(visual) = visual(args.fallback_title.as_deref(), args.fallback_body.as_deref()) {
        let delay = args.fallback_after.unwrap_or(FALLBACK_AFTER_SECS);
        let toast = json!({"platformTypes": ["ios"], "fallbackDelayInSeconds": delay, "visualContent": visual});
        set("fallbackPolicy", json!({"endpointFallback": toast}));
    }
    Ok(body)
}

fn visual(title: Option<&str>, body: Option<&str>) -> Option<Value> {
    let title = title?;
    Some(match body {
        Some(body) => json!({"title": title, "body": body}),
        None => json!({"title": title}),
    })
}

/// A time, or a number with `s`, `m`, `h` or `d` from now.
fn expiry(when: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let from_now = || {
        let unit = when.chars().last()?;
        let secs: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        let number: u64 = when[..when.len() - 1].parse().ok()?;
        Some(now.plus(Duration::from_secs(number.checked_mul(secs)?)))
    };
    Timestamp::parse_rfc3339(when).or_else(from_now).ok_or_else(|| {
        Failure::Usage(format!(
            "--expires: {when:?} is no time; give 2026-12-01T00:00:00Z, or 90s, 15m, 2h, 7d from now"
        ))
    })
}

fn input(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_INPUT).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(MAX_INPUT).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// One object, an array of objects, or objects one after the other (JSON lines). The problem never quotes the input.
fn parse(text: &str) -> Result<Vec<Value>, String> {
    let mut bodies = Vec::new();
    for (index, value) in serde_json::Deserializer::from_str(text).into_iter::<Value>().enumerate() {
        match value {
            Ok(Value::Array(items)) if index == 0 => bodies.extend(items),
            Ok(value) => bodies.push(value),
            Err(error) => return Err(format!("not JSON at line {}, column {}", error.line(), error.column())),
        }
    }
    match bodies.iter().position(|body| !body.is_object()) {
        Some(index) => Err(format!("request {} is not a JSON object", index + 1)),
        None => Ok(bodies),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_an_object_an_array_or_lines() {
        let check = |text, count: Result<usize, &str>| {
            assert_eq!(parse(text).map(|bodies| bodies.len()), count.map_err(str::to_owned), "{text}");
        };
        check(r#"{"a": 1}"#, Ok(1));
        check(r#"[{"a": 1}, {"a": 2}]"#, Ok(2));
        check("{\"a\": 1}\n{\"a\": 2}\n\n{\"a\": 3}\n", Ok(3));
        check("", Ok(0));
        check("{\"a\": 1}\n[]", Err("request 2 is not a JSON object"));
        check("{\"secret\": }", Err("not JSON at line 1, column 12"));
    }

    #[test]
    fn the_number_is_filled_in_everywhere_and_keys_are_distinct() {
        let body = json!({"payload": {"rawContent": "order {n}"}, "list": ["{n}"], "n": 7});
        let args = SendArgs { key: Some("order".to_owned()), count: 2, ..SendArgs::default() };
        let second: Vec<Draft> = drafts(&args, std::slice::from_ref(&body), 2).collect();
        assert_eq!(second[0].body, json!({"payload": {"rawContent": "order 2"}, "list": ["2"], "n": 7}));
        assert_eq!(second[0].key, "order-2");
        let keys = |args: &SendArgs, bodies: &[Value], n| -> Vec<String> {
            drafts(args, bodies, n).map(|draft| draft.key).collect()
        };
        let numbered = SendArgs { key: Some("k{n}x".to_owned()), count: 2, ..SendArgs::default() };
        assert_eq!(keys(&numbered, &[body.clone(), body.clone()], 1), ["k1x-1", "k1x-2"]);
        let fresh = SendArgs { count: 1, ..SendArgs::default() };
        assert_ne!(keys(&fresh, std::slice::from_ref(&body), 1), keys(&fresh, std::slice::from_ref(&body), 1));
    }

    #[test]
    fn an_expiry_is_a_time_or_counts_from_now() {
        let now = Timestamp::from_secs(1_000);
        let check = |when, secs: Option<i64>| {
            assert_eq!(expiry(when, now).ok(), secs.map(Timestamp::from_secs), "{when}");
        };
        check("1970-01-01T00:20:00Z", Some(1200));
        check("90s", Some(1090));
        check("2h", Some(8200));
        check("1d", Some(87_400));
        check("tomorrow", None);
        check("h", None);
        check("5", None);
        check("5µ", None);
        check("", None);
    }
}
