//! Text to tokens, one at a time.
//!
//! The words follow Tempo, whose scanner is Go's: decimal numbers, `"…"` with Go's escapes, raw
//! strings in back-ticks, comments as in Go. What is special: a number with a unit behind it is a
//! duration, and an attribute is one token from its scope to the first character that ends a name,
//! because names may hold `-`, `/`, `*` and quoted parts (`span."a b"`, `.a."b c"`).

use super::ast::{ArithmeticOp, CompareOp, PosRange, Relation, RelationMode, Scope};
use super::error::{FaultKind, TraceqlError};

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A keyword, function, intrinsic or hint name.
    Word,
    /// `trace:`, `span:`, …; the scope is the text without its last character.
    ScopeColon,
    /// An attribute with its scope.
    Attribute {
        of_parent: bool,
        scope: Scope,
        key: String,
    },
    String(String),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    LeftBrace,
    RightBrace,
    LeftParen,
    RightParen,
    Comma,
    Pipe,
    And,
    Or,
    Not,
    /// `=~`
    Regex,
    /// `!~`: no match, or no sibling.
    NotRegex,
    /// Of these, `<` and `>` are relations between spansets, too.
    Compare(CompareOp),
    Arithmetic(ArithmeticOp),
    /// All relations but plain `<` and `>` and `!~`.
    Relation(RelationMode, Relation),
    End,
}

/// A token and where it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) pos: PosRange,
}

/// Longest first, so that the first that fits is the right one.
const SYMBOLS: [(&str, Kind); 35] = [
    (
        "!>>",
        Kind::Relation(RelationMode::Negated, Relation::Descendant),
    ),
    (
        "!<<",
        Kind::Relation(RelationMode::Negated, Relation::Ancestor),
    ),
    (
        "&>>",
        Kind::Relation(RelationMode::Union, Relation::Descendant),
    ),
    (
        "&<<",
        Kind::Relation(RelationMode::Union, Relation::Ancestor),
    ),
    ("!>", Kind::Relation(RelationMode::Negated, Relation::Child)),
    (
        "!<",
        Kind::Relation(RelationMode::Negated, Relation::Parent),
    ),
    ("&>", Kind::Relation(RelationMode::Union, Relation::Child)),
    ("&<", Kind::Relation(RelationMode::Union, Relation::Parent)),
    ("&~", Kind::Relation(RelationMode::Union, Relation::Sibling)),
    (
        ">>",
        Kind::Relation(RelationMode::Match, Relation::Descendant),
    ),
    (
        "<<",
        Kind::Relation(RelationMode::Match, Relation::Ancestor),
    ),
    ("&&", Kind::And),
    ("||", Kind::Or),
    ("!=", Kind::Compare(CompareOp::NotEqual)),
    ("!~", Kind::NotRegex),
    ("=~", Kind::Regex),
    (">=", Kind::Compare(CompareOp::GreaterEqual)),
    ("<=", Kind::Compare(CompareOp::LessEqual)),
    ("=", Kind::Compare(CompareOp::Equal)),
    (">", Kind::Compare(CompareOp::Greater)),
    ("<", Kind::Compare(CompareOp::Less)),
    ("~", Kind::Relation(RelationMode::Match, Relation::Sibling)),
    ("!", Kind::Not),
    ("|", Kind::Pipe),
    ("+", Kind::Arithmetic(ArithmeticOp::Add)),
    ("-", Kind::Arithmetic(ArithmeticOp::Sub)),
    ("*", Kind::Arithmetic(ArithmeticOp::Mul)),
    ("/", Kind::Arithmetic(ArithmeticOp::Div)),
    ("%", Kind::Arithmetic(ArithmeticOp::Mod)),
    ("^", Kind::Arithmetic(ArithmeticOp::Pow)),
    ("{", Kind::LeftBrace),
    ("}", Kind::RightBrace),
    ("(", Kind::LeftParen),
    (")", Kind::RightParen),
    (",", Kind::Comma),
];

