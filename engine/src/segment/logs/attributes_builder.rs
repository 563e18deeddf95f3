//! Attribute sets of a block on their way to columns, without loss: keys in the order sent, repeats,
//! and every type.
//!
//! The list of columns that a row's pairs go to is its *shape*; rows of one program have few shapes, and
//! one shape for all costs nothing. A column has the values of one key and type, of those rows whose
//! shapes name it, one after the other. Blocks stay bounded whatever is sent: where a block has many
//! columns, pairs of the rare ones go to the *overflow*, one run of raw pairs per row that has any, and
//! the shape names the overflow in their place.

use hashbrown::HashMap;

use crate::codec::varint;
use crate::codec::{EncodeEffort, strings::Strings};
use crate::rows::{RawAttributes, ValueRef};

use super::super::rows::columns::{ColumnsWriter, Field, ValueKind, Zone};
use super::super::wire::{put_bytes, put_f64, put_i64, put_u64};

/// Columns of attributes that a block may have.
const COLUMNS_MAX: usize = 1000;
/// Up to this many columns all stay, however rare.
const COLUMNS_FREE: usize = 64;
/// Beyond that, columns of fewer values go to the overflow.
const VALUES_MIN: usize = 16;

/// No column yet.
const NO_COLUMN: u32 = u32::MAX;

/// Types of values, as [`ValueKind`] numbers them; arrays and maps are one.
pub(super) const KIND_COUNT: usize = 7;

/// Text and bytes with more distinct values than this share go to the encoder of texts.
pub(super) trait TextEncoder {
    fn encode(&mut self, values: &[&[u8]], effort: EncodeEffort, out: &mut Vec<u8>);
}

enum Values<'a> {
    Nulls(usize),
    Bytes(Vec<&'a [u8]>),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Nulls(count) => *count,
            Self::Bytes(values) => values.len(),
            Self::Ints(values) => values.len(),
            Self::Floats(values) => values.len(),
        }
    }
}

struct Collected<'a> {
    /// Number of the key in the segment.
    key: u32,
    kind: ValueKind,
    values: Values<'a>,
}

/// Distinct shapes, numbered in order of first use.
#[derive(Default)]
struct Shapes {
    shapes: Vec<Box<[u32]>>,
    numbers: HashMap<Box<[u32]>, u32>,
}

impl Shapes {
    fn number(&mut self, shape: &[u32]) -> u32 {
        if let Some(number) = self.numbers.get(shape) {
            return *number;
        }
        let number = self.shapes.len() as u32;
        self.shapes.push(shape.into());
        self.numbers.insert(shape.into(), number);
        number
    }
}

/// Collects the sets of one block; their bytes stay where they are.
#[derive(Default)]
pub(super) struct AttributesBuilder<'a> {
    /// By key in the segment and kind.
    column_of: HashMap<u32, [u32; KIND_COUNT]>,
    columns: Vec<Collected<'a>>,
    shapes: Shapes,
    /// Per row.
    numbers: Vec<u32>,
    shape: Vec<u32>,
    /// Shape of the row before: most rows have the same.
    last: Vec<u32>,
}

