//! Reads protobuf's wire format from borrowed bytes, without generated code.
//!
//! The caller walks fields in their order and borrows what it wants; unknown fields are skipped,
//! groups (deprecated, nested without a length) are refused, so nothing here recurses. No length
//! is trusted beyond the bytes that are there, and nothing allocates.

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("the message is cut short")]
    Truncated,
    /// A variable-length integer has more than 64 bits.
    #[error("a number has more than 64 bits")]
    Overlong,
    /// A wire type that does not exist, or a group.
    #[error("wire type {0} is not supported")]
    WireType(u8),
    /// A field number of zero.
    #[error("field number 0")]
    FieldZero,
    /// A known field has another type than it should.
    #[error("field {0} has the wrong type")]
    FieldType(u32),
}

/// A field's value as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// A field: its number and value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    /// The field's number in the message's definition.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
}

impl<'a> Field<'a> {
    /// The bytes of a length-delimited field.
    ///
    /// # Errors
    /// The field has another wire type.
    #[inline]
    pub fn bytes(self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::FieldType(self.number)),
        }
    }

    /// The number of a varint field.
    ///
    /// # Errors
    /// The field has another wire type.
    #[inline]
    pub fn varint(self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(WireError::FieldType(self.number)),
        }
    }

    /// A signed number in two's complement (`int32`, `int64`).
    ///
    /// # Errors
    /// The field has another wire type.
    #[inline]
    pub fn int64(self) -> Result<i64, WireError> {
        Ok(self.varint()?.cast_signed())
    }

    /// A signed number in zig-zag (`sint32`, `sint64`).
    ///
    /// # Errors
    /// The field has another wire type.
    #[inline]
    pub fn sint64(self) -> Result<i64, WireError> {
        Ok(zigzag(self.varint()?))
    }

    /// A double.
    ///
    /// # Errors
    /// The field has another wire type.
    #[inline]
    pub fn double(self) -> Result<f64, WireError> {
        match self.value {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(WireError::FieldType(self.number)),
        }
    }
}

/// Undoes the zig-zag that keeps small negative numbers short.
#[inline]
#[must_use]
pub fn zigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
}

/// Walks over the fields of a message.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first field.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next field from the start of the message.
    #[inline]
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether all is read.
    #[inline]
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// A variable-length integer of up to 64 bits.
    ///
    /// # Errors
    /// It is cut short or longer than 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.varint_long(),
        }
    }

    fn varint_long(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(WireError::Truncated)?;
            self.at += 1;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                return Err(WireError::Overlong);
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Overlong)
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
        let end = self.at.checked_add(length).ok_or(WireError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(WireError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    /// Skips fields that begin with the byte `tag` (a length-delimited field below 16) and have a
    /// length of one byte. Stops in front of anything else, broken fields among it.
    #[inline]
    pub fn skip_short_fields(&mut self, tag: u8) {
        while self.take_short_field(tag).is_some() {}
    }

    /// The content of the next field if it begins with the byte `tag` and its length takes one byte.
    /// Otherwise nothing is read.
    #[inline]
    pub fn take_short_field(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&[first, length], rest) = self.bytes.get(self.at..)?.split_first_chunk()?;
        if first != tag || length >= 0x80 {
            return None;
        }
        let content = rest.get(..usize::from(length))?;
        self.at += 2 + content.len();
        Some(content)
    }

    #[inline]
    fn fixed64(&mut self) -> Result<u64, WireError> {
        let taken = self.take(8)?;
        let array = <[u8; 8]>::try_from(taken).map_err(|_| WireError::Truncated)?;
        Ok(u64::from_le_bytes(array))
    }

    /// The next field, or `None` at the end.
    ///
    /// # Errors
    /// The bytes are not a field.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.is_at_end() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::Overlong)?;
        if number == 0 {
            return Err(WireError::FieldZero);
        }
        let value = match (tag & 7) as u8 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                let taken = self.take(4)?;
                let array = <[u8; 4]>::try_from(taken).map_err(|_| WireError::Truncated)?;
                Value::Fixed32(u32::from_le_bytes(array))
            }
            other => return Err(WireError::WireType(other)),
        };
        Ok(Some(Field { number, value }))
    }
}

