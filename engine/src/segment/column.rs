//! The codecs, with errors that name file and offset.

use std::ops::Range;

use crate::codec::{CodecError, floats, histograms, integers, timestamps};
use crate::error::{EngineError, Result};
use crate::model::Histogram;

use super::file::SegmentFile;
use super::format::HISTOGRAM_BUCKETS_MAX;

/// A codec's error about the block at `offset` of `file`.
#[cold]
pub(crate) fn bad_block(file: &SegmentFile, offset: u64, error: &CodecError) -> EngineError {
    file.corrupt(offset, "a block that decodes", &error.to_string())
}

/// Appends the values `range` of the `count` values of a float block.
#[inline]
pub(crate) fn decode_floats(
    file: &SegmentFile,
    offset: u64,
    block: &[u8],
    count: usize,
    range: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<()> {
    floats::decode_range(block, count, range, out).map_err(|e| bad_block(file, offset, &e))
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

/// The `count` histograms of a block.
pub(crate) fn decode_histograms(
    file: &SegmentFile,
    offset: u64,
    block: &[u8],
    count: usize,
) -> Result<Vec<Histogram>> {
    let mut decoded = Vec::new();
    histograms::decode(block, count, HISTOGRAM_BUCKETS_MAX, &mut decoded)
        .map_err(|e| bad_block(file, offset, &e))?;
    Ok(decoded)
}
