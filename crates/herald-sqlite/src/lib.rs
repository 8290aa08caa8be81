//! One SQLite file: opened with care, written by one thread, the work of many callers in one commit.
//!
//! Stands under the embedded store (`store.db`) and the embedded queue (`queue.db`). A [`Database`] takes jobs, closures over a
//! connection: those that write run in turn on a thread of their own, whatever waits joining one transaction (group
//! commit), and are answered after the commit, which is on the disk by then (WAL, `synchronous = FULL`). Those that read run
//! beside them and never wait for a writer.
//!
//! It knows no table. Other processes may use the same file at the same time; [`FileLock`] is for what only one may do.

mod fault;
mod file;
mod worker;
mod lock;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use fault::Fault;
pub use lock::{FileLock, LockError};
pub use rusqlite;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use worker::{Access, Order};

/// Jobs that may wait for their turn; beyond this, callers wait before they hand one in.
const WAITING: usize = 1_024;

/// How long a job waits for another process that is writing. Longer than any transaction of ours, shorter than a lease.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// Which file, and what is in it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file; made with its folder (for this user alone) if it is not there.
    pub path: PathBuf,
    /// Marks the file as ours (`PRAGMA application_id`).
    pub application_id: i32,
    /// SQL scripts that make the tables, each run once, in order. Released ones never change.
    pub migrations: &'static [&'static str],
}

/// A SQLite file. Clones share its threads.
#[derive(Debug, Clone)]
pub struct Database {
    writer: mpsc::Sender<Order>,
    reader: mpsc::Sender<Order>,
    path: Arc<PathBuf>,
}

impl Database {
    /// Opens the file, makes or updates its tables, and starts its two threads. They end with [`Database::close`], or once
    /// the last clone is dropped.
    ///
    /// # Errors
    /// [`Fault`] if the file can't be opened or written, is damaged, or belongs to another program.
    pub async fn open(settings: Settings) -> Result<Self, Fault> {
        let path = Arc::new(settings.path.clone());
        let (opened, answer) = oneshot::channel();
        let (writer, orders) = mpsc::channel(WAITING);
        worker::start(Access::Write, orders, settings.clone(), opened)?;
        answered(answer.await)?;
        // After the writer has made the file and its tables.
        let (opened, answer) = oneshot::channel();
        let (reader, orders) = mpsc::channel(WAITING);
        worker::start(Access::Read, orders, settings, opened)?;
        answered(answer.await)?;
        Ok(Self { writer, reader, path })
    }

    /// Runs a job that writes. It is one unit: on an error nothing of it stays. When this returns `Ok`, it is on the disk.
    ///
    /// The job runs within a transaction that it may share with others; it must not begin, commit or wait. Dropping the
    /// future takes back a job whose turn has not come; one whose turn has come is done all the same.
    ///
    /// # Errors
    /// The job's own, or that of the commit.
    ///
    /// # Panics
    /// If the job does, with its message; nothing of it stays.
    pub async fn write<T, F>(&self, job: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        order(&self.writer, job).await
    }

    /// Runs a job that only reads, all of it on one state of the file.
    ///
    /// # Errors
    /// The job's own. A job that tries to write gets [`Fault::ReadOnly`].
    ///
    /// # Panics
    /// If the job does, with its message.
    pub async fn read<T, F>(&self, job: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        order(&self.reader, job).await
    }

    /// A number that changes with every commit to the file, by this process or another. Costs some microseconds.
    ///
    /// # Errors
    /// As any read.
    pub async fn version(&self) -> Result<i64, Fault> {
        let (answer, version) = oneshot::channel();
        self.reader.send(Order::Version(answer)).await.map_err(|_| Fault::Closed)?;
        answered(version.await)
    }

    /// The file.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Ends both threads once the jobs handed in before are done, and leaves one file without a log beside it, unless
    /// another process uses it. Jobs handed in later get [`Fault::Closed`].
    pub async fn close(&self) {
        for thread in [&self.reader, &self.writer] {
            let (done, ended) = oneshot::channel();
            if thread.send(Order::Close(done)).await.is_ok() {
                // An error says that it ended before; that is what is wanted.
                ended.await.ok();
            }
        }
    }

    /// Allows the file at most this many pages (of 4096 bytes), as if the disk were full then. `u32::MAX` lifts it.
    ///
    /// # Errors
    /// As any write.
    #[cfg(feature = "testing")]
    pub async fn limit_pages(&self, pages: u32) -> Result<(), Fault> {
        self.write(move |connection| {
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
            Ok(())
        })
        .await
    }
}

async fn order<T, F>(thread: &mpsc::Sender<Order>, job: F) -> Result<T, Fault>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
{
    let (answer, result) = oneshot::channel();
    let order = Order::Job(Box::new(worker::Asked { job, answer }));
    thread.send(order).await.map_err(|_| Fault::Closed)?;
    match result.await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err(Fault::Closed),
    }
}

fn answered<T>(answer: Result<Result<T, Fault>, oneshot::error::RecvError>) -> Result<T, Fault> {
    answer.unwrap_or(Err(Fault::Closed))
}
