//! Spans of one request as columns.

use std::sync::Arc;

use super::attributes::{AttributeWriter, KeyTable, RawAttributes};
use crate::codec::strings::Strings;
use crate::codec::varint;
use crate::model::{
    Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, Stream, TimestampNs, TraceId,
};

/// The columns of spans, all of the same length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanColumns {
    /// Index into the batch's streams.
    pub stream: Vec<u32>,
    /// The trace.
    pub trace_id: Vec<[u8; 16]>,
    /// The span.
    pub span_id: Vec<[u8; 8]>,
    /// Zeros: a root.
    pub parent_span_id: Vec<[u8; 8]>,
    /// W3C trace state as sent.
    pub trace_state: Strings,
    /// Operation name.
    pub name: Strings,
    /// [`SpanKind`].
    pub kind: Vec<u8>,
    /// Start in nanoseconds since the epoch.
    pub time: Vec<i64>,
    /// Nanoseconds; negative when the source's clock ran backwards.
    pub duration: Vec<i64>,
    /// [`SpanStatus`].
    pub status: Vec<u8>,
    /// Words about the status.
    pub status_message: Strings,
    /// Attribute sets, see [`RawAttributes`].
    pub attributes: Strings,
    /// Events of each span, one after the other: the time after the start (zig-zag), length and text of
    /// the name, length and bytes of its attribute set.
    pub events: Strings,
    /// Links of each span, one after the other: 16 and 8 bytes of ids, length and bytes of its attribute
    /// set.
    pub links: Strings,
}

/// Spans of one request. Built once, then shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanBatch {
    pub(crate) streams: Vec<Arc<Stream>>,
    pub(crate) keys: KeyTable,
    pub(crate) columns: SpanColumns,
}

/// What every span has; the rest is added by [`SpanRowBuilder`].
#[derive(Clone, Copy, Debug)]
pub struct SpanFields<'a> {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// W3C trace state.
    pub trace_state: &'a str,
    /// Operation name.
    pub name: &'a str,
    /// Role.
    pub kind: SpanKind,
    /// Start.
    pub time: TimestampNs,
    /// Nanoseconds.
    pub duration_ns: i64,
    /// Outcome.
    pub status: SpanStatus,
    /// Words about it.
    pub status_message: &'a str,
}

