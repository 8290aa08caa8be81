//! Receipts and withdrawals.

use herald_core::delivery::State;
use herald_core::event::OutboxEvent;
use herald_core::ids::{AppId, DeliveryId, NotificationId, Unsid};
use herald_core::notification::Notification;
use tokio::task::JoinSet;

use super::{
    DELAY, LONG, Uuid, app, claim, due, ending, event, only, phone, record_one, request, states, store_one, taken,
    told, watching,
};
use crate::{By, Closed, Receipt, ReceiptResult, Store, Taken, Teller};

fn of(delivery: DeliveryId) -> Receipt {
    Receipt { by: By::Delivery(delivery), received_at: None }
}

fn pair(notification: NotificationId, unsid: Unsid, app: Option<AppId>) -> Receipt {
    Receipt {
        by: By::Pair { notification, unsid, apps: app.map(|app| std::sync::Arc::from([app])), user: None },
        received_at: None,
    }
}

async fn one(store: &Store, receipt: Receipt) -> ReceiptResult {
    store.receipts(&[receipt]).await.unwrap().pop().unwrap()
}

/// A raw push that is watched for its receipt.
async fn watched(store: &Store, key: &str) -> Taken {
    let one = taken(store, "anna", key).await;
    assert!(record_one(store, watching(&one, one.taken_at.plus(DELAY))).await.applied);
    one
}

pub async fn a_receipt_closes_an_open_delivery_and_cancels_its_fallback(store: Store) {
    let raw = watched(&store, "1").await;
    let ReceiptResult::Closed(closed) = one(&store, of(raw.delivery.id)).await else { panic!("it was open") };
    assert_eq!((closed.had, closed.state, closed.fallback_pending), (State::Watching, State::Received, true));
    assert_eq!((closed.app.clone(), closed.notification), (app(), raw.notification.id));
    assert_eq!(closed.deadline_at, Some(raw.taken_at.plus(DELAY)));
    assert_eq!(closed.first_attempt_at, Some(raw.taken_at));
    assert_eq!(closed.took(), Some(closed.at.since(raw.taken_at)));
    let row = only(&store, raw.notification.id).await;
    assert_eq!((row.delivery.state, row.next_at, row.delivery.version), (State::Received, None, 3));
    assert_eq!((row.received_at, row.closed_at), (Some(closed.at), Some(closed.at)));
    assert_eq!(store.open_count(&app()).await.unwrap(), 0);
}

pub async fn a_receipt_during_a_push_refuses_the_record(store: Store) {
    let pushed = taken(&store, "anna", "1").await;
    let ReceiptResult::Closed(closed) = one(&store, of(pushed.delivery.id)).await else { panic!("it was open") };
    assert_eq!((closed.had, closed.took()), (State::Sending, None));
    let recorded = record_one(&store, watching(&pushed, pushed.taken_at.plus(DELAY))).await;
    assert_eq!((recorded.applied, recorded.state), (false, Some(State::Received)));
    assert_eq!(only(&store, pushed.notification.id).await.attempts.len(), 1);
    // Before any push, the hint that is on its way becomes stale.
    let (id, hint) = due(&store, "anna", "2").await;
    assert!(matches!(one(&store, of(hint.delivery)).await, ReceiptResult::Closed(_)));
    assert!(store.take(&[hint], LONG).await.unwrap().is_empty());
    assert_eq!(only(&store, id).await.delivery.state, State::Received);
}

pub async fn a_late_receipt_is_kept_on_the_closed_row(store: Store) {
    let toasted = taken(&store, "anna", "1").await;
    assert!(record_one(&store, ending(&toasted, State::Toasted)).await.applied);
    let closed_at = only(&store, toasted.notification.id).await.closed_at;
    let ReceiptResult::Late(late) = one(&store, of(toasted.delivery.id)).await else { panic!("it was closed") };
    assert_eq!((late.had, late.state, late.fallback_pending), (State::Toasted, State::Toasted, false));
    let row = only(&store, toasted.notification.id).await;
    assert_eq!((row.delivery.state, row.delivery.version), (State::Toasted, 2));
    assert_eq!((row.received_at, row.closed_at), (Some(late.at), closed_at));
    assert_eq!(one(&store, of(toasted.delivery.id)).await, ReceiptResult::Duplicate);
}

pub async fn a_receipt_twice_is_a_duplicate_also_in_one_batch(store: Store) {
    let raw = watched(&store, "1").await;
    let by_pair = pair(raw.notification.id, raw.subscription.id, None);
    let unknown = of(DeliveryId(Uuid::now_v7()));
    let batch = [of(raw.delivery.id), by_pair, unknown, of(raw.delivery.id)];
    let results = store.receipts(&batch).await.unwrap();
    assert!(matches!(results[0], ReceiptResult::Closed(_)));
    assert_eq!(results[1..], [ReceiptResult::Duplicate, ReceiptResult::Unknown, ReceiptResult::Duplicate]);
    let before = only(&store, raw.notification.id).await;
    assert_eq!(one(&store, of(raw.delivery.id)).await, ReceiptResult::Duplicate);
    assert_eq!(only(&store, raw.notification.id).await, before);
}

