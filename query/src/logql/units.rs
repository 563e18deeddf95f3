//! Numbers, durations and sizes as Go programs write them: log lines are full of them, and LogQL's
//! literals follow the same rules.
//!
//! Error texts are those that users of Loki see in `__error_details__`.

use std::fmt::Write;

/// Nanoseconds of a second.
pub const SECOND_NS: i64 = 1_000_000_000;

/// Units of Prometheus' durations, the largest first, in milliseconds.
const PROMETHEUS_UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// `1h30m`, `-1.5s`: nanoseconds.
///
/// # Errors
/// Go's words for what is wrong.
pub fn parse_go_duration(text: &str) -> Result<i64, String> {
    let quoted = || GoQuoted(text).to_string();
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let whole_len = digits(rest);
        let whole = &rest[..whole_len];
        rest = &rest[whole_len..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let len = digits(after);
            fraction = &after[..len];
            rest = &after[len..];
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_len = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = &rest[..unit_len];
        rest = &rest[unit_len..];
        let unit_ns: i64 = match unit {
            "" => return Err(format!("time: missing unit in duration {}", quoted())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1000,
            "ms" => 1_000_000,
            "s" => SECOND_NS,
            "m" => 60 * SECOND_NS,
            "h" => 3600 * SECOND_NS,
            other => {
                let unit = GoQuoted(other);
                return Err(format!(
                    "time: unknown unit {unit} in duration {}",
                    quoted()
                ));
            }
        };
        let whole: i64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let mut part = whole.checked_mul(unit_ns).ok_or_else(invalid)?;
        let mut value = 0.0;
        let mut weight = unit_ns as f64;
        for digit in fraction.bytes().take(18) {
            weight /= 10.0;
            value += f64::from(digit - b'0') * weight;
        }
        // Rounding keeps 0.1s at 100,000,000 ns whatever the sum of the digits' weights is.
        part = part
            .checked_add((value + 1e-6).floor() as i64)
            .ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
    }
    Ok(if negative { -total } else { total })
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// `1d12h`: nanoseconds; units from years to milliseconds, the larger ones first, each once.
///
/// # Errors
/// Prometheus' words for what is wrong.
pub fn parse_prometheus_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("not a valid duration string: {}", GoQuoted(text));
    match text {
        "" => return Err("empty duration string".to_owned()),
        "0" => return Ok(0),
        _ => {}
    }
    let mut rest = text;
    let mut total_ms: i64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let len = digits(rest);
        let number: i64 = rest[..len].parse().map_err(|_| invalid())?;
        rest = &rest[len..];
        let unit_len = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = &rest[..unit_len];
        rest = &rest[unit_len..];
        let index = PROMETHEUS_UNITS
            .iter()
            .position(|(name, _)| *name == unit)
            .filter(|index| *index >= next_unit)
            .ok_or_else(invalid)?;
        next_unit = index + 1;
        total_ms = number
            .checked_mul(PROMETHEUS_UNITS[index].1)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or("duration out of range")?;
    }
    total_ms
        .checked_mul(1_000_000)
        .ok_or_else(|| "duration out of range".to_owned())
}

/// A duration of a query's text: Prometheus' form first, then Go's.
///
/// # Errors
/// Words for what is wrong.
pub fn parse_query_duration(text: &str) -> Result<i64, String> {
    parse_prometheus_duration(text).or_else(|_| parse_go_duration(text))
}

/// `1d12h`, as Prometheus prints a duration; what is below a millisecond is cut off.
pub fn prometheus_duration(ns: i64) -> String {
    let mut ms = ns / 1_000_000;
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if ms < 0 {
        out.push('-');
        ms = ms.saturating_neg();
    }
    for (index, (unit, unit_ms)) in PROMETHEUS_UNITS.iter().enumerate() {
        // Years and weeks only where nothing is left over.
        let exact_only = index < 2;
        if (exact_only && ms % unit_ms != 0) || ms / unit_ms == 0 {
            continue;
        }
        let _ = write!(out, "{}{unit}", ms / unit_ms);
        ms %= unit_ms;
    }
    out
}

/// `1h30m0s`, as Go prints a duration.
pub fn go_duration(ns: i64) -> String {
    let negative = ns < 0;
    let magnitude = ns.unsigned_abs();
    let text = match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => format!("{magnitude}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(magnitude, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(magnitude, 1_000_000)),
        _ => {
            let seconds = magnitude / 1_000_000_000;
            let below = decimal(magnitude % 60_000_000_000, 1_000_000_000);
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            if hours > 0 {
                format!("{hours}h{minutes}m{below}s")
            } else if minutes > 0 {
                format!("{minutes}m{below}s")
            } else {
                format!("{below}s")
            }
        }
    };
    if negative { format!("-{text}") } else { text }
}

/// `value / unit` without zeros at the end; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

const SIZE_UNITS: [(&str, u64); 26] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("ki", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mi", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("gi", 1 << 30),
    ("gib", 1 << 30),
    ("t", 1_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("ti", 1 << 40),
    ("tib", 1 << 40),
    ("p", 1_000_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("pi", 1 << 50),
    ("pib", 1 << 50),
    ("e", 1_000_000_000_000_000_000),
    ("eb", 1_000_000_000_000_000_000),
    ("ei", 1 << 60),
    ("eib", 1 << 60),
];

/// `1.5KiB`, `2,048`: bytes.
///
/// # Errors
/// The words of Go's humanize package for what is wrong.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !(c.is_numeric() || c == '.' || c == ','))
        .unwrap_or(text.len());
    let number = text[..end].replace(',', "");
    let value = parse_go_float(&number)?;
    let unit = text[end..].trim().to_lowercase();
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("unhandled size name: {unit}"));
    };
    let bytes = value * *factor as f64;
    if bytes >= u64::MAX as f64 {
        return Err(format!("too large: {text}"));
    }
    Ok(bytes as u64)
}

