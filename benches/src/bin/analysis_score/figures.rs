//! The figures of a set of forecasts, as `score_forecast.py` defines them.
//!
//! sMAPE, MASE and their mean relative to Naive2 (OWA) as in the M4 competition; MSIS and coverage
//! of the bands of 95 %. Kept equal to the Python scorer, which decides.

/// One series: what was known, what came, what was forecast.
pub(crate) struct Case<'a> {
    pub(crate) history: &'a [f64],
    pub(crate) actual: &'a [f64],
    pub(crate) point: &'a [f64],
    pub(crate) lower: &'a [f64],
    pub(crate) upper: &'a [f64],
}

/// Means over the series of a set.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) series: usize,
    pub(crate) smape: f64,
    pub(crate) mase: f64,
    pub(crate) median_mase: f64,
    pub(crate) owa: f64,
    pub(crate) msis: f64,
    pub(crate) coverage: f64,
}

/// The figures of `cases` with `season` points per cycle; series that never change are left out.
pub(crate) fn figures(cases: &[Case<'_>], season: usize) -> Figures {
    let mut sums = Figures::default();
    let (mut mases, mut naive_smape, mut naive_mase) = (Vec::new(), 0.0, 0.0);
    for case in cases {
        let Some(scale) = scale_of(case.history, season) else {
            continue;
        };
        let naive = naive2(case.history, season, case.actual.len());
        let mase = mean_error(case.actual, case.point) / scale;
        mases.push(mase);
        sums.mase += mase;
        sums.smape += smape(case.actual, case.point);
        naive_smape += smape(case.actual, &naive);
        naive_mase += mean_error(case.actual, &naive) / scale;
        let (width, inside) = band(case);
        sums.msis += width / scale;
        sums.coverage += inside;
    }
    let count = mases.len() as f64;
    mases.sort_by(f64::total_cmp);
    Figures {
        series: mases.len(),
        smape: sums.smape / count,
        mase: sums.mase / count,
        median_mase: mases.get(mases.len() / 2).copied().unwrap_or(f64::NAN),
        owa: 0.5 * (sums.smape / naive_smape + sums.mase / naive_mase),
        msis: sums.msis / count,
        coverage: sums.coverage / count,
    }
}

/// The mean width of the band with its fines, and the share of values inside.
fn band(case: &Case<'_>) -> (f64, f64) {
    const FINE: f64 = 2.0 / 0.05;
    let (mut width, mut inside) = (0.0, 0.0);
    for ((actual, lower), upper) in case.actual.iter().zip(case.lower).zip(case.upper) {
        width += upper - lower + FINE * ((lower - actual).max(0.0) + (actual - upper).max(0.0));
        inside += f64::from(u8::from(lower <= actual && actual <= upper));
    }
    let count = case.actual.len() as f64;
    (width / count, inside / count)
}

fn mean_error(actual: &[f64], forecast: &[f64]) -> f64 {
    actual
        .iter()
        .zip(forecast)
        .map(|(a, f)| (a - f).abs())
        .sum::<f64>()
        / actual.len() as f64
}

fn smape(actual: &[f64], forecast: &[f64]) -> f64 {
    let term = |(a, f): (&f64, &f64)| {
        let size = a.abs() + f.abs();
        if size > 0.0 {
            (a - f).abs() / size
        } else {
            0.0
        }
    };
    200.0 * actual.iter().zip(forecast).map(term).sum::<f64>() / actual.len() as f64
}

/// The mean step over one season, or over one point if that is 0.
fn scale_of(history: &[f64], season: usize) -> Option<f64> {
    [season, 1]
        .into_iter()
        .filter(|&lag| history.len() > lag)
        .find_map(|lag| {
            let scale = mean_error(&history[lag..], &history[..history.len() - lag]);
            (scale > 1e-12).then_some(scale)
        })
}

/// The last value, seasonally adjusted where a test finds a season: M4's yardstick.
fn naive2(history: &[f64], season: usize, horizon: usize) -> Vec<f64> {
    let count = history.len();
    let last = history[count - 1];
    if !is_seasonal(history, season) {
        return vec![last; horizon];
    }
    let multiplicative = history.iter().copied().fold(f64::INFINITY, f64::min) > 0.0;
    let indices = seasonal_indices(history, season, multiplicative);
    let now = indices[(count - 1) % season];
    let value = |ahead: usize| {
        let then = indices[(count + ahead) % season];
        if multiplicative {
            last / now * then
        } else {
            last - now + then
        }
    };
    (0..horizon).map(value).collect()
}

fn is_seasonal(history: &[f64], season: usize) -> bool {
    if season < 2 || history.len() < 3 * season {
        return false;
    }
    let mean = history.iter().sum::<f64>() / history.len() as f64;
    let centred: Vec<f64> = history.iter().map(|value| value - mean).collect();
    let product = |lag: usize| {
        centred[lag..]
            .iter()
            .zip(&centred)
            .map(|(a, b)| a * b)
            .sum::<f64>()
    };
    let power = product(0);
    if power <= 0.0 {
        return false;
    }
    let squares: f64 = (1..season).map(|lag| (product(lag) / power).powi(2)).sum();
    (product(season) / power).abs() > 1.645 * ((1.0 + 2.0 * squares) / history.len() as f64).sqrt()
}

fn seasonal_indices(history: &[f64], season: usize, multiplicative: bool) -> Vec<f64> {
    let half = season / 2;
    let even = season.is_multiple_of(2);
    let trend = |middle: usize| {
        let ends = if even {
            0.5 * (history[middle - half] + history[middle + half])
        } else {
            0.0
        };
        let (from, to) = if even {
            (middle - half + 1, middle + half)
        } else {
            (middle - half, middle + half + 1)
        };
        (ends + history[from..to].iter().sum::<f64>()) / season as f64
    };
    let mut sums = vec![(0.0, 0.0); season];
    for (middle, value) in history
        .iter()
        .enumerate()
        .take(history.len() - half)
        .skip(half)
    {
        let slot = &mut sums[middle % season];
        slot.0 += if multiplicative {
            value / trend(middle)
        } else {
            value - trend(middle)
        };
        slot.1 += 1.0;
    }
    let means: Vec<f64> = sums.iter().map(|(sum, count)| sum / count).collect();
    let mean = means.iter().sum::<f64>() / season as f64;
    means
        .iter()
        .map(|value| {
            if multiplicative {
                value / mean
            } else {
                value - mean
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_forecast_scores_zero() {
        let history: Vec<f64> = (0..100).map(|i| f64::from(i * 7 % 11)).collect();
        let actual = [1.0, 2.0];
        let case = Case {
            history: &history,
            actual: &actual,
            point: &actual,
            lower: &actual,
            upper: &actual,
        };
        let found = figures(&[case], 1);
        assert_eq!(
            (found.smape, found.mase, found.owa, found.msis),
            (0.0, 0.0, 0.0, 0.0)
        );
        assert_eq!((found.coverage, found.series), (1.0, 1));
    }

    #[test]
    fn naive2_repeats_a_season() {
        let history: Vec<f64> = (0..48).map(|i| 10.0 + f64::from(i % 4)).collect();
        let found = naive2(&history, 4, 5);
        for (ahead, value) in found.iter().enumerate() {
            assert!((value - (10.0 + (ahead % 4) as f64)).abs() < 1e-9);
        }
    }
}
