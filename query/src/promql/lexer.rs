//! Text to tokens, one at a time.
//!
//! The lexer is lazy, so that of two faults the first one is reported, and it knows three modes as
//! Prometheus' does: plain, inside braces (label matchers) and inside brackets (durations).

use super::ast::{BinaryOp, PosRange};
use super::display::Quoted;
use super::error::ParseError;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A word: keyword, function, metric or label name.
    Word,
    /// A word with a colon: only a metric name.
    MetricWord,
    /// A number literal.
    Number,
    /// A duration literal.
    Duration,
    /// A string, escapes resolved.
    String(String),
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    EqualRegex,
    /// `!~`
    NotRegex,
    At,
    /// A binary operator of special characters; those of letters are words.
    Op(BinaryOp),
    End,
}

/// A token and where it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) pos: PosRange,
}

/// The state between two tokens; a copy of it looks ahead.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'q> {
    query: &'q str,
    at: usize,
    paren_depth: usize,
    in_braces: bool,
    in_brackets: bool,
}

/// The bytes of a string literal if they are no UTF-8.
pub(super) fn undecodable(literal: &str) -> Option<Vec<u8>> {
    let quote = literal
        .bytes()
        .next()
        .filter(|q| matches!(q, b'"' | b'\''))?;
    let mut lexer = Lexer::new(literal);
    lexer.at = 1;
    let bytes = lexer.quoted(0, quote).ok()?;
    std::str::from_utf8(&bytes).is_err().then_some(bytes)
}

