//! One of four trends: none, a line, a line with one bend, a parabola; chosen by Schwarz's
//! criterion.
//!
//! Residuals of such series hang together, so that a point is worth much less than one
//! independent observation: the criterion counts one in twenty, and standard errors are widened
//! to match. Sources: Schwarz, "Estimating the Dimension of a Model" (1978); the bend by search over
//! its place, as in Hinkley, "Inference about the intersection in two-phase regression" (1969).
//! Cost: about 64 least squares fits of three unknowns.

use crate::forecast::linear::Normal;

/// The share of points that count as independent, and the least that are taken to be.
const INDEPENDENT_SHARE: f64 = 0.05;
const INDEPENDENT_MIN: f64 = 8.0;

/// Places tried for a bend, and the share of points that must lie on either side of it.
const BENDS_TRIED: usize = 64;
const BEND_MARGIN: f64 = 1.0 / 12.0;
const BEND_POINTS_MIN: usize = 24;

/// The shape of a trend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrendKind {
    /// No slope that stands out.
    Flat,
    /// One slope.
    Line,
    /// Two slopes.
    Bend {
        /// The index where the slope changes, in the points after any floor.
        at: usize,
    },
    /// A slope that changes steadily.
    Curve,
}

/// A fitted trend.
#[derive(Clone, Debug)]
pub(super) struct Trend {
    kind: TrendKind,
    points: f64,
    coefficients: Vec<f64>,
    products: Normal,
    /// The inverse of the products, row by row, once it is wanted.
    inverse: Vec<Vec<f64>>,
    /// Of the residuals, widened for how they hang together.
    variance: f64,
}

/// The regressors at `t`, the index as a share of the points.
fn regressors(kind: TrendKind, t: f64, points: f64) -> ([f64; 3], usize) {
    match kind {
        TrendKind::Flat => ([1.0, 0.0, 0.0], 1),
        TrendKind::Line => ([1.0, t, 0.0], 2),
        TrendKind::Bend { at } => ([1.0, t, (t - at as f64 / points).max(0.0)], 3),
        TrendKind::Curve => ([1.0, t, t * t], 3),
    }
}

impl Trend {
    /// Least squares; also the sum of squared residuals.
    fn of_kind(kind: TrendKind, values: &[f64]) -> (Self, f64) {
        let points = values.len().max(1) as f64;
        let size = regressors(kind, 0.0, points).1;
        let mut normal = Normal::new(size);
        for (index, value) in values.iter().enumerate() {
            let (row, _) = regressors(kind, index as f64 / points, points);
            for i in 0..size {
                for j in 0..=i {
                    normal.add(i, j, row[i] * row[j]);
                }
                normal.add_target(i, row[i] * value);
            }
        }
        let mut trend = Self {
            kind,
            points,
            coefficients: normal.solve(0.0),
            products: normal,
            inverse: Vec::new(),
            variance: 0.0,
        };
        let residual = |(index, value): (usize, &f64)| (value - trend.at(index as f64)).powi(2);
        let squares: f64 = values.iter().enumerate().map(residual).sum();
        let independent = independent(values.len());
        let freedom = (independent - size as f64).max(1.0);
        trend.variance = squares / points * independent / freedom * (points / independent).max(1.0);
        (trend, squares)
    }

    /// With what standard errors need, which few trends live to be asked for.
    fn with_inverse(mut self) -> Self {
        self.inverse = (0..self.coefficients.len())
            .map(|i| self.products.solve_unit(i))
            .collect();
        self
    }

    pub(super) fn kind(&self) -> TrendKind {
        self.kind
    }

    /// The value at an index, which may lie ahead.
    pub(super) fn at(&self, index: f64) -> f64 {
        let (row, _) = regressors(self.kind, index / self.points, self.points);
        self.coefficients
            .iter()
            .zip(row)
            .map(|(coefficient, value)| coefficient * value)
            .sum()
    }

