//! Outages: a provider that is down for a while, for everybody or for one topic.
//!
//! What concerns connections is carried out by the listener; what concerns requests becomes a script. With none
//! running, the cost per request is one atomic read.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::counters::Provider;
use crate::faults::{Fault, Script, Subject};

/// How many outages may run at once.
const OUTAGES_LIMIT: usize = 1_000;

/// How a provider is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutageMode {
    /// Nobody listens: connections are refused by the system, and those that exist are closed.
    Refuse,
    /// Connections are accepted and closed at once, and those that exist are closed.
    Close,
    /// Connections are accepted and TLS gets no answer; requests on those that exist get none.
    Hang,
    /// Every request is answered 503.
    Unavailable,
}

/// One outage, from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outage {
    /// Who is down. The token endpoint shares FCM's port: its `refuse` and `close` end the connection at the request.
    pub provider: Provider,
    /// How.
    pub mode: OutageMode,
    /// For how long, in milliseconds of real time; absent: until it is deleted.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// Only for this topic (FCM: project); with `hang` and `unavailable` only.
    #[serde(default)]
    pub topic: Option<String>,
    /// `unavailable`: the `retry-after`, in seconds; absent: none.
    #[serde(default)]
    pub retry_after_secs: Option<u64>,
}

impl Outage {
    /// A provider that is down for everybody until the outage is deleted.
    #[must_use]
    pub fn new(provider: Provider, mode: OutageMode) -> Self {
        Self { provider, mode, for_ms: None, topic: None, retry_after_secs: None }
    }

    /// What happens to a request, as a script.
    fn script(&self) -> Script {
        let fault = match self.mode {
            OutageMode::Refuse | OutageMode::Close => Some(Fault::Close),
            OutageMode::Hang => Some(Fault::Hang),
            OutageMode::Unavailable => None,
        };
        let (reason, error_code) = match self.provider {
            Provider::Apns => (Some("ServiceUnavailable".to_owned()), None),
            Provider::Fcm => (None, Some("UNAVAILABLE".to_owned())),
            Provider::Oauth => (None, None),
        };
        let retry_after = self.retry_after_secs.map(|secs| ("retry-after".to_owned(), secs.to_string()));
        let status = if fault.is_none() { Some(503) } else { None };
        Script { status, reason, error_code, fault, headers: retry_after.into_iter().collect(), ..Script::default() }
    }
}

#[derive(Debug)]
struct Running {
    outage: Outage,
    until: Option<Instant>,
}

/// The outages that run.
#[derive(Debug)]
pub(crate) struct Outages {
    active: AtomicUsize,
    running: Mutex<Vec<Running>>,
    changes: watch::Sender<()>,
}

impl Default for Outages {
    fn default() -> Self {
        Self { active: AtomicUsize::new(0), running: Mutex::default(), changes: watch::Sender::new(()) }
    }
}

impl Outages {
    /// Begins one.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(crate) fn begin(&self, outage: Outage) -> Result<(), &'static str> {
        if outage.topic.is_some() && matches!(outage.mode, OutageMode::Refuse | OutageMode::Close) {
            return Err("a connection has no topic: refuse and close are for all");
        }
        let until = outage.for_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        {
            let mut running = self.held();
            if running.len() >= OUTAGES_LIMIT {
                return Err("too many outages run already; delete some");
            }
            running.push(Running { outage, until });
            self.active.store(running.len(), Ordering::Release);
        }
        self.changes.send_replace(());
        Ok(())
    }

    /// Ends those of `provider`, or all.
    pub(crate) fn end(&self, provider: Option<Provider>) {
        {
            let mut running = self.held();
            running.retain(|running| provider.is_some_and(|provider| running.outage.provider != provider));
            self.active.store(running.len(), Ordering::Release);
        }
        self.changes.send_replace(());
    }

    pub(crate) fn running(&self) -> Vec<Outage> {
        self.held().iter().map(|running| running.outage.clone()).collect()
    }

    /// How new connections to `provider` are met now.
    pub(crate) fn of_connections(&self, provider: Provider) -> Option<OutageMode> {
        let down = |outage: &Outage| {
            outage.provider == provider && outage.topic.is_none() && outage.mode != OutageMode::Unavailable
        };
        self.first(down, |outage| outage.mode)
    }

    /// What happens to this request.
    pub(crate) fn of_request(&self, subject: Subject<'_>) -> Option<Script> {
        let met = |outage: &Outage| {
            outage.provider == subject.provider && outage.topic.as_deref().is_none_or(|topic| topic == subject.topic)
        };
        self.first(met, Outage::script)
    }

    /// Returns when new connections to `provider` may be met in another way than `mode`.
    pub(crate) async fn until_over(&self, provider: Provider, mode: OutageMode) {
        let mut changes = self.changes.subscribe();
        while self.of_connections(provider) == Some(mode) {
            let end = self.held().iter().filter_map(|running| running.until).min();
            let ended = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // One has run its time.
                () = ended => {}
                // One began or was deleted; the sender lives as long as we do.
                _ = changes.changed() => {}
            }
        }
    }

    /// Is told when an outage begins or is deleted.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn first<T>(&self, wanted: impl Fn(&Outage) -> bool, found: impl Fn(&Outage) -> T) -> Option<T> {
        if self.active.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.held().iter().map(|running| &running.outage).find(|outage| wanted(outage)).map(found)
    }

    /// Those that still run.
    fn held(&self) -> std::sync::MutexGuard<'_, Vec<Running>> {
        let mut running = self.running.lock().expect("nothing panics while outages are held");
        let now = Instant::now();
        running.retain(|running| running.until.is_none_or(|until| until > now));
        self.active.store(running.len(), Ordering::Release);
        running
    }
}
