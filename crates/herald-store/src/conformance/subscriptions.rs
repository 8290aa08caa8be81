//! Subscriptions.

use herald_core::device::DeviceState;
use herald_core::ids::{AppId, Unsid};
use herald_core::subscription::Environment;
use tokio::task::JoinSet;

use super::{LONG, State, Uuid, app, due, event, only, phone, told, user};
use crate::{NewSubscription, Registered, Registration, Store, Teller};

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

fn limited(new: NewSubscription, limit: usize) -> Registration {
    Registration { limit: Some(limit), ..new.into() }
}

async fn register(store: &Store, registration: Registration) -> Registered {
    store.register(registration).await.unwrap().unwrap()
}

pub async fn a_new_device_beyond_the_limit_ends_the_one_confirmed_longest_ago(store: Store) {
    let tell = |ended: &herald_core::subscription::Subscription, _| vec![event(ended.token.expose())];
    let store = store.with_teller(Teller::new(|wants| *wants == app(), |_, _| Vec::new()).with_ended(tell));
    let (notification, _) = due(&store, "anna", "1").await;
    let first = store.list(&app(), &user("anna")).await.unwrap().pop().unwrap();
    let second = register(&store, limited(phone("anna", "b"), 3)).await;
    assert!(second.made && second.known.active);
    let third = register(&store, limited(phone("anna", "c"), 3)).await.known.subscription;
    // Renewed, so it is not the oldest any more; and a renewal ends nothing, though the limit is lower by now.
    let renewed = register(&store, limited(phone("anna", first.token.expose()), 1)).await;
    assert!(!renewed.made && renewed.known.subscription.id == first.id);
    let active = || async { store.list(&app(), &user("anna")).await.unwrap().iter().map(|s| s.id).collect::<Vec<_>>() };
    assert_eq!(active().await.len(), 3);
    let fourth = register(&store, limited(phone("anna", "d"), 3)).await.known.subscription;
    let mut expected = [first.id, third.id, fourth.id];
    expected.sort_unstable();
    assert_eq!(active().await, expected);
    // Others' devices and those of other apps are not counted, nor are ended ones.
    let mut elsewhere = phone("anna", "e");
    elsewhere.app = AppId::new("other.contoso.com");
    register(&store, limited(elsewhere, 3)).await;
    register(&store, limited(phone("ben", "f"), 3)).await;
    assert_eq!(active().await.len(), 3);
    assert_eq!(told(&store).await, ["b.mail.contoso.com"]);
    // What was on its way to those that end is withdrawn.
    let fifth = register(&store, limited(phone("anna", "g"), 1)).await.known.subscription;
    assert_eq!(active().await, [fifth.id]);
    assert_eq!(only(&store, notification).await.delivery.state, State::Withdrawn);
    assert_eq!(told(&store).await.len(), 4);
    // Who has very many, as by an import, loses only a few of them to a new one.
    let phones: Vec<_> = (0..20).map(|n| phone("wide", &format!("w{n}"))).collect();
    store.subscribe_many(&phones).await.unwrap();
    register(&store, limited(phone("wide", "new"), 3)).await;
    assert_eq!(store.list(&app(), &user("wide")).await.unwrap().len(), 20 + 1 - 5);
}

pub async fn concurrent_registrations_of_one_user_keep_to_the_limit(store: Store) {
    let mut registering = JoinSet::new();
    for n in 0..24 {
        let store = store.clone();
        registering.spawn(async move { register(&store, limited(phone("anna", &format!("token {n}")), 4)).await });
    }
    let made = registering.join_all().await;
    assert!(made.iter().all(|registered| registered.made));
    assert_eq!(store.list(&app(), &user("anna")).await.unwrap().len(), 4);
}

pub async fn what_a_device_says_of_itself_is_kept_until_it_says_otherwise(store: Store) {
    let said =
        |alerts_allowed, low_power_mode| DeviceState { alerts_allowed, low_power_mode, background_refresh: None };
    let first = Registration { device: said(Some(true), None), ..phone("anna", "a").into() };
    let first = register(&store, first).await.known;
    assert_eq!(first.device, said(Some(true), None));
    let at = first.reported_at.unwrap();
    // A renewal that says nothing leaves it, and so does a report that leaves a part out.
    let renewed = register(&store, phone("anna", "a").into()).await.known;
    assert_eq!((renewed.device, renewed.reported_at), (first.device, Some(at)));
    let id = first.subscription.id;
    let reported = store.report(id, said(None, Some(true))).await.unwrap().unwrap();
    assert_eq!(reported.device, said(Some(true), Some(true)));
    assert!(reported.reported_at.unwrap() > at);
    assert_eq!(reported.subscription, renewed.subscription, "a report renews nothing");
    assert_eq!(store.subscription(id).await.unwrap().as_ref(), Some(&reported));
    assert_eq!(store.devices(&app(), &user("anna")).await.unwrap(), std::slice::from_ref(&reported));
    let silent = store.subscribe(phone("ben", "b")).await.unwrap();
    let both = store.known(&[id, silent.id, Unsid(Uuid::now_v7())]).await.unwrap();
    assert_eq!(both.len(), 2);
    let known = both.into_iter().find(|known| known.subscription == silent).unwrap();
    assert_eq!((known.device, known.reported_at, known.active), (DeviceState::default(), None, true));
    assert!(store.end(id).await.unwrap());
    assert_eq!(store.report(id, said(Some(false), None)).await.unwrap(), None);
    assert_eq!(store.subscription(id).await.unwrap().unwrap().device, reported.device, "kept for the trace");
    assert!(store.devices(&app(), &user("anna")).await.unwrap().is_empty());
}

pub async fn a_known_subscription_alone_is_renewed_if_so_asked(store: Store) {
    let anna = store.subscribe(phone("anna", "a")).await.unwrap();
    let known = |unsid, new| Registration { known_only: true, ..NewSubscription { unsid: Some(unsid), ..new }.into() };
    let renewed = register(&store, known(anna.id, phone("anna", "b"))).await;
    assert!(!renewed.made && renewed.known.subscription.token.expose() == "b");
    // One token, one subscription: whoever had it ends.
    let ben = store.subscribe(phone("ben", "c")).await.unwrap();
    assert!(store.register(known(anna.id, phone("anna", "c"))).await.unwrap().is_some());
    assert!(!store.subscription(ben.id).await.unwrap().unwrap().active);
    assert_eq!(store.register(known(anna.id, phone("ben", "d"))).await.unwrap(), None);
    assert!(store.end(anna.id).await.unwrap());
    assert_eq!(store.register(known(anna.id, phone("anna", "e"))).await.unwrap(), None);
    assert!(store.list(&app(), &user("anna")).await.unwrap().is_empty());
}
