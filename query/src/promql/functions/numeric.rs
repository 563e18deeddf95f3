//! Small numerics that several functions share: compensated sums, means, quantiles, orders.

use std::cmp::Ordering;

/// A running sum with the Kahan-Neumaier compensation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KahanSum {
    /// The plain sum.
    pub sum: f64,
    /// What rounding has lost.
    pub compensation: f64,
}

impl KahanSum {
    /// A sum that starts at `sum`.
    #[inline]
    pub fn from(sum: f64) -> Self {
        Self {
            sum,
            compensation: 0.0,
        }
    }

    /// Adds a term.
    #[inline]
    pub fn add(&mut self, term: f64) {
        let total = self.sum + term;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= term.abs() {
            self.compensation += (self.sum - total) + term;
        } else {
            self.compensation += (term - total) + self.sum;
        }
        self.sum = total;
    }

    /// The compensated sum.
    #[inline]
    pub fn value(self) -> f64 {
        if self.sum.is_infinite() {
            self.sum
        } else {
            self.sum + self.compensation
        }
    }
}

/// A running mean: the compensated sum divided by the count, as long as the sum does not overflow;
/// from then on the mean itself is kept up to date.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunningMean {
    /// How many values.
    pub count: f64,
    /// The sum, or the mean once `incremental`.
    pub total: KahanSum,
    /// The sum would have overflowed.
    pub incremental: bool,
}

impl RunningMean {
    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.total = KahanSum::from(value);
            return;
        }
        if !self.incremental {
            let mut sum = self.total;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.total = sum;
                return;
            }
            self.incremental = true;
            self.total.sum /= self.count - 1.0;
            self.total.compensation /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        self.total.sum *= q;
        self.total.compensation *= q;
        self.total.add(value / self.count);
    }

    /// The mean.
    #[inline]
    pub fn value(self) -> f64 {
        let KahanSum { sum, compensation } = self.total;
        if self.incremental {
            sum + compensation
        } else {
            sum / self.count + compensation / self.count
        }
    }
}

/// The quantile `q` of values in any order, linear between neighbours; NaN counts as smallest.
/// Sorts `values`.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| nan_first(*a, *b));
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor() as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Ascending with NaN in front.
#[inline]
pub fn nan_first(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_compensated() {
        let mut sum = KahanSum::default();
        for term in [1e100, 1.0, -1e100] {
            sum.add(term);
        }
        assert_eq!(sum.value(), 1.0);
    }

    #[test]
    fn means_do_not_overflow() {
        let mut mean = RunningMean::default();
        for _ in 0..4 {
            mean.add(f64::MAX);
        }
        assert!((mean.value() / f64::MAX - 1.0).abs() < 1e-12);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.25, &mut [0.0, 1.0]), 0.25);
        assert_eq!(quantile(1.5, &mut [0.0]), f64::INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
        assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan());
    }
}
