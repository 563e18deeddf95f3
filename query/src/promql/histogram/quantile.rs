//! Quantile, fraction and variance of native histograms.
//!
//! Inside an exponential bucket observations are taken to be spread evenly on a logarithmic scale;
//! inside the zero bucket and custom buckets evenly on a linear one.

use chronolith_engine::model::Histogram;

use super::bounds::{Bucket, all_buckets};
use super::side::Compensated;

/// What NaN observations did to a quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NanEffect {
    /// Nothing.
    #[default]
    None,
    /// The quantile falls among the NaN observations: it is NaN.
    Result,
    /// They count as the highest observations, so that the quantile is skewed upwards.
    Skew,
}

/// If a histogram has buckets on one side only, its zero bucket is taken to lie on that side.
fn one_sided(histogram: &Histogram, bucket: &mut Bucket) {
    let positive = !histogram.positive_buckets.is_empty();
    let negative = !histogram.negative_buckets.is_empty();
    if positive && !negative {
        bucket.lower = 0.0;
    } else if negative && !positive {
        bucket.upper = 0.0;
    }
}

/// The `q`-quantile: -Inf below 0, +Inf above 1, NaN for NaN or without observations.
pub fn quantile(q: f64, histogram: &Histogram) -> (f64, NanEffect) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, NanEffect::None);
    }
    if q > 1.0 {
        return (f64::INFINITY, NanEffect::None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, NanEffect::None);
    }
    // NaN observations are in no bucket; they count as highest, so walk from the low end then.
    let may_hold_nan = histogram.sum.is_nan();
    let forward = may_hold_nan || q < 0.5;
    let mut rank = if forward { q } else { 1.0 - q } * histogram.count;
    let mut buckets = all_buckets(histogram);
    if !forward {
        buckets.reverse();
    }
    let mut rest = buckets.iter();
    let mut bucket = Bucket::default();
    let mut count = 0.0;
    for &next in rest.by_ref() {
        bucket = next;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    if histogram.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, NanEffect::None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, NanEffect::None);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(histogram, &mut bucket);
    }
    // Rounding may have made the buckets hold more than the count says.
    count = count.min(histogram.count);
    if count < rank {
        return match may_hold_nan {
            true => (f64::NAN, NanEffect::Result),
            false => (bucket.upper, NanEffect::None),
        };
    }
    rank = if forward {
        rank - (count - bucket.count)
    } else {
        count - rank
    };
    let fraction = rank / bucket.count;
    let effect = if may_hold_nan && count + rest.map(|b| b.count).sum::<f64>() < histogram.count {
        NanEffect::Skew
    } else {
        NanEffect::None
    };
    let linear = histogram.uses_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0);
    let value = if linear {
        bucket.lower + (bucket.upper - bucket.lower) * fraction
    } else {
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        if bucket.lower > 0.0 {
            (lower + (upper - lower) * fraction).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - fraction)).exp2()
        }
    };
    (value, effect)
}

/// The share of the population of `bucket` below `value`, which lies inside.
pub(super) fn share_below(bucket: &Bucket, value: f64, linear: bool) -> f64 {
    if linear {
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    let value_log = value.abs().log2();
    if bucket.lower >= 0.0 {
        (value_log - lower) / (upper - lower)
    } else {
        1.0 - (value_log - upper) / (lower - upper)
    }
}

/// The fraction of observations between `lower` and `upper`, and whether NaN observations, which
/// belong to no interval, were among those counted. NaN for a NaN boundary or no observations.
pub fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, bool) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    let custom = histogram.uses_custom_buckets();
    let buckets = all_buckets(histogram);
    // How many observations are below `limit`; None: all of them.
    let rank_of = |limit: f64| {
        let mut rank = 0.0;
        for &(mut bucket) in &buckets {
            let zero_bucket = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            if zero_bucket {
                one_sided(histogram, &mut bucket);
            }
            if bucket.lower >= limit {
                return Some(rank);
            }
            if bucket.upper > limit {
                // An infinite lower boundary leaves nothing to interpolate.
                return Some(
                    if bucket.lower == f64::NEG_INFINITY && (custom || zero_bucket) {
                        bucket.count
                    } else if custom || zero_bucket {
                        rank + bucket.count * (limit - bucket.lower) / (bucket.upper - bucket.lower)
                    } else {
                        rank + bucket.count * share_below(&bucket, limit, false)
                    },
                );
            }
            rank += bucket.count;
        }
        None
    };
    let (mut count, mut nan_counted) = (histogram.count, false);
    if histogram.sum.is_nan() {
        count = buckets.iter().map(|b| b.count).sum();
        nan_counted = count < histogram.count;
    }
    let clamped = |rank: Option<f64>| match rank {
        Some(rank) if rank > count => count,
        rank => rank.unwrap_or(count),
    };
    let value = (clamped(rank_of(upper)) - clamped(rank_of(lower))) / histogram.count;
    (value, nan_counted)
}

