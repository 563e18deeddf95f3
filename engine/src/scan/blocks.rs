//! Scans over log records and spans, block by block.
//!
//! Sources are segments, then generations of the head, in order of arrival. Each is asked for the
//! blocks that may have rows; those are read a few at a time, by several threads where there are
//! many, and come out in the order in which they were asked for. Memory is that of the few blocks.
//!
//! With an order by time, blocks are visited by the time at which they begin (or end), and rows that no
//! unread block can precede are handed out: so the last hundred lines of a stream take a block or two.
//! An ordered scan without a limit holds the blocks whose times overlap.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::metric_scan::all_matchers;
use super::span_versions::SpanVersions;
use crate::context::RequestContext;
use crate::error::{EngineError, Result};
use crate::head::rows::{RowBatch, SeenRows};
use crate::manifest::Tombstone;
use crate::model::{Stream, TimeRange, TimestampNs};
use crate::rows::{
    IdColumn, IntColumn, LogBlock, LogScanRequest, RowOrder, Selection, SpanBlock, SpanColumnSet,
    SpanScanRequest, Streams,
};
use crate::segment::RowReader;
use crate::store::inner::Inner;
use crate::store::row_kind::{Logs, RowBlock, RowKind, RowRequest, Spans, with_identity};
use crate::store::segments::Segment;
use crate::store::snapshot::ReadAt;
use crate::store::view::{Hides, View};

/// Blocks read at a time, per thread.
const BLOCKS_PER_THREAD: usize = 2;
/// Rows of several blocks that are put together in an ordered scan.
const HANDED_OUT_ROWS_MAX: usize = 4096;
/// Fewer blocks than this are read by the caller's thread alone.
const PARALLEL_BLOCKS_MIN: usize = 4;

/// The blocks of a segment that may have rows, and what is deleted of them.
pub(crate) struct SegmentSource<K: RowKind> {
    segment: Arc<Segment>,
    /// Streams that pass the matchers; `None`: all.
    wanted: Option<RoaringBitmap>,
    blocks: Vec<<K::Reader as RowReader>::BlockRef>,
    tombstones: Vec<Tombstone>,
}

