//! Tenants are apart (G8): every route that asks for a token, called by every kind of caller, about a notification and a device
//! of anna as a user of the first app. The routes are those of the OpenAPI document, so none can be left out.

use anyhow::{Context as _, Result, ensure};
use herald_core::ids::{AppId, NotificationId, Unsid};
use herald_harness::database;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::served::{MAIL, OPERATOR, Post, SECRET, Served};

/// Who calls, in the order of the table's columns.
const CALLERS: [&str; 6] = ["another app", "another app's anna", "another user", "the app", "anna", "the operator"];
/// Each route, and how each of them is answered. What `anna` of another app is given is her own there.
const ROUTES: [(&str, [u16; 6]); 23] = [
    ("POST /me/notifications", [403, 403, 201, 201, 201, 401]),
    ("GET /me/notifications", [403, 200, 200, 200, 200, 401]),
    ("GET /me/notifications/$count", [403, 200, 200, 200, 200, 401]),
    ("GET /me/notifications/delta", [403, 200, 200, 200, 200, 401]),
    ("GET /me/notifications/{id}", [403, 404, 404, 200, 200, 401]),
    ("PATCH /me/notifications/{id}", [403, 404, 404, 200, 200, 401]),
    ("DELETE /me/notifications/{id}", [403, 404, 404, 204, 204, 401]),
    ("POST /users/{user}/notifications", [403, 403, 403, 201, 201, 401]),
    ("GET /users/{user}/notifications", [200, 200, 403, 200, 200, 401]),
    ("GET /users/{user}/notifications/$count", [200, 200, 403, 200, 200, 401]),
    ("GET /users/{user}/notifications/delta", [200, 200, 403, 200, 200, 401]),
    ("GET /users/{user}/notifications/{id}", [404, 404, 403, 200, 200, 401]),
    ("PATCH /users/{user}/notifications/{id}", [404, 404, 403, 200, 200, 401]),
    ("DELETE /users/{user}/notifications/{id}", [404, 404, 403, 204, 204, 401]),
    ("POST /v1/receipts", [200, 200, 200, 200, 200, 401]),
    ("POST /v1/subscriptions", [201, 201, 201, 201, 201, 403]),
    ("GET /v1/subscriptions", [200, 200, 200, 200, 200, 403]),
    ("GET /v1/notifications/trace", [200, 403, 403, 200, 403, 200]),
    ("DELETE /v1/apps/{app}/users/{userId}", [403, 403, 403, 403, 403, 200]),
    ("GET /v1/subscriptions/{unsid}", [404, 404, 404, 200, 200, 403]),
    ("PATCH /v1/subscriptions/{unsid}", [404, 404, 404, 200, 200, 403]),
    ("DELETE /v1/subscriptions/{unsid}", [404, 404, 404, 204, 204, 403]),
    ("GET /v1/notifications/{id}/trace", [404, 403, 403, 200, 403, 200]),
];

/// What is anna's.
struct Annas {
    id: String,
    unsid: Unsid,
    order: String,
}

impl Annas {
    async fn new(served: &Served) -> Result<Self> {
        let unsid = served.phone(MAIL, "anna").await?;
        let order = format!("order-{}", Uuid::now_v7());
        let body = json!({
            "targetHostName": MAIL, "appNotificationId": order, "payload": { "rawContent": SECRET }, "groupName": order,
        });
        Ok(Self { id: served.told(&body).await?, unsid, order })
    }

    /// All that is stored of it, but for what the clock of the store changes.
    async fn stored(&self, served: &Served) -> Result<String> {
        let id = NotificationId(self.id.parse()?);
        let trace = served.store.trace(&AppId::new(MAIL), id).await?;
        Ok(format!("{trace:?} {:?}", served.store.subscription(self.unsid).await?))
    }

