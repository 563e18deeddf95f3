//! `| json` without expressions, and `| unpack`: the fields of a JSON object as labels.
//!
//! One scanner walks the line for whoever wants its fields ([`Fields`]): all of them, some, or none.
//! It is as lenient as Loki's: what stands behind the object is not looked at, a comma may stand
//! before a closing brace, arrays are skipped by counting brackets. Hence the answer to whether a line
//! is malformed does not depend on which fields are wanted.

use super::labels::{BaseLabels, Category, Labels, NameId, Names, append_sanitized, is_plain_name};

/// `__error__` of a line that is no JSON object.
pub const JSON_ERROR: &str = "JSONParserErr";

/// Objects in objects beyond this are an error.
const DEPTH_MAX: usize = 128;

const MALFORMED_OBJECT: &str = "Value looks like object, but can't find closing '}' symbol";
const MALFORMED_ARRAY: &str = "Value is array, but can't find closing ']' symbol";
const MALFORMED_STRING: &str = "Value is string, but can't find closing '\"' symbol";
const MALFORMED_VALUE: &str =
    "Value looks like Number/Boolean/None, but can't find its end: ',' or '}' symbol";
const MALFORMED: &str = "Malformed JSON error";
const UNKNOWN_VALUE: &str = "Unknown value type";

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'l> {
    /// A string between its quotes, escapes in it or not.
    String(&'l [u8], bool),
    /// A number, `true` or `false` as written.
    Plain(&'l [u8]),
    /// `null`
    Null,
    /// An array with its brackets.
    Array(&'l [u8]),
}

/// A key between its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'l> {
    pub(super) raw: &'l [u8],
    /// It is a label's name as it stands.
    pub(super) plain: bool,
    escaped: bool,
}

impl<'l> Key<'l> {
    /// The key without escapes.
    pub(super) fn text<'b>(&self, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'l: 'b,
    {
        if !self.escaped {
            return self.raw;
        }
        buffer.clear();
        if !unescape(self.raw, buffer) {
            buffer.clear();
        }
        buffer
    }
}

/// Who wants fields.
pub(super) trait Fields<'l> {
    /// An object begins under a key.
    fn enter(&mut self, key: Key<'l>);
    /// It ends.
    fn leave(&mut self);
    /// A value under a key.
    fn value(&mut self, key: Key<'l>, value: Value<'l>);
}

/// Walks the object that the line is.
///
/// # Errors
/// What is wrong with it; the fields before have been given.
pub(super) fn scan<'l>(line: &'l [u8], fields: &mut impl Fields<'l>) -> Result<(), &'static str> {
    let mut scanner = Scanner { line, at: 0 };
    match scanner.next_token() {
        Some(b'{') => scanner.object(fields, 0),
        _ => Err(MALFORMED_OBJECT),
    }
}

pub(super) struct Scanner<'l> {
    pub(super) line: &'l [u8],
    pub(super) at: usize,
}

/// The bytes that end a number, `true`, `false` or `null`.
static ENDS_TOKEN: [bool; 256] = {
    let mut ends = [false; 256];
    let bytes = b" \n\r\t,}]";
    let mut i = 0;
    while i < bytes.len() {
        ends[bytes[i] as usize] = true;
        i += 1;
    }
    ends
};

/// The place of the first `"` or `\` at or after `at`.
#[inline]
fn quote_or_escape(line: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(bytes) = line.get(at..at + 8) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        let word = u64::from_le_bytes(eight);
        let quotes = zero_bytes(word ^ (ONES * u64::from(b'"')));
        let escapes = zero_bytes(word ^ (ONES * u64::from(b'\\')));
        let found = quotes | escapes;
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = line.get(at..)?;
    let found = rest.iter().position(|b| matches!(b, b'"' | b'\\'))?;
    Some(at + found)
}

impl<'l> Scanner<'l> {
    /// Skips blanks; the byte that follows is not taken.
    #[inline]
    pub(super) fn next_token(&mut self) -> Option<u8> {
        loop {
            let b = *self.line.get(self.at)?;
            if !matches!(b, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(b);
            }
            self.at += 1;
        }
    }

