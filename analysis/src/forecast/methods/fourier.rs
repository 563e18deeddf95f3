//! Regression on a line and a few harmonics of each season, set to where the series now stands.
//!
//! A cycle is drawn with few strokes: four sine waves for the shortest season, three for the
//! longest, fitted by ridge least squares together with a line; what the last cycle of the
//! shortest season lies above the fit on average is added to the forecast. Source: harmonic
//! regression as in Young, Pedregal and Tych, "Dynamic harmonic regression" (1999), with constant
//! coefficients. Cost: p²/2 multiplications a point, p at most 16; the cross products are carried
//! from origin to origin. Good at: smooth seasons of which few cycles are known, where means of
//! phases are noise. Bad at: sharp seasons, lines that bend. With more cycles the other methods do as
//! well without it (measured on the visible sets), so that it is tried with fewer than four only.

use std::f64::consts::TAU;

use super::{Paths, Task};
use crate::forecast::linear::{Normal, dot};

/// Waves of the shortest and of the longest season.
const WAVES_SHORT: usize = 4;
const WAVES_LONG: usize = 3;

/// The penalty, as a share of a regressor's own square.
const RIDGE: f64 = 1e-4;

/// Below this many cycles of the longest season the method is tried.
const CYCLES_FEW: usize = 4;

/// The paths; `None` without a season, and with enough cycles of each.
pub(crate) fn forecast(task: &Task<'_>) -> Option<Paths> {
    let short = *task.seasons.first()?;
    if task.values.len() >= CYCLES_FEW * task.season_long() {
        return None;
    }
    let end = task.values.len() + task.horizon;
    let columns = columns(&frequencies(task), end, task.values.len());
    let size = columns.len();
    let mut normal = Normal::new(size);
    let mut paths = Paths::for_task(task);
    let mut taken = 0;
    for &origin in task.origins {
        let rows = taken..origin;
        for (i, column) in columns.iter().enumerate() {
            for (j, other) in columns.iter().enumerate().take(i + 1) {
                normal.add(i, j, dot(&column[rows.clone()], &other[rows.clone()]));
            }
            normal.add_target(i, dot(&column[rows.clone()], &task.values[rows.clone()]));
        }
        taken = origin;
        let coefficients = normal.solve(RIDGE);
        let fit = |at: usize| -> f64 {
            columns
                .iter()
                .zip(&coefficients)
                .map(|(column, weight)| weight * column[at])
                .sum()
        };
        let cycle = short.min(origin);
        let standing: f64 = (origin - cycle..origin)
            .map(|at| task.values[at] - fit(at))
            .sum::<f64>()
            / cycle as f64;
        for at in origin..origin + task.horizon {
            paths.push(fit(at) + standing);
        }
    }
    Some(paths)
}

/// The waves as cycles per point.
fn frequencies(task: &Task<'_>) -> Vec<f64> {
    let waves = |season: usize, count: usize| {
        // At two points a wave the sine is 0 everywhere.
        (1..=count.min((season - 1) / 2)).map(move |wave| wave as f64 / season as f64)
    };
    let (short, long) = (task.season_short(), task.season_long());
    let mut found: Vec<f64> = waves(short, WAVES_SHORT).collect();
    if long != short {
        found.extend(waves(long, WAVES_LONG));
    }
    found.sort_by(f64::total_cmp);
    found.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    found
}

/// One column per regressor, `end` values each; the line goes from 0 to 1 over `scale` points.
fn columns(frequencies: &[f64], end: usize, scale: usize) -> Vec<Vec<f64>> {
    let mut columns = vec![
        vec![1.0; end],
        (0..end).map(|at| at as f64 / scale as f64).collect(),
    ];
    for frequency in frequencies {
        // Turned on by one step at a time, which costs no sine; exact to 1e-12 over the history.
        let (step_sine, step_cosine) = (TAU * frequency).sin_cos();
        let (mut sine, mut cosine) = (0.0, 1.0);
        let (mut sines, mut cosines) = (Vec::with_capacity(end), Vec::with_capacity(end));
        for _ in 0..end {
            sines.push(sine);
            cosines.push(cosine);
            (sine, cosine) = (
                sine * step_cosine + cosine * step_sine,
                cosine * step_cosine - sine * step_sine,
            );
        }
        columns.extend([sines, cosines]);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_on_a_line_goes_on() {
        let value = |i: usize| 5.0 + 0.02 * i as f64 + 3.0 * (TAU * i as f64 / 52.0).sin();
        let values: Vec<f64> = (0..120).map(value).collect();
        let task = Task {
            values: &values,
            seasons: &[52],
            horizon: 20,
            origins: &[110, 120],
        };
        let paths = forecast(&task).unwrap();
        for (index, origin) in [110, 120].into_iter().enumerate() {
            for (ahead, found) in paths.path(index).iter().enumerate() {
                assert!(
                    (found - value(origin + ahead)).abs() < 0.1,
                    "{origin}+{ahead}: {found}"
                );
            }
        }
    }

    #[test]
    fn without_a_season_there_is_nothing_to_draw() {
        let task = Task {
            values: &[1.0, 2.0],
            seasons: &[],
            horizon: 1,
            origins: &[2],
        };
        assert!(forecast(&task).is_none());
        let task = Task {
            seasons: &[2],
            ..task
        };
        // A season of two points has no wave that is seen: the line is left.
        assert_eq!(forecast(&task).unwrap().path(0).len(), 1);
        let task = Task {
            values: &[0.0; 8],
            ..task
        };
        assert!(forecast(&task).is_none());
    }
}
