//! The body of an answer: whole, as providers send it, or in the pieces that a script wants.
//!
//! Below the answers, above the HTTP library. A body of no bytes is none: hyper then ends the stream with the HEADERS
//! frame, as APNs does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::faults::Script;

/// How a script wants an answer sent.
#[derive(Debug)]
pub(crate) struct Shape {
    /// `None`: one, and none for an empty body.
    chunks: Option<u32>,
    pause: Duration,
    trailers: HeaderMap,
    stall: bool,
    /// GOAWAY goes with it.
    pub(crate) goaway: bool,
}

impl Shape {
    /// `None`: as providers send it.
    pub(crate) fn of(script: &Script) -> Option<Self> {
        let header = |(name, value): (&String, &String)| {
            Some((HeaderName::try_from(name.as_str()).ok()?, HeaderValue::try_from(value.as_str()).ok()?))
        };
        let shape = Self {
            chunks: script.chunks.filter(|chunks| *chunks > 0),
            pause: Duration::from_millis(script.chunk_delay_ms),
            trailers: script.trailers.iter().filter_map(header).collect(),
            stall: script.stall_body,
            goaway: script.goaway,
        };
        (shape.cuts() || shape.goaway).then_some(shape)
    }

    fn cuts(&self) -> bool {
        self.chunks.is_some() || !self.pause.is_zero() || !self.trailers.is_empty() || self.stall
    }
}

/// A body as it is sent.
#[derive(Debug)]
pub(crate) enum Content {
    Whole(Full<Bytes>),
    Pieces(Box<Pieces>),
}

impl Content {
    pub(crate) fn new(body: Bytes, shape: Option<&Shape>) -> Self {
        match shape.filter(|shape| shape.cuts()) {
            None => Self::Whole(Full::new(body)),
            Some(shape) => Self::Pieces(Box::new(Pieces {
                left: cut(&body, shape.chunks.unwrap_or(1)),
                pause: shape.pause,
                waiting: None,
                trailers: Some(shape.trailers.clone()).filter(|trailers| !trailers.is_empty()),
                stalls: shape.stall,
            })),
        }
    }
}

/// A body in pieces.
#[derive(Debug)]
pub(crate) struct Pieces {
    left: VecDeque<Bytes>,
    pause: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    trailers: Option<HeaderMap>,
    stalls: bool,
}

/// In `chunks` pieces, as equal as can be; fewer if there are fewer bytes.
fn cut(body: &Bytes, chunks: u32) -> VecDeque<Bytes> {
    let size = body.len().div_ceil(usize::try_from(chunks).unwrap_or(1)).max(1);
    (0..body.len()).step_by(size).map(|start| body.slice(start..body.len().min(start + size))).collect()
}

impl Pieces {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.stalls {
            // Nobody is woken: the client, or the simulator's end, drops this.
            return Poll::Pending;
        }
        if !self.pause.is_zero() && !self.left.is_empty() {
            let pause = self.pause;
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            std::task::ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        let data = self.left.pop_front().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Self::Pieces(pieces) => pieces.poll_next(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_many_as_wanted_and_make_the_whole() {
        for (length, chunks, pieces) in [(0, 3, 0), (1, 3, 1), (6, 3, 3), (10, 3, 3), (10, 1, 1)] {
            let body = Bytes::from(vec![b'x'; length]);
            let cut = cut(&body, chunks);
            assert_eq!(cut.len(), pieces, "{length} in {chunks}");
            assert_eq!(cut.iter().map(Bytes::len).sum::<usize>(), length);
        }
    }
}
