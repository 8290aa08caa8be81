//! Remember: notifications, deliveries, due times, receipts, subscriptions.
//!
//! Stands under every step of the way: intake, due, take, record and receipts are each one method here, named as in the
//! protocol of docs/protocol.md, and each is one transaction. Time is the store's ([`Clock`]). Nothing here decides what is
//! pushed: what a request resolves to, and what events follow, come in as pure functions.
//!
//! Callers never learn which database it is; no type of its driver leaves this crate.

mod clock;
mod intake;
mod deliveries;
mod due;
mod take;
mod record;
mod prune;
mod receipts;
mod reading;
mod fanout;
mod pauses;
mod subscriptions;
mod sweep;
mod outbox;
mod dead;
mod erase;
mod history;
mod import;
pub mod moving;
mod error;
mod postgres;
mod sqlite;

#[cfg(feature = "conformance")]
pub mod conformance;

/// The statements of the hot path on PostgreSQL, for the test that looks at their plans. Not for anything else.
#[cfg(feature = "conformance")]
#[doc(hidden)]
pub mod statements {
    use crate::postgres::hot;

    /// A claim of due rows: (queue, limit, hold in microseconds).
    pub const CLAIM_DUE: &str = hot::CLAIM_DUE;
    /// A take: (ids, versions, state, lease in microseconds).
    pub const TAKE: &str = hot::TAKE;
    /// A record: ten arrays.
    pub const RECORD: &str = hot::RECORD;
    /// Receipts: (ids, times, state).
    pub const RECEIVE: &str = hot::RECEIVE;
    /// A user's notifications: (app, user, before, deleted, read, action, group, since, limit).
    pub const ENTRIES: &str = hot::ENTRIES;
    /// The oldest dead letters of a stretch: (after: time, id; before: time, id; reason, queue, app, app unknown, limit).
    pub const DEAD_OLDEST: &str = hot::DEAD_OLDEST;
    /// The newest, as above.
    pub const DEAD_NEWEST: &str = hot::DEAD_NEWEST;
}

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use herald_core::event::OutboxEvent;
use herald_core::ids::AppId;
use herald_core::notification::Notification;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;

pub use clock::Clock;
pub use dead::{DeadEntry, DeadFilter, DeadKey, DeadLetter, DeadPage, OfApp};
pub use erase::Erased;
pub use error::StoreError;
pub use fanout::{ClaimedFanout, Expanded, FANOUT_LIMIT};
pub use history::{Stats, Trace, TracedDelivery};
pub use import::{IMPORT_STEP, Imported};
pub use intake::{Intaken, NewDelivery, NewNotification, Resolved};
pub use outbox::OutboxRow;
pub use pauses::Pause;
pub use reading::{Changed, Changing, Delta, DeltaFrom, Entries, Entry, EntryFilter, Mark};
pub use receipts::{By, Closed, Receipt, ReceiptResult};
pub use record::{Attempt, PruneToken, Record, Recorded};
pub use subscriptions::{KnownSubscription, NewSubscription, Registered, Registration};
pub use sweep::Swept;
pub use take::Taken;

/// What every method returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Config {
    /// A PostgreSQL (14 or later), for any number of replicas.
    Postgres(PostgresConfig),
    /// A file (SQLite), for one worker on one machine; other processes there may read and write it too.
    Sqlite(SqliteConfig),
}

impl From<PostgresConfig> for Config {
    fn from(config: PostgresConfig) -> Self {
        Self::Postgres(config)
    }
}

impl From<SqliteConfig> for Config {
    fn from(config: SqliteConfig) -> Self {
        Self::Sqlite(config)
    }
}

/// Where PostgreSQL is and how hard it may be used.
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://user:password@host/database`. A secret: `Debug` hides it.
    pub url: String,
    /// Certificates (PEM) to trust instead of the system's; with them the server's name is verified.
    pub ca_pem: Option<String>,
    /// Connections at most; one statement runs on each.
    pub max_connections: u32,
    /// How long one statement may take; a whole call ends after three times this plus five seconds.
    pub statement_timeout: Duration,
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("url", &"…")
            .field("ca_pem", &self.ca_pem.is_some())
            .field("max_connections", &self.max_connections)
            .field("statement_timeout", &self.statement_timeout)
            .finish()
    }
}

/// Which file.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The file; made with its folder, for this user alone, if it is not there.
    pub path: PathBuf,
    /// This process is the one worker on the file: no second one may be, and the store's clock is set by its start.
    pub leads: bool,
}

/// Builds the events of deliveries that the store closes by itself (receipts, withdrawals, expiry), for the apps that
/// asked. Pure functions, called inside the transaction that closes them.
pub struct Teller {
    wanted: Box<dyn Fn(&AppId) -> bool + Send + Sync>,
    tell: Box<Tell>,
    ended: Option<Box<TellEnd>>,
}

type Tell = dyn Fn(&Closed, &Notification) -> Vec<OutboxEvent> + Send + Sync;
type TellEnd = dyn Fn(&Subscription, Timestamp) -> Vec<OutboxEvent> + Send + Sync;

impl Teller {
    /// `wanted`: does this app want any event? Only then is its notification read, and `tell` asked.
    pub fn new(
        wanted: impl Fn(&AppId) -> bool + Send + Sync + 'static,
        tell: impl Fn(&Closed, &Notification) -> Vec<OutboxEvent> + Send + Sync + 'static,
    ) -> Self {
        Self { wanted: Box::new(wanted), tell: Box::new(tell), ended: None }
    }

    /// Also asked about a subscription that ends because its user has too many, of the apps that want any event.
    #[must_use]
    pub fn with_ended(
        self,
        ended: impl Fn(&Subscription, Timestamp) -> Vec<OutboxEvent> + Send + Sync + 'static,
    ) -> Self {
        Self { ended: Some(Box::new(ended)), ..self }
    }

