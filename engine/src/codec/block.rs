//! The tag byte that opens every encoded block.
//!
//! Tags are unique over all kinds of columns, so that a block decoded as the wrong kind is an error
//! and not a wrong answer. Values are part of the format: never reuse one.

use super::CodecError;

/// The first byte of an encoded block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Tag {
    /// Floats: one bit pattern, repeated.
    FloatConstant = 0x01,
    /// Floats: eight bytes each.
    FloatRaw = 0x02,
    /// Floats: integers and a common scale, exceptions aside.
    FloatScaled = 0x03,
    /// Floats: bit patterns in numeric order, as integers.
    FloatOrdered = 0x04,
    /// Floats: pco.
    FloatPco = 0x06,
    /// Integers: one value, repeated.
    IntConstant = 0x20,
    /// Integers: an integer stream.
    IntStream = 0x21,
    /// Integers: pco.
    IntPco = 0x22,
    /// Timestamps: start and step.
    TimeGrid = 0x40,
    /// Timestamps: an integer stream with a divisor.
    TimeStream = 0x41,
    /// Timestamps: start, step and the distances from the grid.
    TimeJitter = 0x42,
    /// Strings: one value, repeated.
    StringConstant = 0x60,
    /// Strings: a dictionary and an index for each row.
    StringDictionary = 0x61,
    /// Strings: lengths, then the bytes, plain.
    StringPlain = 0x62,
    /// Strings: lengths, then the bytes under zstd.
    StringZstd = 0x63,
    /// A sorted list of strings, front-coded.
    StringSorted = 0x64,
    /// Strings: templates and columns of what varies in them.
    StringTemplates = 0x65,
    /// Bytes as they are.
    BytesPlain = 0x70,
    /// Bytes under zstd.
    BytesZstd = 0x71,
    /// Any of the above, compressed once more with zstd.
    Zstd = 0x7f,
    /// Native histograms.
    Histograms = 0x80,
}

impl Tag {
    const ALL: [Tag; 21] = [
        Tag::FloatConstant,
        Tag::FloatRaw,
        Tag::FloatScaled,
        Tag::FloatOrdered,
        Tag::FloatPco,
        Tag::IntConstant,
        Tag::IntStream,
        Tag::IntPco,
        Tag::TimeGrid,
        Tag::TimeStream,
        Tag::TimeJitter,
        Tag::StringConstant,
        Tag::StringDictionary,
        Tag::StringPlain,
        Tag::StringZstd,
        Tag::StringSorted,
        Tag::StringTemplates,
        Tag::BytesPlain,
        Tag::BytesZstd,
        Tag::Zstd,
        Tag::Histograms,
    ];

    /// The tag with this value, if there is one.
    #[inline]
    pub fn from_byte(byte: u8) -> Option<Tag> {
        Tag::ALL.into_iter().find(|&tag| tag as u8 == byte)
    }

    /// Reads the tag of `block`; `column` (the kind of column wanted) goes into errors.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] for an empty block, [`CodecError::UnknownTag`].
    #[inline]
    pub fn of(block: &[u8], column: &'static str) -> Result<Tag, CodecError> {
        let &byte = block.first().ok_or(CodecError::Truncated {
            codec: column,
            offset: 0,
            needed: 1,
        })?;
        Tag::from_byte(byte).ok_or(CodecError::UnknownTag { column, tag: byte })
    }

    /// The error for a block of another kind than `column`.
    #[cold]
    pub(super) fn unexpected(self, column: &'static str) -> CodecError {
        CodecError::UnknownTag {
            column,
            tag: self as u8,
        }
    }
}

/// Appends `block`, compressed once more at zstd `level`, if that saves at least `saving_min` bytes.
///
/// Returns whether it did. The outer block is tag, varint size of the inner block, zstd body.
pub(super) fn wrap_zstd(block: &[u8], level: i32, saving_min: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.push(Tag::Zstd as u8);
    super::varint::write_u64(out, block.len() as u64);
    super::zstd_context::compress(block, level, out);
    let worth_it = out.len() - start + saving_min <= block.len();
    if !worth_it {
        out.truncate(start);
    }
    worth_it
}

/// Undoes [`wrap_zstd`]. Inner blocks larger than `size_max` are refused before any allocation.
pub(super) fn unwrap_zstd(
    block: &[u8],
    codec: &'static str,
    size_max: usize,
) -> Result<Vec<u8>, CodecError> {
    let mut reader = super::reader::ByteReader::new(codec, block, 1);
    let size = reader.varint_max(size_max, "inner block larger than its values")?;
    let mut inner = vec![0; size];
    super::zstd_context::decompress(codec, reader.rest(), &mut inner)?;
    match inner.first() {
        Some(&tag) if tag != Tag::Zstd as u8 => Ok(inner),
        _ => Err(reader.corrupt("zstd in zstd")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_unique_and_found_again() {
        for (at, tag) in Tag::ALL.into_iter().enumerate() {
            assert_eq!(Tag::from_byte(tag as u8), Some(tag));
            assert!(
                Tag::ALL[at + 1..]
                    .iter()
                    .all(|other| *other as u8 != tag as u8)
            );
        }
        assert_eq!(Tag::from_byte(0), None);
        assert!(Tag::of(&[], "x").is_err());
    }
}
