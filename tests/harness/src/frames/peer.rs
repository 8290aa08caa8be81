//! One connection, frame by frame.
//!
//! It stands after TLS. Reading acknowledges SETTINGS and (unless told otherwise) PINGs; everything else happens because a
//! test says so. It never checks what it is told to send: that may be nonsense.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use super::{Head, Request, Seen, code, flag, kind, setting};

/// What a client sends first (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order: TLS says that it ends, then TCP does.
    CloseNotify,
    /// TCP ends (FIN) without a word of TLS, as when a process dies.
    Fin,
    /// TCP is reset (RST), as when a machine or a middlebox forgets it.
    Reset,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CloseNotify, Self::Fin, Self::Reset];
}

/// A connection. Dropping it ends it, with FIN if all is read, else with RST: use [`Peer::end`] where that matters.
#[derive(Debug)]
pub struct Peer {
    io: TlsStream<TcpStream>,
    number: usize,
    seen: Arc<watch::Sender<Seen>>,
    bodies: HashMap<u32, Vec<u8>>,
    answers_pings: bool,
}

enum Frame {
    /// Its stream.
    Head(u32),
    /// Its stream and length, and whether the request is complete with it.
    Data(u32, usize, bool),
    Pong,
    Other,
}

impl Peer {
    pub(super) fn new(io: TlsStream<TcpStream>, number: usize, seen: Arc<watch::Sender<Seen>>) -> Self {
        Self { io, number, seen, bodies: HashMap::new(), answers_pings: true }
    }

    /// Reads the preface and sends the first SETTINGS.
    ///
    /// # Errors
    /// As all that read or write: if the client ended the connection.
    pub async fn greet(&mut self, max_streams: u32) -> io::Result<()> {
        self.preface().await?;
        self.settings(max_streams).await
    }

