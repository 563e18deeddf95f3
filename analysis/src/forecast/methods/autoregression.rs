//! Ridge regression on seasonal lags, in differences from the last value.
//!
//! Each point's step from the point before is explained by how the points one, two, three before
//! and around one cycle of each season before stood against it:
//! `y[t] = y[t-1] + c + Σ φ_l (y[t-l] - y[t-1])`. Taking everything relative to the last value
//! builds in a unit root, so that the level is free to be anywhere, while the seasonal lags pull
//! towards yesterday and last week.
//!
//! Source: a subset autoregression (Box and Jenkins, 1970) fitted by ridge (Hoerl and Kennard,
//! 1970); for regressions on seasonal lags compare Doornik, Castle and Hendry, "Card forecasts
//! for M4" (2020). The cross products are sums over shifted
//! slices, kept as the origins move on; only solving is done again, so that ten origins cost
//! little more than one. Cost: p²/2 multiplications a point, p about 10. Good at: nearly
//! everything with a few hundred points. Bad at: short histories, outliers (least squares),
//! horizons of many cycles (errors feed on themselves; paths are held within one range of the
//! values seen).

use super::{Paths, Task};
use crate::forecast::linear::{Normal, dot};

/// The penalty, as a share of a regressor's own square.
const RIDGE: f64 = 1e-4;

/// Rows that a lag must leave for fitting.
const ROWS_MIN: usize = 10;

/// The paths; flat at the last value where the history is too short to fit.
pub(crate) fn forecast(task: &Task<'_>) -> Paths {
    let lags = choose_lags(task.seasons, task.origins[0]);
    let mut fit = Fit::new(task.values, lags);
    let mut paths = Paths::for_task(task);
    let mut buffer = Vec::with_capacity(task.values.len() + task.horizon);
    let (mut low, mut high, mut seen) = (f64::INFINITY, f64::NEG_INFINITY, 0);
    for &origin in task.origins {
        fit.extend_to(origin);
        let coefficients = fit.solve();
        for &value in &task.values[seen..origin] {
            low = low.min(value);
            high = high.max(value);
        }
        seen = origin;
        buffer.clear();
        buffer.extend_from_slice(&task.values[origin - fit.reach().min(origin)..origin]);
        for _ in 0..task.horizon {
            let value = coefficients
                .step(&buffer)
                .clamp(2.0 * low - high, 2.0 * high - low);
            buffer.push(value);
            paths.push(value);
        }
    }
    paths
}

/// The lags whose regression the history before the first origin can carry; the first is 1.
fn choose_lags(seasons: &[usize], first_origin: usize) -> Vec<usize> {
    let mut lags = vec![1, 2, 3];
    if seasons.is_empty() {
        lags.extend([4, 5]);
    }
    for &season in seasons {
        lags.extend([season - 1, season, season + 1]);
    }
    if let Some(&short) = seasons.first() {
        lags.push(2 * short);
        if seasons.len() == 1 {
            lags.push(3 * short);
        }
    }
    lags.retain(|&lag| lag >= 1 && lag + ROWS_MIN < first_origin * 2 / 3);
    lags.sort_unstable();
    lags.dedup();
    lags
}

/// The regression, growing with the history.
struct Fit {
    /// The history less its first value, so that products of differences lose no digits.
    centred: Vec<f64>,
    lags: Vec<usize>,
    /// Cross products of value, lagged values and 1, in this order.
    products: Normal,
    /// Rows before this one are in.
    next: usize,
}

impl Fit {
    fn new(values: &[f64], lags: Vec<usize>) -> Self {
        let next = lags.last().copied().unwrap_or(0);
        let centred = values.iter().map(|value| value - values[0]).collect();
        Self {
            centred,
            products: Normal::new(lags.len() + 2),
            lags,
            next,
        }
    }

    /// How many values before it a forecast needs.
    fn reach(&self) -> usize {
        self.lags.last().copied().unwrap_or(1)
    }

