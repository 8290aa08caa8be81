//! Record.

use herald_core::delivery::{Failure, Step};
use herald_core::ids::DeliveryId;
use herald_core::lane::DispatchQueue;

use super::{
    DELAY, Form, LONG, OVER, State, Uuid, attempt, claim, ending, event, only, phone, record_one, request, step,
    store_one, take_due, taken, told, watching,
};
use crate::{Record, Store};

pub async fn a_record_writes_the_step_and_the_attempt(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let deadline = one.taken_at.plus(DELAY);
    let recorded = record_one(&store, watching(&one, deadline)).await;
    assert_eq!((recorded.applied, recorded.pruned, recorded.state), (true, false, Some(State::Watching)));
    let row = only(&store, one.notification.id).await;
    assert_eq!((row.delivery.version, row.delivery.takes, row.delivery.attempts), (2, 0, 1));
    assert_eq!((row.next_at, row.delivery.deadline_at, row.closed_at), (Some(deadline), Some(deadline), None));
    assert_eq!(row.attempts, [attempt(Form::Raw, one.taken_at)]);

    let other = taken(&store, "anna", "2").await;
    assert!(record_one(&store, ending(&other, State::Accepted)).await.applied);
    let row = only(&store, other.notification.id).await;
    assert_eq!((row.next_at, row.delivery.state), (None, State::Accepted));
    assert!(row.closed_at.is_some());
}

pub async fn an_old_version_changes_nothing_but_the_attempt_is_kept(store: Store) {
    let one = taken(&store, "anna", "1").await;
    assert!(record_one(&store, watching(&one, one.taken_at.plus(DELAY))).await.applied);
    let before = only(&store, one.notification.id).await;
    let recorded = record_one(&store, ending(&one, State::Failed)).await;
    assert_eq!((recorded.applied, recorded.state), (false, Some(State::Watching)));
    let after = only(&store, one.notification.id).await;
    assert_eq!((after.delivery.attempts, after.attempts.len()), (2, 2));
    assert_eq!((after.delivery.version, after.next_at), (before.delivery.version, before.next_at));
    assert_eq!((after.delivery.state, after.delivery.deadline_at), (State::Watching, before.delivery.deadline_at));
}

pub async fn events_are_written_only_with_an_applied_step(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let other = taken(&store, "anna", "2").await;
    let with = |record: Record, name| Record { events: vec![event(name)], ..record };
    let stale = Record { version: 7, ..ending(&other, State::Accepted) };
    let batch = [with(ending(&one, State::Toasted), "toasted"), with(stale, "accepted")];
    let recorded = store.record(&batch).await.unwrap();
    assert_eq!(recorded.iter().map(|r| r.applied).collect::<Vec<_>>(), [true, false]);
    assert_eq!(told(&store).await, ["toasted.mail.contoso.com"]);
    // Repeated after a lost answer: neither the row nor the event is written twice.
    assert!(!store.record(&batch).await.unwrap()[0].applied);
    assert_eq!(told(&store).await, ["toasted.mail.contoso.com"]);
}

pub async fn a_retry_is_due_at_its_time_in_its_queue(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let now = store.clock().now();
    let retry = Record::new(&one, step(State::Due, Form::Toast, Some(now)), None, Vec::new());
    assert_eq!(retry.queue, DispatchQueue::Fallback);
    assert!(record_one(&store, retry).await.applied);
    assert!(claim(&store, LONG).await.is_empty());
    let again = take_due(&store, DispatchQueue::Fallback).await;
    assert_eq!((again.delivery.form, again.was, again.delivery.attempts), (Form::Toast, State::Due, 0));
    let later = step(State::Due, Form::Toast, Some(now.plus(LONG)));
    assert!(record_one(&store, Record::new(&again, later, None, Vec::new())).await.applied);
    assert!(store.due(DispatchQueue::Fallback, 10, LONG).await.unwrap().is_empty());
}

pub async fn two_records_of_one_delivery_in_a_batch_count_once(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    let first = store_one(&store, request("anna", "1"), 1, OVER).await.taken.pop().unwrap();
    let second = take_due(&store, DispatchQueue::High).await;
    let batch = [ending(&first, State::Failed), ending(&second, State::Accepted), ending(&second, State::Failed)];
    let recorded = store.record(&batch).await.unwrap();
    assert_eq!(recorded.iter().map(|r| r.applied).collect::<Vec<_>>(), [false, true, false]);
    let row = only(&store, second.notification.id).await;
    assert_eq!((row.delivery.state, row.attempts.len()), (State::Accepted, 3));
}

pub async fn a_failure_is_kept_with_its_reason(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let failed = Step { failure: Some(Failure::Poison), ..step(State::Failed, Form::Raw, None) };
    assert!(record_one(&store, Record::new(&one, failed, None, Vec::new())).await.applied);
    let row = only(&store, one.notification.id).await;
    assert_eq!((row.failure.as_deref(), row.attempts.len()), (Some("poison"), 0));
}

pub async fn of_very_many_attempts_the_first_and_the_last_are_kept(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let at = |n: u64| one.taken_at.plus(std::time::Duration::from_secs(n));
    for n in 0..40 {
        let record = Record { version: 99, ..ending(&one, State::Failed) };
        record_one(&store, Record { attempt: Some(attempt(Form::Raw, at(n))), ..record }).await;
    }
    let row = only(&store, one.notification.id).await;
    assert_eq!(row.delivery.attempts, 40);
    let kept: Vec<_> = row.attempts.iter().map(|a| a.at).collect();
    assert_eq!(kept, std::iter::once(0).chain(9..40).map(at).collect::<Vec<_>>());
}

pub async fn a_record_of_nothing_known_is_not_applied(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let unknown = Record { delivery: DeliveryId(Uuid::now_v7()), ..ending(&one, State::Accepted) };
    let recorded = record_one(&store, unknown).await;
    assert_eq!((recorded.applied, recorded.state), (false, None));
    assert_eq!(only(&store, one.notification.id).await.delivery.state, State::Sending);
}
