//! Batches of log records and spans in the log: their columns as they are, ints as differences, text
//! as one run.
//!
//! Rows are many and a request waits for this, so that nothing here is clever. Reading checks what
//! the rest of the engine takes for granted: equal lengths, text that is UTF-8, streams, keys and
//! kinds that exist, attribute sets that can be walked to their end. Every row takes a byte or more,
//! so that a lie about their number cannot make the reader allocate without bounds.

use std::sync::Arc;

use super::decode::{read_stream, rows};
use super::values::{ATTRIBUTE_DEPTH_MAX, TooDeep, read_times, write_attributes, write_times};
use crate::codec::strings::Strings;
use crate::codec::varint::{write_i64, write_u64};
use crate::model::{SpanKind, SpanStatus, Stream};
use crate::rows::{BodyKind, KeyTable, LogBatch, LogColumns, SpanBatch, SpanColumns, skip_value};
use crate::wal::cursor::{Cursor, Malformed, write_bytes, write_text};

/// How a column is written.
mod column {
    /// Zeros, or empty texts.
    pub(super) const NONE: u8 = 0;
    /// One value for all rows.
    pub(super) const SHARED: u8 = 1;
    /// One per row.
    pub(super) const ALL: u8 = 2;
    /// A bit per row that says whether it has one, then those.
    pub(super) const SOME: u8 = 3;
}

/// Writes rows, streams and keys of a batch: what both kinds have.
fn write_tables(
    out: &mut Vec<u8>,
    rows: usize,
    streams: &[Arc<Stream>],
    keys: &KeyTable,
) -> Result<(), TooDeep> {
    write_u64(out, rows as u64);
    write_u64(out, streams.len() as u64);
    for stream in streams {
        write_stream(out, stream)?;
    }
    write_u64(out, keys.len() as u64);
    keys.iter().for_each(|key| write_text(out, key));
    Ok(())
}

pub(super) fn write_stream(out: &mut Vec<u8>, stream: &Stream) -> Result<(), TooDeep> {
    write_bytes(out, stream.labels.as_bytes());
    write_attributes(out, &stream.resource)?;
    write_text(out, &stream.scope.name);
    write_text(out, &stream.scope.version);
    write_attributes(out, &stream.scope.attributes)
}

struct Tables {
    rows: usize,
    streams: Vec<Arc<Stream>>,
    keys: KeyTable,
}

fn read_tables(cursor: &mut Cursor<'_>) -> Result<Tables, Malformed> {
    let row_count = cursor.count(1)?;
    let count = cursor.narrow("count too large")?;
    let streams: Vec<_> = rows(cursor, count, 5, read_stream)?;
    if row_count > 0 && streams.is_empty() {
        return Err(cursor.malformed("rows without streams"));
    }
    let mut keys = KeyTable::default();
    keys.note_nested(true);
    for number in 0..cursor.count(1)? {
        if keys.number(cursor.text()?) as usize != number {
            return Err(cursor.malformed("attribute key that is there already"));
        }
    }
    Ok(Tables {
        rows: row_count,
        streams,
        keys,
    })
}

fn write_numbers(out: &mut Vec<u8>, numbers: &[u32]) {
    if numbers.iter().all(|number| *number == 0) {
        return out.push(column::NONE);
    }
    out.push(column::ALL);
    numbers
        .iter()
        .for_each(|number| write_u64(out, u64::from(*number)));
}

fn read_numbers(cursor: &mut Cursor<'_>, count: usize, end: usize) -> Result<Vec<u32>, Malformed> {
    match cursor.u8()? {
        column::NONE => Ok(vec![0; count]),
        column::ALL => rows(cursor, count, 1, |cursor| {
            let number: u32 = cursor.narrow("stream index out of range")?;
            if number as usize >= end {
                return Err(cursor.malformed("row names a stream that is not there"));
            }
            Ok(number)
        }),
        _ => Err(cursor.malformed("unknown kind of column")),
    }
}

fn write_small(out: &mut Vec<u8>, values: &[u8]) {
    match values.first() {
        Some(first) if values.iter().all(|value| value == first) => {
            out.extend_from_slice(&[column::SHARED, *first]);
        }
        _ => {
            out.push(column::ALL);
            out.extend_from_slice(values);
        }
    }
}

fn read_small(
    cursor: &mut Cursor<'_>,
    count: usize,
    is_known: impl Fn(u8) -> bool,
) -> Result<Vec<u8>, Malformed> {
    let values = match cursor.u8()? {
        column::SHARED => vec![cursor.u8()?; count],
        column::ALL => cursor.take(count)?.to_vec(),
        _ => return Err(cursor.malformed("unknown kind of column")),
    };
    if values.iter().all(|value| is_known(*value)) {
        Ok(values)
    } else {
        Err(cursor.malformed("number outside of its enumeration"))
    }
}

