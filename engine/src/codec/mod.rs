//! Column codecs: plain values in, bytes out, and back. No I/O, no clock, no shared state.
//!
//! Every encoded column is one *block*: a tag byte that names the encoding (see [`block::Tag`]) and
//! its payload. The element count is not in the block; the segment directory holds it, and the
//! decoder is told. `docs/formats/codecs.md` describes each payload byte by byte.
//!
//! Invariants, for all decoders:
//! - Bytes are taken as hostile: a damaged block gives [`CodecError`] or other values of the same
//!   count, never a panic, and never more memory than `count` elements plus a small constant.
//! - A block is used up exactly: bytes behind its end are an error.
//! - Floats survive bit for bit: NaN payloads (the stale marker is one), `-0.0`, denormals.
//! - Decoders append to the caller's vector and leave it as it was when they fail.
//!
//! Which encoding a block gets is decided in [`choose`], and nowhere else.

pub mod bitpack;
pub mod block;
pub mod bytes;
pub mod checksum;
pub mod choose;
pub mod chunk_stream;
pub mod floats;
pub mod histograms;
pub mod integers;
mod intstream;
mod pco_wrapper;
pub mod reader;
pub mod strings;
pub mod templates;
pub mod timestamps;
pub mod varint;
mod zstd_context;

pub use choose::EncodeEffort;

/// Why bytes could not be decoded: which codec found it, and where.
///
/// Offsets count from the first byte of the block (its tag). The segment reader adds file and
/// block offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The block ends in the middle of something.
    #[error("{codec}: block ends at byte {offset}, {needed} more expected")]
    Truncated {
        /// The codec that was reading.
        codec: &'static str,
        /// Length of what is there.
        offset: usize,
        /// How many bytes are missing at least.
        needed: usize,
    },
    /// A field holds what no encoder writes.
    #[error("{codec}: {what} at byte {offset}")]
    Corrupt {
        /// The codec that was reading.
        codec: &'static str,
        /// The field and what is wrong with it.
        what: &'static str,
        /// Where reading stood.
        offset: usize,
    },
    /// The tag names no encoding of this kind of column.
    #[error("{column}: unknown block tag {tag:#04x}")]
    UnknownTag {
        /// The kind of column that was asked for.
        column: &'static str,
        /// The tag that was found.
        tag: u8,
    },
    /// The block holds another number of elements than the caller declared.
    #[error("{codec}: block holds {found} elements, {expected} declared")]
    Count {
        /// The codec that was reading.
        codec: &'static str,
        /// What the caller declared.
        expected: usize,
        /// What the block holds (a lower bound where decoding stopped early).
        found: usize,
    },
}

#[cfg(test)]
mod tests;
