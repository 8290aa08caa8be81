//! The apps as the worker runs them: their settings, and whether their providers may be used now.
//!
//! Stands before push. One breaker per app and provider, and the app's rate: both answer "not now, but then", and never
//! make anyone wait, so that one tenant's trouble is no other's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herald_core::breaker::{Admission, Breaker, Trip};
use herald_core::ids::AppId;
use herald_core::lane::DispatchQueue;
use herald_core::outcome::Outcome;
use herald_core::receipt;
use herald_core::subscription::{Environment, Provider, Subscription};
use herald_core::time::Timestamp;

use crate::rate::Rate;
use crate::resolve::Rules;
use crate::settings::App;

/// An app, as the worker runs it.
#[derive(Debug)]
pub(crate) struct AppRuntime {
    pub(crate) settings: App,
    gates: [Mutex<Gate>; 2],
    /// The operator's bound of a pause that no provider asked for.
    max_pause: Duration,
}

/// Whether one provider of one app may be used now.
#[derive(Debug)]
struct Gate {
    breaker: Breaker,
    rate: Option<Rate>,
    /// The end of the pause in the store that the breaker follows; none for one that only this replica knows of.
    shared: Option<Timestamp>,
    /// By environment: when the latest push began that was accepted here.
    accepted_at: [Option<Timestamp>; 2],
}

/// All apps of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Apps(HashMap<AppId, Arc<AppRuntime>>);

impl Apps {
    pub(crate) fn new(apps: Vec<App>, max_pause: Duration, now: Timestamp) -> Self {
        let runtime = |settings: App| {
            let gate = || Gate {
                breaker: Breaker::new(now),
                rate: settings.pushes_per_second.map(Rate::new),
                shared: None,
                accepted_at: [None; 2],
            };
            let gates = [Mutex::new(gate()), Mutex::new(gate())];
            (settings.id.clone(), Arc::new(AppRuntime { settings, gates, max_pause }))
        };
        Self(apps.into_iter().map(runtime).collect())
    }

    pub(crate) fn get(&self, app: &AppId) -> Option<&Arc<AppRuntime>> {
        self.0.get(app)
    }

