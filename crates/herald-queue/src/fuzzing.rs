//! Messages' properties and headers, reached by their fuzz target (`tests/fuzzed`); nothing else uses this.
//!
//! The input is text, so that a corpus can be read: the queue's name, then a line for each property or header,
//!
//! ```text
//! herald.parked
//! message_id=order-1042
//! x-death:t=
//! x-uns-id:s=0190…
//! ```
//!
//! A letter after a header's name says its type: `s` long text, `h` short text, `b` bytes, `i` and `l` numbers, `f` a
//! fraction, `o` a flag, `v` nothing, `t` a table, `a` a list, `y` a timestamp.

use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};

use crate::embedded::properties as stored;
use crate::hints;
use crate::message;
use crate::park::{self, ParkReason};
use crate::source::Source;

/// A frame is 128 KiB at most (`frame_max`), properties and all.
const FRAME: usize = 128 * 1024;

/// Reads them as every consumer does, parks the message, and reads it from the file's form.
///
/// # Panics
/// If a header of the broker survives a move, a producer is believed to be a worker, or the properties outgrow a frame.
pub fn headers(data: &[u8]) {
    hints::decode(data).map_or_else(|error| drop(error.to_string()), |hints| assert!(hints.len() <= hints::MAX_HINTS));
    drop(stored::to_json(&stored::from_json(data)));

    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let source = lines.next().and_then(Source::from_queue).unwrap_or(Source::Parked);
    let original = properties(lines);
    read(&original, source);

    let reason = ParkReason {
        code: "invalidRequest".to_owned(),
        field: "target".to_owned(),
        problem: "is missing".to_owned(),
        fix: "set it".to_owned(),
    };
    let user = message::properties(&original, source).user_id;
    for reason in [Some(&reason), None] {
        let moved = park::properties(&original, source, user.as_deref(), reason);
        moved_well(&moved);
        let again = read(&moved, Source::Suspect);
        assert_eq!(again.user_id, user, "the validated login changed on the way");
        assert_eq!(again.message_id, message::properties(&original, source).message_id, "the idempotency key is lost");
        let words = moved.headers().as_ref().and_then(park::reason);
        assert_eq!(words.as_ref(), reason, "the reason changed on the way");
        // Once more, as when a suspect is parked: the same, and no longer.
        moved_well(&park::properties(&moved, Source::Suspect, user.as_deref(), reason));
    }

    // By way of a file, what Herald reads stays what it was.
    let json = stored::to_json(&original);
    let kept = stored::from_json(json.as_bytes());
    assert_eq!(message::properties(&kept, source).message_id, message::properties(&original, source).message_id);
    let dead = stored::from_json(stored::dead_lettered(json.as_bytes(), source.queue()).as_bytes());
    let table = dead.headers().clone().unwrap_or_default();
    assert!(park::reason(&table).is_none(), "a producer's words pass for a worker's");
    assert!(park::vouched_user(&table, Source::Suspect).is_none(), "a producer vouches for itself");
}

fn read(original: &BasicProperties, source: Source) -> message::Properties {
    let table = original.headers().clone().unwrap_or_default();
    let user = park::vouched_user(&table, source);
    let trusted = matches!(source, Source::Suspect | Source::Parked);
    assert!(user.is_none() || trusted, "a login is believed where producers publish");
    park::origin(Some(&table), source);
    message::properties(original, source)
}

fn moved_well(moved: &BasicProperties) {
    let table = moved.headers().clone().unwrap_or_default();
    for name in table.inner().keys().map(ShortString::as_str) {
        assert!(!park::is_brokers(name), "{name} is copied");
    }
    assert!(moved.user_id().is_none() && moved.expiration().is_none(), "the broker would refuse it, or drop it later");
    let size: usize = table.inner().iter().map(|(name, value)| name.as_str().len() + park::size_of(value)).sum();
    assert!(size < FRAME / 2, "{size} bytes of headers");
}

fn properties<'a>(lines: impl Iterator<Item = &'a str>) -> BasicProperties {
    let mut properties = BasicProperties::default();
    let mut table = FieldTable::default();
    for (name, value) in lines.filter_map(|line| line.split_once('=')) {
        if let Some((name, kind)) = name.rsplit_once(':') {
            if let Ok(name) = ShortString::try_new(name) {
                table.insert(name, header(kind, value));
            }
            continue;
        }
        let Ok(text) = ShortString::try_new(value) else { continue };
        properties = match name {
            "message_id" => properties.with_message_id(text),
            "type" => properties.with_type(text),
            "content_type" => properties.with_content_type(text),
            "content_encoding" => properties.with_content_encoding(text),
            "user_id" => properties.with_user_id(text),
            "app_id" => properties.with_app_id(text),
            "correlation_id" => properties.with_correlation_id(text),
            "reply_to" => properties.with_reply_to(text),
            "expiration" => properties.with_expiration(text),
            "timestamp" => properties.with_timestamp(value.parse().unwrap_or_default()),
            "priority" => properties.with_priority(value.parse().unwrap_or_default()),
            _ => properties,
        };
    }
    properties.with_headers(table)
}

fn header(kind: &str, value: &str) -> AMQPValue {
    let number = || value.parse::<i64>().unwrap_or_default();
    match kind {
        "h" => ShortString::try_new(value).map_or(AMQPValue::Void, AMQPValue::ShortString),
        "b" => AMQPValue::ByteArray(value.as_bytes().iter().map(|byte| byte ^ 0x80).collect::<Vec<_>>().into()),
        "i" => AMQPValue::LongInt(i32::try_from(number()).unwrap_or(i32::MIN)),
        "l" => AMQPValue::LongLongInt(number()),
        "f" => AMQPValue::Double(value.parse().unwrap_or(f64::NAN)),
        "o" => AMQPValue::Boolean(value == "true"),
        "v" => AMQPValue::Void,
        "y" => AMQPValue::Timestamp(number().unsigned_abs()),
        "t" => {
            let mut table = FieldTable::default();
            table.insert("queue".into(), AMQPValue::LongString(value.into()));
            AMQPValue::FieldTable(table)
        }
        "a" => AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongString(value.into())])),
        _ => AMQPValue::LongString(value.into()),
    }
}
