//! Exponential smoothing with any number of seasons, a damped trend and errors that persist.
//!
//! ```text
//! forecast  = level + φ slope + Σ season[phase] + ρ error
//! surprise  = value - forecast
//! level    += φ slope + α surprise        slope = φ slope + αβ surprise
//! season   += γ surprise                  error = value - level part - seasons - α surprise
//! ```
//!
//! Source: Taylor, "Triple seasonal methods for short-term electricity demand forecasting" (2010):
//! additive seasons plus a first-order autoregression of the errors. The constants are chosen by
//! the error over the whole horizon from all origins, not by one-step errors: what follows the
//! last hour well may run off in two days. The search tries eight settings per pass side by
//! side (the recursion waits for itself, so the lanes are nearly free) and has four rounds that each
//! vary two constants around the best so far.
//!
//! Cost: five passes of about 15 ns a point with two seasons. Good at: seasons that drift, errors
//! that persist for hours, two seasons. Bad at: long seasons seen twice, spikes (each stays in its
//! phase for some cycles).

use super::{Paths, Task};
use crate::forecast::decompose::Profiles;

/// Settings tried in one pass.
const LANES: usize = 8;

/// The smoothing constants; see the module's page.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Constants {
    alpha: f64,
    beta: f64,
    phi: f64,
    gamma_short: f64,
    gamma_long: f64,
    rho: f64,
}

const START: Constants = Constants {
    alpha: 0.05,
    beta: 0.0,
    phi: 0.95,
    gamma_short: 0.1,
    gamma_long: 0.1,
    rho: 0.6,
};

/// Level constants and error persistence of the first round.
const COARSE: [(f64, f64); LANES] = [
    (0.01, 0.6),
    (0.01, 0.92),
    (0.05, 0.3),
    (0.05, 0.8),
    (0.15, 0.0),
    (0.3, 0.6),
    (0.6, 0.0),
    (0.95, 0.0),
];

/// Season constants (shortest season, others) of the second.
const SEASONS: [(f64, f64); LANES] = [
    (0.02, 0.02),
    (0.02, 0.15),
    (0.08, 0.3),
    (0.1, 0.05),
    (0.25, 0.02),
    (0.25, 0.2),
    (0.5, 0.05),
    (0.15, 0.5),
];

/// Trend constants (β, φ) of the third, with the best level constant so far and a third of it.
const TRENDS: [(f64, f64); LANES / 2] = [(0.02, 0.95), (0.02, 0.995), (0.1, 0.9), (0.1, 0.98)];

/// Factors of α and values of ρ of the last.
const FINE: [(f64, f64); LANES] = [
    (0.1, 0.98),
    (0.4, 0.97),
    (0.4, 0.85),
    (0.4, 0.5),
    (1.0, 0.95),
    (1.0, 0.7),
    (2.0, 0.9),
    (2.0, 0.3),
];

/// The paths with the constants that did best over all origins but the last.
pub(crate) fn forecast(task: &Task<'_>) -> Paths {
    let start = Start::of(task);
    let mut best = (f64::INFINITY, START);
    let round = |settings: [Constants; LANES], best: &mut (f64, Constants)| {
        let errors = backtest(task, &start, &settings);
        for (error, constants) in errors.into_iter().zip(settings) {
            if error < best.0 {
                *best = (error, constants);
            }
        }
    };
    round(
        COARSE.map(|(alpha, rho)| Constants {
            alpha,
            rho,
            ..START
        }),
        &mut best,
    );
    if !task.seasons.is_empty() {
        let around = best.1;
        let settings = SEASONS.map(|(gamma_short, gamma_long)| Constants {
            gamma_short,
            gamma_long,
            ..around
        });
        round(settings, &mut best);
    }
    let around = best.1;
    let fine = FINE.map(|(factor, rho)| Constants {
        alpha: (around.alpha * factor).min(0.99),
        rho,
        ..around
    });
    round(fine, &mut best);
    let around = best.1;
    let trends = std::array::from_fn(|lane| {
        let (beta, phi) = TRENDS[lane % TRENDS.len()];
        let alpha = if lane < TRENDS.len() {
            around.alpha
        } else {
            around.alpha / 3.0
        };
        Constants {
            alpha,
            beta,
            phi,
            ..around
        }
    });
    round(trends, &mut best);
    let mut paths = Paths::for_task(task);
    let mut states = States::new(&start, &[best.1]);
    walk(task, &mut states, |states, _, origin| {
        states.project(task.horizon, origin, |_, [value]| paths.push(value));
    });
    paths
}

