//! A filter over the text of a block, and what a search needs to find in it.
//!
//! The filter says "not here" for certain, or "perhaps". It has two parts, for the two sorts of keys
//! (see [`super::text_keys`]): a split-block Bloom filter over words, of which a search has one or two,
//! so each must be told apart well; and a plain Bloom filter of two bits per key over the parts of ids,
//! of which a search has several, so each may be dense. The latter is filled at its largest size and
//! then folded in half as long as it is sparse, so that nobody counts distinct keys.
//!
//! Bytes: length of the words' filter as varint, that filter (blocks of 32 bytes), then the parts'
//! filter: a power of two of bytes, or nothing when no word has digits. Key `h` sets the bits
//! `h mod bits` and `(h >> 32) mod bits`, bit `i` being `byte[i / 8] >> (i % 8)`.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::bloom;
use super::text_keys::{KeySink, Needle, PART_BYTES_MIN, fold_char, for_each_key, is_word_byte};
use crate::codec::templates::{LineSink, Slots};
use crate::codec::varint;
use crate::rows::{TextPattern, TextTest};

/// Of a block's text, the share that the filter of parts may take.
const PARTS_SHARE: usize = 32;
/// Of a block's text, the share that the filter of words may take before it has fewer bits per word.
const WORDS_SHARE: usize = 32;
/// Smallest and largest filter of parts.
const PARTS_BYTES_MIN: usize = 64;
const PARTS_BYTES_MAX: usize = 1 << 20;

/// Hashes are hashed already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("bug: only hashes are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Collects the keys of a block's text.
#[derive(Default)]
pub(crate) struct TextFilterBuilder {
    words: HashSet<u64, BuildHasherDefault<AsIs>>,
    parts: Vec<u64>,
    part_bits: Vec<u8>,
    text_bytes: usize,
    scratch: Vec<u8>,
}

impl KeySink for TextFilterBuilder {
    #[inline]
    fn word(&mut self, hash: u64) {
        self.words.insert(hash);
    }

    #[inline]
    fn part(&mut self, hash: u64) {
        self.parts.push(hash);
    }
}

impl LineSink for TextFilterBuilder {
    fn whole(&mut self, line: &[u8]) {
        self.add(line);
    }

    #[inline]
    fn slots(&mut self, line: &[u8], slots: Slots<'_>) {
        self.add_around(line, slots);
    }
}

impl TextFilterBuilder {
    /// Adds a text.
    #[inline]
    pub(crate) fn add(&mut self, text: &[u8]) {
        self.text_bytes += text.len();
        let mut scratch = std::mem::take(&mut self.scratch);
        for_each_key(text, &mut scratch, self);
        self.scratch = scratch;
    }

    /// Adds what a text has around its slots, where the rest of it is known from another.
    #[inline]
    fn add_around(&mut self, text: &[u8], slots: Slots<'_>) {
        self.text_bytes += text.len();
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut done = 0;
        for slot in slots.iter().filter(|slot| !slot.is_empty()) {
            if slot.end <= done {
                continue;
            }
            let mut start = slot.start.max(done);
            while start > done && is_word_byte(text[start - 1]) {
                start -= 1;
            }
            let behind = text[slot.end..].iter().position(|b| !is_word_byte(*b));
            done = behind.map_or(text.len(), |behind| slot.end + behind);
            // One short word with digits has no key; a slot of several words is longer.
            if done - start >= PART_BYTES_MIN {
                for_each_key(&text[start..done], &mut scratch, self);
            }
        }
        self.scratch = scratch;
    }

