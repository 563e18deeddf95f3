//! One attribute value as it lies in a batch: a type byte and the value, read without a copy.
//!
//! The bytes are those of the segment's streams section (`docs/formats/segment.md`): 0 nothing, 1
//! text, 2 zig-zag integer, 3 double, 4 one byte, 5 bytes, 6 array, 7 map.

use crate::codec::varint;
use crate::model::{AttributeValue, Attributes};

/// Nesting of arrays and maps; deeper ones are refused where they come in.
pub(crate) const NESTING_MAX: usize = 64;

/// A value inside a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// No value was sent.
    Null,
    /// Text.
    Str(&'a str),
    /// A 64-bit integer.
    Int(i64),
    /// A double, bit-exact.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Raw bytes.
    Bytes(&'a [u8]),
    /// An array or a map in its stored form, type byte included; see [`ValueRef::to_value`].
    Nested(&'a [u8]),
}

/// Appends a value as text: texts as they are, nothing for no value, the rest as JSON, in which bytes are
/// a string of hex digits. How deep it nests is bounded where it comes in.
pub fn append_text(value: &AttributeValue, out: &mut Vec<u8>) {
    match value {
        AttributeValue::Null => {}
        AttributeValue::String(text) => out.extend_from_slice(text.as_bytes()),
        other => out.extend_from_slice(json(other).to_string().as_bytes()),
    }
}

fn json(value: &AttributeValue) -> serde_json::Value {
    match value {
        AttributeValue::Null => serde_json::Value::Null,
        AttributeValue::String(text) => text.as_str().into(),
        AttributeValue::Int(value) => (*value).into(),
        AttributeValue::Float(value) => (*value).into(),
        AttributeValue::Bool(value) => (*value).into(),
        AttributeValue::Bytes(bytes) => hex(bytes).into(),
        AttributeValue::Array(list) => list.iter().map(json).collect(),
        AttributeValue::Map(map) => map.iter().map(|(k, v)| (k.clone(), json(v))).collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    let digits = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    digits.collect()
}

impl<'a> ValueRef<'a> {
    /// A copy that owns its parts; a damaged nested value reads as far as it goes.
    #[must_use]
    pub fn to_value(self) -> AttributeValue {
        match self {
            Self::Null => AttributeValue::Null,
            Self::Str(text) => AttributeValue::String(text.to_owned()),
            Self::Int(number) => AttributeValue::Int(number),
            Self::Float(number) => AttributeValue::Float(number),
            Self::Bool(truth) => AttributeValue::Bool(truth),
            Self::Bytes(bytes) => AttributeValue::Bytes(bytes.to_vec()),
            Self::Nested(bytes) => {
                read_value(bytes, &mut 0, NESTING_MAX).unwrap_or(AttributeValue::Null)
            }
        }
    }

    /// Appends the stored form.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let run = |out: &mut Vec<u8>, tag, bytes: &[u8]| {
            out.push(tag);
            varint::write_u64(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Null => out.push(0),
            Self::Str(text) => run(out, 1, text.as_bytes()),
            Self::Int(number) => {
                out.push(2);
                varint::write_i64(out, number);
            }
            Self::Float(number) => {
                out.push(3);
                out.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Self::Bool(truth) => out.extend_from_slice(&[4, u8::from(truth)]),
            Self::Bytes(bytes) => run(out, 5, bytes),
            Self::Nested(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// Reads one value at `at`; `None` for bytes that are none.
    pub(crate) fn read(bytes: &'a [u8], at: &mut usize) -> Option<Self> {
        let start = *at;
        let tag = *bytes.get(start)?;
        *at += 1;
        Some(match tag {
            0 => Self::Null,
            1 => Self::Str(std::str::from_utf8(take_bytes(bytes, at)?).ok()?),
            2 => Self::Int(read_i64(bytes, at)?),
            3 => Self::Float(read_f64(bytes, at)?),
            4 => {
                let truth = *bytes.get(*at)? != 0;
                *at += 1;
                Self::Bool(truth)
            }
            5 => Self::Bytes(take_bytes(bytes, at)?),
            6 | 7 => {
                *at = start;
                skip_value(bytes, at, NESTING_MAX)?;
                Self::Nested(bytes.get(start..*at)?)
            }
            _ => return None,
        })
    }
}

fn take_bytes<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = usize::try_from(varint::read_u64(bytes, at)?).ok()?;
    let taken = bytes.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some(taken)
}

fn read_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let raw = varint::read_u64(bytes, at)?;
    Some(((raw >> 1) as i64) ^ -((raw & 1) as i64))
}

fn read_f64(bytes: &[u8], at: &mut usize) -> Option<f64> {
    let taken = bytes.get(*at..*at + 8)?;
    *at += 8;
    Some(f64::from_bits(u64::from_le_bytes(taken.try_into().ok()?)))
}

/// Steps over one value; `None` for bytes that are none, or nest deeper than `depth` levels.
pub(crate) fn skip_value(bytes: &[u8], at: &mut usize, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let tag = *bytes.get(*at)?;
    *at += 1;
    match tag {
        0 => {}
        1 => {
            std::str::from_utf8(take_bytes(bytes, at)?).ok()?;
        }
        5 => {
            take_bytes(bytes, at)?;
        }
        2 => {
            read_i64(bytes, at)?;
        }
        3 => {
            read_f64(bytes, at)?;
        }
        4 => {
            bytes.get(*at)?;
            *at += 1;
        }
        6 => {
            for _ in 0..varint::read_u64(bytes, at)? {
                skip_value(bytes, at, depth)?;
            }
        }
        7 => {
            for _ in 0..varint::read_u64(bytes, at)? {
                std::str::from_utf8(take_bytes(bytes, at)?).ok()?;
                skip_value(bytes, at, depth)?;
            }
        }
        _ => return None,
    }
    Some(())
}

/// Reads one value into parts of its own.
pub(crate) fn read_value(bytes: &[u8], at: &mut usize, depth: usize) -> Option<AttributeValue> {
    let depth = depth.checked_sub(1)?;
    Some(match *bytes.get(*at)? {
        6 => {
            *at += 1;
            let mut values = Vec::new();
            for _ in 0..varint::read_u64(bytes, at)? {
                values.push(read_value(bytes, at, depth)?);
            }
            AttributeValue::Array(values)
        }
        7 => {
            *at += 1;
            let mut pairs = Attributes::new();
            for _ in 0..varint::read_u64(bytes, at)? {
                let key = std::str::from_utf8(take_bytes(bytes, at)?).ok()?;
                pairs.push((key.to_owned(), read_value(bytes, at, depth)?));
            }
            AttributeValue::Map(pairs)
        }
        _ => ValueRef::read(bytes, at)?.to_value(),
    })
}
