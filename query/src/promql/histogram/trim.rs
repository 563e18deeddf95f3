//! The operators `</` and `>/`: keep the observations below or above a value.
//!
//! A bucket that the value cuts is interpolated. The sum is estimated anew from the middles of the
//! buckets, because what was cut off is known only by bucket. Buckets with an infinite boundary
//! have no known distribution; where no finite reading of them exists, they go as a whole.

use chronolith_engine::model::Histogram;

use super::arithmetic::compact;
use super::bounds::{Bucket, negative_bucket, positive_bucket, zero_bucket};
use super::quantile::share_below;
use super::side::entries;

/// Which observations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// `</`: those below the value.
    Below,
    /// `>/`: those above the value.
    Above,
}

/// A part of a bucket: how many observations, and the value that stands for them.
type Part = (f64, f64);

/// The observations of `histogram` on one side of `limit`. Nothing changes, the sum included, if
/// no bucket is touched.
pub fn trim(histogram: &Histogram, limit: f64, keep: Keep) -> Histogram {
    let mut trimmed = histogram.clone();
    let linear = histogram.uses_custom_buckets();
    let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
    let mut apply = |bucket: &Bucket, population: &mut f64, (kept, middle): Part| {
        count += kept;
        sum += middle * kept;
        if kept != bucket.count {
            *population = kept;
            changed = true;
        }
    };
    let (mut has_positive, mut has_negative) = (false, false);
    let positive = entries(&histogram.positive_spans, &histogram.positive_buckets);
    for ((index, population), slot) in positive.zip(&mut trimmed.positive_buckets) {
        if population != 0.0 {
            has_positive = true;
            let bucket = positive_bucket(histogram, index, population);
            apply(&bucket, slot, kept_part(&bucket, limit, keep, true, linear));
        }
    }
    let negative = entries(&histogram.negative_spans, &histogram.negative_buckets);
    for ((index, population), slot) in negative.zip(&mut trimmed.negative_buckets) {
        if population != 0.0 {
            has_negative = true;
            let bucket = negative_bucket(histogram, index, population);
            apply(
                &bucket,
                slot,
                kept_part(&bucket, limit, keep, false, linear),
            );
        }
    }
    if histogram.zero_count > 0.0 {
        let mut bucket = zero_bucket(histogram);
        if has_negative && !has_positive {
            bucket.upper = 0.0;
        }
        if has_positive && !has_negative {
            bucket.lower = 0.0;
        }
        apply(
            &bucket,
            &mut trimmed.zero_count,
            zero_part(&bucket, limit, keep),
        );
    }
    if changed {
        trimmed.count = count;
        trimmed.sum = sum;
        trimmed.integer = false;
        compact(&mut trimmed);
    }
    trimmed
}

fn kept_part(bucket: &Bucket, limit: f64, keep: Keep, positive: bool, linear: bool) -> Part {
    let (all, none) = match keep {
        Keep::Below => (bucket.upper <= limit, bucket.lower >= limit),
        Keep::Above => (bucket.lower >= limit, bucket.upper <= limit),
    };
    if all {
        return (
            bucket.count,
            middle(bucket.lower, bucket.upper, positive, linear),
        );
    }
    if none || limit.is_nan() {
        return (0.0, 0.0);
    }
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return infinite_part(bucket, limit, keep);
    }
    let below = bucket.count * share_below(bucket, limit, linear);
    match keep {
        Keep::Below => (below, middle(bucket.lower, limit, positive, linear)),
        Keep::Above => (
            bucket.count - below,
            middle(limit, bucket.upper, positive, linear),
        ),
    }
}

