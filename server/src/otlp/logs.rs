//! `ExportLogsServiceRequest` into a batch: one walk, no tree, text copied once.
//!
//! Field numbers are those of `opentelemetry/proto/logs/v1/logs.proto`. Records are refused one by
//! one and named; only malformed protobuf refuses the request. Ids of a wrong size are kept as an
//! attribute as they came and fill their column padded with zeros on the left, so that they join.

use std::borrow::Cow;

use chronolith_engine::model::{SpanId, TimestampNs, TraceId};

use super::any_value::{ValueError, any_value, push_key_value, text};
use super::resource::{StreamError, count_messages, first_message, stream, write_key};
use crate::ingest::protobuf::{Field, Reader, Value as WireValue, WireError};
use crate::rows::ids::{padded, to_hex};
use crate::rows::{LogRow, LogSink, Reason, Value};

/// Fields of the request, a resource and a scope that hold what is below them.
const BELOW: [u32; 3] = [1, 2, 2];

/// Puts the records of a request into `sink`; attributes of resources in `labels` become labels.
///
/// # Errors
/// Malformed protobuf; nothing may be stored then.
pub fn decode(message: &[u8], labels: &[String], sink: &mut LogSink<'_>) -> Result<(), WireError> {
    let mut key = Vec::new();
    let mut row = LogRow::default();
    let mut request = Reader::new(message);
    while let Some(field) = request.next_field()? {
        if field.number != BELOW[0] {
            continue;
        }
        let resource_logs = field.bytes()?;
        let resource = first_message(resource_logs, 1)?;
        let mut scopes = Reader::new(resource_logs);
        while let Some(field) = scopes.next_field()? {
            if field.number != BELOW[1] {
                continue;
            }
            let scope_logs = field.bytes()?;
            let scope = first_message(scope_logs, 1)?;
            write_key(&mut key, sink.tenant(), resource, scope);
            let number = sink.stream(&key, || {
                stream(resource, scope, labels).map_err(StreamError::from)
            });
            let number = match number {
                Ok(number) => number,
                Err(error) => {
                    let rows = count_messages(scope_logs, BELOW[2])?;
                    error.refuse(rows, &mut sink.taken)?;
                    continue;
                }
            };
            let mut records = Reader::new(scope_logs);
            while let Some(field) = records.next_field()? {
                if field.number != BELOW[2] {
                    continue;
                }
                row.clear();
                let attributes_max = sink.limits().attributes_max;
                let mut repaired = 0;
                match record(field.bytes()?, &mut row, attributes_max, &mut repaired) {
                    Ok(()) => sink.push(number, &mut row),
                    Err(ValueError::Bounds(words)) => {
                        let words = format!("log record: {words}");
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

/// Reads one record.
#[inline]
fn record<'a>(
    message: &'a [u8],
    row: &mut LogRow<'a>,
    attributes_max: usize,
    repaired: &mut u64,
) -> Result<(), ValueError> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => row.time = time(field)?,
            2 => row.severity = severity(field.varint()?),
            3 => row.severity_text = text(field, repaired)?,
            5 => row.body = any_value(field.bytes()?, repaired)?,
            6 => push_key_value(
                field.bytes()?,
                &mut row.attributes,
                attributes_max,
                repaired,
            )?,
            7 => push_count(row, "otel.dropped_attributes_count", field.varint()?),
            8 => push_count(row, "flags", fixed32(field)?),
            9 => {
                let id = field.bytes()?;
                let (column, kept) = id_of::<16>(id);
                row.trace_id = column.map(TraceId);
                keep_id(row, "trace_id", kept);
            }
            10 => {
                let id = field.bytes()?;
                let (column, kept) = id_of::<8>(id);
                row.span_id = column.map(SpanId);
                keep_id(row, "span_id", kept);
            }
            11 => row.observed_time = time(field)?,
            12 => row.event_name = text(field, repaired)?,
            _ => {}
        }
    }
    Ok(())
}

/// 0 means "not said". What nanoseconds since 1970 cannot hold until 2262 becomes the latest time,
/// which is refused later on.
#[inline]
fn time(field: Field<'_>) -> Result<Option<TimestampNs>, WireError> {
    let ns = match field.value {
        WireValue::Fixed64(ns) => ns,
        _ => return Err(WireError::FieldType(field.number)),
    };
    let time = TimestampNs(i64::try_from(ns).unwrap_or(i64::MAX));
    Ok((ns != 0).then_some(time))
}

/// Numbers beyond the last that has a meaning mean nothing.
fn severity(number: u64) -> u8 {
    u8::try_from(number).ok().filter(|n| *n <= 24).unwrap_or(0)
}

fn fixed32(field: Field<'_>) -> Result<u64, WireError> {
    match field.value {
        WireValue::Fixed32(bits) => Ok(u64::from(bits)),
        // JSON is rewritten with varints.
        WireValue::Varint(bits) => Ok(bits),
        _ => Err(WireError::FieldType(field.number)),
    }
}

fn push_count(row: &mut LogRow<'_>, key: &'static str, count: u64) {
    if count > 0 {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        row.attributes.push((Cow::Borrowed(key), Value::Int(count)));
    }
}

fn keep_id(row: &mut LogRow<'_>, key: &'static str, kept: Option<String>) {
    if let Some(text) = kept {
        let text = Value::Text(Cow::Owned(text));
        row.attributes.push((Cow::Borrowed(key), text));
    }
}

/// The id for the column, and the text that has to be kept beside it when the id is not of the right
/// size. Some senders write text where the protocol has bytes; [`Kind::Id`] of JSON does so too.
///
/// [`Kind::Id`]: super::json::schema::Kind::Id
pub(super) fn id_of<const N: usize>(bytes: &[u8]) -> (Option<[u8; N]>, Option<String>) {
    if let Ok(id) = <[u8; N]>::try_from(bytes) {
        return ((id != [0; N]).then_some(id), None);
    }
    if bytes.is_empty() {
        return (None, None);
    }
    let is_text = bytes.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if is_text => text.trim_end().to_owned(),
        _ => to_hex(bytes),
    };
    let id = padded::<N>(&text);
    let exact = text.len() == 2 * N && !text.bytes().any(|b| b.is_ascii_uppercase());
    match (id, exact) {
        (Some(id), true) => (Some(id), None),
        (id, _) => (id, Some(text)),
    }
}

#[cfg(test)]
mod tests;
