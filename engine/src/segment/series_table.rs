//! The labels of each row (series or stream), column by column.
//!
//! Rows are sorted by their labels, so within a block of 64 rows most labels have few values that lie
//! close together: a block stores, for each label that occurs in it, the ranks of the values bit-packed
//! above their minimum (0 where a row lacks the label, rank + 1 otherwise). One label of one row is read
//! without touching the others, which is what grouping needs.
//!
//! Block: column count varint; per column the label's number (varint, distance to the one before) and a
//! packed run of one entry per row.

use smallvec::SmallVec;

use crate::error::Result;
use crate::model::Labels;

use super::container::{ContainerWriter, SegmentSink};
use super::file::{Section, SegmentFile};
use super::format::{SERIES_BLOCK_ROWS, SectionKind};
use super::label_index::LabelIndex;
use super::packed::{Packed, PackedArray, PackedArrayBuilder, put_packed};
use super::wire::{Cursor, put_u64};

/// The rows' labels of an open segment.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    ends: PackedArray,
    section: Section,
    row_count: u32,
}

/// Reads the labels of many rows in ascending order: keeps the parsed block and the texts of the row
/// before, since sorted rows share most of their labels.
pub(crate) struct LabelsCursor<'a> {
    file: &'a SegmentFile,
    table: &'a SeriesTable,
    index: &'a LabelIndex,
    block: Option<(u32, Block<'a>)>,
    /// For each column of the block: rank of the text looked up last, and the text.
    texts: SmallVec<[(u32, &'a str); 16]>,
}

/// Stands for "no text yet": ranks are below the number of rows, which is below 2^32 - 1.
const NO_RANK: u32 = u32::MAX;

impl<'a> LabelsCursor<'a> {
    pub(crate) fn new(
        file: &'a SegmentFile,
        table: &'a SeriesTable,
        index: &'a LabelIndex,
    ) -> Self {
        Self {
            file,
            table,
            index,
            block: None,
            texts: SmallVec::new(),
        }
    }

    /// The labels of `row`.
    pub(crate) fn labels(&mut self, row: u32) -> Result<Labels> {
        let number = row / SERIES_BLOCK_ROWS as u32;
        let block = match self.block.take() {
            Some((at, block)) if at == number => block,
            _ => {
                let block = self.table.block(self.file, number)?;
                self.texts.clear();
                self.texts.resize(block.columns.len(), (NO_RANK, ""));
                block
            }
        };
        let labels = self.row_labels(&block, row);
        self.block = Some((number, block));
        labels
    }

    fn row_labels(&mut self, block: &Block<'a>, row: u32) -> Result<Labels> {
        let in_block = row as usize % SERIES_BLOCK_ROWS;
        let mut pairs: SmallVec<[(&str, &str); 16]> = SmallVec::new();
        for ((label, ranks), last) in block.columns.iter().zip(&mut self.texts) {
            let Some(rank) = (ranks.get(in_block) as u32).checked_sub(1) else {
                continue;
            };
            if *label >= self.index.label_count() {
                return Err(self.file.corrupt(
                    self.table.section.offset,
                    &format!("labels below {}", self.index.label_count()),
                    &format!("{label} in row {row}"),
                ));
            }
            if last.0 != rank {
                *last = (rank, self.index.value(self.file, *label, rank)?);
            }
            pairs.push((self.index.label_name(*label), last.1));
        }
        Ok(Labels::from_sorted(&pairs))
    }
}

/// A parsed block.
struct Block<'a> {
    columns: SmallVec<[(u32, Packed<'a>); 16]>,
}

impl SeriesTable {
    pub(crate) fn open(file: &SegmentFile, row_count: u32) -> Result<Self> {
        let ends = PackedArray::open(file, SectionKind::SeriesEnds)?;
        let section = file.section(SectionKind::Series);
        let block_count = u64::from(row_count).div_ceil(SERIES_BLOCK_ROWS as u64);
        if ends.len() != block_count {
            return Err(file.corrupt(
                section.offset,
                &format!("{block_count} blocks of the series table"),
                &ends.len().to_string(),
            ));
        }
        Ok(Self {
            ends,
            section,
            row_count,
        })
    }

    fn block<'a>(&self, file: &'a SegmentFile, block: u32) -> Result<Block<'a>> {
        let (start, length) = self.ends.extent(file, u64::from(block))?;
        let bytes = file.get_in(self.section, start, length)?;
        let mut cursor = Cursor::new(file, bytes, self.section.offset + start);
        let rows = (self.row_count as usize).saturating_sub(block as usize * SERIES_BLOCK_ROWS);
        let rows = rows.min(SERIES_BLOCK_ROWS);
        let count = cursor.count("column count")?;
        let mut columns = SmallVec::new();
        let mut next_label = 0_u64;
        for _ in 0..count {
            let label = next_label.saturating_add(cursor.varint()?);
            let Ok(number) = u32::try_from(label) else {
                return Err(cursor.corrupt("a label's number", label));
            };
            next_label = label + 1;
            columns.push((number, Packed::read(&mut cursor, rows)?));
        }
        cursor.finish()?;
        Ok(Block { columns })
    }

    /// The rank of the value that `row` has for `label`.
    pub(crate) fn rank(&self, file: &SegmentFile, row: u32, label: u32) -> Result<Option<u32>> {
        let block = self.block(file, row / SERIES_BLOCK_ROWS as u32)?;
        let in_block = row as usize % SERIES_BLOCK_ROWS;
        let column = block.columns.iter().find(|(number, _)| *number == label);
        Ok(column.and_then(|(_, ranks)| (ranks.get(in_block) as u32).checked_sub(1)))
    }
}

/// Builds the table, row by row.
#[derive(Debug, Default)]
pub(crate) struct SeriesTableBuilder {
    ends: PackedArrayBuilder,
    bytes: Vec<u8>,
    pending: Vec<SmallVec<[(u32, u32); 16]>>,
}

impl SeriesTableBuilder {
    /// Adds a row: pairs of label number and value rank, ascending by label.
    pub(crate) fn push(&mut self, pairs: impl Iterator<Item = (u32, u32)>) {
        self.pending.push(pairs.collect());
        if self.pending.len() == SERIES_BLOCK_ROWS {
            self.close_block();
        }
    }

    fn close_block(&mut self) {
        if !self.pending.is_empty() {
            put_block(&self.pending, &mut self.bytes);
            self.ends.push(self.bytes.len() as u64);
            self.pending.clear();
        }
    }

    /// Writes the two sections.
    pub(crate) fn finish<S: SegmentSink>(mut self, writer: &mut ContainerWriter<S>) -> Result<()> {
        self.close_block();
        writer.section(SectionKind::SeriesEnds, &self.ends.finish())?;
        writer.section(SectionKind::Series, &self.bytes)
    }
}

fn put_block(rows: &[SmallVec<[(u32, u32); 16]>], out: &mut Vec<u8>) {
    let mut labels: SmallVec<[u32; 32]> = SmallVec::new();
    for row in rows {
        for (label, _) in row {
            if let Err(at) = labels.binary_search(label) {
                labels.insert(at, *label);
            }
        }
    }
    put_u64(out, labels.len() as u64);
    let mut next_label = 0;
    let mut ranks = [0_u64; SERIES_BLOCK_ROWS];
    for label in labels {
        put_u64(out, u64::from(label - next_label));
        next_label = label + 1;
        for (slot, row) in ranks.iter_mut().zip(rows) {
            let found = row.binary_search_by_key(&label, |(number, _)| *number);
            *slot = found.map_or(0, |at| u64::from(row[at].1) + 1);
        }
        put_packed(out, &ranks[..rows.len()]);
    }
}
