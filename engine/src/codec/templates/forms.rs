//! Forms: what lines have in common once their tokens are cut out. Kept from block to block.
//!
//! A *form* is the static text of a line, and the place and kind of each token in it. Its *shape* is
//! the form with a placeholder for each word: lines that differ in words only have one shape, the same
//! tokens, and may share columns.

use std::ops::Range;

use hashbrown::{HashMap, HashTable};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::tokenize::{SlotKind, Token, is_word_byte};

/// Forms and bytes of their texts above which the table is emptied before the next block.
const FORMS_MAX: usize = 1 << 15;
const TEXT_BYTES_MAX: usize = 8 << 20;

/// Bits of a mark for the kind of the token; the others are its place.
const KIND_BITS: u32 = 3;

/// One form.
#[derive(Debug)]
struct Form {
    hash: u64,
    text: Range<usize>,
    marks: Range<usize>,
    shape: u32,
}

/// All forms seen since the table was last emptied, by number.
#[derive(Debug, Default)]
pub(super) struct Forms {
    table: HashTable<u32>,
    forms: Vec<Form>,
    texts: Vec<u8>,
    /// Place in the form's text and kind of each token.
    marks: Vec<u32>,
    shapes: HashMap<Box<[u8]>, u32>,
    line_text: Vec<u8>,
    line_marks: Vec<u32>,
    shape_key: Vec<u8>,
}

impl Forms {
    /// Empties the table if it is large. Numbers given out before are then void.
    pub(super) fn make_room(&mut self) {
        if self.forms.len() > FORMS_MAX || self.texts.len() > TEXT_BYTES_MAX {
            *self = Forms::default();
        }
    }

    /// How many forms there are: numbers are below.
    pub(super) fn len(&self) -> usize {
        self.forms.len()
    }

