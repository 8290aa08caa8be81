//! Lists, deltas and changes by users.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::{AppId, NotificationId, Unsid};
use herald_core::lane::DispatchQueue;
use herald_core::push::Form;
use herald_core::reading::{Change, Condition, Standing, UserAction};
use herald_core::subscription::{Platform, PlatformSet};
use tokio::task::JoinSet;

use super::{
    LONG, OVER, Uuid, app, ending, event, phone, record_one, request, states, store_one, take_due, to_each, told,
    trace, user,
};
use crate::{
    By, Changed, Changing, Delta, DeltaFrom, Entries, Entry, EntryFilter, Expanded, Mark, Receipt, ReceiptResult,
    Store, Teller,
};

const READ: Change = Change::Set { read: Some(true), action: None };
const UNREAD: Change = Change::Set { read: Some(false), action: None };

const fn acted(action: UserAction) -> Change {
    Change::Set { read: None, action: Some(action) }
}

fn changing(id: NotificationId, change: Change, by: Option<Unsid>) -> Changing {
    Changing { app: app(), user: user("anna"), notification: id, change, condition: Condition::Any, by }
}

/// A change that is done: how it is now, how many deliveries were withdrawn, how many devices are told.
async fn done(store: &Store, changing: Changing) -> (Entry, usize, usize) {
    match store.change(changing).await.unwrap() {
        Changed::Done { entry, withdrawn, due } => (*entry, withdrawn.len(), due.len()),
        other => panic!("not done: {other:?}"),
    }
}

async fn put(store: &Store, key: &str) -> NotificationId {
    store_one(store, request("anna", key), 0, LONG).await.id
}

async fn list(store: &Store, filter: &EntryFilter, after: Option<NotificationId>, limit: usize) -> Entries {
    store.entries(&app(), &user("anna"), filter, after, limit).await.unwrap()
}

async fn ids(store: &Store, filter: &EntryFilter) -> Vec<NotificationId> {
    let ids: Vec<_> = list(store, filter, None, 100).await.entries.iter().map(|e| e.notification.id).collect();
    assert_eq!(store.count_entries(&app(), &user("anna"), filter).await.unwrap(), ids.len() as u64);
    ids
}

async fn delta(store: &Store, from: DeltaFrom, limit: usize) -> (Entries, Mark) {
    match store.delta(&app(), &user("anna"), from, limit).await.unwrap() {
        Delta::Page(page, mark) => (page, mark),
        Delta::UnknownMark => panic!("the mark is this store's"),
    }
}

fn since(mark: Mark) -> DeltaFrom {
    DeltaFrom { since: Some(mark), ..DeltaFrom::default() }
}

pub async fn a_list_is_of_one_user_newest_first_and_comes_in_pages(store: Store) {
    let mut all = Vec::new();
    for key in 0..5 {
        all.insert(0, put(&store, &key.to_string()).await);
    }
    store_one(&store, request("ben", "1"), 0, LONG).await;
    let mut elsewhere = request("anna", "1");
    elsewhere.request.app = AppId::new("other.contoso.com");
    store_one(&store, elsewhere, 0, LONG).await;
    let mut over = request("anna", "over");
    over.request.expires_at = store.clock().now();
    let over = store_one(&store, over, 0, LONG).await.id;

    assert_eq!(ids(&store, &EntryFilter::default()).await, all);
    let first = list(&store, &EntryFilter::default(), None, 3).await;
    assert!(first.more);
    let rest = list(&store, &EntryFilter::default(), Some(first.entries[2].notification.id), 3).await;
    assert!(!rest.more);
    let paged: Vec<_> = first.entries.iter().chain(&rest.entries).map(|entry| entry.notification.id).collect();
    assert_eq!(paged, all);
    assert!(!list(&store, &EntryFilter::default(), None, 5).await.more, "the last page is known as such");
    let entry = store.entry(&app(), &user("anna"), all[0]).await.unwrap().unwrap();
    assert_eq!(entry, first.entries[0]);
    assert_eq!((entry.standing, entry.modified_at), (Standing::default(), None));
    assert_eq!(entry.notification.content, request("anna", "4").request.content);
    for (app, user, id) in [
        (app(), user("ben"), all[0]),
        (AppId::new("other.contoso.com"), user("anna"), all[0]),
        (app(), user("anna"), over),
    ] {
        assert_eq!(store.entry(&app, &user, id).await.unwrap(), None);
    }
}

