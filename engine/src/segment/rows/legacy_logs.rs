//! Log blocks up to version 3 of the format: records one by one.

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::model::{AttributeValue, LogRecord, SpanId, TimeRange, TimestampNs, TraceId};

use super::super::wire::Cursor;
use super::attributes::{AttributeColumns, ROW_ATTRIBUTES, text};
use super::columns::Field;
use super::reader::{BlockRef, RowSegmentReader};

/// The records of a block that have the right times and streams, each with its stream, in stored order.
pub(crate) fn read_block(
    reader: &RowSegmentReader,
    block: &BlockRef,
    range: TimeRange,
    streams: Option<&RoaringBitmap>,
) -> Result<Vec<(u32, LogRecord)>> {
    let file = reader.file();
    let details = reader.details(block, 1)?;
    let chosen = reader.chosen_rows(block, &details, range, streams)?;
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let at = block.head.offset;
    let column = |field| details.column(file, field);
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
        let attributes = sets.read(reader.attribute_keys())?;
        next_set += 1;
        let body = match body_kinds.int(row) {
            0 => AttributeValue::String(text(file, at, bodies.bytes(row))?),
            _ => Cursor::new(file, bodies.bytes(row), at).attribute()?,
        };
        records.push((
            stream,
            LogRecord {
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
        ));
    }
    Ok(records)
}
