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

use super::bitpack::{self, BLOCK_LEN};
use super::choose::{self, DecodeCost, EncodeEffort};
use super::reader::ByteReader;
use super::varint;
use super::{CodecError, zstd_context};

const ORDER_MASK: u8 = 0b0000_0011;
const HAS_DIVISOR: u8 = 0b0000_0100;
const LAYOUT_SPLIT: u8 = 0b0001_0000;
const KNOWN_BITS: u8 = ORDER_MASK | HAS_DIVISOR | LAYOUT_SPLIT;

/// Largest width of the packed low bits in the split layout: the byte above must fit 64 bits.
const SPLIT_LOW_BITS_MAX: u32 = 56;

/// Buckets kept free below the bulk of the values. Lower values are patches.
const SPLIT_MARGIN: u64 = 16;

/// The byte that stands in for a patched one: about the middle of the bulk, so that it is cheap.
const SPLIT_STAND_IN: u8 = 28;

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
    encode_packed(&residuals, out);
    if effort == EncodeEffort::Flush || residuals.len() < SPLIT_COUNT_MIN {
        return;
    }
    let packed_size = out.len() - body;
    let mut split = Vec::with_capacity(packed_size);
    encode_split(&residuals, &mut split);
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

/// How one block is packed: `value = reference + low bits + patch << width`.
struct BlockPlan {
    reference: i64,
    width: u32,
    size: usize,
}

impl BlockPlan {
    /// Finds reference and width with the fewest bytes, for outliers on either side.
    fn new(block: &[i64]) -> BlockPlan {
        let (mut low, mut high) = (i64::MAX, i64::MIN);
        for &value in block {
            low = low.min(value);
            high = high.max(value);
        }
        let width_max = bitpack::width_of(high.wrapping_sub(low) as u64);
        if width_max == 0 {
            return BlockPlan {
                reference: low,
                width: 0,
                size: 0,
            };
        }
        let from_low = Widths::of(block.iter().map(|&v| v.wrapping_sub(low) as u64));
        let (width, size) = from_low.best(block.len(), width_max);
        let mut plan = BlockPlan {
            reference: low,
            width,
            size,
        };
        // When most of the values sit near the top, the outliers are below: measure from there.
        let half = bitpack::mask(width_max - 1);
        let near_low = from_low.count_within(width_max - 1);
        if near_low < block.len() / 2 {
            let from_high = Widths::of(block.iter().map(|&v| high.wrapping_sub(v) as u64));
            let (width, size) = from_high.best(block.len(), width_max);
            if size < plan.size && bitpack::mask(width) <= half {
                let reference = high.wrapping_sub(bitpack::mask(width) as i64);
                // Values below the reference wrap round to patches of full length.
                let below = block.iter().filter(|&&v| v < reference).count();
                let size = bitpack::tail_size(block.len(), width) + below * 11;
                if size < plan.size {
                    plan = BlockPlan {
                        reference,
                        width,
                        size,
                    };
                }
            }
        }
        plan
    }
}

/// How many values need how many bits.
struct Widths([u16; 65]);

impl Widths {
    #[inline]
    fn of(values: impl Iterator<Item = u64>) -> Widths {
        let mut counts = [0; 65];
        for value in values {
            counts[bitpack::width_of(value) as usize] += 1;
        }
        Widths(counts)
    }

    fn count_within(&self, width: u32) -> usize {
        self.0[..=width as usize]
            .iter()
            .map(|&count| usize::from(count))
            .sum()
    }

    /// The width of the smallest encoding, and its size in bytes.
    fn best(&self, count: usize, width_max: u32) -> (u32, usize) {
        let mut best = (width_max, bitpack::tail_size(count, width_max));
        let mut patched = 0_usize;
        for width in (0..width_max).rev() {
            patched += usize::from(self.0[width as usize + 1]);
            // A patch takes two bytes or more.
            let packed = bitpack::tail_size(count, width);
            if packed + 2 * patched >= best.1 {
                if patched * 2 > count {
                    break;
                }
                continue;
            }
            let patches: usize = (width + 1..=width_max)
                .map(|w| usize::from(self.0[w as usize]) * (1 + (w - width).div_ceil(7) as usize))
                .sum();
            if packed + patches < best.1 {
                best = (width, packed + patches);
            }
        }
        best
    }
}

