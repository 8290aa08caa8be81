//! `/v1/subscriptions`: a device's life over HTTP, and whose devices anybody may reach.

use anyhow::{Context as _, Result, ensure};
use herald_core::ids::{AppId, Unsid, UserId};
use herald_harness::database;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::served::{CHAT, DAY, MAIL, OPERATOR, PER_USER, Post, SECRET, Served};

const ALL: &str = "/v1/subscriptions";

fn hex(of: &str) -> String {
    format!("{of:0>64}")
}

fn phone(token: &str) -> Value {
    json!({ "platform": "ios", "pushToken": hex(token) })
}

fn with(method: Method, path: &str, token: String, body: &Value) -> Post {
    let post = Post { method, ..Post::to(path, token, body) };
    if body.is_null() { post.body("") } else { post }
}

/// The status and the body, which never holds a push token.
async fn answer(served: &Served, post: Post) -> Result<(StatusCode, Value)> {
    let response = served.send(post).await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(!text.contains(&"0".repeat(40)) && !text.contains(SECRET), "a token was answered: {text}");
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).context(text)? };
    Ok((status, body))
}

/// Registers what must be taken; its UNSID.
async fn registered(served: &Served, token: String, body: &Value, expected: StatusCode) -> Result<String> {
    let (status, body) = answer(served, Post::to(ALL, token, body)).await?;
    ensure!(status == expected, "{status}: {body}");
    Ok(body["userNotificationSubscriptionId"].as_str().context("no id")?.to_owned())
}

#[tokio::test]
async fn a_device_is_registered_renewed_changed_and_ended_by_its_user() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let anna = || served.of_anna();
    let mut body = phone("a1");
    body["deviceState"] = json!({ "alertsAllowed": true });
    let (status, made) = answer(&served, Post::to(ALL, anna(), &body)).await?;
    ensure!(status == StatusCode::CREATED, "{status}: {made}");
    let unsid = made["userNotificationSubscriptionId"].as_str().context("no id")?.to_owned();
    let one = format!("{ALL}/{unsid}");
    let id = Unsid(unsid.parse()?);
    let expires_at = |known: &Value| {
        herald_core::time::Timestamp::parse_rfc3339(known["expirationDateTime"].as_str().unwrap()).unwrap()
    };
    let left = expires_at(&made).since(served.store.clock().now());
    ensure!(DAY * 89 < left && left <= DAY * 90, "{left:?}");
    let mut expected = json!({
        "userNotificationSubscriptionId": unsid, "expirationDateTime": made["expirationDateTime"], "platform": "ios",
        "tokenKind": "token", "environment": "production", "userId": "anna", "deviceState": { "alertsAllowed": true },
    });
    assert_eq!(made, expected);

    // The same token is the same device, with or without its id; so is another token under its id.
    let soon = served.store.clock().now().plus(DAY).to_rfc3339();
    let mut again = phone("A1");
    again["expirationDateTime"] = json!(soon);
    assert_eq!(registered(&served, anna(), &again, StatusCode::OK).await?, unsid);
    let mut moved = phone("a2");
    moved["userNotificationSubscriptionId"] = json!(unsid);
    assert_eq!(registered(&served, anna(), &moved, StatusCode::OK).await?, unsid);
    let stored = served.store.subscription(id).await?.context("not stored")?;
    assert_eq!(stored.subscription.token.expose(), hex("a2"));

    let change = json!({ "pushToken": hex("a3"), "environment": "sandbox", "deviceState": { "lowPowerMode": true } });
    let (status, changed) = answer(&served, with(Method::PATCH, &one, anna(), &change)).await?;
    expected["environment"] = json!("sandbox");
    expected["deviceState"]["lowPowerMode"] = json!(true);
    expected["expirationDateTime"] = changed["expirationDateTime"].clone();
    assert_eq!((status, &changed), (StatusCode::OK, &expected));
    let said = json!({ "deviceState": { "backgroundRefresh": false, "alertsAllowed": false } });
    let (status, said) = answer(&served, with(Method::PATCH, &one, anna(), &said)).await?;
    expected["deviceState"] = json!({ "alertsAllowed": false, "lowPowerMode": true, "backgroundRefresh": false });
    assert_eq!((status, &said), (StatusCode::OK, &expected));
    assert_eq!(served.store.subscription(id).await?.context("gone")?.subscription.token.expose(), hex("a3"));

    let shown = answer(&served, with(Method::GET, &one, anna(), &Value::Null)).await?;
    assert_eq!(shown, (StatusCode::OK, expected.clone()));
    let listed = answer(&served, with(Method::GET, ALL, anna(), &Value::Null)).await?;
    assert_eq!(listed, (StatusCode::OK, json!({ "value": [expected] })));

    for _ in 0..2 {
        let ended = answer(&served, with(Method::DELETE, &one, anna(), &Value::Null)).await?;
        assert_eq!(ended, (StatusCode::NO_CONTENT, Value::Null), "ending is idempotent");
    }
    for (method, body) in [(Method::GET, Value::Null), (Method::PATCH, change)] {
        assert_eq!(answer(&served, with(method, &one, anna(), &body)).await?.0, StatusCode::NOT_FOUND);
    }
    let listed = answer(&served, with(Method::GET, ALL, anna(), &Value::Null)).await?;
    assert_eq!(listed.1, json!({ "value": [] }));
    // An id that has ended is none to go on with.
    assert_ne!(registered(&served, anna(), &moved, StatusCode::CREATED).await?, unsid);
    Ok(())
}

