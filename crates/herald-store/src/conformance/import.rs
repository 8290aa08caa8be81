//! Import and export of subscriptions.

use herald_core::ids::{AppId, Unsid};
use herald_core::subscription::Subscription;

use super::{LONG, Uuid, app, phone, user};
use crate::{Imported, NewSubscription, Store};
use Imported::{Added, Known, Refused, Superseded};

fn again(s: &Subscription) -> NewSubscription {
    NewSubscription { unsid: Some(s.id), ..phone(s.user.as_str(), s.token.expose()) }
}

pub async fn what_is_exported_is_imported_elsewhere_under_its_id(store: Store) {
    let other = AppId::new("other.contoso.com");
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(store.subscribe(phone("anna", &n.to_string())).await.unwrap());
    }
    let elsewhere = store.subscribe(NewSubscription { app: other.clone(), ..phone("anna", "0") }).await.unwrap();
    let ended = store.subscribe(phone("ben", "ended")).await.unwrap();
    assert!(store.end(ended.id).await.unwrap());
    let mut exported = store.export(Some(&app()), None, 3).await.unwrap();
    let last = exported.last().map(|s| s.id);
    exported.extend(store.export(Some(&app()), last, 3).await.unwrap());
    assert_eq!(exported, made);
    assert_eq!(store.export(None, None, 100).await.unwrap().len(), 6);
    // To a store where they are not: the same one, once they are erased.
    store.erase(&app(), &user("anna")).await.unwrap();
    let rows: Vec<_> = exported.iter().map(again).collect();
    assert_eq!(store.import(&rows).await.unwrap(), [Added; 5]);
    assert_eq!(store.import(&rows).await.unwrap(), [Known; 5], "repeating is harmless");
    let imported = store.list(&app(), &user("anna")).await.unwrap();
    assert_eq!(imported.len(), 5);
    for (is, was) in imported.iter().zip(&made) {
        assert_eq!((is.id, &is.token, is.expires_at), (was.id, &was.token, was.expires_at));
    }
    // A row without an id gets one.
    assert_eq!(store.import(&[phone("ben", "new")]).await.unwrap(), [Added]);
    assert_eq!(store.import(&[phone("ben", "new")]).await.unwrap(), [Known]);
    assert_eq!(store.list(&app(), &user("ben")).await.unwrap().len(), 1);
    assert!(store.subscription(elsewhere.id).await.unwrap().unwrap().active);
}

pub async fn an_import_takes_nothing_from_what_is_here(store: Store) {
    let anna = store.subscribe(phone("anna", "a")).await.unwrap();
    let ended = store.subscribe(phone("anna", "b")).await.unwrap();
    assert!(store.end(ended.id).await.unwrap());
    let (fresh, other) = (Unsid(Uuid::now_v7()), AppId::new("other.contoso.com"));
    let older = NewSubscription { expires_at: anna.expires_at.minus(LONG), ..again(&anna) };
    let longer = NewSubscription { expires_at: anna.expires_at.plus(LONG), ..again(&anna) };
    let rows = [
        // Another token than it has here, and a shorter life.
        NewSubscription { unsid: Some(anna.id), ..phone("anna", "older token") },
        older,
        // Ended here since.
        again(&ended),
        // The token is anna's here.
        NewSubscription { unsid: Some(fresh), ..phone("ben", "a") },
        phone("ben", "a"),
        // The id is anna's.
        NewSubscription { unsid: Some(anna.id), ..phone("ben", "c") },
        NewSubscription { app: other, ..again(&anna) },
        longer,
    ];
    let results = store.import(&rows).await.unwrap();
    assert_eq!(results, [Known, Known, Superseded, Superseded, Superseded, Refused, Refused, Known]);
    let kept = store.subscription(anna.id).await.unwrap().unwrap();
    assert!(kept.active);
    assert_eq!(kept.subscription, Subscription { expires_at: anna.expires_at.plus(LONG), ..anna.clone() });
    assert!(!store.subscription(ended.id).await.unwrap().unwrap().active);
    let named = store.subscription(fresh).await.unwrap().unwrap();
    assert_eq!((named.active, named.subscription.user), (false, user("ben")), "its id still names its user");
    assert!(store.list(&app(), &user("ben")).await.unwrap().is_empty());
    assert_eq!(store.list(&app(), &user("anna")).await.unwrap().len(), 1);
    assert_eq!(store.import(&rows[2..6]).await.unwrap(), [Superseded, Superseded, Superseded, Refused]);
}

pub async fn of_rows_with_one_token_the_first_has_it(store: Store) {
    let id = || Unsid(Uuid::now_v7());
    let (first, second, third) = (id(), id(), id());
    let rows = [
        NewSubscription { unsid: Some(first), ..phone("anna", "a") },
        NewSubscription { unsid: Some(second), ..phone("ben", "a") },
        NewSubscription { unsid: Some(third), ..phone("anna", "a") },
        NewSubscription { unsid: Some(first), ..phone("anna", "b") },
        phone("anna", "a"),
        phone("anna", "c"),
        NewSubscription { expires_at: herald_core::time::Timestamp::from_secs(4_100_000_000), ..phone("anna", "c") },
    ];
    let expected = [Added, Superseded, Superseded, Known, Known, Added, Known];
    assert_eq!(store.import(&rows).await.unwrap(), expected);
    let mut active = store.list(&app(), &user("anna")).await.unwrap();
    active.sort_by_key(|s| s.token.expose().to_owned());
    assert_eq!(active.iter().map(|s| s.token.expose()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!((active[0].id, active[1].expires_at.secs()), (first, 4_100_000_000));
    for ended in [second, third] {
        assert!(!store.subscription(ended).await.unwrap().unwrap().active);
    }
}

pub async fn two_imports_of_the_same_rows_at_once_add_each_once(store: Store) {
    let rows: Vec<_> = (0..400).map(|n| phone(&format!("user {}", n % 40), &n.to_string())).collect();
    let backwards: Vec<_> = rows.iter().rev().cloned().collect();
    let (one, two) = tokio::join!(store.import(&rows), store.import(&backwards));
    let count = |results: &[Imported], of| results.iter().filter(|result| **result == of).count();
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(count(&one, Added) + count(&two, Added), 400);
    assert_eq!(count(&one, Known) + count(&two, Known), 400);
    assert_eq!(store.export(None, None, 1_000).await.unwrap().len(), 400);
}
