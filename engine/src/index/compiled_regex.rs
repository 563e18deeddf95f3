//! Regexes of matchers: compiled once, known by what they match, and kept for the next query.
//!
//! A dashboard asks with the same patterns again and again. Compiling one, and filling the table of
//! states that it runs on, costs more than running it over the values of a label, so compiled
//! patterns are shared by the whole process, up to [`KEPT_MAX`] of them. Only small ones are kept, so
//! that hostile patterns cannot hold much memory.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::error::EngineError;
use crate::limits;

/// Compiled patterns that are kept.
const KEPT_MAX: usize = 64;
/// Bytes of a compiled pattern that is kept, and of the states that it runs on, each.
const KEPT_BYTES_MAX: usize = 128 << 10;

/// The patterns that were used last, with the numbers of their last uses.
static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

#[derive(Default)]
struct Kept {
    uses: u64,
    by_pattern: HashMap<Box<str>, (u64, Arc<CompiledRegex>)>,
}

impl Kept {
    fn get(&mut self, pattern: &str) -> Option<Arc<CompiledRegex>> {
        let (last_use, regex) = self.by_pattern.get_mut(pattern)?;
        self.uses += 1;
        *last_use = self.uses;
        Some(Arc::clone(regex))
    }

    fn insert(&mut self, pattern: &str, regex: &Arc<CompiledRegex>) {
        if self.by_pattern.len() >= KEPT_MAX {
            let oldest = self.by_pattern.iter().min_by_key(|(_, (last, _))| *last);
            let oldest = oldest.map(|(pattern, _)| pattern.clone());
            oldest.and_then(|pattern| self.by_pattern.remove(&pattern));
        }
        self.uses += 1;
        let kept = (self.uses, Arc::clone(regex));
        self.by_pattern.insert(pattern.into(), kept);
    }
}

/// A regex and what can be known of it without running it.
pub(super) struct CompiledRegex {
    regex: regex::Regex,
    /// All strings it can match, if they are few: `a|b|c`.
    literals: Option<Vec<String>>,
    /// What every match starts with; may be empty.
    prefix: String,
    shape: Shape,
}

/// What has to be looked at besides the prefix. Most patterns of dashboards need no automaton at all,
/// and of the others a search for a literal refuses most values at a fraction of its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// `.*` behind the prefix, which may be empty.
    Prefix,
    /// `.+`
    NotEmpty,
    /// `.*literal`
    Suffix(String),
    /// `.*literal.*`
    Contains(String),
    /// Any other pattern: what every match ends with, and what every match has somewhere; both may be
    /// empty.
    Automaton { suffix: String, inner: String },
}

impl CompiledRegex {
    /// The compiled form of a pattern, anchored at both ends.
    pub(super) fn of(pattern: &str) -> Result<Arc<Self>, EngineError> {
        if let Some(known) = KEPT.lock().get_or_insert_default().get(pattern) {
            return Ok(known);
        }
        let (regex, is_small) = Self::compile(pattern)?;
        let regex = Arc::new(regex);
        if is_small {
            KEPT.lock().get_or_insert_default().insert(pattern, &regex);
        }
        Ok(regex)
    }

    /// Compiles a pattern; also whether it is small enough to be kept.
    fn compile(pattern: &str) -> Result<(Self, bool), EngineError> {
        let refuse =
            |reason: String| EngineError::InvalidArgument(format!("regex {pattern:?}: {reason}"));
        if pattern.len() > limits::REGEX_PATTERN_BYTES_MAX {
            return Err(EngineError::InvalidArgument(format!(
                "regex of {} bytes, at most {} are allowed",
                pattern.len(),
                limits::REGEX_PATTERN_BYTES_MAX
            )));
        }
        let hir = regex_syntax::ParserBuilder::new()
            .dot_matches_new_line(true)
            .nest_limit(limits::REGEX_NESTING_MAX)
            .build()
            .parse(pattern)
            .map_err(|e| refuse(one_line(&e.to_string())))?;
        let within = |bytes_max: usize| {
            regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
                .size_limit(bytes_max)
                .dfa_size_limit(bytes_max)
                .nest_limit(limits::REGEX_NESTING_MAX + 2)
                .build()
        };
        let small = Some(pattern)
            .filter(|pattern| pattern.len() <= KEPT_BYTES_MAX / 8)
            .and_then(|_| within(KEPT_BYTES_MAX).ok());
        let is_small = small.is_some();
        let regex = match small {
            Some(regex) => regex,
            None => within(limits::REGEX_COMPILED_BYTES_MAX)
                .map_err(|e| refuse(one_line(&e.to_string())))?,
        };
        let literals = literal_set(&hir).filter(|l| l.len() <= limits::REGEX_LITERALS_MAX);
        let compiled = Self {
            regex,
            literals,
            prefix: literal_prefix(&hir),
            shape: shape(&hir),
        };
        Ok((compiled, is_small))
    }

