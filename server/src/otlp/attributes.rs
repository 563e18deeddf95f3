//! Attributes of any signal: read where they lie in the message, and written as text.
//!
//! Values become text as OpenTelemetry's own libraries do it (`pdata`'s `AsString`): plain values in
//! their shortest form, arrays and maps as JSON with sorted keys, bytes in base64. Nesting is
//! bounded, since every level is a level of our stack.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::ingest::protobuf::{Field, Reader, WireError};
use crate::wire::{json, number};

/// Arrays and maps inside each other.
const NESTING_MAX: u32 = 32;

/// Why an attribute cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// The bytes are wrong.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Text that is not text.
    #[error("an attribute is not UTF-8")]
    NotUtf8,
    /// Too deep.
    #[error("an attribute is nested deeper than {NESTING_MAX} levels")]
    Nesting,
}

/// The attributes in a message: the `KeyValue`s in all fields of one number.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    message: &'a [u8],
    field: u32,
}

impl<'a> Attributes<'a> {
    /// Those in the fields `field` of `message`.
    #[must_use]
    pub fn new(message: &'a [u8], field: u32) -> Self {
        Self { message, field }
    }

    /// The message that they lie in.
    #[must_use]
    pub fn message(self) -> &'a [u8] {
        self.message
    }

    /// Calls `take` with key and value of each, in their order.
    ///
    /// # Errors
    /// Malformed bytes, a key that is not UTF-8, or what `take` answers.
    pub fn for_each<E: From<AttributeError>>(
        self,
        mut take: impl FnMut(&'a str, AnyValue<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::new(self.message);
        while let Some(field) = reader.next_field().map_err(AttributeError::from)? {
            if field.number == self.field {
                let (key, value) = key_value(field.bytes().map_err(AttributeError::from)?)?;
                take(key, value)?;
            }
        }
        Ok(())
    }
}

fn key_value(message: &[u8]) -> Result<(&str, AnyValue<'_>), AttributeError> {
    let mut reader = Reader::new(message);
    let (mut key, mut value) = ("", AnyValue(&[]));
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => key = utf8(field)?,
            2 => value = AnyValue(field.bytes()?),
            _ => {}
        }
    }
    Ok((key, value))
}

fn utf8(field: Field<'_>) -> Result<&str, AttributeError> {
    std::str::from_utf8(field.bytes()?).map_err(|_| AttributeError::NotUtf8)
}

/// A value of any type, not yet looked into.
#[derive(Clone, Copy, Debug)]
pub struct AnyValue<'a>(&'a [u8]);

/// One level of it.
enum Shape<'a> {
    Empty,
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    Array(&'a [u8]),
    Map(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    fn shape(self) -> Result<Shape<'a>, AttributeError> {
        let mut reader = Reader::new(self.0);
        let mut shape = Shape::Empty;
        while let Some(field) = reader.next_field()? {
            shape = match field.number {
                1 => Shape::Text(utf8(field)?),
                2 => Shape::Bool(field.varint()? != 0),
                3 => Shape::Int(field.int64()?),
                4 => Shape::Double(field.double()?),
                5 => Shape::Array(field.bytes()?),
                6 => Shape::Map(field.bytes()?),
                7 => Shape::Bytes(field.bytes()?),
                _ => continue,
            };
        }
        Ok(shape)
    }

    /// Appends the value as text.
    ///
    /// # Errors
    /// Malformed bytes, text that is not UTF-8, nesting that is too deep.
    pub fn push_text(self, out: &mut String) -> Result<(), AttributeError> {
        match self.shape()? {
            Shape::Empty => {}
            Shape::Text(text) => out.push_str(text),
            Shape::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
            Shape::Int(int) => out.push_str(itoa::Buffer::new().format(int)),
            Shape::Double(double) if double.is_finite() => push_double(out, double),
            Shape::Double(double) => {
                out.push_str("json: unsupported value: ");
                number::push_float(out, double);
            }
            Shape::Bytes(bytes) => STANDARD.encode_string(bytes, out),
            Shape::Array(_) | Shape::Map(_) => {
                let start = out.len();
                // JSON has no infinities: a collection that holds one has no text.
                if !self.push_json(out, NESTING_MAX)? {
                    out.truncate(start);
                }
            }
        }
        Ok(())
    }

    /// The value as text.
    ///
    /// # Errors
    /// See [`AnyValue::push_text`].
    pub fn text(self) -> Result<String, AttributeError> {
        let mut out = String::new();
        self.push_text(&mut out)?;
        Ok(out)
    }

    /// Appends the value as JSON; false where it cannot be written.
    fn push_json(self, out: &mut String, levels: u32) -> Result<bool, AttributeError> {
        match self.shape()? {
            Shape::Empty => out.push_str("null"),
            Shape::Text(text) => push_json_text(out, text),
            Shape::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
            Shape::Int(int) => out.push_str(itoa::Buffer::new().format(int)),
            Shape::Double(double) if double.is_finite() => push_double(out, double),
            Shape::Double(_) => return Ok(false),
            Shape::Bytes(bytes) => {
                out.push('"');
                STANDARD.encode_string(bytes, out);
                out.push('"');
            }
            Shape::Array(message) => {
                let levels = levels.checked_sub(1).ok_or(AttributeError::Nesting)?;
                out.push('[');
                let mut reader = Reader::new(message);
                let mut first = true;
                while let Some(field) = reader.next_field()? {
                    if field.number != 1 {
                        continue;
                    }
                    if !std::mem::take(&mut first) {
                        out.push(',');
                    }
                    if !AnyValue(field.bytes()?).push_json(out, levels)? {
                        return Ok(false);
                    }
                }
                out.push(']');
            }
            Shape::Map(message) => {
                let levels = levels.checked_sub(1).ok_or(AttributeError::Nesting)?;
                let mut entries: BTreeMap<&str, AnyValue<'_>> = BTreeMap::new();
                Attributes::new(message, 1).for_each(|key, value| {
                    entries.insert(key, value);
                    Ok::<_, AttributeError>(())
                })?;
                out.push('{');
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    push_json_text(out, key);
                    out.push(':');
                    if !value.push_json(out, levels)? {
                        return Ok(false);
                    }
                }
                out.push('}');
            }
        }
        Ok(true)
    }
}

