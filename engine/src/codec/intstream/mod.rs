//! The integer stream: the common body of integer, decimal-float and timestamp blocks.
//!
//! Values are reduced step by step, each step optional:
//!
//! 1. divisor: `v = base + divisor * k` (page multiples, milliseconds in nanoseconds);
//! 2. order: the values, their differences, or the differences of those;
//! 3. layout of the residuals: *packed* (blocks of 128, each with reference, width and patches),
//!    *blocked* (low bits packed, the byte above them prefix coded or not there, each block readable by
//!    itself) or *split* (the same with an entropy coder over all blocks; second differences only).
//!
//! Packed and blocked without codes decode fastest. With codes a stream comes within a few hundredths of a bit of the entropy of smooth
//! distributions: the low bits of a residual are noise, so they are stored as they are, and only the
//! top byte, cut so that its buckets are about a quarter of a standard deviation wide, is worth
//! modelling. All arithmetic wraps, so that any `i64` may follow any other.
//!
//! The byte layout is in `docs/formats/codecs.md`, section "Integer stream".

mod blocked;
mod packed;
mod prefix_code;
mod split;

use std::ops::Range;

use super::CodecError;
use super::bitpack::BLOCK_LEN;
use super::choose::{self, DecodeCost, EncodeEffort};
use super::reader::ByteReader;
use super::varint;
use packed::BlockPlan;

const ORDER_MASK: u8 = 0b0000_0011;
const HAS_DIVISOR: u8 = 0b0000_0100;
const LAYOUT_SPLIT: u8 = 0b0001_0000;
const LAYOUT_BLOCKED: u8 = 0b0010_0000;
const KNOWN_BITS: u8 = ORDER_MASK | HAS_DIVISOR | LAYOUT_SPLIT | LAYOUT_BLOCKED;

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
    let count = values.len();
    let mut best = choose::score(effort, out.len() - body, count, DecodeCost::PACKED);
    if order <= 1 && (blocked::COUNT_MIN..=blocked::COUNT_MAX).contains(&count) {
        for (stream, cost) in blocked::candidates(values, order) {
            let score = choose::score(effort, stream.len(), count, cost);
            if score < best {
                best = score;
                out.truncate(start);
                out.push(order as u8 | flags | LAYOUT_BLOCKED);
                out.extend_from_slice(prefix);
                out.extend_from_slice(&stream);
            }
        }
        return;
    }
    let mut split = Vec::with_capacity(out.len() - body);
    split::encode(&residuals, &mut split);
    if choose::score(effort, split.len(), count, DecodeCost::SPLIT) < best {
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
    /// Whether values need nothing of the residuals before them: those are then not even unpacked.
    const STANDS_ALONE: bool = false;

    fn next(&mut self, residual: i64) -> i64;

    /// Goes past residuals whose values nobody wants.
    fn skip(&mut self, residuals: &[i64]);
}

/// Order 0: residuals are values.
struct Plain;

impl Integrate for Plain {
    const STANDS_ALONE: bool = true;

    #[inline(always)]
    fn next(&mut self, residual: i64) -> i64 {
        residual
    }

    fn skip(&mut self, _: &[i64]) {}
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

