//! The built-in issuer, and TLS: what a service does that has neither an identity provider nor a proxy.

use anyhow::Result;
use herald_harness::database;
use reqwest::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::served::{ME, PUBLIC_URL, Post, Served, sample};

const SCOPE: &str = "https://graph.microsoft.com/.default";

/// Asks for a token as Microsoft's libraries do.
async fn ask(served: &Served, secret: &str) -> Result<Response> {
    let form = [
        ("client_id", "own-service"),
        ("client_secret", secret),
        ("grant_type", "client_credentials"),
        ("scope", SCOPE),
        ("x-client-SKU", "msal.js.node"),
    ];
    Ok(served.client.post(format!("{}/contoso/oauth2/v2.0/token?x=1", served.base)).form(&form).send().await?)
}

#[tokio::test]
async fn a_service_gets_a_token_of_the_built_in_issuer_and_posts_with_it_over_tls() {
    let database = database().await.unwrap();
    let served = Served::secured(database.url()).await.unwrap();
    let unsid = served.phone(crate::served::MAIL, "anna").await.unwrap();

    let granted = ask(&served, "a secret of sixteen or more").await.unwrap();
    assert_eq!((granted.status(), &granted.headers()[CACHE_CONTROL]), (StatusCode::OK, &"no-store".parse().unwrap()));
    let granted: Value = granted.json().await.unwrap();
    let token = granted["access_token"].as_str().unwrap().to_owned();
    let post = Post::to(ME, token.clone(), &sample()).with("x-uns-id", unsid.to_string());
    let created = served.created(post).await.unwrap();
    assert_eq!(served.trace(crate::served::MAIL, &created).await.unwrap().deliveries.len(), 1);
    // It speaks for its own app alone.
    let mut other = sample();
    other["targetHostName"] = crate::served::CHAT.into();
    let refused = served.send(Post::to(ME, token, &other).with("x-uns-id", unsid.to_string())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    // What another issuer calls by the same id is another client.
    let stranger = Post::to(ME, served.of_app("own-service"), &sample()).with("x-uns-id", unsid.to_string());
    assert_eq!(served.send(stranger).await.unwrap().status(), StatusCode::FORBIDDEN);
    // Without TLS there is nothing.
    assert!(Client::new().get(served.base.replace("https", "http") + "/healthz").send().await.is_err());
}

#[tokio::test]
async fn who_gets_no_token_is_told_in_microsofts_shape() {
    let database = database().await.unwrap();
    let served = Served::secured(database.url()).await.unwrap();
    let refused = ask(&served, "another secret of this length").await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(refused.headers().contains_key(WWW_AUTHENTICATE));
    let body: Value = refused.json().await.unwrap();
    assert_eq!((&body["error"], &body["error_codes"][0]), (&"invalid_client".into(), &7_000_215.into()));
    let long = served.client.post(format!("{}/t/oauth2/v2.0/token", served.base)).body("x".repeat(20_000));
    let body: Value = long.send().await.unwrap().json().await.unwrap();
    assert_eq!(body["error"], "invalid_request");
}

#[tokio::test]
async fn the_built_in_issuer_says_where_its_keys_are() {
    let database = database().await.unwrap();
    let served = Served::secured(database.url()).await.unwrap();
    let get = async |path: &str| -> Value {
        served.client.get(format!("{}{path}", served.base)).send().await.unwrap().json().await.unwrap()
    };
    let own = get("/.well-known/openid-configuration").await;
    assert_eq!(
        (&own["issuer"], own["jwks_uri"].as_str()),
        (&PUBLIC_URL.into(), Some("https://push.contoso.com/common/discovery/v2.0/keys"))
    );
    let tenants = get("/contoso/v2.0/.well-known/openid-configuration").await;
    assert_eq!(tenants["issuer"], format!("{PUBLIC_URL}/contoso/v2.0"));
    assert_eq!(tenants["token_endpoint"], format!("{PUBLIC_URL}/contoso/oauth2/v2.0/token"));
    let keys = get("/contoso/discovery/v2.0/keys").await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert!(keys["keys"][0].get("d").is_none());
}

#[tokio::test]
async fn without_a_built_in_issuer_nobody_grants_tokens() {
    let database = database().await.unwrap();
    let served = Served::on(database.url()).await.unwrap();
    for path in ["/contoso/oauth2/v2.0/token", "/.well-known/openid-configuration", "/contoso/discovery/v2.0/keys"] {
        let answer = served.client.get(format!("{}{path}", served.base)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
