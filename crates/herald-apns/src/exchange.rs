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
//! | it ends in any way before the last byte of the body was handed over (the server made no room for it) | no | the server has no push to process |
//! | any other reset, end of the connection, no answer in time | unknown | |

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
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
    /// The same, but the end of the body did not come before the deadline.
    Stalled(Answer),
    /// Surely not processed: this stream only.
    Refused,
    /// Surely not processed, and the connection takes no more streams.
    Closing,
    /// Surely not processed: until the deadline the server made no room for the body.
    NoRoom,
    /// It may have been processed: the stream or the connection broke.
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
    let Ok((mut response, mut stream)) = sender.send_request(request.head(bearer), false) else {
        return Exchange::Closing;
    };
    let mut written = false;
    let answered = timeout_at(deadline, async {
        tokio::select! {
            biased;
            // A refusal may come before the body has gone.
            early = &mut response => return early,
            whole = write(&mut stream, request.body.clone()) => written = whole,
        }
        response.await
    })
    .await;
    match answered {
        Ok(Ok(response)) => read(response, deadline).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, written, "no answer from APNs");
            lost(&error, written)
        }
        // The stream is dropped, so h2 resets it; the server may have processed a whole push all the same.
        Err(_late) if written => Exchange::Silent,
        Err(_late) => Exchange::NoRoom,
    }
}

/// Hands the body over as the server makes room for it. False if the stream ended before.
async fn write(stream: &mut SendStream<Bytes>, mut body: Bytes) -> bool {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return false;
        };
        let piece = body.split_to(room.min(body.len()));
        if stream.send_data(piece, body.is_empty()).is_err() {
            return false;
        }
    }
    true
}

fn lost(error: &h2::Error, written: bool) -> Exchange {
    if error.is_remote() && error.is_go_away() {
        Exchange::Closing
    } else if error.is_remote() && error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM) {
        Exchange::Refused
    } else if written {
        Exchange::Broken
    } else if error.is_reset() {
        Exchange::Refused
    } else {
        Exchange::Closing
    }
}

/// The status is the answer. A body that breaks off or comes too late takes nothing away from it.
async fn read(response: Response<RecvStream>, deadline: Instant) -> Exchange {
    let (head, mut body) = response.into_parts();
    let mut read = BytesMut::new();
    let mut stalled = false;
    while read.len() < BODY_LIMIT {
        match timeout_at(deadline, body.data()).await {
            Ok(Some(Ok(chunk))) => {
                // An error here means the stream is gone; the next `data` ends the loop.
                if body.flow_control().release_capacity(chunk.len()).is_err() {
                    tracing::debug!("the stream of an answer ended while it was read");
                }
                read.extend_from_slice(&chunk[..chunk.len().min(BODY_LIMIT - read.len())]);
            }
            Ok(None | Some(Err(_))) => break,
            Err(_late) => {
                stalled = true;
                break;
            }
        }
    }
    let answer = Answer {
        status: head.status.as_u16(),
        provider_id: text(&head.headers, "apns-id"),
        retry_after: text(&head.headers, "retry-after"),
        body: read.to_vec(),
    };
    if stalled { Exchange::Stalled(answer) } else { Exchange::Answered(answer) }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= HEADER_LIMIT).then(|| value.to_owned())
}