fn write_ints(out: &mut Vec<u8>, values: impl Iterator<Item = i64> + Clone) {
    let mut all = values.clone();
    match all.next() {
        Some(first) if all.all(|value| value == first) => {
            out.push(column::SHARED);
            write_i64(out, first);
        }
        _ => {
            out.push(column::ALL);
            values.for_each(|value| write_i64(out, value));
        }
    }
}

fn read_ints(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    match cursor.u8()? {
        column::SHARED => Ok(vec![cursor.zigzag()?; count]),
        column::ALL => rows(cursor, count, 1, |cursor| cursor.zigzag()),
        _ => Err(cursor.malformed("unknown kind of column")),
    }
}

fn write_ids<const N: usize>(out: &mut Vec<u8>, ids: &[[u8; N]]) {
    let there = ids.iter().filter(|id| **id != [0; N]).count();
    if there == 0 {
        out.push(column::NONE);
    } else if there == ids.len() {
        out.push(column::ALL);
        out.extend_from_slice(ids.as_flattened());
    } else {
        out.push(column::SOME);
        for eight in ids.chunks(8) {
            let bits = eight.iter().enumerate().filter(|(_, id)| **id != [0; N]);
            out.push(bits.fold(0, |byte, (bit, _)| byte | 1 << bit));
        }
        let with_id = ids.iter().filter(|id| **id != [0; N]);
        with_id.for_each(|id| out.extend_from_slice(id));
    }
}

fn read_ids<const N: usize>(
    cursor: &mut Cursor<'_>,
    count: usize,
) -> Result<Vec<[u8; N]>, Malformed> {
    match cursor.u8()? {
        column::NONE => Ok(vec![[0; N]; count]),
        column::ALL => {
            let size = count.saturating_mul(N);
            Ok(cursor.take(size)?.as_chunks::<N>().0.to_vec())
        }
        column::SOME => {
            let bits = cursor.take(count.div_ceil(8))?;
            let mut ids = Vec::with_capacity(count);
            for row in 0..count {
                let has = bits
                    .get(row / 8)
                    .is_some_and(|byte| byte & (1 << (row % 8)) != 0);
                ids.push(if has { cursor.array()? } else { [0; N] });
            }
            Ok(ids)
        }
        _ => Err(cursor.malformed("unknown kind of column")),
    }
}

fn write_strings(out: &mut Vec<u8>, strings: &Strings) {
    if strings.byte_len() == 0 {
        return out.push(column::NONE);
    }
    write_run(out, strings);
}

/// The same with a byte or more per row in any case.
fn write_run(out: &mut Vec<u8>, strings: &Strings) {
    out.push(column::ALL);
    let (offsets, bytes) = strings.parts();
    out.reserve(bytes.len() + 2 * offsets.len());
    for pair in offsets.windows(2) {
        write_u64(out, pair[1].abs_diff(pair[0]).into());
    }
    out.extend_from_slice(bytes);
}

fn read_strings(cursor: &mut Cursor<'_>, count: usize) -> Result<Strings, Malformed> {
    match cursor.u8()? {
        column::NONE => {
            let mut strings = Strings::default();
            strings.reserve(count, 0);
            (0..count).for_each(|_| strings.push(&[]));
            Ok(strings)
        }
        column::ALL => {
            let mut offsets = Vec::with_capacity(count.min(cursor.remaining()) + 1);
            let mut end = 0_i32;
            offsets.push(end);
            for _ in 0..count {
                let length: i32 = cursor.narrow("text too long")?;
                let next = end.checked_add(length);
                end = next.ok_or_else(|| cursor.malformed("text too long"))?;
                offsets.push(end);
            }
            let bytes = cursor.take(end as usize)?.to_vec();
            let strings = Strings::from_parts(offsets, bytes);
            strings.ok_or_else(|| cursor.malformed("texts that do not fit together"))
        }
        _ => Err(cursor.malformed("unknown kind of column")),
    }
}

fn read_texts(cursor: &mut Cursor<'_>, count: usize) -> Result<Strings, Malformed> {
    let strings = read_strings(cursor, count)?;
    if is_text(&strings, |_| true) {
        Ok(strings)
    } else {
        Err(cursor.malformed("text is not UTF-8"))
    }
}