    /// Reads the preface and sends nothing.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn preface(&mut self) -> io::Result<()> {
        self.io.read_exact(&mut [0; PREFACE]).await?;
        Ok(())
    }

    /// SETTINGS with the number of streams that may be open at once.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn settings(&mut self, max_streams: u32) -> io::Result<()> {
        self.settings_of(&[(setting::MAX_CONCURRENT_STREAMS, max_streams)]).await
    }

    /// SETTINGS with any values.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn settings_of(&mut self, settings: &[(u16, u32)]) -> io::Result<()> {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.frame(kind::SETTINGS, 0, 0, &payload).await
    }

    /// From now on no PING is acknowledged.
    pub fn ignore_pings(&mut self) {
        self.answers_pings = false;
    }

    /// Waits for the next HEADERS: its stream. The body may follow.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn head(&mut self) -> io::Result<u32> {
        loop {
            if let Frame::Head(stream) = self.read().await? {
                return Ok(stream);
            }
        }
    }

    /// Waits for the next DATA: its length in bytes.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn data_length(&mut self) -> io::Result<usize> {
        loop {
            if let Frame::Data(_, length, _) = self.read().await? {
                return Ok(length);
            }
        }
    }

    /// Waits for the end of the next request: its stream.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn request(&mut self) -> io::Result<u32> {
        loop {
            if let Frame::Data(stream, _, true) = self.read().await? {
                return Ok(stream);
            }
        }
    }

    /// How many requests end before the client answers a PING: those it had already decided to write. It has then read all
    /// that was sent before.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn requests_before_pong(&mut self) -> io::Result<usize> {
        self.frame(kind::PING, 0, 0, b"question").await?;
        let mut requests = 0;
        loop {
            match self.read().await? {
                Frame::Data(_, _, true) => requests += 1,
                Frame::Pong => return Ok(requests),
                _ => {}
            }
        }
    }

    /// `:status` 200 and nothing else.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn accept(&mut self, stream: u32) -> io::Result<()> {
        self.headers(stream, &Head::status(200), flag::END_STREAM).await
    }

    /// Answers every request with `:status` 200, until the client ends the connection.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn accept_all(&mut self) -> io::Result<()> {
        loop {
            let stream = self.request().await?;
            self.accept(stream).await?;
        }
    }

    /// A head and a whole body.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn answer(&mut self, stream: u32, head: &Head, body: &str) -> io::Result<()> {
        self.headers(stream, head, 0).await?;
        self.data(stream, body.as_bytes(), flag::END_STREAM).await
    }

    /// A whole header block in one frame; `flags` may be [`flag::END_STREAM`].
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn headers(&mut self, stream: u32, head: &Head, flags: u8) -> io::Result<()> {
        self.frame(kind::HEADERS, flags | flag::END_HEADERS, stream, head.block()).await
    }

    /// The same in frames of `size` bytes, at least 1: HEADERS and its CONTINUATIONs. h2 takes only a few of them.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn headers_in_pieces(&mut self, stream: u32, head: &Head, flags: u8, size: usize) -> io::Result<()> {
        let count = head.block().chunks(size).len();
        for (at, piece) in head.block().chunks(size).enumerate() {
            let (kind, flags) = if at == 0 { (kind::HEADERS, flags) } else { (kind::CONTINUATION, 0) };
            let end = if at + 1 == count { flag::END_HEADERS } else { 0 };
            self.frame(kind, flags | end, stream, piece).await?;
        }
        Ok(())
    }

    /// A piece of a body; `flags` may be [`flag::END_STREAM`].
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn data(&mut self, stream: u32, bytes: &[u8], flags: u8) -> io::Result<()> {
        self.frame(kind::DATA, flags, stream, bytes).await
    }

    /// Room for `bytes` more of a stream's body, or, on stream 0, of all bodies.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn window(&mut self, stream: u32, bytes: u32) -> io::Result<()> {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()).await
    }

    /// RST_STREAM.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes()).await
    }

    /// GOAWAY without an error: streams above `last_stream` are not processed.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn go_away(&mut self, last_stream: u32, debug: &str) -> io::Result<()> {
        self.go_away_for(last_stream, code::NO_ERROR, debug).await
    }

    /// GOAWAY with an error code.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn go_away_for(&mut self, last_stream: u32, code: u32, debug: &str) -> io::Result<()> {
        let mut payload = last_stream.to_be_bytes().to_vec();
        payload.extend(code.to_be_bytes());
        payload.extend(debug.as_bytes());
        self.frame(kind::GOAWAY, 0, 0, &payload).await
    }

    /// Reads until the client closes.
    ///
    /// # Errors
    /// Always: that is how it ends.
    pub async fn until_closed(&mut self) -> io::Result<()> {
        loop {
            self.read().await?;
        }
    }

    /// Ends the connection, and reads what the client still sends: closing with something unread would be a RST.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn end(mut self, how: End) -> io::Result<()> {
        match how {
            End::CloseNotify => self.io.shutdown().await?,
            End::Fin => self.io.get_mut().0.shutdown().await?,
            End::Reset => return self.io.get_ref().0.set_zero_linger(),
        }
        drain(self.io.get_mut().0).await
    }

    /// Any frame.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let [_, length @ ..] = u32::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes();
        let mut frame = length.to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.bytes(&frame).await
    }

    /// Any bytes at all.
    ///
    /// # Errors
    /// See [`Peer::greet`].
    pub async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).map_err(io::Error::other)?;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await?;
        match kind {
            kind::SETTINGS if flags & flag::ACK == 0 => self.frame(kind::SETTINGS, flag::ACK, 0, &[]).await?,
            kind::PING if flags & flag::ACK != 0 => return Ok(Frame::Pong),
            kind::PING if self.answers_pings => self.frame(kind::PING, flag::ACK, 0, &payload).await?,
            kind::HEADERS if flags & flag::END_STREAM == 0 => return Ok(Frame::Head(stream)),
            kind::HEADERS => return Ok(self.complete(stream, 0)),
            kind::DATA => {
                self.bodies.entry(stream).or_default().extend(&payload);
                return Ok(match flags & flag::END_STREAM {
                    0 => Frame::Data(stream, length, false),
                    _ => self.complete(stream, length),
                });
            }
            _ => {}
        }
        Ok(Frame::Other)
    }

    fn complete(&mut self, stream: u32, length: usize) -> Frame {
        let body = self.bodies.remove(&stream).unwrap_or_default();
        self.seen.send_modify(|seen| seen.requests.push(Request { connection: self.number, stream, body }));
        Frame::Data(stream, length, true)
    }
}

/// Reads to the end and forgets it.
pub(super) async fn drain(io: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    tokio::io::copy(io, &mut tokio::io::sink()).await.map(drop)
}
