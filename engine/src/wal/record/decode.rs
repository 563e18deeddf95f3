//! A record's bytes become plain data again. The bytes carry a checksum, but nothing is taken on
//! trust: a wrong record is an error that says where, never a panic or a huge allocation.

use std::sync::Arc;

use super::batches;
use super::decimal::read_values;
use super::values::{ATTRIBUTE_DEPTH_MAX, read_attributes, read_histogram, read_times, read_value};
use super::{Deletion, HistogramRow, Record, Samples, StateOp, body_flag, section};
use crate::context::TenantId;
use crate::index::{MatchOp, Matcher};
use crate::model::{
    BatchId, Exemplar, Generation, Labels, LogRecord, Metadata, MetricType, Scope, SeriesRef,
    Signal, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, Stream, TimeRange,
    TimestampNs, TraceId,
};
use crate::rows::{LogBatch, SpanBatch};
use crate::wal::cursor::{Cursor, Malformed};
use crate::wal::format::{RECORD_FLAG_ZSTD, RecordHeader};

impl Record {
    /// Reads a record back from its header and payload.
    pub(in crate::wal) fn decode(header: &RecordHeader, payload: &[u8]) -> Result<Self, Malformed> {
        if header.flags & RECORD_FLAG_ZSTD == 0 {
            return Self::decode_body(payload);
        }
        let bad = |what| Malformed { what, offset: 0 };
        let body = zstd::bulk::decompress(payload, header.body_bytes as usize)
            .map_err(|_| bad("payload does not decompress"))?;
        if body.len() != header.body_bytes as usize {
            return Err(bad("payload decompresses to another size"));
        }
        Self::decode_body(&body)
    }

    /// Reads a body as [`RecordRef::encode`](super::RecordRef::encode) wrote it, decompressed.
    fn decode_body(body: &[u8]) -> Result<Self, Malformed> {
        let cursor = &mut Cursor::new(body);
        let flags = cursor.u8()?;
        if flags & !body_flag::KNOWN != 0 {
            return Err(cursor.malformed("unknown flag of a record"));
        }
        let tenant =
            TenantId::new(cursor.text()?).map_err(|_| cursor.malformed("malformed tenant"))?;
        let mut record = Self {
            tenant,
            arrival: TimestampNs(i64::from_le_bytes(cursor.array()?)),
            ..Self::default()
        };
        if flags & body_flag::BATCH != 0 {
            record.batch = Some(BatchId(cursor.array()?));
        }
        if flags & body_flag::DERIVATION != 0 {
            record.derivation = Some(Arc::from(cursor.text()?));
        }
        let mut tag_before = 0;
        let mut streams = Vec::new();
        while cursor.remaining() > 0 {
            let tag = cursor.u8()?;
            if tag <= tag_before {
                return Err(cursor.malformed("sections are out of order"));
            }
            tag_before = tag;
            let count = cursor.narrow("count too large")?;
            let size = cursor.u32()? as usize;
            let offset = cursor.position();
            let inner = &mut Cursor::new(cursor.take(size)?);
            record
                .read_section(tag, count, inner, &mut streams)
                .and_then(|()| inner.finish())
                .map_err(|error| Malformed {
                    offset: offset + error.offset,
                    ..error
                })?;
        }
        Ok(record)
    }

