//! Times of templates: Go's layouts, by which `Mon Jan 2 15:04:05 2006` shows how a time is written.
//!
//! Zones are UTC and fixed distances from it.

use std::fmt::Write;

use super::super::units::SECOND_NS;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// A piece of a layout.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Piece<'l> {
    Text(&'l str),
    Year4,
    Year2,
    MonthLong,
    MonthShort,
    Month { padded: bool },
    DayLong,
    DayShort,
    Day { padded: bool, blank: bool },
    YearDay,
    Hour24,
    Hour12 { padded: bool },
    Minute { padded: bool },
    Second { padded: bool },
    Fraction { digits: usize, trimmed: bool },
    Meridiem { upper: bool },
    ZoneName,
    Zone { z: bool, colon: bool, short: bool },
}

/// The piece that a layout begins with, and its length; the longest first.
fn piece(layout: &str) -> Option<(Piece<'static>, usize)> {
    const FIXED: [(&str, Piece<'static>); 31] = [
        ("2006", Piece::Year4),
        ("January", Piece::MonthLong),
        ("Jan", Piece::MonthShort),
        ("Monday", Piece::DayLong),
        ("Mon", Piece::DayShort),
        ("MST", Piece::ZoneName),
        (
            "Z07:00",
            Piece::Zone {
                z: true,
                colon: true,
                short: false,
            },
        ),
        (
            "Z0700",
            Piece::Zone {
                z: true,
                colon: false,
                short: false,
            },
        ),
        (
            "Z07",
            Piece::Zone {
                z: true,
                colon: false,
                short: true,
            },
        ),
        (
            "-07:00",
            Piece::Zone {
                z: false,
                colon: true,
                short: false,
            },
        ),
        (
            "-0700",
            Piece::Zone {
                z: false,
                colon: false,
                short: false,
            },
        ),
        (
            "-07",
            Piece::Zone {
                z: false,
                colon: false,
                short: true,
            },
        ),
        ("002", Piece::YearDay),
        ("01", Piece::Month { padded: true }),
        (
            "02",
            Piece::Day {
                padded: true,
                blank: false,
            },
        ),
        ("03", Piece::Hour12 { padded: true }),
        ("04", Piece::Minute { padded: true }),
        ("05", Piece::Second { padded: true }),
        ("06", Piece::Year2),
        ("15", Piece::Hour24),
        ("PM", Piece::Meridiem { upper: true }),
        ("pm", Piece::Meridiem { upper: false }),
        (
            "_2",
            Piece::Day {
                padded: false,
                blank: true,
            },
        ),
        ("1", Piece::Month { padded: false }),
        (
            "2",
            Piece::Day {
                padded: false,
                blank: false,
            },
        ),
        ("3", Piece::Hour12 { padded: false }),
        ("4", Piece::Minute { padded: false }),
        ("5", Piece::Second { padded: false }),
        ("__2", Piece::YearDay),
        (
            "Z070000",
            Piece::Zone {
                z: true,
                colon: false,
                short: false,
            },
        ),
        (
            "-070000",
            Piece::Zone {
                z: false,
                colon: false,
                short: false,
            },
        ),
    ];
    if let Some(mark) = layout.chars().next().filter(|c| matches!(c, '.' | ',')) {
        let rest = &layout[1..];
        for digit in ['0', '9'] {
            let digits = rest.chars().take_while(|c| *c == digit).count();
            let after = rest[digits..].chars().next();
            if digits > 0 && !after.is_some_and(|c| c.is_ascii_digit()) && mark == '.' {
                let trimmed = digit == '9';
                return Some((Piece::Fraction { digits, trimmed }, 1 + digits));
            }
        }
    }
    let found = FIXED.iter().find(|(text, _)| layout.starts_with(text))?;
    Some((found.1, found.0.len()))
}

fn pieces(layout: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < layout.len() {
        match layout.get(at..).and_then(piece) {
            Some((found, length)) => {
                if start < at {
                    pieces.push(Piece::Text(&layout[start..at]));
                }
                pieces.push(found);
                at += length;
                start = at;
            }
            None => {
                at += 1;
                while !layout.is_char_boundary(at) {
                    at += 1;
                }
            }
        }
    }
    if start < layout.len() {
        pieces.push(Piece::Text(&layout[start..]));
    }
    pieces
}

/// Year, month and day of a day since the epoch (after H. Hinnant's civil_from_days).
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The day since the epoch of a date.
fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A time by a layout; the zone lies `offset_s` seconds east of UTC.
pub(super) fn format(ns: i64, offset_s: i32, layout: &str) -> String {
    let local = i128::from(ns) + i128::from(offset_s) * i128::from(SECOND_NS);
    let seconds = local.div_euclid(i128::from(SECOND_NS)) as i64;
    let nanos = local.rem_euclid(i128::from(SECOND_NS)) as u32;
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    let weekday = DAYS[(days + 4).rem_euclid(7) as usize];
    let month_name = MONTHS[(month as usize - 1) % 12];
    let mut out = String::new();
    let number = |out: &mut String, value: i64, padded: bool| {
        let _ = if padded {
            write!(out, "{value:02}")
        } else {
            write!(out, "{value}")
        };
    };
    for piece in pieces(layout) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Year4 => {
                let _ = write!(out, "{year:04}");
            }
            Piece::Year2 => number(&mut out, year.rem_euclid(100), true),
            Piece::MonthLong => out.push_str(month_name),
            Piece::MonthShort => out.push_str(&month_name[..3]),
            Piece::Month { padded } => number(&mut out, i64::from(month), padded),
            Piece::DayLong => out.push_str(weekday),
            Piece::DayShort => out.push_str(&weekday[..3]),
            Piece::Day { padded, blank } => {
                if blank && day < 10 {
                    out.push(' ');
                }
                number(&mut out, i64::from(day), padded);
            }
            Piece::YearDay => {
                let _ = write!(out, "{:03}", days - days_of(year, 1, 1) + 1);
            }
            Piece::Hour24 => number(&mut out, hour, true),
            Piece::Hour12 { padded } => number(&mut out, (hour + 11) % 12 + 1, padded),
            Piece::Minute { padded } => number(&mut out, minute, padded),
            Piece::Second { padded } => number(&mut out, second, padded),
            Piece::Fraction { digits, trimmed } => {
                let text = format!("{nanos:09}");
                let mut text = &text[..digits.min(9)];
                if trimmed {
                    text = text.trim_end_matches('0');
                }
                if !text.is_empty() {
                    out.push('.');
                    out.push_str(text);
                }
            }
            Piece::Meridiem { upper } => out.push_str(match (hour >= 12, upper) {
                (false, true) => "AM",
                (true, true) => "PM",
                (false, false) => "am",
                (true, false) => "pm",
            }),
            Piece::ZoneName if offset_s == 0 => out.push_str("UTC"),
            Piece::Zone { z: true, .. } if offset_s == 0 => out.push('Z'),
            Piece::ZoneName => zone(&mut out, offset_s, false, offset_s % 3600 == 0),
            Piece::Zone { colon, short, .. } => zone(&mut out, offset_s, colon, short),
        }
    }
    out
}

