//! The labels of one entry while it passes a pipeline.
//!
//! Names are interned, values lie in one buffer that every entry starts over with, so an entry costs
//! no allocation once the buffers have grown. A label comes from the stream, from structured metadata
//! or from a parser; a name occurs once, and what is added shadows what the stream says.
//!
//! Invariant: interned names beyond those of the query are forgotten when there are too many, so
//! lines with ever new keys cannot hold memory. Ids of such names are good for one entry.

use std::collections::HashMap;

use crate::promql::labelset;

/// The label that says what went wrong with an entry.
pub const ERROR_LABEL: &str = "__error__";
/// The label that says more about it.
pub const ERROR_DETAILS_LABEL: &str = "__error_details__";
/// The label by which a metric query says that it wants entries with errors.
pub const PRESERVE_ERROR_LABEL: &str = "__preserve_error__";
/// What is put behind the name of a parsed label that another label has already.
pub const EXTRACTED_SUFFIX: &str = "_extracted";

/// Interned names that are kept from entry to entry.
const NAMES_MAX: usize = 1 << 14;

/// An interned name.
pub type NameId = u32;

/// Interned label names, and what keys of lines stand for.
#[derive(Debug, Clone, Default)]
pub struct Names {
    names: Vec<Box<str>>,
    ids: HashMap<Box<str>, NameId>,
    /// Keys as they stand in lines; `None` for those that are no label.
    keys: HashMap<Box<[u8]>, Option<NameId>>,
    /// `name_extracted` of each name, once asked for.
    extracted: Vec<Option<NameId>>,
    /// How many names are the query's own.
    fixed: usize,
}

impl Names {
    /// The id of a name.
    pub fn intern(&mut self, name: &str) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.names.len() as NameId;
        self.names.push(name.into());
        self.ids.insert(name.into(), id);
        self.extracted.push(None);
        id
    }

    /// The id of a key of a line, its odd characters replaced; `None` if nothing is left of it.
    pub fn intern_key(&mut self, key: &[u8]) -> Option<NameId> {
        if let Some(id) = self.keys.get(key) {
            return *id;
        }
        let mut name = Vec::with_capacity(key.len());
        append_sanitized(&mut name, key);
        // What is sanitized is ASCII.
        let name = String::from_utf8(name).unwrap_or_default();
        let id = (!name.is_empty()).then(|| self.intern(&name));
        self.keys.insert(key.into(), id);
        id
    }

    /// The id of `name_extracted`.
    pub fn extracted(&mut self, id: NameId) -> NameId {
        if let Some(Some(extracted)) = self.extracted.get(id as usize) {
            return *extracted;
        }
        let name = format!("{}{EXTRACTED_SUFFIX}", self.name(id));
        let extracted = self.intern(&name);
        if let Some(slot) = self.extracted.get_mut(id as usize) {
            *slot = Some(extracted);
        }
        extracted
    }

    /// The name.
    #[inline]
    pub fn name(&self, id: NameId) -> &str {
        self.names.get(id as usize).map_or("", |name| name)
    }

    /// Says that the names so far are the query's.
    pub fn fix(&mut self) {
        self.fixed = self.names.len();
    }

    /// Whether there are so many names that it is time to [`forget`](Self::forget).
    pub fn is_full(&self) -> bool {
        self.names.len() > self.fixed + NAMES_MAX || self.keys.len() > NAMES_MAX
    }

    /// Forgets all names but the query's.
    pub fn forget(&mut self) {
        self.names.truncate(self.fixed);
        self.extracted.truncate(self.fixed);
        let fixed = self.fixed as NameId;
        self.ids.retain(|_, id| *id < fixed);
        self.extracted.fill(None);
        self.keys.clear();
    }
}

/// Bytes that may not stand in a label's name.
static ODD: [bool; 256] = {
    let mut odd = [true; 256];
    let mut b = 0;
    while b < 128 {
        let byte = b as u8;
        odd[b] = !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
        b += 1;
    }
    odd
};

/// Whether a byte may stand in a label's name (digits not at its beginning).
#[inline]
pub(super) fn is_name_byte(b: u8) -> bool {
    !ODD[usize::from(b)]
}

/// Whether a key is a label's name as it stands.
#[inline]
pub(super) fn is_plain_name(key: &[u8]) -> bool {
    let odd = key.iter().fold(false, |odd, b| odd | ODD[usize::from(*b)]);
    !odd && key.first().is_some_and(|b| !b.is_ascii_digit())
}

/// Appends a key with all that may not stand in a name replaced by `_`, one per character.
pub(super) fn append_sanitized(out: &mut Vec<u8>, key: &[u8]) {
    let key = key.trim_ascii();
    if out.is_empty() && key.first().is_some_and(u8::is_ascii_digit) {
        out.push(b'_');
    }
    for &b in key {
        if is_name_byte(b) {
            out.push(b);
        } else if !(0x80..0xc0).contains(&b) {
            // The bytes that continue a character have had their `_` already.
            out.push(b'_');
        }
    }
}

