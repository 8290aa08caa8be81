//! Receipts without a capability: by what a user's own device fetches, and by a token that speaks for the device.

use anyhow::{Context as _, Result, ensure};
use herald_core::ids::Unsid;
use herald_harness::database;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::served::{CHAT, MAIL, ME, Post, Served, sample};

const RECEIPTS: &str = "/v1/receipts";

/// The state of a notification's delivery to a device.
async fn state(served: &Served, id: &str, phone: Unsid) -> Result<&'static str> {
    let trace = served.trace(MAIL, &json!({ "id": id })).await?;
    let delivery = trace.deliveries.into_iter().find(|traced| traced.unsid == phone).context("no delivery")?;
    Ok(delivery.delivery.state.as_str())
}

fn pair(id: &str, phone: Unsid) -> Value {
    json!({ "notificationId": id, "userNotificationSubscriptionId": phone.to_string() })
}

#[tokio::test]
async fn what_a_users_own_device_fetches_is_received_there_and_nowhere_else() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let (phone, tablet) = (served.phone(MAIL, "anna").await?, served.phone(MAIL, "anna").await?);
    for what in ["", "/delta", "/ID"] {
        let id = served.told(&sample()).await?;
        let path = format!("{ME}{}", what.replace("ID", &id));
        let by = |token: String| Post::get(path.clone(), token);
        // Without the device's own name it says nothing, and an app's service is no device.
        let service = by(served.of_app("service")).with("X-UNS-ID", phone.to_string());
        // Nor does a HEAD, which hands nothing out, or a count, even with the dollar encoded.
        let head = Post { method: Method::HEAD, ..by(served.of_anna()).with("X-UNS-ID", phone.to_string()) };
        let count =
            |path: &str| Post::get(format!("{ME}/{path}"), served.of_anna()).with("X-UNS-ID", phone.to_string());
        for silent in [by(served.of_anna()), service, head, count("$count"), count("%24count")] {
            assert_eq!(served.send(silent).await?.status(), 200);
            assert_eq!(state(&served, &id, phone).await?, "due", "{what}");
        }
        for _ in 0..2 {
            assert_eq!(served.send(by(served.of_anna()).with("X-UNS-ID", phone.to_string())).await?.status(), 200);
            assert_eq!((state(&served, &id, phone).await?, state(&served, &id, tablet).await?), ("received", "due"));
        }
    }
    // Each once: what was acknowledged before is neither written nor counted again.
    assert_eq!(served.metric(r#"herald_receipts_total{result="on_time"}"#), "3");
    assert_eq!(served.metric(r#"herald_receipts_total{result="duplicate"}"#), "0");
    assert_eq!(served.metric(r#"herald_receipts_total{result="unknown"}"#), "0");
    Ok(())
}

#[tokio::test]
async fn what_is_on_another_page_or_gone_is_not_received() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let phone = served.phone(MAIL, "anna").await?;
    let (old, gone, new) =
        (served.told(&sample()).await?, served.told(&sample()).await?, served.told(&sample()).await?);
    let delta = Post::get(format!("{ME}/delta?$deltatoken=latest"), served.of_anna());
    let link = served.asked(delta).await?.1["@odata.deltaLink"].as_str().context("no link")?.to_owned();
    let delete = Post::ask(Method::DELETE, format!("{ME}/{gone}"), served.of_anna());
    assert_eq!(served.asked(delete).await?.0, 204);
    let page = Post::get(format!("{ME}?$top=1"), served.of_anna()).with("X-UNS-ID", phone.to_string());
    assert_eq!(served.send(page).await?.status(), 200);
    assert_eq!((state(&served, &new, phone).await?, state(&served, &old, phone).await?), ("received", "due"));
    let path = link.strip_prefix(crate::served::PUBLIC_URL).context("not ours")?;
    let delta = Post::get(path, served.of_anna()).with("X-UNS-ID", phone.to_string());
    assert_eq!(served.asked(delta).await?.0, 200);
    assert_eq!(state(&served, &gone, phone).await?, "withdrawn");
    Ok(())
}

#[tokio::test]
async fn a_fetch_whose_receipt_can_not_be_stored_hands_nothing_out() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let phone = served.phone(MAIL, "anna").await?;
    let id = served.told(&sample()).await?;
    let fetch = || Post::get(format!("{ME}/{id}"), served.of_anna()).with("X-UNS-ID", phone.to_string());
    // The disk is full: reading works, writing does not.
    database
        .execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$;
             CREATE TRIGGER full_disk BEFORE UPDATE ON deliveries EXECUTE FUNCTION full_disk()",
        )
        .await?;
    let refused = served.send(fetch()).await?;
    assert_eq!(refused.status(), 503);
    ensure!(refused.headers().contains_key("retry-after"));
    ensure!(!refused.text().await?.contains("Hello"));
    assert_eq!(state(&served, &id, phone).await?, "due");
    database.execute("DROP TRIGGER full_disk ON deliveries").await?;
    assert_eq!(served.send(fetch()).await?.status(), 200);
    assert_eq!(state(&served, &id, phone).await?, "received");
    Ok(())
}

#[tokio::test]
async fn a_token_speaks_for_its_own_devices_and_apps() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let (phone, tablet) = (served.phone(MAIL, "anna").await?, served.phone(MAIL, "anna").await?);
    let id = served.told(&sample()).await?;
    let mut elsewhere = sample();
    elsewhere["targetHostName"] = CHAT.into();
    let theirs = served.phone(CHAT, "anna").await?;
    let other = served.created(Post::to("/beta/users/anna/notifications", served.of_app("other"), &elsewhere)).await?;
    let other = other["id"].as_str().context("no id")?;
    let statuses = async |token: String, receipts: Vec<Value>| -> Result<Value> {
        let (status, body) = served.asked(Post::to(RECEIPTS, token, &json!({ "receipts": receipts }))).await?;
        ensure!(status == 200, "{status}: {body}");
        Ok(body["results"].as_array().context("no results")?.iter().map(|item| item["status"].clone()).collect())
    };
    // Another user's, another app's, nobody's: none is told from one that never was (G8).
    let all = vec![pair(&id, phone), pair(other, theirs), pair(&id, theirs), pair(&Uuid::now_v7().to_string(), phone)];
    assert_eq!(
        statuses(served.of_user("bert"), all.clone()).await?,
        json!(["unknown", "unknown", "unknown", "unknown"])
    );
    assert_eq!(state(&served, &id, phone).await?, "due");
    assert_eq!(statuses(served.of_anna(), all).await?, json!(["received", "unknown", "unknown", "unknown"]));
    assert_eq!((state(&served, &id, phone).await?, state(&served, &id, tablet).await?), ("received", "due"));
    // The service, for any of its users; a capability beside it stands for itself.
    let mixed = vec![pair(&id, tablet), pair(&id, phone), pair(other, theirs), json!({ "capability": "forged" })];
    assert_eq!(
        statuses(served.of_app("service"), mixed).await?,
        json!(["received", "duplicate", "unknown", "refused"])
    );
    let single = served.asked(Post::to(RECEIPTS, served.of_app("other"), &pair(other, theirs))).await?;
    assert_eq!(single.1["results"], json!([{ "status": "received" }]));
    Ok(())
}

#[tokio::test]
async fn a_thousand_receipts_are_taken_at_once_and_one_more_is_refused() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let phone = served.phone(MAIL, "anna").await?;
    let id = served.told(&sample()).await?;
    let mut receipts = vec![pair(&id, phone); 1_000];
    let many = Post::to(RECEIPTS, served.of_anna(), &json!({ "receipts": receipts }));
    let (status, body) = served.asked(many).await?;
    let results = body["results"].as_array().context("no results")?;
    assert_eq!((status, results.len()), (200, 1_000));
    assert_eq!((&results[0]["status"], &results[999]["status"]), (&json!("received"), &json!("duplicate")));
    receipts.push(pair(&id, phone));
    let (status, body) = served.asked(Post::to(RECEIPTS, served.of_anna(), &json!({ "receipts": receipts }))).await?;
    assert_eq!((status, &body["error"]["field"]), (400, &json!("receipts")));
    Ok(())
}

#[tokio::test]
async fn without_a_good_token_no_receipt_of_the_request_is_taken() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let phone = served.phone(MAIL, "anna").await?;
    let id = served.told(&sample()).await?;
    let body = json!({ "receipts": [pair(&id, phone), { "capability": "forged" }] });
    let openid = served.key.sign(&served.issuer.with("scp", json!("openid")));
    for (token, status) in [(None, 401), (Some("a.b.c".to_owned()), 401), (Some(openid), 403)] {
        let response = served.send(Post::to(RECEIPTS, token, &body)).await?;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        let body: Value = response.json().await?;
        assert_eq!(body["error"]["field"], "Authorization", "{body}");
    }
    assert_eq!(state(&served, &id, phone).await?, "due");
    // Capabilities alone need none, and a token that is no good is none of theirs.
    let alone = Post::to(RECEIPTS, "a.b.c".to_owned(), &json!({ "capability": "forged" }));
    assert_eq!(served.asked(alone).await?.1["results"][0]["status"], "refused");
    Ok(())
}
