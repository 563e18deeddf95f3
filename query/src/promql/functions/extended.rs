//! `rate`, `increase`, `delta`, `resets`, `changes` over `anchored` and `smoothed` windows: the value
//! at a boundary is that of the last sample before it (anchored) or interpolated between its
//! neighbours (smoothed), and nothing is extrapolated.

use super::range::{Outcome, Scope};
use super::window::Window;

/// The window from the last sample at or before its start (or the first one inside) to its end;
/// `None` if it holds no sample of its own.
pub fn anchored_window<'a>(window: &Window<'a>) -> Option<Window<'a>> {
    let start = window.start_ms;
    let last = window
        .times
        .last()
        .copied()
        .max(window.histograms.last().map(|p| p.time_ms))?;
    if last <= start {
        return None;
    }
    let floats_before = window.times.partition_point(|&t| t <= start);
    let histograms_before = window.histograms.partition_point(|p| p.time_ms <= start);
    // The boundary sample is the later one of the two kinds.
    let float = floats_before.checked_sub(1).map(|i| window.times[i]);
    let histogram = histograms_before
        .checked_sub(1)
        .map(|i| window.histograms[i].time_ms);
    let float_stays = usize::from(float.is_some() && float > histogram);
    let histogram_stays = usize::from(histogram.is_some() && histogram >= float);
    let from = floats_before - float_stays;
    Some(Window {
        times: &window.times[from..],
        values: &window.values[from..],
        starts: window.starts.get(from..).unwrap_or(&[]),
        histograms: &window.histograms[histograms_before - histogram_stays..],
        first: window.first + from,
        ..*window
    })
}

/// The value at `time` on the line between two samples. A counter that was reset between them is
/// taken to have begun at 0.
pub fn interpolate((t0, v0): (i64, f64), (t1, v1): (i64, f64), time: i64, is_counter: bool) -> f64 {
    let from = if is_counter && v1 < v0 { 0.0 } else { v0 };
    from + (v1 - from) * (time - t0) as f64 / (t1 - t0) as f64
}

/// The samples that matter: indexes of the first and the last one, and the values at both
/// boundaries. `None` if no sample lies behind the start.
pub fn boundaries(
    times: &[i64],
    values: &[f64],
    (start, end): (i64, i64),
    smoothed: bool,
    is_counter: bool,
) -> Option<(usize, usize, f64, f64)> {
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last]
        .partition_point(|&t| t <= start)
        .saturating_sub(1);
    if smoothed {
        last = times[..last].partition_point(|&t| t < end);
    }
    if times[last] <= start {
        return None;
    }
    let point = |i: usize| (times[i], values[i]);
    let left = if smoothed && times[first] < start && first < last {
        interpolate(point(first), point(first + 1), start, is_counter)
    } else {
        values[first]
    };
    let right = if smoothed && last > 0 && times[last] > end {
        interpolate(point(last - 1), point(last), end, is_counter)
    } else {
        values[last]
    };
    Some((first, last, left, right))
}

/// `rate`, `increase`, `delta`.
pub fn rate(
    window: &Window<'_>,
    scope: &mut Scope<'_>,
    smoothed: bool,
    is_counter: bool,
    is_rate: bool,
) -> Option<Outcome> {
    if !window.histograms.is_empty() {
        return super::extended_histogram::rate(window, scope, smoothed, is_counter, is_rate);
    }
    let range = (window.start_ms, window.end_ms);
    let (first, last, left, right) =
        boundaries(window.times, window.values, range, smoothed, is_counter)?;
    if smoothed && window.times[first] > window.end_ms {
        // Only what comes after the window is known.
        return None;
    }
    let mut result = right - left;
    if is_counter {
        // Resets at the boundaries are dealt with by the interpolation.
        let from = first + usize::from(window.times[first] <= window.start_ms);
        let to = if window.times[last] >= window.end_ms {
            last
        } else {
            last + 1
        };
        let mut previous = left;
        for &value in window.values.get(from..to).unwrap_or(&[]) {
            if value < previous {
                result += previous;
            }
            previous = value;
        }
        if right < previous {
            result += previous;
        }
    }
    Some(Outcome::Float(if is_rate {
        result / window.seconds()
    } else {
        result
    }))
}
