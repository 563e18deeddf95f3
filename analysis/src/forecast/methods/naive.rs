//! Forecasts that need no fit: the last value, the last cycle, the median of the last cycles.
//!
//! They win where there is little to learn, and where spikes and outages spoil every fit: the
//! median of seven cycles does not move for three bad ones. Seasonal naive is the yardstick of
//! the backtest. Source: Hyndman and Athanasopoulos, "Forecasting: Principles and Practice" (3rd
//! ed., 5.2); the median of cycles is folklore. Cost: horizon × cycles. Bad at: trends, and
//! seasons that drift.

use super::{Paths, Task};

/// How many cycles a seasonal median looks at.
const CYCLES: usize = 7;

/// Every point as the last one.
pub(crate) fn last_value(task: &Task<'_>) -> Paths {
    let mut paths = Paths::for_task(task);
    for &origin in task.origins {
        for _ in 0..task.horizon {
            paths.push(task.values[origin - 1]);
        }
    }
    paths
}

/// Every point as one cycle of `season` points before.
pub(crate) fn seasonal(task: &Task<'_>, season: usize) -> Paths {
    let mut paths = Paths::for_task(task);
    for &origin in task.origins {
        let season = if season <= origin { season.max(1) } else { 1 };
        for ahead in 0..task.horizon {
            paths.push(task.values[origin - season + ahead % season]);
        }
    }
    paths
}

/// Every point as the median of the same phase in the last seven cycles of `season` points.
pub(crate) fn seasonal_median(task: &Task<'_>, season: usize) -> Paths {
    let mut paths = Paths::for_task(task);
    let mut phase = [0.0; CYCLES];
    let mut cycle = Vec::with_capacity(season.min(task.horizon));
    for &origin in task.origins {
        let season = if season <= origin { season.max(1) } else { 1 };
        let cycles = (origin / season).min(CYCLES);
        cycle.clear();
        for ahead in 0..season.min(task.horizon) {
            for (back, slot) in phase.iter_mut().enumerate().take(cycles) {
                *slot = task.values[origin - (back + 1) * season + ahead];
            }
            cycle.push(median_of_few(&mut phase[..cycles]));
        }
        for ahead in 0..task.horizon {
            paths.push(cycle[ahead % season]);
        }
    }
    paths
}

/// The median by insertion sort, which for seven values beats everything else.
fn median_of_few(values: &mut [f64]) -> f64 {
    for end in 1..values.len() {
        let mut at = end;
        while at > 0 && values[at - 1] > values[at] {
            values.swap(at - 1, at);
            at -= 1;
        }
    }
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        0.5 * (values[middle - 1] + values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task<'a>(values: &'a [f64], origins: &'a [usize]) -> Task<'a> {
        Task {
            values,
            seasons: &[3],
            horizon: 4,
            origins,
        }
    }

    #[test]
    fn the_last_cycle_repeats() {
        let values = [9.0, 9.0, 9.0, 1.0, 2.0, 3.0];
        let paths = seasonal(&task(&values, &[3, 6]), 3);
        assert_eq!(paths.path(0), [9.0; 4]);
        assert_eq!(paths.path(1), [1.0, 2.0, 3.0, 1.0]);
        assert_eq!(last_value(&task(&values, &[5])).path(0), [2.0; 4]);
    }

    #[test]
    fn a_median_of_cycles_ignores_a_bad_one() {
        let mut values: Vec<f64> = (0..15).map(|i| f64::from(i % 3)).collect();
        values[13] = 1e9;
        let paths = seasonal_median(&task(&values, &[15]), 3);
        assert_eq!(paths.path(0), [0.0, 1.0, 2.0, 0.0]);
    }

    #[test]
    fn a_season_longer_than_the_history_counts_as_none() {
        let paths = seasonal_median(&task(&[1.0, 2.0], &[2]), 100);
        assert_eq!(paths.path(0), [1.5; 4]);
    }
}
