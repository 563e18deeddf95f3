//! The rate family: `rate`, `increase`, `delta` with extrapolation to the window's ends; `irate`,
//! `idelta` from the last two samples; `resets`, `changes`.

use std::sync::Arc;

use chronolith_engine::model::CounterResetHint;

use super::range::{Outcome, Scope, SeriesFacts};
use super::window::{Window, is_start_reset, starts_overlap};
use crate::promql::annotations::HistogramOperation::{Add, Sub};
use crate::promql::annotations::{Annotation, Annotations, HistogramOperation};
use crate::promql::ast::PosRange;
use crate::promql::batch::HistogramPoint;
use crate::promql::histogram::{Histogram, arithmetic, reset};

/// `rate`, `increase`, `delta`.
///
/// The difference of last and first sample, resets of a counter mended, is scaled up to the whole
/// window where the samples come close to its ends: within 1.1 times their average distance. Else
/// half an average distance is added. A counter is not extrapolated below zero. Where the first
/// sample's start time lies in the window, the counter is known to have been 0 there.
pub fn extrapolated(
    window: &Window<'_>,
    scope: &mut Scope<'_>,
    is_counter: bool,
    is_rate: bool,
) -> Option<Outcome> {
    if !window.histograms.is_empty() {
        if !window.times.is_empty() {
            scope.note(Annotation::mixed_floats_histograms(scope.pos, scope.metric));
            return None;
        }
        return extrapolated_histogram(window, scope, is_counter, is_rate);
    }
    let (times, values) = (window.times, window.values);
    let (&first_time, &last_time) = (times.first()?, times.last()?);
    let (&first, &last) = (values.first()?, values.last()?);
    let zero_at = if is_counter {
        known_start(window.starts, first_time, window)
    } else {
        None
    };
    if times.len() < 2 && zero_at.is_none() {
        return None;
    }
    let mut result = last - if zero_at.is_some() { 0.0 } else { first };
    if is_counter {
        for &index in SeriesFacts::inside(&scope.facts.resets, window) {
            result += values[index as usize - window.first - 1];
        }
        if !SeriesFacts::inside(&scope.facts.overlaps, window).is_empty() {
            scope.note(Annotation::start_time_overlap(scope.pos, scope.metric));
        }
    }
    let span = Span {
        first_time,
        last_time,
        count: times.len(),
        zero_at,
    };
    let mut reach = span.reach(window.start_ms, window.end_ms);
    if is_counter {
        reach = reach.limited(first, result);
    }
    let factor = reach.factor(is_rate.then(|| window.seconds()));
    Some(Outcome::Float(result * factor))
}

/// Where the counter is known to have been 0 inside the window, before its first sample.
pub(super) fn known_start(starts: &[i64], first_time: i64, window: &Window<'_>) -> Option<i64> {
    let start = *starts.first()?;
    (start != 0 && start < first_time && start > window.start_ms).then_some(start)
}

/// Where the samples lie in the window.
pub(super) struct Span {
    /// Time of the first sample, ms.
    pub(super) first_time: i64,
    /// Time of the last one.
    pub(super) last_time: i64,
    /// How many there are.
    pub(super) count: usize,
    /// When the counter is known to have been 0.
    pub(super) zero_at: Option<i64>,
}

/// How long the samples span, and how far they are extrapolated, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) sampled: f64,
    pub(super) to_start: f64,
    to_end: f64,
}

impl Span {
    /// How far the samples are extrapolated in the window `(start_ms, end_ms]`.
    pub(super) fn reach(&self, start_ms: i64, end_ms: i64) -> Reach {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let average = if self.count < 2 {
            0.0
        } else {
            seconds(self.last_time - self.first_time) / (self.count - 1) as f64
        };
        let threshold = average * 1.1;
        let within = |gap: f64| if gap >= threshold { average / 2.0 } else { gap };
        let to_start = match self.zero_at {
            None => within(seconds(self.first_time - start_ms)),
            Some(_) => 0.0,
        };
        Reach {
            sampled: seconds(self.last_time - self.zero_at.unwrap_or(self.first_time)),
            to_start,
            to_end: within(seconds(end_ms - self.last_time)),
        }
    }
}