    /// A string whose opening quote comes next.
    #[inline]
    pub(super) fn string(&mut self) -> Option<(&'l [u8], bool)> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            let found = quote_or_escape(self.line, at)?;
            if self.line[found] == b'"' {
                self.at = found + 1;
                return Some((&self.line[start..found], escaped));
            }
            escaped = true;
            at = found + 2;
        }
    }

    #[inline]
    fn key(&mut self) -> Option<Key<'l>> {
        let (raw, escaped) = self.string()?;
        let plain = is_plain_name(raw);
        Some(Key {
            raw,
            plain,
            escaped,
        })
    }

    /// An object whose opening brace comes next.
    fn object(&mut self, fields: &mut impl Fields<'l>, depth: usize) -> Result<(), &'static str> {
        if depth > DEPTH_MAX {
            return Err(MALFORMED);
        }
        self.at += 1;
        loop {
            match self.next_token() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'"') => {}
                _ => return Err(MALFORMED_OBJECT),
            }
            let key = self.key().ok_or(MALFORMED)?;
            if self.next_token() != Some(b':') {
                return Err(MALFORMED);
            }
            self.at += 1;
            match self.next_token() {
                Some(b'{') => {
                    fields.enter(key);
                    self.object(fields, depth + 1)?;
                    fields.leave();
                }
                Some(first) => {
                    let value = self.value(first)?;
                    fields.value(key, value);
                }
                None => return Err(MALFORMED),
            }
            match self.next_token() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b',') => self.at += 1,
                _ => return Err(MALFORMED_OBJECT),
            }
        }
    }

    /// A value that is no object and begins with `first`.
    pub(super) fn value(&mut self, first: u8) -> Result<Value<'l>, &'static str> {
        let start = self.at;
        match first {
            b'"' => {
                let (raw, escaped) = self.string().ok_or(MALFORMED_STRING)?;
                Ok(Value::String(raw, escaped))
            }
            b'[' => {
                self.skip_block(b'[', b']').ok_or(MALFORMED_ARRAY)?;
                Ok(Value::Array(&self.line[start..self.at]))
            }
            _ => {
                let rest = &self.line[start..];
                let ends = |b: &u8| ENDS_TOKEN[usize::from(*b)];
                let length = rest.iter().position(ends).ok_or(MALFORMED_VALUE)?;
                let token = &rest[..length];
                self.at += length;
                match (token, first) {
                    (b"true" | b"false", _) | (_, b'-' | b'0'..=b'9') => Ok(Value::Plain(token)),
                    (b"null", _) => Ok(Value::Null),
                    _ => Err(UNKNOWN_VALUE),
                }
            }
        }
    }

    /// Skips from an opening bracket behind the one that closes it.
    pub(super) fn skip_block(&mut self, open: u8, close: u8) -> Option<()> {
        let mut depth = 0usize;
        loop {
            let b = *self.line.get(self.at)?;
            if b == b'"' {
                self.string()?;
                continue;
            }
            self.at += 1;
            if b == open {
                depth += 1;
            } else if b == close {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(());
                }
            }
        }
    }
}