/// A key with all that may not stand in a label's name replaced by `_`.
pub fn sanitized_name(key: &str) -> String {
    let mut name = Vec::with_capacity(key.len());
    append_sanitized(&mut name, key.as_bytes());
    // What is sanitized is ASCII.
    String::from_utf8(name).unwrap_or_default()
}

/// Where a label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// The stream.
    Stream,
    /// Structured metadata: the attributes of the record.
    Metadata,
    /// A parser or formatter.
    Parsed,
}

/// The labels of a stream, their names interned, sorted by name.
#[derive(Debug, Clone, Default)]
pub struct BaseLabels {
    labels: Vec<(NameId, Box<[u8]>)>,
}

impl BaseLabels {
    /// The labels of a stream.
    pub fn new<'a>(names: &mut Names, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut labels: Vec<_> = labels
            .map(|(name, value)| (names.intern(name), Box::from(value.as_bytes())))
            .collect();
        labels.sort_by(|a, b| names.name(a.0).cmp(names.name(b.0)));
        Self { labels }
    }

    /// The value of a label.
    #[inline]
    pub fn get(&self, name: NameId) -> Option<&[u8]> {
        let found = self.labels.iter().find(|(id, _)| *id == name);
        found.map(|(_, value)| &**value)
    }
}

#[derive(Debug, Clone, Copy)]
struct Added {
    name: NameId,
    category: Category,
    start: u32,
    length: u32,
}

/// The labels of the entry at hand.
#[derive(Debug, Default)]
pub struct Labels {
    added: Vec<Added>,
    deleted: Vec<NameId>,
    values: Vec<u8>,
    /// `__error__`; empty if all is well.
    pub error: &'static str,
    /// `__error_details__`
    pub error_details: String,
    /// Entries with this error are wanted.
    pub preserve_error: bool,
    order: Vec<NameId>,
}

impl Labels {
    /// Starts over with another entry.
    #[inline]
    pub fn reset(&mut self) {
        self.added.clear();
        self.deleted.clear();
        self.values.clear();
        if !self.error.is_empty() || !self.error_details.is_empty() {
            self.error = "";
            self.error_details.clear();
        }
        self.preserve_error = false;
    }

    /// Whether nothing was added, removed or went wrong: the labels are those of the stream.
    #[inline]
    pub fn is_base(&self) -> bool {
        self.added.is_empty() && self.deleted.is_empty() && self.error.is_empty()
    }

    /// Says that something went wrong, unless something has before.
    pub fn fail(&mut self, error: &'static str, details: impl FnOnce() -> String) {
        if self.error.is_empty() {
            self.set_error(error, details());
        }
    }

    /// Says that something went wrong.
    pub fn set_error(&mut self, error: &'static str, details: String) {
        self.error = error;
        self.error_details = details;
    }

    fn find(&self, name: NameId) -> Option<&Added> {
        self.added.iter().find(|added| added.name == name)
    }

    fn value(&self, added: &Added) -> &[u8] {
        let start = added.start as usize;
        self.values
            .get(start..start + added.length as usize)
            .unwrap_or(&[])
    }

