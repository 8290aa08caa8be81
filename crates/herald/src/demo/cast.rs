//! Who is in the demo: five people, a phone each, and what each of them has to see.
//!
//! Only values. What is expected follows from docs/protocol.md and from what a phone does with a silent push in each
//! condition (`herald-simulator/src/device`).

use herald_core::delivery::State;
use herald_simulator::{Condition, Platform};

/// The app of all of them.
pub(super) const APP: &str = "mail.contoso.com";
/// What a toast says.
pub(super) const TITLE: &str = "Order shipped";
/// And below that.
pub(super) const BODY: &str = "Arrives Tuesday";

/// One person with one phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Person {
    /// The user, and the phone's name.
    pub(super) name: &'static str,
    /// Whose phone it is.
    pub(super) platform: Platform,
    /// What state it is in when the notification comes.
    pub(super) condition: Condition,
    /// Their notification is posted over HTTP; else it is published on the queue.
    pub(super) over_http: bool,
    /// The condition, for people.
    pub(super) situation: &'static str,
    /// What they have to see.
    pub(super) expected: Expected,
    /// Why.
    pub(super) because: &'static str,
}

/// What a notification must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// Raw pushes that the provider accepted.
    pub(super) raw_accepted: u64,
    /// Receipts that the phone's app sent.
    pub(super) receipts: u64,
    /// Toasts that the person saw.
    pub(super) toasts_shown: u64,
    /// The delivery's state, one of these.
    pub(super) states: &'static [State],
}

/// All of them, in the order of their names.
pub(super) const CAST: [Person; 5] = [
    Person {
        name: "anna",
        platform: Platform::Ios,
        condition: Condition::Awake,
        over_http: false,
        situation: "awake: a silent push runs the app",
        expected: Expected { raw_accepted: 1, receipts: 1, toasts_shown: 0, states: &[State::Received] },
        because: "the app got the raw push and said so",
    },
    Person {
        name: "ben",
        platform: Platform::Ios,
        condition: Condition::PowerSaving,
        over_http: false,
        situation: "saving power: silent pushes have to wait",
        expected: Expected { raw_accepted: 1, receipts: 0, toasts_shown: 1, states: &[State::Toasted] },
        because: "saving power: the raw push had to wait",
    },
    Person {
        name: "carla",
        platform: Platform::Ios,
        condition: Condition::ForceQuit,
        over_http: false,
        situation: "app closed by hand: silent pushes are thrown away",
        expected: Expected { raw_accepted: 1, receipts: 0, toasts_shown: 1, states: &[State::Toasted] },
        because: "app closed: the raw push was lost",
    },
    Person {
        name: "dora",
        platform: Platform::Android,
        condition: Condition::Awake,
        over_http: true,
        situation: "awake: a silent push runs the app",
        // No toast is owed on Android, so its delivery is closed by the provider's acceptance, or by a faster receipt.
        expected: Expected {
            raw_accepted: 1,
            receipts: 1,
            toasts_shown: 0,
            states: &[State::Accepted, State::Received],
        },
        because: "the app got the raw push and said so",
    },
    Person {
        name: "emil",
        platform: Platform::Ios,
        condition: Condition::Uninstalled,
        over_http: false,
        situation: "app uninstalled, and Herald does not know yet",
        expected: Expected { raw_accepted: 0, receipts: 0, toasts_shown: 0, states: &[State::Gone] },
        because: "no app: APNs refused, token pruned",
    },
];

impl Person {
    /// What kind of phone it is, for people.
    pub(super) const fn phone(&self) -> &'static str {
        match self.platform {
            Platform::Ios => "iPhone",
            Platform::Android => "Android",
        }
    }
}
