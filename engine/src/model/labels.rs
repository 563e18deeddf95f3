//! A sorted label set, kept as one immutable run of bytes.
//!
//! Layout: for each label, in ascending byte order of the names,
//! `varint(name length) name varint(value length) value`. One allocation per set, cheap to clone,
//! hash and compare for equality; the same bytes go into the WAL and into segments.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::codec::varint;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// One name=value pair, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label<'a> {
    /// The label's name; never empty.
    pub name: &'a str,
    /// The label's value; never empty in a [`Labels`] (an empty value means "not there").
    pub value: &'a str,
}

/// Why a label set was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelsError {
    /// A name occurs twice.
    #[error("label name {0:?} occurs twice")]
    Duplicate(String),
    /// A name is empty.
    #[error("empty label name")]
    EmptyName,
    /// The bytes are not an encoded label set.
    #[error("malformed label set at byte {0}")]
    Malformed(usize),
}

/// A sorted label set without empty names, empty values or duplicates.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    bytes: Arc<[u8]>,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            bytes: Arc::from(&[][..]),
        }
    }
}

impl Labels {
    /// The set without labels.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Builds a set from pairs in any order. Pairs with an empty value are left out.
    ///
    /// # Errors
    /// A duplicate or empty name.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            builder.push(name.as_ref(), value.as_ref());
        }
        builder.finish()
    }

    /// Builds a set from pairs that are known to be good: ascending names, nothing empty.
    pub(crate) fn from_sorted(pairs: &[(&str, &str)]) -> Self {
        let size = pairs.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
        let mut bytes = Vec::with_capacity(size);
        for (name, value) in pairs {
            push_label(&mut bytes, name, value);
        }
        Self::from_pushed(&bytes)
    }

    /// The set of labels that were written by [`push_label`], in ascending order of their names.
    pub(crate) fn from_pushed(bytes: &[u8]) -> Self {
        let labels = Self {
            bytes: Arc::from(bytes),
        };
        debug_assert!(
            labels.iter().is_sorted_by(|a, b| a.name < b.name),
            "bug: labels not in ascending order"
        );
        labels
    }

    /// Reads back [`Labels::as_bytes`], checking lengths, UTF-8, order and emptiness.
    ///
    /// # Errors
    /// [`LabelsError::Malformed`] with the offset where the bytes stop making sense.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LabelsError> {
        let mut at = 0;
        let mut previous: Option<&str> = None;
        while at < bytes.len() {
            let start = at;
            let name = take_str(bytes, &mut at).ok_or(LabelsError::Malformed(start))?;
            let value = take_str(bytes, &mut at).ok_or(LabelsError::Malformed(start))?;
            if name.is_empty() || value.is_empty() || previous.is_some_and(|p| p >= name) {
                return Err(LabelsError::Malformed(start));
            }
            previous = Some(name);
        }
        Ok(Self {
            bytes: Arc::from(bytes),
        })
    }

    /// The canonical bytes (layout in the module's text).
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many labels there are (walks the set).
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// The labels in ascending order of their names.
    #[must_use]
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter {
            bytes: &self.bytes,
            at: 0,
        }
    }

    /// The value of `name`, if the set has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut at = 0;
        while let Some((key, value)) = take_pair(&self.bytes, &mut at) {
            if key == name.as_bytes() {
                return std::str::from_utf8(value).ok();
            }
        }
        None
    }

    /// The metric name, or the empty string.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// A 64-bit hash of the canonical bytes (xxh3, fixed seed): equal sets hash equally in every
    /// process and version, so it may be stored; different sets may collide.
    #[must_use]
    pub fn stable_hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.bytes)
    }

    /// The set without the labels for which `drop` answers true.
    #[must_use]
    pub fn without(&self, mut drop: impl FnMut(&str) -> bool) -> Self {
        if !self.iter().any(|l| drop(l.name)) {
            return self.clone();
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for label in self.iter().filter(|l| !drop(l.name)) {
            push_label(&mut bytes, label.name, label.value);
        }
        Self {
            bytes: bytes.into(),
        }
    }

    /// A builder that starts with these labels.
    #[must_use]
    pub fn to_builder(&self) -> LabelsBuilder {
        let mut builder = LabelsBuilder::new();
        for label in self.iter() {
            builder.push(label.name, label.value);
        }
        builder
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    /// Name by name, then value, bytewise; a set that is the beginning of another comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs): (&[u8], &[u8]) = (&self.bytes, &other.bytes);
        // Neighbours in order begin alike: what is the same is passed by without a look inside.
        let same = common_prefix(ours, theirs);
        let (mut at, mut next) = (0, 0);
        while take_pair(ours, &mut next).is_some() && next <= same {
            at = next;
        }
        let mut at_other = at;
        loop {
            match (take_pair(ours, &mut at), take_pair(theirs, &mut at_other)) {
                (None, None) => return Ordering::Equal,
                (a, b) if a == b => {}
                (a, b) => return a.cmp(&b),
            }
        }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Labels {
    /// As a selector: `name{a="b", c="d"}`-like, all labels inside the braces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, label) in self.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}={:?}", label.name, label.value)?;
        }
        f.write_str("}")
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = Label<'a>;
    type IntoIter = LabelsIter<'a>;
    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

/// Iterator over the labels of a set.
#[derive(Clone, Debug)]
pub struct LabelsIter<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = Label<'a>;

    fn next(&mut self) -> Option<Label<'a>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        // The bytes were checked when the set was made.
        let name = take_str(self.bytes, &mut self.at)?;
        let value = take_str(self.bytes, &mut self.at)?;
        Some(Label { name, value })
    }
}

/// How many bytes two runs begin with in common, at least: whole words are compared.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    8 * a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn take_str<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a str> {
    std::str::from_utf8(take_slice(bytes, at)?).ok()
}

