//! From blocks and batches into a batch: what merges and the head do to put rows of several sources
//! into one.

use hashbrown::HashMap;

use super::attributes::{AttributeWriter, KeyTable};
use super::block::{AttributeColumn, IdColumn, IntColumn, LogBlock, SpanBlock, TextColumn};
use super::log_batch::LogBatch;
use super::span_batch::{SpanBatch, SpanColumns};
use super::transpose::AttributeRows;
use super::value::ValueRef;
use crate::codec::strings::Strings;
use crate::codec::varint;
use crate::error::Result;

/// Adds the text of all rows of a block.
fn push_texts(out: &mut Strings, column: &TextColumn, rows: usize) {
    if let TextColumn::Plain(texts) = column {
        out.reserve(rows, texts.byte_len());
    }
    (0..rows).for_each(|row| out.push(column.get(row)));
}

fn push_ids<const N: usize>(out: &mut Vec<[u8; N]>, column: &IdColumn<N>, rows: usize) {
    match column {
        IdColumn::None => out.resize(out.len() + rows, [0; N]),
        IdColumn::Values(ids) => out.extend_from_slice(ids),
    }
}

/// Attribute columns of a block as sets of a batch.
struct Sets<'a> {
    rows: AttributeRows<'a>,
}

impl<'a> Sets<'a> {
    fn new(columns: &'a [AttributeColumn], rows: usize) -> Self {
        Self {
            rows: AttributeRows::new(columns, rows),
        }
    }

    fn write(&self, row: usize, keys: &mut KeyTable, out: &mut Vec<u8>) {
        let mut writer = AttributeWriter::new(keys, out);
        for (key, value) in self.rows.of(row) {
            writer.value_ref(key, value);
        }
    }
}

/// What `add` answers for each number of a column, called at its first use.
fn streams_of(
    rows: usize,
    numbers: &IntColumn,
    mut add: impl FnMut(u32) -> Result<u32>,
) -> Result<HashMap<u32, u32>> {
    let mut places = HashMap::new();
    let mut last = None;
    for row in 0..rows {
        let number = numbers.get(row) as u32;
        if last != Some(number) && !places.contains_key(&number) {
            places.insert(number, add(number)?);
        }
        last = Some(number);
    }
    Ok(places)
}

impl LogBatch {
    /// The rows of a block that was read with all columns and attributes, with the streams that they have,
    /// in order of first use.
    ///
    /// # Errors
    /// Damage where streams are read.
    pub(crate) fn of_block(block: &LogBlock) -> Result<Self> {
        let mut batch = Self::new();
        let places = streams_of(block.rows, &block.stream, |number| {
            Ok(batch.stream(block.streams.get(number)?))
        })?;
        batch.push_block(block, |number| places.get(&number).copied().unwrap_or(0));
        Ok(batch)
    }

    /// Adds the rows of a block that was read with all columns and attributes. `number` says which of
    /// the batch's streams a stream of the block is.
    ///
    /// # Panics
    /// When that is no stream of the batch.
    pub fn push_block(&mut self, block: &LogBlock, mut number: impl FnMut(u32) -> u32) {
        let rows = block.rows;
        let known = self.streams.len() as u32;
        let Self { keys, columns, .. } = self;
        for row in 0..rows {
            let stream = number(block.stream.get(row) as u32);
            assert!(stream < known, "bug: stream {stream} of {known}");
            columns.stream.push(stream);
        }
        columns.time.extend_from_slice(&block.time);
        columns
            .observed_time
            .extend((0..rows).map(|row| block.observed_time.get(row)));
        columns
            .severity
            .extend((0..rows).map(|row| block.severity.get(row) as u8));
        push_texts(&mut columns.severity_text, &block.severity_text, rows);
        columns
            .body_kind
            .extend((0..rows).map(|row| block.body_kind.get(row) as u8));
        push_texts(&mut columns.body, &block.body, rows);
        push_ids(&mut columns.trace_id, &block.trace_id, rows);
        push_ids(&mut columns.span_id, &block.span_id, rows);
        push_texts(&mut columns.event_name, &block.event_name, rows);
        let sets = Sets::new(&block.attributes, rows);
        for row in 0..rows {
            columns
                .attributes
                .push_with(|out| sets.write(row, keys, out));
        }
    }

