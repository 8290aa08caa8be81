//! What a client is told at start, checked once.
//!
//! Stands before the way of a notification: every mistake a person can make in an address, a key or a certificate is
//! found here, with what to do about it, and never while a push waits. Never prints a key.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use herald_core::time::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

/// The store's clock: what `iat` of the provider token is written from, so that a replica's wall clock decides nothing.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The time since some fixed moment, by a clock that nobody sets. Beside [`Clock`] it shows when that was set.
pub type Monotonic = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Production host.
const PRODUCTION: &str = "https://api.push.apple.com";
/// Development host.
const DEVELOPMENT: &str = "https://api.sandbox.push.apple.com";

/// Everything one client needs. `Debug` hides the key.
#[derive(Clone)]
pub struct Config {
    /// `https://host[:port]`, [`Config::production`] or [`Config::development`], or a simulator's.
    pub url: String,
    /// Connect here instead of resolving the host. TLS still checks the name in `url`.
    pub connect_to: Option<SocketAddr>,
    /// Certificates (PEM) to trust **instead of** the system's: for a simulator, or to pin Apple's authority.
    pub ca_pem: Option<String>,
    /// The team's id: 10 characters.
    pub team_id: String,
    /// The key's id: 10 characters.
    pub key_id: String,
    /// The `.p8` file's text.
    pub key_pem: String,
    /// At most this many connections at once; draining ones do not count.
    pub max_connections: usize,
    /// At most this many pushes in flight on one connection, even if the server allows more.
    pub streams_per_connection: usize,
    /// At most this many connections are made within 60 s: Apple takes repeated opening and closing for an attack. Connects
    /// that failed don't count: a back-off of up to 1, 2, 4 and then 5 s bounds those. While there may be none, pushes wait
    /// for the connections that are open, or come back as not sent. Usually twice `max_connections`: as many as it takes to open all of them and to replace all of them.
    pub connects_per_minute: usize,
    /// The most that one [`crate::Client::send`] takes: waiting for a connection, resends and healing included.
    pub request_timeout: Duration,
    /// The most that one connect takes: DNS, TCP, TLS and the beginning of HTTP/2.
    pub connect_timeout: Duration,
    /// A PING goes out this often, idle or not.
    pub keep_alive_interval: Duration,
    /// A PING not acknowledged within this time means that the connection is dead.
    pub keep_alive_timeout: Duration,
    /// The store's clock.
    pub now: Clock,
    /// How old a token is, whatever happens to the store's clock.
    pub monotonic: Monotonic,
}

impl Config {
    /// A client for `url` with the usual limits.
    pub fn new(
        url: impl Into<String>,
        team_id: impl Into<String>,
        key_id: impl Into<String>,
        key_pem: impl Into<String>,
        now: Clock,
    ) -> Self {
        let start = Instant::now();
        Self {
            url: url.into(),
            connect_to: None,
            ca_pem: None,
            team_id: team_id.into(),
            key_id: key_id.into(),
            key_pem: key_pem.into(),
            max_connections: 8,
            streams_per_connection: 500,
            connects_per_minute: 16,
            request_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(10),
            now,
            monotonic: Arc::new(move || start.elapsed()),
        }
    }

    /// Apple's production address.
    pub const fn production() -> &'static str {
        PRODUCTION
    }

    /// Apple's development (sandbox) address.
    pub const fn development() -> &'static str {
        DEVELOPMENT
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("connect_to", &self.connect_to)
            .field("ca_pem", &self.ca_pem.as_ref().map(|pem| format!("{} bytes", pem.len())))
            .field("team_id", &self.team_id)
            .field("key_id", &self.key_id)
            .field("key_pem", &"…")
            .field("max_connections", &self.max_connections)
            .field("streams_per_connection", &self.streams_per_connection)
            .field("connects_per_minute", &self.connects_per_minute)
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("keep_alive_interval", &self.keep_alive_interval)
            .field("keep_alive_timeout", &self.keep_alive_timeout)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a [`Config`], and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The address is not `https://host[:port]`.
    #[error("APNs url {url:?} is not https://host[:port]; use https://api.push.apple.com, or the simulator's address")]
    Url {
        /// As given.
        url: String,
    },
    /// Team or key id.
    #[error(
        "APNs {field} {value:?} is not 10 letters and digits; copy it from the keys page of Apple's developer site"
    )]
    Id {
        /// `team_id` or `key_id`.
        field: &'static str,
        /// As given; not a secret.
        value: String,
    },
    /// The key can't be read or can't sign.
    #[error(
        "APNs key {key_id}: not an unencrypted PKCS#8 PEM of a P-256 key ({problem}); \
         give the .p8 file as downloaded from Apple's developer site, line breaks included"
    )]
    Key {
        /// Which key.
        key_id: String,
        /// What the parser said; never a part of the key.
        problem: String,
    },
    /// The extra certificates can't be read.
    #[error("APNs CA certificates: {problem}; give PEM with at least one CERTIFICATE block")]
    CaPem {
        /// What the parser said.
        problem: String,
    },
    /// No certificate to trust.
    #[error("no trusted certificates on this machine ({problem}); install ca-certificates, or give a CA file")]
    NoRoots {
        /// What the loader said.
        problem: String,
    },
    /// A limit that would let nothing through.
    #[error("APNs {field} is 0; it must be at least 1")]
    Zero {
        /// The setting.
        field: &'static str,
    },
    /// TLS could not be set up.
    #[error("TLS for APNs: {problem}")]
    Tls {
        /// What rustls said.
        problem: String,
    },
}