impl<'a> AttributesBuilder<'a> {
    /// Adds the set of the next row; `key_of` gives the segment's number of a key of the batch.
    pub(super) fn add(&mut self, mut set: RawAttributes<'a>, mut key_of: impl FnMut(u32) -> u32) {
        self.shape.clear();
        while let Some((key, value)) = set.next_numbered() {
            let key = key_of(key);
            let kind = kind_of(&value);
            let guessed = self.last.get(self.shape.len()).copied().filter(|column| {
                let column = &self.columns[*column as usize];
                column.key == key && column.kind == kind
            });
            let column = match guessed {
                Some(column) => column,
                None => self.column(key, kind),
            };
            self.shape.push(column);
            let values = &mut self.columns[column as usize].values;
            match (values, value) {
                (Values::Nulls(count), _) => *count += 1,
                (Values::Bytes(values), ValueRef::Str(text)) => values.push(text.as_bytes()),
                (Values::Bytes(values), ValueRef::Bytes(bytes) | ValueRef::Nested(bytes)) => {
                    values.push(bytes);
                }
                (Values::Ints(values), ValueRef::Int(number)) => values.push(number),
                (Values::Ints(values), ValueRef::Bool(truth)) => values.push(i64::from(truth)),
                (Values::Floats(values), ValueRef::Float(number)) => values.push(number),
                _ => unreachable!("bug: a value in a column of another type"),
            }
        }
        // Vectors that never held anything lie at no address: comparing those is slow on some machines.
        let is_same = match self.shape.is_empty() {
            true => self.last.is_empty(),
            false => self.shape == self.last,
        };
        let number = match self.numbers.last() {
            Some(number) if is_same => *number,
            _ => self.shapes.number(&self.shape),
        };
        self.numbers.push(number);
        std::mem::swap(&mut self.shape, &mut self.last);
    }

    fn column(&mut self, key: u32, kind: ValueKind) -> u32 {
        let places = self.column_of.entry(key).or_insert([NO_COLUMN; KIND_COUNT]);
        let place = &mut places[kind as usize];
        if *place == NO_COLUMN {
            *place = self.columns.len() as u32;
            let values = match kind {
                ValueKind::Null => Values::Nulls(0),
                ValueKind::Int | ValueKind::Bool => Values::Ints(Vec::new()),
                ValueKind::Float => Values::Floats(Vec::new()),
                _ => Values::Bytes(Vec::new()),
            };
            self.columns.push(Collected { key, kind, values });
        }
        *place
    }

    /// Calls `each` with every text among the values.
    pub(super) fn for_each_text(&self, mut each: impl FnMut(&[u8])) {
        for column in &self.columns {
            if let (ValueKind::Text, Values::Bytes(values)) = (column.kind, &column.values) {
                let mut before: &[u8] = &[];
                for text in values {
                    // Repeats say nothing new.
                    if *text != before {
                        each(text);
                    }
                    before = text;
                }
            }
        }
    }

