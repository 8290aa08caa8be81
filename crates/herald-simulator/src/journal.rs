//! The last requests that the providers got, for a test to look at. A ring: the oldest entry goes first.
//!
//! Push tokens are cut to their last six characters and credentials are left out; both when an entry is read, so that
//! writing one costs no more than moving what the request brought.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::counters::Provider;

/// How many characters of a push token may be shown.
const TAIL: usize = 6;
/// How much of a body is kept, in bytes.
pub(crate) const BODY_KEPT: usize = 8 * 1024;

/// A request as it is kept.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) micros: u64,
    pub(crate) provider: Provider,
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) uri: http::Uri,
    pub(crate) token: String,
    pub(crate) phone: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// `None`: no answer was given.
    pub(crate) status: Option<u16>,
    pub(crate) reason: String,
    pub(crate) scripted: bool,
    pub(crate) notes: Vec<&'static str>,
}

/// A request as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// When it was answered, in microseconds since 1970, by the simulator's clock.
    pub time: u64,
    /// Which server.
    pub provider: Provider,
    /// The request's method.
    pub method: String,
    /// The path; a push token in it is cut.
    pub path: String,
    /// The last six characters of the push token.
    pub token_tail: String,
    /// The phone that the token belongs to.
    pub phone: Option<String>,
    /// All headers but the value of `authorization`.
    pub headers: BTreeMap<String, String>,
    /// The request as it came, repeated headers included: the pseudo-headers (`:authority` and `:scheme` are missing if
    /// only `host` came), then the headers in the order of their first coming. Push token and credentials are cut here
    /// too.
    pub raw_headers: Vec<(String, String)>,
    /// The body if it is JSON, else `null`; a push token in it is cut.
    pub body: Value,
    /// The answer's status; `null` if none was given.
    pub status: Option<u16>,
    /// Why it was refused; empty if accepted.
    pub reason: String,
    /// A script decided the answer.
    pub scripted: bool,
    /// What happened to an accepted push besides: `dropped` (it reaches no phone), `delayed` (it reaches it later),
    /// `withoutPushType`.
    pub notes: Vec<String>,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Journal {
    limit: usize,
    entries: Mutex<VecDeque<Recorded>>,
}

impl Journal {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, entries: Mutex::default() }
    }

    /// Whether anything is kept at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.limit > 0
    }

    pub(crate) fn record(&self, recorded: Recorded) {
        let mut entries = self.entries.lock().expect("nothing panics while the journal is held");
        if entries.len() >= self.limit {
            entries.pop_front();
        }
        if self.limit > 0 {
            entries.push_back(recorded);
        }
    }

    /// The newest `limit` entries, oldest first; of `phone` only, if given.
    pub(crate) fn newest(&self, limit: usize, phone: Option<&str>) -> Vec<JournalEntry> {
        let entries = self.entries.lock().expect("nothing panics while the journal is held");
        let wanted = entries.iter().rev().filter(|entry| phone.is_none() || entry.phone.as_deref() == phone);
        let mut shown: Vec<_> = wanted.take(limit).map(show).collect();
        shown.reverse();
        shown
    }

    pub(crate) fn clear(&self) {
        self.entries.lock().expect("nothing panics while the journal is held").clear();
    }
}

fn show(entry: &Recorded) -> JournalEntry {
    let token_tail = tail(&entry.token);
    let path = if entry.token.is_empty() {
        entry.path.clone()
    } else {
        entry.path.replace(&entry.token, &format!("…{token_tail}"))
    };
    let headers: Vec<(String, String)> = entry.headers.iter().map(show_header).collect();
    let pseudo = [
        (":method", Some(entry.method.as_str())),
        (":scheme", entry.uri.scheme_str()),
        (":authority", entry.uri.authority().map(http::uri::Authority::as_str)),
        (":path", Some(path.as_str())),
    ];
    let pseudo = pseudo.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let raw_headers = pseudo.chain(headers.iter().cloned()).collect();
    JournalEntry {
        time: entry.micros,
        provider: entry.provider,
        method: entry.method.to_string(),
        path,
        token_tail,
        phone: entry.phone.clone(),
        headers: headers.into_iter().collect(),
        raw_headers,
        body: show_body(&entry.body),
        status: entry.status,
        reason: entry.reason.clone(),
        scripted: entry.scripted,
        notes: entry.notes.iter().map(|note| (*note).to_owned()).collect(),
    }
}

fn show_header((name, value): (&http::HeaderName, &http::HeaderValue)) -> (String, String) {
    let secret = name == http::header::AUTHORIZATION;
    let value = if secret { "…".to_owned() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() };
    (name.as_str().to_owned(), value)
}

pub(crate) fn tail(token: &str) -> String {
    let skipped = token.chars().count().saturating_sub(TAIL);
    token.chars().skip(skipped).collect()
}

fn show_body(body: &Bytes) -> Value {
    let mut body = serde_json::from_slice(body).unwrap_or(Value::Null);
    for key in ["token", "fid"] {
        if let Some(Value::String(token)) = body.pointer_mut(&format!("/message/{key}")) {
            *token = format!("…{}", tail(token));
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> Recorded {
        Recorded {
            micros: n,
            provider: Provider::Fcm,
            method: http::Method::POST,
            path: "/3/device/secret-token".to_owned(),
            uri: http::Uri::from_static("https://localhost:1/3/device/secret-token"),
            token: "secret-token".to_owned(),
            phone: Some(if n.is_multiple_of(2) { "even" } else { "odd" }.to_owned()),
            headers: HeaderMap::from_iter([(http::header::AUTHORIZATION, http::HeaderValue::from_static("bearer x"))]),
            body: Bytes::from_static(br#"{"message":{"token":"secret-token","data":{}}}"#),
            status: Some(200),
            reason: String::new(),
            scripted: false,
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let journal = Journal::new(3);
        (0..5).for_each(|n| journal.record(entry(n)));
        let times = |shown: Vec<JournalEntry>| shown.iter().map(|entry| entry.time).collect::<Vec<_>>();
        assert_eq!(times(journal.newest(10, None)), [2, 3, 4]);
        assert_eq!(times(journal.newest(1, None)), [4]);
        assert_eq!(times(journal.newest(10, Some("odd"))), [3]);
        let none = Journal::new(0);
        none.record(entry(0));
        assert!(none.newest(10, None).is_empty() && !none.is_kept());
    }

    #[test]
    fn no_push_token_and_no_credential_is_shown() {
        let journal = Journal::new(1);
        journal.record(entry(0));
        let shown = serde_json::to_string(&journal.newest(1, None)).unwrap();
        assert!(!shown.contains("secret-token") && !shown.contains("bearer x"), "{shown}");
        assert!(shown.contains(r#""tokenTail":"-token""#), "{shown}");
    }
}
