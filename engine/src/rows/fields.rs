//! Fields inside of bodies (`status` of a JSON line): asked of a scan, so that it need not put the lines
//! together.
//!
//! The lines of a stored block share few templates. Who knows the lines' format ([`LineFields`], such as
//! a query language's parser of JSON) reads a template once and says where in its lines the fields lie;
//! the scan decodes only what stands there. That is an offer: a source may leave it, and does where a
//! template's lines differ in form. Such rows come with their bodies, and it is the caller who parses.

use std::fmt;

use crate::codec::strings::Strings;
use crate::codec::templates::{Skeleton, ValuePart};

/// Finds fields in lines of some format.
pub trait LineFields: fmt::Debug + Send + Sync {
    /// The fields, in the order in which they are answered.
    fn wanted(&self) -> &[FieldForm];

    /// What each field is made of in every line of a template; the inner `None` says that the lines
    /// have no such field. `None` if lines may differ in that, or have to be parsed for another reason.
    fn places(&self, skeleton: &Skeleton) -> Option<Vec<Option<Vec<ValuePart>>>>;
}

/// In which form a field is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldForm {
    /// As text.
    Text,
    /// As a number where it is written as `-?(0|[1-9][0-9]*)(\.[0-9]+)?`; as text elsewhere.
    Number,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FieldValue<'a> {
    /// The line does not have it.
    Absent,
    /// The text, and its number in the column: the same number stands for the same text.
    Text(u32, &'a [u8]),
    /// What the text says, as parsing it as `f64` gives.
    Number(f64),
}

/// Rows without the field.
const ABSENT: u32 = 0;
/// Rows whose value is a number.
const NUMBER: u32 = u32::MAX;

/// The values of one field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldColumn {
    /// By row: [`ABSENT`], [`NUMBER`], or one more than the number of the text.
    keys: Vec<u32>,
    texts: Strings,
    /// By row; empty as long as there are none.
    numbers: Vec<f64>,
}

impl FieldColumn {
    pub(crate) fn new(rows: usize) -> Self {
        Self {
            keys: vec![ABSENT; rows],
            ..Self::default()
        }
    }

    /// The value of a row.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> FieldValue<'_> {
        match self.keys.get(row).copied().unwrap_or(ABSENT) {
            ABSENT => FieldValue::Absent,
            NUMBER => FieldValue::Number(self.numbers.get(row).copied().unwrap_or(f64::NAN)),
            key => FieldValue::Text(key - 1, self.text(key - 1)),
        }
    }

    /// How many texts there are: their numbers are below.
    #[must_use]
    pub fn text_count(&self) -> usize {
        self.texts.len()
    }

    /// A text by its number.
    #[must_use]
    pub fn text(&self, number: u32) -> &[u8] {
        self.texts.get(number as usize).unwrap_or(&[])
    }

    /// Bytes of all texts.
    pub(crate) fn text_bytes(&self) -> usize {
        self.texts.byte_len()
    }

    /// Adds a text; answers its number.
    pub(crate) fn add_text(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
        self.texts.push_with(write);
        self.texts.len() as u32 - 1
    }

    #[inline]
    pub(crate) fn set_text(&mut self, row: usize, number: u32) {
        if let Some(key) = self.keys.get_mut(row) {
            *key = number + 1;
        }
    }

    #[inline]
    pub(crate) fn set_number(&mut self, row: usize, number: f64) {
        if self.numbers.is_empty() {
            self.numbers.resize(self.keys.len(), 0.0);
        }
        if let (Some(key), Some(slot)) = (self.keys.get_mut(row), self.numbers.get_mut(row)) {
            *key = NUMBER;
            *slot = number;
        }
    }

    fn take(&self, rows: &[u32]) -> Self {
        let number = |row: &u32| self.numbers.get(*row as usize).copied();
        Self {
            keys: rows
                .iter()
                .map(|row| self.keys.get(*row as usize).copied().unwrap_or(ABSENT))
                .collect(),
            texts: self.texts.clone(),
            numbers: rows.iter().filter_map(number).collect(),
        }
    }

    fn append(&mut self, other: &Self) {
        let (rows, texts) = (self.keys.len(), self.texts.len() as u32);
        self.keys.extend(other.keys.iter().map(|key| match *key {
            ABSENT | NUMBER => *key,
            key => key + texts,
        }));
        other.texts.iter().for_each(|text| self.texts.push(text));
        if !self.numbers.is_empty() || !other.numbers.is_empty() {
            self.numbers.resize(rows, 0.0);
            self.numbers.extend_from_slice(&other.numbers);
            self.numbers.resize(self.keys.len(), 0.0);
        }
    }
}

/// Fields of the rows of a block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BodyFields {
    /// By row, whether its fields are known; the bodies of such rows are left empty.
    pub known: Vec<bool>,
    /// The fields in the order asked for.
    pub columns: Vec<FieldColumn>,
}

impl BodyFields {
    pub(crate) fn new(rows: usize, fields: usize) -> Self {
        Self {
            known: vec![false; rows],
            columns: (0..fields).map(|_| FieldColumn::new(rows)).collect(),
        }
    }

    /// Whether the fields of a row are known.
    #[inline]
    #[must_use]
    pub fn knows(&self, row: usize) -> bool {
        self.known.get(row).copied().unwrap_or(false)
    }

    pub(super) fn take(&self, rows: &[u32]) -> Self {
        Self {
            known: rows.iter().map(|row| self.knows(*row as usize)).collect(),
            columns: self
                .columns
                .iter()
                .map(|column| column.take(rows))
                .collect(),
        }
    }

    /// Puts the fields of other rows, read for the same request, behind `len` rows that these are of.
    pub(super) fn append(fields: &mut Option<Self>, len: usize, other: Option<&Self>, more: usize) {
        let count = match (&fields, other) {
            (None, None) => return,
            (Some(fields), _) => fields.columns.len(),
            (None, Some(other)) => other.columns.len(),
        };
        let fields = fields.get_or_insert_with(|| Self::new(len, count));
        match other {
            None => Self::append_known(fields, &Self::new(more, count)),
            Some(other) => Self::append_known(fields, other),
        }
    }

    fn append_known(&mut self, other: &Self) {
        self.known.extend_from_slice(&other.known);
        for (column, other) in self.columns.iter_mut().zip(&other.columns) {
            column.append(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_values_when_taken_and_put_together() {
        let mut fields = BodyFields::new(4, 1);
        fields.known = vec![true, true, false, true];
        let column = &mut fields.columns[0];
        let text = column.add_text(|out| out.extend_from_slice(b"x"));
        column.set_text(0, text);
        column.set_number(3, 1.5);
        let values = |fields: &BodyFields| -> Vec<String> {
            let value = |row| format!("{} {:?}", fields.knows(row), fields.columns[0].get(row));
            (0..fields.known.len()).map(value).collect()
        };
        let taken = fields.take(&[3, 0, 2]);
        let expected = ["true Number(1.5)", "true Text(0, [120])", "false Absent"];
        assert_eq!(values(&taken), expected);
        let mut joined = None;
        BodyFields::append(&mut joined, 1, Some(&fields), 4);
        BodyFields::append(&mut joined, 5, None, 1);
        BodyFields::append(&mut joined, 6, Some(&taken), 3);
        let joined = values(&joined.unwrap());
        assert_eq!(joined[0], "false Absent");
        assert_eq!(joined[1..5], values(&fields));
        assert_eq!(joined[5], "false Absent");
        assert_eq!(joined[6], expected[0]);
        assert_eq!(joined[7], "true Text(1, [120])");
    }
}
