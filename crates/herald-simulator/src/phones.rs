//! The phones that exist: found by name for the control interface, by push token for a provider.
//!
//! Holds the locks around the pure [`Phone`]; never sends anything itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use serde::{Deserialize, Serialize};

use crate::device::{Acknowledge, Condition, Habits, NotificationTally, Phone, Platform, Tally};
use crate::random;

/// How many phones there may be, and how many given-up tokens are remembered.
const PHONES_LIMIT: usize = 100_000;

/// Which of Apple's two environments a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Environment {
    /// `api.push.apple.com`.
    #[default]
    Production,
    /// `api.sandbox.push.apple.com`.
    Sandbox,
}

/// What an Android phone is addressed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenKind {
    /// A registration token.
    #[default]
    Token,
    /// A Firebase installation id.
    Fid,
}

/// A phone to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PhoneSpec {
    /// The app on it.
    pub app: String,
    /// Whose it is.
    pub platform: Platform,
    /// Its push token; absent: one is derived from the seed and the phone's name.
    #[serde(default)]
    pub token: Option<String>,
    /// Android: what the token is.
    #[serde(default)]
    pub token_kind: TokenKind,
    /// iOS: which environment it belongs to.
    #[serde(default)]
    pub environment: Environment,
    /// Its condition.
    #[serde(default)]
    pub condition: Condition,
    /// From handling a push to sending its receipt, in milliseconds.
    #[serde(default)]
    pub ack_delay_ms: u64,
    /// Visible pushes with `mutable-content` are acknowledged too.
    #[serde(default)]
    pub ack_alerts: bool,
    /// So many of a hundred receipts are never sent.
    #[serde(default)]
    pub ack_loss_percent: u8,
    /// Where its app sends receipts; absent: the general address of the settings.
    #[serde(default)]
    pub receipts_url: Option<String>,
}

impl PhoneSpec {
    /// A phone with everything at its default.
    #[must_use]
    pub fn new(app: &str, platform: Platform) -> Self {
        Self {
            app: app.to_owned(),
            platform,
            token: None,
            token_kind: TokenKind::Token,
            environment: Environment::Production,
            condition: Condition::Awake,
            ack_delay_ms: 0,
            ack_alerts: false,
            ack_loss_percent: 0,
            receipts_url: None,
        }
    }
}

/// What to change about a phone; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PhoneChange {
    /// Its condition; stored pushes are delivered if it allows them.
    pub condition: Option<Condition>,
    /// A new push token, as after a reinstall: the former one is answered as unregistered from now on.
    pub token: Option<String>,
    /// When APNs shall say that the token became invalid, in milliseconds since 1970 (with `uninstalled`).
    pub unregistered_at_ms: Option<u64>,
    /// See [`PhoneSpec::ack_delay_ms`].
    pub ack_delay_ms: Option<u64>,
    /// See [`PhoneSpec::ack_alerts`].
    pub ack_alerts: Option<bool>,
    /// See [`PhoneSpec::ack_loss_percent`].
    pub ack_loss_percent: Option<u8>,
    /// See [`PhoneSpec::receipts_url`].
    pub receipts_url: Option<String>,
}

/// A phone and what it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhoneView {
    /// Its name.
    pub name: String,
    /// The app on it.
    pub app: String,
    /// Whose it is.
    pub platform: Platform,
    /// Its push token, whole: the test needs it to register the phone.
    pub token: String,
    /// What the token is.
    pub token_kind: TokenKind,
    /// Which environment it belongs to.
    pub environment: Environment,
    /// Its condition.
    pub condition: Condition,
    /// What it has seen.
    #[serde(flatten)]
    pub tally: Tally,
    /// Visible pushes on the screen now.
    pub on_screen: u64,
    /// Pushes that the provider holds for it now.
    pub stored: u64,
    /// Receipts answered with 2xx.
    pub receipts_sent: u64,
    /// Receipts given up.
    pub receipts_failed: u64,
    /// By notification id.
    pub notifications: BTreeMap<String, NotificationTally>,
}

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
    /// There are too many phones.
    #[error("{PHONES_LIMIT} phones are enough; reset first")]
    TooMany,
}

/// A phone with its surroundings.
#[derive(Debug)]
pub(crate) struct Handset {
    pub(crate) name: String,
    pub(crate) app: usize,
    pub(crate) app_id: String,
    pub(crate) platform: Platform,
    pub(crate) token_kind: TokenKind,
    pub(crate) environment: Environment,
    pub(crate) receipts_sent: AtomicU64,
    pub(crate) receipts_failed: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phone: Phone,
    token: String,
    receipts_url: Option<Arc<str>>,
    unregistered_at_ms: u64,
}

