//! Makes a segment of log records from batches: rows in order of stream, time and arrival, cut into
//! blocks of columns.
//!
//! Rows are named by batch and number and stay where they are until their block is closed; then the
//! block is transposed column by column. Nothing is allocated per row.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::codec::EncodeEffort;
use crate::error::Result;
use crate::index::text_filter::TextFilterBuilder;
use crate::model::{LogRecord, Signal, Stream};
use crate::rows::{BodyKind, LogBatch, LogColumns};

use super::super::container::{ContainerWriter, FileIdentity, SegmentSink};
use super::super::format::{LOG_BLOCK_ROWS_TARGET, LOG_BLOCK_TEXT_BYTES_TARGET, SectionKind};
use super::super::meta::{GrowingRange, SegmentMeta, SegmentOrigin};
use super::super::rows::attributes::KeyNumbers;
use super::super::rows::blocks::{BlockHead, BlocksBuilder};
use super::super::rows::columns::{ColumnsWriter, Field, ValueKind, Zone};
use super::super::rows::streams::StreamsBuilder;
use super::super::wire::put_u64;
use super::attributes_builder::{AttributesBuilder, TextEncoder};
use super::texts::Texts;
use super::trace_rows;
use super::trace_table::TraceTableBuilder;

/// How a log segment is built.
#[derive(Clone, Copy, Debug)]
pub struct LogBuildOptions {
    /// How hard the codecs try.
    pub effort: EncodeEffort,
    /// Rows at which a block is closed.
    pub block_rows: usize,
    /// Bytes of bodies and attributes at which a block is closed.
    pub block_text_bytes: usize,
}

impl Default for LogBuildOptions {
    fn default() -> Self {
        Self {
            effort: EncodeEffort::Flush,
            block_rows: LOG_BLOCK_ROWS_TARGET,
            block_text_bytes: LOG_BLOCK_TEXT_BYTES_TARGET,
        }
    }
}

/// No number yet.
const NO_KEY: u32 = u32::MAX;

/// A batch with rows in the open block.
struct OpenBatch {
    batch: Arc<LogBatch>,
    /// The segment's numbers of the batch's attribute keys, found when first needed.
    keys: Vec<u32>,
}

/// A closed block, whose traces have no final numbers yet.
struct ClosedBlock {
    head: BlockHead,
    details: Vec<u8>,
    /// Rows with a trace, and the provisional numbers of the traces.
    trace_rows: Vec<u32>,
    traces: Vec<u32>,
    has_rows_of_spans: bool,
}

/// Makes a log segment: streams in ascending order (see
/// [`stream_sort_key`](super::super::stream_sort_key)), the rows of each by time and arrival.
pub struct LogSegmentBuilder<S> {
    writer: ContainerWriter<S>,
    origin: SegmentOrigin,
    options: LogBuildOptions,
    streams: StreamsBuilder,
    /// Time of the open stream's last row.
    last_time: Option<i64>,
    batches: Vec<OpenBatch>,
    /// Batch and row, in order.
    rows: Vec<(u32, u32)>,
    /// Stream of each row.
    row_streams: Vec<u32>,
    text_bytes: usize,
    /// Place of a batch among `batches`, by address.
    places: HashMap<usize, u32>,
    /// Address and place of the batch of the last row.
    last_batch: (usize, u32),
    keys: KeyNumbers,
    texts: Texts,
    filter: TextFilterBuilder,
    filters: Vec<u8>,
    traces: TraceTableBuilder,
    closed: Vec<ClosedBlock>,
    range: GrowingRange,
    row_count: u64,
}

impl<S: SegmentSink> LogSegmentBuilder<S> {
    /// Starts a segment that is written to `sink`.
    ///
    /// # Errors
    /// What the sink says.
    pub fn new(
        sink: S,
        origin: SegmentOrigin,
        options: impl Into<LogBuildOptions>,
    ) -> Result<Self> {
        let mut writer = ContainerWriter::new(sink, Signal::Logs)?;
        writer.begin(SectionKind::Data);
        Ok(Self {
            writer,
            origin,
            options: options.into(),
            streams: StreamsBuilder::default(),
            last_time: None,
            batches: Vec::new(),
            rows: Vec::new(),
            row_streams: Vec::new(),
            text_bytes: 0,
            places: HashMap::new(),
            last_batch: (0, 0),
            keys: KeyNumbers::default(),
            texts: Texts::default(),
            filter: TextFilterBuilder::default(),
            filters: Vec::new(),
            traces: TraceTableBuilder::default(),
            closed: Vec::new(),
            range: GrowingRange::default(),
            row_count: 0,
        })
    }

