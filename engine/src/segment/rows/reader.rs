//! What log segments of all versions and span segments of versions 1 to 3 have in common: streams,
//! directory, index of traces.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::index::{Matcher, bloom};
use crate::model::{Labels, Signal, Stream, TimeRange, TimestampNs, TraceId};
use crate::rows::Streams;

use super::super::file::{SegmentBytes, SegmentFile};
use super::super::format::{ROW_SHAPES_VERSION, SectionKind, TRACE_FINGERPRINT_BITS};
use super::super::logs::trace_table::TraceTable;
use super::super::meta::SegmentMeta;
use super::super::packed::PackedArray;
use super::super::select::Selector;
use super::super::wire::Cursor;
use super::attributes::read_shapes;
use super::blocks::{BlockHead, Blocks};
use super::columns::{Column, ColumnEntry, Field, read_entries};
use super::streams::{StreamTables, read_keys};

/// A block that may have wanted rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    pub(crate) number: usize,
    pub(crate) head: BlockHead,
}

impl BlockRef {
    /// First and last time in the block.
    #[must_use]
    pub fn range(&self) -> TimeRange {
        self.head.range
    }

    /// Rows in the block.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.head.rows as usize
    }
}

/// An open log segment, or a span segment of version 1 to 3: what these have in common.
pub struct RowSegmentReader {
    tables: Arc<StreamTables>,
    streams: Arc<Streams>,
    meta: SegmentMeta,
    blocks: Blocks,
    traces: TraceIndex,
    attribute_keys: Vec<Arc<str>>,
}

/// The fingerprint under which versions 1 to 3 index a trace id: upper bits of its hash, since ids made
/// by old tracers have many zeros.
fn trace_fingerprint(id: &TraceId) -> u64 {
    bloom::hash(&id.0) >> (64 - TRACE_FINGERPRINT_BITS)
}

/// How a segment finds the blocks of a trace.
enum TraceIndex {
    /// Pairs of fingerprint and block, up to version 3.
    Fingerprints {
        ids: PackedArray,
        blocks: PackedArray,
    },
    Table(TraceTable),
}

impl TraceIndex {
    fn open(file: &SegmentFile) -> Result<Self> {
        if file.version() > ROW_SHAPES_VERSION {
            return TraceTable::open(file).map(Self::Table);
        }
        let ids = PackedArray::open(file, SectionKind::TraceIds)?;
        let blocks = PackedArray::open(file, SectionKind::TraceBlocks)?;
        if ids.len() == blocks.len() {
            return Ok(Self::Fingerprints { ids, blocks });
        }
        Err(file.corrupt(
            file.section(SectionKind::TraceBlocks).offset,
            &format!("{} blocks of traces", ids.len()),
            &blocks.len().to_string(),
        ))
    }

    /// The blocks that may have rows of a trace.
    fn blocks_of(&self, file: &SegmentFile, id: &TraceId) -> Result<RoaringBitmap> {
        let mut found = RoaringBitmap::new();
        let (ids, blocks) = match self {
            Self::Fingerprints { ids, blocks } => (ids, blocks),
            Self::Table(table) => {
                if let Some(number) = table.find(file, id)? {
                    table.for_each_block(file, number, |block| {
                        found.insert(block);
                    })?;
                }
                return Ok(found);
            }
        };
        let wanted = trace_fingerprint(id);
        let (mut low, mut high) = (0, ids.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if ids.get(file, middle)? < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        while low < ids.len() && ids.get(file, low)? == wanted {
            let block = blocks.get(file, low)?;
            found.insert(u32::try_from(block).unwrap_or(u32::MAX));
            low += 1;
        }
        Ok(found)
    }
}

impl fmt::Debug for RowSegmentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowSegmentReader")
            .field("file", self.file())
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

/// The parsed details of one block.
pub(crate) struct BlockDetails {
    pub(crate) entries: Vec<ColumnEntry>,
    /// Shapes of each kind of attribute set, in the order written.
    pub(crate) shapes: Vec<Vec<Vec<(u32, super::columns::ValueKind)>>>,
}

impl BlockDetails {
    /// Decodes a column; one that the block lacks reads as zeros or empty.
    pub(crate) fn column(&self, file: &SegmentFile, field: Field) -> Result<Column> {
        match self.entries.iter().find(|entry| entry.field == field) {
            Some(entry) => Column::decode(file, entry),
            None => Ok(Column::Nulls),
        }
    }
}

impl RowSegmentReader {
    /// Opens a segment of `signal`.
    pub(crate) fn open(
        bytes: SegmentBytes,
        path: impl Into<PathBuf>,
        signal: Signal,
    ) -> Result<Self> {
        let file = SegmentFile::open(bytes, path)?;
        if file.signal() != signal {
            let expected = format!("a segment of {}", signal.as_str());
            return Err(file.corrupt(0, &expected, file.signal().as_str()));
        }
        let meta = SegmentMeta::read(&file)?;
        // Bounded by u32 when the meta section was read.
        let stream_count = meta.series_count as u32;
        let blocks = Blocks::open(&file, stream_count)?;
        let traces = TraceIndex::open(&file)?;
        let attribute_keys = read_keys(&file)?;
        let tables = Arc::new(StreamTables::open(file, stream_count)?);
        let read = {
            let tables = Arc::clone(&tables);
            move |number| tables.stream(number)
        };
        Ok(Self {
            streams: Arc::new(Streams::new(stream_count as usize, read)),
            tables,
            blocks,
            traces,
            attribute_keys,
            meta,
        })
    }

