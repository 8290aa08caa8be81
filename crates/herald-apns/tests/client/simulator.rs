//! The client against the simulator, which is strict about what Apple documents.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use herald_apns::{Client, Config};
use herald_core::ids::PushToken;
use herald_core::outcome::Undelivered;
use herald_core::push::{ApnsPush, PushType};
use herald_core::time::Timestamp;
use herald_simulator::{AppSpec, Fault, Options, PhoneChange, PhoneSpec, Platform, Provider, Script, Simulator};

use crate::wire::{push, wall_clock};

const APP: &str = "mail.contoso.com";

async fn simulator() -> (Simulator, ApnsPush) {
    let app = AppSpec {
        app: APP.to_owned(),
        bundle_id: "com.contoso.mail".to_owned(),
        project_id: "contoso-mail".to_owned(),
    };
    let simulator = Simulator::start(Options { apps: vec![app], ..Options::default() }).await.unwrap();
    let phone = simulator.add_phone("anna", &PhoneSpec::new(APP, Platform::Ios)).unwrap();
    let push = ApnsPush { token: PushToken::new(phone.token), ..push() };
    (simulator, push)
}

fn client(simulator: &Simulator, now: herald_apns::Clock) -> Client {
    let credentials = simulator.credentials(APP).unwrap();
    let mut config = Config::new(
        simulator.apns_url(),
        credentials.apns_team_id,
        credentials.apns_key_id,
        credentials.apns_key_pem,
        now,
    );
    config.ca_pem = Some(simulator.ca_pem().to_owned());
    Client::new(config).unwrap()
}

#[tokio::test]
async fn an_alert_and_a_raw_push_reach_the_phone() {
    let (simulator, alert) = simulator().await;
    let client = client(&simulator, Arc::new(wall_clock));
    let raw = ApnsPush {
        push_type: PushType::Background,
        priority: 5,
        expiration: wall_clock().secs() + 60,
        id: uuid::Uuid::from_u128(1),
        body: br#"{"aps":{"content-available":1},"k":"v"}"#.to_vec(),
        ..alert.clone()
    };
    let answer = client.send(&alert).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"".as_slice()));
    assert_eq!(answer.provider_id, Some(alert.id.to_string()));
    assert_eq!(client.send(&raw).await.unwrap().status, 200);
    assert_eq!(simulator.phone("anna").unwrap().tally.received, 2);
}

#[tokio::test]
async fn a_refusal_goes_up_with_its_words() {
    let (simulator, alert) = simulator().await;
    let client = client(&simulator, Arc::new(wall_clock));
    let uninstalled =
        PhoneChange { condition: Some(herald_simulator::Condition::Uninstalled), ..PhoneChange::default() };
    simulator.change_phone("anna", &uninstalled).unwrap();
    let answer = client.send(&alert).await.unwrap();
    assert_eq!(answer.status, 410);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["reason"], "Unregistered");
    assert!(body["timestamp"].is_u64());
}

#[tokio::test]
async fn a_token_that_the_server_finds_too_old_is_healed() {
    let (simulator, alert) = simulator().await;
    // Our clock lags 70 minutes behind APNs', then is set right: what a replica sees whose host was asleep.
    let lag = Arc::new(AtomicI64::new(70 * 60));
    let lagging = Arc::clone(&lag);
    let now = move || Timestamp::from_secs(wall_clock().secs().saturating_sub(lagging.load(Ordering::SeqCst)));
    let client = client(&simulator, Arc::new(now));
    assert_eq!(client.send(&alert).await.unwrap().status, 403, "the token is young by our clock");
    lag.store(30 * 60, Ordering::SeqCst);
    assert_eq!(client.send(&alert).await.unwrap().status, 200);
}

#[tokio::test]
async fn what_was_refused_is_sent_again_and_what_may_have_been_processed_is_not() {
    let (simulator, alert) = simulator().await;
    let client = client(&simulator, Arc::new(wall_clock));
    let fault = |fault| Script { provider: Some(Provider::Apns), fault: Some(fault), ..Script::default() };
    simulator.script(vec![fault(Fault::Refuse)]).unwrap();
    assert_eq!(client.send(&alert).await.unwrap().status, 200);
    for lost in [Fault::Reset, Fault::Close] {
        simulator.script(vec![fault(lost)]).unwrap();
        assert_eq!(client.send(&alert).await, Err(Undelivered::Unknown), "{lost:?}");
    }
    assert_eq!(client.send(&alert).await.unwrap().status, 200);
    assert_eq!(simulator.phone("anna").unwrap().tally.received, 2);
}
