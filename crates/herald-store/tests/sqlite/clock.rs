//! The store's time in a file: the same for all, and never back.

use std::time::Duration;

use crate::{connect, fresh};

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
    let file = crate::look_into(folder.path());
    file.execute("UPDATE clock SET store_us = store_us + ?1, seen_us = seen_us + ?1", [ahead]).unwrap();
    drop(file);
    let reader = connect(folder.path(), false).await.unwrap();
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let wall = i64::try_from(wall.as_micros()).unwrap();
    let difference = reader.clock().now().micros() - wall - ahead;
    assert!(difference.abs() < 60_000_000, "{difference} µs");
    // Nor does a worker that starts now go back to the wall clock.
    let worker = connect(folder.path(), true).await.unwrap();
    assert!(worker.clock().now() >= reader.clock().now().minus(Duration::from_millis(1)));
}
