//! A span segment of version 4: which blocks a scan reads, and which rows of them.

use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::block_reader::{BlockReader, Keys, Wanted};
use super::directory::{BlockHead, Directory, NumberZone};
use super::filter::{self, BlockFacts, Need, SegmentFacts};
use super::reader::SpanBlockRef;
use super::sets::Chosen;
use super::stream_table::StreamTable;
use super::traces::Traces;
use crate::error::Result;
use crate::model::TraceId;
use crate::rows::{
    AttributeChoice, AttributeScope, Selection, SpanBlock, SpanCondition, SpanScanRequest, Streams,
    ValueTest, stream_passes,
};
use crate::segment::file::SegmentFile;
use crate::segment::format::SectionKind;
use crate::segment::meta::SegmentMeta;

/// A segment of version 4.
pub(super) struct Columns {
    pub(super) file: SegmentFile,
    pub(super) meta: SegmentMeta,
    pub(super) table: StreamTable,
    pub(super) directory: Directory,
    pub(super) traces: Traces,
    pub(super) keys: Vec<Arc<str>>,
    key_numbers: HashMap<Arc<str>, u32>,
}

pub(super) fn reference(number: usize, head: &BlockHead) -> SpanBlockRef {
    SpanBlockRef {
        number,
        rows: head.rows,
        range: head.range,
    }
}

/// A block as it lies in the file, with what the tables say of it.
pub(super) struct StoredBlock<'a> {
    pub(super) head: BlockHead,
    /// First starts of the first and the last trace.
    pub(super) first_times: (i64, i64),
    /// The ids of its traces, one after the other.
    pub(super) traces: &'a [u8],
    pub(super) streams: Vec<u32>,
    pub(super) zones: Vec<NumberZone>,
    pub(super) bytes: &'a [u8],
    pub(super) filter: &'a [u8],
}

/// More streams than these are not tested one by one to pass over a segment.
const STREAMS_TESTED_MAX: usize = 1024;

/// The segment as far as its tables know it.
struct WholeSegment<'a> {
    columns: &'a Columns,
    streams: &'a Streams,
}

impl SegmentFacts for WholeSegment<'_> {
    fn key_number(&self, key: &str) -> Option<u32> {
        self.columns.key_number(key)
    }

    fn some_stream_passes(&self, scope: AttributeScope, key: &str, test: &ValueTest) -> bool {
        if self.streams.len() > STREAMS_TESTED_MAX {
            return true;
        }
        (0..self.streams.len() as u32).any(|number| match self.streams.get(number) {
            Ok(stream) => stream_passes(&stream, scope, key, test),
            // The reader will say what is wrong.
            Err(_) => true,
        })
    }
}

/// A block as far as directory and filter know it.
struct Facts<'a> {
    columns: &'a Columns,
    number: usize,
    head: &'a BlockHead,
    filter: &'a [u8],
}

impl BlockFacts for Facts<'_> {
    fn filter_has(&self, hash: u64) -> bool {
        filter::has(self.filter, hash)
    }

    fn durations(&self) -> (i64, i64) {
        (self.head.duration_min, self.head.duration_max)
    }

    fn kinds(&self) -> u8 {
        self.head.kinds
    }

    fn statuses(&self) -> u8 {
        self.head.statuses
    }

    fn numbers(&self, key: u32) -> Option<(f64, f64)> {
        // A damaged entry passes nothing over: reading the block then finds what there is.
        let zones = self
            .columns
            .directory
            .zones(&self.columns.file, self.number);
        match zones {
            Ok(zones) => zones
                .iter()
                .find(|zone| zone.0 == key)
                .map(|(_, min, max)| (*min, *max)),
            Err(_) => Some((f64::NEG_INFINITY, f64::INFINITY)),
        }
    }
}

/// The trace ids that rows must have by the conditions, if these say so.
fn traces_of(conditions: &[SpanCondition]) -> Option<&[TraceId]> {
    conditions.iter().find_map(|condition| match condition {
        SpanCondition::Trace(ids) => Some(&**ids),
        _ => None,
    })
}

impl Columns {
    pub(super) fn open(file: SegmentFile) -> Result<Self> {
        let meta = SegmentMeta::read(&file)?;
        let traces = Traces::open(&file)?;
        let mut cursor = file.cursor(SectionKind::AttributeKeys)?;
        let mut keys: Vec<Arc<str>> = Vec::new();
        if cursor.remaining() > 0 {
            for _ in 0..cursor.count("attribute key count")? {
                keys.push(cursor.str()?.into());
            }
            cursor.finish()?;
        }
        let numbers = keys.iter().zip(0..);
        Ok(Self {
            key_numbers: numbers.map(|(key, at)| (Arc::clone(key), at)).collect(),
            // Bounded by u32 when the meta section was read.
            table: StreamTable::open(&file, meta.series_count as u32)?,
            directory: Directory::open(&file, traces.len())?,
            traces,
            keys,
            meta,
            file,
        })
    }

