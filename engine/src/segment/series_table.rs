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
use crate::model::{Labels, push_label};

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

/// Reads the labels of many rows in ascending order: keeps the parsed block, the encoded labels of the
/// row before, since sorted rows share most of them, and those of a few values more, since what changes
/// from row to row often goes round in circles.
pub(crate) struct LabelsCursor<'a> {
    file: &'a SegmentFile,
    table: &'a SeriesTable,
    index: &'a LabelIndex,
    block: Option<(u32, Block<'a>)>,
    /// For each column of the block: the label looked up last.
    last: SmallVec<[Piece; 16]>,
    /// For each label: labels of earlier rows, each at its rank modulo [`MEMO_LEN`].
    memo: Vec<Vec<Piece>>,
    /// Encoded labels, where pieces say.
    arena: Vec<u8>,
    scratch: Vec<u8>,
    /// Whether a row was read.
    has_rows: bool,
}

/// A label's value and where its encoding lies in the arena.
#[derive(Clone, Copy)]
struct Piece {
    rank: u32,
    start: u32,
    end: u32,
}

/// Stands for "none yet": ranks are below the number of rows, which is below 2^32 - 1.
const NO_PIECE: Piece = Piece {
    rank: u32::MAX,
    start: 0,
    end: 0,
};

/// Values of a label that a cursor keeps.
const MEMO_LEN: usize = 128;
/// Bytes of encoded labels that a cursor keeps, about.
const ARENA_BYTES_MAX: usize = 64 << 10;

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
            last: SmallVec::new(),
            memo: Vec::new(),
            arena: Vec::new(),
            scratch: Vec::new(),
            has_rows: false,
        }
    }

    /// The labels of `row`.
    pub(crate) fn labels(&mut self, row: u32) -> Result<Labels> {
        let number = row / SERIES_BLOCK_ROWS as u32;
        let block = match self.block.take() {
            Some((at, block)) if at == number => block,
            _ => {
                let block = self.table.block(self.file, number)?;
                self.last.clear();
                self.last.resize(block.columns.len(), NO_PIECE);
                block
            }
        };
        let labels = self.row_labels(&block, row);
        self.block = Some((number, block));
        labels
    }

    fn row_labels(&mut self, block: &Block<'a>, row: u32) -> Result<Labels> {
        let in_block = row as usize % SERIES_BLOCK_ROWS;
        if self.arena.len() > ARENA_BYTES_MAX {
            self.arena.clear();
            self.memo.clear();
            self.last.fill(NO_PIECE);
        }
        self.scratch.clear();
        for (column, (label, ranks)) in block.columns.iter().enumerate() {
            let Some(rank) = (ranks.get(in_block) as u32).checked_sub(1) else {
                continue;
            };
            let mut piece = self.last.get(column).copied().unwrap_or(NO_PIECE);
            if piece.rank != rank {
                piece = self.piece(*label, rank, row)?;
                if let Some(last) = self.last.get_mut(column) {
                    *last = piece;
                }
            }
            let bytes = self.arena.get(piece.start as usize..piece.end as usize);
            self.scratch
                .extend_from_slice(bytes.expect("bug: a piece outside the arena"));
        }
        self.has_rows = true;
        Ok(Labels::from_pushed(&self.scratch))
    }

    /// The encoded label of that value: looked up, or found among those of earlier rows.
    fn piece(&mut self, label: u32, rank: u32, row: u32) -> Result<Piece> {
        if label >= self.index.label_count() {
            return Err(self.file.corrupt(
                self.table.section.offset,
                &format!("labels below {}", self.index.label_count()),
                &format!("{label} in row {row}"),
            ));
        }
        let (label_at, slot) = (label as usize, rank as usize % MEMO_LEN);
        let kept = self.memo.get(label_at).and_then(|memo| memo.get(slot));
        if let Some(piece) = kept.filter(|piece| piece.rank == rank) {
            return Ok(*piece);
        }
        let value = self.index.value(self.file, label, rank)?;
        let start = self.arena.len() as u32;
        push_label(&mut self.arena, self.index.label_name(label), value);
        let end = self.arena.len() as u32;
        let piece = Piece { rank, start, end };
        // Who asks for a single row has no use for it.
        if !self.has_rows {
            return Ok(piece);
        }
        if self.memo.len() <= label_at {
            self.memo.resize(label_at + 1, Vec::new());
        }
        let memo = &mut self.memo[label_at];
        if memo.len() <= slot {
            memo.resize(slot + 1, NO_PIECE);
        }
        memo[slot] = piece;
        Ok(piece)
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
