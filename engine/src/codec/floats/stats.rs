//! What a block's zone map says about its values, so that many queries need not decode it.

/// Statistics of a run of samples, in order.
///
/// NaNs (the stale marker is one) are left out of `min`, `max`, `sum`, `count` and
/// `counter_resets_sum`; `first` and `last` are the outermost values whatever they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Smallest value; `+inf` if there is none.
    pub min: f64,
    /// Largest value; `-inf` if there is none.
    pub max: f64,
    /// Sum in order of the samples, plainly added.
    pub sum: f64,
    /// Values that are not NaN.
    pub count: u64,
    /// The first value, NaN if there is none.
    pub first: f64,
    /// The last value, NaN if there is none.
    pub last: f64,
    /// What a counter lost by resets: the sum of the values just before each decrease. The increase
    /// over the run is `last - first + counter_resets_sum` where neither end is NaN.
    pub counter_resets_sum: f64,
}

impl Stats {
    /// Statistics of no samples.
    pub const EMPTY: Stats = Stats {
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        sum: 0.0,
        count: 0,
        first: f64::NAN,
        last: f64::NAN,
        counter_resets_sum: 0.0,
    };

    /// Statistics of `values`.
    pub fn of(values: &[f64]) -> Stats {
        let (Some(&first), Some(&last)) = (values.first(), values.last()) else {
            return Stats::EMPTY;
        };
        let mut stats = Stats {
            first,
            last,
            ..Stats::EMPTY
        };
        let mut previous = f64::NEG_INFINITY;
        for &value in values {
            if value.is_nan() {
                continue;
            }
            stats.min = if value < stats.min { value } else { stats.min };
            stats.max = if value > stats.max { value } else { stats.max };
            stats.sum += value;
            stats.count += 1;
            if value < previous {
                stats.counter_resets_sum += previous;
            }
            previous = value;
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nans_are_left_out_except_at_the_ends() {
        let stats = Stats::of(&[f64::NAN, 3.0, 5.0, f64::NAN, 1.0, 2.0]);
        assert!(stats.first.is_nan());
        assert_eq!(
            (stats.min, stats.max, stats.sum, stats.count),
            (1.0, 5.0, 11.0, 4)
        );
        assert_eq!((stats.last, stats.counter_resets_sum), (2.0, 5.0));
        assert_eq!(Stats::of(&[]).count, 0);
        assert_eq!(Stats::of(&[f64::NAN]).min, f64::INFINITY);
    }
}
