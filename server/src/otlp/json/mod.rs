//! OTLP in JSON, rewritten as the protobuf that it stands for.
//!
//! JSON is the rare form, so it costs one pass more and nothing else: a table per message
//! ([`schema`]) says which key is which field, the text is read once without a tree, and what follows
//! knows only protobuf. A signal adds its tables and is done.
//!
//! OTLP's own rules: trace and span ids are hexadecimal, enums are numbers (names are taken too),
//! 64-bit numbers may be text, keys are in lower camel case (snake case is taken too), unknown keys
//! are ignored, `null` is the same as no key, doubles may be `"NaN"` and `"Infinity"`. Nesting is
//! bounded by `serde_json`, the output by a limit.

pub mod schema;

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use self::schema::{Field, Kind, Message};
use crate::ingest::protobuf::{Reader, Value as WireValue};
use crate::wire::protobuf::{push_bytes, push_double, push_number, push_varint};

/// Bytes kept for the length of a message that is not written yet: a varint padded to this size.
const LENGTH_BYTES: usize = 5;

const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING);

/// Why a text was not rewritten.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON, or not of this message; with line and column.
    #[error("{0}")]
    Text(serde_json::Error),
    /// It would become too large.
    #[error("more than {0} bytes as protobuf")]
    TooLarge(usize),
}

/// Appends the message that `text` stands for to `out`, at most `bytes_max` bytes of it.
///
/// # Errors
/// See [`JsonError`].
pub fn to_protobuf(
    text: &[u8],
    message: &'static Message,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let mut writer = Writer {
        start: out.len(),
        out,
        bytes_max,
        overflowed: false,
    };
    let seed = MessageSeed {
        message,
        writer: &mut writer,
    };
    let written = seed.deserialize(&mut deserializer);
    if writer.overflowed {
        return Err(JsonError::TooLarge(bytes_max));
    }
    written
        .and_then(|()| deserializer.end())
        .map_err(JsonError::Text)
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    bytes_max: usize,
    overflowed: bool,
}

impl Writer<'_> {
    fn check<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.out.len() - self.start > self.bytes_max {
            self.overflowed = true;
            return Err(E::custom("too large"));
        }
        Ok(())
    }
}

/// Reads an object as a message.
struct MessageSeed<'w, 'o> {
    message: &'static Message,
    writer: &'w mut Writer<'o>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.message.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(KeySeed(self.message))? {
            match field {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(field) => map.next_value_seed(FieldSeed {
                    field,
                    writer: &mut *self.writer,
                })?,
            }
        }
        Ok(())
    }
}

/// Finds the field of a key.
struct KeySeed(&'static Message);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.field(key))
    }
}

/// Reads a field: one value, or an array of them.
struct FieldSeed<'w, 'o> {
    field: &'static Field,
    writer: &'w mut Writer<'o>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.field.repeated {
            return deserializer.deserialize_any(ListVisitor(self));
        }
        ValueSeed(self).deserialize(deserializer)
    }
}

struct ListVisitor<'w, 'o>(FieldSeed<'w, 'o>);

impl<'de> Visitor<'de> for ListVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array ({})", self.0.field.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let FieldSeed { field, writer } = self.0;
        loop {
            let seed = ValueSeed(FieldSeed {
                field,
                writer: &mut *writer,
            });
            if items.next_element_seed(seed)?.is_none() {
                return Ok(());
            }
        }
    }
}

/// Reads one value of a field.
struct ValueSeed<'w, 'o>(FieldSeed<'w, 'o>);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let FieldSeed { field, writer } = self.0;
        let Kind::Message(message) = field.kind else {
            return deserializer.deserialize_any(ScalarVisitor(FieldSeed { field, writer }));
        };
        push_varint(writer.out, u64::from(field.number) << 3 | 2);
        let length_at = writer.out.len();
        writer.out.extend_from_slice(&[0; LENGTH_BYTES]);
        writer.check()?;
        MessageSeed {
            message: message(),
            writer: &mut *writer,
        }
        .deserialize(deserializer)?;
        let body_at = length_at + LENGTH_BYTES;
        let mut length = writer.out.len() - body_at;
        if let Some(place) = writer.out.get_mut(length_at..body_at) {
            for byte in place.iter_mut() {
                *byte = (length & 0x7f) as u8 | 0x80;
                length >>= 7;
            }
            if let Some(last) = place.last_mut() {
                *last &= 0x7f;
            }
        }
        Ok(())
    }
}

/// Writes a plain value as its field wants it.
struct ScalarVisitor<'w, 'o>(FieldSeed<'w, 'o>);

impl ScalarVisitor<'_, '_> {
    fn whole<E: serde::de::Error>(self, number: i128) -> Result<(), E> {
        let Field {
            number: tag, kind, ..
        } = *self.0.field;
        let out = &mut *self.0.writer.out;
        let range = || E::custom(format_args!("{number} is out of range"));
        match kind {
            Kind::Double => push_double(out, tag, number as f64),
            Kind::Fixed64 => push_fixed64(out, tag, u64::try_from(number).map_err(|_| range())?),
            Kind::SignedFixed64 => {
                let signed = i64::try_from(number).map_err(|_| range())?;
                push_fixed64(out, tag, signed.cast_unsigned());
            }
            Kind::Unsigned => push_number(out, tag, u64::try_from(number).map_err(|_| range())?),
            Kind::Signed | Kind::Enum(_) => {
                let signed = i64::try_from(number).map_err(|_| range())?;
                push_number(out, tag, signed.cast_unsigned());
            }
            Kind::ZigZag32 => {
                let signed = i32::try_from(number).map_err(|_| range())?;
                crate::wire::protobuf::push_signed(out, tag, i64::from(signed));
            }
            _ => {
                return Err(E::invalid_type(
                    serde::de::Unexpected::Other("number"),
                    &self,
                ));
            }
        }
        self.0.writer.check()
    }

