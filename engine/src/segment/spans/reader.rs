//! An open span segment of any version.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::columns::{Columns, StoredBlock, reference};
use super::old::OldSpans;
use crate::error::Result;
use crate::index::Matcher;
use crate::model::{Labels, Signal, Stream, TimeRange, TraceId};
use crate::rows::{AttributeChoice, SpanBatch, SpanBlock, SpanColumnSet, SpanScanRequest, Streams};
use crate::segment::file::{SegmentBytes, SegmentFile};
use crate::segment::format::ROW_SHAPES_VERSION;
use crate::segment::meta::SegmentMeta;
use crate::segment::rows::RowSegmentReader;

/// A block of a span segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanBlockRef {
    pub(super) number: usize,
    pub(super) rows: u32,
    pub(super) range: TimeRange,
}

impl SpanBlockRef {
    /// First and last start in the block.
    #[must_use]
    pub fn range(&self) -> TimeRange {
        self.range
    }

    /// Spans in the block.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.rows as usize
    }
}

enum Body {
    Columns(Arc<Columns>),
    Old(Arc<OldSpans>),
}

/// An open span segment.
///
/// Numbers of streams are those of [`SpanReader::streams`]. Blocks come in the order of their traces'
/// first start; rows of a block in stored order: order and limit of a request are the caller's to see to.
pub struct SpanReader {
    body: Body,
    streams: Arc<Streams>,
}

impl fmt::Debug for SpanReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanReader")
            .field("file", self.file())
            .field("meta", self.meta())
            .finish_non_exhaustive()
    }
}

impl SpanReader {
    /// Opens a segment; `path` is for error messages.
    ///
    /// # Errors
    /// [`crate::EngineError::Corruption`] when the file is damaged where opening looks, or holds
    /// another signal.
    pub fn open(bytes: SegmentBytes, path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = SegmentFile::open(SegmentBytes::clone(&bytes), &path)?;
        if file.signal() != Signal::Spans {
            return Err(file.corrupt(0, "a segment of spans", file.signal().as_str()));
        }
        if file.version() <= ROW_SHAPES_VERSION {
            let old = Arc::new(OldSpans(RowSegmentReader::open(
                bytes,
                path,
                Signal::Spans,
            )?));
            let source = Arc::clone(&old);
            let streams = Streams::new(old.0.stream_count() as usize, move |number| {
                source.0.stream(number)
            });
            return Ok(Self {
                body: Body::Old(old),
                streams: Arc::new(streams),
            });
        }
        let columns = Arc::new(Columns::open(file)?);
        let source = Arc::clone(&columns);
        let streams = Streams::new(columns.table.len() as usize, move |number| {
            source.table.read(&source.file, number)
        });
        Ok(Self {
            body: Body::Columns(columns),
            streams: Arc::new(streams),
        })
    }

    pub(super) fn columns(&self) -> Option<&Columns> {
        match &self.body {
            Body::Columns(columns) => Some(columns),
            Body::Old(_) => None,
        }
    }

    /// The reader of versions 1 to 3, if it is one of those.
    pub(crate) fn old(&self) -> Option<&RowSegmentReader> {
        match &self.body {
            Body::Columns(_) => None,
            Body::Old(old) => Some(&old.0),
        }
    }

    /// What the segment says about itself.
    #[must_use]
    pub fn meta(&self) -> &SegmentMeta {
        match &self.body {
            Body::Columns(columns) => &columns.meta,
            Body::Old(old) => old.0.meta(),
        }
    }

    /// The file below.
    #[must_use]
    pub fn file(&self) -> &SegmentFile {
        match &self.body {
            Body::Columns(columns) => &columns.file,
            Body::Old(old) => old.0.file(),
        }
    }

    /// The streams by number.
    #[must_use]
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// How many streams there are.
    #[must_use]
    pub fn stream_count(&self) -> u32 {
        self.streams.len() as u32
    }

    /// A stream with labels, resource and scope.
    ///
    /// # Errors
    /// Damage.
    pub fn stream(&self, number: u32) -> Result<Arc<Stream>> {
        self.streams.get(number)
    }

    /// The labels of a stream.
    ///
    /// # Errors
    /// Damage, or a stream that does not exist.
    pub fn stream_labels(&self, number: u32) -> Result<Labels> {
        match &self.body {
            Body::Columns(columns) => columns.table.labels(&columns.file, number),
            Body::Old(old) => old.0.stream_labels(number),
        }
    }

    /// Numbers of the streams whose labels pass all matchers.
    ///
    /// # Errors
    /// Damage.
    pub fn select_streams(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        match &self.body {
            Body::Columns(columns) => columns.table.select(&columns.file, matchers),
            Body::Old(old) => old.0.select_streams(matchers),
        }
    }

    /// Names of the stream labels, ascending.
    #[must_use]
    pub fn label_names(&self) -> Vec<String> {
        match &self.body {
            Body::Columns(columns) => {
                let index = columns.table.index();
                (0..index.label_count())
                    .map(|label| index.label_name(label).to_owned())
                    .collect()
            }
            Body::Old(old) => old.0.label_names(),
        }
    }

    /// Values of a stream label, ascending.
    ///
    /// # Errors
    /// Damage.
    pub fn label_values(&self, name: &str) -> Result<Vec<String>> {
        match &self.body {
            Body::Columns(columns) => {
                let index = columns.table.index();
                let Some(label) = index.label(name) else {
                    return Ok(Vec::new());
                };
                (0..index.value_count(label))
                    .map(|rank| Ok(index.value(&columns.file, label, rank)?.to_owned()))
                    .collect()
            }
            Body::Old(old) => old.0.label_values(name),
        }
    }

