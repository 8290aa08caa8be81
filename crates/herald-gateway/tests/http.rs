//! The gateway over HTTP, with a real PostgreSQL.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use herald_core::delivery::State;
use herald_core::ids::{AppId, DeliveryId, NotificationId, PushToken, UserId};
use herald_core::lane::Lane;
use herald_core::notification::{Content, Payload, Priority};
use herald_core::push::Form;
use herald_core::receipt;
use herald_core::request::{Request, Target};
use herald_core::subscription::{Environment, Platform, PlatformSet, Provider, TokenKind};
use herald_gateway::{Gateway, Parts, ReceiptKeys, RequestLog};
use herald_harness::{PrivatePostgres, database, wait};
use herald_metrics::Metrics;
use herald_store::{Intaken, NewDelivery, NewNotification, NewSubscription, PostgresConfig, Resolved, Store};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const KEY: &[u8] = b"the gateway's test key, 32 bytes.";
const DAY: Duration = Duration::from_secs(86_400);

fn app() -> AppId {
    AppId::new("mail.contoso.com")
}

/// A gateway that serves until it is dropped.
struct Served {
    base: String,
    client: Client,
    store: Store,
    metrics: Metrics,
    draining: CancellationToken,
    stop: CancellationToken,
    serving: JoinSet<std::io::Result<()>>,
}

