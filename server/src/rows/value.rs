//! A value of any type on its way from a decoder into a batch.

use std::borrow::Cow;

use chronolith_engine::model::AttributeValue;
use chronolith_engine::rows::AttributeWriter;

/// A value that borrows from the request where it can.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value<'a> {
    /// No value was sent.
    #[default]
    Null,
    /// Text.
    Text(Cow<'a, str>),
    /// A 64-bit integer.
    Int(i64),
    /// A double, bit-exact.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Raw bytes.
    Bytes(Cow<'a, [u8]>),
    /// An array or a map. Rare, so it owns its parts.
    Nested(AttributeValue),
}

impl<'a> Value<'a> {
    /// Text that is borrowed.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// The text, if it is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A value that owns its parts.
    #[must_use]
    pub fn into_owned(self) -> AttributeValue {
        match self {
            Self::Null => AttributeValue::Null,
            Self::Text(text) => AttributeValue::String(text.into_owned()),
            Self::Int(number) => AttributeValue::Int(number),
            Self::Float(number) => AttributeValue::Float(number),
            Self::Bool(truth) => AttributeValue::Bool(truth),
            Self::Bytes(bytes) => AttributeValue::Bytes(bytes.into_owned()),
            Self::Nested(value) => value,
        }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Nested(value) => nested_size(value),
            Self::Null | Self::Int(_) | Self::Float(_) | Self::Bool(_) => 8,
        }
    }

    fn write(&self, key: &str, out: &mut AttributeWriter<'_>) {
        match self {
            Self::Null => out.value(key, &AttributeValue::Null),
            Self::Text(text) => out.str(key, text),
            Self::Int(number) => out.int(key, *number),
            Self::Float(number) => out.float(key, *number),
            Self::Bool(truth) => out.bool(key, *truth),
            Self::Bytes(bytes) => out.bytes(key, bytes),
            Self::Nested(value) => out.value(key, value),
        }
    }
}

fn nested_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::String(text) => text.len(),
        AttributeValue::Bytes(bytes) => bytes.len(),
        AttributeValue::Array(values) => values.iter().map(nested_size).sum::<usize>() + 8,
        AttributeValue::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, v)| key.len() + nested_size(v));
            pairs.sum::<usize>() + 8
        }
        _ => 8,
    }
}

/// Key-value pairs in the order sent.
pub type Pairs<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Writes pairs into a batch.
pub(super) fn write_pairs(pairs: &[(Cow<'_, str>, Value<'_>)], out: &mut AttributeWriter<'_>) {
    for (key, value) in pairs {
        value.write(key, out);
    }
}