impl SpanBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for `rows` more spans with `attribute_bytes` bytes of attributes together.
    pub fn reserve(&mut self, rows: usize, attribute_bytes: usize) {
        let columns = &mut self.columns;
        columns.stream.reserve(rows);
        columns.trace_id.reserve(rows);
        columns.span_id.reserve(rows);
        columns.parent_span_id.reserve(rows);
        columns.trace_state.reserve(rows, 0);
        columns.name.reserve(rows, 0);
        columns.kind.reserve(rows);
        columns.time.reserve(rows);
        columns.duration.reserve(rows);
        columns.status.reserve(rows);
        columns.status_message.reserve(rows, 0);
        columns.attributes.reserve(rows, attribute_bytes);
        columns.events.reserve(rows, 0);
        columns.links.reserve(rows, 0);
    }

    /// Gives back memory that is not used.
    pub fn shrink_to_fit(&mut self) {
        let columns = &mut self.columns;
        columns.stream.shrink_to_fit();
        columns.trace_id.shrink_to_fit();
        columns.span_id.shrink_to_fit();
        columns.parent_span_id.shrink_to_fit();
        columns.trace_state.shrink_to_fit();
        columns.name.shrink_to_fit();
        columns.kind.shrink_to_fit();
        columns.time.shrink_to_fit();
        columns.duration.shrink_to_fit();
        columns.status.shrink_to_fit();
        columns.status_message.shrink_to_fit();
        columns.attributes.shrink_to_fit();
        columns.events.shrink_to_fit();
        columns.links.shrink_to_fit();
    }

    /// Adds a stream and answers its number.
    pub fn stream(&mut self, stream: Arc<Stream>) -> u32 {
        self.streams.push(stream);
        self.streams.len() as u32 - 1
    }

    /// Adds a span and answers what adds its attributes, events and links.
    ///
    /// # Panics
    /// If `stream` is no number that [`SpanBatch::stream`] gave.
    pub fn row(&mut self, stream: u32, row: &SpanFields<'_>) -> SpanRowBuilder<'_> {
        assert!(
            (stream as usize) < self.streams.len(),
            "bug: stream {stream} of {}",
            self.streams.len()
        );
        let columns = &mut self.columns;
        columns.stream.push(stream);
        columns.trace_id.push(row.trace_id.0);
        columns.span_id.push(row.span_id.0);
        let parent = row.parent_span_id.map_or([0; 8], |id| id.0);
        columns.parent_span_id.push(parent);
        columns.trace_state.push(row.trace_state.as_bytes());
        columns.name.push(row.name.as_bytes());
        columns.kind.push(row.kind as u8);
        columns.time.push(row.time.0);
        columns.duration.push(row.duration_ns);
        columns.status.push(row.status as u8);
        columns.status_message.push(row.status_message.as_bytes());
        columns.attributes.push(&[]);
        columns.events.push(&[]);
        columns.links.push(&[]);
        SpanRowBuilder { batch: self }
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
    pub fn columns(&self) -> &SpanColumns {
        &self.columns
    }

    /// The attributes of a row.
    #[must_use]
    pub fn attributes(&self, row: usize) -> RawAttributes<'_> {
        RawAttributes::new(&self.keys, self.columns.attributes.get(row).unwrap_or(&[]))
    }

    /// The events of a row: time after the start, name, attributes.
    pub fn events(&self, row: usize) -> impl Iterator<Item = (i64, &str, RawAttributes<'_>)> {
        let bytes = self.columns.events.get(row).unwrap_or(&[]);
        let mut at = 0;
        std::iter::from_fn(move || {
            let raw = varint::read_u64(bytes, &mut at)?;
            let after = ((raw >> 1) as i64) ^ -((raw & 1) as i64);
            let name = std::str::from_utf8(take(bytes, &mut at)?).ok()?;
            let set = take(bytes, &mut at)?;
            Some((after, name, RawAttributes::new(&self.keys, set)))
        })
    }

    /// The links of a row: ids, attributes.
    pub fn links(&self, row: usize) -> impl Iterator<Item = (TraceId, SpanId, RawAttributes<'_>)> {
        let bytes = self.columns.links.get(row).unwrap_or(&[]);
        let mut at = 0;
        std::iter::from_fn(move || {
            let trace = bytes.get(at..at + 16)?.try_into().ok()?;
            let span = bytes.get(at + 16..at + 24)?.try_into().ok()?;
            at += 24;
            let set = take(bytes, &mut at)?;
            Some((
                TraceId(trace),
                SpanId(span),
                RawAttributes::new(&self.keys, set),
            ))
        })
    }

    /// About how many bytes of memory the rows take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let columns = &self.columns;
        let texts = [
            &columns.trace_state,
            &columns.name,
            &columns.status_message,
            &columns.attributes,
            &columns.events,
            &columns.links,
        ];
        let text: usize = texts
            .iter()
            .map(|text| text.byte_len() + 4 * text.len())
            .sum();
        text + self.len() * (4 + 16 + 8 + 8 + 1 + 8 + 8 + 1)
    }

    /// Adds a span.
    pub fn push(&mut self, stream: u32, span: &Span) {
        let fields = SpanFields {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            trace_state: &span.trace_state,
            name: &span.name,
            kind: span.kind,
            time: span.time,
            duration_ns: span.duration_ns,
            status: span.status,
            status_message: &span.status_message,
        };
        let mut row = self.row(stream, &fields);
        row.attributes(|writer| writer.pairs(&span.attributes));
        for event in &span.events {
            let after = event.time.0.wrapping_sub(span.time.0);
            row.event(after, &event.name, |writer| writer.pairs(&event.attributes));
        }
        for link in &span.links {
            let pairs = &link.attributes;
            row.link(link.trace_id, link.span_id, |writer| writer.pairs(pairs));
        }
    }

    /// A row as a span of its own.
    #[must_use]
    pub fn span(&self, row: usize) -> Span {
        let columns = &self.columns;
        let text =
            |column: &Strings| String::from_utf8_lossy(column.get(row).unwrap_or(&[])).into_owned();
        let parent = columns.parent_span_id[row];
        let start = columns.time[row];
        Span {
            trace_id: TraceId(columns.trace_id[row]),
            span_id: SpanId(columns.span_id[row]),
            parent_span_id: (parent != [0; 8]).then_some(SpanId(parent)),
            trace_state: text(&columns.trace_state),
            name: text(&columns.name),
            kind: SpanKind::from_u8(columns.kind[row]).unwrap_or_default(),
            time: TimestampNs(start),
            duration_ns: columns.duration[row],
            status: SpanStatus::from_u8(columns.status[row]).unwrap_or_default(),
            status_message: text(&columns.status_message),
            attributes: self.attributes(row).to_attributes(),
            events: self
                .events(row)
                .map(|(after, name, attributes)| SpanEvent {
                    time: TimestampNs(start.wrapping_add(after)),
                    name: name.to_owned(),
                    attributes: attributes.to_attributes(),
                })
                .collect(),
            links: self
                .links(row)
                .map(|(trace_id, span_id, attributes)| SpanLink {
                    trace_id,
                    span_id,
                    attributes: attributes.to_attributes(),
                })
                .collect(),
        }
    }
}

