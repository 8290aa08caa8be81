//! `DELETE /v1/apps/{app}/users/{userId}`: by the operator alone, and all of it.

use anyhow::Result;
use herald_harness::database;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::served::{CHAT, MAIL, OPERATOR, Post, Served, sample};

async fn erase(served: &Served, path: &str, token: String) -> Result<(StatusCode, Value)> {
    let post = Post { method: Method::DELETE, ..Post::to(path, token, &json!(null)) };
    let response = served.send(post.body("")).await?;
    Ok((response.status(), response.json().await?))
}

#[tokio::test]
async fn the_operator_erases_a_user_of_one_app_and_nobody_else_may() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let unsid = served.phone(MAIL, "anna b").await?;
    let elsewhere = served.phone(CHAT, "anna b").await?;
    let by_id =
        || Post::to("/beta/me/notifications", served.of_app("service"), &sample()).with("X-UNS-ID", unsid.to_string());
    served.created(by_id()).await?;
    served.created(by_id()).await?;
    let path = "/v1/apps/Mail.Contoso.com/users/anna%20b";
    for token in [served.of_anna(), served.of_app("service")] {
        let (status, body) = erase(&served, path, token).await?;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::FORBIDDEN, &json!("accessDenied")));
    }
    assert_eq!(erase(&served, path, "x".repeat(40)).await?.0, StatusCode::UNAUTHORIZED);
    let (status, body) = erase(&served, "/v1/apps/mail.contoso.com/users/a%0Ab", OPERATOR.to_owned()).await?;
    assert_eq!((status, &body["error"]["field"]), (StatusCode::BAD_REQUEST, &json!("userId")));
    assert_eq!(served.open().await?, (2, 0), "nothing went yet");

    let counts = |n: u64, subscriptions: u64| json!({ "notifications": n, "deliveries": n, "subscriptions": subscriptions, "events": 0, "deadLetters": 0 });
    assert_eq!(erase(&served, path, OPERATOR.to_owned()).await?, (StatusCode::OK, counts(2, 1)));
    assert_eq!(erase(&served, path, OPERATOR.to_owned()).await?, (StatusCode::OK, counts(0, 0)));
    assert_eq!(served.open().await?, (0, 0));
    assert!(served.store.subscription(elsewhere).await?.is_some_and(|known| known.active));
    // The old id names nobody any more.
    assert_eq!(served.send(by_id()).await?.status(), StatusCode::FORBIDDEN);
    Ok(())
}
