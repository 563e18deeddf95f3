//! Columns of a block: what there is, how it is encoded, how it is read.

use crate::codec::strings;
use crate::error::Result;

use super::super::column::{bad_block, decode_floats, decode_integers, decode_timestamps};
use super::super::file::SegmentFile;
use super::super::format::{COLUMN_BYTES_MAX, COLUMN_VALUES_MAX};
use super::super::wire::{Cursor, put_f64, put_i64, put_u64};

/// What a column holds. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Field {
    /// Row of the stream table.
    Stream = 0,
    /// Time; of spans the start.
    Time = 1,
    /// Arrival number, which orders equal times.
    Ordinal = 2,
    /// Logs: observed time minus time.
    ObservedDelta = 3,
    /// Logs: severity number.
    Severity = 4,
    /// Logs: severity text.
    SeverityText = 5,
    /// Logs: 0 text, 1 anything else.
    BodyKind = 6,
    /// Logs: text, or the encoded attribute value.
    Body = 7,
    /// 16 bytes, or none.
    TraceId = 8,
    /// 8 bytes, or none.
    SpanId = 9,
    /// Logs: event name.
    EventName = 10,
    /// Spans: 8 bytes, or none.
    ParentSpanId = 11,
    /// Spans: operation.
    Name = 12,
    /// Spans: kind.
    Kind = 13,
    /// Spans: nanoseconds.
    Duration = 14,
    /// Spans: status.
    Status = 15,
    /// Spans: words about the status.
    StatusMessage = 16,
    /// Spans: events per span.
    EventCount = 17,
    /// Span events: time minus the span's start.
    EventTimeDelta = 18,
    /// Span events: name.
    SpanEventName = 19,
    /// Spans: links per span.
    LinkCount = 20,
    /// Span links: 16 bytes.
    LinkTraceId = 21,
    /// Span links: 8 bytes.
    LinkSpanId = 22,
    /// Attributes of rows: number of the shape of each.
    RowShapes = 32,
    /// Attributes of span events: number of the shape of each.
    EventShapes = 33,
    /// Attributes of span links: number of the shape of each.
    LinkShapes = 34,
    /// Attributes of rows, from version 4 on: the shapes.
    RowShapeTable = 35,
    /// Attributes of rows: values of one key and type.
    RowAttribute = 40,
    /// Attributes of span events: values of one key and type.
    EventAttribute = 41,
    /// Attributes of span links: values of one key and type.
    LinkAttribute = 42,
    /// Attributes of rows, from version 4 on: pairs of keys that are too rare for a column.
    RowOverflow = 43,
}

impl Field {
    const ALL: [Self; 31] = [
        Self::Stream,
        Self::Time,
        Self::Ordinal,
        Self::ObservedDelta,
        Self::Severity,
        Self::SeverityText,
        Self::BodyKind,
        Self::Body,
        Self::TraceId,
        Self::SpanId,
        Self::EventName,
        Self::ParentSpanId,
        Self::Name,
        Self::Kind,
        Self::Duration,
        Self::Status,
        Self::StatusMessage,
        Self::EventCount,
        Self::EventTimeDelta,
        Self::SpanEventName,
        Self::LinkCount,
        Self::LinkTraceId,
        Self::LinkSpanId,
        Self::RowShapes,
        Self::EventShapes,
        Self::LinkShapes,
        Self::RowShapeTable,
        Self::RowAttribute,
        Self::EventAttribute,
        Self::LinkAttribute,
        Self::RowOverflow,
    ];

    fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|field| *field as u8 == number)
    }

    /// Whether the column has the values of one attribute key.
    pub(crate) fn is_attribute(self) -> bool {
        matches!(
            self,
            Self::RowAttribute | Self::EventAttribute | Self::LinkAttribute
        )
    }
}

/// How a column's values are encoded. The numbers are part of the format, and also those of the types
/// of [`crate::model::AttributeValue`] in attribute columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum ValueKind {
    /// No values: the type alone says all.
    Null = 0,
    /// UTF-8.
    Text = 1,
    /// Integers.
    Int = 2,
    /// Doubles.
    Float = 3,
    /// Integers 0 and 1.
    Bool = 4,
    /// Bytes.
    Bytes = 5,
    /// Encoded arrays.
    Array = 6,
    /// Encoded maps.
    Map = 7,
    /// Times.
    Time = 8,
    /// Ids of eight bytes, and which rows have one (from version 4 on).
    Ids = 9,
    /// Ascending integers as values and lengths of runs (from version 4 on).
    Runs = 10,
}

impl ValueKind {
    pub(crate) fn from_u8(number: u8) -> Option<Self> {
        [
            Self::Null,
            Self::Text,
            Self::Int,
            Self::Float,
            Self::Bool,
            Self::Bytes,
            Self::Array,
            Self::Map,
            Self::Time,
            Self::Ids,
            Self::Runs,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// Smallest and largest value of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Zone {
    /// Unknown.
    None,
    /// Of integers and times.
    Int(i64, i64),
    /// Of doubles; NaNs are left out, and there is at least one other.
    Float(f64, f64),
}

/// One column of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColumnEntry {
    pub(crate) field: Field,
    pub(crate) kind: ValueKind,
    /// Attribute columns: number of the key; otherwise 0.
    pub(crate) key: u32,
    /// Values, which are fewer than rows where not every row has one.
    pub(crate) count: u32,
    /// Offset in the file.
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) zone: Zone,
}

