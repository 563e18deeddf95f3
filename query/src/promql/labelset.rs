//! Label sets as PromQL's operators see them: canonical bytes, cut and compared without building
//! a [`Labels`].
//!
//! The canonical bytes of a set are the concatenation of its labels' encodings in the order of
//! their names (see `chronolith_engine::model::labels`). Hence leaving labels out of the bytes gives
//! the canonical bytes of the smaller set: a grouping key *is* the label set of its group, and two
//! sets are equal exactly if their bytes are.
//!
//! Invariant: every slice handed to this module came from a [`Labels`]; what does not parse is
//! treated as the end of the set.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chronolith_engine::codec::varint;
use chronolith_engine::model::Labels;

use super::ast::METRIC_NAME;

/// Labels that describe the metric rather than the series: they go when the value is no longer
/// that of the metric.
pub const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// One label of an encoded set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedLabel<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Name and value with their lengths, as they stand in the set.
    pub encoded: &'a [u8],
}

/// Walks the labels of an encoded set in the order of their names.
#[derive(Debug, Clone)]
pub struct EncodedLabels<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The labels of `bytes`.
#[inline]
pub fn iter(bytes: &[u8]) -> EncodedLabels<'_> {
    EncodedLabels { bytes, at: 0 }
}

impl<'a> Iterator for EncodedLabels<'a> {
    type Item = EncodedLabel<'a>;

    #[inline]
    fn next(&mut self) -> Option<EncodedLabel<'a>> {
        let start = self.at;
        let name = take(self.bytes, &mut self.at)?;
        let value = take(self.bytes, &mut self.at)?;
        let encoded = self.bytes.get(start..self.at)?;
        Some(EncodedLabel {
            name,
            value,
            encoded,
        })
    }
}

#[inline]
fn take<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = usize::try_from(varint::read_u64(bytes, at)?).ok()?;
    let end = at.checked_add(length)?;
    let part = bytes.get(*at..end)?;
    *at = end;
    Some(part)
}

/// Appends one encoded label.
pub fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    varint::write_u64(out, name.len() as u64);
    out.extend_from_slice(name);
    varint::write_u64(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// The value of `name`; empty if the set does not have it.
pub fn get<'a>(bytes: &'a [u8], name: &str) -> &'a str {
    iter(bytes)
        .find(|l| l.name == name.as_bytes())
        .and_then(|l| std::str::from_utf8(l.value).ok())
        .unwrap_or("")
}

/// The metric name, or the empty string.
pub fn metric_name(bytes: &[u8]) -> &str {
    get(bytes, METRIC_NAME)
}

/// The order of label sets: name by name, then value, bytewise; a beginning comes first.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let pair = |l: EncodedLabel<'_>| (l.name.to_owned(), l.value.to_owned());
    if a == b {
        return Ordering::Equal;
    }
    let (mut a, mut b) = (iter(a), iter(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.encoded == y.encoded => {}
            (Some(x), Some(y)) => return pair(x).cmp(&pair(y)),
        }
    }
}

/// Whether the label describes the metric rather than the series.
#[inline]
pub fn is_metadata(name: &[u8]) -> bool {
    name.starts_with(b"__") && METADATA_LABELS.iter().any(|m| m.as_bytes() == name)
}

/// The set without the labels that describe the metric.
pub fn without_metadata(bytes: &[u8]) -> Vec<u8> {
    filter(bytes, |name| !is_metadata(name))
}

/// The labels whose names pass `keep`.
pub fn filter(bytes: &[u8], keep: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    filter_into(bytes, keep, &mut out);
    out
}

/// As [`filter`], into a buffer that is cleared first.
#[inline]
pub fn filter_into(bytes: &[u8], keep: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    out.clear();
    for label in iter(bytes).filter(|l| keep(l.name)) {
        out.extend_from_slice(label.encoded);
    }
}

/// The set of one label's change: `name` set to `value`, or removed if `value` is empty.
pub fn with(bytes: &[u8], name: &str, value: &str) -> Vec<u8> {
    edit(bytes, [(name, value)])
}

