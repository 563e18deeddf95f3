//! Blocks of `f64`, exact to the bit: NaN payloads, `-0.0`, infinities and denormals survive.
//!
//! | encoding | for | decodes |
//! |---|---|---|
//! | constant | one bit pattern | for nothing |
//! | scaled ([`scaled`]) | counters, decimals, eighths: integers and a common scale | fastest |
//! | ordered ([`ordered`]) | full-precision gauges: bit patterns as integers | fast |
//! | pco | what both leave too large | slowly |
//! | zstd over one of them | blocks that repeat themselves | between |
//! | stream ([`super::chunk_stream`]) | the head's open chunks | slowly |
//!
//! The choice is made by size and decode time together: see [`super::choose`].

mod ordered;
mod scaled;
mod stats;

use std::ops::Range;

pub use super::chunk_stream as stream;
pub use stats::Stats;

use super::block::{self, Tag};
use super::choose::{self, DecodeCost, EncodeEffort};
use super::reader::ByteReader;
use super::{CodecError, pco_wrapper};

const CODEC: &str = "floats";

/// Merging tries nothing more on blocks below this many values than sealing does: on the churn set
/// (112 samples a series) trials took more than half of the time and saved nothing.
const COMPACT_COUNT_MIN: usize = 256;

/// Appends one block with `values`.
pub fn encode(values: &[f64], effort: EncodeEffort, out: &mut Vec<u8>) {
    if let Some(first) = constant_bits(values) {
        out.push(Tag::FloatConstant as u8);
        out.extend_from_slice(&first.to_le_bytes());
        return;
    }
    let effort = match effort {
        EncodeEffort::Compact if values.len() < COMPACT_COUNT_MIN => EncodeEffort::Flush,
        effort => effort,
    };
    let start = out.len();
    if !scaled::encode(values, effort, out) {
        ordered::encode(values, effort, out);
    }
    if out.len() - start > 8 * values.len() {
        out.truncate(start);
        encode_raw(values, out);
    }
    if effort != EncodeEffort::Flush {
        recompress(values, effort, start, out);
    }
}

/// The common bit pattern, if there is one.
fn constant_bits(values: &[f64]) -> Option<u64> {
    let (first, rest) = values.split_first()?;
    rest.iter()
        .all(|value| value.to_bits() == first.to_bits())
        .then(|| first.to_bits())
}

fn encode_raw(values: &[f64], out: &mut Vec<u8>) {
    out.push(Tag::FloatRaw as u8);
    out.extend(
        values
            .iter()
            .flat_map(|value| value.to_bits().to_le_bytes()),
    );
}

/// Replaces the block at `start` by a smaller and slower one where that pays.
fn recompress(values: &[f64], effort: EncodeEffort, start: usize, out: &mut Vec<u8>) {
    let count = values.len();
    let mut best_score = choose::score(effort, out.len() - start, count, DecodeCost::PACKED);
    let mut best: Option<Vec<u8>> = None;
    let mut consider = |candidate: Vec<u8>, cost| {
        let score = choose::score(effort, candidate.len(), count, cost);
        if score < best_score {
            best_score = score;
            best = Some(candidate);
        }
    };
    let mut zstd = Vec::new();
    if block::wrap_zstd(&out[start..], 1, 1, &mut zstd) {
        consider(zstd, DecodeCost::ZSTD_PACKED);
    }
    // Scaled integers in the split layout come within a few percent of pco, at three times its speed;
    // merging need not pay for the trial.
    let is_scaled = out[start] == Tag::FloatScaled as u8;
    if count >= pco_wrapper::COUNT_MIN && (effort == EncodeEffort::Cold || !is_scaled) {
        let level = match effort {
            EncodeEffort::Cold => pco_wrapper::LEVEL_COLD,
            _ => pco_wrapper::LEVEL_COMPACT,
        };
        let mut pco = vec![Tag::FloatPco as u8];
        if pco_wrapper::encode(values, level, &mut pco) {
            consider(pco, DecodeCost::PCO);
        }
    }
    if let Some(best) = best {
        out.truncate(start);
        out.extend_from_slice(&best);
    }
}

/// Appends the `count` values of `block` to `out`.
///
/// # Errors
/// [`CodecError`] if the block is damaged or of another kind; `out` is then as it was.
pub fn decode(block: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    decode_range(block, count, 0..count, out)
}

/// Appends the values `range` of the `count` values of `block` to `out`: the last of a long block cost
/// a fraction of the whole, unless an entropy coder that knows no beginning but its own lies in the way.
///
/// # Errors
/// [`CodecError`] if the block is damaged where it was read, or of another kind; `out` is then as it
/// was.
///
/// # Panics
/// When the range ends behind `count`.
pub fn decode_range(
    block: &[u8],
    count: usize,
    range: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    assert!(range.end <= count, "bug: values {range:?} of {count}");
    let start = out.len();
    let decoded = decode_into(block, count, range, out);
    if decoded.is_err() {
        out.truncate(start);
    }
    decoded
}

/// Whether `block` holds one value repeated, and which: callers can then skip decoding.
pub fn constant(block: &[u8]) -> Option<f64> {
    match block {
        [tag, bits @ ..] if *tag == Tag::FloatConstant as u8 => {
            Some(f64::from_bits(u64::from_le_bytes(bits.try_into().ok()?)))
        }
        _ => None,
    }
}

fn decode_into(
    block: &[u8],
    count: usize,
    range: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    let tag = Tag::of(block, CODEC)?;
    if tag == Tag::Zstd {
        let inner = block::unwrap_zstd(block, CODEC, block_size_max(count))?;
        return decode_plain(Tag::of(&inner, CODEC)?, &inner, count, range, out);
    }
    decode_plain(tag, block, count, range, out)
}

/// No encoder writes a larger block: raw takes 8 bytes a value, and is the fallback.
fn block_size_max(count: usize) -> usize {
    count.saturating_mul(8).saturating_add(64)
}

fn decode_plain(
    tag: Tag,
    block: &[u8],
    count: usize,
    range: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    let mut reader = ByteReader::new(CODEC, block, 1);
    match tag {
        Tag::FloatConstant => {
            let value = f64::from_bits(reader.u64_le()?);
            reader.finish()?;
            out.resize(out.len() + range.len(), value);
            Ok(())
        }
        Tag::FloatRaw => {
            let bytes = reader.take(count.saturating_mul(8))?;
            reader.finish()?;
            let (values, _) = bytes.as_chunks::<8>();
            let wanted = values.get(range).unwrap_or(&[]);
            out.extend(
                wanted
                    .iter()
                    .map(|bits| f64::from_bits(u64::from_le_bytes(*bits))),
            );
            Ok(())
        }
        Tag::FloatScaled => scaled::decode(&mut reader, count, range, out),
        Tag::FloatOrdered => ordered::decode(&mut reader, count, range, out),
        Tag::FloatPco => {
            let start = out.len();
            pco_wrapper::decode(reader.rest(), CODEC, count, out)?;
            out.truncate(start + range.end);
            out.drain(start..start + range.start);
            Ok(())
        }
        tag => Err(tag.unexpected(CODEC)),
    }
}