    fn read_section(
        &mut self,
        tag: u8,
        count: usize,
        cursor: &mut Cursor<'_>,
        streams: &mut Vec<Arc<Stream>>,
    ) -> Result<(), Malformed> {
        let mut ids = Ids::default();
        let mut time = 0_i64;
        match tag {
            section::SERIES => {
                self.series = rows(cursor, count, 2, |cursor| {
                    Ok((ids.read(cursor)?, read_labels(cursor)?))
                })?;
            }
            section::SAMPLES => self.samples = read_samples(cursor, count)?,
            section::HISTOGRAMS => {
                let mut custom = None;
                self.histograms = rows(cursor, count, 36, |cursor| {
                    let series = ids.read(cursor)?;
                    time = time.wrapping_add(cursor.zigzag()?);
                    let start = match cursor.u8()? {
                        0 => None,
                        1 => Some(TimestampNs(time.wrapping_add(cursor.zigzag()?))),
                        _ => return Err(cursor.malformed("unknown kind of start time")),
                    };
                    let histogram = Arc::new(read_histogram(cursor, &mut custom)?);
                    Ok(HistogramRow {
                        series,
                        time: TimestampNs(time),
                        start,
                        histogram,
                    })
                })?;
            }
            section::EXEMPLARS => {
                self.exemplars = rows(cursor, count, 11, |cursor| {
                    let series = ids.read(cursor)?;
                    time = time.wrapping_add(cursor.zigzag()?);
                    let exemplar = Exemplar {
                        time: TimestampNs(time),
                        value: cursor.f64()?,
                        labels: read_labels(cursor)?,
                    };
                    Ok((series, exemplar))
                })?;
            }
            section::METADATA => self.metadata = rows(cursor, count, 4, read_metadata)?,
            section::STREAMS => *streams = rows(cursor, count, 5, read_stream)?,
            section::LOGS => {
                let batch = read_old_logs(cursor, count, std::mem::take(streams))?;
                // Spans of the same record may name the streams too.
                streams.clone_from(&batch.streams);
                self.logs.push(Arc::new(batch));
            }
            section::SPANS => {
                let batch = read_old_spans(cursor, count, std::mem::take(streams))?;
                self.spans.push(Arc::new(batch));
            }
            section::LOG_BATCHES => {
                let batches = rows(cursor, count, 3, batches::read_logs)?;
                self.logs.extend(batches.into_iter().map(Arc::new));
            }
            section::SPAN_BATCHES => {
                let batches = rows(cursor, count, 3, batches::read_spans)?;
                self.spans.extend(batches.into_iter().map(Arc::new));
            }
            section::STATE => self.state = rows(cursor, count, 4, read_state)?,
            section::DELETIONS => self.deletions = rows(cursor, count, 20, read_deletion)?,
            section::SOURCES => {
                self.sources = rows(cursor, count, 1, |cursor| Ok(Generation(cursor.varint()?)))?;
            }
            _ => return Err(cursor.malformed("unknown section")),
        }
        Ok(())
    }
}

/// Reads `count` rows of at least `bytes_min` bytes each.
pub(super) fn rows<T>(
    cursor: &mut Cursor<'_>,
    count: usize,
    bytes_min: usize,
    mut read: impl FnMut(&mut Cursor<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    if count > cursor.remaining() / bytes_min {
        return Err(cursor.malformed("more rows than bytes"));
    }
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        rows.push(read(cursor)?);
    }
    Ok(rows)
}

#[derive(Default)]
struct Ids(u64);

impl Ids {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<SeriesRef, Malformed> {
        self.0 = self.0.wrapping_add(cursor.zigzag()? as u64);
        Ok(SeriesRef(self.0))
    }
}

fn read_labels(cursor: &mut Cursor<'_>) -> Result<Labels, Malformed> {
    let bytes = cursor.bytes()?;
    Labels::from_bytes(bytes).map_err(|_| cursor.malformed("malformed label set"))
}

fn read_samples(cursor: &mut Cursor<'_>, count: usize) -> Result<Samples, Malformed> {
    let mut ids = Ids::default();
    let series = rows(cursor, count, 1, |cursor| ids.read(cursor))?;
    let times = read_times(cursor, count)?;
    let starts = read_times(cursor, count)?;
    if times.len() != count {
        return Err(cursor.malformed("samples without times"));
    }
    Ok(Samples {
        series,
        times,
        starts,
        values: read_values(cursor, count)?,
    })
}

