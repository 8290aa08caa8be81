//! Sweep.

use herald_core::delivery::State;

use super::{LONG, OVER, app, due, ending, event, phone, record_one, request, states, store_one, told, trace, user};
use crate::{Store, Swept, Teller};

pub async fn open_deliveries_of_expired_notifications_are_closed_then_deleted(store: Store) {
    let store = store.with_teller(Teller::new(|_| true, |closed, _| vec![event(closed.state.as_str())]));
    for token in ["1", "2"] {
        store.subscribe(phone("anna", token)).await.unwrap();
    }
    let mut new = request("anna", "1");
    new.request.expires_at = store.clock().now();
    let stored = store_one(&store, new, 1, LONG).await;
    assert!(record_one(&store, ending(&stored.taken[0], State::Accepted)).await.applied);
    let (alive, _) = due(&store, "ben", "2").await;

    let swept = store.sweep(100, LONG).await.unwrap();
    assert_eq!((swept.notifications_expired, swept.notifications_deleted, swept.more), (1, 0, false));
    assert_eq!(swept.expired.len(), 1);
    assert_eq!((swept.expired[0].had, swept.expired[0].state), (State::Due, State::Expired));
    assert_eq!(states(&store, stored.id).await, [("accepted", 1), ("expired", 1)].into());
    assert_eq!(told(&store).await, ["expired.mail.contoso.com"]);
    assert_eq!(store.sweep(100, LONG).await.unwrap(), Swept::default(), "it is done once");

    let swept = store.sweep(100, OVER).await.unwrap();
    assert_eq!(swept.notifications_deleted, 1);
    assert_eq!(store.trace(&app(), stored.id).await.unwrap(), None);
    assert_eq!(store.open_count(&app()).await.unwrap(), 1);
    assert_eq!(trace(&store, alive).await.deliveries.len(), 1);
    // Its key is free again, and its deliveries are gone: a hint or receipt for one finds nothing.
    assert_eq!(store.notification_by_key(&app(), &user("anna"), "1").await.unwrap(), None);
    assert!(store.take(&stored.due, LONG).await.unwrap().is_empty());
}

pub async fn sweeping_is_done_in_steps(store: Store) {
    for key in ["1", "2", "3"] {
        let mut new = request("anna", key);
        new.request.expires_at = store.clock().now();
        store_one(&store, new, 1, LONG).await;
    }
    let first = store.sweep(2, LONG).await.unwrap();
    assert_eq!((first.notifications_expired, first.more), (2, true));
    let second = store.sweep(2, LONG).await.unwrap();
    assert_eq!((second.notifications_expired, second.more), (1, false));
    let third = store.sweep(2, OVER).await.unwrap();
    assert_eq!((third.notifications_deleted, third.more), (2, true));
}

pub async fn unrenewed_subscriptions_end_when_they_expire(store: Store) {
    let mut past = phone("anna", "a");
    past.expires_at = store.clock().now();
    let past = store.subscribe(past).await.unwrap();
    let swept = store.sweep(100, LONG).await.unwrap();
    assert_eq!((swept.subscriptions_expired, swept.subscriptions_deleted), (1, 0));
    let known = store.subscription(past.id).await.unwrap().unwrap();
    assert_eq!((known.active, known.subscription.user), (false, user("anna")), "it still names its user");
    // The token is free: the same phone registers anew.
    assert_ne!(store.subscribe(phone("anna", "a")).await.unwrap().id, past.id);
}
