//! Patterns such as `<ip> - <_> "<method>`: text with holes in it, for the parser `pattern` and for
//! the filters `|>` and `!>`.
//!
//! Two holes never follow each other, so a line is matched by looking for one text after the other.

use memchr::memmem::Finder;

/// A piece of a pattern.
#[derive(Debug, Clone)]
enum Part {
    /// What stands there.
    Text(Box<Finder<'static>>),
    /// A hole; its name, if it has one.
    Hole(Option<String>),
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct LinePattern {
    parts: Vec<Part>,
}

/// The name of the hole that `text` begins with, and its length.
fn hole(text: &str) -> Option<(&str, usize)> {
    let inside = text.strip_prefix('<')?;
    let end = inside.find('>')?;
    let name = &inside[..end];
    let first = name.bytes().next()?;
    let is_name = (first.is_ascii_alphabetic() || first == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_name.then_some((name, end + 2))
}

impl LinePattern {
    fn new(pattern: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut text = String::new();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            if let Some((name, length)) = hole(rest) {
                if !text.is_empty() {
                    let finder = Finder::new(text.as_bytes()).into_owned();
                    parts.push(Part::Text(Box::new(finder)));
                    text.clear();
                } else if matches!(parts.last(), Some(Part::Hole(_))) {
                    let hole = &rest[..length];
                    return Err(format!(
                        "found consecutive capture '{hole}': invalid expression"
                    ));
                }
                parts.push(Part::Hole((name != "_").then(|| name.to_owned())));
                rest = &rest[length..];
            } else {
                text.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        if !text.is_empty() {
            let finder = Finder::new(text.as_bytes()).into_owned();
            parts.push(Part::Text(Box::new(finder)));
        }
        Ok(Self { parts })
    }

    /// A pattern that extracts labels: at least one hole must have a name, each its own.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of_parser(pattern: &str) -> Result<Self, String> {
        let pattern = Self::new(pattern)?;
        let names: Vec<&str> = pattern.names().collect();
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(format!(
                    "duplicate capture name ({name}): invalid expression"
                ));
            }
        }
        Ok(pattern)
    }

    /// A pattern that filters lines: its holes have no names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of_filter(pattern: &str) -> Result<Self, String> {
        let pattern = Self::new(pattern)?;
        if pattern.names().next().is_some() {
            return Err("named captures are not allowed".to_owned());
        }
        Ok(pattern)
    }

    /// The names of the holes that have one, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole(Some(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Calls `found` with what stands in the named holes, in order. Where the line ends before the
    /// pattern does, the hole reached takes all that is left, and those after it get nothing.
    pub(super) fn extract<'l>(&self, line: &'l [u8], mut found: impl FnMut(usize, &'l [u8])) {
        let mut rest = line;
        let mut parts = self.parts.as_slice();
        if line.is_empty() {
            return;
        }
        if let Some((Part::Text(text), after)) = parts.split_first() {
            if !rest.starts_with(text.needle()) {
                return;
            }
            rest = &rest[text.needle().len()..];
            parts = after;
        }
        let mut number = 0;
        let mut give = |name: &Option<String>, value: &'l [u8]| {
            if name.is_some() {
                found(number, value);
                number += 1;
            }
        };
        while let Some((Part::Hole(name), after)) = parts.split_first() {
            let Some((Part::Text(text), after)) = after.split_first() else {
                give(name, rest);
                return;
            };
            let Some(at) = text.find(rest) else {
                give(name, rest);
                return;
            };
            give(name, &rest[..at]);
            rest = &rest[at + text.needle().len()..];
            parts = after;
        }
    }

    /// Whether the pattern is all of the line; holes hold at least one byte.
    pub(super) fn is_match(&self, line: &[u8]) -> bool {
        if line.is_empty() || self.parts.is_empty() {
            return line.is_empty() && self.parts.is_empty();
        }
        let mut rest = line;
        let mut ends_with_text = false;
        for (index, part) in self.parts.iter().enumerate() {
            ends_with_text = matches!(part, Part::Text(_));
            let Part::Text(text) = part else { continue };
            match text.find(rest) {
                Some(at) if (index == 0) == (at == 0) => {
                    rest = &rest[at + text.needle().len()..];
                }
                _ => return false,
            }
        }
        ends_with_text == rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<'l>(pattern: &str, line: &'l str) -> Vec<&'l str> {
        let mut values = Vec::new();
        let pattern = LinePattern::of_parser(pattern).unwrap();
        pattern.extract(line.as_bytes(), |number, value| {
            assert_eq!(number, values.len());
            values.push(std::str::from_utf8(value).unwrap());
        });
        values
    }

    #[test]
    fn holes_take_what_stands_between_texts() {
        assert_eq!(values("<a> <_> <b>", "GET /home 200"), ["GET", "200"]);
        assert_eq!(values("<a> <b>", "POST"), ["POST"]);
        assert_eq!(values("[<a>] <b>", "[x] y z"), ["x", "y z"]);
        assert!(values("[<a>]", "x").is_empty());
        assert_eq!(values("<a> <1b>", "x <1b>"), ["x"]);
        assert!(LinePattern::of_parser("<a><b>").is_err());
        assert!(LinePattern::of_parser("<a> <a>").is_err());
        assert!(LinePattern::of_parser("none <_>").is_err());
    }

    #[test]
    fn filters_match_whole_lines() {
        let test = |pattern: &str, line: &str| {
            LinePattern::of_filter(pattern)
                .unwrap()
                .is_match(line.as_bytes())
        };
        assert!(test("GET <_> 200", "GET /api 200"));
        assert!(!test("GET <_> 200", "POST /api 500"));
        assert!(!test("GET /api", "GET /api 200"));
        assert!(test("<_>api<_>", "GET /api 200"));
        assert!(!test("api<_>", "GET /api 200"));
        assert!(test("level=error <_>", "level=error x"));
        assert!(LinePattern::of_filter("<verb> x").is_err());
    }
}