/// Appends a JSON string without its escapes; false if they are malformed or stand for no text.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> bool {
    let hex = |at: usize| -> Option<u32> {
        let digits = std::str::from_utf8(raw.get(at..at + 4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    while let Some(&b) = raw.get(at) {
        if b != b'\\' {
            out.push(b);
            at += 1;
            continue;
        }
        let Some(&escape) = raw.get(at + 1) else {
            return false;
        };
        at += 2;
        out.push(match escape {
            b'"' | b'\\' | b'/' => escape,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let Some(mut code) = hex(at) else {
                    return false;
                };
                at += 4;
                if (0xd800..0xdc00).contains(&code) && raw.get(at..at + 2) == Some(b"\\u") {
                    match hex(at + 2) {
                        Some(low @ 0xdc00..0xe000) => {
                            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                            at += 6;
                        }
                        _ => return false,
                    }
                }
                let Some(c) = char::from_u32(code) else {
                    return false;
                };
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return false,
        });
    }
    true
}

/// Appends a value as a label has it; false for what is no label.
pub(super) fn write_value(value: Value<'_>, out: &mut Vec<u8>) -> bool {
    match value {
        Value::String(raw, false) => out.extend_from_slice(raw),
        Value::String(raw, true) => {
            let mark = out.len();
            if !unescape(raw, out) {
                out.truncate(mark);
            }
        }
        Value::Plain(raw) => out.extend_from_slice(raw),
        Value::Null | Value::Array(_) => return false,
    }
    true
}

/// Buffers that lines share.
#[derive(Debug, Default)]
pub(super) struct JsonScratch {
    prefix: Vec<u8>,
    /// Lengths of the prefix at the objects that are open.
    open: Vec<usize>,
    key: Vec<u8>,
}

/// Every field becomes a label.
struct AllFields<'a> {
    labels: &'a mut Labels,
    base: &'a BaseLabels,
    names: &'a mut Names,
    scratch: &'a mut JsonScratch,
}

fn extend_prefix(scratch: &mut JsonScratch, key: Key<'_>) {
    if !scratch.prefix.is_empty() {
        scratch.prefix.push(b'_');
    }
    let text = key.text(&mut scratch.key);
    append_sanitized(&mut scratch.prefix, text);
}

impl<'l> Fields<'l> for AllFields<'_> {
    fn enter(&mut self, key: Key<'l>) {
        self.scratch.open.push(self.scratch.prefix.len());
        extend_prefix(self.scratch, key);
    }

    fn leave(&mut self) {
        let length = self.scratch.open.pop().unwrap_or(0);
        self.scratch.prefix.truncate(length);
    }

    fn value(&mut self, key: Key<'l>, value: Value<'l>) {
        let name = if self.scratch.open.is_empty() {
            self.names.intern_key(key.text(&mut self.scratch.key))
        } else {
            let length = self.scratch.prefix.len();
            extend_prefix(self.scratch, key);
            let name = self.names.intern_key(&self.scratch.prefix);
            self.scratch.prefix.truncate(length);
            name
        };
        let Some(name) = name.and_then(|n| self.labels.parsed_name(self.base, self.names, n))
        else {
            return;
        };
        let mark = self.labels.mark();
        if write_value(value, self.labels.writer()) {
            self.labels.commit(Category::Parsed, name, mark);
        }
    }
}

/// `| json`: every field.
pub(super) fn parse_all(
    line: &[u8],
    labels: &mut Labels,
    base: &BaseLabels,
    names: &mut Names,
    scratch: &mut JsonScratch,
) -> Result<(), &'static str> {
    scratch.prefix.clear();
    scratch.open.clear();
    let mut fields = AllFields {
        labels,
        base,
        names,
        scratch,
    };
    scan(line, &mut fields)
}

/// Who takes the values of wanted fields.
pub(super) trait Takes<'l> {
    /// A value of a wanted field; of several the first that is a label counts.
    fn take(&mut self, name: NameId, value: Value<'l>);
}

impl<'l> Takes<'l> for &mut Labels {
    #[inline]
    fn take(&mut self, name: NameId, value: Value<'l>) {
        if self.has_parsed(name) {
            return;
        }
        let mark = self.mark();
        if write_value(value, self.writer()) {
            self.commit(Category::Parsed, name, mark);
        }
    }
}

/// Only fields that become one of some labels.
pub(super) struct SomeFields<'a, T> {
    taker: T,
    wanted: &'a [(NameId, Box<[u8]>)],
    scratch: &'a mut JsonScratch,
    /// Objects open below one that holds nothing wanted.
    dead: usize,
}

impl<'a, T> SomeFields<'a, T> {
    pub(super) fn new(
        taker: T,
        wanted: &'a [(NameId, Box<[u8]>)],
        scratch: &'a mut JsonScratch,
    ) -> Self {
        scratch.prefix.clear();
        scratch.open.clear();
        Self {
            taker,
            wanted,
            scratch,
            dead: 0,
        }
    }

