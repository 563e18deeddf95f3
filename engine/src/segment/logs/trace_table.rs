//! The distinct trace ids of a segment, ascending, each with the blocks that have rows of it.
//!
//! An id of 16 random bytes stands once per segment, whatever the number of its rows; rows refer to it
//! by its number. A trace that is not in the table is not in the file: a look-up by id costs a binary
//! search and touches no row. Numbers are known only when the last row was seen, so a builder gives
//! provisional ones and says at the end which number each became.

use hashbrown::HashMap;

use super::super::container::{ContainerWriter, SegmentSink};
use super::super::file::{Section, SegmentFile};
use super::super::format::SectionKind;
use super::super::packed::{PackedArray, PackedArrayBuilder};
use crate::error::Result;
use crate::model::TraceId;

/// Bytes of a trace id.
const ID_SIZE: usize = 16;

/// Collects trace ids while blocks are built.
#[derive(Debug, Default)]
pub(crate) struct TraceTableBuilder {
    provisional: HashMap<[u8; ID_SIZE], u32>,
    ids: Vec<[u8; ID_SIZE]>,
    /// Last block that each id was seen in, plus one.
    last_block: Vec<u32>,
    /// Provisional number and block, each pair once.
    pairs: Vec<(u32, u32)>,
}

impl TraceTableBuilder {
    /// The provisional number of an id that block `block` has. Blocks come in ascending order.
    pub(crate) fn number(&mut self, id: [u8; ID_SIZE], block: u32) -> u32 {
        let next = self.ids.len() as u32;
        let number = *self.provisional.entry(id).or_insert(next);
        if number == next {
            self.ids.push(id);
            self.last_block.push(0);
        }
        let last = &mut self.last_block[number as usize];
        if *last != block + 1 {
            *last = block + 1;
            self.pairs.push((number, block));
        }
        number
    }

    /// Writes the sections of the table; answers the final number of each provisional one.
    pub(crate) fn finish<S: SegmentSink>(
        self,
        writer: &mut ContainerWriter<S>,
    ) -> Result<Vec<u32>> {
        let Self { ids, pairs, .. } = self;
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_unstable_by_key(|number| u128::from_be_bytes(ids[*number as usize]));
        let mut finals = vec![0; ids.len()];
        let mut section = Vec::with_capacity(ids.len() * ID_SIZE);
        for (place, number) in order.iter().enumerate() {
            finals[*number as usize] = place as u32;
            section.extend_from_slice(&ids[*number as usize]);
        }
        writer.section(SectionKind::Traces, &section)?;
        let mut pairs: Vec<(u32, u32)> = pairs
            .into_iter()
            .map(|(number, block)| (finals[number as usize], block))
            .collect();
        pairs.sort_unstable();
        let mut ends = PackedArrayBuilder::default();
        let mut blocks = PackedArrayBuilder::default();
        for (count, (number, block)) in pairs.iter().enumerate() {
            blocks.push(u64::from(*block));
            if pairs.get(count + 1).is_none_or(|next| next.0 != *number) {
                ends.push(count as u64 + 1);
            }
        }
        writer.section(SectionKind::TraceBlockEnds, &ends.finish())?;
        writer.section(SectionKind::TraceBlocks, &blocks.finish())?;
        Ok(finals)
    }
}

/// The trace ids of an open segment.
#[derive(Debug)]
pub(crate) struct TraceTable {
    ids: Section,
    ends: PackedArray,
    blocks: PackedArray,
}

impl TraceTable {
    /// Opens the table; a segment without traces has an empty one.
    pub(crate) fn open(file: &SegmentFile) -> Result<Self> {
        let ids = file.section(SectionKind::Traces);
        let ends = PackedArray::open(file, SectionKind::TraceBlockEnds)?;
        let blocks = PackedArray::open(file, SectionKind::TraceBlocks)?;
        let count = ids.length / ID_SIZE as u64;
        if !ids.length.is_multiple_of(ID_SIZE as u64)
            || ends.len() != count
            || blocks.len() < count
            || count > u64::from(u32::MAX)
        {
            return Err(file.corrupt(
                ids.offset,
                "trace ids of 16 bytes, each with its blocks",
                &format!(
                    "{} bytes, {} ends, {} blocks",
                    ids.length,
                    ends.len(),
                    blocks.len()
                ),
            ));
        }
        Ok(Self { ids, ends, blocks })
    }

