//! The store on PostgreSQL (14 or later): connections, schema, time. The statements are in the modules below, one to a
//! function, named as in the protocol.
//!
//! Locks are taken in one order everywhere, so that batches never deadlock: subscriptions before notifications before
//! deliveries, each by ascending id; claims skip what is locked.

mod close;
mod dead;
mod deliveries;
mod due;
mod erase;
mod error;
mod fanout;
mod history;
mod import;
mod intake;
pub(crate) mod moving;
mod outbox;
mod pauses;
mod prune;
mod reading;
mod receipts;
mod record;
mod rows;
mod subscriptions;
mod sweep;
mod take;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use herald_core::time::Timestamp;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{Connection, PgConnection, PgPool, SqlStr};
use time::OffsetDateTime;

use crate::{PostgresConfig, Result, StoreError};
use error::during;

/// The statements of the hot path, for a test that looks at their plans.
#[cfg(feature = "conformance")]
pub(crate) mod hot {
    pub(crate) use super::dead::{DEAD_NEWEST, DEAD_OLDEST};
    pub(crate) use super::due::CLAIM_DUE;
    pub(crate) use super::reading::ENTRIES;
    pub(crate) use super::receipts::RECEIVE;
    pub(crate) use super::record::RECORD;
    pub(crate) use super::take::TAKE;
}

/// Without sqlx's macro, which would build sqlx, TLS and tokio a second time, for itself. A released script never changes.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let script = |version, name: &'static str, sql| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(vec![
        script(1, "tables", include_str!("../../migrations/postgres/0001_tables.sql")),
        script(2, "pauses cut short", include_str!("../../migrations/postgres/0002_pauses_cut_short.sql")),
        script(3, "fanout claims", include_str!("../../migrations/postgres/0003_fanout_claims.sql")),
        script(4, "reading", include_str!("../../migrations/postgres/0004_reading.sql")),
        script(5, "devices and names", include_str!("../../migrations/postgres/0005_devices_and_names.sql")),
    ])
});

/// How long a connection may take to answer when it comes back to the pool.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// A connection that was idle for longer is tried before it is used; a busy one needs no round trip for that.
const TRY_AFTER_IDLE: Duration = Duration::from_secs(1);

/// Connections to PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pool: PgPool,
}

impl Postgres {
    /// Prepares the pool; opens nothing yet.
    #[allow(clippy::needless_pass_by_value, reason = "holds a secret that is not needed any more")]
    pub(crate) fn connect(config: PostgresConfig, connect_timeout: Duration) -> Result<Self> {
        let mut options: PgConnectOptions = config.url.parse().map_err(|_| StoreError::Config {
            problem: "the URL can't be read; give postgres://user:password@host:5432/database",
        })?;
        options = options.application_name("herald");
        if let Some(pem) = config.ca_pem {
            options = options.ssl_root_cert_from_pem(pem.into_bytes()).ssl_mode(PgSslMode::VerifyFull);
        }
        let statement_timeout = config.statement_timeout;
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections.max(1))
            .acquire_timeout(connect_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRY_AFTER_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            // The pool tries a connection once more when it comes back, without a limit: after a network that swallows
            // packets, each would keep its place until the kernel gives up, a quarter of an hour later.
            .after_release(|connection, _| {
                Box::pin(async move {
                    match tokio::time::timeout(RELEASE_LIMIT, connection.ping()).await {
                        Ok(answered) => answered.map(|()| true),
                        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
                    }
                })
            })
            .after_connect(move |connection, _| Box::pin(set_up(connection, statement_timeout)))
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// The server's time, and the moments between which it was read.
    pub(crate) async fn measure(&self) -> Result<(Instant, Timestamp, Instant)> {
        let mut connection = self.pool.acquire().await.map_err(during("measure"))?;
        let sent = Instant::now();
        let store: OffsetDateTime = sqlx::query_scalar("SELECT clock_timestamp()")
            .fetch_one(&mut *connection)
            .await
            .map_err(during("measure"))?;
        Ok((sent, store.into(), Instant::now()))
    }

    /// On a connection of its own without a time limit: an index on a large table takes its time, and another replica waits for
    /// it in a statement too. What else is under way ends within its own limit, so no lock is waited for longer.
    pub(crate) async fn migrate(&self) -> Result<()> {
        // Not told what others are ([`set_up`]).
        let alone = PgPoolOptions::new().max_connections(1).connect_with((*self.pool.connect_options()).clone()).await;
        let alone = alone.map_err(during("migrate"))?;
        let migrated = MIGRATIONS.run(&alone).await;
        alone.close().await;
        migrated.map_err(|e| match e {
            sqlx::migrate::MigrateError::Execute(e) | sqlx::migrate::MigrateError::ExecuteMigration(e, _) => {
                during("migrate")(e)
            }
            other => StoreError::Schema { problem: other.to_string() },
        })
    }

    /// Compares the migrations that ran with those this binary knows. Newer ones are fine: they only add.
    pub(crate) async fn check_schema(&self) -> Result<()> {
        let applied: Vec<(i64, bool)> = sqlx::query_as("SELECT version, success FROM _sqlx_migrations")
            .fetch_all(&self.pool)
            .await
            .map_err(during("check_schema"))?;
        for migration in MIGRATIONS.iter() {
            if !applied.contains(&(migration.version, true)) {
                let problem = format!("the tables lack version {} ({})", migration.version, migration.description);
                return Err(StoreError::Schema { problem });
            }
        }
        Ok(())
    }
}

/// A transaction whose client says nothing for so long is ended by the server: a process that was stopped or cut off in the
/// midst of one holds locks that the other replicas' receipts and takes wait for (G3). Shorter than any of their time
/// limits; far longer than the pauses of a client that lives.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(3);

/// What every connection is told once.
///
/// Plans are made for each execution (`force_custom_plan`): a plan kept from when a table was small or empty would read a
/// grown one from end to end until its statistics are renewed. Planning costs some 0.2 ms per batch.
async fn set_up(connection: &mut PgConnection, statement_timeout: Duration) -> std::result::Result<(), sqlx::Error> {
    let ms = statement_timeout.as_millis();
    sqlx::query(
        "SELECT set_config('statement_timeout', $1, false),
                set_config('idle_in_transaction_session_timeout', $2, false),
                set_config('plan_cache_mode', 'force_custom_plan', false),
                set_config('random_page_cost', '1.1', false),
                set_config('jit', 'off', false)",
    )
    .bind(ms.to_string())
    .bind(IDLE_IN_TRANSACTION.as_millis().to_string())
    .execute(connection)
    .await?;
    Ok(())
}
