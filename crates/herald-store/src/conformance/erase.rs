//! Erasure.

use herald_core::event::{Subject, Tell, cloud_event};
use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::lane::DispatchQueue;
use herald_core::request::Target;
use herald_core::time::Timestamp;

use super::rest::letter;
use super::{
    LONG, OVER, State, Uuid, app, due, ending, gone, letters, phone, record_one, request, store_one, taken, user,
};
use crate::{DeadLetter, Erased, FANOUT_LIMIT, Intaken, NewSubscription, Store};

fn told(user: Option<&UserId>, unsid: Option<Unsid>, n: u128) -> herald_core::event::OutboxEvent {
    let subject = Subject {
        user_id: user,
        user_notification_subscription_id: unsid,
        dead_letter_id: Some(Uuid::from_u128(n)),
        ..Subject::default()
    };
    cloud_event(Tell::Gone, &app(), &subject, Timestamp::from_secs(0), (None, None))
}

fn parked(n: u128, of: &AppId, target: &str) -> DeadLetter {
    let body = format!(r#"{{"targetHostName":"mail.contoso.com","target":{target}}}"#).into_bytes();
    DeadLetter { app: Some(of.clone()), body, ..letter(n) }
}

pub async fn all_of_a_user_goes_and_nothing_of_another(store: Store) {
    let (anna, other) = (user("anna"), AppId::new("other.contoso.com"));
    let ended = store.subscribe(phone("anna", "old")).await.unwrap();
    assert!(store.end(ended.id).await.unwrap());
    let (notification, hint) = due(&store, "anna", "1").await;
    let (bens, _) = due(&store, "ben", "1").await;
    let elsewhere = NewSubscription { app: other.clone(), ..phone("anna", "a") };
    let elsewhere = store.subscribe(elsewhere).await.unwrap();
    let mut scheduled = request("anna", "2");
    scheduled.request.deliver_at = Some(Timestamp::from_secs(3_900_000_000));
    store_one(&store, scheduled, 0, LONG).await;
    let unsid = format!(r#"{{"userNotificationSubscriptionId":"{}"}}"#, ended.id);
    let dead = [
        parked(1, &app(), r#"{"userId":"anna"}"#),
        parked(2, &app(), &unsid),
        parked(3, &app(), r#"{"userId":"ben"}"#),
        parked(4, &other, r#"{"userId":"anna"}"#),
        letter(5),
    ];
    let ben = user("ben");
    let events = [told(Some(&anna), None, 1), told(None, Some(ended.id), 2), told(Some(&ben), None, 3)];
    store.dead_insert(&dead, &events).await.unwrap();

    let erased = store.erase(&app(), &anna).await.unwrap();
    assert_eq!(erased, Erased { notifications: 2, deliveries: 1, subscriptions: 2, events: 2, dead_letters: 2 });
    assert_eq!(store.trace(&app(), notification).await.unwrap(), None);
    assert!(store.take(&[hint], LONG).await.unwrap().is_empty());
    // The old id names nobody from now on.
    let mut by_id = request("anna", "3");
    by_id.request.target = Target::Unsid(ended.id);
    let intaken = store.intake(vec![by_id], 0, LONG, super::to_each).await.unwrap();
    assert!(matches!(intaken[..], [Intaken::UnknownTarget]), "{intaken:?}");
    // Everything else is as it was.
    assert!(store.trace(&app(), bens).await.unwrap().is_some());
    assert!(store.subscription(elsewhere.id).await.unwrap().unwrap().active);
    let mut left: Vec<u128> = letters(&store).await.iter().map(|letter| letter.id.as_u128()).collect();
    left.sort_unstable();
    assert_eq!(left, [3, 4, 5]);
    assert_eq!(store.outbox_claim(10, OVER).await.unwrap().len(), 1);
    assert_eq!(store.erase(&app(), &anna).await.unwrap(), Erased::default());
}

pub async fn a_push_under_way_records_nothing_of_a_user_who_was_erased(store: Store) {
    let pushing = taken(&store, "anna", "1").await;
    let refused = taken(&store, "anna", "2").await;
    assert_eq!(store.erase(&app(), &user("anna")).await.unwrap().deliveries, 2);
    for record in [ending(&pushing, State::Accepted), gone(&refused)] {
        let recorded = record_one(&store, record).await;
        assert_eq!((recorded.applied, recorded.pruned, recorded.state), (false, false, None));
    }
    assert!(super::told(&store).await.is_empty());
    let receipt = crate::Receipt { by: crate::By::Delivery(pushing.delivery.id), received_at: None };
    assert_eq!(store.receipts(&[receipt]).await.unwrap(), [crate::ReceiptResult::Unknown]);
    assert_eq!(store.erase(&app(), &user("anna")).await.unwrap(), Erased::default());
}

pub async fn a_fanout_under_way_is_stopped_and_much_goes_in_steps(store: Store) {
    let devices = FANOUT_LIMIT + 500;
    let new: Vec<_> = (0..devices).map(|n| phone("anna", &n.to_string())).collect();
    store.subscribe_many(&new).await.unwrap();
    let stored = store_one(&store, request("anna", "1"), 0, LONG).await;
    assert!(stored.deferred);
    let claimed = store.claim_fanout(10, LONG).await.unwrap();
    assert_eq!(claimed.len(), 1);
    store.expand(stored.id, FANOUT_LIMIT, LONG, super::to_each).await.unwrap();
    let erased = store.erase(&app(), &user("anna")).await.unwrap();
    assert_eq!((erased.notifications, erased.deliveries), (1, FANOUT_LIMIT as u64));
    assert_eq!(erased.subscriptions, devices as u64);
    // The worker that had claimed it finds nothing, and nothing is due.
    let over = store.expand(stored.id, FANOUT_LIMIT, LONG, super::to_each).await.unwrap();
    assert!(matches!(over, crate::Expanded::Stale), "{over:?}");
    assert!(store.due(DispatchQueue::High, 10, LONG).await.unwrap().is_empty());
    assert!(store.claim_fanout(10, OVER).await.unwrap().is_empty());
}

pub async fn erasing_beside_workers_ends_without_a_fault(store: Store) {
    for key in 0..40 {
        due(&store, "anna", &key.to_string()).await;
    }
    let (worker, eraser) = (store.clone(), store.clone());
    let working = async move {
        loop {
            let hints = worker.due(DispatchQueue::High, 7, OVER).await.unwrap();
            let taken = worker.take(&hints, LONG).await.unwrap();
            if hints.is_empty() {
                break;
            }
            let records: Vec<_> = taken.iter().rev().map(|taken| ending(taken, State::Accepted)).collect();
            worker.record(&records).await.unwrap();
        }
    };
    let erasing = async move { eraser.erase(&app(), &user("anna")).await.unwrap() };
    let ((), erased) = tokio::join!(working, erasing);
    assert_eq!((erased.notifications, erased.deliveries, erased.subscriptions), (40, 40, 1));
}
