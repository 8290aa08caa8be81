//! How many connections there may be, and how long each may keep its place without being of use.
//!
//! Stands below HTTP, and never looks into what is sent: a client that opens connections and says nothing, or its headers
//! one byte at a time, must not take the file handles that broker, store and providers need. A connection is in one of
//! three phases, told by whoever serves it ([`crate::serving`]):
//!
//! | phase | begins | ends by itself |
//! | --- | --- | --- |
//! | head | when it is opened, and with the first byte after a rest | 10 s after that, however many bytes came meanwhile |
//! | served | when the headers of a request are whole | when nothing came in for 35 s, or went out for 2 minutes; after 5 minutes |
//! | idle | when the answer is out, but for what is buffered | after 2 minutes; after 5 s if half of all places are taken |

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// Connections at once; more wait in the system's backlog. A process may have 1,024 files unless told otherwise.
const MAX_CONNECTIONS: usize = 768;
/// How long the headers of a request may take: a token of some KiB over a bad mobile network takes a second or two.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing may come in: longer than an answer may take ([`crate::passing`]), so that who waits for one is
/// told, and not cut off.
const SILENCE: Duration = Duration::from_secs(35);
/// How long a request and its answer may take in all, however slowly the client reads.
const SERVED_LIMIT: Duration = Duration::from_secs(300);
/// How long a connection may rest between two requests: longer than the 60 s that load balancers keep theirs.
const IDLE: Duration = Duration::from_secs(120);
/// The same while places are scarce: phones leave their connections open, and others must get in.
const IDLE_WHEN_SCARCE: Duration = Duration::from_secs(5);

/// A listener that accepts while there is room.
pub(crate) struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    places: usize,
}

