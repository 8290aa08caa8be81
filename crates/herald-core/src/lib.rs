//! The decisions of Herald: what to send, what an answer means, what happens next, and when.
//!
//! Everything here is a function of values. There is no tokio, no clock, no entropy, no file and no network in this
//! crate (its `clippy.toml` bans them): time, jitter and ids come in as arguments, what to do goes out as a value, and
//! the shells around it (`herald-store`, `herald-apns`, `herald-fcm`, `herald-worker`) carry it out.
//!
//! Reading order is the way of a notification: [`request`] (bytes → request) → [`subscription`] (which devices) →
//! [`fallback`] (is a toast owed) → [`push`] (what is sent) → [`outcome`] (what the answer means) → [`delivery`] (what
//! happens next) → [`event`] (who is told); [`reading`] is what its user does with it. [`retry`], [`breaker`], [`prune`] and
//! [`receipt`] are the rules those use; [`device`] is what comes before: a device as its app registers it. [`invariants`] says
//! what must hold of any trace.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod ids;
pub mod time;
pub mod lane;
pub mod notification;
pub mod request;
pub mod device;
pub mod subscription;
pub mod fallback;
pub mod payload;
pub mod push;
pub mod outcome;
pub mod delivery;
pub mod retry;
pub mod prune;
pub mod breaker;
pub mod receipt;
pub mod reading;
pub mod event;
pub mod invariants;