    /// The change per point at an index.
    pub(super) fn slope_at(&self, index: f64) -> f64 {
        self.at(index) - self.at(index - 1.0)
    }

    /// The standard error of the trend's value at an index.
    pub(super) fn standard_error(&self, index: f64) -> f64 {
        let (row, size) = regressors(self.kind, index / self.points, self.points);
        let form = |i: usize| {
            self.inverse[i]
                .iter()
                .zip(row)
                .map(|(a, b)| a * b)
                .sum::<f64>()
                * row[i]
        };
        ((0..size).map(form).sum::<f64>() * self.variance)
            .max(0.0)
            .sqrt()
    }
}

/// How many points count as independent.
fn independent(points: usize) -> f64 {
    (points as f64 * INDEPENDENT_SHARE)
        .max(INDEPENDENT_MIN)
        .min(points.max(1) as f64)
}

/// The trend that explains `values` best for its number of coefficients.
pub(super) fn fit(values: &[f64]) -> Trend {
    let points = values.len();
    let count = independent(points);
    // Rounding alone is no residual.
    let floor = 1e-20 * values.iter().map(|value| value * value).sum::<f64>() + f64::MIN_POSITIVE;
    let criterion = |squares: f64, coefficients: f64| {
        count * ((squares + floor) / points.max(1) as f64).ln() + coefficients * count.ln()
    };
    let (mut best, squares) = Trend::of_kind(TrendKind::Flat, values);
    let mut lowest = criterion(squares, 1.0);
    let mut consider = |kind: TrendKind, coefficients: f64, best: &mut Trend| {
        let (trend, squares) = Trend::of_kind(kind, values);
        let score = criterion(squares, coefficients);
        if score < lowest {
            (*best, lowest) = (trend, score);
        }
    };
    if points >= 4 {
        consider(TrendKind::Line, 2.0, &mut best);
    }
    if points >= 2 * BEND_POINTS_MIN {
        consider(TrendKind::Curve, 3.0, &mut best);
        let margin = ((points as f64 * BEND_MARGIN) as usize).max(BEND_POINTS_MIN);
        let stride = (points / BENDS_TRIED).max(1);
        for at in (margin..=points - margin).step_by(stride) {
            // The place of the bend is a coefficient too.
            consider(TrendKind::Bend { at }, 4.0, &mut best);
        }
    }
    best.with_inverse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(value: impl Fn(f64) -> f64) -> TrendKind {
        let wobble = |i: usize| f64::from((i * 7919 % 101) as u32) / 1e4;
        let values: Vec<f64> = (0..300).map(|i| value(i as f64) + wobble(i)).collect();
        fit(&values).kind()
    }

    #[test]
    fn the_shape_is_recognised() {
        assert_eq!(kind_of(|_| 3.0), TrendKind::Flat);
        assert_eq!(kind_of(|t| 0.01 * t), TrendKind::Line);
        assert_eq!(kind_of(|t| 1e-4 * t * t), TrendKind::Curve);
        let bend = kind_of(|t| 0.02 * (t - 150.0).max(0.0));
        assert!(
            matches!(bend, TrendKind::Bend { at } if at.abs_diff(150) < 6),
            "{bend:?}"
        );
    }

    #[test]
    fn the_error_grows_ahead() {
        let values: Vec<f64> = (0..100)
            .map(|i| f64::from(i) + f64::from(i * 37 % 11))
            .collect();
        let trend = fit(&values);
        assert_eq!(trend.kind(), TrendKind::Line);
        assert!(trend.standard_error(300.0) > 2.0 * trend.standard_error(100.0));
        assert!((trend.slope_at(100.0) - 1.0).abs() < 0.05);
    }

    #[test]
    fn short_and_constant_values_are_flat() {
        for values in [&[][..], &[1.0], &[2.0, 2.0, 2.0, 2.0]] {
            let trend = fit(values);
            assert_eq!(trend.kind(), TrendKind::Flat);
            assert!(trend.at(10.0).is_finite() && trend.standard_error(5.0).is_finite());
        }
    }
}
