//! The books of a phone: what it has seen, by notification too, and what the provider's console would say.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

/// How many notifications a phone keeps tallies of; the oldest go first.
const NOTIFICATIONS_KEPT: usize = 10_000;

/// What a phone has seen.
/// `received + duplicates = handled or shown + discarded + expired + replaced + stored now + held now`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    /// Pushes that the provider accepted for this phone.
    pub received: u64,
    /// Pushes that came once more though they were delivered, by `duplicatePercent`.
    pub duplicates: u64,
    /// Raws handed to the app.
    pub raws_delivered: u64,
    /// State pushes handed to the app.
    pub states_delivered: u64,
    /// Toasts shown, replacements included.
    pub toasts_shown: u64,
    /// Other visible pushes shown, replacements included.
    pub alerts_shown: u64,
    /// Notifications that the app showed by itself, by `appAlerts`.
    pub app_alerts_shown: u64,
    /// How often the person was alerted: what was shown, but for what the service extension made silent.
    pub alerts_seen: u64,
    /// Pushes thrown away because of the phone's condition or rules.
    pub discarded: u64,
    /// Pushes whose life ended before they could be delivered.
    pub expired: u64,
    /// Stored or held pushes that another one replaced: a newer one, but for `reorder`.
    pub replaced: u64,
    /// Receipts that the app decided to send and lost, by `ackLossPercent`.
    pub receipts_lost: u64,
    /// Android: how often the app was told that messages were dropped (`onDeletedMessages`).
    pub deleted_messages_calls: u64,
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
    /// Shown by the app itself.
    pub app_alerts_shown: u64,
    /// How often the person was alerted to it.
    pub alerts_seen: u64,
}

/// What the provider's console would say of the pushes to a phone. The first seven are the states of Apple's "Viewing the
/// status of push notifications using Metrics and APNs", the last five are of the FCM Data API (`MessageOutcomePercents`,
/// `MessageInsightPercents`, `DeliveryPerformancePercents`). A provider doesn't know what the system or the app does with
/// a push that has reached the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    /// Reached the device at once.
    pub delivered: u64,
    /// Reached it after having been stored.
    pub delivered_from_storage: u64,
    /// Stored because the device was offline.
    pub stored_offline: u64,
    /// Stored because the device saved power.
    pub stored_power: u64,
    /// Thrown away because notifications are switched off.
    pub discarded_disabled: u64,
    /// Thrown away because their life had ended.
    pub discarded_expired: u64,
    /// Thrown away because the app is gone.
    pub discarded_unregistered: u64,
    /// FCM: delayed because too many collapsible ones came.
    pub delayed_message_throttled: u64,
    /// FCM: thrown away because the app was stopped by force.
    pub dropped_app_force_stopped: u64,
    /// FCM: thrown away because the device had not been connected for long.
    pub dropped_device_inactive: u64,
    /// FCM: thrown away because too many were stored.
    pub dropped_too_many_pending_messages: u64,
    /// FCM: HIGH, and treated as NORMAL.
    pub priority_lowered: u64,
}

impl Metrics {
    /// Adds another phone's.
    pub(crate) fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.delivered_from_storage += other.delivered_from_storage;
        self.stored_offline += other.stored_offline;
        self.stored_power += other.stored_power;
        self.discarded_disabled += other.discarded_disabled;
        self.discarded_expired += other.discarded_expired;
        self.discarded_unregistered += other.discarded_unregistered;
        self.delayed_message_throttled += other.delayed_message_throttled;
        self.dropped_app_force_stopped += other.dropped_app_force_stopped;
        self.dropped_device_inactive += other.dropped_device_inactive;
        self.dropped_too_many_pending_messages += other.dropped_too_many_pending_messages;
        self.priority_lowered += other.priority_lowered;
    }
}

/// All books of one phone.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) tally: Tally,
    pub(super) metrics: Metrics,
    notifications: HashMap<String, NotificationTally>,
    order: VecDeque<String>,
}

impl Books {
    pub(super) fn notifications(&self) -> impl Iterator<Item = (&String, &NotificationTally)> {
        self.notifications.iter()
    }

    /// The phone's tally and the notification's; one that names no notification has a tally that nobody reads.
    pub(super) fn of(&mut self, notification_id: Option<&str>) -> (&mut Tally, &mut NotificationTally) {
        let id = notification_id.unwrap_or_default();
        if !self.notifications.contains_key(id) {
            if self.order.len() >= NOTIFICATIONS_KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.notifications.remove(&oldest);
            }
            self.order.push_back(id.to_owned());
        }
        (&mut self.tally, self.notifications.entry(id.to_owned()).or_default())
    }
}
