//! Decoded timestamp columns, kept for the length of a scan.
//!
//! Series that were scraped together share their timestamp columns, so a scan meets the same column
//! again and again. Two generations of entries: when the young one is full it becomes the old one, and
//! what is still in use moves back on its next hit. No list to maintain, and the worst that can happen
//! is a second decode.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::error::Result;
use crate::model::TimeRange;

use super::super::column;
use super::super::file::SegmentFile;
use super::directory::{DirectoryWalk, TimestampColumn, TimestampTable};

/// Timestamps kept in each generation: 4 MiB.
const YOUNG_TIMESTAMPS_MAX: usize = (4 << 20) / size_of::<i64>();

/// A decoded column, and which part of it the last range that was asked for takes.
#[derive(Clone, Debug)]
pub(crate) struct KeptTimes {
    pub(crate) times: Arc<Vec<i64>>,
    cut_for: TimeRange,
    cut: (usize, usize),
}

impl KeptTimes {
    fn new(times: Vec<i64>) -> Self {
        Self {
            cut: (0, times.len()),
            times: Arc::new(times),
            cut_for: TimeRange::ALL,
        }
    }

    /// The indexes of the times in `range`. All series of a scan ask for the same.
    #[inline]
    fn cut(&mut self, range: TimeRange) -> Range<usize> {
        if self.cut_for != range {
            let from = self.times.partition_point(|t| *t < range.start.0);
            let to = self.times.partition_point(|t| *t <= range.end.0);
            self.cut_for = range;
            self.cut = (from, to);
        }
        self.cut.0..self.cut.1
    }
}

/// Keeps what a scan decodes more than once. Make one per thread and scan; reuse it for all series.
#[derive(Debug, Default)]
pub struct DecodeCache {
    young: HashMap<(u64, u32), KeptTimes>,
    old: HashMap<(u64, u32), KeptTimes>,
    young_timestamps: usize,
    /// Blocks of the chunk directory that the last rows were in.
    pub(crate) walk: DirectoryWalk,
    /// Scratch for columns that are decoded and thrown away.
    pub(crate) integers: Vec<i64>,
    /// Nobody looks at values that are known not to be NaN: zeros stand for them, undecoded.
    pub(crate) presence_only: bool,
}

impl DecodeCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The timestamps of `column`, number `number` of `file`, and which of them lie in `range`.
    pub(crate) fn timestamps(
        &mut self,
        file: &SegmentFile,
        table: &TimestampTable,
        number: u32,
        column: &TimestampColumn,
        range: TimeRange,
    ) -> Result<(Arc<Vec<i64>>, Range<usize>)> {
        let key = (file.uid(), number);
        if let Some(found) = self.young.get_mut(&key) {
            let cut = found.cut(range);
            return Ok((Arc::clone(&found.times), cut));
        }
        let mut kept = match self.old.remove(&key) {
            Some(found) => found,
            None => KeptTimes::new(decode(file, table, column)?),
        };
        if self.young_timestamps + kept.times.len() > YOUNG_TIMESTAMPS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_timestamps = 0;
        }
        self.young_timestamps += kept.times.len();
        let found = (Arc::clone(&kept.times), kept.cut(range));
        self.young.insert(key, kept);
        Ok(found)
    }
}

/// Decodes a column and checks what the table says about it.
pub(crate) fn decode(
    file: &SegmentFile,
    table: &TimestampTable,
    column: &TimestampColumn,
) -> Result<Vec<i64>> {
    let (block, offset) = table.block(file, column)?;
    let mut timestamps = Vec::with_capacity(column.count as usize);
    column::decode_timestamps(file, offset, block, column.count as usize, &mut timestamps)?;
    let ends = (timestamps.first().copied(), timestamps.last().copied());
    // Binary search over the times must not go astray, whatever the bytes say.
    let ascending = timestamps.windows(2).all(|w| w[0] < w[1]);
    if ends != (Some(column.first), Some(column.last)) || !ascending {
        return Err(file.corrupt(
            offset,
            &format!("ascending times from {} to {}", column.first, column.last),
            &format!("others ({ends:?})"),
        ));
    }
    Ok(timestamps)
}
