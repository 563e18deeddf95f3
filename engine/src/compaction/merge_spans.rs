//! Merges span segments into one, without deleted, expired and replaced spans.
//!
//! Inputs are sorted by the first start of their traces, and so is the result. The block that begins
//! first is read next; its traces wait until no unread block can begin before them, then they are
//! written. What an earlier merge has written and no other input reaches into is taken over as it lies.
//!
//! A trace that several inputs have is put together when the first of its spans is met: the rest is
//! fetched from the other inputs by their tables of traces, and passed over where it would come up
//! later. Which traces these are is known from the tables before a block is read.
//!
//! Memory holds a block of an input, the traces that begin while another input has blocks of that time
//! unread, and the ids of shared traces. Inputs of versions 1 to 3, which are sorted by stream, are held
//! whole: they occur once, before their first merge.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

use super::merge::{MergeInput, merged_origin};
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::rows::{RowBatch, service_of};
use crate::head::seal::{NewSegment, SegmentPlace};
use crate::manifest::Tombstone;
use crate::model::{TimeRange, TimestampNs, TraceId};
use crate::rows::{SpanBatch, SpanCondition, SpanScanRequest};
use crate::scan::blocks::SegmentSource;
use crate::segment::{SegmentFileWriter, SpanBuildOptions, SpanBuilder, SpanReader};
use crate::store::row_kind::{RowKind, RowRequest, Spans};
use crate::store::segments::Segment;

type Builder = SpanBuilder<SegmentFileWriter>;
type Id = [u8; 16];
/// Of spans without a trace: they are kept like those of one, but no condition asks for them.
const NO_TRACE: Id = [0; 16];
/// A span: batch and row.
type Place = (Arc<SpanBatch>, u32);

/// Merges the segments into one; `None` when no span is left.
///
/// # Errors
/// Damage in an input, what the file system says, or a context that was cancelled.
pub(crate) fn merge_spans(
    place: &SegmentPlace<'_>,
    context: &RequestContext,
    input: &MergeInput<'_>,
) -> Result<Option<NewSegment>> {
    let Some(origin) = merged_origin(input) else {
        return Ok(None);
    };
    let request = SpanScanRequest::everything(TimeRange {
        start: TimestampNs(input.oldest),
        end: TimestampNs::MAX,
    });
    let mut inputs = Vec::new();
    for segment in input.segments {
        inputs.extend(Input::open(segment, input.tombstones, &request)?);
    }
    let (id, writer) = place.create()?;
    let options = SpanBuildOptions {
        effort: input.effort,
        ..SpanBuildOptions::default()
    };
    let mut builder = SpanBuilder::new(writer, origin, options)?;
    number_as_largest(&mut builder, &mut inputs)?;
    let mut merger = Merger {
        context,
        request: &request,
        shared: shared_traces(&inputs)?,
        inputs,
        waiting: BTreeMap::new(),
        builder,
        is_empty: true,
    };
    merger.run()?;
    if merger.is_empty {
        return Ok(None);
    }
    NewSegment::finished(id, merger.builder.finish()?).map(Some)
}

/// An input, its unread blocks in order.
struct Input<'a> {
    segment: &'a Arc<Segment>,
    reader: &'a SpanReader,
    tombstones: &'a [Tombstone],
    source: SegmentSource<Spans>,
    next: usize,
    /// Its blocks may be taken over as they lie.
    may_copy: bool,
}

impl<'a> Input<'a> {
    fn open(
        segment: &'a Arc<Segment>,
        tombstones: &'a [Tombstone],
        request: &SpanScanRequest,
    ) -> Result<Option<Self>> {
        let Some(reader) = Spans::reader(segment) else {
            return Ok(None);
        };
        let source = SegmentSource::open(segment, tombstones, request)?;
        Ok(source.map(|source| Self {
            // What the head wrote was encoded in haste.
            may_copy: segment.meta().origin.level > 0 && !source.has_deleted(),
            segment,
            reader,
            tombstones,
            source,
            next: 0,
        }))
    }

    /// Of versions 1 to 3.
    fn is_old(&self) -> bool {
        self.reader.trace_count().is_none()
    }

    fn has_unread(&self) -> bool {
        self.next < self.source.blocks()
    }

    /// No unread span begins before.
    fn bound(&self) -> i64 {
        if self.has_unread() {
            self.source.range(self.next).start.0
        } else {
            i64::MAX
        }
    }

    /// Whether an unread block begins with the rest of the trace before.
    fn next_continues(&self) -> bool {
        self.has_unread() && self.reader.continues(self.source.block(self.next))
    }
}

