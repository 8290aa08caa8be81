//! What users and services do with notifications: read, acted on, deleted; and what becomes of what was still to be pushed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use herald_core::push::Form;
use herald_harness::{PrivatePostgres, database};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::served::{CHAT, MAIL, ME, Post, SECRET, Served, changed, gzip, sample};

fn patch(path: &str, token: &str, body: &Value) -> Post {
    Post { method: Method::PATCH, ..Post::to(path, token.to_owned(), body) }
}

fn delete(path: &str, token: &str) -> Post {
    Post::ask(Method::DELETE, path, token.to_owned())
}

/// Each device of a notification with the form and state of its deliveries.
async fn deliveries(served: &Served, id: &str) -> Result<BTreeMap<String, Vec<(Form, &'static str)>>> {
    let trace = served.trace(MAIL, &json!({ "id": id })).await?;
    let mut all: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for traced in trace.deliveries {
        let what = (traced.delivery.form, traced.delivery.state.as_str());
        all.entry(traced.unsid.to_string()).or_default().push(what);
    }
    Ok(all)
}

#[tokio::test]
async fn what_one_device_read_is_withdrawn_and_the_others_are_told() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let mut phones = Vec::new();
    for _ in 0..3 {
        phones.push(served.phone(MAIL, "anna").await?.to_string());
    }
    let id = served.told(&sample()).await?;
    let path = format!("{ME}/{id}");
    let read = patch(&path, &served.of_anna(), &json!({ "readState": true })).with("X-UNS-ID", phones[0].clone());
    let response = served.send(read).await?;
    assert_eq!((response.status().as_u16(), response.headers()["etag"].to_str()?), (200, "W/\"1\""));
    let item: Value = response.json().await?;
    assert_eq!((&item["readState"], &item["@odata.etag"]), (&json!(true), &json!("W/\"1\"")));
    ensure!(item["lastModifiedDateTime"].is_string(), "{item}");
    let now = deliveries(&served, &id).await?;
    assert_eq!(now[&phones[0]], [(Form::Raw, "withdrawn")]);
    for phone in &phones[1..] {
        assert_eq!(now[phone], [(Form::Raw, "withdrawn"), (Form::State, "due")]);
    }
    assert_eq!(served.metric(r#"herald_deliveries_closed_total{state="withdrawn"}"#), "3");
    // By the service, without a device: everyone is told who is not yet.
    let dismissed = patch(
        &format!("/beta/users/anna/notifications/{id}"),
        &served.of_app("service"),
        &json!({ "userActionState": "Dismissed" }),
    );
    assert_eq!(served.asked(dismissed).await?.1["userActionState"], "Dismissed");
    for phone in &phones {
        assert_eq!(deliveries(&served, &id).await?[phone], [(Form::Raw, "withdrawn"), (Form::State, "due")]);
    }
    // What a service says by the id that names the user, that device has not done itself.
    let id = served.told(&sample()).await?;
    let read = patch(&format!("{ME}/{id}"), &served.of_app("service"), &json!({ "readState": true }));
    assert_eq!(served.asked(read.with("X-UNS-ID", phones[0].clone())).await?.0, 200);
    assert_eq!(deliveries(&served, &id).await?[&phones[0]], [(Form::Raw, "withdrawn"), (Form::State, "due")]);
    Ok(())
}

#[tokio::test]
async fn what_is_so_already_changes_nothing_and_unknown_members_are_no_mistake() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let id = served.told(&sample()).await?;
    let path = format!("{ME}/{id}");
    let anna = served.of_anna();
    for body in [json!({}), json!({ "readState": false, "@odata.type": "x", "more": 1, "id": null })] {
        let (status, item) = served.asked(patch(&path, &anna, &body)).await?;
        assert_eq!((status, &item["@odata.etag"]), (200, &json!("W/\"0\"")), "{item}");
    }
    let packed =
        patch(&path, &anna, &json!(null)).with("content-encoding", "gzip").body(gzip(b"{\"readState\":\"Read\"}"));
    assert_eq!(served.asked(packed).await?.1["readState"], true);
    let unread = patch(&path, &anna, &json!({ "readState": "Unread" }));
    assert_eq!(served.asked(unread).await?.1["@odata.etag"], "W/\"2\"");
    Ok(())
}

#[tokio::test]
async fn only_the_state_that_was_read_is_changed_if_the_client_asks_for_that() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let id = served.told(&sample()).await?;
    let (path, anna) = (format!("{ME}/{id}"), served.of_anna());
    let read = |etag: &str| patch(&path, &anna, &json!({ "readState": true })).with("if-match", etag.to_owned());
    for (etag, status) in [("W/\"7\"", 412), ("\"x\"", 412), ("W/\"3\", W/\"0\"", 200), ("W/\"0\"", 412), ("*", 200)] {
        let (is, body) = served.asked(read(etag)).await?;
        assert_eq!(is, status, "{etag}: {body}");
        if status == 412 {
            let error = &body["error"];
            assert_eq!((&error["code"], &error["field"]), (&json!("preconditionFailed"), &json!("If-Match")));
        }
    }
    let gone = |etag: &str| delete(&path, &anna).with("if-match", etag.to_owned());
    assert_eq!(served.asked(gone("W/\"0\"")).await?.0, 412);
    assert_eq!(served.asked(gone("\"1\"")).await?.0, 204);
    assert_eq!(served.asked(gone("W/\"1\"")).await?.0, 204, "a repetition of what is done");
    Ok(())
}

