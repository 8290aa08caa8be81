//! The token endpoint, and what its access tokens are good for.

use herald_simulator::{KeyError, Provider, Script, ServiceAccountChange, SettingsChange};
use reqwest::RequestBuilder;

use super::fcm::*;
use super::*;

/// What the token endpoint answers to an assertion that is right.
async fn asked(simulator: &Simulator, client: &Client) -> (u16, String) {
    let account = account(simulator, MAIL);
    let response = mint(client, &account, &assertion(&account, &claims(&account))).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn revoked(revoked: bool) -> ServiceAccountChange {
    ServiceAccountChange { revoked: Some(revoked) }
}

/// The status of a push, and the reason of its ErrorInfo.
async fn pushed(simulator: &Simulator, client: &Client, access: &str, token: &str) -> (u16, String) {
    let response = send(simulator, client, access, &raw_message(token, "n")).send().await.unwrap();
    let status = response.status().as_u16();
    let body = json_of(response).await;
    assert_eq!(error_code(&body), None, "{body}");
    (status, body["error"]["details"][0]["reason"].as_str().unwrap_or_default().to_owned())
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
    let by_another_key = {
        let key = EncodingKey::from_rsa_pem(own["private_key"].as_str().unwrap().as_bytes()).unwrap();
        let header = Header { kid: Some("another".to_owned()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims(&own), &key).unwrap()
    };
    let late = "Invalid JWT: Token must be a short-lived token";
    for (assertion, error, description) in [
        (with("iss", json!("nobody@example.com")), "invalid_grant", "Invalid grant: account not found"),
        (with("aud", json!("https://example.com/token")), "invalid_grant", "Invalid JWT"),
        (with("scope", json!("https://example.com/drive")), "invalid_scope", "Invalid OAuth scope"),
        (with("scope", json!("")), "invalid_scope", "Invalid OAuth scope"),
        (with("exp", json!(now() + 3700)), "invalid_grant", late),
        (with("exp", json!(now() - 4000)), "invalid_grant", late),
        (with("iat", json!(now() + 400)), "invalid_grant", late),
        (assertion(&foreign, &claims(&own)), "invalid_grant", "Invalid JWT Signature."),
        (by_another_key, "invalid_grant", "Invalid JWT Signature."),
        ("a.b.c".to_owned(), "invalid_grant", "Invalid JWT"),
        (with("aud", json!("https://oauth2.googleapis.com/token")), "", ""),
        (with("scope", json!(format!("openid {SCOPE}"))), "", ""),
        (with("scope", json!("https://www.googleapis.com/auth/drive")), "", ""),
    ] {
        let response = mint(&client, &own, &assertion).send().await.unwrap();
        let status = response.status().as_u16();
        let body = json_of(response).await;
        assert_eq!(body["error"].as_str().unwrap_or_default(), error, "{body}");
        assert!(body["error_description"].as_str().unwrap_or_default().starts_with(description), "{body}");
        assert_eq!(status, if error.is_empty() { 200 } else { 400 });
    }
    let grant = [("grant_type", "client_credentials"), ("assertion", "x")];
    let response = client.post(own["token_uri"].as_str().unwrap()).form(&grant).send().await.unwrap();
    assert_eq!(json_of(response).await["error"], "unsupported_grant_type");
    assert_eq!(simulator.counters().mints, 3);
}

#[tokio::test]
async fn a_revoked_service_account_gets_no_access_token_and_those_it_has_hold_until_they_are_revoked() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let client = client(&simulator);
    let access = access_token(&simulator, &client, MAIL).await;

    assert!(simulator.change_service_account(MAIL, revoked(true)).unwrap().revoked);
    let refusal = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    assert_eq!(asked(&simulator, &client).await, (400, refusal.to_owned()));
    access_token(&simulator, &client, CHAT).await;
    assert_eq!(pushed(&simulator, &client, &access, &token).await.0, 200);
    simulator.revoke_access_tokens();
    assert_eq!(pushed(&simulator, &client, &access, &token).await.0, 401);
    assert_eq!((simulator.counters().mints, simulator.counters().refused["oauth"]["invalid_grant"]), (2, 1));

    assert!(!simulator.change_service_account(MAIL, revoked(false)).unwrap().revoked);
    let access = access_token(&simulator, &client, MAIL).await;
    assert_eq!(pushed(&simulator, &client, &access, &token).await.0, 200);
    simulator.change_service_account(MAIL, revoked(true)).unwrap();
    simulator.reset();
    assert_eq!(asked(&simulator, &client).await.0, 200, "a reset restores it");
    let unknown = simulator.change_service_account("nobody", revoked(true));
    assert_eq!(unknown, Err(KeyError::NoSuchApp("nobody".to_owned())));
}

#[tokio::test]
async fn service_accounts_are_seen_and_revoked_from_outside() {
    let simulator = start().await;
    let url = format!("{}/service-accounts", simulator.control_url());
    let outside = Client::new();
    let patch = |app: &str, body: Value| outside.patch(format!("{url}/{app}")).json(&body).timeout(LIMIT).send();
    let own = account(&simulator, MAIL);
    let expected = json!({ "app": MAIL, "projectId": "contoso-mail", "clientEmail": own["client_email"],
                           "privateKeyId": own["private_key_id"], "revoked": true });
    assert_eq!(json_of(patch(MAIL, json!({ "revoked": true })).await.unwrap()).await, expected);
    let all = json_of(outside.get(&url).timeout(LIMIT).send().await.unwrap()).await;
    assert_eq!((&all[0], &all[1]["revoked"]), (&expected, &json!(false)));
    assert_eq!(patch("nobody", json!({})).await.unwrap().status(), 400);
    assert_eq!(patch(MAIL, json!({ "gone": true })).await.unwrap().status(), 400);
    assert_eq!(asked(&simulator, &client(&simulator)).await.0, 400);
}

#[tokio::test]
async fn the_token_endpoint_s_troubles_are_answered_as_they_are_scripted() {
    let simulator = start().await;
    let client = client(&simulator);
    let html = "<html>Error 500 (Server Error)!!1</html>";
    for (script, status, body) in [
        (json!({ "status": 500, "body": html }), 500, html),
        (json!({ "status": 503 }), 503, ""),
        (json!({ "status": 503, "reason": "internal_failure" }), 503, r#"{"error":"internal_failure"}"#),
        (json!({ "status": 200, "body": "{\"access_token\":\"ya29." }), 200, "{\"access_token\":\"ya29."),
        (json!({ "status": 200, "body": {} }), 200, "{}"),
        (json!({ "reason": "invalid_grant" }), 400, r#"{"error":"invalid_grant"}"#),
        (json!({ "status": 401, "reason": "unauthorized_client" }), 401, r#"{"error":"unauthorized_client"}"#),
    ] {
        let mut script: Script = serde_json::from_value(script).unwrap();
        script.provider = Some(Provider::Oauth);
        simulator.script(vec![script.clone()]).unwrap();
        assert_eq!(asked(&simulator, &client).await, (status, body.to_owned()), "{script:?}");
    }
    assert_eq!(simulator.counters().mints, 0, "what a script answers is no mint");

    let slow = Script { provider: Some(Provider::Oauth), delay_ms: 60, ..Script::default() };
    simulator.script(vec![slow]).unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(asked(&simulator, &client).await.0, 200);
    assert!(began.elapsed() >= Duration::from_millis(60));
    assert_eq!(simulator.counters().mints, 1);
}

#[tokio::test]
async fn an_access_token_lives_as_long_as_the_settings_say() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let client = client(&simulator);
    simulator.set(&SettingsChange { access_token_secs: Some(5), ..SettingsChange::default() });
    let answer: Value = serde_json::from_str(&asked(&simulator, &client).await.1).unwrap();
    assert_eq!(answer["expires_in"], 5);
    let access = answer["access_token"].as_str().unwrap();
    assert_eq!(pushed(&simulator, &client, access, &token).await.0, 200);
    simulator.set(&SettingsChange { clock_offset_secs: Some(5), ..SettingsChange::default() });
    assert_eq!(pushed(&simulator, &client, access, &token).await, (401, "ACCESS_TOKEN_EXPIRED".to_owned()));
}

#[tokio::test]
async fn credentials_that_do_not_fit_are_our_fault_and_never_the_tokens() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let client = client(&simulator);
    let revoked = access_token(&simulator, &client, MAIL).await;
    simulator.revoke_access_tokens();
    let foreign = access_token(&simulator, &client, CHAT).await;
    let own = account(&simulator, MAIL);
    let mut for_drive = claims(&own);
    for_drive["scope"] = json!("https://www.googleapis.com/auth/drive openid");
    let response = mint(&client, &own, &assertion(&own, &for_drive)).send().await.unwrap();
    let for_drive = json_of(response).await["access_token"].as_str().unwrap().to_owned();
    let message = raw_message(&token, "n");
    let unsigned = {
        let mut request = send(&simulator, &client, "x", &message).build().unwrap();
        request.headers_mut().remove("authorization");
        RequestBuilder::from_parts(client.clone(), request)
    };
    let with = |access: &str| send(&simulator, &client, access, &message);
    for (request, status, reason, challenge) in [
        (unsigned, 401, "CREDENTIALS_MISSING", Some("invalid_token")),
        (with("ya29.never"), 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED", Some("invalid_token")),
        (with(&revoked), 401, "ACCOUNT_STATE_INVALID", Some("invalid_token")),
        (with(&for_drive), 403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", Some("insufficient_scope")),
        (with(&foreign), 403, "IAM_PERMISSION_DENIED", None),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{reason}");
        let asked = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        let error = challenge.map(|error| format!("error=\"{error}\""));
        assert_eq!(asked.is_some(), error.is_some(), "{reason}");
        assert!(asked.unwrap_or_default().contains(&error.unwrap_or_default()), "{reason}");
        let body = json_of(response).await;
        let name = if status == 401 { "UNAUTHENTICATED" } else { "PERMISSION_DENIED" };
        assert_eq!((body["error"]["status"].as_str(), error_code(&body)), (Some(name), None));
        assert_eq!(body["error"]["details"][0]["reason"], reason, "{body}");
    }
    assert_eq!(simulator.phone("bert").unwrap().tally.received, 0);
}
