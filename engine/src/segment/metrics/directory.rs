//! The chunk directory and the timestamp-column table: from a row to its chunks, their times, and where
//! their values lie.
//!
//! A block of the directory covers 64 rows: base offset in the data section and base offset in the
//! statistics (varints), chunk count (varint), then packed runs: per row the number of chunks up to and
//! including it; per chunk the timestamp column, the end of its bytes above the base, its flags, and,
//! if any chunk of the block has statistics, the end of its record above the base. Times and counts are
//! not in the directory: they belong to the timestamp column, which many chunks share.

use crate::error::Result;

use super::super::container::{ContainerWriter, SegmentSink};
use super::super::file::{Section, SegmentFile};
use super::super::format::{
    CHUNK_BLOCK_ROWS, CHUNK_COUNT_MAX, CHUNK_FLAGS, CHUNK_SAMPLES_MAX, CHUNK_STATS, SectionKind,
    TIMESTAMP_ENTRY_SIZE,
};
use super::super::packed::{Packed, PackedArray, PackedArrayBuilder, PackedShape, put_packed};
use super::super::wire::{Cursor, put_u64};

/// A timestamp column: the times of one or more chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampColumn {
    /// First timestamp.
    pub first: i64,
    /// Last timestamp.
    pub last: i64,
    /// How many timestamps.
    pub count: u32,
    /// Offset of the encoded block in the data section.
    pub(crate) offset: u64,
    /// Bytes of the encoded block.
    pub(crate) length: u32,
}

/// A chunk: a run of one series' samples in time order, encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its timestamp column's number.
    pub(crate) column: u32,
    /// First and last time, count.
    pub(crate) times: TimestampColumn,
    /// Offset in the data section.
    pub(crate) offset: u64,
    /// Bytes, all columns but the timestamps.
    pub(crate) length: u32,
    /// What it holds beside values.
    pub(crate) flags: u8,
    /// Offset and length of the statistics record.
    pub(crate) stats: Option<(u64, u32)>,
}

impl ChunkRef {
    /// First timestamp in nanoseconds.
    #[must_use]
    pub fn first(&self) -> i64 {
        self.times.first
    }

    /// Last timestamp in nanoseconds.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.times.last
    }

    /// How many samples.
    #[must_use]
    pub fn count(&self) -> usize {
        self.times.count as usize
    }

    /// Encoded bytes without the (shared) timestamps.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        self.length as usize
    }

    /// Whether others have taken the place of the samples.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.flags & super::super::format::CHUNK_SUPERSEDED != 0
    }

    /// Whether some of the samples arrived at another time than their own.
    #[must_use]
    pub fn has_arrivals(&self) -> bool {
        self.flags & super::super::format::CHUNK_ARRIVALS != 0
    }

    /// Whether the samples are histograms.
    #[must_use]
    pub fn is_histogram(&self) -> bool {
        self.flags & super::super::format::CHUNK_HISTOGRAMS != 0
    }
}

/// The timestamp-column table of an open segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimestampTable {
    section: Section,
    data: Section,
    count: u32,
}

impl TimestampTable {
    pub(crate) fn open(file: &SegmentFile) -> Result<Self> {
        let section = file.section(SectionKind::Timestamps);
        let count = section.length / TIMESTAMP_ENTRY_SIZE as u64;
        if !section.length.is_multiple_of(TIMESTAMP_ENTRY_SIZE as u64)
            || count > u64::from(u32::MAX)
        {
            return Err(file.corrupt(
                section.offset,
                &format!("entries of {TIMESTAMP_ENTRY_SIZE} bytes"),
                &format!("{} bytes", section.length),
            ));
        }
        Ok(Self {
            section,
            data: file.section(SectionKind::Data),
            count: count as u32,
        })
    }

