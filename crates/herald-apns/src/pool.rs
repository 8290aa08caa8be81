//! The connections of one client: which one a push takes, when another is opened, when one is left.
//!
//! Stands between [`crate::Client::send`] and a connection. A push gets a [`Permit`] for the connection with the least in
//! flight; the pushes that find none wait in line, first come, first served. Never queues on a connection: what waits is
//! surely not sent, and goes to whichever connection is free first.
//!
//! A connection takes as many pushes as the server's last SETTINGS frame and the configuration allow. It is **left** (no
//! new pushes; those in flight may finish) when
//! - the server sent GOAWAY: it takes no more;
//! - it was silent: a push got no answer in time, and no other push got one since that was written. The connection is
//!   wedged, or the server behind it is;
//! - an answer showed that the connection is bound to another key or token ([`crate::remedy`]).
//!
//! Another is opened when none can be used, and when the first in line has waited [`GROW_AFTER`]. One connect at a time,
//! and none before the back-off's end: Apple treats repeated opening and closing as an attack.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff;
use crate::connection::{self, Dialer};

/// The first in line waits this long for a place before another connection is opened.
const GROW_AFTER: Duration = Duration::from_millis(100);
/// The same while a connection is open that has not answered yet: APNs allows one stream until then, and that is no
/// reason for another connection.
const GROW_UNANSWERED_AFTER: Duration = Duration::from_secs(2);

/// Why there is no connection for a push. It was surely not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoConnection {
    /// None is open, and the back-off has not ended.
    Unreachable,
    /// [`Pool::close`] was called.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) dialer: Dialer,
    max_connections: usize,
    streams_per_connection: usize,
    state: Mutex<State>,
    /// Held by the first in line; tokio's mutex serves in order.
    line: tokio::sync::Mutex<()>,
    /// Told whenever the first in line may find a place.
    changed: watch::Sender<()>,
    /// Owns the drivers; `close` waits for it.
    tasks: TaskTracker,
    /// Cancelled when all connections are to be left.
    leave_all: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Slot>,
    last_id: u64,
    connecting: bool,
    closed: bool,
    /// Connects that failed since the last answer.
    failed: u32,
    /// Connections that ended without having answered anything, since the last answer.
    barren: u32,
    not_before: Option<Instant>,
    /// Connects begun since the start.
    connects: u64,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    /// None once the connection is left: h2 closes it when nothing refers to it.
    sender: Option<SendRequest<Bytes>>,
    leave: CancellationToken,
    in_flight: usize,
    limit: usize,
    last_answer: Option<Instant>,
}

/// What a look at the slots says.
enum Look {
    Place(u64, SendRequest<Bytes>),
    Wait { answered: bool },
    None(NoConnection),
}

/// Numbers for [`crate::Stats`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) in_flight: usize,
    pub(crate) connections: usize,
    pub(crate) connects: u64,
}

