//! A TCP proxy that fails on command: frozen, cut, refusing.
//!
//! It stands between a process under test and a broker, a store or a provider, so that a test can lose a connection,
//! or worse, keep one that carries nothing. It never changes or reorders bytes.

use anyhow::{Context, Result};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is held in memory for each direction of a connection; a frozen connection holds no more than this.
const BUFFER: usize = 16 * 1024;

/// What the connections must know.
struct Controls {
    frozen: watch::Sender<bool>,
    /// Goes up with each cut: a connection ends when it sees another number than it began with.
    cuts: watch::Sender<u64>,
    refuse: AtomicBool,
    accepted: AtomicUsize,
}

/// The proxy; its connections end when it is dropped.
pub struct FaultProxy {
    port: u16,
    controls: Arc<Controls>,
    _tasks: JoinSet<()>,
}

impl FaultProxy {
    /// Listen on a free port of 127.0.0.1 and pass each connection on to `target` (`host:port`).
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(target: impl Into<String>) -> Result<Self> {
        let target = target.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let port = listener.local_addr()?.port();
        let controls = Arc::new(Controls {
            frozen: watch::Sender::new(false),
            cuts: watch::Sender::new(0),
            refuse: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, Arc::clone(&controls)));
        Ok(Self { port, controls, _tasks: tasks })
    }

    /// The port of 127.0.0.1 to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Carry nothing more, in either direction, and close nothing: what a dead network looks like. New connections
    /// are accepted and carry nothing.
    pub fn freeze(&self) {
        self.controls.frozen.send_replace(true);
    }

    /// Go on; what was sent meanwhile arrives.
    pub fn thaw(&self) {
        self.controls.frozen.send_replace(false);
    }

    /// Reset all connections that are open now; new ones are welcome.
    pub fn cut_all(&self) {
        self.controls.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Whether new connections are reset at once. The port stays taken, so that no other process gets it.
    pub fn refuse(&self, refuse: bool) {
        self.controls.refuse.store(refuse, Ordering::SeqCst);
    }

    /// How many connections were passed on since the start.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.controls.accepted.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, target: String, controls: Arc<Controls>) {
    let mut connections = JoinSet::new();
    loop {
        // Finished connections are collected as they end. Both arms may be dropped at any await: `accept` and
        // `join_next` lose nothing by that.
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if controls.refuse.load(Ordering::SeqCst) {
                    reset(&client);
                    continue;
                }
                controls.accepted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(carry(client, target.clone(), Arc::clone(&controls)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until both sides have ended in order; a cut, or an error of either side, resets both.
async fn carry(mut client: TcpStream, target: String, controls: Arc<Controls>) {
    let mut cuts = controls.cuts.subscribe();
    cuts.borrow_and_update();
    let server = tokio::select! {
        server = TcpStream::connect(&target) => server,
        _ = cuts.changed() => return reset(&client),
    };
    let Ok(mut server) = server else { return reset(&client) };
    // Borrowed halves: owned ones would end their stream in order when dropped.
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let frozen = || controls.frozen.subscribe();
    let there = pump(client_read, server_write, frozen());
    let back = pump(server_read, client_write, frozen());
    let in_order = tokio::select! {
        both = async { tokio::try_join!(there, back) } => both.is_ok(),
        _ = cuts.changed() => false,
    };
    if !in_order {
        reset(&client);
        reset(&server);
    }
}

/// Copy one direction until its end, then pass the end on.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut frozen: watch::Receiver<bool>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        // Checked after reading, so that nothing passes that was read while frozen.
        frozen.wait_for(|frozen| !frozen).await.map_err(io::Error::other)?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}

/// Let the close of this socket be a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection can't be reset");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(5);

    /// A server that sends back what it gets, and a proxy before it.
    async fn echo() -> (FaultProxy, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        (FaultProxy::start(target).await.unwrap(), tasks)
    }

    async fn round_trip(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut [0; 4]).await.map(drop)
    }

    #[tokio::test]
    async fn bytes_pass_and_so_does_the_end() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0);
        assert_eq!(proxy.accepted(), 1);
    }

    #[tokio::test]
    async fn a_frozen_connection_carries_nothing_until_it_thaws() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        proxy.freeze();
        let frozen = tokio::time::timeout(Duration::from_millis(100), round_trip(&mut stream)).await;
        assert!(frozen.is_err(), "a round trip came through: {frozen:?}");
        proxy.thaw();
        let answer = tokio::time::timeout(LIMIT, stream.read_exact(&mut [0; 4])).await;
        answer.expect("what was sent while frozen arrives").unwrap();
    }

    #[tokio::test]
    async fn a_cut_resets_open_connections_and_welcomes_new_ones() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        proxy.cut_all();
        let end = tokio::time::timeout(LIMIT, stream.read(&mut [0; 4])).await.expect("the cut is noticed");
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut again).await.unwrap();
    }

    #[tokio::test]
    async fn while_it_refuses_no_connection_carries_anything() {
        let (proxy, _server) = echo().await;
        proxy.refuse(true);
        if let Ok(mut stream) = TcpStream::connect(proxy.address()).await {
            round_trip(&mut stream).await.unwrap_err();
        }
        assert_eq!(proxy.accepted(), 0);
        proxy.refuse(false);
        wait::until(LIMIT, "a connection that works", async || {
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            round_trip(&mut stream).await.is_ok()
        })
        .await
        .unwrap();
    }
}
