//! A store on a file, moved to a PostgreSQL: what is there afterwards, read by the public methods of both.

#![allow(clippy::unwrap_used, reason = "what can't go on in a test fails it")]

use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::{DeliveryId, NotificationId, Unsid};
use herald_core::reading::{Change, Condition};
use herald_core::subscription::{Provider, Subscription};
use herald_core::time::Timestamp;
use herald_harness::Database;
use herald_store::conformance::{
    DELAY, LONG, OVER, app, due, ending, event, gone, letters, only, phone, record_one, request, states, store_one,
    take_due, taken, to_each, told, user, watching,
};
use herald_store::moving::{Compared, Kind, Move, Skip};
use herald_store::{
    By, Changed, Changing, DeadLetter, Delta, DeltaFrom, Expanded, NewSubscription, PostgresConfig, Receipt, Record,
    SqliteConfig, Store, StoreError,
};
use tempfile::TempDir;
use uuid::Uuid;

struct Both {
    file: Store,
    database: Store,
    folder: TempDir,
    _server: Database,
}

async fn both() -> Both {
    let folder = TempDir::new().unwrap();
    let file = Store::open_to_move(&folder.path().join("store.db")).await.unwrap();
    let server = herald_harness::database().await.unwrap();
    let config = PostgresConfig {
        url: server.url(),
        ca_pem: None,
        max_connections: 4,
        statement_timeout: Duration::from_secs(20),
    };
    let database = Store::connect(config).await.unwrap();
    database.migrate().await.unwrap();
    Both { file, database, folder, _server: server }
}

impl Both {
    async fn begin(&self) -> Move {
        Move::new(&self.file, &self.database).await.unwrap()
    }

    /// Moves everything; both sides must agree.
    async fn moved(&self) -> Compared {
        let mut moving = self.begin().await;
        while moving.step().await.unwrap().is_some() {}
        let compared = moving.compare().await.unwrap();
        assert!(compared.agrees(), "{compared:?}");
        compared
    }

    /// Moves everything once more, and expects nothing to do.
    async fn nothing_more(&self) {
        let again = self.moved().await;
        for kind in Kind::ALL {
            let counts = again.of(kind);
            assert_eq!((counts.moved, counts.updated, counts.replaced), (0, 0, 0), "{kind:?}");
        }
    }
}

fn receipt(delivery: DeliveryId) -> Receipt {
    Receipt { by: By::Delivery(delivery), received_at: None }
}

/// What was put in, to be compared.
#[derive(Default)]
struct Everything {
    notifications: Vec<NotificationId>,
    unsids: Vec<Unsid>,
    users: Vec<String>,
}

/// A bit of everything.
async fn fill(store: &Store) -> Everything {
    let mut all = Everything::default();
    let (waiting, _) = due(store, "due", "1").await;
    let sending = taken(store, "sending", "1").await;
    let watched = taken(store, "watching", "1").await;
    assert!(record_one(store, watching(&watched, watched.taken_at.plus(DELAY))).await.applied);
    let closed = taken(store, "closed", "1").await;
    let told = vec![event("a"), event("b")];
    assert!(record_one(store, Record { events: told, ..ending(&closed, State::Toasted) }).await.applied);
    store.receipts(&[receipt(closed.delivery.id)]).await.unwrap();
    let received = taken(store, "received", "1").await;
    store.receipts(&[receipt(received.delivery.id)]).await.unwrap();
    let dead = taken(store, "gone", "1").await;
    assert!(record_one(store, gone(&dead)).await.pruned);
    let taken = [sending, watched, closed, received, dead];
    all.unsids.extend(taken.iter().map(|one| one.subscription.id));
    all.notifications.push(waiting);
    all.notifications.extend(taken.iter().map(|one| one.notification.id));

    let mut later = request("later", "1");
    later.request.deliver_at = Some(store.clock().now().plus(LONG));
    store.subscribe(phone("later", "l")).await.unwrap();
    all.notifications.push(store_one(store, later, 0, LONG).await.id);
    // One page of three is made.
    let wide: Vec<NewSubscription> = (0..2_500).map(|n| phone("everyone", &n.to_string())).collect();
    all.unsids.extend(store.subscribe_many(&wide).await.unwrap().iter().map(|s| s.id));
    let fanout = store_one(store, request("everyone", "1"), 0, LONG).await.id;
    assert_eq!(store.expand(fanout, 1_000, OVER, to_each).await.unwrap(), Expanded::More(1_000));
    all.notifications.push(fanout);

    let until = store.clock().now().plus(LONG);
    store.pause(&app(), Provider::Fcm, until, "operator", "paused by hand", true).await.unwrap();
    store.dead_insert(&[letter(1), letter(2)], &[]).await.unwrap();
    let users = ["due", "sending", "watching", "closed", "received", "gone", "later", "everyone"];
    all.users.extend(users.map(str::to_owned));
    all
}