    /// Keys of the attributes of spans, events and links, in the order of their first use.
    #[must_use]
    pub fn attribute_keys(&self) -> &[Arc<str>] {
        match &self.body {
            Body::Columns(columns) => &columns.keys,
            Body::Old(old) => old.0.attribute_keys(),
        }
    }

    /// All blocks in order.
    #[must_use]
    pub fn blocks(&self) -> Vec<SpanBlockRef> {
        match &self.body {
            Body::Columns(columns) => {
                let heads = columns.directory.heads().enumerate();
                heads
                    .map(|(number, head)| reference(number, head))
                    .collect()
            }
            Body::Old(old) => old.blocks(),
        }
    }

    /// The blocks that may have rows that pass, in order. Looks at the directory, the filters and the
    /// table of traces only. `streams` are the numbers of streams that rows may be of; `None` for all.
    /// The request's matchers are the caller's, who has selected streams by them.
    ///
    /// # Errors
    /// Damage.
    pub fn plan(
        &self,
        request: &SpanScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Vec<SpanBlockRef>> {
        match &self.body {
            Body::Columns(columns) => columns.plan(request, streams, &self.streams),
            Body::Old(old) => old.plan(request, streams),
        }
    }

    /// The rows of a block that pass range, streams and conditions, with the columns asked for; `None`
    /// when there are none.
    ///
    /// # Errors
    /// Damage.
    pub fn read(
        &self,
        block: &SpanBlockRef,
        request: &SpanScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Option<SpanBlock>> {
        match &self.body {
            Body::Columns(columns) => columns.read(block, request, streams, &self.streams),
            Body::Old(old) => old.read(block, request, streams, &self.streams),
        }
    }

    /// All of a block, in stored order: for merges.
    ///
    /// # Errors
    /// Damage.
    pub fn read_batch(&self, block: &SpanBlockRef) -> Result<SpanBatch> {
        let columns = match &self.body {
            Body::Columns(columns) => columns,
            Body::Old(old) => return old.read_batch(block, &self.streams),
        };
        let request = SpanScanRequest {
            columns: SpanColumnSet::ALL,
            attributes: AttributeChoice::All,
            ..SpanScanRequest::new(Vec::new(), TimeRange::ALL)
        };
        let Some(block) = columns.read(block, &request, None, &self.streams)? else {
            return Ok(SpanBatch::new());
        };
        columns.check_size(&block)?;
        SpanBatch::of_block(&block)
    }

    /// Decodes every block of a segment of version 1 to 3, for verify. Answers the number of spans.
    pub(crate) fn count_old_rows(&self) -> Result<u64> {
        match &self.body {
            Body::Columns(_) => Ok(0),
            Body::Old(old) => old.count_rows(),
        }
    }

    /// Whether a block begins with the rest of a trace of the block before.
    pub(crate) fn continues(&self, block: &SpanBlockRef) -> bool {
        self.columns()
            .is_some_and(|columns| columns.directory.continues(block.number))
    }

    /// Whether the last trace of a block goes on in the next one.
    pub(crate) fn continues_after(&self, block: &SpanBlockRef) -> bool {
        self.columns()
            .is_some_and(|columns| columns.directory.continues(block.number + 1))
    }

    /// A block as it lies in the file; `None` for versions before 4.
    pub(super) fn stored_block(&self, block: &SpanBlockRef) -> Result<Option<StoredBlock<'_>>> {
        match self.columns() {
            Some(columns) => columns.stored_block(block.number, &self.streams),
            None => Ok(None),
        }
    }

    /// The ids of the traces of a block; none for versions before 4.
    pub(crate) fn traces_of_block(&self, block: &SpanBlockRef) -> Result<&[[u8; 16]]> {
        match self.columns() {
            Some(columns) => columns.traces_of_block(block.number),
            None => Ok(&[]),
        }
    }

    /// The id of the `place`th trace in the order of ids; `None` behind the last one, and for versions
    /// before 4.
    pub(crate) fn trace_by_order(&self, place: u64) -> Result<Option<[u8; 16]>> {
        match self.columns() {
            Some(columns) if place < columns.traces.len() => {
                let (_, id) = columns.traces.by_order(&columns.file, place)?;
                Ok(Some(id))
            }
            _ => Ok(None),
        }
    }

    /// How many traces there are; `None` for versions before 4, which do not say.
    #[must_use]
    pub fn trace_count(&self) -> Option<u64> {
        self.columns().map(|columns| columns.traces.len())
    }

    /// Whether the segment may have spans of a trace; `false` is certain.
    ///
    /// # Errors
    /// Damage.
    pub fn may_have_trace(&self, id: &TraceId) -> Result<bool> {
        match &self.body {
            Body::Columns(columns) => Ok(columns.traces.find(&columns.file, id)?.is_some()),
            Body::Old(old) => old.0.may_have_trace(id),
        }
    }

    /// All trace ids, ascending. Versions before 4 read all their blocks for it.
    ///
    /// # Errors
    /// Damage.
    pub fn trace_ids(&self) -> Result<Vec<TraceId>> {
        if let Some(columns) = self.columns() {
            let count = columns.traces.len();
            let ids = columns.traces.ids(&columns.file, 0, count as u32)?;
            let (ids, _) = ids.as_chunks::<16>();
            let mut ids: Vec<TraceId> = ids.iter().map(|id| TraceId(*id)).collect();
            ids.sort_unstable();
            return Ok(ids);
        }
        let mut ids = Vec::new();
        for block in self.blocks() {
            let batch = self.read_batch(&block)?;
            ids.extend(batch.columns().trace_id.iter().map(|id| TraceId(*id)));
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}