impl Handset {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while a phone is held")
    }

    /// Since when it takes no pushes, in milliseconds since 1970, if its app is uninstalled.
    pub(crate) fn unregistered_at_ms(&self) -> Option<u64> {
        let inner = self.inner();
        (inner.phone.condition() == Condition::Uninstalled).then_some(inner.unregistered_at_ms)
    }

    pub(crate) fn receive(&self, push: crate::device::Push, now_ms: u64) -> Option<Acknowledge> {
        self.inner().phone.receive(push, now_ms)
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
            token_kind: self.token_kind,
            environment: self.environment,
            condition: inner.phone.condition(),
            tally: inner.phone.tally(),
            on_screen: inner.phone.on_screen() as u64,
            stored: inner.phone.stored() as u64,
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
        let habits = Habits {
            ack_delay_ms: spec.ack_delay_ms,
            ack_alerts: spec.ack_alerts,
            ack_loss_percent: spec.ack_loss_percent,
        };
        let handset = Arc::new(Handset {
            name: name.to_owned(),
            app,
            app_id: spec.app.clone(),
            platform: spec.platform,
            token_kind: spec.token_kind,
            environment: spec.environment,
            receipts_sent: AtomicU64::new(0),
            receipts_failed: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                phone: Phone::new(spec.platform, spec.condition, habits, random::of(seed, name)),
                token: token.clone(),
                receipts_url: spec.receipts_url.as_deref().map(Arc::from),
                unregistered_at_ms: now_ms,
            }),
        });
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

    /// Changes a phone; returns it with the receipts that its app sends because of that.
    ///
    /// # Errors
    /// See [`PhoneError`].
    pub(crate) fn change(
        &self,
        name: &str,
        change: &PhoneChange,
        now_ms: u64,
    ) -> Result<(Arc<Handset>, Vec<Acknowledge>), PhoneError> {
        let handset = self.named(name).ok_or_else(|| PhoneError::NoSuchPhone(name.to_owned()))?;
        if let Some(token) = &change.token {
            self.replace_token(&handset, checked_token(handset.platform, token)?, now_ms)?;
        }
        let mut inner = handset.inner();
        let habits = inner.phone.habits();
        inner.phone.set_habits(Habits {
            ack_delay_ms: change.ack_delay_ms.unwrap_or(habits.ack_delay_ms),
            ack_alerts: change.ack_alerts.unwrap_or(habits.ack_alerts),
            ack_loss_percent: change.ack_loss_percent.unwrap_or(habits.ack_loss_percent),
        });
        if let Some(url) = &change.receipts_url {
            inner.receipts_url = Some(Arc::from(url.as_str()));
        }
        if change.condition == Some(Condition::Uninstalled) {
            inner.unregistered_at_ms = now_ms;
        }
        inner.unregistered_at_ms = change.unregistered_at_ms.unwrap_or(inner.unregistered_at_ms);
        let receipts = change.condition.map_or_else(Vec::new, |condition| inner.phone.change(condition, now_ms));
        drop(inner);
        Ok((handset, receipts))
    }

    fn replace_token(&self, handset: &Arc<Handset>, token: String, now_ms: u64) -> Result<(), PhoneError> {
        let mut index = self.write();
        if index.by_token.get(&token).is_some_and(|owner| owner.name != handset.name) {
            return Err(PhoneError::Token("is another phone's"));
        }
        let former = std::mem::replace(&mut handset.inner().token, token.clone());
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
    let part = |what: &str, alphabet, length| random::chars(seed, &format!("{name} {what}"), alphabet, length);
    match (spec.platform, spec.token_kind) {
        (Platform::Ios, _) => part("device token", random::HEX, 64),
        (Platform::Android, TokenKind::Token) => {
            let instance = part("instance", random::URL_SAFE, 22);
            format!("{instance}:APA91b{}", part("registration token", random::URL_SAFE, 134))
        }
        (Platform::Android, TokenKind::Fid) => part("installation id", random::URL_SAFE, 22),
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
        assert!(phones.change("anna", &change, 9).is_ok());
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
        assert_eq!(anna.unregistered_at_ms(), None);
        let gone = PhoneChange { condition: Some(Condition::Uninstalled), ..PhoneChange::default() };
        assert!(phones.change("anna", &gone, 77).is_ok());
        assert_eq!(anna.unregistered_at_ms(), Some(77));
        let earlier = PhoneChange { unregistered_at_ms: Some(7), ..PhoneChange::default() };
        assert!(phones.change("anna", &earlier, 99).is_ok());
        assert_eq!(anna.unregistered_at_ms(), Some(7));
    }
}