    /// The form of `line`, whose tokens are `tokens`.
    pub(super) fn number_of(&mut self, line: &[u8], tokens: &[Token]) -> u32 {
        self.line_text.clear();
        self.line_marks.clear();
        let mut at = 0;
        for token in tokens {
            self.line_text
                .extend_from_slice(&line[at..token.start as usize]);
            self.line_marks
                .push((self.line_text.len() as u32) << KIND_BITS | token.kind as u32);
            at = token.end as usize;
        }
        self.line_text.extend_from_slice(&line[at..]);
        let seed = self.line_marks.iter().fold(0, |seed: u64, &mark| {
            (seed.rotate_left(23) ^ u64::from(mark)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        let hash = xxh3_64_with_seed(&self.line_text, seed);
        let (forms, texts, marks) = (&self.forms, &self.texts, &self.marks);
        let known = self.table.find(hash, |&number| {
            let form = &forms[number as usize];
            form.hash == hash
                && texts[form.text.clone()] == self.line_text
                && marks[form.marks.clone()] == self.line_marks
        });
        match known {
            Some(&number) => number,
            None => self.insert(hash),
        }
    }

    /// Adds the form that lies in `line_text` and `line_marks`.
    #[cold]
    fn insert(&mut self, hash: u64) -> u32 {
        let number = self.forms.len() as u32;
        let text = self.texts.len()..self.texts.len() + self.line_text.len();
        let marks = self.marks.len()..self.marks.len() + self.line_marks.len();
        self.texts.extend_from_slice(&self.line_text);
        self.marks.extend_from_slice(&self.line_marks);
        self.forms.push(Form {
            hash,
            text,
            marks,
            shape: 0,
        });
        let mut key = std::mem::take(&mut self.shape_key);
        key.clear();
        // Letters stand for words and tokens: outside of words there are none.
        self.for_each_part(number, |part| match part {
            Part::Static(text) => key.extend_from_slice(text),
            Part::Word(..) => key.push(b'w'),
            Part::Token(_, kind) => key.push(b'A' + kind as u8),
        });
        let shapes = self.shapes.len() as u32;
        let shape = *self.shapes.entry_ref(key.as_slice()).or_insert(shapes);
        self.shape_key = key;
        self.forms[number as usize].shape = shape;
        let forms = &self.forms;
        self.table
            .insert_unique(hash, number, |&other| forms[other as usize].hash);
        number
    }

    /// The shape of a form.
    pub(super) fn shape_of(&self, form: u32) -> u32 {
        self.forms[form as usize].shape
    }

    /// Kinds of a form's tokens.
    pub(super) fn kinds_of(&self, form: u32) -> impl ExactSizeIterator<Item = SlotKind> {
        let marks = &self.marks[self.forms[form as usize].marks.clone()];
        marks.iter().map(|&mark| kind_of(mark))
    }

    /// Calls `each` with the parts of a form, in order. Two static parts may follow each other.
    pub(super) fn for_each_part<'a>(&'a self, form: u32, mut each: impl FnMut(Part<'a>)) {
        let form = &self.forms[form as usize];
        let text = &self.texts[form.text.clone()];
        let (mut at, mut words) = (0, 0);
        for (index, &mark) in self.marks[form.marks.clone()].iter().enumerate() {
            let end = (mark >> KIND_BITS) as usize;
            for_each_word_and_gap(&text[at..end], &mut words, &mut each);
            each(Part::Token(index, kind_of(mark)));
            at = end;
        }
        for_each_word_and_gap(&text[at..], &mut words, &mut each);
    }
}

fn kind_of(mark: u32) -> SlotKind {
    let number = (mark & ((1 << KIND_BITS) - 1)) as u8;
    SlotKind::from_u8(number).expect("bug: a mark without a kind")
}

/// A part of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Text without words.
    Static(&'a [u8]),
    /// Number of the word within the form, and its bytes.
    Word(usize, &'a [u8]),
    /// Number of the token within the form.
    Token(usize, SlotKind),
}

fn for_each_word_and_gap<'a>(text: &'a [u8], words: &mut usize, each: &mut impl FnMut(Part<'a>)) {
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let is_word = is_word_byte(first);
        let end = rest
            .iter()
            .position(|&byte| is_word_byte(byte) != is_word)
            .unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        if is_word {
            each(Part::Word(*words, part));
            *words += 1;
        } else {
            each(Part::Static(part));
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokenize::tokenize;
    use super::*;

    fn number(forms: &mut Forms, line: &str) -> u32 {
        let mut tokens = Vec::new();
        assert!(tokenize(line.as_bytes(), 100, &mut tokens));
        forms.number_of(line.as_bytes(), &tokens)
    }

    #[test]
    fn lines_that_differ_in_tokens_have_one_form_and_in_words_one_shape() {
        let mut forms = Forms::default();
        let first = number(&mut forms, "user bob: 17 of 20");
        assert_eq!(number(&mut forms, "user bob: 1 of 999"), first);
        let other_word = number(&mut forms, "user alice: 1 of 999");
        assert_ne!(other_word, first);
        assert_eq!(forms.shape_of(other_word), forms.shape_of(first));
        for other in [
            "user bob: ff11 of 999",
            "user bob: 1 of999",
            "user bob 1 of 999",
            "user w: of A",
            "",
        ] {
            let other = number(&mut forms, other);
            assert_ne!(forms.shape_of(other), forms.shape_of(first));
        }
        let mut parts = Vec::new();
        forms.for_each_part(first, |part| parts.push(part));
        assert_eq!(
            parts,
            [
                Part::Word(0, b"user"),
                Part::Static(b" "),
                Part::Word(1, b"bob"),
                Part::Static(b": "),
                Part::Token(0, SlotKind::Decimal),
                Part::Static(b" "),
                Part::Word(2, b"of"),
                Part::Static(b" "),
                Part::Token(1, SlotKind::Decimal),
            ]
        );
        assert_eq!(forms.len(), 7);
    }
}
