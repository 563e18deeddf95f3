//! Add, subtract, scale, compact, reduce resolution; sums with compensation.
//!
//! Two exponential histograms are brought to the coarser schema and to a zero bucket that covers
//! both and does not cut a populated bucket; two histograms with custom boundaries to the
//! boundaries that they share. Exponential and custom do not mix.

use std::sync::Arc;

use chronolith_engine::model::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram};

use super::bounds::exponential_bound;
use super::side::{Compensated, Side};

/// One histogram is exponential, the other has custom boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("incompatible bucket layout: exponential and custom buckets do not mix")]
pub struct IncompatibleLayouts;

/// What there is to say about an addition or subtraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Combined {
    /// One side was marked as a counter reset, the other as none.
    pub counter_reset_collision: bool,
    /// Custom boundaries differed and were brought to those in common.
    pub bounds_reconciled: bool,
}

impl Combined {
    /// Remembers what either of them says.
    pub fn merge(&mut self, other: Combined) {
        self.counter_reset_collision |= other.counter_reset_collision;
        self.bounds_reconciled |= other.bounds_reconciled;
    }
}

/// A histogram taken apart for work.
#[derive(Debug, Clone)]
pub(super) struct Work {
    hint: CounterResetHint,
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) zero: Compensated,
    count: Compensated,
    sum: Compensated,
    pub(super) positive: Side,
    pub(super) negative: Side,
    bounds: Option<Arc<[f64]>>,
}

impl Work {
    pub(super) fn new(h: &Histogram) -> Self {
        Self {
            hint: h.counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero: Compensated::new(h.zero_count),
            count: Compensated::new(h.count),
            sum: Compensated::new(h.sum),
            positive: Side::new(&h.positive_spans, &h.positive_buckets),
            negative: Side::new(&h.negative_spans, &h.negative_buckets),
            bounds: h.custom_values.as_ref().map(Arc::clone),
        }
    }

    pub(super) fn into_histogram(self) -> Histogram {
        let (positive_spans, positive_buckets) = self.positive.into_spans();
        let (negative_spans, negative_buckets) = self.negative.into_spans();
        Histogram {
            counter_reset_hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero.total(),
            count: self.count.total(),
            sum: self.sum.total(),
            positive_spans,
            positive_buckets,
            negative_spans,
            negative_buckets,
            custom_values: self.bounds,
            integer: false,
        }
    }

    fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// The zero count if the zero bucket were as wide as `threshold`, which is not below the
    /// present one; and the width that it must have in order not to cut a populated bucket.
    pub(super) fn widened_zero(&self, threshold: f64, compensate: bool) -> (Compensated, f64) {
        let mut threshold = threshold;
        if threshold == self.zero_threshold {
            return (self.zero, threshold);
        }
        'again: loop {
            let mut count = self.zero;
            for (number, side) in [&self.positive, &self.negative].into_iter().enumerate() {
                for entry in &side.0 {
                    if exponential_bound(entry.index.saturating_sub(1), self.schema) >= threshold {
                        break;
                    }
                    count.merge(entry.count, compensate);
                    let upper = exponential_bound(entry.index, self.schema);
                    if upper > threshold {
                        if entry.count.value != 0.0 {
                            threshold = upper;
                            // What was taken from the positive side may no longer be all.
                            if number == 1 {
                                continue 'again;
                            }
                        }
                        break;
                    }
                }
            }
            return (count, threshold);
        }
    }

    /// Makes the zero bucket wide enough for both; gives the zero count that `other` has then.
    fn reconcile_zero(&mut self, other: &Work, compensate: bool) -> Compensated {
        let mut theirs = (other.zero, other.zero_threshold);
        // Each round widens one of them to a bucket boundary, of which there are finitely many.
        while theirs.1 != self.zero_threshold {
            if self.zero_threshold > theirs.1 {
                theirs = other.widened_zero(self.zero_threshold, compensate);
            }
            if theirs.1 > self.zero_threshold {
                (self.zero, self.zero_threshold) = self.widened_zero(theirs.1, compensate);
                for side in [&mut self.positive, &mut self.negative] {
                    side.drop_below(self.zero_threshold, self.schema);
                    let inside = |e: &super::side::Entry| {
                        let lower = exponential_bound(e.index.saturating_sub(1), self.schema);
                        lower < self.zero_threshold
                    };
                    side.0.retain(|e| e.count.value != 0.0 && !inside(e));
                }
            }
            if theirs.1.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
        }
        theirs.0
    }

    /// The hint of a sum; true on a collision.
    fn combine_hints(&mut self, other: CounterResetHint) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        if self.hint == other {
            return false;
        }
        let collision = ![self.hint, other]
            .iter()
            .any(|h| matches!(h, Gauge | Unknown));
        let gauge = self.hint == Gauge || other == Gauge;
        self.hint = if gauge { Gauge } else { Unknown };
        collision
    }

    /// Adds `other`.
    pub(super) fn add(
        &mut self,
        mut other: Work,
        compensate: bool,
    ) -> Result<Combined, IncompatibleLayouts> {
        if self.is_custom() != other.is_custom() {
            return Err(IncompatibleLayouts);
        }
        let mut combined = Combined {
            counter_reset_collision: self.combine_hints(other.hint),
            bounds_reconciled: false,
        };
        if !self.is_custom() {
            let zero = self.reconcile_zero(&other, compensate);
            self.zero.merge(zero, compensate);
        }
        self.count.merge(other.count, compensate);
        self.sum.merge(other.sum, compensate);
        if self.is_custom() {
            let (mine, theirs) = (self.bounds.take(), other.bounds.take());
            let mine = mine.unwrap_or_else(|| Arc::from([]));
            let theirs = theirs.unwrap_or_else(|| Arc::from([]));
            self.bounds = Some(if mine == theirs {
                mine
            } else {
                combined.bounds_reconciled = true;
                let common: Arc<[f64]> = mine
                    .iter()
                    .copied()
                    .filter(|b| theirs.contains(b))
                    .collect();
                self.positive.rebound(&mine, &common, compensate);
                other.positive.rebound(&theirs, &common, compensate);
                common
            });
            self.positive.merge(&other.positive, compensate);
            if combined.bounds_reconciled {
                self.positive.compact();
            }
            return Ok(combined);
        }
        let schema = self.schema.min(other.schema);
        for work in [&mut *self, &mut other] {
            work.positive.reduce(work.schema, schema, compensate);
            work.negative.reduce(work.schema, schema, compensate);
            work.schema = schema;
        }
        other.positive.drop_below(self.zero_threshold, schema);
        other.negative.drop_below(self.zero_threshold, schema);
        self.positive.merge(&other.positive, compensate);
        self.negative.merge(&other.negative, compensate);
        Ok(combined)
    }

    fn negate(&mut self) {
        for value in [&mut self.zero, &mut self.count, &mut self.sum] {
            *value = Compensated {
                value: -value.value,
                lost: -value.lost,
            };
        }
        self.positive.negate();
        self.negative.negate();
    }

    fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }
}

/// Adds `b` to `a`. Buckets that come out empty stay; see [`compact`].
pub fn add(a: &Histogram, b: &Histogram) -> Result<(Histogram, Combined), IncompatibleLayouts> {
    let mut sum = Work::new(a);
    let combined = sum.add(Work::new(b), false)?;
    Ok((sum.into_histogram(), combined))
}

/// Subtracts `b` from `a`. The hint follows the rules of addition; the operator `-` must set it to
/// gauge.
pub fn sub(a: &Histogram, b: &Histogram) -> Result<(Histogram, Combined), IncompatibleLayouts> {
    let mut difference = Work::new(a);
    let mut subtrahend = Work::new(b);
    subtrahend.negate();
    let combined = difference.add(subtrahend, false)?;
    Ok((difference.into_histogram(), combined))
}

fn scale(h: &mut Histogram, f: impl Fn(f64) -> f64) {
    for value in [&mut h.zero_count, &mut h.count, &mut h.sum] {
        *value = f(*value);
    }
    for value in h.positive_buckets.iter_mut().chain(&mut h.negative_buckets) {
        *value = f(*value);
    }
    h.integer = false;
}

