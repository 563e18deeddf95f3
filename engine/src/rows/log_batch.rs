//! Log records of one request as columns.

use std::sync::Arc;

use super::attributes::{AttributeWriter, KeyTable, RawAttributes};
use super::value::{NESTING_MAX, read_value};
use crate::codec::strings::Strings;
use crate::model::{AttributeValue, LogRecord, SpanId, Stream, TimestampNs, TraceId};
use crate::segment::wire::put_attribute;

/// What a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum BodyKind {
    /// UTF-8 text.
    #[default]
    Text = 0,
    /// Any other attribute value, in its stored form.
    Value = 1,
}

/// The columns of log records, all of the same length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogColumns {
    /// Index into the batch's streams.
    pub stream: Vec<u32>,
    /// Nanoseconds since the epoch.
    pub time: Vec<i64>,
    /// Nanoseconds since the epoch.
    pub observed_time: Vec<i64>,
    /// OpenTelemetry severity number, 0 to 24.
    pub severity: Vec<u8>,
    /// Severity as the source wrote it.
    pub severity_text: Strings,
    /// [`BodyKind`] of each body.
    pub body_kind: Vec<u8>,
    /// Text, or the stored form of a value.
    pub body: Strings,
    /// Zeros: none.
    pub trace_id: Vec<[u8; 16]>,
    /// Zeros: none.
    pub span_id: Vec<[u8; 8]>,
    /// Empty for ordinary records.
    pub event_name: Strings,
    /// Attribute sets, see [`RawAttributes`].
    pub attributes: Strings,
}

/// Log records of one request. Built once with [`LogBatch::row`], then shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogBatch {
    pub(crate) streams: Vec<Arc<Stream>>,
    pub(crate) keys: KeyTable,
    pub(crate) columns: LogColumns,
}

impl LogBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for `rows` more rows with `body_bytes` bytes of bodies together.
    pub fn reserve(&mut self, rows: usize, body_bytes: usize) {
        let columns = &mut self.columns;
        columns.stream.reserve(rows);
        columns.time.reserve(rows);
        columns.observed_time.reserve(rows);
        columns.severity.reserve(rows);
        columns.severity_text.reserve(rows, 0);
        columns.body_kind.reserve(rows);
        columns.body.reserve(rows, body_bytes);
        columns.trace_id.reserve(rows);
        columns.span_id.reserve(rows);
        columns.event_name.reserve(rows, 0);
        columns.attributes.reserve(rows, 0);
    }

    /// Gives back memory that is not used.
    pub fn shrink_to_fit(&mut self) {
        let columns = &mut self.columns;
        columns.stream.shrink_to_fit();
        columns.time.shrink_to_fit();
        columns.observed_time.shrink_to_fit();
        columns.severity.shrink_to_fit();
        columns.severity_text.shrink_to_fit();
        columns.body_kind.shrink_to_fit();
        columns.body.shrink_to_fit();
        columns.trace_id.shrink_to_fit();
        columns.span_id.shrink_to_fit();
        columns.event_name.shrink_to_fit();
        columns.attributes.shrink_to_fit();
    }

    /// Adds a stream and answers its number. A caller that has many rows of a stream asks once; the
    /// same stream added twice does no harm.
    pub fn stream(&mut self, stream: Arc<Stream>) -> u32 {
        self.streams.push(stream);
        self.streams.len() as u32 - 1
    }

    /// Begins a row; it is there as soon as it is begun, and the builder adds what is known.
    ///
    /// # Panics
    /// If `stream` is no number that [`LogBatch::stream`] gave.
    pub fn row(&mut self, stream: u32, time: TimestampNs) -> LogRowBuilder<'_> {
        assert!(
            (stream as usize) < self.streams.len(),
            "bug: stream {stream} of {}",
            self.streams.len()
        );
        let columns = &mut self.columns;
        columns.stream.push(stream);
        columns.time.push(time.0);
        columns.observed_time.push(time.0);
        columns.severity.push(0);
        columns.body_kind.push(BodyKind::Text as u8);
        columns.trace_id.push([0; 16]);
        columns.span_id.push([0; 8]);
        LogRowBuilder { batch: self }
    }

    /// Rows in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.time.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.time.is_empty()
    }

    /// The streams by number.
    #[must_use]
    pub fn streams(&self) -> &[Arc<Stream>] {
        &self.streams
    }

    /// The attribute keys by number.
    #[must_use]
    pub fn keys(&self) -> &KeyTable {
        &self.keys
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &LogColumns {
        &self.columns
    }

    /// The attributes of a row.
    #[must_use]
    pub fn attributes(&self, row: usize) -> RawAttributes<'_> {
        RawAttributes::new(&self.keys, self.columns.attributes.get(row).unwrap_or(&[]))
    }

    /// About how many bytes of memory the rows take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let columns = &self.columns;
        let texts = [
            &columns.severity_text,
            &columns.body,
            &columns.event_name,
            &columns.attributes,
        ];
        let text: usize = texts
            .iter()
            .map(|text| text.byte_len() + 4 * text.len())
            .sum();
        text + self.len() * (4 + 8 + 8 + 1 + 1 + 16 + 8)
    }

    /// Adds a record.
    pub fn push(&mut self, stream: u32, record: &LogRecord) {
        let mut row = self.row(stream, record.time);
        row.observed_time(record.observed_time);
        row.severity(record.severity);
        row.ids(record.trace_id, record.span_id);
        let attributes = |writer: &mut AttributeWriter<'_>| writer.pairs(&record.attributes);
        row.finish(
            &record.severity_text,
            &record.body,
            &record.event_name,
            attributes,
        );
    }

    /// A row as a record of its own.
    #[must_use]
    pub fn record(&self, row: usize) -> LogRecord {
        let columns = &self.columns;
        let text =
            |column: &Strings| String::from_utf8_lossy(column.get(row).unwrap_or(&[])).into_owned();
        let body = if columns.body_kind[row] == BodyKind::Text as u8 {
            AttributeValue::String(text(&columns.body))
        } else {
            let bytes = columns.body.get(row).unwrap_or(&[]);
            read_value(bytes, &mut 0, NESTING_MAX).unwrap_or(AttributeValue::Null)
        };
        let (trace_id, span_id) = (columns.trace_id[row], columns.span_id[row]);
        LogRecord {
            time: TimestampNs(columns.time[row]),
            observed_time: TimestampNs(columns.observed_time[row]),
            severity: columns.severity[row],
            severity_text: text(&columns.severity_text),
            body,
            attributes: self.attributes(row).to_attributes(),
            trace_id: (trace_id != [0; 16]).then_some(TraceId(trace_id)),
            span_id: (span_id != [0; 8]).then_some(SpanId(span_id)),
            event_name: text(&columns.event_name),
        }
    }
}

