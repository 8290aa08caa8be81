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
//! - it does nothing but refuse: [`FRUITLESS`] pushes in a row came to nothing, each begun after the one before ended;
//! - an answer showed that the connection is bound to another key or token ([`crate::remedy`]).
//!
//! Another is opened when none can be used, and when the first in line has waited [`GROW_AFTER`]. One connect at a time,
//! and only when [`Pace`] allows it.

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
use crate::pace::Pace;

/// The first in line waits this long for a place before another connection is opened.
const GROW_AFTER: Duration = Duration::from_millis(100);
/// The same while a connection is open that has not answered yet: APNs allows one stream until then, and that is no
/// reason for another connection.
const GROW_UNANSWERED_AFTER: Duration = Duration::from_secs(2);

/// So many pushes in a row that the server refused or reset, without an answer between them, and the connection is left: a
/// refusal is about a limit that shrinks, and who sees the new limit is not refused again. Pushes that were in flight
/// together count as one.
const FRUITLESS: u32 = 2;

/// Why there is no connection for a push. It was surely not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoConnection {
    /// None is open, and another may not be opened yet.
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

#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    last_id: u64,
    connecting: bool,
    closed: bool,
    pace: Pace,
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
    opened: Instant,
    last_answer: Option<Instant>,
    /// Pushes in a row that came to nothing, and when the last of them did.
    fruitless: u32,
    fruitless_at: Option<Instant>,
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
        connects_per_minute: usize,
        leave_all: CancellationToken,
    ) -> Arc<Self> {
        let pace = Pace::new(connects_per_minute);
        let state = State { slots: Vec::new(), last_id: 0, connecting: false, closed: false, pace, connects: 0 };
        Arc::new(Self {
            dialer,
            max_connections,
            streams_per_connection,
            state: Mutex::new(state),
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
        let mut waited = false;
        loop {
            let answered = match self.look(newer_than) {
                Look::Place(id, sender) => {
                    return Ok(Permit { pool: Arc::clone(self), id, sender, since: Instant::now(), concluded: false });
                }
                Look::None(why) => return Err(why),
                Look::Wait { answered } => answered,
            };
            // After the look: a place may have come free in the same moment.
            if waited {
                self.grow();
                grow_from = Instant::now();
            }
            let patience = if answered { GROW_AFTER } else { GROW_UNANSWERED_AFTER };
            waited = tokio::select! {
                _told = changed.changed() => false,
                () = sleep_until(grow_from + patience) => true,
            };
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
        if !state.pace.may_begin(Instant::now()) {
            return Look::None(NoConnection::Unreachable);
        }
        self.open(&mut state);
        Look::Wait { answered: false }
    }

    /// One more connection, if the bounds allow it.
    fn grow(self: &Arc<Self>) {
        let mut state = self.lock();
        let usable = state.slots.iter().filter(|slot| slot.sender.is_some()).count();
        let may_begin = state.pace.may_begin(Instant::now());
        if usable < self.max_connections && !state.connecting && may_begin && !state.closed {
            self.open(&mut state);
        }
    }

    fn open(self: &Arc<Self>, state: &mut State) {
        state.connecting = true;
        state.connects += 1;
        state.last_id += 1;
        if state.pace.begin(Instant::now()) {
            tracing::warn!(host = %self.dialer.endpoint.host, "as many connects to APNs as a minute may have; no more until it is over");
        }
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
            Ok(connected) => {
                let leave = self.leave_all.child_token();
                let limit = connected.driver.max_concurrent_send_streams();
                self.opened(id, connected.sender.clone(), leave.clone(), limit);
                connection::drive(self, id, connected, leave).await;
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
        state.slots.push(Slot {
            id,
            sender: Some(sender),
            leave,
            in_flight: 0,
            limit,
            opened: Instant::now(),
            last_answer: None,
            fruitless: 0,
            fruitless_at: None,
        });
        drop(state);
        self.changed.send_replace(());
    }

    /// A connect failed. Returns how long there will be none.
    fn failed(&self) -> Duration {
        let mut state = self.lock();
        state.connecting = false;
        let rest = state.pace.failed(Instant::now(), backoff::random());
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

    /// All connections that are open now are left: none of them may see another token.
    pub(crate) fn leave_open(&self) {
        let open: Vec<u64> = self.lock().slots.iter().map(|slot| slot.id).collect();
        for id in open {
            self.leave(id);
        }
    }

    /// The server asks for calm: no connect for a while.
    pub(crate) fn calm(&self) {
        self.lock().pace.calmed(Instant::now(), backoff::random());
    }

    /// A connection is gone.
    pub(crate) fn ended(&self, id: u64) {
        let mut state = self.lock();
        let Some(at) = state.slots.iter().position(|slot| slot.id == id) else {
            return;
        };
        if state.slots.swap_remove(at).last_answer.is_none() {
            state.pace.barren(Instant::now(), backoff::random());
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
        let State { slots, pace, .. } = &mut *state;
        if let Some(slot) = slots.iter_mut().find(|slot| slot.id == self.id) {
            slot.last_answer = Some(Instant::now());
            (slot.fruitless, slot.fruitless_at) = (0, None);
            pace.answered(slot.opened);
        } else {
            // It has ended with this answer, so its end was counted as that of one that never answered.
            pace.answered(Instant::now());
        }
    }

    /// The server ended the stream without an answer. Once, that says nothing about the connection; in a row it does.
    pub(crate) fn fruitless(mut self) {
        self.concluded = true;
        let mut state = self.pool.lock();
        let mut wedged = false;
        if let Some(slot) = state.slots.iter_mut().find(|slot| slot.id == self.id)
            && slot.fruitless_at.is_none_or(|at| at <= self.since)
        {
            slot.fruitless += 1;
            slot.fruitless_at = Some(Instant::now());
            wedged = slot.fruitless >= FRUITLESS && slot.sender.is_some();
        }
        drop(state);
        if wedged {
            tracing::warn!(host = %self.pool.dialer.endpoint.host, connection = self.id, "APNs connection only refuses; replaced");
            self.pool.leave(self.id);
        }
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
