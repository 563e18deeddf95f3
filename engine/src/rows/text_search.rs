//! Testing the text of many rows at once: a pattern is searched in the whole run of bytes, and hits
//! are mapped to rows.
//!
//! A hit that reaches over the end of its row is none. For substrings the search goes on one byte
//! behind such a hit. For regexes the row is tested alone, and the search goes on in the next one; that
//! is exact for patterns that do not look around (anchors, word boundaries), since then a match inside
//! a row does not depend on what stands beside it, and cheap for patterns whose matches are short.

use memchr::memmem;

use super::request::{TextPattern, TextTest};
use super::select::Selection;
use crate::codec::strings::Strings;

/// Matches longer than this are not searched over row ends: each could reach far into other rows.
const MATCH_BYTES_MAX: usize = 128;
/// Below this share of all rows, rows are tested one by one.
const DENSE_SHARE: usize = 4;

/// Keeps the rows whose text passes.
pub(super) fn retain(texts: &Strings, test: &TextTest, rows: &mut Selection) {
    let is_dense = rows.len() * DENSE_SHARE >= texts.len();
    let hits = match &test.pattern {
        TextPattern::Contains(part) if is_dense && !part.is_empty() => {
            Some(rows_with_part(texts, part.as_bytes()))
        }
        TextPattern::Regex(regex) if is_dense && is_local(regex) => {
            Some(rows_with_match(texts, regex))
        }
        _ => None,
    };
    match hits {
        Some(hits) if test.negated => rows.remove(&hits),
        Some(hits) => rows.intersect(&hits),
        None => rows.retain(|row| test.passes(texts.get(row as usize).unwrap_or(&[]))),
    }
}

/// Finds the row of a place in the run: places are asked for in ascending order.
struct RowAt<'a> {
    offsets: &'a [i32],
    row: usize,
}

impl RowAt<'_> {
    /// The row that holds the byte at `place`, and where it ends.
    fn find(&mut self, place: usize) -> (usize, usize) {
        let end = |row: usize| {
            self.offsets
                .get(row + 1)
                .map_or(usize::MAX, |end| *end as usize)
        };
        // Most hits are near the one before: steps double until they pass the place.
        let mut step = 1;
        while end(self.row + step) <= place {
            self.row += step;
            step *= 2;
        }
        let mut low = self.row;
        let mut high = self.row + step;
        while low < high {
            let middle = usize::midpoint(low, high);
            if end(middle) <= place {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.row = low;
        (low, end(low))
    }
}

fn rows_with_part(texts: &Strings, part: &[u8]) -> Vec<u32> {
    let (offsets, bytes) = texts.parts();
    let finder = memmem::Finder::new(part);
    let mut row_at = RowAt { offsets, row: 0 };
    let mut hits = Vec::new();
    let mut at = 0;
    while let Some(hit) = bytes.get(at..).and_then(|rest| finder.find(rest)) {
        let hit = at + hit;
        let (row, end) = row_at.find(hit);
        if hit + part.len() <= end {
            hits.push(row as u32);
            at = end;
        } else {
            at = hit + 1;
        }
    }
    hits
}

/// Whether matches depend on nothing outside of themselves, are short, and are never empty.
fn is_local(regex: &regex::bytes::Regex) -> bool {
    let parsed = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .build()
        .parse(regex.as_str());
    parsed.is_ok_and(|hir| {
        let properties = hir.properties();
        properties.look_set().is_empty()
            && properties.minimum_len().is_some_and(|length| length > 0)
            && properties
                .maximum_len()
                .is_some_and(|length| length <= MATCH_BYTES_MAX)
    })
}

fn rows_with_match(texts: &Strings, regex: &regex::bytes::Regex) -> Vec<u32> {
    let (offsets, bytes) = texts.parts();
    let mut row_at = RowAt { offsets, row: 0 };
    let mut hits = Vec::new();
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| regex.find(rest)) {
        let (row, end) = row_at.find(at + found.start());
        if at + found.end() <= end || texts.get(row).is_some_and(|text| regex.is_match(text)) {
            hits.push(row as u32);
        }
        at = end;
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Strings {
        let mut strings = Strings::default();
        texts.iter().for_each(|text| strings.push(text.as_bytes()));
        strings
    }

    #[test]
    fn hits_never_reach_over_row_ends() {
        let texts = ["ab", "", "abab", "xa", "b", "aab", "", "no", "xxab", "bab"];
        let texts = strings(&texts);
        let patterns = [
            TextPattern::Contains("ab".into()),
            TextPattern::Contains("ba".into()),
            TextPattern::Contains("bx".into()),
            TextPattern::Contains("".into()),
            TextPattern::regex("a+b").unwrap(),
            TextPattern::regex("(?i)A{1,3}B").unwrap(),
            TextPattern::regex("b[a-z]").unwrap(),
            TextPattern::regex("^a").unwrap(),
            TextPattern::regex("b$").unwrap(),
            TextPattern::regex("x?").unwrap(),
            TextPattern::AnyOf(vec![
                TextPattern::Equals("b".into()),
                TextPattern::Contains("xx".into()),
            ]),
        ];
        for pattern in patterns {
            for negated in [false, true] {
                let test = TextTest {
                    pattern: pattern.clone(),
                    negated,
                };
                let mut rows = Selection::All(texts.len());
                retain(&texts, &test, &mut rows);
                let passing = texts
                    .iter()
                    .enumerate()
                    .filter(|(_, text)| test.passes(text));
                let expected: Vec<u32> = passing.map(|(row, _)| row as u32).collect();
                assert_eq!(rows.into_rows(), expected, "{test:?}");
            }
        }
    }
}