/// The state between two tokens; a copy of it looks ahead.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'q> {
    query: &'q str,
    at: usize,
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a character may be part of an attribute's name outside quotes.
fn is_attribute(c: char) -> bool {
    !c.is_whitespace() && !"{}()=~!<>&|^,".contains(c)
}

impl<'q> Lexer<'q> {
    pub(super) fn new(query: &'q str) -> Self {
        Self { query, at: 0 }
    }

    fn rest(&self) -> &'q str {
        self.query.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'q str {
        let rest = self.rest();
        let length = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn error<T>(&self, start: usize, message: impl Into<String>) -> Result<T, TraceqlError> {
        let pos = PosRange::new(start, self.query.len());
        Err(TraceqlError::new(
            FaultKind::Parse,
            self.query,
            pos,
            message,
        ))
    }

    fn skip_blanks(&mut self) -> Result<(), TraceqlError> {
        loop {
            self.take_while(char::is_whitespace);
            let rest = self.rest();
            if rest.starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if rest.starts_with("/*") {
                match rest.find("*/") {
                    Some(end) => self.at += end + 2,
                    None => return self.error(self.at, "comment not terminated"),
                }
            } else {
                return Ok(());
            }
        }
    }

    /// The next token; at the end of the text `End`, again and again.
    pub(super) fn next(&mut self) -> Result<Token, TraceqlError> {
        self.skip_blanks()?;
        let start = self.at;
        let kind = match self.peek() {
            None => Kind::End,
            Some('"') => {
                self.at += 1;
                Kind::String(self.quoted(start)?)
            }
            Some('`') => self.raw(start)?,
            Some('.') if !self.rest().get(1..).is_some_and(starts_with_digit) => {
                self.at += 1;
                self.attribute(start, false, Scope::Any)?
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(start)?,
            Some(c) if is_word_start(c) => self.word(start)?,
            Some(c) => {
                let rest = self.rest();
                let found = SYMBOLS.iter().find(|(text, _)| rest.starts_with(text));
                match found {
                    Some((text, kind)) => {
                        self.at += text.len();
                        kind.clone()
                    }
                    None => return self.error(start, format!("unexpected character {c:?}")),
                }
            }
        };
        let pos = PosRange::new(start, self.at);
        Ok(Token { kind, pos })
    }

    fn word(&mut self, start: usize) -> Result<Kind, TraceqlError> {
        let word = self.take_while(is_word);
        match self.peek() {
            Some('.') if word == "parent" => {
                self.at += 1;
                for scope in [Scope::Resource, Scope::Span] {
                    let inner = self.rest().strip_prefix(scope.as_str());
                    if inner.is_some_and(|rest| rest.starts_with('.')) {
                        self.at += scope.as_str().len() + 1;
                        return self.attribute(start, true, scope);
                    }
                }
                self.attribute(start, true, Scope::Any)
            }
            Some('.') => match Scope::NAMED.into_iter().find(|s| s.as_str() == word) {
                Some(scope) => {
                    self.at += 1;
                    self.attribute(start, false, scope)
                }
                None => Ok(Kind::Word),
            },
            Some(':') => {
                self.at += 1;
                Ok(Kind::ScopeColon)
            }
            _ => Ok(Kind::Word),
        }
    }

    /// The name of an attribute behind its scope.
    fn attribute(
        &mut self,
        start: usize,
        of_parent: bool,
        scope: Scope,
    ) -> Result<Kind, TraceqlError> {
        if !self.peek().is_some_and(is_attribute) {
            return self.error(start, "an attribute needs a name");
        }
        let mut key = String::new();
        loop {
            key.push_str(self.take_while(|c| is_attribute(c) && c != '"'));
            if self.peek() != Some('"') {
                break;
            }
            self.at += 1;
            self.quoted_name(start, &mut key)?;
        }
        Ok(Kind::Attribute {
            of_parent,
            scope,
            key,
        })
    }

    /// The rest of a quoted part of a name; only `\"` and `\\` are escapes there.
    fn quoted_name(&mut self, start: usize, key: &mut String) -> Result<(), TraceqlError> {
        loop {
            key.push_str(self.take_while(|c| c != '"' && c != '\\'));
            let Some(c) = self.peek() else {
                return self.error(start, "unexpected end of input, expected '\"'");
            };
            self.at += 1;
            if c == '"' {
                return Ok(());
            }
            match self.peek() {
                Some(escaped @ ('"' | '\\')) => {
                    key.push(escaped);
                    self.at += 1;
                }
                _ => return self.error(self.at, "invalid escape sequence"),
            }
        }
    }

    fn raw(&mut self, start: usize) -> Result<Kind, TraceqlError> {
        self.at += 1;
        let text = self.take_while(|c| c != '`');
        if self.peek().is_none() {
            return self.error(start, "literal not terminated");
        }
        self.at += 1;
        Ok(Kind::String(text.replace('\r', "")))
    }

    /// The rest of a string in double quotes, with Go's escapes.
    fn quoted(&mut self, start: usize) -> Result<String, TraceqlError> {
        let mut bytes = Vec::new();
        loop {
            let plain = self.take_while(|c| !matches!(c, '"' | '\\' | '\n'));
            bytes.extend_from_slice(plain.as_bytes());
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
                Some('\\') => {
                    self.at += 1;
                    self.escape(&mut bytes)?;
                }
                _ => return self.error(start, "literal not terminated"),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), TraceqlError> {
        let start = self.at;
        let Some(c) = self.peek() else {
            return self.error(start, "literal not terminated");
        };
        self.at += c.len_utf8();
        let simple = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            '"' => b'"',
            'x' => match u8::try_from(self.digits(2, 16)?) {
                Ok(byte) => byte,
                Err(_) => return self.error(start, "invalid escape sequence"),
            },
            '0'..='7' => {
                self.at = start;
                match u8::try_from(self.digits(3, 8)?) {
                    Ok(byte) => byte,
                    Err(_) => return self.error(start, "invalid escape sequence"),
                }
            }
            'u' | 'U' => {
                let number = self.digits(if c == 'u' { 4 } else { 8 }, 16)?;
                let Some(c) = char::from_u32(number) else {
                    return self.error(start, "invalid escape sequence");
                };
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.error(start, "invalid escape sequence"),
        };
        bytes.push(simple);
        Ok(())
    }

    fn digits(&mut self, count: usize, radix: u32) -> Result<u32, TraceqlError> {
        let text = self.rest().get(..count).unwrap_or_default();
        let is_number = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
        match u32::from_str_radix(text, radix) {
            Ok(number) if is_number => {
                self.at += count;
                Ok(number)
            }
            _ => self.error(self.at, "invalid escape sequence"),
        }
    }

    fn number(&mut self, start: usize) -> Result<Kind, TraceqlError> {
        let mut is_float = false;
        self.take_while(|c| c.is_ascii_digit());
        if self.peek() == Some('.') {
            is_float = true;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            let mut ahead = self.clone();
            ahead.at += 1;
            if matches!(ahead.peek(), Some('+' | '-')) {
                ahead.at += 1;
            }
            if !ahead.take_while(|c| c.is_ascii_digit()).is_empty() {
                is_float = true;
                *self = ahead;
            }
        }
        let number = self.query.get(start..self.at).unwrap_or_default();
        if let Some(duration) = self.duration(start, number.len()) {
            return Ok(Kind::Duration(duration));
        }
        let parsed = if is_float {
            number
                .parse()
                .ok()
                .filter(|x: &f64| x.is_finite())
                .map(Kind::Float)
        } else {
            number.parse().ok().map(Kind::Int)
        };
        match parsed {
            Some(kind) if !self.peek().is_some_and(is_word) => Ok(kind),
            Some(_) => self.error(start, format!("bad number or duration {number:?}")),
            None => self.error(start, format!("number {number:?} is out of range")),
        }
    }

    /// The duration that begins at `start` with a number of `length` bytes, if there is one.
    fn duration(&mut self, start: usize, length: usize) -> Option<i64> {
        let mut ahead = self.clone();
        let units = ahead.take_while(|c| c.is_ascii_digit() || "nsumhµμdwy.".contains(c));
        if units.is_empty() {
            return None;
        }
        let text = self.query.get(start..start + length + units.len())?;
        let duration = parse_duration(text)?;
        *self = ahead;
        Some(duration)
    }
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// A duration in nanoseconds, as Prometheus or Go write them: `1h5m`, `1.5s`, `2d`, `300µs`.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 10] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("μs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3600e9),
        ("d", 86_400e9),
        ("w", 7.0 * 86_400e9),
    ];
    const YEAR: f64 = 365.0 * 86_400e9;
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at_checked(length)?;
        let unit_length = behind
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(unit_length)?;
        let scale = match unit {
            "y" => YEAR,
            unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        let ns = match number.parse::<i64>() {
            Ok(whole) => whole.checked_mul(scale as i64)?,
            Err(_) => {
                // Rounded: 1.001 s is a billion and a million, not one less.
                let ns = (number.parse::<f64>().ok()? * scale).round();
                (ns < i64::MAX as f64).then_some(ns as i64)?
            }
        };
        total = total.checked_add(ns)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(query: &str) -> Vec<Kind> {
        let mut lexer = Lexer::new(query);
        let mut kinds = Vec::new();
        loop {
            match lexer.next().unwrap().kind {
                Kind::End => return kinds,
                kind => kinds.push(kind),
            }
        }
    }

    fn attribute(scope: Scope, key: &str) -> Kind {
        Kind::Attribute {
            of_parent: false,
            scope,
            key: key.to_owned(),
        }
    }

    #[test]
    fn attributes_are_one_token() {
        assert_eq!(
            kinds(r#".a-b/c span."x y".z resource.service.name"#),
            [
                attribute(Scope::Any, "a-b/c"),
                attribute(Scope::Span, "x y.z"),
                attribute(Scope::Resource, "service.name"),
            ]
        );
        assert_eq!(kinds(r#"."a\"b\\""#), [attribute(Scope::Any, "a\"b\\")]);
        assert!(Lexer::new("span. ").next().is_err());
        assert!(Lexer::new(r#"."abc"#).next().is_err());
        assert!(Lexer::new(r#"."a\n""#).next().is_err());
    }

    #[test]
    fn numbers_and_durations() {
        assert_eq!(
            kinds("1 2.5 .5 1e3 1h5m 1.5s 300µs 0"),
            [
                Kind::Int(1),
                Kind::Float(2.5),
                Kind::Float(0.5),
                Kind::Float(1000.0),
                Kind::Duration(3_900_000_000_000),
                Kind::Duration(1_500_000_000),
                Kind::Duration(300_000),
                Kind::Int(0),
            ]
        );
        assert!(Lexer::new("100000000000000000000").next().is_err());
        assert!(Lexer::new("10x").next().is_err());
        assert_eq!(parse_duration("99999999999y"), None);
        assert_eq!(parse_duration("1.001s"), Some(1_001_000_000));
        assert_eq!(parse_duration("1"), None);
    }

    #[test]
    fn strings_and_comments() {
        let text = "\"a\\n\\x41\\u00e9\" `raw\\n` // end\n/* more */ {";
        let expected = ["a\nAé", "raw\\n"].map(|s| Kind::String(s.to_owned()));
        assert_eq!(kinds(text)[..2], expected);
        assert_eq!(kinds(text)[2], Kind::LeftBrace);
        for bad in [
            "\"a", "\"a\nb\"", "\"\\q\"", "`x", "\"\\x4\"", "/* x", "'a'", "\"\\",
        ] {
            assert!(Lexer::new(bad).next().is_err(), "{bad}");
        }
    }

    #[test]
    fn symbols_are_as_long_as_possible() {
        assert_eq!(
            kinds("&>> !~ ! > >="),
            [
                Kind::Relation(RelationMode::Union, Relation::Descendant),
                Kind::NotRegex,
                Kind::Not,
                Kind::Compare(CompareOp::Greater),
                Kind::Compare(CompareOp::GreaterEqual),
            ]
        );
    }
}
