//! Theta and damped trend on the seasonally adjusted series.
//!
//! At every origin the seasons are taken out ([`Profiles`]), the rest is forecast by the
//! *dynamic optimised theta* model and by *damped trend* smoothing, and the seasons are put back.
//!
//! Sources: Fiorucci, Pellegrini, Louzada, Petropoulos and Koehler, "Models for optimising the
//! theta method and their relationship to state space models" (2016), whose recursions the theta
//! part follows; Gardner and McKenzie, "Forecasting trends in time series" (1985). The constants
//! are the best of a grid by squared one-step error; a grid runs in one pass, side by side in the
//! lanes of a vector, because the recursions wait for themselves and the processor is free
//! otherwise. Cost: some 10 µs an origin; only
//! the adjustment looks at every point. Good at: stable seasons, slow trends, short
//! histories. Bad at: errors that persist for hours, changing seasons.

use super::{Paths, Task};
use crate::forecast::decompose::{CYCLE_DECAY, Profiles};

/// Smoothing constants of the theta model.
const THETA_ALPHAS: [f64; 8] = [0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.97];

/// Slopes of its theta line; 1 is simple exponential smoothing.
const THETAS: [f64; 2] = [1.0, 2.0];

/// Level constants and slope constants (as shares of the level's) of damped trend.
const DAMPED_ALPHAS: [f64; 4] = [0.05, 0.2, 0.5, 0.9];
const DAMPED_BETAS: [f64; 2] = [0.02, 0.15];

/// Points at the end that the recursions run over. With α of 0.05 or more, what lies before has no
/// weight left, and constants that fit the recent past are the better ones.
const WINDOW_POINTS: usize = 320;

/// How much of a slope is left after each point.
const DAMPING: f64 = 0.95;

/// The paths of both methods, theta first.
pub(crate) fn theta_and_damped(task: &Task<'_>) -> (Paths, Paths) {
    let mut profiles = Profiles::new(task.seasons);
    let (mut theta, mut damped) = (Paths::for_task(task), Paths::for_task(task));
    let mut path = Vec::with_capacity(task.horizon);
    for &origin in task.origins {
        profiles.fit(&task.values[..origin], CYCLE_DECAY);
        path.clear();
        theta_path(profiles.adjusted(), task.horizon, &mut path);
        profiles.add_to(&mut path, origin);
        path.iter().for_each(|&value| theta.push(value));
        path.clear();
        damped_path(profiles.adjusted(), task.horizon, &mut path);
        profiles.add_to(&mut path, origin);
        path.iter().for_each(|&value| damped.push(value));
    }
    (theta, damped)
}

/// The dynamic optimised theta forecast of `horizon` points after `values`.
fn theta_path(values: &[f64], horizon: usize, into: &mut Vec<f64>) {
    const LANES: usize = THETA_ALPHAS.len() * THETAS.len();
    let alpha: [f64; LANES] = std::array::from_fn(|lane| THETA_ALPHAS[lane % THETA_ALPHAS.len()]);
    // The share of the line through all values that the forecast takes: 1 - 1/θ.
    let share: [f64; LANES] =
        std::array::from_fn(|lane| 1.0 - 1.0 / THETAS[lane / THETA_ALPHAS.len()]);
    if values.is_empty() {
        into.resize(horizon, 0.0);
        return;
    }
    // The line through the values so far: mean, slope, intercept, updated as in the paper.
    let start = window_start(values.len());
    let (mut mean, mut slope) = mean_and_slope(&values[..=start]);
    let mut intercept = mean - slope * (start + 2) as f64 / 2.0;
    let mut level = [values[start]; LANES];
    let mut errors = [0.0; LANES];
    // (1 - α)^t, the part of the start that is left.
    let mut left = alpha.map(|alpha| (1.0 - alpha).powf((start + 1) as f64));
    let inverse = alpha.map(|alpha| 1.0 / alpha);
    for (index, &value) in values.iter().enumerate().skip(start + 1) {
        for lane in 0..LANES {
            let line = intercept * left[lane]
                + slope * inverse[lane] * (1.0 - (1.0 - alpha[lane]) * left[lane]);
            let error = value - level[lane] - share[lane] * line;
            errors[lane] += error * error;
            level[lane] += alpha[lane] * (value - level[lane]);
            left[lane] *= 1.0 - alpha[lane];
        }
        let t = (index + 1) as f64;
        slope = ((t - 2.0) * slope + 6.0 / t * (value - mean)) / (t + 1.0);
        mean += (value - mean) / t;
        intercept = mean - slope * (t + 1.0) / 2.0;
    }
    let best = smallest(&errors);
    let (alpha, share, left, level) = (alpha[best], share[best], left[best], level[best]);
    // The paper's closed form: from here on the line alone moves.
    let start = level + share * (intercept * left + slope * (1.0 - (1.0 - alpha) * left) / alpha);
    into.extend((0..horizon).map(|ahead| start + share * slope * ahead as f64));
}

