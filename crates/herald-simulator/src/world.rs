//! What all servers share: apps, phones, clock, settings, scripts, journal and counters.
//!
//! Every lock in here is held for a moment only, never over an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apns::{ApnsRules, Buckets, Keyring};
use crate::clock::Clock;
use crate::counters::{Counters, Counts, Provider};
use crate::credentials::AppKeys;
use crate::device::{Acknowledge, Push};
use crate::faults::Faults;
use crate::fcm::{AccessTokens, Accounts, FcmRules, Quotas};
use crate::journal::Journal;
use crate::latency::Delay;
use crate::line::Lines;
use crate::options::AppSpec;
use crate::outages::{Outage, OutageMode};
use crate::phones::{Handset, Phones};
use crate::random::Dice;
use crate::receipts::Receipts;

/// An app as the providers know it.
pub(crate) struct App {
    pub(crate) spec: AppSpec,
    pub(crate) keys: AppKeys,
}

/// All apps, found by what a request brings.
#[derive(Default)]
pub(crate) struct Apps {
    pub(crate) list: Vec<App>,
    by_id: HashMap<String, usize>,
    by_bundle_id: HashMap<String, usize>,
    by_project: HashMap<String, usize>,
    by_client_email: HashMap<String, usize>,
}

impl Apps {
    pub(crate) fn new(list: Vec<App>) -> Self {
        let mut apps = Self::default();
        for (index, app) in list.iter().enumerate() {
            apps.by_id.insert(app.spec.app.clone(), index);
            apps.by_bundle_id.insert(app.spec.bundle_id.clone(), index);
            apps.by_project.insert(app.spec.project_id.clone(), index);
            apps.by_client_email.insert(app.keys.client_email.clone(), index);
        }
        Self { list, ..apps }
    }

    pub(crate) fn named(&self, app: &str) -> Option<usize> {
        self.by_id.get(app).copied()
    }

    pub(crate) fn of_bundle_id(&self, bundle_id: &str) -> Option<usize> {
        self.by_bundle_id.get(bundle_id).copied()
    }

    pub(crate) fn of_project(&self, project: &str) -> Option<usize> {
        self.by_project.get(project).copied()
    }

    pub(crate) fn of_client_email(&self, client_email: &str) -> Option<usize> {
        self.by_client_email.get(client_email).copied()
    }
}

/// What can be set while the simulator runs; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SettingsChange {
    /// Where phones without an address of their own send receipts; empty: nowhere.
    pub receipts_url: Option<String>,
    /// How long every answer of a provider is held back.
    pub delay_ms: Option<u64>,
    /// The same as a distribution, besides `delay_ms`.
    pub delay: Option<Delay>,
    /// How far the simulator's clock is ahead of the system's.
    pub clock_offset_secs: Option<i64>,
    /// See [`crate::Options::strict`].
    pub strict: Option<bool>,
    /// Every well-formed push token is an awake phone that never acknowledges; nothing is kept about it. For benches.
    pub accept_unknown_tokens: Option<bool>,
    /// How long an access token holds, in seconds.
    pub access_token_secs: Option<u64>,
    /// All servers show a certificate of another CA, as if the provider's CA had changed. Meets new connections.
    pub other_ca: Option<bool>,
    /// What APNs does of its own accord; replaced as a whole, so that what is absent in it is at its default.
    pub apns: Option<ApnsRules>,
    /// The same for FCM.
    pub fcm: Option<FcmRules>,
}

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the fields are those of SettingsChange")]
pub struct Settings {
    pub receipts_url: Option<String>,
    pub delay_ms: u64,
    pub delay: Option<Delay>,
    pub clock_offset_secs: i64,
    pub strict: bool,
    pub accept_unknown_tokens: bool,
    pub access_token_secs: u64,
    pub other_ca: bool,
    pub apns: ApnsRules,
    #[serde(default)]
    pub fcm: FcmRules,
}

/// What an access token holds if nothing else is set, as Google answers it.
const ACCESS_TOKEN_SECS: u64 = 3599;

/// Shared by all servers of one simulator.
pub(crate) struct World {
    pub(crate) apps: Apps,
    pub(crate) phones: Phones,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access_tokens: AccessTokens,
    pub(crate) accounts: Accounts,
    pub(crate) quotas: Quotas,
    pub(crate) keys: Keyring,
    pub(crate) buckets: Buckets,
    pub(crate) apns_lines: Lines,
    pub(crate) fcm_lines: Lines,
    pub(crate) tasks: TaskTracker,
    pub(crate) token_uri: String,
    pub(crate) seed: u64,
    pub(crate) stop: CancellationToken,
    initial: (bool, Duration),
    strict: AtomicBool,
    accept_unknown_tokens: AtomicBool,
    delay_ms: AtomicU64,
    access_token_secs: AtomicU64,
    other_ca: AtomicBool,
    /// Whether the rules or `delay` hold something, so that the usual request needs no lock.
    has_apns_rules: AtomicBool,
    has_fcm_rules: AtomicBool,
    has_delay: AtomicBool,
    apns_rules: RwLock<Arc<ApnsRules>>,
    fcm_rules: RwLock<Arc<FcmRules>>,
    delay: RwLock<Option<Arc<Delay>>>,
    dice: Dice,
    receipts_url: RwLock<Option<Arc<str>>>,
    receipts: Arc<Receipts>,
    changes: watch::Sender<u64>,
}