    fn double<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        if self.0.field.kind.is_whole() {
            // Protobuf's JSON takes 1.0 and 1e3 for whole numbers.
            if number.fract() != 0.0 || number.abs() >= 2_f64.powi(64) {
                return Err(E::custom(format_args!("{number} is not a whole number")));
            }
            return self.whole(number as i128);
        }
        let FieldSeed { field, writer } = self.0;
        if !matches!(field.kind, Kind::Double) {
            let unexpected = serde::de::Unexpected::Float(number);
            return Err(E::invalid_type(
                unexpected,
                &ScalarVisitor(FieldSeed { field, writer }),
            ));
        }
        push_double(writer.out, field.number, number);
        writer.check()
    }
}

impl Visitor<'_> for ScalarVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({})",
            self.0.field.kind.in_words(),
            self.0.field.name
        )
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<(), E> {
        if !matches!(self.0.field.kind, Kind::Bool) {
            return Err(E::invalid_type(serde::de::Unexpected::Bool(truth), &self));
        }
        push_number(self.0.writer.out, self.0.field.number, u64::from(truth));
        self.0.writer.check()
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.whole(i128::from(number))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.whole(i128::from(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        self.double(number)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let refuse = |visitor: &Self| E::invalid_value(serde::de::Unexpected::Str(text), visitor);
        let number = self.0.field.number;
        match self.0.field.kind {
            Kind::Text => push_bytes(self.0.writer.out, number, text.as_bytes()),
            Kind::Hex => {
                let bytes = from_hex(text).ok_or_else(|| refuse(&self))?;
                push_bytes(self.0.writer.out, number, &bytes);
            }
            Kind::Id => match from_hex(text) {
                Some(bytes) => push_bytes(self.0.writer.out, number, &bytes),
                None => {
                    let mut bytes = text.as_bytes().to_vec();
                    if matches!(bytes.len(), 8 | 16) {
                        bytes.push(b' ');
                    }
                    push_bytes(self.0.writer.out, number, &bytes);
                }
            },
            Kind::Base64 => {
                let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
                let bytes = decoded.map_err(|_| refuse(&self))?;
                push_bytes(self.0.writer.out, number, &bytes);
            }
            Kind::Double => {
                let value = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    digits => number_text(digits)
                        .and_then(|digits| digits.parse().ok())
                        .ok_or_else(|| refuse(&self))?,
                };
                return self.double(value);
            }
            Kind::Enum(names) => {
                let named = names.iter().find(|(name, _)| *name == text);
                let value = named.map(|(_, value)| i128::from(*value));
                let value = value.or_else(|| text.parse().ok());
                let value = value.ok_or_else(|| refuse(&self))?;
                return self.whole(value);
            }
            kind if kind.is_whole() => {
                if let Ok(whole) = text.parse::<i128>() {
                    return self.whole(whole);
                }
                let value = number_text(text).and_then(|digits| digits.parse::<f64>().ok());
                let value = value.ok_or_else(|| refuse(&self))?;
                return self.double(value);
            }
            _ => return Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        }
        self.0.writer.check()
    }
}

/// Text that is a JSON number; Rust's parser takes more (`inf`, `+1`).
fn number_text(text: &str) -> Option<&str> {
    let looks_like_one = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
    (looks_like_one && !text.starts_with('+')).then_some(text)
}

fn push_fixed64(out: &mut Vec<u8>, field: u32, bits: u64) {
    push_double(out, field, f64::from_bits(bits));
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    pairs.iter().map(byte).collect()
}

/// Writes `text` as JSON would be answered: fields of a small message, by its table. Only what
/// answers need: whole numbers and text, empty ones left out.
#[must_use]
pub fn from_protobuf(bytes: &[u8], message: &'static Message) -> String {
    let mut out = String::from("{");
    let mut reader = Reader::new(bytes);
    while let Ok(Some(found)) = reader.next_field() {
        let Some(field) = message.fields.iter().find(|f| f.number == found.number) else {
            continue;
        };
        if out.len() > 1 {
            out.push(',');
        }
        crate::wire::json::push_string(&mut out, field.name);
        out.push(':');
        match (found.value, field.kind) {
            (WireValue::Bytes(inner), Kind::Message(inner_message)) => {
                out.push_str(&from_protobuf(inner, inner_message()));
            }
            (WireValue::Bytes(text), _) => {
                crate::wire::json::push_string(&mut out, &String::from_utf8_lossy(text));
            }
            // 64-bit numbers are text, 32-bit ones are not.
            (WireValue::Varint(number), Kind::Signed) => {
                out.push_str(&format!("\"{}\"", number.cast_signed()));
            }
            (WireValue::Varint(number), _) => out.push_str(&number.to_string()),
            (WireValue::Fixed64(_) | WireValue::Fixed32(_), _) => out.push_str("null"),
        }
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests;