    /// How many traces there are.
    pub(crate) fn len(&self) -> u32 {
        // At most 2^32 - 1, as opening found.
        (self.ids.length / ID_SIZE as u64) as u32
    }

    /// The id with a number.
    #[inline]
    pub(crate) fn id(&self, file: &SegmentFile, number: u32) -> Result<[u8; ID_SIZE]> {
        let offset = u64::from(number) * ID_SIZE as u64;
        let bytes = file.get_in(self.ids, offset, ID_SIZE)?;
        let mut id = [0; ID_SIZE];
        id.copy_from_slice(bytes);
        Ok(id)
    }

    /// The number of an id, if the segment has the trace.
    pub(crate) fn find(&self, file: &SegmentFile, id: &TraceId) -> Result<Option<u32>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.id(file, middle)?.cmp(&id.0) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
            }
        }
        Ok(None)
    }

    /// Calls `each` with every block that has rows of trace `number`, ascending.
    pub(crate) fn for_each_block(
        &self,
        file: &SegmentFile,
        number: u32,
        mut each: impl FnMut(u32),
    ) -> Result<()> {
        let (start, count) = self.ends.extent(file, u64::from(number))?;
        for at in start..start.saturating_add(count as u64) {
            let block = self.blocks.get(file, at)?;
            each(u32::try_from(block).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// Checks that ids ascend and that their blocks do and are below `block_count`: for verify.
    pub(crate) fn verify(&self, file: &SegmentFile, block_count: u32) -> Result<()> {
        let bad = |what: &str, number: u32| {
            Err(file.corrupt(self.ids.offset, what, &format!("others at trace {number}")))
        };
        let mut before = None;
        let mut total = 0;
        for number in 0..self.len() {
            let id = self.id(file, number)?;
            if before.is_some_and(|before| before >= id) {
                return bad("trace ids in ascending order", number);
            }
            before = Some(id);
            let mut last = None;
            let mut ascending = true;
            self.for_each_block(file, number, |block| {
                ascending &= last.is_none_or(|last| last < block) && block < block_count;
                last = Some(block);
                total += 1;
            })?;
            if !ascending || last.is_none() {
                return bad("blocks of a trace in ascending order", number);
            }
        }
        if total != self.blocks.len() {
            return bad("every block number with its trace", self.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Signal;

    #[test]
    fn traces_are_found_with_their_blocks() {
        let mut builder = TraceTableBuilder::default();
        let id = |n: u32| {
            let mut id = [7; 16];
            id[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_le_bytes());
            id
        };
        let mut provisional = Vec::new();
        for block in 0..40 {
            for n in 0..20 {
                // Trace n + block: in up to 20 blocks, twice in each.
                provisional.push((id(n + block), builder.number(id(n + block), block)));
                builder.number(id(n + block), block);
            }
        }
        let mut writer = ContainerWriter::new(Vec::new(), Signal::Logs).unwrap();
        let finals = builder.finish(&mut writer).unwrap();
        let file = SegmentFile::open(Arc::new(writer.finish().unwrap().0), "memory").unwrap();
        let table = TraceTable::open(&file).unwrap();
        assert_eq!(table.len(), 59);
        table.verify(&file, 40).unwrap();
        assert!(table.verify(&file, 39).is_err());
        for (id, number) in provisional {
            let found = table.find(&file, &TraceId(id)).unwrap();
            assert_eq!(found, Some(finals[number as usize]));
            assert_eq!(table.id(&file, found.unwrap()).unwrap(), id);
        }
        for n in 0..59_u32 {
            let number = table.find(&file, &TraceId(id(n))).unwrap().unwrap();
            let mut blocks = Vec::new();
            let keep = |block| blocks.push(block);
            table.for_each_block(&file, number, keep).unwrap();
            let expected: Vec<u32> = (n.saturating_sub(19)..=n.min(39)).collect();
            assert_eq!(blocks, expected);
        }
        assert_eq!(table.find(&file, &TraceId([7; 16])).unwrap(), None);
        assert_eq!(table.find(&file, &TraceId([8; 16])).unwrap(), None);
    }
}
