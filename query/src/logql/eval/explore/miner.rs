//! What lines look like: lines that differ only in what varies become one pattern with `<_>` in it.
//!
//! After Drain (He, Zhu, Zheng and Lyu, "Drain: An Online Log Parsing Approach with Fixed Depth Tree",
//! ICWS 2017). A line is words and the gaps between them. Only lines with the same gaps can share a
//! pattern, so that a pattern is also a filter of lines (`|> "…<_>…"`) that finds the lines it was made
//! of. Among those a line joins the pattern that is most alike, if enough of its words are; words in
//! which it differs become holes. Words with digits, and outlines of the store, are expected to vary: they
//! speak neither for nor against.
//!
//! Memory is bounded: by the number of patterns, the length of a line, and the number of counts.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use chronolith_engine::rows::OUTLINE_SLOT as HOLE;

/// Patterns that are told apart.
const PATTERNS_MAX: usize = 2_000;
/// Patterns with the same gaps: each line is compared with them.
const ALTERNATIVES_MAX: usize = 64;
/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 2_000;
/// Counts of all patterns together.
const COUNTS_MAX: usize = 1_000_000;
/// The share of words that a line must have in common with a pattern.
const LIKENESS_MIN: f64 = 0.65;
/// The same where there is no room for a pattern of its own.
const LIKENESS_MIN_FULL: f64 = 0.4;

/// A pattern and when lines of it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPattern {
    /// Text, with `<_>` for what varies.
    pub pattern: String,
    /// Lines.
    pub count: u64,
    /// Lines per piece of time, by its number; only pieces with lines.
    pub samples: Vec<(i64, u64)>,
}

/// Collects lines into patterns.
#[derive(Debug, Default)]
pub struct PatternMiner {
    /// By their gaps.
    groups: HashMap<Box<str>, Vec<usize>>,
    clusters: Vec<Cluster>,
    counts: usize,
    /// Words and gaps of the line at hand.
    words: Vec<Range<usize>>,
    gaps: String,
}

#[derive(Debug)]
struct Cluster {
    /// `None` is a hole.
    words: Vec<Option<Box<str>>>,
    /// Each gap ends with a zero byte.
    gaps: Box<str>,
    samples: BTreeMap<i64, u64>,
}

/// Whether a byte stands between words.
fn is_gap(byte: u8) -> bool {
    byte <= b' ' || b"=\"'()[]{}<>,;:|&?!".contains(&byte)
}

/// Whether a word is expected to vary.
fn is_variable(word: &str) -> bool {
    word.bytes().any(|b| b.is_ascii_digit()) || word.contains(HOLE)
}

/// How far a line is read: all of it, or up to a border between characters.
fn cut(line: &str) -> &str {
    match line.len() <= LINE_BYTES_MAX {
        true => line,
        false => &line[..line.floor_char_boundary(LINE_BYTES_MAX)],
    }
}

impl PatternMiner {
    /// The number of the pattern that a line belongs to; none if there is no room for another one.
    pub fn place(&mut self, line: &str) -> Option<usize> {
        let text = cut(line);
        self.take_apart(text);
        if text.len() < line.len() {
            // The rest of the line is part of its last word.
            self.gaps.push('\u{1}');
        }
        let is_cut = text.len() < line.len();
        let words = &self.words;
        let of_line = |index: usize| text.get(words[index].clone()).unwrap_or_default();
        let group = self.groups.get_mut(&*self.gaps);
        let is_full = self.clusters.len() >= PATTERNS_MAX
            || group.as_ref().is_some_and(|g| g.len() >= ALTERNATIVES_MAX);
        let mut best: Option<(usize, f64)> = None;
        for (at, number) in group.iter().flat_map(|g| g.iter()).enumerate() {
            let likeness = self.clusters[*number].likeness(of_line);
            if best.is_none_or(|(_, least)| likeness > least) {
                best = Some((at, likeness));
            }
            if likeness >= 1.0 {
                break;
            }
        }
        let least = if is_full {
            LIKENESS_MIN_FULL
        } else {
            LIKENESS_MIN
        };
        if let (Some((at, likeness)), Some(group)) = (best, group)
            && likeness >= least
        {
            // What lines have come for is looked at first.
            group.swap(0, at);
            let number = group[0];
            self.clusters[number].absorb(of_line);
            return Some(number);
        }
        if is_full {
            return None;
        }
        let number = self.clusters.len();
        let mut kept: Vec<Option<Box<str>>> = (0..words.len())
            .map(|index| Some(of_line(index)).filter(|word| !word.contains(HOLE)))
            .map(|word| word.map(Box::from))
            .collect();
        if is_cut && let Some(last) = kept.last_mut() {
            *last = None;
        }
        self.clusters.push(Cluster {
            words: kept,
            gaps: self.gaps.as_str().into(),
            samples: BTreeMap::new(),
        });
        let group = self.groups.entry(self.gaps.as_str().into()).or_default();
        group.push(number);
        Some(number)
    }

