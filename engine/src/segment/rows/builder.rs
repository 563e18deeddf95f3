//! What building a log or a span segment has in common: streams, blocks, word filters, trace index.

use std::collections::HashSet;

use crate::codec::EncodeEffort;
use crate::error::{EngineError, Result};
use crate::index::{bloom, tokens};
use crate::model::{AttributeValue, Attributes, Signal, Stream, TraceId};

use super::super::container::{ContainerWriter, FileIdentity, SegmentSink};
use super::super::format::{
    BLOCK_ROWS_TARGET, BLOCK_TEXT_BYTES_TARGET, COLUMN_VALUES_MAX, ROW_SHAPES_VERSION, SectionKind,
    TRACE_FINGERPRINT_BITS,
};
use super::super::meta::{GrowingRange, SegmentMeta, SegmentOrigin};
use super::super::packed::PackedArrayBuilder;
use super::super::wire::put_u64;
use super::attributes::KeyNumbers;
use super::blocks::{BlockHead, BlocksBuilder};
use super::columns::{ColumnsWriter, Field, ValueKind, Values};
use super::streams::StreamsBuilder;

/// How a log or span segment is built.
#[derive(Clone, Copy, Debug)]
pub struct RowBuildOptions {
    /// How hard the codecs try.
    pub effort: EncodeEffort,
    /// Rows at which a block is closed.
    pub block_rows: usize,
    /// Bytes of text at which a block is closed.
    pub block_text_bytes: usize,
}

impl Default for RowBuildOptions {
    fn default() -> Self {
        Self {
            effort: EncodeEffort::Flush,
            block_rows: BLOCK_ROWS_TARGET,
            block_text_bytes: BLOCK_TEXT_BYTES_TARGET,
        }
    }
}

/// A row of a signal, as the shared builder sees it.
pub(crate) trait StoredRow: Sized {
    const SIGNAL: Signal;

    fn time(&self) -> i64;
    fn trace_id(&self) -> Option<TraceId>;
    /// About how many bytes of text the row has.
    fn text_bytes(&self) -> usize;
    /// Values of the row's most numerous part (events of a span).
    fn item_count(&self) -> usize;
    /// Calls `each` with every text that word search covers.
    fn for_each_text(&self, each: &mut dyn FnMut(&[u8]));
    /// Appends the columns of `rows` that are particular to the signal.
    fn write_columns(rows: &[&Self], block: &mut BlockWriter<'_>);
}

/// What [`StoredRow::write_columns`] writes to.
pub(crate) struct BlockWriter<'a> {
    pub(crate) columns: &'a mut ColumnsWriter,
    pub(crate) keys: &'a mut KeyNumbers,
    /// Shapes of the attribute sets, in the order in which the reader asks for them.
    pub(crate) shapes: &'a mut Vec<u8>,
    pub(crate) effort: EncodeEffort,
}

impl BlockWriter<'_> {
    /// A column of integers; all zero means that it is left out.
    pub(crate) fn ints(&mut self, field: Field, values: impl Iterator<Item = i64>) {
        let values: Vec<i64> = values.collect();
        if values.iter().any(|v| *v != 0) {
            let values = Values::Ints(&values);
            self.columns
                .push(field, ValueKind::Int, 0, &values, self.effort);
        }
    }

    /// A column of text or bytes; all empty means that it is left out.
    pub(crate) fn bytes<'v>(
        &mut self,
        field: Field,
        kind: ValueKind,
        values: impl Iterator<Item = std::borrow::Cow<'v, [u8]>>,
    ) {
        let values: Vec<_> = values.collect();
        if values.iter().any(|v| !v.is_empty()) {
            let values = Values::Bytes(&values);
            self.columns.push(field, kind, 0, &values, self.effort);
        }
    }
}

