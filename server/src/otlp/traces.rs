//! `ExportTraceServiceRequest` into a batch: one walk, no tree, text copied once.
//!
//! Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto`. A span is stored whole or
//! refused and named: ids are what a trace is made of, so a span with a wrong one is refused. Only
//! malformed protobuf refuses the request.

use std::borrow::Cow;
use std::ops::Range;

use chronolith_engine::model::{SpanId, SpanKind, SpanStatus, TraceId};

use super::any_value::{ValueError, push_key_value, text};
use super::resource::{StreamError, count_messages, first_message, stream, write_key};
use crate::ingest::protobuf::{Field, Reader, Value as WireValue, WireError};
use crate::rows::{EventRow, LinkRow, Reason, SpanRow, SpanSink, Value};

/// Fields of the request, a resource and a scope that hold what is below them.
const BELOW: [u32; 3] = [1, 2, 2];
/// Attributes of all events and links of a span, as a multiple of what one row may have.
const NESTED_FACTOR: usize = 16;

/// Puts the spans of a request into `sink`; attributes of resources in `labels` become labels.
///
/// # Errors
/// Malformed protobuf; nothing may be stored then.
pub fn decode(message: &[u8], labels: &[String], sink: &mut SpanSink<'_>) -> Result<(), WireError> {
    let mut key = Vec::new();
    let mut row = SpanRow::default();
    let mut request = Reader::new(message);
    while let Some(field) = request.next_field()? {
        if field.number != BELOW[0] {
            continue;
        }
        let resource_spans = field.bytes()?;
        let resource = first_message(resource_spans, 1)?;
        let mut scopes = Reader::new(resource_spans);
        while let Some(field) = scopes.next_field()? {
            if field.number != BELOW[1] {
                continue;
            }
            let scope_spans = field.bytes()?;
            let scope = first_message(scope_spans, 1)?;
            write_key(&mut key, sink.tenant(), resource, scope);
            let number = sink.stream(&key, || {
                stream(resource, scope, labels).map_err(StreamError::from)
            });
            let number = match number {
                Ok(number) => number,
                Err(error) => {
                    let rows = count_messages(scope_spans, BELOW[2])?;
                    error.refuse(rows, &mut sink.taken)?;
                    continue;
                }
            };
            let mut spans = Reader::new(scope_spans);
            while let Some(field) = spans.next_field()? {
                if field.number != BELOW[2] {
                    continue;
                }
                row.clear();
                let attributes_max = sink.limits().attributes_max;
                let mut repaired = 0;
                match span(field.bytes()?, &mut row, attributes_max, &mut repaired) {
                    Ok(Ids::Good) => sink.push(number, &mut row),
                    Ok(Ids::Parent) => {
                        let words = format!(
                            "span {:?}: the parent's id is not of 8 bytes",
                            row.name.chars().take(80).collect::<String>()
                        );
                        sink.taken.refuse(1, Reason::Ids, words);
                    }
                    Err(ValueError::Bounds(words)) => {
                        let words = format!("span: {words}");
                        sink.taken.refuse(1, Reason::Attributes, words);
                    }
                    Err(ValueError::Wire(error)) => return Err(error),
                }
                sink.taken.repaired_texts += repaired;
            }
        }
    }
    Ok(())
}

/// What there is to say about a span's ids before the sink looks at them.
enum Ids {
    Good,
    /// That of the parent is none.
    Parent,
}