/// A repeated number may come one field each, or packed into one: calls `push` for each.
///
/// # Errors
/// The field holds something else, or `push` refuses.
pub fn repeated_varint<E: From<WireError>>(
    field: Field<'_>,
    mut push: impl FnMut(u64) -> Result<(), E>,
) -> Result<(), E> {
    match field.value {
        Value::Varint(number) => push(number),
        Value::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            while !reader.is_at_end() {
                push(reader.varint()?)?;
            }
            Ok(())
        }
        _ => Err(WireError::FieldType(field.number).into()),
    }
}

/// As [`repeated_varint`], for doubles.
///
/// # Errors
/// The field holds something else.
pub fn repeated_double(field: Field<'_>, out: &mut Vec<f64>) -> Result<(), WireError> {
    match field.value {
        Value::Fixed64(bits) => out.push(f64::from_bits(bits)),
        Value::Bytes(packed) => {
            let (chunks, rest) = packed.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(WireError::Truncated);
            }
            out.extend(chunks.iter().map(|chunk| f64::from_le_bytes(*chunk)));
        }
        _ => return Err(WireError::FieldType(field.number)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protobuf::{
        push_bytes as bytes, push_double as double, push_number as number,
    };

    #[test]
    fn fields_come_in_their_order() {
        let mut message = Vec::new();
        number(&mut message, 1, 300);
        double(&mut message, 2, 1.5);
        bytes(&mut message, 3, b"abc");
        let mut reader = Reader::new(&message);
        assert_eq!(reader.next_field().unwrap().unwrap().varint(), Ok(300));
        assert_eq!(reader.next_field().unwrap().unwrap().double(), Ok(1.5));
        let field = reader.next_field().unwrap().unwrap();
        assert_eq!((field.number, field.bytes()), (3, Ok(&b"abc"[..])));
        assert_eq!(reader.next_field(), Ok(None));
    }

    #[test]
    fn hostile_bytes_are_errors() {
        assert_eq!(
            Reader::new(&[0x0b]).next_field(),
            Err(WireError::WireType(3))
        );
        assert_eq!(Reader::new(&[0x00]).next_field(), Err(WireError::FieldZero));
        assert_eq!(
            Reader::new(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]).next_field(),
            Err(WireError::Truncated)
        );
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(WireError::Overlong));
        let mut message = Vec::new();
        bytes(&mut message, 3, b"abc");
        for cut in 1..message.len() {
            assert!(Reader::new(&message[..cut]).next_field().is_err(), "{cut}");
        }
    }

    #[test]
    fn short_fields_are_taken_only_whole_and_of_the_right_tag() {
        let mut message = Vec::new();
        bytes(&mut message, 1, b"ab");
        bytes(&mut message, 1, b"");
        bytes(&mut message, 2, &[7; 200]);
        bytes(&mut message, 1, b"cd");
        let mut reader = Reader::new(&message);
        assert_eq!(reader.take_short_field(0x12), None);
        assert_eq!(reader.take_short_field(0x0a), Some(&b"ab"[..]));
        reader.skip_short_fields(0x0a);
        assert_eq!(reader.position(), 6);
        assert_eq!(reader.take_short_field(0x12), None, "a length of two bytes");
        reader.next_field().unwrap();
        let mut cut = Reader::new(&message[..message.len() - 1]);
        cut.at = reader.at;
        assert_eq!(cut.take_short_field(0x0a), None, "cut short");
        assert_eq!(reader.take_short_field(0x0a), Some(&b"cd"[..]));
        assert_eq!(reader.take_short_field(0x0a), None);
    }

    #[test]
    fn packed_and_single_numbers_are_the_same() {
        let mut got = Vec::new();
        let packed = Field {
            number: 1,
            value: Value::Bytes(&[1, 2, 0xac, 2]),
        };
        repeated_varint::<WireError>(packed, |n| {
            got.push(n);
            Ok(())
        })
        .unwrap();
        assert_eq!(got, [1, 2, 300]);
        assert_eq!(zigzag(3), -2);
    }
}
