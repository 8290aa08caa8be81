//! Connections to APNs: who gets one, and every way it can end.

use std::io::ErrorKind;

use herald_simulator::{ApnsRules, Condition, Fault, PhoneChange, Provider, Script, SettingsChange, Storm};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::{RAW, Wire, pushing, tls};
use super::*;

fn fault(simulator: &Simulator, fault: Fault) {
    simulator.script(vec![Script { fault: Some(fault), ..Script::default() }]).unwrap();
}

pub(crate) fn rules(simulator: &Simulator, rules: ApnsRules) {
    simulator.set(&SettingsChange { apns: Some(rules), ..SettingsChange::default() });
}

#[tokio::test]
async fn http_1_1_gets_no_connection() {
    let simulator = start().await;
    let refused = tls(&simulator.apns_url(), simulator.ca_pem(), &["http/1.1"]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");

    // And without ALPN, HTTP/2 is expected.
    let mut stream = tls(&simulator.apns_url(), simulator.ca_pem(), &[]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // However it ends, nothing of HTTP/1.1 comes.
    drop(stream.read_to_end(&mut answer).await);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "{answer:?}");
}

#[tokio::test]
async fn a_host_header_without_authority_is_taken_and_seen_in_the_journal() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    let mut request = pushing(&simulator, &token);
    // The version makes the library leave `:authority` out.
    *request.version_mut() = http::Version::HTTP_11;
    *request.uri_mut() = format!("/3/device/{token}").parse().unwrap();
    request.headers_mut().insert("host", "localhost".parse().unwrap());
    assert_eq!(wire.reason(request).await.0, 200);
    let journal = simulator.journal();
    let names: Vec<_> = journal[0].raw_headers.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [":method", ":path", "authorization", "apns-topic", "apns-push-type", "apns-priority", "host"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn the_journal_has_the_headers_as_they_came_and_no_secret() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    let mut request = pushing(&simulator, &token);
    request.headers_mut().append("apns-priority", "10".parse().unwrap());
    assert_eq!(wire.reason(request).await, (400, "DuplicateHeaders".to_owned()));
    let entry = &simulator.journal()[0];
    let raw: Vec<_> = entry.raw_headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let path = format!("/3/device/…{}", &token[token.len() - 6..]);
    let expected = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path.as_str()),
        ("authorization", "…"),
        ("apns-topic", MAIL_TOPIC),
        ("apns-push-type", "background"),
        ("apns-priority", "5"),
        ("apns-priority", "10"),
    ];
    assert_eq!(raw, expected);
}

#[tokio::test]
async fn a_connection_ends_with_fin_or_with_a_reset() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    for (how, kind) in [(Fault::Close, ErrorKind::UnexpectedEof), (Fault::Rst, ErrorKind::ConnectionReset)] {
        let mut wire = Wire::apns(&simulator).await;
        // So that nothing of the handshake is under way, which would turn a FIN into a reset.
        assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200);
        fault(&simulator, how);
        assert!(wire.answer(pushing(&simulator, &token), RAW).await.is_err());
        let error = wire.ended_by_peer().await.unwrap_err();
        assert_eq!(error.get_io().map(std::io::Error::kind), Some(kind), "{how:?}: {error:?}");
    }
    assert_eq!(simulator.counters().unanswered["apns"]["rst"], 1);
}

#[tokio::test]
async fn a_stalled_connection_answers_nothing_not_even_a_ping_until_it_is_ended() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let mut wire = Wire::apns(&simulator).await;
    wire.ping.ping(h2::Ping::opaque()).await.unwrap();
    fault(&simulator, Fault::Stall);
    let stalled = wire.start(pushing(&simulator, &token), RAW).await.unwrap();
    let met = || simulator.counters().unanswered.contains_key("apns");
    let other = Wire::apns(&simulator).await;
    while !met() {
        tokio::task::yield_now().await;
    }
    tokio::select! {
        biased;
        answer = stalled => panic!("an answer came: {answer:?}"),
        pong = wire.ping.ping(h2::Ping::opaque()) => panic!("a PING was answered: {pong:?}"),
        next = other.reason(pushing(&simulator, &token)) => assert_eq!(next.0, 200),
    }
    simulator.end_connections(Some(Provider::Apns), false);
    assert!(wire.ended_by_peer().await.is_err());
}

#[tokio::test]
async fn connections_are_ended_at_once_or_politely() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let mut wire = Wire::apns(&simulator).await;
    // What runs is answered, if politely.
    let held = Script { delay_ms: 100, ..Script::default() };
    simulator.script(vec![held]).unwrap();
    let running = wire.start(pushing(&simulator, &token), RAW).await.unwrap();
    while !simulator.scripts().is_empty() {
        tokio::task::yield_now().await;
    }
    simulator.end_connections(None, true);
    assert_eq!(running.await.unwrap().status(), 200);
    wire.ended_by_peer().await.unwrap();

    let mut wire = Wire::apns(&simulator).await;
    assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200);
    simulator.end_connections(Some(Provider::Fcm), false);
    assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200);
    simulator.end_connections(Some(Provider::Apns), false);
    assert!(wire.ended_by_peer().await.is_err());
}

