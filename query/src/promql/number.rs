//! Number and duration literals: the text of a token in, seconds or a float out.

/// Milliseconds of the duration units, from big to small.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Parses `1h30m`: integers with units from big to small, each at most once. Gives milliseconds.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    let invalid = || format!("not a valid duration string: {text:?}");
    let out_of_range = || "duration out of range".to_owned();
    if text.is_empty() {
        return Err("empty duration string".to_owned());
    }
    if text == "0" {
        return Ok(0);
    }
    let mut units = UNITS.iter();
    let mut total = 0i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        if digits == 0 || letters == 0 {
            return Err(invalid());
        }
        let (_, length) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        total = number
            .parse::<i64>()
            .ok()
            .and_then(|n| n.checked_mul(*length))
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= i64::MAX / 1_000_000)
            .ok_or_else(out_of_range)?;
        rest = after;
    }
    Ok(total)
}

/// Parses a number literal without sign: decimal, exponent, hex (`0x1f`), octal (`0755`), `Inf` or
/// `NaN` in any case, `_` between digits.
pub fn parse_number(text: &str) -> Result<f64, String> {
    let invalid = || format!("error parsing number: invalid syntax {text:?}");
    if text.eq_ignore_ascii_case("inf") {
        return Ok(f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    let plain = text.replace('_', "");
    let hex = plain
        .strip_prefix("0x")
        .or_else(|| plain.strip_prefix("0X"));
    if let Some(digits) = hex {
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        return u64::from_str_radix(digits, 16)
            .map(|n| n as f64)
            .map_err(|_| invalid());
    }
    let octal = plain.len() > 1 && plain.starts_with('0');
    if octal && plain.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return u64::from_str_radix(&plain, 8)
            .map(|n| n as f64)
            .map_err(|_| invalid());
    }
    let starts_well = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let value: f64 = plain
        .parse()
        .ok()
        .filter(|_| starts_well)
        .ok_or_else(invalid)?;
    if value.is_infinite() {
        return Err(format!("error parsing number: value out of range {text:?}"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_go_from_big_to_small() {
        assert_eq!(parse_duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration_ms("1y2w3d4h5m6s7ms"), Ok(33_019_506_007));
        assert_eq!(parse_duration_ms("0"), Ok(0));
        for bad in [
            "",
            "5",
            "m",
            "1m1h",
            "1m1m",
            "1.5h",
            "-5m",
            "9999999999999y",
            "5mm",
        ] {
            assert!(parse_duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_come_in_many_forms() {
        let cases = [
            ("0x1F", 31.0),
            ("0755", 493.0),
            ("089", 89.0),
            ("1_000.5e1", 10005.0),
        ];
        for (text, value) in cases {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        assert_eq!(parse_number(".5"), Ok(0.5));
        assert_eq!(parse_number("iNf"), Ok(f64::INFINITY));
        assert!(parse_number("1e999").is_err());
        assert!(parse_number("infinity").is_err());
    }
}
