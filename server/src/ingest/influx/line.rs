//! The line protocol: bytes in, lines out, nothing copied.
//!
//! ```text
//! cpu,host=a,core=0 user=1.5,idle=98i,on=t,note="text" 1700000000000000000
//! └──── series ───┘ └────────── fields ──────────────┘ └────── time ─────┘
//! ```
//!
//! A known series is found by its bytes, so the tags are not looked into here: [`tags`] takes them
//! apart when a series is met for the first time. Of a line this reads only what changes from one to
//! the next: where the series ends, the keys and values of the fields, the time.
//!
//! A backslash takes the meaning from the byte behind it while the ends of tokens are looked for;
//! [`unescape`] removes it in front of `,`, `=` and the space, and leaves it anywhere else, as InfluxDB
//! and Telegraf do. A newline ends a line except inside of a quoted string.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};

use super::number::{NumberError, number};

/// Fields of one line; more are refused, so that a line's fields take bounded memory.
pub const FIELDS_MAX: usize = 16_384;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FieldValue {
    /// A float, an integer (beyond 2^53 to the nearest double), or a truth value as 0 or 1.
    Number(f64),
    /// A quoted string.
    Text,
}

/// A field as it stands in the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    /// The key, with its escapes.
    pub key: &'a [u8],
    /// The value.
    pub value: FieldValue,
}

/// A line, but for its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Measurement and tags, with their escapes; not empty.
    pub series: &'a [u8],
    /// The time in the unit of the request.
    pub time: Option<i64>,
    /// Number of the line, from 1.
    pub number: u64,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line that begins with a comma.
    #[error("missing measurement")]
    Measurement,
    /// Nothing stands behind the series.
    #[error("missing fields")]
    Fields,
    /// A field without a key.
    #[error("missing field key")]
    FieldKey,
    /// A field without `=` or without anything behind it.
    #[error("missing field value")]
    FieldValue,
    /// Not a value of any type.
    #[error("invalid field value")]
    Value,
    /// A number of no form that there is, NaN and infinities among them.
    #[error("invalid number")]
    Number,
    /// An integer that 64 bits do not hold.
    #[error("integer out of range")]
    Range,
    /// A string without its closing quote.
    #[error("unbalanced quotes")]
    Quotes,
    /// What stands behind the fields is not a whole number of 64 bits, or more stands behind it.
    #[error("invalid timestamp")]
    Time,
    /// More fields than [`FIELDS_MAX`].
    #[error("too many fields")]
    TooManyFields,
    /// A tag without a key.
    #[error("missing tag key")]
    TagKey,
    /// A tag without `=` or without anything behind it.
    #[error("missing tag value")]
    TagValue,
    /// Text that is not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
}

/// A line that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineError<'a> {
    /// What is wrong.
    pub fault: Fault,
    /// Number of the line, from 1.
    pub number: u64,
    /// The line as far as it was passed over.
    pub text: &'a [u8],
}

/// Reads one line after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// Lines before `at`.
    lines: u64,
}