impl Reach {
    /// A counter that went up by `increase` from `first` is not extrapolated below zero.
    #[inline]
    pub(super) fn limited(mut self, first: f64, increase: f64) -> Self {
        if increase > 0.0 && first >= 0.0 {
            let to_zero = self.sampled * (first / increase);
            self.to_start = self.to_start.min(to_zero);
        }
        self
    }

    /// By what the difference of last and first sample is multiplied; `per_seconds` is the length of
    /// the window where a rate is asked for.
    #[inline]
    pub(super) fn factor(self, per_seconds: Option<f64>) -> f64 {
        let factor = (self.sampled + self.to_start + self.to_end) / self.sampled;
        per_seconds.map_or(factor, |seconds| factor / seconds)
    }
}

fn extrapolated_histogram(
    window: &Window<'_>,
    scope: &mut Scope<'_>,
    is_counter: bool,
    is_rate: bool,
) -> Option<Outcome> {
    let points = window.histograms;
    let (first, last) = (points.first()?, points.last()?);
    let start = [first.start_ms];
    let zero_at = if is_counter {
        known_start(&start, first.time_ms, window)
    } else {
        None
    };
    let mut result = match (points.len(), zero_at) {
        (1, None) => return None,
        // The only sample is what the counter grew since it began.
        (1, Some(_)) => Histogram::clone(&first.histogram),
        (_, None) => increase_of_histograms(points, scope, is_counter)?,
        (_, Some(_)) => {
            let increase = increase_of_histograms(points, scope, is_counter)?;
            let about = (scope.pos, scope.metric);
            combined(&increase, &first.histogram, Add, about, scope.notes)?
        }
    };
    let span = Span {
        first_time: first.time_ms,
        last_time: last.time_ms,
        count: points.len(),
        zero_at,
    };
    let mut reach = span.reach(window.start_ms, window.end_ms);
    if is_counter {
        reach = reach.limited(first.histogram.count, result.count);
    }
    let factor = reach.factor(is_rate.then(|| window.seconds()));
    arithmetic::mul(&mut result, factor);
    Some(Outcome::Histogram(Box::new(result)))
}

/// The sum or difference of two histograms of one metric; remarks on layouts that differ. `None`
/// where they do not mix.
pub(super) fn combined(
    left: &Histogram,
    right: &Histogram,
    operation: HistogramOperation,
    (pos, metric): (PosRange, &str),
    notes: &mut Annotations,
) -> Option<Histogram> {
    let result = match operation {
        Sub => arithmetic::sub(left, right),
        Add | HistogramOperation::Aggregation => arithmetic::add(left, right),
    };
    let Ok((result, combined)) = result else {
        notes.add(Annotation::mixed_exponential_custom(pos, metric));
        return None;
    };
    if combined.bounds_reconciled {
        notes.add(Annotation::mismatched_custom_buckets(pos, operation));
    }
    Some(result)
}

fn is_start_reset_between(previous: &HistogramPoint, current: &HistogramPoint) -> bool {
    is_start_reset(
        previous.start_ms,
        previous.time_ms,
        current.start_ms,
        current.time_ms,
    )
}

/// Whether the counter was reset between two histograms, by start times or by populations.
fn is_reset(previous: &HistogramPoint, current: &HistogramPoint) -> bool {
    is_start_reset_between(previous, current)
        || reset::detect_reset(&current.histogram, &previous.histogram)
}

pub(super) fn is_gauge(point: &HistogramPoint) -> bool {
    point.histogram.counter_reset_hint == CounterResetHint::Gauge
}