/// Encodes the columns of one block.
#[derive(Debug, Default)]
pub(crate) struct ColumnsWriter {
    /// Directory entries.
    pub(crate) entries: Vec<u8>,
    pub(crate) entry_count: u64,
    /// Encoded values.
    pub(crate) data: Vec<u8>,
}

impl ColumnsWriter {
    /// Adds a column of `count` values that `encode` appends; none without values.
    pub(crate) fn add(
        &mut self,
        field: Field,
        kind: ValueKind,
        key: u32,
        count: usize,
        zone: Zone,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        if count == 0 {
            return;
        }
        let start = self.data.len();
        encode(&mut self.data);
        let out = &mut self.entries;
        out.push(field as u8);
        out.push(kind as u8);
        put_u64(out, u64::from(key));
        put_u64(out, count as u64);
        put_u64(out, (self.data.len() - start) as u64);
        match zone {
            Zone::None => out.push(0),
            Zone::Int(min, max) => {
                out.push(1);
                put_i64(out, min);
                put_u64(out, max.wrapping_sub(min) as u64);
            }
            Zone::Float(min, max) => {
                out.push(2);
                put_f64(out, min);
                put_f64(out, max);
            }
        }
        self.entry_count += 1;
    }
}

pub(crate) fn int_zone(values: &[i64]) -> Zone {
    match (values.iter().min(), values.iter().max()) {
        (Some(min), Some(max)) => Zone::Int(*min, *max),
        _ => Zone::None,
    }
}

pub(crate) fn float_zone(values: &[f64]) -> Zone {
    let mut numbers = values.iter().copied().filter(|v| !v.is_nan());
    let Some(first) = numbers.next() else {
        return Zone::None;
    };
    let (min, max) = numbers.fold((first, first), |(min, max), v| (min.min(v), max.max(v)));
    Zone::Float(min, max)
}

/// Reads the entries of a block whose values begin at `data_at` in the file.
pub(crate) fn read_entries(cursor: &mut Cursor<'_>, data_at: u64) -> Result<Vec<ColumnEntry>> {
    let mut entries = Vec::new();
    let mut offset = data_at;
    for _ in 0..cursor.count("column count")? {
        let number = cursor.u8()?;
        let field =
            Field::from_u8(number).ok_or_else(|| cursor.corrupt("a column's field", number))?;
        let number = cursor.u8()?;
        let kind =
            ValueKind::from_u8(number).ok_or_else(|| cursor.corrupt("a column's type", number))?;
        let key = cursor.varint_max(u64::from(u32::MAX), "attribute key")? as u32;
        // Span events and links may outnumber rows; constant columns take no bytes, so a bound is needed.
        let count = cursor.varint_max(COLUMN_VALUES_MAX as u64, "value count")? as u32;
        let length = cursor.varint_max(COLUMN_BYTES_MAX as u64, "column length")? as u32;
        let zone = match cursor.u8()? {
            0 => Zone::None,
            1 => {
                let min = cursor.varint_i64()?;
                Zone::Int(min, min.wrapping_add(cursor.varint()? as i64))
            }
            2 => Zone::Float(cursor.f64()?, cursor.f64()?),
            other => return Err(cursor.corrupt("a kind of zone map", other)),
        };
        entries.push(ColumnEntry {
            field,
            kind,
            key,
            count,
            offset,
            length,
            zone,
        });
        offset = offset.saturating_add(u64::from(length));
    }
    Ok(entries)
}

/// A decoded column.
#[derive(Debug)]
pub(crate) enum Column {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Bytes(strings::Strings),
    Nulls,
}

impl Column {
    pub(crate) fn decode(file: &SegmentFile, entry: &ColumnEntry) -> Result<Self> {
        let block = file.get(entry.offset, entry.length as usize)?;
        let count = entry.count as usize;
        Ok(match entry.kind {
            ValueKind::Null => Self::Nulls,
            ValueKind::Time => {
                let mut times = Vec::new();
                decode_timestamps(file, entry.offset, block, count, &mut times)?;
                Self::Ints(times)
            }
            ValueKind::Int | ValueKind::Bool => {
                let mut ints = Vec::new();
                decode_integers(file, entry.offset, block, count, &mut ints)?;
                Self::Ints(ints)
            }
            ValueKind::Float => {
                let mut values = Vec::new();
                decode_floats(file, entry.offset, block, count, 0..count, &mut values)?;
                Self::Floats(values)
            }
            ValueKind::Text | ValueKind::Bytes | ValueKind::Array | ValueKind::Map => Self::Bytes(
                strings::decode(block, count, COLUMN_BYTES_MAX)
                    .map_err(|error| bad_block(file, entry.offset, &error))?,
            ),
            ValueKind::Ids | ValueKind::Runs => {
                let expected = "a kind of column of this version";
                return Err(file.corrupt(entry.offset, expected, "one of a later"));
            }
        })
    }

    /// Whether the values are as many as the directory says and inside the zone map: for verify.
    pub(crate) fn agrees_with(&self, entry: &ColumnEntry) -> bool {
        let count = match self {
            Self::Ints(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Nulls => entry.count as usize,
        };
        let zone = match self {
            Self::Ints(values) => int_zone(values),
            Self::Floats(values) => float_zone(values),
            Self::Bytes(_) | Self::Nulls => Zone::None,
        };
        count == entry.count as usize && zone == entry.zone
    }

    /// Integer `index`; 0 when absent, which is what an absent column means.
    pub(crate) fn int(&self, index: usize) -> i64 {
        match self {
            Self::Ints(values) => values.get(index).copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// Bytes `index`; none when absent.
    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        match self {
            Self::Bytes(values) => values.get(index).unwrap_or(&[]),
            _ => &[],
        }
    }
}
