//! Reading attribute sets of a block: see [`super::sets_builder`] for how they are stored.

use std::ops::Range;

use hashbrown::HashMap;

use super::fields::{Field, Group, StoredColumn};
use super::sets_builder::KEYS_FROM;
use super::text::{self, Text};
use super::values::Kind;
use crate::codec::reader::ByteReader;
use crate::codec::strings::Strings;
use crate::codec::{bytes, integers};
use crate::error::Result;
use crate::rows::{AttributeValues, IntColumn, TextColumn};
use crate::segment::column::{bad_block, decode_floats};
use crate::segment::file::SegmentFile;
use crate::segment::format::{COLUMN_BYTES_MAX, COLUMN_VALUES_MAX};
use crate::segment::wire::Cursor;

/// Numbers of sets (spans, events, links), ascending.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chosen<'a> {
    All(usize),
    These(&'a [u32]),
}

impl Chosen<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::These(rows) => rows.len(),
        }
    }

    /// From the first to the last of them.
    pub(super) fn span(&self) -> Range<usize> {
        match self {
            Self::All(count) => 0..*count,
            Self::These(rows) => match (rows.first(), rows.last()) {
                (Some(first), Some(last)) => *first as usize..*last as usize + 1,
                _ => 0..0,
            },
        }
    }

    /// The values of the chosen rows, of values that begin at the span's start.
    pub(super) fn pick<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        match self {
            Self::All(_) => values,
            Self::These(rows) => {
                let start = self.span().start;
                let value = |row: &u32| values.get(*row as usize - start).copied();
                rows.iter().filter_map(value).collect()
            }
        }
    }
}

/// A value of a class.
#[derive(Clone, Debug)]
enum ClassValue {
    /// In a column.
    Rest,
    /// Of all sets of the class: a number, or where the bytes are in the table.
    Number(u64),
    Bytes(Range<usize>),
}

#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) kind: u8,
    pub(super) status: u8,
}

/// The attribute sets of a block.
pub(super) struct Sets<'a> {
    file: &'a SegmentFile,
    offset: u64,
    /// Key and kind.
    pub(super) columns: Vec<(u32, Kind)>,
    pub(super) classes: Vec<Class>,
    entries: Vec<ClassValue>,
    /// By column: class, position among the attributes and entry.
    uses: Vec<Vec<(u32, u16, u32)>>,
    table: Vec<u8>,
    /// By column.
    stored: Vec<Option<StoredColumn<'a>>>,
    /// The class of each set.
    pub(super) class_of: Vec<u32>,
}

/// Values of one column among chosen sets.
pub(super) struct Built {
    /// As in [`crate::rows::AttributeColumn::rows`].
    pub(super) rows: Option<Vec<u32>>,
    pub(super) values: AttributeValues,
    pub(super) positions: Vec<u16>,
    /// How many values there are.
    pub(super) count: usize,
}

/// What a class has of one column.
#[derive(Clone, Debug, Default)]
struct Slots {
    /// Position in the set, and number among the shared values; `REST` where it is in the column.
    of: smallvec::SmallVec<[(u16, i32); 1]>,
    /// How many are in the column.
    rest: usize,
}

const REST: i32 = -1;

