//! Columns of slots: all values that one slot has in the rows of a group.
//!
//! Layout: u8 encoding, then
//!
//! | encoding | payload |
//! |---|---|
//! | 0 natural | integer block: numbers without leading zeros |
//! | 1 fixed | u8 width, integer block: numbers filled up with zeros to that width |
//! | 2 zeros | varint size of an integer block with the leading zeros of each, that block, integer block |
//! | 3 dictionary | varint count, varint size of a string block of so many, that block, index column |
//! | 4 nibbles | varint digits of each, bytes block: two hex digits per byte, high half first; each value begins a byte |
//! | 5 ragged nibbles | varint size of an integer block with the digits of each, that block, bytes block |
//! | 6 strings | string block |
//!
//! Numbers are decimal or hex by the kind of the slot; as integers they wrap at 64 bits.

use super::super::reader::ByteReader;
use super::super::strings::{self, Strings};
use super::super::{CodecError, EncodeEffort, bytes, integers, varint};
use super::tokenize::{DECIMAL_DIGITS_MAX, SlotKind, UUID_LEN, nibble};
use super::{CODEC, indices, zstd_level};
use hashbrown::HashMap;

const NATURAL: u8 = 0;
const FIXED: u8 = 1;
const ZEROS: u8 = 2;
const DICTIONARY: u8 = 3;
const NIBBLES: u8 = 4;
const RAGGED_NIBBLES: u8 = 5;
const STRINGS: u8 = 6;

/// Most distinct numbers for which a dictionary is tried: their indices take a byte.
const NUMBERS_DICTIONARY_MAX: usize = 256;
/// Numbers looked at to see whether a dictionary is worth trying.
const SAMPLES: usize = 64;
/// A fixed width fits a byte.
const WIDTH_MAX: usize = 255;
/// Hex digits of a UUID.
const UUID_DIGITS: usize = 32;

/// Appends a column of numbers with their lengths in digits.
pub(super) fn encode_numbers(
    kind: SlotKind,
    values: &[i64],
    lengths: &[u16],
    effort: EncodeEffort,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let zeros: Vec<i64> = values
        .iter()
        .zip(lengths)
        .map(|(&value, &length)| i64::from(length) - natural_length(kind, value as u64) as i64)
        .collect();
    let width = lengths.first().copied().unwrap_or(0);
    let uniform = if zeros.iter().all(|&zeros| zeros == 0) {
        out.push(NATURAL);
        true
    } else if lengths.iter().all(|&length| length == width) {
        out.extend_from_slice(&[FIXED, width as u8]);
        true
    } else {
        let mut block = Vec::new();
        integers::encode(&zeros, effort, &mut block);
        out.push(ZEROS);
        varint::write_u64(out, block.len() as u64);
        out.extend_from_slice(&block);
        false
    };
    integers::encode(values, effort, out);
    if !uniform {
        return;
    }
    if let Some((keys, distinct)) = build_dictionary(values) {
        let fixed = out[start] == FIXED;
        let texts: Vec<Vec<u8>> = distinct
            .iter()
            .map(|&value| {
                let mut text = Vec::new();
                let width = if fixed { usize::from(width) } else { 0 };
                put_number(kind, value as u64, width, &mut text);
                text
            })
            .collect();
        let mut column = Vec::new();
        encode_dictionary(&texts, &keys, effort, &mut column);
        if column.len() < out.len() - start {
            out.truncate(start);
            out.extend_from_slice(&column);
        }
    }
}

/// Keys and distinct values, if a sample says that there are few.
fn build_dictionary(values: &[i64]) -> Option<(Vec<u32>, Vec<i64>)> {
    if values.len() < SAMPLES {
        return None;
    }
    let mut sample: Vec<i64> = (0..SAMPLES)
        .map(|at| values[at * values.len() / SAMPLES])
        .collect();
    sample.sort_unstable();
    sample.dedup();
    if sample.len() > SAMPLES / 2 {
        return None;
    }
    let mut numbers = HashMap::new();
    let mut distinct = Vec::new();
    let mut keys = Vec::with_capacity(values.len());
    let (mut last, mut last_key) = (values[0], None);
    for &value in values {
        let key = match last_key {
            Some(key) if value == last => key,
            _ => *numbers.entry(value).or_insert_with(|| {
                distinct.push(value);
                distinct.len() as u32 - 1
            }),
        };
        if distinct.len() > NUMBERS_DICTIONARY_MAX {
            return None;
        }
        (last, last_key) = (value, Some(key));
        keys.push(key);
    }
    Some((keys, distinct))
}

