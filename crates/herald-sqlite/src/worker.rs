//! The two threads of a file: one runs what writes, many jobs to a commit; one runs what reads.
//!
//! A commit waits for the disk, some milliseconds; what arrives meanwhile shares the next one. Each job has a savepoint of its
//! own, so that one that fails takes nobody with it. Answers go out after the commit: who has one has it for good.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{Fault, Settings, file};

/// Jobs that share a commit at most: bounds what one that fails as a whole takes with it.
const GROUP: usize = 64;

/// No job joins a transaction that is older: those in it wait for their answers, and other processes for their turn.
const GROUP_TIME: Duration = Duration::from_millis(20);

/// What a job's caller gets: its result, or the panic it ended in.
type Answer<T> = Result<Result<T, Fault>, Box<dyn Any + Send>>;

/// Told, once the job has run, what became of the transaction it ran in.
type Finish = Box<dyn FnOnce(Result<(), Fault>)>;

/// What a thread is told to do.
pub(crate) enum Order {
    /// Do this.
    Job(Box<dyn Job>),
    /// Tell the file's version.
    Version(oneshot::Sender<Result<i64, Fault>>),
    /// End.
    Close(oneshot::Sender<()>),
}

/// A closure whose result type the thread does not know.
pub(crate) trait Job: Send {
    /// Nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// Runs it: whether its changes are to stay, and how its caller is told.
    fn run(self: Box<Self>, connection: &Connection) -> (Result<(), Fault>, Finish);
    /// Tells its caller that it can't be run.
    fn refuse(self: Box<Self>, fault: Fault);
}

/// A closure and who waits for its result.
pub(crate) struct Asked<F, T> {
    pub(crate) job: F,
    pub(crate) answer: oneshot::Sender<Answer<T>>,
}

impl<F, T> Job for Asked<F, T>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Fault> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(self: Box<Self>, connection: &Connection) -> (Result<(), Fault>, Finish) {
        let Self { job, answer } = *self;
        // The connection is safe to use after a panic: the job's savepoint is rolled back.
        let result = catch_unwind(AssertUnwindSafe(|| job(connection)));
        let keep = match &result {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(fault)) => Err(fault.clone()),
            Err(_) => Err(Fault::Defect("a panic".to_owned())),
        };
        let finish = move |committed: Result<(), Fault>| {
            let told = match (result, committed) {
                (Ok(Ok(_)), Err(fault)) => Ok(Err(fault)),
                (result, _) => result,
            };
            // Nobody listens any more: the same as a connection lost after a commit.
            answer.send(told).ok();
        };
        (keep, Box::new(finish))
    }

    fn refuse(self: Box<Self>, fault: Fault) {
        self.answer.send(Ok(Err(fault))).ok();
    }
}

/// What a thread may do with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    Read,
}

/// Starts a thread, which says whether it could open the file. It ends on [`Order::Close`], or with the last sender.
pub(crate) fn start(
    access: Access,
    mut orders: mpsc::Receiver<Order>,
    settings: Settings,
    opened: oneshot::Sender<Result<(), Fault>>,
) -> Result<(), Fault> {
    let name = settings.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let serve = move || {
        let connection = match access {
            Access::Write => file::open_to_write(&settings),
            Access::Read => file::open_to_read(&settings),
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(fault) => return drop(opened.send(Err(fault))),
        };
        opened.send(Ok(())).ok();
        let closing = serve(access, &mut orders, &connection);
        orders.close();
        drop(connection);
        if let Some(done) = closing {
            done.send(()).ok();
        }
    };
    std::thread::Builder::new()
        .name(name)
        .spawn(serve)
        .map(drop)
        .map_err(|error| Fault::CantOpen { why: format!("no thread: {error}") })
}

fn serve(access: Access, orders: &mut mpsc::Receiver<Order>, connection: &Connection) -> Option<oneshot::Sender<()>> {
    let mut next = orders.blocking_recv();
    loop {
        next = match next? {
            Order::Job(job) if access == Access::Write => group(job, orders, connection),
            Order::Job(job) => {
                read(job, connection);
                None
            }
            Order::Version(answer) => {
                let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0));
                answer.send(version.map_err(Fault::from)).ok();
                None
            }
            Order::Close(done) => return Some(done),
        }
        .or_else(|| orders.blocking_recv());
    }
}

/// One transaction with all that waits, and what came after it that was no job.
fn group(first: Box<dyn Job>, orders: &mut mpsc::Receiver<Order>, connection: &Connection) -> Option<Order> {
    if let Err(fault) = connection.execute_batch("BEGIN IMMEDIATE") {
        first.refuse(fault.into());
        return None;
    }
    let started = Instant::now();
    let mut finishing: Vec<Finish> = Vec::new();
    let mut kept = false;
    let mut next = Some(Order::Job(first));
    while let Some(Order::Job(job)) = next {
        next = None;
        if !job.is_abandoned() {
            match in_savepoint(job, connection) {
                Ok((keep, finish)) => {
                    kept |= keep;
                    finishing.push(finish);
                }
                // The whole transaction is gone, and with it what was done before.
                Err((fault, finish)) => {
                    finishing.push(finish);
                    roll_back(connection);
                    return ended(finishing, &Err(fault), None);
                }
            }
        }
        if finishing.len() < GROUP && started.elapsed() < GROUP_TIME {
            next = orders.try_recv().ok();
        }
    }
    let end = if kept { "COMMIT" } else { "ROLLBACK" };
    let committed = connection.execute_batch(end).map_err(Fault::from);
    if committed.is_err() {
        roll_back(connection);
    }
    ended(finishing, &committed, next)
}

/// Leaves no transaction open, or the next one could not begin. SQLite may have ended it by itself.
fn roll_back(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::error!(error = %Fault::from(error), "a transaction could not be rolled back");
    }
}

fn ended(finishing: Vec<Finish>, committed: &Result<(), Fault>, next: Option<Order>) -> Option<Order> {
    for finish in finishing {
        finish(committed.clone());
    }
    next
}

/// Runs a job so that nothing of it stays if it fails. An error is that of the whole transaction.
fn in_savepoint(job: Box<dyn Job>, connection: &Connection) -> Result<(bool, Finish), (Fault, Finish)> {
    if let Err(fault) = connection.execute_batch("SAVEPOINT job") {
        let fault = Fault::from(fault);
        let refused = fault.clone();
        return Err((fault, Box::new(move |_| job.refuse(refused))));
    }
    let (keep, finish) = job.run(connection);
    // SQLite rolls everything back by itself over a full or failing disk; then there is no transaction any more.
    if connection.is_autocommit() {
        return Err((keep.err().unwrap_or(Fault::Closed), finish));
    }
    let end = if keep.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    match connection.execute_batch(end) {
        Ok(()) => Ok((keep.is_ok(), finish)),
        Err(fault) => Err((fault.into(), finish)),
    }
}

fn read(job: Box<dyn Job>, connection: &Connection) {
    if job.is_abandoned() {
        return;
    }
    if let Err(fault) = connection.execute_batch("BEGIN") {
        return job.refuse(fault.into());
    }
    let (_, finish) = job.run(connection);
    let ended = if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("COMMIT") };
    if ended.is_err() {
        roll_back(connection);
    }
    finish(ended.map_err(Fault::from));
}
