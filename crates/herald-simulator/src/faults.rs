//! Scripted answers: what a provider says instead of what it would say, for a token, a phone, a topic or everybody.
//!
//! Consulted once per request, before the normal checks. With none active, the cost is one atomic read.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::counters::Provider;

/// How many scripts may wait at once.
const SCRIPTS_LIMIT: usize = 10_000;

/// How a connection or stream ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// No answer, until the client gives up (10 minutes at most).
    Hang,
    /// The stream is reset with `INTERNAL_ERROR` (HTTP/1.1: the connection ends).
    Reset,
    /// The stream is reset with `REFUSED_STREAM`, which promises that nothing was done (HTTP/1.1: the connection ends).
    Refuse,
    /// The connection ends without GOAWAY.
    Close,
}

impl Fault {
    /// The word that stands for it in JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Refuse => "refuse",
            Self::Close => "close",
        }
    }
}

/// One scripted answer. Without `status` and `fault` it only delays the normal one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Script {
    /// Which server; absent: APNs and FCM. The token endpoint only if it is named.
    pub provider: Option<Provider>,
    /// Only for this push token or FID.
    pub token: Option<String>,
    /// Only for this phone.
    pub phone: Option<String>,
    /// Only for this topic (APNs) or project (FCM).
    pub topic: Option<String>,
    /// The HTTP status to answer.
    pub status: Option<u16>,
    /// APNs: the `reason`; token endpoint: the `error`.
    pub reason: Option<String>,
    /// APNs: the `timestamp` of a 410, in milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// FCM: the `errorCode` of the FcmError detail; absent: no such detail.
    pub error_code: Option<String>,
    /// The whole body instead of a made one: a JSON string is sent as its text, anything else as JSON.
    pub body: Option<Value>,
    /// Headers of the answer, such as `retry-after`.
    pub headers: BTreeMap<String, String>,
    /// How long the answer is held back, besides the general delay.
    pub delay_ms: u64,
    /// How many requests it applies to; absent: 1; 0: all until it is deleted.
    pub times: Option<u64>,
    /// No answer at all.
    pub fault: Option<Fault>,
    /// The push is done as usual (the phone gets it); only the answer is replaced. For answers that get lost.
    pub process: bool,
}

/// What a request is about, to find its script.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) provider: Provider,
    pub(crate) token: &'a str,
    pub(crate) phone: Option<&'a str>,
    pub(crate) topic: &'a str,
}

impl Script {
    fn fits(&self, subject: Subject<'_>) -> bool {
        let wanted = |wish: &Option<String>, is: &str| wish.as_deref().is_none_or(|wish| wish == is);
        let provider = match self.provider {
            Some(provider) => provider == subject.provider,
            None => subject.provider != Provider::Oauth,
        };
        provider
            && self.token.as_deref().is_none_or(|token| token.eq_ignore_ascii_case(subject.token))
            && wanted(&self.topic, subject.topic)
            && self.phone.as_deref().is_none_or(|phone| Some(phone) == subject.phone)
    }

    /// Whether it says how the request ends; otherwise it only delays.
    pub(crate) fn answers(&self) -> bool {
        self.status.is_some() || self.fault.is_some()
    }

    fn problem(&self) -> Option<&'static str> {
        if self.status.is_some_and(|status| !(200..600).contains(&status)) {
            return Some("status must be from 200 to 599");
        }
        let header = |(name, value): (&String, &String)| {
            http::HeaderName::try_from(name.as_str()).is_ok() && http::HeaderValue::try_from(value.as_str()).is_ok()
        };
        if !self.headers.iter().all(header) {
            return Some("headers must have valid names and values");
        }
        None
    }
}

/// The scripts that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    active: AtomicUsize,
    scripts: Mutex<Vec<Script>>,
}

impl Faults {
    /// Adds scripts after those that wait already.
    ///
    /// # Errors
    /// A sentence that says what is wrong with one of them, or that there are too many; then none is added.
    pub(crate) fn add(&self, added: Vec<Script>) -> Result<(), &'static str> {
        if let Some(problem) = added.iter().find_map(Script::problem) {
            return Err(problem);
        }
        let mut scripts = self.scripts.lock().expect("nothing panics while scripts are held");
        if scripts.len() + added.len() > SCRIPTS_LIMIT {
            return Err("too many scripts wait already; delete some");
        }
        scripts.extend(added);
        self.active.store(scripts.len(), Ordering::Release);
        Ok(())
    }

    /// The first script that fits, counted down.
    pub(crate) fn next(&self, subject: Subject<'_>) -> Option<Script> {
        if self.active.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut scripts = self.scripts.lock().expect("nothing panics while scripts are held");
        let index = scripts.iter().position(|script| script.fits(subject))?;
        let script = match scripts[index].times {
            Some(0) => scripts[index].clone(),
            Some(times) if times > 1 => {
                scripts[index].times = Some(times - 1);
                scripts[index].clone()
            }
            _ => scripts.remove(index),
        };
        self.active.store(scripts.len(), Ordering::Release);
        Some(script)
    }

    pub(crate) fn waiting(&self) -> Vec<Script> {
        self.scripts.lock().expect("nothing panics while scripts are held").clone()
    }

    pub(crate) fn clear(&self) {
        self.scripts.lock().expect("nothing panics while scripts are held").clear();
        self.active.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APNS: Subject<'_> = Subject { provider: Provider::Apns, token: "ab", phone: Some("anna"), topic: "com.a" };

    fn refusal() -> Script {
        Script { status: Some(500), ..Script::default() }
    }

    #[test]
    fn scripts_are_used_in_order_and_so_often_as_they_say() {
        let faults = Faults::default();
        let twice = Script { times: Some(2), ..refusal() };
        let always = Script { times: Some(0), status: Some(503), ..refusal() };
        faults.add(vec![twice, always]).unwrap();
        let answered: Vec<_> = (0..5).map(|_| faults.next(APNS).and_then(|script| script.status)).collect();
        assert_eq!(answered, [Some(500), Some(500), Some(503), Some(503), Some(503)]);
        faults.clear();
        assert_eq!(faults.next(APNS), None);
    }

    #[test]
    fn a_script_meets_only_what_it_names() {
        let named = |field: &str, value: &str| -> Script {
            serde_json::from_value(serde_json::json!({field: value, "status": 500})).unwrap()
        };
        let oauth = Subject { provider: Provider::Oauth, ..APNS };
        for (script, subject, fits) in [
            (refusal(), APNS, true),
            (refusal(), oauth, false),
            (named("provider", "oauth"), oauth, true),
            (named("provider", "fcm"), APNS, false),
            (named("token", "AB"), APNS, true),
            (named("token", "cd"), APNS, false),
            (named("phone", "anna"), APNS, true),
            (named("phone", "bert"), APNS, false),
            (named("topic", "com.a"), APNS, true),
            (named("topic", "com.b"), APNS, false),
        ] {
            assert_eq!(script.fits(subject), fits, "{script:?}");
        }
    }

    #[test]
    fn a_script_that_could_not_be_sent_is_refused() {
        let faults = Faults::default();
        assert!(faults.add(vec![Script { status: Some(99), ..refusal() }]).is_err());
        let headers = BTreeMap::from([("a b".to_owned(), "c".to_owned())]);
        assert!(faults.add(vec![Script { headers, ..refusal() }]).is_err());
        assert!(faults.waiting().is_empty());
    }
}
