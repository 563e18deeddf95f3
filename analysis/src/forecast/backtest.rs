//! The rolling-origin backtest: where it starts from, and what it reports.
//!
//! Source: Tashman, "Out-of-sample tests of forecasting accuracy" (2000).

use super::Method;
use super::combine::Scores;
use super::methods::Paths;

/// How one method would have done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MethodReport {
    /// Which.
    pub method: Method,
    /// Its share in the forecast; the shares sum to 1.
    pub weight: f64,
    /// Its mean absolute error over all origins and horizons, in the unit of the values.
    pub mean_absolute_error: f64,
}

/// How the forecast would have done from points in the past.
#[derive(Clone, Debug, PartialEq)]
pub struct Backtest {
    /// How many points were known at each start, counted from the first value used.
    pub origins: Vec<usize>,
    /// The methods, best first.
    pub methods: Vec<MethodReport>,
    /// The mean absolute error of the combination, each start weighed without its own errors.
    pub mean_absolute_error: f64,
    /// The mean absolute error of the last cycle repeated, the yardstick.
    pub seasonal_naive_error: f64,
}

impl Backtest {
    /// How much better than the last cycle repeated: 1 is perfect, 0 no better.
    #[must_use]
    pub fn skill(&self) -> f64 {
        1.0 - self.mean_absolute_error / self.seasonal_naive_error
    }
}

/// The origins of a backtest of `history_points` points, ascending, at most `count` of them, and
/// the end of the history.
///
/// They reach back to the middle of the history at most, three quarters of a horizon apart, so that
/// they begin at different phases of a season.
pub(crate) fn origins(history_points: usize, horizon: usize, count: usize) -> Vec<usize> {
    let tested = horizon.min(history_points / 3).max(1);
    let last = history_points.saturating_sub(tested).max(1);
    let room = last.saturating_sub(history_points / 2);
    let stride = (room / (count - 1).max(1)).min(tested * 3 / 4 + 1);
    let mut origins: Vec<usize> = (0..count)
        .rev()
        .map(|back| last - stride * back)
        .chain([history_points])
        .collect();
    origins.dedup();
    origins
}

/// What a report is made of, on the scale of the methods.
pub(crate) struct Evidence<'a> {
    pub(crate) methods: &'a [Method],
    pub(crate) scores: &'a Scores,
    pub(crate) weights: &'a [f64],
    pub(crate) origins: &'a [usize],
    /// The errors of the combination.
    pub(crate) errors: &'a [Vec<f64>],
    pub(crate) yardstick: Paths,
    /// The values, NaN where unknown.
    pub(crate) seen: &'a [f64],
    /// The unit of the values on that scale.
    pub(crate) scale: f64,
}

impl Evidence<'_> {
    /// The report, in the unit of the values.
    pub(crate) fn report(self) -> Backtest {
        let reports = self.methods.iter().zip(self.weights).enumerate();
        let mut methods: Vec<MethodReport> = reports
            .map(|(index, (&method, &weight))| MethodReport {
                method,
                weight,
                mean_absolute_error: self.scores.mean(index) * self.scale,
            })
            .collect();
        methods.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let known = self.errors.iter().flatten().filter(|error| !error.is_nan());
        let sum: f64 = known.clone().map(|error| error.abs()).sum();
        let yardstick = Scores::measure(&[self.yardstick], self.origins, self.seen).mean(0);
        Backtest {
            origins: self.origins[..self.origins.len() - 1].to_vec(),
            methods,
            mean_absolute_error: sum / known.count() as f64 * self.scale,
            seasonal_naive_error: yardstick * self.scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_leave_a_horizon_and_half_of_the_history() {
        assert_eq!(origins(960, 48, 8).last(), Some(&960));
        assert_eq!(origins(960, 48, 8)[7], 912);
        for points in 4..200 {
            for horizon in [1, 13, 48, 1000] {
                let found = origins(points, horizon, 8);
                assert!(
                    found.len() >= 2 && found.len() <= 9,
                    "{points} {horizon}: {found:?}"
                );
                assert!(found.is_sorted() && found[0] >= 1 && found[0] >= points / 2);
                assert_eq!(*found.last().unwrap(), points);
            }
        }
    }
}
