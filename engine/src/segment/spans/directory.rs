//! The directory of a span segment's blocks.
//!
//! Section: block count varint, ends of the entries (packed run), the entries: offset and length of the
//! block in the data section, offset and length of its filter, spans, number of the first trace by order
//! of rows, traces, first start (zig-zag), distance of the last, least duration (zig-zag), distance of
//! the greatest, kinds (bit per kind), statuses (bit per status); then what only some questions need:
//! number of streams and the distances between their numbers, number of numeric attributes and of each
//! its key, and least and greatest value as doubles.

use crate::error::Result;
use crate::model::TimeRange;
use crate::segment::file::SegmentFile;
use crate::segment::format::{BLOCK_ROWS_MAX, SectionKind};
use crate::segment::packed::{Packed, put_packed};
use crate::segment::wire::{Cursor, put_f64, put_i64, put_u64};

/// What can be known of a block without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHead {
    /// In the data section.
    pub(super) offset: u64,
    pub(super) length: u64,
    /// In the section of filters.
    pub(super) filter_offset: u64,
    pub(super) filter_length: u64,
    pub(super) rows: u32,
    /// By order of rows; the trace before may reach into this block, then it is the same number.
    pub(super) first_trace: u32,
    pub(super) traces: u32,
    pub(super) range: TimeRange,
    pub(super) duration_min: i64,
    pub(super) duration_max: i64,
    /// Bit `1 << kind`.
    pub(super) kinds: u8,
    /// Bit `1 << status`.
    pub(super) statuses: u8,
}

/// A numeric attribute of a block: key, least and greatest value.
pub(super) type NumberZone = (u32, f64, f64);

/// Collects the blocks' entries.
#[derive(Debug, Default)]
pub(super) struct DirectoryBuilder {
    ends: Vec<u64>,
    entries: Vec<u8>,
}

impl DirectoryBuilder {
    /// Adds a block; streams ascend.
    pub(super) fn push(&mut self, head: &BlockHead, streams: &[u32], zones: &[NumberZone]) {
        let out = &mut self.entries;
        put_u64(out, head.offset);
        put_u64(out, head.length);
        put_u64(out, head.filter_offset);
        put_u64(out, head.filter_length);
        put_u64(out, u64::from(head.rows));
        put_u64(out, u64::from(head.first_trace));
        put_u64(out, u64::from(head.traces));
        put_i64(out, head.range.start.0);
        let distance = head.range.end.0.wrapping_sub(head.range.start.0);
        put_u64(out, distance as u64);
        put_i64(out, head.duration_min);
        put_u64(
            out,
            head.duration_max.wrapping_sub(head.duration_min) as u64,
        );
        out.push(head.kinds);
        out.push(head.statuses);
        put_u64(out, streams.len() as u64);
        let mut before = 0;
        for stream in streams {
            put_u64(out, u64::from(*stream - before));
            before = *stream;
        }
        put_u64(out, zones.len() as u64);
        for (key, min, max) in zones {
            put_u64(out, u64::from(*key));
            put_f64(out, *min);
            put_f64(out, *max);
        }
        self.ends.push(self.entries.len() as u64);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The section's bytes.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.ends.is_empty() {
            put_u64(&mut out, self.ends.len() as u64);
            put_packed(&mut out, &self.ends);
            out.extend_from_slice(&self.entries);
        }
        out
    }
}

/// The heads, each with offset in the file and length of the rest of its entry.
#[derive(Debug, Default)]
pub(super) struct Directory {
    blocks: Vec<(BlockHead, u64, usize)>,
}