    /// Adds the rows of another batch; `numbers` says which of the streams here each of its streams is.
    ///
    /// # Panics
    /// When that is no stream of this batch.
    pub fn push_batch(&mut self, other: &Self, numbers: &[u32]) {
        let known = self.streams.len() as u32;
        let Self { keys, columns, .. } = self;
        let more = &other.columns;
        push_streams(&mut columns.stream, &more.stream, numbers, known);
        columns.time.extend_from_slice(&more.time);
        columns.observed_time.extend_from_slice(&more.observed_time);
        columns.severity.extend_from_slice(&more.severity);
        push_strings(&mut columns.severity_text, &more.severity_text);
        columns.body_kind.extend_from_slice(&more.body_kind);
        push_strings(&mut columns.body, &more.body);
        columns.trace_id.extend_from_slice(&more.trace_id);
        columns.span_id.extend_from_slice(&more.span_id);
        push_strings(&mut columns.event_name, &more.event_name);
        let renumbered = Renumbered::new(&other.keys, keys);
        for set in more.attributes.iter() {
            columns
                .attributes
                .push_with(|out| renumbered.write_set(set, out));
        }
    }
}

impl SpanBatch {
    /// The rows of a block that was read with all columns and attributes, with the streams that they have,
    /// in order of first use.
    ///
    /// # Errors
    /// Damage where streams are read.
    pub(crate) fn of_block(block: &SpanBlock) -> Result<Self> {
        let mut batch = Self::new();
        let places = streams_of(block.rows, &block.stream, |number| {
            Ok(batch.stream(block.streams.get(number)?))
        })?;
        batch.push_block(block, |number| places.get(&number).copied().unwrap_or(0));
        Ok(batch)
    }

    /// Adds the rows of a block that was read with all columns and attributes. `number` says which of
    /// the batch's streams a stream of the block is.
    ///
    /// # Panics
    /// When that is no stream of the batch.
    pub fn push_block(&mut self, block: &SpanBlock, mut number: impl FnMut(u32) -> u32) {
        let rows = block.rows;
        let known = self.streams.len() as u32;
        let Self { keys, columns, .. } = self;
        for row in 0..rows {
            let stream = number(block.stream.get(row) as u32);
            assert!(stream < known, "bug: stream {stream} of {known}");
            columns.stream.push(stream);
        }
        push_ids(&mut columns.trace_id, &block.trace_id, rows);
        push_ids(&mut columns.span_id, &block.span_id, rows);
        push_ids(&mut columns.parent_span_id, &block.parent_span_id, rows);
        push_texts(&mut columns.trace_state, &block.trace_state, rows);
        push_texts(&mut columns.name, &block.name, rows);
        columns
            .kind
            .extend((0..rows).map(|row| block.kind.get(row) as u8));
        columns.time.extend_from_slice(&block.time);
        columns
            .duration
            .extend((0..rows).map(|row| block.duration.get(row)));
        columns
            .status
            .extend((0..rows).map(|row| block.status.get(row) as u8));
        push_texts(&mut columns.status_message, &block.status_message, rows);
        let sets = Sets::new(&block.attributes, rows);
        for row in 0..rows {
            columns
                .attributes
                .push_with(|out| sets.write(row, keys, out));
        }
        push_events(columns, keys, block);
        push_links(columns, keys, block);
    }