/// Adds to the span that [`SpanBatch::row`] began.
pub struct SpanRowBuilder<'a> {
    batch: &'a mut SpanBatch,
}

impl SpanRowBuilder<'_> {
    /// Adds attributes.
    pub fn attributes(&mut self, write: impl FnOnce(&mut AttributeWriter<'_>)) {
        let SpanBatch { keys, columns, .. } = &mut *self.batch;
        let write = |out: &mut Vec<u8>| write(&mut AttributeWriter::new(keys, out));
        columns.attributes.extend_last(write);
    }

    /// Adds an event; `after_start_ns` is its time minus the span's start.
    pub fn event(
        &mut self,
        after_start_ns: i64,
        name: &str,
        attributes: impl FnOnce(&mut AttributeWriter<'_>),
    ) {
        let SpanBatch { keys, columns, .. } = &mut *self.batch;
        columns.events.extend_last(|out| {
            varint::write_i64(out, after_start_ns);
            varint::write_u64(out, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
            write_set(keys, out, attributes);
        });
    }

    /// Adds a link.
    pub fn link(
        &mut self,
        trace_id: TraceId,
        span_id: SpanId,
        attributes: impl FnOnce(&mut AttributeWriter<'_>),
    ) {
        let SpanBatch { keys, columns, .. } = &mut *self.batch;
        columns.links.extend_last(|out| {
            out.extend_from_slice(&trace_id.0);
            out.extend_from_slice(&span_id.0);
            write_set(keys, out, attributes);
        });
    }
}

/// Appends the length of an attribute set, then the set.
fn write_set(
    keys: &mut KeyTable,
    out: &mut Vec<u8>,
    attributes: impl FnOnce(&mut AttributeWriter<'_>),
) {
    // Nearly all sets are shorter than 128 bytes, whose length takes one.
    let length_at = out.len();
    out.push(0);
    let start = out.len();
    attributes(&mut AttributeWriter::new(keys, out));
    let length = out.len() - start;
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out[length_at] = short,
        _ => {
            let set = out.split_off(start);
            out.truncate(length_at);
            varint::write_u64(out, length as u64);
            out.extend_from_slice(&set);
        }
    }
}

fn take<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = usize::try_from(varint::read_u64(bytes, at)?).ok()?;
    let taken = bytes.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AttributeValue;

    #[test]
    fn spans_survive_a_batch() {
        let pairs = vec![("k".to_owned(), AttributeValue::Bool(true))];
        let span = Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            parent_span_id: Some(SpanId([3; 8])),
            trace_state: "a=b".into(),
            name: "GET /".into(),
            kind: SpanKind::Server,
            time: TimestampNs(10),
            duration_ns: -4,
            status: SpanStatus::Error,
            status_message: "no".into(),
            attributes: pairs.clone(),
            events: vec![
                SpanEvent {
                    time: TimestampNs(8),
                    name: "early".into(),
                    attributes: pairs.clone(),
                },
                SpanEvent {
                    time: TimestampNs(12),
                    name: String::new(),
                    attributes: Vec::new(),
                },
            ],
            links: vec![SpanLink {
                trace_id: TraceId([4; 16]),
                span_id: SpanId([5; 8]),
                attributes: pairs,
            }],
        };
        let root = Span {
            parent_span_id: None,
            events: Vec::new(),
            links: Vec::new(),
            attributes: Vec::new(),
            ..span.clone()
        };
        let mut batch = SpanBatch::new();
        let stream = batch.stream(Arc::default());
        batch.push(stream, &span);
        batch.push(stream, &root);
        assert_eq!(batch.span(0), span);
        assert_eq!(batch.span(1), root);
    }
}
