//! The packed layout: blocks of 128 residuals, each with reference, width and patches.
//!
//! Outliers do not set the width: the few values beyond it keep their low bits in place and their
//! high bits in a list behind the block ("patched" frame of reference: Zukowski and others,
//! "Super-scalar RAM-CPU cache compression", 2006).

use super::{Integrate, Sink, Wanted, hand_on, stands_alone};
use crate::codec::CodecError;
use crate::codec::bitpack::{self, BLOCK_LEN};
use crate::codec::reader::ByteReader;
use crate::codec::varint;

/// How one block is packed: `value = reference + low bits + patch << width`.
pub(super) struct BlockPlan {
    pub(super) reference: i64,
    pub(super) width: u32,
    /// Bytes that it takes, its head aside.
    pub(super) size: usize,
}

impl BlockPlan {
    /// Finds reference and width with the fewest bytes, for outliers on either side.
    pub(super) fn new(block: &[i64]) -> BlockPlan {
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

/// Appends `residuals`.
pub(super) fn encode(residuals: &[i64], out: &mut Vec<u8>) {
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

/// Decodes residuals and hands the values that `integrate` makes of those that are asked for to `sink`.
pub(super) fn decode(
    reader: &mut ByteReader<'_>,
    wanted: &Wanted,
    mut integrate: impl Integrate,
    sink: &mut Sink<'_>,
) -> Result<(), CodecError> {
    let mut values = [0_i64; BLOCK_LEN];
    let mut words = Words::new();
    let mut reference = 0_i64;
    let mut start = 0;
    while start < wanted.end() {
        let len = (wanted.count - start).min(BLOCK_LEN);
        let part = wanted.part(start, len);
        start += len;
        let [width, patch_count] = reader.array::<2>()?;
        let width = u32::from(width);
        if width > 64 {
            return Err(reader.corrupt("bit width beyond 64"));
        }
        reference = reference.wrapping_add(reader.varint_i64()?);
        let packed = reader.take(size_of_packed(len, width))?;
        let values = &mut values[..len];
        if part.is_empty() && stands_alone(&integrate) {
            skip_patches(reader, usize::from(patch_count))?;
            continue;
        }
        if patch_count == 0 && !part.is_empty() {
            words.unpack(packed, width, values, |word| {
                integrate.next(reference.wrapping_add(word as i64))
            });
            sink(&values[part]);
            continue;
        }
        words.unpack(packed, width, values, |word| {
            reference.wrapping_add(word as i64)
        });
        patch(reader, usize::from(patch_count), width, values)?;
        hand_on(values, part, &mut integrate, sink);
    }
    Ok(())
}

fn patch(
    reader: &mut ByteReader<'_>,
    count: usize,
    width: u32,
    values: &mut [i64],
) -> Result<(), CodecError> {
    for &at in reader.take(count)? {
        let high = reader.varint_u64()?;
        match values.get_mut(usize::from(at)) {
            Some(value) if width < 64 => *value = value.wrapping_add((high << width) as i64),
            _ => return Err(reader.corrupt("patch outside its block")),
        }
    }
    Ok(())
}

/// Goes past the patches of a block that nobody wants.
fn skip_patches(reader: &mut ByteReader<'_>, count: usize) -> Result<(), CodecError> {
    reader.take(count)?;
    for _ in 0..count {
        reader.varint_u64()?;
    }
    Ok(())
}

/// Bytes of `count` (at most [`BLOCK_LEN`]) values of `width` bits.
#[inline]
pub(super) fn size_of_packed(count: usize, width: u32) -> usize {
    if count == BLOCK_LEN {
        bitpack::block_size(width)
    } else {
        bitpack::tail_size(count, width)
    }
}

/// Room for one unpacked block.
pub(super) struct Words {
    pub(super) narrow: [u32; BLOCK_LEN],
    wide: [u64; BLOCK_LEN],
}

impl Words {
    pub(super) fn new() -> Words {
        Words {
            narrow: [0; BLOCK_LEN],
            wide: [0; BLOCK_LEN],
        }
    }

    /// Unpacks one block or tail of `width` bits and leaves in `out` what `finish` makes of it.
    #[inline(always)]
    pub(super) fn unpack(
        &mut self,
        packed: &[u8],
        width: u32,
        out: &mut [i64],
        mut finish: impl FnMut(u64) -> i64,
    ) {
        if out.len() == BLOCK_LEN && width <= 32 {
            bitpack::unpack_block_u32(packed, width, &mut self.narrow);
            for (value, &word) in out.iter_mut().zip(&self.narrow) {
                *value = finish(u64::from(word));
            }
            return;
        }
        let wide = &mut self.wide;
        if out.len() == BLOCK_LEN {
            bitpack::unpack_block_u64(packed, width, wide);
        } else {
            bitpack::unpack_tail(packed, width, &mut wide[..out.len()]);
        }
        for (value, &word) in out.iter_mut().zip(wide.iter()) {
            *value = finish(word);
        }
    }
}
