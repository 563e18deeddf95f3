//! Numbers of the line protocol: floats, `…i` and `…u`.
//!
//! Most measured values have at most 15 digits: those are put together as a whole number and divided
//! by a power of ten, which is exact (both are doubles without an error, and one division rounds once;
//! Clinger, "How to read floating point numbers accurately", 1990). Everything else goes to the
//! standard library.

use super::line::ends_value;

/// Why something is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    /// Not in the form of one.
    Form,
    /// An integer that does not fit in 64 bits.
    Range,
}

/// Powers of ten that a double holds without an error.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// Whole numbers below are doubles without an error.
const EXACT_MAX: u64 = 1 << 53;
/// Digits that 64 bits hold whatever they are.
const DIGITS_MAX: usize = 19;

/// Reads the number that stands at the beginning of `text`, and how long it is.
///
/// # Errors
/// None stands there, or something else than the end of a value stands behind it.
#[inline]
pub(super) fn number(text: &[u8]) -> Result<(f64, usize), NumberError> {
    let (is_negative, sign) = match text.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let mut at = sign;
    let mut whole: u64 = 0;
    while let Some(digit) = digit_at(text, at) {
        whole = whole.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    let mut digits = at - sign;
    let mut decimals = 0;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let first = at;
        while let Some(digit) = digit_at(text, at) {
            whole = whole.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        decimals = at - first;
        digits += decimals;
    }
    if digits == 0 {
        return Err(NumberError::Form);
    }
    if text.get(at).is_none_or(|b| ends_value(*b)) {
        if digits <= DIGITS_MAX
            && whole <= EXACT_MAX
            && let Some(power) = POWERS.get(decimals)
        {
            #[expect(clippy::cast_precision_loss, reason = "not above 2^53")]
            let value = whole as f64 / power;
            return Ok((if is_negative { -value } else { value }, at));
        }
        return float(text.get(..at).unwrap_or_default(), at);
    }
    rest(text, at)
}

#[inline]
fn digit_at(text: &[u8], at: usize) -> Option<u64> {
    let digit = text.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// What is neither plain nor short: integers, exponents. `at` is behind the digits.
fn rest(text: &[u8], at: usize) -> Result<(f64, usize), NumberError> {
    let tail = text.get(at..).unwrap_or_default();
    let end = tail.iter().position(|b| ends_value(*b));
    let length = at + end.unwrap_or(tail.len());
    let all = text.get(..length).unwrap_or_default();
    let suffix = all.get(at..).unwrap_or_default();
    let digits = || std::str::from_utf8(text.get(..at).unwrap_or_default()).unwrap_or("");
    #[expect(
        clippy::cast_precision_loss,
        reason = "values of series are doubles, and the documentation says so"
    )]
    match suffix {
        b"i" => integer(digits().parse::<i64>()).map(|whole| (whole as f64, length)),
        b"u" => integer(digits().parse::<u64>()).map(|whole| (whole as f64, length)),
        [b'e' | b'E', ..] => float(all, length),
        _ => Err(NumberError::Form),
    }
}

fn integer<T>(parsed: Result<T, std::num::ParseIntError>) -> Result<T, NumberError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    parsed.map_err(|error| match error.kind() {
        PosOverflow | NegOverflow => NumberError::Range,
        _ => NumberError::Form,
    })
}

fn float(text: &[u8], length: usize) -> Result<(f64, usize), NumberError> {
    let text = std::str::from_utf8(text).map_err(|_| NumberError::Form)?;
    let value: f64 = text.parse().map_err(|_| NumberError::Form)?;
    match value.is_finite() {
        true => Ok((value, length)),
        false => Err(NumberError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_as_the_standard_library_has_it() {
        let mut texts = vec![
            "0".to_owned(),
            "-0".into(),
            "9007199254740992".into(),
            "9007199254740993".into(),
            "0.3".into(),
            "123456789012345678901234567890".into(),
            "0.000000000000000000000012345".into(),
            "1e22".into(),
            "-1.7976931348623157E308".into(),
            "5e-324".into(),
            "00000000000000000000000001".into(),
        ];
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let bits = f64::from_bits(state);
            if bits.is_finite() {
                texts.push(format!("{bits:?}"));
            }
            let decimals = (state >> 60) as usize;
            texts.push(format!("{:.decimals$}", (state >> 40) as f64 / 1000.0));
        }
        for text in texts {
            let expected: f64 = text.parse().unwrap();
            let (got, length) = number(text.as_bytes()).unwrap();
            assert_eq!(
                (got.to_bits(), length),
                (expected.to_bits(), text.len()),
                "{text}"
            );
            let followed = format!("{text},x");
            assert_eq!(number(followed.as_bytes()), Ok((expected, text.len())));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", "-", ".", "+.", "1.2.3", "0x10", "1e", "1ee5", "--1", "1 i",
        ] {
            let got = number(text.as_bytes());
            match text {
                "1 i" => assert_eq!(got, Ok((1.0, 1))),
                _ => assert_eq!(got, Err(NumberError::Form), "{text}"),
            }
        }
        assert_eq!(
            number(b"18446744073709551615u").unwrap().0,
            18446744073709551615_f64
        );
        assert_eq!(number(b"18446744073709551616u"), Err(NumberError::Range));
        assert_eq!(number(b"-9223372036854775809i"), Err(NumberError::Range));
    }
}