/// Multiplies all populations and the sum; a negative factor makes a gauge.
pub fn mul(h: &mut Histogram, factor: f64) {
    scale(h, |value| value * factor);
    if factor < 0.0 {
        h.counter_reset_hint = CounterResetHint::Gauge;
    }
}

/// Divides all populations and the sum; division by 0 removes all buckets, a negative divisor
/// makes a gauge.
pub fn div(h: &mut Histogram, divisor: f64) {
    if divisor == 0.0 {
        h.positive_spans.clear();
        h.positive_buckets.clear();
        h.negative_spans.clear();
        h.negative_buckets.clear();
    }
    scale(h, |value| value / divisor);
    if divisor < 0.0 {
        h.counter_reset_hint = CounterResetHint::Gauge;
    }
}

/// Drops buckets without population and joins adjacent spans.
pub fn compact(h: &mut Histogram) {
    let tidy = |buckets: &[f64], spans: &[chronolith_engine::model::BucketSpan]| {
        buckets.iter().all(|b| *b != 0.0)
            && spans.iter().all(|s| s.length > 0)
            && spans.iter().skip(1).all(|s| s.offset > 0)
    };
    if tidy(&h.positive_buckets, &h.positive_spans) && tidy(&h.negative_buckets, &h.negative_spans)
    {
        return;
    }
    let integer = h.integer;
    let mut work = Work::new(h);
    work.compact();
    *h = work.into_histogram();
    h.integer = integer;
}

/// Merges buckets to the coarser exponential schema `schema`; nothing happens if it is not coarser
/// or the boundaries are custom.
pub fn reduce_resolution(h: &mut Histogram, schema: i32) {
    if h.uses_custom_buckets() || !(-4..h.schema).contains(&schema) {
        return;
    }
    let integer = h.integer;
    let mut work = Work::new(h);
    work.positive.reduce(work.schema, schema, false);
    work.negative.reduce(work.schema, schema, false);
    work.schema = schema;
    *h = work.into_histogram();
    h.integer = integer;
}

/// Whether any population or the sum is infinite: then an average must be computed another way.
pub fn has_overflow(h: &Histogram) -> bool {
    let values = [h.zero_count, h.count, h.sum];
    values
        .iter()
        .chain(&h.positive_buckets)
        .chain(&h.negative_buckets)
        .any(|v| v.is_infinite())
}

/// A running sum of histograms that keeps what floating point loses.
#[derive(Debug, Clone)]
pub struct HistogramSum(Work);

impl HistogramSum {
    /// Starts with one histogram.
    pub fn new(first: &Histogram) -> Self {
        Self(Work::new(first))
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Histogram) -> Result<Combined, IncompatibleLayouts> {
        self.0.add(Work::new(other), true)
    }

    /// Adds another running sum, lost parts included.
    pub fn merge(&mut self, other: HistogramSum) -> Result<Combined, IncompatibleLayouts> {
        self.0.add(other.0, true)
    }

    /// The sum so far.
    pub fn value(&self) -> Histogram {
        self.0.clone().into_histogram()
    }

