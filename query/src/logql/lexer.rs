//! Text to tokens.
//!
//! The whole text is cut up at once: a query is at most [`MAX_QUERY_BYTES`](super::parser::MAX_QUERY_BYTES)
//! long. A fault becomes a token too, so that of two faults the first one is reported. Words are
//! functions only where a parenthesis (or `by (…)`) follows, so that labels may be called `rate`.

use super::ast::Span;
use super::units;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A name.
    Identifier,
    /// A word of the language, in lower case.
    Keyword(&'static str),
    /// A string, escapes resolved.
    String(String),
    /// A number as written.
    Number,
    /// A duration in ns.
    Duration(i64),
    /// A size in bytes.
    Bytes(u64),
    /// `[5m]` in ns.
    Range(i64),
    /// `--strict`, `--keep-empty`
    Flag,
    /// An operator or bracket.
    Symbol(&'static str),
    /// What cannot be read.
    Fault(String),
    /// The end of the text.
    End,
}

/// A token and where it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// Words that are never names.
const KEYWORDS: [&str; 26] = [
    "by",
    "without",
    "bool",
    "offset",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "or",
    "and",
    "unless",
    "unwrap",
    "json",
    "regexp",
    "logfmt",
    "unpack",
    "pattern",
    "label_format",
    "line_format",
    "decolorize",
    "drop",
    "keep",
    "label_replace",
    "variants",
    "of",
    "xml",
];

/// Words that are functions where a parenthesis follows, and names elsewhere.
const FUNCTIONS: [&str; 33] = [
    "rate",
    "rate_counter",
    "count_over_time",
    "bytes_rate",
    "bytes_over_time",
    "avg_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "stdvar_over_time",
    "stddev_over_time",
    "quantile_over_time",
    "first_over_time",
    "last_over_time",
    "absent_over_time",
    "vector",
    "sum",
    "avg",
    "max",
    "min",
    "count",
    "stddev",
    "stdvar",
    "bottomk",
    "topk",
    "approx_topk",
    "sort",
    "sort_desc",
    "label_replace",
    "bytes",
    "duration",
    "duration_seconds",
    "ip",
];

/// Longest first where one begins another.
const SYMBOLS: [&str; 30] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "|", "=", ">", "<", "{", "}", "(",
    ")", ",", ".", "+", "-", "*", "/", "%", "^", "]", "!", ":", ";",
];

const FLAGS: [&str; 2] = ["--strict", "--keep-empty"];

/// The tokens of a text, `End` or a fault last.
pub(super) fn tokens(query: &str) -> Vec<Token> {
    let mut lexer = Lexer { query, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let kind = lexer.token();
        let last = matches!(kind, Kind::End | Kind::Fault(_));
        tokens.push(Token {
            kind,
            span: Span::new(start, lexer.at.max(start)),
        });
        if last {
            return tokens;
        }
    }
}

struct Lexer<'q> {
    query: &'q str,
    at: usize,
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl<'q> Lexer<'q> {
    fn rest(&self) -> &'q str {
        self.query.get(self.at..).unwrap_or("")
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn token(&mut self) -> Kind {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else {
            return Kind::End;
        };
        match c {
            '"' => self.quoted(),
            '`' => self.raw(),
            '[' => self.range(),
            c if is_word_start(c) => self.word(),
            c if c.is_ascii_digit() => self.number(),
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => self.number(),
            '-' => self.minus(),
            _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    Kind::Symbol(symbol)
                }
                None => Kind::Fault(format!("syntax error: unexpected {c}")),
            },
        }
    }

    fn minus(&mut self) -> Kind {
        let rest = self.rest();
        if let Some(flag) = FLAGS.iter().find(|flag| rest.starts_with(**flag)) {
            let after = rest[flag.len()..].chars().next();
            if !after.is_some_and(|c| c.is_alphabetic() || c == '-') {
                self.at += flag.len();
                return Kind::Flag;
            }
        }
        // A negative duration; a negative number stays two tokens.
        let length = 1 + duration_length(&rest[1..]);
        if let Ok(ns) = units::parse_query_duration(&rest[1..length])
            && rest[1..length].bytes().any(|b| b.is_ascii_alphabetic())
        {
            self.at += length;
            return Kind::Duration(-ns);
        }
        self.at += 1;
        Kind::Symbol("-")
    }

    fn word(&mut self) -> Kind {
        let rest = self.rest();
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = &rest[..length];
        self.at += length;
        let lower = word.to_lowercase();
        if let Some(function) = FUNCTIONS.iter().find(|name| **name == lower)
            && is_call(&rest[length..])
        {
            return Kind::Keyword(function);
        }
        match KEYWORDS.iter().find(|name| **name == lower) {
            Some(keyword) => Kind::Keyword(keyword),
            None => Kind::Identifier,
        }
    }

    /// A number; a duration or size where letters follow.
    fn number(&mut self) -> Kind {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let prefixed = bytes.first() == Some(&b'0')
            && bytes
                .get(1)
                .is_some_and(|b| matches!(b, b'x' | b'X' | b'b' | b'B' | b'o' | b'O'))
            && bytes
                .get(2)
                .is_some_and(|b| b.is_ascii_hexdigit() || *b == b'.');
        if prefixed {
            self.at += prefixed_length(bytes);
            return Kind::Number;
        }
        let length = duration_length(rest);
        if rest[..length]
            .bytes()
            .any(|b| b.is_ascii_alphabetic() || b >= 0x80)
            && let Ok(ns) = units::parse_query_duration(&rest[..length])
        {
            self.at += length;
            return Kind::Duration(ns);
        }
        let length = rest
            .find(|c: char| !(c.is_numeric() || c == '.' || "BikKMGTP".contains(c)))
            .unwrap_or(rest.len());
        if rest[..length].bytes().any(|b| b.is_ascii_alphabetic())
            && let Ok(size) = units::parse_bytes(&rest[..length])
        {
            self.at += length;
            return Kind::Bytes(size);
        }
        self.at += decimal_length(bytes);
        Kind::Number
    }

    fn range(&mut self) -> Kind {
        let rest = self.rest();
        let Some(end) = rest.find(']') else {
            return Kind::Fault("missing closing ']' in duration".to_owned());
        };
        match units::parse_prometheus_duration(&rest[1..end]) {
            Ok(ns) => {
                self.at += end + 1;
                Kind::Range(ns)
            }
            Err(message) => Kind::Fault(message),
        }
    }

    fn raw(&mut self) -> Kind {
        let rest = self.rest();
        match rest[1..].find('`') {
            Some(length) => {
                self.at += length + 2;
                Kind::String(rest[1..=length].replace('\r', ""))
            }
            None => Kind::Fault("literal not terminated".to_owned()),
        }
    }

    fn quoted(&mut self) -> Kind {
        let rest = self.rest();
        let mut bytes: Vec<u8> = Vec::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return match String::from_utf8(bytes) {
                        Ok(text) => Kind::String(text),
                        Err(_) => Kind::Fault("invalid UTF-8 rune".to_owned()),
                    };
                }
                '\n' => break,
                '\\' => {
                    let Some(length) = escape(&rest[at + 1..], &mut bytes) else {
                        return Kind::Fault("invalid char escape".to_owned());
                    };
                    for _ in 0..length {
                        chars.next();
                    }
                }
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Kind::Fault("literal not terminated".to_owned())
    }
}

