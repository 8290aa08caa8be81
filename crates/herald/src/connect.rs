//! From the configuration to the broker and the store: the one place where their settings are made.
//!
//! A command that needs one that is not configured ends here, with the variable to set. Nothing is retried: a supervisor
//! starts the process again.

use std::path::Path;
use std::time::Duration;

use herald_queue::Queue;
use herald_store::{Store, StoreError};

use crate::config::{BROKER_EXAMPLE, Config, STORE_EXAMPLE};
use crate::failure::Failure;

/// How long one statement of the store may take: a slow disk is waited for, a hung one is not.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// The broker. Connects to nothing yet. `purpose` names our connections on the broker's management page.
///
/// # Errors
/// [`Failure::Usage`] without a URL, or with one that can't be used.
pub(crate) fn queue(config: &Config, purpose: &str) -> Result<Queue, Failure> {
    let broker = &config.broker;
    if broker.urls.is_empty() {
        return Err(missing("broker", BROKER_EXAMPLE));
    }
    let settings = herald_queue::Config {
        urls: broker.urls.iter().map(|url| url.expose().to_owned()).collect(),
        ca_pem: broker.ca_file.as_deref().map(read).transpose()?,
        heartbeat: broker.heartbeat,
        name: format!("herald {purpose}"),
    };
    Queue::open(settings).map_err(|error| Failure::Usage(format!("broker.url (HERALD_AMQP_URL): {error}")))
}

/// The store, connected. Its tables are as they were.
///
/// # Errors
/// [`Failure::Usage`] without a URL, or with one that can't be used; [`Failure::Unavailable`] if nobody answers.
pub(crate) async fn store(config: &Config) -> Result<Store, Failure> {
    let database = &config.store;
    let Some(url) = &database.url else {
        return Err(missing("store", STORE_EXAMPLE));
    };
    let settings = herald_store::Config {
        url: url.expose().to_owned(),
        ca_pem: database.ca_file.as_deref().map(read).transpose()?,
        max_connections: database.max_connections,
        statement_timeout: STATEMENT_TIMEOUT,
    };
    Store::connect(settings).await.map_err(|error| match error {
        StoreError::Config { .. } => Failure::Usage(format!("store.url (HERALD_DATABASE_URL): {error}")),
        error => store_failure(error),
    })
}

/// The store, connected, its tables as new as this binary needs: for commands that read or write them.
///
/// # Errors
/// As [`store`], and [`Failure::Unavailable`] if the tables are missing or old.
pub(crate) async fn ready_store(config: &Config) -> Result<Store, Failure> {
    let store = store(config).await?;
    store.check_schema().await.map_err(store_failure)?;
    Ok(store)
}

/// Which exit code an error of the store leads to.
pub(crate) fn store_failure(error: StoreError) -> Failure {
    match error {
        StoreError::Defect { .. } => Failure::Internal(error.into()),
        StoreError::Config { .. } => Failure::Usage(error.to_string()),
        StoreError::Unavailable { .. } | StoreError::Schema { .. } => Failure::Unavailable(error.into()),
    }
}

/// The login in the broker's URL: what RabbitMQ compares a message's `user_id` with.
pub(crate) fn broker_login(config: &Config) -> Option<String> {
    login_of(config.broker.urls.first()?.expose())
}

/// The login in a broker's URL.
pub(crate) fn login_of(url: &str) -> Option<String> {
    let authority = url.split("//").nth(1)?.split('/').next()?;
    let login = authority.rsplit_once('@')?.0.split(':').next()?;
    // A login with escapes is left out: a wrong one would be refused, none is always allowed.
    (!login.is_empty() && !login.contains('%')).then(|| login.to_owned())
}

fn missing(party: &str, example: &str) -> Failure {
    Failure::Usage(format!("no {party} is configured; set {example}"))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::Usage(format!("{}: {error}; give the path of the CA's certificate (PEM)", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_is_what_stands_before_the_password() {
        let check = |url, login: Option<&str>| assert_eq!(login_of(url).as_deref(), login, "{url}");
        check("amqp://herald:p@ss@host:5672/v", Some("herald"));
        check("amqps://herald@host", Some("herald"));
        check("amqp://host:5672/v", None);
        check("amqp://a%40b:p@host/v", None);
        check("", None);
    }
}
