//! Dead letters: what a message carries on its way by `herald.dead`, and what it must not.
//!
//! Used when work can't be done ([`Publisher::park`](crate::Publisher::park)) or has to be done alone
//! ([`Publisher::suspect`](crate::Publisher::suspect)). The body is never changed. No broker header is copied: RabbitMQ
//! before 4.0 reads a copied `x-death` as its own, drops the message as a cycle, and its dead-lettering gets stuck for good
//! (measured on 3.10.8; Celery #9867).

use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::message::text;
use crate::source::Source;

const CODE: &str = "x-herald-error-code";
const FIELD: &str = "x-herald-error-field";
const PROBLEM: &str = "x-herald-error-problem";
const FIX: &str = "x-herald-error-fix";
const SOURCE_QUEUE: &str = "x-herald-source-queue";
const USER: &str = "x-herald-user-id";

/// Why work can't be done, for whoever reads the dead letter. Never holds content or tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkReason {
    /// A stable word to count and search by, e.g. `invalidRequest`.
    pub code: String,
    /// The field, property or header that is wrong; empty if none is.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

/// The most of a producer's headers that a dead letter keeps, in bytes as sent; what does not fit is left out.
const HEADERS_KEPT: usize = 32 * 1024;

/// About how long a value is on the wire; nested ones, which no reader of ours uses, count as too long.
pub(crate) fn size_of(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => text.as_bytes().len() + 5,
        AMQPValue::ShortString(text) => text.as_str().len() + 2,
        AMQPValue::ByteArray(bytes) => bytes.as_slice().len() + 5,
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => HEADERS_KEPT + 1,
        _ => 16,
    }
}

