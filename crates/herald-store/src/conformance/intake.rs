//! Intake.

use std::collections::BTreeSet;

use herald_core::ids::{AppId, Unsid};
use herald_core::request::Target;
use tokio::task::JoinSet;

use super::{
    LONG, State, Uuid, app, claim, event, only, phone, request, states, store_one, to_each, told, trace, user,
};
use crate::{Intaken, NewNotification, Resolved, Store};

fn kinds(results: &[Intaken]) -> Vec<&'static str> {
    let kind = |result: &Intaken| match result {
        Intaken::Stored { .. } => "stored",
        Intaken::Duplicate => "duplicate",
        Intaken::UnknownTarget => "unknown",
    };
    results.iter().map(kind).collect()
}

pub async fn a_request_becomes_taken_and_due_deliveries_by_the_budget(store: Store) {
    for (name, token) in [("anna", "a1"), ("anna", "a2"), ("ben", "b1"), ("ben", "b2")] {
        store.subscribe(phone(name, token)).await.unwrap();
    }
    let batch = vec![request("anna", "1"), request("ben", "2")];
    let results = store.intake(batch, 3, LONG, to_each).await.unwrap();
    let [Intaken::Stored { taken: first, due: none, notification: anna, .. }, ben] = &results[..] else {
        panic!("{results:?}")
    };
    let Intaken::Stored { taken: second, due, notification: ben, deferred_fanout: false } = ben else {
        panic!("{ben:?}")
    };
    assert_eq!((first.len(), none.len(), second.len(), due.len()), (2, 0, 1, 1));
    let one = &first[0];
    assert_eq!((one.delivery.version, one.delivery.takes, one.delivery.state), (1, 1, State::Sending));
    assert_eq!((one.was, one.subscription_active), (State::Due, true));
    assert_eq!(one.delivery.deadline_at, Some(one.taken_at.plus(super::DELAY)));
    assert_eq!(states(&store, anna.id).await, [("sending", 2)].into());
    assert_eq!(states(&store, ben.id).await, [("due", 1), ("sending", 1)].into());
    // What was returned is what is stored.
    let stored = trace(&store, anna.id).await;
    assert_eq!(stored.deliveries.iter().map(|d| d.delivery).collect::<BTreeSetById>(), BTreeSetById::of(first));
    assert_eq!(stored.notification, **anna);
    // The due one is due now, without a deadline; the taken ones are not.
    assert_eq!(claim(&store, LONG).await, *due);
    let waiting = trace(&store, ben.id).await.deliveries;
    let waiting = waiting.iter().find(|d| d.delivery.id == due[0].delivery).unwrap();
    assert_eq!((waiting.delivery.deadline_at, waiting.delivery.takes), (None, 0));
}

/// Deliveries, whatever their order.
#[derive(Debug, PartialEq)]
struct BTreeSetById(Vec<herald_core::delivery::Delivery>);

impl BTreeSetById {
    fn of(taken: &[crate::Taken]) -> Self {
        taken.iter().map(|t| t.delivery).collect()
    }
}

impl FromIterator<herald_core::delivery::Delivery> for BTreeSetById {
    fn from_iter<I: IntoIterator<Item = herald_core::delivery::Delivery>>(deliveries: I) -> Self {
        let mut all: Vec<_> = deliveries.into_iter().collect();
        all.sort_by_key(|d| d.id);
        Self(all)
    }
}

pub async fn a_key_is_stored_once_across_batches_and_within_one(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    let batch = vec![request("anna", "1"), request("anna", "1"), request("anna", "2")];
    let first = batch[0].id;
    let results = store.intake(batch, 9, LONG, to_each).await.unwrap();
    assert_eq!(kinds(&results), ["stored", "duplicate", "stored"]);
    let results = store.intake(vec![request("anna", "2"), request("anna", "3")], 9, LONG, to_each).await.unwrap();
    assert_eq!(kinds(&results), ["duplicate", "stored"]);
    assert_eq!(store.notification_by_key(&app(), &user("anna"), "1").await.unwrap(), Some(first));
    assert_eq!(store.open_count(&app()).await.unwrap(), 3);
}

pub async fn the_same_key_of_another_user_or_app_is_another_notification(store: Store) {
    let mut elsewhere = request("anna", "1");
    elsewhere.request.app = AppId::new("other.contoso.com");
    let batch = vec![request("anna", "1"), request("ben", "1"), elsewhere];
    assert_eq!(kinds(&store.intake(batch, 9, LONG, to_each).await.unwrap()), ["stored"; 3]);
}

