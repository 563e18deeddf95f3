//! An open log segment: which blocks a scan has to look at, and the rows of a block that pass.

use std::ops::Deref;
use std::path::PathBuf;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::index::text_filter::{Required, TextFilter};
use crate::model::Signal;
use crate::model::TimeRange;
use crate::rows::{
    AttributeChoice, AttributeScope, LogBatch, LogBlock, LogColumnSet, LogCondition,
    LogScanRequest, RowOrder, Selection, ValueTest,
};

use super::super::file::SegmentBytes;
use super::super::format::SectionKind;
use super::super::rows::columns::Field;
use super::super::rows::legacy_logs;
use super::super::rows::{BlockRef, RowSegmentReader};
use super::block::{Details, OpenBlock, Source};
use super::trace_table::TraceTable;

/// An open log segment of any version.
#[derive(Debug)]
pub struct LogSegmentReader(RowSegmentReader);

impl Deref for LogSegmentReader {
    type Target = RowSegmentReader;

    fn deref(&self) -> &RowSegmentReader {
        &self.0
    }
}

/// A request for every row and everything that it has.
fn everything() -> LogScanRequest {
    LogScanRequest {
        columns: LogColumnSet::ALL,
        attributes: AttributeChoice::All,
        ..LogScanRequest::new(Vec::new(), TimeRange::ALL)
    }
}

/// Which conditions are cheap to decide: those first.
fn cost(condition: &LogCondition) -> u8 {
    match condition {
        LogCondition::Trace(_) => 0,
        LogCondition::Severity(_) => 1,
        LogCondition::Attribute {
            scope: AttributeScope::Row,
            ..
        } => 4,
        LogCondition::Attribute { .. } => 2,
        LogCondition::SeverityText(_) | LogCondition::EventName(_) => 3,
        LogCondition::Body(_) => 5,
    }
}

impl LogSegmentReader {
    /// Opens a segment; `path` is for error messages.
    ///
    /// # Errors
    /// [`crate::EngineError::Corruption`] when the file is damaged where opening looks, or holds
    /// another signal.
    pub fn open(bytes: SegmentBytes, path: impl Into<PathBuf>) -> Result<Self> {
        RowSegmentReader::open(bytes, path, Signal::Logs).map(Self)
    }

