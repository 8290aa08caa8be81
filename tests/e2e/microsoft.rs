//! Microsoft's own clients, unchanged: a service that posted to Graph gets its token from the built-in issuer and posts to
//! `herald gateway` over TLS; the push reaches the phone, and refusals are read back as the clients' own errors.

use herald_harness::ports;
use herald_harness::process::herald;
use serde_json::{Value, json};

use crate::clients::by;
use crate::requests;
use crate::world::{APP, World, until};

const CLIENT: &str = "4f2d1ae2-0000-4d4e-9a53-7a1f4f0c7a11";
const SECRET: &str = "correct-horse-battery";

/// The lines of a gateway that grants tokens and speaks TLS; its files are written beside the configuration.
fn gateway_lines(world: &World, url: &str) -> (String, String) {
    let folder = world.config().parent().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let issuer = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (name, text) in
        [("gateway.pem", cert.pem()), ("gateway-key.pem", signing_key.serialize_pem()), ("issuer-key.pem", issuer)]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let lines = format!(
        "\n[gateway]\npublic_url = {url:?}\ntls_cert_file = \"gateway.pem\"\ntls_key_file = \"gateway-key.pem\"\n\
         [gateway.token_issuer]\nsigning_key_file = \"issuer-key.pem\"\n\
         [[apps.{APP:?}.clients]]\nid = {CLIENT:?}\nsecret_env = \"MAIL_SECRET\"\n"
    );
    (lines, folder.join("gateway.pem").display().to_string())
}

#[tokio::test]
async fn microsofts_own_clients_get_a_token_post_and_read_refusals_unchanged() {
    let world = World::of().start().await;
    let unsid = world.phone("anna", json!({ "platform": "ios", "receiptsUrl": "" })).await;
    let port = ports::free().unwrap();
    let url = format!("https://localhost:{port}");
    let (lines, ca_file) = gateway_lines(&world, &url);
    let config = world.config().with_file_name("gateway.toml");
    std::fs::write(&config, world.configuration() + &lines).unwrap();
    let mut builder = herald(env!("CARGO_BIN_EXE_herald")).arg("gateway");
    for (name, value) in world.env() {
        builder = builder.env(name, value);
    }
    builder = builder.env("HERALD_CONFIG", &config).env("MAIL_SECRET", SECRET);
    let listen = format!("127.0.0.1:{port}");
    let mut gateway = builder.env("HERALD_LISTEN", listen).ready_when_writes("gateway started").start().await.unwrap();

    let mut body = requests::raw(APP, "nobody");
    body.as_object_mut().unwrap().remove("target");
    let mut wrong = body.clone();
    wrong["priority"] = "Urgent".into();
    let post = |case: &str, secret: &str, body: &Value| json!({ "case": case, "secret": secret, "unsid": unsid, "body": body });
    let plan = json!({ "url": url, "clientId": CLIENT, "extraCaFile": ca_file, "posts": [
        post("good", SECRET, &body), post("broken", SECRET, &wrong), post("stranger", "another secret, as long", &body),
    ] });
    let results = by("graph-js", plan).await;

    let [good, broken, stranger] = results.as_slice() else { panic!("{results:#?}") };
    assert!(good["created"]["id"].is_string(), "{good}");
    assert_eq!((&broken["status"], &broken["error"]), (&400.into(), &"invalidRequest".into()), "{broken}");
    assert!(broken["message"].as_str().unwrap().starts_with("priority: "), "{broken}");
    assert!(stranger["message"].as_str().unwrap().starts_with("invalid_client: "), "{stranger}");
    until("the push", async || world.simulator.count("anna", "rawsDelivered").await == 1).await;
    world.all_closed().await;
    gateway.sigterm().unwrap();
    assert!(gateway.wait(crate::world::LIMIT).await.unwrap().success());
    let log = gateway.stderr().unwrap();
    assert!(!log.contains(SECRET) && !log.contains("WARN"), "{log}");
    world.finish().await;
}
