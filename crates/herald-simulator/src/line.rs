//! A connection below HTTP: how it can be ended, from anywhere and in every way that a network knows.
//!
//! The listener makes one per connection; faults and rules pull at it. It knows nothing of requests.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why and how a connection shall end.
#[derive(Debug)]
pub(crate) struct Line {
    /// At once, without GOAWAY.
    close: CancellationToken,
    /// With GOAWAY, after the requests that run.
    leave: CancellationToken,
    aborted: AtomicBool,
    stalled: AtomicBool,
    opened: Instant,
    /// Requests that run, if somebody watches for idleness.
    open: AtomicU64,
    /// When the last request ended, in milliseconds since `opened`.
    idle_since_ms: AtomicU64,
}

impl Line {
    /// Ends the connection without GOAWAY: the peer sees FIN.
    pub(crate) fn close(&self) {
        self.close.cancel();
    }

    /// Ends the connection with a TCP reset.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.close.cancel();
    }

    /// Nothing is read or written any more, and nothing is closed.
    pub(crate) fn stall(&self) {
        self.stalled.store(true, Ordering::Release);
    }

    /// Announces the end with GOAWAY; requests that run are answered.
    pub(crate) fn leave(&self) {
        self.leave.cancel();
    }

    /// Returns when the connection shall end at once.
    pub(crate) async fn closing(&self) {
        self.close.cancelled().await;
    }

    /// Returns the reason when the connection shall be left: it was told to, is too old, or idle; 0 is never.
    pub(crate) async fn leaving(&self, idle_ms: u64, age_ms: u64) -> Option<&'static str> {
        if idle_ms == 0 && age_ms == 0 {
            self.leave.cancelled().await;
            return None;
        }
        let after = |ms: u64| async move {
            match self.opened.checked_add(Duration::from_millis(ms)) {
                Some(end) if ms > 0 => tokio::time::sleep_until(end).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            // A fault or a rule ends it.
            () = self.leave.cancelled() => None,
            // It has lived long enough.
            () = after(age_ms) => Some("age"),
            // Nobody uses it.
            () = self.idle(idle_ms) => Some("idle"),
        }
    }

    async fn idle(&self, limit_ms: u64) {
        if limit_ms == 0 {
            std::future::pending::<()>().await;
        }
        loop {
            let idle_ms = self.age_ms().saturating_sub(self.idle_since_ms.load(Ordering::Acquire));
            let busy = self.open.load(Ordering::Acquire) > 0;
            if !busy && idle_ms >= limit_ms {
                return;
            }
            let wait_ms = if busy { limit_ms } else { limit_ms - idle_ms };
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A request runs for as long as the answer is kept.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.open.fetch_add(1, Ordering::AcqRel);
        Busy(self)
    }
}

/// A request that runs.
#[derive(Debug)]
#[must_use]
pub(crate) struct Busy<'a>(&'a Line);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.idle_since_ms.store(self.0.age_ms(), Ordering::Release);
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// All connections of one server, to end them together.
#[derive(Debug)]
pub(crate) struct Lines {
    stop: CancellationToken,
    now: Mutex<Together>,
}

#[derive(Debug)]
struct Together {
    close: CancellationToken,
    leave: CancellationToken,
}

impl Together {
    fn new(stop: &CancellationToken) -> Self {
        Self { close: stop.child_token(), leave: CancellationToken::new() }
    }
}

impl Lines {
    /// `stop` ends all of them for good.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        let now = Mutex::new(Together::new(&stop));
        Self { stop, now }
    }

    /// A new connection.
    pub(crate) fn open(&self) -> Arc<Line> {
        let now = self.now.lock().expect("nothing panics while lines are held");
        Arc::new(Line {
            close: now.close.child_token(),
            leave: now.leave.child_token(),
            aborted: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            opened: Instant::now(),
            open: AtomicU64::new(0),
            idle_since_ms: AtomicU64::new(0),
        })
    }

    /// Ends those that exist: with GOAWAY if `politely`, else at once.
    pub(crate) fn end(&self, politely: bool) {
        let mut now = self.now.lock().expect("nothing panics while lines are held");
        if politely {
            std::mem::replace(&mut now.leave, CancellationToken::new()).cancel();
        } else {
            std::mem::replace(&mut *now, Together::new(&self.stop)).close.cancel();
        }
    }
}

/// The bytes of a connection, with the line's will.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) line: Arc<Line>,
}

impl Wire {
    /// A stalled wire never wakes anybody again: only the line's end does.
    fn stalls(&self) -> bool {
        self.line.stalled.load(Ordering::Acquire)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.aborted.load(Ordering::Acquire)
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "a connection can't be reset; it is closed");
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stalls() { Poll::Pending } else { Pin::new(&mut self.stream).poll_read(cx, buf) }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.stalls() { Poll::Pending } else { Pin::new(&mut self.stream).poll_write(cx, buf) }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.stalls() { Poll::Pending } else { Pin::new(&mut self.stream).poll_write_vectored(cx, bufs) }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stalls() { Poll::Pending } else { Pin::new(&mut self.stream).poll_flush(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stalls() { Poll::Pending } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }
}
