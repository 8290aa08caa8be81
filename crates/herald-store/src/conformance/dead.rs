//! Choosing among dead letters, and what happens when one is replayed and parked again.

use herald_core::ids::AppId;
use herald_core::time::Timestamp;

use super::{Uuid, app};
use crate::{DeadFilter, DeadKey, DeadLetter, DeadPage, OfApp, Store};

/// The n-th; three share each second.
fn letter(n: u128) -> DeadLetter {
    let of = |every: u128, one: &str, other: &str| if n.is_multiple_of(every) { one } else { other }.to_owned();
    DeadLetter {
        id: Uuid::from_u128(n),
        source_queue: of(4, "herald.receipts", "herald.requests.high"),
        reason_code: of(3, "poison", "invalid_request"),
        field: "target".to_owned(),
        problem: "is missing".to_owned(),
        fix: "give it".to_owned(),
        app: n.is_multiple_of(2).then(app),
        message_id: Some(n.to_string()),
        headers: "{}".to_owned(),
        body: vec![7; usize::try_from(n).unwrap()],
        parked_at: second(n / 3),
    }
}

fn second(n: u128) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + i64::try_from(n).unwrap())
}

const NEWEST: DeadPage = DeadPage::NewestBefore(None);

async fn twelve(store: &Store) {
    let letters: Vec<DeadLetter> = (1..=12).map(letter).collect();
    assert_eq!(store.dead_insert(&letters, &[]).await.unwrap(), 12);
}

pub async fn dead_letters_are_chosen_by_reason_app_queue_and_time(store: Store) {
    twelve(&store).await;
    let check = async |filter: DeadFilter, expected: &[u128]| {
        let expected: Vec<u128> = expected.to_vec();
        let found = store.dead_page(&filter, NEWEST, 100).await.unwrap();
        let ids: Vec<u128> = found.iter().map(|entry| entry.key.id.as_u128()).collect();
        assert_eq!(ids, expected, "{filter:?}");
        assert_eq!(store.dead_matching(&filter).await.unwrap(), expected.len() as u64, "{filter:?}");
    };
    let any = DeadFilter::default;
    check(any(), &[12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]).await;
    check(DeadFilter { reason: Some("poison".to_owned()), ..any() }, &[12, 9, 6, 3]).await;
    check(DeadFilter { reason: Some("poiso".to_owned()), ..any() }, &[]).await;
    check(DeadFilter { queue: Some("herald.receipts".to_owned()), ..any() }, &[12, 8, 4]).await;
    check(DeadFilter { app: OfApp::Named(app()), ..any() }, &[12, 10, 8, 6, 4, 2]).await;
    check(DeadFilter { app: OfApp::Named(AppId::new("other.contoso.com")), ..any() }, &[]).await;
    check(DeadFilter { app: OfApp::Unknown, ..any() }, &[11, 9, 7, 5, 3, 1]).await;
    // From its first moment on, up to but without its last.
    check(DeadFilter { since: Some(second(3)), ..any() }, &[12, 11, 10, 9]).await;
    check(DeadFilter { until: Some(second(3)), ..any() }, &[8, 7, 6, 5, 4, 3, 2, 1]).await;
    check(DeadFilter { since: Some(second(1)), until: Some(second(2)), ..any() }, &[5, 4, 3]).await;
    let all = DeadFilter {
        reason: Some("poison".to_owned()),
        queue: Some("herald.requests.high".to_owned()),
        app: OfApp::Unknown,
        since: Some(second(1)),
        until: Some(second(3)),
    };
    check(all, &[3]).await;
    let entry = store.dead_page(&any(), NEWEST, 1).await.unwrap().remove(0);
    assert_eq!(entry, letter(12).entry());
    assert_eq!(entry.body_bytes, 12);
}

pub async fn pages_meet_each_dead_letter_once_in_either_order(store: Store) {
    twelve(&store).await;
    let filter = DeadFilter { since: Some(second(1)), ..DeadFilter::default() };
    for newest in [true, false] {
        let (mut met, mut last) = (Vec::new(), None::<DeadKey>);
        loop {
            let page = if newest { DeadPage::NewestBefore(last) } else { DeadPage::OldestAfter(last) };
            let found = store.dead_page(&filter, page, 4).await.unwrap();
            let Some(entry) = found.last() else { break };
            last = Some(entry.key);
            met.extend(found.iter().map(|entry| entry.key.id.as_u128()));
        }
        let mut expected: Vec<u128> = (3..=12).collect();
        if newest {
            expected.reverse();
        }
        assert_eq!(met, expected);
    }
    assert!(store.dead_page(&filter, NEWEST, 0).await.unwrap().is_empty());
}

pub async fn what_is_parked_again_takes_the_place_of_the_former_and_is_not_removed_with_it(store: Store) {
    let former = letter(1);
    let again = DeadLetter { parked_at: second(100), reason_code: "unknown_target".to_owned(), ..letter(1) };
    store.dead_insert(std::slice::from_ref(&former), &[]).await.unwrap();
    // Drained twice at once, as after a lost ack.
    store.dead_insert(&[again.clone(), former.clone(), again.clone()], &[]).await.unwrap();
    store.dead_insert(std::slice::from_ref(&again), &[]).await.unwrap();
    assert_eq!(store.dead_letter(former.id).await.unwrap(), Some(again.clone()));
    assert_eq!(store.dead_remove(&[former.entry().key]).await.unwrap(), 0, "what was replayed is there no more");
    assert_eq!(store.dead_remove(&[again.entry().key]).await.unwrap(), 1);
    assert_eq!(store.dead_matching(&DeadFilter::default()).await.unwrap(), 0);
}