/// Appends a dictionary column.
pub(super) fn encode_dictionary<S: AsRef<[u8]>>(
    texts: &[S],
    keys: &[u32],
    effort: EncodeEffort,
    out: &mut Vec<u8>,
) {
    out.push(DICTIONARY);
    varint::write_u64(out, texts.len() as u64);
    let mut block = Vec::new();
    strings::encode(texts, effort, &mut block);
    varint::write_u64(out, block.len() as u64);
    out.extend_from_slice(&block);
    indices::encode(keys, texts.len(), effort, out);
}

/// Appends a column of hex digits (UUIDs with their hyphens), too long to be numbers.
pub(super) fn encode_digits(texts: &[&[u8]], effort: EncodeEffort, out: &mut Vec<u8>) {
    let mut packed = Vec::new();
    let mut lengths = Vec::with_capacity(texts.len());
    for text in texts {
        let mut digits = 0;
        let mut high = 0;
        for &byte in text.iter().filter(|byte| **byte != b'-') {
            if digits % 2 == 0 {
                high = nibble(byte) << 4;
            } else {
                packed.push(high | nibble(byte));
            }
            digits += 1;
        }
        if digits % 2 == 1 {
            packed.push(high);
        }
        lengths.push(digits);
    }
    let first = lengths.first().copied().unwrap_or(0);
    if lengths.iter().all(|&length| length == first) {
        out.push(NIBBLES);
        varint::write_u64(out, first as u64);
    } else {
        let mut block = Vec::new();
        integers::encode(&lengths, effort, &mut block);
        out.push(RAGGED_NIBBLES);
        varint::write_u64(out, block.len() as u64);
        out.extend_from_slice(&block);
    }
    bytes::encode(&packed, zstd_level(effort), out);
}

/// Appends a column of any strings.
pub(super) fn encode_strings(texts: &[&[u8]], effort: EncodeEffort, out: &mut Vec<u8>) {
    out.push(STRINGS);
    strings::encode(texts, effort, out);
}

/// Digits of a number without leading zeros; one for 0.
#[inline]
fn natural_length(kind: SlotKind, value: u64) -> usize {
    match kind {
        SlotKind::Decimal => value.checked_ilog10().map_or(1, |log| log as usize + 1),
        _ => ((67 - value.leading_zeros()) / 4).max(1) as usize,
    }
}

/// The values of a slot in the rows of a group.
#[derive(Debug)]
pub struct SlotValues {
    kind: SlotKind,
    repr: Repr,
}

#[derive(Debug)]
enum Repr {
    Natural(Vec<i64>),
    Fixed {
        values: Vec<i64>,
        width: usize,
    },
    Zeros {
        values: Vec<i64>,
        zeros: Vec<i64>,
    },
    Dictionary {
        keys: Vec<u32>,
        texts: Strings,
    },
    Nibbles {
        packed: Vec<u8>,
        digits: usize,
    },
    RaggedNibbles {
        packed: Vec<u8>,
        ends: Vec<(usize, usize)>,
    },
    Strings(Strings),
}