    /// All strings it can match, if they are few.
    pub(super) fn literals(&self) -> Option<&[String]> {
        self.literals.as_deref()
    }

    /// What every match starts with; may be empty.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn is_match(&self, value: &str) -> bool {
        match &self.literals {
            Some(literals) if literals.len() <= 4 => literals.iter().any(|l| l == value),
            _ => value.starts_with(&self.prefix) && self.matches_shape(value),
        }
    }

    fn matches_shape(&self, value: &str) -> bool {
        match &self.shape {
            Shape::Prefix => true,
            Shape::NotEmpty => !value.is_empty(),
            Shape::Suffix(literal) => value.ends_with(literal),
            Shape::Contains(literal) => value.contains(literal),
            Shape::Automaton { suffix, inner } => {
                value.ends_with(suffix)
                    && (inner.is_empty() || value.contains(inner))
                    && self.regex.is_match(value)
            }
        }
    }

    /// Whether it matches every string.
    pub(super) fn matches_all(&self) -> bool {
        self.shape == Shape::Prefix && self.prefix.is_empty()
    }
}

/// The parser draws the pattern with a caret below; the last line holds the reason.
fn one_line(text: &str) -> String {
    let last = text.lines().last().unwrap_or(text);
    last.trim_start_matches("error: ").to_owned()
}

/// All strings a pattern can match, when it is made of literals, groups and alternations alone.
fn literal_set(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![String::from_utf8(literal.0.to_vec()).ok()?]),
        HirKind::Capture(capture) => literal_set(&capture.sub),
        HirKind::Class(Class::Unicode(class)) => {
            let count: u32 = class
                .iter()
                .map(|r| r.end() as u32 - r.start() as u32 + 1)
                .sum();
            if count > 16 {
                return None;
            }
            Some(
                class
                    .iter()
                    .flat_map(|r| (r.start()..=r.end()).map(String::from))
                    .collect(),
            )
        }
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(literal_set(part)?);
                if all.len() > limits::REGEX_LITERALS_MAX {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Concat(parts) => {
            let mut all = vec![String::new()];
            for part in parts {
                let tails = literal_set(part)?;
                if all.len() * tails.len() > limits::REGEX_LITERALS_MAX {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|a| tails.iter().map(move |t| format!("{a}{t}")))
                    .collect();
            }
            Some(all)
        }
        _ => None,
    }
}

/// What every match starts with.
fn literal_prefix(hir: &Hir) -> String {
    match hir.kind() {
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).unwrap_or_default(),
        HirKind::Capture(capture) => literal_prefix(&capture.sub),
        HirKind::Concat(parts) => {
            let mut prefix = String::new();
            for part in parts {
                match part.kind() {
                    HirKind::Literal(_) => prefix.push_str(&literal_prefix(part)),
                    _ => {
                        prefix.push_str(&literal_prefix(part));
                        break;
                    }
                }
            }
            prefix
        }
        _ => String::new(),
    }
}

/// The parts of a pattern that follow each other, without groups and nested sequences.
fn flatten<'a>(hir: &'a Hir, parts: &mut Vec<&'a Hir>) {
    match hir.kind() {
        HirKind::Capture(capture) => flatten(&capture.sub, parts),
        HirKind::Concat(inner) => inner.iter().for_each(|part| flatten(part, parts)),
        HirKind::Empty => {}
        _ => parts.push(hir),
    }
}

/// Whether a part is `.*` (with 0) or `.+` (with 1).
fn is_run_of_any(part: &Hir, min: u32) -> bool {
    let HirKind::Repetition(repetition) = part.kind() else {
        return false;
    };
    let HirKind::Class(Class::Unicode(class)) = repetition.sub.kind() else {
        return false;
    };
    let all = [('\0', char::MAX)];
    let ranges = class.iter().map(|range| (range.start(), range.end()));
    repetition.min == min && repetition.max.is_none() && ranges.eq(all)
}

