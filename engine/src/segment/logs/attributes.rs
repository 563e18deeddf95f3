//! Reading the attributes of a block: single keys as columns, or whole sets in the order sent. How
//! they are stored is told in [`super::attributes_builder`].

use std::cell::OnceCell;
use std::sync::Arc;

use crate::codec::strings::Strings;
use crate::codec::varint;
use crate::error::Result;
use crate::rows::{
    AttributeChoice, AttributeColumn, AttributeValues, IntColumn, TextColumn, ValueRef,
};

use super::super::column::bad_block;
use super::super::file::SegmentFile;
use super::super::rows::columns::{ColumnEntry, Field, ValueKind};
use super::attributes_builder::KIND_COUNT;
use super::typed;

/// Pairs that the rows of a block may have together: bounds what damaged shapes can cost.
const PAIRS_MAX: usize = 1 << 26;

/// The attributes of one block; what is decoded once is kept.
pub(super) struct Attributes<'a> {
    file: &'a SegmentFile,
    /// The segment's keys by number.
    keys: &'a [Arc<str>],
    row_count: usize,
    /// Columns of values, by their places.
    columns: Vec<&'a ColumnEntry>,
    numbers: Option<&'a ColumnEntry>,
    table: Option<&'a ColumnEntry>,
    overflow: Option<&'a ColumnEntry>,
    shapes: OnceCell<Shapes>,
}

/// Shapes as lists of columns, and the number of each row's shape.
struct Shapes {
    /// All shapes, one behind the other.
    columns: Vec<u32>,
    ends: Vec<u32>,
    numbers: IntColumn,
}

impl Shapes {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, number: usize) -> &[u32] {
        let end = self.ends.get(number).map_or(0, |end| *end as usize);
        let start = match number.checked_sub(1) {
            Some(before) => self.ends.get(before).map_or(0, |end| *end as usize),
            None => 0,
        };
        self.columns.get(start..end).unwrap_or(&[])
    }

    fn of_row(&self, row: usize) -> &[u32] {
        self.get(self.numbers.get(row) as usize)
    }
}

impl<'a> Attributes<'a> {
    pub(super) fn new(
        file: &'a SegmentFile,
        keys: &'a [Arc<str>],
        row_count: usize,
        entries: &'a [ColumnEntry],
    ) -> Self {
        let find = |field| entries.iter().find(|entry| entry.field == field);
        Self {
            file,
            keys,
            row_count,
            columns: entries
                .iter()
                .filter(|entry| entry.field == Field::RowAttribute)
                .collect(),
            numbers: find(Field::RowShapes),
            table: find(Field::RowShapeTable),
            overflow: find(Field::RowOverflow),
            shapes: OnceCell::new(),
        }
    }

    fn shapes(&self) -> Result<&Shapes> {
        if let Some(shapes) = self.shapes.get() {
            return Ok(shapes);
        }
        let shapes = self.read_shapes()?;
        Ok(self.shapes.get_or_init(|| shapes))
    }

    fn read_shapes(&self) -> Result<Shapes> {
        let (Some(numbers), Some(table)) = (self.numbers, self.table) else {
            return Ok(Shapes {
                columns: Vec::new(),
                ends: vec![0],
                numbers: IntColumn::Constant(0),
            });
        };
        let block = self.file.get(table.offset, table.length as usize)?;
        let strings = typed::plain(block, table.count as usize)
            .map_err(|error| bad_block(self.file, table.offset, &error))?;
        let limit = self.columns.len() as u64 + u64::from(self.overflow.is_some());
        let (mut columns, mut ends) = (Vec::new(), Vec::new());
        for shape in strings.iter() {
            let mut at = 0;
            while at < shape.len() {
                match varint::read_u64(shape, &mut at).filter(|column| *column < limit) {
                    Some(column) => columns.push(column as u32),
                    None => {
                        let expected = format!("columns below {limit} in a shape");
                        return Err(self.file.corrupt(table.offset, &expected, "others"));
                    }
                }
            }
            ends.push(columns.len() as u32);
        }
        let shape_numbers = typed::ints(self.file, numbers)?;
        let in_range = match &shape_numbers {
            IntColumn::Constant(number) => (0..ends.len() as i64).contains(number),
            IntColumn::Values(values) => {
                values.len() == self.row_count
                    && values.iter().all(|n| (0..ends.len() as i64).contains(n))
            }
        };
        if !in_range {
            let expected = format!("a shape below {} for each row", ends.len());
            return Err(self.file.corrupt(numbers.offset, &expected, "others"));
        }
        let shapes = Shapes {
            columns,
            ends,
            numbers: shape_numbers,
        };
        let pairs = (0..self.row_count).map(|row| shapes.of_row(row).len());
        match pairs.sum::<usize>() {
            0..=PAIRS_MAX => Ok(shapes),
            pairs => Err(self.file.corrupt(
                table.offset,
                &format!("at most {PAIRS_MAX} attributes in a block"),
                &pairs.to_string(),
            )),
        }
    }