impl SlotValues {
    /// Decodes the `count` values of `column`, of at most `bytes_max` bytes together where they are
    /// not numbers.
    pub(super) fn decode(
        column: &[u8],
        kind: SlotKind,
        count: usize,
        bytes_max: usize,
    ) -> Result<SlotValues, CodecError> {
        let mut reader = ByteReader::new(CODEC, column, 0);
        let ints = |block: &[u8]| {
            let mut values = Vec::new();
            integers::decode(block, count, &mut values)?;
            Ok::<_, CodecError>(values)
        };
        let repr = match reader.u8()? {
            NATURAL => Repr::Natural(ints(reader.rest())?),
            FIXED => Repr::Fixed {
                width: usize::from(reader.u8()?),
                values: ints(reader.rest())?,
            },
            ZEROS => {
                let size = reader.varint_max(column.len(), "zeros outside the column")?;
                let zeros = ints(reader.take(size)?)?;
                if !zeros
                    .iter()
                    .all(|zeros| (0..=WIDTH_MAX as i64).contains(zeros))
                {
                    return Err(reader.corrupt("count of leading zeros"));
                }
                Repr::Zeros {
                    zeros,
                    values: ints(reader.rest())?,
                }
            }
            DICTIONARY => {
                let distinct = reader.varint_max(count, "more distinct values than rows")?;
                let size = reader.varint_max(column.len(), "dictionary outside the column")?;
                Repr::Dictionary {
                    texts: strings::decode_untemplated(reader.take(size)?, distinct, bytes_max)?,
                    keys: indices::decode(reader.rest(), count, distinct)?,
                }
            }
            NIBBLES => {
                let digits = reader.varint_max(bytes_max, "more digits than declared")?;
                let size = digits.div_ceil(2).saturating_mul(count);
                let packed = packed_digits(&mut reader, size, bytes_max)?;
                Repr::Nibbles { packed, digits }
            }
            RAGGED_NIBBLES => {
                let size = reader.varint_max(column.len(), "lengths outside the column")?;
                let lengths = ints(reader.take(size)?)?;
                let mut ends = Vec::with_capacity(count);
                let mut size = 0_usize;
                for digits in lengths {
                    let digits = usize::try_from(digits)
                        .ok()
                        .filter(|&digits| digits <= bytes_max)
                        .ok_or_else(|| reader.corrupt("count of digits"))?;
                    ends.push((size, digits));
                    size = size.saturating_add(digits.div_ceil(2));
                }
                let packed = packed_digits(&mut reader, size, bytes_max)?;
                Repr::RaggedNibbles { packed, ends }
            }
            STRINGS => Repr::Strings(strings::decode_untemplated(
                reader.rest(),
                count,
                bytes_max,
            )?),
            _ => return Err(reader.corrupt("unknown slot column")),
        };
        Ok(SlotValues { kind, repr })
    }

    /// Bytes of text that are held, numbers aside.
    pub(super) fn text_size(&self) -> usize {
        match &self.repr {
            Repr::Natural(_) | Repr::Fixed { .. } | Repr::Zeros { .. } => 0,
            Repr::Dictionary { texts, .. } | Repr::Strings(texts) => texts.byte_len(),
            Repr::Nibbles { packed, .. } | Repr::RaggedNibbles { packed, .. } => packed.len(),
        }
    }

    /// Appends value `row` as it stands in the line; nothing if there is no such row.
    #[inline]
    pub fn append(&self, row: usize, out: &mut Vec<u8>) {
        match &self.repr {
            Repr::Natural(values) => {
                if let Some(&value) = values.get(row) {
                    put_number(self.kind, value as u64, 0, out);
                }
            }
            Repr::Fixed { values, width } => {
                if let Some(&value) = values.get(row) {
                    put_number(self.kind, value as u64, *width, out);
                }
            }
            Repr::Zeros { values, zeros } => {
                if let (Some(&value), Some(&zeros)) = (values.get(row), zeros.get(row)) {
                    out.resize(out.len() + zeros as usize, b'0');
                    put_number(self.kind, value as u64, 0, out);
                }
            }
            Repr::Dictionary { keys, texts } => {
                let text = keys.get(row).and_then(|&key| texts.get(key as usize));
                out.extend_from_slice(text.unwrap_or_default());
            }
            Repr::Nibbles { packed, digits } => {
                let size = digits.div_ceil(2);
                put_digits(self.kind, packed, row * size, *digits, out);
            }
            Repr::RaggedNibbles { packed, ends } => {
                if let Some(&(start, digits)) = ends.get(row) {
                    put_digits(self.kind, packed, start, digits, out);
                }
            }
            Repr::Strings(texts) => out.extend_from_slice(texts.get(row).unwrap_or_default()),
        }
    }

    /// The values as integers, if all are decimal numbers without leading zeros (or of one fixed
    /// width): one for each row.
    pub fn decimals(&self) -> Option<&[i64]> {
        match &self.repr {
            Repr::Natural(values) | Repr::Fixed { values, .. }
                if self.kind == SlotKind::Decimal =>
            {
                Some(values)
            }
            _ => None,
        }
    }

