//! `[gateway]`, and whose clients are whose.

use herald_gateway::{RequestLog, ThrottledStatus};

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
fn an_app_has_no_rate_unless_it_is_given_and_a_burst_of_two_seconds() {
    let rate = |lines: &str| {
        let toml = app(|toml| toml.replace("amqp_users", &format!("{lines}\namqp_users")));
        load(&toml, &[]).map(|config| config.apps[0].request_rate.map(|rate| (rate.per_second, rate.burst)))
    };
    assert_eq!(rate(""), Ok(None));
    assert_eq!(rate("requests_per_second = 50"), Ok(Some((50, 100))));
    assert_eq!(rate("requests_per_second = 50\nrequest_burst = 10"), Ok(Some((50, 10))));
    assert_eq!(rate("requests_per_second = 1000000"), Ok(Some((1_000_000, 2_000_000))));
    let at = "herald.toml: apps.\"mail.contoso.com\"";
    for (lines, problem) in [
        ("requests_per_second = 0", "requests_per_second: 0 is out of range"),
        ("requests_per_second = 5\nrequest_burst = 0", "request_burst: 0 is out of range"),
        ("request_burst = 5", "request_burst: means nothing without a rate"),
    ] {
        let toml = app(|toml| toml.replace("amqp_users", &format!("{lines}\namqp_users")));
        check(&toml, &[&format!("{at}.{problem}")]);
    }
}

#[test]
fn refused_requests_are_logged_and_throttled_by_429_unless_told_otherwise() {
    let settings = |lines: &str| {
        let gateway = load(&app(|toml| format!("{toml}\n[gateway]\n{lines}")), &[]).unwrap().gateway;
        (gateway.request_log, gateway.throttled)
    };
    assert_eq!(settings(""), (RequestLog::Refused, ThrottledStatus::TooManyRequests));
    let given = settings("request_log = \"all\"\nthrottled_status = 406");
    assert_eq!(given, (RequestLog::All, ThrottledStatus::NotAcceptable));
    let given = settings("request_log = \"none\"\nthrottled_status = 429");
    assert_eq!(given, (RequestLog::None, ThrottledStatus::TooManyRequests));
    let wrong = app(|toml| format!("{toml}\n[gateway]\nrequest_log = \"some\"\nthrottled_status = 503"));
    let at = "herald.toml: gateway";
    check(&wrong, &[&format!("{at}.request_log: \"some\" is no choice"), &format!("{at}.throttled_status: 503 is no")]);
}

#[test]
fn who_only_serves_http_needs_no_key_of_a_provider_but_its_own_secrets() {
    let servers = [("HERALD_AMQP_URL", "amqp://a@b/v"), ("HERALD_DATABASE_URL", "postgres://a@b/c")];
    let issuer = "[[gateway.issuers]]\nissuer = \"https://a.example\"\naudiences = [\"a\"]\n";
    let folder = Folder::with(&with_gateway(issuer));
    let config = folder.load(Needs::Gateway, &servers).unwrap();
    let apps = credentials::without_providers(&config).unwrap();
    assert_eq!((apps[0].apns.len(), apps[0].fcm.is_some()), (0, false));
    assert!(gateway::callers(&config).unwrap().is_some());

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
    assert!(gateway::callers(&load("", &[]).unwrap()).unwrap().is_none(), "without an issuer nobody can post");
}

/// What a built-in issuer needs beside its key.
const OWN: &str = "[gateway]\npublic_url = \"https://push.example\"\n[gateway.token_issuer]\nsigning_key_file = \"key.pem\"\n\
                   [[apps.\"mail.contoso.com\".clients]]\nid = \"Own\"\nsecret_env = \"SECRET\"\n";

fn key_pem() -> String {
    rcgen::KeyPair::generate().unwrap().serialize_pem()
}