#[tokio::test]
async fn an_idle_connection_is_ended_and_a_busy_one_is_not() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    rules(&simulator, ApnsRules { idle_close_ms: 3_000, ..ApnsRules::default() });
    let mut wire = Wire::apns(&simulator).await;
    simulator.script(vec![Script { delay_ms: 3_500, ..Script::default() }]).unwrap();
    assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200);
    // It was in use all the time: it takes another.
    assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200);
    wire.ended_by_peer().await.unwrap();
    assert_eq!(simulator.counters().ended["apns"]["idle"], 1);
}

#[tokio::test]
async fn an_old_connection_is_ended() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let mut unmet = Wire::apns(&simulator).await;
    assert_eq!(unmet.reason(pushing(&simulator, &token)).await.0, 200);
    rules(&simulator, ApnsRules { max_age_ms: 50, ..ApnsRules::default() });
    let mut wire = Wire::apns(&simulator).await;
    wire.ended_by_peer().await.unwrap();
    assert_eq!(simulator.counters().ended["apns"]["age"], 1);
    rules(&simulator, ApnsRules::default());
    let other = Wire::apns(&simulator).await;
    tokio::select! {
        biased;
        end = unmet.ended_by_peer() => panic!("it was opened before the rule: {end:?}"),
        next = other.reason(pushing(&simulator, &token)) => assert_eq!(next.0, 200),
    }
}

#[tokio::test]
async fn too_many_errors_end_a_connection_bad_tokens_sooner_and_gone_ones_never() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let gone = iphone(&simulator, "gone").token;
    let uninstalled = PhoneChange { condition: Some(Condition::Uninstalled), ..PhoneChange::default() };
    simulator.change_phone("gone", &uninstalled).unwrap();
    let limits = ApnsRules { errors_until_disconnect: 4, bad_device_token_weight: 3, ..ApnsRules::default() };
    rules(&simulator, limits);
    let mut wire = Wire::apns(&simulator).await;
    for _ in 0..10 {
        assert_eq!(wire.reason(pushing(&simulator, &gone)).await.0, 410);
    }
    assert_eq!(wire.reason(pushing(&simulator, "abcd")).await.1, "BadDeviceToken");
    assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200);
    let mut no_topic = pushing(&simulator, &token);
    no_topic.headers_mut().remove("apns-topic");
    // The answer that is too much is still given.
    assert_eq!(wire.reason(no_topic).await.1, "MissingTopic");
    wire.ended_by_peer().await.unwrap();
    assert_eq!(simulator.counters().ended["apns"]["errors"], 1);
}

#[tokio::test]
async fn who_reconnects_too_often_is_kept_out_for_a_while() {
    let simulator = start().await;
    let storm = Some(Storm { per_minute: 2, refuse_ms: 600_000 });
    rules(&simulator, ApnsRules { storm, ..ApnsRules::default() });
    let url = simulator.apns_url();
    let connect = || tls(&url, simulator.ca_pem(), &["h2"]);
    let (first, second) = (connect().await, connect().await);
    assert!(first.is_ok() && second.is_ok());
    assert!(connect().await.is_err());
    assert!(connect().await.is_err());
    assert_eq!(simulator.counters().ended["apns"]["storm"], 2);
    rules(&simulator, ApnsRules::default());
    assert!(connect().await.is_ok());
}

#[tokio::test]
async fn another_ca_is_seen_by_new_connections_until_it_is_changed_back() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    let other_ca = |other_ca| simulator.set(&SettingsChange { other_ca: Some(other_ca), ..SettingsChange::default() });
    other_ca(true);
    for url in [simulator.apns_url(), simulator.apns_sandbox_url(), simulator.fcm_url()] {
        let refused = tls(&url, simulator.ca_pem(), &["h2"]).await.unwrap_err();
        assert!(refused.to_string().contains("certificate"), "{refused}");
        assert!(tls(&url, simulator.other_ca_pem(), &["h2"]).await.is_ok());
    }
    assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200);
    other_ca(false);
    assert!(tls(&simulator.apns_url(), simulator.ca_pem(), &["h2"]).await.is_ok());
}

#[tokio::test]
async fn both_environments_have_a_second_port_if_wanted_and_the_same_phones() {
    let simulator = start_with(Options { apns_second_ports: Some([0, 0]), ..options() }).await;
    let token = iphone(&simulator, "anna").token;
    let [production, sandbox] = simulator.apns_second_urls().unwrap();
    for (url, status) in [(production, 200), (sandbox, 400)] {
        let wire = Wire::over(tls(&url, simulator.ca_pem(), &["h2"]).await.unwrap()).await;
        assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, status, "{url}");
    }
    assert_eq!(start().await.apns_second_urls(), None);
}
