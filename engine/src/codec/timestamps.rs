//! Blocks of timestamps (`i64` nanoseconds): start, step, and the distance of each from that grid.
//!
//! A column that is exactly on its grid takes a few bytes whatever its length. Otherwise the
//! distances (jitter, gaps) or the plain values go to an integer stream, whichever is smaller; its
//! divisor makes milliseconds as cheap in nanoseconds as they were. Any `i64`s in any order are
//! accepted: arithmetic wraps.

use super::block::Tag;
use super::choose::EncodeEffort;
use super::reader::ByteReader;
use super::varint;
use super::{CodecError, block, intstream};

const CODEC: &str = "timestamps";

/// Appends one block with `timestamps`.
pub fn encode(timestamps: &[i64], effort: EncodeEffort, out: &mut Vec<u8>) {
    let start = timestamps.first().copied().unwrap_or(0);
    let step = typical_step(timestamps);
    let distances: Vec<i64> = timestamps
        .iter()
        .enumerate()
        .map(|(at, &time)| time.wrapping_sub(grid(start, step, at)))
        .collect();
    if distances.iter().all(|&distance| distance == 0) {
        out.push(Tag::TimeGrid as u8);
        varint::write_i64(out, start);
        varint::write_i64(out, step);
        return;
    }
    let mut jitter = vec![Tag::TimeJitter as u8];
    varint::write_i64(&mut jitter, start);
    varint::write_i64(&mut jitter, step);
    intstream::encode(&distances, effort, &mut jitter);
    let mut plain = vec![Tag::TimeStream as u8];
    intstream::encode(timestamps, effort, &mut plain);
    let smaller = if jitter.len() < plain.len() {
        &jitter
    } else {
        &plain
    };
    if effort == EncodeEffort::Flush || !block::wrap_zstd(smaller, 1, smaller.len() / 8, out) {
        out.extend_from_slice(smaller);
    }
}

/// The point of the grid at index `at`.
#[inline]
fn grid(start: i64, step: i64, at: usize) -> i64 {
    start.wrapping_add(step.wrapping_mul(at as i64))
}

/// The median of a sample of differences: gaps and late scrapes do not move it.
fn typical_step(timestamps: &[i64]) -> i64 {
    const SAMPLES: usize = 64;
    if timestamps.len() < 2 {
        return 0;
    }
    let stride = (timestamps.len() - 1).div_ceil(SAMPLES);
    let mut steps: Vec<i64> = timestamps
        .windows(2)
        .step_by(stride)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    steps.sort_unstable();
    steps[steps.len() / 2]
}

/// Appends the `count` timestamps of `block` to `out`.
///
/// # Errors
/// [`CodecError`] if the block is damaged or of another kind; `out` is then as it was.
pub fn decode(block: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    let start = out.len();
    let decoded = match Tag::of(block, CODEC)? {
        Tag::Zstd => block::unwrap_zstd(block, CODEC, block_size_max(count))
            .and_then(|inner| decode_plain(&inner, count, out)),
        _ => decode_plain(block, count, out),
    };
    if decoded.is_err() {
        out.truncate(start);
    }
    decoded
}

/// Start and step if `block` is an exact grid: callers can then compute times instead of storing them.
pub fn exact_grid(block: &[u8]) -> Option<(i64, i64)> {
    if block.first() != Some(&(Tag::TimeGrid as u8)) {
        return None;
    }
    let mut reader = ByteReader::new(CODEC, block, 1);
    Some((reader.varint_i64().ok()?, reader.varint_i64().ok()?))
}

/// Packed residuals take at most eight bytes each, and a few per block of 128.
fn block_size_max(count: usize) -> usize {
    count.saturating_mul(9).saturating_add(64)
}

fn decode_plain(block: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    let mut reader = ByteReader::new(CODEC, block, 1);
    match Tag::of(block, CODEC)? {
        Tag::TimeGrid => {
            let (start, step) = (reader.varint_i64()?, reader.varint_i64()?);
            reader.finish()?;
            out.extend((0..count).map(|at| grid(start, step, at)));
            Ok(())
        }
        Tag::TimeJitter => {
            let (mut on_grid, step) = (reader.varint_i64()?, reader.varint_i64()?);
            out.reserve(count);
            intstream::decode(&mut reader, count, |distances| {
                out.extend(distances.iter().map(|&distance| {
                    let time = on_grid.wrapping_add(distance);
                    on_grid = on_grid.wrapping_add(step);
                    time
                }));
            })?;
            reader.finish()
        }
        Tag::TimeStream => {
            out.reserve(count);
            intstream::decode(&mut reader, count, |times| out.extend_from_slice(times))?;
            reader.finish()
        }
        tag => Err(tag.unexpected(CODEC)),
    }
}
