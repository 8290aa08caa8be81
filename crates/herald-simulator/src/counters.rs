//! Counts of what the providers did. Accepted pushes are counted without a lock, since a bench makes many of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::device::Metrics;

/// How many different reasons are counted by name; scripted answers may invent some.
const REASONS_LIMIT: usize = 256;

/// Which server a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Apple's push service.
    Apns,
    /// Google's push service.
    Fcm,
    /// Google's token endpoint.
    Oauth,
}

impl Provider {
    /// The word that stands for it in JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::Fcm => "fcm",
            Self::Oauth => "oauth",
        }
    }
}

/// What kind of push was accepted: the index of a counter.
pub(crate) const KINDS: [&str; 15] = [
    "alert",
    "background",
    "voip",
    "complication",
    "controls",
    "fileprovider",
    "liveactivity",
    "location",
    "mdm",
    "pushtotalk",
    "widgets",
    "missing",
    "data",
    "notification",
    "validateOnly",
];

/// A snapshot of all counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Accepted pushes by provider and by push type (`apns`) or kind of message (`fcm`).
    pub accepted: BTreeMap<String, BTreeMap<String, u64>>,
    /// Refused requests by provider and reason.
    pub refused: BTreeMap<String, BTreeMap<String, u64>>,
    /// Requests that got no answer, by provider and fault.
    pub unanswered: BTreeMap<String, BTreeMap<String, u64>>,
    /// Access tokens handed out.
    pub mints: u64,
    /// TLS connections accepted, by provider.
    pub connections: BTreeMap<String, u64>,
    /// Connections that the provider ended or refused by a rule, by provider and rule: `errors`, `idle`, `age`,
    /// `storm`, `outage` (refused only).
    pub ended: BTreeMap<String, BTreeMap<String, u64>>,
    /// Receipts that the receipts address answered with 2xx.
    pub receipts_sent: u64,
    /// Receipts that were given up.
    pub receipts_failed: u64,
    /// What the providers' consoles would say of the phones that exist.
    pub phones: Metrics,
}

impl Counts {
    /// All pushes that `provider` accepted.
    #[must_use]
    pub fn accepted_by(&self, provider: Provider) -> u64 {
        self.accepted.get(provider.word()).map_or(0, |kinds| kinds.values().sum())
    }
}

type Named = Mutex<BTreeMap<(&'static str, String), u64>>;

/// The counters behind a running simulator.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: [AtomicU64; KINDS.len()],
    refused: Named,
    unanswered: Named,
    ended: Named,
    pub(crate) mints: AtomicU64,
    pub(crate) apns_connections: AtomicU64,
    pub(crate) fcm_connections: AtomicU64,
    pub(crate) receipts_sent: AtomicU64,
    pub(crate) receipts_failed: AtomicU64,
}

/// One more.
pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn bump_named(named: &Named, provider: Provider, name: &str) {
    let mut named = named.lock().expect("nothing panics while counting");
    let key = (provider.word(), name.to_owned());
    if named.len() < REASONS_LIMIT || named.contains_key(&key) {
        *named.entry(key).or_default() += 1;
    }
}

impl Counters {
    /// `kind` is an index into [`KINDS`].
    pub(crate) fn accepted(&self, kind: usize) {
        bump(&self.accepted[kind]);
    }

    pub(crate) fn refused(&self, provider: Provider, reason: &str) {
        bump_named(&self.refused, provider, reason);
    }

    pub(crate) fn unanswered(&self, provider: Provider, fault: &str) {
        bump_named(&self.unanswered, provider, fault);
    }

    pub(crate) fn ended(&self, provider: Provider, rule: &str) {
        bump_named(&self.ended, provider, rule);
    }

    pub(crate) fn snapshot(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut counts = Counts {
            refused: read_named(&self.refused),
            unanswered: read_named(&self.unanswered),
            ended: read_named(&self.ended),
            mints: read(&self.mints),
            receipts_sent: read(&self.receipts_sent),
            receipts_failed: read(&self.receipts_failed),
            ..Counts::default()
        };
        for (index, (kind, counter)) in KINDS.iter().zip(&self.accepted).enumerate() {
            let provider = if index < FIRST_FCM_KIND { Provider::Apns } else { Provider::Fcm };
            let count = read(counter);
            if count > 0 {
                counts.accepted.entry(provider.word().to_owned()).or_default().insert((*kind).to_owned(), count);
            }
        }
        counts.connections.insert(Provider::Apns.word().to_owned(), read(&self.apns_connections));
        counts.connections.insert(Provider::Fcm.word().to_owned(), read(&self.fcm_connections));
        counts
    }

    pub(crate) fn reset(&self) {
        let plain = [&self.mints, &self.apns_connections, &self.fcm_connections];
        let receipts = [&self.receipts_sent, &self.receipts_failed];
        for counter in plain.into_iter().chain(receipts).chain(&self.accepted) {
            counter.store(0, Ordering::Relaxed);
        }
        for named in [&self.refused, &self.unanswered, &self.ended] {
            named.lock().expect("nothing panics while counting").clear();
        }
    }
}

fn read_named(named: &Named) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut by_provider: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for ((provider, name), count) in named.lock().expect("nothing panics while counting").iter() {
        by_provider.entry((*provider).to_owned()).or_default().insert(name.clone(), *count);
    }
    by_provider
}

/// Where FCM's kinds begin in [`KINDS`].
pub(crate) const FIRST_FCM_KIND: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_what_was_counted_and_a_reset_clears_it() {
        let counters = Counters::default();
        counters.accepted(1);
        counters.accepted(FIRST_FCM_KIND);
        counters.refused(Provider::Apns, "BadDeviceToken");
        bump(&counters.mints);
        let counts = counters.snapshot();
        assert_eq!(counts.accepted["apns"]["background"], 1);
        assert_eq!(counts.accepted["fcm"]["data"], 1);
        assert_eq!(counts.accepted_by(Provider::Fcm), 1);
        assert_eq!(counts.refused["apns"]["BadDeviceToken"], 1);
        assert_eq!(counts.mints, 1);
        counters.reset();
        assert!(counters.snapshot().accepted.is_empty());
        assert!(counters.snapshot().refused.is_empty());
    }

    #[test]
    fn invented_reasons_are_bounded() {
        let counters = Counters::default();
        for n in 0..2 * REASONS_LIMIT {
            counters.refused(Provider::Fcm, &n.to_string());
        }
        assert_eq!(counters.snapshot().refused["fcm"].len(), REASONS_LIMIT);
    }
}
