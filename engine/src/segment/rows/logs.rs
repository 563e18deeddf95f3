//! Segments of log records: rows sorted by stream, time and arrival.

use std::borrow::Cow;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::model::{AttributeValue, LogRecord, Signal, SpanId, Stream, TimestampNs, TraceId};

use super::super::container::{FileIdentity, SegmentSink};
use super::super::file::SegmentBytes;
use super::super::meta::{SegmentMeta, SegmentOrigin};
use super::super::wire::{Cursor, put_attribute};
use super::attributes::{self, AttributeColumns, ROW_ATTRIBUTES, text};
use super::builder::{
    BlockWriter, RowBuildOptions, RowSegmentBuilder, StoredRow, attribute_bytes, for_each_text_of,
};
use super::columns::{Field, ValueKind};
use super::reader::{BlockRef, RowFilter, RowSegmentReader};

/// Makes a log segment: streams in ascending order (labels, then resource and scope), the records of
/// each sorted by time and arrival.
pub struct LogSegmentBuilder<S>(RowSegmentBuilder<S, Arc<LogRecord>>);

impl<S: SegmentSink> LogSegmentBuilder<S> {
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

    /// Adds a record of the open stream. `ordinal` orders records of equal time by their arrival.
    ///
    /// # Errors
    /// What the sink says.
    ///
    /// # Panics
    /// When records do not ascend by time and ordinal.
    pub fn push(&mut self, record: &Arc<LogRecord>, ordinal: u64) -> Result<()> {
        self.0.push(Arc::clone(record), ordinal)
    }

    /// Writes the indexes and ends the file.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(self) -> Result<(S, SegmentMeta, FileIdentity)> {
        self.0.finish()
    }
}

impl StoredRow for Arc<LogRecord> {
    const SIGNAL: Signal = Signal::Logs;

    fn time(&self) -> i64 {
        self.time.0
    }

    fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }

    fn text_bytes(&self) -> usize {
        let body = match &self.body {
            AttributeValue::String(text) => text.len(),
            AttributeValue::Map(pairs) => attribute_bytes(pairs),
            _ => 16,
        };
        body + attribute_bytes(&self.attributes)
    }

    fn item_count(&self) -> usize {
        1
    }

    fn for_each_text(&self, each: &mut dyn FnMut(&[u8])) {
        for_each_text_of(&self.body, each);
        for (_, value) in &self.attributes {
            for_each_text_of(value, each);
        }
        each(self.event_name.as_bytes());
    }

    fn write_columns(rows: &[&Self], block: &mut BlockWriter<'_>) {
        fn optional<'a, const N: usize>(id: Option<[u8; N]>) -> Cow<'a, [u8]> {
            id.map_or(Cow::Borrowed(&[][..]), |id| Cow::Owned(id.to_vec()))
        }
        let is_text = |r: &&Self| matches!(r.body, AttributeValue::String(_));
        block.ints(
            Field::ObservedDelta,
            rows.iter()
                .map(|r| r.observed_time.0.wrapping_sub(r.time.0)),
        );
        block.ints(Field::Severity, rows.iter().map(|r| i64::from(r.severity)));
        block.bytes(
            Field::SeverityText,
            ValueKind::Text,
            rows.iter()
                .map(|r| Cow::Borrowed(r.severity_text.as_bytes())),
        );
        block.ints(Field::BodyKind, rows.iter().map(|r| i64::from(!is_text(r))));
        let bodies = rows.iter().map(|r| match &r.body {
            AttributeValue::String(text) => Cow::Borrowed(text.as_bytes()),
            other => {
                let mut encoded = Vec::new();
                put_attribute(&mut encoded, other);
                Cow::Owned(encoded)
            }
        });
        let all_text = rows.iter().all(is_text);
        let kind = if all_text {
            ValueKind::Text
        } else {
            ValueKind::Bytes
        };
        block.bytes(Field::Body, kind, bodies);
        block.bytes(
            Field::TraceId,
            ValueKind::Bytes,
            rows.iter().map(|r| optional(r.trace_id.map(|id| id.0))),
        );
        block.bytes(
            Field::SpanId,
            ValueKind::Bytes,
            rows.iter().map(|r| optional(r.span_id.map(|id| id.0))),
        );
        block.bytes(
            Field::EventName,
            ValueKind::Text,
            rows.iter().map(|r| Cow::Borrowed(r.event_name.as_bytes())),
        );
        attributes::write(
            ROW_ATTRIBUTES,
            rows.iter().map(|r| &r.attributes),
            block.keys,
            block.columns,
            block.shapes,
            block.effort,
        );
    }
}

