//! Arrays of unsigned integers with random access over mapped bytes: per block a minimum, a bit width
//! and the differences, bit-packed. The building stone of all directories: an entry costs the bits
//! that it needs, and reading one costs two loads.

use crate::error::Result;

use super::file::{Section, SegmentFile};
use super::format::{PACKED_BLOCK_LEN, SectionKind};
use super::wire::{Cursor, put_u64};

/// Appends a run of values: width u8, minimum varint, differences bit-packed, lowest bit first.
/// The count is not stored.
pub(crate) fn put_packed(out: &mut Vec<u8>, values: &[u64]) {
    let min = values.iter().copied().min().unwrap_or(0);
    let max = values.iter().copied().max().unwrap_or(0);
    let width = 64 - (max - min).leading_zeros();
    out.push(width as u8);
    put_u64(out, min);
    let (mut open, mut open_bits) = (0_u128, 0_u32);
    for value in values {
        open |= u128::from(value - min) << open_bits;
        open_bits += width;
        while open_bits >= 8 {
            out.push(open as u8);
            open >>= 8;
            open_bits -= 8;
        }
    }
    if open_bits > 0 {
        out.push(open as u8);
    }
}

/// A run that [`put_packed`] wrote, over mapped bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Packed<'a> {
    min: u64,
    width: u32,
    bits: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Reads the head of a run of `count` values and leaves the cursor behind the run.
    #[inline]
    pub(crate) fn read(cursor: &mut Cursor<'a>, count: usize) -> Result<Self> {
        let width = u32::from(cursor.u8()?);
        if width > 64 {
            return Err(cursor.corrupt("a bit width of at most 64", width));
        }
        let min = cursor.varint()?;
        let size = (count as u64 * u64::from(width)).div_ceil(8);
        let bits = cursor.take(usize::try_from(size).unwrap_or(usize::MAX))?;
        Ok(Self { min, width, bits })
    }

    /// Value `index`; 0 bits behind the end read as zero.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> u64 {
        if self.width == 0 {
            return self.min;
        }
        let bit = index * self.width as usize;
        let (byte, shift) = (bit / 8, bit % 8);
        let raw = match self.bits.get(byte..).and_then(|b| b.first_chunk::<8>()) {
            Some(word) if self.width <= 56 => u64::from_le_bytes(*word) >> shift,
            _ => self.read_slowly(byte, shift),
        };
        let mask = u64::MAX >> (64 - self.width);
        self.min.wrapping_add(raw & mask)
    }

    fn read_slowly(&self, byte: usize, shift: usize) -> u64 {
        let mut word = [0_u8; 16];
        let rest = self.bits.get(byte..).unwrap_or(&[]);
        let length = rest.len().min(16);
        word[..length].copy_from_slice(&rest[..length]);
        (u128::from_le_bytes(word) >> shift) as u64
    }

    /// Whether all values are zero.
    #[inline]
    pub(crate) fn all_zero(&self) -> bool {
        self.width == 0 && self.min == 0
    }
}

/// A run without its bytes: what was read of its head, and where in the structure its bits lie.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PackedShape {
    min: u64,
    width: u32,
    start: usize,
    end: usize,
}

impl PackedShape {
    /// Reads the head of a run of `count` values in a structure of `length` bytes, over all of which
    /// the cursor walks, and leaves the cursor behind the run.
    pub(crate) fn read(cursor: &mut Cursor<'_>, length: usize, count: usize) -> Result<Self> {
        let packed = Packed::read(cursor, count)?;
        let end = length - cursor.remaining();
        Ok(Self {
            min: packed.min,
            width: packed.width,
            start: end - packed.bits.len(),
            end,
        })
    }

    /// The run over the structure's bytes.
    #[inline]
    pub(crate) fn over<'a>(&self, bytes: &'a [u8]) -> Packed<'a> {
        Packed {
            min: self.min,
            width: self.width,
            bits: bytes.get(self.start..self.end).unwrap_or(&[]),
        }
    }
}

/// Collects a long array; [`PackedArrayBuilder::finish`] gives the bytes of its section.
///
/// Layout: count u64, block count x end offset u64 (from the end of this table), blocks of
/// [`PACKED_BLOCK_LEN`] values.
#[derive(Debug, Default)]
pub(crate) struct PackedArrayBuilder {
    pending: Vec<u64>,
    count: u64,
    ends: Vec<u8>,
    blocks: Vec<u8>,
}

impl PackedArrayBuilder {
    pub(crate) fn push(&mut self, value: u64) {
        self.pending.push(value);
        self.count += 1;
        if self.pending.len() == PACKED_BLOCK_LEN {
            self.close_block();
        }
    }

    fn close_block(&mut self) {
        put_packed(&mut self.blocks, &self.pending);
        self.pending.clear();
        let end = self.blocks.len() as u64;
        self.ends.extend_from_slice(&end.to_le_bytes());
    }

    /// The section's bytes; none for an empty array.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.count == 0 {
            return Vec::new();
        }
        if !self.pending.is_empty() {
            self.close_block();
        }
        let mut bytes = Vec::with_capacity(8 + self.ends.len() + self.blocks.len());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.ends);
        bytes.extend_from_slice(&self.blocks);
        bytes
    }
}

