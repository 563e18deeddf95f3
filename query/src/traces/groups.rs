//! Groups of a `by(…)`: combinations of values, numbered as they come up.
//!
//! A block's column is turned into codes: small numbers, one per row, with the few distinct values beside
//! them. Only distinct combinations are looked up in the table of groups, not rows.

use std::collections::HashMap;
use std::sync::Arc;

use chronolith_engine::model::{SpanKind, SpanStatus, Stream};
use chronolith_engine::rows::{AttributeValues, IntColumn, SpanBlock, Streams, TextColumn};

use super::error::Result;
use super::fields::{SpanView, Val};
use crate::traceql::ast::{Field, FieldName, Intrinsic, Scope, Value};

/// No group.
pub const NO_GROUP: u32 = u32::MAX;

/// A value that can be a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyPart {
    /// Not there.
    Nil,
    /// Text.
    Str(Box<str>),
    /// An integer.
    Int(i64),
    /// The bits of a float.
    Float(u64),
    /// A truth value.
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    /// The number of a status.
    Status(u8),
    /// The number of a kind.
    Kind(u8),
}

impl From<&Val<'_>> for KeyPart {
    fn from(value: &Val<'_>) -> Self {
        match value {
            Val::Nil | Val::Opaque => Self::Nil,
            Val::Str(text) => Self::Str(Box::from(&**text)),
            Val::Int(n) => Self::Int(*n),
            Val::Float(x) => Self::Float(x.to_bits()),
            Val::Bool(truth) => Self::Bool(*truth),
            Val::Duration(ns) => Self::Duration(*ns),
            Val::Status(status) => Self::Status(*status as u8),
            Val::Kind(kind) => Self::Kind(*kind as u8),
            Val::Many(values) => values.first().map_or(Self::Nil, Self::from),
        }
    }
}

impl KeyPart {
    /// As a value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Nil => Value::Nil,
            Self::Str(text) => Value::String(text.to_string()),
            Self::Int(n) => Value::Int(*n),
            Self::Float(bits) => Value::Float(f64::from_bits(*bits)),
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Duration(ns) => Value::Duration(*ns),
            Self::Status(n) => Value::Status(SpanStatus::from_u8(*n).unwrap_or_default()),
            Self::Kind(n) => Value::Kind(SpanKind::from_u8(*n).unwrap_or_default()),
        }
    }
}

/// The groups so far.
#[derive(Debug, Default)]
pub struct Groups {
    numbers: HashMap<Vec<KeyPart>, u32>,
}

impl Groups {
    /// The number of a combination, a new one if it was not there.
    pub fn number(&mut self, key: Vec<KeyPart>) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(key).or_insert(next)
    }

    /// The group of one span.
    pub fn of_view(&mut self, by: &[Field], view: &SpanView<'_>) -> u32 {
        let parts = by
            .iter()
            .map(|field| KeyPart::from(&view.read(&field.name)));
        self.number(parts.collect())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The combinations by number.
    #[must_use]
    pub fn keys(&self) -> Vec<&[KeyPart]> {
        let mut keys: Vec<&[KeyPart]> = vec![&[]; self.numbers.len()];
        for (key, number) in &self.numbers {
            keys[*number as usize] = key;
        }
        keys
    }
}

/// Streams of the blocks of one source, each read once.
#[derive(Debug, Default)]
pub struct StreamCache {
    of: Option<Arc<Streams>>,
    known: HashMap<u32, Arc<Stream>>,
}

impl StreamCache {
    /// The stream of a row.
    ///
    /// # Errors
    /// Damage.
    pub fn get(&mut self, block: &SpanBlock, row: usize) -> Result<Arc<Stream>> {
        let is_same = self
            .of
            .as_ref()
            .is_some_and(|of| Arc::ptr_eq(of, &block.streams));
        if !is_same {
            self.of = Some(Arc::clone(&block.streams));
            self.known.clear();
        }
        let number = u32::try_from(block.stream.get(row)).unwrap_or(u32::MAX);
        if let Some(stream) = self.known.get(&number) {
            return Ok(Arc::clone(stream));
        }
        let stream = block.streams.get(number)?;
        self.known.insert(number, Arc::clone(&stream));
        Ok(stream)
    }
}

/// A column as codes.
#[derive(Debug)]
struct Codes {
    /// Per row; an index into `values`.
    codes: Vec<u32>,
    values: Vec<KeyPart>,
}

impl Codes {
    fn constant(rows: usize, value: KeyPart) -> Self {
        Self {
            codes: vec![0; rows],
            values: vec![value],
        }
    }
}

/// The groups of a block's rows, by number.
///
/// # Errors
/// Damage of a stream.
pub fn of_block(
    block: &SpanBlock,
    by: &[Field],
    groups: &mut Groups,
    streams: &mut StreamCache,
) -> Result<Vec<u32>> {
    let mut columns = Vec::with_capacity(by.len());
    for field in by {
        columns.push(codes(block, &field.name, streams)?);
    }
    let Some(first) = columns.first() else {
        let group = groups.number(Vec::new());
        return Ok(vec![group; block.rows]);
    };
    // Combinations as one number each: mixed radix over the distinct values of the columns.
    let combinations = columns
        .iter()
        .map(|column| column.values.len())
        .product::<usize>();
    let key_of = |row: usize| {
        let parts = columns.iter().map(|column| {
            let code = column.codes.get(row).copied().unwrap_or(0);
            column
                .values
                .get(code as usize)
                .cloned()
                .unwrap_or(KeyPart::Nil)
        });
        parts.collect::<Vec<_>>()
    };
    const TABLE_MAX: usize = 1 << 16;
    if combinations > TABLE_MAX {
        return Ok((0..block.rows)
            .map(|row| groups.number(key_of(row)))
            .collect());
    }
    let mut mixed = first.codes.clone();
    for column in columns.iter().skip(1) {
        let radix = column.values.len() as u32;
        for (mixed, code) in mixed.iter_mut().zip(&column.codes) {
            *mixed = *mixed * radix + code;
        }
    }
    let mut table = vec![NO_GROUP; combinations];
    for (row, code) in mixed.iter_mut().enumerate() {
        let Some(number) = table.get_mut(*code as usize) else {
            continue;
        };
        if *number == NO_GROUP {
            *number = groups.number(key_of(row));
        }
        *code = *number;
    }
    Ok(mixed)
}

