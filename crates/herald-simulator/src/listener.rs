//! The servers: accept, TLS, HTTP. Knows which handler a port has, and nothing of what it does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counters::{Provider, bump};
use crate::line::{Line, Lines, Wire};
use crate::outages::OutageMode;
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
/// How many connections may wait to be accepted at a port that was closed for a while.
const BACKLOG: u32 = 1_024;
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

impl Role {
    /// Whose connections these are; the control interface's are nobody's.
    fn provider(self) -> Option<Provider> {
        match self {
            Self::Apns(_) => Some(Provider::Apns),
            Self::Fcm => Some(Provider::Fcm),
            Self::Control => None,
        }
    }

    /// How new connections are met now.
    fn outage(self, world: &World) -> Option<OutageMode> {
        self.provider().and_then(|provider| world.faults.outages.of_connections(provider))
    }
}

/// What every server needs.
#[derive(Clone)]
pub(crate) struct Shell {
    pub(crate) world: Arc<World>,
    pub(crate) apns_tls: Tls,
    pub(crate) fcm_tls: Tls,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// The certificates that a server may show.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) usual: TlsAcceptor,
    /// Of a CA that no client trusts.
    pub(crate) other: TlsAcceptor,
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
pub(crate) async fn listen(role: Role, mut listener: TcpListener, shell: Shell) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    let mut storms = Storms::default();
    let mut outages = shell.world.faults.outages.changes();
    loop {
        let down = role.outage(&shell.world);
        if down == Some(OutageMode::Refuse) {
            let Some(opened) = closed_port(role, listener, &shell).await else { return };
            listener = opened;
            continue;
        }
        let accepted = tokio::select! {
            // The simulator ends; a connection not yet accepted is refused by the system.
            () = shell.stop.cancelled() => return,
            // An outage may close the port.
            _ = outages.changed() => continue,
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
        if storms.refuses(role, &shell.world) {
            shell.world.counters.ended(Provider::Apns, "storm");
            continue;
        }
        let Ok(place) = room.clone().try_acquire_owned() else { continue };
        let shell_of_connection = shell.clone();
        shell.tasks.spawn(async move {
            connect(role, stream, &shell_of_connection).await;
            drop(place);
        });
    }
}

/// One connection, from its first byte to its last.
async fn connect(role: Role, stream: TcpStream, shell: &Shell) {
    if let Some((provider, mode)) = role.provider().zip(role.outage(&shell.world)) {
        shell.world.counters.ended(provider, "outage");
        if mode == OutageMode::Hang {
            tokio::select! {
                // The client is dropped with the outage's end, as by a server that comes back.
                () = shell.world.faults.outages.until_over(provider, mode) => {}
                // The simulator ends.
                () = shell.stop.cancelled() => {}
            }
        }
        return;
    }
    let line = match role {
        Role::Fcm => shell.world.fcm_lines.open(),
        Role::Apns(_) => shell.world.apns_lines.open(),
        // No fault ends the control interface.
        Role::Control => Lines::new(shell.stop.clone()).open(),
    };
    let served = serve(role, stream, shell, &line);
    tokio::select! {
        biased;
        // A fault ends it, or the simulator: the connection ends here, without a GOAWAY.
        () = line.closing() => {}
        () = served => {}
    }
}

/// The port while nobody listens at it: kept, so that nobody else takes it, and open again after the outage. `None`:
/// the simulator has ended.
async fn closed_port(role: Role, listener: TcpListener, shell: &Shell) -> Option<TcpListener> {
    let (provider, address) = role.provider().zip(listener.local_addr().ok())?;
    // Whoever waited to be accepted is reset.
    drop(listener);
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok::<_, std::io::Error>(socket)
    };
    let mut kept = bound();
    tokio::select! {
        () = shell.world.faults.outages.until_over(provider, OutageMode::Refuse) => {}
        // The simulator ends.
        () = shell.stop.cancelled() => return None,
    }
    loop {
        match kept.and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => return Some(listener),
            Err(error) => tracing::warn!(%error, "a port could not be opened after an outage; trying again"),
        }
        tokio::select! {
            // Whoever took it may give it back.
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            // The simulator ends.
            () = shell.stop.cancelled() => return None,
        }
        kept = bound();
    }
}

