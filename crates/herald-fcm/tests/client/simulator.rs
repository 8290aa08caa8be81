//! The client against the simulator, which is strict about what Google documents.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herald_core::outcome::fcm::classify;
use herald_core::outcome::{Outcome, Scope};
use herald_core::push::FcmPush;
use herald_core::time::Timestamp;
use herald_fcm::{Client, Config, SendError};
use herald_simulator::{
    AppSpec, Fault, Options, PhoneSpec, Platform, Provider, Script, ServiceAccountChange, SettingsChange, Simulator,
};
use serde_json::{Value, json};

pub(crate) const APP: &str = "mail.contoso.com";

/// A simulator, and a push to a phone of it.
pub(crate) async fn simulator_and_push() -> (Simulator, FcmPush) {
    let app = AppSpec {
        app: APP.to_owned(),
        bundle_id: "com.contoso.mail".to_owned(),
        project_id: "contoso-mail".to_owned(),
    };
    let simulator = Simulator::start(Options { apps: vec![app], ..Options::default() }).await.unwrap();
    let phone = simulator.add_phone("bela", &PhoneSpec::new(APP, Platform::Android)).unwrap();
    let body = json!({"message": {"token": phone.token, "data": {"k": "v"}, "android": {"priority": "HIGH"}}});
    (simulator, FcmPush { body: body.to_string().into_bytes() })
}

async fn simulator() -> (Simulator, Client, FcmPush) {
    let (simulator, push) = simulator_and_push().await;
    let mut config = Config::new(
        simulator.fcm_url(),
        simulator.credentials(APP).unwrap().fcm_service_account_json,
        Arc::new(wall_clock),
    );
    config.ca_pem = Some(simulator.ca_pem().to_owned());
    (simulator, Client::new(config).unwrap(), push)
}

pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
}

#[tokio::test]
async fn a_push_reaches_the_phone() {
    let (simulator, client, push) = simulator().await;
    let answer = client.send(&push).await.unwrap();
    assert_eq!(answer.status, 200);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(body["name"].as_str().unwrap().starts_with("projects/contoso-mail/messages/"));
    assert_eq!(simulator.phone("bela").unwrap().tally.received, 1);
    assert_eq!(simulator.counters().mints, 1);
}

#[tokio::test]
async fn revoked_access_tokens_are_healed() {
    let (simulator, client, push) = simulator().await;
    assert_eq!(client.send(&push).await.unwrap().status, 200);
    simulator.revoke_access_tokens();
    assert_eq!(client.send(&push).await.unwrap().status, 200);
    assert_eq!(simulator.counters().mints, 2);
}

#[tokio::test]
async fn a_revoked_account_is_unauthorized() {
    let (simulator, client, push) = simulator().await;
    simulator.change_service_account(APP, ServiceAccountChange { revoked: Some(true) }).unwrap();
    let sent = client.send(&push).await;
    assert_eq!(sent, Err(SendError::Unauthorized("invalid_grant: Invalid JWT Signature.".to_owned())));
}

#[tokio::test]
async fn what_was_refused_is_sent_again_and_what_may_have_been_processed_is_not() {
    let (simulator, client, push) = simulator().await;
    let fault = |fault| Script { provider: Some(Provider::Fcm), fault: Some(fault), ..Script::default() };
    simulator.script(vec![fault(Fault::Refuse)]).unwrap();
    assert_eq!(client.send(&push).await.unwrap().status, 200);
    for lost in [Fault::Reset, Fault::Close] {
        simulator.script(vec![fault(lost)]).unwrap();
        assert_eq!(client.send(&push).await, Err(SendError::Unknown), "{lost:?}");
    }
    assert_eq!(client.send(&push).await.unwrap().status, 200);
    assert_eq!(simulator.phone("bela").unwrap().tally.received, 2);
}

#[tokio::test]
async fn each_refusal_is_about_whom_google_means_in_all_its_wordings() {
    let (simulator, client, push) = simulator().await;
    let project = Outcome::Throttled { scope: Scope::Provider, after: Some(Duration::from_secs(60)) };
    let device = Outcome::Throttled { scope: Scope::Device, after: Some(Duration::from_secs(60)) };
    let gone = Outcome::Gone { since: None, guarded: true };
    let rules =
        |fcm: Value| SettingsChange { fcm: Some(serde_json::from_value(fcm).unwrap()), ..SettingsChange::default() };
    let to = |message: Value| FcmPush { body: json!({ "message": message }).to_string().into_bytes() };
    let invalid_token = || to(json!({ "token": "no token" }));
    let once = |quota: &str| json!({ quota: { "perMinute": 1 }, "retryAfter": "absent" });
    for (fcm, push, outcome) in [
        (json!({}), invalid_token(), gone),
        (json!({ "detailsReversed": true }), invalid_token(), gone),
        (json!({ "invalidTokenWording": "sentence" }), invalid_token(), gone),
        (json!({}), to(json!({ "token": "never-was-one" })), gone),
        (json!({}), to(json!({ "data": {} })), Outcome::Invalid),
        (json!({ "detailsReversed": true }), to(json!({ "data": {} })), Outcome::Invalid),
        (json!({}), to(json!({ "token": "never-was-one", "data": { "from": "x" } })), Outcome::Invalid),
        (json!({}), to(json!({ "token": "never-was-one", "data": { "k": 1 } })), Outcome::Invalid),
        (once("projectQuota"), push.clone(), project),
        (once("deviceRate"), push.clone(), device),
    ] {
        simulator.set(&rules(fcm.clone()));
        let mut answer = client.send(&push).await.unwrap();
        if answer.status == 200 {
            // That was the one that is allowed.
            answer = client.send(&push).await.unwrap();
        }
        let words = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(classify(&answer, wall_clock()).outcome, outcome, "{fcm}: {words}");
    }
    let soon = |outcome| match outcome {
        Outcome::Throttled { scope: Scope::Provider, after: Some(after) } => after <= Duration::from_secs(60),
        _ => false,
    };
    for retry_after in ["seconds", "date"] {
        simulator.set(&rules(json!({ "projectQuota": { "perMinute": 1 }, "retryAfter": retry_after })));
        client.send(&push).await.unwrap();
        let answer = client.send(&push).await.unwrap();
        assert!(answer.retry_after.is_some() && soon(classify(&answer, wall_clock()).outcome), "{answer:?}");
    }
}

#[tokio::test]
async fn nonsense_from_the_token_endpoint_is_asked_again_within_one_push() {
    let (simulator, client, push) = simulator().await;
    let nonsense = |body: Value| Script {
        provider: Some(Provider::Oauth),
        status: Some(200),
        body: Some(body),
        ..Script::default()
    };
    simulator.script(vec![nonsense(json!("{\"access_token\":\"ya29.")), nonsense(json!({}))]).unwrap();
    assert_eq!(client.send(&push).await.unwrap().status, 200);
    assert_eq!((simulator.scripts().len(), simulator.counters().mints), (0, 1));
}