/// The population variance as far as buckets tell: every observation is taken to lie at the
/// geometric mean of its bucket's boundaries (custom buckets: the arithmetic mean; zero bucket: 0).
pub fn variance(histogram: &Histogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut total = Compensated::default();
    for bucket in all_buckets(histogram) {
        if bucket.count == 0.0 {
            continue;
        }
        let value = if histogram.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let delta = value - mean;
        total.add(bucket.count * delta * delta);
    }
    total.total() / histogram.count
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{custom, exponential};
    use super::*;

    fn near(got: f64, want: f64) {
        assert!(
            (got - want).abs() < 1e-12 || got == want,
            "{got} is not {want}"
        );
    }

    #[test]
    fn quantiles_interpolate_on_the_log_scale() {
        let h = exponential(0, (0.0, 0.0), (1, &[2.0, 2.0]), (0, &[]));
        near(quantile(0.25, &h).0, 2f64.sqrt());
        near(quantile(0.5, &h).0, 2.0);
        near(quantile(0.75, &h).0, 8f64.sqrt());
        near(quantile(1.0, &h).0, 4.0);
        let mirrored = exponential(0, (0.0, 0.0), (0, &[]), (1, &[2.0, 2.0]));
        near(quantile(0.25, &mirrored).0, -(8f64.sqrt()));
        assert_eq!(quantile(-1.0, &h).0, f64::NEG_INFINITY);
        assert_eq!(quantile(2.0, &h).0, f64::INFINITY);
        assert!(quantile(f64::NAN, &h).0.is_nan());
        assert!(quantile(0.5, &Histogram::default()).0.is_nan());
    }

    #[test]
    fn quantiles_of_custom_buckets_are_linear() {
        let h = custom(&[10.0, 20.0], &[4.0, 4.0, 2.0]);
        near(quantile(0.2, &h).0, 5.0);
        near(quantile(0.6, &h).0, 15.0);
        near(quantile(1.0, &h).0, 20.0);
    }

    #[test]
    fn nan_observations_show() {
        let mut h = exponential(0, (0.0, 0.0), (1, &[2.0, 2.0]), (0, &[]));
        h.sum = f64::NAN;
        h.count = 8.0;
        assert_eq!(quantile(0.25, &h).1, NanEffect::Skew);
        assert_eq!(quantile(0.9, &h).1, NanEffect::Result);
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &h), (0.5, true));
    }

    #[test]
    fn fractions_invert_quantiles() {
        let h = exponential(1, (0.1, 3.0), (1, &[2.0, 2.0, 5.0]), (0, &[4.0]));
        for q in [0.05, 0.3, 0.5, 0.62, 0.9] {
            near(fraction(f64::NEG_INFINITY, quantile(q, &h).0, &h).0, q);
        }
        near(fraction(f64::NEG_INFINITY, f64::INFINITY, &h).0, 1.0);
        assert_eq!(fraction(3.0, 2.0, &h).0, 0.0);
        let h = custom(&[10.0, 20.0], &[4.0, 4.0, 2.0]);
        near(fraction(10.0, 15.0, &h).0, 0.2);
    }

    #[test]
    fn variance_uses_the_middle_of_buckets() {
        let mut h = exponential(0, (0.001, 2.0), (3, &[2.0]), (0, &[]));
        h.sum = 2.0 * 32f64.sqrt();
        near(variance(&h), 32f64.sqrt() * 32f64.sqrt() / 4.0);
    }
}
