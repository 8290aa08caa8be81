//! The connections to FCM: which one a push takes, and when one is replaced.
//!
//! Stands between [`crate::Client::send`] and a request. A reqwest client keeps one HTTP/2 connection per host, and FCM
//! closes a connection with more than 100 streams (firebase-admin-node issues 2488 and 2943): so there are several
//! clients with 100 places each, and a push takes the emptiest. Never queues on a connection: what waits for a place is
//! surely not sent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Certificate;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::config::ConfigError;

/// Streams on one connection, at most.
pub(crate) const STREAMS: usize = 100;
/// So many requests of one connection in a row without an answer: the connection is taken for dead and replaced.
const SILENT_IN_A_ROW: u32 = 3;
/// So many pushes of one connection in a row that the server reset, each begun after the one before ended: replaced too.
/// reqwest has sent each of those that were refused three times.
const FRUITLESS_IN_A_ROW: u32 = 2;
/// A connection is replaced no more often than this: where each new one is as bad, the trouble isn't the connection's.
const REPLACE_EVERY: Duration = Duration::from_secs(10);
/// A request that was given up sooner says nothing about its connection: FCM may take 10 s.
const WITNESS: Duration = Duration::from_secs(10);
/// FCM answers frequent pings with ENHANCE_YOUR_CALM: not more often than this, and only while streams are open.
const PING_EVERY: Duration = Duration::from_secs(60);
/// A ping not acknowledged within this time means that the connection is dead.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is kept this long: new handshakes are what makes slow calls.
const IDLE: Duration = Duration::from_secs(300);

/// How a connection's client is made.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) roots: Option<Vec<Certificate>>,
    pub(crate) connect_timeout: Duration,
    /// HTTP/2 without asking: so that a burst on a cold client opens one connection and not one per request.
    pub(crate) only_http2: bool,
}

impl Http {
    pub(crate) fn client(&self) -> Result<reqwest::Client, ConfigError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(false)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if self.only_http2 {
            builder = builder.http2_prior_knowledge();
        }
        if let Some(roots) = &self.roots {
            builder = builder.tls_certs_only(roots.iter().cloned());
        }
        // reqwest's own retries stay on: it repeats only what the server surely did not process (REFUSED_STREAM, a GOAWAY
        // without error), twice at most.
        builder.build().map_err(|error| ConfigError::Http { problem: chain(&error) })
    }
}

/// An error with its causes, without the address it carries.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[derive(Debug)]
struct Lane {
    in_flight: AtomicUsize,
    connection: Mutex<Connection>,
}

#[derive(Debug)]
struct Connection {
    client: reqwest::Client,
    /// Pushes in a row that got no answer in time.
    silent: u32,
    /// Pushes in a row that were reset, and when the last of them was.
    fruitless: u32,
    fruitless_at: Option<Instant>,
    replaced_at: Option<Instant>,
}

impl Connection {
    fn new(client: reqwest::Client, replaced_at: Option<Instant>) -> Self {
        Self { client, silent: 0, fruitless: 0, fruitless_at: None, replaced_at }
    }
}

impl Lane {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lanes {
    http: Http,
    lanes: Vec<Lane>,
    /// See [`WITNESS`]; less if a request may not take that long at all.
    witness: Duration,
    places: Semaphore,
}

impl Lanes {
    pub(crate) fn new(http: Http, count: usize, request_timeout: Duration) -> Result<Self, ConfigError> {
        let lanes = (0..count)
            .map(|_| {
                let connection = Mutex::new(Connection::new(http.client()?, None));
                Ok(Lane { in_flight: AtomicUsize::new(0), connection })
            })
            .collect::<Result<Vec<_>, ConfigError>>()?;
        let places = Semaphore::new(count.saturating_mul(STREAMS).min(Semaphore::MAX_PERMITS));
        Ok(Self { http, lanes, witness: WITNESS.min(request_timeout / 2), places })
    }

    /// A place on the emptiest connection; waits in line for one. None when closed.
    pub(crate) async fn acquire(&self) -> Option<Place<'_>> {
        let permit = self.places.acquire().await.ok()?;
        // There are as many permits as places, so some lane has one free. Two may look at the same moment; then the loser
        // looks again.
        loop {
            let (index, taken) = self
                .lanes
                .iter()
                .map(|lane| lane.in_flight.load(Ordering::Acquire))
                .enumerate()
                .min_by_key(|(_, taken)| *taken)?;
            let lane = &self.lanes[index];
            let won = lane.in_flight.compare_exchange(taken, taken + 1, Ordering::AcqRel, Ordering::Acquire);
            if won.is_ok() {
                let (since, concluded) = (Instant::now(), AtomicBool::new(false));
                return Some(Place { lanes: self, lane, since, concluded, _permit: permit });
            }
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.lanes.iter().map(|lane| lane.in_flight.load(Ordering::Acquire)).sum()
    }

    /// Takes no more pushes and waits for those in flight.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(self.lanes.len().saturating_mul(STREAMS)).unwrap_or(u32::MAX);
        if let Ok(permits) = self.places.acquire_many(all).await {
            permits.forget();
        }
        self.places.close();
    }
}

/// A place on a connection. Dropped without a word after a while, it counts as silence.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    lanes: &'a Lanes,
    lane: &'a Lane,
    since: Instant,
    concluded: AtomicBool,
    _permit: SemaphorePermit<'a>,
}

impl Place<'_> {
    pub(crate) fn client(&self) -> reqwest::Client {
        self.lane.connection().client.clone()
    }

    /// An answer came, all of it: the connection is well.
    pub(crate) fn answered(&self) {
        let mut connection = self.lane.connection();
        (connection.silent, connection.fruitless, connection.fruitless_at) = (0, 0, None);
        self.concluded.store(true, Ordering::Release);
    }

    /// The request failed, and reqwest knows why: it replaces a connection that broke by itself.
    pub(crate) fn failed(&self) {
        self.concluded.store(true, Ordering::Release);
    }

    /// The server ended the stream without an answer. Once, that says nothing about the connection; in a row it does.
    pub(crate) fn fruitless(&self) {
        self.concluded.store(true, Ordering::Release);
        let mut connection = self.lane.connection();
        if connection.fruitless_at.is_some_and(|at| self.since < at) {
            return;
        }
        connection.fruitless += 1;
        connection.fruitless_at = Some(Instant::now());
        if connection.fruitless >= FRUITLESS_IN_A_ROW {
            self.replace(&mut connection, "only refuses");
        }
    }

    fn silent(&self) {
        let mut connection = self.lane.connection();
        connection.silent += 1;
        if connection.silent >= SILENT_IN_A_ROW {
            self.replace(&mut connection, "is silent");
        }
    }

    /// The next push makes a new connection; what is in flight on the old one may finish.
    fn replace(&self, connection: &mut Connection, why: &str) {
        if connection.replaced_at.is_some_and(|at| at.elapsed() < REPLACE_EVERY) {
            return;
        }
        match self.lanes.http.client() {
            Ok(client) => {
                tracing::warn!("a connection to FCM {why}; replaced");
                *connection = Connection::new(client, Some(Instant::now()));
            }
            Err(error) => tracing::error!(%error, "a connection to FCM {why} and can't be replaced"),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lane.in_flight.fetch_sub(1, Ordering::AcqRel);
        if !*self.concluded.get_mut() && self.since.elapsed() >= self.lanes.witness {
            self.silent();
        }
    }
}