/// Gives streams and keys the numbers that the largest input has, whose blocks can then be taken over,
/// and those of others with the same numbers.
fn number_as_largest(builder: &mut Builder, inputs: &mut [Input<'_>]) -> Result<()> {
    let candidates = inputs
        .iter()
        .filter(|input| input.may_copy && !input.is_old());
    let Some(largest) = candidates.max_by_key(|input| input.reader.meta().row_count) else {
        return Ok(());
    };
    for number in 0..largest.reader.stream_count() {
        builder.number([&largest.reader.stream(number)?], [])?;
    }
    let keys = largest.reader.attribute_keys();
    builder.number([], keys.iter().map(AsRef::as_ref))?;
    for input in inputs.iter_mut().filter(|input| input.may_copy) {
        input.may_copy = builder.has_numbers_of(input.reader)?;
    }
    Ok(())
}

/// The traces that more than one input has; inputs of earlier versions aside.
fn shared_traces(inputs: &[Input<'_>]) -> Result<HashMap<Id, bool>> {
    let mut shared = HashMap::new();
    let mut next = BinaryHeap::new();
    for (at, input) in inputs.iter().enumerate() {
        let first = input.reader.trace_by_order(0)?;
        next.extend(first.map(|id| Reverse((id, at, 0))));
    }
    let mut before = None;
    while let Some(Reverse((id, at, place))) = next.pop() {
        if before == Some(id) {
            shared.insert(id, false);
        }
        before = Some(id);
        let following = inputs[at].reader.trace_by_order(place + 1)?;
        next.extend(following.map(|id| Reverse((id, at, place + 1))));
    }
    Ok(shared)
}

/// Spans of one trace in one batch of one input.
struct Part {
    /// Place of the input in the order of arrival.
    input: usize,
    batch: Arc<SpanBatch>,
    rows: Vec<u32>,
}

/// Spans by trace.
type Traces = HashMap<Id, Vec<Part>>;

struct Merger<'a> {
    context: &'a RequestContext,
    /// All spans that stay.
    request: &'a SpanScanRequest,
    inputs: Vec<Input<'a>>,
    /// Traces of several inputs, and whether they were put together already.
    shared: HashMap<Id, bool>,
    /// By first start and id: spans in the order in which they are written.
    waiting: BTreeMap<(i64, Id), Vec<Place>>,
    builder: Builder,
    is_empty: bool,
}

impl Merger<'_> {
    fn run(&mut self) -> Result<()> {
        self.read_old()?;
        loop {
            let unread = (0..self.inputs.len()).filter(|at| self.inputs[*at].has_unread());
            let Some(at) = unread.min_by_key(|at| self.inputs[*at].bound()) else {
                break;
            };
            self.context.check()?;
            self.write_waiting(Some(self.inputs[at].bound()))?;
            if !self.take_over(at)? {
                self.read_next(at)?;
            }
        }
        self.write_waiting(None)
    }

    /// Writes the traces that begin before a time; `None`: all.
    fn write_waiting(&mut self, end: Option<i64>) -> Result<()> {
        while let Some(first) = self.waiting.first_entry() {
            if end.is_some_and(|end| first.key().0 >= end) {
                break;
            }
            for (batch, row) in first.remove() {
                self.builder.push(&batch, row as usize)?;
                self.is_empty = false;
            }
        }
        Ok(())
    }

    /// Takes the next block of an input over as it lies, if nothing else belongs before its end.
    fn take_over(&mut self, at: usize) -> Result<bool> {
        let input = &self.inputs[at];
        if !input.may_copy || !self.waiting.is_empty() {
            return Ok(false);
        }
        let block = *input.source.block(input.next);
        let range = input.source.range(input.next);
        let others = self.inputs.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != at);
        if range.start < self.request.range.start
            || input.reader.continues(&block)
            || input.reader.continues_after(&block)
            || others.any(|(_, other)| other.has_unread() && other.bound() <= range.end.0)
        {
            return Ok(false);
        }
        let ids = input.reader.traces_of_block(&block)?;
        if ids.iter().any(|id| self.shared.contains_key(id)) {
            return Ok(false);
        }
        let taken = self.builder.push_block(input.reader, &block)?;
        if taken {
            self.is_empty = false;
            self.inputs[at].next += 1;
        }
        Ok(taken)
    }

    /// Reads all of the inputs of earlier versions.
    fn read_old(&mut self) -> Result<()> {
        let mut traces = Traces::new();
        for at in 0..self.inputs.len() {
            while self.inputs[at].is_old() && self.inputs[at].has_unread() {
                self.context.check()?;
                self.read_block(at, &mut traces)?;
            }
        }
        let mut elsewhere = Vec::new();
        for id in traces.keys() {
            for input in self.inputs.iter().filter(|input| !input.is_old()) {
                if input.reader.may_have_trace(&TraceId(*id))? {
                    elsewhere.push(*id);
                    break;
                }
            }
        }
        self.shared.extend(elsewhere.iter().map(|id| (*id, true)));
        self.fetch(&elsewhere, None, &mut traces)?;
        self.put_together(traces);
        Ok(())
    }

    /// Reads the next block of an input, with those into which its last trace goes on.
    fn read_next(&mut self, at: usize) -> Result<()> {
        let mut traces = Traces::new();
        self.read_block(at, &mut traces)?;
        while self.inputs[at].next_continues() {
            self.context.check()?;
            self.read_block(at, &mut traces)?;
        }
        traces.retain(|id, _| self.shared.get(id) != Some(&true));
        let mut fresh = Vec::new();
        for id in traces.keys() {
            if let Some(is_done) = self.shared.get_mut(id) {
                *is_done = true;
                fresh.push(*id);
            }
        }
        self.fetch(&fresh, Some(at), &mut traces)?;
        self.put_together(traces);
        Ok(())
    }

    fn read_block(&mut self, at: usize, traces: &mut Traces) -> Result<()> {
        let input = &mut self.inputs[at];
        input.next += 1;
        if let Some(block) = input.source.read(input.next - 1, self.request)? {
            sort_out(at, SpanBatch::of_block(&block)?, traces);
        }
        Ok(())
    }

    /// Reads what the other inputs have of some traces.
    fn fetch(&self, ids: &[Id], except: Option<usize>, traces: &mut Traces) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let with_traceless = ids.contains(&NO_TRACE);
        let mut request = self.request.clone();
        let ids = ids.iter().map(|id| TraceId(*id)).collect();
        request.conditions.push(SpanCondition::Trace(ids));
        for (at, input) in self.inputs.iter().enumerate() {
            if Some(at) == except || input.is_old() {
                continue;
            }
            if with_traceless {
                self.fetch_traceless(at, traces)?;
            }
            let source = SegmentSource::<Spans>::open(input.segment, input.tombstones, &request)?;
            let Some(source) = source else { continue };
            for number in 0..source.blocks() {
                self.context.check()?;
                if let Some(block) = source.read(number, &request)? {
                    sort_out(at, SpanBatch::of_block(&block)?, traces);
                }
            }
        }
        Ok(())
    }

    /// Reads what an input has of spans without a trace.
    fn fetch_traceless(&self, at: usize, traces: &mut Traces) -> Result<()> {
        let Input { reader, source, .. } = &self.inputs[at];
        for number in 0..source.blocks() {
            if !reader
                .traces_of_block(source.block(number))?
                .contains(&NO_TRACE)
            {
                continue;
            }
            if let Some(block) = source.read(number, self.request)? {
                let mut all = Traces::new();
                sort_out(at, SpanBatch::of_block(&block)?, &mut all);
                let its = all.remove(&NO_TRACE).unwrap_or_default();
                traces.entry(NO_TRACE).or_default().extend(its);
            }
        }
        Ok(())
    }

    /// Orders the spans of each trace; of those with the same identity the last one stays.
    fn put_together(&mut self, traces: Traces) {
        for (id, mut parts) in traces {
            parts.sort_by_key(|part| part.input);
            let of_part = |part: &Part| {
                let batch = Arc::clone(&part.batch);
                let rows = part.rows.clone().into_iter();
                rows.map(move |row| (Arc::clone(&batch), row))
            };
            let mut rows: Vec<Place> = parts.iter().flat_map(of_part).collect();
            if parts.first().map(|part| part.input) != parts.last().map(|part| part.input) {
                keep_newest(&mut rows);
            }
            // Stable: spans of equal start stay in order of arrival.
            rows.sort_by_key(|(batch, row)| batch.columns().time[*row as usize]);
            if let Some((batch, row)) = rows.first() {
                let first = batch.columns().time[*row as usize];
                self.waiting.insert((first, id), rows);
            }
        }
    }
}

