//! Keeps one role's connection up: publish and consume have one each, because the broker blocks connections that publish
//! (memory or disk alarm), and lapin then writes nothing on them, acks included.
//!
//! Conditions that end a link, and why:
//! - any error of a publish channel or a confirm: what else is in flight on it is in doubt too;
//! - an error of the connection, its close by the broker, two missed heartbeats: lapin reports an event;
//! - a step (channel, subscription, ack) that takes longer than its limit: a black hole;
//! - lapin says "not connected" without an event: looked at every [`LOOK_EVERY`].
//!
//! A consumer's own channel error (its queue is missing, deleted, forbidden) ends that channel only, see
//! [`consume`](super::consume): one missing queue must not cost all other consumers their deliveries in flight.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::ConfirmSelectOptions;
use lapin::{Event, options};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{Address, Config};
use super::connection::{CONNECT_LIMIT, ConnectError, Link};
use super::{STEP_LIMIT, say};
use crate::backoff::Backoff;
use crate::counters::{Counting, add};

/// How many channels a publish connection has: more than one doubles what it can publish (measured 26 → 38 thousand/s).
const PUBLISH_CHANNELS: usize = 2;

/// How often a link is looked at besides its events.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    Publish,
    Consume,
}

impl Duty {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
        }
    }
}

/// What all parts of a queue share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) addresses: Vec<Address>,
    pub(crate) counting: Arc<Counting>,
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) publish: Role,
    pub(crate) consume: Role,
    /// Consumers that exist, and of those, that are subscribed.
    pub(crate) consumers: AtomicUsize,
    pub(crate) subscribed: AtomicUsize,
    pub(crate) last_loss: Mutex<Option<String>>,
    /// One permit for each publish whose confirm is awaited.
    pub(crate) window: Semaphore,
    /// Spreads publishes over channels.
    pub(crate) turn: AtomicUsize,
}

/// One role's connection, up or not.
pub(crate) struct Role {
    pub(crate) duty: Duty,
    link: watch::Sender<Option<Arc<Link>>>,
    /// Why the broker takes no publishes now.
    blocked: watch::Sender<Option<String>>,
    started: AtomicBool,
    since: Mutex<Instant>,
}

impl Role {
    pub(crate) fn new(duty: Duty) -> Self {
        Self {
            duty,
            link: watch::Sender::new(None),
            blocked: watch::Sender::new(None),
            started: AtomicBool::new(false),
            since: Mutex::new(Instant::now()),
        }
    }

    /// Whether there is a link, and for how long that has been so.
    pub(crate) fn is_up(&self) -> (bool, Duration) {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        (self.link.borrow().is_some(), since.elapsed())
    }

    /// Why the broker takes no publishes now.
    pub(crate) fn blocked(&self) -> Option<String> {
        self.blocked.borrow().clone()
    }

    /// A link on which the broker takes publishes.
    pub(crate) async fn open_link(&self) -> Arc<Link> {
        let mut blocked = self.blocked.subscribe();
        loop {
            let link = self.link().await;
            if blocked.borrow_and_update().is_none() {
                return link;
            }
            blocked.changed().await.expect("the sender lives as long as self");
        }
    }

    /// The link, as soon as there is one that is not lost. Pending for ever once the queue is closed.
    pub(crate) async fn link(&self) -> Arc<Link> {
        let mut links = self.link.subscribe();
        loop {
            let current = links.borrow_and_update().clone();
            match current {
                Some(link) if !link.lost.is_cancelled() => return link,
                _ => links.changed().await.expect("the sender lives as long as self"),
            }
        }
    }

    fn set(&self, link: Option<Arc<Link>>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.blocked.send_replace(None);
        self.link.send_replace(link);
    }
}

impl Shared {
    pub(crate) fn role(&self, duty: Duty) -> &Role {
        match duty {
            Duty::Publish => &self.publish,
            Duty::Consume => &self.consume,
        }
    }

    /// Starts the supervisor of a role, the first time. Needs a tokio runtime.
    pub(crate) fn start(self: &Arc<Self>, duty: Duty) {
        if !self.role(duty).started.swap(true, Ordering::Relaxed) {
            let shared = Arc::clone(self);
            self.tasks.spawn(async move { shared.supervise(duty).await });
        }
    }