/// Builds a segment of rows of one signal.
pub(crate) struct RowSegmentBuilder<S, R> {
    writer: ContainerWriter<S>,
    origin: SegmentOrigin,
    options: RowBuildOptions,
    streams: StreamsBuilder,
    /// Time and ordinal of the open stream's last row.
    last_row: Option<(i64, u64)>,
    pending: Vec<(u32, u64, R)>,
    pending_text: usize,
    pending_items: usize,
    blocks: BlocksBuilder,
    filters: Vec<u8>,
    keys: KeyNumbers,
    /// Fingerprints of trace ids and the block.
    traces: Vec<(u64, u32)>,
    range: GrowingRange,
    row_count: u64,
}

/// The fingerprint under which a trace id is indexed: upper bits of its hash, since ids made by old
/// tracers have many zeros.
pub(crate) fn trace_fingerprint(id: &TraceId) -> u64 {
    bloom::hash(&id.0) >> (64 - TRACE_FINGERPRINT_BITS)
}

impl<S: SegmentSink, R: StoredRow> RowSegmentBuilder<S, R> {
    pub(crate) fn new(sink: S, origin: SegmentOrigin, options: RowBuildOptions) -> Result<Self> {
        let mut writer = ContainerWriter::with_version(sink, R::SIGNAL, ROW_SHAPES_VERSION)?;
        writer.begin(SectionKind::Data);
        Ok(Self {
            writer,
            origin,
            options,
            streams: StreamsBuilder::default(),
            last_row: None,
            pending: Vec::new(),
            pending_text: 0,
            pending_items: 0,
            blocks: BlocksBuilder::default(),
            filters: Vec::new(),
            keys: KeyNumbers::default(),
            traces: Vec::new(),
            range: GrowingRange::default(),
            row_count: 0,
        })
    }

    pub(crate) fn begin_stream(&mut self, stream: &Stream) -> Result<()> {
        self.streams.begin(stream)?;
        self.last_row = None;
        Ok(())
    }

    pub(crate) fn push(&mut self, row: R, ordinal: u64) -> Result<()> {
        let place = (row.time(), ordinal);
        assert!(
            self.last_row.is_none_or(|last| last <= place),
            "bug: row at {} does not come after the one before",
            place.0
        );
        let items = row.item_count();
        if items >= COLUMN_VALUES_MAX {
            return Err(EngineError::LimitExceeded(format!(
                "a row with {items} events or links, at most {COLUMN_VALUES_MAX} are stored"
            )));
        }
        if self.pending_items + items >= COLUMN_VALUES_MAX {
            self.close_block()?;
        }
        self.last_row = Some(place);
        self.range.include(place.0, place.0);
        self.pending_text += row.text_bytes();
        self.pending_items += items;
        let stream = self.streams.len() as u32;
        let stream = stream.checked_sub(1).expect("bug: no stream is open");
        self.pending.push((stream, ordinal, row));
        if self.pending.len() >= self.options.block_rows
            || self.pending_text >= self.options.block_text_bytes
        {
            self.close_block()?;
        }
        Ok(())
    }

    fn close_block(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_text = 0;
        self.pending_items = 0;
        let (Some(first), Some(last)) = (pending.first(), pending.last()) else {
            return Ok(());
        };
        let mut range = GrowingRange::default();
        for (.., row) in &pending {
            range.include(row.time(), row.time());
        }
        let filter_offset = self.filters.len() as u64;
        self.add_filter(&pending);
        let head = BlockHead {
            offset: self.writer.section_length(),
            length: 0,
            filter_offset,
            filter_length: self.filters.len() as u64 - filter_offset,
            rows: pending.len() as u32,
            first_stream: first.0,
            last_stream: last.0,
            range: range.0,
        };
        self.add_traces(&pending);
        self.write_block(head, &pending)?;
        self.row_count += pending.len() as u64;
        Ok(())
    }

