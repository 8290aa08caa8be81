//! Several processes on one file, and one that is killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use herald_core::delivery::State;
use herald_core::lane::DispatchQueue;
use herald_store::conformance::{LONG, OVER, app, ending, letters, phone, request, store_one, to_each, trace, user};
use herald_store::{NewSubscription, Store, StoreError};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{as_child, assert_says, child, connect, file, fresh, look_into};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_is_refused_and_told_by_whom() {
    let (folder, store) = fresh().await;
    let error = connect(folder.path(), true).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }) && !error.is_transient(), "{error:?}");
    assert_says(&error, folder.path(), &format!("(process {})", std::process::id()));
    store.close().await;
    drop(store);
    connect(folder.path(), true).await.expect("it is free");
}

const BESIDE: &str = "processes::another_process_may_use_the_file_while_the_worker_works";
const SENT: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_may_use_the_file_while_the_worker_works() {
    if let Some(folder) = as_child() {
        return use_beside(&folder).await;
    }
    let (folder, store) = fresh().await;
    store.subscribe(phone("anna", "a")).await.unwrap();
    let mut other = child(&std::env::current_exe().unwrap(), BESIDE, folder.path()).spawn().unwrap();
    let mut pushed = 0;
    let mut ended = None;
    // The worker works all the time, and until all that the other sent is pushed.
    for round in 0.. {
        let _own = store_one(&store, request("anna", &format!("own {round}")), 0, LONG).await;
        let due = store.due(DispatchQueue::High, 100, LONG).await.unwrap();
        let taken = store.take(&due, LONG).await.unwrap();
        let records: Vec<_> = taken.iter().map(|taken| ending(taken, State::Accepted)).collect();
        assert!(store.record(&records).await.unwrap().iter().all(|recorded| recorded.applied));
        pushed += records.len();
        if ended.is_some() {
            assert_eq!(pushed, SENT + round + 1);
            break;
        }
        ended = other.try_wait().unwrap();
    }
    assert!(ended.unwrap().success());
    assert_eq!(store.list(&app(), &user("ben")).await.unwrap().len(), 1);
}

/// What the commands do while a worker runs.
async fn use_beside(folder: &Path) {
    let store = connect(folder, false).await.unwrap();
    for n in 0..SENT {
        store_one(&store, request("anna", &format!("sent {n}")), 0, OVER).await;
        assert!(letters(&store).await.is_empty());
    }
    assert_eq!(store.list(&app(), &user("anna")).await.unwrap().len(), 1);
    store.subscribe(NewSubscription { unsid: None, ..phone("ben", "b") }).await.unwrap();
    store.close().await;
}

const KILLED: &str = "processes::what_was_answered_before_a_kill_is_there_after_it";
const ANSWERED: &str = "stored ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_before_a_kill_is_there_after_it() {
    if let Some(folder) = as_child() {
        return intake_until_killed(&folder).await;
    }
    let folder = TempDir::new().unwrap();
    for _ in 0..3 {
        let mut writing = child(&std::env::current_exe().unwrap(), KILLED, folder.path()).spawn().unwrap();
        let lines = BufReader::new(writing.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut keys = lines.filter_map(|line| line.strip_prefix(ANSWERED).map(str::to_owned));
        let mut answered: Vec<String> = keys.by_ref().take(100).collect();
        assert_eq!(answered.len(), 100, "it ended by itself");
        writing.kill().unwrap();
        answered.extend(keys);
        writing.wait().unwrap();

        let store = connect(folder.path(), true).await.expect("no lock is left, and the log is read");
        for key in &answered {
            let id = store.notification_by_key(&app(), &user("anna"), key).await.unwrap();
            let id = id.unwrap_or_else(|| panic!("{key} was answered and is lost"));
            assert_eq!(trace(&store, id).await.deliveries.len(), 1, "{key} without its delivery");
        }
        store.close().await;
        let sound: String = look_into(folder.path()).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
    }
}

/// Several callers at once; each key is told once it was answered.
async fn intake_until_killed(folder: &Path) {
    let store = connect(folder, true).await.unwrap();
    store.subscribe(phone("anna", "a")).await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        let store = store.clone();
        callers.spawn(async move {
            for n in 0.. {
                let key = format!("{}/{caller}/{n}", std::process::id());
                answer(&store, &key).await;
                if Instant::now() > until {
                    break;
                }
            }
        });
    }
    callers.join_all().await;
}

async fn answer(store: &Store, key: &str) {
    let mut new = request("anna", key);
    new.request.content.payload.raw = Some("x".repeat(1_500));
    let stored = store.intake(vec![new], 1, LONG, to_each).await.unwrap();
    assert_eq!(stored.len(), 1);
    // One write, so that a kill leaves no half of it.
    std::io::stdout().write_all(format!("{ANSWERED}{key}\n").as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_made_by_a_reader_is_a_store_for_the_worker() {
    let folder = TempDir::new().unwrap();
    let sender = connect(&folder.path().join("made"), false).await.unwrap();
    store_one(&sender, request("anna", "1"), 0, LONG).await;
    let worker = connect(&folder.path().join("made"), true).await.unwrap();
    assert!(worker.notification_by_key(&app(), &user("anna"), "1").await.unwrap().is_some());
    assert!(file(&folder.path().join("made")).exists());
}
