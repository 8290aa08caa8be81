//! What every request passes: its app's rate, ids and security headers on each answer, metrics, and the log's line.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;

use anyhow::{Context as _, Result, ensure};
use herald_core::ids::AppId;
use herald_gateway::{Parts, Rate, RequestLog, ThrottledStatus};
use herald_harness::database;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::served::{MAIL, ME, Post, SECRET, Served, changed, sample};

/// Two requests at once for the first app, and one more an hour later.
fn throttled(parts: &mut Parts, status: ThrottledStatus) {
    let api = parts.api.as_mut().unwrap();
    api.throttled = status;
    let rules = api.apps.get_mut(&AppId::new(MAIL)).unwrap();
    rules.rate = Some(Rate { per_second: 1, burst: 2 });
}

#[tokio::test]
async fn one_request_too_many_is_told_when_to_come_back_and_other_apps_feel_nothing_of_it() -> Result<()> {
    for (option, status) in [(ThrottledStatus::TooManyRequests, 429), (ThrottledStatus::NotAcceptable, 406)] {
        let database = database().await?;
        let served = Served::with(database.url(), |parts| throttled(parts, option)).await?;
        served.phone(MAIL, "anna").await?;
        let other = json!({ "targetHostName": "chat.fabrikam.com", "payload": { "rawContent": "x" } });
        // An app's and a user's token count together; broken bodies count as well.
        let of_app = Post::to("/beta/users/anna/notifications", served.of_app("service"), &json!({}));
        assert_eq!(served.send(of_app.clone()).await?.status(), StatusCode::BAD_REQUEST);
        let mut refused = 0;
        for _ in 0..20 {
            let response = served.send(Post::to(ME, served.of_anna(), &sample())).await?;
            if response.status() == StatusCode::CREATED {
                continue;
            }
            assert_eq!(response.status().as_u16(), status);
            let secs: u64 = response.headers()["retry-after"].to_str()?.parse()?;
            assert_eq!(secs, 1, "there is one a second");
            let body: Value = response.json().await?;
            assert_eq!(body["error"]["code"], "tooManyRequests");
            ensure!(body["error"]["innerError"]["request-id"].is_string(), "{body}");
            refused += 1;
        }
        ensure!(refused > 0, "20 requests took 19 s?");
        for _ in 0..20 {
            let response =
                served.send(Post::to("/beta/users/bob/notifications", served.of_app("other"), &other)).await?;
            assert_eq!(response.status(), StatusCode::CREATED);
        }
        // Without a good token nothing is counted for anybody, and receipts by capability are nobody's.
        let response = served.send(Post::to(ME, None, &sample())).await?;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let response = served.send(Post::to("/v1/receipts", None, &json!({ "receipts": [] }))).await?;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(served.metric("herald_http_throttled_total"), refused.to_string());
    }
    Ok(())
}

/// Paths of every kind, with what they answer.
fn kinds(served: &Served) -> Vec<(Post, u16)> {
    let get = |path: &str| Post { method: Method::GET, ..Post::to(path, None, &Value::Null).body("") };
    vec![
        (Post::to(ME, served.of_anna(), &sample()), 201),
        (Post::to(ME, None, &sample()), 401),
        (Post::to("/v1.0/users/bob/notifications", served.of_anna(), &sample()), 403),
        (Post { method: Method::DELETE, ..Post::to(ME, None, &Value::Null) }, 405),
        (Post::to("/v1/receipts", None, &json!({ "receipts": [] })), 200),
        (get("/v1/receipts"), 405),
        (get("/v1/openapi.json"), 200),
        (get("/healthz"), 200),
        (get("/readyz"), 200),
        (get("/metrics"), 200),
        (get("/nowhere"), 404),
    ]
}