    fn write_block(&mut self, mut head: BlockHead, rows: &[(u32, u64, R)]) -> Result<()> {
        let effort = self.options.effort;
        let mut columns = ColumnsWriter::default();
        let mut shapes = Vec::new();
        let streams: Vec<i64> = rows.iter().map(|(stream, ..)| i64::from(*stream)).collect();
        let times: Vec<i64> = rows.iter().map(|(.., row)| row.time()).collect();
        columns.push(
            Field::Stream,
            ValueKind::Int,
            0,
            &Values::Ints(&streams),
            effort,
        );
        columns.push(
            Field::Time,
            ValueKind::Time,
            0,
            &Values::Times(&times),
            effort,
        );
        let mut block = BlockWriter {
            columns: &mut columns,
            keys: &mut self.keys,
            shapes: &mut shapes,
            effort,
        };
        block.ints(
            Field::Ordinal,
            rows.iter().map(|(_, ordinal, _)| *ordinal as i64),
        );
        let plain: Vec<&R> = rows.iter().map(|(.., row)| row).collect();
        R::write_columns(&plain, &mut block);

        let mut details = Vec::new();
        put_u64(&mut details, columns.entry_count);
        details.extend_from_slice(&columns.entries);
        details.extend_from_slice(&shapes);
        head.length = columns.data.len() as u64;
        self.blocks.push(&head, &details);
        self.writer.append(&columns.data)
    }

    fn add_filter(&mut self, rows: &[(u32, u64, R)]) {
        let mut hashes = HashSet::new();
        for (.., row) in rows {
            row.for_each_text(&mut |text| {
                tokens::for_each_word(text, |word| {
                    hashes.insert(bloom::hash(word));
                });
            });
        }
        let hashes: Vec<u64> = hashes.into_iter().collect();
        bloom::build(&hashes, &mut self.filters);
    }

    fn add_traces(&mut self, rows: &[(u32, u64, R)]) {
        let block = self.blocks.len() as u32;
        let ids: HashSet<u64> = rows
            .iter()
            .filter_map(|(.., row)| row.trace_id().as_ref().map(trace_fingerprint))
            .collect();
        self.traces.extend(ids.into_iter().map(|id| (id, block)));
    }

    pub(crate) fn finish(mut self) -> Result<(S, SegmentMeta, FileIdentity)> {
        self.close_block()?;
        let meta = SegmentMeta {
            signal: R::SIGNAL,
            origin: self.origin,
            range: self.range.0,
            series_count: self.streams.len() as u64,
            row_count: self.row_count,
            chunk_count: self.blocks.len() as u64,
            superseded_count: 0,
        };
        let mut writer = self.writer;
        writer.section(SectionKind::Blocks, &self.blocks.finish())?;
        writer.section(SectionKind::TokenFilters, &self.filters)?;
        self.traces.sort_unstable();
        let mut ids = PackedArrayBuilder::default();
        let mut blocks = PackedArrayBuilder::default();
        for (id, block) in self.traces {
            ids.push(id);
            blocks.push(u64::from(block));
        }
        writer.section(SectionKind::TraceIds, &ids.finish())?;
        writer.section(SectionKind::TraceBlocks, &blocks.finish())?;
        self.streams.write(&self.keys, &mut writer)?;
        writer.section(SectionKind::Meta, &meta.encode())?;
        let (sink, identity) = writer.finish()?;
        Ok((sink, meta, identity))
    }
}

/// Bytes of text in attributes.
pub(crate) fn attribute_bytes(attributes: &Attributes) -> usize {
    let value = |value: &AttributeValue| match value {
        AttributeValue::String(text) => text.len(),
        AttributeValue::Bytes(bytes) => bytes.len(),
        AttributeValue::Array(values) => 16 * values.len(),
        AttributeValue::Map(pairs) => 32 * pairs.len(),
        _ => 8,
    };
    attributes.iter().map(|(_, v)| value(v)).sum()
}

/// Calls `each` with every text inside a value, however deep.
pub(crate) fn for_each_text_of(value: &AttributeValue, each: &mut dyn FnMut(&[u8])) {
    match value {
        AttributeValue::String(text) => each(text.as_bytes()),
        AttributeValue::Array(values) => values.iter().for_each(|v| for_each_text_of(v, each)),
        AttributeValue::Map(pairs) => pairs.iter().for_each(|(_, v)| for_each_text_of(v, each)),
        _ => {}
    }
}