    /// The sum.
    pub fn finish(self) -> Histogram {
        self.0.into_histogram()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{custom, exponential};
    use super::*;

    #[test]
    fn addition_meets_at_the_coarser_schema() {
        let fine = exponential(1, (0.0, 1.0), (1, &[1.0, 2.0, 3.0, 4.0]), (0, &[]));
        let coarse = exponential(0, (0.0, 1.0), (1, &[10.0, 0.0, 5.0]), (2, &[7.0]));
        let (sum, combined) = add(&fine, &coarse).unwrap();
        assert_eq!(sum.schema, 0);
        assert_eq!(sum.positive_buckets, [13.0, 7.0, 5.0]);
        assert_eq!(sum.positive_spans.len(), 1);
        assert_eq!(sum.negative_buckets, [7.0]);
        assert_eq!(sum.zero_count, 2.0);
        assert_eq!(sum.count, fine.count + coarse.count);
        assert_eq!(combined, Combined::default());
        let (difference, _) = sub(&sum, &coarse).unwrap();
        assert_eq!(difference.positive_buckets, [3.0, 7.0, 0.0]);
        let mut compacted = difference;
        compact(&mut compacted);
        assert_eq!(compacted.positive_buckets, [3.0, 7.0]);
        assert_eq!(compacted.negative_buckets, [0.0; 0]);
    }

    #[test]
    fn the_zero_bucket_grows_to_a_boundary() {
        // 0.75 lies within the populated bucket (0.5, 1], so the zero bucket must reach 1.
        let wide = exponential(0, (0.75, 1.0), (1, &[1.0]), (0, &[]));
        let narrow = exponential(0, (0.1, 2.0), (-1, &[3.0, 4.0, 5.0]), (0, &[6.0]));
        let (sum, _) = add(&wide, &narrow).unwrap();
        assert_eq!(sum.zero_threshold, 1.0);
        assert_eq!(sum.zero_count, 1.0 + 2.0 + 3.0 + 4.0 + 6.0);
        assert_eq!(sum.positive_buckets, [6.0]);
        assert!(sum.negative_buckets.is_empty());
        let (other_way, _) = add(&narrow, &wide).unwrap();
        assert_eq!(other_way.zero_count, sum.zero_count);
        assert_eq!(other_way.positive_buckets, [6.0]);
    }

    #[test]
    fn custom_boundaries_meet_at_those_in_common() {
        let a = custom(&[1.0, 2.0, 4.0], &[1.0, 2.0, 3.0, 4.0]);
        let b = custom(&[2.0, 3.0, 4.0], &[10.0, 20.0, 30.0, 40.0]);
        let (sum, combined) = add(&a, &b).unwrap();
        assert!(combined.bounds_reconciled);
        assert_eq!(sum.custom_bounds(), [2.0, 4.0]);
        assert_eq!(sum.positive_buckets, [13.0, 53.0, 44.0]);
        let exponential = exponential(0, (0.0, 0.0), (0, &[1.0]), (0, &[]));
        assert_eq!(add(&a, &exponential), Err(IncompatibleLayouts));
    }

    #[test]
    fn hints_combine() {
        use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
        let cases = [
            (Unknown, Unknown, Unknown, false),
            (Reset, NotReset, Unknown, true),
            (Reset, Unknown, Unknown, false),
            (NotReset, Gauge, Gauge, false),
            (Reset, Reset, Reset, false),
        ];
        for (a, b, want, collision) in cases {
            let h = |hint| Histogram {
                counter_reset_hint: hint,
                ..Histogram::default()
            };
            let (sum, combined) = add(&h(a), &h(b)).unwrap();
            assert_eq!(
                (sum.counter_reset_hint, combined.counter_reset_collision),
                (want, collision)
            );
        }
    }

    #[test]
    fn scaling_by_negatives_makes_gauges() {
        let mut h = exponential(0, (0.0, 1.0), (0, &[2.0]), (0, &[]));
        mul(&mut h, -2.0);
        assert_eq!(
            (h.zero_count, h.positive_buckets[0], h.sum),
            (-2.0, -4.0, -20.0)
        );
        assert_eq!(h.counter_reset_hint, CounterResetHint::Gauge);
        div(&mut h, 0.0);
        assert!(h.positive_buckets.is_empty() && h.count.is_infinite());
    }

    #[test]
    fn sums_keep_what_floats_lose() {
        let one = |count| exponential(0, (0.0, 0.0), (0, &[count]), (0, &[]));
        let mut sum = HistogramSum::new(&one(1e100));
        for _ in 0..3 {
            sum.add(&one(1.0)).unwrap();
        }
        sum.add(&one(-1e100)).unwrap();
        assert_eq!(sum.finish().positive_buckets, [3.0]);
    }

    #[test]
    fn resolution_can_be_reduced() {
        let mut h = exponential(2, (0.0, 0.0), (-3, &[1.0; 8]), (0, &[]));
        reduce_resolution(&mut h, 0);
        assert_eq!(h.schema, 0);
        assert_eq!(h.positive_spans[0].offset, 0);
        assert_eq!(h.positive_buckets, [4.0, 4.0]);
    }
}
