//! The encoder: lines in, one block out. Kept from block to block for what it has learnt.

use std::ops::Range;

use super::super::block::Tag;
use super::super::strings;
use super::super::{EncodeEffort, bytes, varint};
use super::forms::{Forms, Part};
use super::plan::{Group, Plan, Source};
use super::tokenize::{HEX_DIGITS_MAX, SlotKind, Token, tokenize};
use super::{TextColumn, columns, indices, zstd_level};
use hashbrown::HashMap;

/// Longer lines are not taken apart.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Slots of a template.
const SLOTS_MAX: usize = 128;
/// A form number that says: not taken apart.
const NO_FORM: u32 = u32::MAX;
/// Values looked at to see whether a column is a dictionary or constant.
const SAMPLES: usize = 128;
/// When templates save less than this, as a divisor of the plain size, zstd alone is tried too.
const DOUBTFUL_RATIO: usize = 5;
/// So it is when this part of a block, as a divisor, is static text and what is left over.
const DOUBTFUL_TEXT: usize = 3;
/// Columns of fewer bytes are left to zstd or a dictionary: templates do not pay.
const BYTES_MIN: usize = 512;

/// Is shown the lines while they are taken apart: who looks for something in all of them need look at
/// the static text of each form once.
pub(crate) trait LineSink {
    /// A line that was not taken apart, or the first of its form in this block.
    fn whole(&mut self, line: &[u8]);
    /// A line that differs from an earlier one in its slots only.
    fn slots(&mut self, line: &[u8], slots: Slots<'_>);
}

/// Looks at nothing.
pub(super) struct NoSink;

impl LineSink for NoSink {
    fn whole(&mut self, _line: &[u8]) {}

    fn slots(&mut self, _line: &[u8], _slots: Slots<'_>) {}
}

/// The variable parts of a line. All digits lie in one, but for the `0` of a `0x` in front of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots<'a>(&'a [Token]);

impl Slots<'_> {
    /// Where they lie in the line, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<usize>> {
        self.0
            .iter()
            .map(|token| token.start as usize..token.end as usize)
    }
}

/// Encodes columns of text. Reuse one: forms that it knows from earlier blocks cost less.
#[derive(Debug, Default)]
pub struct TemplateEncoder {
    forms: Forms,
    /// Of each form, the block in which a line of it was seen last.
    seen_in: Vec<u32>,
    block: u32,
    tokens: Vec<Token>,
    /// Of each row.
    row_forms: Vec<u32>,
    /// Of each row, where its tokens begin.
    row_tokens: Vec<u32>,
    /// Of each token: its number, or where in the text it lies.
    values: Vec<i64>,
    /// Of each token: its bytes.
    lengths: Vec<u16>,
    gathered: Vec<u8>,
    gathered_ends: Vec<u32>,
}

impl TemplateEncoder {
    /// Appends one block with the strings of `column`; any string codec's block may come out, whichever
    /// is small. [`super::TextBlock`] and [`strings::decode`] read all of them.
    pub fn encode(&mut self, column: TextColumn<'_>, effort: EncodeEffort, out: &mut Vec<u8>) {
        self.encode_shown(column, effort, &mut NoSink, out);
    }

    fn encode_shown(
        &mut self,
        column: TextColumn<'_>,
        effort: EncodeEffort,
        sink: &mut impl LineSink,
        out: &mut Vec<u8>,
    ) {
        assert!(
            i32::try_from(column.bytes().len()).is_ok(),
            "bug: string block of {} bytes",
            column.bytes().len()
        );
        if column.bytes().len() < BYTES_MIN || has_few_values(column) {
            column.iter().for_each(|line| sink.whole(line));
            strings::encode(&column.iter().collect::<Vec<_>>(), effort, out);
            return;
        }
        let start = out.len();
        let text = self.encode_templates(column, effort, sink, out);
        let size = out.len() - start;
        if size > column.bytes().len() / DOUBTFUL_RATIO || text > size / DOUBTFUL_TEXT {
            let mut plain = Vec::new();
            strings::encode(&column.iter().collect::<Vec<_>>(), effort, &mut plain);
            if plain.len() < out.len() - start {
                out.truncate(start);
                out.extend_from_slice(&plain);
            }
        }
    }

