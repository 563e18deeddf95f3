//! Growth: along a straight line, and towards a ceiling.
//!
//! *Linear* is the random walk with drift: from the last value on by the mean step of the whole
//! history (Hyndman and Athanasopoulos, 3rd ed., 5.2). *Saturating* is the logistic curve of
//! Verhulst (1838) fitted by least squares through the log-odds for a grid of ceilings above the
//! values seen; it is tried only where the history rises for the most part and slows down at the
//! end. Both work on the data as they are, not on logarithms, on which a line would explode. Cost:
//! linear O(horizon); saturating ceilings × points. Good at: capacity, adoption. Bad at: seasons
//! (the last cycle's shape is added to the curve), trends that turned.

use super::{Paths, Task};

/// Ceilings tried, as multiples of the range seen above the lowest value.
const CEILINGS: [f64; 8] = [1.02, 1.05, 1.1, 1.2, 1.4, 1.8, 2.5, 4.0];

/// How much of the variance a straight line must explain before a curve is tried.
const TREND_SHARE_MIN: f64 = 0.6;

/// From the last value on by the mean step.
pub(crate) fn linear(task: &Task<'_>) -> Paths {
    let mut paths = Paths::for_task(task);
    for &origin in task.origins {
        let (first, last) = (task.values[0], task.values[origin - 1]);
        let slope = (last - first) / (origin as f64 - 1.0).max(1.0);
        for ahead in 0..task.horizon {
            paths.push(last + slope * (ahead + 1) as f64);
        }
    }
    paths
}

/// Along a logistic curve; `None` if at any origin the history does not look like one.
pub(crate) fn saturating(task: &Task<'_>) -> Option<Paths> {
    let season = task.season_short();
    let mut paths = Paths::for_task(task);
    for &origin in task.origins {
        let values = &task.values[..origin];
        let curve = Curve::fit(values)?;
        // What the curve leaves at each phase of the last cycle is taken to repeat.
        let season = if season < origin { season } else { 1 };
        for ahead in 0..task.horizon {
            let model = origin - season + ahead % season;
            let left = values[model] - curve.at(model as f64);
            paths.push(curve.at((origin + ahead) as f64) + left);
        }
    }
    Some(paths)
}

/// low + range / (1 + exp(-(rate t + shift)))
#[derive(Clone, Copy, Debug)]
struct Curve {
    low: f64,
    range: f64,
    rate: f64,
    shift: f64,
}

impl Curve {
    fn at(self, t: f64) -> f64 {
        self.low + self.range / (1.0 + (-(self.rate * t + self.shift)).exp())
    }

    /// The best of the grid by squared error; `None` if the values do not rise, or do not slow.
    fn fit(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count < 12 {
            return None;
        }
        let (slope, share) = line(
            values
                .iter()
                .copied()
                .enumerate()
                .map(|(i, v)| (i as f64, v)),
        );
        let third = count / 3;
        let rise =
            |part: &[f64]| line(part.iter().copied().enumerate().map(|(i, v)| (i as f64, v))).0;
        if slope <= 0.0 || share < TREND_SHARE_MIN || rise(&values[count - third..]) > 0.8 * slope {
            return None;
        }
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // A little below the lowest, where the log-odds are finite.
        let floor = low - 0.02 * (high - low);
        let fit = |&multiple: &f64| {
            let range = (high - floor) * multiple;
            let odds = values.iter().enumerate().map(|(i, value)| {
                let share = ((value - floor) / range).clamp(1e-3, 1.0 - 1e-3);
                (i as f64, (share / (1.0 - share)).ln())
            });
            let middle = (count as f64 - 1.0) / 2.0;
            let mean = odds.clone().map(|(_, odds)| odds).sum::<f64>() / count as f64;
            let (rate, _) = line(odds);
            let curve = Self {
                low: floor,
                range,
                rate,
                shift: mean - rate * middle,
            };
            let error: f64 = values
                .iter()
                .enumerate()
                .map(|(i, value)| (value - curve.at(i as f64)).powi(2))
                .sum();
            (error, curve)
        };
        let best = CEILINGS
            .iter()
            .map(fit)
            .min_by(|a, b| a.0.total_cmp(&b.0))?;
        best.0.is_finite().then_some(best.1)
    }
}

/// Slope of the least squares line through points, and the share of variance that it explains.
fn line(points: impl Iterator<Item = (f64, f64)> + Clone) -> (f64, f64) {
    let (mut count, mut mean_x, mut mean_y) = (0.0, 0.0, 0.0);
    for (x, y) in points.clone() {
        count += 1.0;
        mean_x += x;
        mean_y += y;
    }
    if count < 2.0 {
        return (0.0, 0.0);
    }
    (mean_x, mean_y) = (mean_x / count, mean_y / count);
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in points {
        xx += (x - mean_x) * (x - mean_x);
        xy += (x - mean_x) * (y - mean_y);
        yy += (y - mean_y) * (y - mean_y);
    }
    (xy / xx, if yy > 0.0 { xy * xy / (xx * yy) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on() {
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        let task = Task {
            values: &values,
            seasons: &[],
            horizon: 2,
            origins: &[10],
        };
        assert_eq!(linear(&task).path(0), [10.0, 11.0]);
        assert!(saturating(&task).is_none());
    }

    #[test]
    fn a_ceiling_is_approached() {
        let logistic = |i: f64| 100.0 / (1.0 + (-(i - 60.0) / 8.0).exp());
        let values: Vec<f64> = (0..100).map(|i| logistic(f64::from(i))).collect();
        let task = Task {
            values: &values,
            seasons: &[],
            horizon: 40,
            origins: &[100],
        };
        let paths = saturating(&task).unwrap();
        for (ahead, found) in paths.path(0).iter().enumerate() {
            let truth = logistic(100.0 + ahead as f64);
            assert!((found - truth).abs() < 4.0, "{ahead}: {found} for {truth}");
        }
    }

    #[test]
    fn noise_is_no_growth() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i * 7919 % 101)).collect();
        assert!(Curve::fit(&values).is_none());
        assert!(Curve::fit(&[1.0; 50]).is_none());
    }
}
