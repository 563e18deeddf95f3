//! `rate`, `increase`, `delta` of native histograms over `anchored` and `smoothed` windows.
//!
//! As for floats: the histogram at a boundary is that of a sample (anchored) or interpolated between
//! its neighbours (smoothed), resets in between are mended, nothing is extrapolated. Start times play
//! no part.

use std::sync::Arc;

use chronolith_engine::model::CounterResetHint;

use super::range::{Outcome, Scope};
use super::rate::{combined, is_gauge};
use super::window::Window;
use crate::promql::annotations::HistogramOperation::{Add, Sub};
use crate::promql::annotations::{Annotation, Annotations};
use crate::promql::ast::PosRange;
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
    let about = (scope.pos, scope.metric);
    let (pos, metric) = about;
    if !window.times.is_empty() {
        scope.note(Annotation::mixed_floats_histograms(pos, metric));
        return None;
    }
    let all = window.histograms;
    let (start, end) = (window.start_ms, window.end_ms);
    let mut last = all.len().checked_sub(1)?;
    let first = all[..last]
        .partition_point(|p| p.time_ms <= start)
        .saturating_sub(1);
    if smoothed {
        last = all[..last].partition_point(|p| p.time_ms < end);
    }
    if all[last].time_ms <= start || (smoothed && all[first].time_ms > end) {
        return None;
    }
    let points = all.get(first..=last)?;
    let custom = points.first()?.histogram.uses_custom_buckets();
    for point in points {
        if point.histogram.uses_custom_buckets() != custom {
            scope.note(Annotation::mixed_exponential_custom(pos, metric));
            return None;
        }
        if is_counter && is_gauge(point) {
            scope.note(Annotation::histogram_not_counter(pos, metric));
        }
    }

    let mut between = |before: &HistogramPoint, after: &HistogramPoint, time: i64| {
        interpolate(before, after, time, is_counter, about, scope.notes).map(Arc::new)
    };
    let (left, starts_between) = match points {
        [before, after, ..] if smoothed && before.time_ms < start => {
            (between(before, after, start)?, true)
        }
        _ => (Arc::clone(&points[0].histogram), false),
    };
    let right = if smoothed && last > 0 && all[last].time_ms > end {
        between(&all[last - 1], &all[last], end)?
    } else {
        Arc::clone(&all[last].histogram)
    };
    let gauge = |h: &Histogram| h.counter_reset_hint == CounterResetHint::Gauge;
    if !is_counter && (!gauge(&left) || !gauge(&right)) {
        scope.note(Annotation::histogram_not_gauge(pos, metric));
    }

    let mut result = combined(&right, &left, Sub, about, scope.notes)?;
    if is_counter {
        let lost = lost_in_resets(points, &left, &right, starts_between, about, scope.notes)?;
        if let Some(lost) = lost {
            result = combined(&result, &lost, Add, about, scope.notes)?;
        }
    }
    if is_rate {
        arithmetic::div(&mut result, window.seconds());
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    arithmetic::compact(&mut result);
    Some(Outcome::Histogram(Box::new(result)))
}

/// What the counter had when it was reset between the boundaries, all resets together. The first and
/// the last of `points` are stood for by `left` and `right`; `None` with a remark where layouts do
/// not mix.
#[expect(
    clippy::option_option,
    reason = "no sum, and no reset, are different things"
)]
fn lost_in_resets(
    points: &[HistogramPoint],
    left: &Arc<Histogram>,
    right: &Arc<Histogram>,
    starts_between: bool,
    about: (PosRange, &str),
    notes: &mut Annotations,
) -> Option<Option<Histogram>> {
    let mut previous = left;
    let mut next = 1;
    if starts_between && reset::detect_reset(&points[1].histogram, &points[0].histogram) {
        // The boundary lies behind this reset already.
        previous = &points[1].histogram;
        next = 2;
    }
    if next >= points.len() {
        return Some(None);
    }
    let inner = points[next..points.len() - 1].iter().map(|p| &p.histogram);
    let mut lost: Option<Histogram> = None;
    for current in inner.chain([right]) {
        if reset::detect_reset(current, previous) {
            lost = Some(match &lost {
                None => Histogram::clone(previous),
                Some(lost) => combined(lost, previous, Add, about, notes)?,
            });
        }
        previous = current;
    }
    Some(lost)
}

/// The histogram at `time` between two samples, bucket by bucket; a reset counter begins at zero.
/// `None` with a remark where layouts do not mix.
pub fn interpolate(
    before: &HistogramPoint,
    after: &HistogramPoint,
    time_ms: i64,
    is_counter: bool,
    about: (PosRange, &str),
    notes: &mut Annotations,
) -> Option<Histogram> {
    let (first, second) = (&before.histogram, &after.histogram);
    if time_ms == before.time_ms {
        return Some(Histogram::clone(first));
    }
    if time_ms == after.time_ms {
        return Some(Histogram::clone(second));
    }
    let share = (time_ms - before.time_ms) as f64 / (after.time_ms - before.time_ms) as f64;
    if is_counter && reset::detect_reset(second, first) {
        let mut grown = Histogram::clone(second);
        arithmetic::mul(&mut grown, share);
        return Some(grown);
    }
    let mut grown = combined(second, first, Sub, about, notes)?;
    arithmetic::mul(&mut grown, share);
    combined(&grown, first, Add, about, notes)
}
