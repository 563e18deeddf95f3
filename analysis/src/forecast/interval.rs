//! Bands from backtest errors: conformal prediction, by horizon.
//!
//! The errors of the *combined* forecast, each origin combined by weights that did not see it, are
//! divided by their usual size at that horizon; a quantile of these scores, times the usual size,
//! is the half width. Split conformal prediction promises coverage when scores are exchangeable.
//! Errors of one origin are not (one bad start spoils the whole path), so that the number of
//! independent scores is nearer to that of origins: the band is widened as Student's t widens a
//! normal band of as many observations.
//!
//! Sources: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-Free Predictive Inference
//! for Regression" (2018) for the locally scaled score; Stankevičiūtė, Alaa and van der Schaar,
//! "Conformal Time-Series Forecasting" (2021) for scores by horizon; Hill, "Algorithm 396: Student's
//! t-quantiles" (1970). Cost: O(origins × horizon), plus one sort.

/// How much the mean over all horizons counts in the usual size at one.
const POOLING: f64 = 1.0;

/// Half widths of the band at each horizon.
///
/// `errors` holds one row per origin, oldest first, NaN where nothing was observed; rows are of
/// one length, `horizon` or less. Where the rows end, widths grow with the root of the horizon as
/// those of a random walk do. `None` without a finite error.
pub(crate) fn half_widths(errors: &[Vec<f64>], horizon: usize, level: f64) -> Option<Vec<f64>> {
    let known = errors.iter().map(Vec::len).max().unwrap_or(0).min(horizon);
    let sizes = usual_sizes(errors, known)?;
    let mut scores: Vec<f64> = errors
        .iter()
        .flat_map(|row| {
            row.iter()
                .zip(&sizes)
                .map(|(error, size)| (error / size).abs())
        })
        .filter(|score| score.is_finite())
        .collect();
    let origins = errors
        .iter()
        .filter(|row| row.iter().any(|error| error.is_finite()))
        .count();
    let widening = widening(origins, level);
    let quantile = 0.5
        * (quantile(&mut scores, level)?
            + root_mean_square(&scores) * normal_quantile(0.5 + level / 2.0));
    let reach = |ahead: usize| {
        let size = sizes[ahead.min(known - 1)];
        if ahead < known {
            size
        } else {
            size * ((ahead + 1) as f64 / known as f64).sqrt()
        }
    };
    Some(
        (0..horizon)
            .map(|ahead| reach(ahead) * quantile * widening)
            .collect(),
    )
}

/// The mean absolute error around each horizon, drawn towards that of all; never 0.
fn usual_sizes(errors: &[Vec<f64>], known: usize) -> Option<Vec<f64>> {
    let mut sums = vec![(0.0, 0.0); known];
    for row in errors {
        for (slot, error) in sums
            .iter_mut()
            .zip(row)
            .filter(|(_, error)| error.is_finite())
        {
            slot.0 += error.abs();
            slot.1 += 1.0;
        }
    }
    let (sum, count) = sums
        .iter()
        .fold((0.0, 0.0), |all, slot| (all.0 + slot.0, all.1 + slot.1));
    if count == 0.0 {
        return None;
    }
    let overall = sum / count;
    let reach = (known / 7).clamp(3, 25) / 2;
    let around = |at: usize| {
        let near = &sums[at.saturating_sub(reach)..(at + reach + 1).min(known)];
        let (sum, count) = near
            .iter()
            .fold((0.0, 0.0), |all, slot| (all.0 + slot.0, all.1 + slot.1));
        let local = if count > 0.0 { sum / count } else { overall };
        ((local + POOLING * overall) / (1.0 + POOLING)).max(f64::MIN_POSITIVE)
    };
    Some((0..known).map(around).collect())
}

/// What a normal band must be multiplied by when its scale was learnt from `origins` errors.
fn widening(origins: usize, level: f64) -> f64 {
    let upper = 0.5 + level / 2.0;
    student_quantile(upper, origins.max(2) as f64) / normal_quantile(upper)
}

