//! A phone as a state machine: what it does with a push, when it tells its app, and when it wants to be woken.
//!
//! Stands at the end of a notification's way. Pure: time is an argument, and what to do comes out as a value; it never
//! sends, sleeps or locks. The rules are Apple's and Google's descriptions of their systems, simplified; the table is in
//! the crate's README, and each file here names its sources.
//!
//! Reading order: `phone`; then `storage` (the provider's), `budget`, `screen`, `tally`, and `rules` (what a test can set).

mod budget;
mod phone;
mod rules;
mod screen;
mod storage;
mod tally;

use serde::{Deserialize, Serialize};

pub(crate) use phone::Phone;
pub use rules::{BackgroundBudget, CollapsibleBurst, PhoneRules};
pub use tally::{Metrics, NotificationTally, Tally};

/// Whose phone it is, and so which provider reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Platform {
    /// Reached through APNs.
    Ios,
    /// Reached through FCM.
    Android,
}

/// What state the phone and its app are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    /// Connected, and the app may run.
    #[default]
    Awake,
    /// Low Power Mode or Doze: raws wait.
    PowerSaving,
    /// The user closed the app (Android: stopped it by force): raws are discarded, and on Android visible pushes too.
    ForceQuit,
    /// The app is gone: the provider refuses pushes.
    Uninstalled,
    /// Not connected: the provider stores.
    Offline,
}

/// What the payload says the push is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// Silent, data for the app.
    Raw,
    /// The fallback's visible alert.
    Toast,
    /// Visible from the start.
    Alert,
    /// Silent: something was read, dismissed or deleted.
    State,
}

/// How long a push that can't be delivered now may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Now or never.
    Now,
    /// Until then, in milliseconds since 1970.
    Until(u64),
}

/// A push as it reaches a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Push {
    pub(crate) form: Form,
    /// The system shows it, whatever the app does.
    pub(crate) visible: bool,
    /// APNs priority 10, FCM priority HIGH: doesn't wait for a phone that saves power, as far as its platform allows.
    pub(crate) urgent: bool,
    pub(crate) notification_id: Option<String>,
    /// The app server's own id, by which an app recognises a notification.
    pub(crate) app_notification_id: Option<String>,
    /// The receipt capability.
    pub(crate) receipt: Option<String>,
    /// A push with the same one replaces this one on the screen.
    pub(crate) collapse_id: Option<String>,
    /// FCM: a message with the same one replaces this one in storage.
    pub(crate) collapse_key: Option<String>,
    pub(crate) life: Life,
    /// A notification service extension runs, and may acknowledge.
    pub(crate) mutable: bool,
}

/// A push on its way through the phone.
#[derive(Debug, Clone)]
struct Item {
    push: Push,
    /// It was delivered before; it is not repeated again.
    copy: bool,
}

/// What the app has to do: send this receipt, `after_ms` from now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) struct Acknowledge {
    pub(crate) capability: String,
    pub(crate) after_ms: u64,
}

/// What follows from something that happened to a phone.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Step {
    pub(crate) receipts: Vec<Acknowledge>,
    /// When the phone wants to be woken, in milliseconds since 1970, whatever it wanted before.
    pub(crate) wake_at_ms: Option<u64>,
}

/// How the app of a phone behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Habits {
    /// From handling a push to sending its receipt.
    pub(crate) ack_delay_ms: u64,
    /// The service extension acknowledges visible pushes with `mutable-content`.
    pub(crate) ack_alerts: bool,
    /// So many of a hundred receipts are never sent.
    pub(crate) ack_loss_percent: u8,
}

/// What a person does to a phone; what is absent stays.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) condition: Option<Condition>,
    pub(crate) habits: Option<Habits>,
    pub(crate) rules: Option<PhoneRules>,
    /// The person opens the app.
    pub(crate) launch: bool,
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
