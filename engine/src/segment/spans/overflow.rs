//! Attribute sets that were stored whole, as columns again.

use std::sync::Arc;

use hashbrown::HashMap;

use super::block_builder::overflow_pairs;
use super::block_reader::BlockReader;
use super::sets::Built;
use super::values::Kind;
use crate::codec::strings::Strings;
use crate::error::Result;
use crate::rows::{
    AttributeChoice, AttributeColumn, AttributeValues, IntColumn, TextColumn, ValueRef,
};
use crate::segment::format::COLUMN_BYTES_MAX;

impl BlockReader<'_> {
    /// Columns from sets that were stored whole.
    pub(super) fn overflow(
        &self,
        built: &Built,
        choice: &AttributeChoice,
        columns: &mut Vec<AttributeColumn>,
    ) -> Result<()> {
        let AttributeValues::Bytes(whole) = &built.values else {
            return Err(self.corrupt("sets as bytes", "another type"));
        };
        let mut parts: Vec<((u32, Kind), Part)> = Vec::new();
        let mut places: HashMap<(u32, Kind), usize> = HashMap::new();
        let mut bytes = 0_usize;
        for index in 0..built.count {
            let row = built.rows.as_ref().map_or(index as u32, |rows| rows[index]);
            let set = whole.get(index);
            bytes = bytes.saturating_add(set.len());
            if bytes > COLUMN_BYTES_MAX {
                return Err(self.corrupt(&format!("at most {COLUMN_BYTES_MAX} bytes"), bytes));
            }
            for (position, (key, value)) in overflow_pairs(set).enumerate() {
                let Some(name) = self.keys().names.get(key as usize) else {
                    return Err(self.corrupt("a key of the segment", key));
                };
                if let AttributeChoice::Keys(wanted) = choice
                    && !wanted.contains(name)
                {
                    continue;
                }
                let place = *places.entry((key, Kind::of(value))).or_insert_with(|| {
                    parts.push(((key, Kind::of(value)), Part::default()));
                    parts.len() - 1
                });
                let part = &mut parts[place].1;
                part.rows.push(row);
                part.positions
                    .push(position.min(usize::from(u16::MAX)) as u16);
                part.push(value);
            }
        }
        for ((key, kind), part) in parts {
            columns.push(AttributeColumn {
                key: Arc::clone(&self.keys().names[key as usize]),
                values: part.values(kind),
                rows: Some(part.rows),
                positions: part.positions,
            });
        }
        Ok(())
    }
}

/// A column on its way from whole sets.
#[derive(Default)]
struct Part {
    rows: Vec<u32>,
    positions: Vec<u16>,
    numbers: Vec<i64>,
    floats: Vec<f64>,
    texts: Strings,
}

impl Part {
    fn push(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => {}
            ValueRef::Str(text) => self.texts.push(text.as_bytes()),
            ValueRef::Bytes(bytes) | ValueRef::Nested(bytes) => self.texts.push(bytes),
            ValueRef::Int(number) => self.numbers.push(number),
            ValueRef::Float(number) => self.floats.push(number),
            ValueRef::Bool(truth) => self.numbers.push(i64::from(truth)),
        }
    }

    fn values(&self, kind: Kind) -> AttributeValues {
        let texts = || TextColumn::Plain(self.texts.clone());
        match kind {
            Kind::Null => AttributeValues::Null,
            Kind::Text => AttributeValues::Text(texts()),
            Kind::Int => AttributeValues::Int(IntColumn::Values(self.numbers.clone())),
            Kind::Float => AttributeValues::Float(self.floats.clone()),
            Kind::Bool => AttributeValues::Bool(IntColumn::Values(self.numbers.clone())),
            Kind::Bytes => AttributeValues::Bytes(texts()),
            Kind::Nested => AttributeValues::Nested(texts()),
        }
    }
}
