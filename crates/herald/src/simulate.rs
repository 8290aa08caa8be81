//! `herald simulate`: APNs, FCM and phones on this machine, and the configuration for workers that push to them.
//!
//! For trying Herald and for tests. It writes credentials and a `herald.toml` into its folder, so that
//! `herald worker --config DIR/herald.toml` needs nothing but the two URLs. Never a part of a real installation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use herald_core::receipt::MIN_KEY_BYTES;
use herald_simulator::{AppSpec, Options, SettingsChange, Simulator, StartError};

use crate::cli::SimulateArgs;
use crate::config::{Input, LISTEN};
use crate::failure::Failure;
use crate::{connect, out, shutdown};

/// How the file that we may overwrite begins; without it, it is somebody's own.
const MARK: &str = "# Written by `herald simulate` at each start; changes are lost.";

/// The key of the built-in issuer of tokens.
const SIGNING_KEY: &str = "issuer.pem";

/// Logins of producers that are let in without more: RabbitMQ's own first user, and the one of our examples.
const USUAL_LOGINS: [&str; 2] = ["guest", "herald"];

/// Serves until a signal.
///
/// # Errors
/// [`Failure::Usage`] for apps that can't be simulated or a folder with somebody's own `herald.toml`; taken ports; a folder
/// that can't be written.
pub(crate) async fn run(input: &Input, args: &SimulateArgs) -> anyhow::Result<()> {
    let file = args.dir.join("herald.toml");
    if std::fs::read_to_string(&file).is_ok_and(|text| !text.starts_with(MARK)) {
        let text = format!("{}: is not from `herald simulate`; give another --dir, or move it away", file.display());
        return Err(Failure::Usage(text).into());
    }
    let simulator = Simulator::start(options(args)).await.map_err(|error| match error {
        StartError::App { .. } => anyhow::Error::from(Failure::Usage(format!("--app: {error}"))),
        error => error.into(),
    })?;
    simulator.set(&SettingsChange {
        receipts_url: args.receipts_url.clone(),
        accept_unknown_tokens: Some(args.accept_unknown_tokens),
        ..SettingsChange::default()
    });
    secrets(&args.dir, &args.apps)?;
    let login = input.env.get("HERALD_AMQP_URL").and_then(|url| connect::login_of(url));
    let public_url = args.receipts_url.as_deref().and_then(origin).unwrap_or_else(|| format!("http://{LISTEN}"));
    let toml = configuration(&args.apps, &simulator, &public_url, login.as_deref())?;
    std::fs::write(&file, toml).with_context(|| file.display().to_string())?;

    out::line(format!("APNs           {} (sandbox {})", simulator.apns_url(), simulator.apns_sandbox_url()))?;
    out::line(format!("FCM            {}", simulator.fcm_url()))?;
    out::line(format!("control        {}", simulator.control_url()))?;
    out::line(format!("credentials    {}", args.dir.display()))?;
    out::line(format!("on servers     herald --config {} worker", file.display()))?;
    out::line(format!("on files       herald --config {} up", file.display()))?;
    shutdown::until_signal(|stop| async move {
        out::line("ready; ends on SIGTERM or ctrl-c")?;
        stop.cancelled().await;
        simulator.shutdown().await;
        Ok(())
    })
    .await
}

fn options(args: &SimulateArgs) -> Options {
    Options {
        listen_ip: args.listen_ip,
        host: args.host.clone(),
        apns_port: args.apns_port,
        apns_sandbox_port: args.apns_sandbox_port,
        fcm_port: args.fcm_port,
        control_port: args.control_port,
        apps: args.apps.iter().map(|app| spec(app)).collect(),
        dir: Some(args.dir.clone()),
        strict: !args.lenient,
        delay: Duration::from_millis(args.delay_ms),
        seed: args.seed,
        ..Options::default()
    }
}

/// `mail.contoso.com` is the bundle `com.contoso.mail` and the project `mail-contoso-com`.
pub(crate) fn spec(app: &str) -> AppSpec {
    let mut labels: Vec<&str> = app.split('.').rev().collect();
    if labels.len() == 1 {
        labels.insert(0, "app");
    }
    AppSpec { app: app.to_owned(), bundle_id: labels.join("."), project_id: app.replace('.', "-") }
}