fn read_metadata(cursor: &mut Cursor<'_>) -> Result<(String, Metadata), Malformed> {
    let metric = cursor.text()?.to_owned();
    let metric_type = MetricType::from_u8(cursor.u8()?)
        .ok_or_else(|| cursor.malformed("unknown type of metric"))?;
    let metadata = Metadata {
        metric_type,
        unit: cursor.text()?.to_owned(),
        help: cursor.text()?.to_owned(),
    };
    Ok((metric, metadata))
}

pub(super) fn read_stream(cursor: &mut Cursor<'_>) -> Result<Arc<Stream>, Malformed> {
    Ok(Arc::new(Stream {
        labels: read_labels(cursor)?,
        resource: read_attributes(cursor)?,
        scope: Scope {
            name: cursor.text()?.to_owned(),
            version: cursor.text()?.to_owned(),
            attributes: read_attributes(cursor)?,
        },
    }))
}

/// The stream of a row, which must be one of `streams`.
fn read_stream_index(cursor: &mut Cursor<'_>, streams: &[Arc<Stream>]) -> Result<u32, Malformed> {
    let stream: u32 = cursor.narrow("stream index out of range")?;
    if stream as usize >= streams.len() {
        return Err(cursor.malformed("row names a stream that is not there"));
    }
    Ok(stream)
}

/// Log records as they were written one by one.
fn read_old_logs(
    cursor: &mut Cursor<'_>,
    count: usize,
    streams: Vec<Arc<Stream>>,
) -> Result<LogBatch, Malformed> {
    let mut batch = LogBatch {
        streams,
        ..LogBatch::default()
    };
    let mut time = 0;
    rows(cursor, count, 9, |cursor| {
        let stream = read_stream_index(cursor, &batch.streams)?;
        let record = read_log(cursor, time)?;
        time = record.time.0;
        batch.push(stream, &record);
        Ok(())
    })?;
    Ok(batch)
}

/// Spans as they were written one by one.
fn read_old_spans(
    cursor: &mut Cursor<'_>,
    count: usize,
    streams: Vec<Arc<Stream>>,
) -> Result<SpanBatch, Malformed> {
    let mut batch = SpanBatch {
        streams,
        ..SpanBatch::default()
    };
    let mut time = 0;
    rows(cursor, count, 35, |cursor| {
        let stream = read_stream_index(cursor, &batch.streams)?;
        let span = read_span(cursor, time)?;
        time = span.time.0;
        batch.push(stream, &span);
        Ok(())
    })?;
    Ok(batch)
}

fn read_log(cursor: &mut Cursor<'_>, time_before: i64) -> Result<LogRecord, Malformed> {
    let flags = cursor.u8()?;
    if flags & !row_flag::KNOWN_LOG != 0 {
        return Err(cursor.malformed("unknown flag of a log record"));
    }
    let time = time_before.wrapping_add(cursor.zigzag()?);
    let observed = time.wrapping_add(cursor.zigzag()?);
    let mut record = LogRecord {
        time: TimestampNs(time),
        observed_time: TimestampNs(observed),
        severity: cursor.u8()?,
        severity_text: cursor.text()?.to_owned(),
        event_name: cursor.text()?.to_owned(),
        trace_id: None,
        span_id: None,
        body: crate::model::AttributeValue::Null,
        attributes: Vec::new(),
    };
    if flags & row_flag::TRACE_ID != 0 {
        record.trace_id = Some(TraceId(cursor.array()?));
    }
    if flags & row_flag::SPAN_ID != 0 {
        record.span_id = Some(SpanId(cursor.array()?));
    }
    record.body = read_value(cursor, ATTRIBUTE_DEPTH_MAX)?;
    record.attributes = read_attributes(cursor)?;
    Ok(record)
}