/// The damped trend forecast of `horizon` points after `values`.
fn damped_path(values: &[f64], horizon: usize, into: &mut Vec<f64>) {
    const LANES: usize = DAMPED_ALPHAS.len() * DAMPED_BETAS.len();
    let alpha: [f64; LANES] = std::array::from_fn(|lane| DAMPED_ALPHAS[lane % DAMPED_ALPHAS.len()]);
    let gain: [f64; LANES] =
        std::array::from_fn(|lane| alpha[lane] * DAMPED_BETAS[lane / DAMPED_ALPHAS.len()]);
    if values.is_empty() {
        into.resize(horizon, 0.0);
        return;
    }
    let start = window_start(values.len());
    let mut level = [values[start]; LANES];
    let mut slope = [0.0; LANES];
    let mut errors = [0.0; LANES];
    for &value in &values[start + 1..] {
        for lane in 0..LANES {
            let damped = DAMPING * slope[lane];
            let error = value - (level[lane] + damped);
            errors[lane] += error * error;
            level[lane] += damped + alpha[lane] * error;
            slope[lane] = damped + gain[lane] * error;
        }
    }
    let best = smallest(&errors);
    let (mut level, mut slope) = (level[best], slope[best]);
    for _ in 0..horizon {
        slope *= DAMPING;
        level += slope;
        into.push(level);
    }
}

/// The index from which on the recursions run.
fn window_start(count: usize) -> usize {
    count.saturating_sub(WINDOW_POINTS)
}

/// Mean and least squares slope per point.
fn mean_and_slope(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let middle = (count - 1.0) / 2.0;
    let products: f64 = values
        .iter()
        .enumerate()
        .map(|(index, value)| (index as f64 - middle) * (value - mean))
        .sum();
    let squares = count * (count * count - 1.0) / 12.0;
    (
        mean,
        if squares > 0.0 {
            products / squares
        } else {
            0.0
        },
    )
}

/// The index of the smallest.
fn smallest(values: &[f64]) -> usize {
    values
        .iter()
        .enumerate()
        .min_by(|a, b| a.1.total_cmp(b.1))
        .map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on() {
        let values: Vec<f64> = (0..200).map(|i| 5.0 + 0.5 * f64::from(i)).collect();
        let mut path = Vec::new();
        damped_path(&values, 3, &mut path);
        assert!(
            (path[0] - 105.0).abs() < 0.2 && path[2] > path[1],
            "{path:?}"
        );
        path.clear();
        theta_path(&values, 10, &mut path);
        // Theta takes half of the slope.
        assert!(
            (path[0] - 105.0).abs() < 0.6 && path[9] > path[0] + 2.0,
            "{path:?}"
        );
    }

    #[test]
    fn the_line_counts_what_lies_before_the_window() {
        // Flat for long, then rising: the line through all rises less than the window does.
        let values: Vec<f64> = (0..2_000)
            .map(|i| 0.1 * f64::from(i - 1_600).max(0.0))
            .collect();
        let (mean, slope) = mean_and_slope(&values);
        assert!((mean - values.iter().sum::<f64>() / 2e3).abs() < 1e-9 && slope < 0.05);
        let mut path = Vec::new();
        theta_path(&values, 11, &mut path);
        assert!(
            (path[10] - path[0] - 10.0 * slope / 2.0).abs() < 1e-6,
            "{path:?} {slope}"
        );
    }

    #[test]
    fn a_constant_and_nothing_stay() {
        for forecaster in [theta_path as fn(&[f64], usize, &mut Vec<f64>), damped_path] {
            let mut path = Vec::new();
            forecaster(&[2.0; 30], 4, &mut path);
            assert!(
                path.iter().all(|value| (value - 2.0).abs() < 1e-9),
                "{path:?}"
            );
            path.clear();
            forecaster(&[], 2, &mut path);
            assert_eq!(path, [0.0, 0.0]);
        }
    }

    #[test]
    fn a_season_repeats() {
        let values: Vec<f64> = (0..96).map(|i| f64::from(i % 12)).collect();
        let task = Task {
            values: &values,
            seasons: &[12],
            horizon: 12,
            origins: &[72, 96],
        };
        let (theta, damped) = theta_and_damped(&task);
        for paths in [theta, damped] {
            for origin in 0..2 {
                for (ahead, value) in paths.path(origin).iter().enumerate() {
                    assert!((value - ahead as f64).abs() < 0.5, "{ahead}: {value}");
                }
            }
        }
    }
}