/// Adds the spans of a batch to their traces.
fn sort_out(input: usize, batch: SpanBatch, traces: &mut Traces) {
    let batch = Arc::new(batch);
    let mut start = 0;
    for run in batch.columns().trace_id.chunk_by(|a, b| a == b) {
        let rows: Range<u32> = start..start + run.len() as u32;
        start = rows.end;
        let parts = traces.entry(run[0]).or_default();
        match parts.last_mut() {
            Some(part) if Arc::ptr_eq(&part.batch, &batch) => part.rows.extend(rows),
            _ => parts.push(Part {
                input,
                batch: Arc::clone(&batch),
                rows: rows.collect(),
            }),
        }
    }
}

/// Of spans with the same identity, given in order of arrival, only the last one.
fn keep_newest(rows: &mut Vec<Place>) {
    let mut seen: HashSet<(u64, [u8; 8])> = HashSet::new();
    let mut kept = Vec::with_capacity(rows.len());
    while let Some((batch, row)) = rows.pop() {
        let (columns, at) = (batch.columns(), row as usize);
        let stream = &batch.streams()[columns.stream[at] as usize];
        let service = xxh3_64(service_of(stream).as_bytes());
        let identity = batch.identity(at, service).unwrap_or(0);
        if seen.insert((identity, columns.span_id[at])) {
            kept.push((batch, row));
        }
    }
    kept.reverse();
    *rows = kept;
}