    /// The columns that a choice asks for.
    pub(super) fn choose(&self, choice: &AttributeChoice) -> Result<Vec<AttributeColumn>> {
        match choice {
            AttributeChoice::None => Ok(Vec::new()),
            AttributeChoice::Keys(keys) => {
                let mut columns = Vec::new();
                for key in keys {
                    columns.extend(self.of_key(key)?);
                }
                Ok(columns)
            }
            AttributeChoice::All => self.all(),
        }
    }

    /// The columns of a key: one for each type. Several come with positions, which say whose value
    /// counts where a row has more than one.
    pub(super) fn of_key(&self, key: &str) -> Result<Vec<AttributeColumn>> {
        let name = |entry: &ColumnEntry| self.keys.get(entry.key as usize);
        let wanted: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, entry)| name(entry).is_some_and(|name| &**name == key))
            .map(|(place, _)| place)
            .collect();
        let mut rare = self.overflow_columns(Some(key))?;
        let ordered = wanted.len() + rare.len() > 1;
        let mut columns = Vec::new();
        for place in wanted {
            columns.extend(self.column(place, ordered)?);
        }
        if !ordered {
            rare.iter_mut().for_each(|column| column.positions.clear());
        }
        columns.append(&mut rare);
        Ok(columns)
    }

    fn all(&self) -> Result<Vec<AttributeColumn>> {
        let mut columns = Vec::new();
        for place in 0..self.columns.len() {
            columns.extend(self.column(place, true)?);
        }
        columns.append(&mut self.overflow_columns(None)?);
        Ok(columns)
    }

    /// The column at a place; none when no row has it.
    fn column(&self, place: usize, with_positions: bool) -> Result<Option<AttributeColumn>> {
        let Some(entry) = self.columns.get(place) else {
            return Ok(None);
        };
        let (rows, positions) = self.rows_of(place, entry, with_positions)?;
        Ok(Some(AttributeColumn {
            key: self.key(entry)?,
            rows,
            values: self.values(entry)?,
            positions,
        }))
    }

    fn key(&self, entry: &ColumnEntry) -> Result<Arc<str>> {
        match self.keys.get(entry.key as usize) {
            Some(key) => Ok(Arc::clone(key)),
            None => Err(self.file.corrupt(
                entry.offset,
                &format!("an attribute key below {}", self.keys.len()),
                &entry.key.to_string(),
            )),
        }
    }

    /// The rows that have column `place`, and where in their sets.
    fn rows_of(
        &self,
        place: usize,
        entry: &ColumnEntry,
        with_positions: bool,
    ) -> Result<(Option<Vec<u32>>, Vec<u16>)> {
        let shapes = self.shapes()?;
        let count = entry.count as usize;
        let wanted = place as u32;
        let times_in = |shape: &[u32]| shape.iter().filter(|column| **column == wanted).count();
        let times: Vec<usize> = (0..shapes.len())
            .map(|number| times_in(shapes.get(number)))
            .collect();
        let times_of = |row: usize| {
            let number = shapes.numbers.get(row) as usize;
            times.get(number).copied().unwrap_or(0)
        };
        let mut rows = None;
        let everywhere = match &shapes.numbers {
            IntColumn::Constant(_) => times_of(0) == 1,
            IntColumn::Values(_) => {
                count == self.row_count && times.iter().all(|times| *times == 1)
            }
        };
        let mut total = self.row_count;
        if !everywhere {
            let mut list = Vec::with_capacity(count);
            for row in 0..self.row_count {
                let times = times_of(row);
                list.extend(std::iter::repeat_n(row as u32, times.min(count + 1)));
                if list.len() > count {
                    break;
                }
            }
            total = list.len();
            let each_once = total == self.row_count
                && list.iter().enumerate().all(|(at, row)| at as u32 == *row);
            rows = (!each_once).then_some(list);
        }
        if total != count {
            return Err(self.file.corrupt(
                entry.offset,
                &format!("{count} rows with the column"),
                &format!("{total} or more"),
            ));
        }
        let mut positions = Vec::new();
        if with_positions {
            positions.reserve(count);
            for row in 0..self.row_count {
                if times_of(row) > 0 {
                    let shape = shapes.of_row(row).iter().enumerate();
                    let places = shape.filter(|(_, column)| **column == wanted);
                    positions.extend(places.map(|(at, _)| position(at)));
                }
            }
        }
        Ok((rows, positions))
    }

    fn values(&self, entry: &ColumnEntry) -> Result<AttributeValues> {
        let file = self.file;
        Ok(match entry.kind {
            ValueKind::Null => AttributeValues::Null,
            ValueKind::Text => AttributeValues::Text(typed::text(file, entry)?),
            ValueKind::Int => AttributeValues::Int(typed::ints(file, entry)?),
            ValueKind::Bool => AttributeValues::Bool(typed::ints(file, entry)?),
            ValueKind::Float => AttributeValues::Float(typed::doubles(file, entry)?),
            ValueKind::Bytes => AttributeValues::Bytes(typed::text(file, entry)?),
            ValueKind::Array => AttributeValues::Nested(typed::text(file, entry)?),
            ValueKind::Map | ValueKind::Time | ValueKind::Ids | ValueKind::Runs => {
                let expected = "a type of attribute";
                return Err(file.corrupt(entry.offset, expected, "another"));
            }
        })
    }

    /// Calls `each` with row, place in its set, key and value of every pair in the overflow.
    fn for_each_rare(&self, mut each: impl FnMut(usize, usize, u32, ValueRef<'_>)) -> Result<()> {
        let Some(entry) = self.overflow else {
            return Ok(());
        };
        let shapes = self.shapes()?;
        let sets = self.overflow_sets(entry)?;
        let marker = self.columns.len() as u32;
        let has_rare: Vec<bool> = (0..shapes.len())
            .map(|number| shapes.get(number).contains(&marker))
            .collect();
        let mut next = 0;
        for row in 0..self.row_count {
            if !has_rare
                .get(shapes.numbers.get(row) as usize)
                .is_some_and(|rare| *rare)
            {
                continue;
            }
            let set = sets.get(next).unwrap_or(&[]);
            next += 1;
            let mut at = 0;
            for (place, column) in shapes.of_row(row).iter().enumerate() {
                if *column == marker {
                    let Some((key, value)) = read_pair(set, &mut at, self.keys.len()) else {
                        return Err(self.bad_overflow(entry));
                    };
                    each(row, place, key, value);
                }
            }
            if at != set.len() {
                return Err(self.bad_overflow(entry));
            }
        }
        match next == sets.len() {
            true => Ok(()),
            false => Err(self.bad_overflow(entry)),
        }
    }

    fn overflow_sets(&self, entry: &ColumnEntry) -> Result<Strings> {
        let block = self.file.get(entry.offset, entry.length as usize)?;
        typed::plain(block, entry.count as usize)
            .map_err(|error| bad_block(self.file, entry.offset, &error))
    }

    #[cold]
    fn bad_overflow(&self, entry: &ColumnEntry) -> crate::error::EngineError {
        let expected = "the pairs that the shapes of rows name";
        self.file
            .corrupt(entry.offset, expected, "others in the overflow")
    }

    /// The overflow as columns, of one key or of all.
    fn overflow_columns(&self, key: Option<&str>) -> Result<Vec<AttributeColumn>> {
        if self.overflow.is_none() {
            return Ok(Vec::new());
        }
        let wanted = match key {
            None => None,
            Some(key) => match self.keys.iter().position(|name| &**name == key) {
                Some(number) => Some(number as u32),
                None => return Ok(Vec::new()),
            },
        };
        let mut places: hashbrown::HashMap<u32, [usize; KIND_COUNT]> = hashbrown::HashMap::new();
        let mut columns: Vec<AttributeColumn> = Vec::new();
        self.for_each_rare(|row, position_in_set, key, value| {
            if wanted.is_some_and(|wanted| wanted != key) {
                return;
            }
            let kind = rare_kind(&value);
            let places = places.entry(key).or_insert([usize::MAX; KIND_COUNT]);
            let place = &mut places[kind];
            if *place == usize::MAX {
                *place = columns.len();
                let key = self.keys.get(key as usize).map(Arc::clone);
                columns.push(AttributeColumn {
                    key: key.unwrap_or_default(),
                    rows: Some(Vec::new()),
                    values: empty_values(&value),
                    positions: Vec::new(),
                });
            }
            let column = &mut columns[*place];
            column.rows.get_or_insert_default().push(row as u32);
            column.positions.push(position(position_in_set));
            push_value(&mut column.values, value);
        })?;
        Ok(columns)
    }
}

