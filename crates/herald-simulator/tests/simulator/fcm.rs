//! FCM and the token endpoint: every refusal.

use herald_simulator::{
    Condition, Fault, PhoneChange, PhoneSpec, Platform, Provider, Script, SettingsChange, TokenKind,
};
use reqwest::RequestBuilder;

use super::*;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// The service account of an app.
pub(super) fn account(simulator: &Simulator, app: &str) -> Value {
    serde_json::from_str(&simulator.credentials(app).unwrap().fcm_service_account_json).unwrap()
}

pub(super) fn claims(account: &Value) -> Value {
    let (issued, ends) = (now(), now() + 3600);
    json!({ "iss": account["client_email"], "scope": SCOPE, "aud": account["token_uri"], "iat": issued, "exp": ends })
}

pub(super) fn assertion(account: &Value, claims: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(account["private_key"].as_str().unwrap().as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, &key).unwrap()
}

pub(super) fn mint(client: &Client, account: &Value, assertion: &str) -> RequestBuilder {
    let grant_type = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    client.post(account["token_uri"].as_str().unwrap()).form(&[("grant_type", grant_type), ("assertion", assertion)])
}

async fn access_token(simulator: &Simulator, client: &Client, app: &str) -> String {
    let account = account(simulator, app);
    let response = mint(client, &account, &assertion(&account, &claims(&account))).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let answer = json_of(response).await;
    assert_eq!((&answer["expires_in"], &answer["token_type"]), (&json!(3599), &json!("Bearer")));
    answer["access_token"].as_str().unwrap().to_owned()
}

pub(super) fn send(simulator: &Simulator, client: &Client, access_token: &str, message: &Value) -> RequestBuilder {
    client
        .post(format!("{}/v1/projects/contoso-mail/messages:send", simulator.fcm_url()))
        .bearer_auth(access_token)
        .body(json!({ "message": message }).to_string())
}

pub(super) fn raw_message(token: &str, id: &str) -> Value {
    json!({ "token": token, "data": { "herald": herald("raw", id).to_string() }, "android": { "priority": "HIGH" } })
}

fn android(simulator: &Simulator, name: &str) -> String {
    simulator.add_phone(name, &PhoneSpec::new(MAIL, Platform::Android)).unwrap().token
}

fn error_code(body: &Value) -> Option<&str> {
    let details = body["error"]["details"].as_array()?;
    details.iter().find_map(|detail| detail["errorCode"].as_str())
}

#[tokio::test]
async fn a_message_is_accepted_and_named() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let client = client(&simulator);
    let access = access_token(&simulator, &client, MAIL).await;
    let response = send(&simulator, &client, &access, &raw_message(&token, "n")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
    let name = json_of(response).await["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("projects/contoso-mail/messages/"), "{name}");
    assert_eq!(simulator.phone("bert").unwrap().notifications["n"].raws_delivered, 1);
    let counts = simulator.counters();
    assert_eq!((counts.mints, counts.accepted["fcm"]["data"]), (1, 1));
}

#[tokio::test]
async fn http1_is_served_too_and_a_dry_run_reaches_no_phone() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let ca = reqwest::Certificate::from_pem(simulator.ca_pem().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([ca]).http1_only().build().unwrap();
    let access = access_token(&simulator, &client, MAIL).await;
    let body = json!({ "validateOnly": true, "message": raw_message(&token, "n") }).to_string();
    let response = send(&simulator, &client, &access, &Value::Null).body(body).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_11));
    let expected = json!({ "name": "projects/contoso-mail/messages/fake_message_id" });
    assert_eq!(json_of(response).await, expected);
    assert_eq!(simulator.phone("bert").unwrap().tally.received, 0);
}