    /// The blocks that may have rows for a request, in order of stream and time. `streams` are those
    /// that [`RowSegmentReader::select_streams`] chose; `None` for all. Looks at directory, filters and
    /// table of traces only.
    ///
    /// # Errors
    /// Damage.
    pub fn plan(
        &self,
        request: &LogScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Vec<BlockRef>> {
        let mut traces: Option<RoaringBitmap> = None;
        let mut required = Vec::new();
        for condition in &request.conditions {
            match condition {
                LogCondition::Trace(ids) => {
                    let mut blocks = RoaringBitmap::new();
                    for id in ids.iter() {
                        blocks |= self.blocks_of_trace(id)?;
                    }
                    traces = Some(match traces {
                        Some(others) => others & blocks,
                        None => blocks,
                    });
                }
                LogCondition::Body(test)
                | LogCondition::EventName(test)
                | LogCondition::Attribute {
                    scope: AttributeScope::Row,
                    test: ValueTest::Text(test),
                    ..
                } => {
                    let needed = Required::by_test(test);
                    if needed != Required::Nothing {
                        let is_body = matches!(condition, LogCondition::Body(_));
                        required.push((needed, is_body));
                    }
                }
                _ => {}
            }
        }
        let is_typed = self.trace_table().is_some();
        let looks_at_details = request.conditions.iter().any(|condition| {
            matches!(
                condition,
                LogCondition::Severity(_)
                    | LogCondition::EventName(_)
                    | LogCondition::Attribute {
                        scope: AttributeScope::Row,
                        ..
                    }
            )
        });
        let keys: HashMap<&str, u32> = match looks_at_details {
            true => (0..)
                .zip(self.attribute_keys())
                .map(|(number, key)| (&**key, number))
                .collect(),
            false => HashMap::new(),
        };
        let mut chosen = Vec::new();
        for block in self.all_blocks() {
            let head = &block.head;
            let its_streams = head.first_stream..=head.last_stream;
            if !head.range.overlaps(request.range)
                || traces
                    .as_ref()
                    .is_some_and(|blocks| !blocks.contains(block.number as u32))
                || streams.is_some_and(|all| all.range_cardinality(its_streams) == 0)
            {
                continue;
            }
            if is_typed && looks_at_details {
                let details = self.log_details(&block)?;
                let key_of = |key: &str| keys.get(key).copied();
                let conditions = &request.conditions;
                if !conditions.iter().all(|c| details.may_pass(c, key_of)) {
                    continue;
                }
            }
            if is_typed && !required.is_empty() && !self.has_required(&block, &required)? {
                continue;
            }
            chosen.push(block);
        }
        Ok(chosen)
    }

    /// Whether a block may have all that is required, the flag says of bodies. The filter knows of bodies
    /// that are values only their texts, not how they read as a whole.
    fn has_required(&self, block: &BlockRef, required: &[(Required, bool)]) -> Result<bool> {
        let head = &block.head;
        let section = self.file().section(SectionKind::TokenFilters);
        let length = usize::try_from(head.filter_length).unwrap_or(usize::MAX);
        let bytes = self.file().get_in(section, head.filter_offset, length)?;
        let Some(filter) = TextFilter::read(bytes) else {
            let at = section.offset + head.filter_offset;
            return Err(self.file().corrupt(at, "a filter of text", "other bytes"));
        };
        let mut lacking = required
            .iter()
            .filter(|(needed, _)| !needed.may_be_in(&filter))
            .peekable();
        if lacking.peek().is_none() {
            return Ok(true);
        }
        if !lacking.all(|(_, is_body)| *is_body) {
            return Ok(false);
        }
        let details = self.log_details(block)?;
        Ok(details.find(Field::BodyKind).is_some())
    }

    pub(crate) fn log_details(&self, block: &BlockRef) -> Result<Details> {
        let data = self.file().section(SectionKind::Data);
        let mut cursor = self.details_cursor(block)?;
        Details::read(&mut cursor, data.offset.saturating_add(block.head.offset))
    }

    fn source<'a>(&'a self, traces: &'a TraceTable) -> Source<'a> {
        Source {
            file: self.file(),
            keys: self.attribute_keys(),
            streams: self.streams(),
            stream_count: self.stream_count(),
            traces,
        }
    }

    /// The rows of a block that pass, with the columns asked for, in order of stream, time and arrival;
    /// `None` when no row passes. Order and limit of the request are left to the caller.
    ///
    /// # Errors
    /// Damage.
    pub fn read(
        &self,
        block: &BlockRef,
        request: &LogScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Option<LogBlock>> {
        self.read_first(block, request, streams, None)
    }

    /// As [`LogSegmentReader::read`]; `first` says in which order only so many rows are of use: others
    /// are left out, but for those of equal time. Not for rows of which some are taken away later.
    ///
    /// # Errors
    /// Damage.
    pub fn read_first(
        &self,
        block: &BlockRef,
        request: &LogScanRequest,
        streams: Option<&RoaringBitmap>,
        first: Option<(RowOrder, usize)>,
    ) -> Result<Option<LogBlock>> {
        let mut rows = Selection::All(block.row_count());
        let Some(traces) = self.trace_table() else {
            return self.read_legacy(block, request, streams);
        };
        let source = self.source(traces);
        let details = self.log_details(block)?;
        let mut open = OpenBlock::new(&source, &details, block.row_count());
        let head = &block.head;
        if let Some(all) = streams {
            let count = u64::from(head.last_stream - head.first_stream) + 1;
            if all.range_cardinality(head.first_stream..=head.last_stream) < count {
                let numbers = open.streams()?;
                let mut last = (-1, false);
                rows.retain(|row| {
                    let number = numbers.get(row as usize);
                    if last.0 != number {
                        last = (number, all.contains(number as u32));
                    }
                    last.1
                });
            }
        }
        let range = request.range;
        if !(range.start <= head.range.start && head.range.end <= range.end) {
            rows.retain_times(open.times()?, range);
        }
        let mut conditions: Vec<&LogCondition> = request.conditions.iter().collect();
        conditions.sort_by_key(|condition| cost(condition));
        for condition in conditions {
            if rows.is_empty() {
                break;
            }
            open.retain(condition, &mut rows)?;
        }
        if rows.is_empty() {
            return Ok(None);
        }
        if let Some((order, count)) = first
            && order != RowOrder::Any
            && rows.len() > count
        {
            keep_first(open.times()?, order, count, &mut rows);
        }
        open.finish(request, rows).map(Some)
    }

    fn read_legacy(
        &self,
        block: &BlockRef,
        request: &LogScanRequest,
        streams: Option<&RoaringBitmap>,
    ) -> Result<Option<LogBlock>> {
        let mut batch = LogBatch::new();
        let mut numbers = Vec::new();
        for (stream, record) in legacy_logs::read_block(self, block, request.range, streams)? {
            if numbers.last() != Some(&stream) {
                batch.stream(self.streams().get(stream)?);
                numbers.push(stream);
            }
            batch.push(numbers.len() as u32 - 1, &record);
        }
        let mut rows = Selection::All(batch.len());
        for condition in &request.conditions {
            condition.retain_batch(&batch, &mut rows);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let (columns, attributes) = (request.columns, &request.attributes);
        let block = batch.block(self.streams(), &numbers, &rows, columns, attributes);
        Ok(Some(block))
    }

    /// All rows of a block as a batch, in stored order: for merges.
    ///
    /// # Errors
    /// Damage.
    pub fn read_batch(&self, block: &BlockRef) -> Result<LogBatch> {
        match self.read(block, &everything(), None)? {
            Some(rows) => LogBatch::of_block(&rows),
            None => Ok(LogBatch::new()),
        }
    }

    /// Decodes every block and compares it with directory and table of traces: for verify. Answers the
    /// number of rows.
    pub(crate) fn verify_blocks(&self) -> Result<u64> {
        let mut rows = 0;
        let Some(traces) = self.trace_table() else {
            for block in self.all_blocks() {
                rows += self.read_batch(&block)?.len() as u64;
            }
            return Ok(rows);
        };
        traces.verify(self.file(), self.all_blocks().len() as u32)?;
        let source = self.source(traces);
        for block in self.all_blocks() {
            let details = self.log_details(&block)?;
            OpenBlock::new(&source, &details, block.row_count()).verify(&block)?;
            self.has_required(&block, &[])?;
            rows += self.read_batch(&block)?.len() as u64;
        }
        Ok(rows)
    }
}

/// Keeps the first `count` rows in an order, and what has the time of the last of them.
fn keep_first(times: &[i64], order: RowOrder, count: usize, rows: &mut Selection) {
    if count == 0 {
        *rows = Selection::NONE;
        return;
    }
    let time = |row: u32| times.get(row as usize).copied().unwrap_or(0);
    let mut sorted = Vec::with_capacity(rows.len());
    rows.for_each(|row| sorted.push(time(row)));
    let newest = order == RowOrder::NewestFirst;
    let place = if newest {
        sorted.len() - count
    } else {
        count - 1
    };
    let (_, edge, _) = sorted.select_nth_unstable(place);
    let edge = *edge;
    rows.retain(|row| {
        if newest {
            time(row) >= edge
        } else {
            time(row) <= edge
        }
    });
}
