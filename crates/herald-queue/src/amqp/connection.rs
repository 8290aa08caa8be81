//! One connection to one node of the broker, from TCP to AMQP, and the means to end it for good.
//!
//! lapin runs each connection on a thread of its own. To a peer that accepts and stays silent that thread waits for ever,
//! and on a connection whose socket is full it doesn't notice that it was dropped (measured: a thread and a socket for each
//! attempt). So this module keeps a second handle of the socket and shuts it down whenever a link is given up; the thread
//! then reads the end and stops.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config::{Address, Config};
use super::say;

/// How long TCP and TLS, and then all of connecting, may take.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long a polite goodbye may take before the socket is shut.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// A connection that was up once. Whoever notices a failure calls [`Link::lose`]; the supervisor replaces it.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// Channels in confirm mode; empty on a consume link.
    pub(crate) publish_channels: Vec<Channel>,
    /// For passive declarations; made when first wanted, replaced when one failed on it.
    pub(crate) admin: tokio::sync::Mutex<Option<Channel>>,
    /// Cancelled when the link is lost: whoever waits for anything on it waits for this too.
    pub(crate) lost: CancellationToken,
    why: OnceLock<String>,
    socket: Shutter,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0} accepted the connection and then said nothing; is it RabbitMQ, and is it frozen?")]
    Silent(Address),
    #[error("{address}: {problem}")]
    Failed { address: Address, problem: String },
}

impl Link {
    /// Connects to `address` within `limit`, usually [`CONNECT_LIMIT`].
    pub(crate) async fn connect(
        address: &Address,
        config: &Config,
        role: &str,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        let socket = Shutter(Socket::default());
        let tls = OwnedTLSConfig { identity: None, cert_chain: config.ca_pem.clone() };
        let properties =
            ConnectionProperties::default().with_connection_name(format!("{} ({role})", config.name).into());
        let failed = |error: lapin::Error| ConnectError::Failed { address: address.clone(), problem: say(&error) };
        let runtime = lapin::runtime::default_runtime().map_err(failed)?;

        let opened = socket.0.clone();
        let connecting = Connection::connector(
            address.uri.clone(),
            runtime,
            async move |uri: AMQPUri, runtime| {
                let stream = timeout(limit, uri.connect_with_config_async(tls.as_ref(), &runtime))
                    .await
                    .map_err(std::io::Error::from)??;
                let tcp = match &stream {
                    AsyncTcpStream::Plain(tcp) => tcp.get_ref(),
                    AsyncTcpStream::Rustls(tls) => tls.get_ref().0.get_ref(),
                    _ => return Err(std::io::Error::other("unknown kind of stream").into()),
                };
                tcp.set_nodelay(true)?;
                opened.keep(TcpStream::from(tcp.as_fd().try_clone_to_owned()?))?;
                Ok(stream)
            },
            properties,
        );
        match timeout(limit, connecting).await {
            Ok(Ok(connection)) => Ok(Self {
                connection,
                publish_channels: vec![],
                admin: tokio::sync::Mutex::default(),
                lost: CancellationToken::new(),
                why: OnceLock::new(),
                socket,
            }),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => {
                let silent = socket.0.shut();
                Err(if silent {
                    ConnectError::Silent(address.clone())
                } else {
                    let problem = format!("no connection within {limit:?}");
                    ConnectError::Failed { address: address.clone(), problem }
                })
            }
        }
    }

    /// Gives the link up. The first reason counts.
    pub(crate) fn lose(&self, why: impl Into<String>) {
        if self.why.set(why.into()).is_ok() {
            self.lost.cancel();
        }
    }

    /// Why it was given up.
    pub(crate) fn why(&self) -> &str {
        self.why.get().map_or("", String::as_str)
    }

    /// Ends the connection at once.
    pub(crate) fn sever(&self) {
        self.lose("closed");
        self.socket.0.shut();
    }

    /// Says goodbye to the broker, then ends the connection.
    pub(crate) async fn close(&self) {
        match timeout(CLOSE_LIMIT, self.connection.close(200, "OK".into())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the broker was gone before the goodbye"),
            Err(_) => tracing::debug!("the broker did not answer the goodbye"),
        }
        self.sever();
    }
}

/// Shuts the socket when dropped: also when connecting is given up midway.
struct Shutter(Socket);

impl Drop for Shutter {
    fn drop(&mut self) {
        self.0.shut();
    }
}

/// A second handle of a connection's socket, to shut it down.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<SocketState>>);

#[derive(Default)]
enum SocketState {
    #[default]
    Connecting,
    Open(TcpStream),
    Shut,
}

impl Socket {
    /// The connection is open; an error if it was given up meanwhile.
    fn keep(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, SocketState::Shut) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        *state = SocketState::Open(stream);
        Ok(())
    }

    /// Shuts it down, now or as soon as it opens; whether it was open.
    fn shut(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, SocketState::Shut);
        let SocketState::Open(stream) = before else {
            return false;
        };
        if let Err(error) = stream.shutdown(Shutdown::Both) {
            // The peer was faster.
            tracing::trace!(%error, "the socket was closed already");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::amqp::config::addresses;

    /// Threads of this process that carry a connection of lapin.
    #[cfg(target_os = "linux")]
    fn carrying_threads() -> usize {
        let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        names
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .filter(|name| name.trim() == "lapin-io-loop")
            .count()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_peer_that_stays_silent_is_told_apart_and_leaves_no_thread_behind() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::new(format!("amqp://{}", listener.local_addr().unwrap()));
        let address = addresses(&config).unwrap().remove(0);

        for _ in 0..3 {
            let connected = Link::connect(&address, &config, "test", Duration::from_millis(200)).await;
            assert!(matches!(connected, Err(ConnectError::Silent(_))), "{:?}", connected.err());
        }

        // The listener still holds its side of all three open.
        while carrying_threads() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_peer_that_refuses_is_named_without_the_password() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        drop(listener);
        let config = Config::new(format!("amqp://herald:hunter2@{at}/x"));
        let address = addresses(&config).unwrap().remove(0);

        let error = Link::connect(&address, &config, "test", CONNECT_LIMIT).await.err().unwrap().to_string();

        assert!(error.contains(&format!("amqp://herald@{at}/x")) && !error.contains("hunter2"), "{error}");
    }
}
