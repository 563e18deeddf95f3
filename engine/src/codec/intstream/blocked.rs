//! The blocked layout: like the split one, but every block of 128 residuals can be decoded by itself.
//!
//! Queries look at the end of a chunk, or at an hour of it. So a block of order 1 begins with a value
//! (its *anchor*) in place of a difference, and top bytes are coded block by block under one code for
//! all (see [`super::prefix_code`]). What a reader needs of the rest of the stream is its head: some
//! tens of bytes. Reference and width hold for all blocks; patches, few and known by position, take
//! what does not fit.

use std::ops::Range;

use smallvec::SmallVec;

use super::packed::{BlockPlan, Words, size_of_packed};
use super::prefix_code::{Codes, DecodeTable, SYMBOLS_MAX, lengths_of};
use super::split::{LOW_BITS_MAX, SplitPlan, read_patches, unpack};
use super::{DecodeCost, Sink};
use crate::codec::bitpack::{self, BLOCK_LEN};
use crate::codec::reader::ByteReader;
use crate::codec::{CodecError, varint};

/// Fewer values than this have one block or two: heads would outweigh what they save.
pub(super) const COUNT_MIN: usize = 96;
/// More values than this do not come in a chunk; plans count in 16 bits.
pub(super) const COUNT_MAX: usize = u16::MAX as usize;

/// Values of a full block: an anchor, if any, and 128 residuals.
#[inline]
fn block_values(order: usize) -> usize {
    BLOCK_LEN + order
}

/// Residuals of all blocks one after the other, and the blocks' first values.
fn residuals(values: &[i64], order: usize) -> (Vec<i64>, Vec<i64>) {
    if order == 0 {
        return (values.to_vec(), Vec::new());
    }
    let mut residuals = Vec::with_capacity(values.len());
    let mut anchors = Vec::new();
    for block in values.chunks(block_values(order)) {
        anchors.push(block[0]);
        residuals.extend(block.windows(2).map(|w| w[1].wrapping_sub(w[0])));
    }
    (residuals, anchors)
}

/// How residuals are laid out: `residual = reference + (top << low_bits | low bits)`.
struct Plan {
    reference: i64,
    low_bits: u32,
    /// Code lengths of the top bytes; none where all are 0.
    lengths: Vec<u8>,
    /// Stands in for the top of a patched residual.
    stand_in: u8,
}

impl Plan {
    /// All bits as they are, but for outliers.
    fn plain(residuals: &[i64]) -> Plan {
        let plan = BlockPlan::new(residuals);
        Plan {
            reference: plan.reference,
            low_bits: plan.width,
            lengths: Vec::new(),
            stand_in: 0,
        }
    }

    /// Top bytes coded. `None` where there is nothing to code.
    fn coded(residuals: &[i64]) -> Option<Plan> {
        let split = SplitPlan::new(residuals);
        let mut counts = [0_usize; SYMBOLS_MAX];
        for &residual in residuals {
            let top = residual.wrapping_sub(split.reference) as u64 >> split.low_bits;
            if let Some(count) = counts.get_mut(usize::try_from(top).unwrap_or(usize::MAX)) {
                *count += 1;
            }
        }
        let used = without_outliers(&counts);
        if used.len() < 2 {
            return None;
        }
        let reference = split
            .reference
            .wrapping_add((used.start << split.low_bits) as i64);
        let counts = &counts[used];
        let stand_in = (0..counts.len()).max_by_key(|&symbol| counts[symbol]);
        Some(Plan {
            reference,
            low_bits: split.low_bits,
            lengths: lengths_of(counts),
            stand_in: stand_in.unwrap_or(0) as u8,
        })
    }

    /// Top byte of an offset; `None` where it needs a patch.
    fn top(&self, offset: u64) -> Option<u8> {
        let top = usize::try_from(high(offset, self.low_bits)).ok()?;
        match self.lengths.get(top) {
            Some(&length) => (length > 0).then_some(top as u8),
            None => (top == 0 && self.lengths.is_empty()).then_some(0),
        }
    }
}

/// The bits of an offset above the packed ones.
#[inline]
fn high(offset: u64, low_bits: u32) -> u64 {
    offset.checked_shr(low_bits).unwrap_or(0)
}

/// The range of symbols worth a place in the code: a lone one at the far end of a gap costs half a byte
/// for every symbol of the gap, more than a patch.
fn without_outliers(counts: &[usize]) -> Range<usize> {
    const PATCH_BYTES: usize = 4;
    let used: Vec<usize> = (0..counts.len()).filter(|&s| counts[s] > 0).collect();
    let mut used = &used[..];
    while let [rest @ .., before, last] = used
        && (last - before) / 2 > PATCH_BYTES * counts[*last]
    {
        used = &used[..rest.len() + 1];
    }
    while let [first, next, ..] = used
        && (next - first) / 2 > PATCH_BYTES * counts[*first]
    {
        used = &used[1..];
    }
    match used {
        [first, .., last] => *first..*last + 1,
        [only] => *only..*only + 1,
        [] => 0..0,
    }
}