    /// Appends the filter and begins a new one.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let words: Vec<u64> = self.words.drain().collect();
        let mut filter = Vec::new();
        bloom::build_within(&words, self.text_bytes / WORDS_SHARE, &mut filter);
        varint::write_u64(out, filter.len() as u64);
        out.extend_from_slice(&filter);
        self.finish_parts(out);
        self.parts.clear();
        self.text_bytes = 0;
    }

    fn finish_parts(&mut self, out: &mut Vec<u8>) {
        if self.parts.is_empty() {
            return;
        }
        // Four bits for each key, were all distinct, is as much as is ever of use.
        let wanted = (self.parts.len() / 2).min(self.text_bytes / PARTS_SHARE);
        let size = wanted
            .next_power_of_two()
            .clamp(PARTS_BYTES_MIN, PARTS_BYTES_MAX);
        let bits = &mut self.part_bits;
        bits.clear();
        bits.resize(size, 0);
        for hash in &self.parts {
            for bit in part_bits(*hash, size) {
                bits[bit / 8] |= 1 << (bit % 8);
            }
        }
        let mut ones: usize = bits.iter().map(|byte| byte.count_ones() as usize).sum();
        while bits.len() > PARTS_BYTES_MIN && ones * 4 < bits.len() * 8 {
            let half = bits.len() / 2;
            let (low, high) = bits.split_at_mut(half);
            low.iter_mut()
                .zip(high)
                .for_each(|(low, high)| *low |= *high);
            bits.truncate(half);
            ones = bits.iter().map(|byte| byte.count_ones() as usize).sum();
        }
        out.extend_from_slice(bits);
    }
}

/// The bits of a key in a filter of `size` bytes, a power of two.
#[inline]
fn part_bits(hash: u64, size: usize) -> [usize; 2] {
    let mask = size * 8 - 1;
    [hash as usize & mask, (hash >> 32) as usize & mask]
}

/// A stored filter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextFilter<'a> {
    words: &'a [u8],
    parts: &'a [u8],
}

impl<'a> TextFilter<'a> {
    /// Over what [`TextFilterBuilder::finish`] wrote; `None` when it cannot be that.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let length = usize::try_from(varint::read_u64(bytes, &mut at)?).ok()?;
        let (words, parts) = bytes.get(at..)?.split_at_checked(length)?;
        let fits = parts.is_empty() || parts.len().is_power_of_two();
        fits.then_some(Self { words, parts })
    }

    fn has_word(&self, hash: u64) -> bool {
        bloom::may_contain(self.words, hash)
    }

    fn has_part(&self, hash: u64) -> bool {
        !self.parts.is_empty()
            && part_bits(hash, self.parts.len())
                .iter()
                .all(|bit| self.parts[bit / 8] & (1 << (bit % 8)) != 0)
    }
}

/// What the filter of a block must have for any of its texts to pass.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Required {
    /// Nothing is known: any block may do.
    Nothing,
    Word(u64),
    Part(u64),
    All(Vec<Required>),
    Any(Vec<Required>),
}

impl KeySink for Vec<Required> {
    fn word(&mut self, hash: u64) {
        self.push(Required::Word(hash));
    }

    fn part(&mut self, hash: u64) {
        self.push(Required::Part(hash));
    }
}

impl Required {
    /// What texts have that pass a test.
    pub(crate) fn by_test(test: &TextTest) -> Self {
        match test.negated {
            true => Self::Nothing,
            false => Self::by_pattern(&test.pattern),
        }
    }

    fn by_pattern(pattern: &TextPattern) -> Self {
        match pattern {
            TextPattern::Equals(text) => {
                let needle = Needle {
                    starts_word: true,
                    ends_word: true,
                    ..Needle::part(text)
                };
                Self::by_needles(&[needle])
            }
            TextPattern::Contains(text) => Self::by_needles(&[Needle::part(text)]),
            TextPattern::Regex(regex) => Self::by_regex(regex.as_str()),
            TextPattern::AnyOf(patterns) => {
                Self::any(patterns.iter().map(Self::by_pattern).collect())
            }
        }
    }

    fn by_needles(needles: &[Needle]) -> Self {
        let mut keys = Vec::new();
        needles
            .iter()
            .for_each(|needle| needle.for_each_key(&mut keys));
        Self::all(keys)
    }

    fn all(mut parts: Vec<Self>) -> Self {
        parts.retain(|part| *part != Self::Nothing);
        match parts.len() {
            0 => Self::Nothing,
            1 => parts.swap_remove(0),
            _ => Self::All(parts),
        }
    }

    fn any(parts: Vec<Self>) -> Self {
        match parts.contains(&Self::Nothing) {
            true => Self::Nothing,
            false => Self::Any(parts),
        }
    }

    fn by_regex(pattern: &str) -> Self {
        let parsed = regex_syntax::ParserBuilder::new()
            .utf8(false)
            .build()
            .parse(pattern);
        match parsed {
            Ok(hir) => RegexText::required(&hir),
            Err(_) => Self::Nothing,
        }
    }

