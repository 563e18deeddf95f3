//! Finds the seasons of a series: how many points a cycle has, and how much a cycle explains.
//!
//! Cycles that the step suggests (an hour, a day, a week, a year) are tested first, shortest first,
//! each on what the shorter ones leave. Only if none holds, the autocorrelation is searched for
//! its first high peak. Either way a season counts by the share of variance that its phase means
//! explain around a moving average, less what as many free means explain of noise.
//!
//! Sources: the autocorrelation by the theorem of Wiener and Khinchin, with an FFT after Cooley and
//! Tukey (1965); peaks on it to tell a period from its harmonics as in Vlachos, Yu and Castelli, "On
//! Periodicity Detection and Structural Periodic Similarity" (2005); the strength as in Wang, Smith
//! and Hyndman, "Characteristic-Based Clustering for Time Series Data" (2006), adjusted. Cost: about
//! 5 ns a point and cycle tested; the search about 100 ns a point. Good at: whole-numbered
//! periods, spiky ones too. Bad at: periods of broken length, fewer than three cycles.

use std::f64::consts::TAU;

/// A season that a series has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Season {
    /// Points per cycle.
    pub period: usize,
    /// The share of variance around the trend that it explains, adjusted for its size; up to 1.
    pub strength: f64,
}

/// The strength from which on a suggested cycle counts.
const STRENGTH_SUGGESTED_MIN: f64 = 0.05;

/// The strength that a cycle found by searching needs.
const STRENGTH_FOUND_MIN: f64 = 0.3;

/// The autocorrelation that a peak needs, and its share of the highest peak.
const PEAK_MIN: f64 = 0.2;
const PEAK_SHARE_MIN: f64 = 0.85;

/// Seasons kept at most.
const SEASONS_MAX: usize = 3;

/// Cycles that clocks and calendars suggest, in seconds: hour, day, week, year.
const NATURAL_SECONDS: [f64; 4] = [3_600.0, 86_400.0, 604_800.0, 31_557_600.0];

/// The lengths in points of the natural cycles of a series with this step; those of two points or more.
#[must_use]
pub fn natural_periods(step_seconds: f64) -> Vec<usize> {
    let points = NATURAL_SECONDS
        .iter()
        .map(|cycle| (cycle / step_seconds).round());
    points
        .filter(|points| (2.0..1e9).contains(points))
        .map(|points| points as usize)
        .collect()
}

/// The seasons of `values`, which must be finite, shortest first.
///
/// `suggested` are periods worth testing, in points; `cycles_min` is how many whole cycles must
/// be there (at least 2).
#[must_use]
pub fn detect(values: &[f64], suggested: &[usize], cycles_min: f64) -> Vec<Season> {
    let period_max = (values.len() as f64 / cycles_min.max(2.0)) as usize;
    let mut rest = values.to_vec();
    let mut found = Vec::new();
    let mut suggested = suggested.to_vec();
    suggested.sort_unstable();
    suggested.dedup();
    let mut test = |period: usize, strength_min: f64, found: &mut Vec<Season>| {
        let (profile, strength) = profile_and_strength(&rest, period);
        if strength < strength_min {
            return false;
        }
        found.push(Season { period, strength });
        for cycle in rest.chunks_mut(period) {
            cycle
                .iter_mut()
                .zip(&profile)
                .for_each(|(value, part)| *value -= part);
        }
        true
    };
    for period in suggested {
        if (2..=period_max).contains(&period) && found.len() < SEASONS_MAX {
            test(period, STRENGTH_SUGGESTED_MIN, &mut found);
        }
    }
    if found.is_empty()
        && let Some(period) = autocorrelation_peak(values, period_max.min(values.len() / 3))
    {
        test(period, STRENGTH_FOUND_MIN, &mut found);
    }
    found
}

/// Phase means around a moving average over one cycle, and the share of variance they explain.
pub(crate) fn profile_and_strength(values: &[f64], period: usize) -> (Vec<f64>, f64) {
    let parts = super::decompose::decompose(values, &[period]);
    let profile: Vec<f64> = parts.seasonal[0][..period].to_vec();
    let squares =
        |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let left = squares(&mut parts.remainder.iter().copied());
    let all = squares(
        &mut values
            .iter()
            .zip(&parts.trend)
            .map(|(value, trend)| value - trend),
    );
    // Rounding alone is no season.
    let floor = 1e-18 * squares(&mut values.iter().copied());
    if all <= floor {
        return (profile, 0.0);
    }
    let cycles = values.len() as f64 / period as f64;
    (profile, 1.0 - left / all * cycles / (cycles - 1.0))
}

/// The first lag whose autocorrelation is a peak nearly as high as the highest.
fn autocorrelation_peak(values: &[f64], lag_max: usize) -> Option<usize> {
    let correlation = autocorrelation(values, lag_max + 1)?;
    let is_peak = |&lag: &usize| {
        correlation[lag] >= PEAK_MIN
            && correlation[lag] > correlation[lag - 1]
            && correlation[lag] >= correlation[lag + 1]
    };
    // What falls from 1 must have fallen before it can rise to a peak.
    let first = (1..=lag_max).find(|&lag| correlation[lag] < PEAK_MIN)?;
    let peaks: Vec<usize> = (first.max(2)..=lag_max).filter(is_peak).collect();
    let highest = peaks
        .iter()
        .map(|&lag| correlation[lag])
        .fold(0.0, f64::max);
    peaks
        .into_iter()
        .find(|&lag| correlation[lag] >= PEAK_SHARE_MIN * highest)
}

