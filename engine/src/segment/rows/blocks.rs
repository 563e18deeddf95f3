//! The directory of a log or span segment's blocks.
//!
//! Section: block count varint, ends of the entries (packed run), then the entries: offset and length
//! of the block in the data section, offset and length of its word filter, row count, first and last
//! row of the stream table, first time, distance of the last, then what is needed only once the block
//! is read: column entries and attribute shapes.

use crate::error::Result;
use crate::model::TimeRange;

use super::super::file::SegmentFile;
use super::super::format::{BLOCK_ROWS_MAX, SectionKind};
use super::super::packed::{Packed, put_packed};
use super::super::wire::{Cursor, put_i64, put_u64};

/// What can be known of a block without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHead {
    /// In the data section.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// In the section of word filters.
    pub(crate) filter_offset: u64,
    pub(crate) filter_length: u64,
    pub(crate) rows: u32,
    pub(crate) first_stream: u32,
    pub(crate) last_stream: u32,
    pub(crate) range: TimeRange,
}

/// Collects the blocks' entries.
#[derive(Debug, Default)]
pub(crate) struct BlocksBuilder {
    ends: Vec<u64>,
    entries: Vec<u8>,
}

impl BlocksBuilder {
    /// Adds a block; `details` are its column entries and shapes.
    pub(crate) fn push(&mut self, head: &BlockHead, details: &[u8]) {
        let out = &mut self.entries;
        put_u64(out, head.offset);
        put_u64(out, head.length);
        put_u64(out, head.filter_offset);
        put_u64(out, head.filter_length);
        put_u64(out, u64::from(head.rows));
        put_u64(out, u64::from(head.first_stream));
        put_u64(out, u64::from(head.last_stream));
        put_i64(out, head.range.start.0);
        put_u64(
            out,
            head.range.end.0.wrapping_sub(head.range.start.0) as u64,
        );
        out.extend_from_slice(details);
        self.ends.push(self.entries.len() as u64);
    }

    /// The section's bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.ends.is_empty() {
            put_u64(&mut out, self.ends.len() as u64);
            put_packed(&mut out, &self.ends);
            out.extend_from_slice(&self.entries);
        }
        out
    }
}

/// Reads the directory: the heads are kept, the details are parsed when a block is read.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// Heads, with the offset in the file and the length of the details.
    heads: Vec<(BlockHead, u64, usize)>,
}

impl Blocks {
    pub(crate) fn open(file: &SegmentFile, stream_count: u32) -> Result<Self> {
        let mut cursor = file.cursor(SectionKind::Blocks)?;
        if cursor.remaining() == 0 {
            return Ok(Self::default());
        }
        let count = cursor.count("block count")?;
        let ends = Packed::read(&mut cursor, count)?;
        let mut heads = Vec::new();
        let mut start = 0;
        for block in 0..count {
            let end = ends.get(block);
            let length = end.checked_sub(start).and_then(|n| usize::try_from(n).ok());
            let Some(length) = length else {
                return Err(cursor.corrupt("block entries in ascending order", end));
            };
            start = end;
            let at = cursor.offset();
            let mut entry = Cursor::new(file, cursor.take(length)?, at);
            let head = read_head(&mut entry, stream_count)?;
            heads.push((head, entry.offset(), entry.remaining()));
        }
        cursor.finish()?;
        Ok(Self { heads })
    }

    pub(crate) fn heads(&self) -> impl Iterator<Item = &BlockHead> {
        self.heads.iter().map(|(head, ..)| head)
    }

    /// A cursor over the details of block `block`.
    pub(crate) fn details<'a>(&self, file: &'a SegmentFile, block: usize) -> Result<Cursor<'a>> {
        let (_, at, length) = self.heads[block];
        Ok(Cursor::new(file, file.get(at, length)?, at))
    }
}

fn read_head(cursor: &mut Cursor<'_>, stream_count: u32) -> Result<BlockHead> {
    let offset = cursor.varint()?;
    let length = cursor.varint()?;
    let filter_offset = cursor.varint()?;
    let filter_length = cursor.varint()?;
    let rows = cursor.varint_max(BLOCK_ROWS_MAX as u64, "row count")? as u32;
    let stream_max = u64::from(stream_count.saturating_sub(1));
    let first_stream = cursor.varint_max(stream_max, "first stream")? as u32;
    let last_stream = cursor.varint_max(stream_max, "last stream")? as u32;
    let start = cursor.varint_i64()?;
    let end = start.wrapping_add(cursor.varint()? as i64);
    if rows == 0 || first_stream > last_stream || start > end {
        return Err(cursor.corrupt(
            "rows, streams and times in order",
            format!("{rows} rows, streams {first_stream} to {last_stream}, times {start} to {end}"),
        ));
    }
    Ok(BlockHead {
        offset,
        length,
        filter_offset,
        filter_length,
        rows,
        first_stream,
        last_stream,
        range: TimeRange::new(start, end),
    })
}