impl Pool {
    pub(crate) fn new(
        dialer: Dialer,
        max_connections: usize,
        streams_per_connection: usize,
        leave_all: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            dialer,
            max_connections,
            streams_per_connection,
            state: Mutex::default(),
            line: tokio::sync::Mutex::new(()),
            changed: watch::Sender::new(()),
            tasks: TaskTracker::new(),
            leave_all,
        })
    }

    /// A place on a connection, waiting for one if need be; on one newer than `newer_than`, if that can be had. The caller
    /// limits the wait: dropping this future leaves the line.
    pub(crate) async fn acquire(self: &Arc<Self>, newer_than: u64) -> Result<Permit, NoConnection> {
        // Who needs a newer connection does not hold up the line for it.
        let _first_in_line = if newer_than == 0 { Some(self.line.lock().await) } else { None };
        let mut changed = self.changed.subscribe();
        let since = Instant::now();
        let mut grow_from = since;
        loop {
            let answered = match self.look(newer_than) {
                Look::Place(id, sender) => {
                    return Ok(Permit { pool: Arc::clone(self), id, sender, since: Instant::now(), concluded: false });
                }
                Look::None(why) => return Err(why),
                Look::Wait { answered } => answered,
            };
            let patience = if answered { GROW_AFTER } else { GROW_UNANSWERED_AFTER };
            tokio::select! {
                _told = changed.changed() => {}
                () = sleep_until(grow_from + patience) => {
                    self.grow();
                    grow_from = Instant::now();
                }
            }
        }
    }

    /// Takes a place if there is one; opens a connection if there is none to wait for.
    fn look(self: &Arc<Self>, newer_than: u64) -> Look {
        let mut state = self.lock();
        if state.closed {
            return Look::None(NoConnection::Closed);
        }
        let usable = state.slots.iter().filter(|slot| slot.sender.is_some()).count();
        // With all connections older and no room for another, an older one must do.
        let newer_than = if usable >= self.max_connections { 0 } else { newer_than };
        let cap = self.streams_per_connection;
        let candidates = || state.slots.iter().filter(|slot| slot.sender.is_some() && slot.id > newer_than);
        let answered = candidates().all(|slot| slot.last_answer.is_some());
        let any = candidates().next().is_some();
        let best = state
            .slots
            .iter_mut()
            .filter(|slot| slot.id > newer_than && slot.in_flight < slot.limit.min(cap))
            .filter(|slot| slot.sender.is_some())
            .min_by_key(|slot| slot.in_flight);
        if let Some(slot) = best
            && let Some(sender) = &slot.sender
        {
            let sender = sender.clone();
            slot.in_flight += 1;
            return Look::Place(slot.id, sender);
        }
        if any || state.connecting {
            return Look::Wait { answered };
        }
        if state.not_before.is_some_and(|until| Instant::now() < until) {
            return Look::None(NoConnection::Unreachable);
        }
        self.open(&mut state);
        Look::Wait { answered: false }
    }

    /// One more connection, if the bounds allow it.
    fn grow(self: &Arc<Self>) {
        let mut state = self.lock();
        let usable = state.slots.iter().filter(|slot| slot.sender.is_some()).count();
        let resting = state.not_before.is_some_and(|until| Instant::now() < until);
        if usable < self.max_connections && !state.connecting && !resting && !state.closed {
            self.open(&mut state);
        }
    }

    fn open(self: &Arc<Self>, state: &mut State) {
        state.connecting = true;
        state.connects += 1;
        state.last_id += 1;
        let (pool, id) = (Arc::clone(self), state.last_id);
        self.tasks.spawn(async move { pool.live(id).await });
    }

    /// A connection's whole life.
    async fn live(&self, id: u64) {
        let connected = tokio::select! {
            connected = self.dialer.connect() => connected,
            () = self.leave_all.cancelled() => {
                self.lock().connecting = false;
                self.changed.send_replace(());
                return;
            }
        };
        match connected {
            Ok((sender, driver)) => {
                let leave = self.leave_all.child_token();
                self.opened(id, sender.clone(), leave.clone(), driver.max_concurrent_send_streams());
                connection::drive(self, id, driver, sender, leave).await;
            }
            Err(error) => {
                let rest = self.failed();
                let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(host = %self.dialer.endpoint.host, %error, rest_ms, "no connection to APNs");
            }
        }
    }

    fn opened(&self, id: u64, sender: SendRequest<Bytes>, leave: CancellationToken, limit: usize) {
        tracing::info!(host = %self.dialer.endpoint.host, connection = id, "connected to APNs");
        let mut state = self.lock();
        state.connecting = false;
        state.slots.push(Slot { id, sender: Some(sender), leave, in_flight: 0, limit, last_answer: None });
        drop(state);
        self.changed.send_replace(());
    }

    /// A connect failed. Returns how long there will be none.
    fn failed(&self) -> Duration {
        let mut state = self.lock();
        state.connecting = false;
        state.failed = state.failed.saturating_add(1);
        let rest = backoff::delay(state.failed, backoff::UNREACHABLE, backoff::random());
        state.not_before = Some(Instant::now() + rest);
        drop(state);
        self.changed.send_replace(());
        rest
    }

    /// A connection's stream limit, as the last SETTINGS frame has it.
    pub(crate) fn limit(&self, id: u64, limit: usize) {
        let mut state = self.lock();
        let Some(slot) = state.slots.iter_mut().find(|slot| slot.id == id && slot.limit != limit) else {
            return;
        };
        slot.limit = limit;
        drop(state);
        self.changed.send_replace(());
    }

    /// No new pushes on this connection; those in flight may finish. True for the first who says so.
    pub(crate) fn leave(&self, id: u64) -> bool {
        let mut state = self.lock();
        let mut first = false;
        if let Some(slot) = state.slots.iter_mut().find(|slot| slot.id == id) {
            first = slot.sender.take().is_some();
            slot.leave.cancel();
        }
        drop(state);
        self.changed.send_replace(());
        first
    }

    /// A connection is gone. The first that goes without an answer costs nothing (a server may refuse one stream and
    /// close); from the second in a row on, the back-off applies.
    pub(crate) fn ended(&self, id: u64) {
        let mut state = self.lock();
        let Some(at) = state.slots.iter().position(|slot| slot.id == id) else {
            return;
        };
        if state.slots.swap_remove(at).last_answer.is_none() {
            state.barren = state.barren.saturating_add(1);
            let rest = backoff::delay(state.barren - 1, backoff::BARREN, backoff::random());
            state.not_before = Some(Instant::now() + rest);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Takes no more pushes, lets those in flight finish, and waits until all connections are closed.
    pub(crate) async fn close(&self) {
        self.lock().closed = true;
        self.changed.send_replace(());
        self.leave_all.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn numbers(&self) -> Numbers {
        let state = self.lock();
        Numbers {
            in_flight: state.slots.iter().map(|slot| slot.in_flight).sum(),
            connections: state.slots.iter().filter(|slot| slot.sender.is_some()).count(),
            connects: state.connects,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place on a connection. Dropped without a word, it counts as silence: the caller stopped waiting.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    pool: Arc<Pool>,
    id: u64,
    sender: SendRequest<Bytes>,
    since: Instant,
    concluded: bool,
}

impl Permit {
    /// Which connection.
    pub(crate) const fn connection(&self) -> u64 {
        self.id
    }

    pub(crate) const fn sender(&self) -> &SendRequest<Bytes> {
        &self.sender
    }

    /// An answer came: the connection is well.
    pub(crate) fn answered(mut self) {
        self.concluded = true;
        let mut state = self.pool.lock();
        state.failed = 0;
        state.barren = 0;
        state.not_before = None;
        if let Some(slot) = state.slots.iter_mut().find(|slot| slot.id == self.id) {
            slot.last_answer = Some(Instant::now());
        }
    }

    /// The stream ended without an answer, and that says nothing about the connection.
    pub(crate) fn refused(mut self) {
        self.concluded = true;
    }

    /// The connection takes no more pushes.
    pub(crate) fn closing(mut self) {
        self.concluded = true;
        self.pool.leave(self.id);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        let mut wedged = false;
        if let Some(slot) = state.slots.iter_mut().find(|slot| slot.id == self.id) {
            slot.in_flight = slot.in_flight.saturating_sub(1);
            // Half the drain limit is half the request's time: a push that had waited in line is no witness.
            let waited = self.since.elapsed() >= self.pool.dialer.drain_limit / 2;
            let answered_since = slot.last_answer.is_some_and(|at| at >= self.since);
            wedged = !self.concluded && waited && !answered_since && slot.sender.is_some();
        }
        drop(state);
        if wedged {
            tracing::warn!(host = %self.pool.dialer.endpoint.host, connection = self.id, "APNs connection is silent; replaced");
            self.pool.leave(self.id);
        } else {
            self.pool.changed.send_replace(());
        }
    }
}
