//! The integer stream: the common body of integer, decimal-float and timestamp blocks.
//!
//! Values are reduced step by step, each step optional:
//!
//! 1. divisor: `v = base + divisor * k` (page multiples, milliseconds in nanoseconds);
//! 2. order: the values, their differences, or the differences of those;
//! 3. layout of the residuals: *packed* (blocks of 128, each with reference, width and patches) or
//!    *split* (low bits packed, the byte above them entropy coded).
//!
//! Packed decodes fastest. Split comes within a few hundredths of a bit of the entropy of smooth
//! distributions: the low bits of a residual are noise, so they are stored as they are, and only the
//! top byte, cut so that its buckets are about a quarter of a standard deviation wide, is worth
//! modelling. All arithmetic wraps, so that any `i64` may follow any other.
//!
//! The byte layout is in `docs/formats/codecs.md`, section "Integer stream".

mod packed;
mod split;

use super::CodecError;
use super::bitpack::BLOCK_LEN;
use super::choose::{self, DecodeCost, EncodeEffort};
use super::reader::ByteReader;
use super::varint;
use packed::BlockPlan;

const ORDER_MASK: u8 = 0b0000_0011;
const HAS_DIVISOR: u8 = 0b0000_0100;
const LAYOUT_SPLIT: u8 = 0b0001_0000;
const KNOWN_BITS: u8 = ORDER_MASK | HAS_DIVISOR | LAYOUT_SPLIT;

/// Below this the frame and table of the entropy coder outweigh what they save.
const SPLIT_COUNT_MIN: usize = 96;

/// Appends the stream of `values`. Nothing is written for no values.
pub(super) fn encode(values: &[i64], effort: EncodeEffort, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let divisor = common_divisor(values);
    if divisor <= 1 {
        encode_reduced(values, 0, &[], effort, out);
    } else {
        let base = values[0];
        let reduced: Vec<i64> = values
            .iter()
            .map(|&v| divide_exact(v.wrapping_sub(base), divisor))
            .collect();
        let mut prefix = Vec::with_capacity(2 * varint::VARINT_BYTES_MAX);
        varint::write_u64(&mut prefix, divisor);
        varint::write_i64(&mut prefix, base);
        encode_reduced(&reduced, HAS_DIVISOR, &prefix, effort, out);
    }
}

