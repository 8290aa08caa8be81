//! What a user's notifications look like to their app and to the app's service, and to nobody else.

use anyhow::{Context as _, Result, ensure};
use herald_harness::{PrivatePostgres, database};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::served::{CHAT, MAIL, ME, PUBLIC_URL, Post, Served, changed, sample};

fn ids(page: &Value) -> Vec<&str> {
    page["value"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// The path and query of a link.
fn followed(page: &Value, link: &str) -> String {
    page[link].as_str().unwrap().strip_prefix(PUBLIC_URL).unwrap().to_owned()
}

async fn page(served: &Served, path: &str) -> Result<Value> {
    let (status, page) = served.asked(Post::get(path, served.of_anna())).await?;
    ensure!(status == 200, "{path}: {status} {page}");
    Ok(page)
}

#[tokio::test]
async fn a_notification_is_read_right_after_it_was_taken_in_with_all_that_clients_know() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let mut body = changed("/groupName", json!("orders"));
    body["payload"]["visualContent"] = json!({ "title": "T", "body": "B" });
    let id = served.told(&body).await?;
    let response = served.send(Post::get(format!("{ME}/{id}"), served.of_anna())).await?;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!((header("etag"), header("odata-version")), ("W/\"0\"", "4.0"));
    ensure!(header("content-type").starts_with("application/json;odata.metadata=minimal"), "{headers:?}");
    ensure!(header("request-id").parse::<Uuid>().is_ok(), "{headers:?}");
    let mut item: Value = response.json().await?;
    for time in ["creationDateTime", "expirationDateTime"] {
        ensure!(item[time].as_str().is_some_and(|at| at.ends_with('Z')), "{time}: {item}");
        item[time].take();
    }
    ensure!(matches!(item["displayTimeToLive"].take().as_u64(), Some(50..=60)));
    let context = format!("{PUBLIC_URL}/beta/$metadata#users('anna')/notifications/$entity");
    assert_eq!(
        item,
        json!({
            "@odata.context": context, "@odata.etag": "W/\"0\"", "id": id, "targetHostName": MAIL,
            "appNotificationId": "testRaw", "groupName": "orders", "creationDateTime": null,
            "lastModifiedDateTime": null, "expirationDateTime": null, "status": "Active", "priority": "High",
            "displayTimeToLive": null, "readState": false, "userActionState": "NoInteraction",
            "targetPolicy": { "platformTypes": ["iOS", "Android", "Windows"] },
            "payload": { "rawContent": "Hello World!", "visualContent": { "title": "T", "body": "B" } },
        })
    );
    Ok(())
}

#[tokio::test]
async fn a_list_comes_newest_first_in_pages_that_links_lead_through() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.insert(0, served.told(&sample()).await?);
    }
    let whole = page(&served, ME).await?;
    assert_eq!(ids(&whole), all);
    assert_eq!(whole.get("@odata.nextLink"), None);
    assert_eq!(whole.get("@odata.count"), None);
    let first = page(&served, &format!("{ME}?$top=2&$count=true&$filter=readState%20eq%20false")).await?;
    assert_eq!((&first["@odata.count"], ids(&first)), (&json!(5), all[..2].iter().map(String::as_str).collect()));
    let second = page(&served, &followed(&first, "@odata.nextLink")).await?;
    assert_eq!((&second["@odata.count"], ids(&second).len()), (&json!(5), 2));
    let third = page(&served, &followed(&second, "@odata.nextLink")).await?;
    assert_eq!((ids(&third), third.get("@odata.nextLink")), (vec![all[4].as_str()], None));
    let count = served.send(Post::get(format!("{ME}/$count"), served.of_anna())).await?;
    ensure!(count.headers()["content-type"].to_str()?.starts_with("text/plain"));
    assert_eq!(count.text().await?, "5");
    Ok(())
}

#[tokio::test]
async fn filters_choose_what_is_listed_and_counted() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let plain = served.told(&sample()).await?;
    let grouped = served.told(&changed("/groupName", json!("o'neil"))).await?;
    let gone = served.told(&sample()).await?;
    let patch = Post {
        method: Method::PATCH,
        ..Post::to(&format!("{ME}/{plain}"), served.of_anna(), &json!({"readState": true}))
    };
    assert_eq!(served.asked(patch).await?.0, 200);
    assert_eq!(served.asked(Post::ask(Method::DELETE, format!("{ME}/{gone}"), served.of_anna())).await?.0, 204);
    for (filter, expected) in [
        ("readState%20eq%20true", vec![&plain]),
        ("readState+eq+'Unread'", vec![&grouped]),
        ("groupName%20eq%20'o''neil'", vec![&grouped]),
        ("status%20eq%20'Deleted'", vec![&gone]),
        ("userActionState%20eq%20'NoInteraction'%20and%20status%20eq%20'Active'", vec![&grouped, &plain]),
        ("userActionState%20eq%20'Snoozed'", vec![]),
    ] {
        let listed = page(&served, &format!("{ME}?$filter={filter}")).await?;
        assert_eq!(ids(&listed), expected, "{filter}");
        let count = served.send(Post::get(format!("{ME}/$count?$filter={filter}"), served.of_anna())).await?;
        assert_eq!(count.text().await?, expected.len().to_string(), "{filter}");
    }
    let tombstone = page(&served, &format!("{ME}?$filter=status%20eq%20'Deleted'")).await?;
    assert_eq!((&tombstone["value"][0]["status"], &tombstone["value"][0]["payload"]), (&json!("Deleted"), &json!({})));
    Ok(())
}

