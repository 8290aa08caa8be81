#![doc = include_str!("../README.md")]
//!
//! Reading order: `options`, `simulator`, `listener`; then a push: `apns` or `fcm`, `device`, `wakes`, `receipts`; then what
//! tests do: `phones`, `faults`, `outages`, `journal`, `counters`, `control`. It never uses another crate of Herald.

mod options;
mod simulator;

mod line;
mod listener;
mod world;

mod apns;
mod content;
mod exchange;
mod fcm;

mod contract;
mod device;
mod phones;
mod receipts;
mod wakes;

mod control;
mod counters;
mod faults;
mod journal;
mod latency;
mod outages;

mod clock;
mod credentials;
mod jwt;
mod random;

pub use apns::{
    ApnsRules, DeviceRate, EnvironmentReason, KeyChange, KeyError, KeySpec, KeyView, Mismatch, OtherTeamReason, Storm,
};
pub use counters::{Counts, Provider};
pub use credentials::Credentials;
pub use device::{
    BackgroundBudget, CollapsibleBurst, Condition, Form, Metrics, NotificationTally, PhoneRules, Platform, Tally,
};
pub use faults::{Fault, Script};
pub use fcm::{
    FcmDeviceRate, FcmRules, InvalidTokenWording, ProjectQuota, RetryAfter, ServiceAccountChange, ServiceAccountView,
};
pub use journal::JournalEntry;
pub use latency::Delay;
pub use options::{AppSpec, Options, StartError};
pub use outages::{Outage, OutageMode};
pub use phones::{Environment, PhoneChange, PhoneError, PhoneSpec, PhoneView, TokenKind};
pub use simulator::Simulator;
pub use world::{Settings, SettingsChange};