fn is_word_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_'
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// A character as Go's `%q` prints it.
fn quoted_char(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c => {
            let text = Quoted(c.encode_utf8(&mut [0; 4])).to_string();
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}

impl<'q> Lexer<'q> {
    pub(super) fn new(query: &'q str) -> Self {
        Self {
            query,
            at: 0,
            paren_depth: 0,
            in_braces: false,
            in_brackets: false,
        }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.query.as_bytes().get(self.at + ahead).copied()
    }

    fn char(&self) -> Option<char> {
        self.query
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
    }

    fn error<T>(&self, start: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::new(
            self.query,
            PosRange::new(start, self.query.len()),
            message,
        ))
    }

    fn skip_blanks(&mut self) {
        while let Some(b) = self.byte(0) {
            match b {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'#' if !self.in_brackets => {
                    while self.byte(0).is_some_and(|b| b != b'\n' && b != b'\r') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
    }

    /// The next token; at the end of the text `End`, again and again.
    pub(super) fn next(&mut self) -> Result<Token, ParseError> {
        self.skip_blanks();
        let start = self.at;
        let kind = match self.byte(0) {
            None => self.end(start)?,
            Some(_) if self.in_braces => self.inside_braces(start)?,
            Some(_) if self.in_brackets => self.inside_brackets(start)?,
            Some(b) => self.plain(start, b)?,
        };
        Ok(Token {
            kind,
            pos: PosRange::new(start, self.at),
        })
    }

    fn end(&self, start: usize) -> Result<Kind, ParseError> {
        if self.in_braces {
            self.error(start, "unexpected end of input inside braces")
        } else if self.in_brackets {
            self.error(start, "unexpected end of input in duration expression")
        } else if self.paren_depth > 0 {
            self.error(start, "unclosed left parenthesis")
        } else {
            Ok(Kind::End)
        }
    }

    /// Takes `length` bytes and says what they are.
    fn take(&mut self, length: usize, kind: Kind) -> Result<Kind, ParseError> {
        self.at += length;
        Ok(kind)
    }

    fn right_paren(&mut self, start: usize) -> Result<Kind, ParseError> {
        if self.paren_depth == 0 {
            return self.error(start, "unexpected right parenthesis ')'");
        }
        self.paren_depth -= 1;
        self.take(1, Kind::RightParen)
    }

    fn plain(&mut self, start: usize, b: u8) -> Result<Kind, ParseError> {
        use BinaryOp::*;
        let next = self.byte(1);
        match b {
            b',' => self.take(1, Kind::Comma),
            b'*' => self.take(1, Kind::Op(Mul)),
            b'/' => self.take(1, Kind::Op(Div)),
            b'%' => self.take(1, Kind::Op(Mod)),
            b'+' => self.take(1, Kind::Op(Add)),
            b'-' => self.take(1, Kind::Op(Sub)),
            b'^' => self.take(1, Kind::Op(Pow)),
            b'=' if next == Some(b'=') => self.take(2, Kind::Op(Eq)),
            b'=' if next == Some(b'~') => self.error(start, "unexpected character after '=': '~'"),
            b'=' => self.take(1, Kind::Assign),
            b'!' if next == Some(b'=') => self.take(2, Kind::Op(Ne)),
            b'!' => {
                self.at += 1;
                let next = self
                    .char()
                    .map_or_else(|| "end of input".to_owned(), quoted_char);
                self.error(start, format!("unexpected character after '!': {next}"))
            }
            b'<' if next == Some(b'=') => self.take(2, Kind::Op(Le)),
            b'<' if next == Some(b'/') => self.take(2, Kind::Op(TrimUpper)),
            b'<' => self.take(1, Kind::Op(Lt)),
            b'>' if next == Some(b'=') => self.take(2, Kind::Op(Ge)),
            b'>' if next == Some(b'/') => self.take(2, Kind::Op(TrimLower)),
            b'>' => self.take(1, Kind::Op(Gt)),
            b'@' => self.take(1, Kind::At),
            b'(' => {
                self.paren_depth += 1;
                self.take(1, Kind::LeftParen)
            }
            b')' => self.right_paren(start),
            b'{' => {
                self.in_braces = true;
                self.take(1, Kind::LeftBrace)
            }
            b'[' => {
                self.in_brackets = true;
                self.take(1, Kind::LeftBracket)
            }
            b']' => self.error(start, "unexpected right bracket ']'"),
            b'"' | b'\'' | b'`' => self.string(start, b),
            b'.' if next.is_some_and(|b| b.is_ascii_digit()) => self.number(start),
            b if b.is_ascii_digit() => self.number(start),
            b if is_word_start(b) || b == b':' => {
                while self.byte(0).is_some_and(|b| is_word(b) || b == b':') {
                    self.at += 1;
                }
                let word = &self.query[start..self.at];
                Ok(
                    if word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan") {
                        Kind::Number
                    } else if word.contains(':') {
                        Kind::MetricWord
                    } else {
                        Kind::Word
                    },
                )
            }
            _ => self.unexpected_character(start, "unexpected character"),
        }
    }

    fn unexpected_character(&self, start: usize, what: &str) -> Result<Kind, ParseError> {
        let c = self.char().unwrap_or(char::REPLACEMENT_CHARACTER);
        self.error(start, format!("{what}: {}", quoted_char(c)))
    }

    fn inside_braces(&mut self, start: usize) -> Result<Kind, ParseError> {
        let next = self.byte(1);
        match self.byte(0).unwrap_or_default() {
            b',' => self.take(1, Kind::Comma),
            b'=' if next == Some(b'~') => self.take(2, Kind::EqualRegex),
            b'=' => self.take(1, Kind::Assign),
            b'!' if next == Some(b'~') => self.take(2, Kind::NotRegex),
            b'!' if next == Some(b'=') => self.take(2, Kind::Op(BinaryOp::Ne)),
            b'!' => {
                self.at += 1;
                self.unexpected_character(start, "unexpected character after '!' inside braces")
            }
            b'{' => self.error(start, "unexpected left brace '{'"),
            b'}' => {
                self.in_braces = false;
                self.take(1, Kind::RightBrace)
            }
            quote @ (b'"' | b'\'' | b'`') => self.string(start, quote),
            b if is_word_start(b) => {
                while self.byte(0).is_some_and(is_word) {
                    self.at += 1;
                }
                Ok(Kind::Word)
            }
            _ => self.unexpected_character(start, "unexpected character inside braces"),
        }
    }

    fn inside_brackets(&mut self, start: usize) -> Result<Kind, ParseError> {
        use BinaryOp::*;
        match self.byte(0).unwrap_or_default() {
            b']' => {
                self.in_brackets = false;
                self.take(1, Kind::RightBracket)
            }
            b':' => self.take(1, Kind::Colon),
            b',' => self.take(1, Kind::Comma),
            b'(' => {
                self.paren_depth += 1;
                self.take(1, Kind::LeftParen)
            }
            b')' => self.right_paren(start),
            b'+' => self.take(1, Kind::Op(Add)),
            b'-' => self.take(1, Kind::Op(Sub)),
            b'*' => self.take(1, Kind::Op(Mul)),
            b'/' => self.take(1, Kind::Op(Div)),
            b'%' => self.take(1, Kind::Op(Mod)),
            b'^' => self.take(1, Kind::Op(Pow)),
            b'.' if self.byte(1).is_some_and(|b| b.is_ascii_digit()) => self.number(start),
            b if b.is_ascii_digit() => self.number(start),
            b if is_word_start(b) => {
                let length = self.query.as_bytes()[start..]
                    .iter()
                    .take_while(|b| is_word(**b));
                let end = start + length.count();
                let word = &self.query[start..end];
                if ["step", "range", "min_of", "max_of"]
                    .iter()
                    .any(|w| w.eq_ignore_ascii_case(word))
                {
                    self.take(end - start, Kind::Word)
                } else {
                    self.unexpected_character(start, "unexpected character in duration expression")
                }
            }
            _ => self.unexpected_character(start, "unexpected character in duration expression"),
        }
    }

    /// A number, or where letters follow it, a duration.
    fn number(&mut self, start: usize) -> Result<Kind, ParseError> {
        if self.scan_number() {
            return Ok(Kind::Number);
        }
        if self.scan_duration_units() {
            return Ok(Kind::Duration);
        }
        let text = self.query.get(start..self.at).unwrap_or_default();
        self.error(
            start,
            format!("bad number or duration syntax: {}", Quoted(text)),
        )
    }

    fn accept(&mut self, test: impl Fn(u8) -> bool) -> bool {
        let ok = self.byte(0).is_some_and(test);
        self.at += usize::from(ok);
        ok
    }

    /// Digits with single underscores between them.
    fn scan_digits(&mut self, digit: impl Fn(u8) -> bool) {
        while self.accept(&digit)
            || (self.byte(0) == Some(b'_')
                && self.at > 0
                && digit(self.query.as_bytes()[self.at - 1])
                && self.byte(1).is_some_and(&digit)
                && self.accept(|b| b == b'_'))
        {}
    }

    fn scan_number(&mut self) -> bool {
        let hex =
            self.byte(0) == Some(b'0') && self.byte(1).is_some_and(|b| b == b'x' || b == b'X');
        if hex {
            self.at += 2;
            self.accept(|b| b == b'_');
            let first = self.at;
            self.scan_digits(|b| b.is_ascii_hexdigit());
            if self.at == first {
                return false;
            }
        } else {
            self.scan_digits(|b| b.is_ascii_digit());
            if self.accept(|b| b == b'.') {
                self.scan_digits(|b| b.is_ascii_digit());
            }
            let exponent = self.byte(0).is_some_and(|b| b == b'e' || b == b'E');
            let sign = usize::from(self.byte(1).is_some_and(|b| b == b'+' || b == b'-'));
            if exponent && self.byte(1 + sign).is_some_and(|b| b.is_ascii_digit()) {
                self.at += 1 + sign;
                self.scan_digits(|b| b.is_ascii_digit());
            }
        }
        !self.byte(0).is_some_and(|b| is_word(b) || b == b'.')
    }

    /// What follows the first number of a duration: `m`, `h30m`, ...
    fn scan_duration_units(&mut self) -> bool {
        loop {
            if !self.accept(|b| b"smhdwy".contains(&b)) {
                return false;
            }
            self.accept(|b| b == b's');
            if !self.byte(0).is_some_and(|b| b.is_ascii_digit()) {
                break;
            }
            while self.accept(|b| b.is_ascii_digit()) {}
        }
        // The error shows the character that is too much.
        !self.accept(is_word)
    }

    fn string(&mut self, start: usize, quote: u8) -> Result<Kind, ParseError> {
        self.at += 1;
        if quote == b'`' {
            let Some(length) = self.query[self.at..].find('`') else {
                return self.error(start, "unterminated raw string");
            };
            let text = self.query[self.at..self.at + length].to_owned();
            return self.take(length + 1, Kind::String(text));
        }
        // Escapes may make up bytes that are no UTF-8: see `undecodable`.
        let text = String::from_utf8(self.quoted(start, quote)?)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Ok(Kind::String(text))
    }

    /// What follows the opening quote, up to and with the closing one; escapes resolved.
    fn quoted(&mut self, start: usize, quote: u8) -> Result<Vec<u8>, ParseError> {
        let mut bytes = Vec::new();
        loop {
            match self.byte(0) {
                None | Some(b'\n') => return self.error(start, "unterminated quoted string"),
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(start, quote, &mut bytes)?;
                }
                Some(b) => {
                    self.at += 1;
                    if b == quote {
                        return Ok(bytes);
                    }
                    bytes.push(b);
                }
            }
        }
    }

    /// The escape sequence after a backslash.
    fn escape(&mut self, start: usize, quote: u8, out: &mut Vec<u8>) -> Result<(), ParseError> {
        let Some(c) = self.char() else {
            return self.error(start, "escape sequence not terminated");
        };
        let (digits, radix, bytes) = match c {
            'a' => return self.escaped(7, out),
            'b' => return self.escaped(8, out),
            'f' => return self.escaped(12, out),
            'n' => return self.escaped(b'\n', out),
            'r' => return self.escaped(b'\r', out),
            't' => return self.escaped(b'\t', out),
            'v' => return self.escaped(11, out),
            '\\' => return self.escaped(b'\\', out),
            c if c as u32 == u32::from(quote) => return self.escaped(quote, out),
            '0'..='7' => (3, 8, true),
            'x' => (2, 16, true),
            'u' => (4, 16, false),
            'U' => (8, 16, false),
            c => {
                let code = c as u32;
                return self.error(start, format!("unknown escape sequence U+{code:04X} '{c}'"));
            }
        };
        self.at += usize::from(radix == 16);
        let mut value = 0u32;
        for _ in 0..digits {
            let Some(c) = self.char() else {
                return self.error(start, "escape sequence not terminated");
            };
            let Some(digit) = c.to_digit(radix) else {
                let code = c as u32;
                let message = format!("illegal character U+{code:04X} '{c}' in escape sequence");
                return self.error(start, message);
            };
            value = value.saturating_mul(radix).saturating_add(digit);
            self.at += 1;
        }
        let invalid = "escape sequence is an invalid Unicode code point";
        if bytes {
            let Ok(byte) = u8::try_from(value) else {
                return self.error(start, invalid);
            };
            out.push(byte);
        } else {
            let Some(c) = char::from_u32(value) else {
                return self.error(start, invalid);
            };
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }

    fn escaped(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), ParseError> {
        self.at += 1;
        out.push(byte);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(query: &str) -> Vec<Kind> {
        let mut lexer = Lexer::new(query);
        let mut kinds = Vec::new();
        loop {
            match lexer.next().expect(query).kind {
                Kind::End => return kinds,
                kind => kinds.push(kind),
            }
        }
    }

    #[test]
    fn strings_have_go_escapes() {
        let text = r#""\x41\101\u00e9\U0001F600\n\"" 'it\'s' `raw\n`"#;
        let want = ["AA\u{e9}\u{1F600}\n\"", "it's", "raw\\n"];
        assert_eq!(kinds(text), want.map(|s| Kind::String(s.to_owned())));
    }

    #[test]
    fn comments_and_lookalikes() {
        assert_eq!(kinds("1 # two\n5m"), [Kind::Number, Kind::Duration]);
        assert_eq!(kinds("a:b inf"), [Kind::MetricWord, Kind::Number]);
        assert_eq!(
            kinds("</ >/ >="),
            [BinaryOp::TrimUpper, BinaryOp::TrimLower, BinaryOp::Ge].map(Kind::Op)
        );
        assert_eq!(kinds("1e5 0x1f 1_0 .5 5."), vec![Kind::Number; 5]);
    }

    #[test]
    fn bad_tokens_are_refused() {
        let cases = [
            (
                r#""\d""#,
                "1:1: parse error: unknown escape sequence U+0064 'd'",
            ),
            ("\"abc", "1:1: parse error: unterminated quoted string"),
            (
                "1mm",
                "1:1: parse error: bad number or duration syntax: \"1mm\"",
            ),
            ("ü", "1:1: parse error: unexpected character: 'ü'"),
        ];
        for (query, want) in cases {
            assert_eq!(Lexer::new(query).next().unwrap_err().to_string(), want);
        }
    }
}
