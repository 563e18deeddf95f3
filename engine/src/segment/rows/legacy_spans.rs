//! Span blocks up to version 3 of the format: spans one by one.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::model::{
    Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TimeRange, TimestampNs, TraceId,
};

use super::super::file::SegmentFile;
use super::attributes::{
    AttributeColumns, EVENT_ATTRIBUTES, LINK_ATTRIBUTES, ROW_ATTRIBUTES, text,
};
use super::columns::{Column, Field};
use super::reader::{BlockDetails, BlockRef, RowSegmentReader};

/// The spans of a block that have the right times and streams, each with its stream, in stored order.
pub(crate) fn read_block(
    reader: &RowSegmentReader,
    block: &BlockRef,
    range: TimeRange,
    streams: Option<&RoaringBitmap>,
) -> Result<Vec<(u32, Span)>> {
    let file = reader.file();
    let details = reader.details(block, 3)?;
    let chosen = reader.chosen_rows(block, &details, range, streams)?;
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let at = block.head.offset;
    let column = |field| details.column(file, field);
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
    let mut nested = Nested::open(file, &details)?;
    let keys = reader.attribute_keys();
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
        let (events, links) = nested.read(file, row, time, keys, at)?;
        spans.push((
            stream,
            Span {
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
        ));
    }
    Ok(spans)
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

impl<'a> Nested<'a> {
    fn open(file: &'a SegmentFile, details: &'a BlockDetails) -> Result<Self> {
        let column = |field| details.column(file, field);
        let sets = |fields, at: usize| {
            AttributeColumns::decode(file, fields, &details.shapes[at], &details.entries)
        };
        Ok(Self {
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
        file: &SegmentFile,
        row: usize,
        start: i64,
        keys: &[Arc<str>],
        at: u64,
    ) -> Result<(Vec<SpanEvent>, Vec<SpanLink>)> {
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
