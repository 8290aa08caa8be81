//! The app's side: sends the receipts that phones decide to send, after their delay, with a `POST` of JSON.
//!
//! The last step of a notification's way. A receipt is tried three times, since an app does too; never more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counters::{Counters, bump};
use crate::device::Acknowledge;
use crate::phones::Handset;

/// How many receipts may be waiting or on their way: protects memory when nobody answers. The rest fail at once.
const PENDING_LIMIT: usize = 100_000;
/// How many receipts may be on their way at once: protects the receiver's listen queue and our file handles.
const SENDING_LIMIT: usize = 128;
/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(5);
/// The pauses before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// Sends receipts.
#[derive(Debug)]
pub(crate) struct Receipts {
    client: Client<HttpConnector, Full<Bytes>>,
    pending: AtomicUsize,
    sending: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Receipts {
    pub(crate) fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(SENDING_LIMIT).build_http();
        Self { client, pending: AtomicUsize::new(0), sending: Semaphore::new(SENDING_LIMIT), tasks, stop }
    }

    /// Sends one after another in the phone's time; returns at once. `done` is called when it has ended.
    pub(crate) fn send(
        self: &Arc<Self>,
        handset: Arc<Handset>,
        acknowledge: Acknowledge,
        default_url: Option<Arc<str>>,
        counters: Arc<Counters>,
        done: impl FnOnce() + Send + 'static,
    ) {
        let Some(url) = handset.receipts_url().or(default_url) else { return };
        if self.pending.fetch_add(1, Ordering::Relaxed) >= PENDING_LIMIT {
            self.pending.fetch_sub(1, Ordering::Relaxed);
            bump(&handset.receipts_failed);
            bump(&counters.receipts_failed);
            return;
        }
        let receipts = self.clone();
        self.tasks.spawn(async move {
            let sent = tokio::select! {
                // The simulator ends: a receipt not sent by then is a receipt lost, as with a phone switched off.
                () = receipts.stop.cancelled() => false,
                sent = receipts.deliver(&handset, &acknowledge, &url) => sent,
            };
            receipts.pending.fetch_sub(1, Ordering::Relaxed);
            bump(if sent { &handset.receipts_sent } else { &handset.receipts_failed });
            bump(if sent { &counters.receipts_sent } else { &counters.receipts_failed });
            done();
        });
    }

    async fn deliver(&self, handset: &Handset, acknowledge: &Acknowledge, url: &str) -> bool {
        if acknowledge.after_ms > 0 {
            tokio::time::sleep(Duration::from_millis(acknowledge.after_ms)).await;
        }
        if !handset.is_connected() {
            return false;
        }
        let Ok(_permit) = self.sending.acquire().await else { return false };
        let body = serde_json::json!({ "receipts": [{ "capability": acknowledge.capability }] });
        let body = Bytes::from(body.to_string());
        for pause in PAUSES.into_iter().map(Some).chain([None]) {
            match self.attempt(url, body.clone()).await {
                Some(status) if status.is_success() => return true,
                // The receiver understood and said no: asking again would not help.
                Some(status) if status.is_client_error() => return false,
                Some(_) | None => {}
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        false
    }

    /// The status answered, or `None` if there was no answer.
    async fn attempt(&self, url: &str, body: Bytes) -> Option<http::StatusCode> {
        let request = Request::post(url).header(header::CONTENT_TYPE, "application/json").body(Full::new(body)).ok()?;
        let answered = tokio::time::timeout(TRY_LIMIT, async {
            let response = self.client.request(request).await.ok()?;
            let status = response.status();
            // Read to the end, so that the connection can be used again.
            crate::listener::read_body(response.into_body()).await.ok()?;
            Some(status)
        });
        answered.await.ok()?
    }
}
