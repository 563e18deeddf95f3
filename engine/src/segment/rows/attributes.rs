//! Attributes as columns, without loss: keys in the order sent, repeats, and every type.
//!
//! The list of (key, type) of a row is its *shape*; rows of one program have few shapes. A block stores
//! its distinct shapes, a column of shape numbers, and for each (key, type) a column with the values of
//! those rows that have it, one after the other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::codec::EncodeEffort;
use crate::error::Result;
use crate::model::{AttributeValue, Attributes};

use super::super::file::SegmentFile;
use super::super::wire::{Cursor, put_attribute, put_u64};
use super::columns::{Column, ColumnEntry, ColumnsWriter, Field, ValueKind, Values};

/// Numbers the attribute keys of a segment while it is built.
#[derive(Debug, Default)]
pub(crate) struct KeyNumbers {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl KeyNumbers {
    pub(crate) fn number(&mut self, key: &str) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(key.to_owned());
        self.numbers.insert(key.to_owned(), number);
        number
    }

    /// The keys by number.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

fn kind_of(value: &AttributeValue) -> ValueKind {
    match value {
        AttributeValue::Null => ValueKind::Null,
        AttributeValue::String(_) => ValueKind::Text,
        AttributeValue::Int(_) => ValueKind::Int,
        AttributeValue::Float(_) => ValueKind::Float,
        AttributeValue::Bool(_) => ValueKind::Bool,
        AttributeValue::Bytes(_) => ValueKind::Bytes,
        AttributeValue::Array(_) => ValueKind::Array,
        AttributeValue::Map(_) => ValueKind::Map,
    }
}

type Shape = Vec<(u32, ValueKind)>;

/// Which columns a set of attributes goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttributeFields {
    pub(crate) shapes: Field,
    pub(crate) values: Field,
}

/// Attributes of rows.
pub(crate) const ROW_ATTRIBUTES: AttributeFields = AttributeFields {
    shapes: Field::RowShapes,
    values: Field::RowAttribute,
};
/// Attributes of span events.
pub(crate) const EVENT_ATTRIBUTES: AttributeFields = AttributeFields {
    shapes: Field::EventShapes,
    values: Field::EventAttribute,
};
/// Attributes of span links.
pub(crate) const LINK_ATTRIBUTES: AttributeFields = AttributeFields {
    shapes: Field::LinkShapes,
    values: Field::LinkAttribute,
};

/// Writes the columns of `sets`; the distinct shapes are appended to `shapes_out`.
pub(crate) fn write<'a>(
    fields: AttributeFields,
    sets: impl Iterator<Item = &'a Attributes>,
    keys: &mut KeyNumbers,
    columns: &mut ColumnsWriter,
    shapes_out: &mut Vec<u8>,
    effort: EncodeEffort,
) {
    let mut shapes: HashMap<Shape, i64> = HashMap::new();
    let mut ordered: Vec<Shape> = Vec::new();
    let mut numbers = Vec::new();
    let mut values: BTreeMap<(u32, ValueKind), Vec<&'a AttributeValue>> = BTreeMap::new();
    for set in sets {
        let mut shape = Shape::with_capacity(set.len());
        for (key, value) in set {
            let place = (keys.number(key), kind_of(value));
            shape.push(place);
            values.entry(place).or_default().push(value);
        }
        let number = match shapes.get(&shape) {
            Some(number) => *number,
            None => {
                let next = ordered.len() as i64;
                ordered.push(shape.clone());
                shapes.insert(shape, next);
                next
            }
        };
        numbers.push(number);
    }
    put_u64(shapes_out, ordered.len() as u64);
    for shape in &ordered {
        put_u64(shapes_out, shape.len() as u64);
        for (key, kind) in shape {
            put_u64(shapes_out, u64::from(*key));
            shapes_out.push(*kind as u8);
        }
    }
    columns.push(
        fields.shapes,
        ValueKind::Int,
        0,
        &Values::Ints(&numbers),
        effort,
    );
    for ((key, kind), values) in values {
        write_values(fields.values, key, kind, &values, columns, effort);
    }
}

fn write_values(
    field: Field,
    key: u32,
    kind: ValueKind,
    values: &[&AttributeValue],
    columns: &mut ColumnsWriter,
    effort: EncodeEffort,
) {
    let mut ints = Vec::new();
    let mut floats = Vec::new();
    let mut bytes: Vec<Cow<'_, [u8]>> = Vec::new();
    for value in values {
        match value {
            AttributeValue::Null => {}
            AttributeValue::String(text) => bytes.push(Cow::Borrowed(text.as_bytes())),
            AttributeValue::Int(number) => ints.push(*number),
            AttributeValue::Float(number) => floats.push(*number),
            AttributeValue::Bool(truth) => ints.push(i64::from(*truth)),
            AttributeValue::Bytes(raw) => bytes.push(Cow::Borrowed(raw)),
            AttributeValue::Array(_) | AttributeValue::Map(_) => {
                let mut encoded = Vec::new();
                put_attribute(&mut encoded, value);
                bytes.push(Cow::Owned(encoded));
            }
        }
    }
    let values = match kind {
        ValueKind::Null => Values::Nulls(values.len()),
        ValueKind::Int | ValueKind::Bool => Values::Ints(&ints),
        ValueKind::Float => Values::Floats(&floats),
        ValueKind::Text | ValueKind::Bytes | ValueKind::Array | ValueKind::Map => {
            Values::Bytes(&bytes)
        }
        ValueKind::Time | ValueKind::Ids | ValueKind::Runs => {
            unreachable!("bug: an attribute of kind {kind:?}")
        }
    };
    columns.push(field, kind, key, &values, effort);
}