pub async fn concurrent_intakes_of_the_same_keys_store_each_once_and_never_deadlock(store: Store) {
    /// So many that the batches overlap for certain.
    const KEYS: usize = 600;
    store.subscribe(phone("anna", "a")).await.unwrap();
    let mut intakes = JoinSet::new();
    for replica in 0..6 {
        let store = store.clone();
        intakes.spawn(async move {
            let mut batch: Vec<NewNotification> = (0..KEYS).map(|k| request("anna", &k.to_string())).collect();
            if replica % 2 == 1 {
                batch.reverse();
            }
            store.intake(batch, 9, LONG, to_each).await.unwrap()
        });
    }
    let mut stored = 0;
    while let Some(results) = intakes.join_next().await {
        stored += kinds(&results.unwrap()).into_iter().filter(|kind| *kind == "stored").count();
    }
    assert_eq!(stored, KEYS);
    assert_eq!(store.open_count(&app()).await.unwrap(), KEYS as u64);
}

pub async fn an_ended_subscription_still_names_its_user(store: Store) {
    let old = store.subscribe(phone("anna", "old")).await.unwrap();
    let new = store.subscribe(phone("anna", "new")).await.unwrap();
    assert!(store.end(old.id).await.unwrap());
    let mut named = request("anna", "1");
    named.request.target = Target::Unsid(old.id);
    let stored = store_one(&store, named, 9, LONG).await;
    assert_eq!(stored.taken.len(), 1);
    assert_eq!(stored.taken[0].subscription.id, new.id);
}

pub async fn a_subscription_never_seen_or_of_another_app_is_an_unknown_target(store: Store) {
    let known = store.subscribe(phone("anna", "a")).await.unwrap();
    let target = |unsid, of: AppId| {
        let mut new = request("anna", "1");
        new.request.target = Target::Unsid(unsid);
        new.request.app = of;
        new
    };
    let batch = vec![
        target(Unsid(Uuid::now_v7()), app()),
        target(known.id, AppId::new("other.contoso.com")),
        target(known.id, app()),
    ];
    let results = store.intake(batch, 9, LONG, to_each).await.unwrap();
    assert_eq!(kinds(&results), ["unknown", "unknown", "stored"]);
}

pub async fn only_active_subscriptions_of_the_user_are_resolved(store: Store) {
    let active = store.subscribe(phone("anna", "a")).await.unwrap();
    let ended = store.subscribe(phone("anna", "ended")).await.unwrap();
    store.end(ended.id).await.unwrap();
    let mut expired = phone("anna", "expired");
    expired.expires_at = store.clock().now().minus(LONG);
    store.subscribe(expired).await.unwrap();
    store.subscribe(phone("ben", "b")).await.unwrap();
    let mut elsewhere = phone("anna", "a");
    elsewhere.app = AppId::new("other.contoso.com");
    store.subscribe(elsewhere).await.unwrap();

    let (see, seen) = std::sync::mpsc::channel();
    let resolve = move |_: &NewNotification, user: &herald_core::ids::UserId, all: &[_], now| {
        see.send((user.clone(), all.to_vec(), now)).unwrap();
        Resolved::default()
    };
    let _stored = store.intake(vec![request("anna", "1")], 9, LONG, resolve).await.unwrap();
    let seen: Vec<_> = seen.iter().collect();
    let [(user, subscriptions, now)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((user.as_str(), &subscriptions[..]), ("anna", &[active][..]));
    assert!(now.since(store.clock().now()) < LONG && store.clock().now().since(*now) < LONG);
}

pub async fn a_user_with_no_device_is_stored_with_its_event(store: Store) {
    let none = |_: &NewNotification, _: &_, all: &[_], _| {
        assert!(all.is_empty());
        Resolved { deliveries: Vec::new(), events: vec![event("noDevices")] }
    };
    let results = store.intake(vec![request("anna", "1")], 9, LONG, none).await.unwrap();
    assert_eq!(kinds(&results), ["stored"]);
    assert_eq!(told(&store).await, ["noDevices.mail.contoso.com"]);
    // A duplicate is not told again.
    let never = |_: &NewNotification, _: &_, _: &[_], _| panic!("a duplicate is not resolved");
    let results = store.intake(vec![request("anna", "1")], 9, LONG, never).await.unwrap();
    assert_eq!(kinds(&results), ["duplicate"]);
}

pub async fn an_empty_batch_is_nothing(store: Store) {
    assert!(store.intake(Vec::new(), 9, LONG, to_each).await.unwrap().is_empty());
    assert!(store.take(&[], LONG).await.unwrap().is_empty());
    assert!(store.record(&[]).await.unwrap().is_empty());
    assert!(store.receipts(&[]).await.unwrap().is_empty());
    let stored = store_one(&store, request("anna", "1"), 9, LONG).await;
    assert!(stored.taken.is_empty() && stored.due.is_empty() && !stored.deferred);
    let keys: BTreeSet<String> = [trace(&store, stored.id).await.key].into();
    assert_eq!(keys, ["1".to_owned()].into());
    store.subscribe(phone("ben", "b")).await.unwrap();
    let one = store_one(&store, request("ben", "1"), 9, LONG).await;
    assert_eq!(only(&store, one.id).await.attempts, []);
}
