//! Makes a span segment: spans trace by trace, blocks of columns, the table of traces.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::block_builder::BlockBuilder;
use super::directory::DirectoryBuilder;
use super::reader::{SpanBlockRef, SpanReader};
use super::stream_table::StreamNumbers;
use crate::codec::EncodeEffort;
use crate::error::{EngineError, Result};
use crate::model::{Signal, Stream, TimestampNs};
use crate::rows::SpanBatch;
use crate::segment::container::{ContainerWriter, FileIdentity, SegmentSink};
use crate::segment::format::{COLUMN_VALUES_MAX, SPAN_BLOCK_ROWS_TARGET, SectionKind};
use crate::segment::meta::{GrowingRange, SegmentMeta, SegmentOrigin};
use crate::segment::packed::PackedArrayBuilder;
use crate::segment::wire::{put_str, put_u64};

/// How a span segment is built.
#[derive(Clone, Copy, Debug)]
pub struct SpanBuildOptions {
    /// How hard the codecs try.
    pub effort: EncodeEffort,
    /// Spans from which on a block is closed at the end of a trace; at twice as many it is closed inside
    /// of one.
    pub block_rows: usize,
    /// The same for the bytes of text and attributes.
    pub block_bytes: usize,
}

impl Default for SpanBuildOptions {
    fn default() -> Self {
        Self {
            effort: EncodeEffort::Flush,
            block_rows: SPAN_BLOCK_ROWS_TARGET,
            block_bytes: 8 << 20,
        }
    }
}

/// A number that is not given yet.
const UNNUMBERED: u32 = u32::MAX;

/// Numbers in the segment of what a batch numbers for itself.
struct BatchNumbers {
    /// Held so that the address stays its own.
    batch: Arc<SpanBatch>,
    /// Given when a span has the stream.
    streams: Vec<u32>,
    keys: Vec<u32>,
}

/// Attribute keys of the segment, in the order of first use.
#[derive(Debug, Default)]
pub(super) struct SegmentKeys {
    numbers: HashMap<Box<str>, u32>,
    names: Vec<Box<str>>,
}

impl SegmentKeys {
    fn number(&mut self, key: &str) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(key.into());
        self.numbers.insert(key.into(), number);
        number
    }

    pub(super) fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", AsRef::as_ref)
    }
}

/// Makes a span segment. Spans come in order of their trace's first start among the spans of the
/// segment, its id, their own start, and arrival.
pub struct SpanBuilder<S> {
    writer: ContainerWriter<S>,
    origin: SegmentOrigin,
    options: SpanBuildOptions,
    streams: StreamNumbers,
    keys: SegmentKeys,
    batches: HashMap<usize, BatchNumbers>,
    block: BlockBuilder,
    directory: DirectoryBuilder,
    filters: Vec<u8>,
    /// By order of rows.
    traces: Vec<[u8; 16]>,
    /// First start and id of the open trace, and the start of its last span.
    open: Option<(i64, [u8; 16], i64)>,
    range: GrowingRange,
    row_count: u64,
}

impl<S: SegmentSink> SpanBuilder<S> {
    /// Starts a segment that is written to `sink`.
    ///
    /// # Errors
    /// What the sink says.
    pub fn new(sink: S, origin: SegmentOrigin, options: SpanBuildOptions) -> Result<Self> {
        let mut writer = ContainerWriter::new(sink, Signal::Spans)?;
        writer.begin(SectionKind::Data);
        Ok(Self {
            writer,
            origin,
            options,
            streams: StreamNumbers::default(),
            keys: SegmentKeys::default(),
            batches: HashMap::new(),
            block: BlockBuilder::default(),
            directory: DirectoryBuilder::default(),
            filters: Vec::new(),
            traces: Vec::new(),
            open: None,
            range: GrowingRange::default(),
            row_count: 0,
        })
    }

    /// Adds a span of a batch.
    ///
    /// # Errors
    /// What the sink says; [`EngineError::LimitExceeded`] for a span with a million events or links, or
    /// for more than 2^32 - 1 streams or traces.
    ///
    /// # Panics
    /// When spans do not come in order, or the batch has no such row.
    pub fn push(&mut self, batch: &Arc<SpanBatch>, row: usize) -> Result<()> {
        let columns = batch.columns();
        let (id, time) = (columns.trace_id[row], columns.time[row]);
        let items = batch.events(row).count().max(batch.links(row).count());
        if items >= COLUMN_VALUES_MAX {
            return Err(EngineError::LimitExceeded(format!(
                "a span with {items} events or links, fewer than {COLUMN_VALUES_MAX} are stored"
            )));
        }
        self.make_room(id, time, items)?;
        let numbers = numbers_of(&mut self.batches, &mut self.keys, batch);
        self.range.include(time, time);
        let its = columns.stream[row] as usize;
        if numbers.streams[its] == UNNUMBERED {
            numbers.streams[its] = self.streams.number(&batch.streams()[its])?;
        }
        self.block
            .push(batch, row, numbers.streams[its], &numbers.keys);
        Ok(())
    }