/// Whether a broker wrote this header, or reads it as its own.
pub(crate) fn is_brokers(name: &str) -> bool {
    name == "CC"
        || name == "BCC"
        || name == "x-delivery-count"
        || name == "x-acquired-count"
        || name.starts_with("x-death")
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// What the producer sent: neither the broker's headers nor Herald's.
pub(crate) fn producers_headers(table: &FieldTable) -> impl Iterator<Item = (&ShortString, &AMQPValue)> {
    table.inner().iter().filter(|(name, _)| !is_brokers(name.as_str()) && !name.as_str().starts_with("x-herald-"))
}

/// The properties under which `original`, which came from `source`, is published to `herald.dead`.
pub(crate) fn properties(
    original: &BasicProperties,
    origin: Source,
    user: Option<&str>,
    reason: Option<&ParkReason>,
) -> BasicProperties {
    let mut headers = headers_kept(original);
    let mut set = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    set(SOURCE_QUEUE, origin.queue());
    // The property would have to be our own login, or the broker closes the channel.
    if let Some(user) = user {
        set(USER, user);
    }
    if let Some(reason) = reason {
        set(CODE, &reason.code);
        set(FIELD, &reason.field);
        set(PROBLEM, &reason.problem);
        set(FIX, &reason.fix);
    }
    copy_of(original).with_headers(headers)
}

/// The properties that a dead letter keeps for a replay: the producer's alone, with the login that was vouched for.
pub(crate) fn kept(original: &BasicProperties, user: Option<&str>) -> BasicProperties {
    let mut kept = copy_of(original);
    let headers = headers_kept(original);
    if !headers.inner().is_empty() {
        kept = kept.with_headers(headers);
    }
    match user.and_then(|user| ShortString::try_new(user).ok()) {
        Some(user) => kept.with_user_id(user),
        None => kept,
    }
}

/// The producer's headers, as many as fit.
fn headers_kept(original: &BasicProperties) -> FieldTable {
    let mut headers = FieldTable::default();
    let Some(table) = original.headers() else { return headers };
    // A message's properties are one frame of 128 KiB at most, ours included: a larger one closes the connection.
    let mut room = HEADERS_KEPT;
    for (name, value) in producers_headers(table) {
        let size = name.as_str().len() + size_of(value);
        if size <= room {
            room -= size;
            headers.insert(name.clone(), value.clone());
        }
    }
    headers
}

/// The properties that stay as they were. `expiration` and `priority` don't: a dead letter neither expires nor overtakes.
pub(crate) fn copy_of(original: &BasicProperties) -> BasicProperties {
    let mut copy = BasicProperties::default().with_delivery_mode(crate::publisher::PERSISTENT);
    macro_rules! keep {
        ($($get:ident $with:ident),*) => { $(if let Some(value) = original.$get() { copy = copy.$with(value.clone()); })* };
    }
    keep!(content_type with_content_type, content_encoding with_content_encoding, message_id with_message_id);
    keep!(kind with_type, correlation_id with_correlation_id, app_id with_app_id, reply_to with_reply_to);
    keep!(timestamp with_timestamp);
    copy
}

/// Why a worker parked the message with these headers.
pub(crate) fn reason(table: &FieldTable) -> Option<ParkReason> {
    // What the broker dead-lettered carries no worker's words.
    if table.contains_key("x-death") {
        return None;
    }
    let or_empty = |name| text(table, name).unwrap_or_default();
    Some(ParkReason {
        code: text(table, CODE)?,
        field: or_empty(FIELD),
        problem: or_empty(PROBLEM),
        fix: or_empty(FIX),
    })
}

/// Which queue a message was in first: as a worker noted it, else as the broker did.
pub(crate) fn origin(headers: Option<&FieldTable>, source: Source) -> Source {
    let noted = |name: &str| Source::from_queue(&text(headers?, name)?);
    match source {
        // What the broker dead-lettered from a work queue carries the producer's own claims; only what came by
        // `herald.suspect` was noted by a worker.
        Source::Suspect | Source::Parked => match noted("x-first-death-queue") {
            Some(Source::Suspect) | None => noted(SOURCE_QUEUE).unwrap_or(source),
            Some(first) => first,
        },
        Source::Requests(_) | Source::Dispatch(_) | Source::Receipts => source,
    }
}

/// The login that the broker validated before a worker moved the message. Only believed where producers can't publish
/// (`herald.suspect`, `herald.parked`) and only if a worker put it there: what the broker dead-lettered has `x-death`, and
/// then the header is the producer's own claim.
pub(crate) fn vouched_user(headers: &FieldTable, source: Source) -> Option<String> {
    let moved_by_worker = matches!(source, Source::Suspect | Source::Parked) && !headers.contains_key("x-death");
    if moved_by_worker { text(headers, USER) } else { None }
}

#[cfg(test)]
mod tests {
    use herald_core::lane::Lane;

    use super::*;

    fn table(entries: &[(&str, &str)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        table
    }

    const BROKERS: [&str; 10] = [
        "x-death",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-last-death-exchange",
        "x-last-death-reason",
        "x-delivery-count",
        "x-acquired-count",
        "CC",
        "BCC",
    ];

    fn reason_of_test() -> ParkReason {
        ParkReason {
            code: "invalidRequest".to_owned(),
            field: "payload".to_owned(),
            problem: "missing".to_owned(),
            fix: "add it".to_owned(),
        }
    }

    #[test]
    fn no_broker_header_survives_and_the_producers_do() {
        let mut entries: Vec<(&str, &str)> = BROKERS.map(|name| (name, "x")).into();
        entries.extend([("traceparent", "00-1"), ("x-mine", "kept"), ("x-herald-error-code", "older")]);
        let original = BasicProperties::default()
            .with_headers(table(&entries))
            .with_message_id("m".into())
            .with_user_id("shop".into())
            .with_expiration("1".into());
        let parked = properties(&original, Source::Requests(Lane::High), Some("shop"), Some(&reason_of_test()));

        let headers = parked.headers().clone().unwrap();
        let names: Vec<&str> = headers.inner().keys().map(ShortString::as_str).collect();
        assert_eq!(
            names,
            [
                "traceparent",
                "x-herald-error-code",
                "x-herald-error-field",
                "x-herald-error-fix",
                "x-herald-error-problem",
                "x-herald-source-queue",
                "x-herald-user-id",
                "x-mine"
            ]
        );
        assert_eq!(reason(&headers), Some(reason_of_test()));
        assert_eq!(parked.message_id().as_ref().unwrap().as_str(), "m");
        assert_eq!((parked.user_id(), parked.expiration(), parked.delivery_mode()), (&None, &None, &Some(2)));
    }

    #[test]
    fn a_users_name_is_believed_only_where_a_worker_wrote_it() {
        let by_worker = table(&[(USER, "shop")]);
        let by_broker = table(&[(USER, "shop"), ("x-death", "")]);
        assert_eq!(vouched_user(&by_worker, Source::Suspect), Some("shop".to_owned()));
        assert_eq!(vouched_user(&by_worker, Source::Requests(Lane::High)), None);
        assert_eq!(vouched_user(&by_broker, Source::Suspect), None);
        assert_eq!(vouched_user(&by_broker, Source::Parked), None);
    }

    #[test]
    fn a_dead_letter_knows_the_queue_it_was_in_first() {
        let low = Source::Requests(Lane::Low);
        let check = |entries: &[(&str, &str)], source, expected| {
            assert_eq!(origin(Some(&table(entries)), source), expected);
        };
        check(&[(SOURCE_QUEUE, "herald.requests.low")], Source::Suspect, low);
        check(&[("x-first-death-queue", "herald.requests.low")], Source::Parked, low);
        check(
            &[(SOURCE_QUEUE, "herald.receipts"), ("x-first-death-queue", "herald.suspect")],
            Source::Parked,
            Source::Receipts,
        );
        check(&[(SOURCE_QUEUE, "elsewhere")], Source::Suspect, Source::Suspect);
        check(&[(SOURCE_QUEUE, "herald.receipts")], low, low);
    }
}
