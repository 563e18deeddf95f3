//! Segments of spans: rows sorted by stream, then start.

use std::borrow::Cow;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::model::{
    Signal, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, Stream, TimestampNs, TraceId,
};

use super::super::container::{FileIdentity, SegmentSink};
use super::super::file::SegmentBytes;
use super::super::meta::{SegmentMeta, SegmentOrigin};
use super::attributes::{
    self, AttributeColumns, EVENT_ATTRIBUTES, LINK_ATTRIBUTES, ROW_ATTRIBUTES, text,
};
use super::builder::{
    BlockWriter, RowBuildOptions, RowSegmentBuilder, StoredRow, attribute_bytes, for_each_text_of,
};
use super::columns::{Column, Field, ValueKind};
use super::reader::{BlockDetails, BlockRef, RowFilter, RowSegmentReader};

/// Makes a span segment: streams in ascending order (labels, then resource and scope), the spans of
/// each sorted by start and arrival.
pub struct SpanSegmentBuilder<S>(RowSegmentBuilder<S, Arc<Span>>);

impl<S: SegmentSink> SpanSegmentBuilder<S> {
    /// Starts a segment that is written to `sink`.
    ///
    /// # Errors
    /// What the sink says.
    pub fn new(sink: S, origin: SegmentOrigin, options: RowBuildOptions) -> Result<Self> {
        RowSegmentBuilder::new(sink, origin, options).map(Self)
    }

    /// Starts the next stream.
    ///
    /// # Errors
    /// [`crate::EngineError::LimitExceeded`] at 2^32 - 1 streams.
    ///
    /// # Panics
    /// When the streams do not ascend by [`stream_sort_key`](super::super::stream_sort_key).
    pub fn begin_stream(&mut self, stream: &Stream) -> Result<()> {
        self.0.begin_stream(stream)
    }

    /// Adds a span of the open stream. `ordinal` orders spans of equal start by their arrival.
    ///
    /// # Errors
    /// What the sink says; a span with a million events or links is refused.
    ///
    /// # Panics
    /// When spans do not ascend by start and ordinal.
    pub fn push(&mut self, span: &Arc<Span>, ordinal: u64) -> Result<()> {
        self.0.push(Arc::clone(span), ordinal)
    }

    /// Writes the indexes and ends the file.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(self) -> Result<(S, SegmentMeta, FileIdentity)> {
        self.0.finish()
    }
}

impl StoredRow for Arc<Span> {
    const SIGNAL: Signal = Signal::Spans;

    fn time(&self) -> i64 {
        self.time.0
    }

    fn trace_id(&self) -> Option<TraceId> {
        Some(self.trace_id)
    }

    fn text_bytes(&self) -> usize {
        let events = self.events.iter();
        let links = self.links.iter();
        self.name.len()
            + self.status_message.len()
            + attribute_bytes(&self.attributes)
            + events
                .map(|e| e.name.len() + attribute_bytes(&e.attributes))
                .sum::<usize>()
            + links
                .map(|l| 24 + attribute_bytes(&l.attributes))
                .sum::<usize>()
    }

    fn item_count(&self) -> usize {
        1 + self.events.len().max(self.links.len())
    }

    fn for_each_text(&self, each: &mut dyn FnMut(&[u8])) {
        each(self.name.as_bytes());
        each(self.status_message.as_bytes());
        let events = self.events.iter();
        for event in events.clone() {
            each(event.name.as_bytes());
        }
        let sets = std::iter::once(&self.attributes).chain(events.map(|e| &e.attributes));
        for (_, value) in sets.flatten() {
            for_each_text_of(value, each);
        }
    }