/// Where a pair stands in its set, as far as sixteen bits say it.
fn position(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(u16::MAX)
}

fn read_pair<'b>(set: &'b [u8], at: &mut usize, key_count: usize) -> Option<(u32, ValueRef<'b>)> {
    let key = varint::read_u64(set, at)?;
    let key = u32::try_from(key)
        .ok()
        .filter(|key| (*key as usize) < key_count)?;
    Some((key, ValueRef::read(set, at)?))
}

fn rare_kind(value: &ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null => 0,
        ValueRef::Str(_) => 1,
        ValueRef::Int(_) => 2,
        ValueRef::Float(_) => 3,
        ValueRef::Bool(_) => 4,
        ValueRef::Bytes(_) => 5,
        ValueRef::Nested(_) => 6,
    }
}

fn empty_values(value: &ValueRef<'_>) -> AttributeValues {
    let text = || TextColumn::Plain(Strings::default());
    let ints = || IntColumn::Values(Vec::new());
    match value {
        ValueRef::Null => AttributeValues::Null,
        ValueRef::Str(_) => AttributeValues::Text(text()),
        ValueRef::Int(_) => AttributeValues::Int(ints()),
        ValueRef::Float(_) => AttributeValues::Float(Vec::new()),
        ValueRef::Bool(_) => AttributeValues::Bool(ints()),
        ValueRef::Bytes(_) => AttributeValues::Bytes(text()),
        ValueRef::Nested(_) => AttributeValues::Nested(text()),
    }
}

fn push_value(values: &mut AttributeValues, value: ValueRef<'_>) {
    match (values, value) {
        (AttributeValues::Text(TextColumn::Plain(texts)), ValueRef::Str(text)) => {
            texts.push(text.as_bytes());
        }
        (AttributeValues::Int(IntColumn::Values(ints)), ValueRef::Int(number)) => {
            ints.push(number);
        }
        (AttributeValues::Float(floats), ValueRef::Float(number)) => floats.push(number),
        (AttributeValues::Bool(IntColumn::Values(ints)), ValueRef::Bool(truth)) => {
            ints.push(i64::from(truth));
        }
        (AttributeValues::Bytes(TextColumn::Plain(texts)), ValueRef::Bytes(bytes))
        | (AttributeValues::Nested(TextColumn::Plain(texts)), ValueRef::Nested(bytes)) => {
            texts.push(bytes);
        }
        _ => {}
    }
}