/// Completes the row that [`LogBatch::row`] began; [`LogRowBuilder::finish`] ends it.
pub struct LogRowBuilder<'a> {
    batch: &'a mut LogBatch,
}

impl LogRowBuilder<'_> {
    fn last<T>(column: &mut [T], value: T) {
        if let Some(last) = column.last_mut() {
            *last = value;
        }
    }

    /// When a collector saw it first; without it, the time of the record.
    pub fn observed_time(&mut self, time: TimestampNs) {
        Self::last(&mut self.batch.columns.observed_time, time.0);
    }

    /// OpenTelemetry severity number.
    pub fn severity(&mut self, number: u8) {
        Self::last(&mut self.batch.columns.severity, number);
    }

    /// The trace and span it belongs to.
    pub fn ids(&mut self, trace_id: Option<TraceId>, span_id: Option<SpanId>) {
        let columns = &mut self.batch.columns;
        Self::last(&mut columns.trace_id, trace_id.map_or([0; 16], |id| id.0));
        Self::last(&mut columns.span_id, span_id.map_or([0; 8], |id| id.0));
    }

    /// Ends the row: texts, and the attributes that `attributes` writes.
    pub fn finish(
        self,
        severity_text: &str,
        body: &AttributeValue,
        event_name: &str,
        attributes: impl FnOnce(&mut AttributeWriter<'_>),
    ) {
        match body {
            AttributeValue::String(text) => {
                self.finish_text(severity_text, text, event_name, attributes);
            }
            other => {
                let columns = &mut self.batch.columns;
                Self::last(&mut columns.body_kind, BodyKind::Value as u8);
                columns.body.push_with(|out| put_attribute(out, other));
                self.finish_rest(severity_text, event_name, attributes);
            }
        }
    }

    /// The same for a body of text.
    pub fn finish_text(
        self,
        severity_text: &str,
        body: &str,
        event_name: &str,
        attributes: impl FnOnce(&mut AttributeWriter<'_>),
    ) {
        self.batch.columns.body.push(body.as_bytes());
        self.finish_rest(severity_text, event_name, attributes);
    }

    fn finish_rest(
        self,
        severity_text: &str,
        event_name: &str,
        attributes: impl FnOnce(&mut AttributeWriter<'_>),
    ) {
        let LogBatch { keys, columns, .. } = self.batch;
        columns.severity_text.push(severity_text.as_bytes());
        columns.event_name.push(event_name.as_bytes());
        let write = |out: &mut Vec<u8>| attributes(&mut AttributeWriter::new(keys, out));
        columns.attributes.push_with(write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn records_survive_a_batch() {
        let record = LogRecord {
            time: TimestampNs(5),
            observed_time: TimestampNs(7),
            severity: 9,
            severity_text: "info".into(),
            body: AttributeValue::Map(vec![("a".into(), AttributeValue::Float(f64::NAN))]),
            attributes: vec![
                ("k".into(), AttributeValue::Int(-3)),
                ("k".into(), AttributeValue::Bytes(vec![0, 255])),
                (
                    "list".into(),
                    AttributeValue::Array(vec![AttributeValue::Null, AttributeValue::Bool(true)]),
                ),
            ],
            trace_id: Some(TraceId([1; 16])),
            span_id: None,
            event_name: String::new(),
        };
        let mut batch = LogBatch::new();
        let stream = batch.stream(Arc::new(Stream::from_labels(Labels::default())));
        batch.push(stream, &record);
        let plain = LogRecord {
            body: AttributeValue::String("text".into()),
            attributes: Vec::new(),
            ..record.clone()
        };
        batch.push(stream, &plain);
        assert_eq!(batch.len(), 2);
        assert_eq!(format!("{:?}", batch.record(0)), format!("{record:?}"));
        assert_eq!(batch.record(1), plain);
        let found = batch.attributes(0).get("k");
        assert_eq!(found, Some(super::super::ValueRef::Bytes(&[0, 255])));
    }
}