#[tokio::test]
async fn every_wrong_assertion_is_refused() {
    let simulator = start().await;
    let client = client(&simulator);
    let own = account(&simulator, MAIL);
    let foreign = account(&simulator, CHAT);
    let with = |field: &str, value: Value| {
        let mut claims = claims(&own);
        claims[field] = value;
        assertion(&own, &claims)
    };
    for (assertion, error) in [
        (with("iss", json!("nobody@example.com")), "invalid_grant"),
        (with("aud", json!("https://example.com/token")), "invalid_grant"),
        (with("scope", json!("https://www.googleapis.com/auth/drive")), "invalid_scope"),
        (with("exp", json!(now() + 3700)), "invalid_grant"),
        (with("exp", json!(now() - 4000)), "invalid_grant"),
        (with("iat", json!(now() + 400)), "invalid_grant"),
        (assertion(&foreign, &claims(&own)), "invalid_grant"),
        ("a.b.c".to_owned(), "invalid_grant"),
        (with("aud", json!("https://oauth2.googleapis.com/token")), ""),
        (with("scope", json!(format!("openid {SCOPE}"))), ""),
    ] {
        let response = mint(&client, &own, &assertion).send().await.unwrap();
        let status = response.status().as_u16();
        let body = json_of(response).await;
        assert_eq!(body["error"].as_str().unwrap_or_default(), error, "{body}");
        assert_eq!(status, if error.is_empty() { 200 } else { 400 });
    }
    let grant = [("grant_type", "client_credentials"), ("assertion", "x")];
    let response = client.post(own["token_uri"].as_str().unwrap()).form(&grant).send().await.unwrap();
    assert_eq!(json_of(response).await["error"], "unsupported_grant_type");
    assert_eq!(simulator.counters().mints, 2);
}

#[tokio::test]
async fn credentials_that_do_not_fit_are_our_fault_and_never_the_tokens() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let client = client(&simulator);
    let access = access_token(&simulator, &client, MAIL).await;
    let foreign = access_token(&simulator, &client, CHAT).await;
    let message = raw_message(&token, "n");
    let unsigned = {
        let mut request = send(&simulator, &client, "x", &message).build().unwrap();
        request.headers_mut().remove("authorization");
        RequestBuilder::from_parts(client.clone(), request)
    };
    for (request, status, name) in [
        (unsigned, 401, "UNAUTHENTICATED"),
        (send(&simulator, &client, "ya29.never", &message), 401, "UNAUTHENTICATED"),
        (send(&simulator, &client, &foreign, &message), 403, "PERMISSION_DENIED"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        let body = json_of(response).await;
        assert_eq!((body["error"]["status"].as_str(), error_code(&body)), (Some(name), None));
    }
    simulator.set(&SettingsChange { clock_offset_secs: Some(3600), ..SettingsChange::default() });
    let response = send(&simulator, &client, &access, &message).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(json_of(response).await["error"]["details"][0]["reason"], "ACCESS_TOKEN_EXPIRED");

    for path in ["/v1/projects/unknown/messages:send", "/fcm/send"] {
        let url = format!("{}{path}", simulator.fcm_url());
        let response = client.post(url).bearer_auth(&foreign).body("{}").send().await.unwrap();
        assert_eq!(response.status(), 404);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    }
}

#[tokio::test]
async fn every_wrong_message_is_refused() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let foreign = PhoneSpec::new(CHAT, Platform::Android);
    let foreign = simulator.add_phone("other app", &foreign).unwrap().token;
    let gone = PhoneSpec { condition: Condition::Uninstalled, ..PhoneSpec::new(MAIL, Platform::Android) };
    let gone = simulator.add_phone("gone", &gone).unwrap().token;
    let fid = PhoneSpec { token_kind: TokenKind::Fid, ..PhoneSpec::new(MAIL, Platform::Android) };
    let fid = simulator.add_phone("fid", &fid).unwrap().token;
    let client = client(&simulator);
    let access = access_token(&simulator, &client, MAIL).await;
    let sized = |length: usize| json!({ "token": token, "data": { "k": "x".repeat(length - 1) } });
    for (message, status, code) in [
        (json!({ "token": "unknown-token" }), 404, Some("UNREGISTERED")),
        (json!({ "token": gone }), 404, Some("UNREGISTERED")),
        (json!({ "token": foreign }), 403, Some("SENDER_ID_MISMATCH")),
        (json!({ "token": "no token" }), 400, Some("INVALID_ARGUMENT")),
        (json!({ "data": {} }), 400, Some("INVALID_ARGUMENT")),
        (json!({ "token": token, "topic": "t" }), 400, None),
        (json!({ "token": token, "data": { "a": 1 } }), 400, None),
        (json!({ "token": token, "unknown": 1 }), 400, None),
        (json!({ "fid": token }), 404, Some("UNREGISTERED")),
        (sized(4097), 400, None),
        (sized(4096), 200, None),
        (json!({ "fid": fid }), 200, None),
        (json!({ "token": fid }), 200, None),
        (json!({ "topic": "news" }), 200, None),
    ] {
        let response = send(&simulator, &client, &access, &message).send().await.unwrap();
        let answered = response.status().as_u16();
        let body = json_of(response).await;
        assert_eq!((answered, error_code(&body)), (status, code), "{body}");
    }
    let expected = json!({"error": {
        "code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND",
        "details": [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED"}],
    }});
    let response = send(&simulator, &client, &access, &json!({ "token": gone })).send().await.unwrap();
    assert_eq!(json_of(response).await, expected);
}