impl Bounded {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self::with(listener, MAX_CONNECTIONS)
    }

    fn with(listener: TcpListener, places: usize) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(places)), places }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let (room, scarce_below) = (Arc::clone(&self.room), self.places / 2);
        let until = Instant::now() + HEAD_LIMIT;
        let phase = Arc::new(Mutex::new(Phase { doing: Doing::Head, until }));
        let talk = Talk { phase, room, scarce_below };
        (Connection { stream, talk, over: Box::pin(sleep_until(until)), _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What a connection is doing, as whoever serves it says.
#[derive(Clone)]
pub(crate) struct Talk {
    phase: Arc<Mutex<Phase>>,
    room: Arc<Semaphore>,
    scarce_below: usize,
}

struct Phase {
    doing: Doing,
    /// When it ends by itself.
    until: Instant,
}

#[derive(PartialEq, Eq)]
enum Doing {
    Head,
    /// Until this moment at most.
    Served(Instant),
    Idle,
}

impl Talk {
    /// The headers of a request are whole.
    pub(crate) fn served(&self) {
        let now = Instant::now();
        *self.lock() = Phase { doing: Doing::Served(now + SERVED_LIMIT), until: now + SILENCE };
    }

    /// The answer is out, but for what is buffered.
    pub(crate) fn idle(&self) {
        let scarce = self.room.available_permits() < self.scarce_below;
        let limit = if scarce { IDLE_WHEN_SCARCE } else { IDLE };
        *self.lock() = Phase { doing: Doing::Idle, until: Instant::now() + limit };
    }

    /// Something came in.
    fn heard(&self) {
        let mut phase = self.lock();
        match phase.doing {
            // Bytes don't buy time.
            Doing::Head => {}
            Doing::Served(last) => phase.until = last.min(Instant::now() + SILENCE),
            Doing::Idle => *phase = Phase { doing: Doing::Head, until: Instant::now() + HEAD_LIMIT },
        }
    }

    /// Something went out: its client reads, however slowly.
    fn wrote(&self) {
        let mut phase = self.lock();
        match phase.doing {
            Doing::Head => {}
            // The system takes more only when much of what it has was read, which on a bad network takes a while.
            Doing::Served(last) => phase.until = last.min(Instant::now() + IDLE),
            Doing::Idle => phase.until = phase.until.max(Instant::now() + IDLE_WHEN_SCARCE),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that whoever serves it can say something about.
pub(crate) trait Talks {
    fn talk(&self) -> Talk;
}

/// A connection that ends when its phase has lasted too long.
pub(crate) struct Connection {
    stream: TcpStream,
    talk: Talk,
    over: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Talks for Connection {
    fn talk(&self) -> Talk {
        self.talk.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            self.talk.heard();
            return Poll::Ready(read);
        }
        // The end may have moved since the timer was set; it is looked at when the timer is over, and here.
        loop {
            let until = self.talk.lock().until;
            if self.over.deadline() != until {
                self.over.as_mut().reset(until);
            }
            match self.over.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if self.talk.lock().until > until => {}
                Poll::Ready(()) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.talk.wrote();
        Poll::Ready(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.talk.wrote();
        Poll::Ready(wrote)
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

    /// A served connection and its client; and the listener, since places are its.
    async fn pair(places: usize) -> (Bounded, Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut listener = Bounded::with(listener, places);
        let (served, _) = listener.accept().await;
        (listener, served, client)
    }

    /// After how many seconds a read of what never comes ends. The clock is paused: it moves on when all wait.
    async fn ends_after(served: &mut Connection) -> u64 {
        let begun = Instant::now();
        assert_eq!(served.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_an_end_of_its_own() {
        let (_listener, mut served, _client) = pair(100).await;
        assert_eq!(ends_after(&mut served).await, 10, "no headers");
        served.talk.served();
        assert_eq!(ends_after(&mut served).await, 35, "no body");
        served.talk.idle();
        assert_eq!(ends_after(&mut served).await, 120, "no further request");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_not_cut_off_and_does_not_stay_for_ever() {
        let (_listener, mut served, _client) = pair(100).await;
        served.talk.served();
        // What went out, and after how many seconds of nothing more it ends: 300 s in all.
        for (silent, ends) in [(34, 120), (110, 120), (110, 46)] {
            tokio::time::advance(Duration::from_secs(silent)).await;
            served.write_all(b"x").await.unwrap();
            let until = served.talk.lock().until;
            assert_eq!((until - Instant::now()).as_secs(), ends, "{silent}");
        }
        assert_eq!(ends_after(&mut served).await, 46);
        // What is buffered goes out although the rest is over.
        served.talk.idle();
        tokio::time::advance(Duration::from_secs(118)).await;
        served.write_all(b"x").await.unwrap();
        assert_eq!(ends_after(&mut served).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_moves_with_the_phase_while_a_read_waits() {
        let (_listener, mut served, _client) = pair(100).await;
        let talk = served.talk();
        let phases = async {
            tokio::time::advance(Duration::from_secs(9)).await;
            talk.served();
            tokio::time::advance(Duration::from_secs(24)).await;
            talk.idle();
        };
        let (ended, ()) = tokio::join!(ends_after(&mut served), phases);
        assert_eq!(ended, 9 + 24 + 120);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_buy_no_time_for_headers_and_end_a_rest() {
        let (_listener, mut served, mut client) = pair(100).await;
        served.talk.idle();
        let mut byte = [0; 1];
        for _ in 0..9 {
            client.write_all(b"x").await.unwrap();
            served.stream.readable().await.unwrap();
            served.read_exact(&mut byte).await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(ends_after(&mut served).await, 1, "10 s after the first byte");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_short_while_places_are_scarce() {
        let (_listener, mut served, _client) = pair(2).await;
        served.talk.idle();
        assert_eq!(ends_after(&mut served).await, 120, "one of two is free");
        let (_listener, mut served, _client) = pair(3).await;
        let more = Arc::clone(&served.talk.room).acquire_many_owned(2).await.unwrap();
        served.talk.idle();
        drop(more);
        assert_eq!(ends_after(&mut served).await, 5);
    }

    #[tokio::test]
    async fn a_connection_waits_until_another_one_ends() {
        let (mut listener, served, _first) = pair(1).await;
        let _second = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert_eq!(listener.room.available_permits(), 0, "there is no room for the second");
        let (accepted, ()) = tokio::join!(listener.accept(), async move { drop(served) });
        assert!(accepted.0.stream.peer_addr().is_ok());
    }
}
