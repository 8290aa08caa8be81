//! What was seen at one moment: of the store, each delivery's history; of the simulator, what each person saw.
//!
//! Only values: [`super::observe`] takes them, [`super::timeline`] says what changed between two, [`super::verdict`] judges
//! the last.

use std::collections::BTreeMap;
use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::{DeliveryId, NotificationId};
use herald_core::subscription::Provider;
use herald_core::time::Timestamp;
use herald_simulator::Condition;
use herald_store::Attempt;

/// Everything that was seen. What is no longer followed is not in it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Snapshot {
    /// When, by the store's clock.
    pub(super) at: Option<Timestamp>,
    /// Phones by name.
    pub(super) phones: BTreeMap<String, Phone>,
    /// Deliveries, oldest first.
    pub(super) deliveries: BTreeMap<DeliveryId, Delivery>,
    /// What became of requests, by result; empty until it is looked at.
    pub(super) requests: BTreeMap<String, u64>,
}

/// A phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phone {
    /// As it is now.
    pub(super) condition: Condition,
    /// Receipts that Herald has answered.
    pub(super) receipts: u64,
}

/// A delivery with its history, and what its notification led to on the phone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Delivery {
    /// Of which notification.
    pub(super) notification: NotificationId,
    /// The phone's name; the user's if the phone is not one of ours.
    pub(super) person: String,
    /// Who carries its pushes.
    pub(super) provider: Provider,
    /// Where it stands.
    pub(super) state: State,
    /// How long a receipt is waited for; none if no toast is owed.
    pub(super) fallback_delay: Option<Duration>,
    /// When the toast is due.
    pub(super) deadline_at: Option<Timestamp>,
    /// When the app got it.
    pub(super) received_at: Option<Timestamp>,
    /// When it was closed.
    pub(super) closed_at: Option<Timestamp>,
    /// Why it failed.
    pub(super) failure: Option<String>,
    /// Its pushes, oldest first.
    pub(super) attempts: Vec<Attempt>,
    /// What a visible push of it says.
    pub(super) title: Option<String>,
    /// Toasts that the person saw of it.
    pub(super) toasts_shown: u64,
    /// Other visible pushes that the person saw of it.
    pub(super) alerts_shown: u64,
    /// Raw pushes of it that the provider accepted, as the provider says.
    pub(super) raws_at_provider: u64,
}
