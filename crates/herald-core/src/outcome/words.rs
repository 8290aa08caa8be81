//! What both providers' answers have in common: `Retry-After`, and words that nobody documented.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::Answer;
use crate::retry::MAX_RETRY_AFTER;
use crate::time::Timestamp;

/// The `Retry-After` header: seconds, or an HTTP date (RFC 9110 §10.2.3) as the time left until it. Never longer than
/// [`MAX_RETRY_AFTER`]; none if it is neither.
pub(super) fn retry_after(answer: &Answer, now: Timestamp) -> Option<Duration> {
    let text = answer.retry_after.as_deref()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Digits that overflow are still "very long".
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        Timestamp::from(OffsetDateTime::parse(text, &Rfc2822).ok()?).since(now)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// An undocumented word, fit for a trace: 64 printable characters of it.
pub(super) fn printable(text: &str) -> String {
    bounded(text, 64)
}

pub(super) fn bounded(text: &str, limit: usize) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(limit).collect()
}
