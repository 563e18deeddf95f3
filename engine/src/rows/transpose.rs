//! From batches to blocks: attribute sets, which a batch keeps row by row, become columns.

use std::sync::Arc;

use super::attributes::{KeyTable, RawAttributes};
use super::block::{
    AttributeColumn, AttributeValues, IdColumn, IntColumn, LogBlock, Nested, SpanBlock, Streams,
    TextColumn,
};
use super::log_batch::LogBatch;
use super::request::{AttributeChoice, LogColumnSet, SpanColumnSet};
use super::select::Selection;
use super::span_batch::SpanBatch;
use super::value::ValueRef;
use crate::codec::strings::Strings;

/// Types that a key may have.
const TYPES: usize = 7;
/// A key that is not wanted, or a column that is not there yet.
const NONE: u32 = u32::MAX;

enum Values {
    Null,
    Text(Strings),
    Int(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<i64>),
    Bytes(Strings),
    Nested(Strings),
}

struct Building {
    key: u32,
    rows: Vec<u32>,
    positions: Vec<u16>,
    values: Values,
}

/// Collects the attribute sets of rows as columns.
struct Transposer<'a> {
    keys: &'a KeyTable,
    with_positions: bool,
    /// By key: whether it is wanted.
    wanted: Option<Vec<bool>>,
    /// By key and type: the column.
    places: Vec<[u32; TYPES]>,
    columns: Vec<Building>,
}

