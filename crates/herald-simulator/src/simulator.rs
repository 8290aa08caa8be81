//! A running simulator: its start, its addresses, and the control calls for tests in the same process.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apns::{KeyChange, KeyError, KeySpec, KeyView};
use crate::control;
use crate::counters::{Counts, Provider};
use crate::credentials::{Credentials, Folder, ServerIdentity, app_keys, server_identity};
use crate::faults::Script;
use crate::fcm::{ServiceAccountChange, ServiceAccountView};
use crate::journal::JournalEntry;
use crate::listener::{Role, Shell, Tls, listen};
use crate::options::{Options, StartError, check_apps};
use crate::outages::Outage;
use crate::phones::{Environment, PhoneChange, PhoneError, PhoneSpec, PhoneView};
use crate::receipts::Receipts;
use crate::wakes;
use crate::world::{App, Apps, Settings, SettingsChange, World};

/// How long [`Simulator::shutdown`] waits for connections to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// A running simulator. Dropping it ends it without waiting; [`Simulator::shutdown`] waits.
pub struct Simulator {
    world: Arc<World>,
    ca_pem: String,
    other_ca_pem: String,
    host: String,
    apns: SocketAddr,
    apns_sandbox: SocketAddr,
    apns_second: Option<[SocketAddr; 2]>,
    fcm: SocketAddr,
    control: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator").field("apns", &self.apns).field("fcm", &self.fcm).finish_non_exhaustive()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Simulator {
    /// Opens the ports, makes or reads the credentials, and serves.
    ///
    /// # Errors
    /// Unusable apps, taken ports, or a credentials folder that can't be read or written.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        check_apps(&options.apps)?;
        let ip = options.listen_ip;
        let apns = bind(ip, options.apns_port).await?;
        let apns_sandbox = bind(ip, options.apns_sandbox_port).await?;
        let apns_second = match options.apns_second_ports {
            Some([production, sandbox]) => Some([bind(ip, production).await?, bind(ip, sandbox).await?]),
            None => None,
        };
        let fcm = bind(ip, options.fcm_port).await?;
        let control = bind(ip, options.control_port).await?;

        let folder = Folder(options.dir.as_deref());
        let identity = server_identity(folder, &options.host, ip)?;
        let other = server_identity(Folder(None), &options.host, ip)?;
        let token_uri = format!("https://{}:{}/token", options.host, fcm.1.port());
        let keyed = options.apps.iter().map(|spec| {
            let keys = app_keys(folder, spec, options.seed, &token_uri)?;
            Ok(App { spec: spec.clone(), keys })
        });
        let apps = Apps::new(keyed.collect::<Result<_, StartError>>()?);

        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let receipts = Receipts::new(tasks.clone(), stop.clone());
        let world = Arc::new(World::new(apps, token_uri, &options, receipts, tasks.clone(), stop.clone()));
        let shell = Shell {
            world: world.clone(),
            apns_tls: tls(&identity, &other, &["h2"])?,
            fcm_tls: tls(&identity, &other, &["h2", "http/1.1"])?,
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let simulator = Self {
            world,
            ca_pem: identity.ca_pem,
            other_ca_pem: other.ca_pem,
            host: options.host,
            apns: apns.1,
            apns_sandbox: apns_sandbox.1,
            apns_second: apns_second.as_ref().map(|[production, sandbox]| [production.1, sandbox.1]),
            fcm: fcm.1,
            control: control.1,
            tasks,
            stop,
        };
        folder.write("simulator.json", &simulator.description())?;
        let (production, sandbox) = (Role::Apns(Environment::Production), Role::Apns(Environment::Sandbox));
        let mut served =
            vec![(production, apns.0), (sandbox, apns_sandbox.0), (Role::Fcm, fcm.0), (Role::Control, control.0)];
        if let Some([second_production, second_sandbox]) = apns_second {
            served.extend([(production, second_production.0), (sandbox, second_sandbox.0)]);
        }
        simulator.tasks.spawn(wakes::keep(simulator.world.clone()));
        for (role, listener) in served {
            simulator.tasks.spawn(listen(role, listener, shell.clone()));
        }
        Ok(simulator)
    }

