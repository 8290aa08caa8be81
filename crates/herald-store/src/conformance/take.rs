//! Take.

use std::sync::Arc;
use std::time::Duration;

use herald_core::ids::{DeliveryId, PushToken};
use herald_core::lane::{DispatchQueue, Hint};
use tokio::task::JoinSet;

use super::{
    DELAY, Form, LONG, OVER, State, Uuid, attempt, claim, due, only, phone, record_one, request, step, store_one,
    take_due, taken, watching,
};
use crate::{Attempt, Record, Store};

pub async fn a_take_returns_all_that_a_push_needs(store: Store) {
    let (id, hint) = due(&store, "anna", "1").await;
    let before = store.clock().now();
    let one = store.take(&[hint], LONG).await.unwrap().pop().unwrap();
    assert_eq!((one.delivery.id, one.delivery.version, one.delivery.takes), (hint.delivery, 2, 1));
    assert_eq!((one.was, one.delivery.state), (State::Due, State::Sending));
    assert_eq!((one.notification.id, one.notification.user.as_str()), (id, "anna"));
    assert_eq!(one.notification.content, request("anna", "1").request.content);
    assert_eq!(one.subscription.token.expose(), "token of anna");
    assert!(one.subscription_active);
    assert_eq!(one.received_at, request("anna", "1").received_at);
    assert_eq!(one.delivery.deadline_at, Some(one.taken_at.plus(DELAY)));
    assert!(one.taken_at.since(before) < LONG && before.since(one.taken_at) < LONG);
    let row = only(&store, id).await;
    assert_eq!(row.delivery, one.delivery);
    assert_eq!(row.next_at, Some(one.taken_at.plus(LONG)));
}

pub async fn a_take_says_when_the_last_push_found_the_token_dead(store: Store) {
    let mut one = taken(&store, "anna", "1").await;
    assert_eq!(one.gone_at, None, "there was no push before the first");
    for (outcome, millis) in [("unavailable", None), ("gone", Some(13)), ("gone", Some(13)), ("unknown", None)] {
        let at = store.clock().now();
        let attempt = Attempt { outcome: outcome.into(), ..attempt(Form::Raw, at) };
        let again = step(State::Due, Form::Raw, Some(at));
        assert!(record_one(&store, Record::new(&one, again, Some(attempt), Vec::new())).await.applied);
        one = take_due(&store, DispatchQueue::High).await;
        // 12 ms, and what was cut off of them.
        let gone_at = millis.map(|millis| at.plus(Duration::from_millis(millis)).micros());
        assert_eq!(one.gone_at.map(|at| at.micros()), gone_at, "{outcome}");
    }
}

pub async fn a_stale_hint_takes_nothing(store: Store) {
    let (id, hint) = due(&store, "anna", "1").await;
    let never = Hint { delivery: DeliveryId(Uuid::now_v7()), version: 1 };
    let later = Hint { version: 2, ..hint };
    assert!(store.take(&[never, later], LONG).await.unwrap().is_empty());
    // The same hint twice in one batch is one take; a second time it is stale.
    assert_eq!(store.take(&[hint, hint], LONG).await.unwrap().len(), 1);
    assert!(store.take(&[hint], LONG).await.unwrap().is_empty());
    assert_eq!(only(&store, id).await.delivery.version, 2);
    // Closed rows are not taken at any version.
    let (id, hint) = due(&store, "anna", "2").await;
    store.withdraw(&super::app(), id).await.unwrap();
    assert!(store.take(&[hint, Hint { version: 2, ..hint }], LONG).await.unwrap().is_empty());
}

pub async fn of_concurrent_takes_one_wins(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    let batch = (0..100).map(|key| request("anna", &key.to_string())).collect();
    assert_eq!(store.intake(batch, 0, LONG, super::to_each).await.unwrap().len(), 100);
    let hints = claim(&store, LONG).await;
    let mut takes = JoinSet::new();
    for replica in 0..4 {
        let (store, mut hints) = (store.clone(), hints.clone());
        if replica % 2 == 1 {
            hints.reverse();
        }
        takes.spawn(async move { store.take(&hints, LONG).await.unwrap().len() });
    }
    let mut all = 0;
    while let Some(won) = takes.join_next().await {
        all += won.unwrap();
    }
    assert_eq!(all, 100);
}

pub async fn a_lapsed_lease_makes_the_row_due_again_and_counts_the_take(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    let first = store_one(&store, request("anna", "1"), 1, OVER).await.taken.pop().unwrap();
    let second = take_due(&store, DispatchQueue::High).await;
    assert_eq!((second.was, second.delivery.version, second.delivery.takes), (State::Sending, 2, 2));
    // The one that overslept records nothing; the other one does, and its takes start anew.
    assert!(!record_one(&store, super::ending(&first, State::Accepted)).await.applied);
    let now = store.clock().now();
    assert!(record_one(&store, watching(&second, now)).await.applied);
    assert_eq!(take_due(&store, DispatchQueue::High).await.delivery.takes, 1);
}

pub async fn the_deadline_is_set_by_the_first_take_and_kept_by_the_next(store: Store) {
    let (_, hint) = due(&store, "anna", "1").await;
    let first = store.take(&[hint], OVER).await.unwrap().pop().unwrap();
    let second = take_due(&store, DispatchQueue::High).await;
    assert!(second.taken_at > first.taken_at);
    assert_eq!(second.delivery.deadline_at, Some(first.taken_at.plus(DELAY)));
}

pub async fn a_take_shows_a_subscription_that_ended_or_has_another_token(store: Store) {
    let (_, hint) = due(&store, "anna", "1").await;
    let unsid = store.list(&super::app(), &super::user("anna")).await.unwrap()[0].id;
    let renewed = store.subscribe(crate::NewSubscription { unsid: Some(unsid), ..phone("anna", "new") }).await.unwrap();
    assert_eq!(renewed.id, unsid);
    let one = store.take(&[hint], OVER).await.unwrap().pop().unwrap();
    assert_eq!((one.subscription, one.subscription_active), (renewed, true));
    // Renewed with an expiry that has passed: as good as ended, and returned all the same, for core to close it.
    let mut past = phone("anna", "new");
    past.expires_at = store.clock().now().minus(LONG);
    store.subscribe(past).await.unwrap();
    let one = take_due(&store, DispatchQueue::High).await;
    assert_eq!((one.subscription.token, one.subscription_active), (PushToken::new("new"), false));
}

pub async fn a_watching_row_is_taken_at_its_deadline(store: Store) {
    let first = taken(&store, "anna", "1").await;
    let now = store.clock().now();
    assert!(record_one(&store, watching(&first, now.plus(LONG))).await.applied);
    assert!(claim(&store, LONG).await.is_empty(), "its deadline is to come");
    let second = taken(&store, "anna", "2").await;
    assert!(record_one(&store, watching(&second, now)).await.applied);
    let one = take_due(&store, DispatchQueue::High).await;
    assert_eq!((one.delivery.id, one.was), (second.delivery.id, State::Watching));
    assert_eq!((one.delivery.deadline_at, one.delivery.attempts), (Some(now), 1));
}

pub async fn deliveries_of_one_notification_share_it(store: Store) {
    for token in ["1", "2"] {
        store.subscribe(phone("anna", token)).await.unwrap();
    }
    let stored = store_one(&store, request("anna", "1"), 0, LONG).await;
    let both = store.take(&stored.due, LONG).await.unwrap();
    assert_eq!(both.len(), 2);
    assert!(Arc::ptr_eq(&both[0].notification, &both[1].notification));
    assert_ne!(both[0].subscription.id, both[1].subscription.id);
}
