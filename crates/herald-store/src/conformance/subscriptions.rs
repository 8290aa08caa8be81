//! Subscriptions.

use herald_core::ids::{AppId, Unsid};
use herald_core::subscription::Environment;
use tokio::task::JoinSet;

use super::{LONG, State, Uuid, app, due, only, phone, user};
use crate::{NewSubscription, Store};

pub async fn the_same_user_and_token_keep_their_id(store: Store) {
    let first = store.subscribe(phone("anna", "a")).await.unwrap();
    let mut again = phone("anna", "a");
    again.expires_at = first.expires_at.minus(LONG);
    let second = store.subscribe(again).await.unwrap();
    assert_eq!(second.id, first.id);
    assert!(second.confirmed_at > first.confirmed_at && second.expires_at < first.expires_at);
    assert_eq!(store.list(&app(), &user("anna")).await.unwrap(), std::slice::from_ref(&second));
    let known = store.subscription(first.id).await.unwrap().unwrap();
    assert_eq!((known.subscription, known.active), (second, true));
    assert_eq!(store.subscription(Unsid(Uuid::now_v7())).await.unwrap(), None);
}

pub async fn a_token_of_another_user_ends_the_former_and_withdraws(store: Store) {
    let (id, _) = due(&store, "anna", "1").await;
    let anna = store.list(&app(), &user("anna")).await.unwrap().pop().unwrap();
    let ben = store.subscribe(phone("ben", "token of anna")).await.unwrap();
    assert_ne!(anna.id, ben.id);
    assert!(!store.subscription(anna.id).await.unwrap().unwrap().active);
    assert_eq!(only(&store, id).await.delivery.state, State::Withdrawn);
    assert!(store.list(&app(), &user("anna")).await.unwrap().is_empty());
    assert_eq!(store.list(&app(), &user("ben")).await.unwrap(), [ben]);
}

pub async fn a_named_subscription_gets_another_token(store: Store) {
    let first = store.subscribe(phone("anna", "a")).await.unwrap();
    let renamed = |token| NewSubscription { unsid: Some(first.id), ..phone("anna", token) };
    let second = store.subscribe(renamed("b")).await.unwrap();
    assert_eq!((second.id, second.token.expose()), (first.id, "b"));
    // The new token belonged to another device's subscription: that one ends.
    let other = store.subscribe(phone("ben", "c")).await.unwrap();
    assert_eq!(store.subscribe(renamed("c")).await.unwrap().id, first.id);
    assert!(!store.subscription(other.id).await.unwrap().unwrap().active);
    assert_eq!(store.list(&app(), &user("anna")).await.unwrap().len(), 1);
}

pub async fn an_ended_or_foreign_name_makes_a_new_subscription(store: Store) {
    let ended = store.subscribe(phone("anna", "a")).await.unwrap();
    assert!(store.end(ended.id).await.unwrap());
    let anew = store.subscribe(NewSubscription { unsid: Some(ended.id), ..phone("anna", "a") }).await.unwrap();
    assert_ne!(anew.id, ended.id);
    let bens = store.subscribe(NewSubscription { unsid: Some(anew.id), ..phone("ben", "b") }).await.unwrap();
    assert_ne!(bens.id, anew.id);
    assert!(store.subscription(anew.id).await.unwrap().unwrap().active);
    let mut elsewhere = phone("anna", "x");
    elsewhere.app = AppId::new("other.contoso.com");
    elsewhere.unsid = Some(anew.id);
    assert_ne!(store.subscribe(elsewhere).await.unwrap().id, anew.id);
    assert_eq!(store.subscription(anew.id).await.unwrap().unwrap().subscription.token.expose(), "a");
}

pub async fn the_same_token_in_another_app_or_environment_is_another_subscription(store: Store) {
    let mut elsewhere = phone("ben", "a");
    elsewhere.app = AppId::new("other.contoso.com");
    let mut sandbox = phone("ben", "a");
    sandbox.environment = Environment::Sandbox;
    let all = [phone("anna", "a"), elsewhere, sandbox];
    let mut made = Vec::new();
    for new in all {
        made.push(store.subscribe(new).await.unwrap());
    }
    for one in made {
        assert!(store.subscription(one.id).await.unwrap().unwrap().active);
    }
}

pub async fn concurrent_registrations_of_one_token_leave_one_active(store: Store) {
    let mut registering = JoinSet::new();
    for n in 0..24 {
        let store = store.clone();
        registering.spawn(async move { store.subscribe(phone(&format!("user{}", n % 4), "shared")).await.unwrap().id });
    }
    let mut active = 0;
    let mut ids = std::collections::HashSet::new();
    while let Some(id) = registering.join_next().await {
        ids.insert(id.unwrap());
    }
    for id in ids {
        active += usize::from(store.subscription(id).await.unwrap().unwrap().active);
    }
    assert_eq!(active, 1);
}

pub async fn many_are_registered_at_once_and_known_tokens_are_renewed(store: Store) {
    let known = store.subscribe(phone("anna", "3")).await.unwrap();
    let foreign = store.subscribe(phone("ben", "4")).await.unwrap();
    let new: Vec<_> = (0..6_000).map(|n| phone("anna", &n.to_string())).collect();
    let made = store.subscribe_many(&new).await.unwrap();
    assert_eq!(made.len(), new.len());
    for (new, made) in new.iter().zip(&made) {
        assert_eq!(new.token, made.token);
    }
    assert_eq!(made[3].id, known.id);
    assert!(!store.subscription(foreign.id).await.unwrap().unwrap().active);
    assert!(store.subscription(made[5_999].id).await.unwrap().unwrap().active);
}

pub async fn ending_is_told_once(store: Store) {
    let (id, _) = due(&store, "anna", "1").await;
    let anna = store.list(&app(), &user("anna")).await.unwrap().pop().unwrap();
    assert!(store.end(anna.id).await.unwrap());
    assert!(!store.end(anna.id).await.unwrap());
    assert!(!store.end(Unsid(Uuid::now_v7())).await.unwrap());
    assert_eq!(only(&store, id).await.delivery.state, State::Withdrawn);
}