impl<'a> Sets<'a> {
    /// Reads classes and class numbers of `count` sets; `None` for a block that has no such sets.
    pub(super) fn read(
        file: &'a SegmentFile,
        stored_columns: &[StoredColumn<'a>],
        group: Group,
        count: usize,
        key_count: u32,
    ) -> Result<Option<Self>> {
        let find = |field: Field| stored_columns.iter().find(|c| c.field == field);
        let (Some(classes), Some(numbers)) = (find(group.classes()), find(group.class_of())) else {
            return Ok(None);
        };
        let mut reader = ByteReader::new("span classes", classes.bytes, 0);
        let mut table = Vec::new();
        let decoded = reader
            .varint_max(COLUMN_BYTES_MAX, "a table of classes too large")
            .and_then(|size| bytes::decode(reader.rest(), size, &mut table));
        decoded.map_err(|error| bad_block(file, classes.offset, &error))?;
        let mut sets = Self {
            file,
            offset: classes.offset,
            columns: Vec::new(),
            classes: Vec::new(),
            entries: Vec::new(),
            uses: Vec::new(),
            stored: Vec::new(),
            class_of: Vec::with_capacity(count),
            table: Vec::new(),
        };
        sets.read_table(&table, classes.count, key_count)?;
        sets.table = table;
        for column in stored_columns.iter().filter(|c| c.field == group.values()) {
            match sets.stored.get_mut(column.index as usize) {
                Some(place) => *place = Some(*column),
                None => return Err(sets.corrupt("a column of the table", column.index)),
            }
        }
        let mut class_of = Vec::new();
        integers::decode(numbers.bytes, count, &mut class_of)
            .map_err(|error| bad_block(file, numbers.offset, &error))?;
        // As unsigned, negative numbers are too large as well.
        let max = class_of.iter().fold(0, |max, class| max.max(*class as u64));
        if max >= sets.classes.len() as u64 && !class_of.is_empty() {
            return Err(sets.corrupt("the number of a class", max));
        }
        sets.class_of
            .extend(class_of.iter().map(|class| *class as u32));
        Ok(Some(sets))
    }

    #[cold]
    fn corrupt(&self, expected: &str, found: impl ToString) -> crate::EngineError {
        self.file.corrupt(self.offset, expected, &found.to_string())
    }

    fn read_table(&mut self, table: &[u8], class_count: usize, key_count: u32) -> Result<()> {
        let mut cursor = Cursor::new(self.file, table, self.offset);
        for _ in 0..cursor.count("column count")? {
            let key = cursor.varint_max(u64::from(u32::MAX), "attribute key")? as u32;
            if key >= KEYS_FROM.saturating_add(key_count) {
                return Err(cursor.corrupt("a key of the segment", key));
            }
            let number = cursor.u8()?;
            let kind =
                Kind::from_u8(number).ok_or_else(|| cursor.corrupt("an attribute type", number))?;
            self.columns.push((key, kind));
        }
        self.stored.resize(self.columns.len(), None);
        self.uses.resize(self.columns.len(), Vec::new());
        // A class takes three bytes or more.
        if class_count > cursor.remaining() / 3 {
            return Err(cursor.corrupt("as many classes as there are bytes for", class_count));
        }
        for class in 0..class_count {
            let (kind, status) = (cursor.u8()?, cursor.u8()?);
            let start = self.entries.len();
            let mut position = 0_u16;
            for _ in 0..cursor.count("attribute count")? {
                let word = cursor.varint()?;
                let column = usize::try_from(word >> 1).unwrap_or(usize::MAX);
                let Some((key, kind)) = self.columns.get(column) else {
                    return Err(cursor.corrupt("a column of the table", column));
                };
                let value = if word & 1 == 0 {
                    ClassValue::Rest
                } else {
                    read_class_value(&mut cursor, *kind, table.len())?
                };
                let entry = self.entries.len() as u32;
                self.uses[column].push((class as u32, position, entry));
                // Positions count attributes only.
                position = position.saturating_add(u16::from(*key >= KEYS_FROM));
                self.entries.push(value);
            }
            if self.entries.len() - start > usize::from(u16::MAX) {
                return Err(cursor.corrupt("at most 65535 attributes", self.entries.len() - start));
            }
            self.classes.push(Class { kind, status });
        }
        cursor.finish()
    }

    /// Columns must have exactly the values that the sets' classes say. For verify: whoever reads a column
    /// finds out when it has too few.
    pub(super) fn check_counts(&self) -> Result<()> {
        let mut sets_of = vec![0_usize; self.classes.len()];
        for class in &self.class_of {
            sets_of[*class as usize] += 1;
        }
        for (column, (uses, stored)) in self.uses.iter().zip(&self.stored).enumerate() {
            let mut rest = 0;
            for (class, _, entry) in uses {
                if matches!(self.entries[*entry as usize], ClassValue::Rest) {
                    rest += sets_of[*class as usize];
                }
            }
            let found = stored.as_ref().map_or(0, |column| column.count);
            if rest != found {
                return Err(self.corrupt(&format!("{rest} values in column {column}"), found));
            }
        }
        Ok(())
    }

    /// The columns of a key.
    pub(super) fn columns_of(&self, key: u32) -> impl Iterator<Item = usize> {
        let columns = self.columns.iter().enumerate();
        columns.filter_map(move |(place, column)| (column.0 == key).then_some(place))
    }

    /// How many sets of each class come before a set.
    pub(super) fn classes_before(&self, set: usize) -> Vec<usize> {
        let mut before = vec![0; self.classes.len()];
        for class in self.class_of.iter().take(set) {
            before[*class as usize] += 1;
        }
        before
    }

    /// What each class has of a column, and the values that classes share.
    fn slots(&self, column: usize) -> (Vec<Slots>, Vec<&ClassValue>) {
        let mut shared = Vec::new();
        let mut slots = vec![Slots::default(); self.classes.len()];
        for (class, position, entry) in &self.uses[column] {
            let slots = &mut slots[*class as usize];
            match &self.entries[*entry as usize] {
                ClassValue::Rest => {
                    slots.rest += 1;
                    slots.of.push((*position, REST));
                }
                value => {
                    slots.of.push((*position, shared.len() as i32));
                    shared.push(value);
                }
            }
        }
        (slots, shared)
    }

    /// The values of a column among the chosen sets; `before` are the classes before the first of them.
    /// `None` when no chosen set has any.
    pub(super) fn column(
        &self,
        column: usize,
        chosen: Chosen<'_>,
        before: &[usize],
        with_positions: bool,
    ) -> Result<Option<Built>> {
        let (slots, shared) = self.slots(column);
        if slots.iter().all(|slots| slots.of.is_empty()) {
            return Ok(None);
        }
        let first_rest = |slots: &[Slots]| {
            let counts = slots.iter().zip(before);
            counts.map(|(slots, sets)| slots.rest * sets).sum::<usize>()
        };
        let start = first_rest(&slots);
        let mut walk = Walk {
            sources: Vec::with_capacity(chosen.len()),
            rows: Vec::new(),
            positions: Vec::new(),
            dense: slots.iter().all(|slots| slots.of.len() == 1),
            with_positions,
            rest: start,
        };
        let classes = self.class_of.get(chosen.span()).unwrap_or(&[]);
        let all_shared = walk.dense && !with_positions && slots.iter().all(|s| s.rest == 0);
        match chosen {
            Chosen::All(_) if all_shared => {
                let of_class: Vec<Source> = slots.iter().map(|s| Source(s.of[0].1)).collect();
                let sources = classes.iter().map(|class| of_class[*class as usize]);
                walk.sources.extend(sources);
            }
            Chosen::All(_) => {
                for (row, class) in classes.iter().enumerate() {
                    walk.take(row as u32, &slots[*class as usize]);
                    if walk.sources.len() > COLUMN_VALUES_MAX {
                        break;
                    }
                }
            }
            Chosen::These(rows) => {
                let first = chosen.span().start;
                let mut next = 0;
                for (at, class) in classes.iter().enumerate() {
                    let slots = &slots[*class as usize];
                    if rows
                        .get(next)
                        .is_some_and(|row| *row as usize == first + at)
                    {
                        walk.take(next as u32, slots);
                        next += 1;
                        if walk.sources.len() > COLUMN_VALUES_MAX {
                            break;
                        }
                    } else {
                        walk.rest += slots.rest;
                    }
                }
            }
        }
        if walk.sources.is_empty() {
            return Ok(None);
        }
        if walk.sources.len() > COLUMN_VALUES_MAX {
            return Err(self.corrupt(
                &format!("at most {COLUMN_VALUES_MAX} values of a key"),
                walk.sources.len(),
            ));
        }
        let values = self.values(column, &shared, &walk.sources, start..walk.rest)?;
        let dense = walk.dense
            || (walk.rows.len() == chosen.len()
                && walk
                    .rows
                    .iter()
                    .enumerate()
                    .all(|(at, row)| at == *row as usize));
        Ok(Some(Built {
            rows: (!dense).then_some(walk.rows),
            values,
            positions: walk.positions,
            count: walk.sources.len(),
        }))
    }

    fn values(
        &self,
        column: usize,
        shared: &[&ClassValue],
        sources: &[Source],
        rest: Range<usize>,
    ) -> Result<AttributeValues> {
        let kind = self.columns[column].1;
        let found = self.stored[column]
            .as_ref()
            .map_or(0, |column| column.count);
        if rest.end > found {
            return Err(self.corrupt(&format!("{} values in a column", rest.end), found));
        }
        Ok(match kind {
            Kind::Null => AttributeValues::Null,
            Kind::Int => AttributeValues::Int(self.ints(column, shared, sources, rest)?),
            Kind::Bool => AttributeValues::Bool(self.ints(column, shared, sources, rest)?),
            Kind::Float => {
                let mut stored = Vec::new();
                if let Some(column) = self.stored[column].filter(|_| !rest.is_empty()) {
                    let (count, range) = (column.count, rest.clone());
                    decode_floats(
                        self.file,
                        column.offset,
                        column.bytes,
                        count,
                        range,
                        &mut stored,
                    )?;
                }
                let value = |source: &Source| match source.shared(shared) {
                    Some(ClassValue::Number(bits)) => f64::from_bits(*bits),
                    _ => stored.get(source.rest(&rest)).copied().unwrap_or(0.0),
                };
                AttributeValues::Float(sources.iter().map(value).collect())
            }
            Kind::Text => AttributeValues::Text(self.texts(column, shared, sources, rest)?),
            Kind::Bytes => AttributeValues::Bytes(self.texts(column, shared, sources, rest)?),
            Kind::Nested => AttributeValues::Nested(self.texts(column, shared, sources, rest)?),
        })
    }

    fn ints(
        &self,
        column: usize,
        shared: &[&ClassValue],
        sources: &[Source],
        rest: Range<usize>,
    ) -> Result<IntColumn> {
        let mut stored = Vec::new();
        if let Some(column) = self.stored[column].filter(|_| !rest.is_empty()) {
            integers::decode_range(column.bytes, column.count, rest.clone(), &mut stored)
                .map_err(|error| bad_block(self.file, column.offset, &error))?;
        }
        if shared.is_empty() && stored.len() == sources.len() {
            return Ok(IntColumn::Values(stored));
        }
        let value = |source: &Source| match source.shared(shared) {
            Some(ClassValue::Number(number)) => *number as i64,
            _ => stored.get(source.rest(&rest)).copied().unwrap_or(0),
        };
        let values: Vec<i64> = sources.iter().map(value).collect();
        Ok(match values.split_first() {
            Some((first, others)) if others.iter().all(|v| v == first) => {
                IntColumn::Constant(*first)
            }
            _ => IntColumn::Values(values),
        })
    }

    fn texts(
        &self,
        column: usize,
        shared: &[&ClassValue],
        sources: &[Source],
        rest: Range<usize>,
    ) -> Result<TextColumn> {
        let mut text = Text::default();
        if let Some(column) = self.stored[column].filter(|_| !rest.is_empty()) {
            text = text::decode(column.bytes, column.count, rest.clone(), COLUMN_BYTES_MAX)
                .map_err(|error| bad_block(self.file, column.offset, &error))?;
        }
        // Classes that share a value have equal bytes of it: number them by those.
        let mut numbers: HashMap<&[u8], i32> = HashMap::new();
        let mut added: Vec<&[u8]> = Vec::new();
        let from = text.values.len() as i32;
        let of_shared: Vec<i32> = shared
            .iter()
            .map(|value| {
                let bytes = match value {
                    ClassValue::Bytes(range) => self.table.get(range.clone()).unwrap_or(&[]),
                    _ => &[],
                };
                *numbers.entry(bytes).or_insert_with(|| {
                    added.push(bytes);
                    from + added.len() as i32 - 1
                })
            })
            .collect();
        if text.keys.is_empty()
            && let [only] = added.as_slice()
        {
            return Ok(TextColumn::Constant((*only).into()));
        }
        let keys: Vec<i32> = if shared.is_empty() && text.keys.len() == sources.len() {
            text.keys
        } else {
            let key = |source: &Source| match of_shared.get(source.0 as usize) {
                Some(key) if source.0 >= 0 => *key,
                _ => text.keys.get(source.rest(&rest)).copied().unwrap_or(0),
            };
            sources.iter().map(key).collect()
        };
        let mut values = text.values;
        let total = added.iter().map(|bytes| bytes.len()).sum::<usize>() + values.byte_len();
        if total > COLUMN_BYTES_MAX {
            return Err(self.corrupt(&format!("at most {COLUMN_BYTES_MAX} bytes"), total));
        }
        added.iter().for_each(|bytes| values.push(bytes));
        Ok(compact(keys, values))
    }
}

/// Few rows of a large dictionary take their texts along; rows that are all different need no keys.
fn compact(keys: Vec<i32>, values: Strings) -> TextColumn {
    let in_order =
        keys.len() == values.len() && keys.iter().enumerate().all(|(at, key)| at == *key as usize);
    if in_order {
        return TextColumn::Plain(values);
    }
    if keys.len() * 2 < values.len() {
        let mut own = Strings::default();
        for key in &keys {
            own.push(values.get(*key as usize).unwrap_or(&[]));
        }
        return TextColumn::Plain(own);
    }
    TextColumn::Dictionary { keys, values }
}

fn read_class_value(cursor: &mut Cursor<'_>, kind: Kind, length: usize) -> Result<ClassValue> {
    Ok(match kind {
        Kind::Null => ClassValue::Number(0),
        Kind::Int => ClassValue::Number(cursor.varint_i64()? as u64),
        Kind::Float => ClassValue::Number(cursor.u64()?),
        Kind::Bool => ClassValue::Number(u64::from(cursor.u8()? != 0)),
        Kind::Text | Kind::Bytes | Kind::Nested => {
            let value = cursor.bytes()?;
            let end = length - cursor.remaining();
            ClassValue::Bytes(end - value.len()..end)
        }
    })
}

/// Where a value comes from: a number among the shared values, or `!index` in the column.
#[derive(Clone, Copy)]
struct Source(i32);

impl Source {
    fn shared<'v>(self, shared: &[&'v ClassValue]) -> Option<&'v ClassValue> {
        usize::try_from(self.0)
            .ok()
            .and_then(|at| shared.get(at).copied())
    }

    /// The place among the values of a part of the column.
    fn rest(self, range: &Range<usize>) -> usize {
        (!self.0 as usize).wrapping_sub(range.start)
    }
}

struct Walk {
    sources: Vec<Source>,
    rows: Vec<u32>,
    positions: Vec<u16>,
    /// Every class has exactly one value: rows need not be listed.
    dense: bool,
    with_positions: bool,
    /// Values of the column passed so far.
    rest: usize,
}

impl Walk {
    #[inline]
    fn take(&mut self, row: u32, slots: &Slots) {
        for (position, shared) in &slots.of {
            if *shared == REST {
                self.sources.push(Source(!(self.rest as i32)));
                self.rest += 1;
            } else {
                self.sources.push(Source(*shared));
            }
            if !self.dense {
                self.rows.push(row);
            }
            if self.with_positions {
                self.positions.push(*position);
            }
        }
    }
}
