//! A full disk: said, nothing lost, and over when there is space.

use std::time::Duration;

use herald_core::delivery::State;
use herald_core::event::OutboxEvent;
use herald_core::lane::{DispatchQueue, Hint};
use herald_core::push::Form;
use herald_core::time::Timestamp;
use herald_store::conformance::{
    LONG, app, attempt, ending, event, letters, phone, request, step, to_each, trace, user,
};
use herald_store::{Attempt, By, DeadLetter, NewNotification, Receipt, Record, Store, StoreError, Taken, Teller};
use tempfile::TempDir;

use crate::{assert_says, fresh};

/// Deliveries of each batch: together they need more pages than a full file has left in its rows' pages.
const MANY: usize = 600;

/// A store on a disk that can be filled, with `MANY` deliveries due, and a teller of long events.
async fn many_due() -> (TempDir, Store, Vec<Hint>) {
    let (folder, store) = fresh().await;
    let store = store.with_teller(Teller::new(|_| true, |closed, _| vec![long_event(&closed.delivery.0.to_string())]));
    store.subscribe(phone("anna", "a")).await.unwrap();
    let batch = (0..MANY).map(|n| request("anna", &n.to_string())).collect();
    let stored = store.intake(batch, 0, LONG, to_each).await.unwrap();
    assert_eq!(stored.len(), MANY);
    let hints = store.due(DispatchQueue::High, i64::try_from(MANY).unwrap(), LONG).await.unwrap();
    assert_eq!(hints.len(), MANY);
    (folder, store, hints)
}

fn long_event(name: &str) -> OutboxEvent {
    OutboxEvent { body: "x".repeat(10_000), ..event(name) }
}

/// A request whose content needs pages of its own.
fn large(key: &str) -> NewNotification {
    let mut new = request("anna", key);
    new.request.content.payload.raw = Some("x".repeat(10_000));
    new
}

/// Allows no more pages, and uses up what is left.
async fn fill(folder: &TempDir, store: &Store) {
    store.limit_pages(1).await.unwrap();
    for n in 0..1_000 {
        if let Err(error) = store.dead_insert(&[letter(n)], &[]).await {
            return assert_full(&error, folder);
        }
    }
    panic!("the file takes any number of rows");
}

fn letter(n: u128) -> DeadLetter {
    DeadLetter {
        id: uuid::Uuid::from_u128(n),
        source_queue: String::new(),
        reason_code: String::new(),
        field: String::new(),
        problem: String::new(),
        fix: String::new(),
        app: None,
        message_id: None,
        headers: String::new(),
        body: vec![0; 5_000],
        parked_at: Timestamp::from_secs(1),
    }
}

fn assert_full(error: &StoreError, folder: &TempDir) {
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert_says(error, folder.path(), "the disk is full; free some space, and it goes on by itself");
}