/// Reads the shapes that [`write`] appended.
pub(crate) fn read_shapes(cursor: &mut Cursor<'_>) -> Result<Vec<Shape>> {
    let mut shapes = Vec::new();
    for _ in 0..cursor.count("shape count")? {
        let mut shape = Shape::new();
        for _ in 0..cursor.count("attribute count")? {
            let key = cursor.varint_max(u64::from(u32::MAX), "attribute key")? as u32;
            let number = cursor.u8()?;
            let kind = ValueKind::from_u8(number)
                .filter(|kind| *kind < ValueKind::Time)
                .ok_or_else(|| cursor.corrupt("an attribute type", number))?;
            shape.push((key, kind));
        }
        shapes.push(shape);
    }
    Ok(shapes)
}

/// Decoded attribute columns of one kind of set in a block, walked from the first set on.
pub(crate) struct AttributeColumns<'a> {
    file: &'a SegmentFile,
    shapes: &'a [Shape],
    numbers: Column,
    /// Where the error points.
    offset: u64,
    columns: HashMap<(u32, ValueKind), (Column, usize, u64)>,
    next: usize,
}

impl<'a> AttributeColumns<'a> {
    pub(crate) fn decode(
        file: &'a SegmentFile,
        fields: AttributeFields,
        shapes: &'a [Shape],
        entries: &[ColumnEntry],
    ) -> Result<Self> {
        let mut numbers = Column::Nulls;
        let mut columns = HashMap::new();
        let mut offset = 0;
        for entry in entries {
            if entry.field == fields.shapes {
                numbers = Column::decode(file, entry)?;
                offset = entry.offset;
            } else if entry.field == fields.values {
                let column = Column::decode(file, entry)?;
                columns.insert((entry.key, entry.kind), (column, 0, entry.offset));
            }
        }
        Ok(Self {
            file,
            shapes,
            numbers,
            offset,
            columns,
            next: 0,
        })
    }

    fn next_shape(&mut self) -> Result<&'a Shape> {
        let number = match &self.numbers {
            Column::Ints(numbers) => numbers.get(self.next).copied(),
            _ => None,
        };
        self.next += 1;
        let shape = number
            .and_then(|n| usize::try_from(n).ok())
            .and_then(|n| self.shapes.get(n));
        shape.ok_or_else(|| {
            self.file.corrupt(
                self.offset,
                &format!(
                    "a shape below {} for set {}",
                    self.shapes.len(),
                    self.next - 1
                ),
                &number.map_or("none".to_owned(), |n| n.to_string()),
            )
        })
    }

    /// Passes over the next set.
    pub(crate) fn skip(&mut self) -> Result<()> {
        for place in self.next_shape()? {
            if let Some((_, next, _)) = self.columns.get_mut(place) {
                *next += 1;
            }
        }
        Ok(())
    }

    /// The next set; `names` are the segment's attribute keys.
    pub(crate) fn read(&mut self, names: &[Arc<str>]) -> Result<Attributes> {
        let shape = self.next_shape()?;
        let mut set = Attributes::with_capacity(shape.len());
        for place in shape {
            let (key, kind) = *place;
            let Some(name) = names.get(key as usize) else {
                return Err(self.file.corrupt(
                    self.offset,
                    &format!("an attribute key below {}", names.len()),
                    &key.to_string(),
                ));
            };
            let value = match self.columns.get_mut(place) {
                Some((column, next, offset)) => {
                    *next += 1;
                    value_at(self.file, column, kind, *next - 1, *offset)?
                }
                None => None,
            };
            let Some(value) = value else {
                return Err(self.file.corrupt(
                    self.offset,
                    &format!("a value of attribute {name}"),
                    "none",
                ));
            };
            set.push((name.to_string(), value));
        }
        Ok(set)
    }
}

/// Value `index` of an attribute column; `None` when the column has fewer.
fn value_at(
    file: &SegmentFile,
    column: &Column,
    kind: ValueKind,
    index: usize,
    offset: u64,
) -> Result<Option<AttributeValue>> {
    Ok(match (column, kind) {
        (Column::Nulls, ValueKind::Null) => Some(AttributeValue::Null),
        (Column::Ints(values), ValueKind::Bool) => {
            values.get(index).map(|v| AttributeValue::Bool(*v != 0))
        }
        (Column::Ints(values), _) => values.get(index).map(|v| AttributeValue::Int(*v)),
        (Column::Floats(values), _) => values.get(index).map(|v| AttributeValue::Float(*v)),
        (Column::Bytes(values), kind) => match (values.get(index), kind) {
            (None, _) => None,
            (Some(bytes), ValueKind::Text) => {
                Some(AttributeValue::String(text(file, offset, bytes)?))
            }
            (Some(bytes), ValueKind::Bytes) => Some(AttributeValue::Bytes(bytes.to_vec())),
            (Some(bytes), _) => Some(Cursor::new(file, bytes, offset).attribute()?),
        },
        (Column::Nulls, _) => None,
    })
}

/// Stored text as a string.
pub(crate) fn text(file: &SegmentFile, offset: u64, bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(file.corrupt(offset, "a column of UTF-8 text", "other bytes")),
    }
}
