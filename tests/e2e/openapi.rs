//! schemathesis sends a gateway whatever its OpenAPI document allows, and what it doesn't, as every kind of caller: no answer is a
//! 5xx, and none has a status, a header or a shape that the document doesn't have.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use herald_core::ids::{AppId, UserId};
use herald_core::time::Timestamp;
use serde_json::json;

use crate::clients::by;
use crate::issuer::{AUDIENCE, Issuer, Key};
use crate::requests;
use crate::world::{APP, World, until};

const OPERATOR: &str = "the-operator-s-token-has-32-characters-or-more";

#[tokio::test]
async fn whatever_the_document_allows_or_not_is_answered_as_it_says() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let key = Key::rsa("r");
    let issuer = Issuer::start_at(Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap()), &[&key]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        Path::new(folder.path()).join(name)
    };
    let operator = file("operator", OPERATOR);
    let signing_key = file("issuer.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let secret = file("secret", "a secret of sixteen or more");
    let gateway = format!(
        "public_url = \"http://127.0.0.1\"\noperator_token_file = {operator:?}\n[[gateway.issuers]]\nissuer = {:?}\n\
         audiences = [{AUDIENCE:?}]\n[gateway.token_issuer]\nsigning_key_file = {signing_key:?}",
        issuer.url
    );
    let app = format!("client_ids = [\"service\"]\nclients = [{{ id = \"own\", secret_file = {secret:?} }}]");
    let world = World::of().gateway(&gateway).app(&app).start().await;
    let unsid = world.phone("anna", json!({ "platform": "ios" })).await;
    let tokens = [
        ("nobody", None, usize::MAX),
        ("the app", Some(key.sign(&issuer.app_claims("service"))), 1),
        ("anna", Some(key.sign(&issuer.claims())), 3),
        ("the operator", Some(OPERATOR.to_owned()), usize::MAX),
    ];
    for (caller, token, may_be_refused) in tokens {
        // What there is to reach: each run deletes it.
        world.publish(caller, &requests::raw(APP, "anna")).await;
        let id = until("the notification", async || {
            world.store().notification_by_key(&AppId::new(APP), &UserId::new("anna"), caller).await.unwrap()
        })
        .await;
        let known = json!({ "id": id, "unsid": unsid, "user": "anna", "app": APP });
        let plan = json!({ "url": world.workers[0].url(""), "token": token, "known": known, "examples": 8, "seed": 1 });
        let reports = by("schemathesis", plan).await;
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        assert_eq!(report["found"], json!([]), "{caller}: {}", report["said"].as_str().unwrap());
        assert_eq!(report["complete"], true, "{caller}");
        assert!(
            report["operations"].as_u64() > Some(40) && report["sent"].as_u64() > Some(1_000),
            "{caller}: {report}"
        );
        // Where every request was a 401 or 403, nothing behind it was tried.
        let refused = report["refused"].as_array().unwrap().len();
        assert!(refused <= may_be_refused, "{caller}: {report}");
    }
    world.finish().await;
}
