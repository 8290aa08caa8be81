//! A phone as a state machine: what it does with a push, and when it tells its app.
//!
//! Stands at the end of a notification's way. Pure: time is an argument, and what to do comes out as a value; it never
//! sends, sleeps or locks. The rules are Apple's and Google's descriptions of their systems, simplified:
//!
//! | condition | raw on iOS | raw on Android | visible |
//! | --- | --- | --- | --- |
//! | awake | handled | handled | shown |
//! | power saving | stored until awake, newest replaces | HIGH handled, NORMAL stored until awake | shown |
//! | force quit | discarded | discarded | shown |
//! | offline | stored until back | stored until back | stored until back |
//! | uninstalled | (the provider refuses) | (the provider refuses) | (the provider refuses) |
//!
//! APNs stores one push per device and app ("Sending notification requests to APNs"); FCM stores 100 and then drops
//! all ("Throttling and quotas"). A stored push whose life has ended is never handled.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::random;

/// How many notifications a phone keeps tallies of; the oldest go first.
const NOTIFICATIONS_KEPT: usize = 10_000;
/// How many pushes stay on the screen; the oldest go first.
const SCREEN_LIMIT: usize = 1_000;
/// How many messages FCM stores for a device before it drops all of them.
const ANDROID_STORED_LIMIT: usize = 100;

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
    /// The user closed the app: raws are discarded.
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
    /// FCM priority HIGH: wakes a sleeping Android phone.
    pub(crate) urgent: bool,
    pub(crate) notification_id: Option<String>,
    /// The receipt capability.
    pub(crate) receipt: Option<String>,
    /// A push with the same one replaces this one on the screen.
    pub(crate) collapse_id: Option<String>,
    pub(crate) life: Life,
    /// A notification service extension runs, and may acknowledge.
    pub(crate) mutable: bool,
}

/// What the app has to do: send this receipt, `after_ms` from now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) struct Acknowledge {
    pub(crate) capability: String,
    pub(crate) after_ms: u64,
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

/// What a phone has seen. `received = handled or shown + discarded + expired + replaced + stored now`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    /// Pushes that the provider accepted for this phone.
    pub received: u64,
    /// Raws handed to the app.
    pub raws_delivered: u64,
    /// State pushes handed to the app.
    pub states_delivered: u64,
    /// Toasts shown, replacements included.
    pub toasts_shown: u64,
    /// Other visible pushes shown, replacements included.
    pub alerts_shown: u64,
    /// Pushes thrown away because of the phone's condition.
    pub discarded: u64,
    /// Pushes whose life ended before they could be delivered.
    pub expired: u64,
    /// Stored pushes overwritten by newer ones.
    pub replaced: u64,
    /// Receipts that the app decided to send and lost, by `ackLossPercent`.
    pub receipts_lost: u64,
}

/// What one notification led to on this phone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NotificationTally {
    /// Raws handed to the app.
    pub raws_delivered: u64,
    /// State pushes handed to the app.
    pub states_delivered: u64,
    /// Toasts shown.
    pub toasts_shown: u64,
    /// Other visible pushes shown.
    pub alerts_shown: u64,
}

/// What happens to a push that arrives.
enum Fate {
    Handle,
    Show,
    Store,
    Discard,
}

/// The phone.
#[derive(Debug)]
pub(crate) struct Phone {
    platform: Platform,
    condition: Condition,
    habits: Habits,
    random: u64,
    stored: VecDeque<Push>,
    /// Collapse ids, oldest first. A push without one gets a serial number that nothing replaces.
    screen: VecDeque<String>,
    serial: u64,
    tally: Tally,
    notifications: HashMap<String, NotificationTally>,
    notification_order: VecDeque<String>,
}

impl Phone {
    pub(crate) fn new(platform: Platform, condition: Condition, habits: Habits, seed: u64) -> Self {
        Self {
            platform,
            condition,
            habits,
            random: seed,
            stored: VecDeque::new(),
            screen: VecDeque::new(),
            serial: 0,
            tally: Tally::default(),
            notifications: HashMap::new(),
            notification_order: VecDeque::new(),
        }
    }

    pub(crate) fn condition(&self) -> Condition {
        self.condition
    }

    pub(crate) fn habits(&self) -> Habits {
        self.habits
    }