/// A finite number as JavaScript writes it: `1e-7`, not `1e-07`.
fn push_double(out: &mut String, double: f64) {
    let start = out.len();
    number::push_float(out, double);
    if let Some(at) = out.get(start..).and_then(|text| text.find("e-0")) {
        out.remove(start + at + 2);
    }
}

/// Quoted text with the escapes of Go's encoder, which is safe inside HTML.
fn push_json_text(out: &mut String, text: &str) {
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return json::push_string(out, text);
    }
    let mut quoted = String::new();
    json::push_string(&mut quoted, text);
    for c in quoted.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protobuf::{push_bytes, push_double as wire_double, push_number};

    fn text(value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        push_bytes(&mut out, 1, value.as_bytes());
        out
    }

    fn double(value: f64) -> Vec<u8> {
        let mut out = Vec::new();
        wire_double(&mut out, 4, value);
        out
    }

    fn array(values: &[Vec<u8>]) -> Vec<u8> {
        let mut list = Vec::new();
        for value in values {
            push_bytes(&mut list, 1, value);
        }
        let mut out = Vec::new();
        push_bytes(&mut out, 5, &list);
        out
    }

    fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (key, value) in entries {
            let mut entry = Vec::new();
            push_bytes(&mut entry, 1, key.as_bytes());
            push_bytes(&mut entry, 2, value);
            push_bytes(&mut list, 1, &entry);
        }
        let mut out = Vec::new();
        push_bytes(&mut out, 6, &list);
        out
    }

    #[test]
    fn values_have_the_text_of_pdata() {
        let mut int = Vec::new();
        push_number(&mut int, 3, (-5_i64).cast_unsigned());
        let mut truth = Vec::new();
        push_number(&mut truth, 2, 1);
        let mut bytes = Vec::new();
        push_bytes(&mut bytes, 7, b"\x00\xff");
        for (value, expected) in [
            (Vec::new(), ""),
            (text("x"), "x"),
            (int.clone(), "-5"),
            (truth, "true"),
            (double(1.5), "1.5"),
            (double(1e-7), "1e-7"),
            (double(2e21), "2e+21"),
            (double(f64::INFINITY), "json: unsupported value: +Inf"),
            (bytes, "AP8="),
            (
                array(&[text("a<\"b"), Vec::new(), int.clone()]),
                r#"["a\u003c\"b",null,-5]"#,
            ),
            (
                map(&[("z", int), ("a", double(0.1))]),
                r#"{"a":0.1,"z":-5}"#,
            ),
            (array(&[double(f64::NAN)]), ""),
        ] {
            assert_eq!(AnyValue(&value).text().unwrap(), expected);
        }
    }

    #[test]
    fn hostile_values_are_errors() {
        let mut deep = text("x");
        for _ in 0..40 {
            deep = array(&[deep]);
        }
        assert_eq!(AnyValue(&deep).text(), Err(AttributeError::Nesting));
        let mut not_text = Vec::new();
        push_bytes(&mut not_text, 1, b"\xff");
        assert_eq!(AnyValue(&not_text).text(), Err(AttributeError::NotUtf8));
        assert!(matches!(
            AnyValue(&[0x0a, 5]).text(),
            Err(AttributeError::Wire(_))
        ));
    }
}
