//! The listener: its certificate, its connections, and what it saw of its clients.
//!
//! It stands before [`super::Peer`]. It never waits for one connection before it takes the next.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{End, Peer};

/// How long [`Server::wait_for`] may take on a busy machine.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A complete request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Its stream.
    pub stream: u32,
    /// Its body.
    pub body: Vec<u8>,
}

/// What clients did.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// TCP connections that were taken.
    pub connections: usize,
    /// Complete requests, in the order of their ends.
    pub requests: Vec<Request>,
}

/// A running server on 127.0.0.1, for TLS names `localhost` and `127.0.0.1`. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate to trust.
    pub ca_pem: String,
    seen: Arc<watch::Sender<Seen>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Serves each connection with `serve`, which gets its number, from 0, when TLS is made. A connection ends when its future
    /// does.
    ///
    /// # Errors
    /// If there is no certificate or no port.
    pub async fn start<F, Served>(serve: F) -> Result<Self>
    where
        F: Fn(usize, Peer) -> Served + Send + Sync + 'static,
        Served: Future<Output = io::Result<()>> + Send + 'static,
    {
        let serve = Arc::new(serve);
        Self::start_before_tls(move |number, arrival| {
            let serve = Arc::clone(&serve);
            async move { serve(number, arrival.secure().await?).await }
        })
        .await
    }

    /// The same from the moment that TCP is made.
    ///
    /// # Errors
    /// If there is no certificate or no port.
    pub async fn start_before_tls<F, Served>(serve: F) -> Result<Self>
    where
        F: Fn(usize, Arrival) -> Served + Send + 'static,
        Served: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (tls, ca_pem) = acceptor()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(watch::Sender::new(Seen::default()));
        let told = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let number = told.borrow().connections;
                told.send_modify(|seen| seen.connections += 1);
                let arrival = Arrival { tcp, tls: tls.clone(), number, seen: Arc::clone(&told) };
                let served = serve(number, arrival);
                serving.spawn(async move {
                    // A connection that the client ends is how most tests end.
                    drop(served.await);
                });
            }
        });
        Ok(Self { address, ca_pem, seen, _tasks: tasks })
    }

    /// What clients did until now.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// How many complete requests came.
    pub fn requests(&self) -> usize {
        self.seen.borrow().requests.len()
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.seen.borrow().connections
    }

    /// Waits until clients did something.
    ///
    /// # Panics
    /// If they do not within a minute.
    pub async fn wait_for(&self, what: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(WAIT_LIMIT, seen.wait_for(what)).await;
        assert!(waited.is_ok(), "the server did not see within {WAIT_LIMIT:?} what a test waits for");
    }
}

/// A connection before TLS.
pub struct Arrival {
    tcp: TcpStream,
    tls: TlsAcceptor,
    number: usize,
    seen: Arc<watch::Sender<Seen>>,
}

impl Arrival {
    /// Makes TLS.
    ///
    /// # Errors
    /// If the client doesn't want it.
    pub async fn secure(self) -> io::Result<Peer> {
        let (number, seen) = (self.number, Arc::clone(&self.seen));
        Ok(Peer::new(self.stream().await?, number, seen))
    }

    /// Makes TLS and hands it over, for a library's HTTP/2 server. [`Server::seen`] counts no requests of it.
    ///
    /// # Errors
    /// If the client doesn't want it.
    pub async fn stream(self) -> io::Result<TlsStream<TcpStream>> {
        self.tcp.set_nodelay(true)?;
        self.tls.accept(self.tcp).await
    }

    /// Ends it without a word of TLS.
    ///
    /// # Errors
    /// If the client was faster.
    pub async fn end(mut self, how: End) -> io::Result<()> {
        match how {
            End::CloseNotify | End::Fin => self.tcp.shutdown().await?,
            End::Reset => return self.tcp.set_zero_linger(),
        }
        super::peer::drain(&mut self.tcp).await
    }

    /// Keeps it open and never says a word, until the client ends it.
    ///
    /// # Errors
    /// If the client ends it by force.
    pub async fn hold(mut self) -> io::Result<()> {
        super::peer::drain(&mut self.tcp).await
    }
}

fn acceptor() -> Result<(TlsAcceptor, String)> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).ok().context("a key in PKCS#8")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), certified.cert.pem()))
}