    /// A request of a route about it, with what it takes to succeed where the caller may.
    fn request(&self, route: &str, root: &str, token: String, by_app: bool) -> Result<Post> {
        let (method, path) = route.split_once(' ').context("a route has a method")?;
        let root = if path.starts_with("/v1") { "" } else { root };
        let path = format!("{root}{path}");
        let path = path.replace("{id}", &self.id).replace("{unsid}", &self.unsid.to_string()).replace("{app}", MAIL);
        let path = path.replace("{user}", "anna").replace("{userId}", "anna");
        let body = match route {
            "POST /me/notifications" | "POST /users/{user}/notifications" => {
                json!({ "targetHostName": MAIL, "payload": { "rawContent": "theirs" } })
            }
            "PATCH /me/notifications/{id}" | "PATCH /users/{user}/notifications/{id}" => json!({ "readState": true }),
            "PATCH /v1/subscriptions/{unsid}" => json!({ "deviceState": { "alertsAllowed": false } }),
            "POST /v1/receipts" => {
                json!({ "notificationId": self.id, "userNotificationSubscriptionId": self.unsid })
            }
            "POST /v1/subscriptions" => {
                let token = Uuid::now_v7().simple().to_string().repeat(2);
                let mut body = json!({ "platform": "ios", "pushToken": token });
                if by_app {
                    body["userId"] = json!("anna");
                }
                body
            }
            _ => Value::Null,
        };
        let query = match route {
            "GET /v1/subscriptions" if by_app => "?userId=anna".to_owned(),
            "GET /v1/notifications/trace" => format!("?appNotificationId={}", self.order),
            _ => String::new(),
        };
        let post = Post { method: Method::from_bytes(method.as_bytes())?, ..Post::to(&(path + &query), token, &body) };
        let post = if body.is_null() { post.body("") } else { post };
        // A user's own device isn't named, so that one's notifications are told from another's by the token alone.
        Ok(if by_app && route.contains("/me/") { post.with("X-UNS-ID", self.unsid.to_string()) } else { post })
    }
}

/// Each operation of the document that asks for a token, without its root.
async fn documented(served: &Served) -> Result<Vec<(String, String)>> {
    let (_, document) = served.asked(Post::get("/v1/openapi.json", None)).await?;
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().context("no paths")? {
        for (method, operation) in item.as_object().context("no methods")? {
            if operation["security"].is_array() {
                let root = ["/beta", "/v1.0"].into_iter().find(|root| path.starts_with(root)).unwrap_or_default();
                all.push((root.to_owned(), format!("{} {}", method.to_uppercase(), &path[root.len()..])));
            }
        }
    }
    Ok(all)
}

#[tokio::test]
async fn no_route_tells_or_changes_anything_of_an_app_or_a_user_for_another() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let other = |mut claims: Value| {
        claims["azp"] = json!("other");
        served.key.sign(&claims)
    };
    let tokens = [
        served.of_app("other"),
        other(served.issuer.claims()),
        served.of_user("bert"),
        served.of_app("service"),
        served.of_anna(),
        OPERATOR.to_owned(),
    ];
    let all = documented(&served).await?;
    for (route, _) in &ROUTES {
        ensure!(all.iter().any(|(_, documented)| documented == route), "{route} is not served");
    }
    for (root, route) in &all {
        let row = ROUTES.iter().find(|(known, _)| known == route);
        let (_, expected) = row.with_context(|| format!("{route} has no row in the table"))?;
        for (column, (who, token)) in CALLERS.iter().zip(&tokens).enumerate() {
            let annas = Annas::new(&served).await?;
            let before = annas.stored(&served).await?;
            let post = annas.request(route, root, token.clone(), matches!(column, 0 | 3 | 5))?;
            let response = served.send(post).await?;
            let (status, text) = (response.status().as_u16(), response.text().await?);
            assert_eq!(status, expected[column], "{root} {route} by {who}: {text}");
            // Those who may are the last three, where they are let in.
            if column < 3 || status >= 400 {
                for secret in [SECRET, &annas.order, &annas.id, &annas.unsid.to_string()] {
                    ensure!(!text.contains(secret), "{root} {route} tells {who} {secret}: {text}");
                }
                assert_eq!(annas.stored(&served).await?, before, "{root} {route} by {who}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_route_lets_anybody_in_without_a_good_token() -> Result<()> {
    let database = database().await?;
    let served = Served::on(database.url()).await?;
    let annas = Annas::new(&served).await?;
    let before = annas.stored(&served).await?;
    let unscoped = served.key.sign(&served.issuer.with("scp", json!("openid")));
    let callers = [
        ("nobody", None, 401),
        ("who sends no JWT", Some("nonsense".to_owned()), 401),
        ("who guesses the operator's", Some(format!("{OPERATOR}1")), 401),
        ("a user without the scope", Some(unscoped), 403),
        ("a client of no app", Some(served.of_app("stranger")), 403),
    ];
    for (root, route) in documented(&served).await? {
        for (who, token, expected) in &callers {
            let mut post = annas.request(&route, &root, String::new(), false)?;
            post.token.clone_from(token);
            let response = served.send(post).await?;
            assert_eq!(response.status().as_u16(), *expected, "{root} {route} by {who}: {}", response.text().await?);
        }
    }
    assert_eq!(annas.stored(&served).await?, before);
    Ok(())
}
