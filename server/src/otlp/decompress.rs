//! Request bodies out of their compression, never beyond a limit.

use std::io::{self, Read};

use zstd::zstd_safe::get_frame_content_size;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950: deflate in a zlib frame.
    Deflate,
    /// RFC 8878.
    Zstd,
}

/// The largest back reference of a zstd frame: 2^27 bytes, as the format recommends to accept at
/// least 8 MiB; a frame with a longer one is refused before its window is allocated.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What text shrinks by, where a body does not say how large it will be.
const USUAL_RATIO: usize = 10;

/// What came of a decompression.
#[derive(Debug, PartialEq, Eq)]
pub enum Decompressed {
    /// All of it is in the buffer.
    Whole,
    /// It is larger than the limit.
    TooLarge,
}

impl Compression {
    /// From a `Content-Encoding`; `None` for one that is not supported.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        Some(match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// How large a body will probably be. Only a guess: the body may lie.
    #[must_use]
    pub fn expected_bytes(self, body: &[u8]) -> usize {
        let usual = body.len().saturating_mul(USUAL_RATIO);
        match self {
            Self::Identity => body.len(),
            // The last four bytes are the length of the last member.
            Self::Gzip => body
                .last_chunk::<4>()
                .map_or(usual, |bytes| u32::from_le_bytes(*bytes) as usize),
            Self::Deflate => usual,
            Self::Zstd => match get_frame_content_size(body) {
                Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
                _ => usual,
            },
        }
    }

    /// Appends the body to `out`, which gets at most `bytes_max` bytes more.
    ///
    /// # Errors
    /// The body is not compressed in this way, or is cut short.
    pub fn decompress(
        self,
        body: &[u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> io::Result<Decompressed> {
        match self {
            Self::Identity => read(body, out, bytes_max),
            Self::Gzip => read(flate2::read::MultiGzDecoder::new(body), out, bytes_max),
            Self::Deflate => read(flate2::read::ZlibDecoder::new(body), out, bytes_max),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                read(decoder, out, bytes_max)
            }
        }
    }
}

fn read(source: impl Read, out: &mut Vec<u8>, bytes_max: usize) -> io::Result<Decompressed> {
    // One byte more than allowed tells "just fits" from "too large".
    let limit = (bytes_max as u64).saturating_add(1);
    let length = source.take(limit).read_to_end(out)?;
    Ok(match length > bytes_max {
        true => Decompressed::TooLarge,
        false => Decompressed::Whole,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_come_back_up_to_the_limit() {
        let text = vec![b'x'; 10_000];
        let bodies = [
            (Compression::Identity, text.clone()),
            (Compression::Gzip, gzip(&text)),
            (Compression::Deflate, deflate(&text)),
            (Compression::Zstd, zstd::bulk::compress(&text, 1).unwrap()),
        ];
        for (compression, body) in bodies {
            let mut out = Vec::new();
            let whole = compression.decompress(&body, &mut out, 10_000).unwrap();
            assert_eq!(
                (whole, out.len()),
                (Decompressed::Whole, 10_000),
                "{compression:?}"
            );
            out.clear();
            let cut = compression.decompress(&body, &mut out, 9_999).unwrap();
            assert_eq!(cut, Decompressed::TooLarge, "{compression:?}");
            if !matches!(compression, Compression::Identity | Compression::Deflate) {
                assert_eq!(compression.expected_bytes(&body), 10_000, "{compression:?}");
            }
            if compression != Compression::Identity {
                for end in [0, body.len() / 2, body.len() - 1] {
                    let cut = compression.decompress(&body[..end], &mut Vec::new(), 10_000);
                    // An empty zstd body is an empty stream of frames.
                    assert!(cut.is_err() || end == 0, "{compression:?} cut at {end}");
                }
            }
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for (compression, bomb) in [
            (Compression::Gzip, gzip(&zeros)),
            (Compression::Zstd, zstd::bulk::compress(&zeros, 1).unwrap()),
        ] {
            let mut out = Vec::new();
            let cut = compression.decompress(&bomb, &mut out, 1 << 20).unwrap();
            assert_eq!(cut, Decompressed::TooLarge);
            assert!(out.capacity() <= 4 << 20, "{}", out.capacity());
        }
    }

    #[test]
    fn encodings_have_names() {
        assert_eq!(Compression::from_header("GZIP"), Some(Compression::Gzip));
        assert_eq!(Compression::from_header("zstd"), Some(Compression::Zstd));
        assert_eq!(
            Compression::from_header("identity"),
            Some(Compression::Identity)
        );
        assert_eq!(Compression::from_header("gzip, zstd"), None);
        assert_eq!(Compression::from_header("snappy"), None);
    }
}