impl<K: RowKind> SegmentSource<K> {
    /// Chooses blocks; `None` when there are none.
    pub(crate) fn open(
        segment: &Arc<Segment>,
        tombstones: &[Tombstone],
        request: &K::Request,
    ) -> Result<Option<Self>> {
        let Some(reader) = K::reader(segment) else {
            return Ok(None);
        };
        let wanted = match request.matchers() {
            [] => None,
            matchers => Some(reader.select_streams(matchers)?),
        };
        if wanted.as_ref().is_some_and(RoaringBitmap::is_empty) {
            return Ok(None);
        }
        let blocks = reader.plan(request, wanted.as_ref())?;
        if blocks.is_empty() {
            return Ok(None);
        }
        let range = request.range();
        let concern = |t: &&Tombstone| t.concerns(segment) && t.range.overlaps(range);
        Ok(Some(Self {
            segment: Arc::clone(segment),
            wanted,
            blocks,
            tombstones: tombstones.iter().filter(concern).cloned().collect(),
        }))
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Which block it is in the segment.
    pub(crate) fn block(&self, number: usize) -> &<K::Reader as RowReader>::BlockRef {
        &self.blocks[number]
    }

    /// Whether deletions concern the segment.
    pub(crate) fn has_deleted(&self) -> bool {
        !self.tombstones.is_empty()
    }

    /// First and last time of a block.
    pub(crate) fn range(&self, number: usize) -> TimeRange {
        self.blocks
            .get(number)
            .map_or(TimeRange::ALL, K::Reader::range_of)
    }

    /// Reads a block, without deleted rows; `None` when no row passes.
    pub(crate) fn read(&self, number: usize, request: &K::Request) -> Result<Option<K::Block>> {
        let Some(reader) = K::reader(&self.segment) else {
            return Ok(None);
        };
        let read = reader.read(&self.blocks[number], request, self.wanted.as_ref())?;
        let Some(read) = read else {
            return Ok(None);
        };
        let mut rows = Selection::All(read.len());
        for tombstone in &self.tombstones {
            remove_deleted(&read, reader.streams(), tombstone, &mut rows)?;
        }
        Ok(match rows {
            Selection::All(_) => Some(read),
            Selection::Rows(rows) if rows.is_empty() => None,
            Selection::Rows(rows) => Some(read.taken(&rows)),
        })
    }
}

/// Takes out the rows of a block that a tombstone covers.
fn remove_deleted<B: RowBlock>(
    block: &B,
    streams: &Streams,
    tombstone: &Tombstone,
    rows: &mut Selection,
) -> Result<()> {
    let mut known: HashMap<u32, bool> = HashMap::new();
    let mut failed = None;
    let times = block.times();
    rows.retain(|row| {
        let time = times.get(row as usize).copied().unwrap_or(0);
        if !tombstone.range.contains(TimestampNs(time)) {
            return true;
        }
        let number = block.stream(row as usize);
        let is_covered = *known.entry(number).or_insert_with(|| {
            let stream = streams.get(number);
            stream.map_or_else(
                |error| {
                    failed = Some(error);
                    false
                },
                |stream| tombstone.covers(&stream.labels, tombstone.range),
            )
        });
        !is_covered
    });
    failed.map_or(Ok(()), Err)
}

/// The batches of a generation of the head.
struct HeadSource<K: RowKind> {
    seen: SeenRows<K::Batch>,
    /// By number of the stream; `None`: all are wanted.
    wanted: Option<Vec<bool>>,
}

impl<K: RowKind> HeadSource<K> {
    fn read(&self, number: usize, request: &K::Request) -> K::Block {
        let seen = &self.seen.batches[number];
        let mut rows = seen.rows.clone();
        let range = request.range();
        if seen.range.start < range.start || range.end < seen.range.end {
            rows.retain_times(seen.batch.times(), range);
        }
        if let Some(wanted) = &self.wanted {
            let number = |stream: &u32| seen.numbers.get(*stream as usize);
            let streams = seen.batch.stream_numbers();
            let wanted = |number: &u32| wanted.get(*number as usize) == Some(&true);
            rows.retain(|row| {
                let number = streams.get(row as usize).and_then(number);
                number.is_some_and(wanted)
            });
        }
        K::read_batch(seen, rows, &self.seen.streams, request)
    }
}

enum Source<K: RowKind> {
    Segment(SegmentSource<K>),
    Head(HeadSource<K>),
}

/// A block that may have rows.
#[derive(Clone, Copy)]
struct Unit {
    source: usize,
    number: usize,
    range: TimeRange,
}

/// What a scan reads from.
struct Plan<K: RowKind> {
    context: RequestContext,
    request: K::Request,
    /// Each with its rank in the order of arrival.
    sources: Vec<(usize, Source<K>)>,
}

impl<K: RowKind> Plan<K> {
    fn read(&self, unit: &Unit) -> Result<Option<K::Block>> {
        self.context.check()?;
        match &self.sources[unit.source].1 {
            Source::Segment(source) => source.read(unit.number, &self.request),
            Source::Head(source) => Ok(Some(source.read(unit.number, &self.request))),
        }
    }

    /// All blocks, in order of arrival.
    fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        for (number, (_, source)) in self.sources.iter().enumerate() {
            let unit = |(at, range)| Unit {
                source: number,
                number: at,
                range,
            };
            match source {
                Source::Segment(source) => {
                    units.extend((0..source.blocks()).map(|at| unit((at, source.range(at)))));
                }
                Source::Head(source) => {
                    let batches = source.seen.batches.iter().enumerate();
                    units.extend(batches.map(|(at, batch)| unit((at, batch.range))));
                }
            }
        }
        units
    }
}

/// Rows of a block that wait until no unread block can precede them.
struct Waiting<B> {
    /// In the order of the scan.
    block: B,
    /// Rank of the source and number in it: orders rows of the same time.
    arrival: (usize, usize),
    /// Rows that were handed out.
    done: usize,
}

/// A scan of either signal.
struct BlockScan<K: RowKind> {
    plan: Plan<K>,
    /// To be read, the next one first.
    units: VecDeque<Unit>,
    ready: VecDeque<((usize, usize), K::Block)>,
    waiting: Vec<Waiting<K::Block>>,
    /// Rows that may still be handed out.
    left: usize,
    failed: bool,
}

