//! Where buckets lie.

use chronolith_engine::model::Histogram;

use super::side::entries;

/// One bucket with its population.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bucket {
    /// Lower boundary.
    pub lower: f64,
    /// Upper boundary.
    pub upper: f64,
    /// Whether the lower boundary itself belongs to the bucket.
    pub lower_inclusive: bool,
    /// Whether the upper boundary itself belongs to the bucket.
    pub upper_inclusive: bool,
    /// How many observations.
    pub count: f64,
}

/// The upper boundary of the positive exponential bucket `index`: 2^(index · 2^-schema). The last
/// one that a float reaches is cut off at the largest float, so that the bucket above holds +Inf.
pub fn exponential_bound(index: i32, schema: i32) -> f64 {
    let (mantissa, exponent) = if schema <= 0 {
        (1.0, i64::from(index) << schema.unsigned_abs().min(8))
    } else {
        let schema = schema.min(8);
        let fraction = index & ((1 << schema) - 1);
        let mantissa = (f64::from(fraction) / f64::from(1 << schema)).exp2();
        (mantissa, i64::from(index >> schema))
    };
    if exponent == 1024 && mantissa == 1.0 {
        return f64::MAX;
    }
    mantissa * (exponent.clamp(-2000, 2000) as f64).exp2()
}

/// The boundaries of the custom bucket `index`; without boundaries at all it is (-Inf, +Inf].
fn custom_bounds(index: i32, boundaries: &[f64]) -> (f64, f64) {
    let at = |i: i32| {
        usize::try_from(i)
            .ok()
            .and_then(|i| boundaries.get(i))
            .copied()
    };
    let lower = if index <= 0 {
        f64::NEG_INFINITY
    } else {
        at(index - 1).unwrap_or(f64::INFINITY)
    };
    (lower, at(index).unwrap_or(f64::INFINITY))
}

/// The positive bucket `index` of `histogram`, exponential or custom, with a population.
pub(super) fn positive_bucket(histogram: &Histogram, index: i32, count: f64) -> Bucket {
    let (lower, upper) = if histogram.uses_custom_buckets() {
        custom_bounds(index, histogram.custom_bounds())
    } else {
        let schema = histogram.schema;
        (
            exponential_bound(index.saturating_sub(1), schema),
            exponential_bound(index, schema),
        )
    };
    Bucket {
        lower,
        upper,
        // The lowest custom bucket also holds -Inf.
        lower_inclusive: histogram.uses_custom_buckets() && index == 0,
        upper_inclusive: true,
        count,
    }
}

/// The negative bucket `index`: the mirror image of the positive one.
pub(super) fn negative_bucket(histogram: &Histogram, index: i32, count: f64) -> Bucket {
    let mirror = positive_bucket(histogram, index, count);
    Bucket {
        lower: -mirror.upper,
        upper: -mirror.lower,
        lower_inclusive: true,
        upper_inclusive: false,
        count,
    }
}

/// The zero bucket.
pub(super) fn zero_bucket(histogram: &Histogram) -> Bucket {
    Bucket {
        lower: -histogram.zero_threshold,
        upper: histogram.zero_threshold,
        lower_inclusive: true,
        upper_inclusive: true,
        count: histogram.zero_count,
    }
}

/// All buckets from low to high, those with population 0 included where they are explicit. The
/// zero bucket is there if it is populated; buckets that reach into it start at its edge.
pub fn all_buckets(histogram: &Histogram) -> Vec<Bucket> {
    let threshold = histogram.zero_threshold;
    let mut buckets = buckets_as_they_are(histogram, histogram.zero_count > 0.0);
    for bucket in &mut buckets {
        if bucket.lower > 0.0 && bucket.lower < threshold {
            bucket.lower = threshold;
        } else if bucket.upper < 0.0 && bucket.upper > -threshold {
            bucket.upper = -threshold;
        }
    }
    buckets
}

/// The populated buckets from low to high with the boundaries that the schema gives them, although
/// they may reach into the zero bucket.
pub fn populated_buckets(histogram: &Histogram) -> impl Iterator<Item = Bucket> {
    buckets_as_they_are(histogram, true)
        .into_iter()
        .filter(|bucket| bucket.count != 0.0)
}

fn buckets_as_they_are(histogram: &Histogram, with_zero: bool) -> Vec<Bucket> {
    let mut buckets =
        Vec::with_capacity(histogram.positive_buckets.len() + histogram.negative_buckets.len() + 1);
    buckets.extend(
        entries(&histogram.negative_spans, &histogram.negative_buckets)
            .map(|(index, count)| negative_bucket(histogram, index, count)),
    );
    buckets.reverse();
    if with_zero {
        buckets.push(zero_bucket(histogram));
    }
    buckets.extend(
        entries(&histogram.positive_spans, &histogram.positive_buckets)
            .map(|(index, count)| positive_bucket(histogram, index, count)),
    );
    buckets
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{custom, exponential};
    use super::*;

    #[test]
    fn bounds_are_powers_of_two() {
        assert_eq!(exponential_bound(0, 0), 1.0);
        assert_eq!(exponential_bound(3, 0), 8.0);
        assert_eq!(exponential_bound(-1, -2), 0.0625);
        assert_eq!(exponential_bound(2, 1), 2.0);
        assert!((exponential_bound(1, 3) - 2f64.powf(0.125)).abs() < 1e-15);
        assert_eq!(exponential_bound(1024, 0), f64::MAX);
        assert_eq!(exponential_bound(1025, 0), f64::INFINITY);
        assert_eq!(exponential_bound(i32::MIN, -4), 0.0);
        assert_eq!(exponential_bound(-1074, 0), f64::from_bits(1));
    }

    #[test]
    fn all_buckets_go_up_and_stop_at_the_zero_bucket() {
        let histogram = exponential(0, (0.3, 2.0), (-1, &[1.0, 3.0]), (0, &[4.0, 5.0]));
        let bounds: Vec<_> = all_buckets(&histogram)
            .iter()
            .map(|b| (b.lower, b.upper, b.count))
            .collect();
        let want = [
            (-2.0, -1.0, 5.0),
            (-1.0, -0.5, 4.0),
            (-0.3, 0.3, 2.0),
            (0.3, 0.5, 1.0),
            (0.5, 1.0, 3.0),
        ];
        assert_eq!(bounds, want);
        let infinite = all_buckets(&custom(&[1.0, 2.0], &[1.0, 1.0, 1.0]));
        assert_eq!(
            (infinite[0].lower, infinite[0].upper),
            (f64::NEG_INFINITY, 1.0)
        );
        assert_eq!((infinite[2].lower, infinite[2].upper), (2.0, f64::INFINITY));
    }
}
