//! Settling: rows deleted or given back, a batch in one write, tried until it is done.
//!
//! In a task of its own, so that neither a caller that goes away nor a full disk leaves a message half settled: until the write
//! is done the row stays claimed, and whoever is killed before that finds it delivered again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use herald_sqlite::Fault;
use herald_sqlite::rusqlite::Connection;
use tokio::time::timeout;

use super::shared::Shared;
use super::table;
use crate::backoff::Backoff;
use crate::counters::add;
use crate::settle::Verdict;

/// How long giving back is waited for: a drain must end, and what can't be written now is given back later.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(5);

/// Settles these rows; how many were settled. None if the queue closes before the file could be written.
pub(crate) async fn settle(shared: &Arc<Shared>, tags: Vec<u64>, verdict: Verdict) -> usize {
    let settling = shared.working.spawn(until_done(Arc::clone(shared), rows(tags), verdict));
    let settled = match verdict {
        Verdict::Ack => settling.await,
        Verdict::GiveBack => timeout(GIVE_BACK_LIMIT, settling).await.unwrap_or(Ok(0)),
    };
    match settled {
        Ok(settled) => settled,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends.
        Err(_) => 0,
    }
}

/// Gives these rows back while nobody waits for it, also outside a tokio runtime (then when the queue closes).
pub(crate) fn give_back_later(shared: &Arc<Shared>, tags: Vec<u64>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let (shared, tracker) = (Arc::clone(shared), shared.working.clone());
    let giving = async move {
        let given_back = until_done(Arc::clone(&shared), rows(tags), Verdict::GiveBack).await;
        add(&shared.counting.given_back, given_back);
    };
    tracker.spawn_on(giving, &runtime);
}

fn rows(tags: Vec<u64>) -> Arc<[i64]> {
    tags.into_iter().map(|tag| i64::try_from(tag).expect("a tag is a row id")).collect()
}

async fn until_done(shared: Arc<Shared>, rows: Arc<[i64]>, verdict: Verdict) -> usize {
    let mut backoff = Backoff::default();
    loop {
        let these = Arc::clone(&rows);
        let write = move |connection: &_| match verdict {
            Verdict::Ack => delete(connection, &these),
            Verdict::GiveBack => give_back(connection, &these),
        };
        match shared.database.write(write).await {
            Ok((settled, queues)) => {
                queues.iter().for_each(|queue| shared.news_of(queue));
                return settled;
            }
            Err(Fault::Closed) => return 0,
            Err(fault) => shared.failed(&fault, 0),
        }
        if !shared.mended(&mut backoff).await {
            return 0;
        }
    }
}

/// How many were there, and which queues have more than before.
type Settled = (usize, BTreeSet<String>);

fn delete(connection: &Connection, rows: &[i64]) -> Result<Settled, Fault> {
    let mut settled = 0;
    for row in rows {
        settled += usize::from(table::delete(connection, *row)?);
    }
    Ok((settled, BTreeSet::new()))
}

fn give_back(connection: &Connection, rows: &[i64]) -> Result<Settled, Fault> {
    let (mut settled, mut queues) = (0, BTreeSet::new());
    for row in rows {
        if let Some(queue) = table::give_back(connection, *row)? {
            settled += 1;
            queues.insert(queue);
        }
    }
    Ok((settled, queues))
}
