//! `sum_over_time` and `avg_over_time` of float samples at all steps of a series at once.
//!
//! A compensated sum is a chain of dependent additions whose order the answer depends on; the windows
//! of several steps are independent chains, so four of them are added up at a time. The results are
//! those of [`over_time`](super::over_time) bit by bit.

use super::numeric::{KahanSum, RunningMean};

/// Windows that are added up at a time.
pub const LANES: usize = 4;

/// Writes the sum of each window, or its mean. `bounds` are the windows' indexes among `values`; what
/// stands for empty windows is arbitrary.
pub fn evaluate(values: &[f64], bounds: &[(u32, u32)], is_mean: bool, out: &mut [f64]) {
    let windows = |(from, to): (u32, u32)| values.get(from as usize..to as usize).unwrap_or(&[]);
    let (groups, rest) = bounds.as_chunks::<LANES>();
    let (out_groups, out_rest) = out.as_chunks_mut::<LANES>();
    for (out, group) in out_groups.iter_mut().zip(groups) {
        let windows = group.map(windows);
        let sums = sums(windows);
        for ((out, window), sum) in out.iter_mut().zip(windows).zip(sums) {
            *out = result(window, sum, is_mean);
        }
    }
    for (out, &bound) in out_rest.iter_mut().zip(rest) {
        let window = windows(bound);
        *out = result(window, sum_of(KahanSum::default(), window), is_mean);
    }
}

fn sum_of(mut sum: KahanSum, values: &[f64]) -> KahanSum {
    for &value in values {
        sum.add(value);
    }
    sum
}

/// [`KahanSum::add`] in all lanes, without branches.
fn sums(windows: [&[f64]; LANES]) -> [KahanSum; LANES] {
    let shortest = windows.iter().map(|w| w.len()).min().unwrap_or(0);
    let [a, b, c, d] = windows.map(|w| w.get(..shortest).unwrap_or(&[]));
    let (mut sums, mut compensations) = ([0.0_f64; LANES], [0.0_f64; LANES]);
    for (((&a, &b), &c), &d) in a.iter().zip(b).zip(c).zip(d) {
        let terms = [a, b, c, d];
        for lane in 0..LANES {
            let (sum, term) = (sums[lane], terms[lane]);
            let total = sum + term;
            let is_large = sum.abs() >= term.abs();
            let (large, small) = if is_large { (sum, term) } else { (term, sum) };
            let compensation = compensations[lane] + ((large - total) + small);
            compensations[lane] = if total.is_infinite() {
                0.0
            } else {
                compensation
            };
            sums[lane] = total;
        }
    }
    let mut lane = 0;
    windows.map(|window| {
        let (sum, compensation) = (sums[lane], compensations[lane]);
        lane += 1;
        sum_of(
            KahanSum { sum, compensation },
            window.get(shortest..).unwrap_or(&[]),
        )
    })
}

fn result(window: &[f64], sum: KahanSum, is_mean: bool) -> f64 {
    if !is_mean {
        return sum.value();
    }
    let mut mean = RunningMean {
        count: window.len() as f64,
        total: sum,
        incremental: false,
    };
    if !sum.sum.is_finite() {
        // The sum overflowed on the way, perhaps; the mean may not.
        mean = RunningMean::default();
        window.iter().for_each(|&value| mean.add(value));
    }
    mean.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_windows_are_those_of_each() {
        let mut values: Vec<f64> = (0..300_i32)
            .map(|i| f64::from(i * i % 37) * 1e3_f64.powi(i % 5 - 2))
            .collect();
        (values[100], values[101], values[140]) = (f64::MAX, f64::MAX, f64::NEG_INFINITY);
        (values[200], values[250], values[0]) = (f64::NAN, -0.0, -0.0);
        let bounds: Vec<(u32, u32)> = (0..59).map(|i| (i * 5, i * 5 + 1 + i % 9)).collect();
        for is_mean in [false, true] {
            let mut out = vec![0.0; bounds.len()];
            evaluate(&values, &bounds, is_mean, &mut out);
            for (&(from, to), out) in bounds.iter().zip(out) {
                let window = &values[from as usize..to as usize];
                let mut mean = RunningMean::default();
                window.iter().for_each(|&value| mean.add(value));
                let sum = sum_of(KahanSum::default(), window).value();
                let expected = if is_mean { mean.value() } else { sum };
                let same = out.to_bits() == expected.to_bits();
                assert!(same || (out.is_nan() && expected.is_nan()), "{window:?}");
            }
        }
    }
}
