//! A server that speaks HTTP/2 frame by frame: it can do what no HTTP/2 library's server can be made to do (a limit that
//! changes, a GOAWAY with a last id and a reason, silence, an end at any point).
//!
//! It stands where APNs or FCM would, for the tests of the clients. One closure serves each connection and says what comes
//! when; [`Server::seen`] says what the clients did. It knows no HPACK but literals, and doesn't decode requests: they are
//! told apart by stream and by body, which HTTP/2 doesn't compress. It never does anything by itself but acknowledge
//! SETTINGS and PINGs. Frames, flags and codes: RFC 9113 §6 and §7.

mod head;
mod peer;
mod server;

pub use head::Head;
pub use peer::{End, Peer};
pub use server::{Arrival, Request, Seen, Server};

/// Kinds of frames, for [`Peer::frame`].
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// The beginning of a header block.
    pub const HEADERS: u8 = 1;
    /// The end of one stream.
    pub const RST_STREAM: u8 = 3;
    /// Limits of the connection.
    pub const SETTINGS: u8 = 4;
    /// A question or, with the flag ACK, its answer.
    pub const PING: u8 = 6;
    /// No more streams.
    pub const GOAWAY: u8 = 7;
    /// Room for more of a body.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a header block.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames, for [`Peer::frame`].
pub mod flag {
    /// SETTINGS, PING: this is the answer.
    pub const ACK: u8 = 1;
    /// DATA, HEADERS: nothing follows on this stream.
    pub const END_STREAM: u8 = 1;
    /// HEADERS, CONTINUATION: the block is complete.
    pub const END_HEADERS: u8 = 4;
}

/// Settings, for [`Peer::settings_of`].
pub mod setting {
    /// How many streams may be open at once.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// How much of each body may be sent before a WINDOW_UPDATE, in bytes.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// Error codes of RST_STREAM and GOAWAY.
pub mod code {
    /// A graceful end.
    pub const NO_ERROR: u32 = 0;
    /// The other side broke the protocol. FCM's for more than 100 streams.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// The server failed.
    pub const INTERNAL_ERROR: u32 = 2;
    /// More was sent than there was room for.
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    /// Surely not processed (RFC 9113 §8.7).
    pub const REFUSED_STREAM: u32 = 7;
    /// Not wanted any more.
    pub const CANCEL: u32 = 8;
    /// The client does too much of something.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// The last stream of the first of two GOAWAYs: no stream is refused yet (RFC 9113 §6.8).
pub const EVERY_STREAM: u32 = (1 << 31) - 1;
