//! The apps as the worker runs them: their settings, and whether their providers may be used now.
//!
//! Stands before push. One breaker per app and provider, and the app's rate: both answer "not now, but then", and never
//! make anyone wait, so that one tenant's trouble is no other's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herald_core::breaker::{Admission, Breaker, Trip};
use herald_core::ids::AppId;
use herald_core::outcome::Outcome;
use herald_core::receipt;
use herald_core::subscription::Provider;
use herald_core::time::Timestamp;

use crate::rate::Rate;
use crate::settings::App;

/// An app, as the worker runs it.
#[derive(Debug)]
pub(crate) struct AppRuntime {
    pub(crate) settings: App,
    gates: [Mutex<Gate>; 2],
}

/// Whether one provider of one app may be used now.
#[derive(Debug)]
struct Gate {
    breaker: Breaker,
    rate: Option<Rate>,
}

/// All apps of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Apps(HashMap<AppId, Arc<AppRuntime>>);

impl Apps {
    pub(crate) fn new(apps: Vec<App>, now: Timestamp) -> Self {
        let runtime = |settings: App| {
            let gate = || Gate { breaker: Breaker::new(now), rate: settings.pushes_per_second.map(Rate::new) };
            let gates = [Mutex::new(gate()), Mutex::new(gate())];
            (settings.id.clone(), Arc::new(AppRuntime { settings, gates }))
        };
        Self(apps.into_iter().map(runtime).collect())
    }

    pub(crate) fn get(&self, app: &AppId) -> Option<&Arc<AppRuntime>> {
        self.0.get(app)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<AppRuntime>> {
        self.0.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl AppRuntime {
    fn gate(&self, provider: Provider) -> MutexGuard<'_, Gate> {
        // A gate is a value that every change leaves whole, whoever panicked.
        self.gates[provider as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May a push go to this provider now?
    pub(crate) fn admit(&self, provider: Provider, now: Timestamp) -> Admission {
        let mut gate = self.gate(provider);
        if let Some(rate) = &mut gate.rate
            && let Err(then) = rate.admit(now)
        {
            return Admission::Hold(then);
        }
        gate.breaker.admit(now)
    }

    /// Takes in an outcome; says if the breaker opened just now, why and until when.
    pub(crate) fn observe(&self, provider: Provider, outcome: Outcome, now: Timestamp) -> Option<(Trip, Timestamp)> {
        self.gate(provider).breaker.observe(outcome, now)
    }

    /// Opens the breaker for the mass-failure guard.
    pub(crate) fn trip(&self, provider: Provider, now: Timestamp) -> (Trip, Timestamp) {
        self.gate(provider).breaker.open(Trip::MassFailure, None, now)
    }

    /// Takes over what the store says: paused until then, or not paused any more.
    pub(crate) fn follow(&self, provider: Provider, paused_until: Option<Timestamp>, now: Timestamp) {
        let breaker = &mut self.gate(provider).breaker;
        match paused_until {
            Some(until) if until > now => breaker.pause(until),
            Some(_) | None => breaker.resume(now),
        }
    }

    /// The capability that a push to this delivery carries (rule 9), or nothing if the app has no key for it.
    pub(crate) fn capability(&self, delivery: herald_core::ids::DeliveryId, expires: Timestamp) -> String {
        let sign = |key: &crate::settings::ReceiptKey| receipt::sign(&key.id, &key.secret, delivery, expires);
        self.settings.receipt_keys.first().map(sign).unwrap_or_default()
    }
}
