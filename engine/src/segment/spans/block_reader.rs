//! Decodes the columns of one block, of all its spans or of some.

use std::cell::OnceCell;
use std::sync::Arc;

use super::directory::BlockHead;
use super::fields::{Field, Group, StoredColumn, read_columns};
use super::sets::{Chosen, Sets};
use super::sets_builder::{KEY_MESSAGE, KEY_NAME, KEY_OVERFLOW, KEY_TRACE_STATE, KEYS_FROM};
use super::values::Kind;
use crate::codec::integers;
use crate::codec::strings::Strings;
use crate::codec::varint::unzigzag;
use crate::error::{EngineError, Result};
use crate::rows::{
    AttributeChoice, AttributeColumn, AttributeValues, IdColumn, IntColumn, Nested, SpanBlock,
    SpanColumnSet, Streams, TextColumn,
};
use crate::segment::column::bad_block;
use crate::segment::file::SegmentFile;

/// The attribute keys of a segment by number.
pub(super) struct Keys<'a> {
    pub(super) names: &'a [Arc<str>],
    pub(super) find: &'a dyn Fn(&str) -> Option<u32>,
}

/// A block whose columns are decoded when they are asked for.
pub(super) struct BlockReader<'a> {
    file: &'a SegmentFile,
    head: BlockHead,
    /// In the file.
    offset: u64,
    columns: Vec<StoredColumn<'a>>,
    /// The ids of the block's traces, one after the other.
    traces: &'a [u8],
    keys: Keys<'a>,
    streams: &'a Arc<Streams>,
    /// Where each run of spans of one trace ends.
    run_ends: OnceCell<Vec<u32>>,
    sets: OnceCell<Option<Sets<'a>>>,
}

/// Which columns of a block are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) columns: SpanColumnSet,
    pub(super) stream: bool,
    pub(super) time: bool,
    pub(super) attributes: AttributeChoice,
    pub(super) event_attributes: AttributeChoice,
    pub(super) link_attributes: AttributeChoice,
}

impl<'a> BlockReader<'a> {
    /// Reads the list of columns. `offset` is where the block begins in the file.
    pub(super) fn open(
        file: &'a SegmentFile,
        head: BlockHead,
        offset: u64,
        traces: &'a [u8],
        keys: Keys<'a>,
        streams: &'a Arc<Streams>,
    ) -> Result<Self> {
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        Ok(Self {
            file,
            head,
            offset,
            columns: read_columns(file, offset, length)?,
            traces,
            keys,
            streams,
            run_ends: OnceCell::new(),
            sets: OnceCell::new(),
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.head.rows as usize
    }

    /// The attribute keys of the segment.
    pub(super) fn keys(&self) -> &Keys<'a> {
        &self.keys
    }

    /// The columns as they lie in the file.
    pub(super) fn stored(&self) -> &[StoredColumn<'a>] {
        &self.columns
    }

    /// Key and kind of a column of attributes, by its place in the table of a group.
    pub(super) fn sets_of(&self, group: Group, count: usize) -> Result<Option<Sets<'a>>> {
        let key_count = self.keys.names.len() as u32;
        Sets::read(self.file, &self.columns, group, count, key_count)
    }

    #[cold]
    pub(super) fn corrupt(&self, expected: &str, found: impl ToString) -> EngineError {
        self.file.corrupt(self.offset, expected, &found.to_string())
    }