    /// Numbers streams and attribute keys ahead of the spans that have them: segments with the same
    /// numbers can take over each other's blocks, see [`SpanBuilder::push_block`].
    ///
    /// # Errors
    /// [`EngineError::LimitExceeded`] for more than 2^32 - 1 streams.
    pub fn number<'a>(
        &mut self,
        streams: impl IntoIterator<Item = &'a Arc<Stream>>,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        for stream in streams {
            self.streams.number(stream)?;
        }
        for key in keys {
            self.keys.number(key);
        }
        Ok(())
    }

    /// Whether streams and attribute keys have the same numbers here as in an open segment.
    ///
    /// # Errors
    /// Damage.
    pub fn has_numbers_of(&self, reader: &SpanReader) -> Result<bool> {
        let mut keys = reader.attribute_keys().iter().zip(&self.keys.names);
        if reader.attribute_keys().len() > self.keys.names.len()
            || keys.any(|(theirs, ours)| **theirs != **ours)
        {
            return Ok(false);
        }
        for number in 0..reader.stream_count() {
            let stream = reader.stream(number)?;
            if self.streams.peek(&stream) != Some(number) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes over a whole block of a segment whose streams and keys have the same numbers
    /// ([`SpanBuilder::has_numbers_of`]), bytes as they are. The block is in order with the spans that
    /// were pushed, and no trace of it has other spans. `false` when it would cut the open block off too
    /// early, is small itself, or is of an earlier version.
    ///
    /// # Errors
    /// Damage, and what the sink says.
    ///
    /// # Panics
    /// When the first trace does not come after the one before.
    pub fn push_block(&mut self, reader: &SpanReader, block: &SpanBlockRef) -> Result<bool> {
        let is_early = self.block.rows() > 0 && 2 * self.block.rows() < self.options.block_rows;
        if is_early || 2 * block.row_count() < self.options.block_rows {
            return Ok(false);
        }
        let Some(stored) = reader.stored_block(block)? else {
            return Ok(false);
        };
        let (ids, _) = stored.traces.as_chunks::<16>();
        let (Some(first_id), Some(last_id)) = (ids.first(), ids.last()) else {
            return Ok(false);
        };
        if self.traces.len() + ids.len() > u32::MAX as usize {
            return Err(too_many_traces());
        }
        self.close_block()?;
        let (first, last) = stored.first_times;
        let follows = |before: (i64, [u8; 16], i64)| (before.0, before.1) < (first, *first_id);
        assert!(
            self.open.is_none_or(follows),
            "bug: a block of spans from {first} does not come after the trace before"
        );
        let mut head = stored.head;
        self.open = Some((last, *last_id, head.range.end.0));
        head.offset = self.writer.section_length();
        head.first_trace = self.traces.len() as u32;
        head.filter_offset = self.filters.len() as u64;
        self.traces.extend_from_slice(ids);
        self.filters.extend_from_slice(stored.filter);
        self.row_count += u64::from(head.rows);
        self.range.include(head.range.start.0, head.range.end.0);
        self.directory.push(&head, &stored.streams, &stored.zones);
        self.writer.append(stored.bytes)?;
        Ok(true)
    }

    /// Closes the block where the next span does not fit, and opens the next trace.
    fn make_room(&mut self, id: [u8; 16], time: i64, items: usize) -> Result<()> {
        let block = &self.block;
        let times_full = |times: usize| {
            block.rows() >= times * self.options.block_rows
                || block.bytes() >= times * self.options.block_bytes
        };
        let crowded = block.items() + items >= COLUMN_VALUES_MAX;
        match self.open {
            Some((first, open, last)) if open == id => {
                assert!(last <= time, "bug: span at {time} after one at {last}");
                if times_full(2) || crowded {
                    self.close_block()?;
                    self.block.begin_trace();
                }
                self.open = Some((first, open, time));
            }
            open => {
                assert!(
                    open.is_none_or(|(first, before, _)| (first, before) < (time, id)),
                    "bug: a trace at {time} does not come after the one before"
                );
                if times_full(1) || crowded {
                    self.close_block()?;
                }
                if self.traces.len() >= u32::MAX as usize {
                    return Err(too_many_traces());
                }
                self.traces.push(id);
                self.block.begin_trace();
                self.open = Some((time, id, time));
            }
        }
        Ok(())
    }

    fn close_block(&mut self) -> Result<()> {
        if self.block.rows() == 0 {
            return Ok(());
        }
        self.row_count += self.block.rows() as u64;
        let closed = self.block.finish(self.options.effort, &self.keys);
        let mut head = closed.head;
        head.offset = self.writer.section_length();
        head.length = closed.bytes.len() as u64;
        head.first_trace = (self.traces.len() - head.traces as usize) as u32;
        head.filter_offset = self.filters.len() as u64;
        crate::index::bloom::build(&closed.hashes, &mut self.filters);
        head.filter_length = self.filters.len() as u64 - head.filter_offset;
        self.directory.push(&head, &closed.streams, &closed.zones);
        // What nobody else holds will not come again.
        self.batches
            .retain(|_, known| Arc::strong_count(&known.batch) > 1);
        self.writer.append(&closed.bytes)
    }

    /// Writes the indexes and ends the file.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(mut self) -> Result<(S, SegmentMeta, FileIdentity)> {
        self.close_block()?;
        let meta = SegmentMeta {
            signal: Signal::Spans,
            origin: self.origin,
            range: self.range.0,
            series_count: self.streams.len() as u64,
            row_count: self.row_count,
            chunk_count: self.directory.len() as u64,
            superseded_count: 0,
        };
        let mut writer = self.writer;
        writer.section(SectionKind::Blocks, &self.directory.finish())?;
        writer.section(SectionKind::TokenFilters, &self.filters)?;
        write_traces(&self.traces, &mut writer)?;
        let mut keys = Vec::new();
        if !self.keys.names.is_empty() {
            put_u64(&mut keys, self.keys.names.len() as u64);
            self.keys
                .names
                .iter()
                .for_each(|key| put_str(&mut keys, key));
        }
        writer.section(SectionKind::AttributeKeys, &keys)?;
        self.streams.write(&mut writer)?;
        writer.section(SectionKind::Meta, &meta.encode())?;
        let (sink, identity) = writer.finish()?;
        Ok((sink, meta, identity))
    }
}