    /// Ends all servers and waits until their connections are closed, 5 seconds at most.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("the simulator's connections did not end in time");
        }
    }

    /// Where APNs' production environment is: `https://HOST:PORT`.
    #[must_use]
    pub fn apns_url(&self) -> String {
        format!("https://{}:{}", self.host, self.apns.port())
    }

    /// Where APNs' sandbox is: `https://HOST:PORT`.
    #[must_use]
    pub fn apns_sandbox_url(&self) -> String {
        format!("https://{}:{}", self.host, self.apns_sandbox.port())
    }

    /// The second addresses of APNs' production environment and sandbox, if there are any.
    #[must_use]
    pub fn apns_second_urls(&self) -> Option<[String; 2]> {
        self.apns_second.map(|both| both.map(|address| format!("https://{}:{}", self.host, address.port())))
    }

    /// Where FCM is: `https://HOST:PORT`. The token endpoint is `/token` there.
    #[must_use]
    pub fn fcm_url(&self) -> String {
        format!("https://{}:{}", self.host, self.fcm.port())
    }

    /// Where the control interface is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// The CA that signed the servers' certificate, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The CA of the certificate that the servers show with the setting `other_ca`, as PEM. New at each start.
    #[must_use]
    pub fn other_ca_pem(&self) -> &str {
        &self.other_ca_pem
    }

    /// What a client of this app is configured with.
    #[must_use]
    pub fn credentials(&self, app: &str) -> Option<Credentials> {
        let app = self.world.apps.named(app)?;
        Some(self.world.apps.list[app].keys.credentials.clone())
    }

    /// Makes a phone, or replaces the one of this name.
    ///
    /// # Errors
    /// See [`PhoneError`].
    pub fn add_phone(&self, name: &str, spec: &PhoneSpec) -> Result<PhoneView, PhoneError> {
        control::put_phone(&self.world, name, spec)
    }

    /// Changes a phone.
    ///
    /// # Errors
    /// See [`PhoneError`].
    pub fn change_phone(&self, name: &str, change: &PhoneChange) -> Result<PhoneView, PhoneError> {
        control::change_phone(&self.world, name, change)
    }

    /// Removes a phone; its token is unknown from then on. Says whether there was one.
    pub fn remove_phone(&self, name: &str) -> bool {
        let existed = self.world.phones.remove(name);
        self.world.changed();
        existed
    }

    /// One phone.
    #[must_use]
    pub fn phone(&self, name: &str) -> Option<PhoneView> {
        self.world.phones.named(name).map(|phone| phone.view())
    }

    /// All phones, by name.
    #[must_use]
    pub fn phones(&self) -> Vec<PhoneView> {
        self.world.phones.all().iter().map(|phone| phone.view()).collect()
    }

    /// Waits until the phone has seen what `wanted` asks for; `None` if it hasn't within `limit`.
    pub async fn wait_for_phone(
        &self,
        name: &str,
        limit: Duration,
        wanted: impl Fn(&PhoneView) -> bool,
    ) -> Option<PhoneView> {
        let mut changes = self.world.changes();
        let waited = tokio::time::timeout(limit, async {
            loop {
                changes.mark_unchanged();
                if let Some(phone) = self.phone(name).filter(|phone| wanted(phone)) {
                    return Some(phone);
                }
                changes.changed().await.ok()?;
            }
        });
        waited.await.ok()?
    }

    /// Adds scripted answers after those that wait already.
    ///
    /// # Errors
    /// A sentence that says what is wrong with one of them; then none is added.
    pub fn script(&self, scripts: Vec<Script>) -> Result<(), &'static str> {
        self.world.faults.add(scripts)
    }

    /// The scripted answers that wait, oldest first.
    #[must_use]
    pub fn scripts(&self) -> Vec<Script> {
        self.world.faults.waiting()
    }

    /// Forgets all scripted answers.
    pub fn clear_scripts(&self) {
        self.world.faults.clear();
    }

    /// The last requests, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.world.journal.newest(usize::MAX, None)
    }

    /// All counts.
    #[must_use]
    pub fn counters(&self) -> Counts {
        self.world.counts()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.world.settings()
    }

    /// Changes settings. A change that means nothing (a delay whose numbers contradict each other) is refused as a
    /// whole, with a line in the log.
    pub fn set(&self, change: &SettingsChange) {
        if let Err(problem) = self.world.set(change) {
            tracing::warn!(problem, "settings were not changed");
        }
    }

    /// Begins an outage of a provider, besides those that run.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn begin_outage(&self, outage: Outage) -> Result<(), &'static str> {
        self.world.begin_outage(outage)
    }

    /// The outages that run.
    #[must_use]
    pub fn outages(&self) -> Vec<Outage> {
        self.world.faults.outages.running()
    }

    /// Ends the outages of `provider`, or all.
    pub fn end_outages(&self, provider: Option<Provider>) {
        self.world.faults.outages.end(provider);
    }

    /// Ends the connections that exist, to `provider` (FCM and the token endpoint share theirs) or all: with GOAWAY and
    /// after the requests that run, if `politely`, else at once and without.
    pub fn end_connections(&self, provider: Option<Provider>, politely: bool) {
        self.world.end_connections(provider, politely);
    }

    /// All keys of Apple's teams, by id.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyView> {
        self.world.keys.views(&self.world.apps)
    }

    /// Makes another key for an app's team: the app's credentials with this key instead of the first.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn add_key(&self, spec: &KeySpec) -> Result<Credentials, KeyError> {
        let made = self.world.keys.add(&self.world.apps, spec, self.world.seed)?;
        let credentials = self.credentials(&spec.app).ok_or_else(|| KeyError::NoSuchApp(spec.app.clone()))?;
        Ok(Credentials { apns_key_id: made.view.key_id, apns_key_pem: made.pem, ..credentials })
    }

    /// Restricts or revokes a key.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn change_key(&self, key_id: &str, change: &KeyChange) -> Result<KeyView, KeyError> {
        self.world.keys.change(&self.world.apps, key_id, change)
    }

    /// Gives an app's team another bundle id, for which the tokens of the app's phones are taken too. Connections that
    /// are in use don't know it.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn add_topic(&self, app: &str, bundle_id: &str) -> Result<(), KeyError> {
        self.world.keys.add_topic(&self.world.apps, app, bundle_id)
    }

    /// The service accounts of Google's projects, in the order of the apps.
    #[must_use]
    pub fn service_accounts(&self) -> Vec<ServiceAccountView> {
        self.world.accounts.views(&self.world.apps)
    }

    /// Revokes the key of an app's service account, or makes it valid again.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn change_service_account(
        &self,
        app: &str,
        change: ServiceAccountChange,
    ) -> Result<ServiceAccountView, KeyError> {
        self.world.accounts.change(&self.world.apps, app, change)
    }

    /// Revokes all access tokens.
    pub fn revoke_access_tokens(&self) {
        self.world.access_tokens.revoke();
    }

    /// Back to the start: no phones, scripts, outages, journal or counts; settings and keys as at start. Credentials
    /// stay.
    pub fn reset(&self) {
        self.world.reset();
    }

    /// What `simulator.json` says.
    fn description(&self) -> String {
        let apps = self.world.apps.list.iter().map(|app| {
            let credentials = &app.keys.credentials;
            json!({
                "app": app.spec.app,
                "keyId": credentials.apns_key_id,
                "teamId": credentials.apns_team_id,
                "topic": credentials.apns_topic,
                "projectId": app.spec.project_id,
                "apnsKeyFile": format!("{}.p8", app.spec.app),
                "serviceAccountFile": format!("{}.service-account.json", app.spec.app),
            })
        });
        let description = json!({
            "apnsUrl": self.apns_url(),
            "apnsSandboxUrl": self.apns_sandbox_url(),
            "fcmUrl": self.fcm_url(),
            "controlUrl": self.control_url(),
            "apps": apps.collect::<Vec<_>>(),
        });
        format!("{description:#}\n")
    }
}

async fn bind(ip: IpAddr, port: u16) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = SocketAddr::new(ip, port);
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// TLS with both certificates. They share no sessions, so that none can be resumed under the other.
fn tls(usual: &ServerIdentity, other: &ServerIdentity, protocols: &[&str]) -> Result<Tls, StartError> {
    Ok(Tls { usual: acceptor(usual, protocols)?, other: acceptor(other, protocols)? })
}

/// TLS 1.2 and up. A client that offers no ALPN at all is let in; one that offers only others is refused by rustls.
fn acceptor(identity: &ServerIdentity, protocols: &[&str]) -> Result<TlsAcceptor, StartError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}