fn codes(block: &SpanBlock, field: &FieldName, streams: &mut StreamCache) -> Result<Codes> {
    let number = |column: &IntColumn, of: fn(u8) -> KeyPart| Codes {
        codes: (0..block.rows)
            .map(|row| (column.get(row) as u32) & 7)
            .collect(),
        values: (0..8).map(of).collect(),
    };
    Ok(match field {
        FieldName::Intrinsic { intrinsic, .. } => match intrinsic {
            Intrinsic::Name => text(&block.name, block.rows),
            Intrinsic::StatusMessage => text(&block.status_message, block.rows),
            Intrinsic::Status => number(&block.status, KeyPart::Status),
            Intrinsic::Kind => number(&block.kind, KeyPart::Kind),
            _ => one_by_one(block, field, streams)?,
        },
        FieldName::Attribute { scope, key } => match scope {
            Scope::Resource | Scope::Instrumentation => by_stream(block, field, streams)?,
            Scope::Span => match attribute(block, key) {
                Some(codes) => codes,
                None => one_by_one(block, field, streams)?,
            },
            Scope::Any | Scope::Event | Scope::Link => one_by_one(block, field, streams)?,
        },
    })
}

fn text(column: &TextColumn, rows: usize) -> Codes {
    let part = |bytes: &[u8]| KeyPart::Str(String::from_utf8_lossy(bytes).into());
    match column {
        TextColumn::Constant(bytes) => Codes::constant(rows, part(bytes)),
        TextColumn::Dictionary { keys, values } => Codes {
            codes: keys.iter().map(|key| *key as u32).collect(),
            values: values.iter().map(part).collect(),
        },
        TextColumn::Plain(values) => {
            let mut known: HashMap<&[u8], u32> = HashMap::new();
            let mut distinct = Vec::new();
            let codes = values.iter().map(|bytes| {
                *known.entry(bytes).or_insert_with(|| {
                    distinct.push(part(bytes));
                    distinct.len() as u32 - 1
                })
            });
            Codes {
                codes: codes.collect(),
                values: distinct,
            }
        }
    }
}

/// An attribute that is text in all rows that have it.
fn attribute(block: &SpanBlock, key: &str) -> Option<Codes> {
    let mut of_key = block.attributes.iter().filter(|column| &*column.key == key);
    let Some(column) = of_key.next() else {
        return Some(Codes::constant(block.rows, KeyPart::Nil));
    };
    let AttributeValues::Text(values) = &column.values else {
        return None;
    };
    if of_key.next().is_some() {
        return None;
    }
    let count = column.rows.as_ref().map_or(block.rows, Vec::len);
    let mut inner = text(values, count);
    if let Some(rows) = &column.rows {
        let nil = inner.values.len() as u32;
        inner.values.push(KeyPart::Nil);
        let mut codes = vec![nil; block.rows];
        for (row, code) in rows.iter().zip(&inner.codes) {
            if let Some(place) = codes.get_mut(*row as usize) {
                *place = *code;
            }
        }
        inner.codes = codes;
    }
    Some(inner)
}

/// What depends on the stream only.
fn by_stream(block: &SpanBlock, field: &FieldName, streams: &mut StreamCache) -> Result<Codes> {
    // Spans lie by trace, so streams take turns: a table by number costs less than a map.
    let mut table = vec![NO_GROUP; block.streams.len()];
    let mut values = Vec::new();
    let mut codes = Vec::with_capacity(block.rows);
    for row in 0..block.rows {
        let number = usize::try_from(block.stream.get(row)).unwrap_or(usize::MAX);
        let code = match table.get(number) {
            Some(code) if *code != NO_GROUP => *code,
            _ => {
                let stream = streams.get(block, row)?;
                let view = SpanView {
                    block,
                    row,
                    stream: &stream,
                    trace: None,
                };
                values.push(KeyPart::from(&view.read(field)));
                let code = values.len() as u32 - 1;
                if let Some(place) = table.get_mut(number) {
                    *place = code;
                }
                code
            }
        };
        codes.push(code);
    }
    Ok(Codes { codes, values })
}

fn one_by_one(block: &SpanBlock, field: &FieldName, streams: &mut StreamCache) -> Result<Codes> {
    let mut known: HashMap<KeyPart, u32> = HashMap::new();
    let mut codes = Vec::with_capacity(block.rows);
    for row in 0..block.rows {
        let stream = streams.get(block, row)?;
        let view = SpanView {
            block,
            row,
            stream: &stream,
            trace: None,
        };
        let next = known.len() as u32;
        codes.push(
            *known
                .entry(KeyPart::from(&view.read(field)))
                .or_insert(next),
        );
    }
    let mut values = vec![KeyPart::Nil; known.len()];
    for (part, code) in known {
        values[code as usize] = part;
    }
    Ok(Codes { codes, values })
}
