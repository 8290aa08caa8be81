//! One GET over plain HTTP, for the simulator's counters and the workers' metrics.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that one may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// The body of a 200.
///
/// # Errors
/// Nobody listens, it takes longer than 5 s, or the answer is another one.
pub(super) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let answered = timeout(LIMIT, exchange(address, path)).await;
    answered.with_context(|| format!("http://{address}{path}: no answer within {LIMIT:?}"))?
}

async fn exchange(address: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("http://{address}{path}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let asked = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        ensure!(status == StatusCode::OK, "http://{address}{path}: {status}");
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!("http://{address}{path}: {error}"))?.to_bytes())
    };
    let driven = async {
        // What goes wrong is what `asked` reports.
        connection.await.ok();
        pending::<()>().await;
    };
    tokio::select! {
        body = asked => body,
        // Never ends; drives the connection for as long as the other one needs it.
        () = driven => unreachable!("pending"),
    }
}