    /// How many distinct columns the segment has.
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// Column `column`.
    #[inline]
    pub(crate) fn get(&self, file: &SegmentFile, column: u32) -> Result<TimestampColumn> {
        let at = u64::from(column) * TIMESTAMP_ENTRY_SIZE as u64;
        let bytes = file.get_in(self.section, at, TIMESTAMP_ENTRY_SIZE)?;
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(|b| b.first_chunk::<8>());
            u64::from_le_bytes(*word.expect("bug: an entry of four words"))
        };
        let ends = word(24);
        let entry = TimestampColumn {
            first: word(0) as i64,
            last: word(8) as i64,
            offset: word(16),
            length: ends as u32,
            count: (ends >> 32) as u32,
        };
        let count = entry.count as usize;
        if count == 0 || count > CHUNK_SAMPLES_MAX || entry.first > entry.last {
            return Err(file.corrupt(
                self.section.offset + at,
                &format!("1 to {CHUNK_SAMPLES_MAX} ascending timestamps"),
                &format!("{count} from {} to {}", entry.first, entry.last),
            ));
        }
        Ok(entry)
    }

    /// The encoded block of a column and its offset in the file.
    pub(crate) fn block<'a>(
        &self,
        file: &'a SegmentFile,
        column: &TimestampColumn,
    ) -> Result<(&'a [u8], u64)> {
        let bytes = file.get_in(self.data, column.offset, column.length as usize)?;
        Ok((bytes, self.data.offset + column.offset))
    }
}

/// Appends an entry of the table.
pub(crate) fn put_timestamp_entry(out: &mut Vec<u8>, column: &TimestampColumn) {
    out.extend_from_slice(&column.first.to_le_bytes());
    out.extend_from_slice(&column.last.to_le_bytes());
    out.extend_from_slice(&column.offset.to_le_bytes());
    out.extend_from_slice(&column.length.to_le_bytes());
    out.extend_from_slice(&column.count.to_le_bytes());
}

/// The chunk directory of an open segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkDirectory {
    ends: PackedArray,
    section: Section,
    timestamps: TimestampTable,
    row_count: u32,
}

/// The chunks of one row, over mapped bytes.
#[derive(Clone, Copy)]
pub(crate) struct RowChunks<'a> {
    file: &'a SegmentFile,
    timestamps: TimestampTable,
    base: u64,
    stats_base: u64,
    columns: Packed<'a>,
    ends: Packed<'a>,
    flags: Packed<'a>,
    stats_ends: Option<Packed<'a>>,
    first: usize,
    end: usize,
}

/// A block of the directory whose heads were read: neighbouring rows share it.
#[derive(Clone, Copy, Debug)]
struct BlockShape {
    number: u32,
    /// Where it lies in the section.
    start: u64,
    length: usize,
    base: u64,
    stats_base: u64,
    /// Chunks of all its rows.
    count: usize,
    row_ends: PackedShape,
    columns: PackedShape,
    ends: PackedShape,
    flags: PackedShape,
    stats_ends: Option<PackedShape>,
}

/// Segments whose last block a walk remembers.
const WALK_SEGMENTS: usize = 8;

/// Remembers the blocks that rows were read from last, so that a walk over rows reads each block's
/// heads once. For one thread; for any number of segments in turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct DirectoryWalk {
    /// The file's uid and its block.
    blocks: [Option<(u64, BlockShape)>; WALK_SEGMENTS],
}

impl ChunkDirectory {
    pub(crate) fn open(file: &SegmentFile, row_count: u32) -> Result<Self> {
        let ends = PackedArray::open(file, SectionKind::ChunkEnds)?;
        let section = file.section(SectionKind::Chunks);
        let block_count = u64::from(row_count).div_ceil(CHUNK_BLOCK_ROWS as u64);
        if ends.len() != block_count {
            return Err(file.corrupt(
                section.offset,
                &format!("{block_count} blocks of the chunk directory"),
                &ends.len().to_string(),
            ));
        }
        Ok(Self {
            ends,
            section,
            timestamps: TimestampTable::open(file)?,
            row_count,
        })
    }

    pub(crate) fn timestamps(&self) -> TimestampTable {
        self.timestamps
    }

