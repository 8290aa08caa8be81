//! What is taken in: from whom, how it is stored, how it is answered, and once.

use std::collections::HashSet;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use herald_core::ids::Unsid;
use herald_harness::{PrivatePostgres, database, wait};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::served::{MAIL, ME, PUBLIC_URL, Post, Served, changed, gzip, sample};

#[tokio::test]
async fn what_the_old_services_sample_posts_is_stored_and_answered_as_that_service_did() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let unsid = served.phone(MAIL, "anna@contoso.com").await?;
    served.phone(MAIL, "anna@contoso.com").await?;
    let post = Post::to(ME, served.of_app("service"), &sample())
        .with("x-uns-id", unsid.to_string())
        .with("client-request-id", "df78f3cc")
        .with("sdkversion", "graph-js/3.0.7");
    let response = served.send(post).await?;
    assert_eq!(response.status(), StatusCode::CREATED);
    let headers = response.headers().clone();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body: Value = response.json().await?;
    let id = body["id"].as_str().context("no id")?;
    assert_eq!(header("location"), format!("{PUBLIC_URL}/beta/me/notifications/{id}"));
    assert_eq!(header("client-request-id"), "df78f3cc");
    ensure!(header("request-id").parse::<Uuid>().is_ok(), "{headers:?}");
    assert_eq!(header("odata-version"), "4.0");
    assert_eq!(
        header("content-type"),
        "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"
    );
    let context = format!("{PUBLIC_URL}/beta/$metadata#users('anna%40contoso.com')/notifications/$entity");
    assert_eq!(body["@odata.context"], context);
    assert_eq!((&body["priority"], &body["groupName"], &body["payload"]), (&json!("High"), &Value::Null, &json!({})));
    ensure!(matches!(body["displayTimeToLive"].as_u64(), Some(50..=60)), "{body}");
    ensure!(body["expirationDateTime"].as_str().is_some_and(|at| at.ends_with('Z')), "{body}");

    let trace = served.trace(MAIL, &body).await?;
    assert_eq!(trace.notification.content.payload.raw.as_deref(), Some("Hello World!"));
    assert_eq!(trace.deliveries.len(), 2, "every device of the user");
    for traced in &trace.deliveries {
        assert_eq!((traced.delivery.state.as_str(), traced.queue.as_str()), ("due", "high"));
    }
    assert_eq!(served.metric(r#"herald_requests_total{lane="high",result="stored"}"#), "1");
    Ok(())
}

#[tokio::test]
async fn both_kinds_of_callers_reach_whom_they_may_by_every_path() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let unsid = served.phone(MAIL, "anna").await?;
    let (app, anna) = (served.of_app("service"), served.of_anna());
    let by_user = json!({ "userId": "anna" });
    let mut targeted = sample();
    targeted["target"] = by_user;
    for (path, token, body) in [
        (ME, &app, &targeted),
        ("/beta/me/notifications/", &app, &targeted),
        ("/v1.0/me/notifications", &app, &targeted),
        ("/beta/users/anna/notifications", &app, &sample()),
        ("/v1.0/users/%61nna/notifications/", &app, &targeted),
        (ME, &anna, &sample()),
        ("/beta/users/anna/notifications", &anna, &sample()),
    ] {
        let created = served.created(Post::to(path, token.clone(), body)).await.context(path)?;
        assert_eq!(served.trace(MAIL, &created).await?.notification.user.as_str(), "anna", "{path}");
        let version = if path.starts_with("/v1.0") { "/v1.0/" } else { "/beta/" };
        ensure!(created["@odata.context"].as_str().is_some_and(|is| is.contains(version)), "{path}: {created}");
    }
    let wrapped = json!({ "notification": sample() });
    served.created(Post::to(ME, app.clone(), &wrapped).with("X-UNS-ID", unsid.to_string())).await?;
    // A user without a device is no mistake of the caller's.
    let nobody = served.created(Post::to("/beta/users/nobody/notifications", app, &sample())).await?;
    ensure!(served.trace(MAIL, &nobody).await?.deliveries.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_priority_chooses_the_lane() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    served.phone(MAIL, "anna").await?;
    for (priority, lane) in
        [(json!("High"), "high"), (json!("None"), "normal"), (Value::Null, "normal"), (json!("low"), "low")]
    {
        let created = served.created(Post::to(ME, served.of_anna(), &changed("/priority", priority))).await?;
        assert_eq!(served.trace(MAIL, &created).await?.deliveries[0].queue.as_str(), lane);
    }
    Ok(())
}

#[tokio::test]
async fn packed_bodies_are_read() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let body = sample().to_string();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(body.as_bytes())?;
    for (encoding, packed) in [("gzip", gzip(body.as_bytes())), ("Deflate", zlib.finish()?)] {
        let post = Post::to(ME, served.of_anna(), &json!(null)).with("content-encoding", encoding).body(packed);
        let created = served.created(post).await.context(encoding)?;
        let stored = served.trace(MAIL, &created).await?.notification;
        assert_eq!(stored.content.payload.raw.as_deref(), Some("Hello World!"), "{encoding}");
    }
    Ok(())
}