/// Last minus first of at least two histograms, resets mended; a gauge histogram. `None` with a
/// remark where layouts do not fit together.
fn increase_of_histograms(
    points: &[HistogramPoint],
    scope: &mut Scope<'_>,
    is_counter: bool,
) -> Option<Histogram> {
    let (pos, metric) = (scope.pos, scope.metric);
    let [first, inner @ .., last] = points else {
        return None;
    };
    let second = inner.first().unwrap_or(last);
    let not_a_counter = is_counter && (is_gauge(first) || is_gauge(last));

    // If the counter was reset after the first sample, its layout does not matter.
    let mut previous = Arc::clone(&first.histogram);
    if is_counter && is_reset(first, second) {
        previous = Arc::new(Histogram {
            schema: second.histogram.schema,
            custom_values: second.histogram.custom_values.clone(),
            ..Histogram::default()
        });
    }
    let custom = previous.uses_custom_buckets();
    if last.histogram.uses_custom_buckets() != custom {
        if not_a_counter {
            scope.note(Annotation::histogram_not_counter(pos, metric));
        }
        scope.note(Annotation::mixed_exponential_custom(pos, metric));
        return None;
    }
    let mut schema = last.histogram.schema.min(previous.schema);
    let mixes = |p: &HistogramPoint| p.histogram.uses_custom_buckets() != custom;
    if is_counter {
        if inner.iter().any(mixes) {
            scope.note(Annotation::mixed_exponential_custom(pos, metric));
            return None;
        }
        let schemas = inner.iter().map(|p| p.histogram.schema);
        schema = schemas.fold(schema, i32::min);
    }

    let mut result = Histogram::clone(&last.histogram);
    arithmetic::reduce_resolution(&mut result, schema);
    result = combined(&result, &previous, Sub, (pos, metric), scope.notes)?;
    if is_counter {
        for pair in points.windows(2) {
            let (before, point) = (&pair[0], &pair[1]);
            if starts_overlap(before.start_ms, before.time_ms, point.start_ms) {
                scope.note(Annotation::start_time_overlap(pos, metric));
            }
            if is_start_reset_between(before, point)
                || reset::detect_reset(&point.histogram, &previous)
            {
                result = combined(&result, &previous, Add, (pos, metric), scope.notes)?;
            }
            previous = Arc::clone(&point.histogram);
        }
        if not_a_counter || inner.iter().any(is_gauge) {
            scope.note(Annotation::histogram_not_counter(pos, metric));
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        scope.note(Annotation::histogram_not_gauge(pos, metric));
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    arithmetic::compact(&mut result);
    Some(result)
}

#[derive(Clone, Copy)]
enum Point<'a> {
    Float(i64, f64, i64),
    Histogram(&'a HistogramPoint),
}

impl Point<'_> {
    fn time(self) -> i64 {
        match self {
            Self::Float(time, ..) => time,
            Self::Histogram(point) => point.time_ms,
        }
    }
}

/// The last two samples of either kind, the older one first.
fn last_two<'a>(window: &Window<'a>) -> Option<[Point<'a>; 2]> {
    let mut floats = (0..window.times.len()).rev().map(|i| {
        Point::Float(
            window.times[i],
            window.values[i],
            window.starts.get(i).copied().unwrap_or(0),
        )
    });
    let mut histograms = window.histograms.iter().rev().map(Point::Histogram);
    let (mut float, mut histogram) = (floats.next(), histograms.next());
    let mut take = || match (float, histogram) {
        (Some(f), Some(h)) if f.time() < h.time() => {
            histogram = histograms.next();
            Some(h)
        }
        (Some(f), _) => {
            float = floats.next();
            Some(f)
        }
        (None, Some(h)) => {
            histogram = histograms.next();
            Some(h)
        }
        (None, None) => None,
    };
    let newer = take()?;
    Some([take()?, newer])
}