    fn write_columns(rows: &[&Self], block: &mut BlockWriter<'_>) {
        let spans = || rows.iter();
        block.bytes(
            Field::TraceId,
            ValueKind::Bytes,
            spans().map(|s| Cow::Borrowed(&s.trace_id.0[..])),
        );
        block.bytes(
            Field::SpanId,
            ValueKind::Bytes,
            spans().map(|s| Cow::Borrowed(&s.span_id.0[..])),
        );
        block.bytes(
            Field::ParentSpanId,
            ValueKind::Bytes,
            spans().map(|s| match &s.parent_span_id {
                Some(id) => Cow::Borrowed(&id.0[..]),
                None => Cow::Borrowed(&[][..]),
            }),
        );
        block.bytes(
            Field::Name,
            ValueKind::Text,
            spans().map(|s| Cow::Borrowed(s.name.as_bytes())),
        );
        block.ints(Field::Kind, spans().map(|s| s.kind as i64));
        block.ints(Field::Duration, spans().map(|s| s.duration_ns));
        block.ints(Field::Status, spans().map(|s| s.status as i64));
        block.bytes(
            Field::StatusMessage,
            ValueKind::Text,
            spans().map(|s| Cow::Borrowed(s.status_message.as_bytes())),
        );
        block.ints(Field::EventCount, spans().map(|s| s.events.len() as i64));
        block.ints(
            Field::EventTimeDelta,
            spans().flat_map(|s| {
                let start = s.time.0;
                s.events.iter().map(move |e| e.time.0.wrapping_sub(start))
            }),
        );
        let events = || spans().flat_map(|s| s.events.iter());
        block.bytes(
            Field::SpanEventName,
            ValueKind::Text,
            events().map(|e| Cow::Borrowed(e.name.as_bytes())),
        );
        let links = || spans().flat_map(|s| s.links.iter());
        block.ints(Field::LinkCount, spans().map(|s| s.links.len() as i64));
        block.bytes(
            Field::LinkTraceId,
            ValueKind::Bytes,
            links().map(|l| Cow::Borrowed(&l.trace_id.0[..])),
        );
        block.bytes(
            Field::LinkSpanId,
            ValueKind::Bytes,
            links().map(|l| Cow::Borrowed(&l.span_id.0[..])),
        );
        let BlockWriter {
            columns,
            keys,
            shapes,
            effort,
        } = block;
        let sets = spans().map(|s| &s.attributes);
        attributes::write(ROW_ATTRIBUTES, sets, keys, columns, shapes, *effort);
        let sets = events().map(|e| &e.attributes);
        attributes::write(EVENT_ATTRIBUTES, sets, keys, columns, shapes, *effort);
        let sets = links().map(|l| &l.attributes);
        attributes::write(LINK_ATTRIBUTES, sets, keys, columns, shapes, *effort);
    }
}

/// A span as stored: which stream, and its place among spans of the same start.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSpan {
    /// Row of the stream table.
    pub stream: u32,
    /// Arrival number.
    pub ordinal: u64,
    /// The span.
    pub span: Span,
}

/// An open span segment.
#[derive(Debug)]
pub struct SpanSegmentReader(RowSegmentReader);

impl Deref for SpanSegmentReader {
    type Target = RowSegmentReader;

    fn deref(&self) -> &RowSegmentReader {
        &self.0
    }
}

/// Events and links of a block, walked span by span.
struct Nested<'a> {
    event_counts: Column,
    event_times: Column,
    event_names: Column,
    event_sets: AttributeColumns<'a>,
    link_counts: Column,
    link_traces: Column,
    link_spans: Column,
    link_sets: AttributeColumns<'a>,
    next_event: usize,
    next_link: usize,
}

impl SpanSegmentReader {
    /// Opens a segment; `path` is for error messages.
    ///
    /// # Errors
    /// [`crate::EngineError::Corruption`] when the file is damaged where opening looks, or holds
    /// another signal.
    pub fn open(bytes: SegmentBytes, path: impl Into<PathBuf>) -> Result<Self> {
        RowSegmentReader::open(bytes, path, Signal::Spans).map(Self)
    }

