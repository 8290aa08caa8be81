//! One push on one stream, and what it means when no answer comes.
//!
//! Stands between the pool and the answer. The line that matters is drawn here: what APNs surely did not process may be
//! sent again at once, anything else may not. Never sends twice itself, never reads what an answer means.
//!
//! | what happens | processed? | source |
//! | --- | --- | --- |
//! | the connection takes no new stream | no | nothing was written |
//! | RST_STREAM with REFUSED_STREAM, from the server | no | RFC 9113 §8.7 |
//! | GOAWAY with a lower last stream id, from the server | no | RFC 9113 §6.8; h2 gives that error to those streams only |
//! | any other reset, end of the connection, no answer in time | unknown | |

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use herald_core::outcome::Answer;
use http::{HeaderMap, HeaderValue, Response};
use tokio::time::{Instant, timeout_at};

use crate::request::PushRequest;

/// The most that is read of an answer's body. Apple's are below 200 bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// The longest header value that is taken over from an answer.
const HEADER_LIMIT: usize = 128;

/// How one exchange ended.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// APNs answered; `Answer` says what.
    Answered(Answer),
    /// Surely not processed: this stream only.
    Refused,
    /// Surely not processed, and the connection takes no more streams.
    Closing,
    /// It may have been processed: the connection broke.
    Broken,
    /// It may have been processed: no answer before the deadline.
    Silent,
}

/// Writes the push and waits for its answer.
pub(crate) async fn exchange(
    sender: &h2::client::SendRequest<Bytes>,
    request: &PushRequest,
    bearer: &HeaderValue,
    deadline: Instant,
) -> Exchange {
    // A clone has no stream pending, so it is ready unless the connection is closing.
    let mut sender = sender.clone();
    let Ok((response, mut stream)) = sender.send_request(request.head(bearer), false) else {
        return Exchange::Closing;
    };
    // If this fails, the stream has just ended, and the response says how.
    let written = stream.send_data(request.body.clone(), true);
    match timeout_at(deadline, response).await {
        Ok(Ok(response)) => Exchange::Answered(read(response, deadline).await),
        Ok(Err(error)) => {
            tracing::debug!(%error, written = written.is_ok(), "no answer from APNs");
            lost(&error)
        }
        // The stream is dropped, so h2 resets it; the server may have processed the push all the same.
        Err(_late) => Exchange::Silent,
    }
}

fn lost(error: &h2::Error) -> Exchange {
    if error.is_remote() && error.is_go_away() {
        Exchange::Closing
    } else if error.is_remote() && error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM) {
        Exchange::Refused
    } else {
        Exchange::Broken
    }
}

/// The status is the answer. A body that breaks off or comes too late takes nothing away from it.
async fn read(response: Response<RecvStream>, deadline: Instant) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut read = BytesMut::new();
    while read.len() < BODY_LIMIT {
        match timeout_at(deadline, body.data()).await {
            Ok(Some(Ok(chunk))) => {
                // An error here means the stream is gone; the next `data` ends the loop.
                if body.flow_control().release_capacity(chunk.len()).is_err() {
                    tracing::debug!("the stream of an answer ended while it was read");
                }
                read.extend_from_slice(&chunk[..chunk.len().min(BODY_LIMIT - read.len())]);
            }
            Ok(None | Some(Err(_))) | Err(_) => break,
        }
    }
    Answer {
        status: head.status.as_u16(),
        provider_id: text(&head.headers, "apns-id"),
        retry_after: text(&head.headers, "retry-after"),
        body: read.to_vec(),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= HEADER_LIMIT).then(|| value.to_owned())
}
