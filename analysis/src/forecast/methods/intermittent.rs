//! Demand that is mostly zero: the method of Teunter, Syntetos and Babai.
//!
//! Two smoothed numbers, the size of a demand when there is one and the chance that there is;
//! the forecast is their product. Unlike Croston's method the chance decays while nothing comes,
//! so that dead series go to zero. Source: Teunter, Syntetos and Babai, "Intermittent demand:
//! linking forecasting to inventory obsolescence" (2011). Cost: O(points). Good at: the mean of
//! rare events. Bad at: their hours, of which it says nothing.

use super::{Paths, Task};

/// Smoothing of the chance and of the size.
const CHANCE_GAIN: f64 = 0.05;
const SIZE_GAIN: f64 = 0.1;

/// The share of zeros from which on the method is tried.
const ZERO_SHARE_MIN: f64 = 0.4;

/// Whether the values, none of them negative, are mostly zero.
pub(crate) fn applies(values: &[f64]) -> bool {
    let zeros = values.iter().filter(|&&value| value == 0.0).count();
    zeros as f64 >= ZERO_SHARE_MIN * values.len() as f64 && values.iter().all(|&value| value >= 0.0)
}

/// Flat paths at the expected demand; the values are the data as they are.
pub(crate) fn forecast(task: &Task<'_>) -> Paths {
    let mut paths = Paths::for_task(task);
    let (mut chance, mut size, mut fed) = (0.5, None, 0);
    for &origin in task.origins {
        for &value in &task.values[fed..origin] {
            let came = if value == 0.0 { 0.0 } else { 1.0 };
            chance += CHANCE_GAIN * (came - chance);
            if value != 0.0 {
                let known = size.unwrap_or(value);
                size = Some(known + SIZE_GAIN * (value - known));
            }
        }
        fed = origin;
        for _ in 0..task.horizon {
            paths.push(chance * size.unwrap_or(0.0));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_four_of_size_eight_is_two() {
        let values: Vec<f64> = (0..400)
            .map(|i| if i % 4 == 0 { 8.0 } else { 0.0 })
            .collect();
        assert!(applies(&values));
        let task = Task {
            values: &values,
            seasons: &[],
            horizon: 2,
            origins: &[400],
        };
        let found = forecast(&task).path(0)[0];
        assert!((found - 2.0).abs() < 0.3, "{found}");
    }

    #[test]
    fn what_died_goes_to_zero() {
        let mut values = vec![5.0; 50];
        values.extend([0.0; 200]);
        let task = Task {
            values: &values,
            seasons: &[],
            horizon: 1,
            origins: &[250],
        };
        assert!(forecast(&task).path(0)[0] < 0.01);
        assert!(!applies(&[1.0, 2.0]) && !applies(&[0.0, 0.0, -1.0]));
    }
}