    /// Counts lines of a pattern in a piece of time.
    ///
    /// # Errors
    /// There are too many counts.
    pub fn count(&mut self, number: usize, piece: i64, lines: u64) -> Result<(), String> {
        let counts = &mut self.counts;
        let cell = self.clusters[number]
            .samples
            .entry(piece)
            .or_insert_with(|| {
                *counts += 1;
                0
            });
        *cell += lines;
        match self.counts <= COUNTS_MAX {
            true => Ok(()),
            false => Err(format!(
                "more than {COUNTS_MAX} samples of patterns; ask for a larger step or a shorter range"
            )),
        }
    }

    /// The patterns with the most lines first.
    #[must_use]
    pub fn finish(self, limit: usize) -> Vec<LogPattern> {
        let mut by_text: HashMap<String, BTreeMap<i64, u64>> = HashMap::new();
        for cluster in self.clusters {
            let samples = by_text.entry(cluster.text()).or_default();
            for (piece, lines) in cluster.samples {
                *samples.entry(piece).or_default() += lines;
            }
        }
        let mut patterns: Vec<LogPattern> = by_text
            .into_iter()
            .map(|(pattern, samples)| LogPattern {
                pattern,
                count: samples.values().sum(),
                samples: samples.into_iter().collect(),
            })
            .collect();
        patterns.sort_by(|a, b| {
            b.count
                .cmp(&a.count)
                .then_with(|| a.pattern.cmp(&b.pattern))
        });
        patterns.truncate(limit);
        patterns
    }

    fn take_apart(&mut self, text: &str) {
        self.words.clear();
        self.gaps.clear();
        let bytes = text.as_bytes();
        let mut at = 0;
        loop {
            let start = at;
            while bytes.get(at).is_some_and(|b| is_gap(*b)) && !starts_hole(bytes, at) {
                at += 1;
            }
            self.gaps.push_str(&text[start..at]);
            self.gaps.push('\0');
            if at == bytes.len() {
                return;
            }
            let start = at;
            loop {
                if starts_hole(bytes, at) {
                    at += HOLE.len();
                } else if bytes.get(at).is_some_and(|b| !is_gap(*b)) {
                    at += 1;
                } else {
                    break;
                }
            }
            self.words.push(start..at);
        }
    }
}

fn starts_hole(bytes: &[u8], at: usize) -> bool {
    bytes
        .get(at..)
        .is_some_and(|rest| rest.starts_with(HOLE.as_bytes()))
}

impl Cluster {
    /// From 0 to 1: the share of words that a line with the same gaps has in common with the pattern.
    /// Names of fields must be the same, and then say nothing of the rest.
    fn likeness<'l>(&self, word: impl Fn(usize) -> &'l str) -> f64 {
        let (mut same, mut all) = (0.0, 0.0);
        let behind = self.gaps.split('\0').skip(1);
        for ((index, own), gap) in self.words.iter().enumerate().zip(behind) {
            let other = word(index);
            let is_key = gap.starts_with('=') || gap.starts_with("\":");
            match own {
                Some(own) if is_key => {
                    if **own != *other {
                        return 0.0;
                    }
                }
                Some(own) if **own == *other => {
                    same += 1.0;
                    all += 1.0;
                }
                Some(own) if is_variable(own) && is_variable(other) => {}
                Some(_) => all += 1.0,
                None if is_variable(other) => {}
                None => {
                    same += 0.5;
                    all += 1.0;
                }
            }
        }
        match all > 0.0 {
            true => same / all,
            false => 1.0,
        }
    }

    fn absorb<'l>(&mut self, word: impl Fn(usize) -> &'l str) {
        for (index, own) in self.words.iter_mut().enumerate() {
            if own.as_deref().is_some_and(|own| own != word(index)) {
                *own = None;
            }
        }
    }

    /// The pattern as text. Holes that only a colon or a comma keeps apart are one.
    fn text(&self) -> String {
        let mut parts: Vec<(&str, Option<&str>)> = Vec::with_capacity(self.words.len());
        let mut gaps = self.gaps.trim_end_matches('\u{1}').split('\0');
        for word in &self.words {
            let (gap, word) = (gaps.next().unwrap_or_default(), word.as_deref());
            let joins = matches!(gap, ":" | ",");
            if let Some((_, before)) = parts.last_mut()
                && joins
            {
                let varies = |word: &Option<&str>| word.is_none_or(is_variable);
                let has_hole = word.is_none() || before.is_none();
                if has_hole && varies(before) && varies(&word) {
                    *before = None;
                    continue;
                }
            }
            parts.push((gap, word));
        }
        let last = gaps.next().unwrap_or_default();
        let mut text = String::new();
        for (gap, word) in parts {
            text.push_str(gap);
            text.push_str(word.unwrap_or(HOLE));
        }
        text.push_str(last);
        without_captures(&text)
    }
}

