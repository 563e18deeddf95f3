//! Finding the variable parts of a line: one pass, from digit to digit.
//!
//! Text without digits is static. Around each digit lies a *run* of letters and digits, and its shape
//! says what the slot is:
//!
//! | run | slot |
//! |---|---|
//! | digits only, up to 19 | [`SlotKind::Decimal`] |
//! | hex digits of one case, four or more, or behind `0x` | [`SlotKind::HexLower`], [`SlotKind::HexUpper`] |
//! | `8-4-4-4-12` hex digits | [`SlotKind::Uuid`] |
//! | letters and digits that alternate four times or more | [`SlotKind::Mixed`] |
//! | others, as `49ms` or `u17` | the digits are [`SlotKind::Decimal`], the letters static |
//!
//! What a slot of a kind may hold is a promise ([`SlotKind::may_hold`]): searches rely on it.

/// What the bytes of a slot are. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SlotKind {
    /// Decimal digits.
    Decimal = 0,
    /// Digits and `a` to `f`.
    HexLower = 1,
    /// Digits and `A` to `F`.
    HexUpper = 2,
    /// A UUID in lower case, with its hyphens.
    Uuid = 3,
    /// ASCII letters and digits.
    Mixed = 4,
    /// ASCII letters, and bytes beyond ASCII.
    Word = 5,
}

impl SlotKind {
    /// All kinds, by number.
    pub const ALL: [SlotKind; 6] = [
        SlotKind::Decimal,
        SlotKind::HexLower,
        SlotKind::HexUpper,
        SlotKind::Uuid,
        SlotKind::Mixed,
        SlotKind::Word,
    ];

    /// The kind of this number.
    pub fn from_u8(number: u8) -> Option<SlotKind> {
        SlotKind::ALL.get(usize::from(number)).copied()
    }

    /// Whether a slot of this kind can hold `byte` at all.
    pub fn may_hold(self, byte: u8) -> bool {
        let class = CLASSES[usize::from(byte)];
        match self {
            SlotKind::Decimal => class == DIGIT,
            SlotKind::HexLower => class & (DIGIT | HEX_LOWER) != 0,
            SlotKind::HexUpper => class & (DIGIT | HEX_UPPER) != 0,
            SlotKind::Uuid => class & (DIGIT | HEX_LOWER) != 0 || byte == b'-',
            SlotKind::Mixed => class & ALNUM != 0,
            SlotKind::Word => class & LETTER != 0 || byte >= 0x80,
        }
    }
}

/// A variable part of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) kind: SlotKind,
    /// The number, of decimal and hex tokens of up to 19 and 16 digits; otherwise 0.
    pub(super) value: u64,
}

/// Digits that a decimal token may have: more do not fit 64 bits.
pub(super) const DECIMAL_DIGITS_MAX: usize = 19;
/// Digits of a hex token up to which it is a number.
pub(super) const HEX_DIGITS_MAX: usize = 16;
/// Bytes of a UUID.
pub(super) const UUID_LEN: usize = 36;
/// Shortest run of digits and `a` to `f` that is taken for hex: `1f` and `30d` mostly are not.
const HEX_RUN_MIN: usize = 4;
/// Changes between letters and digits from which on a run is taken as a whole: random ids.
const ALTERNATIONS_MIN: usize = 4;

const DIGIT: u8 = 1;
const HEX_LOWER: u8 = 2;
const HEX_UPPER: u8 = 4;
const OTHER_LETTER: u8 = 8;
const LETTER: u8 = HEX_LOWER | HEX_UPPER | OTHER_LETTER;
const ALNUM: u8 = DIGIT | LETTER;

static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' => HEX_LOWER,
            b'A'..=b'F' => HEX_UPPER,
            b'g'..=b'z' | b'G'..=b'Z' => OTHER_LETTER,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

