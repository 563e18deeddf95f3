//! `rate`, `increase`, `delta` of native histograms over `anchored` and `smoothed` windows.
//!
//! The window's histograms are cut to the boundary samples; with `smoothed` the ones outside are
//! replaced by what interpolation gives at the boundary. The difference is then that of the
//! ordinary rate, without extrapolation.

use std::sync::Arc;

use chronolith_engine::model::CounterResetHint;

use super::range::{Outcome, Scope};
use super::rate::increase_of_histograms;
use super::window::Window;
use crate::promql::annotations::Annotation;
use crate::promql::batch::HistogramPoint;
use crate::promql::histogram::{Histogram, arithmetic, reset};

/// `rate`, `increase`, `delta`.
pub fn rate(
    window: &Window<'_>,
    scope: &mut Scope<'_>,
    smoothed: bool,
    is_counter: bool,
    is_rate: bool,
) -> Option<Outcome> {
    if !window.times.is_empty() {
        scope.note(Annotation::mixed_floats_histograms(scope.pos, scope.metric));
        return None;
    }
    let points = boundary_points(window, smoothed, is_counter)?;
    let mut result = if points.len() < 2 {
        let only = &points.first()?.histogram;
        arithmetic::sub(only, only).ok()?.0
    } else {
        increase_of_histograms(&points, false, scope, is_counter)?
    };
    result.counter_reset_hint = CounterResetHint::Gauge;
    arithmetic::compact(&mut result);
    if is_rate {
        arithmetic::div(&mut result, window.seconds());
    }
    Some(Outcome::Histogram(Box::new(result)))
}

/// The histograms from one boundary to the other.
fn boundary_points(
    window: &Window<'_>,
    smoothed: bool,
    is_counter: bool,
) -> Option<Vec<HistogramPoint>> {
    let all = window.histograms;
    let (start, end) = (window.start_ms, window.end_ms);
    let mut last = all.len().checked_sub(1)?;
    let first = all[..last]
        .partition_point(|p| p.time_ms <= start)
        .saturating_sub(1);
    if smoothed {
        last = all[..last].partition_point(|p| p.time_ms < end);
    }
    if all[last].time_ms <= start {
        return None;
    }
    let mut points: Vec<HistogramPoint> = all[first..=last].to_vec();
    if smoothed && all[first].time_ms < start && first < last {
        points[0] = interpolate(&all[first], &all[first + 1], start, is_counter)?;
        // A reset on the way is behind the interpolated value already.
        if let Some(second) = points.get_mut(1)
            && second.histogram.counter_reset_hint == CounterResetHint::Reset
        {
            Arc::make_mut(&mut second.histogram).counter_reset_hint = CounterResetHint::Unknown;
        }
    }
    if smoothed && last > 0 && all[last].time_ms > end {
        // Interpolated from the stored samples, not from one that was replaced above.
        let at_end = interpolate(&all[last - 1], &all[last], end, is_counter)?;
        if let Some(point) = points.last_mut() {
            *point = at_end;
        }
    }
    Some(points)
}

/// The histogram at `time` between two samples, bucket by bucket; a reset counter begins at zero.
pub fn interpolate(
    before: &HistogramPoint,
    after: &HistogramPoint,
    time_ms: i64,
    is_counter: bool,
) -> Option<HistogramPoint> {
    let share = (time_ms - before.time_ms) as f64 / (after.time_ms - before.time_ms) as f64;
    let was_reset = is_counter && reset::detect_reset(&after.histogram, &before.histogram);
    let mut histogram = Histogram::clone(&after.histogram);
    arithmetic::mul(&mut histogram, share);
    if !was_reset {
        let mut rest = Histogram::clone(&before.histogram);
        arithmetic::mul(&mut rest, 1.0 - share);
        histogram = arithmetic::add(&histogram, &rest).ok()?.0;
    }
    Some(HistogramPoint {
        time_ms,
        start_ms: 0,
        histogram: Arc::new(histogram),
    })
}