impl<'a> Transposer<'a> {
    fn new(keys: &'a KeyTable, choice: &AttributeChoice) -> Self {
        let wanted = match choice {
            AttributeChoice::None => Some(Vec::new()),
            AttributeChoice::Keys(names) => {
                let mut wanted = vec![false; keys.len()];
                for name in names {
                    if let Some(number) = keys.find(name) {
                        wanted[number as usize] = true;
                    }
                }
                Some(wanted)
            }
            AttributeChoice::All => None,
        };
        let is_empty = wanted
            .as_ref()
            .is_some_and(|wanted| !wanted.contains(&true));
        Self {
            keys,
            with_positions: wanted.is_none(),
            wanted: if is_empty { Some(Vec::new()) } else { wanted },
            places: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Whether no key is wanted.
    fn wants_nothing(&self) -> bool {
        self.wanted.as_ref().is_some_and(Vec::is_empty)
    }

    fn add(&mut self, row: u32, mut set: RawAttributes<'_>) {
        let mut position = 0_u16;
        while let Some((key, value)) = set.next_numbered() {
            let is_wanted = |wanted: &Vec<bool>| wanted.get(key as usize) == Some(&true);
            if self.wanted.as_ref().is_none_or(is_wanted) {
                self.push(row, key, position, value);
            }
            position = position.saturating_add(1);
        }
    }

    fn push(&mut self, row: u32, key: u32, position: u16, value: ValueRef<'_>) {
        let kind = match value {
            ValueRef::Null => 0,
            ValueRef::Str(_) => 1,
            ValueRef::Int(_) => 2,
            ValueRef::Float(_) => 3,
            ValueRef::Bool(_) => 4,
            ValueRef::Bytes(_) => 5,
            ValueRef::Nested(_) => 6,
        };
        let at = key as usize;
        if at >= self.keys.len() {
            return;
        }
        if self.places.len() <= at {
            self.places.resize(at + 1, [NONE; TYPES]);
        }
        let place = &mut self.places[at][kind];
        if *place == NONE {
            *place = self.columns.len() as u32;
            self.columns.push(Building {
                key,
                rows: Vec::new(),
                positions: Vec::new(),
                values: match kind {
                    0 => Values::Null,
                    1 => Values::Text(Strings::default()),
                    2 => Values::Int(Vec::new()),
                    3 => Values::Float(Vec::new()),
                    4 => Values::Bool(Vec::new()),
                    5 => Values::Bytes(Strings::default()),
                    _ => Values::Nested(Strings::default()),
                },
            });
        }
        let column = &mut self.columns[*place as usize];
        column.rows.push(row);
        column.positions.push(position);
        match (&mut column.values, value) {
            (Values::Text(texts), ValueRef::Str(text)) => texts.push(text.as_bytes()),
            (Values::Int(ints), ValueRef::Int(number)) => ints.push(number),
            (Values::Float(floats), ValueRef::Float(number)) => floats.push(number),
            (Values::Bool(ints), ValueRef::Bool(truth)) => ints.push(i64::from(truth)),
            (Values::Bytes(all), ValueRef::Bytes(bytes))
            | (Values::Nested(all), ValueRef::Nested(bytes)) => all.push(bytes),
            _ => {}
        }
    }

    /// The columns of a block of `count` rows.
    fn finish(mut self, count: usize) -> Vec<AttributeColumn> {
        let all_rows = |rows: &[u32]| {
            rows.len() == count && rows.iter().enumerate().all(|(at, row)| at == *row as usize)
        };
        if !self.with_positions {
            // Which pair of a repeated key with several types is the last, only positions tell.
            for column in &mut self.columns {
                let types = self.places.get(column.key as usize);
                if types.is_none_or(|types| types.iter().filter(|t| **t != NONE).count() < 2) {
                    column.positions = Vec::new();
                }
            }
        }
        let Self { keys, columns, .. } = self;
        let columns = columns.into_iter().map(|column| AttributeColumn {
            key: keys.get(column.key).unwrap_or("").into(),
            rows: (!all_rows(&column.rows)).then_some(column.rows),
            values: match column.values {
                Values::Null => AttributeValues::Null,
                Values::Text(texts) => AttributeValues::Text(TextColumn::Plain(texts)),
                Values::Int(ints) => AttributeValues::Int(IntColumn::Values(ints)),
                Values::Float(floats) => AttributeValues::Float(floats),
                Values::Bool(ints) => AttributeValues::Bool(IntColumn::Values(ints)),
                Values::Bytes(bytes) => AttributeValues::Bytes(TextColumn::Plain(bytes)),
                Values::Nested(bytes) => AttributeValues::Nested(TextColumn::Plain(bytes)),
            },
            positions: column.positions,
        });
        columns.collect()
    }
}

fn texts(strings: &Strings, rows: &Selection, is_wanted: bool) -> TextColumn {
    if !is_wanted || strings.byte_len() == 0 {
        return TextColumn::default();
    }
    if rows.len() == strings.len() {
        return TextColumn::Plain(strings.clone());
    }
    let mut taken = Strings::default();
    let share = strings.byte_len() / strings.len().max(1);
    taken.reserve(rows.len(), share * rows.len());
    rows.for_each(|row| taken.push(strings.get(row as usize).unwrap_or(&[])));
    TextColumn::Plain(taken)
}

fn sizes(strings: &Strings, rows: &Selection, is_wanted: bool) -> IntColumn {
    if !is_wanted {
        return IntColumn::Constant(0);
    }
    let size = |row| strings.get(row as usize).map_or(0, <[u8]>::len) as i64;
    let mut sizes = Vec::with_capacity(rows.len());
    rows.for_each(|row| sizes.push(size(row)));
    IntColumn::Values(sizes)
}

fn ints<T: Copy + Into<i64>>(values: &[T], rows: &Selection, is_wanted: bool) -> IntColumn {
    let Some(first) = values.first().filter(|_| is_wanted) else {
        return IntColumn::Constant(0);
    };
    let first: i64 = (*first).into();
    if values.iter().all(|value| (*value).into() == first) {
        return IntColumn::Constant(first);
    }
    IntColumn::Values(gather(values, rows))
}

fn gather<T: Copy + Into<i64>>(values: &[T], rows: &Selection) -> Vec<i64> {
    let mut taken = Vec::with_capacity(rows.len());
    rows.for_each(|row| taken.extend(values.get(row as usize).map(|value| (*value).into())));
    taken
}

fn ids<const N: usize>(ids: &[[u8; N]], rows: &Selection, is_wanted: bool) -> IdColumn<N> {
    if !is_wanted || ids.iter().all(|id| *id == [0; N]) {
        return IdColumn::None;
    }
    let mut taken = Vec::with_capacity(rows.len());
    rows.for_each(|row| taken.extend(ids.get(row as usize)));
    IdColumn::Values(taken)
}

/// The numbers of rows' streams among the streams of their source.
fn stream_numbers(streams: &[u32], numbers: &[u32], rows: &Selection) -> IntColumn {
    let number = |stream: u32| i64::from(numbers.get(stream as usize).copied().unwrap_or(0));
    if let [only] = numbers {
        return IntColumn::Constant(i64::from(*only));
    }
    let mut taken = Vec::with_capacity(rows.len());
    rows.for_each(|row| taken.extend(streams.get(row as usize).map(|stream| number(*stream))));
    IntColumn::Values(taken)
}

impl LogBatch {
    /// A block of the selected rows. `numbers` says which of `streams` each stream of the batch is.
    #[must_use]
    pub fn block(
        &self,
        streams: &Arc<Streams>,
        numbers: &[u32],
        rows: &Selection,
        wanted: LogColumnSet,
        attributes: &AttributeChoice,
    ) -> LogBlock {
        let columns = &self.columns;
        let mut transposer = Transposer::new(&self.keys, attributes);
        let mut at = 0;
        if !transposer.wants_nothing() {
            rows.for_each(|row| {
                transposer.add(at, self.attributes(row as usize));
                at += 1;
            });
        }
        LogBlock {
            rows: rows.len(),
            streams: Arc::clone(streams),
            stream: stream_numbers(&columns.stream, numbers, rows),
            time: gather(&columns.time, rows),
            observed_time: ints(&columns.observed_time, rows, wanted.observed_time),
            severity: ints(&columns.severity, rows, wanted.severity),
            severity_text: texts(&columns.severity_text, rows, wanted.severity),
            body_kind: ints(&columns.body_kind, rows, wanted.wants_body()),
            body: texts(&columns.body, rows, wanted.wants_body()),
            body_size: sizes(&columns.body, rows, wanted.body_size),
            trace_id: ids(&columns.trace_id, rows, wanted.ids),
            span_id: ids(&columns.span_id, rows, wanted.ids),
            event_name: texts(&columns.event_name, rows, wanted.event_name),
            attributes: transposer.finish(rows.len()),
            fields: None,
        }
    }
}

impl SpanBatch {
    /// A block of the selected rows. `numbers` says which of `streams` each stream of the batch is.
    #[must_use]
    pub fn block(
        &self,
        streams: &Arc<Streams>,
        numbers: &[u32],
        rows: &Selection,
        wanted: SpanColumnSet,
        attributes: &AttributeChoice,
    ) -> SpanBlock {
        let columns = &self.columns;
        let mut transposer = Transposer::new(&self.keys, attributes);
        let mut at = 0;
        if !transposer.wants_nothing() {
            rows.for_each(|row| {
                transposer.add(at, self.attributes(row as usize));
                at += 1;
            });
        }
        SpanBlock {
            rows: rows.len(),
            streams: Arc::clone(streams),
            stream: stream_numbers(&columns.stream, numbers, rows),
            trace_id: ids(&columns.trace_id, rows, wanted.trace_id),
            span_id: ids(&columns.span_id, rows, wanted.span_ids),
            parent_span_id: ids(&columns.parent_span_id, rows, wanted.span_ids),
            trace_state: texts(&columns.trace_state, rows, wanted.details),
            name: texts(&columns.name, rows, wanted.name),
            kind: ints(&columns.kind, rows, wanted.kind),
            time: gather(&columns.time, rows),
            duration: ints(&columns.duration, rows, wanted.duration),
            status: ints(&columns.status, rows, wanted.status),
            status_message: texts(&columns.status_message, rows, wanted.details),
            attributes: transposer.finish(rows.len()),
            events: self.nested_events(rows, wanted.events),
            links: self.nested_links(rows, wanted.links),
        }
    }

    fn nested_events(&self, rows: &Selection, is_wanted: bool) -> Nested {
        let mut nested = Nested::default();
        if !is_wanted || self.columns.events.byte_len() == 0 {
            return nested;
        }
        let mut names = Strings::default();
        let mut transposer = Transposer::new(&self.keys, &AttributeChoice::All);
        rows.for_each(|row| {
            for (after, name, set) in self.events(row as usize) {
                transposer.add(names.len() as u32, set);
                nested.after_start.push(after);
                names.push(name.as_bytes());
            }
            nested.ends.push(names.len() as u32);
        });
        if names.is_empty() {
            return Nested::default();
        }
        nested.attributes = transposer.finish(names.len());
        nested.name = TextColumn::Plain(names);
        nested
    }

    fn nested_links(&self, rows: &Selection, is_wanted: bool) -> Nested {
        let mut nested = Nested::default();
        if !is_wanted || self.columns.links.byte_len() == 0 {
            return nested;
        }
        let mut transposer = Transposer::new(&self.keys, &AttributeChoice::All);
        rows.for_each(|row| {
            for (trace, span, set) in self.links(row as usize) {
                transposer.add(nested.ids.len() as u32, set);
                nested.ids.push((trace.0, span.0));
            }
            nested.ends.push(nested.ids.len() as u32);
        });
        if nested.ids.is_empty() {
            return Nested::default();
        }
        nested.attributes = transposer.finish(nested.ids.len());
        nested
    }
}

/// Attribute columns seen row by row again, every set in the order in which it was sent (of columns
/// that were read with [`AttributeChoice::All`]; of others in the order of the columns).
#[derive(Debug)]
pub struct AttributeRows<'a> {
    columns: &'a [AttributeColumn],
    /// Where the pairs of each row end.
    ends: Vec<u32>,
    /// Column and entry of each pair.
    pairs: Vec<(u32, u32)>,
}

impl<'a> AttributeRows<'a> {
    /// Over the columns of a block (or of its events or links) of `rows` rows.
    #[must_use]
    pub fn new(columns: &'a [AttributeColumn], rows: usize) -> Self {
        let mut ends = vec![0_u32; rows + 1];
        for column in columns {
            match &column.rows {
                None => ends.iter_mut().skip(1).for_each(|count| *count += 1),
                Some(with_key) => {
                    for row in with_key {
                        if let Some(count) = ends.get_mut(*row as usize + 1) {
                            *count += 1;
                        }
                    }
                }
            }
        }
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        // Each row's place moves from its begin to its end while it is filled.
        let mut pairs = vec![(0_u32, 0_u32); total as usize];
        for (number, column) in columns.iter().enumerate() {
            let mut place = |row: u32, entry: usize| {
                if let Some(at) = ends.get_mut(row as usize)
                    && let Some(pair) = pairs.get_mut(*at as usize)
                    && (row as usize) < rows
                {
                    *pair = (number as u32, entry as u32);
                    *at += 1;
                }
            };
            match &column.rows {
                None => (0..rows).for_each(|row| place(row as u32, row)),
                Some(with_key) => {
                    let entries = with_key.iter().enumerate();
                    entries.for_each(|(entry, row)| place(*row, entry));
                }
            }
        }
        ends.truncate(rows);
        let mut start = 0;
        for end in &ends {
            let of_row = pairs.get_mut(start..*end as usize).unwrap_or_default();
            of_row.sort_by_key(|(column, entry)| {
                let positions = columns
                    .get(*column as usize)
                    .map(|column| &column.positions);
                positions.and_then(|positions| positions.get(*entry as usize))
            });
            start = *end as usize;
        }
        Self {
            columns,
            ends,
            pairs,
        }
    }

