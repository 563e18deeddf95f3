//! What sealing, scanning and merging need to know of log records and spans, so that they are
//! written once for both.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_64;

use super::segments::{Segment, SegmentBody};
use super::snapshot::RowMarks;
use crate::codec::EncodeEffort;
use crate::error::Result;
use crate::head::data::HeadData;
use crate::head::rows::{RowBatch, Rows, SeenBatch, service_of};
use crate::head::seal::{NewSegment, SegmentPlace};
use crate::index::Matcher;
use crate::model::{Labels, Signal, Stream, TimeRange, TraceId};
use crate::rows::{
    AttributeChoice, LogBatch, LogBlock, LogColumnSet, LogCondition, LogScanRequest, RowOrder,
    Selection, SpanBatch, SpanBlock, SpanColumnSet, SpanCondition, SpanScanRequest, Streams,
};
use crate::segment::{
    LogBuildOptions, LogSegmentBuilder, LogSegmentReader, RowReader, SegmentFileWriter,
    SegmentOrigin, SpanBuildOptions, SpanBuilder, SpanReader, sort_spans, stream_sort_key,
};

/// What a scan of either signal asks for.
pub(crate) trait RowRequest: Clone + Send + Sync + 'static {
    fn matchers(&self) -> &[Matcher];
    fn set_matchers(&mut self, matchers: Vec<Matcher>);
    fn range(&self) -> TimeRange;
    fn order(&self) -> RowOrder;
    fn limit(&self) -> Option<usize>;
    /// All rows of a range, with all columns.
    fn everything(range: TimeRange) -> Self;
    /// The only traces that rows may belong to, if the request names any.
    fn traces(&self) -> Option<&[TraceId]>;
}

/// A block of either signal.
pub(crate) trait RowBlock: Clone + Send + Sync + 'static {
    fn len(&self) -> usize;
    fn times(&self) -> &[i64];
    fn streams(&self) -> &Arc<Streams>;
    fn stream(&self, row: usize) -> u32;
    fn taken(&self, rows: &[u32]) -> Self;
    fn joined(&mut self, other: &Self);
}

/// Rows of a batch that go into a segment.
pub(crate) struct Part<B> {
    pub(crate) batch: Arc<B>,
    pub(crate) rows: Vec<u32>,
}

/// A signal that has streams.
pub(crate) trait RowKind: Send + Sync + Sized + 'static {
    /// Its signal.
    const SIGNAL: Signal;
    type Batch: RowBatch;
    type Block: RowBlock;
    type Request: RowRequest;
    type Reader: RowReader<Request = Self::Request, Block = Self::Block>;

    /// The rows of a generation of the head.
    fn rows(head: &HeadData) -> &RwLock<Rows<Self::Batch>>;
    /// Where the rows of a generation of the head end for a pin.
    fn mark(marks: RowMarks) -> u64;
    /// The reader of a segment of the signal.
    fn reader(segment: &Segment) -> Option<&Self::Reader>;

    /// Reads what is asked for of a batch of the head, of which `rows` have the right streams and times.
    fn read_batch(
        seen: &SeenBatch<Self::Batch>,
        rows: Selection,
        streams: &Arc<Streams>,
        request: &Self::Request,
    ) -> Self::Block;

    /// Writes a segment of rows, given in order of arrival; `None` when there are none.
    fn write(
        place: &SegmentPlace<'_>,
        origin: SegmentOrigin,
        effort: EncodeEffort,
        parts: &[Part<Self::Batch>],
    ) -> Result<Option<NewSegment>>;
}

/// Log records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logs;

/// Spans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans;

impl RowRequest for LogScanRequest {
    fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    fn set_matchers(&mut self, matchers: Vec<Matcher>) {
        self.matchers = matchers;
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    fn order(&self) -> RowOrder {
        self.order
    }

    fn limit(&self) -> Option<usize> {
        self.limit
    }

    fn everything(range: TimeRange) -> Self {
        Self {
            columns: LogColumnSet::ALL,
            attributes: AttributeChoice::All,
            ..Self::new(Vec::new(), range)
        }
    }

    fn traces(&self) -> Option<&[TraceId]> {
        self.conditions
            .iter()
            .find_map(|condition| match condition {
                LogCondition::Trace(ids) => Some(&**ids),
                _ => None,
            })
    }
}

impl RowRequest for SpanScanRequest {
    fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    fn set_matchers(&mut self, matchers: Vec<Matcher>) {
        self.matchers = matchers;
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    fn order(&self) -> RowOrder {
        self.order
    }

    fn limit(&self) -> Option<usize> {
        self.limit
    }

    fn everything(range: TimeRange) -> Self {
        Self {
            columns: SpanColumnSet::ALL,
            attributes: AttributeChoice::All,
            ..Self::new(Vec::new(), range)
        }
    }

    fn traces(&self) -> Option<&[TraceId]> {
        self.conditions
            .iter()
            .find_map(|condition| match condition {
                SpanCondition::Trace(ids) => Some(&**ids),
                _ => None,
            })
    }
}

impl RowBlock for LogBlock {
    fn len(&self) -> usize {
        self.rows
    }

