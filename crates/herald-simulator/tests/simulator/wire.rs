//! A client that shows frames: HTTP/2 by the `h2` library over TLS, with one connection that the test holds.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::*;

/// The body of a raw push without an id.
pub(crate) const RAW: &str = r#"{"aps":{"content-available":1}}"#;

/// TLS to `url` with these protocols, trusting `ca_pem`.
pub(crate) async fn tls(url: &str, ca_pem: &str, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(url.replace("https://localhost", "127.0.0.1")).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect("127.0.0.1".try_into().unwrap(), stream).await
}

/// One HTTP/2 connection.
pub(crate) struct Wire {
    pub(crate) send: h2::client::SendRequest<Bytes>,
    pub(crate) ping: h2::PingPong,
    ended: JoinSet<Result<(), h2::Error>>,
}

impl Wire {
    pub(crate) async fn apns(simulator: &Simulator) -> Self {
        Self::over(tls(&simulator.apns_url(), simulator.ca_pem(), &["h2"]).await.unwrap()).await
    }

    pub(crate) async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Self {
        let (send, mut connection) = h2::client::handshake(stream).await.unwrap();
        let ping = connection.ping_pong().unwrap();
        let mut ended = JoinSet::new();
        ended.spawn(connection);
        Self { send, ping, ended }
    }

    /// Sends a request whole; the answer may never come.
    pub(crate) async fn start(
        &self,
        request: Request<()>,
        body: &str,
    ) -> Result<h2::client::ResponseFuture, h2::Error> {
        let mut ready = self.send.clone().ready().await?;
        let (answer, mut stream) = ready.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        Ok(answer)
    }

    /// The answer's head, and its body to be read.
    pub(crate) async fn answer(&self, request: Request<()>, body: &str) -> Result<Response<h2::RecvStream>, h2::Error> {
        let answer = self.start(request, body).await?;
        tokio::time::timeout(LIMIT, answer).await.unwrap()
    }

    /// The status and the reason.
    pub(crate) async fn reason(&self, request: Request<()>) -> (u16, String) {
        let response = self.answer(request, RAW).await.unwrap();
        let status = response.status().as_u16();
        let (frames, _) = read(response.into_body()).await;
        let body: Value = serde_json::from_slice(&frames.concat()).unwrap_or_default();
        (status, body["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// How the connection ended by the other side, with this one still wanting it.
    pub(crate) async fn ended_by_peer(&mut self) -> Result<(), h2::Error> {
        tokio::time::timeout(LIMIT, self.ended.join_next()).await.unwrap().unwrap().unwrap()
    }
}

/// The DATA frames of a body that has an end, and the trailers.
pub(crate) async fn read(mut body: h2::RecvStream) -> (Vec<Bytes>, HeaderMap) {
    let mut frames = Vec::new();
    while let Some(frame) = tokio::time::timeout(LIMIT, body.data()).await.unwrap() {
        let frame = frame.unwrap();
        body.flow_control().release_capacity(frame.len()).unwrap();
        frames.push(frame);
    }
    (frames, body.trailers().await.unwrap().unwrap_or_default())
}

/// A raw push that is right in every way, for `MAIL`.
pub(crate) fn pushing(simulator: &Simulator, token: &str) -> Request<()> {
    with_key(&current_provider_token(&mail(simulator)), MAIL_TOPIC, token)
}

/// A raw push with this provider token to this topic.
pub(crate) fn with_key(provider_token: &str, topic: &str, token: &str) -> Request<()> {
    Request::post(format!("https://localhost/3/device/{token}"))
        .header("authorization", format!("bearer {provider_token}"))
        .header("apns-topic", topic)
        .header("apns-push-type", "background")
        .header("apns-priority", "5")
        .body(())
        .unwrap()
}
