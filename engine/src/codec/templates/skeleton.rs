//! Fields of lines without the lines: one parse of a template instead of one per row.
//!
//! A *skeleton* is a template with a stand-in in each slot. A parser of structured lines (JSON, logfmt)
//! reads it as it reads any line, and says where the value of a key lies. As slots hold no quote, no
//! bracket, no blank and no other mark of structure, the value lies at the same place in all rows of the
//! template: it is some text and some slots, whose columns hold the rows' values.
//!
//! What is left to the caller: a value that is not quoted depends on its slots in syntax too (`007` is no
//! JSON number, `true` no text), and an escape may end in a slot (`\u12`). [`TemplateBlock::numbers`]
//! takes only what is a number in any syntax.

use std::ops::Range;

use super::super::CodecError;
use super::columns::Digits;
use super::reader::{TemplateBlock, TemplateRef};
use super::tokenize::SlotKind;

/// A template with stand-ins for its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skeleton {
    line: Vec<u8>,
    slots: Vec<(Range<usize>, SlotKind)>,
}

/// A piece of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValuePart {
    /// This text.
    Text(Vec<u8>),
    /// What the row has in this slot.
    Slot(usize),
}

/// A string of the kind, as short as may be.
fn stand_in(kind: SlotKind) -> &'static [u8] {
    match kind {
        SlotKind::Decimal => b"7",
        SlotKind::HexLower => b"7a",
        SlotKind::HexUpper => b"7A",
        SlotKind::Uuid => b"00000000-0000-0000-0000-000000000000",
        SlotKind::Mixed => b"x7",
        SlotKind::Word => b"w",
    }
}

impl Skeleton {
    /// A line to parse.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// What a slot holds, if there is such a one.
    pub fn kind(&self, slot: usize) -> Option<SlotKind> {
        self.slots.get(slot).map(|(_, kind)| *kind)
    }

    /// What the bytes `range` of the line are made of; none if they begin or end inside a slot, or are
    /// not there.
    pub fn parts(&self, range: Range<usize>) -> Option<Vec<ValuePart>> {
        let mut parts = Vec::new();
        let mut at = range.start;
        let text = |range: Range<usize>| self.line.get(range).map(<[u8]>::to_vec);
        for (number, (slot, _)) in self.slots.iter().enumerate() {
            if slot.end <= range.start {
                continue;
            }
            if slot.start >= range.end {
                break;
            }
            if slot.start < range.start || slot.end > range.end {
                return None;
            }
            if slot.start > at {
                parts.push(ValuePart::Text(text(at..slot.start)?));
            }
            parts.push(ValuePart::Slot(number));
            at = slot.end;
        }
        if at < range.end {
            parts.push(ValuePart::Text(text(at..range.end)?));
        }
        Some(parts)
    }
}

/// How the text of a number is put together.
enum NumberShape<'p> {
    /// The same in all rows.
    Constant(f64),
    /// A slot of digits.
    Whole(usize),
    /// Two of them, or one and text, around a point.
    Decimal(Digit<'p>, Digit<'p>),
}

/// Digits that vary or do not.
#[derive(Clone, Copy)]
enum Digit<'p> {
    Slot(usize),
    Text(&'p [u8]),
}

/// Numbers in the rows of a group: see [`TemplateBlock::numbers`].
pub struct Numbers<'b> {
    is_negative: bool,
    source: Source<'b>,
}

enum Source<'b> {
    Constant(f64),
    Whole(Digits<'b>),
    Decimal(Digits<'b>, Digits<'b>),
}

impl Numbers<'_> {
    /// The number in row `rank` of the group: what parsing the text as `f64` gives, bit for bit. None if
    /// it has not the form `-?(0|[1-9][0-9]*)(\.[0-9]+)?`.
    #[inline]
    pub fn get(&self, rank: usize) -> Option<f64> {
        let whole_of = |digits: &Digits<'_>| {
            let (value, length) = digits.get(rank);
            (length == 1 || !leads_with_zero(value, length)).then_some(value)
        };
        let number = match &self.source {
            Source::Constant(number) => *number,
            Source::Whole(whole) => whole_of(whole)? as f64,
            Source::Decimal(whole, fraction) => decimal(whole_of(whole)?, fraction.get(rank)),
        };
        Some(if self.is_negative { -number } else { number })
    }
}

