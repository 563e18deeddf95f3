//! [`RateGrid`]: `rate`, `increase` and `delta` of float samples at all steps of a series at once.
//!
//! How far a window's samples are extrapolated depends on their times; only the limit at a counter's
//! zero depends on values. So factors are computed once for all series with the same sample times, and
//! what is left per window is a subtraction and a multiplication. Windows in which the limit may hold,
//! and series with resets, take the long way; the results are those of [`rate`](super::rate) bit by
//! bit.

use super::rate::{Reach, Span};

/// The windows of all steps over one series' sample times.
#[derive(Debug)]
pub struct RateGrid {
    cells: Vec<Cell>,
    is_counter: bool,
    per_seconds: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    is_there: bool,
    first: u32,
    last: u32,
    reach: Reach,
    /// Without the limit at zero.
    factor: f64,
}

/// More than rounding can make of two sides that are equal.
const MARGIN: f64 = 1.0 + 1e-9;

impl RateGrid {
    /// The grid of windows of `range_ms` that end at `ends`; `bounds` are the indexes of their samples
    /// among `times_ms`.
    pub fn new(
        times_ms: &[i64],
        bounds: &[(u32, u32)],
        ends: impl Iterator<Item = i64>,
        range_ms: i64,
        (is_counter, is_rate): (bool, bool),
    ) -> Self {
        let per_seconds = is_rate.then(|| range_ms as f64 / 1000.0);
        let cell = |(&(from, to), end_ms): (&(u32, u32), i64)| {
            // Windows without two samples have no value; their cells only have to be harmless.
            let last = to.saturating_sub(1).max(from);
            let time = |index: u32| times_ms.get(index as usize).copied().unwrap_or(end_ms);
            let span = Span {
                first_time: time(from),
                last_time: time(last),
                count: (to - from) as usize,
                zero_at: None,
            };
            let reach = span.reach(end_ms.saturating_sub(range_ms), end_ms);
            let is_there = to - from >= 2;
            Cell {
                is_there,
                first: if is_there { from } else { 0 },
                last: if is_there { last } else { 0 },
                reach,
                factor: reach.factor(per_seconds),
            }
        };
        Self {
            cells: bounds.iter().zip(ends).map(cell).collect(),
            is_counter,
            per_seconds,
        }
    }

    /// Which steps have a value.
    pub fn has_value(&self) -> impl Iterator<Item = bool> {
        self.cells.iter().map(|cell| cell.is_there)
    }

    /// Writes the value at each step that has one, and anything elsewhere. `values` are those at the
    /// grid's times; `resets` are the indexes of those before which the counter was reset.
    pub fn evaluate(&self, values: &[f64], resets: &[u32], out: &mut [f64]) {
        if values.is_empty() || (resets.is_empty() && self.evaluate_unlimited(values, out)) {
            return;
        }
        for (out, cell) in out.iter_mut().zip(&self.cells) {
            let first = values[cell.first as usize];
            let mut increase = values[cell.last as usize] - first;
            let from = resets.partition_point(|&i| i <= cell.first);
            for &reset in resets[from..].iter().take_while(|&&i| i <= cell.last) {
                increase += values[reset as usize - 1];
            }
            let factor = if self.is_counter {
                cell.reach.limited(first, increase).factor(self.per_seconds)
            } else {
                cell.factor
            };
            *out = increase * factor;
        }
    }

    /// The same without looking at resets and the limit at zero; false if the limit may hold.
    fn evaluate_unlimited(&self, values: &[f64], out: &mut [f64]) -> bool {
        let mut may_be_limited = false;
        for (out, cell) in out.iter_mut().zip(&self.cells) {
            let first = values[cell.first as usize];
            let increase = values[cell.last as usize] - first;
            // first / increase * sampled < to_start, without the division.
            let to_zero = first * cell.reach.sampled;
            may_be_limited |= increase > 0.0 && to_zero <= cell.reach.to_start * increase * MARGIN;
            *out = increase * cell.factor;
        }
        !(may_be_limited && self.is_counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::annotations::Annotations;
    use crate::promql::ast::PosRange;
    use crate::promql::functions::range::{Outcome, Scope, SeriesFacts};
    use crate::promql::functions::rate::extrapolated;
    use crate::promql::functions::window::Window;

    /// Every window of a series, by the grid and one by one.
    fn compare(times: &[i64], values: &[f64], range_ms: i64, is_counter: bool, is_rate: bool) {
        let ends: Vec<i64> = (0..60).map(|i| i * 7_000).collect();
        let index = |time: i64| times.partition_point(|&t| t <= time) as u32;
        let bounds: Vec<(u32, u32)> = ends
            .iter()
            .map(|&end| (index(end - range_ms), index(end)))
            .collect();
        let flags = (is_counter, is_rate);
        let grid = RateGrid::new(times, &bounds, ends.iter().copied(), range_ms, flags);
        let mut facts = SeriesFacts::default();
        if is_counter {
            facts.resets = (1..values.len() as u32)
                .filter(|&i| values[i as usize] < values[i as usize - 1])
                .collect();
        }
        let mut out = vec![0.0; ends.len()];
        grid.evaluate(values, &facts.resets, &mut out);
        let mut count = 0;
        for (step, &(from, to)) in bounds.iter().enumerate() {
            let (from, to) = (from as usize, to as usize);
            let window = Window {
                times: &times[from..to],
                values: &values[from..to],
                starts: &[],
                histograms: &[],
                first: from,
                start_ms: ends[step] - range_ms,
                end_ms: ends[step],
                step_ms: ends[step],
                step,
            };
            let mut scope = Scope {
                metric: "",
                pos: PosRange::default(),
                scalar_pos: PosRange::default(),
                scalars: [0.0; 2],
                facts: &facts,
                notes: &mut Annotations::default(),
                scratch: &mut Vec::new(),
            };
            if let Some(Outcome::Float(one)) =
                extrapolated(&window, &mut scope, is_counter, is_rate)
            {
                count += 1;
                assert_eq!(out[step].to_bits(), one.to_bits(), "step {step}");
            }
        }
        assert_eq!(count, grid.has_value().filter(|&has| has).count());
    }

    #[test]
    fn grids_give_what_windows_give() {
        let times: Vec<i64> = (0..40).map(|i| i * 10_000 + (i % 5) * 900).collect();
        let counter = |start: f64, up: f64| -> Vec<f64> {
            (0..40)
                .map(|i| start + up * f64::from(i * i % 17 + i))
                .collect()
        };
        let mut reset = counter(1e6, 3.3);
        reset[11..].iter_mut().for_each(|v| *v -= 1e6);
        reset[12..].iter_mut().for_each(|v| *v *= 0.1);
        let mut odd = counter(-5.0, 0.7);
        (odd[3], odd[9], odd[20]) = (f64::NAN, f64::INFINITY, -0.0);
        let series = [
            counter(0.0, 1.5),
            counter(1e9, 0.1),
            reset,
            odd,
            vec![4.0; 40],
        ];
        for values in &series {
            for range_ms in [15_000, 30_000, 61_000, 500_000] {
                for flags in [(true, true), (true, false), (false, false)] {
                    compare(&times, values, range_ms, flags.0, flags.1);
                }
            }
        }
        compare(&times[..1], &series[0][..1], 30_000, true, true);
    }
}