async fn free(store: &Store) {
    store.limit_pages(u32::MAX).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intake_on_a_full_disk_stores_nothing_of_the_batch_and_can_be_repeated() {
    let (folder, store, _) = many_due().await;
    fill(&folder, &store).await;
    let batch = || vec![request("anna", "small"), large("large")];
    assert_full(&store.intake(batch(), 0, LONG, to_each).await.unwrap_err(), &folder);
    for key in ["small", "large"] {
        assert_eq!(store.notification_by_key(&app(), &user("anna"), key).await.unwrap(), None);
    }
    assert_eq!(store.open_count(&app()).await.unwrap(), MANY as u64);
    free(&store).await;
    assert_eq!(store.intake(batch(), 0, LONG, to_each).await.unwrap().len(), 2);
    assert_eq!(store.open_count(&app()).await.unwrap(), MANY as u64 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_on_a_full_disk_takes_nothing_and_the_same_hints_are_good_afterwards() {
    let (folder, store, hints) = many_due().await;
    fill(&folder, &store).await;
    assert_full(&store.take(&hints, LONG).await.unwrap_err(), &folder);
    assert_eq!(store.stats().await.unwrap().open, [(State::Due, MANY as u64)]);
    free(&store).await;
    assert_eq!(store.take(&hints, LONG).await.unwrap().len(), MANY);
}

/// All `MANY`, taken.
async fn many_taken() -> (TempDir, Store, Vec<Taken>) {
    let (folder, store, hints) = many_due().await;
    let taken = store.take(&hints, LONG).await.unwrap();
    assert_eq!(taken.len(), MANY);
    (folder, store, taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_on_a_full_disk_writes_no_state_no_attempt_and_no_event() {
    let (folder, store, taken) = many_taken().await;
    let record = |taken: &Taken| {
        let attempt = Attempt { detail: Some("y".repeat(200)), ..attempt(Form::Raw, taken.taken_at) };
        let events = vec![event(&taken.delivery.id.0.to_string())];
        Record::new(taken, step(State::Accepted, Form::Raw, None), Some(attempt), events)
    };
    let records: Vec<Record> = taken.iter().map(record).collect();
    fill(&folder, &store).await;
    assert_full(&store.record(&records).await.unwrap_err(), &folder);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.open, stats.outbox), (vec![(State::Sending, MANY as u64)], 0));
    assert!(trace(&store, taken[0].notification.id).await.deliveries[0].attempts.is_empty());
    free(&store).await;
    assert!(store.record(&records).await.unwrap().iter().all(|recorded| recorded.applied));
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.open, stats.outbox), (vec![], MANY as u64));
    assert_eq!(trace(&store, taken[0].notification.id).await.deliveries[0].attempts.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_and_withdrawals_on_a_full_disk_close_nothing_and_can_be_repeated() {
    let (folder, store, taken) = many_taken().await;
    let receipts: Vec<Receipt> =
        taken[1..].iter().map(|t| Receipt { by: By::Delivery(t.delivery.id), received_at: None }).collect();
    fill(&folder, &store).await;
    assert_full(&store.receipts(&receipts).await.unwrap_err(), &folder);
    let read = taken[0].notification.id;
    assert_full(&store.withdraw(&app(), read).await.unwrap_err(), &folder);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.open, stats.outbox), (vec![(State::Sending, MANY as u64)], 0));
    free(&store).await;
    store.receipts(&receipts).await.unwrap();
    assert_eq!(store.withdraw(&app(), read).await.unwrap().len(), 1);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.open, stats.outbox), (vec![], MANY as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_more_pages_goes_on_while_the_file_may_not_grow_and_makes_room() {
    let (folder, store, taken) = many_taken().await;
    store.dead_insert(&[letter(5_000), letter(5_001)], &[]).await.unwrap();
    fill(&folder, &store).await;
    let record = ending(&taken[0], State::Accepted);
    let told = Record { events: vec![long_event("a")], ..record };
    assert_full(&store.record(std::slice::from_ref(&told)).await.unwrap_err(), &folder);
    store.sync_clock().await.unwrap();
    assert_eq!(store.list(&app(), &user("anna")).await.unwrap().len(), 1);
    let letters: Vec<_> = letters(&store).await.iter().map(|letter| letter.entry().key).collect();
    assert!(letters.len() >= 2);
    assert_eq!(store.dead_remove(&letters).await.unwrap(), letters.len() as u64);
    // With the space that this freed, and no other, the record fits.
    assert!(store.record(&[told]).await.unwrap()[0].applied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_callers_at_once_those_that_fit_are_stored_and_the_others_are_told() {
    let (folder, store, _) = many_due().await;
    store.limit_pages(1).await.unwrap();
    let mut sending = tokio::task::JoinSet::new();
    for n in 0..40 {
        let store = store.clone();
        let key = format!("more {n}");
        sending.spawn(async move { (key.clone(), store.intake(vec![large(&key)], 0, Duration::ZERO, to_each).await) });
    }
    let mut refused = 0;
    while let Some(sent) = sending.join_next().await {
        let (key, result) = sent.unwrap();
        let known = store.notification_by_key(&app(), &user("anna"), &key).await.unwrap();
        assert_eq!(known.is_some(), result.is_ok(), "{key}");
        if let Err(error) = result {
            assert_full(&error, &folder);
            refused += 1;
        }
    }
    assert!(refused > 0);
}