/// Name and value of the label at `at`.
#[inline]
fn take_pair<'a>(bytes: &'a [u8], at: &mut usize) -> Option<(&'a [u8], &'a [u8])> {
    Some((take_slice(bytes, at)?, take_slice(bytes, at)?))
}

#[inline]
fn take_slice<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let start = *at;
    let length = match bytes.get(start)? {
        byte if *byte < 0x80 => {
            *at += 1;
            u64::from(*byte)
        }
        _ => varint::read_u64(bytes, at)?,
    };
    // Sets are compared and hashed by their bytes, so each set has one encoding: a length that is
    // padded with zero bits would make a second one.
    if *at - start != varint::len_u64(length) {
        return None;
    }
    let length = usize::try_from(length).ok()?;
    let end = at.checked_add(length)?;
    let text = bytes.get(*at..end)?;
    *at = end;
    Some(text)
}

/// Appends a label as [`Labels::as_bytes`] has it.
pub(crate) fn push_label(bytes: &mut Vec<u8>, name: &str, value: &str) {
    varint::write_u64(bytes, name.len() as u64);
    bytes.extend_from_slice(name.as_bytes());
    varint::write_u64(bytes, value.len() as u64);
    bytes.extend_from_slice(value.as_bytes());
}

/// Collects labels in any order; [`LabelsBuilder::finish`] sorts and checks them.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(Cow<'static, str>, String)>,
}

impl LabelsBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair without looking for an earlier one of the same name.
    pub fn push(&mut self, name: &str, value: &str) {
        let name = if name == METRIC_NAME {
            Cow::Borrowed(METRIC_NAME)
        } else {
            Cow::Owned(name.to_owned())
        };
        self.pairs.push((name, value.to_owned()));
    }

    /// Sets a label, replacing an earlier one; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        if !value.is_empty() {
            self.push(name, value);
        }
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) {
        self.pairs.retain(|(n, _)| n != name);
    }

    /// The pairs in the order added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_str()))
    }

    /// Keeps the pairs for which `keep(name, value)` answers true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.pairs.retain(|(name, value)| keep(name, value));
    }

    /// The value of a label, if set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Sorts and checks. Labels with an empty value are left out.
    ///
    /// # Errors
    /// A duplicate or empty name.
    pub fn finish(mut self) -> Result<Labels, LabelsError> {
        self.pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let mut bytes =
            Vec::with_capacity(self.pairs.iter().map(|p| p.0.len() + p.1.len() + 2).sum());
        let mut previous: Option<&str> = None;
        for (name, value) in &self.pairs {
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            if previous == Some(name.as_ref()) {
                return Err(LabelsError::Duplicate(name.to_string()));
            }
            previous = Some(name.as_ref());
            if !value.is_empty() {
                push_label(&mut bytes, name, value);
            }
        }
        Ok(Labels {
            bytes: bytes.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sorted_and_read_back() {
        let labels = Labels::from_pairs([("job", "x"), ("__name__", "up"), ("empty", "")]).unwrap();
        assert_eq!(labels.to_string(), r#"{__name__="up", job="x"}"#);
        assert_eq!(labels.metric_name(), "up");
        assert_eq!(Labels::from_bytes(labels.as_bytes()).unwrap(), labels);
        assert_eq!(labels.without(|n| n == "job").len(), 1);
    }

    #[test]
    fn duplicates_and_empty_names_are_refused() {
        assert!(matches!(
            Labels::from_pairs([("a", "1"), ("a", "2")]),
            Err(LabelsError::Duplicate(name)) if name == "a"
        ));
        assert_eq!(Labels::from_pairs([("", "1")]), Err(LabelsError::EmptyName));
    }

    #[test]
    fn a_set_has_one_encoding() {
        // The length of the value is 1, padded to three bytes. Found by fuzzing.
        let padded = b"\x08__name__\x81\x80\x00x";
        assert_eq!(Labels::from_bytes(padded), Err(LabelsError::Malformed(0)));
    }

    #[test]
    fn order_is_by_name_then_value() {
        let set = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
        assert!(set(&[("a", "b")]) < set(&[("a", "b"), ("c", "d")]));
        assert!(set(&[("a", "b"), ("c", "d")]) < set(&[("a", "c")]));
        assert!(set(&[("aa", "a")]) > set(&[("a", "zz")]));
    }

    #[test]
    fn order_is_that_of_the_pairs() {
        let texts = [
            "a",
            "b",
            "aa",
            "instance-00001",
            "instance-00002",
            "é",
            "zzzzzzzzz",
        ];
        let mut sets = vec![Labels::empty()];
        for name in texts {
            for value in texts {
                sets.push(Labels::from_pairs([("__name__", "x"), (name, value)]).unwrap());
                let more = [("__name__", "x"), (name, value), ("zz", value)];
                sets.push(Labels::from_pairs(more).unwrap());
                sets.push(
                    Labels::from_pairs([(name, value), ("zz", "long".repeat(50).as_str())])
                        .unwrap(),
                );
            }
        }
        for a in &sets {
            for b in &sets {
                assert_eq!(a.cmp(b), a.iter().cmp(b.iter()), "{a} {b}");
            }
        }
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let good = Labels::from_pairs([("a", "bc"), ("d", "e")]).unwrap();
        for cut in 1..good.as_bytes().len() {
            let _ = Labels::from_bytes(&good.as_bytes()[..cut]);
        }
        assert!(Labels::from_bytes(&[1, b'b', 1, b'x', 1, b'a', 1, b'x']).is_err());
        assert!(Labels::from_bytes(&[0xff; 12]).is_err());
        assert!(Labels::from_bytes(&[1, 0xff, 1, b'a']).is_err());
    }
}
