//! What a simulator is started with, and why a start can fail.
//!
//! Only values: nothing here opens a port or a file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// One app: an Apple team with one key, and one Firebase project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
    /// The app's id (`targetHostName`). Letters, digits, `.`, `-` and `_` only, because it also names files.
    pub app: String,
    /// The bundle id, which is the APNs topic.
    pub bundle_id: String,
    /// The Firebase project's id.
    pub project_id: String,
}

/// How to start a simulator. All ports may be 0: the system's choice.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where all servers listen.
    pub listen_ip: IpAddr,
    /// The name in all addresses that the simulator gives out. The certificate is made for it, and for `localhost`,
    /// `127.0.0.1` and `listen_ip`.
    pub host: String,
    /// The port of APNs' production environment.
    pub apns_port: u16,
    /// The port of APNs' sandbox.
    pub apns_sandbox_port: u16,
    /// Two more ports of APNs, production's and the sandbox's, as Apple has 2197 beside 443. `None`: none.
    pub apns_second_ports: Option<[u16; 2]>,
    /// The port of FCM and of the OAuth token endpoint.
    pub fcm_port: u16,
    /// The port of the control interface (plain HTTP/1.1).
    pub control_port: u16,
    /// The apps that have credentials here.
    pub apps: Vec<AppSpec>,
    /// Where CA, credentials and `simulator.json` are kept, so that a restart has the same ones. `None`: in memory.
    pub dir: Option<PathBuf>,
    /// Refuse what the documentation forbids (`true`), or accept what independent clients are known to send.
    pub strict: bool,
    /// What generated ids, tokens and losses are derived from: the same seed gives the same ones.
    pub seed: u64,
    /// How long every answer of a provider is held back.
    pub delay: Duration,
    /// How many requests the journal keeps; the oldest go first. 0 keeps none.
    pub journal_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            host: "localhost".to_owned(),
            apns_port: 0,
            apns_sandbox_port: 0,
            apns_second_ports: None,
            fcm_port: 0,
            control_port: 0,
            apps: Vec::new(),
            dir: None,
            strict: true,
            seed: 0,
            delay: Duration::ZERO,
            journal_limit: 10_000,
        }
    }
}

/// Why a simulator could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An app's description can't be used.
    #[error("app {app:?}: {problem}")]
    App {
        /// The app's id as given.
        app: String,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// A port could not be opened.
    #[error("can't listen on {address}: {source}; choose another port, or 0 for any")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file of the credentials folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file of the credentials folder holds something else than a key.
    #[error("{}: {problem}; delete it to have a new one made", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A key or certificate could not be made.
    #[error("can't make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS could not be set up with the certificate made.
    #[error("can't set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Refuses apps that can't be told apart or can't name a file.
///
/// # Errors
/// [`StartError::App`] for an empty or unusable id, and for an id, bundle id or project that occurs twice.
pub(crate) fn check_apps(apps: &[AppSpec]) -> Result<(), StartError> {
    let refuse = |spec: &AppSpec, problem| Err(StartError::App { app: spec.app.clone(), problem });
    for (index, spec) in apps.iter().enumerate() {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if spec.app.is_empty() || spec.app.starts_with('.') || !spec.app.chars().all(usable) {
            return refuse(spec, "an app id has letters, digits, '.', '-' and '_', and doesn't start with a dot");
        }
        if spec.bundle_id.is_empty() || spec.project_id.is_empty() {
            return refuse(spec, "bundle_id and project_id must not be empty");
        }
        let earlier = &apps[..index];
        if earlier.iter().any(|e| e.app == spec.app) {
            return refuse(spec, "this app id occurs twice");
        }
        if earlier.iter().any(|e| e.bundle_id == spec.bundle_id || e.project_id == spec.project_id) {
            return refuse(spec, "its bundle_id or project_id belongs to another app too");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(app: &str, bundle_id: &str, project_id: &str) -> AppSpec {
        AppSpec { app: app.to_owned(), bundle_id: bundle_id.to_owned(), project_id: project_id.to_owned() }
    }

    #[test]
    fn apps_that_cannot_be_told_apart_are_refused() {
        let good = spec("mail.contoso.com", "com.contoso.mail", "contoso");
        assert!(check_apps(&[good.clone(), spec("b", "com.b", "b")]).is_ok());
        for bad in [
            spec("", "com.b", "b"),
            spec("a/b", "com.b", "b"),
            spec("..", "com.b", "b"),
            spec("b", "", "b"),
            spec("mail.contoso.com", "com.b", "b"),
            spec("b", "com.contoso.mail", "b"),
            spec("b", "com.b", "contoso"),
        ] {
            assert!(check_apps(&[good.clone(), bad.clone()]).is_err(), "{bad:?}");
        }
    }
}
