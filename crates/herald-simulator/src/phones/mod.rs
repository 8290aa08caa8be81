//! The phones that exist: found by name for the control interface, by push token for a provider.
//!
//! Holds the locks around the pure [`Phone`], and books when it wants to be woken; never sends anything itself.

mod spec;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

pub use spec::{Environment, PhoneChange, PhoneSpec, PhoneView, TokenKind};

use crate::device::{Acknowledge, Change, Condition, Habits, Metrics, Phone, Platform, Push, Step};
use crate::random;
use crate::wakes::Wakes;

/// How many phones there may be, and how many given-up tokens are remembered.
const PHONES_LIMIT: usize = 100_000;

/// Why a phone can't be made or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// The app has no credentials here.
    #[error("no app {0:?} here; give one of those the simulator was started with")]
    NoSuchApp(String),
    /// No phone has this name.
    #[error("no phone {0:?}")]
    NoSuchPhone(String),
    /// The push token can't be one of this platform, or is another phone's.
    #[error("the push token {0}")]
    Token(&'static str),
    /// A rule means nothing, or nothing for this platform.
    #[error("rules: {0}")]
    Rules(String),
    /// There are too many phones.
    #[error("{PHONES_LIMIT} phones are enough; reset first")]
    TooMany,
}

/// A phone with its surroundings.
#[derive(Debug)]
pub(crate) struct Handset {
    /// Of this phone and no other, also if it is replaced by one of the same name.
    pub(crate) serial: u64,
    pub(crate) name: String,
    pub(crate) app: usize,
    pub(crate) app_id: String,
    pub(crate) platform: Platform,
    pub(crate) environment: Environment,
    pub(crate) receipts_sent: AtomicU64,
    pub(crate) receipts_failed: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phone: Phone,
    token: String,
    token_kind: TokenKind,
    receipts_url: Option<Arc<str>>,
    unregistered_at_ms: u64,
    /// When [`Wakes`] has it.
    wakes_at_ms: Option<u64>,
}

impl Handset {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while a phone is held")
    }

    /// Since when it takes no pushes, in milliseconds since 1970: its app is uninstalled, or FCM forgot its token.
    pub(crate) fn unregistered_at_ms(&self, now_ms: u64) -> Option<u64> {
        let inner = self.inner();
        let uninstalled = (inner.phone.condition() == Condition::Uninstalled).then_some(inner.unregistered_at_ms);
        uninstalled.or_else(|| inner.phone.forgotten_since_ms(now_ms))
    }

    /// What its token is.
    pub(crate) fn token_kind(&self) -> TokenKind {
        self.inner().token_kind
    }

    /// Where to send a receipt now; `None`: nowhere configured.
    pub(crate) fn receipts_url(&self) -> Option<Arc<str>> {
        self.inner().receipts_url.clone()
    }

    /// Whether its app can reach anything.
    pub(crate) fn is_connected(&self) -> bool {
        !matches!(self.inner().phone.condition(), Condition::Offline | Condition::Uninstalled)
    }

    pub(crate) fn view(&self) -> PhoneView {
        let inner = self.inner();
        let notifications = inner.phone.notifications().filter(|(id, _)| !id.is_empty());
        PhoneView {
            name: self.name.clone(),
            app: self.app_id.clone(),
            platform: self.platform,
            token: inner.token.clone(),
            token_kind: inner.token_kind,
            environment: self.environment,
            condition: inner.phone.condition(),
            tally: inner.phone.tally(),
            on_screen: inner.phone.on_screen() as u64,
            stored: inner.phone.stored() as u64,
            held: inner.phone.held() as u64,
            metrics: inner.phone.metrics(),
            rules: inner.phone.rules().clone(),
            receipts_sent: self.receipts_sent.load(Ordering::Relaxed),
            receipts_failed: self.receipts_failed.load(Ordering::Relaxed),
            notifications: notifications.map(|(id, tally)| (id.clone(), *tally)).collect(),
        }
    }
}

/// Who a push token belongs to.
pub(crate) enum Owner {
    Phone(Arc<Handset>),
    /// A phone had it until then, in milliseconds since 1970.
    Former(u64),
    Nobody,
}