/// The mean absolute errors of each setting.
fn backtest(task: &Task<'_>, start: &Start, settings: &[Constants; LANES]) -> [f64; LANES] {
    let mut states = States::new(start, settings);
    let mut errors = [0.0; LANES];
    walk(task, &mut states, |states, index, origin| {
        if index + 1 == task.origins.len() {
            return;
        }
        let known = &task.values[origin..];
        states.project(task.horizon.min(known.len()), origin, |ahead, values| {
            for lane in 0..LANES {
                errors[lane] += (known[ahead] - values[lane]).abs();
            }
        });
    });
    errors.map(|error| {
        if error.is_finite() {
            error
        } else {
            f64::INFINITY
        }
    })
}

/// Feeds the values, and stops at every origin.
fn walk<const N: usize>(
    task: &Task<'_>,
    states: &mut States<N>,
    mut at_origin: impl FnMut(&mut States<N>, usize, usize),
) {
    let mut fed = 0;
    for (index, &origin) in task.origins.iter().enumerate() {
        states.feed(&task.values[fed..origin]);
        fed = origin;
        at_origin(states, index, origin);
    }
}

/// Level and seasonal profiles before the first value, from the first two long cycles.
struct Start {
    level: f64,
    profiles: Vec<Vec<f64>>,
}

impl Start {
    fn of(task: &Task<'_>) -> Self {
        let count = (2 * task.season_long()).max(8).min(task.origins[0]);
        let level_count = task.season_short().max(4).min(task.origins[0]);
        let mut fitted = Profiles::new(task.seasons);
        fitted.fit(&task.values[..count], 1.0);
        Self {
            level: task.values[..level_count].iter().sum::<f64>() / level_count as f64,
            profiles: task
                .seasons
                .iter()
                .enumerate()
                .map(|(index, _)| fitted.profile(index).to_vec())
                .collect(),
        }
    }
}

/// The running state under `N` settings.
struct States<const N: usize> {
    alpha: [f64; N],
    alpha_beta: [f64; N],
    phi: [f64; N],
    gammas: Vec<[f64; N]>,
    rho: [f64; N],
    level: [f64; N],
    slope: [f64; N],
    error: [f64; N],
    /// Per season, per phase.
    seasons: Vec<Vec<[f64; N]>>,
    phases: Vec<usize>,
}

impl<const N: usize> States<N> {
    fn new(start: &Start, settings: &[Constants; N]) -> Self {
        let gamma = |index: usize| {
            settings.map(|s| {
                if index == 0 {
                    s.gamma_short
                } else {
                    s.gamma_long
                }
            })
        };
        Self {
            alpha: settings.map(|s| s.alpha),
            alpha_beta: settings.map(|s| s.alpha * s.beta),
            phi: settings.map(|s| s.phi),
            gammas: (0..start.profiles.len()).map(gamma).collect(),
            rho: settings.map(|s| s.rho),
            level: [start.level; N],
            slope: [0.0; N],
            error: [0.0; N],
            seasons: start
                .profiles
                .iter()
                .map(|p| p.iter().map(|&value| [value; N]).collect())
                .collect(),
            phases: vec![0; start.profiles.len()],
        }
    }