    /// What resolve needs to know of an app.
    pub(crate) fn rules(&self, app: &AppId) -> Option<Rules> {
        self.get(app).map(|app| Rules::of(&app.settings))
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

    /// Are there credentials that reach this device? Without them a push is not even tried: a subscription of an
    /// environment that nobody configured says nothing about the others.
    pub(crate) fn reaches(&self, subscription: &Subscription) -> bool {
        match subscription.platform.provider() {
            Some(Provider::Apns) => self.settings.apns.contains_key(&subscription.environment),
            Some(Provider::Fcm) => self.settings.fcm.is_some(),
            None => false,
        }
    }

    /// May a push of that queue go to this provider now? The breaker is asked first: what is paused takes nothing from the
    /// rate, and a probe waits for nothing.
    pub(crate) fn admit(&self, provider: Provider, queue: DispatchQueue, now: Timestamp) -> Admission {
        let mut gate = self.gate(provider);
        match (gate.breaker.admit(now), gate.breaker.is_closed()) {
            (Admission::Go, true) => match gate.rate.as_mut().map(|rate| rate.admit(queue, now)) {
                Some(Err(then)) => Admission::Hold(then),
                Some(Ok(())) | None => Admission::Go,
            },
            (admission, _) => admission,
        }
    }

    /// Takes in an outcome; says if the breaker opened just now, why and until when.
    pub(crate) fn observe(&self, provider: Provider, outcome: Outcome, now: Timestamp) -> Option<(Trip, Timestamp)> {
        self.gate(provider).breaker.observe(outcome, now, self.max_pause)
    }

    /// Takes in that a push which began then was accepted.
    pub(crate) fn accepted(&self, provider: Provider, environment: Environment, began: Timestamp) {
        let latest = &mut self.gate(provider).accepted_at[environment as usize];
        *latest = (*latest).max(Some(began));
    }

    /// When the latest push began that is known here to have been accepted: our side worked then. What another replica saw
    /// is no proof, because its configuration may be another.
    pub(crate) fn accepted_at(&self, provider: Provider, environment: Environment) -> Option<Timestamp> {
        self.gate(provider).accepted_at[environment as usize]
    }

    /// Until when nothing goes to this provider, if its breaker is open.
    pub(crate) fn open_until(&self, provider: Provider) -> Option<Timestamp> {
        self.gate(provider).breaker.open_until()
    }

    /// Opens the breaker for the mass-failure guard, unless it is open.
    pub(crate) fn trip(&self, provider: Provider, now: Timestamp) -> Option<(Trip, Timestamp)> {
        let breaker = &mut self.gate(provider).breaker;
        breaker.is_closed().then(|| breaker.open(Trip::MassFailure, None, now, self.max_pause))
    }

    /// Takes over what the store says: paused until then, or not paused. An open that only this replica knows of stays.
    /// Says whether a pause has ended before its time, so that what it held must be brought back.
    pub(crate) fn follow(&self, provider: Provider, paused_until: Option<Timestamp>, now: Timestamp) -> bool {
        let mut gate = self.gate(provider);
        match paused_until {
            Some(until) => {
                gate.breaker.pause(until);
                gate.shared = Some(until);
                false
            }
            None => {
                let ended_early = gate.shared.take().is_some_and(|until| until > now);
                if ended_early {
                    gate.breaker.resume(now);
                }
                ended_early
            }
        }
    }

    /// The capability that a push to this delivery carries (rule 9), or nothing if the app has no key for it.
    pub(crate) fn capability(&self, delivery: herald_core::ids::DeliveryId, expires: Timestamp) -> String {
        let sign = |key: &crate::settings::ReceiptKey| receipt::sign(&key.id, &key.secret, delivery, expires);
        self.settings.receipt_keys.first().map(sign).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use herald_core::event::TellSet;
    use herald_core::fallback::Mode;

    use super::*;
    use crate::settings::Fallback;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn app() -> Arc<AppRuntime> {
        let id = AppId::new("mail.contoso.com");
        let settings = App {
            id: id.clone(),
            apns: std::collections::BTreeMap::new(),
            fcm: None,
            amqp_users: Vec::new(),
            receipt_keys: Vec::new(),
            fallback: Fallback { mode: Mode::Send, delay_secs: (60, 600) },
            pushes_per_second: None,
            events: TellSet::EMPTY,
        };
        Arc::clone(Apps::new(vec![settings], Duration::from_secs(900), at(0)).get(&id).unwrap())
    }

    fn admits(app: &AppRuntime, now: i64) -> bool {
        app.admit(Provider::Apns, DispatchQueue::High, at(now)) == Admission::Go
    }

    #[test]
    fn an_open_that_the_store_does_not_know_of_stays_and_a_shared_one_ends_with_its_row() {
        let own = app();
        own.observe(Provider::Apns, Outcome::Unauthorized, at(0));
        assert!(!own.follow(Provider::Apns, None, at(1)));
        assert!(!admits(&own, 1), "the store did not know of it");

        let shared = app();
        assert!(!shared.follow(Provider::Apns, Some(at(3_600)), at(0)));
        assert!(!admits(&shared, 1));
        assert!(shared.follow(Provider::Apns, None, at(2)), "resumed before its time");
        assert!(admits(&shared, 2));
        assert!(!shared.follow(Provider::Apns, None, at(3)), "only once");
    }

    #[test]
    fn an_accepted_push_proves_its_own_environment_and_an_older_one_takes_nothing_back() {
        let app = app();
        app.accepted(Provider::Apns, Environment::Production, at(7));
        app.accepted(Provider::Apns, Environment::Production, at(5));
        let known = |provider, environment| app.accepted_at(provider, environment);
        assert_eq!(known(Provider::Apns, Environment::Production), Some(at(7)));
        assert_eq!(known(Provider::Apns, Environment::Sandbox), None);
        assert_eq!(known(Provider::Fcm, Environment::Production), None);
    }

    #[test]
    fn a_mass_failure_trips_once_however_many_batches_see_it() {
        let app = app();
        assert_eq!(app.trip(Provider::Fcm, at(0)), Some((Trip::MassFailure, at(300))));
        assert_eq!(app.trip(Provider::Fcm, at(1)), None);
    }
}