    async fn supervise(&self, duty: Duty) {
        let role = self.role(duty);
        let mut backoff = Backoff::default();
        let mut outage = Outage::default();
        // Replicas start at different nodes.
        let mut node = std::process::id() as usize;
        loop {
            let address = &self.addresses[node % self.addresses.len()];
            node = node.wrapping_add(1);
            let connected = tokio::select! {
                // Dropping a half-made connection shuts its socket.
                () = self.closing.cancelled() => return,
                connected = connect(address, &self.config, duty) => connected,
            };
            match connected {
                Ok(link) => {
                    outage.over(duty, address);
                    let since = Instant::now();
                    let link = Arc::new(link);
                    role.set(Some(Arc::clone(&link)));
                    self.watch_over(role, &link).await;
                    role.set(None);
                    if self.closing.is_cancelled() {
                        link.close().await;
                        return;
                    }
                    link.sever();
                    backoff.held_for(since.elapsed());
                    add(&self.counting.losses, 1);
                    self.note(outage.begins(duty, &format!("{address}: {}", link.why())));
                }
                Err(error) => {
                    add(&self.counting.failed_connects, 1);
                    if matches!(error, ConnectError::Silent(_)) {
                        add(&self.counting.silent_peers, 1);
                    }
                    self.note(outage.begins(duty, &error.to_string()));
                }
            }
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = sleep(backoff.next()) => {}
            }
        }
    }

    fn note(&self, why: String) {
        *self.last_loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Returns when the link is lost, or the queue closes.
    async fn watch_over(&self, role: &Role, link: &Link) {
        let mut events = Box::pin(link.connection.events_listener());
        loop {
            let event = tokio::select! {
                () = self.closing.cancelled() => return,
                () = link.lost.cancelled() => return,
                event = timeout(LOOK_EVERY, events.next()) => event,
            };
            match event {
                Ok(Some(Event::ConnectionBlocked(reason))) => {
                    tracing::warn!(role = role.duty.as_str(), reason, "the broker takes no publishes now");
                    role.blocked.send_replace(Some(reason));
                }
                Ok(Some(Event::ConnectionUnblocked)) => {
                    tracing::info!(role = role.duty.as_str(), "the broker takes publishes again");
                    role.blocked.send_replace(None);
                }
                // A soft error closed one channel; whoever used that channel gets the error too, and decides.
                Ok(Some(Event::Error(error))) if !error.is_amqp_soft_error() => link.lose(say(&error)),
                Ok(None) => link.lose("the connection ended"),
                Err(_) if !link.connection.status().connected() => link.lose("the connection is closed"),
                // Connected, flow, a channel's error, or nothing new.
                Ok(Some(_)) | Err(_) => {}
            }
        }
    }
}

/// One outage is logged once when it begins and once when it is over.
#[derive(Default)]
struct Outage {
    logged: bool,
}

impl Outage {
    fn begins(&mut self, duty: Duty, why: &str) -> String {
        if self.logged {
            tracing::debug!(role = duty.as_str(), why, "still no connection to the broker");
        } else {
            tracing::warn!(role = duty.as_str(), why, "no connection to the broker; trying again until there is one");
        }
        self.logged = true;
        why.to_owned()
    }

    fn over(&mut self, duty: Duty, address: &Address) {
        tracing::info!(role = duty.as_str(), %address, "connected to the broker");
        self.logged = false;
    }
}

async fn connect(address: &Address, config: &Config, duty: Duty) -> Result<Link, ConnectError> {
    let mut link = Link::connect(address, config, duty.as_str(), CONNECT_LIMIT).await?;
    if duty == Duty::Publish {
        match timeout(STEP_LIMIT, confirm_channels(&link)).await {
            Ok(Ok(channels)) => link.publish_channels = channels,
            outcome => {
                link.sever();
                let problem = match outcome {
                    Ok(Err(error)) => say(&error),
                    _ => format!("no channel within {STEP_LIMIT:?}"),
                };
                return Err(ConnectError::Failed { address: address.clone(), problem });
            }
        }
    }
    Ok(link)
}

async fn confirm_channels(link: &Link) -> Result<Vec<lapin::Channel>, lapin::Error> {
    let mut channels = Vec::with_capacity(PUBLISH_CHANNELS);
    for _ in 0..PUBLISH_CHANNELS {
        let channel = link.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channels.push(channel);
    }
    Ok(channels)
}

/// Ready messages of a queue, by a passive declaration on the link's own channel for that.
pub(crate) async fn ready(link: &Link, queue: &'static str) -> Result<u64, lapin::Error> {
    let mut admin = link.admin.lock().await;
    // Taken out while in use: a channel on which a declaration failed is closed by the broker.
    let channel = match admin.take() {
        Some(channel) => channel,
        None => link.connection.create_channel().await?,
    };
    let passive = options::QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = channel.queue_declare(queue.into(), passive, Default::default()).await?;
    *admin = Some(channel);
    Ok(u64::from(declared.message_count()))
}