/// The largest `g` such that all values are equal modulo `g` (differences taken as signed).
///
/// A few values show almost always that there is none. Powers of two, the most frequent, then cost
/// one pass without divisions.
fn common_divisor(values: &[i64]) -> u64 {
    const SAMPLES: usize = 16;
    let base = values[0];
    let reduce = |divisor: u64, values: &mut dyn Iterator<Item = &i64>| {
        let mut divisor = divisor;
        for &value in values {
            let distance = value.wrapping_sub(base).unsigned_abs();
            if divisor == 0 || !distance.is_multiple_of(divisor) {
                divisor = gcd(divisor, distance);
                if divisor == 1 {
                    break;
                }
            }
        }
        divisor
    };
    let step = values.len().div_ceil(SAMPLES);
    let of_sample = reduce(0, &mut values.iter().step_by(step));
    let divisor = match of_sample {
        1 => 1,
        divisor if divisor.is_power_of_two() => {
            let bits = values
                .iter()
                .fold(0, |bits, &v| bits | v.wrapping_sub(base));
            1 << bits.trailing_zeros().min(divisor.trailing_zeros())
        }
        divisor => reduce(divisor, &mut values.iter()),
    };
    // 2^63 is no i64; nothing is lost by leaving such columns alone.
    if divisor > i64::MAX as u64 {
        1
    } else {
        divisor
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[inline]
fn divide_exact(value: i64, divisor: u64) -> i64 {
    if divisor.is_power_of_two() {
        value >> divisor.trailing_zeros()
    } else {
        value / divisor as i64
    }
}

/// Residuals of one order: what is left after `order` values are stored as they are.
fn residuals(values: &[i64], order: usize) -> Vec<i64> {
    match order {
        0 => values.to_vec(),
        1 => values.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect(),
        _ => values
            .windows(3)
            .map(|w| {
                w[2].wrapping_sub(w[1])
                    .wrapping_sub(w[1].wrapping_sub(w[0]))
            })
            .collect(),
    }
}

fn encode_reduced(
    values: &[i64],
    flags: u8,
    prefix: &[u8],
    effort: EncodeEffort,
    out: &mut Vec<u8>,
) {
    let order = choose_order(values);
    let residuals = residuals(values, order);
    let start = out.len();
    put_head(values, order, flags, prefix, out);
    let body = out.len();
    packed::encode(&residuals, out);
    if effort == EncodeEffort::Flush || residuals.len() < SPLIT_COUNT_MIN {
        return;
    }
    let packed_size = out.len() - body;
    let mut split = Vec::with_capacity(packed_size);
    split::encode(&residuals, &mut split);
    let count = values.len();
    if choose::score(effort, split.len(), count, DecodeCost::SPLIT)
        < choose::score(effort, packed_size, count, DecodeCost::PACKED)
    {
        out.truncate(body);
        out[start] |= LAYOUT_SPLIT;
        out.extend_from_slice(&split);
    }
}

fn put_head(values: &[i64], order: usize, flags: u8, prefix: &[u8], out: &mut Vec<u8>) {
    out.push(order as u8 | flags);
    out.extend_from_slice(prefix);
    if order >= 1 {
        varint::write_i64(out, values[0]);
    }
    if order >= 2 {
        varint::write_i64(out, values[1].wrapping_sub(values[0]));
    }
}

/// Picks the order with the smallest packed size on up to four blocks spread over the values.
fn choose_order(values: &[i64]) -> usize {
    const SAMPLE_BLOCKS: usize = 4;
    let count = values.len();
    if count < 3 {
        return 0;
    }
    let starts: [usize; SAMPLE_BLOCKS] = if count <= SAMPLE_BLOCKS * BLOCK_LEN {
        std::array::from_fn(|i| i * BLOCK_LEN)
    } else {
        std::array::from_fn(|i| i * (count - BLOCK_LEN) / (SAMPLE_BLOCKS - 1))
    };
    let mut sizes = [0_usize; 3];
    for start in starts.into_iter().filter(|&start| start < count) {
        let mut buffer = [0_i64; BLOCK_LEN];
        let mut block = &mut buffer[..BLOCK_LEN.min(count - start)];
        block.copy_from_slice(&values[start..start + block.len()]);
        for (order, size) in sizes.iter_mut().enumerate() {
            if order > 0 {
                for i in 1..block.len() {
                    block[i - 1] = block[i].wrapping_sub(block[i - 1]);
                }
                let shorter = block.len().saturating_sub(1);
                block = &mut block[..shorter];
            }
            if !block.is_empty() {
                *size += BlockPlan::new(block).size * BLOCK_LEN / block.len();
            }
        }
    }
    let best = (0..3).min_by_key(|&order| sizes[order]);
    best.unwrap_or(0)
}

/// Turns residuals back into values, one after the other.
trait Integrate {
    fn next(&mut self, residual: i64) -> i64;
}

/// Order 0: residuals are values.
struct Plain;

impl Integrate for Plain {
    #[inline(always)]
    fn next(&mut self, residual: i64) -> i64 {
        residual
    }
}

/// Order 1: residuals are differences.
struct Sums {
    last: i64,
}

impl Integrate for Sums {
    #[inline(always)]
    fn next(&mut self, residual: i64) -> i64 {
        self.last = self.last.wrapping_add(residual);
        self.last
    }
}

/// Order 2: residuals are differences of differences.
struct SumsOfSums {
    last: i64,
    change: i64,
}

impl Integrate for SumsOfSums {
    #[inline(always)]
    fn next(&mut self, residual: i64) -> i64 {
        self.change = self.change.wrapping_add(residual);
        self.last = self.last.wrapping_add(self.change);
        self.last
    }
}

/// What takes the decoded values: called once per block, so that dispatch costs nothing.
type Sink<'a> = dyn FnMut(&[i64]) + 'a;

/// Decodes `count` values, handing them in order to `sink` in slices of at most [`BLOCK_LEN`].
///
/// The reader is left behind the stream.
pub(super) fn decode(
    reader: &mut ByteReader<'_>,
    count: usize,
    mut sink: impl FnMut(&[i64]),
) -> Result<(), CodecError> {
    if count == 0 {
        return Ok(());
    }
    let head = reader.u8()?;
    if head & !KNOWN_BITS != 0 {
        return Err(reader.corrupt("unknown integer stream"));
    }
    if head & HAS_DIVISOR == 0 {
        return decode_ordered(reader, head, count, &mut sink);
    }
    let divisor = reader.varint_u64()?;
    let base = reader.varint_i64()?;
    let mut scaled = [0_i64; BLOCK_LEN];
    decode_ordered(reader, head, count, &mut |values| {
        let scaled = &mut scaled[..values.len()];
        for (out, &value) in scaled.iter_mut().zip(values) {
            *out = base.wrapping_add(value.wrapping_mul(divisor as i64));
        }
        sink(scaled);
    })
}

fn decode_ordered(
    reader: &mut ByteReader<'_>,
    head: u8,
    count: usize,
    sink: &mut Sink<'_>,
) -> Result<(), CodecError> {
    let order = head & ORDER_MASK;
    if order > 2 || usize::from(order) > count {
        return Err(reader.corrupt("order of the integer stream"));
    }
    if order == 0 {
        return decode_residuals(reader, head, count, Plain, sink);
    }
    let first = reader.varint_i64()?;
    if order == 1 {
        sink(&[first]);
        return decode_residuals(reader, head, count - 1, Sums { last: first }, sink);
    }
    let change = reader.varint_i64()?;
    let last = first.wrapping_add(change);
    sink(&[first, last]);
    decode_residuals(reader, head, count - 2, SumsOfSums { last, change }, sink)
}

fn decode_residuals(
    reader: &mut ByteReader<'_>,
    head: u8,
    count: usize,
    integrate: impl Integrate,
    sink: &mut Sink<'_>,
) -> Result<(), CodecError> {
    if head & LAYOUT_SPLIT == 0 {
        packed::decode(reader, count, integrate, sink)
    } else {
        split::decode(reader, count, integrate, sink)
    }
}
