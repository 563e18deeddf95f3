//! The codecs, with errors that name file and offset.

use crate::codec::{CodecError, floats, integers, timestamps};
use crate::error::{EngineError, Result};

use super::file::SegmentFile;

/// A codec's error about the block at `offset` of `file`.
#[cold]
pub(crate) fn bad_block(file: &SegmentFile, offset: u64, error: &CodecError) -> EngineError {
    file.corrupt(offset, "a block that decodes", &error.to_string())
}

/// Appends the `count` values of a float block.
#[inline]
pub(crate) fn decode_floats(
    file: &SegmentFile,
    offset: u64,
    block: &[u8],
    count: usize,
    out: &mut Vec<f64>,
) -> Result<()> {
    floats::decode(block, count, out).map_err(|e| bad_block(file, offset, &e))
}

/// Appends the `count` values of an integer block.
pub(crate) fn decode_integers(
    file: &SegmentFile,
    offset: u64,
    block: &[u8],
    count: usize,
    out: &mut Vec<i64>,
) -> Result<()> {
    integers::decode(block, count, out).map_err(|e| bad_block(file, offset, &e))
}

/// Appends the `count` values of a timestamp block.
pub(crate) fn decode_timestamps(
    file: &SegmentFile,
    offset: u64,
    block: &[u8],
    count: usize,
    out: &mut Vec<i64>,
) -> Result<()> {
    timestamps::decode(block, count, out).map_err(|e| bad_block(file, offset, &e))
}
