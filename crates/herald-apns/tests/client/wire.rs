//! A server that speaks HTTP/2 frame by frame: it can do what no HTTP/2 library's server can be made to do (a limit that
//! changes, a GOAWAY with a last id and a reason, silence). One closure serves each connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herald_apns::{Client, Config};
use herald_core::ids::PushToken;
use herald_core::push::{ApnsPush, PushType};
use herald_core::subscription::Environment;
use herald_core::time::Timestamp;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;

pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;

/// A TLS listener with its own certificate.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener {
    pub(crate) async fn bind() -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: tcp.local_addr().unwrap(),
            ca_pem: certified.cert.pem(),
            tcp,
            tls: TlsAcceptor::from(Arc::new(config)),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<TlsStream<TcpStream>> {
        let (tcp, _) = self.tcp.accept().await?;
        tcp.set_nodelay(true)?;
        self.tls.accept(tcp).await
    }
}

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// `serve` is called with each connection's number, from 0.
    pub(crate) async fn start<F, Served>(serve: F) -> Self
    where
        F: Fn(usize, Peer) -> Served + Send + 'static,
        Served: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = Listener::bind().await;
        let (address, ca_pem) = (listener.address, listener.ca_pem.clone());
        let requests = Arc::new(AtomicUsize::new(0));
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, opened) = (Arc::clone(&requests), Arc::clone(&connections));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                if let Ok(io) = listener.accept().await {
                    let number = opened.fetch_add(1, Ordering::SeqCst);
                    let served = serve(number, Peer { io, requests: Arc::clone(&counted) });
                    serving.spawn(async move {
                        // A connection that the client ends is how most tests end.
                        drop(served.await);
                    });
                }
            }
        });
        Self { address, ca_pem, requests, connections, _tasks: tasks }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A client for it, after `change`.
    pub(crate) fn client(&self, change: impl FnOnce(&mut Config)) -> Client {
        let mut config = config(self.address, &self.ca_pem);
        change(&mut config);
        Client::new(config).unwrap()
    }
}

/// One connection, frame by frame.
pub(crate) struct Peer {
    io: TlsStream<TcpStream>,
    requests: Arc<AtomicUsize>,
}

enum Frame {
    Request(u32),
    Pong,
    Other,
}

impl Peer {
    /// Reads the preface and sends the first SETTINGS.
    pub(crate) async fn greet(&mut self, max_streams: u32) -> io::Result<()> {
        let mut preface = [0; 24];
        self.io.read_exact(&mut preface).await?;
        self.settings(max_streams).await
    }

    pub(crate) async fn settings(&mut self, max_streams: u32) -> io::Result<()> {
        let mut payload = MAX_CONCURRENT_STREAMS.to_be_bytes().to_vec();
        payload.extend(max_streams.to_be_bytes());
        self.write(SETTINGS, 0, 0, &payload).await
    }

    /// Waits for the next complete request: its stream.
    pub(crate) async fn request(&mut self) -> io::Result<u32> {
        loop {
            if let Frame::Request(stream) = self.read().await? {
                return Ok(stream);
            }
        }
    }

    /// How many complete requests come before the client answers a PING: those it had already decided to write.
    pub(crate) async fn requests_before_pong(&mut self) -> io::Result<usize> {
        self.write(PING, 0, 0, b"question").await?;
        let mut requests = 0;
        loop {
            match self.read().await? {
                Frame::Request(_) => requests += 1,
                Frame::Pong => return Ok(requests),
                Frame::Other => {}
            }
        }
    }

    /// `:status` 200 and nothing else.
    pub(crate) async fn accept(&mut self, stream: u32) -> io::Result<()> {
        self.write(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88]).await
    }

    /// Any status, with an apns-id and a body.
    pub(crate) async fn answer(&mut self, stream: u32, status: &str, apns_id: &str, body: &str) -> io::Result<()> {
        // Literals without indexing: the name is static entry 8 (`:status`), then a new name.
        let mut block = vec![0x08, 3];
        block.extend(status.as_bytes());
        block.extend([0x00, 7]);
        block.extend(b"apns-id");
        block.push(u8::try_from(apns_id.len()).unwrap());
        block.extend(apns_id.as_bytes());
        self.write(HEADERS, END_HEADERS, stream, &block).await?;
        self.write(DATA, END_STREAM, stream, body.as_bytes()).await
    }

    pub(crate) async fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.write(RST_STREAM, 0, stream, &code.to_be_bytes()).await
    }

    pub(crate) async fn go_away(&mut self, last_stream: u32, debug: &str) -> io::Result<()> {
        let mut payload = last_stream.to_be_bytes().to_vec();
        payload.extend(0u32.to_be_bytes());
        payload.extend(debug.as_bytes());
        self.write(GOAWAY, 0, 0, &payload).await
    }

    /// Reads until the client closes, answering PINGs.
    pub(crate) async fn until_closed(&mut self) -> io::Result<()> {
        loop {
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.io.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await?,
            PING if flags & ACK == 0 => self.write(PING, ACK, 0, &payload).await?,
            PING => return Ok(Frame::Pong),
            HEADERS | DATA if flags & END_STREAM != 0 => {
                self.requests.fetch_add(1, Ordering::SeqCst);
                return Ok(Frame::Request(stream));
            }
            _ => {}
        }
        Ok(Frame::Other)
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.io.write_all(&frame).await?;
        self.io.flush().await
    }
}

pub(crate) fn config(address: SocketAddr, ca_pem: &str) -> Config {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let url = format!("https://localhost:{}", address.port());
    let mut config = Config::new(url, "TEAM123456", "KEY1234567", key, Arc::new(wall_clock));
    config.connect_to = Some(address);
    config.ca_pem = Some(ca_pem.to_owned());
    config.request_timeout = Duration::from_secs(30);
    config
}

pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
}

pub(crate) fn push() -> ApnsPush {
    ApnsPush {
        token: PushToken::new("00ff00ff"),
        environment: Environment::Production,
        topic: Arc::from("com.contoso.mail"),
        push_type: PushType::Alert,
        priority: 10,
        expiration: 0,
        collapse_id: "order-1042".to_owned(),
        id: uuid::Uuid::from_u128(1042),
        body: br#"{"aps":{"alert":"hello"}}"#.to_vec(),
    }
}

/// `count` pushes at once; how many were answered with 200.
pub(crate) async fn burst(client: &Client, count: usize) -> usize {
    let mut sends = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        sends.spawn(async move { client.send(&push()).await });
    }
    let mut accepted = 0;
    while let Some(sent) = sends.join_next().await {
        accepted += usize::from(sent.unwrap().is_ok_and(|answer| answer.status == 200));
    }
    accepted
}
