//! Typed attributes out of OTLP's messages, for logs and traces.
//!
//! Text is borrowed where it lies. Bytes that are no UTF-8 are replaced (U+FFFD) and counted, as the
//! protocol's own receivers let them pass: a record is worth more than its one bad character. Nesting
//! and the number of values inside of values are bounded, since an empty one takes two bytes on the
//! wire and thirty-two in memory.

use std::borrow::Cow;

use chronolith_engine::model::{AttributeValue, Attributes};

use crate::ingest::protobuf::{Field, Reader, WireError};
use crate::rows::{Pairs, Value};

/// Arrays and maps inside each other.
const NESTING_MAX: u32 = 32;
/// Values inside of arrays and maps, per attribute.
const NESTED_VALUES_MAX: usize = 10_000;

/// Why attributes cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The bytes are wrong; the request is refused.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Too deep or too many; the row is refused.
    #[error("{0}")]
    Bounds(String),
}

/// Reads text; counts in `repaired` what was none.
#[inline]
pub fn text<'a>(field: Field<'a>, repaired: &mut u64) -> Result<Cow<'a, str>, WireError> {
    Ok(lossy(field.bytes()?, repaired))
}

#[inline]
fn lossy<'a>(bytes: &'a [u8], repaired: &mut u64) -> Cow<'a, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            *repaired += 1;
            String::from_utf8_lossy(bytes)
        }
    }
}

/// Appends one `KeyValue` to `pairs`, unless they are `pairs_max` + 1 already: that many tell that
/// there are too many.
///
/// # Errors
/// See [`ValueError`].
#[inline]
pub fn push_key_value<'a>(
    message: &'a [u8],
    pairs: &mut Pairs<'a>,
    pairs_max: usize,
    repaired: &mut u64,
) -> Result<(), ValueError> {
    let (mut key, mut value) = (Cow::Borrowed(""), Value::Null);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => key = text(field, repaired)?,
            2 => value = any_value(field.bytes()?, repaired)?,
            _ => {}
        }
    }
    if pairs.len() <= pairs_max {
        pairs.push((key, value));
    }
    Ok(())
}

/// Reads an `AnyValue`.
///
/// # Errors
/// See [`ValueError`].
#[inline]
pub fn any_value<'a>(message: &'a [u8], repaired: &mut u64) -> Result<Value<'a>, ValueError> {
    let mut value = Value::Null;
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        value = match field.number {
            1 => Value::Text(text(field, repaired)?),
            2 => Value::Bool(field.varint()? != 0),
            3 => Value::Int(field.int64()?),
            4 => Value::Float(field.double()?),
            5 | 6 => {
                let mut left = NESTED_VALUES_MAX;
                Value::Nested(nested(field, NESTING_MAX, &mut left, repaired)?)
            }
            7 => Value::Bytes(Cow::Borrowed(field.bytes()?)),
            _ => continue,
        };
    }
    Ok(value)
}

/// Reads the array or map in a field of an `AnyValue`.
fn nested(
    field: Field<'_>,
    levels: u32,
    left: &mut usize,
    repaired: &mut u64,
) -> Result<AttributeValue, ValueError> {
    let levels = levels.checked_sub(1).ok_or_else(|| {
        ValueError::Bounds(format!("attribute nested deeper than {NESTING_MAX} levels"))
    })?;
    let mut reader = Reader::new(field.bytes()?);
    let mut one_more = || {
        *left = left.checked_sub(1).ok_or_else(|| {
            ValueError::Bounds(format!(
                "attribute with more than {NESTED_VALUES_MAX} values inside"
            ))
        })?;
        Ok::<_, ValueError>(())
    };
    if field.number == 5 {
        let mut values = Vec::new();
        while let Some(item) = reader.next_field()? {
            if item.number == 1 {
                one_more()?;
                values.push(item.bytes()?);
            }
        }
        let values = values
            .into_iter()
            .map(|message| inner(message, levels, left, repaired));
        return Ok(AttributeValue::Array(values.collect::<Result<_, _>>()?));
    }
    let mut entries = Vec::new();
    while let Some(item) = reader.next_field()? {
        if item.number == 1 {
            one_more()?;
            entries.push(item.bytes()?);
        }
    }
    let mut pairs = Vec::with_capacity(entries.len());
    for entry in entries {
        let (mut key, mut value) = (String::new(), AttributeValue::Null);
        let mut reader = Reader::new(entry);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => key = text(field, repaired)?.into_owned(),
                2 => value = inner(field.bytes()?, levels, left, repaired)?,
                _ => {}
            }
        }
        pairs.push((key, value));
    }
    Ok(AttributeValue::Map(pairs))
}

