//! Pauses, and the mass-failure guard.

use std::time::Duration;

use herald_core::ids::AppId;
use herald_core::lane::DispatchQueue;
use herald_core::subscription::{Platform, Provider};

use super::{LONG, OVER, State, app, claim, due, only, phone, record_one, request, store_one, taken, watching};
use crate::Store;

async fn pause(store: &Store, provider: Provider, by_operator: bool) {
    let until = store.clock().now().plus(LONG);
    store.pause(&app(), provider, until, "unauthorized", "the key was revoked", by_operator).await.unwrap();
}

pub async fn a_pause_is_seen_by_all_until_resumed(store: Store) {
    assert!(store.pauses().await.unwrap().is_empty());
    pause(&store, Provider::Apns, false).await;
    let first = store.pauses().await.unwrap().pop().unwrap();
    assert_eq!((first.app.clone(), first.provider, first.reason.as_str()), (app(), Provider::Apns, "unauthorized"));
    pause(&store, Provider::Apns, false).await;
    let renewed = store.pauses().await.unwrap().pop().unwrap();
    assert_eq!(renewed.since, first.since);
    assert!(renewed.until > first.until);
    assert!(store.resume(&app(), Provider::Apns, OVER).await.unwrap());
    assert!(!store.resume(&app(), Provider::Apns, OVER).await.unwrap());
    assert_eq!(store.pauses_cut_short().await.unwrap(), [(app(), Provider::Apns)], "for a worker that starts later");
    assert!(store.pauses().await.unwrap().is_empty());
    // One that is over is none.
    let past = store.clock().now().minus(LONG);
    store.pause(&app(), Provider::Fcm, past, "breaker", "", false).await.unwrap();
    assert!(store.pauses().await.unwrap().is_empty());
}

pub async fn an_operators_pause_is_not_replaced_by_an_automatic_one(store: Store) {
    pause(&store, Provider::Apns, true).await;
    let first = store.pauses().await.unwrap();
    pause(&store, Provider::Apns, false).await;
    assert_eq!(store.pauses().await.unwrap(), first);
    pause(&store, Provider::Apns, true).await;
    assert!(store.pauses().await.unwrap()[0].until > first[0].until);
}

pub async fn due_rows_of_a_paused_provider_move_untaken_and_come_back(store: Store) {
    let (paused, hint) = due(&store, "anna", "1").await;
    let mut android = phone("ben", "b");
    android.platform = Platform::Android;
    store.subscribe(android).await.unwrap();
    let other = store_one(&store, request("ben", "1"), 0, LONG).await;
    let pushing = taken(&store, "carla", "1").await;
    // Its lease is over, but only a take says whether its worker is: it keeps its way.
    let lapsed = store_one(&store, request("carla", "2"), 1, OVER).await.taken.pop().unwrap();
    let jitter = Duration::from_secs(30);
    assert_eq!(store.move_paused(&app(), Provider::Apns, jitter, 10).await.unwrap(), 0, "nothing is paused");
    pause(&store, Provider::Apns, false).await;
    assert_eq!(store.move_paused(&AppId::new("other"), Provider::Apns, jitter, 10).await.unwrap(), 0);
    assert_eq!(store.move_paused(&app(), Provider::Apns, jitter, 10).await.unwrap(), 1);
    let until = store.pauses().await.unwrap()[0].until;
    let row = only(&store, paused).await;
    let next_at = row.next_at.unwrap();
    assert!(until <= next_at && next_at <= until.plus(jitter));
    assert_eq!((row.delivery.version, row.delivery.takes, row.delivery.state), (1, 0, State::Due));
    assert_eq!(only(&store, pushing.notification.id).await.next_at, Some(pushing.taken_at.plus(LONG)));
    let claimed: Vec<_> = claim(&store, OVER).await.iter().map(|h| h.delivery).collect();
    assert_eq!(claimed, [other.due[0].delivery, lapsed.delivery.id]);
    assert!(store.resume(&app(), Provider::Apns, OVER).await.unwrap());
    let mut back = claim(&store, LONG).await;
    back.retain(|h| !claimed.contains(&h.delivery));
    assert_eq!(back, [hint]);
}

pub async fn what_a_pause_left_behind_comes_back_but_not_while_a_newer_one_runs(store: Store) {
    let (_, hint) = due(&store, "anna", "1").await;
    pause(&store, Provider::Apns, false).await;
    assert_eq!(store.move_paused(&app(), Provider::Apns, OVER, 10).await.unwrap(), 1);
    // A replica that learned late of a resume must not end the pause that came after it, nor bring back what it holds.
    let running = store.pauses().await.unwrap();
    store.bring_back(&app(), Provider::Apns, OVER).await.unwrap();
    assert_eq!(store.pauses().await.unwrap(), running);
    assert!(claim(&store, OVER).await.is_empty());
    assert!(store.resume(&app(), Provider::Apns, OVER).await.unwrap());
    store.bring_back(&app(), Provider::Apns, OVER).await.unwrap();
    assert_eq!(claim(&store, LONG).await, [hint]);
}

pub async fn a_shorter_pause_does_not_replace_a_longer_one(store: Store) {
    pause(&store, Provider::Apns, false).await;
    let long = store.pauses().await.unwrap();
    let soon = store.clock().now().plus(std::time::Duration::from_secs(1));
    store.pause(&app(), Provider::Apns, soon, "unavailable", "", false).await.unwrap();
    assert_eq!(store.pauses().await.unwrap(), long);
}

pub async fn a_watching_row_does_not_come_back_before_its_deadline(store: Store) {
    let early = taken(&store, "anna", "1").await;
    let late = taken(&store, "ben", "1").await;
    let now = store.clock().now();
    assert!(record_one(&store, watching(&early, now)).await.applied);
    assert!(record_one(&store, watching(&late, now.plus(LONG))).await.applied);
    pause(&store, Provider::Apns, false).await;
    assert_eq!(store.move_paused(&app(), Provider::Apns, OVER, 10).await.unwrap(), 1);
    assert!(claim(&store, OVER).await.is_empty());
    assert!(store.resume(&app(), Provider::Apns, OVER).await.unwrap());
    let back: Vec<_> = store.due(DispatchQueue::High, 9, LONG).await.unwrap().iter().map(|h| h.delivery).collect();
    assert_eq!(back, [early.delivery.id]);
    assert_eq!(only(&store, late.notification.id).await.next_at, Some(now.plus(LONG)));
}

pub async fn guard_counts_add_up_over_replicas(store: Store) {
    assert_eq!(store.guard_count(&app(), Provider::Apns, 3, 1).await.unwrap(), (3, 1));
    let replica = store.clone();
    assert_eq!(replica.guard_count(&app(), Provider::Apns, 4, 2).await.unwrap(), (7, 3));
    assert_eq!(store.guard_count(&app(), Provider::Fcm, 1, 0).await.unwrap(), (1, 0));
    assert_eq!(store.guard_count(&AppId::new("other"), Provider::Apns, 0, 5).await.unwrap(), (0, 5));
    assert_eq!(store.guard_count(&app(), Provider::Apns, 0, 0).await.unwrap(), (7, 3));
}