/// A bucket with an infinite boundary that `limit` cuts.
fn infinite_part(bucket: &Bucket, limit: f64, keep: Keep) -> Part {
    let finite_or_zero = |bound: f64| if bound.is_infinite() { 0.0 } else { bound };
    if bucket.lower == f64::NEG_INFINITY {
        // With a positive upper boundary the bucket is read as starting at 0, as for quantiles.
        let readable = bucket.upper > 0.0 && bucket.upper != f64::INFINITY;
        return match keep {
            Keep::Below if limit > 0.0 && readable => {
                (bucket.count * limit / bucket.upper, limit / 2.0)
            }
            Keep::Below if bucket.upper <= 0.0 => (bucket.count, limit),
            Keep::Above if limit >= 0.0 && readable => (
                bucket.count * (1.0 - limit / bucket.upper),
                (limit + bucket.upper) / 2.0,
            ),
            Keep::Below | Keep::Above => (0.0, finite_or_zero(bucket.upper)),
        };
    }
    match keep {
        Keep::Above if limit >= bucket.lower => (bucket.count, limit),
        Keep::Below | Keep::Above => (0.0, finite_or_zero(bucket.lower)),
    }
}

fn zero_part(bucket: &Bucket, limit: f64, keep: Keep) -> Part {
    let (lower, upper) = (bucket.lower, bucket.upper);
    let (below_all, above_all) = (limit <= lower, limit >= upper);
    match keep {
        Keep::Below if above_all => (bucket.count, (lower + upper) / 2.0),
        Keep::Above if below_all => (bucket.count, (lower + upper) / 2.0),
        _ if below_all || above_all => (0.0, 0.0),
        Keep::Below => (
            bucket.count * ((limit - lower) / (upper - lower)),
            (lower + limit) / 2.0,
        ),
        Keep::Above => (
            bucket.count * ((upper - limit) / (upper - lower)),
            (limit + upper) / 2.0,
        ),
    }
}

/// The value that stands for the observations between two boundaries.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if linear => (lower + upper) / 2.0,
        (false, false) => {
            let middle = (lower * upper).abs().sqrt();
            if positive { middle } else { -middle }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{custom, exponential};
    use super::*;

    #[test]
    fn whole_buckets_are_kept_or_dropped() {
        let h = exponential(0, (0.0, 0.0), (1, &[2.0, 4.0]), (0, &[]));
        let below = trim(&h, 2.0, Keep::Below);
        assert_eq!(
            (below.count, below.positive_buckets.as_slice()),
            (2.0, &[2.0][..])
        );
        assert!((below.sum - 2.0 * 2f64.sqrt()).abs() < 1e-12);
        let above = trim(&h, 2.0, Keep::Above);
        assert_eq!((above.count, above.positive_spans[0].offset), (4.0, 2));
        assert_eq!(trim(&h, 100.0, Keep::Below), h);
    }

    #[test]
    fn cut_buckets_are_interpolated() {
        let h = exponential(0, (0.0, 0.0), (1, &[2.0]), (1, &[2.0]));
        let below = trim(&h, 2f64.sqrt(), Keep::Below);
        assert!((below.positive_buckets[0] - 1.0).abs() < 1e-12);
        assert_eq!(below.negative_buckets, [2.0]);
        let h = custom(&[10.0, 20.0], &[4.0, 4.0, 2.0]);
        let above = trim(&h, 15.0, Keep::Above);
        assert_eq!(above.positive_buckets, [2.0, 2.0]);
        assert_eq!(above.sum, 2.0 * 17.5 + 2.0 * 20.0);
        let below = trim(&h, 5.0, Keep::Below);
        assert_eq!(
            (below.positive_buckets.as_slice(), below.sum),
            (&[2.0][..], 5.0)
        );
    }

    #[test]
    fn the_zero_bucket_is_linear() {
        let h = exponential(0, (1.0, 4.0), (1, &[1.0]), (1, &[1.0]));
        let below = trim(&h, 0.5, Keep::Below);
        assert_eq!((below.zero_count, below.count), (3.0, 4.0));
        let one_sided = exponential(0, (1.0, 4.0), (1, &[1.0]), (0, &[]));
        assert_eq!(trim(&one_sided, 0.5, Keep::Below).zero_count, 2.0);
    }
}
