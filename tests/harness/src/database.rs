//! A database of one's own on the shared PostgreSQL: empty, seen by no other test.

use crate::shared;
use anyhow::{Context, Result};
use reqwest::Url;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Make a fresh, empty database on the shared PostgreSQL, which is started if none was given.
///
/// # Errors
/// If PostgreSQL isn't installed or doesn't start, or if the given one's user may not create databases.
pub async fn database() -> Result<Database> {
    let postgres = shared::postgres().await?;
    let name = shared::unique_name();
    execute(&postgres.url, format!(r#"CREATE DATABASE "{name}""#))
        .await
        .context("a database for the test can't be made (the user of HERALD_TEST_DATABASE_URL needs CREATEDB)")?;
    let mut url = postgres.url.clone();
    url.set_path(&name);
    Ok(Database { url, name, maintenance: postgres.url.clone() })
}

/// A database; dropped, open connections or not, when this is dropped.
#[derive(Debug)]
pub struct Database {
    url: Url,
    name: String,
    maintenance: Url,
}

impl Database {
    /// `postgres://user@host:port/name`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    /// Runs statements in it, for what no client of it does by itself.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn execute(&self, statements: &'static str) -> Result<()> {
        execute(&self.url, statements.to_owned()).await
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!(r#"DROP DATABASE IF EXISTS "{}" WITH (FORCE)"#, self.name);
        let maintenance = self.maintenance.clone();
        shared::clean_up("a test's database", async move { execute(&maintenance, statement).await });
    }
}

/// These statements are made here, or stand in a test; nothing in them comes from outside.
async fn execute(url: &Url, statement: String) -> Result<()> {
    let mut connection = PgConnection::connect(url.as_str()).await?;
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await?;
    Ok(())
}