fn zone(out: &mut String, offset_s: i32, colon: bool, short: bool) {
    let minutes = offset_s.unsigned_abs() / 60;
    let sign = if offset_s < 0 { '-' } else { '+' };
    let _ = write!(out, "{sign}{:02}", minutes / 60);
    if !short {
        let _ = write!(out, "{}{:02}", if colon { ":" } else { "" }, minutes % 60);
    }
}

/// Reads a time by a layout: ns since the epoch and the zone's offset.
pub(super) fn parse(layout: &str, text: &str, offset_s: i32) -> Option<(i64, i32)> {
    let mut rest = text;
    let (mut year, mut month, mut day) = (0i64, 1u32, 1u32);
    let (mut hour, mut minute, mut second, mut nanos) = (0i64, 0i64, 0i64, 0i64);
    let mut offset = offset_s;
    let mut afternoon = None;
    let take = |rest: &mut &str, max: usize| -> Option<i64> {
        let length = rest
            .bytes()
            .take(max)
            .take_while(u8::is_ascii_digit)
            .count();
        let value = rest.get(..length)?.parse().ok()?;
        *rest = &rest[length..];
        Some(value)
    };
    let name = |rest: &mut &str, names: &[&str], short: bool| -> Option<usize> {
        let index = names.iter().position(|n| {
            let n = if short { &n[..3] } else { n };
            rest.get(..n.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(n))
        })?;
        let length = if short { 3 } else { names[index].len() };
        *rest = &rest[length..];
        Some(index)
    };
    for piece in pieces(layout) {
        match piece {
            Piece::Text(expected) => rest = rest.strip_prefix(expected)?,
            Piece::Year4 => year = take(&mut rest, 4)?,
            Piece::Year2 => {
                let two = take(&mut rest, 2)?;
                year = if two >= 69 { 1900 + two } else { 2000 + two };
            }
            Piece::MonthLong => month = name(&mut rest, &MONTHS, false)? as u32 + 1,
            Piece::MonthShort => month = name(&mut rest, &MONTHS, true)? as u32 + 1,
            Piece::Month { .. } => month = u32::try_from(take(&mut rest, 2)?).ok()?,
            Piece::DayLong => {
                name(&mut rest, &DAYS, false)?;
            }
            Piece::DayShort => {
                name(&mut rest, &DAYS, true)?;
            }
            Piece::Day { .. } => {
                rest = rest.trim_start_matches(' ');
                day = u32::try_from(take(&mut rest, 2)?).ok()?;
            }
            Piece::YearDay => {
                take(&mut rest, 3)?;
            }
            Piece::Hour24 | Piece::Hour12 { .. } => hour = take(&mut rest, 2)?,
            Piece::Minute { .. } => minute = take(&mut rest, 2)?,
            Piece::Second { .. } => {
                second = take(&mut rest, 2)?;
                // A fraction may follow whether the layout has one or not.
                if let Some(after) = rest.strip_prefix('.') {
                    nanos = fraction(&mut rest, after)?;
                }
            }
            Piece::Fraction { .. } => {
                if let Some(after) = rest.strip_prefix('.') {
                    nanos = fraction(&mut rest, after)?;
                }
            }
            Piece::Meridiem { .. } => {
                let mark = rest.get(..2)?;
                afternoon = Some(mark.eq_ignore_ascii_case("pm"));
                rest = &rest[2..];
            }
            Piece::ZoneName => {
                let length = rest.bytes().take_while(u8::is_ascii_uppercase).count();
                rest = &rest[length..];
                offset = 0;
            }
            Piece::Zone { z, .. } => {
                if let (true, Some(after)) = (z, rest.strip_prefix('Z')) {
                    (rest, offset) = (after, 0);
                    continue;
                }
                let sign = match rest.bytes().next()? {
                    b'+' => 1,
                    b'-' => -1,
                    _ => return None,
                };
                rest = &rest[1..];
                let hours = take(&mut rest, 2)?;
                rest = rest.strip_prefix(':').unwrap_or(rest);
                let minutes = take(&mut rest, 2).unwrap_or(0);
                offset = i32::try_from(sign * (hours * 3600 + minutes * 60)).ok()?;
            }
        }
    }
    match afternoon {
        Some(true) if hour < 12 => hour += 12,
        Some(false) if hour == 12 => hour = 0,
        _ => {}
    }
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    if !rest.is_empty() || !valid || second > 60 {
        return None;
    }
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = seconds - i64::from(offset);
    Some((seconds.checked_mul(SECOND_NS)?.checked_add(nanos)?, offset))
}