impl World {
    pub(crate) fn new(
        apps: Apps,
        token_uri: String,
        options: &crate::Options,
        receipts: Receipts,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let keys = Keyring::new(&apps);
        let world = Self {
            apps,
            phones: Phones::default(),
            clock: Clock::default(),
            faults: Faults::new(options.seed),
            journal: Journal::new(options.journal_limit),
            counters: Arc::default(),
            access_tokens: AccessTokens::new(options.seed),
            accounts: Accounts::default(),
            quotas: Quotas::default(),
            keys,
            buckets: Buckets::default(),
            apns_lines: Lines::new(stop.clone()),
            fcm_lines: Lines::new(stop.clone()),
            tasks,
            token_uri,
            seed: options.seed,
            stop,
            initial: (options.strict, options.delay),
            strict: AtomicBool::new(true),
            accept_unknown_tokens: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            access_token_secs: AtomicU64::new(ACCESS_TOKEN_SECS),
            other_ca: AtomicBool::new(false),
            has_apns_rules: AtomicBool::new(false),
            has_fcm_rules: AtomicBool::new(false),
            has_delay: AtomicBool::new(false),
            apns_rules: RwLock::default(),
            fcm_rules: RwLock::default(),
            delay: RwLock::new(None),
            dice: Dice::new(!options.seed),
            receipts_url: RwLock::new(None),
            receipts: Arc::new(receipts),
            changes: watch::Sender::new(0),
        };
        world.reset_settings();
        world
    }

    pub(crate) fn strict(&self) -> bool {
        self.strict.load(Ordering::Relaxed)
    }

    pub(crate) fn accepts_unknown_tokens(&self) -> bool {
        self.accept_unknown_tokens.load(Ordering::Relaxed)
    }

    pub(crate) fn access_token_secs(&self) -> u64 {
        self.access_token_secs.load(Ordering::Relaxed)
    }

    /// Holds an answer back, as set.
    pub(crate) async fn hold(&self, besides_ms: u64) {
        let mut delay = self.delay_ms.load(Ordering::Relaxed).saturating_add(besides_ms);
        if self.has_delay.load(Ordering::Relaxed)
            && let Some(distribution) = self.delay()
        {
            delay = delay.saturating_add(distribution.sample(self.dice.roll()));
        }
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
    }

    /// Whether the servers show the other CA's certificate.
    pub(crate) fn shows_other_ca(&self) -> bool {
        self.other_ca.load(Ordering::Relaxed)
    }

    /// What APNs does of its own accord; `None`: nothing.
    pub(crate) fn apns_rules(&self) -> Option<Arc<ApnsRules>> {
        let set = self.has_apns_rules.load(Ordering::Relaxed);
        set.then(|| self.apns_rules.read().expect("nothing panics while rules are held").clone())
    }

    /// What FCM does of its own accord; `None`: nothing.
    pub(crate) fn fcm_rules(&self) -> Option<Arc<FcmRules>> {
        let set = self.has_fcm_rules.load(Ordering::Relaxed);
        set.then(|| self.fcm_rules.read().expect("nothing panics while rules are held").clone())
    }

    fn delay(&self) -> Option<Arc<Delay>> {
        self.delay.read().expect("nothing panics while the delay is held").clone()
    }

