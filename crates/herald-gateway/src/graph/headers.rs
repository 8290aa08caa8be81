//! What the headers of a request say beside its body.
//!
//! Pure. Stands between the caller's check and the body.

use axum::http::{HeaderMap, header};
use herald_core::reading::Condition;
use uuid::Uuid;

use crate::body::Encoding;
use crate::refusal::Refusal;

use super::item::revision;

/// What a post says by its headers.
pub(super) struct Head<'h> {
    pub(super) encoding: Encoding,
    pub(super) content_type: Option<&'h str>,
    pub(super) unsid: Option<&'h str>,
    /// The client's, or one made here: then this post is no repetition of another.
    pub(super) key: String,
    pub(super) traceparent: Option<&'h str>,
    pub(super) tracestate: Option<&'h str>,
}

impl<'h> Head<'h> {
    /// # Errors
    /// 400 for a header that Graph refuses or that can't be read, 415 for an encoding that isn't read here.
    pub(super) fn of(headers: &'h HeaderMap) -> Result<Self, Refusal> {
        for (name, shown) in [(header::IF_MODIFIED_SINCE, "If-Modified-Since"), (header::IF_RANGE, "If-Range")] {
            if headers.contains_key(name) {
                return Err(Refusal::invalid(shown, "is not supported", "leave it out"));
            }
        }
        let encoding = Encoding::of(headers)?;
        let key = one(headers, "Idempotency-Key")?.filter(|key| !key.is_empty());
        // What is no trace context is left out, as W3C asks: it is no reason to refuse.
        let lenient = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Self {
            encoding,
            content_type: one(headers, "Content-Type")?,
            unsid: one(headers, "X-UNS-ID")?,
            key: key.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
            traceparent: lenient("traceparent"),
            tracestate: lenient("tracestate"),
        })
    }
}

/// A header that may be there once.
pub(super) fn one<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Refusal> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => Err(Refusal::invalid(name, "is not plain text", "send visible ASCII characters")),
        },
        (Some(_), Some(_)) => Err(Refusal::invalid(name, "is given more than once", "send it once")),
    }
}

/// What `If-Match` asks for: `*`, or ETags, of which what is none of ours is no match.
pub(super) fn condition(headers: &HeaderMap) -> Condition {
    let all: Vec<&str> = headers
        .get_all(header::IF_MATCH)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .collect();
    if all.is_empty() || all.contains(&"*") {
        return Condition::Any;
    }
    Condition::Revisions(all.into_iter().filter_map(revision).collect())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn without_a_key_each_post_is_a_new_one() {
        let key = |all: &[(&str, &str)]| Head::of(&headers(all)).ok().unwrap().key;
        assert_eq!(key(&[("idempotency-key", " k1 ")]), "k1");
        assert_ne!(key(&[]), key(&[]));
        assert_ne!(key(&[("idempotency-key", "")]), "");
    }

    #[test]
    fn a_condition_is_any_or_the_revisions_that_are_named() {
        let check = |values: &[&str], expected| {
            let all: Vec<_> = values.iter().map(|value| ("if-match", *value)).collect();
            assert_eq!(condition(&headers(&all)), expected, "{values:?}");
        };
        check(&[], Condition::Any);
        check(&["*"], Condition::Any);
        check(&["W/\"3\""], Condition::Revisions(vec![3]));
        check(&["\"3\", W/\"4\" ,x", "W/\"5\""], Condition::Revisions(vec![3, 4, 5]));
        check(&["s"], Condition::Revisions(vec![]));
        check(&[""], Condition::Revisions(vec![]));
    }

    #[test]
    fn a_header_that_says_two_things_or_nothing_readable_is_refused_by_its_name() {
        for (all, name) in [
            (&[("x-uns-id", "a"), ("x-uns-id", "b")][..], "X-UNS-ID"),
            (&[("idempotency-key", "\u{e9}")], "Idempotency-Key"),
            (&[("content-type", "a"), ("content-type", "a")], "Content-Type"),
            (&[("if-range", "x")], "If-Range"),
            (&[("if-modified-since", "")], "If-Modified-Since"),
            (&[("content-encoding", "br")], "Content-Encoding"),
        ] {
            let refused = format!("{:?}", Head::of(&headers(all)).err().unwrap());
            assert!(refused.contains(&format!("field: {name:?}")), "{name}: {refused}");
        }
    }
}
