//! `[gateway]`, and whose clients are whose.

use super::super::{Needs, credentials, gateway};
use super::{Folder, app, check, load};

/// An app with a client id, and these lines.
fn with_gateway(lines: &str) -> String {
    app(|toml| format!("{}\n{lines}", toml.replace("amqp_users", "client_ids = [\"service\"]\namqp_users")))
}

#[test]
fn an_issuer_has_a_name_and_audiences_and_speaks_for_users_of_its_own() {
    let issuer = |name: &str, more: &str| {
        format!("[[gateway.issuers]]\nissuer = \"https://{name}.example\"\naudiences = [\"a\"]\n{more}\n")
    };
    let config = load(&with_gateway(&issuer("one", "")), &[]).unwrap();
    let one = &config.gateway.issuers[0];
    assert_eq!((one.user_claim.as_str(), one.user_prefix.as_str()), ("sub", ""));
    assert_eq!(
        (config.gateway.public_url.as_str(), config.apps[0].client_ids.as_slice()),
        ("", &["service".to_owned()][..])
    );

    let at = "herald.toml: gateway.issuers";
    let check = |lines: &str, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|e| format!("{at}{e}")).collect();
        super::check(&with_gateway(lines), &expected.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check("[[gateway.issuers]]", &["[0].issuer: is missing", "[0].audiences: is missing"]);
    check(&issuer("one", "user_prefix = \"a\\nb\""), &["[0].user_prefix: can't be"]);
    let two = |first: &str, second: &str| {
        let prefix = |text: &str| format!("user_prefix = {text:?}");
        issuer("one", &prefix(first)) + &issuer("two", &prefix(second))
    };
    assert!(load(&with_gateway(&two("a:", "b:")), &[]).is_ok());
    check(&two("", "b:"), &["[0].user_prefix: is missing: with more than one issuer"]);
    check(&two("a:", "a:"), &["[1].user_prefix: \"a:\" and \"a:\" begin alike"]);
    check(&two("a", "ab"), &["[1].user_prefix: \"a\" and \"ab\" begin alike"]);
    check(&two("a:", "b:").replace("two.example", "one.example"), &["[1].issuer: is the name of another issuer too"]);
    super::check(&app(|toml| toml + &issuer("one", "")), &[&format!("{at}[0]: nobody could post")]);
}

#[test]
fn a_client_is_one_apps_and_a_public_url_is_an_address() {
    let at = "herald.toml: apps.\"mail.contoso.com\".client_ids";
    let two = with_gateway("");
    let chat = two.replace("mail.contoso.com", "chat.fabrikam.com").replace("\"service\"", "\"SERVICE\"");
    check(&(two.clone() + &chat), &[&format!("{at}: \"service\" is listed twice")]);
    check(&two.replace("\"service\"", "\" \""), &[&format!("{at}: has an empty client id")]);
    let url = |text: &str| format!("[gateway]\npublic_url = {text:?}");
    assert_eq!(load(&url("https://a.example/push/"), &[]).unwrap().gateway.public_url, "https://a.example/push");
    for wrong in ["a.example", "ftp://a.example", "https://", "https://u@a.example", "https://a.example?x", ""] {
        check(&url(wrong), &["herald.toml: gateway.public_url: is not an address"]);
    }
}

#[test]
fn who_only_serves_http_needs_no_key_of_a_provider_but_its_own_secrets() {
    let servers = [("HERALD_AMQP_URL", "amqp://a@b/v"), ("HERALD_DATABASE_URL", "postgres://a@b/c")];
    let issuer = "[[gateway.issuers]]\nissuer = \"https://a.example\"\naudiences = [\"a\"]\n";
    let folder = Folder::with(&with_gateway(issuer));
    let config = folder.load(Needs::Gateway, &servers).unwrap();
    let apps = credentials::without_providers(&config).unwrap();
    assert_eq!((apps[0].apns.len(), apps[0].fcm.is_some()), (0, false));
    assert!(gateway::identity(&config).unwrap().is_some());

    let problems = folder.load(Needs::Gateway, &servers[..1]).unwrap_err();
    assert!(problems.len() == 1 && problems[0].contains("HERALD_DATABASE_URL"), "{problems:?}");
    let lines = issuer.replace("https://a.example", "http://a.example") + "ca_file = \"none.pem\"\n";
    let key = "[[apps.\"mail.contoso.com\".receipt_keys]]\nid = \"k1\"\nsecret_file = \"none\"";
    let folder = Folder::with(&with_gateway(&format!("{lines}{key}")));
    assert!(folder.load(Needs::Connections, &[]).is_ok());
    let problems = folder.load(Needs::Gateway, &servers).unwrap_err();
    let starts =
        ["apps.\"mail.contoso.com\".receipt_keys[0].secret_file: no such file", "gateway.issuers[0].ca_file: no such"];
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(&format!("herald.toml: {start}")), "{problem}");
    }
    let folder = Folder::with(&with_gateway(&issuer.replace("https://a.example", "http://a.example")));
    let problems = folder.load(Needs::Gateway, &servers).unwrap_err();
    assert!(
        problems[0].contains("gateway.issuers[0]: ") && problems[0].contains("not an https address"),
        "{problems:?}"
    );
    folder.file("herald.toml", &with_gateway(issuer));
    assert!(gateway::identity(&load("", &[]).unwrap()).unwrap().is_none(), "without an issuer nobody can post");
}