pub async fn filters_choose_by_state_action_group_and_tombstone(store: Store) {
    let mut grouped = Vec::new();
    for group in [None, Some("o'neil"), Some(r#"say "hi""#), Some("%_")] {
        let mut new = request("anna", &format!("{group:?}"));
        new.request.content.group_name = group.map(str::to_owned);
        grouped.push(store_one(&store, new, 0, LONG).await.id);
    }
    done(&store, changing(grouped[0], READ, None)).await;
    done(&store, changing(grouped[1], acted(UserAction::Snoozed), None)).await;
    done(&store, changing(grouped[2], READ, None)).await;
    done(&store, changing(grouped[2], Change::Delete, None)).await;
    let here = EntryFilter::default();
    for (filter, expected) in [
        (here.clone(), vec![3, 1, 0]),
        (EntryFilter { read: Some(true), ..here.clone() }, vec![0]),
        (EntryFilter { read: Some(false), ..here.clone() }, vec![3, 1]),
        (EntryFilter { action: Some(UserAction::Snoozed), ..here.clone() }, vec![1]),
        (EntryFilter { action: Some(UserAction::NoInteraction), ..here.clone() }, vec![3, 0]),
        (EntryFilter { group: Some("o'neil".to_owned()), ..here.clone() }, vec![1]),
        (EntryFilter { group: Some("%_".to_owned()), ..here.clone() }, vec![3]),
        (EntryFilter { group: Some("nul\0".to_owned()), ..here.clone() }, vec![]),
        (EntryFilter { group: Some("%_".to_owned()), read: Some(true), ..here.clone() }, vec![]),
        (EntryFilter { deleted: true, ..here.clone() }, vec![2]),
        (EntryFilter { deleted: true, group: Some(r#"say "hi""#.to_owned()), ..here.clone() }, vec![2]),
        (EntryFilter { deleted: true, read: Some(false), ..here }, vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|index: usize| grouped[index]).collect();
        assert_eq!(ids(&store, &filter).await, expected, "{filter:?}");
    }
}

pub async fn a_change_withdraws_what_is_still_to_be_pushed_and_tells_the_other_devices(store: Store) {
    let mut phones = Vec::new();
    for token in ["1", "2", "3"] {
        phones.push(store.subscribe(phone("anna", token)).await.unwrap().id);
    }
    let mut web = phone("anna", "4");
    web.platform = Platform::WebPush;
    store.subscribe(web).await.unwrap();
    store.subscribe(phone("ben", "5")).await.unwrap();
    let only_phones = |_: &_, _: &_, all: &[_], at| {
        let mut resolved = to_each(&request("anna", "1"), &user("anna"), all, at);
        resolved.deliveries.truncate(3);
        resolved
    };
    let id = match store.intake(vec![request("anna", "1")], 1, LONG, only_phones).await.unwrap().pop() {
        Some(crate::Intaken::Stored { notification, .. }) => notification.id,
        other => panic!("{other:?}"),
    };
    let (entry, withdrawn, told) = done(&store, changing(id, READ, Some(phones[0]))).await;
    assert_eq!((withdrawn, told), (3, 2), "the one that was being pushed too; not the one that did it");
    assert_eq!(entry.standing, Standing { read: true, revision: 1, ..Standing::default() });
    assert!(entry.modified_at.is_some());
    assert_eq!(store.entry(&app(), &user("anna"), id).await.unwrap(), Some(entry));
    let state_pushes: Vec<_> =
        trace(&store, id).await.deliveries.into_iter().filter(|d| d.delivery.form == Form::State).collect();
    assert_eq!(state_pushes.iter().map(|d| d.unsid).collect::<HashSet<_>>(), phones[1..].iter().copied().collect());
    for push in state_pushes {
        assert_eq!((push.delivery.state, push.queue), (State::Due, DispatchQueue::Normal));
        assert_eq!((push.delivery.fallback_delay, push.delivery.version), (None, 1));
    }
    // Taken back: they are told again, once those that wait are on their way.
    assert_eq!(done(&store, changing(id, UNREAD, None)).await.2, 1, "the first, which no push waits for");
    // What the target policy leaves out is not told.
    let mut android = request("anna", "android");
    android.request.content.target_policy = PlatformSet::EMPTY.with(Platform::Android);
    let android = store_one(&store, android, 0, LONG).await.id;
    assert_eq!(done(&store, changing(android, READ, None)).await.2, 0);
}

pub async fn what_changes_nothing_or_does_not_match_or_is_anothers_does_nothing(store: Store) {
    store.subscribe(phone("anna", "1")).await.unwrap();
    let id = put(&store, "1").await;
    let (entry, ..) = done(&store, changing(id, acted(UserAction::Dismissed), None)).await;
    let again = done(&store, changing(id, acted(UserAction::Dismissed), None)).await;
    assert_eq!(again, (entry.clone(), 0, 0));
    let at = |revisions: &[i32]| Condition::Revisions(revisions.to_vec());
    let with = |condition| Changing { condition, ..changing(id, READ, None) };
    assert_eq!(store.change(with(at(&[0]))).await.unwrap(), Changed::Mismatch);
    let elsewhere = Changing { app: AppId::new("other.contoso.com"), ..changing(id, READ, None) };
    assert_eq!(store.change(elsewhere).await.unwrap(), Changed::Unknown);
    let anothers = Changing { user: user("ben"), ..changing(id, Change::Delete, None) };
    assert_eq!(store.change(anothers).await.unwrap(), Changed::Unknown);
    let nothing = changing(NotificationId(Uuid::now_v7()), READ, None);
    assert_eq!(store.change(nothing).await.unwrap(), Changed::Unknown);
    let mut over = request("anna", "over");
    over.request.expires_at = store.clock().now();
    let over = store_one(&store, over, 0, LONG).await.id;
    assert_eq!(store.change(changing(over, READ, None)).await.unwrap(), Changed::Unknown);
    assert_eq!(store.entry(&app(), &user("anna"), id).await.unwrap(), Some(entry));
    assert_eq!(done(&store, with(at(&[7, 1]))).await.0.standing.revision, 2);
}

pub async fn of_a_deleted_notification_nothing_is_left_but_its_names_until_it_expires(store: Store) {
    store.subscribe(phone("anna", "1")).await.unwrap();
    let mut new = request("anna", "1");
    new.request.content.group_name = Some("orders".to_owned());
    let expires_at = store.clock().now().plus(Duration::from_secs(2));
    new.request.expires_at = expires_at;
    let stored = store_one(&store, new, 0, LONG).await;
    let (id, hint) = (stored.id, stored.due[0]);
    let (entry, withdrawn, told) = done(&store, changing(id, Change::Delete, None)).await;
    assert!(entry.standing.deleted);
    assert_eq!((withdrawn, told), (1, 1));
    assert_eq!(done(&store, changing(id, Change::Delete, None)).await, (entry.clone(), 0, 0));
    assert_eq!(store.change(changing(id, READ, None)).await.unwrap(), Changed::Unknown);
    let content = trace(&store, id).await.notification.content;
    assert_eq!((content.payload.raw, content.fallback), (None, None));
    assert_eq!(content.app_notification_id.as_deref(), Some("1"));
    assert_eq!(content.group_name.as_deref(), Some("orders"));
    // Its raw push is taken by nobody any more; the state push is.
    assert!(store.take(&[hint], LONG).await.unwrap().is_empty());
    let push = take_due(&store, DispatchQueue::Normal).await;
    assert_eq!((push.delivery.form, push.notification.id), (Form::State, id));
    assert!(record_one(&store, ending(&push, State::Accepted)).await.applied);
    // The same request again is no new notification.
    let again = store.intake(vec![request("anna", "1")], 0, LONG, to_each).await.unwrap();
    assert!(matches!(again[..], [crate::Intaken::Duplicate]));
    while store.clock().now() < expires_at.plus(Duration::from_millis(20)) {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.entry(&app(), &user("anna"), id).await.unwrap(), None);
    assert_eq!(store.change(changing(id, Change::Delete, None)).await.unwrap(), Changed::Unknown);
    assert_eq!(store.sweep(10, OVER).await.unwrap().notifications_deleted, 1);
}

pub async fn a_state_push_that_waits_says_it_all_and_one_that_is_under_way_does_not(store: Store) {
    let id = put(&store, "1").await;
    let phone = store.subscribe(phone("anna", "1")).await.unwrap().id;
    let told = async |change| done(&store, changing(id, change, None)).await.2;
    assert_eq!(told(READ).await, 1);
    assert_eq!(told(UNREAD).await, 0, "one waits");
    let push = take_due(&store, DispatchQueue::Normal).await;
    assert_eq!(push.subscription.id, phone);
    assert_eq!(told(READ).await, 1, "what is taken may have been fetched before this change");
    assert!(record_one(&store, ending(&push, State::Accepted)).await.applied);
    assert_eq!(told(UNREAD).await, 0);
}

pub async fn who_changes_a_notification_over_and_over_makes_no_push_of_each(store: Store) {
    let id = put(&store, "1").await;
    store.subscribe(phone("anna", "1")).await.unwrap();
    let mut told = 0;
    for change in [READ, UNREAD].into_iter().cycle().take(40) {
        let more = done(&store, changing(id, change, None)).await.2;
        if more == 1 {
            let push = take_due(&store, DispatchQueue::Normal).await;
            assert!(record_one(&store, ending(&push, State::Accepted)).await.applied);
        }
        told += more;
    }
    assert_eq!(told, 32);
}

pub async fn state_pushes_are_neither_withdrawn_nor_paired_but_expire_and_end_with_their_subscription(store: Store) {
    let tell =
        |closed: &crate::Closed, _: &_| vec![event(&format!("{}-{}", closed.state.as_str(), closed.form.as_str()))];
    let store = store.with_teller(Teller::new(|_| true, tell));
    let phone = store.subscribe(phone("anna", "1")).await.unwrap().id;
    let id = put(&store, "1").await;
    done(&store, changing(id, READ, None)).await;
    assert!(store.withdraw(&app(), id).await.unwrap().is_empty());
    assert_eq!(done(&store, changing(id, Change::Delete, None)).await.1, 0);
    let pair = Receipt { by: By::Pair { notification: id, unsid: phone, apps: None, user: None }, received_at: None };
    assert!(matches!(store.receipts(&[pair]).await.unwrap()[..], [ReceiptResult::Late(_)]));
    assert_eq!(states(&store, id).await, [("due", 1), ("withdrawn", 1)].into());
    assert!(store.end(phone).await.unwrap());
    assert_eq!(states(&store, id).await, [("withdrawn", 2)].into());
    assert_eq!(told(&store).await.last().map(String::as_str), Some("withdrawn-state.mail.contoso.com"));
}

pub async fn a_change_stops_a_fanout_and_taking_it_back_does_not(store: Store) {
    let phones: Vec<_> = (0..1_500).map(|n| phone("anna", &n.to_string())).collect();
    store.subscribe_many(&phones).await.unwrap();
    let wide = |key: &str| store_one(&store, request("anna", key), 0, LONG);
    let (read, snoozed) = (wide("read").await.id, wide("unread").await.id);
    assert_eq!(store.expand(read, 1_000, OVER, to_each).await.unwrap(), Expanded::More(1_000));
    let (_, withdrawn, told) = done(&store, changing(read, READ, None)).await;
    assert_eq!((withdrawn, told), (1_000, 1_000), "no more are told");
    assert_eq!(store.expand(read, 1_000, LONG, to_each).await.unwrap(), Expanded::Stale);
    done(&store, changing(snoozed, acted(UserAction::NoInteraction), None)).await;
    assert_eq!(store.expand(snoozed, 1_000, OVER, to_each).await.unwrap(), Expanded::More(1_000));
}

pub async fn a_delta_begins_with_all_and_goes_on_with_what_was_written(store: Store) {
    let mut all = Vec::new();
    for key in 0..5 {
        all.insert(0, put(&store, &key.to_string()).await);
    }
    done(&store, changing(all[4], Change::Delete, None)).await;
    // Pages; what is written between them is in the next delta, if it is on none of them.
    let (first, until) = delta(&store, DeltaFrom::default(), 2).await;
    assert!(first.more);
    let late = put(&store, "late").await;
    done(&store, changing(all[0], READ, None)).await;
    let after = first.entries.last().map(|entry| entry.notification.id);
    let (rest, mark) = delta(&store, DeltaFrom { since: None, until: Some(until), after }, 2).await;
    assert_eq!((rest.more, mark), (false, until));
    let paged: Vec<_> = first.entries.iter().chain(&rest.entries).map(|entry| entry.notification.id).collect();
    assert_eq!(paged, all[..4], "no tombstones: the client has nothing to delete");
    let (next, mark) = delta(&store, since(mark), 10).await;
    let written: BTreeSet<_> = next.entries.iter().map(|entry| entry.notification.id).collect();
    assert!(written.is_superset(&[late, all[0]].into()), "{written:?}");
    // Another user's changes are not told; a deletion is.
    store_one(&store, request("ben", "1"), 0, LONG).await;
    done(&store, changing(all[1], Change::Delete, None)).await;
    let (last, mark) = delta(&store, since(mark), 10).await;
    let removed: Vec<_> = last.entries.iter().filter(|entry| entry.standing.deleted).collect();
    assert!(removed.iter().any(|entry| entry.notification.id == all[1]), "{removed:?}");
    assert!(last.entries.iter().all(|entry| entry.notification.user == user("anna")));
    // From now on: nothing, until there is something.
    // It may tell again what was written while any transaction of the server runs that is older.
    let mut now = store.mark().await.unwrap();
    assert!(now.at >= mark.at);
    while !delta(&store, since(now), 10).await.0.entries.is_empty() {
        now = store.mark().await.unwrap();
    }
    put(&store, "news").await;
    assert_eq!(delta(&store, since(now), 10).await.0.entries.len(), 1);
}

pub async fn a_mark_of_another_store_or_of_the_future_is_unknown(store: Store) {
    let mark = store.mark().await.unwrap();
    let other = Mark { epoch: Uuid::now_v7(), ..mark };
    let (future, past) = (Mark { at: mark.at + 1_000_000, ..mark }, Mark { at: -1, ..mark });
    for wrong in [other, future, past] {
        for from in [since(wrong), DeltaFrom { until: Some(wrong), ..DeltaFrom::default() }] {
            let delta = store.delta(&app(), &user("anna"), from, 10).await.unwrap();
            assert_eq!(delta, Delta::UnknownMark, "{from:?}");
        }
    }
    assert!(delta(&store, since(mark), 10).await.0.entries.is_empty());
}

/// Writers at work while a client follows them: at the end it knows of every notification and every change.
pub async fn a_delta_misses_nothing_of_what_is_committed_meanwhile(store: Store) {
    const WRITERS: usize = 4;
    const EACH: usize = 40;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            let mut wrote = BTreeSet::new();
            for n in 0..EACH {
                let id = put(&store, &format!("{writer}-{n}")).await;
                if n % 3 > 0 {
                    let change = if n % 3 == 1 { READ } else { Change::Delete };
                    done(&store, changing(id, change, None)).await;
                }
                wrote.insert(id);
            }
            wrote
        });
    }
    let (mut mark, mut known) = (None, std::collections::BTreeMap::new());
    let mut wrote = BTreeSet::new();
    loop {
        let ended = writers.is_empty();
        let (mut after, mut until) = (None, None);
        loop {
            let (page, end) = delta(&store, DeltaFrom { since: mark, until, after }, 7).await;
            for entry in &page.entries {
                known.insert(entry.notification.id, entry.standing);
            }
            until = Some(end);
            after = page.entries.last().map(|entry| entry.notification.id);
            if !page.more {
                break;
            }
        }
        mark = until;
        if ended {
            break;
        }
        while let Some(done) = writers.try_join_next() {
            wrote.extend(done.unwrap());
        }
    }
    assert_eq!(wrote.len(), WRITERS * EACH);
    for id in wrote {
        let is = store.entry(&app(), &user("anna"), id).await.unwrap().unwrap().standing;
        match known.get(&id) {
            Some(seen) => assert_eq!(*seen, is, "the last change of {id} was missed"),
            None => assert!(is.deleted, "{id} was missed, and only what is gone before it was ever seen may be"),
        }
    }
}

pub async fn a_scheduled_notification_is_there_once_it_was_resolved(store: Store) {
    store.subscribe(phone("anna", "1")).await.unwrap();
    let mut later = request("anna", "later");
    later.request.deliver_at = Some(store.clock().now().plus(LONG));
    let id = store_one(&store, later, 0, LONG).await.id;
    assert!(ids(&store, &EntryFilter::default()).await.is_empty());
    let (first, mark) = delta(&store, DeltaFrom::default(), 10).await;
    assert!(first.entries.is_empty());
    assert!(store.entry(&app(), &user("anna"), id).await.unwrap().is_some(), "whoever has its id may take it back");
    assert_eq!(store.expand(id, 1_000, LONG, to_each).await.unwrap(), Expanded::Done(1));
    assert_eq!(ids(&store, &EntryFilter::default()).await, [id]);
    assert_eq!(delta(&store, since(mark), 10).await.0.entries.len(), 1);
    // One that is read before its time is there from then on, and is not pushed.
    let mut other = request("anna", "other");
    other.request.deliver_at = Some(store.clock().now().plus(LONG));
    let other = store_one(&store, other, 0, LONG).await.id;
    let mark = store.mark().await.unwrap();
    done(&store, changing(other, READ, None)).await;
    assert_eq!(store.expand(other, 1_000, LONG, to_each).await.unwrap(), Expanded::Stale);
    let (written, _) = delta(&store, since(mark), 10).await;
    assert!(written.entries.iter().any(|entry| entry.notification.id == other), "{written:?}");
}

pub async fn what_a_device_has_acknowledged_is_known_and_a_pair_may_be_limited_to_a_user(store: Store) {
    let phone = store.subscribe(phone("anna", "1")).await.unwrap().id;
    let tablet = store.subscribe(super::phone("anna", "2")).await.unwrap().id;
    let (one, two) = (put(&store, "1").await, put(&store, "2").await);
    let nothing = NotificationId(Uuid::now_v7());
    let open = async |unsid| store.unacknowledged(unsid, &[one, nothing, two]).await.unwrap().into_iter().collect();
    let both: BTreeSet<_> = [one, two].into();
    assert_eq!((open(phone).await, open(tablet).await), (both.clone(), both.clone()));
    let by = |name: &str| {
        let by = By::Pair { notification: one, unsid: phone, apps: None, user: Some(user(name)) };
        Receipt { by, received_at: None }
    };
    assert_eq!(store.receipts(&[by("ben")]).await.unwrap(), [ReceiptResult::Unknown]);
    assert!(matches!(store.receipts(&[by("anna")]).await.unwrap()[..], [ReceiptResult::Closed(_)]));
    // A state push is nothing that a fetch acknowledges.
    done(&store, changing(two, READ, None)).await;
    assert_eq!((open(phone).await, open(tablet).await), ([two].into(), both));
}
