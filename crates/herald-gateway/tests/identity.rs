//! Tokens against a real issuer over HTTP: who is let in, who is not and why, and how often the issuer is asked.

mod issuer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herald_core::ids::{AppId, UserId};
use herald_core::time::Timestamp;
use herald_gateway::identity::{Caller, Clients, Identity, IssuerConfig, Refused, Rules, SCOPES, TokenError};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use issuer::{AUDIENCE, Issuer, Key, SCOPE};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// The floor between two fetches, and a little more.
const AFTER_FLOOR: Duration = Duration::from_secs(31);
/// How long keys are fresh, and a little more.
const AFTER_AN_HOUR: Duration = Duration::from_secs(3_601);

fn identity(issuer: &Issuer) -> Identity {
    let clients = Clients::from([
        ("service".to_owned(), AppId::new("mail.contoso.com")),
        ("other".to_owned(), AppId::new("chat.fabrikam.com")),
    ]);
    let rules =
        Rules { audiences: vec![AUDIENCE.to_owned()], user_claim: "sub".to_owned(), user_prefix: String::new() };
    let config = IssuerConfig { issuer: issuer.url.clone(), rules, jwks_url: None, ca_pem: None };
    Identity::new(vec![config], clients).expect("the address is of this machine")
}

/// Moves the clock that decides how old keys are; the requests themselves run by the real one.
async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn anna() -> Result<Caller, Refused> {
    Ok(Caller::User { app: AppId::new("mail.contoso.com"), user: UserId::new("anna"), may: true })
}

fn refused(error: TokenError) -> Result<Caller, Refused> {
    Err(Refused::Token(error))
}

