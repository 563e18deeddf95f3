//! The window of a range function: the samples of one series that one step sees.

use crate::promql::batch::HistogramPoint;

/// One step's window, `(start, end]`. Staleness markers are gone.
///
/// With `anchored` and `smoothed` the slices reach beyond the window.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// Times of the floats, ms, ascending.
    pub times: &'a [i64],
    /// Their values.
    pub values: &'a [f64],
    /// Their start times, 0 where unknown; empty when none is known or they are not to be used.
    pub starts: &'a [i64],
    /// The histograms.
    pub histograms: &'a [HistogramPoint],
    /// Index of the first float in the series: what was computed for the whole series is found
    /// by it.
    pub first: usize,
    /// Where the window begins, ms, exclusive.
    pub start_ms: i64,
    /// Where it ends, ms, inclusive.
    pub end_ms: i64,
    /// The evaluation time, ms.
    pub step_ms: i64,
    /// The step's number.
    pub step: usize,
}

impl Window<'_> {
    /// Length of the window in seconds.
    #[inline]
    pub fn seconds(&self) -> f64 {
        (self.end_ms - self.start_ms) as f64 / 1000.0
    }
}

/// Whether the counter was reset between two samples, judging by their start times (0: unknown).
///
/// A start time at or after the sample itself says nothing. One that points at the sample before
/// means a delta, if that one has a start time before itself, else a cumulative series whose true
/// start is not known.
#[inline]
pub fn is_start_reset(prev_start: i64, prev_time: i64, start: i64, time: i64) -> bool {
    if start == 0 || start >= time || start < prev_time {
        return false;
    }
    start > prev_time || (prev_start != 0 && prev_start < prev_time)
}

/// Whether a sample claims to have begun before the sample in front of it, as something else than
/// that one: a sign of bad data.
#[inline]
pub fn starts_overlap(prev_start: i64, prev_time: i64, start: i64) -> bool {
    start != 0 && start < prev_time && start != prev_start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_tell_resets() {
        assert!(is_start_reset(5, 10, 15, 20));
        assert!(is_start_reset(5, 10, 10, 20), "delta");
        assert!(!is_start_reset(0, 10, 10, 20), "unknown start");
        assert!(!is_start_reset(5, 10, 5, 20));
        assert!(!is_start_reset(10, 10, 10, 20), "unknown start");
        assert!(!is_start_reset(5, 10, 21, 20), "invalid");
        assert!(!is_start_reset(5, 10, 0, 20));
    }
}
