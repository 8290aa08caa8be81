//! Notifications that are due themselves.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::NotificationId;
use tokio::task::JoinSet;

use super::rest::letter;
use super::{LONG, OVER, app, claim, event, phone, request, store_one, to_each, told, trace};
use crate::{DeadLetter, Expanded, NewNotification, Resolved, Store};

/// Claims what is due itself.
async fn claim_fanout(store: &Store) -> Vec<NotificationId> {
    store.claim_fanout(10, LONG).await.unwrap().into_iter().map(|claimed| claimed.notification).collect()
}

/// 2,500 subscriptions of one user and a notification to all of them.
async fn wide(store: &Store) -> NotificationId {
    let phones: Vec<_> = (0..2_500).map(|n| phone("everyone", &n.to_string())).collect();
    store.subscribe_many(&phones).await.unwrap();
    let stored = store_one(store, request("everyone", "1"), 9, LONG).await;
    assert!(stored.deferred && stored.taken.is_empty() && stored.due.is_empty());
    stored.id
}

pub async fn a_wide_fanout_is_made_by_pages_and_survives_a_crash_between_them(store: Store) {
    let id = wide(&store).await;
    assert!(claim(&store, LONG).await.is_empty());
    assert_eq!(claim_fanout(&store).await, [id]);
    assert!(claim_fanout(&store).await.is_empty(), "it is held");
    // One page, its hold over at once: the worker dies here. Another one goes on.
    assert_eq!(store.expand(id, 1_000, OVER, to_each).await.unwrap(), Expanded::More(1_000));
    assert_eq!(claim_fanout(&store).await, [id]);
    assert_eq!(store.expand(id, 1_000, LONG, to_each).await.unwrap(), Expanded::More(1_000));
    assert_eq!(store.expand(id, 1_000, LONG, to_each).await.unwrap(), Expanded::Done(500));
    assert_eq!(store.expand(id, 1_000, LONG, to_each).await.unwrap(), Expanded::Stale);
    assert!(claim_fanout(&store).await.is_empty());

    let hints = claim(&store, LONG).await;
    assert_eq!(hints.len(), 2_500);
    let taken = store.take(&hints, LONG).await.unwrap();
    assert_eq!(taken.iter().map(|t| t.subscription.id).collect::<HashSet<_>>().len(), 2_500);
    assert!(taken.iter().all(|t| t.was == State::Due && t.notification.id == id));
}