fn too_many_traces() -> EngineError {
    EngineError::LimitExceeded("a segment holds at most 2^32 - 1 traces".into())
}

fn numbers_of<'a>(
    batches: &'a mut HashMap<usize, BatchNumbers>,
    keys: &mut SegmentKeys,
    batch: &Arc<SpanBatch>,
) -> &'a mut BatchNumbers {
    let address = Arc::as_ptr(batch) as usize;
    batches.entry(address).or_insert_with(|| BatchNumbers {
        streams: vec![UNNUMBERED; batch.streams().len()],
        keys: batch.keys().iter().map(|key| keys.number(key)).collect(),
        batch: Arc::clone(batch),
    })
}

/// The ids by order of rows, and the order of the ids.
fn write_traces<S: SegmentSink>(
    traces: &[[u8; 16]],
    writer: &mut ContainerWriter<S>,
) -> Result<()> {
    let mut order: Vec<u32> = (0..traces.len() as u32).collect();
    order.sort_unstable_by_key(|number| u128::from_be_bytes(traces[*number as usize]));
    assert!(
        order
            .windows(2)
            .all(|pair| traces[pair[0] as usize] < traces[pair[1] as usize]),
        "bug: the spans of a trace do not come together"
    );
    let mut numbers = PackedArrayBuilder::default();
    order
        .iter()
        .for_each(|number| numbers.push(u64::from(*number)));
    writer.section(SectionKind::TraceIdsByRow, traces.as_flattened())?;
    writer.section(SectionKind::TraceOrder, &numbers.finish())
}

/// Sorts spans of batches as [`SpanBuilder`] wants them. Spans are given as (batch, row) in order of
/// arrival.
pub fn sort_spans(batches: &[Arc<SpanBatch>], spans: &mut [(u32, u32)]) {
    let place = |span: &(u32, u32)| {
        let columns = batches[span.0 as usize].columns();
        let row = span.1 as usize;
        (columns.trace_id[row], columns.time[row])
    };
    let mut first: HashMap<[u8; 16], i64> = HashMap::new();
    for span in spans.iter() {
        let (id, time) = place(span);
        let known = first.entry(id).or_insert(time);
        *known = (*known).min(time);
    }
    spans.sort_by_cached_key(|span| {
        let (id, time) = place(span);
        (first.get(&id).copied().unwrap_or(time), id, time)
    });
}

/// Least and greatest number of each key.
#[derive(Debug, Default)]
pub(super) struct Zones(pub(super) BTreeMap<u32, (f64, f64)>);

impl Zones {
    pub(super) fn add(&mut self, key: u32, value: f64) {
        if value.is_nan() {
            return;
        }
        let zone = self.0.entry(key).or_insert((value, value));
        *zone = (zone.0.min(value), zone.1.max(value));
    }
}

/// The first and the last of some times, as a range.
pub(super) fn range_of(times: impl Iterator<Item = i64>) -> crate::model::TimeRange {
    let mut range = GrowingRange::default();
    times.for_each(|time| range.include(time, time));
    if range.0.start > range.0.end {
        range.include(0, 0);
        range.0.start = TimestampNs(0);
        range.0.end = TimestampNs(0);
    }
    range.0
}
