//! The way of one push: token, connection, exchange, and at most a few tries of what was surely not processed.
//!
//! Stands between the worker and APNs. Brings back bytes and a status; what they mean is decided in
//! `herald_core::outcome`. Never sends again what may have been processed.

use std::sync::Arc;
use std::time::Duration;

use herald_core::outcome::{Answer, Undelivered};
use herald_core::push::ApnsPush;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{self, Config, ConfigError, Endpoint};
use crate::connection::Dialer;
use crate::exchange::{Exchange, exchange};
use crate::pool::Pool;
use crate::remedy::{Remedy, remedy};
use crate::request::PushRequest;
use crate::token::{Instead, Token, Tokens};

/// A push that was surely not processed is tried this often before it goes back as not sent: the worker's schedule is
/// the better place for patience.
const TRIES: u32 = 3;

/// A client for one (team, key, environment): APNs binds a connection to those with its first push, so they must not be
/// mixed. Cloning shares everything. Dropping the last clone closes the connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    authority: String,
    request_timeout: Duration,
    tokens: Tokens,
    pool: Arc<Pool>,
    /// Dropping it tells all drivers to finish.
    _leave_all: DropGuard,
}

/// What a client is doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Pushes written and not answered.
    pub in_flight: usize,
    /// Open connections that take pushes.
    pub connections: usize,
    /// Connects begun since the start.
    pub connects: u64,
}

impl Client {
    /// Checks everything that can be checked without the network. Connects when the first push comes.
    ///
    /// # Errors
    /// [`ConfigError`] says which setting is wrong and what to do.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::parse(&config.url)?;
        config::check_id("team_id", &config.team_id)?;
        config::check_id("key_id", &config.key_id)?;
        config::check_limits(&config)?;
        let tokens = Tokens::new(&config.team_id, &config.key_id, &config.key_pem, config.now, config.monotonic)?;
        let authority = endpoint.authority.clone();
        let dialer = Dialer {
            endpoint,
            connect_to: config.connect_to,
            tls: config::tls(config.ca_pem.as_deref())?,
            connect_timeout: config.connect_timeout,
            keep_alive_interval: config.keep_alive_interval,
            keep_alive_timeout: config.keep_alive_timeout,
            drain_limit: config.request_timeout,
        };
        let leave_all = CancellationToken::new();
        let pool = Pool::new(
            dialer,
            config.max_connections,
            config.streams_per_connection,
            config.connects_per_minute,
            leave_all.clone(),
        );
        let inner = Inner {
            authority,
            request_timeout: config.request_timeout,
            tokens,
            pool,
            _leave_all: leave_all.drop_guard(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sends one push and brings back APNs' answer, whatever it is. Takes at most the configured `request_timeout`.
    ///
    /// A few answers about our connection or token are healed first, once: see the crate's README.
    ///
    /// # Errors
    /// [`Undelivered::NotSent`]: APNs surely did not process it. [`Undelivered::Unknown`]: it may have.
    ///
    /// Dropping the future before it ends resets the stream; the push may have been processed.
    pub async fn send(&self, push: &ApnsPush) -> Result<Answer, Undelivered> {
        let request = PushRequest::new(&self.inner.authority, push)?;
        let deadline = Instant::now() + self.inner.request_timeout;
        let mut newer_than = 0;
        let mut healed = false;
        let mut tries = 0;
        while tries < TRIES {
            tries += 1;
            let acquired = timeout_at(deadline, self.inner.pool.acquire(newer_than)).await;
            let Ok(Ok(permit)) = acquired else {
                return Err(Undelivered::NotSent);
            };
            let connection = permit.connection();
            // Only now: what waited in line goes out with the token of this moment.
            let token = self.token()?;
            match exchange(permit.sender(), &request, &token.bearer, deadline).await {
                Exchange::Answered(answer) => {
                    permit.answered();
                    if healed || !self.heal(&answer, connection, &token) {
                        return Ok(answer);
                    }
                    (healed, newer_than, tries) = (true, connection, 0);
                }
                // The permit is dropped without a word, here and below: the pool sees the silence.
                Exchange::Stalled(answer) => return Ok(answer),
                Exchange::Refused => permit.fruitless(),
                Exchange::Closing => permit.closing(),
                Exchange::NoRoom => return Err(Undelivered::NotSent),
                Exchange::Broken => {
                    permit.fruitless();
                    return Err(Undelivered::Unknown);
                }
                Exchange::Silent => return Err(Undelivered::Unknown),
            }
        }
        Err(Undelivered::NotSent)
    }

    /// Whether the push may be sent once more, because what APNs refused it for has been mended.
    fn heal(&self, answer: &Answer, connection: u64, used: &Arc<Token>) -> bool {
        let Some(remedy) = remedy(answer) else {
            return false;
        };
        let (tokens, pool) = (&self.inner.tokens, &self.inner.pool);
        let instead = match remedy {
            Remedy::OtherConnection => Instead::Other,
            Remedy::NewerToken => tokens.instead_of(used),
            Remedy::TokenOfMendedClock => tokens.instead_of_mistimed(used),
        };
        // Said once per connection, however many pushes it refused.
        if remedy.leaves_connection() && pool.leave(connection) {
            tracing::warn!(
                status = answer.status,
                ?remedy,
                connection,
                "APNs refuses our connection or token; connection left"
            );
        }
        match instead {
            Instead::None => false,
            Instead::Other => true,
            Instead::Early => {
                tracing::warn!("the clock was set since the APNs token was minted; new token, new connections");
                pool.leave_open();
                true
            }
        }
    }

    fn token(&self) -> Result<Arc<Token>, Undelivered> {
        self.inner.tokens.current().map_err(|error| {
            tracing::error!(%error, "the APNs key does not sign any more");
            Undelivered::NotSent
        })
    }

    /// Takes no more pushes, lets those in flight finish (at most `request_timeout`), and closes all connections.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// What it is doing now.
    pub fn stats(&self) -> Stats {
        let numbers = self.inner.pool.numbers();
        Stats { in_flight: numbers.in_flight, connections: numbers.connections, connects: numbers.connects }
    }
}
