//! Tokens of an OpenID Connect provider that others wrote (npm `oidc-provider`), over https with a certificate of its own: the
//! app's and a person's are taken for what they are, and a change of its keys locks nobody out.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clients::{CLIENTS, installed};
use crate::lines::ByLines;
use crate::requests;
use crate::world::{APP, World, until};

const AUDIENCE: &str = "https://herald.example";
const SCOPE: &str = "Notifications.ReadWrite.CreatedByApp";
const CLIENT: &str = "mail-service";

/// The provider, and where its certificate is.
struct Provider {
    process: ByLines,
    issuer: String,
    folder: TempDir,
}

impl Provider {
    /// Publishes two keys, the first of which signs.
    async fn start() -> Self {
        let source = Path::new(CLIENTS).join("oidc-provider");
        let script = source.join("serve.js");
        let packages = tokio::task::spawn_blocking(move || installed(&source)).await.unwrap();
        let folder = TempDir::new().unwrap();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert_file, key_file) = (folder.path().join("provider.pem"), folder.path().join("provider-key.pem"));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
        // Its own sign-in page is asked as a browser asks it.
        let env = [("NODE_EXTRA_CA_CERTS", cert_file.display().to_string())];
        let mut process = ByLines::node(&script, &packages, &env);
        let client = json!({ "id": CLIENT, "secret": "correct-horse-battery" });
        let plan = json!({ "certFile": cert_file, "keyFile": key_file, "audience": AUDIENCE, "scope": SCOPE,
            "client": client, "keys": ["k1", "k2"] });
        let issuer = process.ask(&plan).await["issuer"].as_str().unwrap().to_owned();
        Self { process, issuer, folder }
    }

    async fn token(&mut self, ask: Value) -> String {
        self.process.ask(&ask).await["token"].as_str().unwrap().to_owned()
    }

    /// The lines of `[gateway]` that trust it.
    fn trusted(&self) -> String {
        let (issuer, ca_file) = (&self.issuer, self.folder.path().join("provider.pem"));
        format!("[[gateway.issuers]]\nissuer = {issuer:?}\naudiences = [{AUDIENCE:?}]\nca_file = {ca_file:?}")
    }
}

/// Posts a notification; the answer's status.
async fn post(world: &World, path: &str, token: &str) -> u16 {
    let mut body = requests::raw(APP, "nobody");
    body.as_object_mut().unwrap().remove("target");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = client.post(world.workers[0].url(path)).bearer_auth(token).header("content-type", "application/json");
    post.body(body.to_string()).send().await.unwrap().status().as_u16()
}

async fn pushes(world: &World, user: &str, count: u64) {
    until("the push", async || world.simulator.count(user, "rawsDelivered").await == count).await;
}

#[tokio::test]
async fn tokens_of_a_real_provider_are_taken_for_app_and_person_and_through_changes_of_its_keys() {
    const ME: &str = "/beta/me/notifications";
    let mut provider = Provider::start().await;
    let client_ids = format!("client_ids = [{CLIENT:?}]");
    let world = World::of().gateway(&provider.trusted()).app(&client_ids).start().await;
    for user in ["anna", "bert"] {
        world.phone(user, json!({ "platform": "ios" })).await;
    }
    let anna = json!({ "token": "user", "user": "anna" });

    let app = provider.token(json!({ "token": "app" })).await;
    assert_eq!(post(&world, "/beta/users/bert/notifications", &app).await, 201);
    pushes(&world, "bert", 1).await;
    let of_anna = provider.token(anna.clone()).await;
    assert_eq!(post(&world, ME, &of_anna).await, 201);
    pushes(&world, "anna", 1).await;
    assert_eq!(post(&world, "/beta/users/bert/notifications", &of_anna).await, 403, "a person speaks for no other");

    // Announced: the key that signs from now on was published before.
    provider.process.ask(&json!({ "keys": ["k2", "k1"] })).await;
    let of_anna = provider.token(anna.clone()).await;
    assert_eq!(post(&world, ME, &of_anna).await, 201);
    // Not announced, and the old ones withdrawn: the keys are fetched again, half a minute after the last time at most.
    provider.process.ask(&json!({ "keys": ["k3"] })).await;
    let newest = provider.token(anna).await;
    until("the new key to be taken", async || post(&world, ME, &newest).await == 201).await;
    assert_eq!(post(&world, ME, &of_anna).await, 401, "signed with a key that was withdrawn");
    pushes(&world, "anna", 3).await;
    world.all_closed().await;
    world.finish().await;
}