#[tokio::test]
async fn a_delta_begins_with_all_goes_on_with_changes_and_says_what_is_gone() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.insert(0, served.told(&sample()).await?);
    }
    let first = page(&served, &format!("{ME}/delta?$top=2")).await?;
    assert_eq!((ids(&first).len(), first.get("@odata.deltaLink")), (2, None));
    let rest = page(&served, &followed(&first, "@odata.nextLink")).await?;
    assert_eq!((ids(&rest), rest.get("@odata.nextLink")), (vec![all[2].as_str()], None));
    let gone = Post::ask(Method::DELETE, format!("{ME}/{}", all[1]), served.of_anna());
    assert_eq!(served.asked(gone).await?.0, 204);
    let news = served.told(&sample()).await?;
    let changes = page(&served, &followed(&rest, "@odata.deltaLink")).await?;
    let removed = json!({ "id": all[1], "@removed": { "reason": "deleted" } });
    ensure!(changes["value"].as_array().is_some_and(|value| value.contains(&removed)), "{changes}");
    ensure!(ids(&changes).contains(&news.as_str()), "{changes}");
    // From now on, without what is there.
    let latest = page(&served, &format!("{ME}/delta?$deltatoken=latest")).await?;
    ensure!(ids(&latest).is_empty(), "{latest}");
    let later = served.told(&sample()).await?;
    let changes = page(&served, &followed(&latest, "@odata.deltaLink")).await?;
    ensure!(ids(&changes).contains(&later.as_str()), "{changes}");
    Ok(())
}

