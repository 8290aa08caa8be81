//! Due.

use std::collections::HashSet;

use herald_core::lane::{DispatchQueue, Lane};
use tokio::task::JoinSet;

use super::{LONG, OVER, State, claim, due, only, phone, request, store_one};
use crate::Store;

pub async fn due_rows_are_claimed_oldest_first_and_held(store: Store) {
    let mut hints = Vec::new();
    for key in ["1", "2", "3"] {
        hints.push(due(&store, "anna", key).await.1);
    }
    assert_eq!(store.due(DispatchQueue::High, 2, LONG).await.unwrap(), hints[..2]);
    assert_eq!(claim(&store, LONG).await, hints[2..]);
    assert!(claim(&store, LONG).await.is_empty(), "all are held");
}

pub async fn a_held_row_comes_up_again_at_the_same_version(store: Store) {
    let (id, hint) = due(&store, "anna", "1").await;
    assert_eq!(claim(&store, OVER).await, [hint]);
    assert_eq!(claim(&store, OVER).await, [hint], "its hold is over, its version is the same");
    let row = only(&store, id).await;
    assert_eq!((row.delivery.version, row.delivery.takes, row.delivery.state), (1, 0, State::Due));
}

pub async fn undue_makes_a_claim_due_at_once_unless_it_was_taken(store: Store) {
    let (_, first) = due(&store, "anna", "1").await;
    let (_, second) = due(&store, "anna", "2").await;
    let claimed = claim(&store, LONG).await;
    assert_eq!(claimed.len(), 2);
    assert_eq!(store.take(&[second], LONG).await.unwrap().len(), 1);
    assert_eq!(store.undue(&claimed).await.unwrap(), 1);
    assert_eq!(claim(&store, LONG).await, [first], "the taken one keeps its lease");
}

pub async fn queues_are_served_apart(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    for (lane, queue) in
        [(Lane::High, DispatchQueue::High), (Lane::Normal, DispatchQueue::Normal), (Lane::Low, DispatchQueue::Low)]
    {
        let mut new = request("anna", lane.as_str());
        new.request.lane = lane;
        let stored = store_one(&store, new, 0, LONG).await;
        let others = DispatchQueue::ALL.into_iter().filter(|q| *q != queue);
        for other in others {
            assert!(store.due(other, 10, LONG).await.unwrap().is_empty(), "{other} serves {lane}");
        }
        assert_eq!(store.due(queue, 10, LONG).await.unwrap(), stored.due);
    }
}

pub async fn concurrent_claims_never_share_a_row(store: Store) {
    store.subscribe(phone("anna", "a")).await.unwrap();
    let batch = (0..200).map(|key| request("anna", &key.to_string())).collect();
    assert_eq!(store.intake(batch, 0, LONG, super::to_each).await.unwrap().len(), 200);
    let mut claims = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        claims.spawn(async move {
            let mut mine = Vec::new();
            // Rows that another claim has locked are skipped, so an empty answer is not the end while others work.
            for _ in 0..20 {
                mine.extend(store.due(DispatchQueue::High, 30, LONG).await.unwrap());
            }
            mine
        });
    }
    let mut all = Vec::new();
    while let Some(mine) = claims.join_next().await {
        all.extend(mine.unwrap());
    }
    assert_eq!(all.len(), 200);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 200);
}