/// Reads one span.
#[inline]
fn span<'a>(
    message: &'a [u8],
    row: &mut SpanRow<'a>,
    attributes_max: usize,
    repaired: &mut u64,
) -> Result<Ids, ValueError> {
    let mut ids = Ids::Good;
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => row.trace_id = id(field)?.map(TraceId),
            2 => row.span_id = id(field)?.map(SpanId),
            3 => row.trace_state = text(field, repaired)?,
            4 => {
                let bytes = field.bytes()?;
                row.parent_span_id = id(field)?.map(SpanId);
                if row.parent_span_id.is_none() && !bytes.iter().all(|b| *b == 0) {
                    ids = Ids::Parent;
                }
            }
            5 => row.name = text(field, repaired)?,
            6 => {
                let kind = u8::try_from(field.varint()?).ok();
                row.kind = kind.and_then(SpanKind::from_u8).unwrap_or_default();
            }
            7 => row.start = time(field)?,
            8 => row.end = time(field)?,
            9 => push_key_value(
                field.bytes()?,
                &mut row.attributes,
                attributes_max,
                repaired,
            )?,
            10 => push_count(row, "otel.dropped_attributes_count", field.varint()?),
            11 => event(field.bytes()?, row, attributes_max, repaired)?,
            12 => push_count(row, "otel.dropped_events_count", field.varint()?),
            13 => link(field.bytes()?, row, attributes_max, repaired)?,
            14 => push_count(row, "otel.dropped_links_count", field.varint()?),
            15 => status(field.bytes()?, row, repaired)?,
            _ => {}
        }
    }
    Ok(ids)
}

/// An id of the right size that is not all zeros.
#[inline]
fn id<const N: usize>(field: Field<'_>) -> Result<Option<[u8; N]>, WireError> {
    let id = <[u8; N]>::try_from(field.bytes()?).ok();
    Ok(id.filter(|id| *id != [0; N]))
}

#[inline]
fn time(field: Field<'_>) -> Result<i64, WireError> {
    match field.value {
        WireValue::Fixed64(ns) => Ok(i64::try_from(ns).unwrap_or(i64::MAX)),
        _ => Err(WireError::FieldType(field.number)),
    }
}

fn push_count(row: &mut SpanRow<'_>, key: &'static str, count: u64) {
    if count > 0 {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        row.attributes.push((Cow::Borrowed(key), Value::Int(count)));
    }
}

/// Appends the attributes in the fields `number` of an event or a link; answers where they are.
fn nested<'a>(
    message: &'a [u8],
    number: u32,
    row: &mut SpanRow<'a>,
    attributes_max: usize,
    repaired: &mut u64,
) -> Result<Range<usize>, ValueError> {
    let start = row.nested.len();
    let nested_max = attributes_max.saturating_mul(NESTED_FACTOR);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        if field.number == number {
            push_key_value(field.bytes()?, &mut row.nested, nested_max, repaired)?;
        }
    }
    if row.nested.len() > nested_max {
        return Err(ValueError::Bounds(format!(
            "more than {nested_max} attributes of events and links"
        )));
    }
    Ok(start..row.nested.len())
}

fn event<'a>(
    message: &'a [u8],
    row: &mut SpanRow<'a>,
    attributes_max: usize,
    repaired: &mut u64,
) -> Result<(), ValueError> {
    if row.events.len() > attributes_max {
        return Ok(());
    }
    let (mut at, mut name) = (0, Cow::Borrowed(""));
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => at = time(field)?,
            2 => name = text(field, repaired)?,
            _ => {}
        }
    }
    let attributes = nested(message, 3, row, attributes_max, repaired)?;
    row.events.push(EventRow {
        time: at,
        name,
        attributes,
    });
    Ok(())
}

fn link<'a>(
    message: &'a [u8],
    row: &mut SpanRow<'a>,
    attributes_max: usize,
    repaired: &mut u64,
) -> Result<(), ValueError> {
    if row.links.len() > attributes_max {
        return Ok(());
    }
    let (mut trace_id, mut span_id) = (None, None);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => trace_id = id(field)?,
            2 => span_id = id(field)?,
            _ => {}
        }
    }
    // A link to nowhere says nothing, but what it carries does.
    let attributes = nested(message, 4, row, attributes_max, repaired)?;
    row.links.push(LinkRow {
        trace_id: TraceId(trace_id.unwrap_or_default()),
        span_id: SpanId(span_id.unwrap_or_default()),
        attributes,
    });
    Ok(())
}

fn status<'a>(
    message: &'a [u8],
    row: &mut SpanRow<'a>,
    repaired: &mut u64,
) -> Result<(), ValueError> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            2 => row.status_message = text(field, repaired)?,
            3 => {
                let code = u8::try_from(field.varint()?).ok();
                row.status = code.and_then(SpanStatus::from_u8).unwrap_or_default();
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