    /// Adds the rows of another batch; `numbers` says which of the streams here each of its streams is.
    ///
    /// # Panics
    /// When that is no stream of this batch.
    pub fn push_batch(&mut self, other: &Self, numbers: &[u32]) {
        let known = self.streams.len() as u32;
        let Self { keys, columns, .. } = self;
        let more = &other.columns;
        push_streams(&mut columns.stream, &more.stream, numbers, known);
        columns.trace_id.extend_from_slice(&more.trace_id);
        columns.span_id.extend_from_slice(&more.span_id);
        columns
            .parent_span_id
            .extend_from_slice(&more.parent_span_id);
        push_strings(&mut columns.trace_state, &more.trace_state);
        push_strings(&mut columns.name, &more.name);
        columns.kind.extend_from_slice(&more.kind);
        columns.time.extend_from_slice(&more.time);
        columns.duration.extend_from_slice(&more.duration);
        columns.status.extend_from_slice(&more.status);
        push_strings(&mut columns.status_message, &more.status_message);
        let renumbered = Renumbered::new(&other.keys, keys);
        let mut set = Vec::new();
        for row in 0..other.len() {
            let attributes = more.attributes.get(row).unwrap_or(&[]);
            columns
                .attributes
                .push_with(|out| renumbered.write_set(attributes, out));
            columns.events.push_with(|out| {
                for (after, name, attributes) in other.events(row) {
                    set.clear();
                    renumbered.write_set(attributes.as_bytes(), &mut set);
                    varint::write_i64(out, after);
                    put_run(out, name.as_bytes());
                    put_run(out, &set);
                }
            });
            columns.links.push_with(|out| {
                for (trace, span, attributes) in other.links(row) {
                    set.clear();
                    renumbered.write_set(attributes.as_bytes(), &mut set);
                    out.extend_from_slice(&trace.0);
                    out.extend_from_slice(&span.0);
                    put_run(out, &set);
                }
            });
        }
    }
}

fn put_run(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::write_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn push_events(columns: &mut SpanColumns, keys: &mut KeyTable, block: &SpanBlock) {
    let events = &block.events;
    let sets = Sets::new(&events.attributes, events.after_start.len());
    let mut set = Vec::new();
    for row in 0..block.rows {
        columns.events.push_with(|out| {
            for item in events.of(row) {
                set.clear();
                sets.write(item, keys, &mut set);
                varint::write_i64(out, events.after_start.get(item).copied().unwrap_or(0));
                put_run(out, events.name.get(item));
                put_run(out, &set);
            }
        });
    }
}

fn push_links(columns: &mut SpanColumns, keys: &mut KeyTable, block: &SpanBlock) {
    let links = &block.links;
    let sets = Sets::new(&links.attributes, links.ids.len());
    let mut set = Vec::new();
    for row in 0..block.rows {
        columns.links.push_with(|out| {
            for item in links.of(row) {
                let (trace, span) = links.ids.get(item).copied().unwrap_or_default();
                set.clear();
                sets.write(item, keys, &mut set);
                out.extend_from_slice(&trace);
                out.extend_from_slice(&span);
                put_run(out, &set);
            }
        });
    }
}

fn push_streams(out: &mut Vec<u32>, streams: &[u32], numbers: &[u32], known: u32) {
    let number = |stream: u32| numbers.get(stream as usize).copied().unwrap_or(u32::MAX);
    out.reserve(streams.len());
    for stream in streams {
        let number = number(*stream);
        assert!(number < known, "bug: stream {number} of {known}");
        out.push(number);
    }
}

fn push_strings(out: &mut Strings, more: &Strings) {
    out.reserve(more.len(), more.byte_len());
    more.iter().for_each(|text| out.push(text));
}

/// Key numbers of one batch in another.
struct Renumbered {
    numbers: Vec<u32>,
    /// No number changes: sets can be copied as they are.
    is_same: bool,
}

impl Renumbered {
    fn new(from: &KeyTable, to: &mut KeyTable) -> Self {
        let numbers: Vec<u32> = from.iter().map(|key| to.number(key)).collect();
        to.note_nested(from.has_nested());
        let is_same = numbers.iter().enumerate().all(|(a, b)| a == *b as usize);
        Self { numbers, is_same }
    }

    fn write_set(&self, set: &[u8], out: &mut Vec<u8>) {
        if self.is_same {
            return out.extend_from_slice(set);
        }
        let mut at = 0;
        while let Some(key) = varint::read_u64(set, &mut at) {
            let start = at;
            if ValueRef::read(set, &mut at).is_none() {
                break;
            }
            let number = self.numbers.get(key as usize).copied().unwrap_or(0);
            varint::write_u64(out, u64::from(number));
            out.extend_from_slice(&set[start..at]);
        }
    }
}
