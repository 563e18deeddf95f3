//! Time: signed nanoseconds since the Unix epoch, for all signals.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Nanoseconds in a millisecond.
pub const NANOS_PER_MILLI: i64 = 1_000_000;
/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// An instant: nanoseconds since the Unix epoch (1677 to 2262).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TimestampNs(pub i64);

impl TimestampNs {
    /// The earliest instant.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest instant.
    pub const MAX: Self = Self(i64::MAX);

    /// From milliseconds, or `None` where nanoseconds cannot hold it.
    #[must_use]
    pub fn from_millis(ms: i64) -> Option<Self> {
        ms.checked_mul(NANOS_PER_MILLI).map(Self)
    }

    /// From milliseconds, clamped to what nanoseconds can hold: right for the bounds of a query.
    #[must_use]
    pub fn from_millis_saturating(ms: i64) -> Self {
        Self(ms.saturating_mul(NANOS_PER_MILLI))
    }

    /// Milliseconds, rounded towards the past.
    #[inline]
    #[must_use]
    pub fn to_millis(self) -> i64 {
        self.0.div_euclid(NANOS_PER_MILLI)
    }
}

/// RFC 3339 in UTC, with as many digits of the second as the instant has (`2025-01-01T00:00:00.5Z`), or
/// as many as the format's precision says, cut off (`{:.3}`: milliseconds).
impl fmt::Display for TimestampNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY_SECONDS: i64 = 86_400;
        let seconds = self.0.div_euclid(NANOS_PER_SECOND);
        let nanos = self.0.rem_euclid(NANOS_PER_SECOND);
        let (days, second) = (
            seconds.div_euclid(DAY_SECONDS),
            seconds.rem_euclid(DAY_SECONDS),
        );
        // Days since 0000-03-01: years that begin in March have their leap day at the end.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        let digits = format!("{nanos:09}");
        let digits = match f.precision() {
            Some(count) => digits.get(..count).unwrap_or(&digits),
            None => digits.trim_end_matches('0'),
        };
        if !digits.is_empty() {
            write!(f, ".{digits}")?;
        }
        f.write_str("Z")
    }
}

/// A range of instants, both ends included. `start > end` is an empty range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeRange {
    /// First instant in the range.
    pub start: TimestampNs,
    /// Last instant in the range.
    pub end: TimestampNs,
}

impl TimeRange {
    /// Everything.
    pub const ALL: Self = Self {
        start: TimestampNs::MIN,
        end: TimestampNs::MAX,
    };

    /// The range from `start` to `end`, both in nanoseconds and included.
    #[must_use]
    pub fn new(start: i64, end: i64) -> Self {
        Self {
            start: TimestampNs(start),
            end: TimestampNs(end),
        }
    }

    /// The range from `start` to `end` in milliseconds, both included, clamped to what can be held.
    ///
    /// The end covers its whole millisecond, so that a sample stored with nanoseconds is not lost.
    #[must_use]
    pub fn from_millis(start: i64, end: i64) -> Self {
        let end = end
            .saturating_mul(NANOS_PER_MILLI)
            .saturating_add(NANOS_PER_MILLI - 1);
        Self {
            start: TimestampNs::from_millis_saturating(start),
            end: TimestampNs(end),
        }
    }

    /// Whether nothing can lie in the range.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start > self.end
    }

    /// Whether `time` lies in the range.
    #[must_use]
    pub fn contains(self, time: TimestampNs) -> bool {
        self.start <= time && time <= self.end
    }

    /// Whether the two ranges share an instant.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end && !self.is_empty() && !other.is_empty()
    }

    /// The instants in both ranges (may be empty).
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_print_as_rfc_3339() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_500_000_000, "2000-02-29T00:00:00.5Z"),
            (1_735_689_599_000_000_000, "2024-12-31T23:59:59Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(TimestampNs(ns).to_string(), text);
        }
        assert_eq!(
            format!("{:.3}", TimestampNs(1_999_999)),
            "1970-01-01T00:00:00.001Z"
        );
        assert_eq!(format!("{:.0}", TimestampNs(5)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn milliseconds_round_towards_the_past() {
        assert_eq!(TimestampNs(-1).to_millis(), -1);
        assert_eq!(TimestampNs(1_999_999).to_millis(), 1);
        assert_eq!(TimestampNs::from_millis(i64::MAX), None);
    }

    #[test]
    fn ranges_include_both_ends() {
        let range = TimeRange::new(10, 20);
        assert!(range.contains(TimestampNs(10)) && range.contains(TimestampNs(20)));
        assert!(range.overlaps(TimeRange::new(20, 30)));
        assert!(!range.overlaps(TimeRange::new(21, 30)));
        assert!(range.intersect(TimeRange::new(21, 30)).is_empty());
        assert_eq!(TimeRange::from_millis(1, 1).end.0, 1_999_999);
    }
}
