//! APNs: every refusal, and the rules of a connection.

use std::error::Error;

use herald_simulator::{
    Condition, Environment, Fault, PhoneChange, PhoneSpec, Platform, Provider, Script, SettingsChange, Simulator,
};
use reqwest::RequestBuilder;

use super::*;

pub(crate) async fn reason(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    if status == 200 {
        return (status, String::new());
    }
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = json_of(response).await;
    (status, body["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_push_is_accepted_with_its_id_and_no_body() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let client = client(&simulator);
    let id = "01234567-89ab-cdef-0123-456789abcdef";
    let response = raw_push(&simulator, &client, &token, "n").header("apns-id", id).send().await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert_eq!((response.status().as_u16(), response.headers()["apns-id"].as_bytes()), (200, id.as_bytes()));
    assert!(!response.headers().contains_key("apns-unique-id"));
    assert!(response.bytes().await.unwrap().is_empty());

    let response = raw_push(&simulator, &client, &token.to_uppercase(), "n").send().await.unwrap();
    let made = response.headers()["apns-id"].to_str().unwrap();
    assert_eq!((response.status().as_u16(), made.len()), (200, 36));
    assert_eq!(simulator.counters().accepted["apns"]["background"], 2);
    assert_eq!(simulator.phone("anna").unwrap().tally.raws_delivered, 2);
}

/// Each row changes one thing about a push that is right; `set` replaces a header, an empty value removes it.
async fn check_refusal(simulator: &Simulator, token: &str, change: &Change, expected: (u16, &str)) {
    let client = client(simulator);
    let mut request = raw_push(simulator, &client, token, "n").build().unwrap();
    match change {
        Change::Set(name, value) => {
            request.headers_mut().remove(*name);
            if !value.is_empty() {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
        }
        Change::Repeat(name) => {
            let value = request.headers()[*name].clone();
            request.headers_mut().append(*name, value);
        }
        Change::Method(method) => *request.method_mut() = method.clone(),
        Change::Path(path) => request.url_mut().set_path(path),
        Change::Body(body) => *request.body_mut() = Some(body.clone().into()),
    }
    let request = RequestBuilder::from_parts(client, request);
    assert_eq!(reason(request).await, (expected.0, expected.1.to_owned()), "{change:?}");
}

#[derive(Debug)]
enum Change {
    Set(&'static str, String),
    Repeat(&'static str),
    Method(http::Method),
    Path(String),
    Body(String),
}

fn set(name: &'static str, value: &str) -> Change {
    Change::Set(name, value.to_owned())
}

fn device(token: &str) -> Change {
    Change::Path(format!("/3/device/{token}"))
}

fn padded(length: usize) -> Change {
    let empty = json!({ "aps": { "content-available": 1 }, "x": "" }).to_string().len();
    Change::Body(json!({ "aps": { "content-available": 1 }, "x": "x".repeat(length - empty) }).to_string())
}

fn bearer(token: &str) -> Change {
    Change::Set("authorization", format!("bearer {token}"))
}

/// A provider token with this header and these claims, signed with the key of `MAIL`.
fn token_of(simulator: &Simulator, header: &Header, claims: &Value) -> String {
    let key = EncodingKey::from_ec_pem(mail(simulator).apns_key_pem.as_bytes()).unwrap();
    jsonwebtoken::encode(header, claims, &key).unwrap()
}

#[tokio::test]
async fn every_wrong_request_is_refused_with_its_reason() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let spec = PhoneSpec::new(CHAT, Platform::Ios);
    let other = simulator.add_phone("other app", &spec).unwrap().token;
    let sandbox = PhoneSpec { environment: Environment::Sandbox, ..PhoneSpec::new(MAIL, Platform::Ios) };
    let sandboxed = simulator.add_phone("sandbox", &sandbox).unwrap().token;
    let chat = simulator.credentials(CHAT).unwrap();
    for (change, expected) in [
        (Change::Repeat("apns-topic"), (400, "DuplicateHeaders")),
        (set("apns-id", "x"), (400, "BadMessageId")),
        (set("apns-id", "01234567-89AB-cdef-0123-456789abcdef"), (400, "BadMessageId")),
        (Change::Method(http::Method::PUT), (405, "MethodNotAllowed")),
        (set("apns-topic", ""), (400, "MissingTopic")),
        (set("apns-topic", "com.unknown"), (400, "BadTopic")),
        (set("apns-topic", "com.contoso.mail.voip"), (400, "BadTopic")),
        (set("apns-topic", "com.contoso.chat"), (400, "DeviceTokenNotForTopic")),
        (device(&other), (400, "DeviceTokenNotForTopic")),
        (set("apns-collapse-id", &"x".repeat(65)), (400, "BadCollapseId")),
        (set("apns-expiration", "soon"), (400, "BadExpirationDate")),
        (set("apns-expiration", "-1"), (400, "BadExpirationDate")),
        (set("apns-priority", "7"), (400, "BadPriority")),
        (set("apns-priority", "10"), (400, "BadPriority")),
        (set("apns-priority", ""), (400, "BadPriority")),
        (set("apns-push-type", "raw"), (400, "InvalidPushType")),
        (set("apns-push-type", "alert"), (400, "InvalidPushType")),
        (Change::Path("/3/devices/ab".to_owned()), (404, "BadPath")),
        (device("ab/cd"), (404, "BadPath")),
        (device(""), (400, "MissingDeviceToken")),
        (device("abc"), (400, "BadDeviceToken")),
        (device("zz"), (400, "BadDeviceToken")),
        (device(&"ab".repeat(101)), (400, "BadDeviceToken")),
        (device("abcd"), (400, "BadDeviceToken")),
        (device(&sandboxed), (400, "BadDeviceToken")),
        (set("authorization", ""), (403, "MissingProviderToken")),
        (set("authorization", "basic abc"), (403, "InvalidProviderToken")),
        (bearer("a.b.c"), (403, "InvalidProviderToken")),
        (bearer(&provider_token(&chat, 0)), (400, "TopicDisallowed")),
        (bearer(&provider_token(&mail(&simulator), -400)), (403, "InvalidProviderToken")),
        (bearer(&provider_token(&mail(&simulator), 3700)), (403, "ExpiredProviderToken")),
        (Change::Body(String::new()), (400, "PayloadEmpty")),
        (Change::Body("[1]".to_owned()), (400, "PayloadEmpty")),
        (set("content-encoding", "gzip"), (400, "PayloadEmpty")),
        (padded(4097), (413, "PayloadTooLarge")),
        (padded(600_000), (413, "PayloadTooLarge")),
        (Change::Body(json!({"aps": {"content-available": 1, "alert": "a"}}).to_string()), (400, "InvalidPushType")),
        // And what is just within the limits is not refused.
        (padded(4096), (200, "")),
        (set("apns-collapse-id", &"x".repeat(64)), (200, "")),
        (set("apns-push-type", ""), (200, "")),
        (set("apns-expiration", "0"), (200, "")),
        (bearer(&provider_token(&mail(&simulator), 3500)), (200, "")),
        (bearer(&provider_token(&mail(&simulator), -200)), (200, "")),
    ] {
        check_refusal(&simulator, &token, &change, expected).await;
    }
    let refused: u64 = simulator.counters().refused["apns"].values().sum();
    assert_eq!(refused, 37);
}

#[tokio::test]
async fn every_wrong_provider_token_is_refused() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let chat = simulator.credentials(CHAT).unwrap();
    let own = mail(&simulator);
    let good_header = || Header { kid: Some(own.apns_key_id.clone()), ..Header::new(Algorithm::ES256) };
    let claims = |iat: Value| json!({ "iss": own.apns_team_id, "iat": iat });
    let forged = format!("{}x", provider_token(&own, 0));
    let foreign_key = provider_token(&Credentials { apns_key_pem: chat.apns_key_pem.clone(), ..own.clone() }, 0);
    let refused = (403, "InvalidProviderToken");
    for (text, expected) in [
        (forged, refused),
        (foreign_key, refused),
        (
            token_of(
                &simulator,
                &Header { kid: Some("0123456789".to_owned()), ..good_header() },
                &claims(json!(now())),
            ),
            refused,
        ),
        (token_of(&simulator, &Header { kid: None, ..good_header() }, &claims(json!(now()))), refused),
        (token_of(&simulator, &good_header(), &json!({"iss": chat.apns_team_id, "iat": now()})), refused),
        (token_of(&simulator, &good_header(), &json!({"iss": own.apns_team_id})), refused),
        (token_of(&simulator, &good_header(), &claims(json!(now().to_string()))), refused),
        (token_of(&simulator, &good_header(), &claims(json!(0.5 + f64::from(i32::try_from(now()).unwrap())))), refused),
        (token_of(&simulator, &good_header(), &claims(json!(now()))), (200, "")),
    ] {
        check_refusal(&simulator, &token, &bearer(&text), expected).await;
    }
    simulator.set(&SettingsChange { strict: Some(false), ..SettingsChange::default() });
    let as_text = token_of(&simulator, &good_header(), &claims(json!(now().to_string())));
    check_refusal(&simulator, &token, &bearer(&as_text), (200, "")).await;
    check_refusal(&simulator, &token, &set("apns-priority", "10"), (200, "")).await;
}

#[tokio::test]
async fn an_expired_provider_token_wedges_its_connection_and_no_other() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wedged = client(&simulator);
    let mut request = raw_push(&simulator, &wedged, &token, "n").build().unwrap();
    let expired = format!("bearer {}", provider_token(&mail(&simulator), 3700));
    request.headers_mut().insert("authorization", expired.parse().unwrap());
    let request = RequestBuilder::from_parts(wedged.clone(), request);
    assert_eq!(reason(request).await.1, "ExpiredProviderToken");
    assert_eq!(reason(raw_push(&simulator, &wedged, &token, "n")).await.1, "ExpiredProviderToken");
    assert_eq!(reason(raw_push(&simulator, &client(&simulator), &token, "n")).await.0, 200);
}

#[tokio::test]
async fn a_connection_takes_a_new_provider_token_every_twenty_minutes_and_not_sooner() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let client = client(&simulator);
    let first = provider_token(&mail(&simulator), 0);
    let with = |provider_token: String| {
        let mut request = raw_push(&simulator, &client, &token, "n").build().unwrap();
        request.headers_mut().insert("authorization", format!("bearer {provider_token}").parse().unwrap());
        RequestBuilder::from_parts(client.clone(), request)
    };
    assert_eq!(reason(with(first.clone())).await.0, 200);
    let second = provider_token(&mail(&simulator), 1);
    assert_eq!(reason(with(second.clone())).await, (429, "TooManyProviderTokenUpdates".to_owned()));
    // The connection goes on with the token it has.
    assert_eq!(reason(with(first)).await.0, 200);
    simulator.set(&SettingsChange { clock_offset_secs: Some(20 * 60), ..SettingsChange::default() });
    assert_eq!(reason(with(second)).await.0, 200);
    assert_eq!(simulator.counters().connections["apns"], 1);
}

#[tokio::test]
async fn an_uninstalled_app_is_gone_since_a_time() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let gone = PhoneChange {
        condition: Some(Condition::Uninstalled),
        unregistered_at_ms: Some(1_700_000_000_123),
        ..PhoneChange::default()
    };
    simulator.change_phone("anna", &gone).unwrap();
    let response = raw_push(&simulator, &client(&simulator), &token, "n").send().await.unwrap();
    assert_eq!(response.status(), 410);
    let expected = json!({ "reason": "Unregistered", "timestamp": 1_700_000_000_123_u64 });
    assert_eq!(json_of(response).await, expected);
}

