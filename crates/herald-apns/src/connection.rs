//! One connection to APNs: made, driven, and noticed when it is dead.
//!
//! Stands under the pool, which decides when to connect and which connection to use. What this module adds to h2: the
//! host is resolved anew for each connection, and connections spread over its addresses (Apple, "Communicating with
//! APNs"); a connection is handed over once the server has spoken HTTP/2; each SETTINGS frame's stream limit is reported to
//! the pool as soon as it is read; PINGs find a peer that went silent. Never retries.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::config::Endpoint;
use crate::pool::Pool;

/// At most this many of a host's addresses are tried for one connection.
const ADDRESSES: usize = 3;

/// What h2 drives.
pub(crate) type Driver = h2::client::Connection<TlsStream<TcpStream>, Bytes>;

/// A connection that has begun.
pub(crate) struct Connected {
    pub(crate) sender: SendRequest<Bytes>,
    pub(crate) driver: Driver,
    ping_pong: h2::PingPong,
}

/// How to connect, and when to give a connection up.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) endpoint: Endpoint,
    pub(crate) connect_to: Option<SocketAddr>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) connect_timeout: Duration,
    pub(crate) keep_alive_interval: Duration,
    pub(crate) keep_alive_timeout: Duration,
    /// A connection that is left may finish its streams for this long: no request waits longer.
    pub(crate) drain_limit: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the host has no address")]
    NoAddress,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server does not speak HTTP/2 (ALPN h2)")]
    NotHttp2,
    #[error("HTTP/2 handshake: {0}")]
    Http2(#[from] h2::Error),
    #[error("the server closed the connection before it said a word of HTTP/2")]
    Ended,
    #[error("not connected within {0:?}")]
    Late(Duration),
}

impl Dialer {
    /// DNS, TCP, TLS, and HTTP/2 until the server has answered a PING.
    pub(crate) async fn connect(&self) -> Result<Connected, ConnectError> {
        timeout(self.connect_timeout, self.dial()).await.map_err(|_| ConnectError::Late(self.connect_timeout))?
    }

    async fn dial(&self) -> Result<Connected, ConnectError> {
        let tcp = self.reach(&self.addresses().await?).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(self.endpoint.server_name.clone(), tcp).await?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::NotHttp2);
        }
        let (sender, mut driver) = h2::client::Builder::new()
            // APNs refuses a second stream before the first authenticated answer, and its SETTINGS may come after our
            // first requests: 1 until it says otherwise.
            .initial_max_send_streams(1)
            .enable_push(false)
            .handshake(tls)
            .await?;
        // h2 doesn't wait for the server. We do, so that no push is written to a connection that ends before HTTP/2 has
        // begun (a proxy whose backend is away): what came of it would be unknown.
        let mut ping_pong = driver.ping_pong().ok_or(ConnectError::Ended)?;
        tokio::select! {
            answered = ping_pong.ping(h2::Ping::opaque()) => {
                answered?;
            }
            ended = &mut driver => return Err(ended.err().map_or(ConnectError::Ended, ConnectError::Http2)),
        }
        Ok(Connected { sender, driver, ping_pong })
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Some(address) = self.connect_to {
            return Ok(vec![address]);
        }
        let mut found: Vec<SocketAddr> =
            tokio::net::lookup_host((self.endpoint.host.as_str(), self.endpoint.port)).await?.collect();
        if found.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let first = usize::try_from(backoff::random() % found.len() as u64).unwrap_or(0);
        found.rotate_left(first);
        found.truncate(ADDRESSES);
        Ok(found)
    }

    /// The first address that answers; each has its share of the time.
    async fn reach(&self, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
        let share = self.connect_timeout / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let mut last = ConnectError::NoAddress;
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => last = error.into(),
                Err(_late) => last = ConnectError::Late(share),
            }
        }
        Err(last)
    }
}

/// Drives a connection until it ends, and tells the pool what it sees. `leave` is cancelled when the pool wants no new
/// streams on it: then it ends as soon as its streams have, at the latest after the drain limit.
pub(crate) async fn drive(pool: &Pool, id: u64, connected: Connected, leave: CancellationToken) {
    let Connected { sender: probe, mut driver, ping_pong } = connected;
    let dialer = &pool.dialer;
    let mut keep_alive = std::pin::pin!(keep_alive(ping_pong, dialer));
    // The probe shows a GOAWAY, and keeps an idle connection open: h2 closes one to which nothing refers.
    let mut probe = Some(probe);
    let mut drained_by = Instant::now() + dialer.drain_limit;
    let mut limit = 0;
    loop {
        tokio::select! {
            // Dropping the driver in any other arm ends the streams that are left; they become Broken.
            () = poll_fn(|cx| poll_connection(pool, id, &mut driver, &mut probe, &mut limit, cx)) => break,
            () = leave.cancelled(), if probe.is_some() => {
                pool.leave(id);
                probe = None;
                drained_by = Instant::now() + dialer.drain_limit;
            }
            () = sleep_until(drained_by), if probe.is_none() => break,
            () = &mut keep_alive => {
                tracing::warn!(host = %dialer.endpoint.host, "APNs connection answers no PING; replaced");
                break;
            }
        }
    }
    drop(driver);
    pool.ended(id);
}

fn poll_connection(
    pool: &Pool,
    id: u64,
    driver: &mut Driver,
    probe: &mut Option<SendRequest<Bytes>>,
    limit: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let polled = Pin::new(&mut *driver).poll(cx);
    if *limit != driver.max_concurrent_send_streams() {
        *limit = driver.max_concurrent_send_streams();
        pool.limit(id, *limit);
    }
    if let Some(sender) = probe
        && let Poll::Ready(Err(error)) = sender.poll_ready(cx)
    {
        let reason = go_away_reason(&error).unwrap_or_else(|| error.to_string());
        tracing::info!(host = %pool.dialer.endpoint.host, %reason, "APNs closes a connection");
        if error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
            pool.calm();
        }
        pool.leave(id);
        *probe = None;
    }
    polled.map(|_ended| ())
}

/// Pings until an acknowledgement is missing. Never ends otherwise.
async fn keep_alive(mut ping_pong: h2::PingPong, dialer: &Dialer) {
    loop {
        sleep(dialer.keep_alive_interval).await;
        match timeout(dialer.keep_alive_timeout, ping_pong.ping(h2::Ping::opaque())).await {
            Ok(Ok(_pong)) => {}
            // The connection has ended, which its driver sees too.
            Ok(Err(_ended)) => return std::future::pending().await,
            Err(_silent) => return,
        }
    }
}

#[derive(Deserialize)]
struct Debug {
    reason: String,
}

/// APNs puts `{"reason":"…"}` into GOAWAY's debug data, and h2 shows that only in its message, as an escaped byte string.
fn go_away_reason(error: &h2::Error) -> Option<String> {
    reason_in(&error.to_string())
}

fn reason_in(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("(b\"")?;
    let debug = rest.strip_suffix("\")")?.replace("\\\"", "\"");
    let debug: Debug = serde_json::from_str(&debug).ok()?;
    Some(debug.reason.chars().filter(char::is_ascii_graphic).take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_goaway_is_found_in_the_words_of_h2() {
        let message = r#"connection error received: not a result of an error (b"{\"reason\":\"Shutdown\"}")"#;
        assert_eq!(reason_in(message).as_deref(), Some("Shutdown"));
        assert_eq!(reason_in("connection error received: not a result of an error"), None);
        assert_eq!(reason_in(r#"connection error received: x (b"<html>")"#), None);
    }
}