    /// Whether a block with this filter may have a text that passes; `false` is certain.
    pub(crate) fn may_be_in(&self, filter: &TextFilter<'_>) -> bool {
        match self {
            Self::Nothing => true,
            Self::Word(hash) => filter.has_word(*hash),
            Self::Part(hash) => filter.has_part(*hash),
            Self::All(parts) => parts.iter().all(|part| part.may_be_in(filter)),
            Self::Any(parts) => parts.iter().any(|part| part.may_be_in(filter)),
        }
    }
}

/// Steps over a pattern after which it is left as it is: what was not looked at requires nothing.
const STEPS_MAX: usize = 4096;
/// An exact repetition is written out up to this count.
const COPIES_MAX: u32 = 16;
/// A class of more letters than this is not looked through for one folded letter.
const CLASS_LETTERS_MAX: usize = 8;

/// Collects the runs of text that a match must have, in order.
#[derive(Default)]
struct RegexText {
    /// Ended runs, and the requirements of alternatives.
    required: Vec<Required>,
    /// The run at the end.
    open: Needle,
    steps: usize,
}

impl RegexText {
    fn required(hir: &Hir) -> Required {
        let mut walk = Self::default();
        walk.visit(hir);
        walk.gap();
        Required::all(walk.required)
    }

    /// Ends the open run: what comes next is not known to stand beside it.
    fn gap(&mut self) {
        let needle = std::mem::take(&mut self.open);
        needle.for_each_key(&mut self.required);
    }

    fn letter(&mut self, letter: char) {
        let mut buffer = [0; 4];
        let bytes = letter.encode_utf8(&mut buffer).as_bytes();
        self.open.text.extend_from_slice(bytes);
    }

    /// A place where a text begins or ends, or a line.
    fn edge(&mut self) {
        self.open.ends_word = true;
        self.gap();
        self.open.starts_word = true;
    }

    fn visit(&mut self, hir: &Hir) {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return self.gap();
        }
        match hir.kind() {
            HirKind::Empty => {}
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                Ok(text) => text
                    .chars()
                    .for_each(|c| self.letter(fold_char(c).unwrap_or(c))),
                Err(_) => self.gap(),
            },
            HirKind::Class(class) => match folded_class(class) {
                Some(letter) => self.letter(letter),
                None => self.gap(),
            },
            HirKind::Look(Look::Start | Look::End | Look::StartLF | Look::EndLF) => self.edge(),
            // They narrow what matches, and take no text.
            HirKind::Look(_) => {}
            HirKind::Repetition(repetition) => {
                if repetition.min == 0 {
                    return self.gap();
                }
                let is_exact = repetition.max == Some(repetition.min);
                let copies = match is_exact {
                    true => repetition.min.min(COPIES_MAX),
                    false => 1,
                };
                for _ in 0..copies {
                    self.visit(&repetition.sub);
                }
                // More separators beside one make no difference.
                if copies < repetition.min || !(is_exact || is_separator(&repetition.sub)) {
                    self.gap();
                }
            }
            HirKind::Capture(capture) => self.visit(&capture.sub),
            HirKind::Concat(parts) => {
                for (at, part) in parts.iter().enumerate() {
                    match ways_of(part) {
                        Some(ways) => {
                            let next = parts.get(at + 1);
                            self.visit_ways(ways, next.is_some_and(begins_with_separator));
                        }
                        None => self.visit(part),
                    }
                }
            }
            HirKind::Alternation(ways) => self.visit_ways(ways, false),
        }
    }

    /// Alternatives, and whether a separator follows whichever matches.
    fn visit_ways(&mut self, ways: &[Hir], separator_follows: bool) {
        let starts_word = match self.open.text.last() {
            Some(byte) => !is_word_byte(*byte),
            None => self.open.starts_word,
        };
        self.gap();
        let ways = ways.iter().map(|way| {
            let mut walk = Self {
                steps: self.steps,
                ..Self::default()
            };
            walk.open.starts_word = starts_word;
            walk.visit(way);
            walk.open.ends_word = separator_follows;
            walk.gap();
            self.steps = walk.steps;
            Required::all(walk.required)
        });
        let ways = Required::any(ways.collect());
        self.required.push(ways);
        self.open.starts_word = false;
    }
}