impl TemplateBlock<'_> {
    /// The skeleton of a template.
    pub fn skeleton(&self, template: TemplateRef) -> Skeleton {
        let mut skeleton = Skeleton {
            line: Vec::new(),
            slots: Vec::new(),
        };
        let mut kinds = self.slot_kinds(template.group).iter();
        for piece in self.pieces(template) {
            skeleton.line.extend_from_slice(piece);
            if let Some(&kind) = kinds.next() {
                let start = skeleton.line.len();
                skeleton.line.extend_from_slice(stand_in(kind));
                skeleton.slots.push((start..skeleton.line.len(), kind));
            }
        }
        skeleton
    }

    /// Appends the value that `parts` make in row `rank` of a group.
    ///
    /// # Errors
    /// Damage, or slots that the group does not have.
    pub fn append_value(
        &self,
        group: u32,
        parts: &[ValuePart],
        rank: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        for part in parts {
            match part {
                ValuePart::Text(text) => out.extend_from_slice(text),
                ValuePart::Slot(slot) => self.slot_column(group, *slot)?.append(rank, out),
            }
        }
        Ok(())
    }

    /// The numbers that `parts` make in the rows of a group. None if they make none by their form alone.
    ///
    /// # Errors
    /// Damage, or slots that the group does not have.
    pub fn numbers(
        &self,
        group: u32,
        parts: &[ValuePart],
    ) -> Result<Option<Numbers<'_>>, CodecError> {
        let (is_negative, parts) = strip_sign(parts);
        let source = match number_shape(&parts) {
            None => None,
            Some(NumberShape::Constant(number)) => Some(Source::Constant(number)),
            Some(NumberShape::Whole(slot)) => {
                self.digits(group, Digit::Slot(slot))?.map(Source::Whole)
            }
            Some(NumberShape::Decimal(whole, fraction)) => {
                let digits = (self.digits(group, whole)?, self.digits(group, fraction)?);
                match digits {
                    (Some(whole), Some(fraction)) => Some(Source::Decimal(whole, fraction)),
                    _ => None,
                }
            }
        };
        Ok(source.map(|source| Numbers {
            is_negative,
            source,
        }))
    }

    fn digits<'b>(
        &'b self,
        group: u32,
        digit: Digit<'_>,
    ) -> Result<Option<Digits<'b>>, CodecError> {
        Ok(match digit {
            Digit::Slot(slot) => self.slot_column(group, slot)?.digits(),
            Digit::Text(text) => Digits::constant(text),
        })
    }
}

/// Whether a number of so many digits has zeros in front.
fn leads_with_zero(value: u64, length: u32) -> bool {
    value.checked_ilog10().map_or(1, |log| log + 1) < length
}

/// `whole.fraction`, with the fraction's digits and their number, rounded as a parser rounds.
fn decimal(whole: u64, (fraction, length): (u64, u32)) -> f64 {
    // Two numbers that a double holds exactly: one division rounds once, as it should (Clinger, "How to
    // read floating point numbers accurately", 1990).
    const EXACT_MAX: u64 = 1 << 53;
    const POWERS: [u64; 16] = {
        let mut powers = [1; 16];
        let mut at = 1;
        while at < 16 {
            powers[at] = powers[at - 1] * 10;
            at += 1;
        }
        powers
    };
    if let Some(&power) = POWERS.get(length as usize)
        && let Some(digits) = whole
            .checked_mul(power)
            .and_then(|w| w.checked_add(fraction))
        && digits <= EXACT_MAX
    {
        return digits as f64 / power as f64;
    }
    let text = format!("{whole}.{fraction:0width$}", width = length as usize);
    text.parse().unwrap_or(f64::NAN)
}

/// Whether a minus comes first, and the parts behind it.
fn strip_sign(parts: &[ValuePart]) -> (bool, Vec<ValuePart>) {
    let mut parts = parts.to_vec();
    if let Some(ValuePart::Text(text)) = parts.first_mut()
        && text.first() == Some(&b'-')
    {
        text.remove(0);
        if text.is_empty() {
            parts.remove(0);
        }
        return (true, parts);
    }
    (false, parts)
}