fn fraction<'t>(rest: &mut &'t str, after: &'t str) -> Option<i64> {
    let length = after.bytes().take_while(u8::is_ascii_digit).count();
    let digits = after.get(..length.min(9))?;
    let value: i64 = digits.parse().ok()?;
    *rest = &after[length..];
    Some(value * 10i64.pow(9 - digits.len() as u32))
}

/// The offset of a zone by its name: UTC, Local (which is UTC here) or `+02:00`.
pub(super) fn zone_offset(name: &str) -> Option<i32> {
    match name {
        "" | "UTC" | "GMT" | "Local" | "Etc/UTC" => Some(0),
        name => parse("-07:00", name, 0).map(|(_, offset)| offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_show_how_times_are_written() {
        let ns = 1_700_000_000_123_456_789;
        for (layout, text) in [
            (
                "2006-01-02T15:04:05.999999999Z07:00",
                "2023-11-14T22:13:20.123456789Z",
            ),
            ("Mon Jan _2 3:04:05PM 2006", "Tue Nov 14 10:13:20PM 2023"),
            (
                "02/01/06 15:04:05.000 -0700 MST",
                "14/11/23 22:13:20.123 +0000 UTC",
            ),
            ("Monday, January 2", "Tuesday, November 14"),
        ] {
            assert_eq!(format(ns, 0, layout), text);
        }
        assert_eq!(format(0, 7200, "15:04 -07:00"), "02:00 +02:00");
        assert_eq!(
            format(-SECOND_NS, 0, "2006-01-02 15:04:05"),
            "1969-12-31 23:59:59"
        );
        assert_eq!(
            parse("2006-01-02T15:04:05Z07:00", "2023-11-14T22:13:20Z", 0),
            Some((1_700_000_000 * SECOND_NS, 0))
        );
        assert_eq!(
            parse("2006-01-02 15:04", "2023-11-14 22:13", 3600),
            Some((1_699_996_380 * SECOND_NS, 3600))
        );
        assert_eq!(parse("2006", "x", 0), None);
    }
}