#[tokio::test]
async fn tokens_of_both_algorithms_are_taken_by_the_issuers_own_keys() {
    let (ec, rsa) = (Key::ec("e"), Key::rsa("r"));
    let issuer = Issuer::start_at(NOW, &[&ec, &rsa]).await;
    let identity = identity(&issuer);
    assert_eq!(identity.caller(&ec.sign(&issuer.claims()), NOW).await, anna());
    assert_eq!(identity.caller(&rsa.sign(&issuer.claims()), NOW).await, anna());
    let mut app_token = issuer.with("appid", json!("OTHER"));
    app_token.as_object_mut().unwrap().remove("scp");
    assert_eq!(identity.caller(&rsa.sign(&app_token), NOW).await, Ok(Caller::App(AppId::new("chat.fabrikam.com"))));
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn each_of_a_hostile_set_is_refused_for_its_own_reason() {
    let (key, rsa, stranger) = (Key::ec("e"), Key::rsa("r"), Key::ec("e"));
    let issuer = Issuer::start_at(NOW, &[&key, &rsa]).await;
    let identity = identity(&issuer);
    let good = key.sign(&issuer.claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let hs256 = |secret: &[u8], kid: &str| {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &issuer.claims(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let named = |more: Value| {
        let mut header = json!({"alg": "ES256", "kid": "e"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        header
    };
    let own_key = json!({"jwk": stranger.jwk()});
    let changed = part(&issuer.with("sub", json!("admin")));
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[10] ^= 1;
    let claim = TokenError::Claim;
    let malformed = |token: String| (token, None);
    let because = |token: String, why: TokenError| (token, Some(Refused::Token(why)));
    let all = [
        // Not a token.
        malformed(String::new()),
        malformed("Bearer".to_owned()),
        malformed(format!("{header}.{claims}")),
        malformed(format!("{good}.{signature}")),
        malformed(format!("{header}.{claims}.")),
        malformed(format!("{header}=.{claims}.{signature}")),
        malformed(format!("{}.{claims}.{signature}", part(&json!({"alg": "ES256", "kid": 7})))),
        malformed(format!("{}.{claims}.{signature}", part(&json!({"alg": "ES256", "kid": "k".repeat(1_000)})))),
        malformed(format!("{}.{claims}.{signature}", part(&json!({"alg": "ES256", "typ": "JWE", "kid": "e"})))),
        malformed(key.sign(&issuer.with("pad", json!("x".repeat(20_000))))),
        // Algorithms.
        because(format!("{}.{claims}.", part(&json!({"alg": "none"}))), TokenError::Algorithm),
        because(format!("{}.{claims}.AAAA", part(&json!({"alg": "nOnE", "kid": "e"}))), TokenError::Algorithm),
        because(hs256(key.pem.as_bytes(), "e"), TokenError::Algorithm),
        because(hs256(rsa.pem.as_bytes(), "r"), TokenError::Algorithm),
        because(hs256(b"", "e"), TokenError::Algorithm),
        because(key.sign_as(&named(json!({"crit": ["exp"]})), &issuer.claims()), TokenError::Critical),
        because(format!("{}.{claims}.{signature}", part(&json!({"alg": "RS256", "kid": "e"}))), TokenError::UnknownKey),
        // Keys and signatures.
        because(stranger.sign(&issuer.claims()), TokenError::Signature),
        because(stranger.sign_as(&named(own_key), &issuer.claims()), TokenError::Signature),
        because(stranger.sign_as(&named(json!({"jku": issuer.url})), &issuer.claims()), TokenError::Signature),
        because(
            stranger.sign_as(&named(json!({"x5u": issuer.url, "x5c": ["AA"]})), &issuer.claims()),
            TokenError::Signature,
        ),
        because(Key::ec("unknown").sign(&issuer.claims()), TokenError::UnknownKey),
        because(key.sign_as(&named(json!({"kid": "../../e"})), &issuer.claims()), TokenError::UnknownKey),
        because(key.sign_as(&named(json!({"kid": ""})), &issuer.claims()), TokenError::UnknownKey),
        because(format!("{header}.{changed}.{signature}"), TokenError::Signature),
        because(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&flipped)), TokenError::Signature),
        because(format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64])), TokenError::Signature),
        because(format!("{signed}.{}", &signature[..40]), TokenError::Signature),
        // Claims.
        because(key.sign(&issuer.with("exp", json!(NOW.secs() - 61))), TokenError::Expired),
        because(key.sign(&issuer.with("exp", Value::Null)), claim("exp")),
        because(key.sign(&issuer.with("exp", json!("9999999999"))), claim("exp")),
        because(key.sign(&issuer.with("nbf", json!(NOW.secs() + 61))), TokenError::NotYet),
        because(key.sign(&issuer.with("aud", json!("https://other.example"))), TokenError::Audience),
        because(key.sign(&issuer.with("aud", json!(["https://herald.example.evil"]))), TokenError::Audience),
        because(key.sign(&issuer.with("iss", json!("https://evil.example"))), TokenError::Issuer),
        because(key.sign(&issuer.with("iss", json!(format!("{}/", issuer.url)))), TokenError::Issuer),
        because(key.sign(&issuer.with("iss", json!([issuer.url]))), claim("iss")),
        because(key.sign(&issuer.with("azp", Value::Null)), claim("appid, azp or client_id")),
        because(key.sign(&issuer.with("sub", json!({"$ne": 1}))), claim("that names the user")),
        (key.sign(&issuer.with("azp", json!("somebody"))), Some(Refused::Client)),
    ];
    assert_eq!(identity.caller(&good, NOW).await, anna());
    let mut fixes: HashMap<String, String> = HashMap::new();
    for (token, expected) in all {
        let refused = identity.caller(&token, NOW).await.expect_err(&token);
        match expected {
            Some(expected) => assert_eq!(refused, expected, "{token}"),
            None => assert!(matches!(refused, Refused::Token(TokenError::Malformed(_))), "{token}: {refused}"),
        }
        assert!(!refused.to_string().contains("anna"), "{refused}");
        let explained = identity.explain(&token, NOW).await;
        let fix = explained.fix.clone().expect("what is refused can be mended");
        let (last, before) = explained.steps.split_last().expect("something was looked at");
        assert!(!last.good && before.iter().all(|step| step.good), "{explained:?}");
        if let Some(signature) = token.rsplit('.').next().filter(|text| text.len() > 8) {
            assert!(!format!("{explained:?}").contains(signature), "{explained:?}");
        }
        // The words of one kind of refusal are no other's.
        let kind = match &refused {
            Refused::Token(TokenError::Malformed(_)) => "malformed".to_owned(),
            refused => refused.to_string(),
        };
        let said = fix.split(';').next().unwrap_or_default().to_owned() + last.what;
        assert_eq!(fixes.entry(said).or_insert_with(|| kind.clone()), &kind, "{fix}");
        assert_eq!(explained.decided, Err(refused), "the explanation decides nothing by itself");
    }
    assert_eq!(issuer.fetches(), 1, "no invented key id may lead to another fetch so soon");
}

#[tokio::test]
async fn an_explanation_shows_what_a_token_has_and_what_is_expected() {
    let key = Key::ec("e");
    let issuer = Issuer::start_at(NOW, &[&key]).await;
    let identity = identity(&issuer);
    let shown = async |token: &str| {
        let explained = identity.explain(token, NOW).await;
        let steps = explained.steps.iter().map(|step| {
            let no = if step.good { "" } else { "NO " };
            format!("{no}{}: {} ({})", step.what, step.found, step.expected)
        });
        (steps.collect::<Vec<_>>(), explained.fix.unwrap_or_default())
    };
    let (steps, fix) = shown(&key.sign(&issuer.claims())).await;
    let url = &issuer.url;
    assert_eq!(
        steps,
        [
            "token: a text (a signed JWT of RS256 or ES256)".to_owned(),
            "header: alg ES256, kid \"e\" (RS256 or ES256)".to_owned(),
            format!("issuer: {url:?} (one of {url:?})"),
            "signature: keys \"e\" (of a key of the issuer)".to_owned(),
            "life: nbf 2027-01-15T07:59:55Z, exp 2027-01-15T08:10:00Z (now is 2027-01-15T08:00:00Z, 60 s either way)"
                .to_owned(),
            format!("audience: {AUDIENCE:?} (one of {AUDIENCE:?})"),
            "client: \"service\", of app \"mail.contoso.com\" (in client_ids of an app)".to_owned(),
            "kind: a user's token ()".to_owned(),
            "user: sub \"anna\" (a text)".to_owned(),
            format!("scopes: {SCOPE:?} (one of {:?}, {:?})", SCOPES[0], SCOPES[1]),
        ]
    );
    assert_eq!(fix, "");

    // A good token of a user that may do nothing here; a client of nobody; claims that would write on a terminal.
    let (steps, fix) = shown(&key.sign(&issuer.with("scp", json!("openid")))).await;
    assert!(steps[9].starts_with("NO scopes: \"openid\" ("), "{steps:?}");
    assert_eq!(fix, format!("ask the issuer for the scope {SCOPE}"));
    let (steps, fix) = shown(&key.sign(&issuer.with("azp", json!("some\u{1b}[2Jbody")))).await;
    assert!(steps[6].starts_with(r#"NO client: "some\u{1b}[2Jbody" ("#), "{steps:?}");
    assert!(fix.starts_with(r#"add "some\u{1b}[2Jbody" to client_ids"#), "{fix}");
}

#[tokio::test]
async fn an_explanation_says_why_keys_could_not_be_fetched() {
    let key = Key::ec("e");
    let issuer = Issuer::start_at(NOW, &[&key]).await;
    issuer.is_away(true);
    let explained = identity(&issuer).explain(&key.sign(&issuer.claims()), NOW).await;
    assert_eq!(explained.decided, refused(TokenError::NoKeys));
    let last = explained.steps.last().unwrap();
    assert_eq!(last.what, "signature");
    assert!(last.found.starts_with("no keys; could not be fetched: http://127.0.0.1:"), "{last:?}");
}

#[tokio::test]
async fn a_new_key_is_fetched_once_for_all_and_not_before_the_floor() {
    let (old, new) = (Key::ec("old"), Key::ec("new"));
    let issuer = Issuer::start_at(NOW, &[&old]).await;
    let identity = Arc::new(identity(&issuer));
    assert_eq!(identity.caller(&old.sign(&issuer.claims()), NOW).await, anna());
    issuer.has(&[&old, &new]);
    let token = new.sign(&issuer.claims());
    assert_eq!(identity.caller(&token, NOW).await, refused(TokenError::UnknownKey));
    later(AFTER_FLOOR).await;
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let (identity, token) = (identity.clone(), token.clone());
        callers.spawn(async move { identity.caller(&token, NOW).await });
    }
    for caller in callers.join_all().await {
        assert_eq!(caller, anna());
    }
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn a_key_that_its_issuer_withdrew_is_refused_after_an_hour() {
    let (old, new) = (Key::ec("old"), Key::ec("new"));
    let issuer = Issuer::start_at(NOW, &[&old]).await;
    let identity = identity(&issuer);
    let token = old.sign(&issuer.claims());
    assert_eq!(identity.caller(&token, NOW).await, anna());
    issuer.has(&[&new]);
    assert_eq!(identity.caller(&token, NOW).await, anna());
    later(AFTER_AN_HOUR).await;
    assert_eq!(identity.caller(&token, NOW).await, refused(TokenError::UnknownKey));
}

#[tokio::test]
async fn an_issuer_that_is_away_logs_nobody_out_and_its_first_absence_is_no_fault_of_the_caller() {
    let key = Key::ec("e");
    let issuer = Issuer::start_at(NOW, &[&key]).await;
    let identity = identity(&issuer);
    let token = key.sign(&issuer.claims());
    issuer.is_away(true);
    assert_eq!(identity.caller(&token, NOW).await, refused(TokenError::NoKeys));
    assert_eq!(identity.caller(&token, NOW).await, refused(TokenError::NoKeys));
    assert_eq!(issuer.fetches(), 1);
    issuer.is_away(false);
    later(AFTER_FLOOR).await;
    assert_eq!(identity.caller(&token, NOW).await, anna());
    issuer.is_away(true);
    later(AFTER_AN_HOUR).await;
    assert_eq!(identity.caller(&token, NOW).await, anna());
    assert_eq!(identity.caller(&token, NOW).await, anna());
    assert_eq!(issuer.fetches(), 3, "once more after the hour, and then not before the floor");
}

#[tokio::test]
async fn who_goes_away_in_the_midst_of_a_fetch_makes_room_for_no_other() {
    let key = Key::ec("e");
    let issuer = Issuer::start_at(NOW, &[&key]).await;
    let identity = identity(&issuer);
    let token = key.sign(&issuer.claims());
    issuer.is_silent(true);
    let asked = async {
        while issuer.fetches() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = identity.caller(&token, NOW) => panic!("answered: {answer:?}"),
        () = asked => {}
    }
    issuer.is_silent(false);
    assert_eq!(identity.caller(&token, NOW).await, refused(TokenError::NoKeys));
    assert_eq!(issuer.fetches(), 1);
    later(AFTER_FLOOR).await;
    assert_eq!(identity.caller(&token, NOW).await, anna());
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_not_believed() {
    let key = Key::ec("e");
    let issuer = Issuer::start_at(NOW, &[&key]).await;
    *issuer.shared.named.lock().unwrap() = "https://evil.example".to_owned();
    let token = key.sign(&issuer.claims());
    assert_eq!(identity(&issuer).caller(&token, NOW).await, refused(TokenError::NoKeys));
    assert_eq!(issuer.fetches(), 0);
}
