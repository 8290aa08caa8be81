//! Scripted answers: what a provider says instead of what it would say, for a token, a phone, a topic or everybody.
//!
//! Consulted once per request, before the normal checks. With none active, the cost is one atomic read.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::counters::Provider;
use crate::latency::Delay;
use crate::outages::Outages;
use crate::random::Dice;

/// How many scripts may wait at once.
const SCRIPTS_LIMIT: usize = 10_000;

/// How many DATA frames an answer may be cut into.
const CHUNKS_LIMIT: u32 = 1_000;

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
    /// The connection ends without GOAWAY: the client sees FIN.
    Close,
    /// The connection ends with a TCP reset.
    Rst,
    /// Nothing moves on the connection any more, in neither direction: no answer, no PING answered, no FIN.
    Stall,
}

impl Fault {
    /// The word that stands for it in JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Refuse => "refuse",
            Self::Close => "close",
            Self::Rst => "rst",
            Self::Stall => "stall",
        }
    }
}

/// One scripted answer. With none of `status`, `reason`, `errorCode`, `body` and `fault`, the normal answer is given:
/// later, in other pieces, with other headers.
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
    /// The HTTP status to answer; absent: the one that the reason comes with (400 if nobody knows the reason).
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
    /// These headers are left out, even those that the provider always sends.
    pub omit_headers: Vec<String>,
    /// The body comes in so many DATA frames (HTTP/1.1: chunks); absent: one, and none for an empty body. With 1 or
    /// more, an answer without a body ends with an empty DATA frame instead of its HEADERS.
    pub chunks: Option<u32>,
    /// How long each DATA frame is held back.
    pub chunk_delay_ms: u64,
    /// Headers after the body.
    pub trailers: BTreeMap<String, String>,
    /// The HEADERS come, and nothing after them.
    pub stall_body: bool,
    /// GOAWAY (`NO_ERROR`, by the HTTP/2 library, so without a reason in it) announces the connection's end with the
    /// answer.
    pub goaway: bool,
    /// How long the answer is held back, besides the general delay.
    pub delay_ms: u64,
    /// The same as a distribution, besides `delayMs`.
    pub delay: Option<Delay>,
    /// So many of a hundred requests that fit are met; absent: all. Which ones follows from the seed.
    pub percent: Option<u8>,
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
        self.status.is_some()
            || self.fault.is_some()
            || self.reason.is_some()
            || self.error_code.is_some()
            || self.body.is_some()
    }

    /// What it answers that names a reason, a code or a body, but no status.
    fn usual_status(&self, provider: Provider) -> u16 {
        let reason = self.reason.as_deref();
        match (provider, self.error_code.as_deref()) {
            (Provider::Apns, _) => {
                let known = reason.and_then(crate::apns::status_of).map(|status| status.as_u16());
                known.unwrap_or(if reason.is_some() { 400 } else { 200 })
            }
            (Provider::Fcm, Some(code)) => crate::fcm::status_of(code).unwrap_or(400),
            (_, code) => {
                if code.is_some() || reason.is_some() {
                    400
                } else {
                    200
                }
            }
        }
    }

    fn problem(&self) -> Option<&'static str> {
        if self.status.is_some_and(|status| !(200..600).contains(&status)) {
            return Some("status must be from 200 to 599");
        }
        let header = |(name, value): (&String, &String)| {
            http::HeaderName::try_from(name.as_str()).is_ok() && http::HeaderValue::try_from(value.as_str()).is_ok()
        };
        if !self.headers.iter().chain(&self.trailers).all(header) {
            return Some("headers and trailers must have valid names and values");
        }
        if self.percent.is_some_and(|percent| percent > 100) {
            return Some("percent must be from 0 to 100");
        }
        if self.chunks.is_some_and(|chunks| chunks > CHUNKS_LIMIT) {
            return Some("chunks must be 1000 at most");
        }
        self.delay.as_ref().and_then(Delay::problem)
    }
}