    /// The chunks of `row`.
    pub(crate) fn row<'a>(&self, file: &'a SegmentFile, row: u32) -> Result<RowChunks<'a>> {
        let shape = self.shape(file, row / CHUNK_BLOCK_ROWS as u32)?;
        self.row_of(file, &shape, row)
    }

    /// The chunks of `row`, which best lies near the row asked for before.
    #[inline]
    pub(crate) fn next_row<'a>(
        &self,
        file: &'a SegmentFile,
        row: u32,
        walk: &mut DirectoryWalk,
    ) -> Result<RowChunks<'a>> {
        let number = row / CHUNK_BLOCK_ROWS as u32;
        let slot = &mut walk.blocks[file.uid() as usize % WALK_SEGMENTS];
        let shape = match slot {
            Some((uid, shape)) if *uid == file.uid() && shape.number == number => shape,
            _ => {
                let shape = self.shape(file, number)?;
                &slot.insert((file.uid(), shape)).1
            }
        };
        self.row_of(file, shape, row)
    }

    /// Reads the heads of a block.
    fn shape(&self, file: &SegmentFile, number: u32) -> Result<BlockShape> {
        let (start, length) = self.ends.extent(file, u64::from(number))?;
        let bytes = file.get_in(self.section, start, length)?;
        let mut cursor = Cursor::new(file, bytes, self.section.offset + start);
        let rows = (self.row_count as usize).saturating_sub(number as usize * CHUNK_BLOCK_ROWS);
        let rows = rows.min(CHUNK_BLOCK_ROWS);

        let base = cursor.varint()?;
        let stats_base = cursor.varint()?;
        // Runs of zero width take no bytes, so the count needs a bound of its own.
        let count = cursor.varint_max(CHUNK_COUNT_MAX, "chunk count")? as usize;
        let mut run = |count: usize| PackedShape::read(&mut cursor, length, count);
        let (row_ends, columns) = (run(rows)?, run(count)?);
        let (ends, flags) = (run(count)?, run(count)?);
        let stats_ends = match cursor.remaining() {
            0 => None,
            _ => Some(PackedShape::read(&mut cursor, length, count)?),
        };
        cursor.finish()?;
        Ok(BlockShape {
            number,
            start,
            length,
            base,
            stats_base,
            count,
            row_ends,
            columns,
            ends,
            flags,
            stats_ends,
        })
    }

    #[inline]
    fn row_of<'a>(
        &self,
        file: &'a SegmentFile,
        shape: &BlockShape,
        row: u32,
    ) -> Result<RowChunks<'a>> {
        let in_block = row as usize % CHUNK_BLOCK_ROWS;
        let bytes = file.get_in(self.section, shape.start, shape.length)?;
        let row_ends = shape.row_ends.over(bytes);
        let first = match in_block {
            0 => 0,
            _ => row_ends.get(in_block - 1) as usize,
        };
        let end = row_ends.get(in_block) as usize;
        if first > end || end > shape.count {
            return Err(file.corrupt(
                self.section.offset + shape.start,
                "chunks of rows in ascending order",
                &format!("{first} to {end} of {} in row {row}", shape.count),
            ));
        }
        Ok(RowChunks {
            file,
            timestamps: self.timestamps,
            base: shape.base,
            stats_base: shape.stats_base,
            columns: shape.columns.over(bytes),
            ends: shape.ends.over(bytes),
            flags: shape.flags.over(bytes),
            stats_ends: shape.stats_ends.as_ref().map(|ends| ends.over(bytes)),
            first,
            end,
        })
    }
}

