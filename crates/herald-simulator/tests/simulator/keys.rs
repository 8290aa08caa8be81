//! Keys of Apple's teams: what a connection binds itself to, and what a key may sign for.

use herald_simulator::{
    ApnsRules, Environment, EnvironmentReason, KeyChange, KeyError, KeySpec, OtherTeamReason, PhoneSpec,
};

use super::connections::rules;
use super::wire::{Wire, tls, with_key};
use super::*;

fn key(simulator: &Simulator, spec: KeySpec) -> Credentials {
    simulator.add_key(&KeySpec { app: MAIL.to_owned(), ..spec }).unwrap()
}

/// Pushes with a fresh token of this key to anna.
async fn push_with(simulator: &Simulator, wire: &Wire, credentials: &Credentials) -> (u16, String) {
    let token = simulator.phone("anna").unwrap().token;
    wire.reason(with_key(&provider_token(credentials, 0), MAIL_TOPIC, &token)).await
}

fn refused(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

#[tokio::test]
async fn a_key_signs_only_for_its_topics_and_in_its_environments() {
    let simulator = start().await;
    iphone(&simulator, "anna");
    let elsewhere = key(&simulator, KeySpec { topics: vec!["com.contoso.other".to_owned()], ..KeySpec::default() });
    let here = key(&simulator, KeySpec { topics: vec![MAIL_TOPIC.to_owned()], ..KeySpec::default() });
    let sandbox = key(&simulator, KeySpec { environments: vec![Environment::Sandbox], ..KeySpec::default() });
    let wrong_environment = refused(403, "BadEnvironmentKeyInToken");
    for (credentials, expected) in
        [(&elsewhere, refused(400, "TopicDisallowed")), (&here, refused(200, "")), (&sandbox, wrong_environment)]
    {
        assert_eq!(push_with(&simulator, &Wire::apns(&simulator).await, credentials).await, expected);
    }
    let spelled = EnvironmentReason::BadEnvironmentKeyIdInToken;
    rules(&simulator, ApnsRules { environment_reason: spelled, ..ApnsRules::default() });
    let wire = Wire::apns(&simulator).await;
    assert_eq!(push_with(&simulator, &wire, &sandbox).await, refused(403, "BadEnvironmentKeyIdInToken"));

    let spec = PhoneSpec { environment: Environment::Sandbox, ..PhoneSpec::new(MAIL, Platform::Ios) };
    simulator.add_phone("anna", &spec).unwrap();
    let stream = tls(&simulator.apns_sandbox_url(), simulator.ca_pem(), &["h2"]).await.unwrap();
    assert_eq!(push_with(&simulator, &Wire::over(stream).await, &sandbox).await.0, 200);
}

#[tokio::test]
async fn the_first_push_binds_a_connection_to_its_team_and_its_key_s_relatives() {
    let simulator = start().await;
    iphone(&simulator, "anna");
    let second_of_team = key(&simulator, KeySpec::default());
    let own_topics = || KeySpec { topics: vec![MAIL_TOPIC.to_owned()], ..KeySpec::default() };
    let unrelated = key(&simulator, own_topics());
    let relative = KeySpec { related_to: Some(mail(&simulator).apns_key_id), ..own_topics() };
    let relative = key(&simulator, relative);
    let chat = simulator.credentials(CHAT).unwrap();

    let too_soon = refused(429, "TooManyProviderTokenUpdates");
    let wire = Wire::apns(&simulator).await;
    assert_eq!(push_with(&simulator, &wire, &mail(&simulator)).await.0, 200);
    for (credentials, expected) in [
        (&chat, refused(403, "InvalidProviderToken")),
        (&unrelated, refused(403, "UnrelatedKeyIdInToken")),
        // Related keys may share a connection, but not change within 20 minutes.
        (&second_of_team, too_soon.clone()),
        (&relative, too_soon),
    ] {
        assert_eq!(push_with(&simulator, &wire, credentials).await, expected);
    }
    let forbidden = OtherTeamReason::Forbidden;
    rules(&simulator, ApnsRules { other_team_reason: forbidden, ..ApnsRules::default() });
    assert_eq!(push_with(&simulator, &wire, &chat).await, refused(403, "Forbidden"));
    let ahead = herald_simulator::SettingsChange { clock_offset_secs: Some(21 * 60), ..Default::default() };
    simulator.set(&ahead);
    assert_eq!(push_with(&simulator, &wire, &relative).await.0, 200);

    // Each on a connection of its own is fine, at the same time.
    for credentials in [&second_of_team, &unrelated] {
        assert_eq!(push_with(&simulator, &Wire::apns(&simulator).await, credentials).await.0, 200);
    }
}

#[tokio::test]
async fn two_connections_may_use_different_provider_tokens() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    for age in [0, 60] {
        let request = with_key(&provider_token(&mail(&simulator), age), MAIL_TOPIC, &token);
        assert_eq!(Wire::apns(&simulator).await.reason(request).await.0, 200);
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_or_restricted_is_refused_on_open_connections_too() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let own = mail(&simulator);
    let wire = Wire::apns(&simulator).await;
    let request = with_key(&provider_token(&own, 0), MAIL_TOPIC, &token);
    let push = || {
        let mut again = http::Request::new(());
        (*again.method_mut(), *again.uri_mut()) = (request.method().clone(), request.uri().clone());
        again.headers_mut().clone_from(request.headers());
        wire.reason(again)
    };
    assert_eq!(push().await.0, 200);
    let change = |change: KeyChange| simulator.change_key(&own.apns_key_id, &change).unwrap();
    let revoked = change(KeyChange { revoked: Some(true), ..KeyChange::default() });
    assert!(revoked.revoked);
    assert_eq!(push().await, refused(403, "InvalidProviderToken"));
    let topics = Some(vec!["com.contoso.other".to_owned()]);
    change(KeyChange { revoked: Some(false), topics, ..KeyChange::default() });
    assert_eq!(push().await, refused(400, "TopicDisallowed"));
    let environments = Some(vec![Environment::Sandbox]);
    change(KeyChange { topics: Some(Vec::new()), environments, ..KeyChange::default() });
    assert_eq!(push().await, refused(403, "BadEnvironmentKeyInToken"));
    // The same provider token is no update, however often its key changed.
    simulator.reset();
    simulator
        .add_phone("anna", &PhoneSpec { token: Some(token.clone()), ..PhoneSpec::new(MAIL, Platform::Ios) })
        .unwrap();
    assert_eq!(push().await.0, 200);
}

#[tokio::test]
async fn a_topic_that_is_added_is_unknown_to_a_connection_in_use_until_it_reconnects() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let provider_token = provider_token(&mail(&simulator), 0);
    let push = |topic| with_key(&provider_token, topic, &token);
    let (unused, used) = (Wire::apns(&simulator).await, Wire::apns(&simulator).await);
    assert_eq!(used.reason(push("com.contoso.beta")).await, refused(400, "BadTopic"));
    assert_eq!(used.reason(push(MAIL_TOPIC)).await.0, 200);
    simulator.add_topic(MAIL, "com.contoso.beta").unwrap();
    assert_eq!(used.reason(push("com.contoso.beta")).await, refused(400, "TopicDisallowed"));
    assert_eq!(used.reason(push(MAIL_TOPIC)).await.0, 200);
    assert_eq!(unused.reason(push("com.contoso.beta")).await.0, 200);
    assert_eq!(Wire::apns(&simulator).await.reason(push("com.contoso.beta")).await.0, 200);
}

#[tokio::test]
async fn keys_and_topics_that_can_not_be_are_refused() {
    let simulator = start().await;
    let nobody = KeySpec { app: "nobody".to_owned(), ..KeySpec::default() };
    assert!(matches!(simulator.add_key(&nobody), Err(KeyError::NoSuchApp(_))));
    let orphan = KeySpec { app: MAIL.to_owned(), related_to: Some("none".to_owned()), ..KeySpec::default() };
    assert!(matches!(simulator.add_key(&orphan), Err(KeyError::NoSuchKey(_))));
    assert!(matches!(simulator.change_key("none", &KeyChange::default()), Err(KeyError::NoSuchKey(_))));
    assert!(matches!(simulator.add_topic(MAIL, "com.contoso.chat"), Err(KeyError::Topic(_))));
    assert!(matches!(simulator.add_topic("nobody", "com.x"), Err(KeyError::NoSuchApp(_))));
    assert_eq!(simulator.keys().len(), 2);
}