    fn times(&self) -> &[i64] {
        &self.time
    }

    fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    fn stream(&self, row: usize) -> u32 {
        self.stream.get(row) as u32
    }

    fn taken(&self, rows: &[u32]) -> Self {
        self.take(rows)
    }

    fn joined(&mut self, other: &Self) {
        self.append(other);
    }
}

impl RowBlock for SpanBlock {
    fn len(&self) -> usize {
        self.rows
    }

    fn times(&self) -> &[i64] {
        &self.time
    }

    fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    fn stream(&self, row: usize) -> u32 {
        self.stream.get(row) as u32
    }

    fn taken(&self, rows: &[u32]) -> Self {
        self.take(rows)
    }

    fn joined(&mut self, other: &Self) {
        self.append(other);
    }
}

impl RowKind for Logs {
    const SIGNAL: Signal = Signal::Logs;
    type Batch = LogBatch;
    type Block = LogBlock;
    type Request = LogScanRequest;
    type Reader = LogSegmentReader;

    fn rows(head: &HeadData) -> &RwLock<Rows<LogBatch>> {
        &head.logs
    }

    fn mark(marks: RowMarks) -> u64 {
        marks.logs
    }

    fn reader(segment: &Segment) -> Option<&LogSegmentReader> {
        match &segment.body {
            SegmentBody::Logs(reader) => Some(reader),
            _ => None,
        }
    }

    fn read_batch(
        seen: &SeenBatch<LogBatch>,
        mut rows: Selection,
        streams: &Arc<Streams>,
        request: &LogScanRequest,
    ) -> LogBlock {
        for condition in &request.conditions {
            condition.retain_batch(&seen.batch, &mut rows);
        }
        let (columns, attributes) = (request.columns, &request.attributes);
        seen.batch
            .block(streams, &seen.numbers, &rows, columns, attributes)
    }

    fn write(
        place: &SegmentPlace<'_>,
        origin: SegmentOrigin,
        effort: EncodeEffort,
        parts: &[Part<LogBatch>],
    ) -> Result<Option<NewSegment>> {
        let sorted = sort_by_stream(parts);
        if sorted.is_empty() {
            return Ok(None);
        }
        let (id, writer) = place.create()?;
        let options = LogBuildOptions {
            effort,
            ..LogBuildOptions::default()
        };
        let mut builder = LogSegmentBuilder::new(writer, origin, options)?;
        for (stream, rows) in sorted {
            builder.begin_stream(&stream)?;
            for (part, row) in rows {
                builder.push_row(&parts[part as usize].batch, row)?;
            }
        }
        NewSegment::finished(id, builder.finish()?).map(Some)
    }
}

impl RowKind for Spans {
    const SIGNAL: Signal = Signal::Spans;
    type Batch = SpanBatch;
    type Block = SpanBlock;
    type Request = SpanScanRequest;
    type Reader = SpanReader;

    fn rows(head: &HeadData) -> &RwLock<Rows<SpanBatch>> {
        &head.spans
    }

    fn mark(marks: RowMarks) -> u64 {
        marks.spans
    }

    fn reader(segment: &Segment) -> Option<&SpanReader> {
        match &segment.body {
            SegmentBody::Spans(reader) => Some(reader),
            _ => None,
        }
    }

    fn read_batch(
        seen: &SeenBatch<SpanBatch>,
        mut rows: Selection,
        streams: &Arc<Streams>,
        request: &SpanScanRequest,
    ) -> SpanBlock {
        for condition in &request.conditions {
            condition.retain_batch(&seen.batch, &mut rows);
        }
        let (columns, attributes) = (request.columns, &request.attributes);
        seen.batch
            .block(streams, &seen.numbers, &rows, columns, attributes)
    }