    pub(super) fn key_number(&self, key: &str) -> Option<u32> {
        self.key_numbers.get(key).copied()
    }

    pub(super) fn plan(
        &self,
        request: &SpanScanRequest,
        streams: Option<&RoaringBitmap>,
        table: &Streams,
    ) -> Result<Vec<SpanBlockRef>> {
        if streams.is_some_and(RoaringBitmap::is_empty) {
            return Ok(Vec::new());
        }
        let with_trace = match traces_of(&request.conditions) {
            Some(ids) => Some(self.blocks_of_traces(ids)?),
            None => None,
        };
        let segment = WholeSegment {
            columns: self,
            streams: table,
        };
        let need = Need::of(&request.conditions, &segment);
        let all_streams = streams.is_none_or(|s| s.len() >= u64::from(self.table.len()));
        let mut planned = Vec::new();
        let mut consider = |number: usize, head: &BlockHead| -> Result<()> {
            if !head.range.overlaps(request.range) {
                return Ok(());
            }
            if !all_streams && !self.has_stream_of(number, streams)? {
                return Ok(());
            }
            let filters = self.file.section(SectionKind::TokenFilters);
            let length = usize::try_from(head.filter_length).unwrap_or(usize::MAX);
            let facts = Facts {
                columns: self,
                number,
                head,
                filter: match request.conditions.is_empty() {
                    true => &[],
                    false => self.file.get_in(filters, head.filter_offset, length)?,
                },
            };
            if need.may_hold(&facts) {
                planned.push(reference(number, head));
            }
            Ok(())
        };
        match with_trace {
            Some(blocks) => {
                for number in blocks {
                    if let Some(head) = self.directory.head(number as usize) {
                        consider(number as usize, head)?;
                    }
                }
            }
            None => {
                for (number, head) in self.directory.heads().enumerate() {
                    consider(number, head)?;
                }
            }
        }
        Ok(planned)
    }

    fn blocks_of_traces(&self, ids: &[TraceId]) -> Result<RoaringBitmap> {
        let mut blocks = RoaringBitmap::new();
        for id in ids {
            if let Some(number) = self.traces.find(&self.file, id)? {
                let range = self.traces.blocks_of(&self.directory, number);
                blocks.insert_range(range.start as u32..range.end as u32);
            }
        }
        Ok(blocks)
    }

    fn has_stream_of(&self, block: usize, streams: Option<&RoaringBitmap>) -> Result<bool> {
        let Some(streams) = streams else {
            return Ok(true);
        };
        let mut found = false;
        self.directory.streams(&self.file, block, |stream| {
            found = streams.contains(stream);
            !found
        })?;
        Ok(found)
    }

    /// The ids of the traces of a block.
    pub(super) fn traces_of_block(&self, number: usize) -> Result<&[[u8; 16]]> {
        let Some(head) = self.directory.head(number) else {
            return Ok(&[]);
        };
        let ids = self.traces.ids(&self.file, head.first_trace, head.traces)?;
        Ok(ids.as_chunks::<16>().0)
    }