    /// Writes all columns; nothing when no row has an attribute.
    pub(super) fn finish(
        mut self,
        writer: &mut ColumnsWriter,
        texts: &mut dyn TextEncoder,
        effort: EncodeEffort,
    ) {
        if self.columns.is_empty() {
            return;
        }
        let places = self.places();
        let kept = places.iter().filter(|place| **place != NO_COLUMN).count() as u32;
        let is_overflowing = (kept as usize) < self.columns.len();
        let overflow = match is_overflowing {
            true => self.overflow(&places),
            false => Strings::default(),
        };
        // Shapes that differed only in rare columns are the same now.
        let mut shapes = Shapes::default();
        let renumbered: Vec<i64> = self
            .shapes
            .shapes
            .iter()
            .map(|shape| {
                let shape: Vec<u32> = shape
                    .iter()
                    .map(|column| places[*column as usize].min(kept))
                    .collect();
                i64::from(shapes.number(&shape))
            })
            .collect();
        let numbers: Vec<i64> = self
            .numbers
            .iter()
            .map(|number| renumbered[*number as usize])
            .collect();
        writer.ints(Field::RowShapes, ValueKind::Int, 0, &numbers, effort);
        let mut table = Strings::default();
        for shape in &shapes.shapes {
            table.push_with(|out| {
                for column in shape {
                    varint::write_u64(out, u64::from(*column));
                }
            });
        }
        let table: Vec<&[u8]> = table.iter().collect();
        writer.strings(Field::RowShapeTable, ValueKind::Bytes, 0, &table, effort);
        let mut ordered: Vec<(u32, Collected<'a>)> =
            places.into_iter().zip(self.columns.drain(..)).collect();
        ordered.retain(|(place, _)| *place != NO_COLUMN);
        ordered.sort_by_key(|(place, _)| *place);
        for (_, column) in ordered {
            let (field, kind, key) = (Field::RowAttribute, column.kind, column.key);
            match column.values {
                Values::Nulls(count) => writer.add(field, kind, key, count, Zone::None, |_| {}),
                Values::Ints(values) => writer.ints(field, kind, key, &values, effort),
                Values::Floats(values) => writer.floats(field, key, &values, effort),
                Values::Bytes(values) => {
                    writer.add(field, kind, key, values.len(), Zone::None, |out| {
                        texts.encode(&values, effort, out);
                    });
                }
            }
        }
        let overflow: Vec<&[u8]> = overflow.iter().collect();
        writer.strings(Field::RowOverflow, ValueKind::Bytes, 0, &overflow, effort);
    }

    /// For each column its place among those that stay, in order of key and type.
    fn places(&self) -> Vec<u32> {
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        if kept.len() > COLUMNS_FREE {
            kept.sort_by_key(|column| std::cmp::Reverse(self.columns[*column].values.len()));
            kept.truncate(COLUMNS_MAX);
            let enough =
                kept.partition_point(|column| self.columns[*column].values.len() >= VALUES_MIN);
            kept.truncate(enough.max(COLUMNS_FREE));
        }
        kept.sort_by_key(|column| (self.columns[*column].key, self.columns[*column].kind));
        let mut places = vec![NO_COLUMN; self.columns.len()];
        for (place, column) in kept.into_iter().enumerate() {
            places[column] = place as u32;
        }
        places
    }

    /// The raw pairs of the columns without a place: one string per row that has any.
    fn overflow(&self, places: &[u32]) -> Strings {
        let is_rare = |column: &u32| places[*column as usize] == NO_COLUMN;
        let concerned: Vec<bool> = self
            .shapes
            .shapes
            .iter()
            .map(|shape| shape.iter().any(is_rare))
            .collect();
        let mut next = vec![0_usize; self.columns.len()];
        let mut overflow = Strings::default();
        for number in &self.numbers {
            if !concerned[*number as usize] {
                continue;
            }
            overflow.push_with(|out| {
                for column in self.shapes.shapes[*number as usize]
                    .iter()
                    .filter(|c| is_rare(c))
                {
                    let index = next[*column as usize];
                    next[*column as usize] += 1;
                    let column = &self.columns[*column as usize];
                    put_u64(out, u64::from(column.key));
                    put_value(out, column, index);
                }
            });
        }
        overflow
    }
}

fn kind_of(value: &ValueRef<'_>) -> ValueKind {
    match value {
        ValueRef::Null => ValueKind::Null,
        ValueRef::Str(_) => ValueKind::Text,
        ValueRef::Int(_) => ValueKind::Int,
        ValueRef::Float(_) => ValueKind::Float,
        ValueRef::Bool(_) => ValueKind::Bool,
        ValueRef::Bytes(_) => ValueKind::Bytes,
        ValueRef::Nested(_) => ValueKind::Array,
    }
}

/// Appends a value in its stored form, type byte first.
fn put_value(out: &mut Vec<u8>, column: &Collected<'_>, index: usize) {
    match &column.values {
        Values::Nulls(_) => out.push(0),
        Values::Bytes(values) if column.kind == ValueKind::Array => {
            out.extend_from_slice(values[index]);
        }
        Values::Bytes(values) => {
            out.push(column.kind as u8);
            put_bytes(out, values[index]);
        }
        Values::Ints(values) if column.kind == ValueKind::Bool => {
            out.push(column.kind as u8);
            out.push(values[index] as u8);
        }
        Values::Ints(values) => {
            out.push(column.kind as u8);
            put_i64(out, values[index]);
        }
        Values::Floats(values) => {
            out.push(column.kind as u8);
            put_f64(out, values[index]);
        }
    }
}
