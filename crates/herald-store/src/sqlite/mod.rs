//! The store on one file (SQLite), for one worker on one machine. The statements are in the modules below, one to a
//! function, named as in the protocol and as in [`crate::postgres`].
//!
//! All that writes runs in turn on one thread, so nothing is locked or skipped: what a job reads is so until it ends. Many jobs
//! share one commit, which is on the disk before any of them is answered.

mod time;
mod rows;
mod intake;
mod deliveries;
mod due;
mod take;
mod record;
mod prune;
mod close;
mod receipts;
mod reading;
mod fanout;
mod subscriptions;
mod sweep;
mod pauses;
mod outbox;
mod dead;
mod erase;
mod history;
mod import;
mod moving;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::Connection;
use herald_sqlite::{Database, Fault, FileLock, LockError, Settings};

use crate::{Result, SqliteConfig, StoreError};
use time::StoreTime;

/// "HrlS": marks the file as a store of Herald.
const APPLICATION_ID: i32 = 0x4872_6c53;

static MIGRATIONS: [&str; 4] = [
    include_str!("../../migrations/sqlite/0001_tables.sql"),
    include_str!("../../migrations/sqlite/0002_fanout_claims.sql"),
    include_str!("../../migrations/sqlite/0003_reading.sql"),
    include_str!("../../migrations/sqlite/0004_devices_and_names.sql"),
];

/// A file, open.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    database: Database,
    time: StoreTime,
    name: Arc<str>,
    seen: Arc<Seen>,
    /// That this process is the one worker on the file.
    _lead: Option<Arc<FileLock>>,
}

/// What was seen of the file, and said once.
#[derive(Debug, Default)]
struct Seen {
    damage: AtomicBool,
    clocks_differ: AtomicBool,
}

/// The wall clock and the store's time may differ by so much before it is said.
const CLOCKS_DIFFER_US: i64 = 60_000_000;

/// What the parts of a job return.
type JobResult<T> = std::result::Result<T, Fault>;

/// What a job works on.
pub(crate) struct Tx<'a> {
    pub(crate) connection: &'a Connection,
    time: StoreTime,
}

impl Tx<'_> {
    /// The store's time, like PostgreSQL's `clock_timestamp()`: goes on within a job.
    pub(crate) fn now(&self) -> Timestamp {
        self.time.now()
    }
}

impl Sqlite {
    /// Opens the file and makes or updates its tables. A worker is refused if all of it was moved elsewhere.
    pub(crate) async fn connect(config: SqliteConfig) -> Result<Self> {
        Self::open(config, false).await
    }

    /// `to_move`: to be moved elsewhere, which leaves its clock as it is and may be done again.
    async fn open(config: SqliteConfig, to_move: bool) -> Result<Self> {
        const OPERATION: &str = "connect";
        let name: Arc<str> = config.path.display().to_string().into();
        let settings = Settings { path: config.path.clone(), application_id: APPLICATION_ID, migrations: &MIGRATIONS };
        let database = Database::open(settings).await.map_err(during(OPERATION, &name))?;
        let lead = if config.leads { Some(Arc::new(lead(&config.path, &name)?)) } else { None };
        let works = config.leads && !to_move;
        if works && let Some(why) = database.read(moving::refusal).await.map_err(during(OPERATION, &name))? {
            return Err(StoreError::InUse { problem: format!("{name}: {why}") });
        }
        let time = database.write(move |connection| StoreTime::of(connection, works)).await;
        let time = time.map_err(during(OPERATION, &name))?;
        Ok(Self { database, time, name, seen: Arc::default(), _lead: lead })
    }

    pub(crate) async fn close(&self) {
        self.database.close().await;
    }

    /// The store's time, and the moments between which it was read. Also notes it, for the time after a restart.
    pub(crate) async fn measure(&self) -> Result<(Instant, Timestamp, Instant)> {
        self.write("measure", |tx| tx.time.seen(tx.connection)).await?;
        self.compare_clocks();
        let sent = Instant::now();
        let now = self.time.now();
        Ok((sent, now, Instant::now()))
    }

    /// Nothing follows a wall clock that was set anew until the worker starts again; people should know.
    fn compare_clocks(&self) {
        let ahead_us = self.time.behind_wall_us();
        let differ = ahead_us.abs() > CLOCKS_DIFFER_US;
        if self.seen.clocks_differ.swap(differ, Ordering::Relaxed) != differ && differ {
            let seconds = ahead_us / 1_000_000;
            tracing::warn!(
                seconds,
                "the wall clock is ahead of the store's time (behind, if below 0); a restart follows it"
            );
        }
    }

    /// Whether anything of the file was found to be damaged; what is on other pages may still work.
    ///
    /// # Errors
    /// The damage, for readiness.
    pub(crate) fn sound(&self) -> Result<()> {
        if self.seen.damage.load(Ordering::Relaxed) { Err(during("ping", &self.name)(Fault::Corrupt)) } else { Ok(()) }
    }

    /// What a job came to, with its file; damage is remembered, and said once as what it is.
    fn done<T>(&self, operation: &'static str, done: JobResult<T>) -> Result<T> {
        if matches!(done, Err(Fault::Corrupt)) && !self.seen.damage.swap(true, Ordering::Relaxed) {
            tracing::error!(file = %self.name, operation, "{}", Fault::Corrupt);
        }
        done.map_err(during(operation, &self.name))
    }

    /// They were made when the file was opened; this only says whether it can be written.
    pub(crate) async fn migrate(&self) -> Result<()> {
        self.write("migrate", |_| Ok(())).await
    }

    pub(crate) async fn check_schema(&self) -> Result<()> {
        self.read("check_schema", |_| Ok(())).await
    }

    #[cfg(feature = "conformance")]
    pub(crate) async fn limit_pages(&self, pages: u32) -> Result<()> {
        self.database.limit_pages(pages).await.map_err(during("limit_pages", &self.name))
    }

    /// A job that writes: one unit.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Tx<'_>) -> std::result::Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let time = self.time;
        let done = self.database.write(move |connection| job(&Tx { connection, time })).await;
        self.done(operation, done)
    }

    /// A job that reads one state of the file.
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Tx<'_>) -> std::result::Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let time = self.time;
        let done = self.database.read(move |connection| job(&Tx { connection, time })).await;
        self.done(operation, done)
    }
}

/// Makes this process the one worker on the file.
fn lead(path: &std::path::Path, name: &str) -> Result<FileLock> {
    let mut lock = PathBuf::from(path).into_os_string();
    lock.push(".lock");
    FileLock::take(&PathBuf::from(lock)).map_err(|error| match error {
        LockError::Held { .. } => StoreError::InUse { problem: format!("{name}: {error}") },
        LockError::Io(_) => StoreError::Unavailable { operation: "connect", cause: format!("{name}: {error}") },
    })
}

/// For `map_err`: this happened to the file during `operation`.
fn during<'a>(operation: &'static str, name: &'a str) -> impl Fn(Fault) -> StoreError + 'a {
    move |fault| match fault {
        Fault::Foreign => StoreError::File { problem: format!("{name}: {fault}") },
        fault if fault.is_transient() => StoreError::Unavailable { operation, cause: format!("{name}: {fault}") },
        fault => StoreError::Defect { operation, problem: fault.to_string() },
    }
}
