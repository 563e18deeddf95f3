//! Functions that fit a line or a trend: `deriv`, `predict_linear`, `double_exponential_smoothing`.

use super::numeric::KahanSum;
use super::range::{Outcome, Scope};
use super::window::Window;
use crate::promql::annotations::Annotation;

/// Whether there are floats enough; remarks on histograms between them.
fn enough_floats(window: &Window<'_>, scope: &mut Scope<'_>) -> bool {
    if !window.values.is_empty() && !window.histograms.is_empty() {
        scope.note(Annotation::histogram_ignored_in_mixed_range(
            scope.pos,
            scope.metric,
        ));
    }
    window.values.len() >= 2
}

/// Least squares: slope per second, and the line's value at `intercept_ms`.
fn linear_regression(window: &Window<'_>, intercept_ms: i64) -> (f64, f64) {
    let (times, values) = (window.times, window.values);
    let first = values[0];
    if values[1..].iter().all(|&v| v == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let [mut sum_x, mut sum_y, mut sum_xy, mut sum_x2] = [KahanSum::default(); 4];
    for (&time, &y) in times.iter().zip(values) {
        let x = (time - intercept_ms) as f64 / 1000.0;
        sum_x.add(x);
        sum_y.add(y);
        sum_xy.add(x * y);
        sum_x2.add(x * x);
    }
    let total = |sum: KahanSum| sum.sum + sum.compensation;
    let n = values.len() as f64;
    let [x, y, xy, x2] = [total(sum_x), total(sum_y), total(sum_xy), total(sum_x2)];
    let slope = (xy - x * y / n) / (x2 - x * x / n);
    (slope, y / n - slope * x / n)
}

/// `deriv`: the slope per second.
pub fn deriv(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<Outcome> {
    if !enough_floats(window, scope) {
        return None;
    }
    // A time near the samples keeps the numbers small.
    let (slope, _) = linear_regression(window, window.times[0]);
    Some(Outcome::Float(slope))
}

/// `predict_linear`: the line's value some seconds from now.
pub fn predict_linear(window: &Window<'_>, scope: &mut Scope<'_>) -> Option<Outcome> {
    if !enough_floats(window, scope) {
        return None;
    }
    let (slope, intercept) = linear_regression(window, window.step_ms);
    Some(Outcome::Float(slope * scope.scalars[0] + intercept))
}

/// `double_exponential_smoothing` (Holt's linear trend method).
///
/// # Errors
/// A factor outside of (0, 1).
pub fn double_exponential(
    window: &Window<'_>,
    scope: &mut Scope<'_>,
) -> Result<Option<Outcome>, String> {
    let [smoothing, trend] = scope.scalars;
    for (name, short, factor) in [("smoothing", "sf", smoothing), ("trend", "tf", trend)] {
        if factor <= 0.0 || factor >= 1.0 {
            return Err(format!(
                "invalid {name} factor. Expected: 0 < {short} < 1, got: {factor:.6}"
            ));
        }
    }
    if !enough_floats(window, scope) {
        return Ok(None);
    }
    let values = window.values;
    let (mut previous, mut level) = (0.0, values[0]);
    let mut slope = values[1] - values[0];
    for (index, &value) in values.iter().enumerate().skip(1) {
        if index > 1 {
            slope = trend * (level - previous) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + slope);
        (previous, level) = (level, next);
    }
    Ok(Some(Outcome::Float(level)))
}
