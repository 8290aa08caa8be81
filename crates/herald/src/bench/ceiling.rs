//! The bare HTTP/2 ceiling: requests made beforehand, sent as fast as the simulator answers, over as many connections as the
//! workers had and with as many streams in flight. No queue, no store, no decision: what is left is h2, TLS, the kernel and
//! the simulator, which Herald can't be faster than on this machine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use http::{Method, Request, Uri, Version, request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pushes::{Prepared, tls};

/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// A provider's address, and how to trust it.
#[derive(Clone)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
    authority: String,
    tls: Arc<ClientConfig>,
}

impl Endpoint {
    /// From the app's configuration, which names the simulator.
    ///
    /// # Errors
    /// When it does not: the ceiling is never measured against a real provider.
    pub(super) fn new(url: Option<&str>, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let (url, ca_file) = url.zip(ca_file).context("the bench's app does not name a simulator")?;
        let uri: Uri = url.parse()?;
        let authority = uri.authority().context("the simulator's address has no host")?;
        Ok(Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(443),
            authority: authority.to_string(),
            tls: tls(ca_file)?,
        })
    }

    /// A POST of this path.
    pub(super) fn post(&self, path: &str) -> request::Builder {
        let uri = format!("https://{}{path}", self.authority);
        Request::builder().method(Method::POST).version(Version::HTTP_2).uri(uri)
    }

    async fn connect(&self) -> anyhow::Result<(SendRequest<Bytes>, Connection<TlsStream<TcpStream>, Bytes>)> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
        Ok(h2::client::Builder::new().enable_push(false).handshake(stream).await?)
    }
}

/// What is sent to one provider, by all its connections together.
pub(super) struct Work {
    pub(super) endpoint: Endpoint,
    /// Sent in turn, as often as it takes. Not empty.
    pub(super) requests: Vec<Prepared>,
    pub(super) connections: u16,
    /// In flight on each connection, at most.
    pub(super) streams: usize,
    /// Requests to send.
    pub(super) count: u64,
    pub(super) sent: AtomicU64,
}

impl Work {
    fn next(&self) -> Option<&Prepared> {
        let n = self.sent.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(n).ok()? % self.requests.len();
        (n < self.count).then(|| &self.requests[at])
    }
}

/// Sends all of it. Every request must be accepted.
///
/// # Errors
/// When one is not, or a connection breaks.
pub(super) async fn run(work: Vec<Work>) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    for work in work {
        let work = Arc::new(work);
        for _ in 0..work.connections {
            connections.spawn(connection(Arc::clone(&work)));
        }
    }
    while let Some(ended) = connections.join_next().await {
        ended??;
    }
    Ok(())
}

async fn connection(work: Arc<Work>) -> anyhow::Result<()> {
    // Kept to the end: h2 closes a connection to which no sender refers, and that would look like the simulator's doing.
    let (sender, driver) = work.endpoint.connect().await?;
    let mut streams = JoinSet::new();
    for _ in 0..work.streams {
        streams.spawn(stream(sender.clone(), Arc::clone(&work)));
    }
    let sent = async {
        while let Some(ended) = streams.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        sent = sent => sent,
        // It ends before its streams do only if it breaks; dropping them loses what the error already says.
        broken = driver => match broken {
            Ok(()) => bail!("the simulator closed a connection of the ceiling"),
            Err(error) => Err(error.into()),
        },
    }
}

async fn stream(mut sender: SendRequest<Bytes>, work: Arc<Work>) -> anyhow::Result<()> {
    while let Some(prepared) = work.next() {
        sender = sender.ready().await?;
        send(&mut sender, prepared.clone()).await?;
    }
    Ok(())
}

async fn send(sender: &mut SendRequest<Bytes>, prepared: Prepared) -> anyhow::Result<Bytes> {
    let (answer, mut body) = sender.send_request(prepared.head, false)?;
    body.send_data(prepared.body, true)?;
    let answer = answer.await?;
    let status = answer.status();
    let mut body = answer.into_body();
    let mut read = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        ensure!(read.len() + chunk.len() <= ANSWER_LIMIT, "an answer of the simulator is too long");
        read.extend_from_slice(&chunk);
    }
    ensure!(status.is_success(), "the simulator answered the ceiling {status}: {}", String::from_utf8_lossy(&read));
    Ok(read.freeze())
}

/// One request on a connection of its own; the answer's body.
///
/// # Errors
/// When it is not answered 2xx.
pub(super) async fn exchange(endpoint: &Endpoint, prepared: Prepared) -> anyhow::Result<Bytes> {
    let (sender, driver) = endpoint.connect().await?;
    let mut sender = sender.ready().await?;
    tokio::select! {
        answer = send(&mut sender, prepared) => answer,
        broken = driver => match broken {
            Ok(()) => bail!("the simulator closed the connection"),
            Err(error) => Err(error.into()),
        },
    }
}