/// Where a long array lies; reads go through the [`SegmentFile`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PackedArray {
    section: Section,
    count: u64,
    /// Offset in the section of the first block.
    blocks_at: u64,
}

impl PackedArray {
    /// Opens the array in section `kind`.
    pub(crate) fn open(file: &SegmentFile, kind: SectionKind) -> Result<Self> {
        let section = file.section(kind);
        if section.length == 0 {
            return Ok(Self::default());
        }
        let mut head = Cursor::new(file, file.get_in(section, 0, 8)?, section.offset);
        let count = head.u64()?;
        let block_count = count.div_ceil(PACKED_BLOCK_LEN as u64);
        let blocks_at = block_count.checked_mul(8).and_then(|n| n.checked_add(8));
        match blocks_at {
            Some(blocks_at) if count > 0 && blocks_at <= section.length => Ok(Self {
                section,
                count,
                blocks_at,
            }),
            _ => Err(file.corrupt(
                section.offset,
                &format!("a count that fits {} bytes", section.length),
                &count.to_string(),
            )),
        }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    fn block<'a>(&self, file: &'a SegmentFile, block: u64) -> Result<Packed<'a>> {
        let (start, end) = if block == 0 {
            let mut cursor = Cursor::new(
                file,
                file.get_in(self.section, 8, 8)?,
                self.section.offset + 8,
            );
            (0, cursor.u64()?)
        } else {
            let at = block * 8;
            let bytes = file.get_in(self.section, at, 16)?;
            let mut cursor = Cursor::new(file, bytes, self.section.offset + at);
            (cursor.u64()?, cursor.u64()?)
        };
        let offset = self.blocks_at.saturating_add(start);
        let length = end.checked_sub(start).and_then(|n| usize::try_from(n).ok());
        let Some(length) = length else {
            return Err(file.corrupt(
                self.section.offset + 8 * block,
                "block ends in ascending order",
                &format!("{start} before {end}"),
            ));
        };
        let count = (self.count - block * PACKED_BLOCK_LEN as u64).min(PACKED_BLOCK_LEN as u64);
        let bytes = file.get_in(self.section, offset, length)?;
        let mut cursor = Cursor::new(file, bytes, self.section.offset + offset);
        let packed = Packed::read(&mut cursor, count as usize)?;
        cursor.finish()?;
        Ok(packed)
    }

    /// Value `index`.
    pub(crate) fn get(&self, file: &SegmentFile, index: u64) -> Result<u64> {
        self.check_index(file, index)?;
        let block = self.block(file, index / PACKED_BLOCK_LEN as u64)?;
        Ok(block.get((index % PACKED_BLOCK_LEN as u64) as usize))
    }

    /// Reads the array as end offsets: where element `index` starts and how long it is.
    pub(crate) fn extent(&self, file: &SegmentFile, index: u64) -> Result<(u64, usize)> {
        self.check_index(file, index)?;
        let in_block = (index % PACKED_BLOCK_LEN as u64) as usize;
        let block = self.block(file, index / PACKED_BLOCK_LEN as u64)?;
        let end = block.get(in_block);
        let start = match in_block {
            _ if index == 0 => 0,
            0 => self.get(file, index - 1)?,
            _ => block.get(in_block - 1),
        };
        match end.checked_sub(start).and_then(|n| usize::try_from(n).ok()) {
            Some(length) => Ok((start, length)),
            None => Err(file.corrupt(
                self.section.offset,
                "end offsets in ascending order",
                &format!("{end} after {start} at element {index}"),
            )),
        }
    }

    fn check_index(&self, file: &SegmentFile, index: u64) -> Result<()> {
        if index < self.count {
            return Ok(());
        }
        Err(file.corrupt(
            self.section.offset,
            &format!("more than {index} elements"),
            &self.count.to_string(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::container::ContainerWriter;
    use super::*;
    use crate::model::Signal;

    #[test]
    fn arrays_of_any_width_read_back() {
        for width in [0, 1, 7, 8, 31, 32, 33, 56, 57, 63, 64] {
            let mut state = 88_172_645_463_325_252_u64;
            let values: Vec<u64> = (0..300)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    if width == 0 {
                        42
                    } else {
                        state >> (64 - width)
                    }
                })
                .collect();
            let mut builder = PackedArrayBuilder::default();
            values.iter().for_each(|v| builder.push(*v));
            let mut writer = ContainerWriter::new(Vec::new(), Signal::Metrics).unwrap();
            writer
                .section(SectionKind::SeriesEnds, &builder.finish())
                .unwrap();
            let (bytes, _) = writer.finish().unwrap();
            let file = SegmentFile::open(Arc::new(bytes), "memory").unwrap();
            let array = PackedArray::open(&file, SectionKind::SeriesEnds).unwrap();
            assert_eq!(array.len(), 300);
            for (index, value) in values.iter().enumerate() {
                assert_eq!(
                    array.get(&file, index as u64).unwrap(),
                    *value,
                    "{width} {index}"
                );
            }
            assert!(array.get(&file, 300).is_err());
        }
    }
}
