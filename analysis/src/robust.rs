//! Statistics that a few wild values cannot move: median, median absolute deviation, robust z.
//!
//! Source: Rousseeuw and Croux, "Alternatives to the Median Absolute Deviation" (1993), for the
//! constant that makes the deviation comparable with a standard deviation; Iglewicz and Hoaglin,
//! "How to Detect and Handle Outliers" (1993), for the fallback when most values are equal.

/// Makes the median absolute deviation of normally distributed values estimate their standard
/// deviation: 1 / Φ⁻¹(3/4).
pub const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// Makes the mean absolute deviation do the same: √(π/2).
const MEAN_AD_TO_SIGMA: f64 = 1.253_314_137_315_500_3;

/// The centre and spread of a set of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub center: f64,
    /// An estimate of the standard deviation; 0 when all values are equal.
    pub sigma: f64,
}

/// The median of the values that are not NaN; `None` if there are none. Reorders `values`.
///
/// The mean of the two middle values for an even count. Expected linear time.
#[must_use]
pub fn median(values: &mut Vec<f64>) -> Option<f64> {
    values.retain(|value| !value.is_nan());
    let count = values.len();
    if count == 0 {
        return None;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(count / 2, f64::total_cmp);
    if count % 2 == 1 {
        return Some(upper);
    }
    let lower = below.iter().copied().max_by(f64::total_cmp)?;
    // Not (a + b) / 2, which overflows at the ends of the range.
    Some(lower / 2.0 + upper / 2.0)
}

/// Centre and spread of the values that are finite; `None` if there are none.
///
/// The spread is the median absolute deviation, scaled; where more than half of the values are
/// equal, so that it would be 0, the mean absolute deviation, scaled.
#[must_use]
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut scratch: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let center = median(&mut scratch)?;
    for value in &mut scratch {
        *value = (*value - center).abs();
    }
    let mad = median(&mut scratch)?;
    let sigma = if mad > 0.0 {
        mad * MAD_TO_SIGMA
    } else {
        scratch.iter().sum::<f64>() / scratch.len() as f64 * MEAN_AD_TO_SIGMA
    };
    Some(Spread { center, sigma })
}

/// How many spreads each value lies from the centre of all; NaN stays NaN.
///
/// When all finite values are equal, they score 0 and others ±∞. Empty input gives empty output.
#[must_use]
pub fn robust_z(values: &[f64]) -> Vec<f64> {
    let Some(Spread { center, sigma }) = spread(values) else {
        return vec![f64::NAN; values.len()];
    };
    let score = |value: &f64| {
        let distance = value - center;
        if distance == 0.0 {
            0.0
        } else {
            distance / sigma
        }
    };
    values.iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_order_and_nan() {
        assert_eq!(median(&mut vec![3.0, f64::NAN, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut vec![f64::MAX, f64::MAX]), Some(f64::MAX));
        assert_eq!(median(&mut vec![f64::NAN]), None);
    }

    #[test]
    fn the_spread_of_a_uniform_range_is_known() {
        // Evenly spread over a length of 1, half of the values lie within 1/4 of the middle.
        let values: Vec<f64> = (0..10_000).map(|i| f64::from(i) / 10_000.0).collect();
        let found = spread(&values).unwrap();
        assert!((found.center - 0.5).abs() < 1e-3);
        assert!((found.sigma - 0.25 * MAD_TO_SIGMA).abs() < 1e-3);
    }

    #[test]
    fn one_outlier_stands_out_and_moves_nothing() {
        let mut values: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let before = spread(&values).unwrap();
        values.push(1e9);
        let after = spread(&values).unwrap();
        assert!((before.sigma - after.sigma).abs() < 1.0);
        let scores = robust_z(&values);
        assert!(scores[100] > 1e6 && scores[..100].iter().all(|z| z.abs() < 3.0));
    }

    #[test]
    fn mostly_constant_values_still_have_a_scale() {
        let mut values = vec![5.0; 99];
        values.push(6.0);
        let scores = robust_z(&values);
        assert_eq!(scores[0], 0.0);
        assert!(scores[99] > 50.0 && scores[99].is_finite());
        assert_eq!(robust_z(&[7.0, 7.0]), [0.0, 0.0]);
        assert!(robust_z(&[]).is_empty());
    }
}