    /// The values as decimal digits, if all of them are that, of up to 19 digits.
    pub(super) fn digits(&self) -> Option<Digits<'_>> {
        if self.kind != SlotKind::Decimal {
            return None;
        }
        Some(match &self.repr {
            Repr::Natural(values) => Digits::Natural(values),
            Repr::Fixed { values, width } => Digits::Fixed(values, *width as u32),
            Repr::Zeros { values, zeros } => Digits::Zeros(values, zeros),
            Repr::Dictionary { keys, texts } => {
                let numbers: Option<Vec<_>> = texts.iter().map(parse_digits).collect();
                Digits::Keyed(keys, numbers?)
            }
            Repr::Nibbles { .. } | Repr::RaggedNibbles { .. } | Repr::Strings(_) => return None,
        })
    }

    /// Index of each row and distinct values, if that is how they are stored.
    pub fn dictionary(&self) -> Option<(&[u32], &Strings)> {
        match &self.repr {
            Repr::Dictionary { keys, texts } => Some((keys, texts)),
            _ => None,
        }
    }
}

/// A column of digits: numbers, and how many digits each is written with.
pub(super) enum Digits<'a> {
    Natural(&'a [i64]),
    Fixed(&'a [i64], u32),
    Zeros(&'a [i64], &'a [i64]),
    Keyed(&'a [u32], Vec<(u64, u32)>),
    Constant(u64, u32),
}

impl Digits<'_> {
    /// The same in all rows.
    pub(super) fn constant(text: &[u8]) -> Option<Self> {
        parse_digits(text).map(|(value, length)| Digits::Constant(value, length))
    }

    /// Number and digits of a row; 0 and 0 if there is none.
    #[inline]
    pub(super) fn get(&self, row: usize) -> (u64, u32) {
        let natural = |value: u64| natural_length(SlotKind::Decimal, value) as u32;
        match self {
            Digits::Natural(values) => values
                .get(row)
                .map(|&value| (value as u64, natural(value as u64))),
            Digits::Fixed(values, width) => values
                .get(row)
                .map(|&value| (value as u64, natural(value as u64).max(*width))),
            Digits::Zeros(values, zeros) => values
                .get(row)
                .zip(zeros.get(row))
                .map(|(&value, &zeros)| (value as u64, natural(value as u64) + zeros as u32)),
            Digits::Keyed(keys, numbers) => keys
                .get(row)
                .and_then(|&key| numbers.get(key as usize))
                .copied(),
            Digits::Constant(value, length) => Some((*value, *length)),
        }
        .unwrap_or_default()
    }
}

/// The number of some digits, and how many they are.
fn parse_digits(text: &[u8]) -> Option<(u64, u32)> {
    if text.is_empty() || text.len() > DECIMAL_DIGITS_MAX {
        return None;
    }
    let mut value = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    Some((value, text.len() as u32))
}

fn packed_digits(
    reader: &mut ByteReader<'_>,
    size: usize,
    bytes_max: usize,
) -> Result<Vec<u8>, CodecError> {
    if size > bytes_max {
        return Err(reader.corrupt("more digits than declared"));
    }
    let mut packed = Vec::new();
    bytes::decode(reader.rest(), size, &mut packed)?;
    if packed.len() == size {
        Ok(packed)
    } else {
        Err(reader.corrupt("digits missing"))
    }
}

/// `00` to `99`.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Appends a number, with zeros in front up to `width` digits.
#[inline]
pub(super) fn put_number(kind: SlotKind, value: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = [b'0'; DECIMAL_DIGITS_MAX + 1];
    let mut at = buffer.len();
    let mut rest = value;
    match kind {
        SlotKind::Decimal => {
            while rest >= 100 {
                at -= 2;
                buffer[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
                rest /= 100;
            }
            if rest >= 10 {
                at -= 2;
                buffer[at..at + 2].copy_from_slice(&PAIRS[rest as usize]);
            } else {
                at -= 1;
                buffer[at] = b'0' + rest as u8;
            }
        }
        _ => {
            let digits = hex_digits(kind);
            loop {
                at -= 1;
                buffer[at] = digits[(rest & 15) as usize];
                rest >>= 4;
                if rest == 0 {
                    break;
                }
            }
        }
    }
    let natural = buffer.len() - at;
    if width > natural {
        out.resize(out.len() + width - natural, b'0');
    }
    out.extend_from_slice(&buffer[at..]);
}

fn hex_digits(kind: SlotKind) -> &'static [u8; 16] {
    match kind {
        SlotKind::HexUpper => b"0123456789ABCDEF",
        _ => b"0123456789abcdef",
    }
}

/// Appends `digits` hex digits that begin at byte `start` of `packed`; nothing if they are not there.
#[inline]
fn put_digits(kind: SlotKind, packed: &[u8], start: usize, digits: usize, out: &mut Vec<u8>) {
    let Some(packed) = packed.get(start..start + digits.div_ceil(2)) else {
        return;
    };
    let alphabet = hex_digits(kind);
    let pair = |byte: u8| {
        [
            alphabet[usize::from(byte >> 4)],
            alphabet[usize::from(byte & 15)],
        ]
    };
    if kind == SlotKind::Uuid && digits == UUID_DIGITS {
        let mut text = [b'-'; UUID_LEN];
        let mut at = 0;
        for (index, &byte) in packed.iter().enumerate() {
            text[at..at + 2].copy_from_slice(&pair(byte));
            at += 2 + usize::from(matches!(index, 3 | 5 | 7 | 9));
        }
        out.extend_from_slice(&text);
        return;
    }
    for &byte in &packed[..digits / 2] {
        out.extend_from_slice(&pair(byte));
    }
    if digits % 2 == 1
        && let Some(&last) = packed.last()
    {
        out.push(pair(last)[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts_of(values: &SlotValues, count: usize) -> Vec<String> {
        (0..count)
            .map(|row| {
                let mut text = Vec::new();
                values.append(row, &mut text);
                String::from_utf8(text).unwrap()
            })
            .collect()
    }

    fn check_numbers(kind: SlotKind, texts: &[&str], encoding: u8) {
        let radix = if kind == SlotKind::Decimal { 10 } else { 16 };
        let values: Vec<i64> = texts
            .iter()
            .map(|text| u64::from_str_radix(text, radix).unwrap() as i64)
            .collect();
        let lengths: Vec<u16> = texts.iter().map(|text| text.len() as u16).collect();
        let mut column = Vec::new();
        encode_numbers(kind, &values, &lengths, EncodeEffort::Flush, &mut column);
        assert_eq!(column[0], encoding, "{texts:?}");
        let decoded = SlotValues::decode(&column, kind, texts.len(), 1 << 20).unwrap();
        assert_eq!(texts_of(&decoded, texts.len()), texts);
        assert_eq!(
            decoded.decimals().is_some(),
            kind == SlotKind::Decimal && encoding <= FIXED
        );
    }

    #[test]
    fn numbers_keep_their_leading_zeros() {
        use SlotKind::{Decimal, HexLower, HexUpper};
        check_numbers(Decimal, &["0", "7", "10", "1234567890123456789"], NATURAL);
        check_numbers(Decimal, &["9999999999999999999", "100"], NATURAL);
        check_numbers(Decimal, &["007", "100", "000"], FIXED);
        check_numbers(Decimal, &["007", "10", "0", "00"], ZEROS);
        check_numbers(HexLower, &["0", "ffffffffffffffff", "a0"], NATURAL);
        check_numbers(HexUpper, &["0A", "FF"], FIXED);
        check_numbers(HexLower, &["0a", "1ff", "00"], ZEROS);
        let status: Vec<&str> = (0..600)
            .map(|i| ["20000000", "30000017", "50000003"][i * i % 7 % 3])
            .collect();
        check_numbers(Decimal, &status, DICTIONARY);
        check_numbers(Decimal, &[], NATURAL);
    }

    #[test]
    fn long_digits_and_uuids_round_trip() {
        use SlotKind::{HexLower, HexUpper, Uuid};
        let uuid = "31a1d540-c11b-4c88-b300-58d78850f1e3";
        for (kind, texts, encoding) in [
            (Uuid, vec![uuid, uuid], NIBBLES),
            (
                HexLower,
                vec!["0123456789abcdef01", "ffffffffffffffffff"],
                NIBBLES,
            ),
            (HexUpper, vec!["0123456789ABCDEF012", "A"], RAGGED_NIBBLES),
        ] {
            let bytes: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
            let mut column = Vec::new();
            encode_digits(&bytes, EncodeEffort::Flush, &mut column);
            assert_eq!(column[0], encoding);
            let decoded = SlotValues::decode(&column, kind, texts.len(), 1000).unwrap();
            assert_eq!(texts_of(&decoded, texts.len()), texts);
        }
    }
}