    /// Starts the next stream.
    ///
    /// # Errors
    /// [`crate::EngineError::LimitExceeded`] at 2^32 - 1 streams.
    ///
    /// # Panics
    /// When the streams do not ascend by [`stream_sort_key`](super::super::stream_sort_key).
    pub fn begin_stream(&mut self, stream: &Stream) -> Result<()> {
        self.streams.begin(stream)?;
        self.last_time = None;
        Ok(())
    }

    /// Adds row `row` of `batch` to the open stream, whatever stream the batch says. The batch is held
    /// until the block of the row is closed.
    ///
    /// # Errors
    /// What the sink says.
    ///
    /// # Panics
    /// When no stream is open, times do not ascend, or the batch has no such row.
    pub fn push_row(&mut self, batch: &Arc<LogBatch>, row: u32) -> Result<()> {
        let columns = batch.columns();
        let time = columns.time[row as usize];
        assert!(
            self.last_time.is_none_or(|last| last <= time),
            "bug: row at {time} does not come after the one before"
        );
        self.last_time = Some(time);
        self.range.include(time, time);
        let stream = self.streams.len() as u32;
        let stream = stream.checked_sub(1).expect("bug: no stream is open");
        let place = self.place(batch);
        self.rows.push((place, row));
        self.row_streams.push(stream);
        let length = |text: Option<&[u8]>| text.map_or(0, <[u8]>::len);
        self.text_bytes +=
            length(columns.body.get(row as usize)) + length(columns.attributes.get(row as usize));
        if self.rows.len() >= self.options.block_rows
            || self.text_bytes >= self.options.block_text_bytes
        {
            self.close_block()?;
        }
        Ok(())
    }

    /// Adds a record of the open stream, for those who have no batch. Records of equal time come in
    /// order of their arrival, which is all that `_ordinal` says.
    ///
    /// # Errors
    /// As [`LogSegmentBuilder::push_row`].
    ///
    /// # Panics
    /// As [`LogSegmentBuilder::push_row`].
    pub fn push(&mut self, record: &LogRecord, _ordinal: u64) -> Result<()> {
        let mut batch = LogBatch::new();
        let stream = batch.stream(Arc::default());
        batch.push(stream, record);
        self.push_row(&Arc::new(batch), 0)
    }

    fn place(&mut self, batch: &Arc<LogBatch>) -> u32 {
        let address = Arc::as_ptr(batch) as usize;
        if self.last_batch.0 == address {
            return self.last_batch.1;
        }
        let Self {
            places, batches, ..
        } = self;
        let place = *places.entry(address).or_insert_with(|| {
            batches.push(OpenBatch {
                batch: Arc::clone(batch),
                keys: vec![NO_KEY; batch.keys().len()],
            });
            batches.len() as u32 - 1
        });
        self.last_batch = (address, place);
        place
    }

    fn close_block(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let streams = std::mem::take(&mut self.row_streams);
        let mut batches = std::mem::take(&mut self.batches);
        self.places.clear();
        self.last_batch = (0, 0);
        self.text_bytes = 0;
        let (Some(first_stream), Some(last_stream)) = (streams.first(), streams.last()) else {
            return Ok(());
        };
        let effort = self.options.effort;
        let number = self.closed.len() as u32;
        let mut block = Transposed {
            rows: &rows,
            columns: ColumnsWriter::default(),
            effort,
        };
        let mut range = GrowingRange::default();
        let times: Vec<i64> = rows
            .iter()
            .map(|(batch, row)| batches[*batch as usize].batch.columns().time[*row as usize])
            .collect();
        times.iter().for_each(|time| range.include(*time, *time));
        block.columns.streams(&streams, effort);
        block.columns.times(&times, effort);
        block.write_plain(&batches, &times);
        let (trace_rows, traces, has_rows_of_spans) =
            block.write_ids(&batches, &mut self.traces, number);
        block.write_texts(&batches, &mut self.texts, &mut self.filter);
        let columns = block.finish_with_attributes(
            &mut batches,
            &mut self.keys,
            &mut self.texts,
            &mut self.filter,
        );
        let filter_offset = self.filters.len() as u64;
        self.filter.finish(&mut self.filters);
        let mut details = Vec::new();
        put_u64(&mut details, columns.entry_count);
        details.extend_from_slice(&columns.entries);
        let head = BlockHead {
            offset: self.writer.section_length(),
            length: columns.data.len() as u64,
            filter_offset,
            filter_length: self.filters.len() as u64 - filter_offset,
            rows: rows.len() as u32,
            first_stream: *first_stream,
            last_stream: *last_stream,
            range: range.0,
        };
        self.row_count += rows.len() as u64;
        self.closed.push(ClosedBlock {
            head,
            details,
            trace_rows,
            traces,
            has_rows_of_spans,
        });
        self.writer.append(&columns.data)
    }