    /// The value of a label and where it comes from.
    #[inline]
    pub fn get<'a>(&'a self, base: &'a BaseLabels, name: NameId) -> Option<(&'a [u8], Category)> {
        if let Some(added) = self.find(name) {
            return Some((self.value(added), added.category));
        }
        if self.deleted.contains(&name) {
            return None;
        }
        base.get(name).map(|value| (value, Category::Stream))
    }

    /// The name under which a parser may add `name`: `name_extracted` if the stream or metadata have
    /// it; `None` if a parser has added it already.
    #[inline]
    pub fn parsed_name(
        &self,
        base: &BaseLabels,
        names: &mut Names,
        name: NameId,
    ) -> Option<NameId> {
        let taken = base.get(name).is_some()
            || self
                .find(name)
                .is_some_and(|added| added.category == Category::Metadata);
        let name = if taken { names.extracted(name) } else { name };
        match self.find(name) {
            Some(added) if added.category == Category::Parsed => None,
            _ => Some(name),
        }
    }

    /// The buffer of values: what is appended becomes the value of the next [`commit`](Self::commit).
    #[inline]
    pub fn writer(&mut self) -> &mut Vec<u8> {
        &mut self.values
    }

    /// Where the next value begins.
    #[inline]
    pub fn mark(&self) -> usize {
        self.values.len()
    }

    /// Sets a label to what was written since `mark`. What is set takes the place of what another
    /// source said, but for metadata, which do not replace parsed labels.
    pub fn commit(&mut self, category: Category, name: NameId, mark: usize) {
        let (Ok(start), Ok(length)) =
            (u32::try_from(mark), u32::try_from(self.values.len() - mark))
        else {
            return;
        };
        let new = Added {
            name,
            category,
            start,
            length,
        };
        let rank = |category: Category| category as u8;
        match self.added.iter_mut().find(|added| added.name == name) {
            Some(old) if rank(old.category) > rank(category) => {}
            Some(old) => *old = new,
            None => self.added.push(new),
        }
    }

    /// Sets a label.
    #[inline]
    pub fn set(&mut self, category: Category, name: NameId, value: &[u8]) {
        let mark = self.mark();
        self.values.extend_from_slice(value);
        self.commit(category, name, mark);
    }

    /// Removes a label.
    pub fn remove(&mut self, name: NameId) {
        self.added.retain(|added| added.name != name);
        self.deleted.push(name);
    }

    /// Whether a parser has added the label already.
    #[inline]
    pub fn has_parsed(&self, name: NameId) -> bool {
        self.find(name)
            .is_some_and(|added| added.category == Category::Parsed)
    }

    /// Whether metadata brought the label.
    pub fn is_metadata(&self, name: NameId) -> bool {
        self.find(name)
            .is_some_and(|added| added.category == Category::Metadata)
    }

    /// Whether metadata brought labels.
    pub fn has_metadata(&self) -> bool {
        self.added.iter().any(|a| a.category == Category::Metadata)
    }

    /// Calls `visit` for every label, in no order; errors are not among them.
    pub fn visit<'a>(
        &'a self,
        base: &'a BaseLabels,
        mut visit: impl FnMut(NameId, &'a [u8], Category),
    ) {
        for (name, value) in &base.labels {
            let shadowed = self.find(*name).is_some() || self.deleted.contains(name);
            if !shadowed {
                visit(*name, value, Category::Stream);
            }
        }
        for added in &self.added {
            visit(added.name, self.value(added), added.category);
        }
    }

    /// Writes the canonical bytes of the labels whose names pass `keep`, the error among them.
    pub fn encode(
        &mut self,
        base: &BaseLabels,
        names: &Names,
        keep: impl Fn(NameId) -> bool,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        self.visit(base, |name, _, _| {
            if keep(name) {
                order.push(name);
            }
        });
        order.sort_unstable_by(|a, b| names.name(*a).cmp(names.name(*b)));
        let errors = [
            (ERROR_LABEL, self.error),
            (ERROR_DETAILS_LABEL, self.error_details.as_str()),
            (
                PRESERVE_ERROR_LABEL,
                if self.preserve_error { "true" } else { "" },
            ),
        ];
        let mut errors = errors
            .into_iter()
            .filter(|(_, value)| !self.error.is_empty() && !value.is_empty())
            .peekable();
        for name in &order {
            let text = names.name(*name);
            while let Some((error, value)) = errors.next_if(|(error, _)| *error < text) {
                labelset::push(out, error.as_bytes(), value.as_bytes());
            }
            if let Some((value, _)) = self.get(base, *name) {
                labelset::push(out, text.as_bytes(), value);
            }
        }
        for (error, value) in errors {
            labelset::push(out, error.as_bytes(), value.as_bytes());
        }
        self.order = order;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sanitized() {
        let mut names = Names::default();
        for (key, name) in [
            ("a-b", "a_b"),
            ("9x", "_9x"),
            (" a b ", "a_b"),
            ("é.ü", "___"),
            ("ns:x", "ns:x"),
        ] {
            let id = names.intern_key(key.as_bytes()).unwrap();
            assert_eq!(names.name(id), name);
        }
        assert_eq!(names.intern_key(b" "), None);
    }

    #[test]
    fn names_of_lines_are_forgotten() {
        let mut names = Names::default();
        let own = names.intern("own");
        names.fix();
        for i in 0..=NAMES_MAX {
            names.intern_key(format!("key{i}").as_bytes());
        }
        assert!(names.is_full());
        names.forget();
        assert!(!names.is_full());
        assert_eq!(names.intern_key(b"own"), Some(own));
        assert_eq!(names.name(own), "own");
    }

    #[test]
    fn sources_keep_their_order() {
        let mut names = Names::default();
        let base = BaseLabels::new(&mut names, [("a", "s"), ("b", "s")].into_iter());
        let (a, b) = (names.intern("a"), names.intern("b"));
        let mut labels = Labels::default();
        labels.reset();
        assert!(labels.is_base());
        let free = labels.parsed_name(&base, &mut names, a).unwrap();
        assert_eq!(names.name(free), "a_extracted");
        labels.set(Category::Metadata, free, b"m");
        labels.set(Category::Parsed, free, b"p");
        assert_eq!(labels.parsed_name(&base, &mut names, a), None);
        labels.remove(b);
        assert_eq!(labels.get(&base, b), None);
        let mut out = Vec::new();
        labels.error = "Oops";
        labels.encode(&base, &names, |_| true, &mut out);
        let text: Vec<String> = labelset::iter(&out)
            .map(|l| {
                String::from_utf8_lossy(l.name).into_owned()
                    + "="
                    + &String::from_utf8_lossy(l.value)
            })
            .collect();
        assert_eq!(text, ["__error__=Oops", "a=s", "a_extracted=p"]);
    }
}