/// Turns what stands in a line and looks like a hole with a name (`<ip>`) into a hole without.
fn without_captures(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let name = from[1..]
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
            .count();
        let begins = from.as_bytes().get(1).is_some_and(|b| !b.is_ascii_digit());
        let is_hole = name > 0 && begins && from.as_bytes().get(name + 1) == Some(&b'>');
        let length = if is_hole { name + 2 } else { 1 };
        match is_hole {
            // Two holes never follow each other.
            true if out.ends_with(HOLE) => {}
            true => out.push_str(HOLE),
            false => out.push('<'),
        }
        rest = &from[length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::super::super::super::pattern::LinePattern;
    use super::*;

    fn mined<'l>(lines: impl IntoIterator<Item = &'l str>) -> Vec<LogPattern> {
        let mut miner = PatternMiner::default();
        for (index, line) in lines.into_iter().enumerate() {
            if let Some(number) = miner.place(line) {
                miner.count(number, index as i64 / 10, 1).unwrap();
            }
        }
        miner.finish(usize::MAX)
    }

    fn texts(patterns: &[LogPattern]) -> Vec<&str> {
        patterns.iter().map(|p| p.pattern.as_str()).collect()
    }

    #[test]
    fn what_varies_becomes_a_hole() {
        let found = mined([
            "ts=2024-05-02T12:17:25.6Z caller=http.go:194 level=debug msg=\"POST /push (200) 33.5ms\"",
            "ts=2024-05-02T12:17:26.1Z caller=http.go:194 level=debug msg=\"POST /push (200) 1.2s\"",
            "ts=2024-05-02T12:18:26.1Z caller=http.go:194 level=debug msg=\"POST /push (500) 9ms\"",
            "connection from alice closed by peer",
            "connection from bob closed by peer",
            "something else entirely",
        ]);
        assert_eq!(
            texts(&found),
            [
                "ts=<_> caller=http.go:194 level=debug msg=\"POST /push (<_>) <_>\"",
                "connection from <_> closed by peer",
                "something else entirely",
            ]
        );
        assert_eq!(found[0].samples, [(0, 3)]);
    }

    #[test]
    fn outlines_and_lines_meet() {
        let found = mined([
            "took <_>ms for <_>",
            "took 12ms for job-7",
            "took 9ms for job-8",
        ]);
        assert_eq!(texts(&found), ["took <_> for <_>"]);
        assert_eq!(found[0].count, 3);
    }

    #[test]
    fn odd_lines_are_taken() {
        let long = "x=1 ".repeat(10_000);
        let found = mined([
            "",
            " ",
            "<",
            "<ip> is 7",
            "é<name><other>",
            "<_><_>",
            &long,
            "\0\u{1}",
        ]);
        for pattern in &found {
            assert!(pattern.pattern.len() <= LINE_BYTES_MAX + 3);
        }
        let all = texts(&found);
        assert!(
            all.contains(&"<_> is 7") && all.contains(&"é<_>"),
            "{all:?}"
        );
    }

    #[test]
    fn patterns_and_counts_are_bounded() {
        let mut miner = PatternMiner::default();
        let mut placed = 0;
        for number in 0..5_000_u32 {
            // Words without digits that have nothing in common, in many forms of gaps.
            let word: String = number
                .to_string()
                .bytes()
                .map(|b| char::from(b + 49))
                .collect();
            let line = format!("{word}{}{word}", "=".repeat(number as usize % 300 + 1));
            placed += usize::from(miner.place(&line).is_some());
        }
        assert!(miner.clusters.len() <= PATTERNS_MAX && placed < 5_000);
        let failed = (0..=COUNTS_MAX as i64).find_map(|piece| miner.count(0, piece, 1).err());
        assert!(failed.unwrap().contains("larger step"));
    }

    /// The lines of real systems, if they are there.
    #[test]
    fn patterns_of_real_lines_find_their_lines_again() {
        let shared = std::env::var_os("CHRONOLITH_SHARED").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
            Into::into,
        );
        let folder = shared.join("conformance/logs_traces/loki/pattern_lines");
        let Ok(files) = std::fs::read_dir(&folder) else {
            println!("skipped: no {}", folder.display());
            return;
        };
        let mut files_seen = 0;
        for file in files {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let found = mined(lines.iter().copied());
            let all: u64 = found.iter().map(|p| p.count).sum();
            assert_eq!(all, lines.len() as u64, "{}", path.display());
            let mut matched = vec![false; lines.len()];
            for pattern in &found {
                let Ok(filter) = LinePattern::of_filter(&pattern.pattern) else {
                    // Nothing but a hole is no filter.
                    assert!(pattern.pattern.len() <= HOLE.len(), "{}", pattern.pattern);
                    continue;
                };
                let hits = lines
                    .iter()
                    .enumerate()
                    .filter(|(_, line)| filter.is_match(line.as_bytes()));
                let hits = hits.map(|(at, _)| matched[at] = true).count();
                assert!(
                    hits as u64 >= pattern.count,
                    "{}: {}",
                    path.display(),
                    pattern.pattern
                );
            }
            assert!(matched.iter().all(|m| *m), "{}", path.display());
            assert!(
                found.len() * 3 < lines.len(),
                "{}: {}",
                path.display(),
                found.len()
            );
            println!(
                "{}: {} lines, {} patterns",
                path.display(),
                lines.len(),
                found.len()
            );
            for pattern in found.iter().take(6) {
                println!("{:6} {}", pattern.count, pattern.pattern);
            }
            files_seen += 1;
        }
        assert!(files_seen > 0);
    }
}