    fn find(&self, field: Field) -> Option<&StoredColumn<'a>> {
        self.columns.iter().find(|column| column.field == field)
    }

    /// A column that must be there, with that many values.
    fn need(&self, field: Field, count: usize) -> Result<&StoredColumn<'a>> {
        match self.find(field) {
            Some(column) if column.count == count => Ok(column),
            found => Err(self.corrupt(
                &format!("{count} values of {field:?}"),
                found.map_or(0, |column| column.count),
            )),
        }
    }

    /// The chosen values of a column of integers.
    fn ints(&self, field: Field, count: usize, chosen: Chosen<'_>) -> Result<Vec<i64>> {
        let column = self.need(field, count)?;
        let mut values = Vec::new();
        integers::decode_range(column.bytes, count, chosen.span(), &mut values)
            .map_err(|error| bad_block(self.file, column.offset, &error))?;
        Ok(chosen.pick(values))
    }

    /// The chosen ids of a column of `N` bytes each.
    fn ids<const N: usize>(
        &self,
        field: Field,
        count: usize,
        rows: impl Iterator<Item = usize>,
    ) -> Result<Vec<[u8; N]>> {
        let column = self.need(field, count)?;
        let (ids, rest) = column.bytes.as_chunks::<N>();
        if ids.len() != count || !rest.is_empty() {
            return Err(self.corrupt(&format!("{count} ids of {N} bytes"), column.bytes.len()));
        }
        Ok(rows
            .map(|row| ids.get(row).copied().unwrap_or([0; N]))
            .collect())
    }

    /// Where each run ends.
    pub(super) fn run_ends(&self) -> Result<&[u32]> {
        if let Some(ends) = self.run_ends.get() {
            return Ok(ends);
        }
        let runs = self.head.traces as usize;
        let lengths = self.ints(Field::RunLengths, runs, Chosen::All(runs))?;
        let mut ends = Vec::with_capacity(runs);
        let mut end = 0_u32;
        for length in lengths {
            let next = u32::try_from(length)
                .ok()
                .and_then(|length| end.checked_add(length))
                .filter(|next| *next > end && *next <= self.head.rows);
            let Some(next) = next else {
                return Err(self.corrupt("runs of spans inside the block", length));
            };
            end = next;
            ends.push(end);
        }
        if end != self.head.rows {
            return Err(self.corrupt(&format!("runs of {} spans", self.head.rows), end));
        }
        Ok(self.run_ends.get_or_init(|| ends))
    }

    /// The runs that the chosen rows are in: first run, and for each chosen row its run.
    fn runs_of(&self, chosen: Chosen<'_>) -> Result<Vec<u32>> {
        let ends = self.run_ends()?;
        let mut runs = Vec::with_capacity(chosen.len());
        match chosen {
            Chosen::All(_) => {
                for (run, end) in ends.iter().enumerate() {
                    runs.resize(*end as usize, run as u32);
                }
            }
            Chosen::These(rows) => {
                let mut run = match rows.first() {
                    Some(first) => ends.partition_point(|end| end <= first),
                    None => 0,
                };
                for row in rows {
                    while ends.get(run).is_some_and(|end| end <= row) {
                        run += 1;
                    }
                    runs.push(run as u32);
                }
            }
        }
        Ok(runs)
    }

    /// Start times.
    pub(super) fn times(&self, chosen: Chosen<'_>) -> Result<Vec<i64>> {
        let ends = self.run_ends()?;
        let span = chosen.span();
        if span.is_empty() {
            return Ok(Vec::new());
        }
        let first_run = ends.partition_point(|end| *end as usize <= span.start);
        let from = match first_run {
            0 => 0,
            _ => ends[first_run - 1] as usize,
        };
        let last_run = ends.partition_point(|end| (*end as usize) < span.end);
        let runs = self.head.traces as usize;
        let firsts_column = self.need(Field::RunTimes, runs)?;
        let mut firsts = Vec::new();
        let of_runs = first_run..(last_run + 1).min(runs);
        integers::decode_range(firsts_column.bytes, runs, of_runs.clone(), &mut firsts)
            .map_err(|error| bad_block(self.file, firsts_column.offset, &error))?;
        let deltas = self.need(Field::TimeDeltas, self.rows())?;
        let mut times = Vec::new();
        integers::decode_range(deltas.bytes, self.rows(), from..span.end, &mut times)
            .map_err(|error| bad_block(self.file, deltas.offset, &error))?;
        let mut start = 0;
        for (run, first) in of_runs.zip(firsts) {
            let end = (ends[run] as usize - from).min(times.len());
            let mut time = first;
            for value in &mut times[start..end] {
                time = time.wrapping_add(*value);
                *value = time;
            }
            start = end;
        }
        times.drain(..span.start - from);
        Ok(chosen.pick(times))
    }

    /// First starts of the first and the last run.
    pub(super) fn first_times(&self) -> Result<(i64, i64)> {
        let runs = self.head.traces as usize;
        let times = self.ints(Field::RunTimes, runs, Chosen::All(runs))?;
        let (first, last) = (times.first().copied(), times.last().copied());
        Ok((first.unwrap_or(0), last.unwrap_or(0)))
    }

    /// Stream numbers.
    pub(super) fn stream_numbers(&self, chosen: Chosen<'_>) -> Result<IntColumn> {
        let numbers = self.ints(Field::Stream, self.rows(), chosen)?;
        let count = self.streams.len() as u64;
        // As unsigned, negative numbers are too large as well.
        let max = numbers
            .iter()
            .fold(0, |max, number| max.max(*number as u64));
        if max >= count && !numbers.is_empty() {
            return Err(self.corrupt(&format!("a stream below {count}"), max));
        }
        Ok(IntColumn::Values(numbers))
    }

    fn sets(&self) -> Result<Option<&Sets<'a>>> {
        if let Some(sets) = self.sets.get() {
            return Ok(sets.as_ref());
        }
        let sets = self.sets_of(Group::Spans, self.rows())?;
        if sets.is_none() {
            return Err(self.corrupt("classes of spans", "none"));
        }
        Ok(self.sets.get_or_init(|| sets).as_ref())
    }

    fn trace_ids(&self, chosen: Chosen<'_>) -> Result<IdColumn<16>> {
        let (ids, _) = self.traces.as_chunks::<16>();
        let id = |run: &u32| ids.get(*run as usize).copied().unwrap_or([0; 16]);
        Ok(IdColumn::Values(
            self.runs_of(chosen)?.iter().map(id).collect(),
        ))
    }

    /// Rows of the block that belong to one of these traces.
    pub(super) fn rows_of_traces(&self, wanted: &[crate::model::TraceId]) -> Result<Vec<u32>> {
        let (ids, _) = self.traces.as_chunks::<16>();
        let few = wanted.len() <= 8;
        let set: hashbrown::HashSet<[u8; 16]> = match few {
            true => hashbrown::HashSet::new(),
            false => wanted.iter().map(|id| id.0).collect(),
        };
        let ends = self.run_ends()?;
        let mut rows = Vec::new();
        let mut start = 0;
        for (id, end) in ids.iter().zip(ends) {
            let found = match few {
                true => wanted.iter().any(|wanted| wanted.0 == *id),
                false => set.contains(id),
            };
            // All zeros are no id.
            if found && *id != [0; 16] {
                rows.extend(start..*end);
            }
            start = *end;
        }
        Ok(rows)
    }

    fn span_ids(&self, chosen: Chosen<'_>) -> Result<IdColumn<8>> {
        let ids = match chosen {
            Chosen::All(count) => self.ids(Field::SpanIds, self.rows(), 0..count)?,
            Chosen::These(rows) => {
                let rows = rows.iter().map(|row| *row as usize);
                self.ids(Field::SpanIds, self.rows(), rows)?
            }
        };
        Ok(IdColumn::Values(ids))
    }

    fn parent_ids(&self, chosen: Chosen<'_>) -> Result<IdColumn<8>> {
        let rows = self.rows();
        let span = chosen.span();
        let others = self.find(Field::ParentIds);
        // Ids that lie aside are counted from the block's beginning.
        let from = match others {
            Some(_) => 0,
            None => span.start,
        };
        let codes = self.need(Field::Parents, rows)?;
        let mut parents = Vec::new();
        integers::decode_range(codes.bytes, rows, from..span.end, &mut parents)
            .map_err(|error| bad_block(self.file, codes.offset, &error))?;
        let (others, _) = others
            .map_or(&[][..], |column| column.bytes)
            .as_chunks::<8>();
        let (ids, _) = self.need(Field::SpanIds, rows)?.bytes.as_chunks::<8>();
        let mut next_other = 0;
        let mut out = Vec::with_capacity(span.len());
        for (row, code) in (from..).zip(parents) {
            let id = match code {
                0 => [0; 8],
                1 => {
                    next_other += 1;
                    match others.get(next_other - 1) {
                        Some(id) => *id,
                        None => return Err(self.corrupt("an id of a parent", next_other)),
                    }
                }
                code => {
                    let distance = unzigzag((code as u64).wrapping_sub(1));
                    let place = (row as i64).wrapping_add(distance);
                    match usize::try_from(place).ok().and_then(|at| ids.get(at)) {
                        Some(id) => *id,
                        None => return Err(self.corrupt("a parent in the block", place)),
                    }
                }
            };
            if row >= span.start {
                out.push(id);
            }
        }
        Ok(IdColumn::Values(chosen.pick(out)))
    }

    /// A number that each class has.
    fn class_column(
        &self,
        chosen: Chosen<'_>,
        of: impl Fn(&super::sets::Class) -> u8,
    ) -> Result<IntColumn> {
        let Some(sets) = self.sets()? else {
            return Ok(IntColumn::Constant(0));
        };
        let by_class: Vec<i64> = sets.classes.iter().map(|c| i64::from(of(c))).collect();
        if let Some((first, rest)) = by_class.split_first()
            && rest.iter().all(|number| number == first)
        {
            return Ok(IntColumn::Constant(*first));
        }
        let number = |class: &u32| by_class[*class as usize];
        Ok(IntColumn::Values(match chosen {
            Chosen::All(_) => sets.class_of.iter().map(number).collect(),
            Chosen::These(rows) => rows
                .iter()
                .filter_map(|row| sets.class_of.get(*row as usize))
                .map(number)
                .collect(),
        }))
    }

    /// The columns that are wanted, of the chosen rows.
    pub(super) fn block(&self, wanted: &Wanted, chosen: Chosen<'_>) -> Result<SpanBlock> {
        let columns = wanted.columns;
        let text = |wanted: bool, key| -> Result<TextColumn> {
            if !wanted {
                return Ok(TextColumn::default());
            }
            match self.sets()? {
                Some(sets) => text_of(sets, key, chosen),
                None => Ok(TextColumn::default()),
            }
        };
        let ids = |wanted: bool| -> Result<(IdColumn<8>, IdColumn<8>)> {
            if wanted {
                Ok((self.span_ids(chosen)?, self.parent_ids(chosen)?))
            } else {
                Ok((IdColumn::None, IdColumn::None))
            }
        };
        let (span_id, parent_span_id) = ids(columns.span_ids)?;
        Ok(SpanBlock {
            rows: chosen.len(),
            streams: Arc::clone(self.streams),
            stream: match wanted.stream {
                true => self.stream_numbers(chosen)?,
                false => IntColumn::Constant(0),
            },
            trace_id: match columns.trace_id {
                true => self.trace_ids(chosen)?,
                false => IdColumn::None,
            },
            span_id,
            parent_span_id,
            trace_state: text(columns.details, KEY_TRACE_STATE)?,
            name: text(columns.name, KEY_NAME)?,
            kind: match columns.kind {
                true => self.class_column(chosen, |class| class.kind)?,
                false => IntColumn::Constant(0),
            },
            time: match wanted.time {
                true => self.times(chosen)?,
                false => Vec::new(),
            },
            duration: match columns.duration {
                true => IntColumn::Values(self.ints(Field::Durations, self.rows(), chosen)?),
                false => IntColumn::Constant(0),
            },
            status: match columns.status {
                true => self.class_column(chosen, |class| class.status)?,
                false => IntColumn::Constant(0),
            },
            status_message: text(columns.details, KEY_MESSAGE)?,
            attributes: match &wanted.attributes {
                AttributeChoice::None => Vec::new(),
                choice => match self.sets()? {
                    Some(sets) => self.attributes(sets, choice, chosen)?,
                    None => Vec::new(),
                },
            },
            events: match columns.events {
                true => self.events(&wanted.event_attributes, chosen)?,
                false => Nested::default(),
            },
            links: match columns.links {
                true => self.links(&wanted.link_attributes, chosen)?,
                false => Nested::default(),
            },
        })
    }

    fn attributes(
        &self,
        sets: &Sets<'_>,
        choice: &AttributeChoice,
        chosen: Chosen<'_>,
    ) -> Result<Vec<AttributeColumn>> {
        let wanted: Vec<usize> = match choice {
            AttributeChoice::None => return Ok(Vec::new()),
            AttributeChoice::All => (0..sets.columns.len())
                .filter(|place| sets.columns[*place].0 >= KEYS_FROM)
                .collect(),
            AttributeChoice::Keys(keys) => {
                let mut numbers: Vec<u32> = keys
                    .iter()
                    .filter_map(|key| (self.keys.find)(key))
                    .collect();
                numbers.sort_unstable();
                numbers.dedup();
                numbers
                    .iter()
                    .flat_map(|number| sets.columns_of(KEYS_FROM + number))
                    .collect()
            }
        };
        // Of a key that a row has several times the last counts: with several columns positions tell.
        let key_of = |place: &usize| sets.columns[*place].0;
        let with_positions = *choice == AttributeChoice::All
            || wanted
                .windows(2)
                .any(|two| key_of(&two[0]) == key_of(&two[1]))
            || sets.columns_of(KEY_OVERFLOW).next().is_some();
        let before = sets.classes_before(chosen.span().start);
        let mut columns = Vec::with_capacity(wanted.len());
        for place in wanted {
            if let Some(built) = sets.column(place, chosen, &before, with_positions)? {
                let key = &self.keys.names[(sets.columns[place].0 - KEYS_FROM) as usize];
                columns.push(AttributeColumn {
                    key: Arc::clone(key),
                    rows: built.rows,
                    values: built.values,
                    positions: built.positions,
                });
            }
        }
        for place in sets.columns_of(KEY_OVERFLOW) {
            if let Some(built) = sets.column(place, chosen, &before, false)? {
                self.overflow(&built, choice, &mut columns)?;
            }
        }
        Ok(columns)
    }

    /// Ends of what the chosen rows have of things that are counted in `field`, the numbers of those
    /// things, and how many there are in the block.
    fn counted(
        &self,
        field: Field,
        chosen: Chosen<'_>,
        total: usize,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let counts = self.ints(field, self.rows(), Chosen::All(self.rows()))?;
        let mut ends = Vec::with_capacity(chosen.len());
        let mut things = Vec::new();
        let mut rows = match chosen {
            Chosen::All(_) => [].iter(),
            Chosen::These(rows) => rows.iter(),
        };
        let mut next_row = rows.next();
        let mut at = 0_usize;
        for (row, count) in counts.iter().enumerate() {
            let end = usize::try_from(*count)
                .ok()
                .and_then(|count| at.checked_add(count))
                .filter(|end| *end <= total);
            let Some(end) = end else {
                return Err(self.corrupt(&format!("{total} events or links"), count));
            };
            let wanted = match chosen {
                Chosen::All(_) => true,
                Chosen::These(_) => next_row.is_some_and(|next| *next as usize == row),
            };
            if wanted {
                things.extend(at as u32..end as u32);
                ends.push(things.len() as u32);
                next_row = rows.next();
            }
            at = end;
        }
        if at != total {
            return Err(self.corrupt(&format!("{total} events or links"), at));
        }
        Ok((ends, things))
    }

    fn events(&self, choice: &AttributeChoice, chosen: Chosen<'_>) -> Result<Nested> {
        let Some(times) = self.find(Field::EventTimes) else {
            return Ok(Nested::default());
        };
        let total = times.count;
        let (ends, things) = self.counted(Field::EventCounts, chosen, total)?;
        if things.is_empty() {
            return Ok(Nested::default());
        }
        let these = Chosen::These(&things);
        let Some(sets) = self.sets_of(Group::Events, total)? else {
            return Err(self.corrupt("classes of events", "none"));
        };
        Ok(Nested {
            ends,
            after_start: self.ints(Field::EventTimes, total, these)?,
            name: text_of(&sets, KEY_NAME, these)?,
            ids: Vec::new(),
            attributes: self.attributes(&sets, choice, these)?,
        })
    }

    fn links(&self, choice: &AttributeChoice, chosen: Chosen<'_>) -> Result<Nested> {
        let Some(ids) = self.find(Field::LinkIds) else {
            return Ok(Nested::default());
        };
        let total = ids.count;
        let (ends, things) = self.counted(Field::LinkCounts, chosen, total)?;
        if things.is_empty() {
            return Ok(Nested::default());
        }
        let these = Chosen::These(&things);
        let Some(sets) = self.sets_of(Group::Links, total)? else {
            return Err(self.corrupt("classes of links", "none"));
        };
        let rows = things.iter().map(|thing| *thing as usize);
        let split = |id: [u8; 24]| {
            let (mut trace, mut span) = ([0; 16], [0; 8]);
            trace.copy_from_slice(&id[..16]);
            span.copy_from_slice(&id[16..]);
            (trace, span)
        };
        let ids = self.ids::<24>(Field::LinkIds, total, rows)?;
        Ok(Nested {
            ends,
            after_start: Vec::new(),
            name: TextColumn::default(),
            ids: ids.into_iter().map(split).collect(),
            attributes: self.attributes(&sets, choice, these)?,
        })
    }
}