#[tokio::test]
async fn every_answer_has_ids_and_security_headers_and_says_nothing_of_the_server() -> Result<()> {
    let database = database().await?;
    let plain = Served::on(database.url()).await?;
    let secured = Served::secured(database.url()).await?;
    for (served, tls) in [(&plain, false), (&secured, true)] {
        for (post, status) in kinds(served) {
            let shown = format!("{} {}", post.method, post.path);
            let response = served.send(post.with("client-request-id", "mine").with("request-id", "forged")).await?;
            assert_eq!(response.status().as_u16(), status, "{shown}");
            let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(header("cache-control"), Some("no-store"), "{shown}");
            assert_eq!(header("x-content-type-options"), Some("nosniff"), "{shown}");
            assert_eq!(header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
            assert_eq!(header("referrer-policy"), Some("no-referrer"), "{shown}");
            assert_eq!(header("strict-transport-security"), tls.then_some("max-age=31536000"), "{shown}");
            assert_eq!((header("server"), header("x-powered-by")), (None, None), "{shown}");
            assert_eq!(header("client-request-id"), Some("mine"), "{shown}");
            let own = header("request-id").with_context(|| shown.clone())?;
            ensure!(own.parse::<Uuid>().is_ok(), "{shown}: {own}");
        }
    }
    let series = |route: &str, status: &str| {
        plain.metric(&format!(r#"herald_http_requests_total{{route="{route}",status="{status}"}}"#))
    };
    assert_eq!(series("notifications", "2xx"), "1");
    assert_eq!(series("notifications", "4xx"), "3");
    assert_eq!((series("receipts", "2xx"), series("receipts", "4xx")), ("1".to_owned(), "1".to_owned()));
    assert_eq!((series("health", "2xx"), series("nowhere", "4xx")), ("2".to_owned(), "1".to_owned()));
    assert_eq!(plain.metric(r#"herald_http_seconds_count{route="notifications"}"#), "4");
    Ok(())
}

thread_local! {
    /// What is logged by this test: it and all that it serves run in one thread of their own.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Logged;

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines of the log.
struct Lines(String);

impl Lines {
    /// Those of requests.
    fn requests(&self) -> Vec<Value> {
        let lines: Vec<Value> = self.0.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.into_iter().filter(|line| line["target"] == "herald::http").collect()
    }
}

/// What is logged of one request of each kind, and of some that are full of secrets.
async fn logged(request_log: RequestLog) -> Result<(Lines, String)> {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let format = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter("herald=trace");
        format.with_writer(|| Logged).init();
    });
    LOGGED.take();
    let database = database().await?;
    let served = Served::with(database.url(), |parts| parts.request_log = request_log).await?;
    for (post, _) in kinds(&served) {
        served.send(post).await?;
    }
    let secret = changed("/payload/rawContent", json!(SECRET));
    let (app, bad) = (served.of_app("service"), "s3cret.s3cret.s3cret".to_owned());
    for post in [
        Post::to("/beta/users/anna-s3cret/notifications?x=s3cret", app.clone(), &secret),
        Post::to("/beta/users/anna-s3cret/notifications", bad, &secret),
        Post::to("/v1/receipts", None, &json!({ "capability": SECRET })),
        Post::to("/s3cret/s3cret", app.clone(), &secret),
        Post { method: Method::from_bytes(b"S3CRET")?, ..Post::to(ME, None, &secret) },
    ] {
        served.send(post.with("x-secret", SECRET).with("client-request-id", "mine")).await?;
    }
    let lines = Lines(String::from_utf8(LOGGED.take())?);
    Ok((lines, app))
}

#[tokio::test]
async fn the_log_has_the_template_the_status_and_the_app_and_nothing_that_is_secret() -> Result<()> {
    let (lines, token) = logged(RequestLog::All).await?;
    let (text, requests) = (lines.0.as_str(), lines.requests());
    for secret in [SECRET, "S3CRET", "anna", "bob", "Hello World", "127.0.0.1:", token.as_str()] {
        // Where the test's own issuer is, is told when its keys are fetched.
        let found = text.lines().find(|line| line.contains(secret) && !line.contains("fetched an issuer's keys"));
        assert_eq!(found, None, "{secret}");
    }
    assert_eq!(requests.len(), 8 + 5, "probes and scrapes that went well have none: {requests:#?}");
    let first = &requests[0];
    assert_eq!((&first["method"], &first["route"]), (&json!("POST"), &json!("/beta/me/notifications")));
    assert_eq!((&first["status"], &first["app.id"]), (&json!(201), &json!(MAIL)));
    ensure!(first["took_ms"].is_u64() && first["client.request.id"].is_null(), "{first}");
    ensure!(first["request.id"].as_str().is_some_and(|id| id.parse::<Uuid>().is_ok()), "{first}");
    let posted = &requests[8];
    assert_eq!(posted["route"], "/beta/users/{user}/notifications");
    assert_eq!((&posted["status"], &posted["client.request.id"]), (&json!(201), &json!("mine")));
    let nowhere = &requests[11];
    assert_eq!((&nowhere["route"], &nowhere["status"]), (&json!("none"), &json!(404)));
    assert_eq!(requests[12]["method"], "other");
    Ok(())
}

#[tokio::test]
async fn only_refused_requests_are_logged_unless_told_otherwise() -> Result<()> {
    let (lines, _) = logged(RequestLog::default()).await?;
    let statuses: Vec<Value> = lines.requests().iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, [401, 403, 405, 405, 404, 401, 404, 405].map(|status| json!(status)));
    let (lines, _) = logged(RequestLog::None).await?;
    assert_eq!(lines.requests().len(), 0);
    Ok(())
}