/// The set with several labels set, or removed where the value is empty.
pub fn edit<'n>(bytes: &[u8], changes: impl IntoIterator<Item = (&'n str, &'n str)>) -> Vec<u8> {
    let mut labels: BTreeMap<&[u8], &[u8]> = iter(bytes).map(|l| (l.name, l.value)).collect();
    for (name, value) in changes {
        if value.is_empty() {
            labels.remove(name.as_bytes());
        } else {
            labels.insert(name.as_bytes(), value.as_bytes());
        }
    }
    let mut out = Vec::with_capacity(bytes.len() + 16);
    for (name, value) in labels {
        push(&mut out, name, value);
    }
    out
}

/// Chooses labels by name: the rule of `by`, `without`, `on` and `ignoring`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelChoice {
    names: Vec<String>,
    keep: bool,
}

impl LabelChoice {
    /// Keeps exactly the labels in `names` (`by`, `on`).
    pub fn only(names: &[String]) -> Self {
        Self {
            names: names.to_vec(),
            keep: true,
        }
    }

    /// Keeps all labels but those in `names` and the metric name (`without`, `ignoring`).
    pub fn all_but(names: &[String]) -> Self {
        let mut names = names.to_vec();
        names.push(METRIC_NAME.to_owned());
        Self { names, keep: false }
    }

    /// The names, and whether they are kept rather than left out.
    pub fn parts(&self) -> (&[String], bool) {
        (&self.names, self.keep)
    }

    /// Whether a label of this name stays.
    #[inline]
    pub fn keeps(&self, name: &[u8]) -> bool {
        self.names.iter().any(|n| n.as_bytes() == name) == self.keep
    }

    /// The chosen part of a set.
    pub fn of(&self, bytes: &[u8]) -> Vec<u8> {
        filter(bytes, |name| self.keeps(name))
    }

    /// As [`of`](Self::of), into a buffer that is cleared first.
    #[inline]
    pub fn of_into(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.keep && self.names.is_empty() {
            out.clear();
        } else {
            filter_into(bytes, |name| self.keeps(name), out);
        }
    }
}

/// The set as text for messages, as Prometheus prints it: `{a="b", c="d"}`, the metric name before
/// the braces is not split off.
pub fn text(bytes: &[u8]) -> String {
    Labels::from_bytes(bytes).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Vec<u8> {
        Labels::from_pairs(pairs.iter().copied())
            .unwrap()
            .as_bytes()
            .to_vec()
    }

    #[test]
    fn parts_of_sets_are_sets() {
        let labels = set(&[("__name__", "up"), ("instance", "a"), ("job", "x")]);
        assert_eq!(
            LabelChoice::only(&["job".into()]).of(&labels),
            set(&[("job", "x")])
        );
        assert_eq!(
            LabelChoice::all_but(&["job".into()]).of(&labels),
            set(&[("instance", "a")])
        );
        assert_eq!(
            without_metadata(&labels),
            set(&[("instance", "a"), ("job", "x")])
        );
        assert_eq!(metric_name(&labels), "up");
        assert_eq!(get(&labels, "nope"), "");
    }

    #[test]
    fn edits_keep_the_order() {
        let labels = set(&[("b", "1"), ("d", "2")]);
        assert_eq!(
            with(&labels, "c", "x"),
            set(&[("b", "1"), ("c", "x"), ("d", "2")])
        );
        assert_eq!(with(&labels, "b", ""), set(&[("d", "2")]));
        assert_eq!(with(&labels, "b", "9"), set(&[("b", "9"), ("d", "2")]));
    }

    #[test]
    fn order_is_that_of_labels() {
        let sets = [
            set(&[]),
            set(&[("a", "b")]),
            set(&[("a", "b"), ("c", "d")]),
            set(&[("a", "c")]),
        ];
        for (i, a) in sets.iter().enumerate() {
            for (j, b) in sets.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j));
            }
        }
    }
}
