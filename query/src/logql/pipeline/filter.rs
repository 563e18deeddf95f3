//! Filters of lines and of labels, compiled.

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::super::ast::{self, CompareOp, LineOp, MatchOp};
use super::super::ip::IpMatcher;
use super::super::pattern::LinePattern;
use super::super::{regexes, units};
use super::labels::{BaseLabels, ERROR_LABEL, Labels, NameId, Names};

/// `__error__` of a label whose value a filter cannot read.
pub const FILTER_ERROR: &str = "LabelFilterErr";

/// What a line filter looks for.
#[derive(Debug, Clone)]
enum Needle {
    Text(Box<Finder<'static>>),
    Regex(Regex),
    Pattern(LinePattern),
    Ip(IpMatcher),
}

impl Needle {
    #[inline]
    fn is_in(&self, line: &[u8]) -> bool {
        match self {
            Self::Text(finder) => finder.find(line).is_some(),
            Self::Regex(regex) => regex.is_match(line),
            Self::Pattern(pattern) => pattern.is_match(line),
            Self::Ip(ip) => ip.is_in(line),
        }
    }
}

/// A line filter, ready to run.
#[derive(Debug, Clone)]
pub(super) struct LineFilter {
    negative: bool,
    needles: Vec<Needle>,
}

impl LineFilter {
    pub(super) fn new(filter: &ast::LineFilter) -> Result<Self, String> {
        let needle = |alternative: &ast::LinePattern| {
            let text = &alternative.text;
            Ok(match (filter.op, alternative.ip) {
                (LineOp::Contains | LineOp::NotContains, true) => Needle::Ip(IpMatcher::new(text)?),
                (_, true) => return Err("ip: invalid operation".to_owned()),
                (LineOp::Contains | LineOp::NotContains, false) => {
                    Needle::Text(Box::new(Finder::new(text.as_bytes()).into_owned()))
                }
                (LineOp::Regex | LineOp::NotRegex, false) => {
                    Needle::Regex(regexes::of_lines(text)?)
                }
                (LineOp::Pattern | LineOp::NotPattern, false) => {
                    Needle::Pattern(LinePattern::of_filter(text)?)
                }
            })
        };
        Ok(Self {
            negative: filter.op.is_negative(),
            needles: filter
                .alternatives
                .iter()
                .map(needle)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether the line stays.
    #[inline]
    pub(super) fn keeps(&self, line: &[u8]) -> bool {
        self.needles.iter().any(|needle| needle.is_in(line)) != self.negative
    }
}

/// What a text is compared with.
#[derive(Debug, Clone)]
enum Wanted {
    Text(Box<[u8]>),
    Regex(Regex),
}

/// `name="value"`, ready to run.
#[derive(Debug, Clone)]
pub(super) struct ValueMatcher {
    negative: bool,
    wanted: Wanted,
}

impl ValueMatcher {
    pub(super) fn new(op: MatchOp, value: &str) -> Result<Self, String> {
        let wanted = if op.is_regex() {
            Wanted::Regex(regexes::of_values(value)?)
        } else {
            Wanted::Text(value.as_bytes().into())
        };
        Ok(Self {
            negative: op.is_negative(),
            wanted,
        })
    }

    #[inline]
    pub(super) fn is_match(&self, value: &[u8]) -> bool {
        let holds = match &self.wanted {
            Wanted::Text(text) => **text == *value,
            Wanted::Regex(regex) => regex.is_match(value),
        };
        holds != self.negative
    }
}

/// A label filter, ready to run.
#[derive(Debug, Clone)]
pub(super) enum LabelFilter {
    Error(ValueMatcher),
    Text(NameId, ValueMatcher),
    Ip(NameId, bool, IpMatcher),
    Duration(NameId, CompareOp, i64),
    Bytes(NameId, CompareOp, u64),
    Number(NameId, CompareOp, f64),
    And(Box<LabelFilter>, Box<LabelFilter>),
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

impl LabelFilter {
    pub(super) fn new(filter: &ast::LabelFilter, names: &mut Names) -> Result<Self, String> {
        Ok(match filter {
            ast::LabelFilter::Matcher(m) => {
                let matcher = ValueMatcher::new(m.op, &m.value)?;
                if m.name == ERROR_LABEL {
                    Self::Error(matcher)
                } else {
                    Self::Text(names.intern(&m.name), matcher)
                }
            }
            ast::LabelFilter::Ip {
                name,
                negative,
                pattern,
            } => Self::Ip(names.intern(name), *negative, IpMatcher::new(pattern)?),
            ast::LabelFilter::Duration { name, op, ns } => {
                Self::Duration(names.intern(name), *op, *ns)
            }
            ast::LabelFilter::Bytes { name, op, bytes } => {
                Self::Bytes(names.intern(name), *op, *bytes)
            }
            ast::LabelFilter::Number { name, op, value } => {
                Self::Number(names.intern(name), *op, *value)
            }
            ast::LabelFilter::And(a, b) => Self::And(
                Box::new(Self::new(a, names)?),
                Box::new(Self::new(b, names)?),
            ),
            ast::LabelFilter::Or(a, b) => Self::Or(
                Box::new(Self::new(a, names)?),
                Box::new(Self::new(b, names)?),
            ),
        })
    }

    /// Whether the entry stays. A value that cannot be read is an error, and the entry stays.
    pub(super) fn keeps(&self, labels: &mut Labels, base: &BaseLabels) -> bool {
        match self {
            Self::Error(matcher) => matcher.is_match(labels.error.as_bytes()),
            Self::Text(name, matcher) => {
                let value = labels.get(base, *name).map_or(&[][..], |(value, _)| value);
                matcher.is_match(value)
            }
            Self::Ip(name, negative, ip) => labels
                .get(base, *name)
                .is_some_and(|(value, _)| ip.is_in(value) != *negative),
            Self::Duration(name, op, wanted) => {
                compare(labels, base, *name, *op, wanted, units::parse_go_duration)
            }
            Self::Bytes(name, op, wanted) => {
                compare(labels, base, *name, *op, wanted, units::parse_bytes)
            }
            Self::Number(name, op, wanted) => {
                compare(labels, base, *name, *op, wanted, units::parse_go_float)
            }
            Self::And(a, b) => {
                // Both run, so that the error of either is seen.
                let left = a.keeps(labels, base);
                b.keeps(labels, base) && left
            }
            Self::Or(a, b) => a.keeps(labels, base) || b.keeps(labels, base),
        }
    }

    /// Calls `visit` with every label that is looked at; errors by their own label.
    pub(super) fn names(&self, visit: &mut impl FnMut(Option<NameId>)) {
        match self {
            Self::Error(_) => visit(None),
            Self::Text(name, _)
            | Self::Ip(name, ..)
            | Self::Duration(name, ..)
            | Self::Bytes(name, ..)
            | Self::Number(name, ..) => visit(Some(*name)),
            Self::And(a, b) | Self::Or(a, b) => {
                a.names(visit);
                b.names(visit);
            }
        }
    }
}

fn compare<T: PartialOrd>(
    labels: &mut Labels,
    base: &BaseLabels,
    name: NameId,
    op: CompareOp,
    wanted: &T,
    read: impl Fn(&str) -> Result<T, String>,
) -> bool {
    let Some((value, _)) = labels.get(base, name) else {
        return false;
    };
    let text = match std::str::from_utf8(value) {
        Ok(text) => read(text),
        Err(_) => read(&String::from_utf8_lossy(value)),
    };
    match text {
        Ok(value) => op.holds(&value, wanted),
        Err(error) => {
            labels.fail(FILTER_ERROR, || error);
            true
        }
    }
}