/// The alternatives of an alternation, in groups or not.
fn ways_of(hir: &Hir) -> Option<&[Hir]> {
    match hir.kind() {
        HirKind::Alternation(ways) => Some(ways),
        HirKind::Capture(capture) => ways_of(&capture.sub),
        _ => None,
    }
}

/// Whether what matches begins with a letter that ends words, or stands at the end of a text.
fn begins_with_separator(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.first().is_some_and(|byte| !is_word_byte(*byte)),
        HirKind::Class(class) => folded_class(class) == Some(SEPARATOR),
        HirKind::Repetition(repetition) => {
            repetition.min > 0 && begins_with_separator(&repetition.sub)
        }
        HirKind::Capture(capture) => begins_with_separator(&capture.sub),
        HirKind::Concat(parts) => parts.first().is_some_and(begins_with_separator),
        HirKind::Look(look) => matches!(look, Look::End | Look::EndLF),
        _ => false,
    }
}

fn is_separator(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => !literal.0.iter().any(|byte| is_word_byte(*byte)),
        HirKind::Class(class) => folded_class(class) == Some(SEPARATOR),
        _ => false,
    }
}

/// Stands for any letter that ends a word.
const SEPARATOR: char = ' ';

/// The letter that all letters of a class fold to, or [`SEPARATOR`] if all end words.
fn folded_class(class: &Class) -> Option<char> {
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(class) => class
            .ranges()
            .iter()
            .map(|range| (u32::from(range.start()), u32::from(range.end())))
            .collect(),
        Class::Bytes(class) => class
            .ranges()
            .iter()
            .map(|range| (u32::from(range.start()), u32::from(range.end())))
            .collect(),
    };
    let is_ascii = |letter: u32| u8::try_from(letter).ok().filter(u8::is_ascii);
    let last = ranges.last()?.1;
    if is_ascii(last).is_some() {
        let mut letters = ranges.iter().flat_map(|(start, end)| *start..=*end);
        if letters.all(|letter| is_ascii(letter).is_some_and(|byte| !is_word_byte(byte))) {
            return Some(SEPARATOR);
        }
    } else if matches!(class, Class::Bytes(_)) {
        return None;
    }
    let count = ranges.iter().fold(0_usize, |count, (start, end)| {
        count.saturating_add((end - start + 1) as usize)
    });
    if count > CLASS_LETTERS_MAX {
        return None;
    }
    let mut folded = ranges
        .iter()
        .flat_map(|(start, end)| *start..=*end)
        .map(|letter| char::from_u32(letter).map(|c| fold_char(c).unwrap_or(c)));
    let first = folded.next()??;
    folded.all(|letter| letter == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::EncodeEffort;
    use crate::codec::templates::TemplateEncoder;

    fn filter_of(texts: &[&str]) -> Vec<u8> {
        let mut builder = TextFilterBuilder::default();
        texts.iter().for_each(|text| builder.add(text.as_bytes()));
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        bytes
    }

    fn may(texts: &[&str], pattern: &TextPattern) -> bool {
        let bytes = filter_of(texts);
        let test = TextTest {
            pattern: pattern.clone(),
            negated: false,
        };
        Required::by_test(&test).may_be_in(&TextFilter::read(&bytes).unwrap())
    }

    fn regex(pattern: &str) -> TextPattern {
        TextPattern::regex(pattern).unwrap()
    }

    const LINES: [&str; 3] = [
        "PacketResponder 1 for block blk_-2111546881624869711 terminating",
        "job=29ca1790 attempt=1 queue=\"mail\" msg=\"job finished\"",
        "trace 0c43407dc177b6f783f91ca7864a7135 done",
    ];

    #[test]
    fn blocks_without_the_text_are_passed_over() {
        let no = [
            TextPattern::Contains(" starting ".into()),
            TextPattern::Contains("ndl0001qzx7f3a9c".into()),
            TextPattern::Contains("0c43407dc177b6f783f91ca71234abcd".into()),
            TextPattern::Equals("job".into()),
            regex("(?i) STARTING "),
            regex("job (failed|lost) at"),
            regex("^nothing:"),
            regex("[=,]nothing[=,]+also "),
            regex(r#""path":"/api/v[0-9]+/nothing""#),
            TextPattern::AnyOf(vec![
                TextPattern::Contains(" nothing ".into()),
                TextPattern::Contains("aaaaaaa1".into()),
            ]),
        ];
        for (number, pattern) in no.iter().enumerate() {
            // "job" is a word of the text, so the filter cannot tell.
            assert_eq!(may(&LINES, pattern), number == 3, "{pattern:?}");
        }
    }

    #[test]
    fn an_empty_text_requires_nothing() {
        for pattern in [
            TextPattern::Contains("".into()),
            TextPattern::Equals("".into()),
            regex(""),
            regex("a|"),
        ] {
            assert!(may(&[], &pattern) && may(&[""], &pattern), "{pattern:?}");
        }
        assert!(TextFilter::read(&[]).is_none());
        assert!(TextFilter::read(&[9, 1]).is_none());
        assert!(TextFilter::read(&[0, 1, 2, 3]).is_none());
    }

    #[test]
    fn kelvin_and_long_s_are_letters_of_case_blind_patterns() {
        let texts = ["the \u{212a}ey i\u{17f} lo\u{17f}t"];
        for pattern in ["(?i) KEY ", "(?i) is ", "(?i) lost$"] {
            assert!(may(&texts, &regex(pattern)), "{pattern}");
        }
        assert!(!may(&texts, &regex("(?i) LOTS$")));
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "[a-c0-2]{1,9}",
            "[ .=]",
            Just("[a-c]".to_owned()),
            Just("[ =]+".to_owned()),
            Just("[aA]".to_owned()),
            Just("[0-2]{8}".to_owned()),
            Just(".*".to_owned()),
            Just("^".to_owned()),
            Just("$".to_owned()),
            Just(r"\b".to_owned()),
            Just("é".to_owned()),
        ];
        let combined = leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 1..3)
                    .prop_map(|ways| format!("(?:{})", ways.join("|"))),
                inner.clone().prop_map(|part| format!("(?:{part})?")),
                inner.clone().prop_map(|part| format!("(?:{part})+")),
                inner.prop_map(|part| format!("(?:{part}){{2}}")),
            ]
        });
        (any::<bool>(), combined)
            .prop_map(|(blind, pattern)| format!("{}{pattern}", if blind { "(?i)" } else { "" }))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn lines_taken_apart_have_the_keys_of_lines_read_whole(
            lines in prop::collection::vec(
                "([a-cA-C0-3xé_]{0,9}[ .=-]?|0x[0-9a-c]{1,12} |1a2b3c4d-00ff-1234-abcd-0123456789ab){0,6}",
                1..80,
            ),
        ) {
            let mut whole = TextFilterBuilder::default();
            lines.iter().for_each(|line| whole.add(line.as_bytes()));
            let mut apart = TextFilterBuilder::default();
            let mut encoder = TemplateEncoder::default();
            encoder.encode_values_shown(&lines, EncodeEffort::Flush, &mut apart, &mut Vec::new());
            let finished = |mut builder: TextFilterBuilder| {
                let mut bytes = Vec::new();
                builder.finish(&mut bytes);
                bytes
            };
            prop_assert_eq!(finished(apart), finished(whole));
        }

        #[test]
        fn a_filter_never_says_no_to_a_text_that_passes(
            texts in prop::collection::vec("[a-cA-C0-2é .=]{0,24}", 1..5),
            pattern in any_pattern(),
            (from, length) in (0_usize..24, 0_usize..24),
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let part: String = texts[0].chars().skip(from).take(length).collect();
            let mut patterns = vec![
                TextPattern::Contains(part.as_str().into()),
                TextPattern::Equals(texts[0].into()),
                regex(&format!("(?i){}", regex_syntax::escape(&part))),
            ];
            patterns.extend(TextPattern::regex(&pattern));
            patterns.push(TextPattern::AnyOf(patterns.clone()));
            for pattern in &patterns {
                if texts.iter().any(|text| pattern.matches(text.as_bytes())) {
                    prop_assert!(may(&texts, pattern), "{pattern:?} in {texts:?}");
                }
            }
        }
    }
}
