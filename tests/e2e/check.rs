//! `herald check token`: why a token is taken or refused, with neither broker nor store.

use std::time::{SystemTime, UNIX_EPOCH};

use herald_core::time::Timestamp;
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, Issuer, Key};
use crate::world::{APP, run};

#[tokio::test]
async fn the_operator_is_told_step_by_step_why_a_token_is_taken_or_refused() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let key = Key::ec("e");
    let issuer = Issuer::start_at(Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap()), &[&key]).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let config = format!(
        "[[gateway.issuers]]\nissuer = {:?}\naudiences = [{AUDIENCE:?}]\n[apps.{APP:?}]\nclient_ids = [\"service\"]\n\
         [apps.{APP:?}.fcm]\nservice_account_file = \"elsewhere.json\"\n",
        issuer.url
    );
    write("herald.toml", &config);

    let good = key.sign(&issuer.claims());
    write("token", &format!("Bearer {good}\n"));
    let taken = run(&["check", "token", "token"], &[], folder.path()).await;
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert!(taken.stdout.ends_with(&format!("taken: user \"anna\" of the app {APP}\n")), "{taken:?}");
    assert!(!taken.stdout.contains(&good) && !taken.stdout.contains(" NO "), "{taken:?}");

    write("token", &key.sign(&issuer.with("aud", json!("https://graph.microsoft.com"))));
    let refused = run(&["check", "token", "token"], &[], folder.path()).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let last = refused.stdout.lines().last().unwrap();
    assert!(last.starts_with("audience") && last.contains("NO") && last.contains(AUDIENCE), "{refused:?}");
    assert!(refused.stderr.contains("refused: the token is for another audience; ask the issuer"), "{refused:?}");
    let refused = run(&["check", "token", "--json", "token"], &[], folder.path()).await;
    let said: Value = serde_json::from_str(&refused.stdout).unwrap_or_else(|_| panic!("{refused:?}"));
    assert_eq!((refused.code, &said["taken"]), (Some(1), &json!(false)));
    assert_eq!(said["steps"].as_array().unwrap().last().unwrap()["found"], "\"https://graph.microsoft.com\"");

    // No token; none on stdin; no issuer.
    let none = run(&["check", "token", "no-such-file"], &[], folder.path()).await;
    assert!(none.code == Some(64) && none.stderr.contains("no-such-file"), "{none:?}");
    let empty = run(&["check", "token"], &[], folder.path()).await;
    assert!(empty.code == Some(1) && empty.stderr.contains("is not a signed JWT"), "{empty:?}");
    write("herald.toml", &config.split_once("[apps").map(|(_, apps)| format!("[apps{apps}")).unwrap());
    let nobody = run(&["check", "token", "token"], &[], folder.path()).await;
    assert!(nobody.code == Some(64) && nobody.stderr.contains("no issuer of tokens is configured"), "{nobody:?}");
}