/// The stream of `values` (as many as [`COUNT_MIN`] and [`COUNT_MAX`] say) of order 0 or 1, behind its
/// head, in one or two ways, and what decoding them costs.
pub(super) fn candidates(values: &[i64], order: usize) -> Vec<(Vec<u8>, DecodeCost)> {
    let (residuals, anchors) = residuals(values, order);
    let coded = Plan::coded(&residuals).map(|plan| (plan, DecodeCost::BLOCKED_CODED));
    let plain = (Plan::plain(&residuals), DecodeCost::BLOCKED);
    let encode = |(plan, cost): (Plan, DecodeCost)| (encode(&residuals, &anchors, &plan), cost);
    std::iter::once(plain).chain(coded).map(encode).collect()
}

fn encode(residuals: &[i64], anchors: &[i64], plan: &Plan) -> Vec<u8> {
    let mut out = Vec::with_capacity(residuals.len() * (plan.low_bits as usize + 8) / 8 + 64);
    out.push(plan.low_bits as u8);
    varint::write_i64(&mut out, plan.reference);
    varint::write_u64(&mut out, plan.lengths.len() as u64);
    put_anchors(anchors, &mut out);
    let offsets: Vec<u64> = residuals
        .iter()
        .map(|&residual| residual.wrapping_sub(plan.reference) as u64)
        .collect();
    put_patches(&offsets, plan, &mut out);
    if !plan.lengths.is_empty() {
        for pair in plan.lengths.chunks(2) {
            out.push(pair[0] | pair.get(1).copied().unwrap_or(0) << 4);
        }
        put_tops(&offsets, anchors.len(), plan, &mut out);
    }
    for block in offsets.chunks(BLOCK_LEN) {
        match block.first_chunk::<BLOCK_LEN>() {
            Some(block) => bitpack::pack_block(block, plan.low_bits, &mut out),
            None => bitpack::pack_tail(block, plan.low_bits, &mut out),
        }
    }
    out
}

fn put_anchors(anchors: &[i64], out: &mut Vec<u8>) {
    let Some(first) = anchors.first() else {
        return;
    };
    varint::write_i64(out, *first);
    let changes = || anchors.windows(2).map(|w| w[1].wrapping_sub(w[0]));
    let Some(min) = changes().min() else {
        return;
    };
    let offsets: Vec<u64> = changes().map(|c| c.wrapping_sub(min) as u64).collect();
    let width = bitpack::width_of(offsets.iter().copied().max().unwrap_or(0));
    out.push(width as u8);
    varint::write_i64(out, min);
    bitpack::pack_tail(&offsets, width, out);
}

fn put_patches(offsets: &[u64], plan: &Plan, out: &mut Vec<u8>) {
    let patched: Vec<usize> = (0..offsets.len())
        .filter(|&at| plan.top(offsets[at]).is_none())
        .collect();
    varint::write_u64(out, patched.len() as u64);
    let mut previous = 0;
    for at in patched {
        varint::write_u64(out, (at - previous) as u64);
        varint::write_u64(out, high(offsets[at], plan.low_bits));
        previous = at;
    }
}

/// Sizes of the blocks' codes, then the codes.
fn put_tops(offsets: &[u64], anchor_count: usize, plan: &Plan, out: &mut Vec<u8>) {
    let codes = Codes::new(&plan.lengths);
    let sizes_at = out.len();
    // A block may consist of its anchor alone.
    let block_count = anchor_count.max(offsets.len().div_ceil(BLOCK_LEN));
    out.resize(sizes_at + block_count, 0);
    for (number, block) in offsets.chunks(BLOCK_LEN).enumerate() {
        let before = out.len();
        let top = |&offset: &u64| plan.top(offset).unwrap_or(plan.stand_in);
        codes.encode(block.iter().map(top), out);
        // 128 codes of 10 bits take 160 bytes.
        out[sizes_at + number] = (out.len() - before) as u8;
    }
}