    fn write(
        place: &SegmentPlace<'_>,
        origin: SegmentOrigin,
        effort: EncodeEffort,
        parts: &[Part<SpanBatch>],
    ) -> Result<Option<NewSegment>> {
        let mut rows = newest_spans(parts);
        if rows.is_empty() {
            return Ok(None);
        }
        let batches: Vec<_> = parts.iter().map(|part| Arc::clone(&part.batch)).collect();
        sort_spans(&batches, &mut rows);
        let (id, writer) = place.create()?;
        let options = SpanBuildOptions {
            effort,
            ..SpanBuildOptions::default()
        };
        let mut builder = SpanBuilder::new(writer, origin, options)?;
        number_in_order(&mut builder, &batches, &rows)?;
        for (batch, row) in rows {
            builder.push(&batches[batch as usize], row as usize)?;
        }
        NewSegment::finished(id, builder.finish()?).map(Some)
    }
}

/// Rows of each stream by part and row, streams in the order of segments, rows by time and arrival.
type SortedRows = Vec<(Arc<Stream>, Vec<(u32, u32)>)>;

fn sort_by_stream<B: RowBatch>(parts: &[Part<B>]) -> SortedRows {
    // Numbered once: parts share most of their streams.
    let mut numbers: HashMap<(Labels, Vec<u8>), usize> = HashMap::new();
    let mut streams: SortedRows = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let table = part.batch.stream_table();
        let mut places: Vec<Option<usize>> = vec![None; table.len()];
        for row in &part.rows {
            let place = (number as u32, *row);
            let stream = part.batch.stream_numbers()[*row as usize] as usize;
            let at = *places[stream].get_or_insert_with(|| {
                *numbers
                    .entry(stream_sort_key(&table[stream]))
                    .or_insert_with(|| {
                        streams.push((Arc::clone(&table[stream]), Vec::new()));
                        streams.len() - 1
                    })
            });
            streams[at].1.push(place);
        }
    }
    streams.sort_by_cached_key(|(stream, _)| stream_sort_key(stream));
    for (_, rows) in &mut streams {
        // Stable: rows of equal time stay in order of arrival.
        rows.sort_by_key(|(part, row)| parts[*part as usize].batch.times()[*row as usize]);
    }
    streams
}

/// Numbers the streams and keys of spans in ascending order rather than that of first use, so that the
/// segments of a steady load number alike and merges can take over their blocks.
fn number_in_order(
    builder: &mut SpanBuilder<SegmentFileWriter>,
    batches: &[Arc<SpanBatch>],
    rows: &[(u32, u32)],
) -> Result<()> {
    let tables = batches
        .iter()
        .map(|batch| vec![false; batch.streams().len()]);
    let mut used: Vec<Vec<bool>> = tables.collect();
    for (batch, row) in rows {
        let number = batches[*batch as usize].columns().stream[*row as usize];
        used[*batch as usize][number as usize] = true;
    }
    let mut streams: HashMap<(Labels, Vec<u8>), &Arc<Stream>> = HashMap::new();
    // Batches share most of their streams, and the same one is not compared again.
    let mut known: HashSet<*const Stream> = HashSet::new();
    for (batch, used) in batches.iter().zip(&used) {
        for (stream, _) in batch.streams().iter().zip(used).filter(|(_, used)| **used) {
            if known.insert(Arc::as_ptr(stream)) {
                streams.insert(stream_sort_key(stream), stream);
            }
        }
    }
    let mut streams: Vec<_> = streams.into_iter().collect();
    streams.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let with_rows = batches
        .iter()
        .zip(&used)
        .filter(|(_, used)| used.contains(&true));
    let mut keys: Vec<&str> = with_rows
        .flat_map(|(batch, _)| batch.keys().iter())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    builder.number(streams.into_iter().map(|(_, stream)| stream), keys)
}

/// Of spans with the same identity the one that arrived last, in order of arrival.
fn newest_spans(parts: &[Part<SpanBatch>]) -> Vec<(u32, u32)> {
    let mut newest: HashMap<(u64, [u8; 16], [u8; 8]), (u32, u32)> = HashMap::new();
    for (number, part) in parts.iter().enumerate() {
        let table = part.batch.stream_table().iter();
        let services: Vec<u64> = table.map(|s| xxh3_64(service_of(s).as_bytes())).collect();
        let columns = part.batch.columns();
        for row in &part.rows {
            let at = *row as usize;
            let service = services[columns.stream[at] as usize];
            let identity = part.batch.identity(at, service).unwrap_or(0);
            let key = (identity, columns.trace_id[at], columns.span_id[at]);
            newest.insert(key, (number as u32, *row));
        }
    }
    let mut rows: Vec<(u32, u32)> = newest.into_values().collect();
    rows.sort_unstable();
    rows
}

/// What a span scan reads besides what is asked for when later versions may hide rows.
pub(crate) fn with_identity(request: &SpanScanRequest) -> Cow<'_, SpanScanRequest> {
    let columns = request.columns;
    if columns.trace_id && columns.span_ids && columns.kind {
        return Cow::Borrowed(request);
    }
    let mut wider = request.clone();
    wider.columns = SpanColumnSet {
        trace_id: true,
        span_ids: true,
        kind: true,
        ..columns
    };
    Cow::Owned(wider)
}