impl<'a> Reader<'a> {
    /// Reads a request's text.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        let (at, lines) = (0, 0);
        Self { text, at, lines }
    }

    /// The next line; its fields replace those in `fields`. Empty lines and comments are passed over.
    /// `None` at the end. After an error the next call goes on with the line behind.
    pub fn next_line(
        &mut self,
        fields: &mut Vec<Field<'a>>,
    ) -> Option<Result<Line<'a>, LineError<'a>>> {
        loop {
            match self.peek(0)? {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => self.end_line(),
                b'#' => self.skip_line(),
                _ => break,
            }
        }
        let (start, number) = (self.at, self.lines + 1);
        fields.clear();
        match self.line(fields) {
            Ok((series, time)) => {
                self.end_line();
                Some(Ok(Line {
                    series,
                    time,
                    number,
                }))
            }
            Err(fault) => {
                self.skip_line();
                let text = self.text.get(start..self.at).unwrap_or_default();
                Some(Err(LineError {
                    fault,
                    number,
                    text: text.trim_ascii_end(),
                }))
            }
        }
    }

    /// Reads up to the newline behind the line, or to the end.
    fn line(&mut self, fields: &mut Vec<Field<'a>>) -> Result<(&'a [u8], Option<i64>), Fault> {
        let series = self.series()?;
        self.skip_spaces();
        loop {
            if fields.len() >= FIELDS_MAX {
                return Err(Fault::TooManyFields);
            }
            let field = self.field()?;
            fields.push(field);
            match self.peek(0) {
                Some(b',') => self.at += 1,
                _ => break,
            }
        }
        self.skip_spaces();
        let time = self.time()?;
        self.skip_spaces();
        if self.peek(0) == Some(b'\r') {
            self.at += 1;
        }
        match self.peek(0) {
            None | Some(b'\n') => Ok((series, time)),
            Some(_) => Err(Fault::Time),
        }
    }

    #[inline]
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn take(&mut self, length: usize) -> &'a [u8] {
        let rest = self.rest();
        let (taken, _) = rest.split_at(length.min(rest.len()));
        self.at += taken.len();
        taken
    }

    #[inline]
    fn skip_spaces(&mut self) {
        while self.peek(0) == Some(b' ') {
            self.at += 1;
        }
    }

    /// Goes behind the newline that stands here, if one does.
    #[inline]
    fn end_line(&mut self) {
        if self.at < self.text.len() {
            self.at += 1;
            self.lines += 1;
        }
    }

    fn skip_line(&mut self) {
        self.at += memchr(b'\n', self.rest()).unwrap_or(self.rest().len());
        self.end_line();
    }

    /// Measurement and tags: up to the first space that is not escaped.
    #[inline]
    fn series(&mut self) -> Result<&'a [u8], Fault> {
        let rest = self.rest();
        let mut end = 0;
        loop {
            let ahead = rest.get(end..).unwrap_or_default();
            let Some(found) = memchr3(b' ', b'\\', b'\n', ahead) else {
                self.at = self.text.len();
                return Err(Fault::Fields);
            };
            end += found;
            match rest.get(end) {
                Some(b' ') => break,
                // A newline cannot be escaped: it would hide the lines behind.
                Some(b'\\') if rest.get(end + 1) != Some(&b'\n') => end += 2,
                _ => {
                    self.at += end;
                    return Err(Fault::Fields);
                }
            }
        }
        let series = self.take(end);
        match series.first() {
            Some(b',') | None => Err(Fault::Measurement),
            Some(_) => Ok(series),
        }
    }

    #[inline]
    fn field(&mut self) -> Result<Field<'a>, Fault> {
        let rest = self.rest();
        let mut end = 0;
        loop {
            match rest.get(end) {
                Some(b'=') => break,
                Some(b'\\') if rest.get(end + 1) != Some(&b'\n') => end += 2,
                None | Some(b' ' | b',' | b'\n' | b'\\' | b'\r') => {
                    self.at += end.min(rest.len());
                    return Err(match end {
                        0 => Fault::Fields,
                        _ => Fault::FieldValue,
                    });
                }
                Some(_) => end += 1,
            }
        }
        let key = self.take(end);
        if key.is_empty() {
            return Err(Fault::FieldKey);
        }
        self.at += 1;
        let value = self.value()?;
        Ok(Field { key, value })
    }

    #[inline]
    fn value(&mut self) -> Result<FieldValue, Fault> {
        let rest = self.rest();
        match rest.first() {
            Some(b'0'..=b'9' | b'-' | b'+' | b'.') => {
                let (value, length) = number(rest).map_err(|error| match error {
                    NumberError::Form => Fault::Number,
                    NumberError::Range => Fault::Range,
                })?;
                self.at += length;
                Ok(FieldValue::Number(value))
            }
            Some(b'"') => self.string(),
            Some(b',' | b' ' | b'\n' | b'\r') | None => Err(Fault::FieldValue),
            Some(_) => {
                let end = rest.iter().position(|b| ends_value(*b));
                let word = self.take(end.unwrap_or(rest.len()));
                match word {
                    b"t" | b"T" | b"true" | b"True" | b"TRUE" => Ok(FieldValue::Number(1.0)),
                    b"f" | b"F" | b"false" | b"False" | b"FALSE" => Ok(FieldValue::Number(0.0)),
                    b"NaN" | b"nan" | b"Inf" | b"inf" => Err(Fault::Number),
                    _ => Err(Fault::Value),
                }
            }
        }
    }

    /// A quoted string; `\"` does not end it. What it says is not kept.
    fn string(&mut self) -> Result<FieldValue, Fault> {
        let rest = self.rest();
        let mut end = 1;
        loop {
            let ahead = rest.get(end..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', ahead) else {
                // The newline that ends this line is the first one: others are lines of their own.
                return Err(Fault::Quotes);
            };
            end += found;
            if rest.get(end) == Some(&b'"') {
                break;
            }
            end += 2;
        }
        let text = self.take(end + 1);
        self.lines += memchr::memchr_iter(b'\n', text).count() as u64;
        match self.peek(0) {
            None => Ok(FieldValue::Text),
            Some(next) if ends_value(next) => Ok(FieldValue::Text),
            Some(_) => Err(Fault::Value),
        }
    }

    #[inline]
    fn time(&mut self) -> Result<Option<i64>, Fault> {
        let rest = self.rest();
        let end = rest
            .iter()
            .position(|b| !matches!(b, b'0'..=b'9' | b'-'))
            .unwrap_or(rest.len());
        if end == 0 {
            return Ok(None);
        }
        let digits = self.take(end);
        let text = std::str::from_utf8(digits).map_err(|_| Fault::Time)?;
        text.parse().map(Some).map_err(|_| Fault::Time)
    }
}