fn number_shape(parts: &[ValuePart]) -> Option<NumberShape<'_>> {
    use ValuePart::{Slot, Text};
    let is_digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    match parts {
        [Text(text)] => {
            let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
                Some(point) => (&text[..point], &text[point + 1..]),
                None => (&text[..], &b"0"[..]),
            };
            let is_number =
                is_digits(whole) && is_digits(fraction) && (whole.len() == 1 || whole[0] != b'0');
            let text = std::str::from_utf8(text).ok().filter(|_| is_number)?;
            text.parse().ok().map(NumberShape::Constant)
        }
        [Slot(slot)] => Some(NumberShape::Whole(*slot)),
        [Slot(whole), Text(point), Slot(fraction)] if point == b"." => Some(NumberShape::Decimal(
            Digit::Slot(*whole),
            Digit::Slot(*fraction),
        )),
        [Slot(whole), Text(text)] => {
            let fraction = text.strip_prefix(b".").filter(|text| is_digits(text))?;
            Some(NumberShape::Decimal(
                Digit::Slot(*whole),
                Digit::Text(fraction),
            ))
        }
        [Text(text), Slot(fraction)] => {
            let whole = text.strip_suffix(b".").filter(|text| is_digits(text))?;
            Some(NumberShape::Decimal(
                Digit::Text(whole),
                Digit::Slot(*fraction),
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::TemplateEncoder;
    use super::super::encode::NoSink;
    use super::*;
    use crate::codec::EncodeEffort;
    use crate::codec::templates::TextColumn;

    fn encode(lines: &[String]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for line in lines {
            bytes.extend_from_slice(line.as_bytes());
            ends.push(bytes.len() as u32);
        }
        let mut block = Vec::new();
        let column = TextColumn::new(&ends, &bytes);
        TemplateEncoder::default().encode_templates(
            column,
            EncodeEffort::Flush,
            &mut NoSink,
            &mut block,
        );
        block
    }

    /// The value behind `"key":` up to the comma or brace.
    fn find(line: &[u8], key: &str) -> Option<Range<usize>> {
        let line = std::str::from_utf8(line).ok()?;
        let start = line.find(key)? + key.len();
        Some(start..start + line[start..].find([',', '}'])?)
    }

    #[test]
    fn values_of_keys_come_from_columns() {
        let lines: Vec<String> = (0..500_u64)
            .map(|i| {
                let n = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                let user = ["ann", "bob"][i as usize % 2];
                format!(
                    "{{\"user\":\"{user}\",\"status\":{},\"ms\":{}.{:03},\"one\":1,\"half\":{}.5,\"less\":0.{:02},\"far\":-{}.{},\"id\":\"{:08x}\",\"zeros\":0{}}}",
                    200 + n % 300,
                    n % 1000,
                    n % 997,
                    n % 10,
                    n % 100,
                    n,
                    n % 1_000_000_007 * 1_000_003,
                    n as u32,
                    n % 10,
                )
            })
            .collect();
        let block = encode(&lines);
        let size = lines.iter().map(String::len).sum();
        let opened = TemplateBlock::open(&block, lines.len(), size).unwrap();
        let mut rows_seen = 0;
        for template in opened.templates() {
            let skeleton = opened.skeleton(template);
            let rows = opened.rows_of_group(template.group).unwrap();
            let members = opened.members_of_ranks(template.group).unwrap();
            let is_mine = |rank: usize| members.is_none_or(|m| m[rank] == template.member);
            rows_seen += (0..rows.len()).filter(|&rank| is_mine(rank)).count();
            for key in [
                "user", "status", "ms", "one", "half", "less", "far", "id", "zeros",
            ] {
                let key = format!("\"{key}\":");
                let range = find(skeleton.line(), &key).unwrap();
                let parts = skeleton.parts(range).unwrap();
                let numbers = opened.numbers(template.group, &parts).unwrap();
                let has_numbers = !["user", "id", "zeros"].iter().any(|k| key.contains(k));
                for rank in (0..rows.len()).filter(|&rank| is_mine(rank)) {
                    let line = lines[rows[rank] as usize].as_bytes();
                    let expected = &line[find(line, &key).unwrap()];
                    let mut value = Vec::new();
                    opened
                        .append_value(template.group, &parts, rank, &mut value)
                        .unwrap();
                    assert_eq!(value, expected);
                    let number = numbers.as_ref().and_then(|numbers| numbers.get(rank));
                    assert_eq!(number.is_some(), has_numbers, "{key} {parts:?}");
                    if let Some(number) = number {
                        let parsed: f64 = std::str::from_utf8(expected).unwrap().parse().unwrap();
                        assert_eq!(number.to_bits(), parsed.to_bits(), "{key}");
                    }
                }
            }
        }
        assert_eq!(rows_seen + opened.left_over_count().unwrap(), lines.len());
        assert!(rows_seen > 400);
    }

    #[test]
    fn ranges_that_cut_slots_have_no_parts() {
        let skeleton = Skeleton {
            line: b"ab7acd7".to_vec(),
            slots: vec![(2..4, SlotKind::HexLower), (6..7, SlotKind::Decimal)],
        };
        let text = |text: &[u8]| ValuePart::Text(text.to_vec());
        let slot = ValuePart::Slot;
        for (range, expected) in [
            (0..7, Some(vec![text(b"ab"), slot(0), text(b"cd"), slot(1)])),
            (0..2, Some(vec![text(b"ab")])),
            (2..4, Some(vec![slot(0)])),
            (4..5, Some(vec![text(b"c")])),
            (3..5, None),
            (0..3, None),
            (0..0, Some(vec![])),
            (5..9, None),
        ] {
            assert_eq!(skeleton.parts(range.clone()), expected, "{range:?}");
        }
    }
}