    /// The pairs of a row.
    pub fn of(&self, row: usize) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> {
        let end = self.ends.get(row).map_or(0, |end| *end as usize);
        let start = match row {
            0 => 0,
            _ => self.ends.get(row - 1).map_or(0, |end| *end as usize),
        };
        let pairs = self.pairs.get(start..end).unwrap_or_default();
        let columns = self.columns;
        pairs.iter().filter_map(move |(column, entry)| {
            let column = columns.get(*column as usize)?;
            Some((&*column.key, column.value(*entry as usize)))
        })
    }
}

/// The pairs of one row: cheaper than [`AttributeRows`] for few rows.
fn attributes_of(
    columns: &[AttributeColumn],
    row: usize,
) -> impl Iterator<Item = (&str, ValueRef<'_>)> {
    let mut pairs = Vec::new();
    for column in columns {
        match &column.rows {
            None => pairs.push((column.positions.get(row).copied(), column, row)),
            Some(with_key) => {
                let start = with_key.partition_point(|r| (*r as usize) < row);
                let rest = with_key.get(start..).unwrap_or_default();
                let same = rest.iter().take_while(|r| **r as usize == row).count();
                pairs.extend(
                    (start..start + same)
                        .map(|entry| (column.positions.get(entry).copied(), column, entry)),
                );
            }
        }
    }
    pairs.sort_by_key(|(position, ..)| *position);
    pairs
        .into_iter()
        .map(|(_, column, entry)| (&*column.key, column.value(entry)))
}

impl LogBlock {
    /// The attributes of a row, in the order sent when the scan asked for [`AttributeChoice::All`]. Of
    /// a repeated key the last pair counts.
    pub fn attributes_of(&self, row: usize) -> impl Iterator<Item = (&str, ValueRef<'_>)> {
        attributes_of(&self.attributes, row)
    }
}

impl SpanBlock {
    /// As [`LogBlock::attributes_of`].
    pub fn attributes_of(&self, row: usize) -> impl Iterator<Item = (&str, ValueRef<'_>)> {
        attributes_of(&self.attributes, row)
    }
}

impl Nested {
    /// The attributes of an event or link, counted as [`Nested::of`] does.
    pub fn attributes_of(&self, item: usize) -> impl Iterator<Item = (&str, ValueRef<'_>)> {
        attributes_of(&self.attributes, item)
    }
}