impl Served {
    async fn on(database_url: String) -> Result<Self> {
        let store = Store::connect(PostgresConfig {
            url: database_url,
            ca_pem: None,
            max_connections: 4,
            statement_timeout: Duration::from_secs(1),
        })
        .await?;
        store.migrate().await?;
        let (metrics, draining, stop) = (Metrics::new(), CancellationToken::new(), CancellationToken::new());
        let gateway = Gateway::new(Parts {
            metrics: metrics.clone(),
            store: store.clone(),
            queue: None,
            receipt_keys: ReceiptKeys::new([("k1".to_owned(), KEY.to_vec())]),
            api: None,
            tls: None,
            request_log: RequestLog::default(),
            draining: draining.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        let mut serving = JoinSet::new();
        serving.spawn(gateway.serve(listener, stop.clone()));
        Ok(Self { base, client: Client::new(), store, metrics, draining, stop, serving })
    }

    /// Open deliveries, each of a notification of its own to one phone.
    async fn deliveries(&self, count: usize) -> Result<Vec<(NotificationId, DeliveryId)>> {
        let now = self.store.clock().now();
        let user = UserId::new("anna");
        self.store
            .subscribe(NewSubscription {
                app: app(),
                user: user.clone(),
                platform: Platform::Ios,
                token_kind: TokenKind::Token,
                token: PushToken::new("00ff"),
                environment: Environment::Production,
                expires_at: now.plus(DAY),
                unsid: None,
            })
            .await?;
        let batch = (0..count).map(|at| NewNotification {
            id: NotificationId(Uuid::now_v7()),
            request: request(&user, at, now.plus(DAY)),
            received_at: now,
        });
        let stored = self
            .store
            .intake(batch.collect(), count, DAY, |_, _, active, _| Resolved {
                deliveries: active.iter().map(|subscription| delivery(subscription.id)).collect(),
                events: Vec::new(),
            })
            .await?;
        let first = |intaken: &Intaken| match intaken {
            Intaken::Stored { notification, taken, .. } => Some((notification.id, taken.first()?.delivery.id)),
            Intaken::Duplicate | Intaken::UnknownTarget => None,
        };
        stored.iter().map(|intaken| first(intaken).context("not stored")).collect()
    }

    fn capability(&self, delivery: DeliveryId) -> String {
        receipt::sign("k1", KEY, delivery, self.store.clock().now().plus(DAY))
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> Result<Response> {
        Ok(self.client.post(format!("{}/v1/receipts", self.base)).body(body).send().await?)
    }

    async fn bearer(&self, capability: &str) -> Result<Response> {
        Ok(self.client.post(format!("{}/v1/receipts", self.base)).bearer_auth(capability).send().await?)
    }

    async fn get(&self, path: &str) -> Result<Response> {
        Ok(self.client.get(format!("{}{path}", self.base)).send().await?)
    }

    async fn state(&self, notification: NotificationId) -> Result<State> {
        let trace = self.store.trace(&app(), notification).await?.context("no such notification")?;
        Ok(trace.deliveries.first().context("no delivery")?.delivery.state)
    }

    fn has_metric(&self, line: &str) -> Result<()> {
        let text = self.metrics.render();
        ensure!(text.lines().any(|is| is == line), "no {line:?} in:\n{text}");
        Ok(())
    }
}

fn request(user: &UserId, at: usize, expires_at: herald_core::time::Timestamp) -> Request {
    Request {
        app: app(),
        target: Target::User(user.clone()),
        key: format!("key-{at}"),
        content: Content {
            app_notification_id: None,
            group_name: None,
            priority: Priority::High,
            payload: Payload { raw: Some("{}".to_owned()), visual: None },
            display_ttl: None,
            target_policy: PlatformSet::ALL,
            fallback: None,
            traceparent: None,
            tracestate: None,
        },
        expires_at,
        deliver_at: None,
        lane: Lane::High,
    }
}

fn delivery(unsid: herald_core::ids::Unsid) -> NewDelivery {
    NewDelivery {
        id: DeliveryId(Uuid::now_v7()),
        unsid,
        form: Form::Raw,
        fallback_delay: Some(Duration::from_secs(60)),
    }
}

async fn statuses(response: Response) -> Result<Vec<String>> {
    ensure!(response.status() == StatusCode::OK, "{}", response.status());
    let body: Value = response.json().await?;
    let results = body["results"].as_array().context("no results")?;
    Ok(results.iter().map(|item| item["status"].as_str().unwrap_or_default().to_owned()).collect())
}

async fn error(response: Response, status: StatusCode) -> Result<Value> {
    ensure!(response.status() == status, "{} instead of {status}", response.status());
    let body: Value = response.json().await?;
    for key in ["code", "message", "problem", "fix"] {
        ensure!(body["error"][key].as_str().is_some_and(|text| !text.is_empty()), "no {key} in {body}");
    }
    Ok(body["error"].clone())
}

#[tokio::test]
async fn each_receipt_of_a_batch_is_answered_by_what_it_did_once_it_is_stored() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let made = served.deliveries(2).await?;
    let (seen, unseen) = (made[0], made[1]);
    let seen_by = served.capability(seen.1);
    let nobody = served.capability(DeliveryId(Uuid::now_v7()));
    let forged = receipt::sign("k1", b"another key", unseen.1, served.store.clock().now().plus(DAY));
    let body = json!({"receipts": [
        {"capability": forged}, {"capability": seen_by, "receivedAt": "2020-01-01T00:00:00Z"}, {"capability": nobody},
    ]});
    let answer: Value = served.post(body.to_string()).await?.json().await?;
    ensure!(
        answer["results"]
            == json!([
                {"status": "refused", "error": "the signature does not match"}, {"status": "received"}, {"status": "unknown"},
            ]),
        "{answer}"
    );
    assert_eq!(served.state(seen.0).await?, State::Received);
    assert_eq!(served.state(unseen.0).await?, State::Sending, "a forged receipt closes nothing");
    assert_eq!(statuses(served.post(json!({"capability": seen_by}).to_string()).await?).await?, ["duplicate"]);
    served.has_metric(r#"herald_receipts_total{result="on_time"} 1"#)?;
    served.has_metric(r#"herald_receipts_total{result="refused"} 1"#)?;
    served.has_metric(r#"herald_receipts_total{result="duplicate"} 1"#)?;
    served.has_metric(r#"herald_deliveries_closed_total{state="received"} 1"#)?;
    served.has_metric(r#"herald_fallbacks_cancelled_total{by="receipt"} 1"#)
}

#[tokio::test]
async fn a_capability_alone_acknowledges_and_a_wrong_one_is_unauthorized() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let (notification, delivery) = served.deliveries(1).await?[0];
    let refused = served.bearer("AQJrMQ").await?;
    ensure!(refused.headers().contains_key("www-authenticate"));
    assert_eq!(error(refused, StatusCode::UNAUTHORIZED).await?["field"], "Authorization");
    assert_eq!(served.state(notification).await?, State::Sending);
    assert_eq!(statuses(served.bearer(&served.capability(delivery)).await?).await?, ["received"]);
    assert_eq!(served.state(notification).await?, State::Received);
    Ok(())
}

#[tokio::test]
async fn what_breaks_the_contract_is_refused_in_one_shape() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let many = json!({"receipts": vec![json!({"capability": "a"}); 1_001]}).to_string();
    for (body, field) in [("", "body"), ("{", "body"), ("{}", "receipts"), (many.as_str(), "receipts")] {
        let refusal = error(served.post(body.to_owned()).await?, StatusCode::BAD_REQUEST).await?;
        assert_eq!(refusal["field"], field, "{body:.40}");
    }
    let large = vec![b' '; herald_gateway::MAX_BODY_BYTES + 1];
    error(served.post(large).await?, StatusCode::PAYLOAD_TOO_LARGE).await?;
    error(served.get("/v1/nothing").await?, StatusCode::NOT_FOUND).await?;
    // Without an issuer nobody can post notifications.
    error(served.get("/beta/me/notifications").await?, StatusCode::NOT_FOUND).await?;
    error(served.get("/v1/receipts").await?, StatusCode::METHOD_NOT_ALLOWED).await?;
    Ok(())
}

#[tokio::test]
async fn many_phones_at_once_get_an_answer_of_their_own() -> Result<()> {
    const PHONES: usize = 200;
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let made = served.deliveries(PHONES).await?;
    let mut posts = JoinSet::new();
    for (at, (_, delivery)) in made.iter().enumerate() {
        let request = served.client.post(format!("{}/v1/receipts", served.base));
        // Every second one sends its receipt twice at once.
        let capability = served.capability(*delivery);
        let body = match at % 2 {
            0 => json!({"receipts": [{"capability": capability}]}),
            _ => json!({"receipts": [{"capability": capability}, {"capability": capability}]}),
        };
        posts.spawn(async move { statuses(request.body(body.to_string()).send().await?).await });
    }
    let (mut once, mut twice) = (0, 0);
    while let Some(posted) = posts.join_next().await {
        let posted = posted??;
        let posted: Vec<&str> = posted.iter().map(String::as_str).collect();
        match posted.as_slice() {
            ["received"] => once += 1,
            ["received", "duplicate"] => twice += 1,
            other => anyhow::bail!("{other:?}"),
        }
    }
    assert_eq!((once, twice), (PHONES / 2, PHONES / 2));
    served.has_metric(&format!(r#"herald_receipts_total{{result="on_time"}} {PHONES}"#))?;
    served.has_metric(&format!(r#"herald_batch_size_sum{{step="receipt"}} {}"#, PHONES * 3 / 2))?;
    Ok(())
}

#[tokio::test]
async fn without_the_store_no_receipt_is_claimed_and_the_same_one_is_taken_later() -> Result<()> {
    let mut postgres = PrivatePostgres::start().await?;
    let mut served = Served::on(postgres.url("postgres")).await?;
    let (notification, delivery) = served.deliveries(1).await?[0];
    assert_eq!(served.get("/readyz").await?.status(), StatusCode::OK);
    let capability = served.capability(delivery);

    postgres.kill9().await?;
    let refused = served.bearer(&capability).await?;
    ensure!(refused.headers().contains_key("retry-after"));
    error(refused, StatusCode::SERVICE_UNAVAILABLE).await?;
    let not_ready = served.get("/readyz").await?;
    assert_eq!(not_ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let not_ready: Value = not_ready.json().await?;
    assert_eq!(not_ready["notReady"][0]["part"], "store", "{not_ready}");
    assert_eq!(served.get("/healthz").await?.status(), StatusCode::OK, "a restart would not bring the store back");

    postgres.start_again().await?;
    wait::until(Duration::from_secs(20), "readiness", async || {
        served.get("/readyz").await.is_ok_and(|response| response.status() == StatusCode::OK)
    })
    .await?;
    assert_eq!(statuses(served.bearer(&capability).await?).await?, ["received"]);
    assert_eq!(served.state(notification).await?, State::Received);
    served.stop.cancel();
    served.serving.join_next().await.context("it serves no more")???;
    Ok(())
}

#[tokio::test]
async fn a_draining_process_is_not_ready_but_takes_receipts_until_it_is_stopped() -> Result<()> {
    let database = database().await?;
    let mut served = Served::on(database.url()).await?;
    let (_, delivery) = served.deliveries(1).await?[0];
    served.draining.cancel();
    let not_ready = served.get("/readyz").await?;
    assert_eq!(not_ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(not_ready.json::<Value>().await?["notReady"][0]["part"], "process");
    assert_eq!(statuses(served.bearer(&served.capability(delivery)).await?).await?, ["received"]);
    served.stop.cancel();
    served.serving.join_next().await.context("it serves no more")???;
    ensure!(served.get("/healthz").await.is_err(), "the port is still served");
    Ok(())
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_reads_them_and_say_what_is_paused() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let until = served.store.clock().now().plus(DAY);
    served.store.pause(&app(), Provider::Apns, until, "unauthorized", "InvalidProviderToken", false).await?;
    served.store.pause(&app(), Provider::Fcm, until, "throttled", "by hand", true).await?;
    let scrape = served.get("/metrics").await?;
    let kind = scrape.headers()["content-type"].to_str()?.to_owned();
    ensure!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    ensure!(scrape.text().await?.contains("# TYPE herald_receipts_total counter"));
    served.has_metric(r#"herald_paused_apps{provider="apns",reason="unauthorized"} 1"#)?;
    served.has_metric(r#"herald_paused_apps{provider="fcm",reason="operator"} 1"#)
}
