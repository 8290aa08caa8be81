//! Phones as a test describes, changes and sees them: the values of the control interface.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::device::{Condition, Metrics, NotificationTally, PhoneRules, Platform, Tally};

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
    /// What it does besides; absent: nothing.
    #[serde(default)]
    pub rules: PhoneRules,
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
            rules: PhoneRules::default(),
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
    /// Android: the app changes from registration tokens to FIDs, or back. Without a `token`, one is made up.
    pub token_kind: Option<TokenKind>,
    /// The person opens the app: it runs again after a force quit, and gets what was held for it.
    pub launch: bool,
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
    /// See [`PhoneSpec::rules`]; replaced as a whole.
    pub rules: Option<PhoneRules>,
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
    /// Notifications on the screen now.
    pub on_screen: u64,
    /// Pushes that the provider stores for it now.
    pub stored: u64,
    /// iOS: silent pushes that the system holds back from the app now.
    #[serde(default)]
    pub held: u64,
    /// What the provider's console would say.
    #[serde(default)]
    pub metrics: Metrics,
    /// What it does besides.
    #[serde(default)]
    pub rules: PhoneRules,
    /// Receipts answered with 2xx.
    pub receipts_sent: u64,
    /// Receipts given up.
    pub receipts_failed: u64,
    /// By notification id.
    pub notifications: BTreeMap<String, NotificationTally>,
}
