//! Equality of floats up to rounding, as Prometheus' tests and quantiles use it.

use chronolith_engine::model::is_stale;

/// Whether `a` and `b` differ by less than `epsilon` relative to their sum. Staleness markers equal
/// only each other, other NaNs equal each other, and next to 0 only denormal differences pass.
pub fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < epsilon * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < epsilon
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearness_is_relative() {
        assert!(almost_equal(1e20, 1e20 + 1e10, 1e-6));
        assert!(!almost_equal(0.0, 1e-300, 1e-6));
        assert!(almost_equal(f64::NAN, f64::NAN, 1e-6));
        let stale = f64::from_bits(chronolith_engine::model::STALE_NAN_BITS);
        assert!(!almost_equal(f64::NAN, stale, 1e-6) && almost_equal(stale, stale, 1e-6));
        assert!(almost_equal(f64::INFINITY, f64::INFINITY, 1e-6));
        assert!(!almost_equal(f64::INFINITY, f64::NEG_INFINITY, 1e-6));
    }
}
