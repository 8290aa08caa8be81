//! Every refusal: its status, the place that it names, and that nothing is stored and nothing quoted.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use herald_core::ids::Unsid;
use herald_harness::database;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::issuer::Key;
use crate::served::{CHAT, MAIL, ME, Post, SECRET, Served, changed, fallback, gzip, sample};

/// A post that is refused, with the status, code and field.
type Row = (&'static str, Post, u16, &'static str, &'static str);

/// Who is not let in, or not to that: every kind of caller at every place that is not theirs (G8 included).
fn callers(served: &Served, mine: Unsid, theirs: Unsid) -> Vec<Row> {
    let (mail, chat, anna) = (served.of_app("service"), served.of_app("other"), served.of_anna());
    let claims = |name: &str, value: Value| served.key.sign(&served.issuer.with(name, value));
    let expired = claims("exp", json!(1_000));
    let stranger = Key::ec("e").sign(&served.issuer.claims());
    let to_mine = |token: Option<String>| Post::to(ME, token, &sample()).with("X-UNS-ID", mine.to_string());
    let (token, denied, invalid) = ("InvalidAuthenticationToken", "accessDenied", "invalidRequest");
    let mut targeted = sample();
    targeted["target"] = json!({ "userId": "bert" });
    vec![
        ("no token", to_mine(None), 401, token, "Authorization"),
        ("no bearer", to_mine(None).with("authorization", "Basic YTpi"), 401, token, "Authorization"),
        ("no JWT", to_mine(Some("a.b.c".to_owned())), 401, token, "Authorization"),
        ("expired", to_mine(Some(expired)), 401, token, "Authorization"),
        ("another's key", to_mine(Some(stranger)), 401, token, "Authorization"),
        ("another audience", to_mine(Some(claims("aud", json!("x")))), 401, token, "Authorization"),
        ("a client of nobody", to_mine(Some(claims("azp", json!("nobody")))), 403, denied, "Authorization"),
        ("a user without the scope", to_mine(Some(claims("scp", json!("openid")))), 403, denied, "Authorization"),
        // Auth comes before anything of the body.
        ("no token, no body", to_mine(None).body(""), 401, token, "Authorization"),
        ("no token, bad header", to_mine(None).with("if-range", "x"), 401, token, "Authorization"),
        // G8: another app's host, another app's phone, another user.
        ("another app's host", to_mine(Some(chat.clone())), 403, denied, "targetHostName"),
        (
            "another app's host by a user",
            Post::to(ME, anna.clone(), &changed("/targetHostName", json!(CHAT))),
            403,
            denied,
            "targetHostName",
        ),
        (
            "another app's phone",
            Post::to(ME, mail.clone(), &sample()).with("X-UNS-ID", theirs.to_string()),
            403,
            denied,
            "userNotificationSubscriptionId",
        ),
        (
            "a phone of nobody",
            Post::to(ME, mail.clone(), &sample()).with("X-UNS-ID", Uuid::nil().to_string()),
            403,
            denied,
            "userNotificationSubscriptionId",
        ),
        (
            "another user's path",
            Post::to("/beta/users/bert/notifications", anna.clone(), &sample()),
            403,
            denied,
            "path",
        ),
        ("another user in the body", Post::to(ME, anna.clone(), &targeted), 400, invalid, "target"),
        (
            "another user than the path's",
            Post::to("/beta/users/anna/notifications", mail.clone(), &targeted),
            400,
            invalid,
            "target",
        ),
        ("a phone beside a user's token", to_mine(Some(anna)), 400, invalid, "X-UNS-ID"),
        ("nobody's path", Post::to("/beta/users/%0A/notifications", mail.clone(), &sample()), 400, invalid, "path"),
        ("a path that is no text", Post::to("/beta/users/%FF/notifications", mail, &sample()), 400, invalid, "path"),
    ]
}

/// What breaks the contract, by a caller who may post.
fn contract(served: &Served, mine: Unsid) -> Vec<Row> {
    let post = |body: &Value| Post::to(ME, served.of_app("service"), body).with("X-UNS-ID", mine.to_string());
    let good = || post(&sample());
    let invalid = "invalidRequest";
    let mut short = changed("/fallbackPolicy", fallback(60));
    short["expirationDateTime"] = json!(served.store.clock().now().plus(Duration::from_secs(30)));
    let delay = "fallbackPolicy.endpointFallback.fallbackDelayInSeconds";
    vec![
        ("no body", good().body(""), 400, invalid, "body"),
        ("a list", post(&json!([sample()])), 400, invalid, "body"),
        ("no JSON", good().body("{"), 400, invalid, "body"),
        ("no host", post(&changed("/targetHostName", Value::Null)), 400, invalid, "targetHostName"),
        ("no payload", post(&changed("/payload", Value::Null)), 400, invalid, "payload"),
        ("a priority that is none", post(&changed("/priority", json!("urgent"))), 400, invalid, "priority"),
        (
            "a life that is over",
            post(&changed("/expirationDateTime", json!("2020-01-01T00:00:00Z"))),
            400,
            invalid,
            "expirationDateTime",
        ),
        ("a delay out of the app's range", post(&changed("/fallbackPolicy", fallback(59))), 400, invalid, delay),
        ("an end before the fallback", post(&short), 400, invalid, "expirationDateTime"),
        ("no target", Post::to(ME, served.of_app("service"), &sample()), 400, invalid, "target"),
        (
            "a phone that is no id",
            Post::to(ME, served.of_app("service"), &sample()).with("X-UNS-ID", "1"),
            400,
            invalid,
            "X-UNS-ID",
        ),
        ("two phones", good().with("X-UNS-ID", mine.to_string()), 400, invalid, "X-UNS-ID"),
        ("a long key", good().with("Idempotency-Key", "k".repeat(129)), 400, invalid, "Idempotency-Key"),
        (
            "another type",
            Post { headers: vec![("content-type", "text/plain".to_owned())], ..good() }
                .with("X-UNS-ID", mine.to_string()),
            400,
            invalid,
            "Content-Type",
        ),
    ]
}

/// What is wrong with a request before its content is looked at.
fn transport(served: &Served, mine: Unsid) -> Vec<Row> {
    let good = || Post::to(ME, served.of_app("service"), &sample()).with("X-UNS-ID", mine.to_string());
    let (invalid, media) = ("invalidRequest", "unsupportedMediaType");
    vec![
        (
            "If-Modified-Since",
            good().with("if-modified-since", "Mon, 26 Aug 2019 00:00:00 GMT"),
            400,
            invalid,
            "If-Modified-Since",
        ),
        ("If-Range", good().with("if-range", "\"a\""), 400, invalid, "If-Range"),
        ("another encoding", good().with("content-encoding", "br"), 415, media, "Content-Encoding"),
        ("not packed as it says", good().with("content-encoding", "gzip"), 400, invalid, "body"),
        ("too large", good().body(vec![b' '; 64 * 1024 + 1]), 413, "tooLarge", "body"),
        (
            "a bomb",
            good().with("content-encoding", "gzip").body(gzip(&vec![b' '; 10_000_000])),
            413,
            "tooLarge",
            "body",
        ),
        ("PUT", Post { method: Method::PUT, ..good() }, 405, "methodNotAllowed", "method"),
        ("DELETE", Post { method: Method::DELETE, ..good() }, 405, "methodNotAllowed", "method"),
    ]
}

#[tokio::test]
async fn every_refusal_has_its_status_names_the_place_and_stores_nothing() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let mine = served.phone(MAIL, "anna").await?;
    let theirs = served.phone(CHAT, "anna").await?;
    served.phone(MAIL, "bert").await?;
    let rows = callers(&served, mine, theirs).into_iter().chain(contract(&served, mine));
    for (name, post, status, code, field) in rows.chain(transport(&served, mine)) {
        let sent_token = post.token.is_some();
        let response = served.send(post.with("client-request-id", "mine")).await?;
        let (is, headers) = (response.status(), response.headers().clone());
        let body: Value = response.json().await.context(name)?;
        let error = &body["error"];
        ensure!(is.as_u16() == status && error["code"] == code && error["field"] == field, "{name}: {is} {body}");
        let message = error["message"].as_str().context(name)?;
        ensure!(message.starts_with(field), "{name}: {message}");
        let inner = &error["innerError"];
        ensure!(inner["client-request-id"] == "mine" && inner["date"].is_string(), "{name}: {body}");
        ensure!(inner["request-id"] == headers["request-id"].to_str()?, "{name}: {body}");
        let challenge = headers.get("www-authenticate").map(|value| value.to_str().unwrap());
        let expected = (status == 401).then_some(if sent_token { r#"Bearer error="invalid_token""# } else { "Bearer" });
        assert_eq!(challenge, expected, "{name}");
        ensure!((status == 405) == headers.contains_key("allow"), "{name}: {headers:?}");
    }
    assert_eq!(served.open().await?, (0, 0));
    // What is out of one app's range is within another's.
    let chat = json!({ "targetHostName": CHAT, "payload": { "rawContent": "a" }, "fallbackPolicy": fallback(5) });
    served.created(Post::to(ME, served.of_app("other"), &chat).with("X-UNS-ID", theirs.to_string())).await?;
    assert_eq!(served.open().await?, (0, 1));
    Ok(())
}

#[tokio::test]
async fn no_refusal_quotes_the_body() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let mut full = changed("/fallbackPolicy", fallback(60));
    full["payload"]["visualContent"] = json!({ "title": SECRET, "body": SECRET });
    for (name, value) in [("groupName", json!("g")), ("expirationDateTime", json!("x")), ("deliverAt", json!("x"))] {
        full[name] = value;
    }
    let mut paths = Vec::new();
    every_path(&full, String::new(), &mut paths);
    let odd = [json!(SECRET), json!([SECRET]), json!({ SECRET: SECRET }), json!(-1), json!(true), json!([]), json!("")];
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for path in &paths {
        for odd in &odd {
            let mut body = full.clone();
            *body.pointer_mut(path).context("no such place")? = odd.clone();
            bodies.push(body.to_string().into_bytes());
        }
    }
    let whole = full.to_string().replace("Hello World!", SECRET);
    bodies.extend((0..whole.len()).step_by(11).map(|end| whole.as_bytes()[..end].to_vec()));
    let (mut refused, token) = (HashSet::new(), served.of_anna());
    for body in bodies {
        let sent = String::from_utf8_lossy(&body).into_owned();
        let response = served.send(Post::to(ME, token.clone(), &json!(null)).body(body)).await?;
        let status = response.status();
        ensure!(matches!(status.as_u16(), 201 | 400 | 403), "{status} for {sent}");
        if status != StatusCode::CREATED {
            let text = response.text().await?;
            ensure!(!text.contains(SECRET), "{text}\nfor {sent}");
            let error: Value = serde_json::from_str(&text)?;
            refused.insert(error["error"]["field"].to_string());
        }
    }
    ensure!(refused.len() > 12, "too few kinds of mistakes were made: {refused:?}");
    Ok(())
}

/// JSON pointers to everything in it.
fn every_path(value: &Value, at: String, paths: &mut Vec<String>) {
    if let Value::Object(map) = value {
        for (name, inner) in map {
            every_path(inner, format!("{at}/{name}"), paths);
        }
    }
    if !at.is_empty() {
        paths.push(at);
    }
}
