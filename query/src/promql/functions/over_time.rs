//! Aggregations over time: `avg_over_time` and the like.

use chronolith_engine::model::CounterResetHint;

use super::numeric::{KahanSum, RunningMean, nan_first, quantile};
use super::range::{Outcome, Scope};
use super::window::Window;
use crate::promql::annotations::{Annotation, HistogramOperation};
use crate::promql::histogram::{Histogram, HistogramSum, arithmetic};

/// The floats of the window for functions that take only floats; a remark if there are histograms
/// besides.
fn floats<'a>(window: &Window<'a>, scope: &mut Scope<'_>) -> Option<&'a [f64]> {
    if window.values.is_empty() {
        return None;
    }
    if !window.histograms.is_empty() {
        scope.note(Annotation::histogram_ignored_in_mixed_range(
            scope.pos,
            scope.metric,
        ));
    }
    Some(window.values)
}

/// False, with a remark, if the window holds floats and histograms.
fn is_pure(window: &Window<'_>, scope: &mut Scope<'_>) -> bool {
    let mixed = !window.values.is_empty() && !window.histograms.is_empty();
    if mixed {
        scope.note(Annotation::mixed_floats_histograms(scope.pos, scope.metric));
    }
    !mixed
}

/// `sum_over_time`.
pub fn sum(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<Outcome> {
    if !is_pure(window, scope) {
        return None;
    }
    if !window.histograms.is_empty() {
        let sum = sum_of_histograms(window, scope)?;
        return Some(Outcome::Histogram(Box::new(sum)));
    }
    let mut sum = KahanSum::default();
    for &value in window.values {
        sum.add(value);
    }
    Some(Outcome::Float(sum.value()))
}

/// `avg_over_time`.
pub fn avg(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<Outcome> {
    if !is_pure(window, scope) {
        return None;
    }
    if !window.histograms.is_empty() {
        return avg_of_histograms(window, scope).map(|h| Outcome::Histogram(Box::new(h)));
    }
    let mut mean = RunningMean::default();
    for &value in window.values {
        mean.add(value);
    }
    Some(Outcome::Float(mean.value()))
}

/// Remarks on hints and boundaries that a sum of histograms came across.
fn note_collisions(window: &Window<'_>, scope: &mut Scope<'_>, reconciled: bool) {
    let has = |hint| {
        window
            .histograms
            .iter()
            .any(|p| p.histogram.counter_reset_hint == hint)
    };
    let operation = HistogramOperation::Aggregation;
    if has(CounterResetHint::Reset) && has(CounterResetHint::NotReset) {
        scope.note(Annotation::counter_reset_collision(scope.pos, operation));
    }
    if reconciled {
        scope.note(Annotation::mismatched_custom_buckets(scope.pos, operation));
    }
}

fn sum_of_histograms(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<Histogram> {
    let (first, others) = window.histograms.split_first()?;
    let mut sum = HistogramSum::new(&first.histogram);
    let mut reconciled = false;
    for point in others {
        let Ok(combined) = sum.add(&point.histogram) else {
            scope.note(Annotation::mixed_exponential_custom(
                scope.pos,
                scope.metric,
            ));
            return None;
        };
        reconciled |= combined.bounds_reconciled;
    }
    note_collisions(window, scope, reconciled);
    Some(sum.finish())
}

fn avg_of_histograms(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<Histogram> {
    let sum = sum_of_histograms(window, scope)?;
    let count = window.histograms.len() as f64;
    if !arithmetic::has_overflow(&sum) {
        let mut mean = sum;
        arithmetic::div(&mut mean, count);
        return Some(mean);
    }
    mean_of_histograms(window.histograms.iter().map(|p| &*p.histogram), count)
}

/// The mean of histograms whose sum overflows: every one is divided before it is added.
pub fn mean_of_histograms<'a>(
    histograms: impl Iterator<Item = &'a Histogram>,
    count: f64,
) -> Option<Histogram> {
    let mut mean: Option<HistogramSum> = None;
    for histogram in histograms {
        let mut part = histogram.clone();
        arithmetic::div(&mut part, count);
        match &mut mean {
            None => mean = Some(HistogramSum::new(&part)),
            Some(mean) => {
                mean.add(&part).ok()?;
            }
        }
    }
    mean.map(HistogramSum::finish)
}

/// `count_over_time`.
pub fn count(window: &Window<'_>) -> Option<Outcome> {
    Some(Outcome::Float(
        (window.values.len() + window.histograms.len()) as f64,
    ))
}

/// `min_over_time`; NaN only if there is nothing else.
pub fn min(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<f64> {
    let values = floats(window, scope)?;
    Some(values.iter().fold(
        f64::NAN,
        |min, &v| if v < min || min.is_nan() { v } else { min },
    ))
}

/// `max_over_time`; NaN only if there is nothing else.
pub fn max(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<f64> {
    let values = floats(window, scope)?;
    Some(values.iter().fold(
        f64::NAN,
        |max, &v| if v > max || max.is_nan() { v } else { max },
    ))
}

/// `ts_of_min_over_time`, `ts_of_max_over_time`: the time of the last extreme value.
pub fn time_of_extreme(
    window: &Window<'_>,
    scope: &mut Scope<'_>,
    of_max: bool,
) -> Option<Outcome> {
    let values = floats(window, scope)?;
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        let held = values[best];
        let better = if of_max { value >= held } else { value <= held };
        if better || held.is_nan() {
            best = index;
        }
    }
    Some(Outcome::Float(window.times[best] as f64 / 1000.0))
}

/// `stdvar_over_time` (Welford's method, compensated).
pub fn variance(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<f64> {
    let values = floats(window, scope)?;
    let (mut mean, mut squares) = (KahanSum::default(), KahanSum::default());
    let mut count = 0.0;
    for &value in values {
        count += 1.0;
        let delta = value - (mean.sum + mean.compensation);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.compensation)));
    }
    Some((squares.sum + squares.compensation) / count)
}

/// `quantile_over_time`.
pub fn quantile_over_time(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<Outcome> {
    let values = window.values;
    if values.is_empty() {
        return None;
    }
    let q = scope.scalars[0];
    // Both remarks are about the first argument.
    let pos = scope.scalar_pos;
    if !(0.0..=1.0).contains(&q) {
        scope.note(Annotation::invalid_quantile(pos, q));
    }
    if !window.histograms.is_empty() {
        scope.note(Annotation::histogram_ignored_in_mixed_range(
            pos,
            scope.metric,
        ));
    }
    scope.scratch.clear();
    scope.scratch.extend_from_slice(values);
    Some(Outcome::Float(quantile(q, scope.scratch)))
}

/// `mad_over_time`: the median of the distances to the median; NaN where a sample is NaN.
pub fn mad(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<Outcome> {
    let values = floats(window, scope)?;
    scope.scratch.clear();
    scope.scratch.extend_from_slice(values);
    if values.iter().any(|value| value.is_nan()) {
        return Some(Outcome::Float(f64::NAN));
    }
    let median = quantile(0.5, scope.scratch);
    for value in scope.scratch.iter_mut() {
        *value = (*value - median).abs();
    }
    scope.scratch.sort_unstable_by(|a, b| nan_first(*a, *b));
    Some(Outcome::Float(quantile(0.5, scope.scratch)))
}

fn histogram(point: &Histogram) -> Outcome {
    Outcome::Histogram(Box::new(point.clone()))
}

/// `first_over_time`.
pub fn first(window: &Window<'_>) -> Option<Outcome> {
    match (window.times.first(), window.histograms.first()) {
        (Some(&time), Some(point)) if point.time_ms <= time => Some(histogram(&point.histogram)),
        (Some(_), _) => Some(Outcome::Float(window.values[0])),
        (None, point) => point.map(|p| histogram(&p.histogram)),
    }
}

/// `last_over_time`.
pub fn last(window: &Window<'_>) -> Option<Outcome> {
    match (window.times.last(), window.histograms.last()) {
        (Some(&time), Some(point)) if point.time_ms >= time => Some(histogram(&point.histogram)),
        (Some(_), _) => window.values.last().map(|&v| Outcome::Float(v)),
        (None, point) => point.map(|p| histogram(&p.histogram)),
    }
}

/// `ts_of_first_over_time`, `ts_of_last_over_time`.
pub fn time_of_end(window: &Window<'_>, of_last: bool) -> Option<Outcome> {
    let histograms = window.histograms;
    let time = if of_last {
        window
            .times
            .last()
            .copied()
            .max(histograms.last().map(|p| p.time_ms))
    } else {
        let ends = [
            window.times.first().copied(),
            histograms.first().map(|p| p.time_ms),
        ];
        ends.into_iter().flatten().min()
    };
    time.map(|t| Outcome::Float(t as f64 / 1000.0))
}