#[tokio::test]
async fn a_deleted_notification_is_gone_with_its_content_and_can_be_deleted_again() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let phone = served.phone(MAIL, "anna").await?.to_string();
    let id = served.told(&changed("/payload/rawContent", json!(SECRET))).await?;
    let (path, anna) = (format!("{ME}/{id}"), served.of_anna());
    for _ in 0..2 {
        let response = served.send(delete(&path, &anna)).await?;
        assert_eq!(response.status(), 204);
        ensure!(response.headers().contains_key("request-id"));
        assert_eq!(response.text().await?, "");
    }
    for ask in [Post::get(&*path, anna.clone()), patch(&path, &anna, &json!({ "readState": true }))] {
        assert_eq!(served.asked(ask).await?.0, 404);
    }
    assert_eq!(served.trace(MAIL, &json!({ "id": id })).await?.notification.content.payload.raw, None);
    assert_eq!(deliveries(&served, &id).await?[&phone], [(Form::Raw, "withdrawn"), (Form::State, "due")]);
    let (_, list) = served.asked(Post::get(ME, anna)).await?;
    assert_eq!(list["value"], json!([]));
    Ok(())
}

#[tokio::test]
async fn a_repeated_post_of_what_was_deleted_is_still_the_same_notification() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let post = Post::to(ME, served.of_anna(), &sample()).with("Idempotency-Key", "order-1042");
    let created = served.created(post.clone()).await?;
    let id = created["id"].as_str().context("no id")?;
    assert_eq!(served.asked(delete(&format!("{ME}/{id}"), &served.of_anna())).await?.0, 204);
    assert_eq!(served.created(post).await?["id"], id);
    Ok(())
}

#[tokio::test]
async fn whatever_may_not_be_changed_is_refused_with_its_place_and_nothing_changes() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let (app, chat) = (served.of_app("service"), served.of_app("other"));
    let (anna, bert) = (served.of_anna(), served.of_user("bert"));
    let berts = served.phone(MAIL, "bert").await?.to_string();
    let theirs = served.phone(CHAT, "anna").await?.to_string();
    let id = served.told(&sample()).await?;
    let (path, read) = (format!("{ME}/{id}"), json!({ "readState": true }));
    let of_anna = format!("/beta/users/anna/notifications/{id}");
    let no_token = Post { token: None, ..patch(&path, "", &json!(SECRET)) };
    let (token, denied, invalid) = ("InvalidAuthenticationToken", "accessDenied", "invalidRequest");
    let rows: Vec<(Post, u16, &str, &str)> = vec![
        (no_token, 401, token, "Authorization"),
        (Post::ask(Method::DELETE, &*path, None), 401, token, "Authorization"),
        (patch(&path, &app, &read), 400, invalid, "X-UNS-ID"),
        (patch(&path, &anna, &read).with("x-uns-id", berts), 403, denied, "X-UNS-ID"),
        (patch(&of_anna, &bert, &read), 403, denied, "path"),
        (patch(&path, &bert, &read), 404, "notFound", "path"),
        (delete(&path, &bert), 404, "notFound", "path"),
        (patch(&of_anna, &chat, &read), 404, "notFound", "path"),
        (delete(&of_anna, &chat).with("x-uns-id", theirs), 404, "notFound", "path"),
        (delete(&format!("{ME}/{}", Uuid::now_v7()), &anna), 404, "notFound", "path"),
        (patch(&format!("{ME}/x"), &anna, &read), 404, "notFound", "path"),
        (patch(&path, &anna, &json!({ "readState": SECRET })), 400, invalid, "readState"),
        (patch(&path, &anna, &json!({ "userActionState": SECRET })), 400, invalid, "userActionState"),
        (patch(&path, &anna, &json!({ "payload": { "rawContent": SECRET } })), 400, invalid, "payload"),
        (patch(&path, &anna, &json!([SECRET])), 400, invalid, "body"),
        (patch(&path, &anna, &read).body(format!("{{\"{SECRET}")), 400, invalid, "body"),
        (patch(&path, &anna, &read).with("content-encoding", "br"), 415, "unsupportedMediaType", "Content-Encoding"),
        (patch(&path, &anna, &read).body(vec![b' '; 70 * 1024]), 413, "tooLarge", "body"),
    ];
    for (ask, status, code, field) in rows {
        let what = format!("{} {} {:?}", ask.method, ask.path, ask.headers);
        let (is, body) = served.asked(ask).await?;
        let error = &body["error"];
        assert_eq!(
            (is, error["code"].as_str(), error["field"].as_str()),
            (status, Some(code), Some(field)),
            "{what}: {body}"
        );
        ensure!(!body.to_string().contains(SECRET), "{what}: {body}");
    }
    let (_, item) = served.asked(Post::get(path, anna)).await?;
    assert_eq!((&item["@odata.etag"], &item["readState"]), (&json!("W/\"0\""), &json!(false)));
    Ok(())
}

#[tokio::test]
async fn without_the_store_no_change_is_claimed() -> Result<()> {
    let mut postgres = PrivatePostgres::start().await?;
    let served = Served::on(postgres.url("postgres")).await?;
    let id = served.told(&sample()).await?;
    let (path, anna) = (format!("{ME}/{id}"), served.of_anna());
    postgres.kill9().await?;
    for ask in [patch(&path, &anna, &json!({ "readState": true })), delete(&path, &anna)] {
        let refused = served.send(ask).await?;
        assert_eq!(refused.status(), 503);
        ensure!(refused.headers().contains_key("retry-after"));
    }
    served.stop.cancel();
    Ok(())
}