#[derive(Debug, Default)]
struct Index {
    by_name: BTreeMap<String, Arc<Handset>>,
    by_token: HashMap<String, Arc<Handset>>,
    former_tokens: HashMap<String, u64>,
}

/// All phones.
#[derive(Debug, Default)]
pub(crate) struct Phones {
    index: RwLock<Index>,
    serials: AtomicU64,
    pub(crate) wakes: Wakes,
}

impl Phones {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().expect("nothing panics while the phones are held")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index.write().expect("nothing panics while the phones are held")
    }

    /// Makes a phone, or replaces the one of this name.
    ///
    /// # Errors
    /// See [`PhoneError`].
    pub(crate) fn put(
        &self,
        name: &str,
        app: usize,
        spec: &PhoneSpec,
        seed: u64,
        now_ms: u64,
    ) -> Result<PhoneView, PhoneError> {
        let token = match &spec.token {
            Some(token) => checked_token(spec.platform, token)?,
            None => generated_token(spec, seed, name),
        };
        if let Some(problem) = spec.rules.problem(spec.platform) {
            return Err(PhoneError::Rules(problem));
        }
        let handset = Arc::new(self.handset(name, app, spec, token.clone(), random::of(seed, name), now_ms));
        let mut index = self.write();
        if index.by_token.get(&token).is_some_and(|owner| owner.name != name) {
            return Err(PhoneError::Token("is another phone's"));
        }
        if index.by_name.len() >= PHONES_LIMIT && !index.by_name.contains_key(name) {
            return Err(PhoneError::TooMany);
        }
        if let Some(former) = index.by_name.insert(name.to_owned(), handset.clone()) {
            let former = former.inner().token.clone();
            index.by_token.remove(&former);
        }
        index.former_tokens.remove(&token);
        index.by_token.insert(token, handset.clone());
        drop(index);
        Ok(handset.view())
    }

    fn handset(&self, name: &str, app: usize, spec: &PhoneSpec, token: String, seed: u64, now_ms: u64) -> Handset {
        let habits = Habits {
            ack_delay_ms: spec.ack_delay_ms,
            ack_alerts: spec.ack_alerts,
            ack_loss_percent: spec.ack_loss_percent,
        };
        let mut phone = Phone::new(spec.platform, spec.condition, habits, seed, now_ms);
        phone.set_rules(spec.rules.clone());
        Handset {
            serial: self.serials.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
            app,
            app_id: spec.app.clone(),
            platform: spec.platform,
            environment: spec.environment,
            receipts_sent: AtomicU64::new(0),
            receipts_failed: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                phone,
                token,
                token_kind: spec.token_kind,
                receipts_url: spec.receipts_url.as_deref().map(Arc::from),
                unregistered_at_ms: now_ms,
                wakes_at_ms: None,
            }),
        }
    }

    /// A push reaches a phone; the receipts that its app sends because of that.
    pub(crate) fn receive(&self, handset: &Arc<Handset>, push: Push, now_ms: u64) -> Vec<Acknowledge> {
        let mut inner = handset.inner();
        let step = inner.phone.receive(push, now_ms);
        self.settle(handset, &mut inner, step)
    }

    /// Wakes a phone that wanted to be woken at `at_ms`.
    pub(crate) fn wake(&self, handset: &Arc<Handset>, at_ms: u64, now_ms: u64) -> Vec<Acknowledge> {
        let mut inner = handset.inner();
        if inner.wakes_at_ms == Some(at_ms) {
            inner.wakes_at_ms = None;
        }
        let step = inner.phone.wake(now_ms);
        self.settle(handset, &mut inner, step)
    }

    /// Books the time to wake the phone. Under the phone's lock, so that of two steps the later one's time stays.
    fn settle(&self, handset: &Arc<Handset>, inner: &mut Inner, step: Step) -> Vec<Acknowledge> {
        if step.wake_at_ms != inner.wakes_at_ms {
            self.wakes.book(handset, inner.wakes_at_ms, step.wake_at_ms);
            inner.wakes_at_ms = step.wake_at_ms;
        }
        step.receipts
    }

    /// Changes a phone; returns it with the receipts that its app sends because of that.
    ///
    /// # Errors
    /// See [`PhoneError`].
    pub(crate) fn change(
        &self,
        name: &str,
        change: &PhoneChange,
        seed: u64,
        now_ms: u64,
    ) -> Result<(Arc<Handset>, Vec<Acknowledge>), PhoneError> {
        let handset = self.named(name).ok_or_else(|| PhoneError::NoSuchPhone(name.to_owned()))?;
        if let Some(problem) = change.rules.as_ref().and_then(|rules| rules.problem(handset.platform)) {
            return Err(PhoneError::Rules(problem));
        }
        let kind = change.token_kind.filter(|kind| *kind != handset.token_kind());
        let token = match (&change.token, kind) {
            (Some(token), _) => Some(checked_token(handset.platform, token)?),
            // An iPhone's token is of no kind.
            (None, Some(kind)) if handset.platform == Platform::Android => Some(android_token(kind, seed, name)),
            (None, _) => None,
        };
        if let Some(token) = token {
            self.replace_token(&handset, token, now_ms)?;
        }
        let mut inner = handset.inner();
        let habits = inner.phone.habits();
        if let Some(url) = &change.receipts_url {
            inner.receipts_url = Some(Arc::from(url.as_str()));
        }
        if change.condition == Some(Condition::Uninstalled) {
            inner.unregistered_at_ms = now_ms;
        }
        inner.unregistered_at_ms = change.unregistered_at_ms.unwrap_or(inner.unregistered_at_ms);
        inner.token_kind = kind.unwrap_or(inner.token_kind);
        let done = Change {
            condition: change.condition,
            habits: Some(Habits {
                ack_delay_ms: change.ack_delay_ms.unwrap_or(habits.ack_delay_ms),
                ack_alerts: change.ack_alerts.unwrap_or(habits.ack_alerts),
                ack_loss_percent: change.ack_loss_percent.unwrap_or(habits.ack_loss_percent),
            }),
            rules: change.rules.clone(),
            launch: change.launch,
        };
        let step = inner.phone.change(done, now_ms);
        let receipts = self.settle(&handset, &mut inner, step);
        drop(inner);
        Ok((handset, receipts))
    }

    fn replace_token(&self, handset: &Arc<Handset>, token: String, now_ms: u64) -> Result<(), PhoneError> {
        let mut index = self.write();
        if index.by_token.get(&token).is_some_and(|owner| owner.name != handset.name) {
            return Err(PhoneError::Token("is another phone's"));
        }
        let mut inner = handset.inner();
        let former = std::mem::replace(&mut inner.token, token.clone());
        inner.phone.registered_anew();
        drop(inner);
        index.by_token.remove(&former);
        if index.former_tokens.len() < PHONES_LIMIT {
            index.former_tokens.insert(former, now_ms);
        }
        index.former_tokens.remove(&token);
        index.by_token.insert(token, handset.clone());
        Ok(())
    }

    /// Removes a phone; its token is unknown from then on. Says whether there was one.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let mut index = self.write();
        let Some(handset) = index.by_name.remove(name) else { return false };
        let token = handset.inner().token.clone();
        index.by_token.remove(&token);
        true
    }

    pub(crate) fn named(&self, name: &str) -> Option<Arc<Handset>> {
        self.read().by_name.get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Handset>> {
        self.read().by_name.values().cloned().collect()
    }

    /// Whose token it is. APNs tokens must be given in lower case.
    pub(crate) fn owner(&self, token: &str) -> Owner {
        let index = self.read();
        if let Some(handset) = index.by_token.get(token) {
            return Owner::Phone(handset.clone());
        }
        index.former_tokens.get(token).map_or(Owner::Nobody, |since| Owner::Former(*since))
    }

    /// The sum of what the providers' consoles say of the phones that exist.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut sum = Metrics::default();
        for handset in self.all() {
            sum.add(handset.inner().phone.metrics());
        }
        sum
    }

    pub(crate) fn clear(&self) {
        *self.write() = Index::default();
    }
}