    /// Writes the indexes and ends the file.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(mut self) -> Result<(S, SegmentMeta, FileIdentity)> {
        self.close_block()?;
        let meta = SegmentMeta {
            signal: Signal::Logs,
            origin: self.origin,
            range: self.range.0,
            series_count: self.streams.len() as u64,
            row_count: self.row_count,
            chunk_count: self.closed.len() as u64,
            superseded_count: 0,
        };
        let mut writer = self.writer;
        writer.section(SectionKind::TokenFilters, &self.filters)?;
        let numbers = self.traces.finish(&mut writer)?;
        let mut trace_bytes = Vec::new();
        let mut blocks = BlocksBuilder::default();
        for block in self.closed {
            let start = trace_bytes.len();
            let finals = block.traces.iter().map(|number| numbers[*number as usize]);
            let rows = match block.has_rows_of_spans {
                true => None,
                false => Some(block.trace_rows.as_slice()),
            };
            let row_count = block.head.rows as usize;
            let effort = self.options.effort;
            trace_rows::write(rows, finals, row_count, effort, &mut trace_bytes);
            let mut details = Vec::with_capacity(block.details.len() + 16);
            put_u64(&mut details, start as u64);
            put_u64(&mut details, (trace_bytes.len() - start) as u64);
            details.extend_from_slice(&block.details);
            blocks.push(&block.head, &details);
        }
        writer.section(SectionKind::TraceRows, &trace_bytes)?;
        writer.section(SectionKind::Blocks, &blocks.finish())?;
        self.streams.write(&self.keys, &mut writer)?;
        writer.section(SectionKind::Meta, &meta.encode())?;
        let (sink, identity) = writer.finish()?;
        Ok((sink, meta, identity))
    }
}

/// The rows of a block on their way to columns.
struct Transposed<'r> {
    rows: &'r [(u32, u32)],
    columns: ColumnsWriter,
    effort: EncodeEffort,
}

impl<'r> Transposed<'r> {
    fn of_rows<'b, T>(
        &self,
        batches: &'b [OpenBatch],
        value: impl Fn(&'b LogColumns, usize) -> T,
    ) -> impl Iterator<Item = T> {
        self.rows.iter().map(move |(batch, row)| {
            let columns = batches[*batch as usize].batch.columns();
            value(columns, *row as usize)
        })
    }

    /// Integers; all zero means that the column is left out.
    fn ints(&mut self, field: Field, values: impl Iterator<Item = i64>) {
        let values: Vec<i64> = values.collect();
        if values.iter().any(|value| *value != 0) {
            self.columns
                .ints(field, ValueKind::Int, 0, &values, self.effort);
        }
    }

    fn write_plain(&mut self, batches: &[OpenBatch], times: &[i64]) {
        let observed: Vec<i64> = self
            .of_rows(batches, |columns, row| columns.observed_time[row])
            .zip(times)
            .map(|(observed, time)| observed.wrapping_sub(*time))
            .collect();
        self.ints(Field::ObservedDelta, observed.into_iter());
        let severity: Vec<i64> = self
            .of_rows(batches, |columns, row| i64::from(columns.severity[row]))
            .collect();
        self.ints(Field::Severity, severity.into_iter());
        let kinds: Vec<i64> = self
            .of_rows(batches, |columns, row| i64::from(columns.body_kind[row]))
            .collect();
        self.ints(Field::BodyKind, kinds.into_iter());
    }