/// `irate`, `idelta`.
pub fn instant(window: &Window<'_>, scope: &mut Scope<'_>, is_rate: bool) -> Option<Outcome> {
    let [older, newer] = last_two(window)?;
    let seconds = (newer.time() - older.time()) as f64 / 1000.0;
    if seconds == 0.0 {
        return None;
    }
    match (older, newer) {
        (Point::Float(t0, v0, s0), Point::Float(t1, v1, s1)) => {
            let was_reset = is_rate && (v1 < v0 || is_start_reset(s0, t0, s1, t1));
            let difference = if was_reset { v1 } else { v1 - v0 };
            Some(Outcome::Float(if is_rate {
                difference / seconds
            } else {
                difference
            }))
        }
        (Point::Histogram(p0), Point::Histogram(p1)) => {
            let gauges =
                [p0, p1].map(|p| p.histogram.counter_reset_hint == CounterResetHint::Gauge);
            if is_rate && gauges.contains(&true) {
                scope.note(Annotation::histogram_not_counter(scope.pos, scope.metric));
            }
            if !is_rate && gauges.contains(&false) {
                scope.note(Annotation::histogram_not_gauge(scope.pos, scope.metric));
            }
            let mut result = if is_rate && is_reset(p0, p1) {
                Histogram::clone(&p1.histogram)
            } else {
                let Ok((difference, combined)) = arithmetic::sub(&p1.histogram, &p0.histogram)
                else {
                    scope.note(Annotation::mixed_exponential_custom(
                        scope.pos,
                        scope.metric,
                    ));
                    return None;
                };
                if combined.bounds_reconciled {
                    scope.note(Annotation::mismatched_custom_buckets(scope.pos, Sub));
                }
                difference
            };
            result.counter_reset_hint = CounterResetHint::Gauge;
            arithmetic::compact(&mut result);
            if is_rate {
                arithmetic::div(&mut result, seconds);
            }
            Some(Outcome::Histogram(Box::new(result)))
        }
        _ => {
            scope.note(Annotation::mixed_floats_histograms(scope.pos, scope.metric));
            None
        }
    }
}

/// Calls `pair` for each two neighbouring samples; `None` without samples.
fn count_pairs(
    window: &Window<'_>,
    mut counts: impl FnMut(Point<'_>, Point<'_>) -> bool,
) -> Option<Outcome> {
    let (mut float, mut histogram) = (0, 0);
    let mut previous: Option<Point<'_>> = None;
    let mut count = 0_u32;
    while float < window.times.len() || histogram < window.histograms.len() {
        let time = window.times.get(float).copied();
        let take_float = match (time, window.histograms.get(histogram)) {
            (Some(time), Some(point)) => time < point.time_ms,
            (time, _) => time.is_some(),
        };
        let current = if take_float {
            let start = window.starts.get(float).copied().unwrap_or(0);
            float += 1;
            Point::Float(window.times[float - 1], window.values[float - 1], start)
        } else {
            histogram += 1;
            Point::Histogram(&window.histograms[histogram - 1])
        };
        if let Some(previous) = previous {
            count += u32::from(counts(previous, current));
        }
        previous = Some(current);
    }
    previous.map(|_| Outcome::Float(f64::from(count)))
}

/// `resets`.
pub fn resets(window: &Window<'_>) -> Option<Outcome> {
    count_pairs(window, |previous, current| match (previous, current) {
        (Point::Float(t0, v0, s0), Point::Float(t1, v1, s1)) => {
            v1 < v0 || is_start_reset(s0, t0, s1, t1)
        }
        (Point::Histogram(p0), Point::Histogram(p1)) => is_reset(p0, p1),
        _ => true,
    })
}

/// `changes`.
pub fn changes(window: &Window<'_>) -> Option<Outcome> {
    count_pairs(window, |previous, current| match (previous, current) {
        (Point::Float(_, v0, _), Point::Float(_, v1, _)) => {
            v0 != v1 && !(v0.is_nan() && v1.is_nan())
        }
        (Point::Histogram(p0), Point::Histogram(p1)) => !reset::equal(&p0.histogram, &p1.histogram),
        _ => true,
    })
}