fn checked_token(platform: Platform, token: &str) -> Result<String, PhoneError> {
    let good = match platform {
        Platform::Ios => crate::apns::is_device_token(token),
        Platform::Android => crate::fcm::is_registration_token(token),
    };
    match (good, platform) {
        (false, Platform::Ios) => Err(PhoneError::Token("of an iPhone is hexadecimal, of even length, 200 at most")),
        (false, Platform::Android) => Err(PhoneError::Token("of an Android phone has letters, digits and ':-_' only")),
        (true, Platform::Ios) => Ok(token.to_ascii_lowercase()),
        (true, Platform::Android) => Ok(token.to_owned()),
    }
}

fn generated_token(spec: &PhoneSpec, seed: u64, name: &str) -> String {
    match spec.platform {
        Platform::Ios => random::chars(seed, &format!("{name} device token"), random::HEX, 64),
        Platform::Android => android_token(spec.token_kind, seed, name),
    }
}

fn android_token(kind: TokenKind, seed: u64, name: &str) -> String {
    let part = |what: &str, length| random::chars(seed, &format!("{name} {what}"), random::URL_SAFE, length);
    match kind {
        TokenKind::Token => {
            let instance = part("instance", 22);
            format!("{instance}:APA91b{}", part("registration token", 134))
        }
        TokenKind::Fid => part("installation id", 22),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(phones: &Phones, name: &str, spec: &PhoneSpec) -> Result<PhoneView, PhoneError> {
        phones.put(name, 0, spec, 1, 5)
    }

    #[test]
    fn a_phone_is_found_by_its_token_until_it_gets_another() {
        let phones = Phones::default();
        let old = put(&phones, "anna", &PhoneSpec::new("a", Platform::Ios)).unwrap().token;
        assert!(matches!(phones.owner(&old), Owner::Phone(phone) if phone.name == "anna"));
        let change = PhoneChange { token: Some("ABCD".to_owned()), ..PhoneChange::default() };
        assert!(phones.change("anna", &change, 1, 9).is_ok());
        assert!(matches!(phones.owner(&old), Owner::Former(9)));
        assert!(matches!(phones.owner("abcd"), Owner::Phone(_)));
        assert!(phones.remove("anna") && !phones.remove("anna"));
        assert!(matches!(phones.owner("abcd"), Owner::Nobody));
    }

    #[test]
    fn two_phones_cannot_share_a_token() {
        let phones = Phones::default();
        let token = put(&phones, "anna", &PhoneSpec::new("a", Platform::Android)).unwrap().token;
        let same = PhoneSpec { token: Some(token), ..PhoneSpec::new("a", Platform::Android) };
        assert!(matches!(put(&phones, "bert", &same), Err(PhoneError::Token(_))));
        assert!(put(&phones, "anna", &same).is_ok());
    }

    #[test]
    fn tokens_that_a_provider_could_not_have_made_are_refused() {
        let phones = Phones::default();
        for (platform, token) in [(Platform::Ios, "abc"), (Platform::Ios, "zz"), (Platform::Android, "a b")] {
            let spec = PhoneSpec { token: Some(token.to_owned()), ..PhoneSpec::new("a", platform) };
            assert!(matches!(put(&phones, "x", &spec), Err(PhoneError::Token(_))), "{token}");
        }
    }

    #[test]
    fn an_uninstalled_phone_says_since_when() {
        let phones = Phones::default();
        put(&phones, "anna", &PhoneSpec::new("a", Platform::Ios)).unwrap();
        let anna = phones.named("anna").unwrap();
        assert_eq!(anna.unregistered_at_ms(0), None);
        let gone = PhoneChange { condition: Some(Condition::Uninstalled), ..PhoneChange::default() };
        assert!(phones.change("anna", &gone, 1, 77).is_ok());
        assert_eq!(anna.unregistered_at_ms(0), Some(77));
        let earlier = PhoneChange { unregistered_at_ms: Some(7), ..PhoneChange::default() };
        assert!(phones.change("anna", &earlier, 1, 99).is_ok());
        assert_eq!(anna.unregistered_at_ms(0), Some(7));
    }
}