    /// What is told of subscriptions that are more than their users may have.
    fn surplus(this: Option<&Self>, ended: &[&Subscription], at: Timestamp) -> Vec<OutboxEvent> {
        let Some(Self { wanted, ended: Some(tell), .. }) = this else { return Vec::new() };
        ended.iter().filter(|s| wanted(&s.app)).flat_map(|s| tell(s, at)).collect()
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

/// The store. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Inner,
    clock: Clock,
    teller: Option<Arc<Teller>>,
    limit: Duration,
}

/// Which database it is. Known to nobody outside this crate.
#[derive(Debug, Clone)]
enum Inner {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

/// How long one call on a file may take: it waits for its turn, for the disk, and for another process that writes.
const FILE_LIMIT: Duration = Duration::from_secs(35);

/// How long a connection may take to be had or made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Store {
    /// Connects, or opens the file, and measures the store's clock. Reads and changes no table of a PostgreSQL; makes or
    /// updates those of a file.
    ///
    /// # Errors
    /// [`StoreError::Config`] for a URL or certificate that can't be read; [`StoreError::Unavailable`] if nobody answers or
    /// the file can't be used; [`StoreError::InUse`] and [`StoreError::File`] for a file that is another's.
    pub async fn connect(config: impl Into<Config>) -> Result<Self> {
        let (inner, limit) = match config.into() {
            Config::Postgres(config) => {
                let limit = config.statement_timeout * 3 + CONNECT_TIMEOUT;
                (Inner::Postgres(postgres::Postgres::connect(config, CONNECT_TIMEOUT)?), limit)
            }
            Config::Sqlite(config) => (Inner::Sqlite(sqlite::Sqlite::connect(config).await?), FILE_LIMIT),
        };
        let (sent, store, answered) = within("connect", limit, inner.measure()).await?;
        let this = Self { inner, clock: Clock::new(sent, store, answered), teller: None, limit };
        // The first round trip includes the connection's handshake; the next tell the time better.
        for _ in 0..3 {
            this.sync_clock().await?;
        }
        Ok(this)
    }

    /// The same store, telling `teller` of every delivery it closes by itself.
    #[must_use]
    pub fn with_teller(mut self, teller: Teller) -> Self {
        self.teller = Some(Arc::new(teller));
        self
    }

    /// Creates or updates the tables. Safe to run from several processes at once.
    ///
    /// # Errors
    /// [`StoreError::Schema`] if they were changed by hand; else as any call. No time limit but the statement's.
    pub async fn migrate(&self) -> Result<()> {
        match &self.inner {
            Inner::Postgres(pg) => pg.migrate().await,
            Inner::Sqlite(lite) => lite.migrate().await,
        }
    }

    /// Are the tables there, and as new as this binary needs?
    ///
    /// # Errors
    /// [`StoreError::Schema`], with what to run, if not.
    pub async fn check_schema(&self) -> Result<()> {
        self.within("check_schema", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.check_schema().await,
                Inner::Sqlite(lite) => lite.check_schema().await,
            }
        })
        .await
    }

    /// Does the store answer?
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if not, or if a part of a file was found to be damaged.
    pub async fn ping(&self) -> Result<()> {
        self.sync_clock().await?;
        match &self.inner {
            Inner::Postgres(_) => Ok(()),
            Inner::Sqlite(lite) => lite.sound(),
        }
    }

    /// Whether it is still the place to work in: a file whose move elsewhere has begun is not.
    ///
    /// # Errors
    /// [`StoreError::InUse`] says what to do instead.
    pub async fn check_not_moved(&self) -> Result<()> {
        match &self.inner {
            Inner::Postgres(_) => Ok(()),
            Inner::Sqlite(lite) => self.within("check_not_moved", lite.check_not_moved()).await,
        }
    }

    /// The store's time, as known here.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Measures the store's clock once more. To be called every minute or so.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; the clock goes on with what it knows.
    pub async fn sync_clock(&self) -> Result<()> {
        let (sent, store, answered) = self.within("sync_clock", self.inner.measure()).await?;
        self.clock.measured(sent, store, answered);
        Ok(())
    }

    /// Closes all connections, after the statements that run now.
    pub async fn close(&self) {
        match &self.inner {
            Inner::Postgres(pg) => pg.close().await,
            Inner::Sqlite(lite) => lite.close().await,
        }
    }

    /// Allows a file at most this many pages of 4096 bytes, or as many as it has, as if the disk were full then; `u32::MAX`
    /// lifts it. For tests.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub async fn limit_pages(&self, pages: u32) -> Result<()> {
        match &self.inner {
            Inner::Postgres(_) => Err(StoreError::Config { problem: "only a file has pages" }),
            Inner::Sqlite(lite) => lite.limit_pages(pages).await,
        }
    }

    /// Every call has a limit: a network that swallows packets must not hold a worker for ever.
    async fn within<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        within(operation, self.limit, call).await
    }

    fn teller(&self) -> Option<&Teller> {
        self.teller.as_deref()
    }
}

impl Inner {
    async fn measure(&self) -> Result<(Instant, Timestamp, Instant)> {
        match self {
            Self::Postgres(pg) => pg.measure().await,
            Self::Sqlite(lite) => lite.measure().await,
        }
    }
}

async fn within<T>(operation: &'static str, limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable { operation, cause: format!("no answer within {} s", limit.as_secs()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_never_prints_its_url() {
        let config = PostgresConfig {
            url: "postgres://herald:hunter2@db/herald".into(),
            ca_pem: None,
            max_connections: 1,
            statement_timeout: Duration::from_secs(1),
        };
        assert!(!format!("{:?}", Config::Postgres(config)).contains("hunter2"));
    }
}
