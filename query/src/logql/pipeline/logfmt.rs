//! `| logfmt`: pairs of keys and values.
//!
//! One scanner gives the pairs of a line and its faults; who wants which pairs is another matter, as in
//! [`json`](super::json). A fault spoils its pair and no other, unless the parser is strict.

use super::json::unescape;
use super::labels::{BaseLabels, Category, Labels, NameId, Names, append_sanitized, is_name_byte};

/// `__error__` of a malformed line, if the parser is strict.
pub const LOGFMT_ERROR: &str = "LogfmtParserErr";

/// A pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair<'l> {
    pub(super) key: &'l [u8],
    /// The key is a label's name as it stands.
    pub(super) plain: bool,
    /// The value, without its quotes.
    pub(super) value: &'l [u8],
    pub(super) escaped: bool,
}

/// What is wrong at a place of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    message: &'static str,
    at: usize,
}

impl Fault {
    pub(super) fn text(&self) -> String {
        format!(
            "logfmt syntax error at pos {} : {}",
            self.at + 1,
            self.message
        )
    }
}

pub(super) struct Pairs<'l> {
    line: &'l [u8],
    at: usize,
}

impl<'l> Pairs<'l> {
    pub(super) fn new(line: &'l [u8]) -> Self {
        Self { line, at: 0 }
    }

    fn byte(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    /// Skips to the next blank, so that what follows is a pair again.
    fn fault(&mut self, message: &'static str) -> Option<Result<Pair<'l>, Fault>> {
        let at = self.at;
        while self.byte().is_some_and(|b| b > b' ') {
            self.at += 1;
        }
        Some(Err(Fault { message, at }))
    }
}

impl<'l> Iterator for Pairs<'l> {
    type Item = Result<Pair<'l>, Fault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while self.byte()? <= b' ' {
            self.at += 1;
        }
        let start = self.at;
        let mut plain = true;
        loop {
            match self.byte() {
                Some(b) if is_name_byte(b) => {}
                Some(b'=') | None => break,
                Some(b) if b <= b' ' => break,
                Some(b'"') => return self.fault("unexpected '\"'"),
                Some(_) => plain = false,
            }
            self.at += 1;
        }
        let key = &self.line[start..self.at];
        if key.is_empty() {
            return self.fault("unexpected '='");
        }
        plain = plain && !key[0].is_ascii_digit();
        let mut pair = Pair {
            key,
            plain,
            value: &[],
            escaped: false,
        };
        if self.byte() != Some(b'=') {
            return Some(Ok(pair));
        }
        self.at += 1;
        if self.byte() == Some(b'"') {
            let start = self.at + 1;
            let mut at = start;
            loop {
                let rest = self.line.get(at..).unwrap_or(&[]);
                let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                    let fault = Fault {
                        message: "unterminated quoted value",
                        at: self.line.len(),
                    };
                    self.at = self.line.len();
                    return Some(Err(fault));
                };
                at += found;
                if self.line[at] == b'"' {
                    break;
                }
                pair.escaped = true;
                at += 2;
            }
            pair.value = &self.line[start..at];
            self.at = at + 1;
            return Some(Ok(pair));
        }
        let start = self.at;
        loop {
            match self.byte() {
                Some(b'=') => return self.fault("unexpected '='"),
                Some(b'"') => return self.fault("unexpected '\"'"),
                Some(b) if b > b' ' => self.at += 1,
                _ => break,
            }
        }
        pair.value = &self.line[start..self.at];
        Some(Ok(pair))
    }
}

/// Appends a value as a label has it; what is no text becomes empty.
pub(super) fn write_value(pair: &Pair<'_>, out: &mut Vec<u8>) {
    let mark = out.len();
    if !pair.escaped {
        out.extend_from_slice(pair.value);
    } else if !unescape(pair.value, out) {
        out.truncate(mark);
    }
}

/// How the parser was called.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LogfmtOptions {
    /// A fault is an error.
    pub(super) strict: bool,
    /// Empty values are labels.
    pub(super) keep_empty: bool,
}

/// `| logfmt`: every pair.
pub(super) fn parse_all(
    line: &[u8],
    options: LogfmtOptions,
    labels: &mut Labels,
    base: &BaseLabels,
    names: &mut Names,
) -> Result<(), Fault> {
    for pair in Pairs::new(line) {
        let pair = match pair {
            Ok(pair) => pair,
            Err(fault) if options.strict => return Err(fault),
            Err(_) => continue,
        };
        if pair.value.is_empty() && !options.keep_empty {
            continue;
        }
        let name = names.intern_key(pair.key);
        let Some(name) = name.and_then(|n| labels.parsed_name(base, names, n)) else {
            continue;
        };
        let mark = labels.mark();
        write_value(&pair, labels.writer());
        labels.commit(Category::Parsed, name, mark);
    }
    Ok(())
}

/// `| logfmt` where only some labels are wanted; none of them is one of the stream or of metadata.
pub(super) fn parse_some(
    line: &[u8],
    options: LogfmtOptions,
    labels: &mut Labels,
    wanted: &[(NameId, Box<[u8]>)],
    scratch: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut missing = wanted.len();
    for pair in Pairs::new(line) {
        if missing == 0 && !options.strict {
            break;
        }
        let pair = match pair {
            Ok(pair) => pair,
            Err(fault) if options.strict => return Err(fault),
            Err(_) => continue,
        };
        if pair.value.is_empty() && !options.keep_empty {
            continue;
        }
        let key = if pair.plain {
            pair.key
        } else {
            scratch.clear();
            append_sanitized(scratch, pair.key);
            scratch.as_slice()
        };
        let Some((name, _)) = wanted.iter().find(|(_, name)| **name == *key) else {
            continue;
        };
        if labels.has_parsed(*name) {
            continue;
        }
        let mark = labels.mark();
        write_value(&pair, labels.writer());
        labels.commit(Category::Parsed, *name, mark);
        missing -= 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(line: &str) -> Vec<String> {
        Pairs::new(line.as_bytes())
            .map(|pair| match pair {
                Ok(pair) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    format!("{}={}", text(pair.key), text(pair.value))
                }
                Err(fault) => fault.text(),
            })
            .collect()
    }

    #[test]
    fn faults_spoil_one_pair() {
        assert_eq!(pairs("a=1 b=\"x y\" c d="), ["a=1", "b=x y", "c=", "d="]);
        assert_eq!(
            pairs("a=b=c =x d=1"),
            [
                "a=b=c".replace("a=b=c", "logfmt syntax error at pos 4 : unexpected '='"),
                "logfmt syntax error at pos 7 : unexpected '='".into(),
                "d=1".into()
            ]
        );
        assert_eq!(
            pairs("good=1 bad=\"unterminated").last().unwrap(),
            "logfmt syntax error at pos 25 : unterminated quoted value"
        );
    }
}