#[tokio::test]
async fn the_sandbox_is_another_environment() {
    let simulator = start().await;
    let sandbox = PhoneSpec { environment: Environment::Sandbox, ..PhoneSpec::new(MAIL, Platform::Ios) };
    let token = simulator.add_phone("anna", &sandbox).unwrap().token;
    let client = client(&simulator);
    let mut request = raw_push(&simulator, &client, &token, "n").build().unwrap();
    let url = format!("{}/3/device/{token}", simulator.apns_sandbox_url());
    *request.url_mut() = url.parse().unwrap();
    let response = client.execute(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("apns-unique-id"));
}

#[tokio::test]
async fn a_client_without_alpn_is_served_http2_and_one_without_our_authority_is_not_served() {
    let simulator = start().await;
    iphone(&simulator, "anna");
    assert!(Client::new().get(simulator.apns_url()).send().await.is_err());

    let mut roots = rustls::RootCertStore::empty();
    let ca: rustls_pki_types::CertificateDer<'_> =
        rustls_pki_types::pem::PemObject::from_pem_slice(simulator.ca_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = simulator.apns_url().replace("https://localhost", "127.0.0.1");
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let request = http::Request::post("https://localhost/3/device/").body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_script_answers_instead_of_apns_or_leaves_the_client_without_an_answer() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let throttle = Script {
        token: Some(token.clone()),
        status: Some(429),
        reason: Some("TooManyRequests".to_owned()),
        headers: [("retry-after".to_owned(), "7".to_owned())].into(),
        ..Script::default()
    };
    let fault = |fault| Script { fault: Some(fault), provider: Some(Provider::Apns), ..Script::default() };
    let scripts = vec![throttle, fault(Fault::Reset), fault(Fault::Close)];
    simulator.script(scripts).unwrap();
    let client = client(&simulator);
    let response = raw_push(&simulator, &client, &token, "n").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].as_bytes()), (429, &b"7"[..]));
    assert_eq!(json_of(response).await, json!({ "reason": "TooManyRequests" }));

    let error = raw_push(&simulator, &client, &token, "n").send().await.unwrap_err();
    assert!(h2_error(&error).is_some_and(h2::Error::is_reset), "{error:?}");
    assert!(raw_push(&simulator, &client, &token, "n").send().await.is_err());
    assert_eq!(reason(raw_push(&simulator, &client, &token, "n")).await.0, 200);
    let counts = simulator.counters();
    assert_eq!((counts.unanswered["apns"]["reset"], counts.unanswered["apns"]["close"]), (1, 1));
    assert_eq!(counts.refused["apns"]["TooManyRequests"], 1);
    assert_eq!(simulator.phone("anna").unwrap().tally.received, 1);
}

#[tokio::test]
async fn a_processed_push_whose_answer_hangs_reaches_the_phone() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    simulator.script(vec![Script { fault: Some(Fault::Hang), process: true, ..Script::default() }]).unwrap();
    let mut sending = JoinSet::new();
    sending.spawn(raw_push(&simulator, &client(&simulator), &token, "n").send());
    let reached = simulator.wait_for_phone("anna", LIMIT, |phone| phone.tally.raws_delivered == 1).await;
    assert!(reached.is_some());
    simulator.shutdown().await;
    assert!(sending.join_next().await.unwrap().unwrap().is_err());
}

fn h2_error(error: &reqwest::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        source = inner.source();
    }
    None
}

#[tokio::test]
async fn in_a_bench_every_well_formed_token_is_accepted_and_nothing_is_kept_about_it() {
    let simulator = start().await;
    simulator.set(&SettingsChange { accept_unknown_tokens: Some(true), ..SettingsChange::default() });
    let client = client(&simulator);
    assert_eq!(reason(raw_push(&simulator, &client, "abcd", "n")).await.0, 200);
    assert_eq!(simulator.counters().accepted["apns"]["background"], 1);
    assert!(simulator.journal().is_empty() && simulator.phones().is_empty());
}
