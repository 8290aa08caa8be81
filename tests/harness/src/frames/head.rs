//! Header blocks in HPACK, as literals that are never indexed (RFC 7541 §6.2.2): no table, no Huffman code.
//!
//! It stands under [`super::Peer`], which puts them into HEADERS frames. It never reads one.

/// `:status` in HPACK's static table (RFC 7541, appendix A).
const STATUS: u8 = 8;
/// The largest length that fits the 7 bits of a length's first byte.
const ONE_BYTE: usize = 126;

/// The headers of an answer, or its trailers.
#[derive(Debug, Clone, Default)]
pub struct Head(Vec<u8>);

impl Head {
    /// Begins an answer.
    pub fn status(status: u16) -> Self {
        let mut head = Self(vec![STATUS]);
        head.text(&status.to_string());
        head
    }

    /// Begins trailers: headers without a status.
    pub fn trailers() -> Self {
        Self::default()
    }

    /// One header more. The name is in lower case, both are ASCII.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push(0);
        self.text(name);
        self.text(value);
        self
    }

    /// As it goes into a HEADERS frame.
    pub fn block(&self) -> &[u8] {
        &self.0
    }

    /// A length and its bytes (RFC 7541 §5.1, §5.2).
    fn text(&mut self, text: &str) {
        let mut rest = text.len();
        if rest <= ONE_BYTE {
            self.0.push(rest.to_le_bytes()[0]);
        } else {
            self.0.push(0x7f);
            rest -= ONE_BYTE + 1;
            while rest >= 0x80 {
                self.0.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            self.0.push(rest.to_le_bytes()[0]);
        }
        self.0.extend(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_hpack_has_them() {
        assert_eq!(Head::status(200).with("a", "b").block(), b"\x08\x03200\x00\x01a\x01b");
        let lengths = |length: usize| Head::trailers().with("", &"x".repeat(length)).block()[2..].to_vec();
        assert_eq!(lengths(126)[..2], [126, b'x']);
        assert_eq!(lengths(127)[..3], [127, 0, b'x']);
        assert_eq!(lengths(127 + 300)[..4], [127, 0xac, 2, b'x']);
    }
}
