//! Label matchers: `=`, `!=`, `=~`, `!~`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::compiled_regex::CompiledRegex;
use crate::error::EngineError;
use crate::model::Labels;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, fully anchored
    Regex,
    /// `!~`, fully anchored
    NotRegex,
}

impl MatchOp {
    /// As written in a selector.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A test on one label. A series without the label is tested with the empty string.
#[derive(Clone)]
pub struct Matcher {
    name: Arc<str>,
    op: MatchOp,
    value: Arc<str>,
    regex: Option<Arc<CompiledRegex>>,
}

impl Matcher {
    /// Makes a matcher; regexes are anchored at both ends, and `.` matches newlines, as in
    /// Prometheus.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] for a regex that does not parse or compiles too large.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, EngineError> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(CompiledRegex::of(value)?),
        };
        Ok(Self {
            name: Arc::from(name),
            op,
            value: Arc::from(value),
            regex,
        })
    }

    /// `name="value"`.
    #[must_use]
    pub fn equal(name: &str, value: &str) -> Self {
        Self {
            name: Arc::from(name),
            op: MatchOp::Equal,
            value: Arc::from(value),
            regex: None,
        }
    }

    /// The label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The comparison.
    #[must_use]
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or pattern.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label with this value passes; the empty string stands for a missing label.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => &*self.value == value,
            MatchOp::NotEqual => &*self.value != value,
            MatchOp::Regex => self.regex_matches(value),
            MatchOp::NotRegex => !self.regex_matches(value),
        }
    }

    fn regex_matches(&self, value: &str) -> bool {
        self.regex.as_ref().is_some_and(|r| r.is_match(value))
    }

    /// Whether the pattern of `=~` or `!~` matches: what an index looks for, whichever of the two.
    pub(crate) fn pattern_matches(&self, value: &str) -> bool {
        self.regex_matches(value)
    }

    /// All strings that the pattern of `=~` or `!~` matches, if they are few.
    pub(crate) fn pattern_literals(&self) -> Option<&[String]> {
        self.regex.as_ref()?.literals()
    }

    /// What every string starts with that the pattern of `=~` or `!~` matches.
    pub(crate) fn pattern_prefix(&self) -> &str {
        self.regex.as_ref().map_or("", |regex| regex.prefix())
    }

    /// Whether every value passes, and a missing label too.
    pub(crate) fn passes_all(&self) -> bool {
        let matches_all = self.regex.as_ref().is_some_and(|r| r.matches_all());
        self.op == MatchOp::Regex && matches_all
    }

    /// The value or pattern, shared.
    pub(crate) fn shared_value(&self) -> &Arc<str> {
        &self.value
    }

    /// Whether a series without the label passes.
    #[must_use]
    pub fn matches_missing(&self) -> bool {
        self.matches("")
    }

    /// Whether a label set passes.
    #[must_use]
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// The few values that can pass a positive matcher: `=` has one, `=~"a|b"` two; `None` when
    /// there is no such list.
    #[must_use]
    pub fn literal_values(&self) -> Option<Vec<&str>> {
        match self.op {
            MatchOp::Equal => Some(vec![&self.value]),
            MatchOp::Regex => {
                let literals = self.regex.as_ref()?.literals()?;
                Some(literals.iter().map(String::as_str).collect())
            }
            MatchOp::NotEqual | MatchOp::NotRegex => None,
        }
    }

    /// What every value that passes `=~` starts with; empty when nothing is known.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        match (self.op, &self.regex) {
            (MatchOp::Regex, Some(regex)) => regex.prefix(),
            _ => "",
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl Serialize for Matcher {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.name, self.op, &*self.value).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, op, value) = <(String, MatchOp, String)>::deserialize(deserializer)?;
        Self::new(&name, op, &value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Matcher {
        Matcher::new("l", MatchOp::Regex, pattern).unwrap()
    }

    #[test]
    fn regexes_are_anchored_and_dot_matches_newlines() {
        assert!(regex("a.c").matches("a\nc"));
        assert!(!regex("b").matches("abc"));
        assert!(!regex("a|b").matches("ab"));
        assert!(regex("").matches_missing());
        assert!(
            Matcher::new("l", MatchOp::NotRegex, "x.+")
                .unwrap()
                .matches_missing()
        );
    }

    #[test]
    fn literals_and_prefixes_are_found() {
        assert_eq!(
            regex("foo|ba(r|z)").literal_values(),
            Some(vec!["foo", "bar", "baz"])
        );
        assert_eq!(regex("api-[0-9]+").literal_values(), None);
        assert_eq!(regex("api-[0-9]+").literal_prefix(), "api-");
        assert_eq!(regex("(api)x.*").literal_prefix(), "api");
        assert!(regex("(?i)abc").matches("ABC"));
        assert_eq!(regex("(?i)abc").literal_prefix(), "");
    }

    #[test]
    fn bad_and_huge_regexes_are_refused() {
        assert!(Matcher::new("l", MatchOp::Regex, "(").is_err());
        assert!(Matcher::new("l", MatchOp::Regex, "((a{1000}){1000}){1000}").is_err());
        assert!(Matcher::new("l", MatchOp::Regex, &"(".repeat(100_000)).is_err());
    }

    #[test]
    fn a_matcher_can_be_sent_as_data() {
        let text = serde_json::to_string(&regex("a|b")).unwrap();
        assert_eq!(
            serde_json::from_str::<Matcher>(&text).unwrap(),
            regex("a|b")
        );
    }
}