/// A log record as stored: which stream, and its place among records of the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLog {
    /// Row of the stream table.
    pub stream: u32,
    /// Arrival number.
    pub ordinal: u64,
    /// The record.
    pub record: LogRecord,
}

/// An open log segment.
#[derive(Debug)]
pub struct LogSegmentReader(RowSegmentReader);

impl Deref for LogSegmentReader {
    type Target = RowSegmentReader;

    fn deref(&self) -> &RowSegmentReader {
        &self.0
    }
}

impl LogSegmentReader {
    /// Opens a segment; `path` is for error messages.
    ///
    /// # Errors
    /// [`crate::EngineError::Corruption`] when the file is damaged where opening looks, or holds
    /// another signal.
    pub fn open(bytes: SegmentBytes, path: impl Into<PathBuf>) -> Result<Self> {
        RowSegmentReader::open(bytes, path, Signal::Logs).map(Self)
    }

    /// The records of a block that pass `filter` (words aside), in stored order.
    ///
    /// # Errors
    /// Damage.
    pub fn read_block(&self, block: &BlockRef, filter: &RowFilter) -> Result<Vec<StoredLog>> {
        let file = self.file();
        let details = self.0.details(block, 1)?;
        let chosen = self
            .0
            .chosen_rows(block, &details, Field::Severity, filter)?;
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let at = block.head.offset;
        let column = |field| details.column(file, field);
        let ordinals = column(Field::Ordinal)?;
        let observed = column(Field::ObservedDelta)?;
        let severities = column(Field::Severity)?;
        let severity_texts = column(Field::SeverityText)?;
        let body_kinds = column(Field::BodyKind)?;
        let bodies = column(Field::Body)?;
        let trace_ids = column(Field::TraceId)?;
        let span_ids = column(Field::SpanId)?;
        let event_names = column(Field::EventName)?;
        let mut sets =
            AttributeColumns::decode(file, ROW_ATTRIBUTES, &details.shapes[0], &details.entries)?;
        let mut records = Vec::with_capacity(chosen.len());
        let mut next_set = 0;
        for (row, stream, time) in chosen {
            while next_set < row {
                sets.skip()?;
                next_set += 1;
            }
            let attributes = sets.read(self.attribute_keys())?;
            next_set += 1;
            let body = match body_kinds.int(row) {
                0 => AttributeValue::String(text(file, at, bodies.bytes(row))?),
                _ => Cursor::new(file, bodies.bytes(row), at).attribute()?,
            };
            records.push(StoredLog {
                stream,
                ordinal: ordinals.int(row) as u64,
                record: LogRecord {
                    time: TimestampNs(time),
                    observed_time: TimestampNs(time.wrapping_add(observed.int(row))),
                    severity: severities.int(row) as u8,
                    severity_text: text(file, at, severity_texts.bytes(row))?,
                    body,
                    attributes,
                    trace_id: trace_ids.bytes(row).try_into().ok().map(TraceId),
                    span_id: span_ids.bytes(row).try_into().ok().map(SpanId),
                    event_name: text(file, at, event_names.bytes(row))?,
                },
            });
        }
        Ok(records)
    }

    /// All records that pass `filter` (words aside), in order of stream, time and arrival.
    ///
    /// # Errors
    /// Damage.
    pub fn scan(&self, filter: &RowFilter) -> Result<Vec<StoredLog>> {
        let mut records = Vec::new();
        for block in self.blocks(filter)? {
            records.extend(self.read_block(&block, filter)?);
        }
        Ok(records)
    }
}
