//! Some hundred notifications to several users' phones, and the ledger that must add up in the end.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_harness::amqp::{Amqp, properties};
use herald_harness::ledger::{Ledger, Seen};
use serde_json::{Value, json};

use crate::requests;
use crate::world::{APP, World, until};

/// Users, each with an iPhone and an Android phone, all awake and quick to acknowledge.
const USERS: usize = 6;
/// Long enough that a receipt is never late by itself; short enough for one that got lost to be made good in a test.
const FALLBACK_SECS: u32 = 15;

/// What was published, and to whom.
pub(crate) struct Load {
    phones: BTreeMap<Unsid, String>,
    confirmed: BTreeSet<String>,
    doubtful: BTreeSet<String>,
}

impl Load {
    /// Makes the users' phones.
    pub(crate) async fn new(world: &World) -> Self {
        let mut phones = BTreeMap::new();
        for user in 0..USERS {
            for platform in ["ios", "android"] {
                let (name, user) = (format!("{platform}-{user}"), user_name(user));
                let spec = json!({ "platform": platform, "ackDelayMs": 20 });
                phones.insert(world.phone_of(APP, &user, &name, spec).await, name);
            }
        }
        Self { phones, confirmed: BTreeSet::new(), doubtful: BTreeSet::new() }
    }

    /// Publishes notifications number `from` to `to`; what the broker doesn't confirm is doubtful.
    pub(crate) async fn publish(&mut self, amqp: &Amqp, from: usize, to: usize) {
        let messages: Vec<(String, Value)> = (from..to).map(message).collect();
        let published = join_all(messages.iter().map(async |(key, body)| {
            amqp.publish("herald.requests", "high", properties(key), body.to_string().as_bytes()).await
        }));
        for ((key, _), result) in messages.iter().zip(published.await) {
            match result {
                Ok(()) => self.is_confirmed(key.clone()),
                Err(_) => drop(self.doubtful.insert(key.clone())),
            }
        }
    }

    /// Another producer was told that the broker has it.
    pub(crate) fn is_confirmed(&mut self, key: String) {
        self.doubtful.remove(&key);
        self.confirmed.insert(key);
    }

    /// How many were confirmed.
    pub(crate) fn confirmed(&self) -> usize {
        self.confirmed.len()
    }

    /// Waits until every confirmed notification is stored and nothing is open, and holds the ledger against G1 and G4.
    /// The answer is how many pushes repeated another.
    pub(crate) async fn check(&self, world: &World, bound: usize) -> usize {
        let ids = self.stored(world).await;
        world.all_closed().await;
        let mut ledger = Ledger::new();
        self.doubtful.iter().for_each(|key| ledger.doubtful(key));
        for (key, id) in &ids {
            let user = number(key) % USERS;
            ledger.confirmed(key, ["ios", "android"].map(|platform| format!("{platform}-{user}")));
            let trace = world.store().trace(&AppId::new(APP), *id).await.unwrap().expect("it was just stored");
            for traced in trace.deliveries.iter().filter(|traced| !traced.delivery.state.is_open()) {
                ledger.closed(key, &self.phones[&traced.unsid], traced.delivery.state.as_str());
            }
        }
        let keys: BTreeMap<String, &String> = ids.iter().map(|(key, id)| (id.to_string(), key)).collect();
        let doubtful = self.doubtful_ids(world).await;
        // What the phones say, not what the providers answered: a killed worker hears no answer, and its person is told.
        for name in self.phones.values() {
            let view = world.simulator.view(name).await;
            for (id, tally) in view["notifications"].as_object().expect("tallies by notification") {
                let key = keys.get(id).copied().or(doubtful.get(id)).unwrap_or(id);
                for (what, form) in SEEN {
                    (0..tally[what].as_u64().unwrap_or_default()).for_each(|_| ledger.saw(key, name, form));
                }
            }
        }
        let balance = ledger.check(bound).unwrap();
        assert_eq!(balance.confirmed, self.confirmed.len());
        self.no_needless_toast(world).await;
        balance.duplicates
    }

    /// G3: a person is shown something only where no receipt was answered.
    async fn no_needless_toast(&self, world: &World) {
        for name in self.phones.values() {
            let view = world.simulator.view(name).await;
            let (toasts, lost) = (&view["toastsShown"], &view["receiptsFailed"]);
            assert!(toasts.as_u64() <= lost.as_u64(), "{name}: {toasts} toasts, and only {lost} receipts were lost");
        }
    }

    async fn stored(&self, world: &World) -> BTreeMap<String, NotificationId> {
        let mut found = BTreeMap::new();
        until("every confirmed notification to be stored", async || {
            for key in &self.confirmed {
                if !found.contains_key(key) {
                    found.insert(key.clone(), id(world, key).await?);
                }
            }
            Some(())
        })
        .await;
        found
    }

    async fn doubtful_ids(&self, world: &World) -> BTreeMap<String, String> {
        let mut ids = BTreeMap::new();
        for key in &self.doubtful {
            ids.extend(id(world, key).await.map(|id| (id.to_string(), key.clone())));
        }
        ids
    }
}

async fn id(world: &World, key: &str) -> Option<NotificationId> {
    let user = UserId::new(user_name(number(key) % USERS));
    world.store().notification_by_key(&AppId::new(APP), &user, key).await.ok()?
}

/// A phone's tallies of one notification, and what they count.
const SEEN: [(&str, Seen); 4] = [
    ("rawsDelivered", Seen::Raw),
    ("statesDelivered", Seen::State),
    ("toastsShown", Seen::Toast),
    ("alertsShown", Seen::Alert),
];

fn user_name(number: usize) -> String {
    format!("user-{number}")
}

fn number(key: &str) -> usize {
    key.trim_start_matches("load-").parse().expect("a key that was made here")
}

/// Key and body of a notification.
pub(crate) fn message(number: usize) -> (String, Value) {
    let user = user_name(number % USERS);
    (format!("load-{number}"), requests::with_fallback(APP, &user, FALLBACK_SECS))
}