fn encode_packed(residuals: &[i64], out: &mut Vec<u8>) {
    let mut reference = 0_i64;
    let mut offsets = [0_u64; BLOCK_LEN];
    for block in residuals.chunks(BLOCK_LEN) {
        let plan = BlockPlan::new(block);
        for (offset, &value) in offsets.iter_mut().zip(block) {
            *offset = value.wrapping_sub(plan.reference) as u64;
        }
        let mut patches = Vec::new();
        if plan.width < 64 {
            for (at, &offset) in offsets[..block.len()].iter().enumerate() {
                if offset >> plan.width != 0 {
                    patches.push((at as u8, offset >> plan.width));
                }
            }
        }
        out.push(plan.width as u8);
        out.push(patches.len() as u8);
        varint::write_i64(out, plan.reference.wrapping_sub(reference));
        reference = plan.reference;
        if block.len() == BLOCK_LEN {
            bitpack::pack_block(&offsets, plan.width, out);
        } else {
            bitpack::pack_tail(&offsets[..block.len()], plan.width, out);
        }
        out.extend(patches.iter().map(|&(at, _)| at));
        for (_, high) in patches {
            varint::write_u64(out, high);
        }
    }
}

/// Window of the split layout: `offset = residual - reference`, its top byte at `low_bits`.
struct SplitPlan {
    reference: i64,
    low_bits: u32,
}

impl SplitPlan {
    /// Buckets of about a quarter of a standard deviation, the bulk near the window's low end: the
    /// entropy coder's table is as long as the highest byte.
    fn new(residuals: &[i64]) -> SplitPlan {
        const SAMPLES: usize = 256;
        let step = residuals.len().div_ceil(SAMPLES);
        let mut sample: Vec<i64> = residuals.iter().step_by(step).copied().collect();
        sample.sort_unstable();
        let cut = sample.len() / 64;
        let (low, high) = (sample[cut], sample[sample.len() - 1 - cut]);
        let spread = high.wrapping_sub(low) as u64;
        let low_bits = bitpack::width_of(spread)
            .saturating_sub(5)
            .min(SPLIT_LOW_BITS_MAX);
        let below = SPLIT_MARGIN << low_bits;
        SplitPlan {
            reference: low.wrapping_sub(below as i64),
            low_bits,
        }
    }
}

fn encode_split(residuals: &[i64], out: &mut Vec<u8>) {
    let plan = SplitPlan::new(residuals);
    let offsets: Vec<u64> = residuals
        .iter()
        .map(|&v| v.wrapping_sub(plan.reference) as u64)
        .collect();
    out.push(plan.low_bits as u8);
    varint::write_i64(out, plan.reference);
    let high = |offset: u64| offset >> plan.low_bits;
    let is_patch = |offset: u64| high(offset) > 0xff;
    varint::write_u64(
        out,
        offsets.iter().filter(|&&offset| is_patch(offset)).count() as u64,
    );
    let mut previous = 0;
    for (at, &offset) in offsets
        .iter()
        .enumerate()
        .filter(|&(_, &offset)| is_patch(offset))
    {
        varint::write_u64(out, (at - previous) as u64);
        varint::write_u64(out, high(offset));
        previous = at;
    }
    let tops: Vec<u8> = offsets
        .iter()
        .map(|&offset| {
            if is_patch(offset) {
                SPLIT_STAND_IN
            } else {
                high(offset) as u8
            }
        })
        .collect();
    let mut packed_tops = Vec::with_capacity(tops.len());
    zstd_context::compress_entropy(&tops, &mut packed_tops);
    if packed_tops.len() < tops.len() {
        varint::write_u64(out, packed_tops.len() as u64);
        out.extend_from_slice(&packed_tops);
    } else {
        varint::write_u64(out, 0);
        out.extend_from_slice(&tops);
    }
    if plan.low_bits > 0 {
        for block in offsets.chunks(BLOCK_LEN) {
            match block.first_chunk::<BLOCK_LEN>() {
                Some(block) => bitpack::pack_block(block, plan.low_bits, out),
                None => bitpack::pack_tail(block, plan.low_bits, out),
            }
        }
    }
}

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
    let order = usize::from(head & ORDER_MASK);
    if head & !KNOWN_BITS != 0 || order > 2 || order > count {
        return Err(reader.corrupt("unknown integer stream"));
    }
    if head & HAS_DIVISOR == 0 {
        return decode_ordered(reader, head, order, count, sink);
    }
    let divisor = reader.varint_u64()?;
    let base = reader.varint_i64()?;
    let mut scaled = [0_i64; BLOCK_LEN];
    decode_ordered(reader, head, order, count, |values| {
        let scaled = &mut scaled[..values.len()];
        for (out, &value) in scaled.iter_mut().zip(values) {
            *out = base.wrapping_add(value.wrapping_mul(divisor as i64));
        }
        sink(scaled);
    })
}