    /// A block as it lies in the file.
    pub(super) fn stored_block(
        &self,
        number: usize,
        streams: &Arc<Streams>,
    ) -> Result<Option<StoredBlock<'_>>> {
        let Some(head) = self.directory.head(number) else {
            return Ok(None);
        };
        let times = self.with_block(number, streams, |block| block.first_times())?;
        let mut its_streams = Vec::new();
        self.directory.streams(&self.file, number, |stream| {
            its_streams.push(stream);
            true
        })?;
        let length = |length: u64| usize::try_from(length).unwrap_or(usize::MAX);
        let data = self.file.section(SectionKind::Data);
        let filters = self.file.section(SectionKind::TokenFilters);
        Ok(Some(StoredBlock {
            head: *head,
            first_times: times.unwrap_or_default(),
            traces: self.traces.ids(&self.file, head.first_trace, head.traces)?,
            streams: its_streams,
            zones: self.directory.zones(&self.file, number)?,
            bytes: self.file.get_in(data, head.offset, length(head.length))?,
            filter: self
                .file
                .get_in(filters, head.filter_offset, length(head.filter_length))?,
        }))
    }

    /// Opens a block and calls `look` with it.
    pub(super) fn with_block<T>(
        &self,
        number: usize,
        streams: &Arc<Streams>,
        look: impl FnOnce(&BlockReader<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(head) = self.directory.head(number) else {
            return Ok(None);
        };
        let data = self.file.section(SectionKind::Data);
        if head
            .offset
            .checked_add(head.length)
            .is_none_or(|end| end > data.length)
        {
            return Err(self.file.corrupt(
                data.offset,
                &format!("a block inside {} bytes", data.length),
                &format!("{} bytes at {}", head.length, head.offset),
            ));
        }
        let traces = self.traces.ids(&self.file, head.first_trace, head.traces)?;
        let find = |key: &str| self.key_number(key);
        let keys = Keys {
            names: &self.keys,
            find: &find,
        };
        let offset = data.offset + head.offset;
        let reader = BlockReader::open(&self.file, *head, offset, traces, keys, streams)?;
        look(&reader).map(Some)
    }

    pub(super) fn read(
        &self,
        block: &SpanBlockRef,
        request: &SpanScanRequest,
        streams: Option<&RoaringBitmap>,
        all_streams: &Arc<Streams>,
    ) -> Result<Option<SpanBlock>> {
        let found = self.with_block(block.number, all_streams, |reader| {
            let Some(rows) = select(reader, block, request, streams)? else {
                return Ok(None);
            };
            let chosen = match &rows {
                Selection::All(count) => Chosen::All(*count),
                Selection::Rows(rows) => Chosen::These(rows),
            };
            let wanted = Wanted {
                columns: request.columns,
                stream: true,
                time: true,
                attributes: request.attributes.clone(),
                event_attributes: AttributeChoice::All,
                link_attributes: AttributeChoice::All,
            };
            reader.block(&wanted, chosen).map(Some)
        })?;
        Ok(found.flatten())
    }

    /// Refuses a block whose rows would take more memory than any block that we write.
    pub(super) fn check_size(&self, block: &SpanBlock) -> Result<()> {
        let bytes = super::size::expanded_bytes(block);
        if bytes <= super::size::EXPANDED_BYTES_MAX {
            return Ok(());
        }
        Err(self.file.corrupt(
            self.file.section(SectionKind::Data).offset,
            &format!(
                "a block of at most {} bytes",
                super::size::EXPANDED_BYTES_MAX
            ),
            &bytes.to_string(),
        ))
    }
}

/// The rows that pass; `None` when there are none.
fn select(
    reader: &BlockReader<'_>,
    block: &SpanBlockRef,
    request: &SpanScanRequest,
    streams: Option<&RoaringBitmap>,
) -> Result<Option<Selection>> {
    let mut rows = Selection::All(reader.rows());
    if let Some(ids) = traces_of(&request.conditions) {
        rows = Selection::Rows(reader.rows_of_traces(ids)?);
    }
    let whole = request.range.start <= block.range.start && block.range.end <= request.range.end;
    if !whole && !rows.is_empty() {
        let times = reader.times(chosen_of(&rows))?;
        narrow(&mut rows, |at| {
            let time = times[at as usize];
            request.range.start.0 <= time && time <= request.range.end.0
        });
    }
    if let Some(streams) = streams
        && !rows.is_empty()
    {
        let numbers = reader.stream_numbers(chosen_of(&rows))?;
        // A look into the bitmap costs more than all else here, and most rows ask for few streams.
        let mut known = HashMap::new();
        let mut last = (-1, false);
        narrow(&mut rows, |at| {
            let number = numbers.get(at as usize);
            if number != last.0 {
                let wanted = || streams.contains(number as u32);
                last = (number, *known.entry(number).or_insert_with(wanted));
            }
            last.1
        });
    }
    for condition in &request.conditions {
        if rows.is_empty() {
            break;
        }
        if matches!(condition, SpanCondition::Trace(_))
            && request
                .conditions
                .iter()
                .filter(|c| matches!(c, SpanCondition::Trace(_)))
                .count()
                == 1
        {
            continue;
        }
        let chosen = chosen_of(&rows);
        let part = reader.block(&Wanted::of(condition), chosen)?;
        let mut passed = Selection::All(part.rows);
        condition.retain(&part, &mut passed)?;
        if let Selection::Rows(passed) = passed {
            rows = match rows {
                Selection::All(_) => Selection::Rows(passed),
                Selection::Rows(rows) => Selection::Rows(
                    passed
                        .iter()
                        .filter_map(|at| rows.get(*at as usize).copied())
                        .collect(),
                ),
            };
        }
    }
    Ok((!rows.is_empty()).then_some(rows))
}

fn chosen_of(rows: &Selection) -> Chosen<'_> {
    match rows {
        Selection::All(count) => Chosen::All(*count),
        Selection::Rows(rows) => Chosen::These(rows),
    }
}

/// Keeps the rows whose place among the rows passes.
fn narrow(rows: &mut Selection, mut passes: impl FnMut(u32) -> bool) {
    let mut at = 0;
    rows.retain(|_| {
        at += 1;
        passes(at - 1)
    });
}