    pub(super) fn taker(&mut self) -> &mut T {
        &mut self.taker
    }

    pub(super) fn into_taker(self) -> T {
        self.taker
    }
}

impl<'l, T: Takes<'l>> Fields<'l> for SomeFields<'_, T> {
    fn enter(&mut self, key: Key<'l>) {
        if self.dead > 0 {
            self.dead += 1;
            return;
        }
        let length = self.scratch.prefix.len();
        extend_prefix(self.scratch, key);
        let prefix = &self.scratch.prefix;
        let leads = |name: &[u8]| {
            // An empty key leaves no trace in the name.
            prefix.is_empty()
                || (name.len() > prefix.len()
                    && name.starts_with(prefix)
                    && name[prefix.len()] == b'_')
        };
        if self.wanted.iter().any(|(_, name)| leads(name)) {
            self.scratch.open.push(length);
        } else {
            self.scratch.prefix.truncate(length);
            self.dead = 1;
        }
    }

    fn leave(&mut self) {
        if self.dead > 0 {
            self.dead -= 1;
            return;
        }
        let length = self.scratch.open.pop().unwrap_or(0);
        self.scratch.prefix.truncate(length);
    }

    #[inline]
    fn value(&mut self, key: Key<'l>, value: Value<'l>) {
        if self.dead > 0 {
            return;
        }
        let wanted = self.wanted;
        if key.plain && self.scratch.open.is_empty() {
            let found = wanted.iter().find(|(_, name)| **name == *key.raw);
            if let Some((name, _)) = found {
                self.taker.take(*name, value);
            }
            return;
        }
        let length = self.scratch.prefix.len();
        extend_prefix(self.scratch, key);
        let found = wanted
            .iter()
            .find(|(_, name)| **name == *self.scratch.prefix)
            .map(|(name, _)| *name);
        self.scratch.prefix.truncate(length);
        if let Some(name) = found {
            self.taker.take(name, value);
        }
    }
}

/// `| json` where only some labels are wanted; none of them is one of the stream or of metadata.
pub(super) fn parse_some(
    line: &[u8],
    labels: &mut Labels,
    wanted: &[(NameId, Box<[u8]>)],
    scratch: &mut JsonScratch,
) -> Result<(), &'static str> {
    scan(line, &mut SomeFields::new(labels, wanted, scratch))
}

/// The strings of an object become labels; `_entry` becomes the line.
struct Unpacked<'a> {
    labels: &'a mut Labels,
    base: &'a BaseLabels,
    names: &'a mut Names,
    scratch: &'a mut JsonScratch,
    entry: &'a mut Vec<u8>,
    has_entry: bool,
    depth: usize,
}

impl<'l> Fields<'l> for Unpacked<'_> {
    fn enter(&mut self, _key: Key<'l>) {
        self.depth += 1;
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn value(&mut self, key: Key<'l>, value: Value<'l>) {
        if self.depth > 0 || !matches!(value, Value::String(..)) {
            return;
        }
        let text = key.text(&mut self.scratch.key);
        if text == b"_entry" {
            self.entry.clear();
            self.has_entry = write_value(value, self.entry);
            return;
        }
        let name = self.names.intern_key(text);
        if let Some(name) = name.and_then(|n| self.labels.parsed_name(self.base, self.names, n)) {
            let mark = self.labels.mark();
            write_value(value, self.labels.writer());
            self.labels.commit(Category::Parsed, name, mark);
        }
    }
}

/// `| unpack`. Whether `entry` is the new line.
pub(super) fn unpack(
    line: &[u8],
    labels: &mut Labels,
    base: &BaseLabels,
    names: &mut Names,
    scratch: &mut JsonScratch,
    entry: &mut Vec<u8>,
) -> Result<bool, &'static str> {
    let mut fields = Unpacked {
        labels,
        base,
        names,
        scratch,
        entry,
        has_entry: false,
        depth: 0,
    };
    scan(line, &mut fields)?;
    Ok(fields.has_entry)
}