    /// What the segment says about itself.
    #[must_use]
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// The file below.
    #[must_use]
    pub fn file(&self) -> &SegmentFile {
        &self.tables.file
    }

    /// The streams by number, shared by all that reads them.
    #[must_use]
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// How many streams there are. They are numbered in order of labels, then resource and scope.
    #[must_use]
    pub fn stream_count(&self) -> u32 {
        self.tables.count
    }

    /// Keys of the attributes that occur in the segment, in order of first occurrence.
    #[must_use]
    pub fn attribute_keys(&self) -> &[Arc<str>] {
        &self.attribute_keys
    }

    /// The streams whose labels pass all matchers.
    ///
    /// # Errors
    /// Damage.
    pub fn select_streams(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        self.selector().select(matchers)
    }

    pub(crate) fn selector(&self) -> Selector<'_> {
        self.tables.selector()
    }

    /// The labels of a stream.
    ///
    /// # Errors
    /// Damage, or a stream that does not exist.
    pub fn stream_labels(&self, stream: u32) -> Result<Labels> {
        self.tables.labels(stream)
    }

    /// A stream with labels, resource and scope.
    ///
    /// # Errors
    /// Damage, or a stream that does not exist.
    pub fn stream(&self, stream: u32) -> Result<Stream> {
        self.tables.stream(stream)
    }

    /// Stream label names, ascending.
    #[must_use]
    pub fn label_names(&self) -> Vec<String> {
        (0..self.tables.index.label_count())
            .map(|label| self.tables.index.label_name(label).to_owned())
            .collect()
    }

    /// Values of a stream label, ascending.
    ///
    /// # Errors
    /// Damage.
    pub fn label_values(&self, name: &str) -> Result<Vec<String>> {
        let Some(label) = self.tables.index.label(name) else {
            return Ok(Vec::new());
        };
        (0..self.tables.index.value_count(label))
            .map(|rank| {
                Ok(self
                    .tables
                    .index
                    .value(self.file(), label, rank)?
                    .to_owned())
            })
            .collect()
    }

    /// Whether the segment may have rows of a trace; `false` is certain.
    ///
    /// # Errors
    /// Damage.
    pub fn may_have_trace(&self, id: &TraceId) -> Result<bool> {
        Ok(!self.blocks_of_trace(id)?.is_empty())
    }

    pub(crate) fn blocks_of_trace(&self, id: &TraceId) -> Result<RoaringBitmap> {
        self.traces.blocks_of(self.file(), id)
    }

    /// The table of traces; older versions have none.
    pub(crate) fn trace_table(&self) -> Option<&TraceTable> {
        match &self.traces {
            TraceIndex::Table(table) => Some(table),
            TraceIndex::Fingerprints { .. } => None,
        }
    }

    /// A cursor over what the directory says of a block's columns.
    pub(crate) fn details_cursor(&self, block: &BlockRef) -> Result<Cursor<'_>> {
        self.blocks.details(self.file(), block.number)
    }

    /// Parses the details of a block that has `shape_sets` kinds of attribute sets; with 0, only the
    /// column entries.
    pub(crate) fn details(&self, block: &BlockRef, shape_sets: usize) -> Result<BlockDetails> {
        let data = self.file().section(SectionKind::Data);
        let mut cursor = self.blocks.details(self.file(), block.number)?;
        let entries = read_entries(&mut cursor, data.offset + block.head.offset)?;
        let mut shapes = Vec::new();
        for _ in 0..shape_sets {
            shapes.push(read_shapes(&mut cursor)?);
        }
        if shape_sets > 0 {
            cursor.finish()?;
        }
        Ok(BlockDetails { entries, shapes })
    }

    /// The rows of a block of version 1 to 3 that have the right times and streams: row number, stream,
    /// time.
    pub(crate) fn chosen_rows(
        &self,
        block: &BlockRef,
        details: &BlockDetails,
        range: TimeRange,
        wanted: Option<&RoaringBitmap>,
    ) -> Result<Vec<(usize, u32, i64)>> {
        let streams = details.column(self.file(), Field::Stream)?;
        let times = details.column(self.file(), Field::Time)?;
        let mut chosen = Vec::new();
        for row in 0..block.row_count() {
            let time = times.int(row);
            let number = streams.int(row);
            let Some(stream) = u32::try_from(number)
                .ok()
                .filter(|s| *s < self.tables.count)
            else {
                let data = self.file().section(SectionKind::Data);
                return Err(self.file().corrupt(
                    data.offset + block.head.offset,
                    &format!("a stream below {}", self.tables.count),
                    &number.to_string(),
                ));
            };
            if range.contains(TimestampNs(time)) && wanted.is_none_or(|s| s.contains(stream)) {
                chosen.push((row, stream, time));
            }
        }
        Ok(chosen)
    }

    /// All blocks, for verify and inspect.
    pub(crate) fn all_blocks(&self) -> Vec<BlockRef> {
        self.blocks
            .heads()
            .enumerate()
            .map(|(number, head)| BlockRef {
                number,
                head: *head,
            })
            .collect()
    }
}