/// Whether all strings that are meant to be text are.
fn is_text(strings: &Strings, is_meant: impl Fn(usize) -> bool) -> bool {
    let (offsets, bytes) = strings.parts();
    // Nearly always all of it is ASCII or at least text; borders are looked at only then.
    if let Ok(whole) = std::str::from_utf8(bytes) {
        return whole.is_ascii()
            || offsets
                .iter()
                .all(|at| whole.is_char_boundary(*at as usize));
    }
    let all = strings.iter().enumerate();
    let mut meant = all.filter(|(row, _)| is_meant(*row));
    meant.all(|(_, text)| std::str::from_utf8(text).is_ok())
}

/// Whether a value reaches exactly to the end and nests no deeper than it may.
fn is_value(bytes: &[u8]) -> bool {
    let mut at = 0;
    skip_value(bytes, &mut at, ATTRIBUTE_DEPTH_MAX).is_some() && at == bytes.len()
}

/// Whether an attribute set can be walked to its end.
fn is_set(bytes: &[u8], keys: usize) -> bool {
    use crate::codec::varint::read_u64;
    let mut at = 0;
    while at < bytes.len() {
        let is_key = read_u64(bytes, &mut at).is_some_and(|key| key < keys as u64);
        if !is_key || skip_value(bytes, &mut at, ATTRIBUTE_DEPTH_MAX).is_none() {
            return false;
        }
    }
    true
}

fn run<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = usize::try_from(crate::codec::varint::read_u64(bytes, at)?).ok()?;
    let taken = bytes.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some(taken)
}

/// Whether the events of a span can be walked to their end.
fn are_events(bytes: &[u8], keys: usize) -> bool {
    let mut at = 0;
    let mut event = || {
        crate::codec::varint::read_u64(bytes, &mut at)?;
        std::str::from_utf8(run(bytes, &mut at)?).ok()?;
        is_set(run(bytes, &mut at)?, keys).then_some(at)
    };
    let mut end = 0;
    while end < bytes.len() {
        match event() {
            Some(at) => end = at,
            None => return false,
        }
    }
    true
}

/// Whether the links of a span can be walked to their end.
fn are_links(bytes: &[u8], keys: usize) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        at += 24;
        if !run(bytes, &mut at).is_some_and(|set| is_set(set, keys)) {
            return false;
        }
    }
    true
}

/// Why a batch cannot be written.
pub(super) enum Refused {
    Deep,
    /// A row was begun and not ended.
    Torn,
}

impl From<TooDeep> for Refused {
    fn from(TooDeep: TooDeep) -> Self {
        Self::Deep
    }
}

pub(super) fn write_logs(out: &mut Vec<u8>, batch: &LogBatch) -> Result<(), Refused> {
    let columns = batch.columns();
    let rows = batch.len();
    let is_whole = [
        columns.severity_text.len(),
        columns.body.len(),
        columns.event_name.len(),
        columns.attributes.len(),
    ];
    if is_whole.iter().any(|len| *len != rows) {
        return Err(Refused::Torn);
    }
    let keys = batch.keys();
    if keys.has_nested() && !columns.attributes.iter().all(|set| is_set(set, keys.len())) {
        return Err(Refused::Deep);
    }
    let values = columns.body.iter().zip(&columns.body_kind);
    let mut values = values.filter(|(_, kind)| **kind == BodyKind::Value as u8);
    if !values.all(|(value, _)| is_value(value)) {
        return Err(Refused::Deep);
    }
    write_tables(out, rows, batch.streams(), keys)?;
    write_numbers(out, &columns.stream);
    write_times(out, &columns.time);
    let observed = columns.observed_time.iter().zip(&columns.time);
    write_ints(
        out,
        observed.map(|(observed, time)| observed.wrapping_sub(*time)),
    );
    write_small(out, &columns.severity);
    write_strings(out, &columns.severity_text);
    write_small(out, &columns.body_kind);
    write_run(out, &columns.body);
    write_ids(out, &columns.trace_id);
    write_ids(out, &columns.span_id);
    write_strings(out, &columns.event_name);
    write_strings(out, &columns.attributes);
    Ok(())
}