    /// Begins an outage; one that takes the server away ends the connections that exist.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(crate) fn begin_outage(&self, outage: Outage) -> Result<(), &'static str> {
        let (provider, down) = (outage.provider, matches!(outage.mode, OutageMode::Refuse | OutageMode::Close));
        self.faults.outages.begin(outage)?;
        if down {
            match provider {
                Provider::Apns => self.apns_lines.end(false),
                Provider::Fcm => self.fcm_lines.end(false),
                // It shares FCM's connections.
                Provider::Oauth => {}
            }
        }
        Ok(())
    }

    /// Ends the connections that exist: those to `provider`, or all; with GOAWAY if `politely`.
    pub(crate) fn end_connections(&self, provider: Option<Provider>, politely: bool) {
        if provider.is_none_or(|provider| provider == Provider::Apns) {
            self.apns_lines.end(politely);
        }
        if provider.is_none_or(|provider| provider != Provider::Apns) {
            self.fcm_lines.end(politely);
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            receipts_url: self.receipts_url().map(|url| url.to_string()),
            delay_ms: self.delay_ms.load(Ordering::Relaxed),
            delay: self.delay().map(|delay| (*delay).clone()),
            clock_offset_secs: self.clock.offset_secs(),
            strict: self.strict(),
            accept_unknown_tokens: self.accepts_unknown_tokens(),
            access_token_secs: self.access_token_secs(),
            other_ca: self.shows_other_ca(),
            apns: self.apns_rules().as_deref().cloned().unwrap_or_default(),
            fcm: self.fcm_rules().as_deref().cloned().unwrap_or_default(),
        }
    }

    /// Changes settings.
    ///
    /// # Errors
    /// A sentence that says what is wrong with one of them; then none is changed.
    pub(crate) fn set(&self, change: &SettingsChange) -> Result<(), &'static str> {
        if let Some(problem) = change.delay.as_ref().and_then(Delay::problem) {
            return Err(problem);
        }
        if let Some(problem) = change.apns.as_ref().and_then(ApnsRules::problem) {
            return Err(problem);
        }
        if let Some(problem) = change.fcm.as_ref().and_then(FcmRules::problem) {
            return Err(problem);
        }
        self.put(change);
        Ok(())
    }

    fn put(&self, change: &SettingsChange) {
        if let Some(url) = &change.receipts_url {
            let url = if url.is_empty() { None } else { Some(Arc::from(url.as_str())) };
            *self.receipts_url.write().expect("nothing panics while the address is held") = url;
        }
        if let Some(delay_ms) = change.delay_ms {
            self.delay_ms.store(delay_ms, Ordering::Relaxed);
        }
        if let Some(offset) = change.clock_offset_secs {
            self.clock.set_offset_secs(offset);
            self.phones.wakes.look_again();
        }
        if let Some(strict) = change.strict {
            self.strict.store(strict, Ordering::Relaxed);
        }
        if let Some(accept) = change.accept_unknown_tokens {
            self.accept_unknown_tokens.store(accept, Ordering::Relaxed);
        }
        if let Some(secs) = change.access_token_secs {
            self.access_token_secs.store(secs, Ordering::Relaxed);
        }
        if let Some(other_ca) = change.other_ca {
            self.other_ca.store(other_ca, Ordering::Relaxed);
        }
        if let Some(delay) = &change.delay {
            let delay = Some(delay.clone()).filter(|delay| *delay != Delay::FixedMs(0));
            self.has_delay.store(delay.is_some(), Ordering::Relaxed);
            *self.delay.write().expect("nothing panics while the delay is held") = delay.map(Arc::new);
        }
        if let Some(rules) = &change.apns {
            self.has_apns_rules.store(*rules != ApnsRules::default(), Ordering::Relaxed);
            *self.apns_rules.write().expect("nothing panics while rules are held") = Arc::new(rules.clone());
            self.buckets.clear();
        }
        if let Some(rules) = &change.fcm {
            self.has_fcm_rules.store(*rules != FcmRules::default(), Ordering::Relaxed);
            *self.fcm_rules.write().expect("nothing panics while rules are held") = Arc::new(rules.clone());
            self.quotas.clear();
        }
    }

    fn reset_settings(&self) {
        let (strict, delay) = self.initial;
        self.put(&SettingsChange {
            receipts_url: Some(String::new()),
            delay: Some(Delay::FixedMs(0)),
            other_ca: Some(false),
            apns: Some(ApnsRules::default()),
            fcm: Some(FcmRules::default()),
            delay_ms: Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            clock_offset_secs: Some(0),
            strict: Some(strict),
            accept_unknown_tokens: Some(false),
            access_token_secs: Some(ACCESS_TOKEN_SECS),
        });
    }

    /// Back to the start: no phones, scripts, outages, journal or counts, settings as given; keys as at start.
    /// Credentials and tokens stay.
    pub(crate) fn reset(&self) {
        self.phones.clear();
        self.faults.reset();
        self.dice.reset();
        self.keys.reset(&self.apps);
        self.accounts.reset();
        self.journal.clear();
        self.counters.reset();
        self.reset_settings();
        self.changed();
    }

    fn receipts_url(&self) -> Option<Arc<str>> {
        self.receipts_url.read().expect("nothing panics while the address is held").clone()
    }

    /// An accepted push reaches its phone.
    pub(crate) fn deliver(&self, handset: &Arc<Handset>, push: Push) {
        for acknowledge in self.phones.receive(handset, push, self.clock.millis()) {
            self.acknowledge(handset, acknowledge);
        }
        self.changed();
    }

    /// The time has come that a phone wanted to be woken at.
    pub(crate) fn wake(&self, handset: &Arc<Handset>, at_ms: u64, now_ms: u64) {
        for acknowledge in self.phones.wake(handset, at_ms, now_ms) {
            self.acknowledge(handset, acknowledge);
        }
        self.changed();
    }

    /// All counts, with those of the phones that exist.
    pub(crate) fn counts(&self) -> Counts {
        Counts { phones: self.phones.metrics(), ..self.counters.snapshot() }
    }

    /// The phone's app sends a receipt in its own time.
    pub(crate) fn acknowledge(&self, handset: &Arc<Handset>, acknowledge: Acknowledge) {
        let changes = self.changes.clone();
        let done = move || changes.send_modify(|version| *version += 1);
        self.receipts.send(handset.clone(), acknowledge, self.receipts_url(), self.counters.clone(), done);
    }

    /// Tells those who wait that a phone has something new to show.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