#[inline]
fn decode_ordered(
    reader: &mut ByteReader<'_>,
    head: u8,
    order: usize,
    count: usize,
    mut sink: impl FnMut(&[i64]),
) -> Result<(), CodecError> {
    match order {
        0 => decode_residuals(reader, head, count, |block| sink(block)),
        1 => {
            let mut last = reader.varint_i64()?;
            sink(&[last]);
            decode_residuals(reader, head, count - 1, |block| {
                for value in block.iter_mut() {
                    last = last.wrapping_add(*value);
                    *value = last;
                }
                sink(block);
            })
        }
        _ => {
            let first = reader.varint_i64()?;
            let mut delta = reader.varint_i64()?;
            let mut last = first.wrapping_add(delta);
            sink(&[first, last]);
            decode_residuals(reader, head, count - 2, |block| {
                for value in block.iter_mut() {
                    delta = delta.wrapping_add(*value);
                    last = last.wrapping_add(delta);
                    *value = last;
                }
                sink(block);
            })
        }
    }
}

#[inline]
fn decode_residuals(
    reader: &mut ByteReader<'_>,
    head: u8,
    count: usize,
    sink: impl FnMut(&mut [i64]),
) -> Result<(), CodecError> {
    if head & LAYOUT_SPLIT == 0 {
        decode_packed(reader, count, sink)
    } else {
        decode_split(reader, count, sink)
    }
}

/// Unpacks one block or tail of `width` bits, adds `reference`, and leaves the sums in `out`.
#[inline]
fn unpack(packed: &[u8], width: u32, reference: i64, out: &mut [i64]) {
    if let Some(out) = out.first_chunk_mut::<BLOCK_LEN>() {
        if width <= 32 {
            let mut words = [0_u32; BLOCK_LEN];
            bitpack::unpack_block_u32(packed, width, &mut words);
            for (value, word) in out.iter_mut().zip(words) {
                *value = reference.wrapping_add(i64::from(word));
            }
        } else {
            let mut words = [0_u64; BLOCK_LEN];
            bitpack::unpack_block_u64(packed, width, &mut words);
            for (value, word) in out.iter_mut().zip(words) {
                *value = reference.wrapping_add(word as i64);
            }
        }
    } else {
        let mut words = [0_u64; BLOCK_LEN];
        let words = &mut words[..out.len()];
        bitpack::unpack_tail(packed, width, words);
        for (value, word) in out.iter_mut().zip(words) {
            *value = reference.wrapping_add(*word as i64);
        }
    }
}

/// As [`unpack`], with a byte of `tops` above the low bits of each value.
#[inline]
fn unpack_split(packed: &[u8], low_bits: u32, reference: i64, tops: &[u8], out: &mut [i64]) {
    let full = (
        out.first_chunk_mut::<BLOCK_LEN>(),
        tops.first_chunk::<BLOCK_LEN>(),
    );
    if let (Some(out), Some(tops)) = full
        && low_bits <= 24
    {
        let mut words = [0_u32; BLOCK_LEN];
        bitpack::unpack_block_u32(packed, low_bits, &mut words);
        for ((value, word), &top) in out.iter_mut().zip(words).zip(tops) {
            *value = reference.wrapping_add(i64::from(word | u32::from(top) << low_bits));
        }
        return;
    }
    unpack(packed, low_bits, reference, out);
    for (value, &top) in out.iter_mut().zip(tops) {
        *value = value.wrapping_add((u64::from(top) << low_bits) as i64);
    }
}