/// Makes what the configuration names beside the simulator's own files, unless it is there from an earlier start: for each
/// app the secret of its receipt capabilities and that of its service, and the key of the built-in issuer.
pub(crate) fn secrets(dir: &Path, apps: &[String]) -> anyhow::Result<()> {
    for app in apps {
        for kind in ["receipt-key", "client-secret"] {
            let mut secret = [0; MIN_KEY_BYTES];
            let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
            random.fill(&mut secret).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
            keep(&dir.join(format!("{app}.{kind}")), &format!("{}\n", STANDARD.encode(secret)))?;
        }
    }
    keep(&dir.join(SIGNING_KEY), &rcgen::KeyPair::generate()?.serialize_pem())
}

/// Writes a file for this user alone, unless there is one.
fn keep(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut open = std::fs::OpenOptions::new();
    let opened = open.write(true).create_new(true).mode(0o600).open(path);
    match opened {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The `herald.toml`. Paths are relative to it.
fn configuration(
    apps: &[String],
    simulator: &Simulator,
    public_url: &str,
    login: Option<&str>,
) -> anyhow::Result<String> {
    let logins: BTreeMap<&str, ()> = USUAL_LOGINS.into_iter().chain(login).map(|login| (login, ())).collect();
    let logins: Vec<&str> = logins.into_keys().collect();
    let apps = apps_toml(apps, simulator, &logins)?;
    let gateway = gateway_toml(public_url);
    Ok(format!(
        "{MARK}\n# Broker and store: HERALD_AMQP_URL and HERALD_DATABASE_URL; without them `herald up` works on files beside this one.\n{gateway}{apps}"
    ))
}

/// Where a gateway is whose receipts have this address.
fn origin(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{}{port}", uri.host()?))
}

/// The built-in issuer's part of a `herald.toml` in the simulator's folder, whose clients are the apps themselves.
pub(crate) fn gateway_toml(public_url: &str) -> String {
    format!(
        "\n[gateway]\npublic_url = \"{public_url}\"\n\n[gateway.token_issuer]\nsigning_key_file = \"{SIGNING_KEY}\"\n"
    )
}

/// The apps' part of a `herald.toml` in the simulator's folder: `logins` may publish for each of them.
pub(crate) fn apps_toml(apps: &[String], simulator: &Simulator, logins: &[&str]) -> anyhow::Result<String> {
    let mut toml = String::new();
    for app in apps {
        let keys = simulator.credentials(app).context("an app without credentials")?;
        write!(
            toml,
            r#"
[apps."{app}"]
amqp_users = {logins:?}
events = ["usual"]

[apps."{app}".apns]
key_file = "{app}.p8"
key_id = "{key_id}"
team_id = "{team_id}"
topic = "{topic}"
url = "{apns_url}"
ca_file = "ca.pem"

[apps."{app}".fcm]
service_account_file = "{app}.service-account.json"
url = "{fcm_url}"
ca_file = "ca.pem"

# Graph allows 60 to 600 seconds; a demo has no time for that.
[apps."{app}".fallback]
min_delay_secs = 1

[[apps."{app}".receipt_keys]]
id = "k1"
secret_file = "{app}.receipt-key"

# Who posts over HTTP in the app's name.
[[apps."{app}".clients]]
id = "{app}"
secret_file = "{app}.client-secret"
"#,
            key_id = keys.apns_key_id,
            team_id = keys.apns_team_id,
            topic = keys.apns_topic,
            apns_url = simulator.apns_url(),
            fcm_url = simulator.fcm_url(),
        )?;
    }
    Ok(toml)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_where_the_receipts_go() {
        assert_eq!(
            origin("https://push.contoso.com:8443/v1/receipts").as_deref(),
            Some("https://push.contoso.com:8443")
        );
        assert_eq!(origin("http://anna:secret@localhost/v1/receipts").as_deref(), Some("http://localhost"));
        for none in ["/v1/receipts", "ftp://push.contoso.com/"] {
            assert_eq!(origin(none), None);
        }
    }

    #[test]
    fn an_app_s_names_at_apple_and_google_follow_from_its_host_name() {
        let check = |app, bundle_id: &str, project_id: &str| {
            let spec = spec(app);
            assert_eq!((spec.bundle_id.as_str(), spec.project_id.as_str()), (bundle_id, project_id));
        };
        check("mail.contoso.com", "com.contoso.mail", "mail-contoso-com");
        check("mail", "app.mail", "mail");
    }
}