/// Decodes the values `range` of `count` and hands them to `sink`, block by block.
///
/// The reader is left behind the stream.
pub(super) fn decode(
    reader: &mut ByteReader<'_>,
    order: usize,
    count: usize,
    range: Range<usize>,
    sink: &mut Sink<'_>,
) -> Result<(), CodecError> {
    let stream = Stream::read(reader, order, count)?;
    let mut decoder = Decoder {
        tops: [[0; BLOCK_LEN]; LANES],
        values: [0; BLOCK_LEN + 1],
        words: Words::new(),
        stream: &stream,
    };
    let blocks = range.start / stream.block_values..range.end.div_ceil(stream.block_values);
    let mut codes_at: usize = stream.code_sizes(0..blocks.start).sum();
    let mut block = blocks.start;
    while block < blocks.end {
        // The last block may be short and goes by itself.
        let full = (stream.residual_count / BLOCK_LEN).min(blocks.end);
        let lanes = full.saturating_sub(block).clamp(1, LANES);
        codes_at = match decoder.decode_tops(block, lanes, codes_at) {
            Some(behind) => behind,
            None => return Err(reader.corrupt("codes of another length")),
        };
        for lane in 0..lanes {
            let values = decoder.block(block + lane, lane);
            let start = (block + lane) * stream.block_values;
            let part = range.start.saturating_sub(start)..(range.end - start).min(values.len());
            sink(&values[part]);
        }
        block += lanes;
    }
    Ok(())
}

/// Blocks whose codes are read side by side.
const LANES: usize = 4;

/// The head of a stream, and where the rest lies.
struct Stream<'a> {
    low_bits: u32,
    reference: i64,
    /// Empty for order 0.
    anchors: SmallVec<[i64; 32]>,
    /// Ascending by position among all residuals.
    patches: Vec<(usize, u64)>,
    table: Option<DecodeTable>,
    /// Bytes of each block's codes.
    code_sizes: &'a [u8],
    /// Codes, then low bits.
    body: &'a [u8],
    lows_at: usize,
    residual_count: usize,
    block_values: usize,
}

impl<'a> Stream<'a> {
    fn read(
        reader: &mut ByteReader<'a>,
        order: usize,
        count: usize,
    ) -> Result<Stream<'a>, CodecError> {
        let block_values = block_values(order);
        let block_count = count.div_ceil(block_values);
        let residual_count = count - order * block_count;
        let low_bits = u32::from(reader.u8()?);
        let reference = reader.varint_i64()?;
        let symbol_count = reader.varint_max(SYMBOLS_MAX, "more than 256 symbols")?;
        if low_bits > 64 || (symbol_count > 0 && low_bits > LOW_BITS_MAX) {
            return Err(reader.corrupt("too many low bits"));
        }
        let anchors = match order {
            0 => SmallVec::new(),
            _ => read_anchors(reader, block_count)?,
        };
        let patches = read_patches(reader, residual_count)?;
        if low_bits == 64 && !patches.is_empty() {
            return Err(reader.corrupt("patches of whole values"));
        }
        let (mut table, mut code_sizes): (_, &[u8]) = (None, &[]);
        if symbol_count > 0 {
            table = Some(read_table(reader, symbol_count)?);
            code_sizes = reader.take(block_count)?;
        }
        let lows_at = code_sizes.iter().map(|&size| usize::from(size)).sum();
        let (full, rest) = (residual_count / BLOCK_LEN, residual_count % BLOCK_LEN);
        let low_size = full * bitpack::block_size(low_bits) + bitpack::tail_size(rest, low_bits);
        Ok(Stream {
            low_bits,
            reference,
            anchors,
            patches,
            table,
            code_sizes,
            body: reader.take(lows_at + low_size)?,
            lows_at,
            residual_count,
            block_values,
        })
    }

    fn code_sizes(&self, blocks: Range<usize>) -> impl Iterator<Item = usize> {
        let sizes = self.code_sizes.get(blocks).unwrap_or(&[]);
        sizes.iter().map(|&size| usize::from(size))
    }

    /// Residuals of a block: 128, or fewer in the last one.
    #[inline]
    fn len(&self, block: usize) -> usize {
        (self.residual_count - block * BLOCK_LEN).min(BLOCK_LEN)
    }
}

fn read_anchors(
    reader: &mut ByteReader<'_>,
    block_count: usize,
) -> Result<SmallVec<[i64; 32]>, CodecError> {
    let mut anchors = SmallVec::new();
    if block_count == 0 {
        return Ok(anchors);
    }
    let mut anchor = reader.varint_i64()?;
    anchors.push(anchor);
    if block_count == 1 {
        return Ok(anchors);
    }
    let width = u32::from(reader.u8()?);
    if width > 64 {
        return Err(reader.corrupt("anchors wider than 64 bits"));
    }
    let min = reader.varint_i64()?;
    let packed = reader.take(bitpack::tail_size(block_count - 1, width))?;
    let mut changes: SmallVec<[u64; 32]> = SmallVec::new();
    changes.resize(block_count - 1, 0);
    bitpack::unpack_tail(packed, width, &mut changes);
    for change in changes {
        anchor = anchor.wrapping_add(min).wrapping_add(change as i64);
        anchors.push(anchor);
    }
    Ok(anchors)
}