pub async fn a_pair_names_a_delivery_of_its_app_only(store: Store) {
    let raw = watched(&store, "1").await;
    let (id, unsid) = (raw.notification.id, raw.subscription.id);
    let batch = [
        pair(id, unsid, Some(AppId::new("other.contoso.com"))),
        pair(id, Unsid(Uuid::now_v7()), Some(app())),
        pair(NotificationId(Uuid::now_v7()), unsid, None),
    ];
    assert_eq!(
        store.receipts(&batch).await.unwrap(),
        [ReceiptResult::Unknown, ReceiptResult::Unknown, ReceiptResult::Unknown]
    );
    assert_eq!(only(&store, id).await.delivery.state, State::Watching);
    assert!(matches!(one(&store, pair(id, unsid, Some(app()))).await, ReceiptResult::Closed(_)));
}

pub async fn one_phones_receipt_says_nothing_about_another(store: Store) {
    for token in ["1", "2"] {
        store.subscribe(phone("anna", token)).await.unwrap();
    }
    let stored = store_one(&store, request("anna", "1"), 2, LONG).await;
    assert!(matches!(one(&store, of(stored.taken[0].delivery.id)).await, ReceiptResult::Closed(_)));
    assert_eq!(states(&store, stored.id).await, [("received", 1), ("sending", 1)].into());
}

pub async fn a_receipt_and_a_take_at_once_end_received(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    let batch = (0..100).map(|key| request("anna", &key.to_string())).collect();
    assert_eq!(store.intake(batch, 0, LONG, super::to_each).await.unwrap().len(), 100);
    let hints = claim(&store, LONG).await;
    let receipts: Vec<_> = hints.iter().rev().map(|hint| of(hint.delivery)).collect();
    let mut both = JoinSet::new();
    both.spawn({
        let store = store.clone();
        async move {
            let taken = store.take(&hints, LONG).await.unwrap();
            // Whatever was taken before its receipt: its record comes too late.
            let _recorded = store.record(&taken.iter().map(|t| ending(t, State::Accepted)).collect::<Vec<_>>()).await;
        }
    });
    both.spawn({
        let store = store.clone();
        async move {
            assert_eq!(store.receipts(&receipts).await.unwrap().len(), 100);
        }
    });
    while let Some(done) = both.join_next().await {
        done.unwrap();
    }
    assert_eq!(store.open_count(&app()).await.unwrap(), 0);
}

pub async fn the_apps_own_time_is_kept_but_never_the_future(store: Store) {
    let at = |offset: i64| {
        let now = store.clock().now();
        if offset < 0 { now.minus(LONG) } else { now.plus(LONG) }
    };
    let (past, future) = (at(-1), at(1));
    let first = watched(&store, "1").await;
    let second = watched(&store, "2").await;
    let receipt = |taken: &Taken, received_at| Receipt { received_at: Some(received_at), ..of(taken.delivery.id) };
    store.receipts(&[receipt(&first, past), receipt(&second, future)]).await.unwrap();
    assert_eq!(only(&store, first.notification.id).await.received_at, Some(past));
    let kept = only(&store, second.notification.id).await;
    assert_eq!(kept.received_at, kept.closed_at);
}

pub async fn withdrawing_closes_all_open_deliveries_once(store: Store) {
    for token in ["1", "2", "3"] {
        store.subscribe(phone("anna", token)).await.unwrap();
    }
    let stored = store_one(&store, request("anna", "1"), 2, LONG).await;
    assert!(record_one(&store, ending(&stored.taken[0], State::Accepted)).await.applied);
    let elsewhere = AppId::new("other.contoso.com");
    assert!(store.withdraw(&elsewhere, stored.id).await.unwrap().is_empty());
    let mut had: Vec<_> = store.withdraw(&app(), stored.id).await.unwrap().iter().map(|c| c.had.as_str()).collect();
    had.sort_unstable();
    assert_eq!(had, ["due", "sending"]);
    assert!(store.withdraw(&app(), stored.id).await.unwrap().is_empty());
    assert_eq!(states(&store, stored.id).await, [("accepted", 1), ("withdrawn", 2)].into());
}

pub async fn receipts_and_withdrawals_are_told_in_the_same_transaction(store: Store) {
    let tell = |closed: &Closed, notification: &Notification| -> Vec<OutboxEvent> {
        let key = notification.content.app_notification_id.as_deref().unwrap();
        vec![event(&format!("{}-{key}", closed.state.as_str()))]
    };
    let store = store.with_teller(Teller::new(|wants| *wants == app(), tell));
    let raw = watched(&store, "1").await;
    let read = watched(&store, "2").await;
    store.receipts(&[of(raw.delivery.id), of(raw.delivery.id)]).await.unwrap();
    store.withdraw(&app(), read.notification.id).await.unwrap();
    assert_eq!(told(&store).await, ["received-1.mail.contoso.com", "withdrawn-2.mail.contoso.com"]);
    // An app that wants nothing is told nothing.
    let silent = store.with_teller(Teller::new(|_| false, |_, _| panic!("nobody asked")));
    let raw = watched(&silent, "3").await;
    silent.receipts(&[of(raw.delivery.id)]).await.unwrap();
    assert_eq!(told(&silent).await.len(), 2);
}