    #[inline]
    fn skip(&mut self, residuals: &[i64]) {
        // A sum has no order, so it is made in all lanes at once.
        let sum = residuals.iter().fold(0_i64, |sum, &r| sum.wrapping_add(r));
        self.last = self.last.wrapping_add(sum);
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

    fn skip(&mut self, residuals: &[i64]) {
        for &residual in residuals {
            self.next(residual);
        }
    }
}

/// Most values that a [`Sink`] is handed at once: a block of residuals, and what it begins with.
const SLICE_LEN_MAX: usize = BLOCK_LEN + 1;

/// What takes the decoded values: called once per block, so that dispatch costs nothing.
type Sink<'a> = dyn FnMut(&[i64]) + 'a;

/// Decodes `count` values, handing them in order to `sink` in slices of at most [`SLICE_LEN_MAX`].
///
/// The reader is left behind the stream.
pub(super) fn decode(
    reader: &mut ByteReader<'_>,
    count: usize,
    sink: impl FnMut(&[i64]),
) -> Result<(), CodecError> {
    decode_range(reader, count, 0..count, sink)
}

/// As [`decode`], of the values `range` only. What lies behind the last of them is not looked at; the
/// reader is left somewhere in the stream unless the range reaches its end.
pub(super) fn decode_range(
    reader: &mut ByteReader<'_>,
    count: usize,
    range: Range<usize>,
    mut sink: impl FnMut(&[i64]),
) -> Result<(), CodecError> {
    debug_assert!(range.end <= count, "bug: values {range:?} of {count}");
    if range.is_empty() {
        return Ok(());
    }
    let head = reader.u8()?;
    if head & !KNOWN_BITS != 0 {
        return Err(reader.corrupt("unknown integer stream"));
    }
    if head & HAS_DIVISOR == 0 {
        return decode_ordered(reader, head, count, range, &mut sink);
    }
    let divisor = reader.varint_u64()?;
    let base = reader.varint_i64()?;
    let mut scaled = [0_i64; SLICE_LEN_MAX];
    decode_ordered(reader, head, count, range, &mut |values| {
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
    range: Range<usize>,
    sink: &mut Sink<'_>,
) -> Result<(), CodecError> {
    let order = usize::from(head & ORDER_MASK);
    if order > 2 || order > count {
        return Err(reader.corrupt("order of the integer stream"));
    }
    if head & LAYOUT_BLOCKED != 0 {
        if order > 1 || head & LAYOUT_SPLIT != 0 {
            return Err(reader.corrupt("layout of the integer stream"));
        }
        return blocked::decode(reader, order, count, range, sink);
    }
    // The first values lie before the residuals.
    let mut firsts = [0_i64; 2];
    let mut change = 0_i64;
    if order >= 1 {
        firsts[0] = reader.varint_i64()?;
    }
    if order == 2 {
        change = reader.varint_i64()?;
        firsts[1] = firsts[0].wrapping_add(change);
    }
    let of_firsts = range.start.min(order)..range.end.min(order);
    if !of_firsts.is_empty() {
        sink(&firsts[of_firsts]);
    }
    let wanted = Wanted {
        count: count - order,
        range: range.start.saturating_sub(order)..range.end.saturating_sub(order),
    };
    let [first, second] = firsts;
    match order {
        0 => decode_residuals(reader, head, &wanted, Plain, sink),
        1 => decode_residuals(reader, head, &wanted, Sums { last: first }, sink),
        _ => {
            let sums = SumsOfSums {
                last: second,
                change,
            };
            decode_residuals(reader, head, &wanted, sums, sink)
        }
    }
}

/// Which residuals' values are asked for, of how many.
struct Wanted {
    count: usize,
    range: Range<usize>,
}

impl Wanted {
    /// The part of a block of `len` residuals that begins at `start` that is asked for; empty for a
    /// block before the range.
    #[inline]
    fn part(&self, start: usize, len: usize) -> Range<usize> {
        let to = self.range.end.saturating_sub(start).min(len);
        self.range.start.saturating_sub(start).min(to)..to
    }

    /// Where decoding may stop: at the end of all when that is asked for, so that a stream is always
    /// used up.
    #[inline]
    fn end(&self) -> usize {
        self.range.end
    }
}

/// Makes values of a block's residuals, in place, and hands on the part that is asked for.
#[inline(always)]
fn hand_on(
    residuals: &mut [i64],
    part: Range<usize>,
    integrate: &mut impl Integrate,
    sink: &mut Sink<'_>,
) {
    if part.is_empty() {
        integrate.skip(residuals);
        return;
    }
    for residual in residuals.iter_mut() {
        *residual = integrate.next(*residual);
    }
    sink(&residuals[part]);
}

/// [`Integrate::STANDS_ALONE`] of a value at hand.
#[inline(always)]
fn stands_alone<I: Integrate>(_: &I) -> bool {
    I::STANDS_ALONE
}

fn decode_residuals(
    reader: &mut ByteReader<'_>,
    head: u8,
    wanted: &Wanted,
    integrate: impl Integrate,
    sink: &mut Sink<'_>,
) -> Result<(), CodecError> {
    if head & LAYOUT_SPLIT == 0 {
        packed::decode(reader, wanted, integrate, sink)
    } else {
        split::decode(reader, wanted, integrate, sink)
    }
}
