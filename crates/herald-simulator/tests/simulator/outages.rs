//! Outages: providers that can't be reached, don't answer, or are unavailable, for a while.

use std::io::ErrorKind;

use herald_simulator::{Outage, OutageMode, Provider};
use tokio::net::TcpStream;

use super::wire::{Wire, pushing, tls, with_key};
use super::*;

fn begin(simulator: &Simulator, provider: Provider, mode: OutageMode) {
    simulator.begin_outage(Outage::new(provider, mode)).unwrap();
}

async fn connects(url: &str) -> bool {
    match TcpStream::connect(url.replace("https://localhost", "127.0.0.1")).await {
        Ok(_) => true,
        // Reset: it was still waiting to be accepted when the port closed.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Until the listener has seen the outage's begin or end.
async fn until_connects(url: &str, wanted: bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while connects(url).await != wanted {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
}

#[tokio::test]
async fn a_port_refuses_while_nobody_listens_and_is_the_same_one_afterwards() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let mut wire = Wire::apns(&simulator).await;
    assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200);
    begin(&simulator, Provider::Apns, OutageMode::Refuse);
    assert!(wire.ended_by_peer().await.is_err());
    for url in [simulator.apns_url(), simulator.apns_sandbox_url()] {
        until_connects(&url, false).await;
    }
    // Others are not met.
    assert!(tls(&simulator.fcm_url(), simulator.ca_pem(), &["h2"]).await.is_ok());
    simulator.end_outages(Some(Provider::Fcm));
    assert!(!connects(&simulator.apns_url()).await);
    simulator.end_outages(None);
    until_connects(&simulator.apns_url(), true).await;
    assert_eq!(Wire::apns(&simulator).await.reason(pushing(&simulator, &token)).await.0, 200);
}

#[tokio::test]
async fn an_outage_ends_by_itself_after_its_time() {
    let simulator = start().await;
    let began = tokio::time::Instant::now();
    let outage = Outage { for_ms: Some(3_000), ..Outage::new(Provider::Fcm, OutageMode::Refuse) };
    simulator.begin_outage(outage).unwrap();
    until_connects(&simulator.fcm_url(), false).await;
    until_connects(&simulator.fcm_url(), true).await;
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert!(simulator.outages().is_empty());
    assert!(tls(&simulator.fcm_url(), simulator.ca_pem(), &["h2"]).await.is_ok());
}

#[tokio::test]
async fn connections_are_closed_as_soon_as_they_are_accepted() {
    let simulator = start().await;
    let mut wire = Wire::apns(&simulator).await;
    begin(&simulator, Provider::Apns, OutageMode::Close);
    assert!(wire.ended_by_peer().await.is_err());
    assert!(tls(&simulator.apns_url(), simulator.ca_pem(), &["h2"]).await.is_err());
    assert_eq!(simulator.counters().ended["apns"]["outage"], 1);
    simulator.end_outages(None);
    assert!(tls(&simulator.apns_url(), simulator.ca_pem(), &["h2"]).await.is_ok());
}

#[tokio::test]
async fn a_hanging_provider_answers_neither_tls_nor_requests() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    begin(&simulator, Provider::Apns, OutageMode::Hang);
    let (url, ca_pem) = (simulator.apns_url(), simulator.ca_pem());
    let mut shaking = std::pin::pin!(tls(&url, ca_pem, &["h2"]));
    let mut asked = std::pin::pin!(wire.reason(pushing(&simulator, &token)));
    // Both have reached the simulator, and nothing comes.
    let reached = async {
        while !(simulator.counters().ended.contains_key("apns") && simulator.counters().unanswered.contains_key("apns"))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        shaken = &mut shaking => panic!("TLS got an answer: {shaken:?}"),
        answer = &mut asked => panic!("a request got an answer: {answer:?}"),
        () = reached => {}
    }
    simulator.end_outages(None);
    assert!(shaking.await.is_err());
    assert_eq!(Wire::apns(&simulator).await.reason(pushing(&simulator, &token)).await.0, 200);
}

#[tokio::test]
async fn an_unavailable_provider_says_so_to_all_or_about_one_topic() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    let of_mail = Outage {
        topic: Some(MAIL_TOPIC.to_owned()),
        retry_after_secs: Some(7),
        ..Outage::new(Provider::Apns, OutageMode::Unavailable)
    };
    simulator.begin_outage(of_mail).unwrap();
    let response = wire.answer(pushing(&simulator, &token), super::wire::RAW).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].as_bytes()), (503, &b"7"[..]));
    let chat = with_key(&current_provider_token(&mail(&simulator)), "com.contoso.chat", &token);
    assert_eq!(wire.reason(chat).await.1, "DeviceTokenNotForTopic");

    let client = client(&simulator);
    let send =
        || client.post(format!("{}/v1/projects/contoso-mail/messages:send", simulator.fcm_url())).body("{}").send();
    let mint = || client.post(format!("{}/token", simulator.fcm_url())).body("x=1").send();
    begin(&simulator, Provider::Oauth, OutageMode::Unavailable);
    assert_eq!(mint().await.unwrap().status(), 503);
    assert_eq!(send().await.unwrap().status(), 401);
    begin(&simulator, Provider::Fcm, OutageMode::Unavailable);
    let response = send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (503, false));
    simulator.end_outages(Some(Provider::Oauth));
    assert_eq!(mint().await.unwrap().status(), 400);
    // The token endpoint has no port of its own: the request's connection ends.
    begin(&simulator, Provider::Oauth, OutageMode::Close);
    assert!(mint().await.is_err());
    let nonsense = Outage { topic: Some("x".to_owned()), ..Outage::new(Provider::Apns, OutageMode::Close) };
    assert!(simulator.begin_outage(nonsense).is_err());
    simulator.reset();
    assert!(simulator.outages().is_empty());
}