impl<K: RowKind> BlockScan<K> {
    fn new(
        inner: &Inner,
        context: &RequestContext,
        request: &K::Request,
        at: &ReadAt,
    ) -> Result<Self> {
        context.check()?;
        if at.as_of.is_some() {
            let why = "only metrics can be read as of an earlier moment";
            return Err(EngineError::InvalidArgument(why.into()));
        }
        let mut request = request.clone();
        request.set_matchers(all_matchers(context, request.matchers()));
        let (view, range) = (&at.view, request.range());
        let mut sources = Vec::new();
        for (rank, segment) in segments_of::<K>(view, context, range) {
            context.check()?;
            let source = SegmentSource::open(segment, &view.tombstones, &request)?;
            sources.extend(source.map(|source| (rank, Source::Segment(source))));
        }
        if let Some(tenant) = inner.tenant(&context.tenant) {
            for (number, head) in view.heads().enumerate() {
                let mark = (at.pin(), K::mark(at.marks(number)));
                let rows = K::rows(head).read();
                let seen = rows.see(tenant.index, range, request.traces(), mark);
                drop(rows);
                let Some(mut seen) = seen else { continue };
                let wanted = wanted_streams(&seen, &request);
                if let Some(wanted) = &wanted {
                    let is_wanted = |number: &u32| wanted.get(*number as usize) == Some(&true);
                    seen.batches
                        .retain(|batch| batch.numbers.iter().any(is_wanted));
                }
                if !seen.batches.is_empty() {
                    let rank = view.segments.len() + number;
                    sources.push((rank, Source::Head(HeadSource { seen, wanted })));
                }
            }
        }
        let plan: Plan<K> = Plan {
            context: context.clone(),
            request,
            sources,
        };
        let mut units = plan.units();
        match plan.request.order() {
            RowOrder::Any => {}
            RowOrder::OldestFirst => units.sort_by_key(|unit| unit.range.start),
            RowOrder::NewestFirst => {
                units.sort_by_key(|unit| std::cmp::Reverse(unit.range.end));
            }
        }
        let left = plan.request.limit().unwrap_or(usize::MAX);
        Ok(Self {
            plan,
            units: units.into(),
            ready: VecDeque::new(),
            waiting: Vec::new(),
            left,
            failed: false,
        })
    }

    /// Reads the next few blocks.
    fn read_ahead(&mut self) -> Result<()> {
        let is_ordered = self.plan.request.order() != RowOrder::Any;
        let threads = rayon::current_num_threads();
        let few = match self.left {
            // A block or two may be all that is needed.
            _ if is_ordered => 1,
            left if left < 10_000 => threads,
            _ => threads * BLOCKS_PER_THREAD,
        };
        let units: Vec<Unit> = self.units.drain(..few.min(self.units.len())).collect();
        let plan = &self.plan;
        let rank = |unit: &Unit| plan.sources[unit.source].0;
        let read = |unit: &Unit| {
            let block = plan.read(unit)?.filter(|block| block.len() > 0);
            Ok(block.map(|block| ((rank(unit), unit.number), block)))
        };
        let blocks: Vec<Option<((usize, usize), K::Block)>> = if units.len() < PARALLEL_BLOCKS_MIN {
            units.iter().map(read).collect::<Result<_>>()?
        } else {
            units.par_iter().map(read).collect::<Result<_>>()?
        };
        self.ready.extend(blocks.into_iter().flatten());
        Ok(())
    }