impl Directory {
    /// Reads the heads; traces by order of rows must go from 0 to `trace_count`.
    pub(super) fn open(file: &SegmentFile, trace_count: u64) -> Result<Self> {
        let mut cursor = file.cursor(SectionKind::Blocks)?;
        if cursor.remaining() == 0 {
            return Ok(Self::default());
        }
        let count = cursor.count("block count")?;
        let ends = Packed::read(&mut cursor, count)?;
        let mut blocks: Vec<(BlockHead, u64, usize)> = Vec::new();
        let mut start = 0;
        let mut next_trace = 0_u64;
        for block in 0..count {
            let end = ends.get(block);
            let length = end.checked_sub(start).and_then(|n| usize::try_from(n).ok());
            let Some(length) = length else {
                return Err(cursor.corrupt("block entries in ascending order", end));
            };
            start = end;
            let at = cursor.offset();
            let mut entry = Cursor::new(file, cursor.take(length)?, at);
            let head = read_head(&mut entry)?;
            let first = u64::from(head.first_trace);
            let last = first + u64::from(head.traces);
            if !(first == next_trace || first + 1 == next_trace) || last > trace_count {
                return Err(entry.corrupt(
                    "traces that follow those of the block before",
                    format!("{first} to {last} after {next_trace}"),
                ));
            }
            next_trace = last;
            blocks.push((head, entry.offset(), entry.remaining()));
        }
        if next_trace != trace_count {
            return Err(cursor.corrupt(&format!("{trace_count} traces"), next_trace));
        }
        cursor.finish()?;
        Ok(Self { blocks })
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn head(&self, block: usize) -> Option<&BlockHead> {
        self.blocks.get(block).map(|(head, ..)| head)
    }

    /// Whether a block begins with the rest of a trace of the block before.
    pub(super) fn continues(&self, block: usize) -> bool {
        let before = block.checked_sub(1).and_then(|before| self.head(before));
        before.zip(self.head(block)).is_some_and(|(before, head)| {
            head.first_trace < before.first_trace.saturating_add(before.traces)
        })
    }

    /// How many of the first blocks `is_before` holds for.
    pub(super) fn partition_point(&self, is_before: impl Fn(&BlockHead) -> bool) -> usize {
        self.blocks.partition_point(|(head, ..)| is_before(head))
    }

    pub(super) fn heads(&self) -> impl Iterator<Item = &BlockHead> {
        self.blocks.iter().map(|(head, ..)| head)
    }

    fn details<'a>(&self, file: &'a SegmentFile, block: usize) -> Result<Cursor<'a>> {
        let (_, at, length) = self.blocks[block];
        Ok(Cursor::new(file, file.get(at, length)?, at))
    }

    /// Calls `each` with the streams of a block until it answers false.
    pub(super) fn streams(
        &self,
        file: &SegmentFile,
        block: usize,
        mut each: impl FnMut(u32) -> bool,
    ) -> Result<()> {
        let mut cursor = self.details(file, block)?;
        read_streams(&mut cursor, &mut each)
    }

    /// The numeric attributes of a block.
    pub(super) fn zones(&self, file: &SegmentFile, block: usize) -> Result<Vec<NumberZone>> {
        let mut cursor = self.details(file, block)?;
        read_streams(&mut cursor, &mut |_| true)?;
        let mut zones = Vec::new();
        for _ in 0..cursor.count("count of numeric attributes")? {
            let key = cursor.varint_max(u64::from(u32::MAX), "attribute key")? as u32;
            zones.push((key, cursor.f64()?, cursor.f64()?));
        }
        cursor.finish()?;
        Ok(zones)
    }
}

fn read_streams(cursor: &mut Cursor<'_>, each: &mut dyn FnMut(u32) -> bool) -> Result<()> {
    let mut stream = 0_u64;
    for _ in 0..cursor.count("stream count")? {
        stream += cursor.varint_max(u64::from(u32::MAX), "stream")?;
        let Ok(stream) = u32::try_from(stream) else {
            return Err(cursor.corrupt("a stream", stream));
        };
        if !each(stream) {
            break;
        }
    }
    Ok(())
}

fn read_head(cursor: &mut Cursor<'_>) -> Result<BlockHead> {
    let offset = cursor.varint()?;
    let length = cursor.varint()?;
    let filter_offset = cursor.varint()?;
    let filter_length = cursor.varint()?;
    let rows = cursor.varint_max(BLOCK_ROWS_MAX as u64, "row count")? as u32;
    let first_trace = cursor.varint_max(u64::from(u32::MAX), "first trace")? as u32;
    let traces = cursor.varint_max(u64::from(rows), "trace count")? as u32;
    let start = cursor.varint_i64()?;
    let end = start.wrapping_add(cursor.varint()? as i64);
    let duration_min = cursor.varint_i64()?;
    let duration_max = duration_min.wrapping_add(cursor.varint()? as i64);
    let (kinds, statuses) = (cursor.u8()?, cursor.u8()?);
    if rows == 0 || traces == 0 || start > end || duration_min > duration_max {
        return Err(cursor.corrupt(
            "rows, traces, times and durations in order",
            format!(
                "{rows} rows, {traces} traces, times {start} to {end}, durations {duration_min} to {duration_max}"
            ),
        ));
    }
    Ok(BlockHead {
        offset,
        length,
        filter_offset,
        filter_length,
        rows,
        first_trace,
        traces,
        range: TimeRange::new(start, end),
        duration_min,
        duration_max,
        kinds,
        statuses,
    })
}