    /// As [`Self::encode`], for strings that lie apart.
    pub fn encode_values<S: AsRef<[u8]>>(
        &mut self,
        values: &[S],
        effort: EncodeEffort,
        out: &mut Vec<u8>,
    ) {
        self.encode_values_shown(values, effort, &mut NoSink, out);
    }

    /// The same, and shows the lines to `sink`.
    pub(crate) fn encode_values_shown<S: AsRef<[u8]>>(
        &mut self,
        values: &[S],
        effort: EncodeEffort,
        sink: &mut impl LineSink,
        out: &mut Vec<u8>,
    ) {
        let mut bytes = std::mem::take(&mut self.gathered);
        let mut ends = std::mem::take(&mut self.gathered_ends);
        bytes.clear();
        ends.clear();
        for value in values {
            bytes.extend_from_slice(value.as_ref());
            ends.push(u32::try_from(bytes.len()).expect("bug: string block beyond 4 GiB"));
        }
        self.encode_shown(TextColumn::new(&ends, &bytes), effort, sink, out);
        self.gathered = bytes;
        self.gathered_ends = ends;
    }

    /// Appends a block of templates, whether that pays or not. Returns how much of it is static text and
    /// lines that are left over.
    pub(super) fn encode_templates(
        &mut self,
        column: TextColumn<'_>,
        effort: EncodeEffort,
        sink: &mut impl LineSink,
        out: &mut Vec<u8>,
    ) -> usize {
        self.forms.make_room();
        self.take_apart(column, sink);
        let used = self.count_forms();
        let plan = Plan::new(&self.forms, &used);
        let mut places = vec![None; self.forms.len()];
        for ((form, _), &place) in used.iter().zip(&plan.places) {
            places[*form as usize] = Some(place);
        }
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); plan.groups.len() + 1];
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); plan.groups.len() + 1];
        let mut group_of_row = Vec::with_capacity(column.len());
        for (row, &form) in self.row_forms.iter().enumerate() {
            let place = places.get(form as usize).copied().flatten();
            let (group, member) = place.map_or((0, 0), |place| (place.group, place.member));
            rows[group as usize].push(row as u32);
            members[group as usize].push(member);
            group_of_row.push(group);
        }

        out.push(Tag::StringTemplates as u8);
        varint::write_u64(out, column.bytes().len() as u64);
        varint::write_u64(out, plan.groups.len() as u64);
        let mut block = Definitions::default();
        let mut data = Vec::new();
        for (at, group) in plan.groups.iter().enumerate() {
            let rows = &rows[at + 1];
            let members = &members[at + 1];
            self.put_group(column, group, rows, members, effort, &mut block, &mut data);
        }
        block.numbers.append(&mut block.texts);
        let definitions = put_sized(out, |out| {
            bytes::encode(&block.numbers, zstd_level(effort).max(3), out);
        });
        put_sized(out, |out| {
            indices::encode(&group_of_row, plan.groups.len() + 1, effort, out);
        });
        let left_over = put_sized(out, |out| {
            let left: Vec<&[u8]> = rows[0]
                .iter()
                .map(|&row| column.get(row as usize))
                .collect();
            strings::encode(&left, effort, out);
        });
        out.extend_from_slice(&data);
        definitions + left_over
    }

    /// Finds forms, numbers and lengths of all lines.
    fn take_apart(&mut self, column: TextColumn<'_>, sink: &mut impl LineSink) {
        self.block += 1;
        self.row_forms.clear();
        self.row_tokens.clear();
        self.values.clear();
        self.lengths.clear();
        let mut line_start = 0;
        for line in column.iter() {
            self.row_tokens.push(self.values.len() as u32);
            if line.len() > LINE_BYTES_MAX || !tokenize(line, SLOTS_MAX, &mut self.tokens) {
                self.row_forms.push(NO_FORM);
                sink.whole(line);
            } else {
                let form = self.forms.number_of(line, &self.tokens);
                self.row_forms.push(form);
                if self.is_first_of(form) {
                    sink.whole(line);
                } else {
                    sink.slots(line, Slots(&self.tokens));
                }
                for token in &self.tokens {
                    let length = (token.end - token.start) as usize;
                    let value = if is_number(token.kind, length) {
                        token.value as i64
                    } else {
                        (line_start + token.start as usize) as i64
                    };
                    self.values.push(value);
                    self.lengths.push(length as u16);
                }
            }
            line_start += line.len();
        }
    }

    /// Whether no line of this block had the form before.
    #[inline]
    fn is_first_of(&mut self, form: u32) -> bool {
        let at = form as usize;
        if at >= self.seen_in.len() {
            self.seen_in.resize(at + 1, 0);
        }
        std::mem::replace(&mut self.seen_in[at], self.block) != self.block
    }

    /// The forms of this block's rows in order of appearance, with their counts of rows.
    fn count_forms(&self) -> Vec<(u32, usize)> {
        let mut place = vec![u32::MAX; self.forms.len()];
        let mut used: Vec<(u32, usize)> = Vec::new();
        for &form in self.row_forms.iter().filter(|&&form| form != NO_FORM) {
            let place = &mut place[form as usize];
            if *place == u32::MAX {
                *place = used.len() as u32;
                used.push((form, 0));
            }
            used[*place as usize].1 += 1;
        }
        used
    }

    #[expect(clippy::too_many_arguments, reason = "one call, each its own thing")]
    fn put_group(
        &self,
        column: TextColumn<'_>,
        group: &Group,
        rows: &[u32],
        members: &[u32],
        effort: EncodeEffort,
        block: &mut Definitions,
        data: &mut Vec<u8>,
    ) {
        let mut slots = Vec::new();
        let mut inlined: HashMap<usize, Vec<u8>> = HashMap::new();
        if group.members.len() > 1 {
            put_sized(data, |data| {
                indices::encode(members, group.members.len(), effort, data);
            });
        }
        for &source in &group.slots {
            match source {
                Source::Token(token) => {
                    let kind = self.kind_of(group, token);
                    match self.constant(column, kind, token, rows) {
                        Some(text) => {
                            inlined.insert(token, text);
                        }
                        None => {
                            slots.push((source, kind));
                            put_sized(data, |data| {
                                self.put_tokens(column, kind, token, rows, effort, data);
                            });
                        }
                    }
                }
                Source::Word(word) => {
                    slots.push((source, SlotKind::Word));
                    put_sized(data, |data| self.put_words(word, rows, effort, data));
                }
            }
        }

        let numbers = &mut block.numbers;
        varint::write_u64(numbers, slots.len() as u64);
        numbers.extend(slots.iter().map(|(_, kind)| *kind as u8));
        varint::write_u64(numbers, group.members.len() as u64);
        let mut member_rows = vec![0_u64; group.members.len()];
        for &member in members {
            member_rows[member as usize] += 1;
        }
        for (&form, rows) in group.members.iter().zip(member_rows) {
            varint::write_u64(numbers, rows);
            let mut piece = block.texts.len();
            let mut end_piece = |texts: &Vec<u8>| {
                varint::write_u64(numbers, (texts.len() - piece) as u64);
                piece = texts.len();
            };
            let is_slot = |source| slots.iter().any(|(slot, _)| *slot == source);
            self.forms.for_each_part(form, |part| match part {
                Part::Static(text) => block.texts.extend_from_slice(text),
                Part::Word(word, _) if is_slot(Source::Word(word)) => end_piece(&block.texts),
                Part::Word(_, text) => block.texts.extend_from_slice(text),
                Part::Token(token, _) => match inlined.get(&token) {
                    Some(text) => block.texts.extend_from_slice(text),
                    None => end_piece(&block.texts),
                },
            });
            end_piece(&block.texts);
        }
    }

    fn kind_of(&self, group: &Group, token: usize) -> SlotKind {
        let form = group.members.first().copied();
        form.and_then(|form| self.forms.kinds_of(form).nth(token))
            .expect("bug: a slot without a token")
    }

    /// The value and length of a row's token.
    #[inline]
    fn token(&self, row: u32, token: usize) -> (i64, u16) {
        let at = self.row_tokens[row as usize] as usize + token;
        (self.values[at], self.lengths[at])
    }

    /// The text of a row's token that is no number.
    #[inline]
    fn token_text<'a>(&self, column: TextColumn<'a>, row: u32, token: usize) -> &'a [u8] {
        let (start, length) = self.token(row, token);
        &column.bytes()[start as usize..start as usize + usize::from(length)]
    }

    /// The text of a token that is the same in all rows.
    fn constant(
        &self,
        column: TextColumn<'_>,
        kind: SlotKind,
        token: usize,
        rows: &[u32],
    ) -> Option<Vec<u8>> {
        let &first = rows.first()?;
        let (value, length) = self.token(first, token);
        if is_number(kind, usize::from(length)) {
            let same = |&row: &u32| self.token(row, token) == (value, length);
            if !rows.iter().all(same) {
                return None;
            }
            let mut text = Vec::new();
            columns::put_number(kind, value as u64, usize::from(length), &mut text);
            Some(text)
        } else {
            let text = self.token_text(column, first, token);
            let same = |&row: &u32| {
                let (_, length) = self.token(row, token);
                !is_number(kind, usize::from(length)) && self.token_text(column, row, token) == text
            };
            rows.iter().all(same).then(|| text.to_vec())
        }
    }

    fn put_tokens(
        &self,
        column: TextColumn<'_>,
        kind: SlotKind,
        token: usize,
        rows: &[u32],
        effort: EncodeEffort,
        out: &mut Vec<u8>,
    ) {
        let (values, lengths): (Vec<i64>, Vec<u16>) =
            rows.iter().map(|&row| self.token(row, token)).unzip();
        let all_numbers = lengths
            .iter()
            .all(|&length| is_number(kind, usize::from(length)));
        if all_numbers {
            columns::encode_numbers(kind, &values, &lengths, effort, out);
            return;
        }
        // Short hex numbers among long ones have to be written out again.
        let mut written = Vec::new();
        let spans: Vec<Option<(usize, usize)>> = values
            .iter()
            .zip(&lengths)
            .map(|(&value, &length)| {
                is_number(kind, usize::from(length)).then(|| {
                    let start = written.len();
                    columns::put_number(kind, value as u64, usize::from(length), &mut written);
                    (start, written.len())
                })
            })
            .collect();
        let texts: Vec<&[u8]> = spans
            .iter()
            .zip(rows)
            .map(|(span, &row)| match *span {
                Some((start, end)) => &written[start..end],
                None => self.token_text(column, row, token),
            })
            .collect();
        match kind {
            SlotKind::HexLower | SlotKind::HexUpper | SlotKind::Uuid => {
                columns::encode_digits(&texts, effort, out);
            }
            SlotKind::Decimal | SlotKind::Mixed | SlotKind::Word => {
                columns::encode_strings(&texts, effort, out);
            }
        }
    }

    /// Appends a column of words, which are known by form.
    fn put_words(&self, word: usize, rows: &[u32], effort: EncodeEffort, out: &mut Vec<u8>) {
        let mut keys_of_forms: HashMap<u32, u32> = HashMap::new();
        let mut keys_of_words: HashMap<&[u8], u32> = HashMap::new();
        let mut words: Vec<&[u8]> = Vec::new();
        let keys: Vec<u32> = rows
            .iter()
            .map(|&row| {
                let form = self.row_forms[row as usize];
                *keys_of_forms.entry(form).or_insert_with(|| {
                    let mut text: &[u8] = &[];
                    self.forms.for_each_part(form, |part| {
                        if let Part::Word(number, word_text) = part
                            && number == word
                        {
                            text = word_text;
                        }
                    });
                    *keys_of_words.entry(text).or_insert_with(|| {
                        words.push(text);
                        words.len() as u32 - 1
                    })
                })
            })
            .collect();
        columns::encode_dictionary(&words, &keys, effort, out);
    }
}

/// What is said of the groups: numbers first, texts behind them.
#[derive(Debug, Default)]
struct Definitions {
    numbers: Vec<u8>,
    texts: Vec<u8>,
}

/// Whether a token of this length is held as a number. Decimal ones are by definition.
fn is_number(kind: SlotKind, length: usize) -> bool {
    match kind {
        SlotKind::Decimal => true,
        SlotKind::HexLower | SlotKind::HexUpper => length <= HEX_DIGITS_MAX,
        SlotKind::Uuid | SlotKind::Mixed | SlotKind::Word => false,
    }
}

/// Appends what `put` writes, after its varint size, which is returned.
fn put_sized(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) -> usize {
    let mut inner = Vec::new();
    put(&mut inner);
    varint::write_u64(out, inner.len() as u64);
    out.extend_from_slice(&inner);
    inner.len()
}

/// Whether a sample has so few different values that a dictionary is the right thing.
fn has_few_values(column: TextColumn<'_>) -> bool {
    let count = column.len();
    let samples = SAMPLES.min(count);
    let mut sample: Vec<&[u8]> = (0..samples)
        .map(|at| column.get(at * count / samples.max(1)))
        .collect();
    sample.sort_unstable();
    sample.dedup();
    sample.len() <= samples / 8
}