    /// Takes in the rows before `end`.
    fn extend_to(&mut self, end: usize) {
        if end <= self.next || self.lags.is_empty() {
            return;
        }
        let range = self.next..end;
        let column = |column: usize| -> &[f64] {
            let lag = if column == 0 {
                0
            } else {
                self.lags[column - 1]
            };
            &self.centred[range.start - lag..range.end - lag]
        };
        let columns = self.lags.len() + 1;
        let rows = range.len() as f64;
        for i in 0..columns {
            for j in 0..=i {
                self.products.add(i, j, dot(column(i), column(j)));
            }
            self.products.add(columns, i, column(i).iter().sum());
        }
        self.products.add(columns, columns, rows);
        self.next = end;
    }

    /// The coefficients of differences from the last value, by the rows taken in.
    fn solve(&self) -> Coefficients {
        let lags = self.lags.len();
        if lags < 2 {
            return Coefficients {
                lags: Vec::new(),
                constant: 0.0,
            };
        }
        // Columns of `products`: 0 the value, 1 the last value, 2.. the other lags, then 1.
        let of = |i: usize, j: usize| self.products.product(i, j);
        // <a - last, b - last>
        let difference = |a: usize, b: usize| of(a, b) - of(a, 1) - of(1, b) + of(1, 1);
        let one = lags + 1;
        let mut normal = Normal::new(lags);
        for i in 0..lags - 1 {
            for j in 0..=i {
                normal.add(i, j, difference(i + 2, j + 2));
            }
            normal.add(lags - 1, i, of(one, i + 2) - of(one, 1));
            normal.add_target(i, difference(i + 2, 0));
        }
        normal.add(lags - 1, lags - 1, of(one, one));
        normal.add_target(lags - 1, of(one, 0) - of(one, 1));
        let solution = normal.solve(RIDGE);
        let constant = solution[lags - 1];
        let lags = self.lags[1..].iter().copied().zip(solution).collect();
        Coefficients { lags, constant }
    }
}

/// A fitted regression.
struct Coefficients {
    lags: Vec<(usize, f64)>,
    constant: f64,
}

impl Coefficients {
    /// The value after those of `buffer`.
    fn step(&self, buffer: &[f64]) -> f64 {
        let end = buffer.len();
        let Some(&last) = buffer.last() else {
            return self.constant;
        };
        let pull: f64 = self
            .lags
            .iter()
            .map(|&(lag, weight)| weight * (buffer[end - lag] - last))
            .sum();
        last + self.constant + pull
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seasons_are_learnt_exactly() {
        let value = |i: usize| 1e3 + (i % 6) as f64 + (i % 42 / 6) as f64 * 2.0;
        let values: Vec<f64> = (0..500).map(value).collect();
        let task = Task {
            values: &values,
            seasons: &[6, 42],
            horizon: 42,
            origins: &[400, 500],
        };
        let paths = forecast(&task);
        for (index, origin) in [400, 500].into_iter().enumerate() {
            for (ahead, found) in paths.path(index).iter().enumerate() {
                assert!(
                    (found - value(origin + ahead)).abs() < 0.3,
                    "{origin}+{ahead}: {found}"
                );
            }
        }
    }

    #[test]
    fn rows_in_two_steps_are_rows_in_one() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i * 37 % 101)).collect();
        let lags = choose_lags(&[12], 150);
        let mut once = Fit::new(&values, lags.clone());
        once.extend_to(200);
        let mut twice = Fit::new(&values, lags);
        twice.extend_to(150);
        twice.extend_to(200);
        let (once, twice) = (once.solve(), twice.solve());
        for ((lag, a), (_, b)) in once.lags.iter().zip(&twice.lags) {
            assert!((a - b).abs() < 1e-9, "lag {lag}: {a} and {b}");
        }
    }

    #[test]
    fn too_short_is_flat() {
        let task = Task {
            values: &[1.0, 5.0, 3.0],
            seasons: &[],
            horizon: 3,
            origins: &[2, 3],
        };
        assert_eq!(forecast(&task).path(1), [3.0; 3]);
    }
}
