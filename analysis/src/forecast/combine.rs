//! Combines methods by how they did in the backtest.
//!
//! A method's weight falls with the fourth power of its mean absolute error over the origins. Source:
//! Bates and Granger, "The Combination of Forecasts" (1969), whose weights are inverse squared
//! errors; the higher power, closer to picking the best, was better on every visible set, because
//! the methods here differ much. Cost: O(methods × origins × horizon).

use super::methods::Paths;

/// The power of the inverse error.
const POWER: i32 = 4;

/// Errors of methods over origins, and the weights that follow.
#[derive(Debug)]
pub(crate) struct Scores {
    /// Per method, per origin but the last: the mean absolute error, NaN where nothing was seen.
    errors: Vec<Vec<f64>>,
}

impl Scores {
    /// Measures every method from `origins` but the last on the values `seen`, NaN where unknown.
    pub(crate) fn measure(paths: &[Paths], origins: &[usize], seen: &[f64]) -> Self {
        let error = |path: &[f64], origin: usize| {
            let (mut sum, mut count) = (0.0, 0.0);
            for (forecast, value) in path
                .iter()
                .zip(&seen[origin..])
                .filter(|(_, v)| !v.is_nan())
            {
                sum += (forecast - value).abs();
                count += 1.0;
            }
            sum / count
        };
        let backtests = &origins[..origins.len().saturating_sub(1)];
        let of_method = |paths: &Paths| {
            backtests
                .iter()
                .enumerate()
                .map(|(i, &origin)| error(paths.path(i), origin))
                .collect()
        };
        Self {
            errors: paths.iter().map(of_method).collect(),
        }
    }

    /// The mean absolute error of a method over the origins; NaN if nothing was seen.
    pub(crate) fn mean(&self, method: usize) -> f64 {
        self.mean_without(method, None)
    }

    fn mean_without(&self, method: usize, left_out: Option<usize>) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for (origin, error) in self.errors[method].iter().enumerate() {
            if Some(origin) != left_out && !error.is_nan() {
                sum += error;
                count += 1.0;
            }
        }
        sum / count
    }

    /// The weights of the methods, which sum to 1; `left_out` is an origin whose errors are not
    /// looked at. Without any error all count alike.
    pub(crate) fn weights(&self, left_out: Option<usize>) -> Vec<f64> {
        let means: Vec<f64> = (0..self.errors.len())
            .map(|method| self.mean_without(method, left_out))
            .collect();
        let best = means
            .iter()
            .copied()
            .filter(|mean| mean.is_finite())
            .fold(f64::INFINITY, f64::min);
        if !best.is_finite() {
            return vec![1.0 / means.len().max(1) as f64; means.len()];
        }
        // Values are scaled to about 1, so that this only keeps exact hits apart from 0 / 0.
        const TINY: f64 = 1e-9;
        let raw = means.iter().map(|mean| {
            let ratio = (best + TINY) / (mean + TINY);
            if ratio.is_finite() {
                ratio.powi(POWER)
            } else {
                0.0
            }
        });
        let sum: f64 = raw.clone().sum();
        raw.map(|weight| weight / sum).collect()
    }
}

/// The weighted mean of the methods' paths from one origin.
pub(crate) fn combine(paths: &[Paths], weights: &[f64], origin: usize, into: &mut Vec<f64>) {
    into.clear();
    for (paths, &weight) in paths
        .iter()
        .zip(weights)
        .filter(|(_, weight)| **weight > 0.0)
    {
        let path = paths.path(origin);
        if into.is_empty() {
            into.resize(path.len(), 0.0);
        }
        into.iter_mut()
            .zip(path)
            .for_each(|(sum, value)| *sum += weight * value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_method_rules() {
        let seen = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let paths = [
            Paths::new(2, vec![3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
            Paths::new(2, vec![4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
            Paths::new(2, vec![5.0, 6.0, 7.0, 8.0, 9.0, 10.0]),
        ];
        let scores = Scores::measure(&paths, &[2, 4, 6], &seen);
        assert_eq!(
            [scores.mean(0), scores.mean(1), scores.mean(2)],
            [0.0, 1.0, 2.0]
        );
        let weights = scores.weights(None);
        assert!(weights[0] > 0.999 && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let mut combined = Vec::new();
        combine(&paths, &[0.5, 0.5, 0.0], 2, &mut combined);
        assert_eq!(combined, [7.5, 8.5]);
    }

    #[test]
    fn unseen_values_do_not_count() {
        let seen = [1.0, 2.0, f64::NAN, 4.0];
        let paths = [
            Paths::new(2, vec![9.0, 5.0, 0.0, 0.0]),
            Paths::new(2, vec![9.0, 6.0, 0.0, 0.0]),
        ];
        let scores = Scores::measure(&paths, &[2, 4], &seen);
        assert_eq!([scores.mean(0), scores.mean(1)], [1.0, 2.0]);
        // Leaving out the only origin leaves nothing to tell them apart.
        assert_eq!(scores.weights(Some(0)), [0.5, 0.5]);
    }
}