/// Where to connect.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// For DNS.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `:authority`: the host, and the port if it is not 443.
    pub(crate) authority: String,
    /// For SNI and the certificate check.
    pub(crate) server_name: ServerName<'static>,
}

impl Endpoint {
    /// From `https://host[:port]`, a trailing slash allowed.
    pub(crate) fn parse(url: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Url { url: url.to_owned() };
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let server_name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        let port = authority.port_u16().unwrap_or(443);
        Ok(Self { host, port, authority: authority.as_str().to_owned(), server_name })
    }
}

/// Ten ASCII letters and digits, as Apple issues them.
pub(crate) fn check_id(field: &'static str, value: &str) -> Result<(), ConfigError> {
    if value.len() == 10 && value.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(ConfigError::Id { field, value: value.to_owned() })
}

/// No limit may be zero.
pub(crate) fn check_limits(config: &Config) -> Result<(), ConfigError> {
    for (field, zero) in [
        ("max_connections", config.max_connections == 0),
        ("streams_per_connection", config.streams_per_connection == 0),
        ("connects_per_minute", config.connects_per_minute == 0),
        ("request_timeout", config.request_timeout.is_zero()),
        ("connect_timeout", config.connect_timeout.is_zero()),
        ("keep_alive_interval", config.keep_alive_interval.is_zero()),
        ("keep_alive_timeout", config.keep_alive_timeout.is_zero()),
    ] {
        if zero {
            return Err(ConfigError::Zero { field });
        }
    }
    Ok(())
}

/// TLS 1.2 or later with ALPN `h2`: APNs speaks nothing else. The provider is named, so that no other crate's choice of a
/// process default matters.
pub(crate) fn tls(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, ConfigError> {
    let roots = match ca_pem {
        Some(pem) => given_roots(pem)?,
        None => system_roots()?,
    };
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| ConfigError::Tls { problem: e.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

fn given_roots(pem: &str) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| ConfigError::CaPem { problem: e.to_string() })?;
        roots.add(certificate).map_err(|e| ConfigError::CaPem { problem: e.to_string() })?;
    }
    if roots.is_empty() {
        return Err(ConfigError::CaPem { problem: "no certificate found".to_owned() });
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, ConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let problem = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(ConfigError::NoRoots { problem });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port_and_nothing_else() {
        let apple = Endpoint::parse(Config::production()).unwrap();
        assert_eq!(
            (apple.host.as_str(), apple.port, apple.authority.as_str()),
            ("api.push.apple.com", 443, "api.push.apple.com")
        );
        let other = Endpoint::parse("https://api.push.apple.com:2197/").unwrap();
        assert_eq!((other.port, other.authority.as_str()), (2197, "api.push.apple.com:2197"));
        assert_eq!(Endpoint::parse("https://[::1]:8443").unwrap().host, "::1");
        for wrong in
            ["http://api.push.apple.com", "api.push.apple.com", "https://h/3/device", "https://u@h", "https://h?q", ""]
        {
            assert_eq!(Endpoint::parse(wrong).unwrap_err(), ConfigError::Url { url: wrong.to_owned() });
        }
    }

    #[test]
    fn an_id_is_ten_letters_and_digits() {
        assert!(check_id("key_id", "ABC123DEFG").is_ok());
        assert!(check_id("key_id", "ABC123DEF").is_err());
        assert!(check_id("key_id", "ABC-23DEFG").is_err());
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused_at_start() {
        assert!(matches!(tls(Some("nothing here")), Err(ConfigError::CaPem { .. })));
    }
}