/// The conformal quantile: the smallest score that at least `level` of count + 1 lie below.
fn quantile(scores: &mut [f64], level: f64) -> Option<f64> {
    let rank = ((scores.len() + 1) as f64 * level).ceil() as usize;
    let index = rank.clamp(1, scores.len().max(1)) - 1;
    if scores.is_empty() {
        return None;
    }
    Some(*scores.select_nth_unstable_by(index, f64::total_cmp).1)
}

fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|value| value * value).sum::<f64>() / values.len().max(1) as f64).sqrt()
}

/// The quantile of the standard normal distribution, to 1e-9 (Acklam's rational approximation).
pub(crate) fn normal_quantile(probability: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 5] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 4] = [
        7.784695709041462e-3,
        3.224671290700398e-1,
        2.445134137142996,
        3.754408661907416,
    ];
    let polynomial =
        |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    };
    if probability < 0.024_25 {
        tail(probability)
    } else if probability > 1.0 - 0.024_25 {
        -tail(1.0 - probability)
    } else {
        let q = probability - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / (polynomial(&B, r) * r + 1.0)
    }
}

/// The quantile above 1/2 of Student's t with two or more degrees of freedom, to about 1e-3: the
/// expansion of Cornish and Fisher, exact for two.
fn student_quantile(probability: f64, freedom: f64) -> f64 {
    if freedom <= 2.0 {
        let alpha = 4.0 * probability * (1.0 - probability);
        return 2.0 * (probability - 0.5) * (2.0 / alpha).sqrt();
    }
    let x = normal_quantile(probability);
    let square = x * x;
    let terms = [
        x * (square + 1.0) / 4.0,
        x * ((5.0 * square + 16.0) * square + 3.0) / 96.0,
        x * (((3.0 * square + 19.0) * square + 17.0) * square - 15.0) / 384.0,
        x * ((((79.0 * square + 776.0) * square + 1482.0) * square - 1920.0) * square - 945.0)
            / 92160.0,
    ];
    terms
        .iter()
        .rev()
        .fold(0.0, |sum, term| (sum + term) / freedom)
        + x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        assert!((normal_quantile(0.975) - 1.959_964).abs() < 1e-6);
        assert!((normal_quantile(0.001) + 3.090_232).abs() < 1e-6);
        assert!((normal_quantile(0.5)).abs() < 1e-9);
        for (freedom, expected) in [(2.0, 4.303), (4.0, 2.776), (6.0, 2.447), (30.0, 2.042)] {
            let found = student_quantile(0.975, freedom);
            assert!((found - expected).abs() < 0.02, "{freedom}: {found}");
        }
    }

    #[test]
    fn widths_follow_the_errors_by_horizon() {
        let errors: Vec<Vec<f64>> = (0..8)
            .map(|origin| {
                (0..40)
                    .map(|ahead| f64::from((origin % 3 - 1) * ahead))
                    .collect()
            })
            .collect();
        let widths = half_widths(&errors, 60, 0.9).unwrap();
        assert_eq!(widths.len(), 60);
        assert!(widths[35] > 1.5 * widths[2] && widths[59] > widths[39]);
        let wider = half_widths(&errors, 60, 0.99).unwrap();
        assert!(
            wider
                .iter()
                .zip(&widths)
                .all(|(wide, narrow)| wide > narrow)
        );
    }

    #[test]
    fn without_errors_there_is_no_band() {
        assert_eq!(half_widths(&[], 3, 0.9), None);
        assert_eq!(half_widths(&[vec![f64::NAN; 3]], 3, 0.9), None);
        assert!(
            half_widths(&[vec![0.0; 3]], 3, 0.9)
                .unwrap()
                .iter()
                .all(|&width| width < 1e-300)
        );
    }
}
