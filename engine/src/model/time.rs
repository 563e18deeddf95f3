//! Time: signed nanoseconds since the Unix epoch, for all signals.

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
    #[must_use]
    pub fn to_millis(self) -> i64 {
        self.0.div_euclid(NANOS_PER_MILLI)
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
