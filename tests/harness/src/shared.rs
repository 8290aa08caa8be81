//! The servers that tests share: those given by environment variables, else private ones, started on first use.
//!
//! `./test` starts one of each for a whole run and gives them to every test process by the variables; a lone
//! `cargo test -p …` starts them here, once for the process. They hold a vhost and a database per test.

use crate::rabbit_api::RabbitApi;
use crate::settings::{AMQP_URL, DATABASE_URL, RABBITMQ_API, get};
use crate::{PrivatePostgres, PrivateRabbit};
use anyhow::{Context, Result, bail};
use reqwest::Url;
use std::future::Future;
use std::time::Duration;
use tokio::sync::OnceCell;

/// The longest that removing a test's vhost or database may hold up the end of the test.
const CLEANUP_LIMIT: Duration = Duration::from_secs(10);

/// The shared RabbitMQ: where to connect and how to make vhosts.
pub(crate) struct Rabbit {
    pub(crate) amqp: Url,
    pub(crate) api: RabbitApi,
    /// Ends with the process, by its guard: a static is never dropped.
    _private: Option<PrivateRabbit>,
}

/// The shared PostgreSQL: the URL of a database from which others can be made.
pub(crate) struct Postgres {
    pub(crate) url: Url,
    _private: Option<PrivatePostgres>,
}

pub(crate) async fn rabbit() -> Result<&'static Rabbit> {
    static RABBIT: OnceCell<Rabbit> = OnceCell::const_new();
    RABBIT.get_or_try_init(start_rabbit).await
}

pub(crate) async fn postgres() -> Result<&'static Postgres> {
    static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();
    POSTGRES.get_or_try_init(start_postgres).await
}

async fn start_rabbit() -> Result<Rabbit> {
    let Some(given) = get(AMQP_URL) else {
        let private = PrivateRabbit::start().await?;
        let amqp = private.url("/").parse()?;
        let api = RabbitApi::new(&private.api_url())?;
        return Ok(Rabbit { amqp, api, _private: Some(private) });
    };
    let amqp: Url = given.parse().with_context(|| format!("{AMQP_URL} is not a URL"))?;
    let api = RabbitApi::new(&get(RABBITMQ_API).map_or_else(|| usual_api(&amqp), Ok)?)?;
    if !api.answers().await {
        bail!(
            "{AMQP_URL} is set, but RabbitMQ's management API, by which every test makes a vhost of its own, doesn't \
             answer: enable the plugin rabbitmq_management and set {RABBITMQ_API} (http://user:password@host:15672), \
             with a user tagged administrator; or unset {AMQP_URL}, and a private server is started"
        );
    }
    Ok(Rabbit { amqp, api, _private: None })
}

/// Same host and user, the plugin's usual port.
fn usual_api(amqp: &Url) -> Result<String> {
    let host = amqp.host_str().with_context(|| format!("{AMQP_URL} names no host"))?;
    let user = if amqp.username().is_empty() { "guest" } else { amqp.username() };
    Ok(format!("http://{user}:{}@{host}:15672", amqp.password().unwrap_or("guest")))
}

async fn start_postgres() -> Result<Postgres> {
    if let Some(given) = get(DATABASE_URL) {
        let url = given.parse().with_context(|| format!("{DATABASE_URL} is not a URL"))?;
        return Ok(Postgres { url, _private: None });
    }
    let private = PrivatePostgres::start().await?;
    Ok(Postgres { url: private.url("postgres").parse()?, _private: Some(private) })
}

/// A name that no other test uses, on servers that other runs may share.
pub(crate) fn unique_name() -> String {
    format!("herald-test-{}", uuid::Uuid::now_v7().simple())
}

/// Carry out the end of a test's vhost or database from `drop`, which can't wait: on a thread and runtime of its own,
/// because the test's may be ending. Best effort: a failure is logged.
pub(crate) fn clean_up(what: &str, work: impl Future<Output = Result<()>> + Send + 'static) {
    let thread = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(CLEANUP_LIMIT, work).await? })
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "{what} could not be removed"),
        Err(_) => tracing::warn!("{what} could not be removed: a panic"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_api_url_the_usual_port_of_the_same_host_is_used() {
        let api = |amqp: &str| usual_api(&amqp.parse().unwrap()).unwrap();
        assert_eq!(api("amqp://u:p@broker:5672/x"), "http://u:p@broker:15672");
        assert_eq!(api("amqp://broker"), "http://guest:guest@broker:15672");
    }
}