#[inline(always)]
fn class_of(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Whether a byte belongs to a word of static text: see [`SlotKind::Word`].
#[inline]
pub(super) fn is_word_byte(byte: u8) -> bool {
    SlotKind::Word.may_hold(byte)
}

/// Finds the tokens of `line`, in order; they neither touch nor overlap where that would make two ways
/// to read a line. False, with `tokens` unusable, if there are more than `tokens_max`.
pub(super) fn tokenize(line: &[u8], tokens_max: usize, tokens: &mut Vec<Token>) -> bool {
    tokens.clear();
    let mut from = 0;
    while let Some(digit) = next_digit(line, from) {
        if tokens.len() == tokens_max {
            return false;
        }
        let token = token_at(line, from, digit);
        from = token.end as usize;
        tokens.push(token);
    }
    true
}

/// The token with the first digit behind `from`.
#[inline]
fn token_at(line: &[u8], from: usize, digit: usize) -> Token {
    let mut start = digit;
    while start > from && class_of(line[start - 1]) & LETTER != 0 {
        start -= 1;
    }
    let mut end = digit + 1;
    let mut classes = DIGIT;
    // Digits first: most runs have nothing else.
    let mut value = u64::from(line[digit] - b'0');
    while let Some(&byte) = line.get(end) {
        let value_of_digit = byte.wrapping_sub(b'0');
        if value_of_digit > 9 {
            break;
        }
        value = value
            .wrapping_mul(10)
            .wrapping_add(u64::from(value_of_digit));
        end += 1;
    }
    let digits_end = end;
    while let Some(&byte) = line.get(end) {
        let class = class_of(byte);
        if class == 0 {
            break;
        }
        classes |= class;
        end += 1;
    }
    for &byte in &line[start..digit] {
        classes |= class_of(byte);
    }
    let token = |start: usize, end: usize, kind, value| Token {
        start: start as u32,
        end: end as u32,
        kind,
        value,
    };
    if end - start == 8
        && classes & !(DIGIT | HEX_LOWER) == 0
        && line.get(end) == Some(&b'-')
        && is_uuid(line, start)
    {
        return token(start, start + UUID_LEN, SlotKind::Uuid, 0);
    }
    if classes == DIGIT {
        return if digits_end - start <= DECIMAL_DIGITS_MAX {
            token(start, end, SlotKind::Decimal, value)
        } else {
            hex(line, start, end, SlotKind::HexLower)
        };
    }
    // `0x` and hex digits.
    if start == digit
        && digits_end == digit + 1
        && line[digit] == b'0'
        && line[digits_end] == b'x'
        && end > digits_end + 1
    {
        let body = digits_end + 1;
        let of_body = line[body..end]
            .iter()
            .fold(0, |classes, &byte| classes | class_of(byte));
        if of_body & !(DIGIT | HEX_LOWER) == 0 {
            return hex(line, body, end, SlotKind::HexLower);
        }
        if of_body & !(DIGIT | HEX_UPPER) == 0 {
            return hex(line, body, end, SlotKind::HexUpper);
        }
    }
    if end - start >= HEX_RUN_MIN {
        if classes == DIGIT | HEX_LOWER {
            return hex(line, start, end, SlotKind::HexLower);
        }
        if classes == DIGIT | HEX_UPPER {
            return hex(line, start, end, SlotKind::HexUpper);
        }
        if alternates(&line[start..end]) {
            return token(start, end, SlotKind::Mixed, 0);
        }
    }
    if digits_end - digit <= DECIMAL_DIGITS_MAX {
        token(digit, digits_end, SlotKind::Decimal, value)
    } else {
        hex(line, digit, digits_end, SlotKind::HexLower)
    }
}

/// A hex token; its value too if it fits.
#[inline]
fn hex(line: &[u8], start: usize, end: usize, kind: SlotKind) -> Token {
    let mut value = 0;
    if end - start <= HEX_DIGITS_MAX {
        for &byte in &line[start..end] {
            value = value << 4 | u64::from(nibble(byte));
        }
    }
    Token {
        start: start as u32,
        end: end as u32,
        kind,
        value,
    }
}

/// The value of a hex digit of either case.
#[inline(always)]
pub(super) fn nibble(byte: u8) -> u8 {
    (byte & 0x0f) + 9 * (byte >> 6)
}

fn alternates(run: &[u8]) -> bool {
    let is_digit = |byte: &u8| class_of(*byte) == DIGIT;
    let changes = run
        .windows(2)
        .filter(|pair| is_digit(&pair[0]) != is_digit(&pair[1]));
    changes.count() >= ALTERNATIONS_MIN
}

/// Whether 36 bytes from `start` on are a UUID in lower case and no letter or digit follows.
fn is_uuid(line: &[u8], start: usize) -> bool {
    let Some(uuid) = line.get(start..start + UUID_LEN) else {
        return false;
    };
    let fits = uuid.iter().enumerate().all(|(at, &byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => class_of(byte) & (DIGIT | HEX_LOWER) != 0,
    });
    fits && line
        .get(start + UUID_LEN)
        .is_none_or(|&byte| class_of(byte) == 0)
}

/// The first digit from `from` on.
#[inline]
fn next_digit(line: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    // Eight bytes at a time: static text is long.
    while let Some(chunk) = line[at..].first_chunk::<8>() {
        let found = digits_among(u64::from_le_bytes(*chunk));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    line[at..]
        .iter()
        .position(u8::is_ascii_digit)
        .map(|behind| at + behind)
}

/// The highest bit of each byte that is a digit.
#[inline(always)]
fn digits_among(bytes: u64) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let from_zero = bytes ^ 0x3030_3030_3030_3030;
    // Below 10 stays below 0x80 when 0x76 is added; no sum reaches the next byte.
    let not_digit = ((from_zero & !HIGH) + 0x7676_7676_7676_7676) | from_zero;
    !not_digit & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(line: &str) -> String {
        let mut tokens = Vec::new();
        assert!(tokenize(line.as_bytes(), 100, &mut tokens));
        let (mut text, mut at) = (String::new(), 0);
        for token in tokens {
            let (start, end) = (token.start as usize, token.end as usize);
            text.push_str(&line[at..start]);
            text.push_str(match token.kind {
                SlotKind::Decimal => "<d:",
                SlotKind::HexLower => "<h:",
                SlotKind::HexUpper => "<H:",
                SlotKind::Uuid => "<u:",
                SlotKind::Mixed => "<m:",
                SlotKind::Word => "<w:",
            });
            text.push_str(&line[start..end]);
            text.push('>');
            at = end;
        }
        text + &line[at..]
    }

    #[test]
    fn runs_become_the_slots_of_the_table() {
        for (line, expected) in [
            ("", ""),
            ("no digits, deadbeef", "no digits, deadbeef"),
            ("took=49.62ms", "took=<d:49>.<d:62>ms"),
            ("u17417 v1/x", "u<d:17417> v<d:1>/x"),
            ("10.0.126.31:80", "<d:10>.<d:0>.<d:126>.<d:31>:<d:80>"),
            ("job=f2282b1c", "job=<h:f2282b1c>"),
            ("job=F2282B1C", "job=<H:F2282B1C>"),
            ("f2282B1C", "<m:f2282B1C>"),
            ("at 0x85801dfc", "at 0x<h:85801dfc>"),
            ("0x1 0xa 0xF 0x", "0x<h:1> 0x<h:a> 0x<H:F> <d:0>x"),
            ("blk_-8115", "blk_-<d:8115>"),
            ("m_516764_0", "m_<d:516764>_<d:0>"),
            ("ndl0001qzx7f3a9c", "<m:ndl0001qzx7f3a9c>"),
            (
                "[31a1d540-c11b-4c88-b300-58d78850f1e3]",
                "[<u:31a1d540-c11b-4c88-b300-58d78850f1e3>]",
            ),
            (
                "31a1d540-c11b-4c88-b300-58d78850f1e34",
                "<h:31a1d540>-<h:c11b>-<h:4c88>-<h:b300>-<h:58d78850f1e34>",
            ),
            ("12345678901234567890", "<h:12345678901234567890>"),
            ("1234567890123456789", "<d:1234567890123456789>"),
            ("12ab", "<h:12ab>"),
            ("2b", "<d:2>b"),
            ("é1é", "é<d:1>é"),
        ] {
            assert_eq!(drawn(line), expected, "{line}");
        }
    }

    #[test]
    fn too_many_tokens_are_refused() {
        let mut tokens = Vec::new();
        assert!(tokenize(b"1 2 3", 3, &mut tokens));
        assert!(!tokenize(b"1 2 3 4", 3, &mut tokens));
    }

    proptest! {
        #[test]
        fn tokens_hold_what_their_kind_says_and_all_digits(
            line in proptest::collection::vec(
                prop_oneof![
                    8 => proptest::sample::select(&b"0123456789abcdefxzABF-. "[..]),
                    1 => any::<u8>(),
                ],
                0..80,
            ),
        ) {
            let mut tokens = Vec::new();
            prop_assert!(tokenize(&line, 1000, &mut tokens));
            let mut at = 0;
            for token in &tokens {
                let (start, end) = (token.start as usize, token.end as usize);
                prop_assert!(at <= start && start < end);
                let text = &line[at..start];
                let text = text.strip_suffix(b"0x").unwrap_or(text);
                prop_assert!(!text.iter().any(u8::is_ascii_digit));
                prop_assert!(line[start..end].iter().all(|&byte| token.kind.may_hold(byte)));
                at = end;
            }
            prop_assert!(!line[at..].iter().any(u8::is_ascii_digit));
        }
    }
}