/// Resolves the escape behind a backslash; gives how many characters it has.
fn escape(rest: &str, out: &mut Vec<u8>) -> Option<usize> {
    let first = rest.chars().next()?;
    let simple = match first {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        '\'' => b'\'',
        _ => 0,
    };
    if simple != 0 {
        out.push(simple);
        return Some(1);
    }
    let (length, radix) = match first {
        'x' => (2, 16),
        'u' => (4, 16),
        'U' => (8, 16),
        '0'..='7' => (3, 8),
        _ => return None,
    };
    let start = usize::from(radix == 16);
    let code = u32::from_str_radix(rest.get(start..start + length)?, radix).ok()?;
    if first == 'u' || first == 'U' {
        let c = char::from_u32(code)?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(u8::try_from(code).ok()?);
    }
    Some(start + length)
}

/// Whether a word before `rest` is called: `(` follows, or `by (`, or `without (`.
fn is_call(rest: &str) -> bool {
    let rest = rest.trim_start();
    if rest.starts_with('(') {
        return true;
    }
    ["by", "without"].iter().any(|word| {
        rest.get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word))
            && rest[word.len()..].trim_start().starts_with('(')
    })
}

fn duration_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_numeric() || c == '.' || "nuµmshdwy".contains(c)))
        .unwrap_or(text.len())
}

/// `0x1.8p3`, `0b101`
fn prefixed_length(bytes: &[u8]) -> usize {
    let mut length = 2;
    while let Some(b) = bytes.get(length) {
        let sign = matches!(b, b'+' | b'-') && matches!(bytes[length - 1], b'p' | b'P');
        if !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_') || sign) {
            break;
        }
        length += 1;
    }
    length
}

/// `12`, `1.5`, `1e-3`
fn decimal_length(bytes: &[u8]) -> usize {
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or(&[]);
        rest.iter()
            .take_while(|b| b.is_ascii_digit() || **b == b'_')
            .count()
    };
    let mut length = digits(0);
    if bytes.get(length) == Some(&b'.') {
        length += 1 + digits(length + 1);
    }
    if bytes.get(length).is_some_and(|b| matches!(b, b'e' | b'E')) {
        let sign = usize::from(
            bytes
                .get(length + 1)
                .is_some_and(|b| matches!(b, b'+' | b'-')),
        );
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(query: &str) -> Vec<Kind> {
        tokens(query).into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn words_are_functions_only_when_called() {
        use Kind::{Identifier, Keyword, Symbol};
        assert_eq!(
            kinds("rate (rate by (x"),
            [
                Keyword("rate"),
                Symbol("("),
                Keyword("rate"),
                Keyword("by"),
                Symbol("("),
                Identifier,
                Kind::End
            ]
        );
        assert_eq!(kinds("duration > 5m")[0], Identifier);
        assert_eq!(
            kinds("OFFSET -5m")[1],
            Kind::Duration(-300 * units::SECOND_NS)
        );
    }

    #[test]
    fn numbers_durations_and_sizes() {
        assert_eq!(kinds("5m")[0], Kind::Duration(300 * units::SECOND_NS));
        assert_eq!(kinds("20MB")[0], Kind::Bytes(20_000_000));
        for number in ["5", "1.5e3", "0x1p3", "0b1010", "1e3"] {
            assert_eq!(kinds(number), [Kind::Number, Kind::End], "{number}");
        }
        assert_eq!(kinds("1+1--1").len(), 7);
        assert_eq!(kinds("[5m]")[0], Kind::Range(300 * units::SECOND_NS));
    }

    #[test]
    fn strings_and_comments() {
        assert_eq!(kinds(r#""a\"\x41\u00e9""#)[0], Kind::String("a\"Aé".into()));
        assert_eq!(kinds("`a\\n`# x")[0], Kind::String("a\\n".into()));
        assert!(matches!(kinds("\"a")[0], Kind::Fault(_)));
        assert!(matches!(kinds("[5x]")[0], Kind::Fault(_)));
    }
}