    /// Writes span ids; answers the rows that have a trace, provisional numbers of the traces, and
    /// whether those are the rows that have a span.
    fn write_ids(
        &mut self,
        batches: &[OpenBatch],
        traces: &mut TraceTableBuilder,
        block: u32,
    ) -> (Vec<u32>, Vec<u32>, bool) {
        let (mut trace_rows, mut numbers) = (Vec::new(), Vec::new());
        let (mut span_rows, mut spans) = (Vec::new(), Vec::new());
        for (at, (batch, row)) in (0_u32..).zip(self.rows) {
            let columns = batches[*batch as usize].batch.columns();
            let trace = columns.trace_id[*row as usize];
            if trace != [0; 16] {
                trace_rows.push(at);
                numbers.push(traces.number(trace, block));
            }
            let span = columns.span_id[*row as usize];
            if span != [0; 8] {
                span_rows.push(at);
                spans.push(span);
            }
        }
        self.columns
            .span_ids(&span_rows, &spans, self.rows.len(), self.effort);
        let same = trace_rows == span_rows;
        (trace_rows, numbers, same)
    }

    fn write_texts(
        &mut self,
        batches: &[OpenBatch],
        texts: &mut Texts,
        filter: &mut TextFilterBuilder,
    ) {
        let severity_texts: Vec<&[u8]> = self
            .of_rows(batches, |columns, row| {
                columns.severity_text.get(row).unwrap_or(&[])
            })
            .collect();
        self.strings(Field::SeverityText, &severity_texts);
        let names: Vec<&[u8]> = self
            .of_rows(batches, |columns, row| {
                columns.event_name.get(row).unwrap_or(&[])
            })
            .collect();
        let mut before: &[u8] = &[];
        for name in names.iter().filter(|name| !name.is_empty()) {
            if *name != before {
                filter.add(name);
            }
            before = name;
        }
        self.strings(Field::EventName, &names);
        let bodies: Vec<&[u8]> = self
            .of_rows(batches, |columns, row| columns.body.get(row).unwrap_or(&[]))
            .collect();
        let is_text: Vec<bool> = self
            .of_rows(batches, |columns, row| columns.body_kind[row])
            .map(|kind| kind == BodyKind::Text as u8)
            .collect();
        let all_are_texts = is_text.iter().all(|is_text| *is_text);
        if !all_are_texts {
            let texts = bodies.iter().zip(&is_text).filter(|(_, is_text)| **is_text);
            texts.for_each(|(body, _)| filter.add(body));
        }
        if bodies.iter().any(|body| !body.is_empty()) {
            let effort = self.effort;
            let (field, kind) = (Field::Body, ValueKind::Bytes);
            let count = bodies.len();
            self.columns.add(
                field,
                kind,
                0,
                count,
                Zone::None,
                |out| match all_are_texts {
                    true => texts.encode_filtered(&bodies, effort, filter, out),
                    false => texts.encode(&bodies, effort, out),
                },
            );
        }
    }

    fn strings(&mut self, field: Field, values: &[&[u8]]) {
        if values.iter().any(|value| !value.is_empty()) {
            self.columns
                .strings(field, ValueKind::Text, 0, values, self.effort);
        }
    }

    fn finish_with_attributes(
        self,
        batches: &mut [OpenBatch],
        keys: &mut KeyNumbers,
        texts: &mut Texts,
        filter: &mut TextFilterBuilder,
    ) -> ColumnsWriter {
        let Self {
            rows,
            mut columns,
            effort,
        } = self;
        if batches.iter().all(|open| open.batch.keys().is_empty()) {
            return columns;
        }
        let (held, mut numbers): (Vec<&LogBatch>, Vec<&mut Vec<u32>>) = batches
            .iter_mut()
            .map(|open| (&*open.batch, &mut open.keys))
            .unzip();
        let mut attributes = AttributesBuilder::default();
        for (batch, row) in rows {
            let batch_at = *batch as usize;
            let batch = held[batch_at];
            let numbers = &mut *numbers[batch_at];
            attributes.add(batch.attributes(*row as usize), |key| {
                let number = &mut numbers[key as usize];
                if *number == NO_KEY {
                    *number = keys.number(batch.keys().get(key).unwrap_or_default());
                }
                *number
            });
        }
        attributes.for_each_text(|text| filter.add(text));
        attributes.finish(&mut columns, texts, effort);
        columns
    }
}