    /// The next block with rows, as it was read.
    fn next_read(&mut self) -> Result<Option<((usize, usize), K::Block)>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(Some(ready));
            }
            if self.units.is_empty() {
                return Ok(None);
            }
            self.read_ahead()?;
        }
    }

    /// The next block in the order asked for. `hide` may take rows away.
    fn next_block(
        &mut self,
        hide: &mut impl FnMut(usize, K::Block) -> Result<K::Block>,
    ) -> Result<Option<K::Block>> {
        if self.plan.request.order() != RowOrder::Any {
            return self.next_ordered(hide);
        }
        while self.left > 0 {
            let Some(((rank, _), block)) = self.next_read()? else {
                break;
            };
            let block = hide(rank, block)?;
            if block.len() > 0 {
                return Ok(Some(self.cut(block)));
            }
        }
        Ok(None)
    }

    /// At most as many rows as are left to hand out.
    fn cut(&mut self, block: K::Block) -> K::Block {
        let rows = block.len().min(self.left);
        self.left -= rows;
        if rows == block.len() {
            return block;
        }
        let first: Vec<u32> = (0..rows as u32).collect();
        block.taken(&first)
    }

    /// A time that grows in the order asked for.
    fn rank(&self, time: i64) -> i64 {
        match self.plan.request.order() {
            // Without overflow: every time has a rank.
            RowOrder::NewestFirst => !time,
            _ => time,
        }
    }

    fn next_ordered(
        &mut self,
        hide: &mut impl FnMut(usize, K::Block) -> Result<K::Block>,
    ) -> Result<Option<K::Block>> {
        while self.left > 0 {
            // No row of an unread block comes before this rank.
            let unread = self
                .units
                .front()
                .map(|unit| match self.plan.request.order() {
                    RowOrder::NewestFirst => self.rank(unit.range.end.0),
                    _ => self.rank(unit.range.start.0),
                });
            let first = self.first_waiting();
            if let Some(at) = first
                && unread.is_none_or(|unread| self.rank_of(at) < unread)
            {
                let block = self.hand_out(at, unread);
                return Ok(Some(self.cut(block)));
            }
            if unread.is_none() {
                break;
            }
            self.read_ahead()?;
            while let Some((arrival, block)) = self.ready.pop_front() {
                let block = hide(arrival.0, block)?;
                if block.len() > 0 {
                    let block = self.ordered(&block);
                    self.waiting.push(Waiting {
                        block,
                        arrival,
                        done: 0,
                    });
                }
            }
            self.waiting.sort_by_key(|waiting| waiting.arrival);
        }
        Ok(None)
    }

    /// Rows of a block in the order asked for, and no more than can be handed out.
    fn ordered(&self, block: &K::Block) -> K::Block {
        let times = block.times();
        let mut rows: Vec<u32> = (0..block.len() as u32).collect();
        if self.plan.request.order() == RowOrder::NewestFirst {
            rows.reverse();
        }
        rows.sort_by_key(|row| self.rank(times[*row as usize]));
        rows.truncate(self.left);
        block.taken(&rows)
    }

    fn rank_of(&self, at: usize) -> i64 {
        let waiting = &self.waiting[at];
        self.rank(waiting.block.times()[waiting.done])
    }

    /// The waiting block whose next row comes first. Of equal times the earlier arrival is first with
    /// the oldest first, and last with the newest first.
    fn first_waiting(&self) -> Option<usize> {
        let is_open = |at: &usize| {
            let waiting = &self.waiting[*at];
            waiting.done < waiting.block.len()
        };
        let all = (0..self.waiting.len()).filter(is_open);
        match self.plan.request.order() {
            RowOrder::NewestFirst => all.rev().min_by_key(|at| self.rank_of(*at)),
            _ => all.min_by_key(|at| self.rank_of(*at)),
        }
    }

    /// Takes the next rows out of the waiting blocks, as far as they come before `unread` and from one
    /// source.
    fn hand_out(&mut self, first: usize, unread: Option<i64>) -> K::Block {
        let source = Arc::clone(self.waiting[first].block.streams());
        let started: Vec<usize> = self.waiting.iter().map(|waiting| waiting.done).collect();
        // Block and row.
        let mut picked: Vec<(usize, usize)> = Vec::new();
        while picked.len() < self.left.min(HANDED_OUT_ROWS_MAX)
            && let Some(at) = self.first_waiting()
            && unread.is_none_or(|unread| self.rank_of(at) < unread)
            && Arc::ptr_eq(self.waiting[at].block.streams(), &source)
        {
            picked.push((at, self.waiting[at].done));
            self.waiting[at].done += 1;
        }
        // Rows of a block were picked in their order: they are put together block by block, then brought
        // into the order in which they were picked.
        let mut joined: Option<K::Block> = None;
        let mut begins = vec![0; self.waiting.len()];
        for (at, waiting) in self.waiting.iter().enumerate() {
            if waiting.done == started[at] {
                continue;
            }
            let rows: Vec<u32> = (started[at] as u32..waiting.done as u32).collect();
            let taken = waiting.block.taken(&rows);
            match &mut joined {
                None => joined = Some(taken),
                Some(joined) => {
                    begins[at] = joined.len();
                    joined.joined(&taken);
                }
            }
        }
        let joined = joined.expect("bug: a waiting row that comes first was not picked");
        let place = |(at, row): &(usize, usize)| (begins[*at] + row - started[*at]) as u32;
        let places: Vec<u32> = picked.iter().map(place).collect();
        self.waiting
            .retain(|waiting| waiting.done < waiting.block.len());
        if places.is_sorted() {
            joined
        } else {
            joined.taken(&places)
        }
    }
}