#[tokio::test]
async fn an_app_reaches_its_own_users_devices_and_a_user_their_own_and_all_else_is_not_there() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let ben = || served.key.sign(&served.issuer.with("sub", json!("ben")));
    let of = |user: &str, token: &str| {
        let mut body = phone(token);
        body["userId"] = json!(user);
        body
    };
    let mail = || served.of_app("service");
    let annas = registered(&served, mail(), &of("anna", "a"), StatusCode::CREATED).await?;
    assert_eq!(registered(&served, served.of_anna(), &of("anna", "a"), StatusCode::OK).await?, annas);
    let bens = registered(&served, ben(), &phone("b"), StatusCode::CREATED).await?;
    let chats = registered(&served, served.of_app("other"), &of("anna", "a"), StatusCode::CREATED).await?;
    let listed = answer(&served, with(Method::GET, &format!("{ALL}?userId=ben"), mail(), &Value::Null)).await?;
    assert_eq!(listed.1["value"][0]["userNotificationSubscriptionId"], bens.as_str());

    // Another user's, another app's, one that never was and no id at all: none can be told from another.
    let nobodys = uuid::Uuid::now_v7().to_string();
    let (_, missing) = answer(&served, with(Method::GET, &format!("{ALL}/{nobodys}"), mail(), &Value::Null)).await?;
    assert_eq!(missing["error"]["code"], "notFound");
    let change = json!({ "pushToken": hex("c") });
    for (token, unsid) in [
        (served.of_anna(), &bens),
        (served.of_anna(), &chats),
        (ben(), &annas),
        (mail(), &chats),
        (served.of_app("other"), &annas),
        (mail(), &nobodys),
        (mail(), &"no-id".to_owned()),
        (mail(), &"%ff".to_owned()),
    ] {
        let path = format!("{ALL}/{unsid}");
        for (method, body) in [(Method::GET, &Value::Null), (Method::PATCH, &change), (Method::DELETE, &Value::Null)] {
            let answered = answer(&served, with(method.clone(), &path, token.clone(), body)).await?;
            assert_eq!(answered, (StatusCode::NOT_FOUND, missing.clone()), "{method} {path}");
        }
    }
    for unsid in [&annas, &bens, &chats] {
        assert!(served.store.subscription(Unsid(unsid.parse()?)).await?.context("gone")?.active, "{unsid}");
    }
    // A foreign id in a registration is nobody's: a new one is made.
    let mut named = phone("d");
    named["userNotificationSubscriptionId"] = json!(annas);
    assert_ne!(registered(&served, ben(), &named, StatusCode::CREATED).await?, annas);
    // A shared phone: whoever registers its token has it, and the former is told by nothing but its end.
    assert_ne!(registered(&served, ben(), &phone("a"), StatusCode::CREATED).await?, annas);
    let known = served.store.subscription(Unsid(annas.parse()?)).await?.context("gone")?;
    assert_eq!((known.active, &known.subscription.app), (false, &AppId::new(MAIL)));
    assert!(served.store.subscription(Unsid(chats.parse()?)).await?.context("gone")?.active);
    assert_eq!(served.store.list(&AppId::new(CHAT), &UserId::new("anna")).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn one_device_more_than_a_user_may_have_ends_the_oldest_and_one_registered_at_once_is_one() -> Result<()> {
    let database = database().await?;
    let served = std::sync::Arc::new(Served::on(database.url()).await?);
    let mut unsids = Vec::new();
    for n in 0..=PER_USER {
        unsids.push(registered(&served, served.of_anna(), &phone(&n.to_string()), StatusCode::CREATED).await?);
    }
    let (_, listed) = answer(&served, with(Method::GET, ALL, served.of_anna(), &Value::Null)).await?;
    let listed: Vec<_> = listed["value"].as_array().context("no list")?.iter().collect();
    assert_eq!(listed.len(), PER_USER);
    assert!(listed.iter().all(|known| known["userNotificationSubscriptionId"] != unsids[0].as_str()));

    let mut registering = JoinSet::new();
    for _ in 0..12 {
        let served = std::sync::Arc::clone(&served);
        registering.spawn(async move { answer(&served, Post::to(ALL, served.of_anna(), &phone("f"))).await });
    }
    let answers: Vec<_> = registering.join_all().await.into_iter().collect::<Result<_>>()?;
    assert_eq!(answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count(), 1);
    let first = &answers[0].1["userNotificationSubscriptionId"];
    assert!(answers.iter().all(|(_, body)| body["userNotificationSubscriptionId"] == *first));
    Ok(())
}

#[tokio::test]
async fn every_mistake_is_refused_by_its_place_and_changes_nothing() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let (anna, app) = (|| Some(served.of_anna()), || Some(served.of_app("service")));
    let good = || Post::to(ALL, None, &phone("a"));
    let changed = |name: &str, value: Value| {
        let mut body = phone("a");
        body[name] = value;
        Post::to(ALL, served.of_anna(), &body)
    };
    let unscoped = served.key.sign(&served.issuer.with("scp", json!("openid")));
    let large = changed("more", json!("x".repeat(65 * 1024)));
    let user_too_long =
        Post::to(ALL, app(), &json!({ "userId": "u".repeat(257), "platform": "ios", "pushToken": hex("a") }));
    for (name, post, status, field) in [
        ("no token", good(), 401, "Authorization"),
        ("a bad token", Post { token: Some("x".to_owned()), ..good() }, 401, "Authorization"),
        ("no scope", Post { token: Some(unscoped), ..good() }, 403, "Authorization"),
        ("the operator", Post { token: Some(OPERATOR.to_owned()), ..good() }, 403, "Authorization"),
        ("no user", Post { token: app(), ..good() }, 400, "userId"),
        ("a long user", user_too_long, 400, "userId"),
        ("another user", changed("userId", json!("ben")), 403, "userId"),
        ("no JSON", Post { token: anna(), ..good() }.body(format!("{{\"{SECRET}")), 400, "body"),
        ("a list", Post { token: anna(), ..good() }.body("[]"), 400, "body"),
        ("too large", large, 413, "body"),
        ("packed oddly", Post { token: anna(), ..good() }.with("content-encoding", "br"), 415, "Content-Encoding"),
        ("a platform", changed("platform", json!(SECRET)), 400, "platform"),
        ("a token", changed("pushToken", json!(SECRET)), 400, "pushToken"),
        ("an expiry", changed("expirationDateTime", json!(SECRET)), 400, "expirationDateTime"),
        ("a state", changed("deviceState", json!({ "alertsAllowed": SECRET })), 400, "deviceState.alertsAllowed"),
        ("a list of nobody", with(Method::GET, ALL, served.of_app("service"), &Value::Null), 400, "userId"),
        (
            "a list of another",
            with(Method::GET, &format!("{ALL}?userId=ben"), served.of_anna(), &Value::Null),
            403,
            "userId",
        ),
        ("a method", with(Method::PUT, ALL, served.of_anna(), &Value::Null), 405, "method"),
    ] {
        let (is, body) = answer(&served, post).await.context(name)?;
        let error = &body["error"];
        ensure!(is.as_u16() == status && error["field"] == field, "{name}: {is} {body}");
        ensure!(["problem", "fix", "code"].iter().all(|part| error[part].is_string()), "{name}: {body}");
    }
    assert!(served.store.list(&AppId::new(MAIL), &UserId::new("anna")).await?.is_empty());
    served.store.close().await;
    let response = served.send(Post { token: anna(), ..good() }).await?;
    assert_eq!(
        (response.status(), response.headers()["retry-after"].to_str()?),
        (StatusCode::SERVICE_UNAVAILABLE, "5")
    );
    Ok(())
}
