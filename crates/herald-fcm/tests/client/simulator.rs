//! The client against the simulator, which is strict about what Google documents.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use herald_core::push::FcmPush;
use herald_core::time::Timestamp;
use herald_fcm::{Client, Config, SendError};
use herald_simulator::{
    AppSpec, Fault, Options, PhoneSpec, Platform, Provider, Script, ServiceAccountChange, Simulator,
};

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
    let body =
        serde_json::json!({"message": {"token": phone.token, "data": {"k": "v"}, "android": {"priority": "HIGH"}}});
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