/// A text that is no attribute, empty where a set has none.
fn text_of(sets: &Sets<'_>, key: u32, chosen: Chosen<'_>) -> Result<TextColumn> {
    let Some(place) = sets
        .columns_of(key)
        .find(|place| sets.columns[*place].1 == Kind::Text)
    else {
        return Ok(TextColumn::default());
    };
    let before = sets.classes_before(chosen.span().start);
    let Some(built) = sets.column(place, chosen, &before, false)? else {
        return Ok(TextColumn::default());
    };
    let AttributeValues::Text(column) = built.values else {
        return Ok(TextColumn::default());
    };
    let Some(rows) = built.rows else {
        return Ok(column);
    };
    Ok(spread(column, &rows, chosen.len()))
}

/// A column that has values for some rows only, as one with a value for every row.
fn spread(column: TextColumn, rows: &[u32], count: usize) -> TextColumn {
    let (keys, mut values) = match column {
        TextColumn::Constant(value) => {
            let mut values = Strings::default();
            values.push(&value);
            (vec![0; rows.len()], values)
        }
        TextColumn::Dictionary { keys, values } => (keys, values),
        TextColumn::Plain(values) => ((0..values.len() as i32).collect(), values),
    };
    let mut all = vec![values.len() as i32; count];
    values.push(&[]);
    for (row, key) in rows.iter().zip(keys) {
        if let Some(place) = all.get_mut(*row as usize) {
            *place = key;
        }
    }
    TextColumn::Dictionary { keys: all, values }
}