    pub(crate) fn set_habits(&mut self, habits: Habits) {
        self.habits = habits;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// How many visible pushes the person would see now.
    pub(crate) fn on_screen(&self) -> usize {
        self.screen.len()
    }

    /// How many pushes the provider holds for this phone.
    pub(crate) fn stored(&self) -> usize {
        self.stored.len()
    }

    pub(crate) fn notifications(&self) -> impl Iterator<Item = (&String, &NotificationTally)> {
        self.notifications.iter()
    }

    /// A push that the provider accepted for this phone, at `now_ms` since 1970.
    pub(crate) fn receive(&mut self, push: Push, now_ms: u64) -> Option<Acknowledge> {
        self.tally.received += 1;
        self.place(push, now_ms)
    }

    /// The phone's condition changes; what was stored and may be delivered now is delivered, oldest first.
    pub(crate) fn change(&mut self, condition: Condition, now_ms: u64) -> Vec<Acknowledge> {
        self.condition = condition;
        if condition == Condition::Uninstalled {
            self.screen.clear();
        }
        let stored = std::mem::take(&mut self.stored);
        stored.into_iter().filter_map(|push| self.place(push, now_ms)).collect()
    }

    fn place(&mut self, push: Push, now_ms: u64) -> Option<Acknowledge> {
        if matches!(push.life, Life::Until(end) if end <= now_ms) {
            self.tally.expired += 1;
            return None;
        }
        match self.fate(&push) {
            Fate::Handle => self.handle(push),
            Fate::Show => self.show(push),
            Fate::Store => {
                self.store(push);
                None
            }
            Fate::Discard => {
                self.tally.discarded += 1;
                None
            }
        }
    }

    fn fate(&self, push: &Push) -> Fate {
        match self.condition {
            Condition::Awake | Condition::PowerSaving | Condition::ForceQuit if push.visible => Fate::Show,
            Condition::Awake => Fate::Handle,
            Condition::PowerSaving if self.platform == Platform::Android && push.urgent => Fate::Handle,
            Condition::PowerSaving | Condition::Offline => Fate::Store,
            Condition::ForceQuit | Condition::Uninstalled => Fate::Discard,
        }
    }

    fn handle(&mut self, push: Push) -> Option<Acknowledge> {
        let state = push.form == Form::State;
        let (tally, notification) = self.tallies(push.notification_id.as_deref());
        if state {
            tally.states_delivered += 1;
            notification.states_delivered += 1;
        } else {
            tally.raws_delivered += 1;
            notification.raws_delivered += 1;
        }
        self.acknowledge(push.receipt)
    }

    fn show(&mut self, push: Push) -> Option<Acknowledge> {
        let toast = push.form == Form::Toast;
        let (tally, notification) = self.tallies(push.notification_id.as_deref());
        if toast {
            tally.toasts_shown += 1;
            notification.toasts_shown += 1;
        } else {
            tally.alerts_shown += 1;
            notification.alerts_shown += 1;
        }
        self.serial += 1;
        let key = push.collapse_id.unwrap_or_else(|| format!("\0{}", self.serial));
        self.screen.retain(|shown| *shown != key);
        self.screen.push_back(key);
        if self.screen.len() > SCREEN_LIMIT {
            self.screen.pop_front();
        }
        let extension_runs = matches!(self.condition, Condition::Awake | Condition::PowerSaving) && push.mutable;
        if extension_runs && self.habits.ack_alerts { self.acknowledge(push.receipt) } else { None }
    }

    fn store(&mut self, push: Push) {
        if push.life == Life::Now {
            self.tally.expired += 1;
            return;
        }
        match self.platform {
            Platform::Ios => {
                self.tally.replaced += self.stored.len() as u64;
                self.stored.clear();
            }
            Platform::Android if self.stored.len() >= ANDROID_STORED_LIMIT => {
                self.tally.discarded += self.stored.len() as u64;
                self.stored.clear();
            }
            Platform::Android => {}
        }
        self.stored.push_back(push);
    }

    fn acknowledge(&mut self, receipt: Option<String>) -> Option<Acknowledge> {
        let capability = receipt?;
        self.random = random::mix(self.random);
        if self.random % 100 < u64::from(self.habits.ack_loss_percent) {
            self.tally.receipts_lost += 1;
            return None;
        }
        Some(Acknowledge { capability, after_ms: self.habits.ack_delay_ms })
    }

    /// The phone's tally and the notification's; one that names no notification has a tally that nobody reads.
    fn tallies(&mut self, notification_id: Option<&str>) -> (&mut Tally, &mut NotificationTally) {
        let id = notification_id.unwrap_or_default();
        if !self.notifications.contains_key(id) {
            if self.notification_order.len() >= NOTIFICATIONS_KEPT
                && let Some(oldest) = self.notification_order.pop_front()
            {
                self.notifications.remove(&oldest);
            }
            self.notification_order.push_back(id.to_owned());
        }
        (&mut self.tally, self.notifications.entry(id.to_owned()).or_default())
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
