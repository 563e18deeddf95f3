//! The split layout: low bits packed as they are, the byte above them entropy coded, all of them at
//! once. Written for second differences only; the blocked layout took its place.

use super::packed::{Words, size_of_packed};
use super::{Integrate, Sink, Wanted, hand_on, stands_alone};
use crate::codec::bitpack::{self, BLOCK_LEN};
use crate::codec::reader::ByteReader;
use crate::codec::{CodecError, varint, zstd_context};

const CODEC: &str = "integers/split";

/// Largest width of the packed low bits: the byte above must fit 64 bits.
pub(super) const LOW_BITS_MAX: u32 = 56;

/// Buckets kept free below the bulk of the values. Lower values are patches.
const MARGIN: u64 = 16;

/// The byte that stands in for a patched one: about the middle of the bulk, so that it is cheap.
const STAND_IN: u8 = 28;

/// Window of the split layout: `offset = residual - reference`, its top byte at `low_bits`.
pub(super) struct SplitPlan {
    pub(super) reference: i64,
    pub(super) low_bits: u32,
}

impl SplitPlan {
    /// Buckets of about a quarter of a standard deviation, the bulk near the window's low end: the
    /// entropy coder's table is as long as the highest byte.
    pub(super) fn new(residuals: &[i64]) -> SplitPlan {
        const SAMPLES: usize = 256;
        let step = residuals.len().div_ceil(SAMPLES);
        let mut sample: Vec<i64> = residuals.iter().step_by(step).copied().collect();
        sample.sort_unstable();
        let cut = sample.len() / 64;
        let (low, high) = (sample[cut], sample[sample.len() - 1 - cut]);
        let spread = high.wrapping_sub(low) as u64;
        let low_bits = bitpack::width_of(spread)
            .saturating_sub(5)
            .min(LOW_BITS_MAX);
        let below = MARGIN << low_bits;
        SplitPlan {
            reference: low.wrapping_sub(below as i64),
            low_bits,
        }
    }
}

/// Appends `residuals`.
pub(super) fn encode(residuals: &[i64], out: &mut Vec<u8>) {
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
                STAND_IN
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

/// Decodes residuals and hands the values that `integrate` makes of those that are asked for to `sink`.
pub(super) fn decode(
    reader: &mut ByteReader<'_>,
    wanted: &Wanted,
    mut integrate: impl Integrate,
    sink: &mut Sink<'_>,
) -> Result<(), CodecError> {
    let count = wanted.count;
    let low_bits = u32::from(reader.u8()?);
    if low_bits > LOW_BITS_MAX {
        return Err(reader.corrupt("split above bit 56"));
    }
    let reference = reader.varint_i64()?;
    let mut patches = read_patches(reader, count)?.into_iter().peekable();
    let compressed_size = reader.varint_max(count, "top bytes larger than plain")?;
    let mut decompressed;
    let tops = if compressed_size == 0 {
        reader.take(count)?
    } else {
        let compressed = reader.take(compressed_size)?;
        decompressed = vec![0_u8; count];
        zstd_context::decompress(CODEC, compressed, &mut decompressed)?;
        &decompressed
    };
    let mut values = [0_i64; BLOCK_LEN];
    let mut words = Words::new();
    let mut start = 0;
    for tops in tops.chunks(BLOCK_LEN) {
        if start >= wanted.end() {
            return Ok(());
        }
        let end = start + tops.len();
        let part = wanted.part(start, tops.len());
        let values = &mut values[..tops.len()];
        let packed = reader.take(size_of_packed(tops.len(), low_bits))?;
        let is_patched = patches.peek().is_some_and(|&(at, _)| at < end);
        if part.is_empty() && stands_alone(&integrate) {
            while patches.next_if(|&(at, _)| at < end).is_some() {}
        } else if part.is_empty() || is_patched {
            unpack(&mut words, packed, low_bits, tops, values, |offset| {
                reference.wrapping_add(offset as i64)
            });
            while let Some((at, high)) = patches.next_if(|&(at, _)| at < end) {
                // Takes back the byte that stands in.
                let change = high.wrapping_sub(u64::from(tops[at - start])) << low_bits;
                values[at - start] = values[at - start].wrapping_add(change as i64);
            }
            hand_on(values, part, &mut integrate, sink);
        } else {
            unpack(&mut words, packed, low_bits, tops, values, |offset| {
                integrate.next(reference.wrapping_add(offset as i64))
            });
            sink(&values[part]);
        }
        start = end;
    }
    Ok(())
}

/// Position and high bits of what does not fit the window, in ascending order of position.
pub(super) fn read_patches(
    reader: &mut ByteReader<'_>,
    count: usize,
) -> Result<Vec<(usize, u64)>, CodecError> {
    // A patch takes two bytes or more: this bounds the allocation by what is really there.
    let patch_count = reader.varint_max(
        count.min(reader.remaining() / 2),
        "more patches than values",
    )?;
    let mut patches = Vec::with_capacity(patch_count);
    let mut at = 0_usize;
    for _ in 0..patch_count {
        at += reader.varint_max(count, "patch outside the stream")?;
        if at >= count {
            return Err(reader.corrupt("patch outside the stream"));
        }
        patches.push((at, reader.varint_u64()?));
    }
    Ok(patches)
}

/// Joins low bits and top bytes of one block and leaves in `out` what `finish` makes of them.
#[inline(always)]
pub(super) fn unpack(
    words: &mut Words,
    packed: &[u8],
    low_bits: u32,
    tops: &[u8],
    out: &mut [i64],
    mut finish: impl FnMut(u64) -> i64,
) {
    if out.len() == BLOCK_LEN && low_bits <= 24 {
        bitpack::unpack_block_u32(packed, low_bits, &mut words.narrow);
        for ((value, &low), &top) in out.iter_mut().zip(&words.narrow).zip(tops) {
            *value = finish(u64::from(low | u32::from(top) << low_bits));
        }
        return;
    }
    let mut tops = tops.iter();
    words.unpack(packed, low_bits, out, |low| {
        let top = tops.next().copied().unwrap_or(0);
        finish(low | u64::from(top) << low_bits)
    });
}