/// `25 MB`, as Go's humanize package prints a size.
pub fn human_bytes(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog10() / 3) as usize;
    let name = NAMES.get(exponent).copied().unwrap_or("EB");
    let value = bytes as f64 / 1000f64.powi(exponent as i32);
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 {
        format!("{value:.1} {name}")
    } else {
        format!("{value:.0} {name}")
    }
}

/// A float as Go reads it: decimal, hexadecimal with an exponent, `Inf` and `NaN` in any case.
///
/// # Errors
/// Go's words for what is wrong.
pub fn parse_go_float(text: &str) -> Result<f64, String> {
    let invalid = || {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            GoQuoted(text)
        )
    };
    let first = text.bytes().find(|b| !matches!(b, b'+' | b'-'));
    let (sign, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    match first {
        Some(b'0'..=b'9' | b'.') => {}
        Some(_) => {
            let lower = magnitude.to_ascii_lowercase();
            return match lower.as_str() {
                "inf" | "infinity" => Ok(sign * f64::INFINITY),
                "nan" if magnitude.len() == text.len() => Ok(f64::NAN),
                _ => Err(invalid()),
            };
        }
        None => return Err(invalid()),
    }
    if magnitude.starts_with("0x") || magnitude.starts_with("0X") {
        return hex_float(&magnitude[2..])
            .map(|v| sign * v)
            .ok_or_else(invalid);
    }
    let value: f64 = text.parse().map_err(|_| invalid())?;
    if value.is_infinite() {
        let quoted = GoQuoted(text);
        return Err(format!(
            "strconv.ParseFloat: parsing {quoted}: value out of range"
        ));
    }
    Ok(value)
}

/// `1.8p3` behind `0x`.
fn hex_float(text: &str) -> Option<f64> {
    let at = text.find(['p', 'P'])?;
    let (mantissa, exponent) = (&text[..at], &text[at + 1..]);
    let mut exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0f64;
    for digit in whole.chars() {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    for digit in fraction.chars() {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
        exponent = exponent.checked_sub(4)?;
    }
    Some(value * 2f64.powi(exponent))
}

/// A float without exponent and without zeros at the end, as Go's `FormatFloat(v, 'f', -1, 64)`.
pub fn plain_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        format!("{value}")
    }
}

/// A text in double quotes as Go's `%q` writes it.
#[derive(Debug, Clone, Copy)]
pub struct GoQuoted<'a>(pub &'a str);

impl std::fmt::Display for GoQuoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\u{7}' => f.write_str("\\a")?,
                '\u{8}' => f.write_str("\\b")?,
                '\u{b}' => f.write_str("\\v")?,
                '\u{c}' => f.write_str("\\f")?,
                c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_both_kinds() {
        assert_eq!(parse_go_duration("1h30m"), Ok(5400 * SECOND_NS));
        assert_eq!(parse_go_duration("-1.5s"), Ok(-SECOND_NS * 3 / 2));
        assert_eq!(parse_go_duration("0.1s"), Ok(100_000_000));
        assert_eq!(parse_go_duration("3600000000µs"), Ok(3600 * SECOND_NS));
        assert_eq!(parse_go_duration("123.456789ms"), Ok(123_456_789));
        for (text, error) in [
            ("oops", "time: invalid duration \"oops\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("5", "time: missing unit in duration \"5\""),
            ("", "time: invalid duration \"\""),
        ] {
            assert_eq!(parse_go_duration(text), Err(error.to_owned()));
        }
        assert_eq!(
            parse_prometheus_duration("1d12h"),
            Ok(36 * 3600 * SECOND_NS)
        );
        assert!(parse_prometheus_duration("1h1d").is_err());
        assert!(parse_prometheus_duration("99999999999y").is_err());
        assert_eq!(prometheus_duration(90 * 60 * SECOND_NS), "1h30m");
        assert_eq!(prometheus_duration(-7 * 86400 * SECOND_NS), "-1w");
        assert_eq!(go_duration(5400 * SECOND_NS), "1h30m0s");
        assert_eq!(go_duration(1_500_000), "1.5ms");
    }

    #[test]
    fn sizes_and_floats() {
        for (text, bytes) in [
            ("1KB", 1000),
            ("1KiB", 1024),
            ("1.5KB", 1500),
            ("2Kb", 2000),
            ("2,048", 2048),
            ("1.5B", 1),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        let error = "strconv.ParseFloat: parsing \"\": invalid syntax";
        assert_eq!(parse_bytes("oops"), Err(error.to_owned()));
        assert_eq!(human_bytes(25_000_000), "25 MB");
        assert_eq!(human_bytes(1500), "1.5 kB");
        assert_eq!(parse_go_float("0x1.8p3"), Ok(12.0));
        assert!(parse_go_float("0x1A").is_err());
        assert!(parse_go_float("1_0").is_err());
        assert_eq!(parse_go_float("-Inf"), Ok(f64::NEG_INFINITY));
        assert!(parse_go_float("NaN").unwrap().is_nan());
        assert_eq!(plain_float(1e21), "1000000000000000000000");
    }
}
