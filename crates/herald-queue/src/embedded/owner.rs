//! The one process that consumes a file: takes the lock, frees what the one before held, and notices what others publish.
//!
//! One task of the queue, started by its first consumer. Without the lock nothing is claimed; it is tried for until it is had.
//! It looks at one number of the file ten times a second, and at the queues only when that number has changed.

use std::sync::Arc;
use std::time::Duration;

use herald_sqlite::{Fault, FileLock};
use tokio::time::{sleep, timeout};

use super::shared::Shared;
use super::table;
use crate::backoff::Backoff;
use crate::source::Source;

/// How often a lock that another process has is tried for.
const LOCK_EVERY: Duration = Duration::from_millis(200);

/// How often the file is looked at for commits of other processes: a message of another process waits half of it on average.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the end of what is still being written is waited for.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// Starts the owner, the first time. Needs a tokio runtime.
pub(super) fn start(shared: &Arc<Shared>) {
    if shared.want() {
        shared.tasks.spawn(own(Arc::clone(shared)));
    }
}

async fn own(shared: Arc<Shared>) {
    let owned = match take_lock(&shared).await {
        Some(lock) => release_all(&shared, lock).await,
        None => false,
    };
    if owned {
        look(&shared).await;
    }
    leave(&shared, owned).await;
}

/// The lock, as soon as no other process has it; `None` once the queue closes.
async fn take_lock(shared: &Shared) -> Option<FileLock> {
    let mut path = shared.database.path().as_os_str().to_owned();
    path.push(".lock");
    let mut waiting = false;
    loop {
        match FileLock::take(path.as_ref()) {
            Ok(lock) => {
                if waiting {
                    tracing::info!("this process consumes the queue now");
                }
                return Some(lock);
            }
            Err(error) => {
                let why = format!("{}: {error}", path.display());
                shared.not_owned(&why);
                if !std::mem::replace(&mut waiting, true) {
                    tracing::warn!(why, "the queue can't be consumed; trying again until it can");
                }
            }
        }
        tokio::select! {
            () = shared.closing.cancelled() => return None,
            () = sleep(LOCK_EVERY) => {}
        }
    }
}

/// Frees what a process that is gone had claimed, before anybody claims anything. Whether that was done.
async fn release_all(shared: &Arc<Shared>, lock: FileLock) -> bool {
    let mut backoff = Backoff::default();
    loop {
        // Killed before the commit: the next one finds the same claims. After it: they are free, and counted.
        match shared.database.write(table::release_all).await {
            Ok(count) => {
                if count > 0 {
                    tracing::info!(count, "messages that were handed out and not settled are handed out again");
                }
                shared.own(Some(lock));
                return true;
            }
            Err(fault) => shared.failed(&fault, 0),
        }
        if !shared.mended(&mut backoff).await {
            return false;
        }
    }
}

/// Wakes consumers for what other processes publish, until the queue closes.
async fn look(shared: &Arc<Shared>) {
    let mut backoff = Backoff::default();
    // Consumers look once by themselves when the lock is had; what is committed from now on changes the number.
    let mut seen = None;
    let mut wait = LOOK_EVERY;
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            () = sleep(wait) => {}
        }
        wait = match look_once(shared, &mut seen).await {
            Ok(()) => {
                backoff = Backoff::default();
                LOOK_EVERY
            }
            Err(fault) => {
                shared.failed(&fault, 0);
                backoff.next()
            }
        };
    }
}

async fn look_once(shared: &Shared, seen: &mut Option<i64>) -> Result<(), Fault> {
    let version = shared.database.version().await?;
    if *seen == Some(version) {
        return Ok(());
    }
    let ready = |connection: &_| {
        let mut ready = vec![];
        for source in Source::ALL {
            if table::has_ready(connection, source.queue())? {
                ready.push(source.queue());
            }
        }
        Ok(ready)
    };
    for queue in shared.database.read(ready).await? {
        shared.news_of(queue);
    }
    // Only now: what could not be read is looked at again.
    *seen = Some(version);
    Ok(())
}

/// Frees what is still claimed and closes the file; the lock last, so that the next process finds nobody writing.
async fn leave(shared: &Shared, owned: bool) {
    shared.working.close();
    if timeout(LEAVE_LIMIT, shared.working.wait()).await.is_err() {
        tracing::debug!("the queue's file is still being written; closing it all the same");
    }
    // An error, or a kill, leaves that to the next one that takes the lock.
    if owned && let Err(fault) = shared.database.write(table::release_all).await {
        tracing::debug!(why = shared.say(&fault), "messages stay claimed until the queue is consumed again");
    }
    shared.database.close().await;
    shared.own(None);
}
