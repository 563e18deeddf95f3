//! Which rows of a block belong to a trace, and to which: a few bits per row that has one.
//!
//! Bytes: nothing when no row has a trace; else number of rows with one (varint), a byte that says
//! whether these are the rows that have a span id (1) or a list follows (0, see
//! [`super::typed::put_presence`]), and their numbers in the table of traces as an integer block.

use crate::codec::reader::ByteReader;
use crate::codec::{CodecError, EncodeEffort, integers, varint};

use super::typed::{put_presence, read_presence};

const CODEC: &str = "trace rows";

/// Appends the traces of a block; `rows` is `None` when they are the rows with a span id.
pub(super) fn write(
    rows: Option<&[u32]>,
    numbers: impl ExactSizeIterator<Item = u32>,
    row_count: usize,
    effort: EncodeEffort,
    out: &mut Vec<u8>,
) {
    if numbers.len() == 0 {
        return;
    }
    varint::write_u64(out, numbers.len() as u64);
    out.push(u8::from(rows.is_none()));
    if let Some(rows) = rows {
        put_presence(rows, row_count, effort, out);
    }
    let numbers: Vec<i64> = numbers.map(i64::from).collect();
    integers::encode(&numbers, effort, out);
}

/// Rows with a trace, and the number of each trace; all are below `trace_count`.
pub(super) struct TraceRows {
    pub(super) rows: Vec<u32>,
    pub(super) numbers: Vec<i64>,
}

/// Reads what [`write`] appended; `rows_with_span` is asked for only if needed.
pub(super) fn read<E: From<CodecError>>(
    bytes: &[u8],
    row_count: usize,
    trace_count: u32,
    rows_with_span: impl FnOnce() -> Result<Vec<u32>, E>,
) -> Result<TraceRows, E> {
    let mut found = TraceRows {
        rows: Vec::new(),
        numbers: Vec::new(),
    };
    if bytes.is_empty() {
        return Ok(found);
    }
    let mut reader = ByteReader::new(CODEC, bytes, 0);
    let count = reader.varint_max(row_count, "more traces than rows")?;
    found.rows = match reader.u8()? {
        0 => read_presence(&mut reader, count, row_count)?,
        1 => rows_with_span()?,
        _ => return Err(reader.corrupt("unknown form of rows").into()),
    };
    if found.rows.len() != count {
        return Err(reader.corrupt("another number of rows with a span").into());
    }
    integers::decode(reader.rest(), count, &mut found.numbers)?;
    let is_trace = |number: &i64| (0..i64::from(trace_count)).contains(number);
    if found.numbers.iter().all(is_trace) {
        return Ok(found);
    }
    Err(reader.corrupt("a trace outside of the table").into())
}
