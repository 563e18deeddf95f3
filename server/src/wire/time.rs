//! Times as senders of logs write them, to the nanosecond.

use std::fmt::Write as _;

/// Days from 1970-01-01 to the first of a month in the proleptic Gregorian calendar (Howard Hinnant,
/// *chrono-compatible low-level date algorithms*).
#[must_use]
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
#[must_use]
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// Nanoseconds since the epoch of a date and a time of day; `None` for what no calendar has, or what
/// does not fit.
#[must_use]
pub fn civil_ns(date: [i64; 3], time: [i64; 3], nanos: i64, offset_seconds: i64) -> Option<i64> {
    let [year, month, day] = date;
    let [hour, minute, second] = time;
    let days_in_month = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let in_range = (1..=days_in_month).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        // A leap second is the first of the next minute.
        && (0..=60).contains(&second);
    if !in_range {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    (seconds - offset_seconds)
        .checked_mul(1_000_000_000)?
        .checked_add(nanos)
}

/// Appends milliseconds since the epoch as RFC 3339 in UTC; without a fraction where it is 0.
pub fn push_rfc3339_ms(out: &mut String, ms: i64) {
    let (seconds, ms) = (ms.div_euclid(1000), ms.rem_euclid(1000));
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    let _ = match ms {
        0 => write!(out, "Z"),
        ms => write!(out, ".{ms:03}Z"),
    };
}

/// RFC 3339, with a blank for the `T`, without a zone (UTC), or with digits beyond nanoseconds if need
/// be.
#[must_use]
pub fn parse_rfc3339_ns(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |from: usize, count: usize| -> Option<i64> {
        let part = bytes.get(from..from + count)?;
        part.iter().try_fold(0_i64, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + i64::from(digit - b'0'))
        })
    };
    let at = |index: usize, wanted: &[u8]| bytes.get(index).is_some_and(|b| wanted.contains(b));
    if !(at(4, b"-") && at(7, b"-") && at(10, b"Tt ") && at(13, b":") && at(16, b":")) {
        return None;
    }
    let date = [digits(0, 4)?, digits(5, 2)?, digits(8, 2)?];
    let time = [digits(11, 2)?, digits(14, 2)?, digits(17, 2)?];
    let mut rest = bytes.get(19..)?;
    let mut nanos = 0;
    if let [b'.' | b',', fraction @ ..] = rest {
        let count = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for place in 0..9 {
            let digit = fraction.get(place).filter(|_| place < count);
            nanos = nanos * 10 + digit.map_or(0, |d| i64::from(d - b'0'));
        }
        rest = fraction.get(count..)?;
    }
    let offset = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let two = |pair: &[u8]| -> Option<i64> {
                let [a, b] = pair else { return None };
                (a.is_ascii_digit() && b.is_ascii_digit())
                    .then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
            };
            let (hours, minutes) = match zone.len() {
                2 => (two(zone)?, 0),
                4 => (two(zone.get(..2)?)?, two(zone.get(2..)?)?),
                5 if zone.get(2) == Some(&b':') => (two(zone.get(..2)?)?, two(zone.get(3..)?)?),
                _ => return None,
            };
            let offset = hours * 3600 + minutes * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    civil_ns(date, time, nanos, offset)
}

/// A number whose unit its size tells: seconds, milliseconds, microseconds or nanoseconds of this
/// century.
#[must_use]
pub fn guess_unit_ns(number: i64) -> Option<i64> {
    let factor = match number.unsigned_abs() {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    number.checked_mul(factor)
}

/// RFC 3339, or a number (whole, or seconds with a fraction) whose unit its size tells.
#[must_use]
pub fn parse_time_ns(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(ns) = parse_rfc3339_ns(text) {
        return Some(ns);
    }
    if let Ok(number) = text.parse::<i64>() {
        return guess_unit_ns(number);
    }
    let (whole, fraction) = text.split_once('.')?;
    let is_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole.strip_prefix('-').unwrap_or(whole)) || !is_digits(fraction) {
        return None;
    }
    let base = guess_unit_ns(whole.parse().ok()?)?;
    let unit = match whole.trim_start_matches('-').len() {
        0..=11 => 1_000_000_000_f64,
        12..=14 => 1_000_000.0,
        15..=17 => 1_000.0,
        _ => 1.0,
    };
    let part: f64 = format!("0.{fraction}").parse().ok()?;
    let part = (part * unit).round() as i64;
    base.checked_add(if whole.starts_with('-') { -part } else { part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        const S: i64 = 1_700_000_000_000_000_000;
        for (text, expected) in [
            ("2023-11-14T22:13:20Z", S),
            ("2023-11-14 22:13:20", S),
            ("2023-11-14T22:13:20.000000001Z", S + 1),
            ("2023-11-14T22:13:20,5+0000", S + 500_000_000),
            ("2023-11-14t23:13:20.1234567899+01:00", S + 123_456_789),
            ("2023-11-14T17:13:20-05", S),
            ("1969-12-31T23:59:59Z", -1_000_000_000),
            ("1700000000", S),
            ("1700000000000", S),
            ("1700000000000000", S),
            ("1700000000000000000", S),
            ("1700000000.5", S + 500_000_000),
            ("1700000000000.25", S + 250_000),
        ] {
            assert_eq!(parse_time_ns(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "x",
            "2023-13-14T22:13:20Z",
            "2023-02-29T00:00:00Z",
            "2023-11-14T25:13:20Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+1",
            "9999-01-01T00:00:00Z",
            "1.",
            "1e9",
            "é023-11-14T22:13:20Z",
        ] {
            assert_eq!(parse_time_ns(text), None, "{text}");
        }
    }

    #[test]
    fn days_go_both_ways() {
        for days in [-800_000, -719_468, -1, 0, 59, 60, 11_016, 20_000, 800_000] {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
    }
}
