//! Reading stored structures with the file and offset at hand for the error, and the small writers
//! that match.

use crate::codec::varint;
use crate::error::{EngineError, Result};
use crate::model::{AttributeValue, Attributes};

use super::file::SegmentFile;

/// Nesting of arrays and maps in an attribute; deeper ones are refused by the reader and flattened
/// to text by no one: ingest bounds nesting far below.
const ATTRIBUTE_NESTING_MAX: u32 = 64;

/// Appends an unsigned LEB128 integer.
#[inline]
pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    varint::write_u64(out, value);
}

/// Appends a zig-zag LEB128 integer.
#[inline]
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    varint::write_i64(out, value);
}

/// Appends length and bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends length and text.
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Appends the bits of a double, little-endian.
pub(crate) fn put_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Appends an attribute value: a type byte, then the value.
pub(crate) fn put_attribute(out: &mut Vec<u8>, value: &AttributeValue) {
    match value {
        AttributeValue::Null => out.push(0),
        AttributeValue::String(text) => {
            out.push(1);
            put_str(out, text);
        }
        AttributeValue::Int(number) => {
            out.push(2);
            put_i64(out, *number);
        }
        AttributeValue::Float(number) => {
            out.push(3);
            put_f64(out, *number);
        }
        AttributeValue::Bool(truth) => {
            out.push(4);
            out.push(u8::from(*truth));
        }
        AttributeValue::Bytes(bytes) => {
            out.push(5);
            put_bytes(out, bytes);
        }
        AttributeValue::Array(values) => {
            out.push(6);
            put_u64(out, values.len() as u64);
            for value in values {
                put_attribute(out, value);
            }
        }
        AttributeValue::Map(pairs) => {
            out.push(7);
            put_attributes(out, pairs);
        }
    }
}

/// Appends pairs in their order.
pub(crate) fn put_attributes(out: &mut Vec<u8>, pairs: &Attributes) {
    put_u64(out, pairs.len() as u64);
    for (key, value) in pairs {
        put_str(out, key);
        put_attribute(out, value);
    }
}

/// Walks over stored bytes; every error names the file and the offset in it.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    file: &'a SegmentFile,
    bytes: &'a [u8],
    /// Offset of `bytes[0]` in the file.
    base: u64,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Over `bytes`, which lie at `base` in `file`. For decompressed bytes `base` is where the
    /// compressed ones are.
    pub(crate) fn new(file: &'a SegmentFile, bytes: &'a [u8], base: u64) -> Self {
        Self {
            file,
            bytes,
            base,
            at: 0,
        }
    }

    /// Bytes not yet read.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Offset in the file of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// An error about the next byte.
    #[cold]
    pub(crate) fn corrupt(&self, expected: &str, found: impl ToString) -> EngineError {
        self.file
            .corrupt(self.offset(), expected, &found.to_string())
    }

    #[cold]
    fn ended(&self, expected: &str) -> EngineError {
        self.corrupt(expected, "the end of the structure")
    }

    /// The next `size` bytes.
    #[inline]
    pub(crate) fn take(&mut self, size: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(size);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(bytes) => {
                self.at += size;
                Ok(bytes)
            }
            None => Err(self.ended(&format!("{size} bytes"))),
        }
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        self.at = self.bytes.len();
        rest
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8> {
        match self.bytes.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => Err(self.ended("a byte")),
        }
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_bits(u64::from_le_bytes(self.array()?)))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut at = self.at;
        match varint::read_u64(self.bytes, &mut at) {
            Some(value) => {
                self.at = at;
                Ok(value)
            }
            None => Err(self.ended("a varint")),
        }
    }

    #[inline]
    pub(crate) fn varint_i64(&mut self) -> Result<i64> {
        let raw = self.varint()?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    /// A varint of at most `max`, named `what` in the error.
    #[inline]
    pub(crate) fn varint_max(&mut self, max: u64, what: &str) -> Result<u64> {
        let before = self.at;
        let value = self.varint()?;
        if value > max {
            self.at = before;
            return Err(self.corrupt(&format!("{what} of at most {max}"), value));
        }
        Ok(value)
    }

    /// A count of things that take at least one byte each: bounded by what is left.
    pub(crate) fn count(&mut self, what: &str) -> Result<usize> {
        let max = self.remaining() as u64;
        Ok(self.varint_max(max, what)? as usize)
    }

    /// Length and bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.count("length")?;
        self.take(length)
    }

    /// Length and text.
    pub(crate) fn str(&mut self) -> Result<&'a str> {
        let before = self.at;
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| {
            self.at = before;
            self.corrupt("UTF-8 text", "other bytes")
        })
    }

    /// Nothing may follow.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.at == self.bytes.len() {
            return Ok(());
        }
        Err(self.corrupt(
            "the end of the structure",
            format!("{} more bytes", self.remaining()),
        ))
    }

    /// What [`put_attribute`] wrote.
    pub(crate) fn attribute(&mut self) -> Result<AttributeValue> {
        self.attribute_nested(ATTRIBUTE_NESTING_MAX)
    }

    fn attribute_nested(&mut self, depth: u32) -> Result<AttributeValue> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(self.corrupt("attributes nested less deeply", "another level"));
        };
        Ok(match self.u8()? {
            0 => AttributeValue::Null,
            1 => AttributeValue::String(self.str()?.to_owned()),
            2 => AttributeValue::Int(self.varint_i64()?),
            3 => AttributeValue::Float(self.f64()?),
            4 => AttributeValue::Bool(self.u8()? != 0),
            5 => AttributeValue::Bytes(self.bytes()?.to_vec()),
            6 => {
                let count = self.count("array length")?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.attribute_nested(depth)?);
                }
                AttributeValue::Array(values)
            }
            7 => AttributeValue::Map(self.attributes_nested(depth)?),
            tag => return Err(self.corrupt("an attribute type", tag)),
        })
    }

    /// What [`put_attributes`] wrote.
    pub(crate) fn attributes(&mut self) -> Result<Attributes> {
        self.attributes_nested(ATTRIBUTE_NESTING_MAX)
    }

    fn attributes_nested(&mut self, depth: u32) -> Result<Attributes> {
        let count = self.count("attribute count")?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            let key = self.str()?.to_owned();
            pairs.push((key, self.attribute_nested(depth)?));
        }
        Ok(pairs)
    }
}