/// The segments that may have rows, with their ranks in the order of arrival.
pub(super) fn segments_of<'a, K: RowKind>(
    view: &'a View,
    context: &'a RequestContext,
    range: TimeRange,
) -> impl Iterator<Item = (usize, &'a Arc<Segment>)> {
    view.segments
        .iter()
        .enumerate()
        .filter(move |(_, segment)| {
            let meta = segment.meta();
            let is_right = meta.signal == K::SIGNAL && meta.origin.tenant == context.tenant;
            is_right && meta.range.overlaps(range)
        })
}

/// Which streams of a generation pass the matchers; `None`: all.
fn wanted_streams<B, R: RowRequest>(seen: &SeenRows<B>, request: &R) -> Option<Vec<bool>> {
    let matchers = request.matchers();
    if matchers.is_empty() {
        return None;
    }
    let passes = |stream: &Arc<Stream>| {
        let labels = &stream.labels;
        matchers.iter().all(|m| m.matches_labels(labels))
    };
    let numbers = 0..seen.streams.len() as u32;
    Some(
        numbers
            .map(|number| seen.streams.peek(number).is_some_and(passes))
            .collect(),
    )
}

/// Log records as blocks.
pub struct LogBlockScan(BlockScan<Logs>);

/// Spans as blocks. Of spans of the same identity only the one that arrived last is among them.
pub struct SpanBlockScan {
    scan: BlockScan<Spans>,
    versions: Option<SpanVersions>,
    /// What was asked for.
    request: SpanScanRequest,
}

impl std::fmt::Debug for LogBlockScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogBlockScan")
            .field("unread", &self.0.units.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SpanBlockScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanBlockScan")
            .field("unread", &self.scan.units.len())
            .finish_non_exhaustive()
    }
}

impl LogBlockScan {
    pub(crate) fn new(
        inner: &Inner,
        context: &RequestContext,
        request: &LogScanRequest,
        at: &ReadAt,
    ) -> Result<Self> {
        BlockScan::new(inner, context, request, at).map(Self)
    }
}

impl Iterator for LogBlockScan {
    type Item = Result<LogBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.failed {
            return None;
        }
        let next = self.0.next_block(&mut |_, block| Ok(block));
        self.0.failed = next.is_err();
        next.transpose()
    }
}

impl SpanBlockScan {
    pub(crate) fn new(
        inner: &Inner,
        context: &RequestContext,
        request: &SpanScanRequest,
        at: &ReadAt,
    ) -> Result<Self> {
        let versions = SpanVersions::new(inner, context, at)?;
        let wider = match &versions {
            Some(_) => with_identity(request).into_owned(),
            None => request.clone(),
        };
        Ok(Self {
            scan: BlockScan::new(inner, context, &wider, at)?,
            versions,
            request: request.clone(),
        })
    }
}

impl Iterator for SpanBlockScan {
    type Item = Result<SpanBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.scan.failed {
            return None;
        }
        let Self { scan, versions, .. } = self;
        let next = scan.next_block(&mut |rank, block| match versions {
            Some(versions) => versions.without_replaced(rank, block),
            None => Ok(block),
        });
        scan.failed = next.is_err();
        let columns = self.request.columns;
        next.map(|block| block.map(|block| narrowed(block, columns)))
            .transpose()
    }
}

/// A block without ids and kinds that were read only to tell versions apart.
fn narrowed(mut block: SpanBlock, columns: SpanColumnSet) -> SpanBlock {
    if !columns.trace_id {
        block.trace_id = IdColumn::None;
    }
    if !columns.span_ids {
        block.span_id = IdColumn::None;
        block.parent_span_id = IdColumn::None;
    }
    if !columns.kind {
        block.kind = IntColumn::Constant(0);
    }
    block
}