fn inner(
    message: &[u8],
    levels: u32,
    left: &mut usize,
    repaired: &mut u64,
) -> Result<AttributeValue, ValueError> {
    let mut value = AttributeValue::Null;
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        value = match field.number {
            1 => AttributeValue::String(text(field, repaired)?.into_owned()),
            2 => AttributeValue::Bool(field.varint()? != 0),
            3 => AttributeValue::Int(field.int64()?),
            4 => AttributeValue::Float(field.double()?),
            5 | 6 => nested(field, levels, left, repaired)?,
            7 => AttributeValue::Bytes(field.bytes()?.to_vec()),
            _ => continue,
        };
    }
    Ok(value)
}

/// The attributes in the fields `number` of a message, in parts of their own.
///
/// # Errors
/// See [`ValueError`].
pub fn owned_attributes(
    message: &[u8],
    number: u32,
    pairs_max: usize,
    repaired: &mut u64,
) -> Result<Attributes, ValueError> {
    let mut pairs = Pairs::new();
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        if field.number == number {
            push_key_value(field.bytes()?, &mut pairs, pairs_max, repaired)?;
        }
    }
    if pairs.len() > pairs_max {
        return Err(ValueError::Bounds(format!(
            "resource or scope with more than {pairs_max} attributes"
        )));
    }
    let pairs = pairs.into_iter();
    Ok(pairs
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protobuf::{push_bytes, push_number};

    fn array(values: &[Vec<u8>]) -> Vec<u8> {
        let (mut list, mut out) = (Vec::new(), Vec::new());
        for value in values {
            push_bytes(&mut list, 1, value);
        }
        push_bytes(&mut out, 5, &list);
        out
    }

    fn words(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_bytes(&mut out, 1, text);
        out
    }

    #[test]
    fn values_keep_their_types() {
        let mut repaired = 0;
        let mut int = Vec::new();
        push_number(&mut int, 3, (-5_i64).cast_unsigned());
        let mut read = |bytes: &[u8]| any_value(bytes, &mut repaired).unwrap().into_owned();
        assert_eq!(read(&int), AttributeValue::Int(-5));
        assert_eq!(read(&[]), AttributeValue::Null);
        let list = array(&[words(b"a"), Vec::new(), int.clone()]);
        assert_eq!(
            read(&list),
            AttributeValue::Array(vec![
                AttributeValue::String("a".into()),
                AttributeValue::Null,
                AttributeValue::Int(-5)
            ])
        );
        let (mut entry, mut entries, mut map) = (Vec::new(), Vec::new(), Vec::new());
        push_bytes(&mut entry, 1, b"k");
        push_bytes(&mut entry, 2, &list);
        push_bytes(&mut entries, 1, &entry);
        push_bytes(&mut map, 6, &entries);
        let AttributeValue::Map(pairs) = read(&map) else {
            panic!("expected a map");
        };
        assert_eq!(pairs[0].0, "k");
        assert_eq!(
            read(&words(b"a\xffb")),
            AttributeValue::String("a\u{fffd}b".into())
        );
        assert_eq!(repaired, 1);
    }

    #[test]
    fn bombs_are_refused() {
        let mut deep = words(b"x");
        for _ in 0..40 {
            deep = array(&[deep]);
        }
        let error = any_value(&deep, &mut 0).unwrap_err();
        assert!(error.to_string().contains("deeper"), "{error}");
        let wide = array(&vec![Vec::new(); NESTED_VALUES_MAX + 1]);
        let error = any_value(&wide, &mut 0).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
        assert!(matches!(
            any_value(&[0x0a, 5], &mut 0),
            Err(ValueError::Wire(_))
        ));
    }
}
