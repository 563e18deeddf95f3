//! Decoded timestamp columns, kept for the length of a scan.
//!
//! Series that were scraped together share their timestamp columns, so a scan meets the same column
//! again and again. Two generations of entries: when the young one is full it becomes the old one, and
//! what is still in use moves back on its next hit. No list to maintain, and the worst that can happen
//! is a second decode.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::error::Result;

use super::super::column;
use super::super::file::SegmentFile;
use super::directory::{TimestampColumn, TimestampTable};

/// Timestamps kept in each generation: 4 MiB.
const YOUNG_TIMESTAMPS_MAX: usize = (4 << 20) / size_of::<i64>();

/// Keeps what a scan decodes more than once. Make one per thread and scan; reuse it for all series.
#[derive(Debug, Default)]
pub struct DecodeCache {
    young: HashMap<(u64, u32), Arc<Vec<i64>>>,
    old: HashMap<(u64, u32), Arc<Vec<i64>>>,
    young_timestamps: usize,
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

    /// The timestamps of `column`, number `number` of `file`.
    pub(crate) fn timestamps(
        &mut self,
        file: &SegmentFile,
        table: &TimestampTable,
        number: u32,
        column: &TimestampColumn,
    ) -> Result<Arc<Vec<i64>>> {
        let key = (file.uid(), number);
        if let Some(found) = self.young.get(&key) {
            return Ok(Arc::clone(found));
        }
        let decoded = match self.old.remove(&key) {
            Some(found) => found,
            None => Arc::new(decode(file, table, column)?),
        };
        if self.young_timestamps + decoded.len() > YOUNG_TIMESTAMPS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_timestamps = 0;
        }
        self.young_timestamps += decoded.len();
        self.young.insert(key, Arc::clone(&decoded));
        Ok(decoded)
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