/// Whether a value ends in front of this byte.
#[inline]
pub(super) fn ends_value(byte: u8) -> bool {
    matches!(byte, b',' | b' ' | b'\n' | b'\r')
}

/// Takes a series apart: the measurement, then its tags in their order, all without escapes.
///
/// # Errors
/// A tag without key or value, or text that is not UTF-8.
pub fn tags<'a>(
    series: &'a [u8],
    mut tag: impl FnMut(Cow<'a, str>, Cow<'a, str>),
) -> Result<Cow<'a, str>, Fault> {
    let end = token_end(series, b',', b',');
    let (measurement, mut rest) = series.split_at(end);
    while let Some((b',', after)) = rest.split_first() {
        let end = token_end(after, b'=', b',');
        let (key, value) = after.split_at(end);
        let Some((b'=', value)) = value.split_first() else {
            return Err(match key.is_empty() {
                true => Fault::TagKey,
                false => Fault::TagValue,
            });
        };
        if key.is_empty() {
            return Err(Fault::TagKey);
        }
        let (value, after) = value.split_at(token_end(value, b',', b'='));
        if value.is_empty() || after.first() == Some(&b'=') {
            return Err(Fault::TagValue);
        }
        tag(unescape(key)?, unescape(value)?);
        rest = after;
    }
    unescape(measurement)
}

/// Where one of two bytes stands without an escape; the length if nowhere.
fn token_end(text: &[u8], stop: u8, other: u8) -> usize {
    let mut end = 0;
    while let Some(byte) = text.get(end) {
        match *byte {
            b'\\' => end += 2,
            byte if byte == stop || byte == other => return end,
            _ => end += 1,
        }
    }
    text.len()
}