fn literal(part: &Hir) -> Option<&str> {
    match part.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok(),
        _ => None,
    }
}

fn shape(hir: &Hir) -> Shape {
    let mut parts = Vec::new();
    flatten(hir, &mut parts);
    let any = |part: &Hir| is_run_of_any(part, 0);
    match *parts {
        [only] if any(only) => return Shape::Prefix,
        [only] if is_run_of_any(only, 1) => return Shape::NotEmpty,
        [first, second] => match (literal(first), literal(second)) {
            (Some(_), None) if any(second) => return Shape::Prefix,
            (None, Some(suffix)) if any(first) => return Shape::Suffix(suffix.to_owned()),
            _ => {}
        },
        [first, middle, last] if any(first) && any(last) => {
            if let Some(inner) = literal(middle) {
                return Shape::Contains(inner.to_owned());
            }
        }
        _ => {}
    }
    let suffix = parts.last().and_then(|last| literal(last)).unwrap_or("");
    // The first and the last part are looked at already if they are literals.
    let middle = parts.get(1..parts.len().saturating_sub(1)).unwrap_or(&[]);
    let inner = middle.iter().filter_map(|part| literal(part));
    Shape::Automaton {
        suffix: suffix.to_owned(),
        inner: inner.max_by_key(|l| l.len()).unwrap_or("").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_stand_in_for_the_automaton_where_they_can() {
        let shape_of = |pattern: &str| CompiledRegex::compile(pattern).unwrap().0.shape;
        let text = str::to_owned;
        let automaton = |suffix: &str, inner: &str| Shape::Automaton {
            suffix: text(suffix),
            inner: text(inner),
        };
        for (pattern, expected) in [
            (".*", Shape::Prefix),
            ("(api-).*", Shape::Prefix),
            (".+", Shape::NotEmpty),
            (".*-7", Shape::Suffix(text("-7"))),
            (".*(?:api).*", Shape::Contains(text("api"))),
            ("a.+", automaton("", "")),
            (".+api.+", automaton("", "api")),
            ("a[0-9]+-long-x?b", automaton("b", "-long-")),
            ("(?i).*api", automaton("", "")),
            (".*a|b.*", automaton("", "")),
            ("(?-s).*a", automaton("a", "")),
            ("(a.*)?", automaton("", "")),
        ] {
            assert_eq!(shape_of(pattern), expected, "{pattern}");
        }
        let values = [
            "",
            "a",
            "b",
            "api",
            "api-7",
            "-7",
            "7api",
            "ap\ni",
            "a1-long-b",
            "aba",
            "\n",
        ];
        let patterns = [
            ".*",
            ".+",
            "api.*",
            ".*-7",
            ".*api.*",
            ".+api.*",
            "a.+",
            "a.*a",
            "ab.*ba",
            "a.*i",
            "(?-s).+",
            "a[0-9]+-long-x?b",
            "(a|).*",
            ".*(b|7)",
            "a{2}.*",
            ".*.*",
            "(.*)(api)(.*)",
            "^a.*",
            ".*i$",
        ];
        for pattern in patterns {
            let (compiled, _) = CompiledRegex::compile(pattern).unwrap();
            for value in values {
                let expected = compiled.regex.is_match(value);
                assert_eq!(compiled.is_match(value), expected, "{pattern} on {value:?}");
            }
            let all = values.iter().all(|value| compiled.is_match(value));
            assert!(all || !compiled.matches_all(), "{pattern}");
        }
    }

    #[test]
    fn small_patterns_are_compiled_once() {
        let first = CompiledRegex::of("kept-[0-9]+").unwrap();
        let again = CompiledRegex::of("kept-[0-9]+").unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let large = "large-\\w{12}";
        let [a, b] = [0; 2].map(|_| CompiledRegex::of(large).unwrap());
        assert!(!Arc::ptr_eq(&a, &b));
    }

    #[test]
    fn the_pattern_that_was_not_used_for_longest_goes() {
        let mut kept = Kept::default();
        let (regex, _) = CompiledRegex::compile("x+").unwrap();
        let regex = Arc::new(regex);
        for number in 0..KEPT_MAX {
            kept.insert(&number.to_string(), &regex);
        }
        assert!(kept.get("0").is_some());
        kept.insert("new", &regex);
        assert_eq!(kept.by_pattern.len(), KEPT_MAX);
        assert!(kept.get("1").is_none());
        assert!(kept.get("0").is_some() && kept.get("new").is_some());
    }
}