#[tokio::test]
async fn scripts_answer_for_fcm_and_for_the_token_endpoint() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let client = client(&simulator);
    let access = access_token(&simulator, &client, MAIL).await;
    let quota = Script {
        phone: Some("bert".to_owned()),
        status: Some(429),
        error_code: Some("QUOTA_EXCEEDED".to_owned()),
        headers: [("retry-after".to_owned(), "9".to_owned())].into(),
        ..Script::default()
    };
    let page = Script { status: Some(502), body: Some(json!("<html>")), ..Script::default() };
    let refuse = Script { fault: Some(Fault::Hang), ..Script::default() };
    let revoked = Script {
        provider: Some(Provider::Oauth),
        status: Some(400),
        reason: Some("invalid_grant".to_owned()),
        ..Script::default()
    };
    simulator.script(vec![revoked, quota, page, refuse]).unwrap();
    let message = raw_message(&token, "n");
    let response = send(&simulator, &client, &access, &message).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].as_bytes()), (429, &b"9"[..]));
    let body = json_of(response).await;
    assert_eq!(
        (body["error"]["status"].as_str(), error_code(&body)),
        (Some("RESOURCE_EXHAUSTED"), Some("QUOTA_EXCEEDED"))
    );
    let response = send(&simulator, &client, &access, &message).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &*response.text().await.unwrap()), (502, "<html>"));
    let hanging = send(&simulator, &client, &access, &message).timeout(Duration::from_millis(50)).send().await;
    assert!(hanging.unwrap_err().is_timeout());

    let account = account(&simulator, MAIL);
    let response = mint(&client, &account, &assertion(&account, &claims(&account))).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(json_of(response).await, json!({ "error": "invalid_grant" }));
    assert_eq!(simulator.phone("bert").unwrap().tally.received, 0);
}

#[tokio::test]
async fn a_notification_message_is_shown_and_its_tag_replaces() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let client = client(&simulator);
    let access = access_token(&simulator, &client, MAIL).await;
    let message = json!({
        "token": token,
        "data": { "herald": herald("alert", "n").to_string() },
        "android": { "notification": { "title": "t", "tag": "g" } },
    });
    for _ in 0..2 {
        assert_eq!(send(&simulator, &client, &access, &message).send().await.unwrap().status(), 200);
    }
    let bert = simulator.phone("bert").unwrap();
    assert_eq!((bert.tally.alerts_shown, bert.on_screen, bert.notifications["n"].alerts_shown), (2, 1, 2));
    let dozing = PhoneChange { condition: Some(Condition::PowerSaving), ..PhoneChange::default() };
    simulator.change_phone("bert", &dozing).unwrap();
    let normal = json!({ "token": token, "data": { "herald": herald("raw", "m").to_string() } });
    assert_eq!(send(&simulator, &client, &access, &normal).send().await.unwrap().status(), 200);
    assert_eq!(simulator.phone("bert").unwrap().stored, 1);
}
