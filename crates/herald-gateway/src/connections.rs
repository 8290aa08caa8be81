//! How many connections there may be, and how long one may be silent.
//!
//! Stands below axum's server, which has neither limit: a client that opens connections and says nothing must not take the
//! file handles that broker, store and providers need. It never looks into what is sent.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once; more wait in the system's backlog. A process may have 1,024 files unless told otherwise.
const MAX_CONNECTIONS: usize = 768;
/// How long nothing may come in: longer than a body and a commit may take together, during which nothing does.
const SILENCE: Duration = Duration::from_secs(25);

/// A listener that accepts while there is room.
pub(crate) struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    silence: Duration,
}

impl Bounded {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self::with(listener, MAX_CONNECTIONS, SILENCE)
    }

    fn with(listener: TcpListener, connections: usize, silence: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(connections)), silence }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let silent = Box::pin(sleep(self.silence));
        (Connection { stream, silent, silence: self.silence, waiting: false, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing has come in for too long.
pub(crate) struct Connection {
    stream: TcpStream,
    silent: Pin<Box<Sleep>>,
    silence: Duration,
    /// A read is waiting, and `silent` says until when.
    waiting: bool,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            self.waiting = false;
            return Poll::Ready(read);
        }
        if !self.waiting {
            self.waiting = true;
            let until = Instant::now() + self.silence;
            self.silent.as_mut().reset(until);
        }
        self.silent.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const NEVER: Duration = Duration::from_secs(3_600);

    async fn bounded(connections: usize, silence: Duration) -> (Bounded, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Bounded::with(listener, connections, silence), address)
    }

    #[tokio::test]
    async fn a_silent_connection_ends_and_a_talking_one_is_read() {
        let (mut listener, address) = bounded(2, SHORT).await;
        let mut talking = TcpStream::connect(address).await.unwrap();
        let (mut served, _) = listener.accept().await;
        talking.write_all(b"hello").await.unwrap();
        let mut word = [0; 5];
        served.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"hello");
        assert_eq!(served.read(&mut word).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_waits_until_another_one_ends() {
        let (mut listener, address) = bounded(1, NEVER).await;
        let _first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let (served, _) = listener.accept().await;
        assert_eq!(listener.room.available_permits(), 0, "there is no room for the second");
        let (accepted, ()) = tokio::join!(listener.accept(), async move { drop(served) });
        assert!(accepted.0.stream.peer_addr().is_ok());
    }
}