    /// The spans of a block that pass `filter` (words aside), in stored order.
    ///
    /// # Errors
    /// Damage.
    pub fn read_block(&self, block: &BlockRef, filter: &RowFilter) -> Result<Vec<StoredSpan>> {
        let file = self.file();
        let details = self.0.details(block, 3)?;
        let chosen = self
            .0
            .chosen_rows(block, &details, Field::Duration, filter)?;
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let at = block.head.offset;
        let column = |field| details.column(file, field);
        let ordinals = column(Field::Ordinal)?;
        let trace_ids = column(Field::TraceId)?;
        let span_ids = column(Field::SpanId)?;
        let parents = column(Field::ParentSpanId)?;
        let names = column(Field::Name)?;
        let kinds = column(Field::Kind)?;
        let durations = column(Field::Duration)?;
        let statuses = column(Field::Status)?;
        let messages = column(Field::StatusMessage)?;
        let mut sets =
            AttributeColumns::decode(file, ROW_ATTRIBUTES, &details.shapes[0], &details.entries)?;
        let mut nested = self.nested(&details)?;
        let keys = self.attribute_keys();
        let mut spans = Vec::with_capacity(chosen.len());
        let mut next = 0;
        for (row, stream, time) in chosen {
            while next < row {
                sets.skip()?;
                nested.skip(next)?;
                next += 1;
            }
            next += 1;
            let attributes = sets.read(keys)?;
            let (events, links) = nested.read(self, row, time, keys, at)?;
            spans.push(StoredSpan {
                stream,
                ordinal: ordinals.int(row) as u64,
                span: Span {
                    trace_id: TraceId(fixed(trace_ids.bytes(row))),
                    span_id: SpanId(fixed(span_ids.bytes(row))),
                    trace_state: String::new(),
                    parent_span_id: parents.bytes(row).try_into().ok().map(SpanId),
                    name: text(file, at, names.bytes(row))?,
                    kind: u8::try_from(kinds.int(row))
                        .ok()
                        .and_then(SpanKind::from_u8)
                        .unwrap_or_default(),
                    time: TimestampNs(time),
                    duration_ns: durations.int(row),
                    status: u8::try_from(statuses.int(row))
                        .ok()
                        .and_then(SpanStatus::from_u8)
                        .unwrap_or_default(),
                    status_message: text(file, at, messages.bytes(row))?,
                    attributes,
                    events,
                    links,
                },
            });
        }
        Ok(spans)
    }

    fn nested<'a>(&'a self, details: &'a BlockDetails) -> Result<Nested<'a>> {
        let file = self.file();
        let column = |field| details.column(file, field);
        let sets = |fields, at: usize| {
            AttributeColumns::decode(file, fields, &details.shapes[at], &details.entries)
        };
        Ok(Nested {
            event_counts: column(Field::EventCount)?,
            event_times: column(Field::EventTimeDelta)?,
            event_names: column(Field::SpanEventName)?,
            event_sets: sets(EVENT_ATTRIBUTES, 1)?,
            link_counts: column(Field::LinkCount)?,
            link_traces: column(Field::LinkTraceId)?,
            link_spans: column(Field::LinkSpanId)?,
            link_sets: sets(LINK_ATTRIBUTES, 2)?,
            next_event: 0,
            next_link: 0,
        })
    }

    /// All spans that pass `filter` (words aside), in order of stream, start and arrival.
    ///
    /// # Errors
    /// Damage.
    pub fn scan(&self, filter: &RowFilter) -> Result<Vec<StoredSpan>> {
        let mut spans = Vec::new();
        for block in self.blocks(filter)? {
            spans.extend(self.read_block(&block, filter)?);
        }
        Ok(spans)
    }
}

impl Nested<'_> {
    fn skip(&mut self, row: usize) -> Result<()> {
        for _ in 0..self.event_counts.int(row) {
            self.event_sets.skip()?;
            self.next_event += 1;
        }
        for _ in 0..self.link_counts.int(row) {
            self.link_sets.skip()?;
            self.next_link += 1;
        }
        Ok(())
    }

    fn read(
        &mut self,
        reader: &RowSegmentReader,
        row: usize,
        start: i64,
        keys: &[Arc<str>],
        at: u64,
    ) -> Result<(Vec<SpanEvent>, Vec<SpanLink>)> {
        let file = reader.file();
        let mut events = Vec::new();
        for _ in 0..self.event_counts.int(row) {
            let number = self.next_event;
            self.next_event += 1;
            events.push(SpanEvent {
                attributes: self.event_sets.read(keys)?,
                time: TimestampNs(start.wrapping_add(self.event_times.int(number))),
                name: text(file, at, self.event_names.bytes(number))?,
            });
        }
        let mut links = Vec::new();
        for _ in 0..self.link_counts.int(row) {
            let number = self.next_link;
            self.next_link += 1;
            links.push(SpanLink {
                attributes: self.link_sets.read(keys)?,
                trace_id: TraceId(fixed(self.link_traces.bytes(number))),
                span_id: SpanId(fixed(self.link_spans.bytes(number))),
            });
        }
        Ok((events, links))
    }
}

/// An id of fixed width; all zero where the column was left out because all ids are.
fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}
