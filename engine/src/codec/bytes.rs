//! Blocks of opaque bytes: plain, or zstd at a level that the caller picks.

use super::block::Tag;
use super::reader::ByteReader;
use super::varint;
use super::{CodecError, zstd_context};

const CODEC: &str = "bytes";

/// Appends one block with `raw`, compressed at zstd `level` unless that makes it no smaller.
pub fn encode(raw: &[u8], level: i32, out: &mut Vec<u8>) {
    let start = out.len();
    if raw.len() >= zstd_context::SIZE_MIN {
        out.push(Tag::BytesZstd as u8);
        varint::write_u64(out, raw.len() as u64);
        zstd_context::compress(raw, level, out);
    }
    if out.len() == start || out.len() - start > raw.len() {
        out.truncate(start);
        out.push(Tag::BytesPlain as u8);
        out.extend_from_slice(raw);
    }
}

/// Appends the bytes of `block` to `out`; they may be at most `size_max`.
///
/// # Errors
/// [`CodecError`] if the block is damaged, of another kind or too large; `out` is then as it was.
pub fn decode(block: &[u8], size_max: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let mut reader = ByteReader::new(CODEC, block, 1);
    match Tag::of(block, CODEC)? {
        Tag::BytesPlain if reader.remaining() <= size_max => {
            out.extend_from_slice(reader.rest());
            Ok(())
        }
        Tag::BytesPlain => Err(reader.corrupt("more bytes than declared")),
        Tag::BytesZstd => {
            let size = reader.varint_max(size_max, "more bytes than declared")?;
            let start = out.len();
            out.resize(start + size, 0);
            let decoded = zstd_context::decompress(CODEC, reader.rest(), &mut out[start..]);
            if decoded.is_err() {
                out.truncate(start);
            }
            decoded
        }
        tag => Err(tag.unexpected(CODEC)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_damage_is_an_error() {
        let noise: Vec<u8> = (0..200_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for raw in [&b""[..], b"a", &[7; 1000], &noise] {
            let mut block = vec![];
            encode(raw, 1, &mut block);
            assert!(block.len() <= raw.len() + 1);
            let mut out = b"kept".to_vec();
            assert_eq!(decode(&block, raw.len(), &mut out), Ok(()));
            assert_eq!(&out[4..], raw);
            for cut in 0..block.len() {
                let mut out = vec![];
                let decoded = decode(&block[..cut], raw.len(), &mut out);
                assert!(decoded.is_err() || block[0] == Tag::BytesPlain as u8);
            }
            if !raw.is_empty() {
                assert!(decode(&block, raw.len() - 1, &mut out).is_err());
            }
        }
    }
}
