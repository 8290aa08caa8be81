//! The store's time in a file: the same for all, and never back.

use std::time::Duration;

use herald_store::conformance;

use crate::{connect, fresh, look_into};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_never_goes_back_over_opening_it_again() {
    let (folder, mut store) = fresh().await;
    for round in 0..6 {
        let last = store.clock().now();
        store.close().await;
        drop(store);
        store = connect(folder.path(), round % 2 == 0).await.unwrap();
        let now = store.clock().now();
        assert!(now >= last, "{now} after {last}, in round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_tell_the_same_time() {
    const SAME: Duration = Duration::from_millis(1);
    let (folder, one) = fresh().await;
    let other = connect(folder.path(), false).await.unwrap();
    for _ in 0..100 {
        let before = one.clock().now();
        let between = other.clock().now();
        let after = one.clock().now();
        assert!(before.minus(SAME) <= between && between <= after.plus(SAME), "{before} {between} {after}");
        one.sync_clock().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_opened_after_the_worker_takes_its_time_and_not_the_walls() {
    let (folder, worker) = fresh().await;
    worker.close().await;
    drop(worker);
    // As if the wall clock had been two hours behind when the worker started: the file's time is what counts.
    let ahead = 2 * 3600 * 1_000_000_i64;
    let file = look_into(folder.path());
    file.execute("UPDATE clock SET store_us = store_us + ?1, seen_us = seen_us + ?1", [ahead]).unwrap();
    drop(file);
    let reader = connect(folder.path(), false).await.unwrap();
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let wall = i64::try_from(wall.as_micros()).unwrap();
    let difference = reader.clock().now().micros() - wall - ahead;
    assert!(difference.abs() < 60_000_000, "{difference} µs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_starts_after_a_clock_was_put_right_goes_back_and_what_waits_waits_as_long_as_before() {
    const AHEAD: i64 = 2 * 3600 * 1_000_000;
    let (folder, worker) = fresh().await;
    worker.close().await;
    drop(worker);
    let add = |sql: &str| look_into(folder.path()).execute(sql, [AHEAD]).unwrap();
    add("UPDATE clock SET store_us = store_us + ?1, seen_us = seen_us + ?1");
    let wrong = connect(folder.path(), false).await.unwrap();
    let taken = conformance::taken(&wrong, "anna", "1").await;
    let deadline = wrong.clock().now().plus(Duration::from_secs(60));
    conformance::record_one(&wrong, conformance::watching(&taken, deadline)).await;
    wrong.close().await;

    let worker = connect(folder.path(), true).await.unwrap();
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let wall = i64::try_from(wall.as_micros()).unwrap();
    assert!((worker.clock().now().micros() - wall).abs() < 1_000_000);
    let row = conformance::only(&worker, taken.notification.id).await;
    let waits = row.next_at.unwrap().micros() - worker.clock().now().micros();
    assert!((30_000_000..=60_000_000).contains(&waits), "{waits} µs");
    assert_eq!(row.delivery.deadline_at, row.next_at);
    let devices = worker.list(&conformance::app(), &conformance::user("anna")).await.unwrap();
    assert!(devices[0].confirmed_at <= worker.clock().now());
}