fn read_span(cursor: &mut Cursor<'_>, time_before: i64) -> Result<Span, Malformed> {
    let flags = cursor.u8()?;
    if flags & !row_flag::KNOWN_SPAN != 0 {
        return Err(cursor.malformed("unknown flag of a span"));
    }
    let trace_id = TraceId(cursor.array()?);
    let span_id = SpanId(cursor.array()?);
    let parent_span_id = if flags & row_flag::PARENT != 0 {
        Some(SpanId(cursor.array()?))
    } else {
        None
    };
    let kind =
        SpanKind::from_u8(cursor.u8()?).ok_or_else(|| cursor.malformed("unknown kind of span"))?;
    let status = SpanStatus::from_u8(cursor.u8()?)
        .ok_or_else(|| cursor.malformed("unknown status of a span"))?;
    let time = time_before.wrapping_add(cursor.zigzag()?);
    let duration_ns = cursor.zigzag()?;
    let name = cursor.text()?.to_owned();
    let status_message = cursor.text()?.to_owned();
    let attributes = read_attributes(cursor)?;
    let count = cursor.narrow("count too large")?;
    let events = rows(cursor, count, 3, |cursor| {
        Ok(SpanEvent {
            time: TimestampNs(time.wrapping_add(cursor.zigzag()?)),
            name: cursor.text()?.to_owned(),
            attributes: read_attributes(cursor)?,
        })
    })?;
    let count = cursor.narrow("count too large")?;
    let links = rows(cursor, count, 25, |cursor| {
        Ok(SpanLink {
            trace_id: TraceId(cursor.array()?),
            span_id: SpanId(cursor.array()?),
            attributes: read_attributes(cursor)?,
        })
    })?;
    Ok(Span {
        trace_id,
        span_id,
        parent_span_id,
        trace_state: String::new(),
        name,
        kind,
        time: TimestampNs(time),
        duration_ns,
        status,
        status_message,
        attributes,
        events,
        links,
    })
}

fn read_state(cursor: &mut Cursor<'_>) -> Result<StateOp, Malformed> {
    let collection = Arc::from(cursor.text()?);
    let key = Arc::from(cursor.text()?);
    let version = cursor.varint()?;
    let value = match cursor.u8()? {
        0 => None,
        1 => Some(Arc::from(cursor.bytes()?)),
        _ => return Err(cursor.malformed("unknown change of a state document")),
    };
    Ok(StateOp {
        collection,
        key,
        version,
        value,
    })
}

fn read_range(cursor: &mut Cursor<'_>) -> Result<TimeRange, Malformed> {
    Ok(TimeRange {
        start: TimestampNs(i64::from_le_bytes(cursor.array()?)),
        end: TimestampNs(i64::from_le_bytes(cursor.array()?)),
    })
}

fn read_deletion(cursor: &mut Cursor<'_>) -> Result<Deletion, Malformed> {
    Ok(Deletion {
        id: cursor.varint()?,
        generation: Generation(cursor.varint()?),
        signal: Signal::from_u8(cursor.u8()?).ok_or_else(|| cursor.malformed("unknown signal"))?,
        range: read_range(cursor)?,
        matchers: read_matchers(cursor)?,
    })
}

/// Reads what [`write_matchers`](super::encode::write_matchers) wrote.
pub(crate) fn read_matchers(cursor: &mut Cursor<'_>) -> Result<Vec<Matcher>, Malformed> {
    let count = cursor.narrow("count too large")?;
    rows(cursor, count, 3, |cursor| {
        let name = cursor.text()?;
        let op = match cursor.u8()? {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err(cursor.malformed("unknown match operator")),
        };
        let value = cursor.text()?;
        Matcher::new(name, op, value).map_err(|_| cursor.malformed("regex does not compile"))
    })
}

/// Bits that say which optional fields of a row follow.
pub(super) mod row_flag {
    pub(in crate::wal::record) const TRACE_ID: u8 = 1;
    pub(in crate::wal::record) const SPAN_ID: u8 = 1 << 1;
    pub(in crate::wal::record) const PARENT: u8 = 1 << 2;
    pub(in crate::wal::record) const KNOWN_LOG: u8 = TRACE_ID | SPAN_ID;
    pub(in crate::wal::record) const KNOWN_SPAN: u8 = PARENT;
}