/// A token without the backslashes in front of `,`, `=` and the space.
///
/// # Errors
/// It is not UTF-8.
pub fn unescape(token: &[u8]) -> Result<Cow<'_, str>, Fault> {
    let text = std::str::from_utf8(token).map_err(|_| Fault::Utf8)?;
    if memchr(b'\\', token).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' {
            match chars.next_if(|next| matches!(next, ',' | '=' | ' ')) {
                Some(plain) => out.push(plain),
                None => {
                    out.push('\\');
                    // The byte behind was passed over as escaped: it begins no escape of its own.
                    out.extend(chars.next_if_eq(&'\\'));
                }
            }
        } else {
            out.push(c);
        }
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as `series|key=value,…|time`, faults as `number: words`.
    fn read(text: &str) -> Vec<String> {
        let mut reader = Reader::new(text.as_bytes());
        let mut fields = Vec::new();
        let mut out = Vec::new();
        while let Some(line) = reader.next_line(&mut fields) {
            out.push(match line {
                Ok(line) => {
                    let value = |value| match value {
                        FieldValue::Number(number) => format!("{number}"),
                        FieldValue::Text => "text".into(),
                    };
                    let fields = fields
                        .iter()
                        .map(|f| format!("{}={}", text_of(f.key), value(f.value)))
                        .collect::<Vec<_>>()
                        .join(",");
                    let time = line.time.map_or("-".into(), |t| t.to_string());
                    format!("{}|{fields}|{time}", text_of(line.series))
                }
                Err(error) => format!("{}: {}", error.number, error.fault),
            });
        }
        out
    }

    fn text_of(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_taken_apart() {
        for (text, expected) in [
            ("cpu,host=a user=1.5 17\n", "cpu,host=a|user=1.5|17"),
            ("cpu value=1", "cpu|value=1|-"),
            (
                "  cpu   a=1i,b=2u,c=t,d=False   -5  \r\n",
                "cpu|a=1,b=2,c=1,d=0|-5",
            ),
            ("a\\ b,x=\\,y c\\=d=1\n", "a\\ b,x=\\,y|c\\=d=1|-"),
            (
                "m s=\"a b,c=d\\\" \n #x\",n=-1.5e3 9\n",
                "m|s=text,n=-1500|9",
            ),
            ("m a=9223372036854775807i\n", "m|a=9223372036854776000|-"),
            (
                "m a=0.1,b=123456789.123456789,c=1e-7,d=+4.,e=.5",
                "m|a=0.1,b=123456789.12345679,c=0.0000001,d=4,e=0.5|-",
            ),
        ] {
            assert_eq!(read(text), [expected], "{text}");
        }
        assert!(read("\n  \n# comment\n\r\n").is_empty());
    }

    #[test]
    fn faults_name_their_line_and_spare_the_others() {
        for (text, fault) in [
            ("cpu", "missing fields"),
            ("cpu,host=a ", "missing fields"),
            (",host=a v=1", "missing measurement"),
            ("cpu v", "missing field value"),
            ("cpu v=", "missing field value"),
            ("cpu v=1,", "missing fields"),
            ("cpu =1", "missing field key"),
            ("cpu v=abc", "invalid field value"),
            ("cpu v=\"abc", "unbalanced quotes"),
            ("cpu v=\"abc\"x", "invalid field value"),
            ("cpu v=1x", "invalid number"),
            ("cpu v=1.5i", "invalid number"),
            ("cpu v=-", "invalid number"),
            ("cpu v=NaN", "invalid number"),
            ("cpu v=1e999", "invalid number"),
            ("cpu v=9223372036854775808i", "integer out of range"),
            ("cpu v=-1u", "invalid number"),
            ("cpu v=1 12x", "invalid timestamp"),
            ("cpu v=1 1 2", "invalid timestamp"),
            ("cpu v=1 99999999999999999999", "invalid timestamp"),
            ("cpu\\", "missing fields"),
            ("cpu\\\\ v\\", "missing field value"),
        ] {
            let whole = format!("# first\ngood a=1\n{text}\ngood b=2\n");
            let expected = ["good|a=1|-", &format!("3: {fault}"), "good|b=2|-"];
            assert_eq!(read(&whole), expected, "{text}");
            assert_eq!(read(text), [format!("1: {fault}")], "{text}");
        }
    }

    #[test]
    fn newlines_in_strings_count_as_lines() {
        assert_eq!(
            read("m s=\"a\nb\"\nbad\n"),
            ["m|s=text|-", "3: missing fields"]
        );
    }

    #[test]
    fn a_line_has_so_many_fields_at_most() {
        let mut text = String::from("m ");
        text.push_str(&"a=1,".repeat(FIELDS_MAX + 1));
        text.push_str("b=1\nm a=1\n");
        assert_eq!(read(&text), ["1: too many fields", "m|a=1|-"]);
    }

    #[test]
    fn series_are_taken_apart() {
        let parts = |series: &str| {
            let mut out = Vec::new();
            let tag = |key: Cow<'_, str>, value: Cow<'_, str>| out.push(format!("{key}|{value}"));
            tags(series.as_bytes(), tag).map(|name| {
                let mut all = vec![name.into_owned()];
                all.append(&mut out);
                all
            })
        };
        let good = parts("a\\ b\\,c,k\\=1=v\\ 2,path=C:\\x\\\\y,z=é").unwrap();
        assert_eq!(good, ["a b,c", "k=1|v 2", "path|C:\\x\\\\y", "z|é"]);
        assert_eq!(parts("m").unwrap(), ["m"]);
        for (series, fault) in [
            ("m,", Fault::TagKey),
            ("m,=v", Fault::TagKey),
            ("m,k", Fault::TagValue),
            ("m,k=", Fault::TagValue),
            ("m,k=,l=v", Fault::TagValue),
            ("m,k=v=w", Fault::TagValue),
        ] {
            assert_eq!(parts(series), Err(fault), "{series}");
        }
        assert_eq!(tags(b"m,k=\xff", |_, _| {}), Err(Fault::Utf8));
    }
}