/// How often clients connected to one port lately.
#[derive(Debug, Default)]
struct Storms {
    recent: VecDeque<Instant>,
    refused_until: Option<Instant>,
}

impl Storms {
    /// Counts a connection; says whether it comes too soon after too many others.
    fn refuses(&mut self, role: Role, world: &World) -> bool {
        let Role::Apns(_) = role else { return false };
        let Some(storm) = world.apns_rules().and_then(|rules| rules.storm) else {
            *self = Self::default();
            return false;
        };
        let now = Instant::now();
        if self.refused_until.is_some_and(|until| now < until) {
            return true;
        }
        self.recent.retain(|connected| now.duration_since(*connected) < Duration::from_secs(60));
        self.recent.push_back(now);
        if self.recent.len() <= storm.per_minute {
            return false;
        }
        self.recent.clear();
        self.refused_until = now.checked_add(Duration::from_millis(storm.refuse_ms));
        true
    }
}

async fn serve(role: Role, stream: TcpStream, shell: &Shell, line: &Arc<Line>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY on a connection");
    }
    let wire = |stream| Wire { stream, line: line.clone() };
    let pick = |tls: &Tls| if shell.world.shows_other_ca() { tls.other.clone() } else { tls.usual.clone() };
    match role {
        Role::Control => serve_control(stream, shell).await,
        Role::Apns(environment) => {
            let Some(stream) = handshake(&pick(&shell.apns_tls), wire(stream)).await else { return };
            bump(&shell.world.counters.apns_connections);
            serve_apns(stream, environment, shell, line).await;
        }
        Role::Fcm => {
            let Some(stream) = handshake(&pick(&shell.fcm_tls), wire(stream)).await else { return };
            bump(&shell.world.counters.fcm_connections);
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve_fcm(stream, http2, shell, line).await;
        }
    }
}

async fn handshake(tls: &TlsAcceptor, wire: Wire) -> Option<tokio_rustls::server::TlsStream<Wire>> {
    match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(wire)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

async fn serve_apns<S>(stream: S, environment: crate::Environment, shell: &Shell, line: &Arc<Line>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = Arc::new(apns::Connection::new(environment, line.clone()));
    let world = shell.world.clone();
    let service = service_fn(move |request| apns::answer(world.clone(), connection.clone(), request));
    let mut http = hyper::server::conn::http2::Builder::new(Tracked(shell.tasks.clone()));
    http.timer(TokioTimer::new()).auto_date_header(false).max_concurrent_streams(APNS_STREAMS);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    let (idle_ms, age_ms) = shell.world.apns_rules().map_or((0, 0), |rules| (rules.idle_close_ms, rules.max_age_ms));
    tokio::select! {
        biased;
        result = serving.as_mut() => return ended(result),
        rule = line.leaving(idle_ms, age_ms) => {
            if let Some(rule) = rule {
                shell.world.counters.ended(Provider::Apns, rule);
            }
        }
    }
    // GOAWAY; what runs is answered.
    serving.as_mut().graceful_shutdown();
    ended(serving.await);
}

async fn serve_fcm<S>(stream: S, http2: bool, shell: &Shell, line: &Arc<Line>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (world, line_of_requests) = (shell.world.clone(), line.clone());
    let service = service_fn(move |request| fcm::answer(world.clone(), line_of_requests.clone(), request));
    let io = TokioIo::new(stream);
    let idle_ms = shell.world.fcm_rules().map_or(0, |rules| rules.idle_close_ms);
    let leaving = async {
        if let Some(rule) = line.leaving(idle_ms, 0).await {
            shell.world.counters.ended(Provider::Fcm, rule);
        }
    };
    if http2 {
        let mut http = hyper::server::conn::http2::Builder::new(Tracked(shell.tasks.clone()));
        http.timer(TokioTimer::new()).max_concurrent_streams(FCM_STREAMS);
        let mut serving = pin!(http.serve_connection(io, service));
        tokio::select! {
            biased;
            result = serving.as_mut() => return ended(result),
            () = leaving => serving.as_mut().graceful_shutdown(),
        }
        ended(serving.await);
    } else {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(READ_LIMIT);
        let mut serving = pin!(http.serve_connection(io, service));
        tokio::select! {
            biased;
            result = serving.as_mut() => return ended(result),
            () = leaving => serving.as_mut().graceful_shutdown(),
        }
        ended(serving.await);
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