    /// Updates the state by values in order.
    fn feed(&mut self, values: &[f64]) {
        for &value in values {
            let mut seasonal = [0.0; N];
            for (season, &phase) in self.seasons.iter().zip(&self.phases) {
                for lane in 0..N {
                    seasonal[lane] += season[phase][lane];
                }
            }
            let mut surprise = [0.0; N];
            for lane in 0..N {
                let slope = self.phi[lane] * self.slope[lane];
                let base = self.level[lane] + slope;
                let miss = value - base - seasonal[lane];
                surprise[lane] = miss - self.rho[lane] * self.error[lane];
                self.level[lane] = base + self.alpha[lane] * surprise[lane];
                self.slope[lane] = slope + self.alpha_beta[lane] * surprise[lane];
                self.error[lane] = miss - self.alpha[lane] * surprise[lane];
            }
            for ((season, phase), gamma) in self
                .seasons
                .iter_mut()
                .zip(&mut self.phases)
                .zip(&self.gammas)
            {
                let slot = &mut season[*phase];
                for lane in 0..N {
                    slot[lane] += gamma[lane] * surprise[lane];
                }
                *phase = if *phase + 1 == season.len() {
                    0
                } else {
                    *phase + 1
                };
            }
        }
    }

    /// Calls `visit` with how far ahead (from 0) and the forecasts.
    fn project(&self, horizon: usize, origin: usize, mut visit: impl FnMut(usize, [f64; N])) {
        let (mut level, mut slope, mut error) = (self.level, self.slope, self.error);
        let mut phases: Vec<usize> = self
            .seasons
            .iter()
            .map(|season| origin % season.len())
            .collect();
        for ahead in 0..horizon {
            let mut values = [0.0; N];
            for lane in 0..N {
                slope[lane] *= self.phi[lane];
                level[lane] += slope[lane];
                error[lane] *= self.rho[lane];
                values[lane] = level[lane] + error[lane];
            }
            for (season, phase) in self.seasons.iter().zip(&mut phases) {
                for lane in 0..N {
                    values[lane] += season[*phase][lane];
                }
                *phase = if *phase + 1 == season.len() {
                    0
                } else {
                    *phase + 1
                };
            }
            visit(ahead, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seasons_and_a_level_are_learnt() {
        let values: Vec<f64> = (0..400)
            .map(|i| 10.0 + f64::from(i % 6) + 3.0 * f64::from(u8::from(i % 42 < 12)))
            .collect();
        let task = Task {
            values: &values,
            seasons: &[6, 42],
            horizon: 42,
            origins: &[300, 340, 358],
        };
        let paths = forecast(&task);
        for (ahead, found) in paths.path(2).iter().enumerate() {
            assert!(
                (found - values[358 + ahead]).abs() < 0.3,
                "{ahead}: {found}"
            );
        }
    }

    #[test]
    fn a_path_does_not_depend_on_what_follows_it() {
        let mut values: Vec<f64> = (0..120).map(|i| f64::from(i % 6 + i % 5)).collect();
        let settings = [START];
        let run = |values: &[f64]| {
            let task = Task {
                values,
                seasons: &[6],
                horizon: 3,
                origins: &[60, 120],
            };
            let mut found = Vec::new();
            walk(
                &task,
                &mut States::new(&Start::of(&task), &settings),
                |states, _, origin| {
                    states.project(3, origin, |_, [value]| found.push(value));
                },
            );
            found
        };
        let before = run(&values);
        values[60..].fill(1e6);
        let after = run(&values);
        assert_eq!(before[..3], after[..3]);
        assert_ne!(before[3..], after[3..]);
    }

    #[test]
    fn a_short_history_without_seasons_is_no_problem() {
        let task = Task {
            values: &[1.0, 2.0, 3.0],
            seasons: &[],
            horizon: 2,
            origins: &[2, 3],
        };
        assert!(
            forecast(&task)
                .path(1)
                .iter()
                .all(|value| value.is_finite())
        );
    }
}
