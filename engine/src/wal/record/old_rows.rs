//! Writes log records and spans as versions before batches did: what the decoder must go on reading.

use super::batches::write_stream;
use super::decode::row_flag;
use super::section;
use super::values::{ATTRIBUTE_DEPTH_MAX, TooDeep, write_attributes, write_value};
use crate::codec::varint::{write_i64, write_u64};
use crate::model::{LogRecord, Span, Stream};
use crate::wal::cursor::write_text;

/// Appends a record's body with rows of one stream.
pub(super) fn write(out: &mut Vec<u8>, stream: &Stream, logs: &[LogRecord], spans: &[Span]) {
    out.push(0);
    write_text(out, "default");
    out.extend_from_slice(&[0; 8]);
    section(out, section::STREAMS, 1, |out| write_stream(out, stream));
    section(out, section::LOGS, logs.len(), |out| {
        let mut time = 0;
        for log in logs {
            write_u64(out, 0);
            write_log(out, log, time)?;
            time = log.time.0;
        }
        Ok(())
    });
    section(out, section::SPANS, spans.len(), |out| {
        let mut time = 0;
        for span in spans {
            write_u64(out, 0);
            write_span(out, span, time)?;
            time = span.time.0;
        }
        Ok(())
    });
}

fn section(
    out: &mut Vec<u8>,
    tag: u8,
    count: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), TooDeep>,
) {
    let mut content = Vec::new();
    assert!(write(&mut content).is_ok());
    out.push(tag);
    write_u64(out, count as u64);
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(&content);
}

fn write_log(out: &mut Vec<u8>, record: &LogRecord, time_before: i64) -> Result<(), TooDeep> {
    let mut flags = 0;
    if record.trace_id.is_some() {
        flags |= row_flag::TRACE_ID;
    }
    if record.span_id.is_some() {
        flags |= row_flag::SPAN_ID;
    }
    out.push(flags);
    write_i64(out, record.time.0.wrapping_sub(time_before));
    write_i64(out, record.observed_time.0.wrapping_sub(record.time.0));
    out.push(record.severity);
    write_text(out, &record.severity_text);
    write_text(out, &record.event_name);
    if let Some(id) = record.trace_id {
        out.extend_from_slice(&id.0);
    }
    if let Some(id) = record.span_id {
        out.extend_from_slice(&id.0);
    }
    write_value(out, &record.body, ATTRIBUTE_DEPTH_MAX)?;
    write_attributes(out, &record.attributes)
}

fn write_span(out: &mut Vec<u8>, span: &Span, time_before: i64) -> Result<(), TooDeep> {
    out.push(if span.parent_span_id.is_some() {
        row_flag::PARENT
    } else {
        0
    });
    out.extend_from_slice(&span.trace_id.0);
    out.extend_from_slice(&span.span_id.0);
    if let Some(id) = span.parent_span_id {
        out.extend_from_slice(&id.0);
    }
    out.push(span.kind as u8);
    out.push(span.status as u8);
    write_i64(out, span.time.0.wrapping_sub(time_before));
    write_i64(out, span.duration_ns);
    write_text(out, &span.name);
    write_text(out, &span.status_message);
    write_attributes(out, &span.attributes)?;
    write_u64(out, span.events.len() as u64);
    for event in &span.events {
        write_i64(out, event.time.0.wrapping_sub(span.time.0));
        write_text(out, &event.name);
        write_attributes(out, &event.attributes)?;
    }
    write_u64(out, span.links.len() as u64);
    for link in &span.links {
        out.extend_from_slice(&link.trace_id.0);
        out.extend_from_slice(&link.span_id.0);
        write_attributes(out, &link.attributes)?;
    }
    Ok(())
}