#[tokio::test]
async fn the_same_key_is_one_notification_and_without_a_key_each_post_is_a_new_one() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let (phone, tablet) = (served.phone(MAIL, "anna").await?, served.phone(MAIL, "anna").await?);
    let post = |unsid: Unsid| Post::to(ME, served.of_app("service"), &sample()).with("X-UNS-ID", unsid.to_string());
    let first = served.created(post(phone).with("Idempotency-Key", "order-1042")).await?;
    // Again; by another device of the same user; with another body, which changes nothing.
    let again = served.created(post(phone).with("Idempotency-Key", "order-1042")).await?;
    let other_device = served.created(post(tablet).with("Idempotency-Key", "order-1042")).await?;
    let changed =
        Post::to(ME, served.of_anna(), &changed("/groupName", json!("g"))).with("Idempotency-Key", "order-1042");
    for repeated in [again, other_device, served.created(changed).await?] {
        for same in ["id", "expirationDateTime", "groupName", "@odata.context"] {
            assert_eq!(repeated[same], first[same]);
        }
    }
    assert_eq!(served.metric(r#"herald_requests_total{lane="high",result="duplicate"}"#), "3");
    assert_eq!(served.open().await?, (2, 0));
    let (one, two) = (served.created(post(phone)).await?, served.created(post(phone)).await?);
    assert_ne!(one["id"], two["id"]);
    assert_eq!(served.open().await?, (6, 0));
    Ok(())
}

#[tokio::test]
async fn many_posts_at_once_share_commits_and_get_an_answer_of_their_own() -> Result<()> {
    const POSTS: usize = 300;
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    served.phone(MAIL, "anna").await?;
    let mut posts = JoinSet::new();
    let token = served.of_anna();
    for at in 0..POSTS {
        let request = served.client.post(format!("{}{ME}", served.base)).bearer_auth(&token);
        let body = changed("/groupName", json!(format!("g{at}"))).to_string();
        posts.spawn(async move {
            let answer: Value = request.body(body).send().await?.json().await?;
            ensure!(answer["groupName"] == format!("g{at}"), "{answer} to g{at}");
            answer["id"].as_str().map(str::to_owned).context("no id")
        });
    }
    let mut ids = HashSet::new();
    while let Some(posted) = posts.join_next().await {
        ids.insert(posted??);
    }
    assert_eq!(ids.len(), POSTS);
    assert_eq!(served.metric(r#"herald_batch_size_sum{step="intake"}"#), POSTS.to_string());
    let commits: usize = served.metric(r#"herald_batch_size_count{step="intake"}"#).parse()?;
    ensure!(commits < POSTS, "{commits} transactions for {POSTS} posts");
    Ok(())
}

#[tokio::test]
async fn without_the_store_nothing_is_claimed_and_the_same_post_is_taken_once_later() -> Result<()> {
    let mut postgres = PrivatePostgres::start().await?;
    let served = Served::on(postgres.url("postgres")).await?;
    served.phone(MAIL, "anna").await?;
    let post = Post::to(ME, served.of_anna(), &sample()).with("Idempotency-Key", "order-1042");
    served.created(post.clone().with("client-request-id", "warm")).await?;
    let post = Post::to(ME, served.of_anna(), &sample()).with("Idempotency-Key", "order-1043");

    postgres.kill9().await?;
    let refused = served.send(post.clone()).await?;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    ensure!(refused.headers().contains_key("retry-after"));
    let body: Value = refused.json().await?;
    assert_eq!(body["error"]["code"], "unavailable", "{body}");

    postgres.start_again().await?;
    let created = wait::until(Duration::from_secs(20), "the same post to be taken", async || {
        served.created(post.clone()).await.ok()
    })
    .await?;
    assert_eq!(served.trace(MAIL, &created).await?.key, "order-1043");
    assert_eq!(served.open().await?, (2, 0));
    served.stop.cancel();
    Ok(())
}

#[tokio::test]
async fn keys_that_were_never_seen_are_no_fault_of_the_callers() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    served.issuer.is_away(true);
    let refused = served.send(Post::to(ME, served.of_anna(), &sample())).await?;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    ensure!(refused.headers().contains_key("retry-after"));
    Ok(())
}