/// The scripts that wait, oldest first.
#[derive(Debug)]
pub(crate) struct Faults {
    /// Those come first.
    pub(crate) outages: Outages,
    active: AtomicUsize,
    scripts: Mutex<Vec<Script>>,
    dice: Dice,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let (active, scripts) = (AtomicUsize::new(0), Mutex::default());
        Self { outages: Outages::default(), active, scripts, dice: Dice::new(seed) }
    }

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

    /// What an outage does to the request, or the first script that fits, counted down, with its delay drawn.
    pub(crate) fn next(&self, subject: Subject<'_>) -> Option<Script> {
        if let Some(script) = self.outages.of_request(subject) {
            return Some(script);
        }
        if self.active.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut scripts = self.scripts.lock().expect("nothing panics while scripts are held");
        let met = |script: &Script| script.percent.is_none_or(|percent| self.dice.roll() % 100 < u64::from(percent));
        let index = scripts.iter().position(|script| script.fits(subject) && met(script))?;
        let mut script = match scripts[index].times {
            Some(0) => scripts[index].clone(),
            Some(times) if times > 1 => {
                scripts[index].times = Some(times - 1);
                scripts[index].clone()
            }
            _ => scripts.remove(index),
        };
        self.active.store(scripts.len(), Ordering::Release);
        drop(scripts);
        if script.answers() && script.fault.is_none() {
            script.status = script.status.or_else(|| Some(script.usual_status(subject.provider)));
        }
        if let Some(delay) = &script.delay {
            script.delay_ms = script.delay_ms.saturating_add(delay.sample(self.dice.roll()));
        }
        Some(script)
    }

    pub(crate) fn waiting(&self) -> Vec<Script> {
        self.scripts.lock().expect("nothing panics while scripts are held").clone()
    }

    pub(crate) fn clear(&self) {
        self.scripts.lock().expect("nothing panics while scripts are held").clear();
        self.active.store(0, Ordering::Release);
    }

    /// Back to the start: no scripts, no outages, and chance begins anew.
    pub(crate) fn reset(&self) {
        self.clear();
        self.outages.end(None);
        self.dice.reset();
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
        let faults = Faults::new(0);
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
    fn a_percentage_of_the_requests_is_met_and_the_same_ones_with_the_same_seed() {
        let met = |seed: u64| {
            let faults = Faults::new(seed);
            faults.add(vec![Script { times: Some(0), percent: Some(30), ..refusal() }]).unwrap();
            (0..1_000).map(|_| faults.next(APNS).is_some()).collect::<Vec<_>>()
        };
        let count = met(1).iter().filter(|met| **met).count();
        assert!((250..=350).contains(&count), "{count}");
        assert_eq!(met(1), met(1));
        assert_ne!(met(1), met(2));
    }

    #[test]
    fn a_script_s_distribution_is_drawn_for_each_request() {
        let faults = Faults::new(0);
        let delay = Some(Delay::UniformMs([10, 1_000]));
        faults.add(vec![Script { times: Some(0), delay_ms: 5, delay, ..Script::default() }]).unwrap();
        let drawn: Vec<_> = (0..10).filter_map(|_| faults.next(APNS)).map(|script| script.delay_ms).collect();
        assert!(drawn.iter().all(|ms| (15..=1_005).contains(ms)), "{drawn:?}");
        assert_ne!(drawn[0], drawn[1]);
    }

    #[test]
    fn a_script_that_could_not_be_sent_is_refused() {
        let faults = Faults::new(0);
        assert!(faults.add(vec![Script { status: Some(99), ..refusal() }]).is_err());
        let headers = BTreeMap::from([("a b".to_owned(), "c".to_owned())]);
        assert!(faults.add(vec![Script { headers, ..refusal() }]).is_err());
        assert!(faults.add(vec![Script { percent: Some(101), ..refusal() }]).is_err());
        assert!(faults.add(vec![Script { chunks: Some(1_001), ..refusal() }]).is_err());
        assert!(faults.add(vec![Script { delay: Some(Delay::UniformMs([2, 1])), ..refusal() }]).is_err());
        assert!(faults.waiting().is_empty());
    }
}
