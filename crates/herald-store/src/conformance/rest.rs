//! Outbox, dead letters, clock, figures, schema.

use std::time::Duration;

use herald_core::ids::AppId;
use herald_core::lane::DispatchQueue;
use herald_core::time::Timestamp;

use super::{LONG, OVER, State, Uuid, app, due, ending, event, letters, request, store_one, taken, told, user};
use crate::{DeadLetter, Record, Store};

pub async fn events_come_out_until_they_are_done(store: Store) {
    let one = taken(&store, "anna", "1").await;
    let events = vec![event("a"), event("b"), event("c")];
    store.record(&[Record { events: events.clone(), ..ending(&one, State::Toasted) }]).await.unwrap();
    let claimed = store.outbox_claim(2, LONG).await.unwrap();
    assert_eq!(claimed.len(), 2);
    let rest = store.outbox_claim(10, OVER).await.unwrap();
    assert_eq!(rest.len(), 1, "the others are held");
    assert_eq!(store.outbox_claim(10, OVER).await.unwrap(), rest, "not done, so it comes again");
    let find = |row: &crate::OutboxRow| events.iter().any(|e| e.id == row.id && e.body == row.body);
    assert!(claimed.iter().chain(&rest).all(find));
    let ids: Vec<Uuid> = claimed.iter().chain(&rest).map(|row| row.id).collect();
    assert_eq!(ids, events.iter().map(|event| event.id).collect::<Vec<_>>(), "in the order in which it happened");
    assert_eq!(store.outbox_done(&ids).await.unwrap(), 3);
    assert_eq!(store.outbox_done(&ids).await.unwrap(), 0);
    assert!(told(&store).await.is_empty());
}

pub fn letter(n: u128) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(n),
        source_queue: "herald.requests.high".to_owned(),
        reason_code: "bad_request".to_owned(),
        field: "payload".to_owned(),
        problem: "is missing".to_owned(),
        fix: "give rawContent or visualContent".to_owned(),
        app: n.is_multiple_of(2).then(app),
        message_id: Some(n.to_string()),
        headers: r#"{"traceparent":"x"}"#.to_owned(),
        body: vec![0, 159, 146, 150],
        parked_at: Timestamp::from_secs(1_700_000_000 + i64::try_from(n).unwrap()),
    }
}

pub async fn dead_letters_are_stored_once_listed_and_removed(store: Store) {
    assert_eq!(store.dead_insert(&[letter(1), letter(2)], &[]).await.unwrap(), 2);
    assert_eq!(store.dead_insert(&[letter(2), letter(3)], &[]).await.unwrap(), 1);
    assert_eq!(letters(&store).await, [letter(3), letter(2), letter(1)]);
    assert_eq!(store.dead_remove(&[letter(2).entry().key, letter(9).entry().key]).await.unwrap(), 1);
    assert_eq!(store.dead_letter(letter(2).id).await.unwrap(), None);
    assert!(!format!("{:?}", letter(1)).contains("159"), "a body never prints");
}

pub async fn the_clock_tells_the_stores_time(store: Store) {
    let clock = store.clock();
    store.sync_clock().await.unwrap();
    // A take carries the store's own time, read between two readings of the clock.
    let (_, hint) = due(&store, "anna", "1").await;
    let before = clock.now();
    let one = store.take(&[hint], LONG).await.unwrap().pop().unwrap();
    let after = clock.now();
    let error = clock.uncertainty();
    assert!(error < Duration::from_secs(1), "{error:?}");
    assert!(before.minus(error) <= one.taken_at && one.taken_at <= after.plus(error));
    assert!(after >= before);
}

pub async fn stats_say_what_waits(store: Store) {
    let empty = store.stats().await.unwrap();
    assert_eq!((empty.dead_letters, empty.outbox, empty.open_is_partial), (0, 0, false));
    assert!(empty.open.is_empty() && empty.oldest_due.iter().all(|(_, age)| *age == Duration::ZERO));
    let (_, hint) = due(&store, "anna", "1").await;
    let pushed = taken(&store, "ben", "1").await;
    let accepted = Record { events: vec![event("a")], ..ending(&pushed, State::Accepted) };
    let _pushing = taken(&store, "carla", "1").await;
    store.record(&[accepted]).await.unwrap();
    store.dead_insert(&[letter(1)], &[]).await.unwrap();
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.open, [(State::Due, 1), (State::Sending, 1)]);
    assert_eq!((stats.dead_letters, stats.outbox), (1, 1));
    let age = |stats: &crate::Stats, queue| stats.oldest_due.iter().find(|(q, _)| *q == queue).unwrap().1;
    assert!(age(&stats, DispatchQueue::High) > Duration::ZERO);
    assert_eq!(age(&stats, DispatchQueue::Low), Duration::ZERO);
    assert_eq!(store.take(&[hint], LONG).await.unwrap().len(), 1);
    assert_eq!(age(&store.stats().await.unwrap(), DispatchQueue::High), Duration::ZERO);
}

pub async fn a_trace_belongs_to_its_app(store: Store) {
    let (id, _) = due(&store, "anna", "1").await;
    assert!(store.trace(&app(), id).await.unwrap().is_some());
    assert_eq!(store.trace(&AppId::new("other.contoso.com"), id).await.unwrap(), None);
    assert_eq!(store.open_count(&AppId::new("other.contoso.com")).await.unwrap(), 0);
}

pub async fn notifications_are_found_by_their_producers_name(store: Store) {
    let named = |user: &str, key: &str, name: Option<&str>| {
        let mut new = request(user, key);
        new.request.content.app_notification_id = name.map(str::to_owned);
        new
    };
    let other = AppId::new("other.contoso.com");
    let of_other = |mut new: crate::NewNotification| {
        new.request.app = other.clone();
        new
    };
    let mut ids = Vec::new();
    for new in [
        named("anna", "1", Some("order")),
        named("ben", "1", Some("order")),
        of_other(named("anna", "1", Some("order"))),
        named("anna", "2", Some("order")),
        named("anna", "3", Some("another")),
        named("anna", "4", None),
    ] {
        ids.push(store_one(&store, new, 0, LONG).await.id);
    }
    let all = [app(), other.clone()];
    let find = |apps: &[AppId], of: Option<&str>, limit| {
        let (store, apps, of) = (store.clone(), apps.to_vec(), of.map(user));
        async move { store.named(&apps, of.as_ref(), "order", limit).await.unwrap() }
    };
    let mine = |at: usize| (app(), ids[at]);
    assert_eq!(find(&all, None, 20).await, [mine(3), (other.clone(), ids[2]), mine(1), mine(0)]);
    assert_eq!(find(&all, None, 2).await, [mine(3), (other.clone(), ids[2])]);
    assert_eq!(find(&all[..1], Some("anna"), 20).await, [mine(3), mine(0)]);
    assert_eq!(find(&all[1..], Some("ben"), 20).await, []);
    assert_eq!(find(&[], None, 20).await, []);
    assert_eq!(store.app_of(ids[2]).await.unwrap(), Some(other));
    assert_eq!(store.app_of(herald_core::ids::NotificationId(Uuid::now_v7())).await.unwrap(), None);
}

pub async fn the_schema_is_checked_and_migrating_again_is_harmless(store: Store) {
    store.check_schema().await.unwrap();
    store.migrate().await.unwrap();
    store.check_schema().await.unwrap();
    store.ping().await.unwrap();
    store.close().await;
    let closed = store.ping().await.unwrap_err();
    assert!(closed.is_transient());
}