#[tokio::test]
async fn a_delta_token_of_another_place_begins_anew() -> Result<()> {
    let (here, there) = (database().await?, database().await?);
    let (here, there) = (Served::on(here.url()).await?, Served::on(there.url()).await?);
    let link = followed(&page(&there, &format!("{ME}/delta")).await?, "@odata.deltaLink");
    for path in [link, format!("{ME}/delta?$deltatoken=abc"), format!("{ME}/delta?$skiptoken=abc")] {
        let (status, refused) = here.asked(Post::get(path.clone(), here.of_anna())).await?;
        assert_eq!((status, &refused["error"]["code"]), (410, &json!("syncStateNotFound")), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn an_app_reads_for_its_users_and_a_user_for_themselves_at_every_path() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let phone = served.phone(MAIL, "anna").await?.to_string();
    let id = served.told(&sample()).await?;
    let (app, anna) = (served.of_app("service"), served.of_anna());
    for (token, headers) in [(&app, Some(&phone)), (&anna, None), (&anna, Some(&phone))] {
        for root in ["/beta/me", "/v1.0/me", "/beta/users/anna", "/v1.0/users/%61nna"] {
            for (path, of_one) in
                [("", false), ("/", false), ("/delta", false), ("/delta/", false), ("/ID", true), ("/ID/", true)]
            {
                let path = format!("{root}/notifications{}", path.replace("ID", &id));
                let mut get = Post::get(path.clone(), token.clone());
                if let Some(phone) = headers {
                    get = get.with("x-uns-id", phone);
                }
                let (status, body) = served.asked(get).await?;
                let found = if of_one { &body["id"] } else { &body["value"][0]["id"] };
                assert_eq!((status, found), (200, &json!(id)), "{path}: {body}");
            }
        }
    }
    let by_path = served.asked(Post::get("/beta/users/anna/notifications", app)).await?;
    assert_eq!(by_path.0, 200, "without a device the path names the user");
    Ok(())
}

#[tokio::test]
async fn whatever_may_not_be_read_is_refused_with_its_place() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let anna = served.of_anna();
    let mine = served.phone(MAIL, "anna").await?.to_string();
    let berts = served.phone(MAIL, "bert").await?.to_string();
    let theirs = served.phone(CHAT, "anna").await?.to_string();
    let id = served.told(&sample()).await?;
    let one = format!("{ME}/{id}");
    let to = |path: &str, token: &str| Post::get(path, token.to_owned());
    let (app, chat, bert) = (served.of_app("service"), served.of_app("other"), served.of_user("bert"));
    let openid = served.key.sign(&served.issuer.with("scp", json!("openid")));
    let (token, denied, invalid) = ("InvalidAuthenticationToken", "accessDenied", "invalidRequest");
    let rows: Vec<(Post, u16, &str, &str)> = vec![
        (Post::get(ME, None), 401, token, "Authorization"),
        (Post::get(format!("{ME}?$x=1"), None), 401, token, "Authorization"),
        (to(ME, "a.b.c"), 401, token, "Authorization"),
        (to(ME, &openid), 403, denied, "Authorization"),
        (to("/beta/users/bert/notifications", &anna), 403, denied, "path"),
        (to("/beta/users/bert/notifications/$count", &anna), 403, denied, "path"),
        (to(ME, &app), 400, invalid, "X-UNS-ID"),
        (to(ME, &anna).with("x-uns-id", "x"), 400, invalid, "X-UNS-ID"),
        (to(ME, &anna).with("x-uns-id", mine.clone()).with("x-uns-id", mine.clone()), 400, invalid, "X-UNS-ID"),
        (to(ME, &anna).with("x-uns-id", berts.clone()), 403, denied, "X-UNS-ID"),
        (to(ME, &anna).with("x-uns-id", theirs.clone()), 403, denied, "X-UNS-ID"),
        (to(ME, &anna).with("x-uns-id", Uuid::now_v7().to_string()), 403, denied, "X-UNS-ID"),
        (to(ME, &app).with("x-uns-id", theirs.clone()), 403, denied, "X-UNS-ID"),
        (to("/beta/users/anna/notifications", &app).with("x-uns-id", berts), 403, denied, "X-UNS-ID"),
        (to(&format!("{ME}?$orderby=id"), &anna), 400, invalid, "$orderby"),
        (to(&format!("{ME}?$top=0"), &anna), 400, invalid, "$top"),
        (to(&format!("{ME}?$filter=x"), &anna), 400, invalid, "$filter"),
        (to(&format!("{ME}/$count?$top=1"), &anna), 400, invalid, "$top"),
        (to(&format!("{ME}/delta?$filter=x"), &anna), 400, invalid, "$filter"),
        // What is another's is not there (G8).
        (to(&one, &bert), 404, "notFound", "path"),
        (to(&one, &chat).with("x-uns-id", theirs), 404, "notFound", "path"),
        (to(&format!("/beta/users/anna/notifications/{id}"), &chat), 404, "notFound", "path"),
        (to(&format!("/beta/users/bert/notifications/{id}"), &app), 404, "notFound", "path"),
        (to(&format!("{ME}/{}", Uuid::now_v7()), &anna), 404, "notFound", "path"),
        (to(&format!("{ME}/nothing"), &anna), 404, "notFound", "path"),
        (to(&format!("{ME}/%FF"), &anna), 403, denied, "path"),
        (Post::ask(Method::PUT, ME, anna.clone()), 405, "methodNotAllowed", "method"),
        (Post::ask(Method::POST, &*one, anna.clone()), 405, "methodNotAllowed", "method"),
        (Post::ask(Method::DELETE, format!("{ME}/delta"), anna.clone()), 405, "methodNotAllowed", "method"),
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
        ensure!(error["innerError"]["request-id"].is_string(), "{what}: {body}");
    }
    let allowed = served.send(Post::ask(Method::PUT, one, anna)).await?;
    assert_eq!(allowed.headers()["allow"].to_str()?, "GET, HEAD, PATCH, DELETE");
    Ok(())
}

#[tokio::test]
async fn another_apps_and_another_users_notifications_are_in_no_list() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    served.told(&sample()).await?;
    let mut elsewhere = sample();
    elsewhere["targetHostName"] = CHAT.into();
    served.created(Post::to("/beta/users/anna/notifications", served.of_app("other"), &elsewhere)).await?;
    for (path, token, expected) in [
        (ME, served.of_anna(), 1),
        (ME, served.of_user("bert"), 0),
        ("/beta/users/anna/notifications", served.of_app("other"), 1),
        ("/beta/users/bert/notifications", served.of_app("service"), 0),
    ] {
        for path in [path.to_owned(), format!("{path}/delta")] {
            let (status, body) = served.asked(Post::get(path.clone(), token.clone())).await?;
            assert_eq!((status, ids(&body).len()), (200, expected), "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_the_store_every_read_says_when_to_come_back() -> Result<()> {
    let mut postgres = PrivatePostgres::start().await?;
    let served = Served::on(postgres.url("postgres")).await?;
    let id = served.told(&sample()).await?;
    postgres.kill9().await?;
    for path in ["", "/$count", "/delta", &format!("/{id}")] {
        let refused = served.send(Post::get(format!("{ME}{path}"), served.of_anna())).await?;
        assert_eq!(refused.status(), 503, "{path}");
        ensure!(refused.headers().contains_key("retry-after"));
    }
    let body: Value = served.send(Post::get(ME, served.of_anna())).await?.json().await?;
    body["error"]["innerError"]["request-id"].as_str().context("no request-id")?;
    served.stop.cancel();
    Ok(())
}