impl RowChunks<'_> {
    /// How many chunks the row has.
    pub(crate) fn len(&self) -> usize {
        self.end - self.first
    }

    /// Whether no chunk of the block has flags: then all are float chunks in time order.
    pub(crate) fn is_plain(&self) -> bool {
        self.flags.all_zero()
    }

    /// Times and count of chunk `index` of the row.
    #[inline]
    pub(crate) fn times(&self, index: usize) -> Result<TimestampColumn> {
        let column = self.columns.get(self.first + index);
        self.timestamps
            .get(self.file, u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// Chunk `index` of the row.
    pub(crate) fn get(&self, index: usize) -> Result<ChunkRef> {
        self.chunk(index, self.times(index)?)
    }

    /// Chunk `index` of the row, whose times are known.
    #[inline]
    fn chunk(&self, index: usize, times: TimestampColumn) -> Result<ChunkRef> {
        let at = self.first + index;
        let extent = |ends: &Packed<'_>, base: u64| {
            let start = if at == 0 { 0 } else { ends.get(at - 1) };
            let length = ends.get(at).checked_sub(start);
            let length = length.and_then(|n| u32::try_from(n).ok())?;
            Some((base.checked_add(start)?, length))
        };
        let bad = |what: &str| {
            self.file.corrupt(
                self.timestamps.data.offset,
                what,
                &format!("others in chunk {index}"),
            )
        };
        let (offset, length) =
            extent(&self.ends, self.base).ok_or_else(|| bad("ascending chunk ends"))?;
        let flags = self.flags.get(at);
        let flags = u8::try_from(flags)
            .ok()
            .filter(|flags| flags & !CHUNK_FLAGS == 0)
            .ok_or_else(|| bad("known chunk flags"))?;
        let stats = match (&self.stats_ends, flags & CHUNK_STATS != 0) {
            (Some(ends), true) => Some(
                extent(ends, self.stats_base).ok_or_else(|| bad("ascending statistics ends"))?,
            ),
            (None, true) => return Err(bad("statistics of flagged chunks")),
            (_, false) => None,
        };
        Ok(ChunkRef {
            column: self.columns.get(at) as u32,
            times,
            offset,
            length,
            flags,
            stats,
        })
    }

    /// The chunks that overlap `start..=end`, in stored order.
    pub(crate) fn overlapping(
        &self,
        start: i64,
        end: i64,
        mut each: impl FnMut(ChunkRef) -> Result<()>,
    ) -> Result<()> {
        let mut index = 0;
        if self.is_plain() && self.len() > 8 {
            // Float chunks ascend in time: find the first that does not end before the range.
            let (mut low, mut high) = (0, self.len());
            while low < high {
                let middle = low + (high - low) / 2;
                if self.times(middle)?.last < start {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            index = low;
        }
        while index < self.len() {
            let times = self.times(index)?;
            if times.first > end && self.is_plain() {
                break;
            }
            if times.first <= end && times.last >= start {
                each(self.chunk(index, times)?)?;
            }
            index += 1;
        }
        Ok(())
    }
}

/// One chunk on its way into the directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewChunk {
    pub(crate) column: u32,
    pub(crate) length: u32,
    pub(crate) flags: u8,
    pub(crate) stats_length: u32,
}

/// Builds the directory while rows come in.
#[derive(Debug, Default)]
pub(crate) struct DirectoryBuilder {
    ends: PackedArrayBuilder,
    blocks: Vec<u8>,
    row_ends: Vec<u64>,
    chunks: Vec<NewChunk>,
    base: u64,
    stats_base: u64,
    stats_end: u64,
    /// Chunks in closed blocks.
    closed_chunks: u64,
}

impl DirectoryBuilder {
    /// Adds a chunk to the open row.
    pub(crate) fn push(&mut self, chunk: NewChunk) {
        self.stats_end += u64::from(chunk.stats_length);
        self.chunks.push(chunk);
    }

    /// Ends the open row. Answers whether its block is complete: then the caller writes what belongs
    /// behind the block's values and calls [`DirectoryBuilder::close_block`].
    pub(crate) fn end_row(&mut self) -> bool {
        self.row_ends.push(self.chunks.len() as u64);
        self.row_ends.len() == CHUNK_BLOCK_ROWS
    }

    /// Ends the block; the next one's chunks start at `next_base` in the data section.
    pub(crate) fn close_block(&mut self, next_base: u64) {
        if self.row_ends.is_empty() {
            return;
        }
        let out = &mut self.blocks;
        put_u64(out, self.base);
        put_u64(out, self.stats_base);
        put_u64(out, self.chunks.len() as u64);
        put_packed(out, &self.row_ends);
        let mut column = |values: &mut dyn Iterator<Item = u64>| {
            put_packed(out, &values.collect::<Vec<u64>>());
        };
        column(&mut self.chunks.iter().map(|c| u64::from(c.column)));
        column(&mut self.chunks.iter().scan(0, |end, c| {
            *end += u64::from(c.length);
            Some(*end)
        }));
        column(&mut self.chunks.iter().map(|c| u64::from(c.flags)));
        if self.chunks.iter().any(|c| c.stats_length > 0) {
            column(&mut self.chunks.iter().scan(0, |end, c| {
                *end += u64::from(c.stats_length);
                Some(*end)
            }));
        }
        self.ends.push(self.blocks.len() as u64);
        self.closed_chunks += self.chunks.len() as u64;
        self.row_ends.clear();
        self.chunks.clear();
        self.base = next_base;
        self.stats_base = self.stats_end;
    }

    /// How many chunks were added.
    pub(crate) fn chunk_count(&self) -> u64 {
        self.closed_chunks + self.chunks.len() as u64
    }

    /// Writes the two sections.
    pub(crate) fn finish<S: SegmentSink>(self, writer: &mut ContainerWriter<S>) -> Result<()> {
        assert!(self.row_ends.is_empty(), "bug: a directory block is open");
        writer.section(SectionKind::ChunkEnds, &self.ends.finish())?;
        writer.section(SectionKind::Chunks, &self.blocks)
    }
}
