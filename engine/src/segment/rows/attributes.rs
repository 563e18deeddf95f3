//! Attributes as columns up to version 3, without loss: keys in the order sent, repeats, and every type.
//!
//! The list of (key, type) of a row is its *shape*; rows of one program have few shapes. A block stores
//! its distinct shapes, a column of shape numbers, and for each (key, type) a column with the values of
//! those rows that have it, one after the other.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::error::Result;
use crate::model::{AttributeValue, Attributes};

use super::super::file::SegmentFile;
use super::super::wire::Cursor;
use super::columns::{Column, ColumnEntry, Field, ValueKind};

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

/// Reads the shapes of one kind of set.
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