fn read_table(reader: &mut ByteReader<'_>, symbols: usize) -> Result<DecodeTable, CodecError> {
    let mut lengths = [0_u8; SYMBOLS_MAX];
    let nibbles = reader.take(symbols.div_ceil(2))?;
    for (pair, &byte) in lengths.chunks_mut(2).zip(nibbles) {
        pair.copy_from_slice(&[byte & 0xf, byte >> 4]);
    }
    DecodeTable::new(&lengths[..symbols]).ok_or_else(|| reader.corrupt("no complete code"))
}

/// Room for what is being decoded.
struct Decoder<'a> {
    stream: &'a Stream<'a>,
    tops: [[u8; BLOCK_LEN]; LANES],
    values: [i64; BLOCK_LEN + 1],
    words: Words,
}

impl Decoder<'_> {
    /// Decodes the top bytes of `lanes` blocks from `first` on, whose codes begin at `at`, and returns
    /// where the next block's begin; `None` when the codes do not fill what the head says.
    fn decode_tops(&mut self, first: usize, lanes: usize, at: usize) -> Option<usize> {
        let stream = self.stream;
        let Some(table) = &stream.table else {
            return Some(at);
        };
        let mut starts = [at; LANES];
        let mut behind = at;
        for (lane, size) in stream.code_sizes(first..first + lanes).enumerate() {
            starts[lane] = behind;
            behind += size;
        }
        let mut ends = starts;
        if lanes > 1 {
            // Two or three blocks leave lanes over, which read the first block again.
            ends = table.decode(stream.body, starts, &mut self.tops);
        } else {
            let tops = &mut self.tops[0][..stream.len(first)];
            ends[0] = table.decode_one(stream.body, at, tops);
        }
        let begins = starts[1..lanes].iter().copied().chain([behind]);
        ends.iter()
            .copied()
            .zip(begins)
            .all(|(end, next)| end == next)
            .then_some(behind)
    }

    /// The values of a block, whose top bytes are in `lane`.
    fn block(&mut self, block: usize, lane: usize) -> &[i64] {
        let stream = self.stream;
        let (len, low_bits, reference) = (stream.len(block), stream.low_bits, stream.reference);
        let lows_at = stream.lows_at + block * bitpack::block_size(low_bits);
        let lows = &stream.body[lows_at..lows_at + size_of_packed(len, low_bits)];
        let tops = stream.table.is_some().then(|| &self.tops[lane][..len]);
        let anchor = stream.anchors.get(block).copied();
        let order = usize::from(anchor.is_some());
        let from = block * BLOCK_LEN;
        let patches = stream.patches.partition_point(|&(at, _)| at < from);
        let patches = &stream.patches[patches..];
        let patched = patches.partition_point(|&(at, _)| at < from + len);
        let patches = &patches[..patched];
        let (words, values) = (&mut self.words, &mut self.values[order..order + len]);
        let residual = |offset: u64| reference.wrapping_add(offset as i64);
        if !patches.is_empty() {
            join(words, lows, low_bits, tops, values, residual);
            for &(at, high) in patches {
                // Takes back the byte that stands in.
                let top = tops.map_or(0, |tops| tops[at - from]);
                let change = high.wrapping_sub(u64::from(top)) << low_bits;
                values[at - from] = values[at - from].wrapping_add(change as i64);
            }
            if let Some(mut value) = anchor {
                for residual in values.iter_mut() {
                    value = value.wrapping_add(*residual);
                    *residual = value;
                }
            }
        } else if let Some(mut value) = anchor {
            join(words, lows, low_bits, tops, values, |offset| {
                value = value.wrapping_add(residual(offset));
                value
            });
        } else {
            join(words, lows, low_bits, tops, values, residual);
        }
        if let Some(anchor) = anchor {
            self.values[0] = anchor;
        }
        &self.values[..order + len]
    }
}

/// Joins low bits and top bytes, if any, of one block and leaves in `out` what `finish` makes of them.
#[inline(always)]
fn join(
    words: &mut Words,
    lows: &[u8],
    low_bits: u32,
    tops: Option<&[u8]>,
    out: &mut [i64],
    finish: impl FnMut(u64) -> i64,
) {
    match tops {
        Some(tops) => unpack(words, lows, low_bits, tops, out, finish),
        None => words.unpack(lows, low_bits, out, finish),
    }
}
