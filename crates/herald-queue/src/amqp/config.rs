//! Where the broker is, as an operator writes it, checked once when the process starts.
//!
//! Secrets stay here: `Debug` of everything in this module hides the password, and no error quotes a URL.

use std::fmt;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};

/// How to reach the broker.
#[derive(Clone)]
pub struct Config {
    /// `amqp(s)://user:password@host:port/vhost`, one for each node of the cluster; tried in turn.
    pub urls: Vec<String>,
    /// Certificates (PEM) to trust beside those of the system, for `amqps`.
    pub ca_pem: Option<String>,
    /// A lost connection is noticed after twice this. Whole seconds, 1 to 60; RabbitMQ calls 5 to 20 s sane.
    pub heartbeat: Duration,
    /// What the broker's management page calls our connections, e.g. `herald-worker@host`.
    pub name: String,
}

impl Config {
    /// The default heartbeat.
    pub const HEARTBEAT: Duration = Duration::from_secs(10);

    /// One URL, and defaults for the rest.
    pub fn new(url: impl Into<String>) -> Self {
        Self { urls: vec![url.into()], ca_pem: None, heartbeat: Self::HEARTBEAT, name: "herald".to_owned() }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self
            .urls
            .iter()
            .map(|url| Address::parse(url).map_or_else(|_| "(not a broker URL)".to_owned(), |a| a.to_string()))
            .collect();
        f.debug_struct("Config")
            .field("urls", &urls)
            .field("ca_pem", &self.ca_pem.as_ref().map(|_| "…"))
            .field("heartbeat", &self.heartbeat)
            .field("name", &self.name)
            .finish()
    }
}

/// What is wrong with a [`Config`]. The caller knows which variable or file it came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No URL at all.
    #[error("no broker URL; give amqp://user:password@host:5672/vhost, or several to try in turn")]
    NoUrl,
    /// A URL that can't be used.
    #[error("broker URL {number}: {problem}; it must look like amqp://user:password@host:5672/vhost")]
    Url {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A heartbeat outside its range.
    #[error("the heartbeat is {0:?}; it must be whole seconds from 1 to 60")]
    Heartbeat(Duration),
    /// A CA file that holds no certificate.
    #[error("the broker's CA holds no PEM certificate; give a file with -----BEGIN CERTIFICATE-----")]
    Ca,
}

/// The addresses in `config`, ready to connect to.
pub(crate) fn addresses(config: &Config) -> Result<Vec<Address>, ConfigError> {
    if config.urls.is_empty() {
        return Err(ConfigError::NoUrl);
    }
    let heartbeat = match (config.heartbeat.as_secs(), config.heartbeat.subsec_nanos()) {
        (1..=60, 0) => u16::try_from(config.heartbeat.as_secs()).expect("at most 60"),
        _ => return Err(ConfigError::Heartbeat(config.heartbeat)),
    };
    if config.ca_pem.as_ref().is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
        return Err(ConfigError::Ca);
    }
    let parse = |(index, url): (usize, &String)| {
        let mut address = Address::parse(url).map_err(|problem| ConfigError::Url { number: index + 1, problem })?;
        address.uri.query.heartbeat = Some(heartbeat);
        Ok(address)
    };
    config.urls.iter().enumerate().map(parse).collect()
}

/// One node of the broker. Displays as `amqp://user@host:port/vhost`, without the password.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) uri: AMQPUri,
}

impl Address {
    fn parse(url: &str) -> Result<Self, String> {
        if !url.starts_with("amqp://") && !url.starts_with("amqps://") {
            return Err("it does not begin with amqp:// or amqps://".to_owned());
        }
        let mut uri: AMQPUri = url.parse()?;
        // lapin's parser replaces an IPv6 literal by "localhost".
        if let Some(literal) = ipv6_literal(url) {
            uri.authority.host = literal.to_owned();
        }
        // An empty host would become "localhost" too.
        if url.split("//").nth(1).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?'])) {
            return Err("it names no host".to_owned());
        }
        if uri.vhost.is_empty() {
            return Err("its vhost is empty; write %2f for the vhost \"/\", or leave the last / away".to_owned());
        }
        Ok(Self { uri })
    }
}

fn ipv6_literal(url: &str) -> Option<&str> {
    let authority = url.split("//").nth(1)?.split('/').next()?;
    let host = authority.rsplit('@').next()?;
    Some(host.strip_prefix('[')?.split_once(']')?.0)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let authority = &self.uri.authority;
        let user = &authority.userinfo.username;
        write!(f, "{scheme}://{user}@{}:{}/{}", authority.host, authority.port, self.uri.vhost)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2";

    #[test]
    fn neither_debug_nor_an_error_shows_the_password() {
        for url in [
            "amqp://herald:hunter2@rabbit:5672/herald",
            "amqp://herald:hunter2@rabbit:notaport/herald",
            "herald:hunter2@rabbit:5672",
            "http://herald:hunter2@rabbit",
            "amqp://herald:hunter2@rabbit:5672/",
            "amqp://herald:hunter2@rabbit?heartbeat=hunter2",
        ] {
            let config = Config::new(url);
            assert!(!format!("{config:?}").contains(SECRET), "{url}: {config:?}");
            match addresses(&config) {
                Ok(addresses) => assert!(!format!("{addresses:?} {}", addresses[0]).contains(SECRET), "{url}"),
                Err(error) => assert!(!format!("{error:?} {error}").contains(SECRET), "{url}: {error}"),
            }
        }
    }

    #[test]
    fn urls_that_would_lead_somewhere_else_are_refused() {
        let check = |url: &str, part: &str| {
            let error = addresses(&Config::new(url)).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        };
        check("rabbit:5672", "does not begin with");
        check("amqp:///herald", "names no host");
        check("amqp://:5672/herald", "empty host");
        check("amqp://herald:hunter2@/herald", "host");
        check("amqp://rabbit:5672/", "vhost is empty");
        check("amqp://rabbit:99999/herald", "URL 1");
    }

    #[test]
    fn a_url_is_taken_apart_as_written() {
        let parsed = |url: &str| addresses(&Config::new(url)).unwrap().remove(0).uri;
        let uri = parsed("amqps://u:p%40ss@rabbit.example:5679/a%2fb");
        assert_eq!(
            (uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()),
            ("rabbit.example", 5679, "a/b")
        );
        assert_eq!(uri.authority.userinfo.password, "p@ss");
        assert_eq!(uri.query.heartbeat, Some(10));
        assert_eq!(parsed("amqp://[::1]:5672/x").authority.host, "::1");
        assert_eq!(parsed("amqp://127.0.0.1").vhost, "/");
        assert_eq!(parsed("amqps://rabbit").authority.port, 5671);
    }

    #[test]
    fn a_heartbeat_or_a_ca_that_could_not_work_is_refused() {
        let config = Config::new("amqp://rabbit");
        for heartbeat in [Duration::ZERO, Duration::from_millis(1500), Duration::from_secs(61)] {
            assert_eq!(
                addresses(&Config { heartbeat, ..config.clone() }).unwrap_err(),
                ConfigError::Heartbeat(heartbeat)
            );
        }
        let bad = Config { ca_pem: Some("not a certificate".to_owned()), ..config.clone() };
        assert_eq!(addresses(&bad).unwrap_err(), ConfigError::Ca);
        assert_eq!(addresses(&Config { urls: vec![], ..config }).unwrap_err(), ConfigError::NoUrl);
    }
}
