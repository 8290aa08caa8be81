//! The queue in one file, `queue.db`: for one machine, without a server.
//!
//! One table of [`herald_sqlite`], a row for each message. Publishing is an insert, consuming a claim (an update), acking a
//! delete; each is one durable commit, which callers that come at the same time share. What it keeps of RabbitMQ's ways:
//! - **Routing** is the data of [`topology`](crate::topology). What no binding wants is kept as `herald.unrouted`
//!   (`SELECT count(*) FROM messages WHERE queue = 'herald.unrouted'`). Events have no subscribers here: a confirmed one is
//!   gone, as on a broker where no queue is bound.
//! - **A claim is durable before a message is handed out**, and counts as a delivery: what a killed process held comes again
//!   with a higher count, and beyond the queue's limit it is moved to `herald.suspect`, then to `herald.parked`. What is given
//!   back does not count.
//! - **Order** is that of the commits; what was given back comes first.
//!
//! Any number of processes may publish and look; one consumes at a time, by a lock on `queue.db.lock`. Rows are claimed for
//! "the consumer", not for a process, so whoever takes the lock knows that every claim it finds is of one that is gone.
//!
//! Rights on the file are the only login. A row's `user_id` is the claim of somebody who may write the file.
//!
//! AMQP's properties stay the model of a message here too ([`properties`] turns them into JSON and back): [`park`](crate::park)
//! and [`message`](crate::message) decide what a dead letter carries and what a header means, once, for both backends.
//!
//! Reading order: [`table`] (the statements), [`properties`] → [`shared`] (what is known of the file) → [`publish`] → [`owner`]
//! (the lock, news of other processes) → [`consume`] → [`settle`].

mod table;
pub(crate) mod properties;
pub(crate) mod shared;
mod publish;
mod owner;
mod consume;
pub(crate) mod settle;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use herald_sqlite::{Database, Fault, Settings};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::consumer::Consumer;
use crate::counters::{Counting, Health};
use crate::publisher::{PublishError, Ready};
use crate::source::Source;
use shared::Shared;

/// `HrQu`: marks the file as a queue of Herald's.
const APPLICATION_ID: i32 = 0x4872_5175;

/// Run once each, in order. Released ones never change.
const MIGRATIONS: &[&str] = &[include_str!("../../migrations/0001_messages.sql")];

/// How long [`Embedded::depth`] waits for an answer.
const DEPTH_LIMIT: Duration = Duration::from_secs(5);

/// How long [`Embedded::close`] waits for what is under way.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Why the file of a queue can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct FileError {
    path: PathBuf,
    fault: Fault,
}

impl FileError {
    /// May opening it succeed later as it is, with the space, rights or disk mended?
    pub const fn is_transient(&self) -> bool {
        self.fault.is_transient()
    }
}

/// An open file. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub(crate) struct Embedded {
    shared: Arc<Shared>,
    open: Arc<DropGuard>,
}

impl Embedded {
    pub(crate) async fn open(path: &Path) -> Result<Self, FileError> {
        let settings = Settings { path: path.to_owned(), application_id: APPLICATION_ID, migrations: MIGRATIONS };
        let database = Database::open(settings).await.map_err(|fault| FileError { path: path.to_owned(), fault })?;
        let closing = CancellationToken::new();
        let shared = Shared::new(database, closing.clone());
        Ok(Self { shared: Arc::new(shared), open: Arc::new(closing.drop_guard()) })
    }

    pub(crate) fn counting(&self) -> &Counting {
        &self.shared.counting
    }

    pub(crate) fn consume(&self, source: Source, prefetch: u16) -> Consumer {
        owner::start(&self.shared);
        consume::start(&self.shared, Arc::clone(&self.open), source, prefetch)
    }

    pub(crate) async fn publish(&self, ready: Ready) -> Result<(), PublishError> {
        publish::publish(&self.shared, vec![ready]).await
    }

    pub(crate) async fn publish_all(&self, all: Vec<Result<Ready, PublishError>>) -> Vec<Result<(), PublishError>> {
        publish::publish_all(&self.shared, all).await
    }

    pub(crate) async fn depth(&self, source: Source) -> Result<u64, PublishError> {
        let counting = self.shared.database.read(move |connection| table::depth(connection, source.queue()));
        match timeout(DEPTH_LIMIT, counting).await {
            Ok(Ok(depth)) => Ok(depth),
            Ok(Err(fault)) => Err(PublishError::NotSent { why: self.shared.say(&fault) }),
            Err(_) => Err(PublishError::NotSent { why: format!("no answer from the disk within {DEPTH_LIMIT:?}") }),
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.shared.health()
    }

    pub(crate) async fn close(&self) {
        let shared = &self.shared;
        shared.closing.cancel();
        shared.tasks.close();
        shared.working.close();
        let closed = timeout(CLOSE_LIMIT, async {
            // The owner, if there is one, lets go of the lock only once nothing is written any more.
            shared.tasks.wait().await;
            shared.working.wait().await;
            shared.database.close().await;
        });
        if closed.await.is_err() {
            tracing::debug!("the queue's file was not closed in time");
        }
    }

    #[cfg(feature = "conformance")]
    pub(crate) async fn limit_pages(&self, pages: u32) -> Result<(), PublishError> {
        let limited = self.shared.database.limit_pages(pages).await;
        limited.map_err(|fault| PublishError::NotSent { why: self.shared.say(&fault) })
    }
}

#[cfg(test)]
mod tests {
    use herald_core::lane::Lane;

    use super::*;
    use crate::conformance::request;
    use crate::message::{Content, Message};
    use crate::settle::{Session, Verdict, settle};
    use crate::{Backend, Publisher};

    const HIGH: Source = Source::Requests(Lane::High);

    /// Without the look at the file that notices it a little later: nobody consumes, so nobody looks.
    #[tokio::test]
    async fn what_is_published_or_given_back_is_news_within_the_process_at_once() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = Embedded::open(&folder.path().join("queue.db")).await.unwrap();
        let (mut high, low) = (file.shared.listen(HIGH), file.shared.listen(Source::Requests(Lane::Low)));

        let publisher = Publisher::new(Backend::Embedded(file.clone()));
        publisher.publish(request(Lane::High, "r")).await.unwrap();
        assert!(high.has_changed().unwrap(), "published");
        high.mark_unchanged();

        let claim = |connection: &_| table::claim(connection, HIGH.queue(), 1);
        let row = file.shared.database.write(claim).await.unwrap().remove(0);
        let content = Content {
            delivery_count: 0,
            redelivered: false,
            original: properties::from_json(&row.properties),
            body: row.body.into(),
        };
        let session = Session::Embedded(Arc::clone(&file.shared));
        let message = Message::new(content, HIGH, session, row.id.cast_unsigned(), None);
        assert_eq!(settle(vec![message], Verdict::GiveBack).await, 1);
        assert!(high.has_changed().unwrap(), "given back");
        assert!(!low.has_changed().unwrap(), "others are left asleep");
        file.close().await;
    }
}
