//! From the configuration to the broker and the store: the one place where their settings are made.
//!
//! A command that needs one that is not configured ends here, with the variable to set. Nothing is retried: a supervisor
//! starts the process again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use herald_queue::Queue;
use herald_store::{PostgresConfig, SqliteConfig, Store, StoreError};

use crate::config::{BROKER_EXAMPLE, Config, Place, STORE_EXAMPLE};
use crate::failure::Failure;

/// How long one statement of the store may take: a slow disk is waited for, a hung one is not.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// The queue's file within `embedded.dir`.
pub(crate) const QUEUE_FILE: &str = "queue.db";
/// The store's.
pub(crate) const STORE_FILE: &str = "store.db";

/// Who opens files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one worker on them; makes them if they are not there.
    Worker,
    /// Makes them for a worker that comes later.
    Maker,
    /// Any other process: they must be there.
    Other,
}

/// The queue: a broker, connected to later, or a file. `purpose` names our connections on the broker's management page.
///
/// # Errors
/// [`Failure::Usage`] without a URL or files, or with one that can't be used; [`Failure::Unavailable`] for a file that can't
/// be used now.
pub(crate) async fn queue(config: &Config, purpose: &str, role: Role) -> Result<Queue, Failure> {
    if let Place::Files(dir) = &config.place {
        let file = file(dir, QUEUE_FILE, role, ("broker", BROKER_EXAMPLE))?;
        if role == Role::Other {
            // What is sent to files that were moved would reach nobody.
            store(config, role).await?.close().await;
        }
        return Queue::open_file(&file).await.map_err(|error| Failure::Unavailable(error.into()));
    }
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

/// The store, connected. Tables of a PostgreSQL are as they were; those of a file are up to date.
///
/// # Errors
/// [`Failure::Usage`] without a URL or files, or with one that can't be used; [`Failure::Unavailable`] if nobody answers, or
/// a file can't be used now or has a worker already.
pub(crate) async fn store(config: &Config, role: Role) -> Result<Store, Failure> {
    if let Place::Files(dir) = &config.place {
        let path = file(dir, STORE_FILE, role, ("store", STORE_EXAMPLE))?;
        let store = Store::connect(SqliteConfig { path, leads: role == Role::Worker }).await.map_err(store_failure)?;
        store.check_not_moved().await.map_err(store_failure)?;
        return Ok(store);
    }
    let database = &config.store;
    let Some(url) = &database.url else {
        return Err(missing("store", STORE_EXAMPLE));
    };
    let settings = PostgresConfig {
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

/// Whether there is a store that a command may look at: one is named, or there is a file.
pub(crate) fn has_store(config: &Config) -> bool {
    match &config.place {
        Place::Servers => config.store.url.is_some(),
        Place::Files(dir) => dir.join(STORE_FILE).exists(),
    }
}

/// The store, connected, its tables as new as this binary needs: for commands that read or write them.
///
/// # Errors
/// As [`store`], and [`Failure::Unavailable`] if the tables are missing or old.
pub(crate) async fn ready_store(config: &Config, role: Role) -> Result<Store, Failure> {
    let store = store(config, role).await?;
    store.check_schema().await.map_err(store_failure)?;
    Ok(store)
}

/// Which exit code an error of the store leads to.
pub(crate) fn store_failure(error: StoreError) -> Failure {
    match error {
        StoreError::Defect { .. } => Failure::Internal(error.into()),
        StoreError::Config { .. } => Failure::Usage(error.to_string()),
        StoreError::Unavailable { .. }
        | StoreError::Schema { .. }
        | StoreError::InUse { .. }
        | StoreError::File { .. } => Failure::Unavailable(error.into()),
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

/// The path of a file, which only some make.
fn file(dir: &Path, name: &str, role: Role, (party, example): (&str, &str)) -> Result<PathBuf, Failure> {
    let path = dir.join(name);
    if role != Role::Other || path.exists() {
        return Ok(path);
    }
    let dir = dir.display();
    Err(Failure::Usage(format!(
        "no {party} is configured; set {example}, or start `herald up`, which makes its files in {dir} (HERALD_DIR; none are \
         there)"
    )))
}

fn missing(party: &str, example: &str) -> Failure {
    Failure::Usage(format!(
        "no {party} is configured; set {example} (`herald up` alone needs neither broker nor store)"
    ))
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