pub(super) fn read_logs(cursor: &mut Cursor<'_>) -> Result<LogBatch, Malformed> {
    let Tables {
        rows,
        streams,
        keys,
    } = read_tables(cursor)?;
    let stream = read_numbers(cursor, rows, streams.len())?;
    let time = read_times(cursor, rows)?;
    if time.len() != rows {
        return Err(cursor.malformed("rows without times"));
    }
    let mut observed_time = read_ints(cursor, rows)?;
    for (observed, time) in observed_time.iter_mut().zip(&time) {
        *observed = observed.wrapping_add(*time);
    }
    let severity = read_small(cursor, rows, |_| true)?;
    let severity_text = read_texts(cursor, rows)?;
    let body_kind = read_small(cursor, rows, |kind| kind <= BodyKind::Value as u8)?;
    let body = read_strings(cursor, rows)?;
    let is_text_body = |row: usize| body_kind.get(row) == Some(&(BodyKind::Text as u8));
    let mut values = (0..rows).filter(|row| !is_text_body(*row));
    if !values.all(|row| body.get(row).is_some_and(is_value)) {
        return Err(cursor.malformed("malformed body"));
    }
    // With values among them, bytes that are text as a whole do not make each a text.
    let texts = (0..rows).filter(|row| is_text_body(*row));
    let is_good = if texts.clone().count() == rows {
        is_text(&body, |_| true)
    } else {
        let mut texts = texts.filter_map(|row| body.get(row));
        texts.all(|text| std::str::from_utf8(text).is_ok())
    };
    if !is_good {
        return Err(cursor.malformed("text is not UTF-8"));
    }
    let columns = LogColumns {
        stream,
        time,
        observed_time,
        severity,
        severity_text,
        body_kind,
        body,
        trace_id: read_ids(cursor, rows)?,
        span_id: read_ids(cursor, rows)?,
        event_name: read_texts(cursor, rows)?,
        attributes: read_strings(cursor, rows)?,
    };
    if !columns.attributes.iter().all(|set| is_set(set, keys.len())) {
        return Err(cursor.malformed("malformed attribute set"));
    }
    Ok(LogBatch {
        streams,
        keys,
        columns,
    })
}

pub(super) fn write_spans(out: &mut Vec<u8>, batch: &SpanBatch) -> Result<(), Refused> {
    let columns = batch.columns();
    let keys = batch.keys();
    if keys.has_nested() {
        let count = keys.len();
        let deep = !columns.attributes.iter().all(|set| is_set(set, count))
            || !columns
                .events
                .iter()
                .all(|events| are_events(events, count))
            || !columns.links.iter().all(|links| are_links(links, count));
        if deep {
            return Err(Refused::Deep);
        }
    }
    write_tables(out, batch.len(), batch.streams(), keys)?;
    write_numbers(out, &columns.stream);
    out.extend_from_slice(columns.trace_id.as_flattened());
    out.extend_from_slice(columns.span_id.as_flattened());
    write_ids(out, &columns.parent_span_id);
    write_strings(out, &columns.trace_state);
    write_strings(out, &columns.name);
    write_small(out, &columns.kind);
    write_times(out, &columns.time);
    write_ints(out, columns.duration.iter().copied());
    write_small(out, &columns.status);
    write_strings(out, &columns.status_message);
    write_strings(out, &columns.attributes);
    write_strings(out, &columns.events);
    write_strings(out, &columns.links);
    Ok(())
}

pub(super) fn read_spans(cursor: &mut Cursor<'_>) -> Result<SpanBatch, Malformed> {
    let Tables {
        rows,
        streams,
        keys,
    } = read_tables(cursor)?;
    let stream = read_numbers(cursor, rows, streams.len())?;
    let trace_id = cursor
        .take(rows.saturating_mul(16))?
        .as_chunks::<16>()
        .0
        .to_vec();
    let span_id = cursor
        .take(rows.saturating_mul(8))?
        .as_chunks::<8>()
        .0
        .to_vec();
    let parent_span_id = read_ids(cursor, rows)?;
    let trace_state = read_texts(cursor, rows)?;
    let name = read_texts(cursor, rows)?;
    let kind = read_small(cursor, rows, |kind| SpanKind::from_u8(kind).is_some())?;
    let time = read_times(cursor, rows)?;
    if time.len() != rows {
        return Err(cursor.malformed("rows without times"));
    }
    let columns = SpanColumns {
        stream,
        trace_id,
        span_id,
        parent_span_id,
        trace_state,
        name,
        kind,
        time,
        duration: read_ints(cursor, rows)?,
        status: read_small(cursor, rows, |status| SpanStatus::from_u8(status).is_some())?,
        status_message: read_texts(cursor, rows)?,
        attributes: read_strings(cursor, rows)?,
        events: read_strings(cursor, rows)?,
        links: read_strings(cursor, rows)?,
    };
    let count = keys.len();
    if !columns.attributes.iter().all(|set| is_set(set, count))
        || !columns
            .events
            .iter()
            .all(|events| are_events(events, count))
        || !columns.links.iter().all(|links| are_links(links, count))
    {
        return Err(cursor.malformed("malformed attribute set"));
    }
    Ok(SpanBatch {
        streams,
        keys,
        columns,
    })
}
