//! HTTP/1.1 over the connections of a listener, within limits of headers and time.
//!
//! Stands between the listener and the router: what axum's own server does, with the limits that it has no words for. It
//! knows no route.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::http::Request;
use axum::serve::Listener;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::connections::{Talk, Talks};

/// The largest request line and headers together, in bytes; more is a 431. A token may have 12 KiB.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// What is read ahead of a body, in bytes, for each connection.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Serves until `stop`, then takes no more connections and finishes the answers under way.
pub(crate) async fn serve<L>(mut listener: L, router: Router, stop: CancellationToken)
where
    L: Listener,
    L::Io: Talks,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (io, _) = listener.accept() => {
                connections.spawn(connection(io, router.clone(), stop.clone()));
            }
            Some(_) = connections.join_next() => {}
            // A connection that was just accepted and has sent nothing yet may be dropped.
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(io: impl AsyncRead + AsyncWrite + Talks + Unpin, router: Router, stop: CancellationToken) {
    let talk = io.talk();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        talk.served();
        let (answer, talk) = (router.call(request), talk.clone());
        async move { answer.await.map(|answer| answer.map(|body| Answering { body, talk })) }
    });
    let mut http = http1::Builder::new();
    // Headers: 100 at most, which is hyper's own limit and a 431 too. Times are the connection's own.
    http.max_header_size(MAX_HEAD_BYTES).max_buf_size(MAX_BUFFER_BYTES).header_read_timeout(None);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

/// An answer's body. When hyper has taken all of it, or none of it any more, the connection rests.
struct Answering {
    body: axum::body::Body,
    talk: Talk,
}

impl Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.talk.idle();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, advance, timeout};

    use super::*;
    use crate::connections::Bounded;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";

    /// A server of few routes, and a client's connection to it.
    async fn start() -> (JoinSet<()>, CancellationToken, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stop, mut served) = (CancellationToken::new(), JoinSet::new());
        // As long as an answer may take.
        let slow = async || {
            tokio::time::sleep(Duration::from_secs(30)).await;
            "hello"
        };
        let router = Router::new().route("/", get(async || "hello")).route("/slow", get(slow));
        served.spawn(serve(Bounded::new(listener), router, stop.clone()));
        (served, stop, client)
    }

    /// What comes until the answer's body is there.
    async fn answer(client: &mut TcpStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"hello") {
            assert_ne!(client.read_buf(&mut text).await.unwrap(), 0, "{}", String::from_utf8_lossy(&text));
        }
        String::from_utf8(text).unwrap()
    }

    /// All that comes until the connection ends, however it does.
    async fn rest(client: &mut TcpStream) -> String {
        let mut text = Vec::new();
        // A server that closes with something unread resets the connection; what came before it counts.
        client.read_to_end(&mut text).await.ok();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_as_long_as_an_answer_may_take_gets_it() {
        let (_served, _stop, mut client) = start().await;
        client.write_all(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        let answer = answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 5\r\n"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_come_byte_by_byte_are_cut_off_after_ten_seconds() {
        let (_served, _stop, mut client) = start().await;
        let begun = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let mut one = [0; 1];
        let read = loop {
            match timeout(Duration::from_millis(500), client.read(&mut one)).await {
                Ok(read) => break read,
                // Fails in the moment in which it is cut off.
                Err(_) => client.write_all(b"x").await.ok(),
            };
        };
        assert!(matches!(read, Ok(0) | Err(_)), "it is answered");
        let took = begun.elapsed();
        assert!((10..12).contains(&took.as_secs()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_for_further_requests_and_not_for_ever() {
        let (_served, _stop, mut client) = start().await;
        for _ in 0..3 {
            client.write_all(REQUEST).await.unwrap();
            let answer = answer(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            advance(Duration::from_secs(100)).await;
        }
        let begun = Instant::now();
        assert_eq!(rest(&mut client).await, "");
        assert!(begun.elapsed() <= Duration::from_secs(120), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn headers_that_are_too_large_or_too_many_are_refused() {
        for headers in [format!("x: {}\r\n", "x".repeat(MAX_HEAD_BYTES)), "x: y\r\n".repeat(101)] {
            let (_served, _stop, mut client) = start().await;
            // The server may close before all is written.
            client.write_all(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).await.ok();
            let text = rest(&mut client).await;
            assert!(text.starts_with("HTTP/1.1 431"), "{text}");
        }
        let (_served, _stop, mut client) = start().await;
        let headers = format!("x: {}\r\n", "x".repeat(MAX_HEAD_BYTES / 2));
        client.write_all(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let text = answer(&mut client).await;
        assert!(text.starts_with("HTTP/1.1 200") && !text.to_lowercase().contains("\nserver:"), "{text}");
    }

    #[tokio::test]
    async fn a_stop_ends_what_rests_and_leaves_nothing_behind() {
        let (mut served, stop, mut client) = start().await;
        client.write_all(REQUEST).await.unwrap();
        answer(&mut client).await;
        stop.cancel();
        served.join_next().await.unwrap().unwrap();
        assert_eq!(rest(&mut client).await, "");
    }
}
