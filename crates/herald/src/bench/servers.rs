//! Broker and store of a bench: the given ones, which nothing else may use meanwhile.
//!
//! A bench in a shared vhost would push other people's notifications to a simulator, so it refuses one that holds work.

use std::time::Duration;

use anyhow::bail;
use herald_core::lane::Lane;
use herald_queue::{Queue, Source};
use herald_store::{Store, StoreError};
use tokio::time::{Instant, sleep, timeout};

use crate::config::{Config, Place};
use crate::connect;
use crate::connect::Role;
use crate::failure::Failure;

/// How long the broker may take to show what it has confirmed, and the workers to record what was accepted.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(100);
/// Messages taken at once when a bench that was broken off clears its queue.
const DRAIN_BATCH: u16 = 500;
/// A queue that yields nothing for this long is empty.
const DRAIN_QUIET: Duration = Duration::from_secs(1);

/// The queue that the bench fills.
pub(super) const FILLED: Source = Source::Requests(Lane::Normal);

/// Broker and store, connected.
pub(super) struct Servers {
    pub(super) queue: Queue,
    pub(super) store: Store,
}

impl Servers {
    /// Connects, and makes exchanges, queues and tables where they are missing.
    ///
    /// # Errors
    /// [`Failure::Usage`] if one is not named or holds work; [`Failure::Unavailable`] if one can't be reached.
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        let on_files = matches!(config.place, Place::Files(_));
        if !on_files && (config.broker.urls.is_empty() || config.store.url.is_none()) {
            let what = "a bench needs a vhost and a database that nothing else uses; set \
                        HERALD_AMQP_URL=amqp://user:password@host:5672/vhost and \
                        HERALD_DATABASE_URL=postgres://user:password@host/database, or start private servers for it as in \
                        docs/performance.md, or measure on files with --embedded";
            return Err(Failure::Usage(what.to_owned()).into());
        }
        let queue = connect::queue(config, "bench", Role::Maker).await?;
        let store = connect::store(config, Role::Maker).await?;
        store.migrate().await.map_err(connect::store_failure)?;
        queue.declare_topology().await.map_err(|error| Failure::Unavailable(error.into()))?;
        let servers = Self { queue, store };
        servers.refuse_work_of_others().await?;
        Ok(servers)
    }

    async fn refuse_work_of_others(&self) -> anyhow::Result<()> {
        for source in Source::ALL {
            let depth = self.queue.depth(source).await.map_err(|error| Failure::Unavailable(error.into()))?;
            if depth > 0 {
                let what =
                    format!("{source} holds {depth} messages; give the bench a vhost of its own (HERALD_AMQP_URL)");
                return Err(Failure::Usage(what).into());
            }
        }
        let open = self.open_deliveries().await?;
        if open > 0 {
            let what = format!(
                "the store holds {open} open deliveries; give the bench a database of its own (HERALD_DATABASE_URL)"
            );
            return Err(Failure::Usage(what).into());
        }
        Ok(())
    }

    /// Waits until the broker shows `count` messages ready: nobody took one.
    ///
    /// # Errors
    /// If it shows fewer.
    pub(super) async fn filled(&self, count: u64) -> anyhow::Result<()> {
        let give_up = Instant::now() + SETTLE_LIMIT;
        loop {
            let depth = self.queue.depth(FILLED).await?;
            if depth == count {
                return Ok(());
            }
            if Instant::now() > give_up {
                bail!(
                    "{FILLED} holds {depth} of {count} messages before any worker was started: does another one consume it?"
                );
            }
            sleep(INTERVAL).await;
        }
    }

    /// Waits until every delivery is closed: what was accepted is recorded.
    ///
    /// # Errors
    /// If some are still open after a minute.
    pub(super) async fn recorded(&self) -> anyhow::Result<()> {
        let give_up = Instant::now() + SETTLE_LIMIT;
        loop {
            let open = self.open_deliveries().await?;
            if open == 0 {
                return Ok(());
            }
            if Instant::now() > give_up {
                bail!("{open} deliveries are still open {SETTLE_LIMIT:?} after the last push was accepted");
            }
            sleep(INTERVAL).await;
        }
    }

    async fn open_deliveries(&self) -> Result<u64, StoreError> {
        let stats = self.store.stats().await?;
        Ok(stats.open.iter().map(|(_, count)| count).sum())
    }

    /// Takes away what a bench that was broken off left in the queue it fills. The workers must have ended.
    pub(super) async fn drain(&self) {
        let mut consumer = self.queue.consume(FILLED, DRAIN_BATCH);
        while let Ok(batch) = timeout(DRAIN_QUIET, consumer.next(usize::from(DRAIN_BATCH))).await {
            if batch.is_empty() {
                return;
            }
            self.queue.ack(batch).await;
        }
    }

    /// Ends the connections.
    pub(super) async fn close(&self) {
        self.queue.close().await;
        self.store.close().await;
    }
}