#[test]
fn a_built_in_issuer_has_a_name_a_key_and_clients_with_good_secrets() {
    let servers = [
        ("HERALD_AMQP_URL", "amqp://a@b/v"),
        ("HERALD_DATABASE_URL", "postgres://a@b/c"),
        ("SECRET", "a secret of sixteen or more"),
    ];
    let folder = Folder::with(&with_gateway(OWN));
    folder.file("key.pem", &key_pem());
    let config = folder.load(Needs::Gateway, &servers).unwrap();
    assert_eq!(config.apps[0].clients[0].id, "own");
    assert!(gateway::callers(&config).unwrap().is_some());

    let wrong = |from: &str, to: &str, key: &str, env: &[(&str, &str)], expected: &str| {
        let folder = Folder::with(&with_gateway(&OWN.replace(from, to)));
        folder.file("key.pem", key);
        let problems = folder.load(Needs::Gateway, env).unwrap_err().join("\n");
        assert!(problems.contains(expected), "{expected}: {problems}");
        assert!(!problems.contains("short-one"), "{problems}");
    };
    let (good, short) = (key_pem(), [servers[0], servers[1], ("SECRET", "short-one")]);
    wrong("public_url", "# public_url", &good, &servers, "gateway.token_issuer: has no name");
    wrong(
        "signing_key_file",
        "# signing_key_file",
        &good,
        &servers,
        "gateway.token_issuer.signing_key_file: is missing",
    );
    wrong("key.pem", "none.pem", &good, &servers, "gateway.token_issuer.signing_key_file: no such file");
    wrong(
        "",
        "",
        "no key",
        &servers,
        "herald.toml: gateway.token_issuer.signing_key_file: the built-in issuer's signing key is no private key",
    );
    wrong("", "", &good, &short, "clients[0]: its secret has fewer than 16 characters");
    wrong("", "", &good, &servers[..2], "the environment variable SECRET is not set");
    wrong("id = \"Own\"", "id = \"SERVICE\"", &good, &servers, "\"service\" is listed twice");
    wrong("id = \"Own\"", "", &good, &servers, "clients[0].id: is missing");
    wrong("[gateway.token_issuer]\nsigning_key_file = \"key.pem\"", "", &good, &servers, "there is no built-in issuer");
    let same = "[[gateway.issuers]]\nissuer = \"https://push.example\"\naudiences = [\"a\"]\n";
    wrong(
        "[[apps.",
        &format!("{same}[[apps."),
        &good,
        &servers,
        "gateway.token_issuer: has the name of another issuer",
    );
    let clients = "[[apps.\"mail.contoso.com\".clients]]\nid = \"Own\"\nsecret_env = \"SECRET\"";
    wrong(clients, "", &good, &servers, "gateway.token_issuer: has no clients");
}

#[test]
fn a_certificate_comes_with_its_key() {
    let servers = [("HERALD_AMQP_URL", "amqp://a@b/v"), ("HERALD_DATABASE_URL", "postgres://a@b/c")];
    let both = "[gateway]\ntls_cert_file = \"cert.pem\"\ntls_key_file = \"key.pem\"\n";
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let with = |lines: &str, key: &str| {
        let folder = Folder::with(&with_gateway(lines));
        folder.file("cert.pem", &cert.pem());
        folder.file("key.pem", key);
        folder.load(Needs::Gateway, &servers)
    };
    assert!(with(both, &signing_key.serialize_pem()).unwrap().gateway.tls.is_some());
    let problems = with(both, &key_pem()).unwrap_err().join("\n");
    assert!(
        problems.contains("herald.toml: gateway.tls_cert_file: the certificate and the key do not fit"),
        "{problems}"
    );
    check(&with_gateway("[gateway]\ntls_cert_file = \"cert.pem\""), &["herald.toml: gateway.tls_key_file: is missing"]);
    check(&with_gateway("[gateway]\ntls_key_file = \"key.pem\""), &["herald.toml: gateway.tls_cert_file: is missing"]);
}

#[test]
fn the_operators_token_is_long_and_in_a_file_or_a_variable() {
    let file = "[gateway]\noperator_token_file = \"operator\"\n";
    let good = "0123456789abcdef0123456789abcdef";
    let servers = [("HERALD_AMQP_URL", "amqp://a@b/v"), ("HERALD_DATABASE_URL", "postgres://a@b/c")];
    let callers = |toml: &str, content: &str, env: &[(&str, &str)]| {
        let folder = Folder::with(&app(|app| format!("{toml}{app}")));
        folder.file("operator", content);
        let config = folder.load(Needs::Gateway, &[&servers, env].concat())?;
        Ok::<_, Vec<String>>(gateway::callers(&config).unwrap().map(|(_, operator)| operator.is_some()))
    };
    assert_eq!(callers("", "", &[]), Ok(None));
    assert_eq!(callers(file, &format!("{good}\n"), &[]), Ok(Some(true)), "without an issuer too");
    let variable = "HERALD_GATEWAY_OPERATOR_TOKEN";
    assert_eq!(callers("", "", &[(variable, good)]), Ok(Some(true)));
    for (toml, content, env, problem) in [
        (file, "too short", &[][..], "herald.toml: gateway.operator_token_file: is no token"),
        (file, &"with space ".repeat(4), &[], "herald.toml: gateway.operator_token_file: is no token"),
        (file, good, &[(variable, good)], "herald.toml: gateway.operator_token_file: is given, and"),
        ("", "", &[(variable, "short")], "HERALD_GATEWAY_OPERATOR_TOKEN: is no token"),
    ] {
        let problems = callers(toml, content, env).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(problem), "{problem}: {problems:?}");
        assert!(!problems[0].contains(good), "{problems:?}");
    }
    check("[gateway]\noperator_token = \"x\"", &["herald.toml: gateway.operator_token: is a secret"]);
}
