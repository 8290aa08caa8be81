//! Rows that are months old, or many: what the sweep does with them.

use std::time::Duration;

use herald_core::subscription::Provider;
use herald_store::Teller;
use herald_store::conformance::{LONG, OVER, app, event, phone, request, to_each};

use crate::{fresh, look_into};

const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 24 * 60 * MINUTE_US;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_subscription_is_known_for_90_days() {
    let (folder, store) = fresh().await;
    let ended = store.subscribe(phone("anna", "a")).await.unwrap();
    store.end(ended.id).await.unwrap();
    let file = look_into(folder.path());
    for (days, known) in [(89, true), (2, false)] {
        file.execute("UPDATE subscriptions SET ended_at = ended_at - ?1", [days * DAY_US]).unwrap();
        let swept = store.sweep(100, OVER).await.unwrap();
        assert_eq!(swept.subscriptions_deleted, u64::from(!known), "{days} days later");
        assert_eq!(store.subscription(ended.id).await.unwrap().is_some(), known);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_forgets_after_five_minutes_and_its_rows_are_swept() {
    let (folder, store) = fresh().await;
    store.guard_count(&app(), Provider::Apns, 5, 5).await.unwrap();
    let file = look_into(folder.path());
    for (minutes, counted) in [(3, 6), (5, 1)] {
        file.execute("DELETE FROM guard_counts WHERE accepted <> 5", []).unwrap();
        file.execute("UPDATE guard_counts SET minute = minute - ?1", [minutes * MINUTE_US]).unwrap();
        assert_eq!(
            store.guard_count(&app(), Provider::Apns, 1, 0).await.unwrap().0,
            counted,
            "{minutes} minutes later"
        );
    }
    file.execute("UPDATE guard_counts SET minute = minute - ?1", [20 * MINUTE_US]).unwrap();
    assert_eq!(store.sweep(100, Duration::ZERO).await.unwrap().counts_deleted, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_of_more_than_one_job_does_all_that_its_limit_allows_and_no_more() {
    const DEVICES: usize = 7;
    let (_folder, store) = fresh().await;
    let store = store.with_teller(Teller::new(|_| true, |closed, _| vec![event(&closed.delivery.0.to_string())]));
    for n in 0..DEVICES {
        store.subscribe(phone("anna", &n.to_string())).await.unwrap();
    }
    let now = store.clock().now();
    let expired = (0..500).map(|n| {
        let mut new = request("anna", &n.to_string());
        new.request.expires_at = now;
        new
    });
    let stored = store.intake(expired.collect(), 0, LONG, to_each).await.unwrap();
    let all = stored.len() as u64;

    let first = store.sweep(450, LONG).await.unwrap();
    assert_eq!((first.notifications_expired, first.expired.len(), first.more), (450, 450 * DEVICES, true));
    let second = store.sweep(450, LONG).await.unwrap();
    assert_eq!((second.notifications_expired, second.expired.len(), second.more), (50, 50 * DEVICES, false));
    assert_eq!(store.stats().await.unwrap().outbox, all * DEVICES as u64);
    let third = store.sweep(450, OVER).await.unwrap();
    assert_eq!((third.notifications_deleted, third.more), (450, true));
    let fourth = store.sweep(450, OVER).await.unwrap();
    assert_eq!((fourth.notifications_deleted, fourth.more), (50, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_one_job_brings_back_what_a_pause_moved() {
    let (_folder, store) = fresh().await;
    store.subscribe(phone("anna", "a")).await.unwrap();
    let requests = (0..2_300).map(|n| request("anna", &n.to_string()));
    let moving = store.intake(requests.collect(), 0, LONG, to_each).await.unwrap().len() as u64;
    let until = store.clock().now().plus(LONG);
    store.pause(&app(), Provider::Apns, until, "unauthorized", "", false).await.unwrap();
    assert_eq!(store.move_paused(&app(), Provider::Apns, LONG, 10_000).await.unwrap(), moving);
    assert!(store.resume(&app(), Provider::Apns, OVER).await.unwrap());
    let back = store.due(herald_core::lane::DispatchQueue::High, 10_000, LONG).await.unwrap();
    assert_eq!(back.len() as u64, moving);
}
