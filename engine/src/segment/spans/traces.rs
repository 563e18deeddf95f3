//! The traces of an open segment: ids in the order of their rows, and their order by id.

use std::cmp::Ordering;

use super::directory::Directory;
use crate::error::Result;
use crate::model::TraceId;
use crate::segment::file::{Section, SegmentFile};
use crate::segment::format::SectionKind;
use crate::segment::packed::PackedArray;

const ID_SIZE: u64 = 16;

/// The table of traces.
#[derive(Debug)]
pub(super) struct Traces {
    ids: Section,
    order: PackedArray,
}

impl Traces {
    pub(super) fn open(file: &SegmentFile) -> Result<Self> {
        let ids = file.section(SectionKind::TraceIdsByRow);
        let order = PackedArray::open(file, SectionKind::TraceOrder)?;
        let count = ids.length / ID_SIZE;
        if !ids.length.is_multiple_of(ID_SIZE)
            || order.len() != count
            || count > u64::from(u32::MAX)
        {
            return Err(file.corrupt(
                ids.offset,
                "ids of 16 bytes, as many as are in order",
                &format!("{} bytes, {} in order", ids.length, order.len()),
            ));
        }
        Ok(Self { ids, order })
    }

    pub(super) fn len(&self) -> u64 {
        self.ids.length / ID_SIZE
    }

    /// The ids of some traces, by order of rows.
    pub(super) fn ids<'a>(
        &self,
        file: &'a SegmentFile,
        first: u32,
        count: u32,
    ) -> Result<&'a [u8]> {
        let offset = u64::from(first) * ID_SIZE;
        file.get_in(self.ids, offset, count as usize * ID_SIZE as usize)
    }

    fn id(&self, file: &SegmentFile, number: u64) -> Result<[u8; 16]> {
        let bytes = file.get_in(self.ids, number.saturating_mul(ID_SIZE), ID_SIZE as usize)?;
        Ok(bytes.first_chunk().copied().unwrap_or_default())
    }

    /// The trace of the `place`th smallest id: number by order of rows, and id.
    pub(super) fn by_order(&self, file: &SegmentFile, place: u64) -> Result<(u32, [u8; 16])> {
        let number = self.order.get(file, place)?;
        match u32::try_from(number) {
            Ok(small) if number < self.len() => Ok((small, self.id(file, number)?)),
            _ => Err(file.corrupt(
                file.section(SectionKind::TraceOrder).offset,
                &format!("a trace below {}", self.len()),
                &number.to_string(),
            )),
        }
    }

    /// The number of a trace by order of rows. Ids are random, so the first guesses go where the id
    /// would be among evenly spread ones; ids that are not random still take but a binary search.
    pub(super) fn find(&self, file: &SegmentFile, id: &TraceId) -> Result<Option<u32>> {
        const GUESSES: u32 = 4;
        let wanted = u128::from_be_bytes(id.0);
        let (mut low, mut high) = (0, self.len());
        let (mut low_id, mut high_id) = (0_u128, u128::MAX);
        let mut probes = 0;
        while low < high {
            let middle = if probes < GUESSES && low_id < high_id && high - low > 8 {
                // The upper half of the ids decides where to look.
                let range = ((high_id - low_id) >> 64).max(1);
                let part = (wanted.saturating_sub(low_id)) >> 64;
                let guess = part.saturating_mul(u128::from(high - low)) / range;
                low + (guess as u64).min(high - low - 1)
            } else {
                low + (high - low) / 2
            };
            probes += 1;
            let (number, found) = self.by_order(file, middle)?;
            let found = u128::from_be_bytes(found);
            match found.cmp(&wanted) {
                Ordering::Equal => return Ok(Some(number)),
                Ordering::Less => {
                    low = middle + 1;
                    low_id = found;
                }
                Ordering::Greater => {
                    high = middle;
                    high_id = found;
                }
            }
        }
        Ok(None)
    }

    /// The blocks that have spans of a trace.
    pub(super) fn blocks_of(&self, directory: &Directory, number: u32) -> std::ops::Range<usize> {
        let end = directory.partition_point(|head| head.first_trace <= number);
        let start = directory.partition_point(|head| head.first_trace + head.traces <= number);
        start..end
    }
}