fn letter(n: u128) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(n),
        source_queue: "herald.requests.high".to_owned(),
        reason_code: "invalid_request".to_owned(),
        field: "payload".to_owned(),
        problem: "is missing\0".to_owned(),
        fix: "give it".to_owned(),
        app: n.is_multiple_of(2).then(app),
        message_id: None,
        headers: "{}".to_owned(),
        body: vec![0, 159, 146, 150],
        parked_at: Timestamp::from_secs(1_700_000_000),
    }
}

/// Both sides tell the same of everything.
async fn same(both: &Both, all: &Everything) {
    let (file, database) = (&both.file, &both.database);
    for id in &all.notifications {
        let (there, here) = (file.trace(&app(), *id).await.unwrap(), database.trace(&app(), *id).await.unwrap());
        assert!(there.is_some());
        assert_eq!(there, here);
    }
    for unsid in all.unsids.iter().step_by(97).chain(&all.unsids[..5]) {
        assert_eq!(file.subscription(*unsid).await.unwrap(), database.subscription(*unsid).await.unwrap());
    }
    for name in &all.users {
        let mut lists = Vec::new();
        for store in [file, database] {
            lists.push(store.list(&app(), &user(name)).await.unwrap());
        }
        assert_eq!(lists[0], lists[1], "{name}");
    }
    assert_eq!(file.pauses().await.unwrap(), database.pauses().await.unwrap());
    let mut of_file = letters(file).await;
    // What a text of PostgreSQL can't hold.
    of_file.iter_mut().for_each(|letter| letter.problem = letter.problem.replace('\0', "\u{FFFD}"));
    assert_eq!(of_file, letters(database).await);
    let (there, here) = (file.stats().await.unwrap(), database.stats().await.unwrap());
    assert_eq!((there.open, there.dead_letters, there.outbox), (here.open, here.dead_letters, here.outbox));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_moved_as_it_was_and_once() {
    let both = both().await;
    let all = fill(&both.file).await;
    let before = both.begin().await.compare().await.unwrap();
    assert!(
        !before.agrees() && before.of(Kind::Deliveries).missing == 1_006 && before.open.files == 1_003,
        "{before:?}"
    );
    let compared = both.moved().await;
    for (kind, count) in [
        (Kind::Subscriptions, 2_507),
        (Kind::Pauses, 1),
        (Kind::Notifications, 8),
        (Kind::Deliveries, 1_006),
        (Kind::Events, 3),
        (Kind::DeadLetters, 2),
    ] {
        let counts = compared.of(kind);
        assert_eq!(
            (counts.files, counts.moved, counts.database, counts.already_there()),
            (count, count, count, 0),
            "{kind:?}"
        );
    }
    assert_eq!((compared.open.files, compared.open.database, compared.open.open_there), (1_003, 1_003, 1_003));
    same(&both, &all).await;
    both.nothing_more().await;
    same(&both, &all).await;
    assert_eq!(told(&both.file).await, told(&both.database).await);

    // Work goes on where it stood: the fan-out has two more pages, at no subscription twice.
    let fanout = *all.notifications.last().unwrap();
    assert_eq!(both.database.expand(fanout, 1_000, LONG, to_each).await.unwrap(), Expanded::More(1_000));
    assert_eq!(both.database.expand(fanout, 1_000, LONG, to_each).await.unwrap(), Expanded::Done(500));
    both.nothing_more().await;
    assert_eq!(both.database.open_count(&app()).await.unwrap(), 2_503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_cut_off_after_any_page_is_taken_up_by_the_next() {
    let both = both().await;
    let all = fill(&both.file).await;
    let mut pages = 0;
    let moved = loop {
        // One page further each time, then gone.
        let mut moving = both.begin().await;
        let mut done = false;
        for _ in 0..=pages {
            done = moving.step().await.unwrap().is_none();
        }
        if done {
            break moving.compare().await.unwrap();
        }
        pages += 1;
    };
    assert!(pages >= 7, "{pages} pages prove nothing");
    assert!(moved.agrees(), "{moved:?}");
    same(&both, &all).await;
    both.nothing_more().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_file_did_since_is_moved_by_the_next_move() {
    let both = both().await;
    let all = fill(&both.file).await;
    both.moved().await;
    let file = &both.file;
    let [_, _, watched, _, _, _, _, fanout] = all.notifications[..] else { panic!("eight") };
    // A receipt, a page, a renewal with another token, an end, and a token that goes from one device to another.
    let watched = only(file, watched).await.delivery.id;
    file.receipts(&[receipt(watched)]).await.unwrap();
    assert_eq!(file.expand(fanout, 1_000, OVER, to_each).await.unwrap(), Expanded::More(1_000));
    let renewed = |name: &str, token: &str, unsid| NewSubscription { unsid: Some(unsid), ..phone(name, token) };
    let of = async |name: &str| file.list(&app(), &user(name)).await.unwrap()[0].id;
    file.subscribe(renewed("sending", "another", of("sending").await)).await.unwrap();
    file.end(of("due").await).await.unwrap();
    let (first, second) = (all.unsids[10], all.unsids[5]);
    let token = file.subscription(first).await.unwrap().unwrap().subscription.token.expose().to_owned();
    file.subscribe(renewed("everyone", "fresh", first)).await.unwrap();
    file.subscribe(renewed("everyone", &token, second)).await.unwrap();
    let compared = both.moved().await;
    let deliveries = compared.of(Kind::Deliveries);
    assert_eq!((deliveries.moved, deliveries.updated), (1_000, 2), "the receipt and the withdrawal");
    assert_eq!((compared.of(Kind::Notifications).updated, compared.of(Kind::Subscriptions).replaced), (1, 0));
    assert_eq!(compared.of(Kind::Subscriptions).updated, 4);
    same(&both, &all).await;
    both.nothing_more().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_workers_on_the_database_did_since_is_not_undone() {
    let both = both().await;
    let all = fill(&both.file).await;
    both.moved().await;
    both.begin().await.mark().await.unwrap();
    let database = &both.database;
    let [waiting, _, watched, _, _, _, _, fanout] = all.notifications[..] else { panic!("eight") };
    let hints: Vec<_> = database.due(herald_core::lane::DispatchQueue::High, 1, LONG).await.unwrap();
    let pushed = database.take(&hints, LONG).await.unwrap().pop().unwrap();
    assert!(record_one(database, ending(&pushed, State::Accepted)).await.applied);
    let watched = only(database, watched).await.delivery.id;
    database.receipts(&[receipt(watched)]).await.unwrap();
    while !matches!(database.expand(fanout, 1_000, LONG, to_each).await.unwrap(), Expanded::Done(_)) {}
    let ended = all.unsids[7];
    assert!(database.end(ended).await.unwrap());
    let events: Vec<Uuid> = database.outbox_claim(10, LONG).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(database.outbox_done(&events).await.unwrap(), 3);
    assert_eq!(database.dead_remove(&[letter(1).entry().key]).await.unwrap(), 1);
    assert!(database.resume(&app(), Provider::Fcm, OVER).await.unwrap());

    let open = database.open_count(&app()).await.unwrap();
    both.nothing_more().await;
    assert_eq!(database.open_count(&app()).await.unwrap(), open);
    assert_eq!(states(database, waiting).await.get("accepted"), Some(&1));
    assert!(!database.subscription(ended).await.unwrap().unwrap().active);
    assert!(database.pauses().await.unwrap().is_empty() && told(database).await.is_empty());
    let again = both.moved().await;
    let done = |kind| again.of(kind).skipped[Skip::DoneThere as usize];
    assert_eq!((done(Kind::Events), done(Kind::DeadLetters), done(Kind::Pauses)), (3, 1, 0));
    assert_eq!((again.open.files, again.open.database), (1_003, 1_003));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_both_went_on_a_receipt_of_either_side_counts_and_nothing_is_reopened() {
    let both = both().await;
    let (file, database) = (&both.file, &both.database);
    let watch = async |name: &str| {
        let one = taken(file, name, "1").await;
        assert!(record_one(file, watching(&one, one.taken_at)).await.applied);
        one.notification.id
    };
    let (here, there) = (watch("here").await, watch("there").await);
    both.moved().await;
    // One got its receipt in the database; the file took it and watches again, two versions on.
    database.receipts(&[receipt(only(database, here).await.delivery.id)]).await.unwrap();
    // The other got it in the file; the database took it, and is as far.
    file.receipts(&[receipt(only(file, there).await.delivery.id)]).await.unwrap();
    let again = take_due(file, herald_core::lane::DispatchQueue::High).await;
    assert_eq!(again.notification.id, here);
    assert!(record_one(file, watching(&again, again.taken_at.plus(DELAY))).await.applied);
    assert_eq!(take_due(database, herald_core::lane::DispatchQueue::High).await.notification.id, there);
    both.moved().await;
    for id in [here, there] {
        let row = only(database, id).await;
        assert_eq!((row.delivery.state, row.next_at), (State::Received, None));
        assert!(row.received_at.is_some() && row.closed_at.is_some());
    }
    both.nothing_more().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_another_has_in_the_database_stays_with_it() {
    let both = both().await;
    let mine = both.file.subscribe(phone("anna", "shared")).await.unwrap();
    let id = store_one(&both.file, request("anna", "1"), 0, LONG).await.id;
    let theirs: Subscription = both.database.subscribe(phone("ben", "shared")).await.unwrap();
    let compared = both.moved().await;
    assert_eq!((compared.of(Kind::Subscriptions).moved, compared.of(Kind::Subscriptions).replaced), (1, 1));
    let known = both.database.subscription(mine.id).await.unwrap().unwrap();
    assert!(!known.active && known.subscription.user == user("anna"), "it still names its user");
    assert!(both.database.subscription(theirs.id).await.unwrap().unwrap().active);
    // Its open delivery is there, and whoever takes it sees that the subscription ended.
    let taken = take_due(&both.database, herald_core::lane::DispatchQueue::High).await;
    assert!(taken.notification.id == id && !taken.subscription_active);
    both.nothing_more().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_database_has_already_is_a_duplicate() {
    let both = both().await;
    due(&both.file, "anna", "same").await;
    let (ours, _) = due(&both.file, "anna", "other").await;
    both.database.subscribe(phone("anna", "theirs")).await.unwrap();
    let theirs = store_one(&both.database, request("anna", "same"), 0, LONG).await.id;
    let compared = both.moved().await;
    for kind in [Kind::Notifications, Kind::Deliveries] {
        let counts = compared.of(kind);
        assert_eq!((counts.files, counts.moved, counts.skipped[Skip::KeyTaken as usize]), (2, 1, 1), "{kind:?}");
    }
    assert_eq!((compared.open.files, compared.open.database, compared.open.skipped), (2, 1, 1));
    let kept = both.database.notification_by_key(&app(), &user("anna"), "same").await.unwrap();
    assert_eq!(kept, Some(theirs));
    assert_eq!(only(&both.database, theirs).await.delivery.state, State::Due);
    assert_eq!(only(&both.database, ours).await.delivery.state, State::Due);
    both.nothing_more().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_worker_starts_on_a_file_that_was_moved_but_it_can_be_read_and_moved_again() {
    let both = both().await;
    let (id, _) = due(&both.file, "anna", "1").await;
    let mut moving = both.begin().await;
    assert_eq!(moving.marked(), None);
    while moving.step().await.unwrap().is_some() {}
    moving.begin().await.unwrap();
    let path = both.folder.path().join("store.db");
    let begun = both.file.check_not_moved().await.unwrap_err();
    assert!(
        matches!(&begun, StoreError::InUse { problem } if problem.contains("run `herald migrate` again")),
        "{begun}"
    );
    let at = moving.mark().await.unwrap();
    drop(moving);
    let Both { file, database, folder: _folder, _server } = both;
    file.close().await;
    drop(file);

    let refused = Store::connect(SqliteConfig { path: path.clone(), leads: true }).await.unwrap_err();
    let StoreError::InUse { problem } = &refused else { panic!("{refused}") };
    assert!(problem.contains(&format!("was moved to PostgreSQL on {at}; set HERALD_AMQP_URL")), "{problem}");
    let reader = Store::connect(SqliteConfig { path: path.clone(), leads: false }).await.unwrap();
    assert!(reader.trace(&app(), id).await.unwrap().is_some());
    let again = Store::open_to_move(&path).await.unwrap();
    assert_eq!(Move::new(&again, &database).await.unwrap().marked(), Some(at));
    assert!(matches!(Store::open_to_move(&path).await.unwrap_err(), StoreError::InUse { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_tables_can_be_compared_with() {
    let both = both().await;
    let server = herald_harness::database().await.unwrap();
    let config = PostgresConfig {
        url: server.url(),
        ca_pem: None,
        max_connections: 2,
        statement_timeout: Duration::from_secs(20),
    };
    let empty = Store::connect(config).await.unwrap();
    due(&both.file, "anna", "1").await;
    let compared = Move::new(&both.file, &empty).await.unwrap().compare().await.unwrap();
    assert_eq!((compared.of(Kind::Deliveries).missing, compared.open.files), (1, 1));
    assert!(matches!(empty.check_schema().await, Err(StoreError::Schema { .. })), "nothing was made");
}

/// Anna's notification is so from now on.
async fn change(store: &Store, notification: NotificationId, change: Change) {
    let changing =
        Changing { app: app(), user: user("anna"), notification, change, condition: Condition::Any, by: None };
    assert!(matches!(store.change(changing).await.unwrap(), Changed::Done { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_users_did_is_moved_and_is_a_change_to_those_who_follow_the_database() {
    let both = both().await;
    let (file, database) = (&both.file, &both.database);
    let read = Change::Set { read: Some(true), action: None };
    let unread = Change::Set { read: Some(false), action: None };
    let mut ids = Vec::new();
    for key in ["read", "deleted", "later"] {
        ids.push(due(file, "anna", key).await.0);
    }
    change(file, ids[0], read).await;
    change(file, ids[1], Change::Delete).await;
    let entries = async |store: &Store| {
        let mut all = Vec::new();
        for id in &ids {
            all.push(store.entry(&app(), &user("anna"), *id).await.unwrap().unwrap());
        }
        all
    };
    let followed = async |mark| match database.delta(&app(), &user("anna"), mark, 10).await.unwrap() {
        Delta::Page(page, _) => page.entries.iter().map(|entry| entry.notification.id).collect::<Vec<_>>(),
        Delta::UnknownMark => panic!("the mark is the database's"),
    };
    let since = DeltaFrom { since: Some(database.mark().await.unwrap()), ..DeltaFrom::default() };
    both.moved().await;
    assert_eq!(entries(database).await, entries(file).await);
    assert_eq!(followed(since).await, [ids[2], ids[1], ids[0]]);
    both.nothing_more().await;

    // Either side goes on: the later change counts, and a deletion is for good.
    change(database, ids[0], unread).await;
    change(file, ids[2], read).await;
    let mut here = entries(database).await;
    here[2] = entries(file).await.remove(2);
    both.moved().await;
    assert_eq!(entries(database).await, here);
    change(database, ids[2], Change::Delete).await;
    for again in [unread, read] {
        change(file, ids[2], again).await;
    }
    both.moved().await;
    assert!(entries(database).await[2].standing.deleted);
}