/// Bytes of `count` (at most [`BLOCK_LEN`]) values of `width` bits.
#[inline]
fn packed_size(count: usize, width: u32) -> usize {
    if count == BLOCK_LEN {
        bitpack::block_size(width)
    } else {
        bitpack::tail_size(count, width)
    }
}

#[inline]
fn decode_packed(
    reader: &mut ByteReader<'_>,
    count: usize,
    mut sink: impl FnMut(&mut [i64]),
) -> Result<(), CodecError> {
    let mut values = [0_i64; BLOCK_LEN];
    let mut reference = 0_i64;
    let mut left = count;
    while left > 0 {
        let len = left.min(BLOCK_LEN);
        left -= len;
        let [width, patch_count] = reader.array::<2>()?;
        let width = u32::from(width);
        if width > 64 {
            return Err(reader.corrupt("bit width beyond 64"));
        }
        reference = reference.wrapping_add(reader.varint_i64()?);
        let packed = reader.take(packed_size(len, width))?;
        let values = &mut values[..len];
        unpack(packed, width, reference, values);
        for &at in reader.take(usize::from(patch_count))? {
            let high = reader_patch(reader)?;
            match values.get_mut(usize::from(at)) {
                Some(value) if width < 64 => {
                    *value = value.wrapping_add((high << width) as i64);
                }
                _ => return Err(reader.corrupt("patch outside its block")),
            }
        }
        sink(values);
    }
    Ok(())
}

#[cold]
fn reader_patch(reader: &mut ByteReader<'_>) -> Result<u64, CodecError> {
    reader.varint_u64()
}

#[inline]
fn decode_split(
    reader: &mut ByteReader<'_>,
    count: usize,
    mut sink: impl FnMut(&mut [i64]),
) -> Result<(), CodecError> {
    let low_bits = u32::from(reader.u8()?);
    if low_bits > SPLIT_LOW_BITS_MAX {
        return Err(reader.corrupt("split above bit 56"));
    }
    let reference = reader.varint_i64()?;
    let patch_count = reader.varint_max(count, "more patches than values")?;
    // A patch takes two bytes or more: this bounds the allocation by what is really there.
    if patch_count > reader.remaining() / 2 {
        return Err(reader.corrupt("more patches than bytes"));
    }
    let mut patches = Vec::with_capacity(patch_count);
    let mut at = 0_usize;
    for _ in 0..patch_count {
        at += reader.varint_max(count, "patch outside the stream")?;
        if at >= count {
            return Err(reader.corrupt("patch outside the stream"));
        }
        patches.push((at, reader.varint_u64()?));
    }
    let compressed_size = reader.varint_max(count, "top bytes larger than plain")?;
    let mut decompressed;
    let tops = if compressed_size == 0 {
        reader.take(count)?
    } else {
        let compressed = reader.take(compressed_size)?;
        decompressed = vec![0_u8; count];
        zstd_context::decompress("integers/split", compressed, &mut decompressed)?;
        &decompressed
    };
    let mut values = [0_i64; BLOCK_LEN];
    let mut patches = patches.into_iter().peekable();
    for (block, tops) in tops.chunks(BLOCK_LEN).enumerate() {
        let values = &mut values[..tops.len()];
        let packed = reader.take(packed_size(tops.len(), low_bits))?;
        unpack_split(packed, low_bits, reference, tops, values);
        let start = block * BLOCK_LEN;
        while let Some((at, high)) = patches.next_if(|&(at, _)| at < start + BLOCK_LEN) {
            // Takes back the stand-in of `encode_split`.
            let change = high.wrapping_sub(u64::from(tops[at - start])) << low_bits;
            values[at - start] = values[at - start].wrapping_add(change as i64);
        }
        sink(values);
    }
    Ok(())
}
