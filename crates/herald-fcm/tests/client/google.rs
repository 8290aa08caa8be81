//! FCM and its token endpoint on one TLS port, answering by script.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use herald_core::push::FcmPush;
use herald_core::time::Timestamp;
use herald_fcm::{Client, Config};
use herald_harness::frames::Server;
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

/// What the server does with a request.
pub(crate) enum Act {
    /// Answers.
    Answer(u16, String),
    /// RST_STREAM with REFUSED_STREAM.
    Refuse,
    /// RST_STREAM with another reason.
    Reset,
    /// Never answers, and keeps the stream open.
    Hold,
    /// Closes the connection.
    HangUp,
}

/// The nth request of its kind (token or push), from 0; its authorization or its assertion.
pub(crate) struct Asked {
    pub(crate) nth: usize,
    pub(crate) is_token: bool,
    pub(crate) text: String,
    pub(crate) connection: usize,
}

pub(crate) type Acting = Pin<Box<dyn Future<Output = Act> + Send>>;
type Script = dyn Fn(Asked) -> Acting + Send + Sync;

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicUsize,
    pub(crate) grants: AtomicUsize,
    pub(crate) pushes: AtomicUsize,
    open: AtomicUsize,
    pub(crate) most_open: AtomicUsize,
}

pub(crate) struct Google {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) account: String,
    pub(crate) counts: Arc<Counts>,
    pub(crate) paths: Arc<Mutex<Vec<String>>>,
    pub(crate) seconds: Arc<AtomicI64>,
    _server: Server,
}

impl Google {
    pub(crate) async fn start(script: impl Fn(Asked) -> Acting + Send + Sync + 'static) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let counts = Arc::new(Counts::default());
        let paths = Arc::new(Mutex::new(Vec::new()));
        let (counting, recording) = (Arc::clone(&counts), Arc::clone(&paths));
        let server = Server::start_before_tls(move |number, arrival| {
            counting.connections.fetch_add(1, Ordering::SeqCst);
            let (counts, paths, script) = (Arc::clone(&counting), Arc::clone(&recording), Arc::clone(&script));
            async move {
                serve(arrival.stream().await?, number, counts, script, paths).await;
                Ok(())
            }
        })
        .await
        .unwrap();
        let (address, ca_pem) = (server.address, server.ca_pem.clone());
        let account = account(address);
        let seconds = Arc::new(AtomicI64::new(1_800_000_000));
        Self { address, ca_pem, account, counts, paths, seconds, _server: server }
    }

    pub(crate) fn client(&self, change: impl FnOnce(&mut Config)) -> Client {
        let seconds = Arc::clone(&self.seconds);
        let now = Arc::new(move || Timestamp::from_secs(seconds.load(Ordering::SeqCst)));
        let mut config = Config::new(format!("https://{}", self.address), self.account.clone(), now);
        config.ca_pem = Some(self.ca_pem.clone());
        config.request_timeout = Duration::from_secs(30);
        config.clients = 1;
        change(&mut config);
        Client::new(config).unwrap()
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn grants(&self) -> usize {
        self.counts.grants.load(Ordering::SeqCst)
    }

    pub(crate) fn pushes(&self) -> usize {
        self.counts.pushes.load(Ordering::SeqCst)
    }
}

/// RSA keys take long to make, so all tests have one.
static KEY: LazyLock<String> = LazyLock::new(|| {
    rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap().serialize_pem()
});

pub(crate) fn account(address: SocketAddr) -> String {
    serde_json::json!({
        "type": "service_account",
        "project_id": "contoso-mail",
        "private_key_id": "key-1",
        "private_key": *KEY,
        "client_email": "herald@contoso-mail.iam.gserviceaccount.com",
        "token_uri": format!("https://{address}/token"),
    })
    .to_string()
}

async fn serve(
    io: TlsStream<TcpStream>,
    connection: usize,
    counts: Arc<Counts>,
    script: Arc<Script>,
    paths: Arc<Mutex<Vec<String>>>,
) {
    let mut h2 = h2::server::handshake(io).await.unwrap();
    let mut acting = JoinSet::new();
    loop {
        tokio::select! {
            accepted = h2.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                paths.lock().unwrap().push(request.uri().path().to_owned());
                acting.spawn(act(request, respond, connection, Arc::clone(&counts), Arc::clone(&script)));
            }
            Some(done) = acting.join_next() => {
                // true: hang up.
                if done.unwrap() {
                    return;
                }
            }
        }
    }
}

async fn act(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    counts: Arc<Counts>,
    script: Arc<Script>,
) -> bool {
    let is_token = request.uri().path() == "/token";
    let (head, mut body) = request.into_parts();
    let mut read = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control().release_capacity(chunk.len()).unwrap();
        read.extend_from_slice(&chunk);
    }
    let kind = if is_token { &counts.grants } else { &counts.pushes };
    let nth = kind.fetch_add(1, Ordering::SeqCst);
    let text = if is_token {
        String::from_utf8(read).unwrap()
    } else {
        head.headers["authorization"].to_str().unwrap().to_owned()
    };
    let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
    counts.most_open.fetch_max(open, Ordering::SeqCst);
    let act = script(Asked { nth, is_token, text, connection }).await;
    counts.open.fetch_sub(1, Ordering::SeqCst);
    match act {
        Act::Answer(status, body) => {
            let head = Response::builder().status(status).header("retry-after", "7").body(()).unwrap();
            // The client may have gone meanwhile.
            if let Ok(mut stream) = respond.send_response(head, false) {
                drop(stream.send_data(Bytes::from(body), true));
            }
        }
        Act::Refuse => respond.send_reset(h2::Reason::REFUSED_STREAM),
        Act::Reset => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        Act::Hold => std::future::pending().await,
        Act::HangUp => return true,
    }
    false
}

/// A token that lives an hour; the nth.
pub(crate) fn granted(nth: usize) -> Act {
    Act::Answer(200, format!(r#"{{"access_token":"ya29.{nth}","expires_in":3600,"token_type":"Bearer"}}"#))
}

pub(crate) fn accepted() -> Act {
    Act::Answer(200, r#"{"name":"projects/contoso-mail/messages/1"}"#.to_owned())
}

pub(crate) fn ready(act: Act) -> Acting {
    Box::pin(std::future::ready(act))
}

/// Grants every token, and does `push` with pushes.
pub(crate) fn pushing(push: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> impl Fn(Asked) -> Acting + Send + Sync {
    move |asked| ready(if asked.is_token { granted(asked.nth) } else { push(&asked) })
}

pub(crate) fn push() -> FcmPush {
    FcmPush { body: br#"{"message":{"token":"t","data":{}}}"#.to_vec() }
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
