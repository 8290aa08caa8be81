//! `/v1/notifications/…/trace`: what became of a notification, and who may ask.

use anyhow::{Context as _, Result};
use herald_harness::database;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::served::{CHAT, MAIL, ME, OPERATOR, Post, Served, sample};

async fn get(served: &Served, path: &str, token: String) -> Result<(StatusCode, Value)> {
    let post = Post { method: Method::GET, ..Post::to(path, token, &json!(null)) };
    let response = served.send(post.body("")).await?;
    Ok((response.status(), response.json().await?))
}

/// Posts the sample for an app's user; its id.
async fn posted(served: &Served, app: &str, client: &str, user: &str) -> Result<String> {
    let mut body = sample();
    body["targetHostName"] = json!(app);
    let path = format!("/beta/users/{user}/notifications");
    let created = served.created(Post::to(&path, served.of_app(client), &body)).await?;
    Ok(created["id"].as_str().context("no id")?.to_owned())
}

#[tokio::test]
async fn an_app_sees_its_own_the_operator_any_and_a_user_none() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let unsid = served.phone(MAIL, "anna").await?;
    let (mail, chat) = (posted(&served, MAIL, "service", "anna").await?, posted(&served, CHAT, "other", "anna").await?);
    let path = |id: &str| format!("/v1/notifications/{id}/trace");
    let operator = || OPERATOR.to_owned();

    let (status, trace) = get(&served, &path(&mail), served.of_app("service")).await?;
    assert_eq!((status, trace["id"].as_str()), (StatusCode::OK, Some(mail.as_str())));
    assert_eq!((&trace["targetHostName"], &trace["userId"]), (&json!(MAIL), &json!("anna")));
    let delivery = &trace["deliveries"][0];
    assert_eq!(delivery["userNotificationSubscriptionId"], unsid.to_string());
    assert_eq!((&delivery["state"], &delivery["subscription"]["active"]), (&json!("due"), &json!(true)));
    let story = trace["story"].as_array().context("no story")?;
    assert!(story[0].as_str().is_some_and(|line| line.starts_with("+0.00 s  stored: a raw push")), "{story:?}");
    assert!(!trace.to_string().contains("Hello World!"), "what it says is told: {trace}");

    for id in [&mail, &chat] {
        assert_eq!(get(&served, &path(id), operator()).await?.0, StatusCode::OK);
    }
    assert_eq!(get(&served, &path(&chat), operator()).await?.1["targetHostName"], CHAT);
    // Another app's is answered as one that never was.
    let (status, missing) = get(&served, &path(&uuid::Uuid::now_v7().to_string()), operator()).await?;
    assert_eq!((status, &missing["error"]["code"]), (StatusCode::NOT_FOUND, &json!("notFound")));
    for (id, token) in
        [(chat.as_str(), served.of_app("service")), ("no-id", operator()), ("no-id", served.of_app("other"))]
    {
        assert_eq!(get(&served, &path(id), token).await?, (StatusCode::NOT_FOUND, missing.clone()), "{id}");
    }
    for path in [path(&mail), "/v1/notifications/trace?appNotificationId=testRaw".to_owned()] {
        assert_eq!(get(&served, &path, served.of_anna()).await?.0, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(get(&served, &path, "x".repeat(40)).await?.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    // The operator may look, not post.
    let post = Post::to(ME, OPERATOR.to_owned(), &sample());
    assert_eq!(served.send(post).await?.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn notifications_are_found_by_their_producers_own_id_within_what_the_caller_may_see() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let anna = posted(&served, MAIL, "service", "anna").await?;
    let chat = posted(&served, CHAT, "other", "anna").await?;
    let ben = posted(&served, MAIL, "service", "ben").await?;
    let (mail, other, operator) = (served.of_app("service"), served.of_app("other"), OPERATOR.to_owned());
    for (token, query, expected) in [
        (&mail, "", vec![&ben, &anna]),
        (&mail, "&userId=anna", vec![&anna]),
        (&mail, "&userId=carla", vec![]),
        (&mail, "&targetHostName=chat.fabrikam.com", vec![]),
        (&other, "", vec![&chat]),
        (&operator, "", vec![&ben, &chat, &anna]),
        (&operator, "&targetHostName=Chat.Fabrikam.com", vec![&chat]),
    ] {
        let path = format!("/v1/notifications/trace?appNotificationId=testRaw{query}");
        let (status, found) = get(&served, &path, token.clone()).await?;
        let ids: Vec<&str> =
            found["value"].as_array().context("no list")?.iter().map(|t| t["id"].as_str().unwrap()).collect();
        assert_eq!((status, ids), (StatusCode::OK, expected.into_iter().map(String::as_str).collect()), "{query}");
    }
    for (query, field) in [("", "appNotificationId"), ("appNotificationId=a&userId=", "userId")] {
        let (status, refused) = get(&served, &format!("/v1/notifications/trace?{query}"), mail.clone()).await?;
        assert_eq!((status, &refused["error"]["field"]), (StatusCode::BAD_REQUEST, &json!(field)));
    }
    Ok(())
}
