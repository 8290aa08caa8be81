//! The body of a request: read within a limit and a time, and decoded within the same limit.
//!
//! Stands behind every check that needs the headers alone. No error quotes anything of it.

use std::io::Read;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use tokio::time::timeout;

use crate::refusal::Refusal;

/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Not at all.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 without its frame, which is what .NET's `DeflateStream` writes.
    Deflate,
}

impl Encoding {
    /// What the headers say.
    ///
    /// # Errors
    /// 415 for any other, and for two at once.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut all = headers.get_all(header::CONTENT_ENCODING).iter();
        let encoding = match (all.next(), all.next()) {
            (None, _) => return Ok(Self::Plain),
            (Some(one), None) => one.to_str().unwrap_or("?").trim().to_ascii_lowercase(),
            (Some(_), Some(_)) => "?".to_owned(),
        };
        match encoding.as_str() {
            "" | "identity" => Ok(Self::Plain),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            _ => Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupportedMediaType",
                "Content-Encoding",
                "is not one that is read here",
                "send gzip or deflate, or the body as it is",
            )),
        }
    }

    /// The body as it was before it was packed, `limit` bytes at most: of a bomb no more than that is unpacked.
    ///
    /// # Errors
    /// 400 if it is not packed so, 413 if it is larger.
    pub(crate) fn decode(self, body: Bytes, limit: usize) -> Result<Bytes, Refusal> {
        match self {
            Self::Plain => Ok(body),
            Self::Gzip => unpack(MultiGzDecoder::new(body.as_ref()), limit),
            Self::Deflate if is_zlib(&body) => unpack(ZlibDecoder::new(body.as_ref()), limit),
            Self::Deflate => unpack(DeflateDecoder::new(body.as_ref()), limit),
        }
    }
}

/// RFC 1950 §2.2: method 8, and both bytes together a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

fn unpack(decoder: impl Read, limit: usize) -> Result<Bytes, Refusal> {
    let mut unpacked = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match decoder.take(most).read_to_end(&mut unpacked) {
        Ok(_) if unpacked.len() > limit => Err(too_large(limit)),
        Ok(_) => Ok(unpacked.into()),
        Err(_) => Err(Refusal::invalid("body", "is not packed as Content-Encoding says", "send it again, whole")),
    }
}

/// All of it, `limit` bytes at most.
///
/// # Errors
/// 413, 408, and 400 if the connection broke.
pub(crate) async fn read(mut request: Request, limit: usize) -> Result<Bytes, Refusal> {
    DefaultBodyLimit::max(limit).apply(&mut request);
    match timeout(BODY_LIMIT, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large(limit)),
        Ok(Err(_)) => Err(Refusal::invalid("body", "could not be read", "send it again")),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "body",
            format!("did not arrive within {} s", BODY_LIMIT.as_secs()),
            "send it again",
        )),
    }
}

fn too_large(limit: usize) -> Refusal {
    let problem = format!("is larger than {} KiB", limit / 1024);
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "tooLarge", "body", problem, "send less at once")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const LIMIT: usize = 64 * 1024;

    fn gzip(body: &[u8]) -> Bytes {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(body).unwrap();
        packed.finish().unwrap().into()
    }

    fn zlib(body: &[u8]) -> Bytes {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
        packed.write_all(body).unwrap();
        packed.finish().unwrap().into()
    }

    fn deflate(body: &[u8]) -> Bytes {
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
        packed.write_all(body).unwrap();
        packed.finish().unwrap().into()
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let body = br#"{"targetHostName":"mail.contoso.com"}"#.repeat(20);
        for (encoding, packed) in [
            (Encoding::Gzip, gzip(&body)),
            (Encoding::Deflate, zlib(&body)),
            (Encoding::Deflate, deflate(&body)),
            (Encoding::Plain, Bytes::from(body.clone())),
        ] {
            assert_eq!(encoding.decode(packed, LIMIT).unwrap(), body, "{encoding:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit_and_the_limit_itself_is_not() {
        let bomb = vec![b' '; 50 * 1024 * 1024];
        for (encoding, packed) in
            [(Encoding::Gzip, gzip(&bomb)), (Encoding::Deflate, zlib(&bomb)), (Encoding::Deflate, deflate(&bomb))]
        {
            assert!(packed.len() < LIMIT, "it would not even be read");
            let refused = format!("{:?}", encoding.decode(packed, LIMIT).unwrap_err());
            assert!(refused.contains("413"), "{refused}");
        }
        assert_eq!(Encoding::Gzip.decode(gzip(&bomb[..LIMIT]), LIMIT).unwrap().len(), LIMIT);
    }

    #[test]
    fn what_is_not_packed_so_is_refused() {
        let whole = gzip(b"a body of some length, of which a part is missing");
        for (encoding, packed) in [
            (Encoding::Gzip, Bytes::from_static(b"{}")),
            (Encoding::Gzip, Bytes::new()),
            (Encoding::Gzip, whole.slice(..whole.len() - 9)),
            (Encoding::Deflate, Bytes::from_static(b"{\"a\":1}")),
            (Encoding::Deflate, zlib(b"abc").slice(..4)),
        ] {
            let refused = format!("{:?}", encoding.decode(packed.clone(), LIMIT).unwrap_err());
            assert!(refused.contains("400"), "{packed:?}: {refused}");
        }
    }

    #[test]
    fn other_encodings_and_several_are_refused() {
        let check = |values: &[&'static str]| {
            let value = |text: &&'static str| (header::CONTENT_ENCODING, text.parse().unwrap());
            Encoding::of(&HeaderMap::from_iter(values.iter().map(value))).ok()
        };
        assert_eq!(check(&[]), Some(Encoding::Plain));
        assert_eq!(check(&["identity"]), Some(Encoding::Plain));
        assert_eq!((check(&["GZip"]), check(&["x-gzip"])), (Some(Encoding::Gzip), Some(Encoding::Gzip)));
        assert_eq!(check(&["Deflate"]), Some(Encoding::Deflate));
        for refused in [&["br"][..], &["zstd"], &["gzip, deflate"], &["utf-8"]] {
            assert_eq!(check(refused), None, "{refused:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        twice.append(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(Encoding::of(&twice).is_err());
    }
}
