//! Dead tokens.

use herald_core::lane::DispatchQueue;

use super::{
    Form, LONG, OVER, State, app, attempt, due, event, gone, only, phone, record_one, request, step, store_one,
    take_due, taken, told, user,
};
use crate::{NewSubscription, Record, Store};

pub async fn a_dead_token_ends_its_subscription_and_withdraws_its_other_deliveries(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let (other, _) = due(&store, "anna", "2").await;
    let unsid = one.subscription.id;
    // Renewed by `due`: take again, so that the token is known as it is now.
    let now = store.subscription(unsid).await.unwrap().unwrap().subscription;
    let mut record = gone(&one);
    record.prune_token.as_mut().unwrap().confirmed_at = now.confirmed_at;
    let recorded = record_one(&store, record).await;
    assert_eq!((recorded.applied, recorded.pruned, recorded.state), (true, true, Some(State::Gone)));
    assert_eq!(recorded.withdrawn.len(), 1);
    assert_eq!((recorded.withdrawn[0].notification, recorded.withdrawn[0].had), (other, State::Due));
    assert_eq!(only(&store, other).await.delivery.state, State::Withdrawn);
    assert_eq!(only(&store, one.notification.id).await.delivery.state, State::Gone);
    assert!(!store.subscription(unsid).await.unwrap().unwrap().active);
    assert!(store.list(&app(), &user("anna")).await.unwrap().is_empty());
    assert_eq!(told(&store).await, ["gone.mail.contoso.com"]);
    assert_eq!(store.open_count(&app()).await.unwrap(), 0);
}

pub async fn another_token_by_now_makes_the_delivery_due_at_once(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let unsid = one.subscription.id;
    store.subscribe(NewSubscription { unsid: Some(unsid), ..phone("anna", "new") }).await.unwrap();
    let recorded = record_one(&store, gone(&one)).await;
    assert_eq!((recorded.applied, recorded.pruned, recorded.state), (true, false, Some(State::Due)));
    assert!(told(&store).await.is_empty(), "it is not gone, so nobody is told");
    let again = take_due(&store, DispatchQueue::High).await;
    assert_eq!((again.subscription.token.expose(), again.delivery.form), ("new", Form::Raw));
    assert_eq!(again.delivery.deadline_at, one.delivery.deadline_at, "the first attempt counts");
    assert_eq!(again.delivery.attempts, 1);
}

pub async fn the_same_token_presented_again_is_not_pruned(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let again = store.subscribe(phone("anna", "token of anna")).await.unwrap();
    assert_eq!(again.id, one.subscription.id);
    assert!(again.confirmed_at > one.subscription.confirmed_at);
    let recorded = record_one(&store, gone(&one)).await;
    assert_eq!((recorded.pruned, recorded.state), (false, Some(State::Due)));
    assert!(store.subscription(again.id).await.unwrap().unwrap().active);
    // With the moment that is stored now, it is.
    let one = take_due(&store, DispatchQueue::High).await;
    let recorded = record_one(&store, gone(&one)).await;
    assert_eq!((recorded.pruned, recorded.state), (true, Some(State::Gone)));
}

pub async fn a_subscription_that_ended_already_leaves_the_delivery_gone(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    let mut takes = Vec::new();
    for key in ["1", "2"] {
        takes.extend(store_one(&store, request("anna", key), 1, LONG).await.taken);
    }
    let recorded = store.record(&takes.iter().map(gone).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(recorded.iter().map(|r| r.pruned).collect::<Vec<_>>(), [true, false], "one of them ends it");
    assert!(recorded.iter().all(|r| r.applied && r.state == Some(State::Gone) && r.withdrawn.is_empty()));
}

pub async fn an_old_version_still_prunes(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let recorded = record_one(&store, Record { version: 9, ..gone(&one) }).await;
    assert_eq!((recorded.applied, recorded.pruned, recorded.state), (false, true, Some(State::Sending)));
    assert!(!store.subscription(one.subscription.id).await.unwrap().unwrap().active);
    assert!(told(&store).await.is_empty());
}

pub async fn a_toast_to_a_changed_token_stays_a_toast(store: Store) {
    store.subscribe(phone("anna", "old")).await.unwrap();
    let one = store_one(&store, request("anna", "1"), 1, OVER).await.taken.pop().unwrap();
    let unsid = Some(one.subscription.id);
    store.subscribe(NewSubscription { unsid, ..phone("anna", "new") }).await.unwrap();
    // The row's form is still raw; the push that was answered was a toast.
    let mut record = gone(&one);
    record.attempt = Some(attempt(Form::Toast, one.taken_at));
    record.step = herald_core::delivery::Step { prune: true, ..step(State::Gone, Form::Raw, None) };
    record.events = vec![event("gone")];
    assert_eq!(record_one(&store, record).await.state, Some(State::Due));
    let again = take_due(&store, DispatchQueue::Fallback).await;
    assert_eq!((again.delivery.form, again.subscription.token.expose()), (Form::Toast, "new"));
}