/// The autocorrelation at the lags 0 to `lag_max` of the values less their line; `None` for constants.
fn autocorrelation(values: &[f64], lag_max: usize) -> Option<Vec<f64>> {
    let count = values.len();
    if count < 8 || lag_max + 1 >= count {
        return None;
    }
    let middle = (count as f64 - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count as f64;
    let products: f64 = values
        .iter()
        .enumerate()
        .map(|(i, v)| (i as f64 - middle) * v)
        .sum();
    let slope = products * 12.0 / (count as f64 * (count as f64 * count as f64 - 1.0));
    let size = (count + lag_max + 1).next_power_of_two();
    let mut spectrum: Vec<(f64, f64)> = (0..size)
        .map(|i| match values.get(i) {
            Some(value) => (value - mean - slope * (i as f64 - middle), 0.0),
            None => (0.0, 0.0),
        })
        .collect();
    fourier_transform(&mut spectrum);
    for bin in &mut spectrum {
        *bin = (bin.0 * bin.0 + bin.1 * bin.1, 0.0);
    }
    // The transform of an even real sequence is its own inverse up to scale.
    fourier_transform(&mut spectrum);
    let power = spectrum[0].0;
    if !power.is_finite() || power <= 1e-18 * size as f64 * mean * mean * count as f64 {
        return None;
    }
    // The shorter overlap at long lags is made up for.
    let scaled = |lag: usize| spectrum[lag].0 / power * count as f64 / (count - lag) as f64;
    Some((0..=lag_max).map(scaled).collect())
}

/// The discrete Fourier transform in place; the length must be a power of two.
fn fourier_transform(bins: &mut [(f64, f64)]) {
    let size = bins.len();
    debug_assert!(size.is_power_of_two(), "bug: transform of {size} bins");
    let mut reversed = 0_usize;
    for index in 1..size {
        let mut bit = size >> 1;
        while reversed & bit != 0 {
            reversed ^= bit;
            bit >>= 1;
        }
        reversed |= bit;
        if index < reversed {
            bins.swap(index, reversed);
        }
    }
    let roots: Vec<(f64, f64)> = (0..size / 2)
        .map(|index| {
            let (sine, cosine) = (-TAU * index as f64 / size as f64).sin_cos();
            (cosine, sine)
        })
        .collect();
    let mut half = 1;
    while half < size {
        let stride = size / (2 * half);
        for block in bins.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (index, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let (cosine, sine) = roots[index * stride];
                let turned = (b.0 * cosine - b.1 * sine, b.0 * sine + b.1 * cosine);
                *b = (a.0 - turned.0, a.1 - turned.1);
                *a = (a.0 + turned.0, a.1 + turned.1);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(index: usize) -> f64 {
        let mut x = index as u64 + 1;
        for _ in 0..3 {
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        (x >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    }

    fn periods(values: &[f64], suggested: &[usize]) -> Vec<usize> {
        detect(values, suggested, 2.0)
            .iter()
            .map(|season| season.period)
            .collect()
    }

    #[test]
    fn the_step_suggests_cycles() {
        assert_eq!(natural_periods(3_600.0), [24, 168, 8766]);
        assert_eq!(natural_periods(604_800.0), [52]);
        assert!(natural_periods(f64::NAN).is_empty() && natural_periods(0.0).is_empty());
    }

    #[test]
    fn day_and_week_are_confirmed_and_noise_is_not() {
        let value = |i: usize| (i % 24) as f64 + if i % 168 < 48 { -8.0 } else { 0.0 } + noise(i);
        let values: Vec<f64> = (0..700).map(value).collect();
        assert_eq!(periods(&values, &[168, 24]), [24, 168]);
        let values: Vec<f64> = (0..700).map(noise).collect();
        assert!(periods(&values, &[]).is_empty());
        assert!(periods(&[4.0; 700], &[24]).is_empty());
    }

    #[test]
    fn a_spike_every_37_points_is_found() {
        let values: Vec<f64> = (0..500)
            .map(|i| if i % 37 == 5 { 10.0 } else { 0.2 * noise(i) })
            .collect();
        assert_eq!(periods(&values, &[]), [37]);
    }

    #[test]
    fn a_random_walk_has_no_season() {
        let mut level = 0.0;
        let values: Vec<f64> = (0..600)
            .map(|i| {
                level += noise(i);
                level
            })
            .collect();
        assert!(periods(&values, &[]).is_empty());
    }

    #[test]
    fn short_input_is_no_problem() {
        for count in 0..12 {
            let values: Vec<f64> = (0..count).map(|i| f64::from(i % 2)).collect();
            let _ = detect(&values, &[2, 3, 24], 2.0);
        }
    }
}
