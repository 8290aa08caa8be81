//! One request to FCM, and what it means when no answer comes.
//!
//! Stands between a connection and the answer. What surely was not processed is told from what may have been. Never sends
//! twice, never reads what an answer means.

use herald_core::outcome::{Answer, Undelivered};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, Url};
use tokio::time::{Instant, timeout_at};

use crate::lanes::{Place, chain};
use crate::oauth::AccessToken;

/// The most that is read of an answer's body. FCM's are below 2 KiB.
const BODY_LIMIT: usize = 64 * 1024;
/// The longest `Retry-After` that is taken over.
const HEADER_LIMIT: usize = 128;

/// Writes the push and waits for its answer.
///
/// # Errors
/// `NotSent` if no connection could be made or the server refused the stream before processing; else `Unknown`.
pub(crate) async fn exchange(
    place: &Place<'_>,
    url: &Url,
    token: &AccessToken,
    body: &[u8],
    deadline: Instant,
) -> Result<Answer, Undelivered> {
    let request = place
        .client()
        .post(url.clone())
        .header(AUTHORIZATION, token.bearer.clone())
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_vec());
    match timeout_at(deadline, request.send()).await {
        Ok(Ok(response)) => {
            let (answer, whole) = read(response, deadline).await;
            // Else the place is dropped without a word: that counts as silence.
            if whole {
                place.answered();
            }
            Ok(answer)
        }
        Ok(Err(error)) => {
            let (undelivered, reset) = lost(&error);
            if reset {
                place.fruitless()
            } else {
                place.failed()
            }
            tracing::debug!(error = chain(&error.without_url()), ?undelivered, "no answer from FCM");
            Err(undelivered)
        }
        // The place is dropped without a word: that counts as silence.
        Err(_late) => Err(Undelivered::Unknown),
    }
}

/// Not sent: no connection, or the HTTP/2 server said itself that it did not process the stream (RFC 9113 §6.8, §8.7). Also
/// whether it reset the stream and left the connection open.
fn lost(error: &reqwest::Error) -> (Undelivered, bool) {
    if error.is_connect() || error.is_builder() {
        return (Undelivered::NotSent, false);
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>().filter(|h2| h2.is_remote()) {
            let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            let undelivered = if refused || h2.is_go_away() { Undelivered::NotSent } else { Undelivered::Unknown };
            return (undelivered, h2.is_reset());
        }
        cause = error.source();
    }
    (Undelivered::Unknown, false)
}

/// The status is the answer. A body that breaks off or comes too late takes nothing away from it. False if it
/// came too late.
async fn read(mut response: Response, deadline: Instant) -> (Answer, bool) {
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .filter(|value| value.len() <= HEADER_LIMIT)
        .map(str::to_owned);
    let mut body = Vec::new();
    let mut whole = true;
    while body.len() < BODY_LIMIT {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk[..chunk.len().min(BODY_LIMIT - body.len())]),
            Ok(Ok(None) | Err(_)) => break,
            Err(_late) => {
                whole = false;
                break;
            }
        }
    }
    (Answer { status: response.status().as_u16(), provider_id: None, retry_after, body }, whole)
}
