//! The scale on which the methods work: the values as they are, or their logarithm.
//!
//! What cannot be negative mostly varies in proportion to its level: traffic at noon swings wider
//! than at night. On the logarithm such swings are of one size, and errors of fits count in
//! relation to the level. An offset keeps values near zero from ruling the fit. Series with
//! negative values stay as they are.
//!
//! Source: Box and Cox, "An Analysis of Transformations" (1964), λ = 0 with a shift; the rule for the
//! shift is ours. Cost: a logarithm per point, an exponential per forecast value.

use crate::robust;

/// The shift of data that touch zero, as a share of their mean.
const ZERO_OFFSET_SHARE: f64 = 0.1;

/// What is closer to zero than this share of the median is moved up to it.
const SMALL_SHARE: f64 = 0.05;

/// How far a forecast may leave the range seen, on the logarithm: a factor of e.
const LOG_MARGIN: f64 = 1.0;

/// A monotone map and its inverse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transform {
    /// The values as they are.
    Identity,
    /// ln(value + offset); what leaves `[low, high]` is held there on the way back.
    Log { offset: f64, low: f64, high: f64 },
}

impl Transform {
    /// The transform for `values`, all finite: the logarithm when none is negative.
    pub(crate) fn choose(values: &[f64]) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low < 0.0 || low >= high {
            return Self::Identity;
        }
        let offset = if low > 0.0 {
            let median = robust::median(&mut values.to_vec()).unwrap_or(low);
            (SMALL_SHARE * median - low).max(0.0)
        } else {
            ZERO_OFFSET_SHARE * values.iter().sum::<f64>() / values.len() as f64
        };
        Self::Log {
            offset,
            low: (low + offset).ln() - LOG_MARGIN,
            high: (high + offset).ln() + LOG_MARGIN,
        }
    }

    /// The value on the scale of the methods.
    pub(crate) fn apply(self, value: f64) -> f64 {
        match self {
            Self::Identity => value,
            // What lies below the offset has no logarithm; `max` drops the NaN.
            Self::Log { offset, low, .. } => (value + offset).ln().max(low),
        }
    }

    /// The value on the scale of the data.
    pub(crate) fn invert(self, value: f64) -> f64 {
        match self {
            Self::Identity => value,
            Self::Log { offset, low, high } => value.clamp(low, high).exp() - offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_and_constant_data_stay() {
        assert_eq!(Transform::choose(&[1.0, -1.0]), Transform::Identity);
        assert_eq!(Transform::choose(&[0.0, 0.0]), Transform::Identity);
    }

    #[test]
    fn there_and_back() {
        for values in [
            vec![1.0, 2.0, 400.0],
            vec![0.0, 0.0, 7.0],
            vec![1e-12, 1.0, 1.0],
        ] {
            let transform = Transform::choose(&values);
            assert_ne!(transform, Transform::Identity);
            for value in values {
                let back = transform.invert(transform.apply(value));
                assert!(
                    (back - value).abs() < 1e-12 * 400.0,
                    "{value} came back as {back}"
                );
            }
        }
    }

    #[test]
    fn forecasts_stay_within_a_factor_of_the_range() {
        let transform = Transform::choose(&[1.0, 10.0]);
        assert!(transform.invert(1e6) < 30.0);
        assert!(transform.invert(-1e6) > 0.3);
    }
}
