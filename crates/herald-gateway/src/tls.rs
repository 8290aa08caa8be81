//! TLS with a certificate of the operator's own, read again when its files change.
//!
//! Stands between the bounded listener and what serves HTTP. Handshakes run beside each other, so that a client that stalls in
//! one holds up nobody; each holds a place of the bounded listener meanwhile. A certificate that can't be read when it was
//! renewed leaves the old one in use, with a line in the log.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::connections::{Bounded, Connection, Talk, Talks};

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How often the files are looked at, at most: a renewed certificate is in use so much later.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where certificate and key are, in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Why they can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path}: holds no {what} in PEM")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// The two don't belong together, or the key is of a kind that TLS has no use for.
    #[error("the certificate and the key do not fit: {0}")]
    Unfit(#[from] rustls::Error),
}

impl TlsFiles {
    /// Reads them, as the listener will.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn check(&self) -> Result<(), TlsError> {
        self.acceptor().map(|_| ())
    }

    fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        let no = |path: &Path, what| TlsError::Pem { path: path.to_owned(), what };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(&self.cert_file)?)
            .collect::<Result<_, _>>()
            .map_err(|_| no(&self.cert_file, "certificate"))?;
        if chain.is_empty() {
            return Err(no(&self.cert_file, "certificate"));
        }
        let key =
            PrivateKeyDer::from_pem_slice(&read(&self.key_file)?).map_err(|_| no(&self.key_file, "private key"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// When each was changed last; a file that isn't there now has no time.
    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.cert_file, &self.key_file].map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
    }
}

impl Talks for TlsStream<Connection> {
    fn talk(&self) -> Talk {
        self.get_ref().0.talk()
    }
}

/// A listener whose connections are TLS.
pub(crate) struct Secured {
    inner: Bounded,
    files: TlsFiles,
    acceptor: TlsAcceptor,
    changed: [Option<SystemTime>; 2],
    looked: Instant,
    look_every: Duration,
    handshakes: JoinSet<Option<(TlsStream<Connection>, SocketAddr)>>,
}

impl Secured {
    /// # Errors
    /// See [`TlsError`].
    pub(crate) fn new(inner: Bounded, files: TlsFiles) -> Result<Self, TlsError> {
        let (changed, acceptor) = (files.changed(), files.acceptor()?);
        let (looked, handshakes) = (Instant::now(), JoinSet::new());
        Ok(Self { inner, files, acceptor, changed, looked, look_every: LOOK_EVERY, handshakes })
    }

    /// Reads the files again if they have changed.
    fn look(&mut self) {
        if self.looked.elapsed() < self.look_every {
            return;
        }
        self.looked = Instant::now();
        let changed = self.files.changed();
        if changed == self.changed {
            return;
        }
        match self.files.acceptor() {
            Ok(acceptor) => {
                (self.acceptor, self.changed) = (acceptor, changed);
                info!("the certificate of the gateway was read again");
            }
            // Looked at again next time: who renews it may be between the two files.
            Err(error) => warn!(%error, "the renewed certificate can't be used; the one before it stays"),
        }
    }
}

impl Listener for Secured {
    type Io = TlsStream<Connection>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                // Both may be dropped while they wait: a connection that was accepted is in the set at once.
                (connection, address) = self.inner.accept() => {
                    self.look();
                    let handshake = self.acceptor.accept(connection);
                    self.handshakes.spawn(async move {
                        let secured = timeout(HANDSHAKE_LIMIT, handshake).await.ok()?.ok()?;
                        Some((secured, address))
                    });
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(secured)) = done {
                        return secured;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// A certificate of its own authority, written to the files; what to trust.
    fn write(files: &TlsFiles) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert_file, cert.pem()).unwrap();
        std::fs::write(&files.key_file, signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    async fn start() -> (tempfile::TempDir, TlsFiles, Secured, SocketAddr, CertificateDer<'static>) {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { cert_file: dir.path().join("cert.pem"), key_file: dir.path().join("key.pem") };
        let trusted = write(&files);
        let listener = Bounded::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let secured = Secured { look_every: Duration::ZERO, ..Secured::new(listener, files.clone()).unwrap() };
        (dir, files, secured, address, trusted)
    }

    async fn connect(address: SocketAddr, trusted: &CertificateDer<'static>) -> io::Result<()> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        tls.write_all(b"hello").await?;
        tls.flush().await
    }

    async fn hears(secured: &mut Secured) {
        let (mut served, _) = secured.accept().await;
        let mut word = [0; 5];
        served.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"hello");
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_and_one_that_cannot_be_read_is_not() {
        let (_dir, files, mut secured, address, first) = start().await;
        let (sent, ()) = tokio::join!(connect(address, &first), hears(&mut secured));
        sent.unwrap();
        let second = write(&files);
        let (sent, ()) = tokio::join!(connect(address, &second), hears(&mut secured));
        sent.unwrap();
        std::fs::write(&files.key_file, "nonsense").unwrap();
        let (sent, ()) = tokio::join!(connect(address, &second), hears(&mut secured));
        sent.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_holds_up_nobody() {
        let (_dir, _files, mut secured, address, trusted) = start().await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let (sent, ()) = tokio::join!(connect(address, &trusted), hears(&mut secured));
        sent.unwrap();
    }

    #[tokio::test]
    async fn files_that_hold_no_certificate_are_refused_with_their_names() {
        let (_dir, files, ..) = start().await;
        for (path, what) in [(&files.cert_file, "certificate"), (&files.key_file, "private key")] {
            let good = std::fs::read(path).unwrap();
            std::fs::write(path, "secret nonsense").unwrap();
            let error = files.acceptor().err().unwrap().to_string();
            assert!(error.ends_with(&format!("holds no {what} in PEM")) && !error.contains("secret"), "{error}");
            std::fs::remove_file(path).unwrap();
            assert!(matches!(files.acceptor(), Err(TlsError::Read { .. })));
            std::fs::write(path, good).unwrap();
        }
    }
}
