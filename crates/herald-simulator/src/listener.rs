//! The servers: accept, TLS, HTTP. Knows which handler a port has, and nothing of what it does.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counters::bump;
use crate::world::World;
use crate::{apns, control, fcm};

/// How many connections one server keeps: protects file handles. More are closed at once.
const CONNECTIONS_LIMIT: usize = 4_096;
/// How long TLS may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long the headers of an HTTP/1.1 request, or any body, may take.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How much of a body is read: far more than any provider allows, so that the refusal is the provider's.
const BODY_LIMIT: usize = 256 * 1024;
/// Streams at once on a connection, as APNs is usually seen to allow.
const APNS_STREAMS: u32 = 1_000;
/// Streams at once on a connection to FCM.
const FCM_STREAMS: u32 = 100;

/// What a port serves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Apns(crate::Environment),
    Fcm,
    Control,
}

/// What every server needs.
#[derive(Clone)]
pub(crate) struct Shell {
    pub(crate) world: Arc<World>,
    pub(crate) apns_tls: TlsAcceptor,
    pub(crate) fcm_tls: TlsAcceptor,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLong,
    Broken,
}

/// The whole body.
///
/// # Errors
/// [`BodyError`]: longer than any provider takes, or broken off, or too slow.
pub(crate) async fn read_body(body: Incoming) -> Result<Bytes, BodyError> {
    let read = Limited::new(body, BODY_LIMIT).collect();
    match tokio::time::timeout(READ_LIMIT, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLong),
        Ok(Err(_)) | Err(_) => Err(BodyError::Broken),
    }
}

/// Accepts until the simulator stops.
pub(crate) async fn listen(role: Role, listener: TcpListener, shell: Shell) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    loop {
        let accepted = tokio::select! {
            // The simulator ends; a connection not yet accepted is refused by the system.
            () = shell.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                // Out of file handles, usually: let some be given back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else { continue };
        let shell_of_connection = shell.clone();
        shell.tasks.spawn(async move {
            let close = CancellationToken::new();
            let served = serve(role, stream, &shell_of_connection, close.clone());
            tokio::select! {
                biased;
                // A scripted fault: the connection ends here, without a GOAWAY.
                () = close.cancelled() => {}
                // The simulator ends.
                () = shell_of_connection.stop.cancelled() => {}
                () = served => {}
            }
            drop(place);
        });
    }
}

async fn serve(role: Role, stream: TcpStream, shell: &Shell, close: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY on a connection");
    }
    match role {
        Role::Control => serve_control(stream, shell).await,
        Role::Apns(environment) => {
            let Some(stream) = handshake(&shell.apns_tls, stream).await else { return };
            bump(&shell.world.counters.apns_connections);
            serve_apns(stream, environment, shell, close).await;
        }
        Role::Fcm => {
            let Some(stream) = handshake(&shell.fcm_tls, stream).await else { return };
            bump(&shell.world.counters.fcm_connections);
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve_fcm(stream, http2, shell, close).await;
        }
    }
}

async fn handshake(tls: &TlsAcceptor, stream: TcpStream) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

async fn serve_apns<S>(stream: S, environment: crate::Environment, shell: &Shell, close: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = Arc::new(apns::Connection::new(environment, close));
    let world = shell.world.clone();
    let service = service_fn(move |request| apns::answer(world.clone(), connection.clone(), request));
    let mut http = hyper::server::conn::http2::Builder::new(Tracked(shell.tasks.clone()));
    http.timer(TokioTimer::new()).auto_date_header(false).max_concurrent_streams(APNS_STREAMS);
    ended(http.serve_connection(TokioIo::new(stream), service).await);
}

async fn serve_fcm<S>(stream: S, http2: bool, shell: &Shell, close: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let world = shell.world.clone();
    let service = service_fn(move |request| fcm::answer(world.clone(), close.clone(), request));
    let io = TokioIo::new(stream);
    if http2 {
        let mut http = hyper::server::conn::http2::Builder::new(Tracked(shell.tasks.clone()));
        http.timer(TokioTimer::new()).max_concurrent_streams(FCM_STREAMS);
        ended(http.serve_connection(io, service).await);
    } else {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(READ_LIMIT);
        ended(http.serve_connection(io, service).await);
    }
}

async fn serve_control(stream: TcpStream, shell: &Shell) {
    let world = shell.world.clone();
    let service = service_fn(move |request| {
        let world = world.clone();
        async move { Ok::<_, Infallible>(control::answer(&world, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(READ_LIMIT);
    ended(http.serve_connection(TokioIo::new(stream), service).await);
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        // Clients that go away are the normal case.
        tracing::debug!(%error, "a connection ended");
    }
}

/// Spawns the streams of a connection where the simulator can wait for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