pub async fn a_scheduled_send_is_resolved_at_its_time(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    let mut later = request("anna", "later");
    later.request.deliver_at = Some(store.clock().now().plus(LONG));
    assert!(store_one(&store, later, 9, LONG).await.deferred);
    let mut soon = request("anna", "soon");
    let deliver_at = store.clock().now().plus(Duration::from_millis(300));
    soon.request.deliver_at = Some(deliver_at);
    let soon = store_one(&store, soon, 9, LONG).await;
    assert!(soon.deferred);
    assert_eq!(trace(&store, soon.id).await.next_at, Some(deliver_at));
    let claimed = loop {
        let claimed = claim_fanout(&store).await;
        if !claimed.is_empty() {
            break claimed;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(claimed, [soon.id]);
    assert!(store.clock().now().plus(Duration::from_millis(100)) > deliver_at, "not before its time");
    let resolve = move |new: &NewNotification, user: &_, all: &[_], now| {
        assert_eq!((new.request.key.as_str(), new.request.deliver_at), ("soon", Some(deliver_at)));
        assert_eq!(new.request.content, request("anna", "soon").request.content);
        to_each(new, user, all, now)
    };
    assert_eq!(store.expand(soon.id, 1_000, LONG, resolve).await.unwrap(), Expanded::Done(1));
    // A time that has passed is now.
    let mut past = request("anna", "past");
    past.request.deliver_at = Some(store.clock().now().minus(LONG));
    assert_eq!(store_one(&store, past, 9, LONG).await.taken.len(), 1);
    // A user with no device by then is told of once.
    let mut nobody = request("nobody", "1");
    nobody.request.deliver_at = Some(store.clock().now().plus(LONG));
    let nobody = store_one(&store, nobody, 9, LONG).await;
    let none = |_: &NewNotification, _: &_, all: &[_], _| {
        assert!(all.is_empty());
        Resolved { deliveries: Vec::new(), events: vec![event("noDevices")] }
    };
    assert_eq!(store.expand(nobody.id, 1_000, LONG, none).await.unwrap(), Expanded::Done(0));
    assert_eq!(told(&store).await, ["noDevices.mail.contoso.com"]);
}

pub async fn a_withdrawn_fanout_makes_no_more_deliveries(store: Store) {
    let id = wide(&store).await;
    assert_eq!(store.expand(id, 1_000, OVER, to_each).await.unwrap(), Expanded::More(1_000));
    assert_eq!(store.withdraw(&app(), id).await.unwrap().len(), 1_000);
    assert_eq!(store.expand(id, 1_000, LONG, to_each).await.unwrap(), Expanded::Stale);
    assert!(claim_fanout(&store).await.is_empty());
    assert_eq!(store.open_count(&app()).await.unwrap(), 0);
}

pub async fn an_expired_fanout_makes_none(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    let mut new = request("anna", "1");
    new.request.deliver_at = Some(store.clock().now().plus(LONG));
    new.request.expires_at = store.clock().now();
    let stored = store_one(&store, new, 9, LONG).await;
    let never = |_: &NewNotification, _: &_, _: &[_], _| panic!("it expired");
    assert_eq!(store.expand(stored.id, 1_000, LONG, never).await.unwrap(), Expanded::Expired);
    assert_eq!(store.expand(stored.id, 1_000, LONG, to_each).await.unwrap(), Expanded::Stale);
}

pub async fn two_replicas_never_make_the_same_page(store: Store) {
    let id = wide(&store).await;
    let mut replicas = JoinSet::new();
    let last_made = Arc::new(AtomicBool::new(false));
    for _ in 0..3 {
        let (store, last_made) = (store.clone(), last_made.clone());
        replicas.spawn(async move {
            let mut made = 0;
            // A page that another replica is at is stale for this one, however often it asks.
            while !last_made.load(Ordering::Relaxed) {
                match store.expand(id, 100, LONG, to_each).await.unwrap() {
                    Expanded::More(n) => made += n,
                    Expanded::Done(n) => {
                        made += n;
                        last_made.store(true, Ordering::Relaxed);
                    }
                    Expanded::Stale | Expanded::Expired => {}
                }
            }
            made
        });
    }
    let mut made = 0;
    while let Some(mine) = replicas.join_next().await {
        made += mine.unwrap();
    }
    assert_eq!(made, 2_500);
    assert_eq!(store.open_count(&app()).await.unwrap(), 2_500);
}

pub async fn claims_are_counted_until_a_page_is_made(store: Store) {
    let id = wide(&store).await;
    let claims = async || {
        let claimed = store.claim_fanout(10, OVER).await.unwrap();
        assert_eq!(claimed.len(), 1);
        claimed[0].claims
    };
    assert_eq!((claims().await, claims().await, claims().await), (1, 2, 3));
    assert_eq!(store.expand(id, 1_000, OVER, to_each).await.unwrap(), Expanded::More(1_000));
    assert_eq!((claims().await, claims().await), (1, 2));
}

pub async fn a_fanout_that_is_given_up_is_a_dead_letter_and_what_was_made_of_it_goes_on(store: Store) {
    let parked = |new: NewNotification, now| {
        let (key, event) = (new.request.key.clone(), event(&new.request.key));
        (DeadLetter { id: new.id.0, parked_at: now, message_id: Some(key), ..letter(1) }, vec![event])
    };
    let id = wide(&store).await;
    assert_eq!(store.expand(id, 1_000, OVER, to_each).await.unwrap(), Expanded::More(1_000));
    assert!(store.park_fanout(id, parked).await.unwrap());
    assert!(!store.park_fanout(id, parked).await.unwrap(), "once");
    assert_eq!(store.expand(id, 1_000, OVER, to_each).await.unwrap(), Expanded::Stale);
    assert_eq!(trace(&store, id).await.deliveries.len(), 1_000);

    // Nothing was made of this one: it can be asked for again.
    let again = request("everyone", "2");
    let other = store_one(&store, again.clone(), 9, LONG).await;
    assert!(store.park_fanout(other.id, parked).await.unwrap());
    assert!(store.trace(&app(), other.id).await.unwrap().is_none());
    assert!(store_one(&store, again, 9, LONG).await.deferred);

    assert_eq!(told(&store).await, ["1.mail.contoso.com", "2.mail.contoso.com"]);
    let letters = [store.dead_letter(id.0).await.unwrap(), store.dead_letter(other.id.0).await.unwrap()];
    let keys: Vec<_> = letters.into_iter().map(|letter| letter.unwrap().message_id.unwrap()).collect();
    assert_eq!(keys, ["1", "2"]);
}
