//! Quantile and fraction of classic histograms: cumulative populations by upper boundary.

use crate::promql::almost::almost_equal;

/// Differences between neighbouring buckets smaller than this (relatively) are taken for rounding.
const SMALL_DELTA: f64 = 1e-12;

/// One `le` series at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassicBucket {
    /// The value of `le`.
    pub upper_bound: f64,
    /// Observations up to the boundary.
    pub count: f64,
}

/// What was done to buckets whose populations went down with rising boundary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForcedMonotonic {
    /// The lowest boundary of a changed bucket.
    pub min_bucket: f64,
    /// The highest one.
    pub max_bucket: f64,
    /// The largest change.
    pub max_difference: f64,
}

/// Sorts by boundary and merges equal ones; false if the highest boundary is not +Inf.
fn prepare(buckets: &mut Vec<ClassicBucket>) -> bool {
    buckets.sort_by(|a, b| a.upper_bound.total_cmp(&b.upper_bound));
    if buckets
        .last()
        .is_none_or(|b| b.upper_bound != f64::INFINITY)
    {
        return false;
    }
    buckets.dedup_by(|next, last| {
        let same = next.upper_bound == last.upper_bound;
        if same {
            last.count += next.count;
        }
        same
    });
    true
}

/// Removes every fall of the populations. Tiny differences go silently.
fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<ForcedMonotonic> {
    let mut forced: Option<ForcedMonotonic> = None;
    let mut highest = buckets.first()?.count;
    for bucket in buckets.iter_mut().skip(1) {
        let count = bucket.count;
        if count == highest {
            continue;
        }
        if almost_equal(highest, count, SMALL_DELTA) {
            bucket.count = highest;
        } else if count < highest {
            bucket.count = highest;
            let bound = bucket.upper_bound;
            let all = forced.get_or_insert(ForcedMonotonic {
                min_bucket: bound,
                max_bucket: bound,
                max_difference: 0.0,
            });
            all.max_bucket = all.max_bucket.max(bound);
            all.max_difference = all.max_difference.max(highest - count);
        } else {
            highest = count;
        }
    }
    forced
}

/// The `q`-quantile, linear inside a bucket. The lowest bucket starts at 0 if its boundary is above
/// 0; in the highest one the answer is the boundary below it. NaN without observations, without a
/// +Inf bucket or with fewer than two buckets. `buckets` is sorted and mended on the way.
pub fn quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, Option<ForcedMonotonic>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !prepare(buckets) {
        return (f64::NAN, None);
    }
    let forced = make_monotonic(buckets);
    let observations = buckets.last().map_or(0.0, |b| b.count);
    if buckets.len() < 2 || observations == 0.0 {
        return (f64::NAN, forced);
    }
    let rank = q * observations;
    let finite = &buckets[..buckets.len() - 1];
    // Populations may be NaN: such a bucket does not reach the rank.
    let reaches = |b: &ClassicBucket| b.count >= rank;
    let found = finite.partition_point(|b| !reaches(b));
    let value = match finite.get(found) {
        None => finite[finite.len() - 1].upper_bound,
        Some(first) if found == 0 && first.upper_bound <= 0.0 => first.upper_bound,
        Some(bucket) => {
            let below = found.checked_sub(1).and_then(|i| finite.get(i));
            let (start, counted) = below.map_or((0.0, 0.0), |b| (b.upper_bound, b.count));
            let share = (rank - counted) / (bucket.count - counted);
            start + (bucket.upper_bound - start) * share
        }
    };
    (value, forced)
}

/// The fraction of observations between `lower` and `upper`, linear inside a bucket; NaN as for
/// [`quantile`]. `buckets` is sorted on the way.
pub fn fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if !prepare(buckets) {
        return f64::NAN;
    }
    let observations = buckets.last().map_or(0.0, |b| b.count);
    if observations == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let lowest = if buckets[0].upper_bound <= 0.0 {
        f64::NEG_INFINITY
    } else {
        0.0
    };
    // How many observations are below `limit`; None: all of them.
    let rank_of = |limit: f64| {
        let (mut start, mut rank) = (lowest, 0.0);
        for bucket in buckets.iter() {
            if start >= limit {
                return Some(rank);
            }
            if bucket.upper_bound > limit {
                return Some(if start == f64::NEG_INFINITY {
                    bucket.count
                } else {
                    rank + (bucket.count - rank) * (limit - start) / (bucket.upper_bound - start)
                });
            }
            (start, rank) = (bucket.upper_bound, bucket.count);
        }
        None
    };
    let clamped = |rank: Option<f64>| match rank {
        Some(rank) if rank > observations => observations,
        rank => rank.unwrap_or(observations),
    };
    (clamped(rank_of(upper)) - clamped(rank_of(lower))) / observations
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<ClassicBucket> {
        pairs
            .iter()
            .map(|&(upper_bound, count)| ClassicBucket { upper_bound, count })
            .collect()
    }

    #[test]
    fn quantiles_are_linear_in_a_bucket() {
        let all = buckets(&[(INF, 10.0), (1.0, 4.0), (2.0, 8.0)]);
        assert_eq!(quantile(0.2, &mut all.clone()).0, 0.5);
        assert_eq!(quantile(0.6, &mut all.clone()).0, 1.5);
        assert_eq!(quantile(0.9, &mut all.clone()).0, 2.0);
        assert!(quantile(0.5, &mut buckets(&[(1.0, 4.0)])).0.is_nan());
        assert!(quantile(0.5, &mut Vec::new()).0.is_nan());
        assert_eq!(
            quantile(0.1, &mut buckets(&[(-1.0, 4.0), (INF, 8.0)])).0,
            -1.0
        );
    }

    #[test]
    fn falling_populations_are_mended_and_told() {
        let mut all = buckets(&[(1.0, 4.0), (2.0, 2.0), (3.0, 3.0), (INF, 8.0)]);
        let (_, forced) = quantile(0.5, &mut all);
        let forced = forced.expect("forced");
        assert_eq!(
            (forced.min_bucket, forced.max_bucket, forced.max_difference),
            (2.0, 3.0, 2.0)
        );
        let mut all = buckets(&[(1.0, 4.0), (2.0, 4.0 - 1e-15), (INF, 8.0)]);
        assert_eq!(quantile(0.5, &mut all).1, None);
    }

    #[test]
    fn fractions_of_the_range() {
        let all = buckets(&[(1.0, 4.0), (2.0, 8.0), (INF, 10.0)]);
        assert_eq!(fraction(0.0, 1.5, &mut all.clone()), 0.6);
        assert_eq!(fraction(1.0, INF, &mut all.clone()), 0.6);
        assert_eq!(fraction(2.0, 1.0, &mut all.clone()), 0.0);
        assert!(fraction(f64::NAN, 1.0, &mut all.clone()).is_nan());
    }
}
